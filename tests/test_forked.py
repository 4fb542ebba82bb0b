"""Processes that handlers and scripts fork: none goes on as a child of httpd's."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.scripted import receive_all, receive_exactly
from tests.servers import running

HANDLERS = """
import os, sys
from mod_python import apache

def handler(req):
    req.content_type = "text/plain"
    pid = os.fork()
    if pid == 0:
        if req.args == "ends":
            os._exit(7)
        if req.args == "exits":
            sys.exit(7)
        return apache.OK
    req.headers_out["X-Child"] = str(pid)
    req.write("%d" % (os.waitpid(pid, 0)[1] >> 8))
    return apache.OK

def ordinary(conn):
    how = conn.readline()
    conn.write(b"once ")
    pid = os.fork()
    if pid == 0:
        if how == b"exits\\n":
            sys.exit(7)
        return apache.OK
    conn.write(b"%d\\n" % (os.waitpid(pid, 0)[1] >> 8))
    conn.write(conn.readline())
    return apache.OK

async def coroutine(conn):
    how = await conn.readline()
    conn.write(b"once ")
    pid = os.fork()
    if pid == 0:
        if how == b"exits\\n":
            sys.exit(7)
        return
    conn.write(b"%d\\n" % (os.waitpid(pid, 0)[1] >> 8))
    conn.write(await conn.readline())
"""
SCRIPT = """
import os, sys
print("Content-Type: text/plain\\n")
sys.stdout.flush()
pid = os.fork()
if pid == 0:
    print("of the child")
    how = os.environ["QUERY_STRING"]
    if how == "exits":
        sys.exit(7)
    if how == "fails":
        raise LookupError("on purpose")
else:
    print(os.waitpid(pid, 0)[1] >> 8)
"""
CONFIG = """
<VirtualHost *:${PORT2}>
    PythonConnectionHandler ${SITE}/forks.py::ordinary
</VirtualHost>
<VirtualHost *:${PORT3}>
    PythonConnectionHandler ${SITE}/forks.py::coroutine
</VirtualHost>
<Location "/handler">
    SetHandler mod_python
    PythonHandler ${SITE}/forks.py
</Location>
Alias "/cgi" "${SITE}/cgi"
<Directory "${SITE}/cgi">
    SetHandler mod_python
    PythonHandler mod_python.cgihandler
</Directory>
"""
MESSAGE = "a process that a handler has forked came back from it"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(CONFIG, files={"forks.py": HANDLERS, "cgi/forks.py": SCRIPT}, processes=1, listen=3) as server:
        yield server


def is_quiet(server: Server, before: list[int]) -> bool:
    """The server is as before: the same children, and they answer."""
    time.sleep(0.05)
    return server.children() == before and server.get("/handler?ends").text == "7"


@pytest.mark.parametrize("how", ["", "exits"])
def test_a_forked_process_does_not_leave_the_handler(server: Server, how: str) -> None:
    server.allow(r"SystemExit")
    before = server.children()
    reported = server.error_log.count(MESSAGE)
    response = server.get(f"/handler?{how}")
    assert (response.status, response.text) == (200, "1")
    assert not os.path.exists(f"/proc/{response.headers['X-Child']}")
    assert server.error_log.count(MESSAGE) == reported + 1
    assert is_quiet(server, before)


@pytest.mark.parametrize("how", ["returns", "exits"])
@pytest.mark.parametrize("kind", [1, 2], ids=["ordinary", "coroutine"])
def test_nor_does_it_leave_a_connection_handler(server: Server, kind: int, how: str) -> None:
    server.allow(r"SystemExit")
    before = server.children()
    reported = server.error_log.count(MESSAGE)
    with server.connect(kind) as client:
        client.sendall(how.encode() + b"\n")
        assert receive_exactly(client, 7) == b"once 1\n"
        client.sendall(b"goes on\n")  # in the one child that is left
        assert receive_all(client) == b"goes on\n"
    assert server.error_log.count(MESSAGE) == reported + 1
    assert is_quiet(server, before)


def test_one_that_ends_itself_is_not_reported(server: Server) -> None:
    reported = server.error_log.count(MESSAGE)
    assert server.get("/handler?ends").text == "7"
    assert server.error_log.count(MESSAGE) == reported


@pytest.mark.parametrize(("how", "status"), [("", 0), ("exits", 7), ("fails", 1)])
def test_a_process_that_a_script_forks_ends_with_the_script(server: Server, how: str, status: int) -> None:
    server.allow(r"LookupError: on purpose")
    before = server.children()
    reported = server.error_log.count(MESSAGE)
    response = server.get(f"/cgi/forks.py?{how}")
    assert (response.status, response.text) == (200, f"{status}\n")
    assert server.error_log.count(MESSAGE) == reported
    assert is_quiet(server, before)
