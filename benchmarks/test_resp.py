"""The measurements with redis-benchmark: they give figures, and see a server that answers wrongly.

Run with ``pytest benchmarks``.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from benchmarks import report
from benchmarks.peers import Peer
from benchmarks.resp import PIPELINES, TESTS, resp_peers, run_resp
from benchmarks.server import Server, Sizes, program
from benchmarks.tools import Tools

pytestmark = pytest.mark.skipif(shutil.which("redis-benchmark") is None, reason="needs Debian's redis-tools")

_WRONG = """
import asyncio, sys

async def serve(reader, writer):
    while await reader.read(1000):
        writer.write(b"+WRONG\\r\\n" * 3)

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()

asyncio.run(main())
"""


@pytest.fixture
def tools() -> Iterator[Tools]:
    tools = Tools()
    yield tools
    tools.close()


def _wrong(tools: Tools, sizes: Sizes) -> AbstractContextManager[Server]:
    return program(tools, "wrong", [sys.executable, "-c", _WRONG, "@PORT@"])


def test_figures(tools: Tools) -> None:
    peers = [peer for peer in resp_peers() if peer.name == "asyncio"]
    results = run_resp(tools, peers, 2, 1, 0.01, lambda line: None)
    assert len(results) == len(TESTS) * len(PIPELINES)
    for result in results:
        assert result.failures == []
        assert result.of("asyncio", 2)[1].rate > 0
        assert "requests/s" in report.table(result, 2)


def test_a_wrong_answer_is_a_failure(tools: Tools) -> None:
    results = run_resp(tools, [Peer("wrong", "wrong", None, _wrong, "wrong")], 2, 1, 0.01, lambda line: None)
    assert "a wrong answer" in results[0].failures[0].reason
    assert "wrong answer" in report.failures_text(results, None)
    assert not any(result.samples for result in results)
