"""Memory and lifetimes: nothing grows with messages, connections or requests.

Growth is measured between a warm-up, which fills caches, free lists and the allocator's
arenas, and the end. In a child's memory a leak of one small object per message would
show up as tens of megabytes.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from mod_python import _build
from mod_python.testing import Server
from tests.processes import MIB, PREFORK, at_same_time, http, memory, quiet, steady_malloc

pytestmark = pytest.mark.long

Httpd = Callable[..., Server]

#: Growth that is taken for none, in bytes.
FLAT = MIB

#: One child; few threads, so that all of them are warm after the warm-up.
ONE_CHILD = {"processes": 1} if PREFORK else {"processes": 1, "threads": 4}

MODULE = """
from mod_python import apache, errors

kept = []

def connectionhandler(conn):
    while True:
        conn.write(conn.readline())

def handler(req):
    table = req.headers_in
    req.headers_out["X-Agent"] = table.get("Host", "?")
    req.content_type = "text/plain"
    req.connection, req.server, req.get_options(), req.get_config()
    req.mine = req          # a cycle through the object itself
    req.write("answer")
    return apache.OK

def flushes(req):
    for _ in range(int(req.args)):
        req.write("x", 0)
        req.flush()
    return apache.OK

def keep(req):
    kept.append((req, req.connection, req.headers_in, req.headers_out))
    req.write("kept")
    return apache.OK

def look(req):
    got = []
    for request, connection, headers_in, headers_out in kept:
        for look in (
            lambda: request.uri,
            lambda: request.headers_in,
            lambda: request.connection,
            lambda: request.write("x"),
            lambda: request.log_error("x"),
            lambda: connection.remote_host,
            lambda: connection.local_addr,
            lambda: connection.log_error("x"),
            lambda: headers_in["Host"],
            lambda: list(headers_in),
            lambda: headers_out.add("A", "b"),
        ):
            try:
                look()
            except errors.DetachedError as error:
                assert isinstance(error, RuntimeError) and str(error)
                got.append("detached")
            else:
                got.append("alive")
        repr(request), repr(connection)
    kept.clear()
    req.write(" ".join(got))
    return apache.OK

def keep_connection(conn):
    kept.append(conn)
    conn.write(conn.readline())
    return apache.OK

def look_connection(conn):
    for old in kept:
        record = (lambda: old.local_addr, old.get_options, lambda: old.log_error("x"), lambda: old.base_server)
        for look in (old.readline, lambda: old.write(b"x"), old.flush, old.peek, *record):
            try:
                look()
            except Exception as error:
                conn.write(type(error).__name__.encode() + b" ")
            else:
                conn.write(b"alive ")
    return apache.OK
"""

CONFIG = """
MaxKeepAliveRequests 0
KeepAliveTimeout 60
PythonPath "['${SITE}'] + sys.path"
SetHandler mod_python
PythonHandler module
<Location /flushes>
    PythonHandler module::flushes
</Location>
<Location /keep>
    PythonHandler module::keep
</Location>
<Location /look>
    PythonHandler module::look
</Location>
<VirtualHost *:${PORT2}>
    PythonConnectionHandler module
</VirtualHost>
<VirtualHost *:${PORT3}>
    PythonConnectionHandler module::keep_connection
</VirtualHost>
<VirtualHost *:${PORT4}>
    PythonConnectionHandler module::look_connection
</VirtualHost>
"""


@pytest.fixture
def server(httpd: Httpd, monkeypatch: pytest.MonkeyPatch) -> Server:
    """One child with handlers of all kinds."""
    steady_malloc(monkeypatch)
    return httpd(CONFIG, files={"module.py": MODULE}, listen=4, log_level="info", **ONE_CHILD)


def growth(server: Server, work: Callable[[int], None], warm_up: int, count: int) -> int:
    """Bytes that the only child grew by in `count` rounds of work after a warm-up."""
    work(warm_up)
    (child,) = server.children()
    before = memory(child)
    work(count)
    assert server.children() == [child]
    after = memory(child)
    return max(after.private - before.private, after.rss - before.rss)


def round_trips(sock: socket.socket, count: int, lines: int) -> None:
    """Send a window of lines, wait until all of it is back, and so on."""
    data = b"".join(b"line %03d\n" % number for number in range(lines))
    buffer = bytearray(len(data))
    view = memoryview(buffer)
    for _ in range(count):
        sock.sendall(data)
        done = 0
        while done < len(data):
            got = sock.recv_into(view[done:])
            assert got, "the connection was cut"
            done += got
        assert buffer == data


@pytest.mark.heavy
def test_a_million_messages_on_one_connection(server: Server) -> None:
    """One by one, so that the handler waits for each; and in windows, so that it buffers them."""
    with server.connect(1) as sock:
        assert growth(server, lambda count: round_trips(sock, count, 1), 10_000, 200_000) < FLAT
        assert growth(server, lambda count: round_trips(sock, count // 50, 50), 10_000, 800_000) < FLAT


def test_long_lines_leave_no_memory_behind(server: Server) -> None:
    """In no thread: malloc keeps what a line took for the thread that it was freed in."""
    line = b"x" * (4 * MIB - 1) + b"\n"

    def work(count: int) -> None:
        for _ in range(count):
            with ExitStack() as stack:
                socks = [stack.enter_context(server.connect(1)) for _ in range(ONE_CHILD.get("threads", 1))]
                for sock in socks:  # each has a thread when its handler has answered
                    sock.sendall(b"line\n")
                    assert sock.makefile("rb").readline() == b"line\n"
                for sock in socks:
                    echo(sock, line)
            quiet(server)

    assert growth(server, work, 2, 8) < 4 * MIB


def echo(sock: socket.socket, line: bytes) -> None:
    """Send a line that is longer than what the sockets hold, and receive it."""
    both = (lambda: sock.sendall(line), lambda: sock.makefile("rb").readline())
    assert at_same_time(*both)[1] == line


def test_short_connections(server: Server) -> None:
    def work(count: int) -> None:
        for number in range(count):
            # Of different addresses, so that ports in TIME_WAIT do not run out.
            source = (f"127.0.{1 + number // 5000}.1", 0)
            with socket.create_connection((server.host, server.ports[1]), 30, source) as sock:
                sock.sendall(b"line\n")
                assert sock.recv(100) == b"line\n"
        quiet(server)

    assert growth(server, work, 2_000, 20_000) < FLAT


def test_requests(server: Server) -> None:
    def work(count: int) -> None:
        with server.connect() as sock:
            for _ in range(count):
                assert http(sock, close=False) == (200, b"answer")

    assert growth(server, work, 2_000, 20_000) < FLAT


def test_row_6_36_writes_and_flushes_of_one_request(server: Server) -> None:
    def work(count: int) -> None:
        assert server.get(f"/flushes?{count}").body == b"x" * count

    assert growth(server, work, 10_000, 100_000) < FLAT


def test_kept_objects_are_detached(server: Server) -> None:
    """Those that stand for a request, its connection and its tables; all of them tell."""
    assert server.get("/keep").body == b"kept"
    assert server.get("/keep").body == b"kept"
    quiet(server)
    assert set(server.get("/look").text.split()) == {"detached"}


def test_a_kept_connection_is_detached(server: Server) -> None:
    with server.connect(2) as sock:
        sock.sendall(b"line\n")
        assert sock.makefile("rb").read() == b"line\n"
    quiet(server)
    with server.connect(3) as sock:
        told = sock.makefile("rb").read().split()
    # Reading and writing as on any closed connection; what belongs to the record is gone.
    assert told == [b"ConnectionClosed"] * 4 + [b"DetachedError"] * 4


@pytest.mark.skipif(not _build.DEBUG_BUILD, reason="only a debug build counts (MOD_PYTHON_DEBUG_BUILD=1)")
def test_counters_of_the_debug_build(httpd: Httpd) -> None:
    """At the end of the child nothing is left that stood for a connection or request."""
    server = httpd(CONFIG, files={"module.py": MODULE}, listen=4, **ONE_CHILD)
    for _ in range(20):
        assert server.get("/").status == 200
        with server.connect(1) as sock:
            round_trips(sock, 10, 3)
    # Kept by the module for good: detached, hence not counted.
    assert server.get("/keep").status == 200
    with server.connect(2) as sock:
        sock.sendall(b"line\n")
        assert sock.makefile("rb").read() == b"line\n"
    quiet(server)
    server.stop()
    (found,) = re.findall(r"leak check: (.*)", server.error_log)
    counted = {name: int(number) for name, number in re.findall(r"(\w+) (-?\d+)", found)}
    assert counted["entries"] == counted["leaves"] > 40
    assert {counted[name] for name in ("records", "wrappers", "brigades")} == {0}
