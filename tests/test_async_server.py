"""Coroutine handlers under httpd's rules: TLS, filters, other modules, interpreters, the life of children."""

from __future__ import annotations

import os
import re
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import pytest

from mod_python import _build
from mod_python.httpd.find import find_httpd
from mod_python.testing import Server
from tests.processes import PREFORK, THREADED, interpreters, open_files, quiet
from tests.scripted import TIMEOUT, receive_all, receive_exactly, reset

pytestmark = pytest.mark.long

Httpd = Callable[..., Server]

ECHO = """
from mod_python import apache

async def connectionhandler(conn):
    async for line in conn:
        conn.write(line)
        await conn.drain()
"""

EVENT = os.environ.get("MOD_PYTHON_TEST_MPM", "event") == "event"

#: One child, or with prefork as many as there are connections at once.
FEW: dict[str, Any] = {"processes": 6} if PREFORK else {"processes": 1}


def needs(*names: str) -> list[str]:
    """Modules to load; skip if this httpd lacks one."""
    for name in names:
        if not find_httpd().has_module(name):
            pytest.skip(f"this httpd has no {name}")
    return list(names)


def talk(sock: socket.socket, line: bytes = b"line\n") -> None:
    sock.sendall(line)
    assert receive_exactly(sock, len(line)) == line


# ---- TLS


def test_client_certificates(httpd: Httpd) -> None:
    handler = """
from mod_python import apache

async def connectionhandler(conn):
    await conn.readline()
    conn.write(repr([conn.ssl_var_lookup(name) for name in ("SSL_CLIENT_VERIFY", "SSL_CLIENT_S_DN_CN", "HTTPS")]
                    + [conn.is_https(), conn.can_write_eof()]).encode())
"""
    config = "SSLVerifyClient optional\nSSLVerifyDepth 1\nSSLCACertificateFile ${TLS_CERT}"
    server = httpd(config, handler=handler, tls=True, **FEW)
    for with_certificate in (True, False):
        context = ssl.create_default_context(cafile=str(server.certificate.certificate))
        if with_certificate:
            context.load_cert_chain(server.certificate.certificate, server.certificate.key)
        plain = server.connect_plain()
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            sock.sendall(b"who am I?\n")
            expected = ["SUCCESS", "localhost", "on", 1, False] if with_certificate else ["NONE", None, "on", 1, False]
            assert receive_all(sock) == repr(expected).encode()


def test_a_handshake_that_fails_or_never_comes(httpd: Httpd) -> None:
    server = httpd(handler=ECHO, tls=True, **FEW)
    for data in (
        b"",
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x16\x03\x01\0\2xx",
    ):
        for end in (socket.SHUT_WR, socket.SHUT_RDWR):
            with server.connect_plain() as sock:
                sock.sendall(data)
                sock.shutdown(end)
                if end == socket.SHUT_WR:
                    receive_all(sock)
    with server.connect() as sock:
        talk(sock)


# ---- filters

FILTERS = """
from mod_python import apache

TABLE = bytes(byte ^ 0x55 for byte in range(256))

def scramble(filter):
    while data := filter.read():
        filter.write(data.translate(TABLE))

def half(filter):
    # Says nothing until a whole pair of bytes is there, and then one byte.
    filter.ctx = (filter.ctx or b"") + (filter.read() or b"")
    pairs = len(filter.ctx) // 2
    filter.write(filter.ctx[:2 * pairs:2])
    filter.ctx = filter.ctx[2 * pairs:]

async def connectionhandler(conn):
    async for line in conn:
        conn.write(line)
        await conn.drain()

async def ends(conn):
    conn.write(b"x" * (4 << 20))
    await conn.write_eof()
    await conn.read(-1)
"""

TABLE = bytes(byte ^ 0x55 for byte in range(256))


@pytest.mark.parametrize("size", [1, 1000, 100_000, 8 << 20])
def test_connection_filters(httpd: Httpd, size: int) -> None:
    config = """
    PythonPath "['${SITE}'] + sys.path"
    <VirtualHost *:${PORT2}>
        PythonConnectionInputFilter filters::scramble
        PythonConnectionOutputFilter filters::scramble
        PythonConnectionHandler filters
    </VirtualHost>
    """
    server = httpd(config, files={"filters.py": FILTERS}, listen=2, **FEW)
    line = b"x" * (size - 1) + b"\n"
    with server.connect(1) as sock:
        for _ in range(3 if size < 1 << 20 else 1):
            sock.sendall(line.translate(TABLE))
            assert receive_exactly(sock, size) == line.translate(TABLE)


def test_half_close_behind_a_filter(httpd: Httpd) -> None:
    """Everything that the filters hold goes first."""
    config = """
    PythonPath "['${SITE}'] + sys.path"
    <VirtualHost *:${PORT2}>
        PythonConnectionOutputFilter filters::scramble
        PythonConnectionHandler filters::ends
    </VirtualHost>
    """
    server = httpd(config, files={"filters.py": FILTERS}, listen=2, **FEW)
    with server.connect(1) as sock:
        assert receive_all(sock) == (b"x" * (4 << 20)).translate(TABLE)


def test_an_input_filter_that_holds_back(httpd: Httpd) -> None:
    config = """
    PythonPath "['${SITE}'] + sys.path"
    <VirtualHost *:${PORT2}>
        PythonConnectionInputFilter filters::half
        PythonConnectionHandler filters
    </VirtualHost>
    """
    server = httpd(config, files={"filters.py": FILTERS}, listen=2, **FEW)
    with server.connect(1) as sock:
        for byte in b"a.b.c.\n.":
            sock.sendall(bytes([byte]))
        assert receive_exactly(sock, 4) == b"abc\n"


# ---- other modules


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_the_proxy_protocol(httpd: Httpd, kind: str) -> None:
    """mod_remoteip takes its header out of the input and knows the client; the peer is the proxy."""
    handler = """
async def connectionhandler(conn):
    async for line in conn:
        conn.write(line + f"{conn.client_ip} {conn.useragent_ip} {conn.useragent_addr[1]}\\n".encode())
"""
    if kind == "sync":
        handler = handler.replace("async ", "")
    modules = needs("mod_remoteip")
    server = httpd("RemoteIPProxyProtocol On", handler=handler, modules=modules, **FEW)
    four = b"PROXY TCP4 192.0.2.7 198.51.100.9 1234 5678\r\n", b"127.0.0.1 192.0.2.7 1234\n"
    six = b"PROXY TCP6 2001:db8::7 2001:db8::9 1234 5678\r\n", b"127.0.0.1 2001:db8::7 1234\n"
    for header, facts in (four, six):
        for parts in ([header + b"line\n"], [header, b"li", b"ne\n"], [header[:10], header[10:] + b"line", b"\n"]):
            with server.connect() as sock, sock.makefile("rb") as lines:
                for part in parts:
                    sock.sendall(part)
                    time.sleep(0.01)
                assert lines.readline() == b"line\n"
                assert lines.readline() == facts
    with server.connect() as sock:
        sock.sendall(b"no header, and long enough to tell\n")
        try:
            assert receive_all(sock) == b""
        except ConnectionResetError:
            pass


def test_request_timeouts_are_for_requests(httpd: Httpd) -> None:
    """mod_reqtimeout does not cut off a connection that speaks something else.

    For its limit of the handshake see test_handshake_limit.py.
    """
    modules = needs("mod_reqtimeout")
    config = "RequestReadTimeout header=1 body=1"
    server = httpd(config, handler=ECHO, modules=modules, listen=2, tls=[1], **FEW)
    with server.connect() as plain, server.connect(1) as tls:
        for _ in range(2):
            for sock in (plain, tls):
                talk(sock)
            time.sleep(1.2)  # longer than a request may take
        for sock in (plain, tls):
            talk(sock)


def test_the_status_page_counts_connections(httpd: Httpd) -> None:
    config = """
    PythonPath "['${SITE}'] + sys.path"
    ExtendedStatus On
    <Location /server-status>
        SetHandler server-status
    </Location>
    <VirtualHost *:${PORT2}>
        PythonConnectionHandler echo
    </VirtualHost>
    """
    modules = needs("mod_status")
    server = httpd(config, files={"echo.py": ECHO}, modules=modules, listen=2, **({"processes": 8} if PREFORK else FEW))

    def status() -> dict[str, str]:
        return dict(re.findall(r"^(\w+): (.*)$", server.get("/server-status?auto").text, re.MULTILINE))

    socks = [server.connect(1) for _ in range(5)]
    for sock in socks:
        talk(sock)
    # With event no thread is busy with them, once each has handed its connection over. (It counts them in
    # ConnsTotal, too, but brings that up to date when it pleases.)
    if EVENT:
        server.wait_until(lambda: int(status()["BusyWorkers"]) <= 1, what="threads that are free")
    else:
        assert int(status()["BusyWorkers"]) >= 5
    for sock in socks:
        sock.close()
    server.wait_until(lambda: int(status()["BusyWorkers"]) <= 1)


# ---- interpreters


def test_each_interpreter_has_its_loop(httpd: Httpd) -> None:
    handler = """
import asyncio, threading
from mod_python import apache

async def connectionhandler(conn):
    async for line in conn:
        if line == b"who\\n":
            line = b"%s %d\\n" % (conn.interpreter.encode(), threading.get_ident())
        conn.write(line)
"""
    hosts = "".join(
        f"<VirtualHost *:${{PORT{number}}}>\nPythonInterpreter {name}\nPythonConnectionHandler two\n</VirtualHost>\n"
        for number, name in ((2, "one"), (3, "other"))
    )
    server = httpd(f"PythonPath \"['${{SITE}}'] + sys.path\"\n{hosts}", files={"two.py": handler}, listen=3, **FEW)
    answers = []
    for index in (1, 2, 1, 2):
        with server.connect(index) as sock:
            talk(sock)
            sock.sendall(b"who\n")
            answers.append(sock.makefile("rb").readline().split())
    assert [name for name, _ in answers] == [b"one", b"other"] * 2
    if THREADED:
        assert answers[0] == answers[2] != answers[1] == answers[3]
        assert {"one", "other"} <= set(interpreters(server))


# ---- the life of children

LIVES = """
import asyncio
from mod_python import apache

def note(text):
    apache.log_error(f"NOTE {text}", apache.APLOG_NOTICE)

async def connectionhandler(conn):
    try:
        async for line in conn:
            if line == b"wait\\n":
                conn.write(line)
                await conn.closing.wait()
                conn.write(b"closing\\n")
                continue
            if line == b"forever\\n":
                conn.write(line)
                await conn.flush()
                await asyncio.Event().wait()
            conn.write(line)
            await conn.drain()
    except asyncio.CancelledError:
        note("cancelled")
        raise
    finally:
        await asyncio.sleep(0)
        note("finally")
"""


def notes(server: Server, text: str) -> int:
    return len(re.findall(f"NOTE {text}$", server.error_log, re.MULTILINE))


def test_children_are_replaced_after_some_connections(httpd: Httpd) -> None:
    # Two: in worker and prefork a child that waits for its last connection keeps its place in the scoreboard.
    server = httpd("MaxConnectionsPerChild 10", handler=LIVES, **(FEW if EVENT else {"processes": 2}))
    first = set(server.children())
    with server.connect() as lasting:
        talk(lasting)
        for _ in range(25):
            with server.connect() as sock:
                talk(sock)
        server.wait_until(lambda: set(server.children()) - first)
        talk(lasting)  # in its old child, which waits for it
    server.wait_until(lambda: not set(server.children()) & (first if not PREFORK else set()))
    server.wait_until(lambda: notes(server, "finally") == 26)


def test_a_graceful_restart_is_told_and_waits(httpd: Httpd) -> None:
    # In worker a child that waits for its last connection keeps its place in the scoreboard.
    places = "" if EVENT or PREFORK else "ServerLimit 4\nMaxRequestWorkers 64\nThreadsPerChild 16\n"
    server = httpd(places, handler=LIVES, listen=2, tls=[1], **FEW)
    old = set(server.children())
    with server.connect() as waiting, server.connect(1) as going_on, server.connect() as last:
        talk(waiting, b"wait\n")
        talk(going_on)
        talk(last)
        server.graceful()
        assert receive_exactly(waiting, 8) == b"closing\n"
        waiting.shutdown(socket.SHUT_WR)
        assert receive_all(waiting) == b""
        for _ in range(3):
            talk(going_on)
        with server.connect() as new:
            talk(new)
        going_on.close()
        talk(last)
        assert set(server.children()) & old
    # The last connection has ended, and so does the child.
    server.wait_until(lambda: not set(server.children()) & old, what="the end of the old child")
    # The one that came after the restart ends in the new child, whenever that gets to it.
    server.wait_until(lambda: notes(server, "finally") == 4)
    assert notes(server, "cancelled") == 0


@pytest.mark.parametrize("tls", [0, 1], ids=["plain", "tls"])
def test_at_a_stop_every_finally_runs(httpd: Httpd, tls: int) -> None:
    # Handlers get 3 seconds: over TLS, whose ends take longer, there are fewer, so that they suffice on a busy machine.
    many = 300 if tls else 1000
    with open_files(many if EVENT else 8 if PREFORK else 200) as count:
        stop_with_many(httpd, count, tls)


def stop_with_many(httpd: Httpd, count: int, tls: int) -> None:
    workers: dict[str, Any] = (
        {"processes": count + 4} if PREFORK else {"processes": 1, "threads": 64 if EVENT else count + 8}
    )
    server = httpd(handler=LIVES, listen=2, tls=[1], **workers)
    socks = [server.connect(tls) for _ in range(count)]
    for number, sock in enumerate(socks):
        talk(sock, b"forever\n" if number % 2 else b"line\n")
    server.stop()
    assert notes(server, "finally") == count
    assert notes(server, "cancelled") == count
    for sock in socks:
        with sock:
            sock.settimeout(TIMEOUT)
            try:
                assert sock.recv(10) == b""
            except OSError:  # a reset, or over TLS an end without a close_notify
                pass
    assert not re.search("did not end in time|AH0004[567]|have not ended", server.error_log)


def test_a_handler_that_ignores_its_end(httpd: Httpd) -> None:
    """The child ends nevertheless, and says who did not."""
    handler = """
import asyncio

async def connectionhandler(conn):
    conn.write(b"ready")
    await conn.flush()
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
"""
    server = httpd(handler=handler, **FEW)
    with server.connect() as sock:
        assert receive_exactly(sock, 5) == b"ready"
        server.stop()
    assert not server.running
    assert re.search("tasks of interpreter|has not ended 3 seconds after it was cancelled", server.error_log)


def test_nothing_is_left_in_the_child(httpd: Httpd) -> None:
    """Neither descriptors nor threads after many connections of all kinds."""
    server = httpd(handler=ECHO, listen=2, tls=[1], **({"processes": 1} if PREFORK else {"processes": 1, "threads": 8}))

    def counts() -> tuple[int, int]:
        (child,) = server.children()
        return len(os.listdir(f"/proc/{child}/fd")), len(os.listdir(f"/proc/{child}/task"))

    def some(count: int) -> None:
        for number in range(count):
            with server.connect(number % 2) as sock:
                talk(sock)

    some(4)
    time.sleep(1.5)  # a connection's descriptor goes within a second
    before = counts()
    some(100)
    server.wait_until(lambda: counts() <= before, what="the end of descriptors and threads")


@pytest.mark.skipif(not _build.DEBUG_BUILD, reason="only a debug build counts (MOD_PYTHON_DEBUG_BUILD=1)")
def test_counters_of_the_debug_build(httpd: Httpd) -> None:
    """At the end of the child nothing is left that stood for a connection."""
    server = httpd(handler=ECHO, listen=2, tls=[1], processes=1)
    for number in range(40):
        with server.connect(number % 2) as sock:
            talk(sock)
            if number % 3 == 0:
                reset(sock)
            elif number % 3 == 1 and THREADED:
                sock.sendall(b"no end of a line")
    quiet(server)
    server.stop()
    (found,) = re.findall(r"leak check: (.*)", server.error_log)
    counted = {name: int(number) for name, number in re.findall(r"(\w+) (-?\d+)", found)}
    assert counted["entries"] == counted["leaves"] >= 40
    assert {counted[name] for name in ("records", "wrappers", "brigades")} == {0}
