"""The limit for a TLS handshake: silent clients, and what it leaves alone once the handshake is over."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mod_python.httpd.config import HANDSHAKE_SECONDS
from mod_python.httpd.find import find_httpd
from mod_python.httpdconf import write_basic_config
from mod_python.testing import Server
from tests.scripted import TIMEOUT, receive_all, receive_exactly
from tests.servers import running
from tests.serving import Serve, command, free_port

HANDLERS = """
from mod_python import apache

def ordinary(conn):
    for line in conn:
        conn.write(line)
    return apache.OK

async def coroutine(conn):
    async for line in conn:
        conn.write(line)

def declining(conn):
    conn.peek(1)
    return apache.DECLINED

async def streams(conn):
    reader, writer = conn.streams()
    while line := await reader.readline():
        writer.write(line)
        await writer.drain()

def handler(req):
    req.write("a page of %d bytes" % len(req.read()))
    return apache.OK
"""
KINDS = ["ordinary", "coroutine", "streams", "declining"]
#: Seconds: for the handshake, and longer than that.
LIMIT = 4
LONGER = LIMIT + 1.5
CONFIG = f"""
RequestReadTimeout handshake={LIMIT} header=2 body=2
<Location />
    SetHandler mod_python
    PythonHandler ${{SITE}}/h.py
</Location>
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A plain port, and one with TLS, for each of `KINDS`."""
    if not find_httpd().has_module("mod_reqtimeout"):
        pytest.skip("this httpd has no mod_reqtimeout")
    config = CONFIG
    for index, kind in enumerate(kind for kind in KINDS for _ in range(2)):
        tls = index % 2
        config += f"""
            <VirtualHost *:${{PORT{index + 1 if index else ""}}}>
                SSLEngine {"on" if tls else "off"}
                PythonConnectionHandler ${{SITE}}/h.py::{kind}
            </VirtualHost>
        """
    arguments = {"files": {"h.py": HANDLERS}, "modules": ["mod_reqtimeout"], "processes": 20}
    if not needs_processes():
        del arguments["processes"]
    with running(config, listen=2 * len(KINDS), tls=True, log_level="info", **arguments) as server:
        yield server


def needs_processes() -> bool:
    """Whether each connection takes a process."""
    return os.environ.get("MOD_PYTHON_TEST_MPM") == "prefork"


def connect(server: Server, kind: str, tls: bool) -> socket.socket:
    """Connect to the port of a kind; over TLS after the handshake."""
    sock = server.connect_plain(2 * KINDS.index(kind) + tls, timeout=TIMEOUT)
    return ssl._create_unverified_context().wrap_socket(sock) if tls else sock


def test_limit_ends_with_the_handshake(server: Server) -> None:
    """Connections that are idle for longer than a handshake may take go on."""
    with contextlib.ExitStack() as stack:
        socks = [(kind, stack.enter_context(connect(server, kind, tls))) for kind in KINDS for tls in (False, True)]
        time.sleep(LONGER)
        for kind, sock in socks:
            if kind == "declining":
                sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
                assert receive_all(sock).endswith(b"a page of 0 bytes")
            else:
                sock.sendall(b"one\n")
                assert receive_exactly(sock, 4) == b"one\n"


def test_client_that_does_not_finish_the_handshake_is_disconnected(server: Server) -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    with contextlib.ExitStack() as stack:
        socks = []
        for kind in KINDS:
            for data in (b"", hello):
                sock = stack.enter_context(server.connect_plain(2 * KINDS.index(kind) + 1, timeout=TIMEOUT))
                sock.sendall(data)
                socks.append(sock)
        for sock in socks:
            with contextlib.suppress(ConnectionResetError):
                receive_all(sock)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_limits_of_requests_hold_after_a_handler_has_declined(server: Server, tls: bool) -> None:
    for data in (b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12"):
        with connect(server, "declining", tls) as sock:
            sock.sendall(data)
            assert receive_all(sock).startswith(b"HTTP/1.1 408")


def test_silent_clients_hold_up_others_for_no_longer_than_the_limit() -> None:
    if not find_httpd().has_module("mod_reqtimeout"):
        pytest.skip("this httpd has no mod_reqtimeout")
    config = f"Timeout 600\nRequestReadTimeout handshake={LIMIT}\nPythonConnectionHandler ${{SITE}}/h.py::coroutine"
    few = {"processes": 2} if needs_processes() else {"processes": 1, "threads": 4}
    with running(config, files={"h.py": HANDLERS}, tls=True, modules=["mod_reqtimeout"], **few) as server:
        silent = [server.connect_plain() for _ in range(8)]
        try:
            with server.connect(timeout=TIMEOUT) as sock:
                sock.sendall(b"one\n")
                assert receive_exactly(sock, 4) == b"one\n"
        finally:
            for sock in silent:
                sock.close()


def test_serve_limits_the_handshake(serve: Serve) -> None:
    serve.write("h.py", "async def connectionhandler(conn):\n    async for line in conn:\n        conn.write(line)\n")
    port = free_port()
    printed = command("serve", "h.py", "--tls-self-signed", "--print-config", directory=serve.directory).stdout
    if find_httpd().has_module("mod_reqtimeout"):
        assert f"RequestReadTimeout handshake={HANDSHAKE_SECONDS} header=0 body=0\n" in printed
    printed = command("serve", "h.py", "--print-config", directory=serve.directory).stdout
    assert "RequestReadTimeout" not in printed
    serve.start("h.py", "--listen", f"127.0.0.1:{port}", "--tls-self-signed")
    context = ssl._create_unverified_context()
    with (
        socket.create_connection(("127.0.0.1", port), TIMEOUT) as plain,
        socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock,
        context.wrap_socket(sock) as tls,
    ):
        plain.sendall(b"GET /\nsecret\n")
        assert b"secret" not in receive_all(plain)
        tls.sendall(b"one\n")
        assert receive_exactly(tls, 4) == b"one\n"


def test_created_project_limits_the_handshake(tmp_path: Path) -> None:
    program = write_basic_config(str(tmp_path / "site"))
    assert program is not None
    assert f"RequestReadTimeout('handshake={HANDSHAKE_SECONDS}')" in Path(program).read_text()
