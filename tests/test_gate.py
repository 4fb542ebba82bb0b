"""Handlers of one child that wait do so at the same time: the line for the GIL holds nobody up (gate.c)."""

from __future__ import annotations

import pytest

from mod_python.testing import Server
from mod_python.testing.plugin import Factory
from tests.processes import PREFORK, at_same_time

pytestmark = pytest.mark.skipif(PREFORK, reason="a process of prefork has one handler at a time")

COUNT = 48
ROUNDS = 15

#: Seconds to wait for anything; far more than it takes.
TIMEOUT = 60

#: Nobody leaves the barrier before all are inside, and none of them leaves the gate while it waits there.
HANDLER = f"""
import threading
from mod_python import apache

inside = threading.Barrier({COUNT})

def handler(req):
    if req.args == "compute":
        req.write(str(sum(range(20_000))))
        return apache.OK
    inside.wait({TIMEOUT})
    req.write("met")
    return apache.OK
"""


def _ask(server: Server, target: str, times: int, answer: str) -> None:
    for _ in range(times):
        response = server.get(target, timeout=TIMEOUT)
        assert (response.status, response.text) == (200, answer)


@pytest.mark.parametrize("other", ["/", "/other"], ids=["one interpreter", "two interpreters"])
def test_all_wait_at_the_same_time(httpd: Factory, other: str) -> None:
    """Also while others compute, and again after they have: what the gate has learnt does not stay."""
    config = "<Location /other>\n    PythonInterpreter other\n</Location>"
    server = httpd(config, handler=HANDLER, processes=1, threads=COUNT + 12)
    waiting = [lambda: _ask(server, "/?wait", ROUNDS, "met")] * COUNT
    computing = [lambda: _ask(server, f"{other}?compute", 40, "199990000")] * 8
    for _ in range(2):
        at_same_time(*waiting)
        at_same_time(*computing)
    at_same_time(*waiting, *computing)
