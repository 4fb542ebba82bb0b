"""conn.start_tls(): TLS that begins within a connection, in ordinary and in coroutine handlers.

The first line of a connection carries its handler, as in `tests.scripted`. The body is
that of a coroutine function; for the ordinary handlers the words ``async`` and ``await``
are taken out.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import os
import re
import smtplib
import socket
import ssl
import subprocess
import textwrap
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mod_python.httpd.tls import make_self_signed
from mod_python.testing import LogRecord, Server
from tests import needs
from tests.scripted import TlsPeer, receive_all, receive_exactly, reset, wait_read
from tests.servers import running

HANDLER = """
import asyncio, gc, os, ssl, threading, time
from mod_python import apache

def context(cert, key, **more):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(cert, key)
    if "version" in more:
        made.minimum_version = made.maximum_version = getattr(ssl.TLSVersion, more["version"])
    if "clients" in more:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(more["clients"])
    return made

async def connectionhandler(conn):
    source = bytes.fromhex((await conn.readline()).decode()).decode()
    scope = dict(globals())
    exec(compile(source, "<test>", "exec"), scope)
    return await scope["handler"](conn)
"""

#: What most handlers begin with.
START = """\
conn.write(b"ready\\n")
await conn.start_tls(context(CERT, KEY))
"""
ECHO = (
    START
    + """
async for line in conn:
    conn.write(line)
    DRAIN
"""
)


def plainly(source: str) -> str:
    return re.sub(r"\b(async|await) ", "", source)


class Peer(TlsPeer):
    """A TLS client over a connection that is there already."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, shake: bool = True) -> None:
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")
        if shake:
            self.shake()

    def hello(self) -> bytes:
        """Return what a client sends first."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._out.read()


class Kit:
    """A server and what tests do with it."""

    def __init__(self, server: Server, kind: str) -> None:
        self.server = server
        self.is_async = kind == "async"
        # One that the child can read: httpd's own key is read by root.
        self.pair = make_self_signed(server.site)
        self.pair.key.chmod(0o644)
        self.kept = server.site / "kept"
        self.kept.mkdir()
        self.kept.chmod(0o777)

    def script(self, body: str) -> bytes:
        """Return the first line for a connection."""
        source = "async def handler(conn):\n" + textwrap.indent(textwrap.dedent(body), "    ")
        source = source.replace("DRAIN", "await conn.drain()" if self.is_async else "pass")
        source = source.replace("CERT", repr(str(self.pair.certificate))).replace("KEY", repr(str(self.pair.key)))
        source = source.replace("KEPT", repr(str(self.kept / "x")))
        source += "\n    return apache.OK\n"
        return (source if self.is_async else plainly(source)).encode().hex().encode() + b"\n"

    def open(self, body: str, data: bytes = b"", port: int = 0) -> socket.socket:
        """Connect; the handler's body is given."""
        sock = self.server.connect(port)
        sock.sendall(self.script(body) + data)
        return sock

    def ready(self, body: str) -> socket.socket:
        """Open, and wait for the invitation to begin with TLS."""
        sock = self.open(body)
        assert receive_exactly(sock, 6) == b"ready\n"
        return sock

    def client(self, *, version: str | None = None, certificate: bool = False) -> ssl.SSLContext:
        """Return a context for a client that trusts the server."""
        made = ssl.create_default_context(cafile=str(self.pair.certificate))
        if version:
            made.minimum_version = made.maximum_version = ssl.TLSVersion[version]
        if certificate:
            made.load_cert_chain(self.pair.certificate, self.pair.key)
        return made

    def secure(self, body: str, **options: Any) -> ssl.SSLSocket:
        """Open, and go through the handshake."""
        return self.client(**options).wrap_socket(self.ready(body), server_hostname="localhost")

    def peer(self, body: str, **options: Any) -> Peer:
        """The same, with a client that can close TLS in one direction."""
        return Peer(self.ready(body), self.client(**options))

    def mark(self) -> int:
        """Return the present length of the error log."""
        return len(self.server.log_records())

    def wait_logged(self, mark: int, text: str) -> LogRecord:
        """Wait for a record after `mark` that contains a text."""
        found: list[LogRecord] = []

        def look() -> bool:
            found[:] = [record for record in self.server.log_records()[mark:] if text in record.message]
            return bool(found)

        self.server.wait_until(look, 30, f"{text!r} in the error log")
        return found[0]

    def wait_kept(self, name: str) -> str:
        """Wait until a handler has kept something in a file of that name; return its text."""
        path = self.kept / f"x-{name}"
        self.server.wait_until(path.exists, 30, name)
        text = path.read_text()
        path.unlink()
        return text


@pytest.fixture(scope="module", params=["sync", "async"])
def kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    source = HANDLER if request.param == "async" else plainly(HANDLER)
    prefork = os.environ.get("MOD_PYTHON_TEST_MPM") == "prefork"
    with running(handler=source, listen=2, tls=[1], processes=4 if prefork else 1) as server:
        yield Kit(server, request.param)


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# ---- what goes well


def test_lines_go_to_and_fro(kit: Kit, version: str) -> None:
    with kit.secure(ECHO, version=version) as sock:
        assert sock.version() == version.replace("_", ".")
        for n in range(50):
            sock.sendall(b"line %d\n" % n)
            assert receive_exactly(sock, len(b"line %d\n" % n)) == b"line %d\n" % n


def test_what_the_connection_tells(kit: Kit) -> None:
    body = (
        "before = (conn.tls, conn.is_https(), conn.can_write_eof())\n"
        + START
        + "conn.write(repr((before, conn.tls.version(), conn.tls.cipher()[0], conn.is_https(),\n"
        "    conn.can_write_eof(), conn.tls.server_side, conn.ssl_var_lookup('SSL_PROTOCOL'))).encode())"
    )
    with kit.secure(body) as sock:
        cipher = sock.cipher()
        assert cipher
        wanted = ((None, 0, True), sock.version(), cipher[0], 1, False, True, None)
        assert receive_all(sock).decode() == repr(wanted)


def test_all_reading_methods(kit: Kit, version: str) -> None:
    body = (
        START
        + """
got = [await conn.peek(3), await conn.readline(), await conn.readexactly(3), await conn.readuntil(b"::"),
       await conn.read(2), await conn.read(-1), await conn.read()]
try:
    await conn.read()
except apache.ConnectionClosed as exc:
    got.append(str(exc))
conn.write(repr(got).encode())
"""
    )
    with kit.peer(body, version=version) as peer:
        peer.sendall(b"line\nabcuntil::xyrest of it")
        peer.end()
        end = "reading beyond the end of the connection's input"
        wanted = [b"lin", b"line\n", b"abc", b"until::", b"xy", b"rest of it", b"", end]
        assert peer.receive_all().decode() == repr(wanted)


def test_every_byte_in_a_segment_of_its_own(kit: Kit, version: str) -> None:
    """The handshake, and what follows it."""
    sock = kit.ready(ECHO)
    peer = Peer(sock, kit.client(version=version), shake=False)
    with peer:
        peer._push = lambda: bytewise(sock, peer._out.read())  # type: ignore[method-assign]
        peer.shake()
        peer.sendall(b"one\ntwo")
        peer.sendall(b"\n")
        peer.end()
        assert peer.receive_all() == b"one\ntwo\n"


def bytewise(sock: socket.socket, data: bytes) -> None:
    for n in range(len(data)):
        sock.sendall(data[n : n + 1])
        if n % 50 == 0:
            wait_read(sock)


def test_much_data_both_ways(kit: Kit, version: str) -> None:
    line = b"x" * 99_999 + b"\n"

    async def talk() -> None:
        sock = kit.ready(ECHO)
        sock.settimeout(0)
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=kit.client(version=version), server_hostname="localhost"
        )

        async def send() -> None:
            for _ in range(200):
                writer.write(line)
                await writer.drain()

        async with asyncio.timeout(60):
            sender = asyncio.create_task(send())
            for _ in range(200):
                assert await reader.readexactly(len(line)) == line
            await sender
        writer.close()

    asyncio.run(talk())


@pytest.mark.parametrize("size", [1, 16384, 65536, 65537, 1_000_000])
def test_a_write_of_any_size(kit: Kit, size: int) -> None:
    with kit.secure(START + f"conn.write(b'a')\nconn.write(b'b' * {size})\nconn.write(b'c')") as sock:
        assert receive_all(sock) == b"a" + b"b" * size + b"c"


def test_small_writes_share_a_record(kit: Kit) -> None:
    body = (
        START
        + "await conn.readline()\nfor n in range(100):\n    conn.write(b'piece')\n"
        + "await conn.flush()\nawait conn.readline()"
    )
    with Peer(kit.ready(body), kit.client(version="TLSv1_2")) as peer:
        peer.sendall(b"begin\n")
        raw = receive_exactly(peer.sock, 5)
        assert raw[0] == 23
        assert int.from_bytes(raw[3:5], "big") > 500
        peer.sendall(b"end\n")


def test_the_connection_may_begin_with_tls(kit: Kit) -> None:
    """A ClientHello that is in the buffer already is the handshake's."""
    body = "if (await conn.peek(1)) == b'\\x16':\n    await conn.start_tls(context(CERT, KEY))\nconn.write(b'hello')"
    with kit.client().wrap_socket(kit.open(body), server_hostname="localhost") as sock:
        assert receive_all(sock) == b"hello"
    with kit.open(body, b"x") as plain:
        assert receive_all(plain) == b"hello"


def test_client_certificates(kit: Kit, version: str) -> None:
    body = START.replace("KEY)", "KEY, clients=CERT)") + "conn.write(repr(conn.tls.getpeercert()['subject']).encode())"
    with kit.secure(body, version=version, certificate=True) as sock:
        assert b"localhost" in receive_all(sock)
    mark = kit.mark()
    with pytest.raises(ssl.SSLError), kit.secure(body, version=version) as sock:
        receive_all(sock)
    record = kit.wait_logged(mark, "the TLS handshake failed: peer did not return a certificate")
    assert record.level == "info"


def test_as_a_client(kit: Kit) -> None:
    body = """
made = ssl.create_default_context(cafile=CERT)
await conn.start_tls(made, server_side=False, server_hostname="localhost")
conn.write(await conn.readline())
"""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(kit.pair.certificate, kit.pair.key)
    with made.wrap_socket(kit.open(body), server_side=True) as sock:
        sock.sendall(b"turned round\n")
        assert receive_all(sock) == b"turned round\n"


def test_another_writes_meanwhile(kit: Kit) -> None:
    """A thread, or another task, writes while the handler waits for input."""
    if kit.is_async:
        body = START + (
            "async def tick():\n    for n in range(20):\n        conn.write(b'tick\\n')\n"
            "        await asyncio.sleep(0.001)\ntask = asyncio.create_task(tick())\n"
            "await conn.readline()\nawait task"
        )
    else:
        body = START + (
            "def tick():\n    for n in range(20):\n        conn.write(b'tick\\n')\n        time.sleep(0.001)\n"
            "thread = threading.Thread(target=tick)\nthread.start()\nconn.readline()\nthread.join()"
        )
    with kit.secure(body) as sock:
        assert receive_exactly(sock, 100) == b"tick\n" * 20
        sock.sendall(b"end\n")
        assert receive_all(sock) == b""


def test_several_threads_write_while_one_reads(kit: Kit, version: str) -> None:
    if kit.is_async:
        pytest.skip("a coroutine handler's connection is written to on its loop only")
    body = (
        START
        + """
def write(n):
    for k in range(500):
        conn.write(b"%d %d %s\\n" % (n, k, b"x" * (k * 7 % 3000)))
threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
for thread in threads:
    thread.start()
for line in conn:
    conn.write(b"9 " + line)
    if line == b"end\\n":
        break
for thread in threads:
    thread.join()
"""
    )
    with kit.secure(body, version=version) as sock:
        sock.sendall(b"".join(b"%d\n" % n for n in range(200)) + b"end\n")
        lines = receive_all(sock).split(b"\n")
    for n in range(4):
        wanted = [b"%d %d %s" % (n, k, b"x" * (k * 7 % 3000)) for k in range(500)]
        assert [line for line in lines if line.startswith(b"%d " % n)] == wanted
    assert [line for line in lines if line.startswith(b"9 ")] == [b"9 %d" % n for n in range(200)] + [b"9 end"]


def test_a_peer_that_does_not_read(kit: Kit) -> None:
    """What is unsent is bounded, and the handler learns of it."""
    if kit.is_async:
        body = """
most = 0
try:
    async with asyncio.timeout(0.5):
        while True:
            conn.write(b"x" * 65536)
            await conn.drain()
            most = max(most, conn.unsent_bytes)
except TimeoutError:
    result = ("TimeoutError", max(most, conn.unsent_bytes) <= 3 * 65536)
"""
    else:
        body = """
conn.write_timeout = 0.5
try:
    while True:
        conn.write(b"x" * 65536)
except TimeoutError as exc:
    result = (type(exc).__name__, True)
"""
    body += """
with open(KEPT + "-unread.part", "w") as file:
    file.write(repr(result))
os.rename(KEPT + "-unread.part", KEPT + "-unread")
"""
    with kit.secure(START + body):
        name, bounded = ast.literal_eval(kit.wait_kept("unread"))
        assert name in ("TimeoutError", "ConnectionTimeout")
        assert bounded


def test_close_sends_close_notify(kit: Kit, version: str) -> None:
    with kit.peer(START + "conn.write(b'bye')\nconn.close()\nconn.close()", version=version) as peer:
        assert peer.receive_all() == b"bye"


# ---- ends


@pytest.mark.parametrize("notified", [True, False], ids=["close_notify", "none"])
@pytest.mark.parametrize("strict", [True, False])
def test_the_end_of_the_stream(kit: Kit, notified: bool, strict: bool, version: str) -> None:
    body = START.replace("KEY))", f"KEY), suppress_ragged_eofs={not strict})") + KEEP
    with kit.peer(body, version=version) as peer:
        peer.sendall(b"one\nhalf")
        if notified:
            peer.end()
        peer.sock.shutdown(socket.SHUT_WR)
        kept = kit.wait_kept("end")
    if notified or not strict:
        assert kept == "[b'one\\n', b'half', b'']"
    else:
        assert "TLSError" in kept
        assert "without close_notify" in kept


#: Reads lines to the end, and keeps them, or what went wrong.
KEEP = """
got = []
try:
    while not got or got[-1]:
        got.append(await conn.readline())
except OSError as exc:
    got.append(exc)
with open(KEPT + "-end.part", "w") as file:
    file.write(repr(got))
os.rename(KEPT + "-end.part", KEPT + "-end")
"""


def test_a_reset(kit: Kit) -> None:
    sock = kit.secure(START + KEEP)
    sock.sendall(b"one\n")
    reset(sock)
    assert "ConnectionClosed" in kit.wait_kept("end")


def test_a_broken_record(kit: Kit, version: str) -> None:
    with kit.peer(START + KEEP, version=version) as peer:
        peer.sendall(b"one\n")
        peer.sock.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        kept = kit.wait_kept("end")
        assert kept.startswith("[b'one\\n', TLSError(")


def test_declining_is_too_late(kit: Kit) -> None:
    kit.server.allow("after conn.start_tls|takes no connection back")
    mark = kit.mark()
    with kit.secure(START + "return apache.DECLINED") as sock:
        assert receive_all(sock) == b""
    kit.wait_logged(mark, "ValueError")


def test_nothing_is_kept_of_a_connection(kit: Kit) -> None:
    """Neither objects of a connection nor its memory stay."""
    count = "gc.collect()\nconn.write(str(sum(isinstance(each, ssl.SSLObject) for each in gc.get_objects())).encode())"
    for _ in range(5):
        with kit.secure(ECHO) as sock:
            sock.sendall(b"line\n")
            assert receive_exactly(sock, 5) == b"line\n"

    def none() -> bool:
        with kit.open(count) as sock:
            return receive_all(sock) == b"0"

    kit.server.wait_until(none, 30, "no SSLObject is left")


# ---- handshakes that fail


#: Keeps what start_tls() raises, and what a write does afterwards.
FAIL = """
got = []
conn.read_timeout = 0.3 if HASTY else 30
conn.write(b"ready\\n")
try:
    await conn.start_tls(context(CERT, KEY))
except OSError as exc:
    got.append((type(exc).__name__, str(exc)))
try:
    conn.write(b"secret")
except OSError as exc:
    got.append((type(exc).__name__, str(exc), conn.closed))
with open(KEPT + "-fail.part", "w") as file:
    file.write(repr(got))
os.rename(KEPT + "-fail.part", KEPT + "-fail")
"""
CLOSED = ("ConnectionClosed", "cannot write: this connection was closed", True)


def failure(kit: Kit) -> tuple[str, str]:
    """Return what start_tls() raised, once the handler is over; and look at what write() said."""
    (name, text), second = ast.literal_eval(kit.wait_kept("fail"))
    assert second == CLOSED
    return name, text


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.0\r\n\r\n", b"\0" * 100, b"\x16\x03\x01\xff\xff" + b"a" * 70000])
def test_garbage_for_a_handshake(kit: Kit, garbage: bytes) -> None:
    with kit.ready(FAIL.replace("HASTY", "False")) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(garbage)
        name, text = failure(kit)
        assert name == "TLSError"
        assert text.startswith("the TLS handshake failed: ")
        with contextlib.suppress(ConnectionError):
            assert b"secret" not in receive_all(sock)


@pytest.mark.parametrize("part", [0, 1, 100])
def test_a_handshake_that_hangs(kit: Kit, part: int) -> None:
    with kit.ready(FAIL.replace("HASTY", "True")) as sock:
        sock.sendall(Peer(sock, kit.client(), shake=False).hello()[:part])
        assert failure(kit)[0] == "ConnectionTimeout"
        assert receive_all(sock) == b""


@pytest.mark.parametrize("part", [0, 1, 100])
@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_peer_that_leaves_in_the_handshake(kit: Kit, part: int, how: str) -> None:
    sock = kit.ready(FAIL.replace("HASTY", "False"))
    sock.sendall(Peer(sock, kit.client(), shake=False).hello()[:part])
    wait_read(sock)
    if how == "reset":
        reset(sock)
    else:
        sock.close()
    name, text = failure(kit)
    assert name == "TLSError" if how == "end" else name in ("ConnectionClosed", "TLSError")
    assert "closed the connection" in text or "has gone" in text


def test_bytes_before_the_handshake_are_refused(kit: Kit) -> None:
    with kit.open(FAIL.replace("HASTY", "False"), b"RCPT TO:<injected>\r\n") as sock:
        name, text = failure(kit)
        assert (name, text) == ("TLSError", "no TLS: 20 bytes came after the request for TLS and before its handshake")
        with contextlib.suppress(ConnectionError):
            assert receive_all(sock) in (b"ready\n", b"")


def test_bytes_before_the_handshake_can_be_dropped(kit: Kit) -> None:
    sock = kit.open(ECHO.replace("KEY))", "KEY), discard=True)"), b"RCPT TO:<injected>\r\n")
    assert receive_exactly(sock, 6) == b"ready\n"
    with kit.client().wrap_socket(sock, server_hostname="localhost") as secure:
        secure.sendall(b"mine\n")
        assert receive_exactly(secure, 5) == b"mine\n"


def test_what_cannot_be(kit: Kit) -> None:
    body = """
async def attempt(*args, **more):
    try:
        await conn.start_tls(*args, **more)
    except Exception as exc:
        return (type(exc).__name__, str(exc))
got = [await attempt(None), await attempt(ssl.create_default_context())]
got += [await attempt(context(CERT, KEY), server_side=False)]
conn.write(repr(got[0]).encode() + b"\\n" + b"ready\\n")
await conn.start_tls(context(CERT, KEY))
got += [await attempt(context(CERT, KEY))]
try:
    await conn.write_eof()
except OSError as exc:
    got.append(str(exc))
conn.write(repr(got).encode())
"""
    with kit.open(body) as sock:
        assert b"TypeError" in receive_exactly(sock, 69)[:20]
        while receive_exactly(sock, 1) != b"\n":
            pass
        with kit.client().wrap_socket(sock, server_hostname="localhost") as secure:
            got = ast.literal_eval(receive_all(secure).decode())
    assert got[0] == ("TypeError", "start_tls() takes an ssl.SSLContext, not NoneType")
    assert "Error" in got[1][0]
    assert "Error" in got[2][0]
    assert got[3] == ("RuntimeError", "this connection uses TLS already")
    assert got[4] == "a TLS connection cannot be closed in one direction"


def test_not_over_mod_ssl(kit: Kit) -> None:
    body = """
try:
    await conn.start_tls(context(CERT, KEY))
except RuntimeError as exc:
    conn.write(str(exc).encode())
"""
    with kit.open(body, port=1) as sock:
        assert receive_all(sock) == b"this connection uses TLS already, by mod_ssl (SSLEngine)"


def test_a_callback_of_ssl_must_not_use_the_connection(kit: Kit) -> None:
    body = """
conn.write(b"ready\\n")
made = context(CERT, KEY)
said = []
def name(*args):
    try:
        conn.flush() if not ASYNC else conn.start_tls(made)
    except RuntimeError as exc:
        said.append(str(exc))
made.sni_callback = name
await conn.start_tls(made)
conn.write(repr(said).encode())
""".replace("ASYNC", str(kit.is_async))
    with kit.secure(body) as sock:
        assert b"TLS already" in receive_all(sock) if kit.is_async else b"cannot flush" in receive_all(sock)


# ---- real clients

SMTP = """
async def line(text):
    conn.write(text.encode() + b"\\r\\n")
await line("220 mini")
got = []
while True:
    command = (await conn.readline()).decode().strip()
    verb = command.split()[0].upper() if command else ""
    if verb == "EHLO":
        await line("250-mini")
        await line("250 " + ("8BITMIME" if conn.tls else "STARTTLS"))
    elif verb == "STARTTLS":
        await line("220 go ahead")
        await conn.start_tls(context(CERT, KEY))
    elif verb == "DATA":
        await line("354 end with a dot")
        got.append(await conn.readuntil(b"\\r\\n.\\r\\n"))
        await line("250 " + str(len(got[-1])) + " bytes over " + str(conn.tls and conn.tls.version()))
    elif verb == "QUIT":
        await line("221 bye")
        break
    else:
        await line("250 ok")
"""


def test_smtplib(kit: Kit) -> None:
    class Client(smtplib.SMTP):
        def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
            return kit.open(SMTP)

    with Client("localhost", 1, timeout=30) as client:
        client.starttls(context=kit.client())
        client.ehlo()
        assert "8bitmime" in client.esmtp_features
        assert client.mail("a@example.org")[0] == 250
        assert client.rcpt("b@example.org")[0] == 250
        code, text = client.data(b"Subject: x\r\n\r\n" + b"text\r\n" * 10000)
        assert code == 250
        assert text.endswith(b"over TLSv1.3")


def test_openssl_s_client(kit: Kit) -> None:
    """The client speaks SMTP from its first byte, so a relay sends the handler ahead."""
    openssl = needs.program("openssl")
    with socket.create_server(("127.0.0.1", 0)) as relay:
        threading.Thread(target=relay_one, args=(relay, lambda: kit.open(SMTP)), daemon=True).start()
        port = relay.getsockname()[1]
        done = subprocess.run(
            [
                openssl,
                "s_client",
                "-starttls",
                "smtp",
                "-connect",
                f"127.0.0.1:{port}",
                "-quiet",
                "-crlf",
                "-CAfile",
                str(kit.pair.certificate),
                "-verify_return_error",
            ],
            input=b"NOOP\nQUIT\n",
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert b"250 ok\r\n221 bye\r\n" in done.stdout, done.stderr


def relay_one(listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
    client, _ = listener.accept()
    server = connect()

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    other = threading.Thread(target=copy, args=(client, server), daemon=True)
    other.start()
    copy(server, client)
    other.join(30)
    client.close()
    server.close()
