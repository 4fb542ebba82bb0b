"""What a handler leaves behind: threads in the middle of a write, references to requests that end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.servers import running

HANDLERS = """
import threading
from mod_python import apache

def fails(req):
    req.content_type = "text/plain"
    req.write("begun ")
    def run():
        try:
            req.write(b"x" * 67108864)
        except OSError:
            pass
    threading.Thread(target=run).start()
    while True:
        try:
            req.flush()
        except RuntimeError:
            break
    req.log_error("the thread is writing", apache.APLOG_NOTICE)
    raise ValueError("on purpose")

class Spy:
    def __init__(self, req):
        self.req = req
    def __del__(self):
        try:
            found = self.req.next
        except apache.DetachedError as error:
            found = error
        apache.log_error("the spy found: %s" % found, apache.APLOG_NOTICE)

def redirects(req):
    req.internal_redirect("/target")
    return apache.OK

def target(req):
    req.spy = Spy(req.prev)
    req.write("target")
    return apache.OK
"""

CONFIG = "\n".join(
    ["PythonPath \"['${SITE}']+sys.path\""]
    + [
        f"<Location /{name}>\nSetHandler mod_python\nPythonHandler behind::{name}\n</Location>"
        for name in ("fails", "redirects", "target")
    ]
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(CONFIG, files={"behind.py": HANDLERS}) as server:
        yield server


def test_a_failure_while_another_thread_writes_cuts_the_response_off(server: Server) -> None:
    server.allow("on purpose")
    with server.connect() as sock:
        sock.sendall(b"GET /fails HTTP/1.1\r\nHost: x\r\n\r\n")
        server.wait_for_log("the thread is writing")
        data = b""
        while part := sock.recv(1048576):
            data = data[-100:] + part
    assert data.endswith(b"x\r\n")


def test_a_request_that_is_going_away_gives_no_new_object(server: Server) -> None:
    assert server.get("/redirects").text == "target"
    assert "going away" in server.wait_for_log("the spy found: .*")[0]
