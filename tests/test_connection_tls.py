"""A connection handler on a TLS port is called after the handshake, or not at all."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.scripted import TIMEOUT, receive_all
from tests.servers import running

HANDLERS = """
from mod_python import apache

def ordinary(conn):
    conn.log_error("the handler runs", apache.APLOG_NOTICE)
    conn.write(b"greeting %d\\n" % conn.is_https())
    for line in conn:
        conn.write(b"done: " + line)
    return apache.OK

async def coroutine(conn):
    conn.log_error("the handler runs", apache.APLOG_NOTICE)
    conn.write(b"greeting %d\\n" % conn.is_https())
    async for line in conn:
        conn.write(b"done: " + line)
    return apache.OK

def handler(req):
    req.write("a page")
    return apache.OK
"""

CONFIG = """
<VirtualHost *:${PORT}>
    SSLEngine on
    SSLCertificateFile ${TLS_CERT}
    SSLCertificateKeyFile ${TLS_KEY}
    SSLCACertificateFile ${TLS_CERT}
    SSLVerifyClient VERIFY
    PythonConnectionHandler ${SITE}/handlers.py::KIND
    <Location />
        SetHandler mod_python
        PythonHandler ${SITE}/handlers.py
    </Location>
</VirtualHost>
"""

#: What mod_ssl takes for plain HTTP, and answers as such.
HTTP = [b"GET /\nDELETE\n", b"GET / HTTP/1.0\r\n\r\n", b"POST /x HTTP/1.1\r\nHost: x\r\n\r\n", b"HEAD /\n", b"PUT /a\n"]
#: Other beginnings that are no handshake.
OTHER = [b"hello\n", b"\r\n", b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x01", b"EHLO x\r\n", b"\x80\x2e\x01\x03\x01"]


@pytest.fixture(scope="module", params=["ordinary", "coroutine"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["none", "optional", "require"])
def verify(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(kind: str, verify: str) -> Iterator[Server]:
    config = CONFIG.replace("VERIFY", verify).replace("KIND", kind)
    with running(config, files={"handlers.py": HANDLERS}, tls=True, log_level="info") as server:
        yield server


def runs(server: Server) -> int:
    """How often the handler was called."""
    return sum("the handler runs" in record.message for record in server.log_records())


def plain(server: Server, data: bytes) -> bytes:
    """Send bytes and their end without TLS; return the answer."""
    with socket.create_connection((server.host, server.port), TIMEOUT) as sock:
        sock.sendall(data)
        with contextlib.suppress(OSError):  # the server may have closed the connection already
            sock.shutdown(socket.SHUT_WR)
        try:
            return receive_all(sock)
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize("data", [*HTTP, *OTHER], ids=lambda data: ascii(data)[2:14])
def test_handler_is_not_called_without_a_handshake(server: Server, data: bytes) -> None:
    before = runs(server)
    answer = plain(server, data)
    assert b"greeting" not in answer
    assert b"done" not in answer
    assert b"a page" not in answer
    if data in HTTP and b"HEAD" not in data:
        assert b"plain HTTP to an SSL-enabled server port" in answer
    assert runs(server) == before


def test_handler_is_called_after_the_handshake_that_its_host_asks_for(server: Server, verify: str) -> None:
    before = runs(server)
    context = ssl.create_default_context(cafile=str(server.certificate.certificate))
    context.check_hostname = False
    answer = b""
    with (
        contextlib.suppress(ssl.SSLError, ConnectionError),
        socket.create_connection((server.host, server.port), TIMEOUT) as sock,
        context.wrap_socket(sock) as tls,
    ):
        tls.sendall(b"one\n")
        answer = tls.recv(100)
    if verify == "require":
        assert answer == b""
        assert runs(server) == before
    else:
        assert answer.startswith(b"greeting 1\n")
        assert runs(server) == before + 1
