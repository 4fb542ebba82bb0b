"""Servers with TLS ports of every kind, for the probe of connection handlers and TLS.

Each port has two virtual hosts, ``first`` (also ``alias``) and ``second``, which ask for client
certificates by rules of their own. The connection handler belongs to the first one, or to the
main server, from which both inherit it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

from mod_python.httpd.tls import Certificate, make_self_signed
from mod_python.testing import LogRecord, Server
from mod_python.testing.errorlog import parse
from tests.scripted import TIMEOUT, receive_all
from tests.servers import running

HANDLERS = """
from mod_python import apache

def greet(conn):
    conn.log_error("the handler runs", apache.APLOG_NOTICE)
    host = conn.base_server.server_hostname
    conn.write(f"greeting {conn.is_https()} {host} {conn.ssl_var_lookup('SSL_CLIENT_VERIFY')}\\n".encode())

def ordinary(conn):
    greet(conn)
    for line in conn:
        conn.write(b"done: " + line)
    return apache.OK

async def coroutine(conn):
    greet(conn)
    async for line in conn:
        conn.write(b"done: " + line)

def declining(conn):
    conn.log_error("the handler runs", apache.APLOG_NOTICE)
    return apache.DECLINED

def handler(req):
    req.write("a page")
    return apache.OK
"""

#: SSLVerifyClient of the first host and of the second.
RULES = [
    ("none", "none"),
    ("optional", "optional"),
    ("require", "require"),
    ("require", "none"),
    ("optional", "none"),
    ("require", "optional"),
    ("none", "require"),
]
KINDS = ["ordinary", "coroutine", "declining"]
#: Where the handler is configured.
SCOPES = ["main", "first"]
CERTIFICATES = ["without", "right", "wrong"]
SNI = [None, "first", "alias", "second", "unknown"]
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

#: What mod_ssl takes for plain HTTP, and answers as such.
HTTP = [b"GET /\nDELETE\n", b"GET / HTTP/1.0\r\n\r\n", b"POST /x HTTP/1.1\r\nHost: x\r\n\r\n", b"HEAD /\n", b"PUT /a\n"]
#: Other beginnings that are no handshake.
OTHER = [b"hello\n", b"\r\n", b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x01", b"EHLO x\r\n", b"\x80\x2e\x01\x03\x01"]


def client_hello() -> bytes:
    """Return the first message of a handshake."""
    out = ssl.MemoryBIO()
    tls = client_context("1.3").wrap_bio(ssl.MemoryBIO(), out, server_hostname="first")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return out.read()


def client_context(version: str, certificate: Certificate | None = None) -> ssl.SSLContext:
    """Return a client's settings: any server, one version, perhaps a certificate of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = VERSIONS[version]
    if certificate is not None:
        context.load_cert_chain(certificate.certificate, certificate.key)
    return context


def beginnings() -> dict[str, bytes]:
    """Return first bytes that are no handshake, or not all of one, by name."""
    hello = client_hello()
    named = {ascii(data)[2:-1].replace("\\", "")[:12]: data for data in [*HTTP, *OTHER]}
    return {**named, "nothing": b"", "half a handshake": hello[: len(hello) // 2], "one message": hello}


def config(scope: str, kind: str) -> str:
    """Return the configuration of all ports, one for each of `RULES`."""
    handler = f"PythonConnectionHandler ${{SITE}}/handlers.py::{kind}"
    lines = ["<Location />", "SetHandler mod_python", "PythonHandler ${SITE}/handlers.py", "</Location>"]
    if scope == "main":
        lines.append(handler)
    for index, rules in enumerate(RULES):
        port = "${PORT}" if index == 0 else f"${{PORT{index + 1}}}"
        for name, rule in zip(("first", "second"), rules, strict=True):
            lines += [
                f"<VirtualHost *:{port}>",
                f"ServerName {name}",
                *(["ServerAlias alias"] if name == "first" else []),
                "SSLEngine on",
                "SSLCertificateFile ${TLS_CERT}",
                "SSLCertificateKeyFile ${TLS_KEY}",
                "SSLCACertificateFile ${TLS_CERT}",
                f"SSLVerifyClient {rule}",
                *([handler] if scope == name else []),
                "</VirtualHost>",
            ]
    return "\n".join(lines)


class Site:
    """A running server, and what a client gets from it.

    Args:
        server: The server.
        wrong: A client certificate that it does not know.
    """

    def __init__(self, server: Server, wrong: Certificate) -> None:
        self.server = server
        self._wrong = wrong
        self._log = server.root / "logs" / "error_log"

    def mark(self) -> int:
        """Return where the log ends now, for `runs` and `lines`."""
        return self._log.stat().st_size

    def since(self, mark: int) -> list[LogRecord]:
        """Return what mod_python has logged since, above level debug."""
        with self._log.open("rb") as file:
            file.seek(mark)
            text = file.read().decode(errors="replace")
        return [record for record in parse(text) if record.module in ("python", "") and record.at_least("info")]

    def plain(self, port: int, data: bytes) -> bytes:
        """Send bytes and their end without TLS; return the answer."""
        with socket.create_connection((self.server.host, self.server.ports[port]), TIMEOUT) as sock:
            with contextlib.suppress(OSError):  # the server may have closed the connection already
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
            try:
                return receive_all(sock)
            except ConnectionResetError:
                return b""

    def talk(self, port: int, certificate: str, sni: str | None, version: str) -> bytes:
        """Go through a handshake, send a line and a request, and return the beginning of the answer."""
        own = {"without": None, "right": self.server.certificate, "wrong": self._wrong}[certificate]
        context = client_context(version, own)
        with (
            contextlib.suppress(ssl.SSLError, ConnectionError),
            socket.create_connection((self.server.host, self.server.ports[port]), TIMEOUT) as sock,
            context.wrap_socket(sock, server_hostname=sni) as tls,
        ):
            tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return tls.recv(4096)
        return b""


@contextlib.contextmanager
def site(scope: str, kind: str, directory: Path) -> Iterator[Site]:
    """Run a server with handlers of one kind.

    Args:
        scope: One of `SCOPES`.
        kind: One of `KINDS`.
        directory: Where to make the certificate that the server does not know.
    """
    wrong = make_self_signed(directory)
    arguments = {"files": {"handlers.py": HANDLERS}, "tls": True, "listen": len(RULES), "log_level": "info"}
    with running(config(scope, kind), **arguments) as server:
        yield Site(server, wrong)
