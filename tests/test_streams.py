"""conn.streams() and conn.run_protocol(): asyncio's own forms over a connection of a coroutine handler.

The first line of a connection carries its handler, as in `tests.test_start_tls`.
"""

from __future__ import annotations

import ast
import os
import random
import smtplib
import socket
import ssl
import textwrap
import threading
from collections.abc import Iterator

import pytest

from mod_python.httpd.tls import make_self_signed
from mod_python.testing import Server
from tests import needs
from tests.scripted import receive_all, receive_exactly, reset
from tests.servers import running

HANDLER = """
import asyncio, gc, os, ssl
from mod_python import apache

def keep(path, value):
    with open(path + ".part", "w") as file:
        file.write(repr(value))
    os.rename(path + ".part", path)

def context(cert, key):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(cert, key)
    return made

class Recorder(asyncio.Protocol):
    def __init__(self, path=None):
        self.calls = []
        self.path = path
    def connection_made(self, transport):
        self.transport = transport
        self.calls.append("made")
    def data_received(self, data):
        self.calls.append(bytes(data))
    def eof_received(self):
        self.calls.append("eof")
    def pause_writing(self):
        self.calls.append("pause")
    def resume_writing(self):
        self.calls.append("resume")
    def connection_lost(self, exc):
        self.calls.append(("lost", exc and type(exc).__name__))
        if self.path:
            keep(self.path, self.calls)

class Echo(Recorder):
    def data_received(self, data):
        self.transport.write(data)

async def connectionhandler(conn):
    source = bytes.fromhex((await conn.readline()).decode()).decode()
    scope = dict(globals())
    exec(compile(source, "<test>", "exec"), scope)
    return await scope["handler"](conn)
"""


class Kit:
    """A server and what tests do with it."""

    def __init__(self, server: Server, loop: str) -> None:
        self.server = server
        self.loop = loop
        self.pair = make_self_signed(server.site)
        self.pair.key.chmod(0o644)
        self.kept = server.site / "kept"
        self.kept.mkdir()
        self.kept.chmod(0o777)

    def open(self, body: str, data: bytes = b"", *, port: int = 0) -> socket.socket:
        """Connect; the handler's body is given."""
        source = "async def handler(conn):\n" + textwrap.indent(textwrap.dedent(body), "    ")
        source = source.replace("CERT", repr(str(self.pair.certificate))).replace("KEY", repr(str(self.pair.key)))
        source = source.replace("KEPT", repr(str(self.kept / "calls")))
        sock = self.server.connect(port)
        sock.sendall((source + "\n    return apache.OK\n").encode().hex().encode() + b"\n" + data)
        return sock

    def context(self) -> ssl.SSLContext:
        """Return a context for a client that trusts the server."""
        return ssl.create_default_context(cafile=str(self.pair.certificate))

    def calls(self) -> list[object]:
        """Return what a Recorder recorded, once its connection is lost."""
        path = self.kept / "calls"
        self.server.wait_until(path.exists, 30, "connection_lost()")
        text = path.read_text()
        path.unlink()
        found: list[object] = ast.literal_eval(text)
        return found


@pytest.fixture(scope="module", params=["uvloop", "asyncio"])
def kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    if request.param == "uvloop":
        needs.package("uvloop")
    prefork = os.environ.get("MOD_PYTHON_TEST_MPM") == "prefork"
    with running(
        handler=HANDLER,
        listen=2,
        tls=[1],
        processes=4 if prefork else 1,
        options={"mod_python.async.loop": request.param},
    ) as server:
        server.allow("on purpose")
        yield Kit(server, request.param)


@pytest.fixture(params=[0, 1], ids=["plain", "tls"])
def port(request: pytest.FixtureRequest) -> int:
    return int(request.param)


# ---- streams

LINES = """
reader, writer = conn.streams()
while line := await reader.readline():
    writer.write(line.upper())
    await writer.drain()
writer.close()
await writer.wait_closed()
"""


def test_a_reader_and_a_writer(kit: Kit, port: int) -> None:
    with kit.open(LINES, port=port) as sock:
        for n in range(100):
            sock.sendall(b"line %d\n" % n)
            assert receive_exactly(sock, len(b"line %d\n" % n)) == b"LINE %d\n" % n


def test_a_half_close(kit: Kit) -> None:
    with kit.open(LINES, b"one\ntwo") as sock:
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == b"ONE\nTWO"


def test_what_was_read_ahead_is_the_readers(kit: Kit) -> None:
    body = (
        "first = await conn.readline()\nreader, writer = conn.streams()\nwriter.write(first + await reader.readline())"
    )
    with kit.open(body, b"one\ntwo\n") as sock:
        assert receive_all(sock) == b"one\ntwo\n"


def test_what_was_written_is_sent_though_the_handler_does_not_wait(kit: Kit, port: int) -> None:
    with kit.open("conn.write(b'x')\nreader, writer = conn.streams()\nwriter.write(b'y' * 3000000)", port=port) as sock:
        assert receive_all(sock) == b"x" + b"y" * 3000000


def test_streams_over_start_tls(kit: Kit) -> None:
    body = """
    conn.write(b"ready\\n")
    await conn.start_tls(context(CERT, KEY))
    reader, writer = conn.streams()
    writer.write(await reader.readexactly(1000000))
    writer.write(repr([writer.get_extra_info(name) for name in ("peername", "socket", "cipher")]).encode())
    await writer.drain()
    """
    sock = kit.open(body)
    assert receive_exactly(sock, 6) == b"ready\n"
    with kit.context().wrap_socket(sock, server_hostname="localhost") as secure:
        secure.sendall(b"z" * 1000000)
        assert receive_exactly(secure, 1000000) == b"z" * 1000000
        peer, none, cipher = ast.literal_eval(receive_all(secure).decode())
        assert (peer, none) == (secure.getsockname(), None)
        assert cipher == secure.cipher()


def test_the_reader_bounds_what_is_read_ahead(kit: Kit) -> None:
    """A client that sends more than anybody reads is slowed down."""
    body = """
    reader, writer = conn.streams(limit=1000)
    while len(reader._buffer) <= 2000:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    writer.write(str(len(reader._buffer)).encode() + b"\\n")
    total = 0
    while data := await reader.read(100000):
        total += len(data)
    writer.write(str(total).encode())
    """
    with kit.open(body) as sock:

        def send() -> None:
            sock.sendall(b"x" * 20_000_000)
            sock.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        first, total = receive_all(sock).split(b"\n")
        sender.join()
        assert int(first) <= 200_000
        assert total == b"20000000"


def test_a_reset(kit: Kit) -> None:
    body = """
    reader, writer = conn.streams()
    writer.write(b"ready\\n")
    try:
        while True:
            await reader.readexactly(1)
    except (OSError, asyncio.IncompleteReadError) as exc:
        keep(KEPT, [type(exc).__name__])
    """
    sock = kit.open(body)
    assert receive_exactly(sock, 6) == b"ready\n"
    reset(sock)
    assert kit.calls()[0] in ("ConnectionClosed", "IncompleteReadError")


def test_only_once(kit: Kit) -> None:
    body = """
    conn.streams()
    try:
        conn.streams()
    except RuntimeError as exc:
        conn.write(str(exc).encode())
    """
    with kit.open(body) as sock:
        assert receive_all(sock) == b"this connection has streams or a protocol already"


# ---- protocols


def test_the_calls_of_a_protocol(kit: Kit) -> None:
    with kit.open("made = await conn.run_protocol(lambda: Recorder(KEPT))\nassert made.calls[0] == 'made'") as sock:
        sock.sendall(b"data")
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == b""
    assert kit.calls() == ["made", b"data", "eof", ("lost", None)]


def test_an_echo(kit: Kit, port: int) -> None:
    data = random.Random(6).randbytes(5_000_000)
    with kit.open("await conn.run_protocol(Echo)", port=port) as sock:
        if port:
            for start in range(0, len(data), 10000):
                sock.sendall(data[start : start + 10000])
                assert receive_exactly(sock, 10000) == data[start : start + 10000]
            return
        sender = threading.Thread(target=sock.sendall, args=(data,))
        sender.start()
        assert receive_exactly(sock, len(data)) == data
        sender.join()


def test_a_buffered_protocol(kit: Kit) -> None:
    body = """
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self):
            self.buffer = bytearray(7)
        def connection_made(self, transport):
            self.transport = transport
        def get_buffer(self, hint):
            return self.buffer
        def buffer_updated(self, count):
            self.transport.write(bytes(self.buffer[:count]))
        def eof_received(self):
            self.transport.write(b" end")
    await conn.run_protocol(Buffered)
    """
    with kit.open(body, b"twelve bytes") as sock:
        sock.sendall(b" and more")
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == b"twelve bytes and more end"


def test_writing_is_paused_and_resumed(kit: Kit) -> None:
    body = """
    class Sender(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.set_write_buffer_limits(high=50000)
            for n in range(200):
                transport.write(b"x" * 100000)
        def pause_writing(self):
            super().pause_writing()
            keep(KEPT, self.calls)
        def resume_writing(self):
            super().resume_writing()
            self.calls.append(self.transport.get_write_buffer_size() <= 12500)
            self.transport.close()
    await conn.run_protocol(lambda: Sender(KEPT))
    """
    with kit.open(body) as sock:
        assert kit.calls() == ["made", "pause"]
        assert len(receive_all(sock)) == 20_000_000
    assert kit.calls() == ["made", "pause", "resume", True, ("lost", None)]


def test_reading_is_paused_and_resumed(kit: Kit) -> None:
    body = """
    class Slow(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(0.05, self.on, len(self.calls))
        def on(self, count):
            self.calls.append((len(self.calls) == count, self.transport.is_reading()))
            self.transport.write(b"go on\\n")
            self.transport.resume_reading()
    await conn.run_protocol(lambda: Slow(KEPT))
    """
    with kit.open(body) as sock:
        sock.sendall(b"one")
        assert receive_exactly(sock, 6) == b"go on\n"
        sock.sendall(b"two")
        assert receive_exactly(sock, 6) == b"go on\n"
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == b""
    assert kit.calls() == ["made", b"one", (True, False), b"two", (True, False), "eof", ("lost", None)]


def test_what_the_transport_tells(kit: Kit, port: int) -> None:
    body = """
    class Teller(Recorder):
        def connection_made(self, transport):
            names = ("peername", "sockname", "socket", "ssl_object", "cipher", "nonsense")
            found = [transport.get_extra_info(name) for name in names]
            found += [transport.get_extra_info("connection") is conn, transport.get_extra_info("nonsense", 5),
                      transport.can_write_eof(), transport.is_closing(), transport.get_protocol() is self]
            transport.write(repr(found).encode())
            transport.close()
            found = transport.is_closing()
            transport.write(b"not sent")
    await conn.run_protocol(Teller)
    """
    with kit.open(body, port=port) as sock:
        own, peer = sock.getsockname(), sock.getpeername()
        wanted = [own, peer, None, None, None, None, True, 5, not port, False, True]
        assert ast.literal_eval(receive_all(sock).decode()) == wanted


def test_write_eof_leaves_reading(kit: Kit) -> None:
    body = """
    class Half(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"all")
            transport.write_eof()
    await conn.run_protocol(lambda: Half(KEPT))
    """
    with kit.open(body) as sock:
        assert receive_all(sock) == b"all"
        sock.sendall(b"answer")
        sock.shutdown(socket.SHUT_WR)
    assert kit.calls() == ["made", b"answer", "eof", ("lost", None)]


def test_abort_sends_no_more(kit: Kit) -> None:
    body = """
    class Aborter(Recorder):
        def data_received(self, data):
            self.transport.write(b"x" * 50_000_000)
            self.transport.abort()
    await conn.run_protocol(lambda: Aborter(KEPT))
    """
    with kit.open(body) as sock:
        sock.sendall(b"now")
        # Nothing is read meanwhile, so no more than the system's buffers hold is sent.
        assert kit.calls()[-1] == ("lost", None)
        size = 0
        try:
            while data := sock.recv(1 << 20):
                size += len(data)
        except ConnectionError:
            pass
        assert size < 50_000_000


@pytest.mark.parametrize("method", ["connection_made", "data_received", "eof_received"])
def test_a_protocol_that_raises(kit: Kit, method: str) -> None:
    body = f"""
    class Raiser(Recorder):
        def {method}(self, *args):
            raise OSError("on purpose, {method}")
    await conn.run_protocol(lambda: Raiser(KEPT))
    """
    with kit.open(body, b"data") as sock:
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == b""
    kit.server.wait_for_log(f"OSError: on purpose, {method}")
    if method != "connection_made":
        assert kit.calls()[-1] == ("lost", "OSError")
    else:
        kit.calls()


def test_a_peer_that_leaves(kit: Kit) -> None:
    sock = kit.open("conn.write(b'ready\\n')\nawait conn.run_protocol(lambda: Recorder(KEPT))")
    assert receive_exactly(sock, 6) == b"ready\n"
    reset(sock)
    calls = kit.calls()
    assert calls[0] == "made"
    assert calls[-1] in (("lost", "ConnectionClosed"), ("lost", None))


def test_a_handler_that_is_cancelled(kit: Kit) -> None:
    body = """
    class Cancelled(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            limit.reschedule(asyncio.get_running_loop().time())
    try:
        async with asyncio.timeout(None) as limit:
            await conn.run_protocol(lambda: Cancelled(KEPT))
    except TimeoutError:
        conn.write(b"late")
    """
    with kit.open(body) as sock:
        assert receive_all(sock) == b"late"
    assert kit.calls() == ["made", ("lost", None)]


def test_nothing_is_left(kit: Kit) -> None:
    for body in (LINES, "await conn.run_protocol(Echo)"):
        for _ in range(5):
            with kit.open(body, b"line\n") as sock:
                assert receive_exactly(sock, 5).lower() == b"line\n"
    body = """
    from mod_python._async.transport import ConnectionTransport
    gc.collect()
    tasks = [task for task in asyncio.all_tasks() if "Connection" in repr(task.get_coro())]
    conn.write(repr((sum(isinstance(each, ConnectionTransport) for each in gc.get_objects()), tasks)).encode())
    """

    def none() -> bool:
        with kit.open(body) as sock:
            return receive_all(sock) == b"(0, [])"

    kit.server.wait_until(none, 30, "no transport and no task is left")


# ---- a protocol of the wide world

AIOSMTPD = """
from aiosmtpd.smtp import SMTP
class Sink:
    async def handle_DATA(self, server, session, envelope):
        return "250 %d bytes for %s, %s" % (len(envelope.content), envelope.rcpt_tos, session.ssl is not None)
options = {"tls_context": context(CERT, KEY)} if TLS else {}
await conn.run_protocol(lambda: SMTP(Sink(), hostname="mini", loop=asyncio.get_running_loop(), **options))
"""


@pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "starttls"])
def test_aiosmtpd(kit: Kit, with_tls: bool) -> None:
    needs.package("aiosmtpd")

    class Client(smtplib.SMTP):
        def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
            return kit.open(AIOSMTPD.replace("TLS)", "TLS)").replace("if TLS", f"if {with_tls}"))

    with Client("localhost", 1, timeout=30) as client:
        if with_tls:
            client.starttls(context=kit.context())
        client.ehlo()
        assert client.mail("a@example.org")[0] == 250
        assert client.rcpt("b@example.org")[0] == 250
        code, text = client.data(b"Subject: x\r\n\r\n" + b"text\r\n" * 10000)
        assert (code, text) == (250, b"60014 bytes for ['b@example.org'], %s" % str(with_tls).encode())


def test_the_writer_does_not_begin_tls(kit: Kit) -> None:
    """The reader may hold text that came before: it must not count as said inside TLS."""
    body = """
    reader, writer = conn.streams()
    await reader.readline()
    try:
        await writer.start_tls(context(CERT, KEY))
    except RuntimeError as error:
        writer.write(str(error).encode())
    """
    sock = kit.open(body)
    sock.sendall(b"STARTTLS\nINJECTED\n")
    assert receive_all(sock).endswith(b"call await conn.start_tls(context) before conn.streams()")


def test_asyncios_tls_over_the_transport(kit: Kit) -> None:
    """loop.start_tls() of asyncio's loop; uvloop's takes its own transports only."""
    if kit.loop == "uvloop":
        pytest.skip("uvloop's start_tls() takes its own transports only")
    body = """
    class Starter(Recorder):
        def data_received(self, data):
            self.transport.pause_reading()
            self.transport.write(b"ready\\n")
            asyncio.create_task(self.start())
        async def start(self):
            self.calls.append("tls")
            echo = Echo()
            loop = asyncio.get_running_loop()
            echo.transport = await loop.start_tls(self.transport, echo, context(CERT, KEY), server_side=True)
            echo.transport.write(b"hello")
    await conn.run_protocol(Starter)
    """
    sock = kit.open(body)
    sock.sendall(b"STARTTLS\n")
    assert receive_exactly(sock, 6) == b"ready\n"
    with kit.context().wrap_socket(sock, server_hostname="localhost") as secure:
        assert receive_exactly(secure, 5) == b"hello"
        secure.sendall(b"inside")
        assert receive_exactly(secure, 6) == b"inside"
