"""Ten thousand connections of a coroutine handler in one child with few threads."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from tests.processes import open_files
from tests.servers import running

HANDLER = """
async def connectionhandler(conn):
    conn.timeout = None
    async for line in conn:
        conn.write(line)
        await conn.drain()
"""

WANTED = 10_000
THREADS = 25
#: KiB that an idle connection may take; measured are 9.9, about 8 of them in httpd's pools.
EACH = 12

pytestmark = [
    pytest.mark.heavy,
    # Ten thousand connections take as many ports of 127.0.0.1 and descriptors, and the memory they take is measured.
    pytest.mark.alone,
    pytest.mark.skipif(
        os.environ.get("MOD_PYTHON_TEST_MPM", "event") != "event", reason="the other MPMs take a thread per connection"
    ),
]


@pytest.fixture
def count() -> Iterator[int]:
    with open_files(WANTED) as count:
        yield count


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


def test_many_connections(count: int) -> None:
    assert count >= 500
    with running(handler=HANDLER, processes=1, threads=THREADS, log_level="notice") as server:
        (pid,) = server.children()

        def say(sock: socket.socket, number: int) -> None:
            line = b"%d\n" % number
            sock.sendall(line)
            assert sock.recv(100) == line

        with server.connect() as first:
            say(first, 0)
            before = resident(pid)
            peers = [server.connect() for _ in range(count - 1)]
            for number, peer in enumerate(peers):
                say(peer, number)
            assert (resident(pid) - before) / len(peers) < EACH
            for number, peer in enumerate(reversed(peers)):
                say(peer, number)
            say(first, 1)
            for peer in peers:
                peer.close()
            server.wait_until(lambda: len(os.listdir(f"/proc/{pid}/fd")) < 100, what="the end of the connections")
            say(first, 2)
        assert server.children() == [pid]
