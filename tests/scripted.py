"""A server whose connection handler is written where it is tested.

The first line of a connection carries the source of the handler for the rest of that
connection, so a test shows both ends of the conversation in one place, and one httpd
serves a whole file of tests.
"""

from __future__ import annotations

import ast
import contextlib
import re
import socket
import ssl
import struct
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mod_python.testing import LogRecord, Response, Server
from mod_python.testing.client import request

#: Runs what the first line says. ``kept`` outlives the connection.
HANDLER = """
import os
from mod_python import apache

kept = {}

def connectionhandler(conn):
    source = bytes.fromhex(conn.readline().decode()).decode()
    scope = {"apache": apache, "kept": kept, "os": os}
    exec(compile(source, "<test>", "exec"), scope)
    return scope["handler"](conn)
"""

#: Seconds to wait for anything; far more than it takes.
TIMEOUT = 60.0


@contextlib.contextmanager
def running(config: str = "", **arguments: Any) -> Iterator[Server]:
    """Run a server for several tests, and check its log when it has ended, as `httpd` does."""
    server = Server(config, **arguments)
    with server:
        yield server
    problems = server.problems()
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


class Scripted:
    """The server, and what tests do with it.

    Its first port is plain, its second one speaks TLS. It has one child process, so that
    connections find what others have kept there.
    """

    def __init__(self, server: Server) -> None:
        self.server = server

    @staticmethod
    def script(body: str, *, value: bool = False) -> bytes:
        """Return the first line for a connection.

        Args:
            body: The body of ``handler(conn)``. Without a return it returns OK.
            value: It is the body of a function whose result, a literal, is sent.
        """
        source = "def handler(conn):\n" + textwrap.indent(textwrap.dedent(body), "    ")
        if value:
            source = source.replace("handler", "function", 1)
            source += "\ndef handler(conn):\n    conn.write(ascii(function(conn)).encode())"
        return (source + "\n    return apache.OK\n").encode().hex().encode() + b"\n"

    def open(self, body: str, data: bytes = b"", *, tls: bool = False) -> socket.socket:
        """Connect, with `body` as the body of ``handler(conn)``, and send `data` after it."""
        sock = self.server.connect(int(tls))
        sock.sendall(self.script(body) + data)
        return sock

    def run(self, body: str, data: bytes = b"", *, end: bool = False, tls: bool = False) -> bytes:
        """Run a handler to its end; return what it sent.

        Args:
            body: The body of ``handler(conn)``.
            data: What to send to it.
            end: Close the sending direction after the data.
            tls: Use the port with TLS.
        """
        return self._talk(self.script(body) + data, end, tls)

    def _talk(self, data: bytes, end: bool, tls: bool) -> bytes:
        if tls and end:
            with TlsPeer(self.server, 1) as peer:
                peer.sendall(data)
                peer.end()
                return peer.receive_all()
        with self.server.connect(int(tls)) as sock:
            sock.sendall(data)
            if end:
                sock.shutdown(socket.SHUT_WR)
            return receive_all(sock)

    def value(self, body: str, data: bytes = b"", *, end: bool = False, tls: bool = False) -> Any:
        """Run a function of ``conn`` in the handler; return what it returned, a literal."""
        return ast.literal_eval(self._talk(self.script(body, value=True) + data, end, tls).decode())

    def wait_kept(self, name: str) -> Any:
        """Wait until a handler has put something into ``kept``; return it, a literal, and take it out."""
        found: list[Any] = []

        def look() -> bool:
            found[:] = self.value(f"return [kept.pop(name) for name in [{name!r}] if name in kept]")
            return bool(found)

        self.server.wait_until(look, TIMEOUT, f"kept[{name!r}]")
        return found[0]

    def mark(self) -> int:
        """Return the present length of the error log, for `since`."""
        return len(self.server.log_records())

    def since(self, mark: int, level: str = "info") -> list[LogRecord]:
        """Return what was logged after `mark`, at `level` or above, by our own module or on stderr."""
        records = self.server.log_records()[mark:]
        return [record for record in records if record.module in ("python", "") and record.at_least(level)]

    def wait_logged(self, mark: int, text: str) -> LogRecord:
        """Wait until a record after `mark` contains a text."""
        found: list[LogRecord] = []

        def look() -> bool:
            found[:] = [record for record in self.server.log_records()[mark:] if text in record.message]
            return bool(found)

        self.server.wait_until(look, TIMEOUT, f"{text!r} in the error log")
        return found[0]


@contextlib.contextmanager
def scripted(config: str = "") -> Iterator[Scripted]:
    """Run such a server."""
    with running(config, handler=HANDLER, listen=2, tls=[1], processes=1) as server:
        kit = Scripted(server)
        # What is logged of the start, and of the first connection's interpreter, is there before the first test.
        server.wait_for_log("AH00094")
        assert kit.value("return 1") == 1
        yield kit


@contextlib.contextmanager
def nothing_logged(server: Server, *expected: str) -> Iterator[None]:
    """Check that nothing above debug is logged meanwhile, besides httpd's own words on TLS handshakes and its load.

    Args:
        server: it has just been started.
        expected: parts of messages that may be logged.
    """
    server.wait_for_log("AH00094")  # the last that is logged of the start, when children serve already
    begin = len(server.log_records("info"))
    yield
    assert [
        record
        for record in server.log_records("info")[begin:]
        if (record.module, record.level) != ("ssl", "info")
        and not record.module.startswith("mpm_")
        and not any(text in record.message for text in expected)
    ] == []


# ---- the client's end


def receive_exactly(sock: socket.socket, count: int) -> bytes:
    """Receive `count` bytes; fewer only if the peer closes."""
    data = bytearray()
    while len(data) < count:
        part = sock.recv(min(count - len(data), 1 << 20))
        if not part:
            break
        data += part
    return bytes(data)


def receive_all(sock: socket.socket) -> bytes:
    """Receive until the peer closes."""
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


def reset(sock: socket.socket) -> None:
    """Close a connection with a reset instead of an orderly end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def wait_read(sock: socket.socket) -> None:
    """Wait until the server has read all that the socket has sent.

    So that the next bytes reach the handler in another segment.
    """
    client, server = sock.getsockname()[1], sock.getpeername()[1]
    deadline = time.monotonic() + TIMEOUT
    while True:
        # What was sent may still be on its way while the server's queue is empty.
        arrived = _unacknowledged(sock) == 0
        waiting = _receive_queue(server, client)
        if waiting is None:
            raise ConnectionError("the server has no such connection")
        if arrived and waiting == 0:
            return
        if time.monotonic() > deadline:
            raise TimeoutError("the server did not read what was sent")
        time.sleep(0.0005)  # leaves the processor to the server


def reset_and_wait(sock: socket.socket) -> None:
    """Close a connection with a reset, and wait until the server's end has got it."""
    client, server = sock.getsockname()[1], sock.getpeername()[1]
    reset(sock)
    deadline = time.monotonic() + TIMEOUT
    while _receive_queue(server, client) is not None:
        if time.monotonic() > deadline:
            raise TimeoutError("the reset did not reach the server")
        time.sleep(0.0005)


def _unacknowledged(sock: socket.socket) -> int:
    """How many segments the peer's kernel has not acknowledged (Linux: tcpi_unacked)."""
    return int(struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 24)[0])


def _receive_queue(local: int, remote: int) -> int | None:
    """How many bytes wait to be read at the `local` end of a connection; None if there is none (Linux)."""
    found = _diagnosed(local, remote)
    if found is not None:
        state, waiting = found
        return waiting if state != _LISTEN else None
    # There is none, or this kernel has no such service. To read the whole table takes some thousand times as long.
    pattern = rf":{local:04X} [0-9A-F]{{8}}:{remote:04X} [0-9A-F]{{2}} [0-9A-F]{{8}}:([0-9A-F]{{8}}) "
    row = re.search(pattern, Path("/proc/net/tcp").read_text())
    return int(row[1], 16) if row is not None else None


_LISTEN = 10  # TCP_LISTEN: the kernel's answer for a connection that is gone, while its port is listened on


def _diagnosed(local: int, remote: int) -> tuple[int, int] | None:
    """The state of a connection of 127.0.0.1 and the length of its receive queue, by sock_diag(7), or None."""
    address = socket.inet_aton("127.0.0.1").ljust(16, b"\0")
    # struct inet_diag_req_v2, for any interface and whatever cookie; the message is SOCK_DIAG_BY_FAMILY, a request.
    body = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    body += struct.pack(">HH", local, remote) + 2 * address + struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 4) as service:
            service.settimeout(TIMEOUT)
            service.send(struct.pack("=IHHII", 16 + len(body), 20, 1, 1, 0) + body)
            answer = service.recv(4096)
    except OSError:
        return None
    if struct.unpack_from("=H", answer, 4)[0] != 20:
        return None
    return answer[17], struct.unpack_from("=I", answer, 72)[0]


class TlsPeer:
    """A TLS client that can say that it has ended and go on reading, which `ssl` sockets cannot."""

    def __init__(self, server: Server, index: int) -> None:
        self._sock = server.connect_plain(index)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=str(server.certificate.certificate))
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")
        self.shake()

    def shake(self) -> None:
        """Go through the handshake."""
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._push()
                more = self._sock.recv(1 << 16)
                if not more:
                    raise ConnectionError("the connection ended in the handshake") from None
                self._in.write(more)
        self._push()

    @property
    def sock(self) -> socket.socket:
        """The socket underneath."""
        return self._sock

    def _push(self) -> None:
        self._sock.sendall(self._out.read())

    def sendall(self, data: bytes) -> None:
        """Send data."""
        self._tls.write(data)
        self._push()

    def end(self) -> None:
        """Send close_notify."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._push()

    def receive_all(self) -> bytes:
        """Receive until the peer's close_notify."""
        data = b""
        while True:
            try:
                part = self._tls.read(1 << 16)
            except ssl.SSLWantReadError:
                more = self._sock.recv(1 << 16)
                if not more:
                    raise ConnectionError("the connection ended without close_notify") from None
                self._in.write(more)
                continue
            except ssl.SSLZeroReturnError:
                return data
            if not part:
                return data
            data += part

    def __enter__(self) -> TlsPeer:
        return self

    def __exit__(self, *error: object) -> None:
        self._sock.close()


def http_request(server: Server, sock: socket.socket, method: str, target: str, body: bytes | None = None) -> Response:
    """Make one HTTP request on a connection that is open, and close it."""
    return request(sock, method, target, (server.host, server.port), body)
