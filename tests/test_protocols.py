"""The examples of the manual's chapter on protocols, each with a client of somebody else's making."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import smtplib
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mod_python.httpd.tls import make_self_signed
from mod_python.testing import Server
from tests import needs
from tests.chat import Member
from tests.conftest import ROOT
from tests.scripted import receive_all, receive_exactly, running

with contextlib.suppress(ModuleNotFoundError):  # the tests of WebSocket are skipped
    from websockets.asyncio.client import ClientConnection
    from websockets.asyncio.client import connect as websocket
    from websockets.exceptions import ConnectionClosed, ConnectionClosedError, ConnectionClosedOK

EXAMPLES = ROOT / "examples"
PREFORK = os.environ.get("MOD_PYTHON_TEST_MPM") == "prefork"

#: Those who meet must be in one process.
one_process = pytest.mark.skipif(PREFORK, reason="clients that are to meet need one process")

#: Seconds; nothing here takes so long.
TIMEOUT = 60.0

BOTH = ["ordinary", "coroutine"]


def sized(clients: int = 4) -> dict[str, Any]:
    """Arguments for a server that this many clients can talk to at a time."""
    return {"processes": clients} if PREFORK else {"processes": 1, "threads": clients + 8}


@contextlib.contextmanager
def serving(file: str, clients: int = 4, **arguments: Any) -> Iterator[Server]:
    """Run an example: plain on the first port, TLS on the second."""
    with running(handler_file=EXAMPLES / file, listen=2, tls=[1], **sized(clients), **arguments) as server:
        yield server


# ---- echo


@pytest.mark.parametrize("tls", [0, 1], ids=["plain", "tls"])
def test_echo(tls: int) -> None:
    with serving("echo/echo_async.py") as server, server.connect(tls) as client:
        for line in (b"hi\n", b"\n", b"x" * 300_000 + b"\n"):
            client.sendall(line)
            assert receive_exactly(client, len(line)) == line


# ---- chat


@one_process
class TestChat:
    def test_what_one_says_all_others_read(self) -> None:
        with serving("linechat/linechat_async.py") as server:
            ada = Member(server, b"Ada")
            bob = Member(server, b"Bob", port=1)
            assert ada.hear() == b"Bob is here\n"
            eve = Member(server, b"Eve")
            assert ada.hear() == bob.hear() == b"Eve is here\n"
            ada.say(b"hello")
            assert bob.hear() == eve.hear() == b"Ada: hello\n"
            bob.say(b"welcome")
            assert ada.hear() == b"Bob: welcome\n"
            bob.leave()
            assert ada.hear() == b"Bob has left\n"
            with server.connect() as nobody:
                nobody.sendall(b"\n")
                assert receive_all(nobody) == b"Your name? "
            ada.leave()
            eve.leave()

    def test_a_graceful_restart_is_told(self) -> None:
        with serving("linechat/linechat_async.py") as server:
            ada = Member(server, b"Ada")
            bob = Member(server, b"Bob")
            assert ada.hear() == b"Bob is here\n"
            server.graceful()
            assert b"The server restarts\n" in ada.lines.read()
            assert b"The server restarts\n" in bob.lines.read()
            ada = Member(server, b"Ada")
            bob = Member(server, b"Bob")
            assert ada.hear() == b"Bob is here\n"
            ada.leave()
            bob.leave()


# ---- proxy


@contextlib.contextmanager
def upstream(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """A server that the proxy leads to; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

        def one(client: socket.socket) -> None:
            with client, contextlib.suppress(OSError):
                client.settimeout(TIMEOUT)
                serve(client)

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def _echo(client: socket.socket) -> None:
    while data := client.recv(65536):
        client.sendall(data)


def _sum_up(client: socket.socket) -> None:
    """Answer only once the client has ended: that needs half-close."""
    client.sendall(b"%d bytes\n" % len(receive_all(client)))


@contextlib.contextmanager
def proxy(port: int) -> Iterator[Server]:
    with serving("proxy/proxy.py", options={"proxy.to": f"127.0.0.1:{port}"}) as server:
        yield server


class TestProxy:
    @pytest.mark.parametrize("tls", [0, 1], ids=["plain", "tls"])
    def test_both_directions_at_once(self, tls: int) -> None:
        data = random.Random(8).randbytes(1 << 20) * 8
        with upstream(_echo) as port, proxy(port) as server, server.connect(tls) as client:
            client.sendall(b"first")
            assert receive_exactly(client, 5) == b"first"
            # A TLS socket of Python is not for two threads at once.
            if tls:
                for at in range(0, len(data), 65536):
                    client.sendall(data[at : at + 65536])
                    assert receive_exactly(client, 65536) == data[at : at + 65536]
                return
            sender = threading.Thread(target=client.sendall, args=(data,))
            sender.start()
            assert receive_exactly(client, len(data)) == data
            sender.join()
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client) == b""

    def test_half_close_goes_through(self) -> None:
        with upstream(_sum_up) as port, proxy(port) as server, server.connect() as client:
            client.sendall(b"x" * 100_000)
            client.shutdown(socket.SHUT_WR)
            assert receive_all(client) == b"100000 bytes\n"

    @pytest.mark.parametrize("tls", [0, 1], ids=["plain", "tls"])
    def test_the_other_end_closes_first(self, tls: int) -> None:
        with (
            upstream(lambda client: client.sendall(b"go away\n")) as port,
            proxy(port) as server,
            server.connect(tls) as client,
        ):
            assert client.makefile("rb").read() == b"go away\n"

    def test_a_server_that_is_not_there(self) -> None:
        # Bound, so that it is nobody else's, but nobody listens.
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            with proxy(port) as server, server.connect() as client:
                assert receive_all(client) == b""
                server.wait_for_log(f"cannot connect to 127.0.0.1:{port}")


# ---- RESP

RESP_FILES = dict(zip(BOTH, ("resp/kv.py", "resp/kv_async.py"), strict=True))


@pytest.fixture(scope="module", params=BOTH)
def store(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The key-value server of either kind."""
    with serving(RESP_FILES[request.param], 52) as server:
        yield server


def redis(server: Server, program: str, *arguments: str) -> str:
    command = [needs.program(program), "-h", server.host, "-p", str(server.port), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    assert done.stderr == ""
    return done.stdout.rstrip("\n")


class TestResp:
    def test_redis_cli(self, store: Server) -> None:
        assert redis(store, "redis-cli", "PING") == "PONG"
        assert redis(store, "redis-cli", "ping", "you") == "you"
        script = (
            "SET a 1\nGET a\nINCR a\nEXISTS a b a\nDEL a b\nGET a\nINCR a\nSET a x\nINCR a\nNONSENSE\nGET\nCOMMAND\n"
        )
        done = subprocess.run(
            [needs.program("redis-cli"), "-h", store.host, "-p", str(store.port)],
            input=script.replace(",", "\n"),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=True,
        )
        assert done.stdout.splitlines() == [
            *("OK", "1", "2", "2", "1", "", "1", "OK"),
            *("ERR value is not an integer or out of range", ""),
            *("ERR unknown command 'NONSENSE'", ""),
            *("ERR wrong number of arguments for 'get' command", ""),
            "",
        ]

    def test_any_bytes(self, store: Server) -> None:
        value = bytes(range(256)) * 2000
        with store.connect() as client:
            client.sendall(b"*3\r\n$3\r\nSET\r\n$3\r\nk\r\n\r\n$%d\r\n%b\r\n" % (len(value), value))
            assert receive_exactly(client, 5) == b"+OK\r\n"
            client.sendall(b"*2\r\n$3\r\nGET\r\n$3\r\nk\r\n\r\n")
            answer = b"$%d\r\n%b\r\n" % (len(value), value)
            assert receive_exactly(client, len(answer)) == answer

    def test_one_byte_after_the_other(self, store: Server) -> None:
        with store.connect() as client:
            for byte in b"*2\r\n$4\r\nPING\r\n$2\r\nhi\r\nPING\r\n":
                client.sendall(bytes([byte]))
            assert receive_exactly(client, 15) == b"$2\r\nhi\r\n+PONG\r\n"

    @pytest.mark.parametrize(
        ("data", "answer"),
        [
            (b"*x\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
            (b"*99999999\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
            (b"PING\r\n*1\r\n:4\r\n", b"+PONG\r\n-ERR Protocol error: expected '$', got ':'\r\n"),
            (b"*1\r\n$-1\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
            (b"*1\r\n$9999999999\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
            (b"*1\r\n$4\r\nPINGS\r\n", b"-ERR Protocol error: invalid end of a bulk string\r\n"),
            (b"x" * 70_000, b"-ERR Protocol error: too big inline request\r\n"),
        ],
    )
    def test_what_is_no_resp(self, store: Server, data: bytes, answer: bytes) -> None:
        with store.connect() as client:
            client.sendall(data)
            assert receive_all(client) == answer

    @pytest.mark.skipif(PREFORK, reason="each process of prefork has a store of its own")
    @pytest.mark.parametrize("pipeline", [1, 16])
    def test_redis_benchmark(self, store: Server, pipeline: int) -> None:
        options = ["-t", "ping,set,get", "-P", str(pipeline), "-c", "50", "-n", "5000", "--csv"]
        lines = redis(store, "redis-benchmark", *options).splitlines()
        assert [line.partition(",")[0] for line in lines[1:]] == ['"PING_INLINE"', '"PING_MBULK"', '"SET"', '"GET"']
        assert redis(store, "redis-cli", "EXISTS", "key:__rand_int__") == "1"

    @pytest.mark.skipif(PREFORK, reason="each process of prefork has a store of its own")
    def test_counting_together(self, store: Server) -> None:
        redis(store, "redis-cli", "SET", "counter:__rand_int__", "0")
        redis(store, "redis-benchmark", "-t", "incr", "-P", "8", "-c", "50", "-n", "8000", "-q")
        assert redis(store, "redis-cli", "GET", "counter:__rand_int__") == "8000"


# ---- WebSocket


@pytest.fixture(scope="module")
def web() -> Iterator[Server]:
    """The WebSocket server."""
    with serving_websocket() as server:
        yield server


def serving_websocket() -> contextlib.AbstractContextManager[Server]:
    """Run the WebSocket server; skip the test if a package is not installed."""
    needs.package("wsproto")
    needs.package("websockets")
    return serving("websocket/websocket.py")


@contextlib.asynccontextmanager
async def joined(server: Server, path: str, tls: int = 0, **arguments: Any) -> AsyncIterator[ClientConnection]:
    context = None
    if tls:
        context = ssl.create_default_context(cafile=str(server.certificate.certificate))
        arguments["server_hostname"] = "localhost"
    url = f"{'wss' if tls else 'ws'}://{server.host}:{server.ports[tls]}{path}"
    arguments |= {"open_timeout": TIMEOUT, "close_timeout": TIMEOUT, "ping_interval": None}
    async with websocket(url, ssl=context, proxy=None, **arguments) as client:
        yield client


def run(coroutine: Any) -> None:
    async def limited() -> None:
        async with asyncio.timeout(TIMEOUT):
            await coroutine

    asyncio.run(limited())


@pytest.mark.parametrize("tls", [0, 1], ids=["plain", "tls"])
class TestWebSocket:
    def test_messages(self, web: Server, tls: int) -> None:
        async def talk() -> None:
            async with joined(web, "/echo", tls) as client:
                for message in ("hello", "", "Zoë ☃", b"\0\xff" * 1000, b"", "x" * 125, "x" * 126, b"y" * 65536):
                    await client.send(message)
                    assert await client.recv() == message

        run(talk())

    def test_big_messages(self, web: Server, tls: int) -> None:
        async def talk() -> None:
            async with joined(web, "/echo", tls) as client:
                big = random.Random(9).randbytes(1 << 20)
                await client.send(big)
                assert await client.recv() == big
                await client.send(big + b"!")
                with pytest.raises(ConnectionClosedError) as error:
                    await client.recv()
                assert error.value.rcvd is not None
                assert error.value.rcvd.code == 1009

        run(talk())

    def test_fragments(self, web: Server, tls: int) -> None:
        async def talk() -> None:
            async with joined(web, "/echo", tls) as client:
                await client.send(["one ", "two ", "", "thr☃☃"])
                assert await client.recv() == "one two thr☃☃"
                await client.send([b"1", b"2" * 70_000, b"3"])
                assert await client.recv() == b"1" + b"2" * 70_000 + b"3"

        run(talk())

    def test_pings(self, web: Server, tls: int) -> None:
        async def talk() -> None:
            async with joined(web, "/echo", tls) as client:
                await (await client.ping(b"are you there?"))
                await client.send("and")
                await (await client.ping())
                assert await client.recv() == "and"

        run(talk())

    def test_the_closing_handshake(self, web: Server, tls: int) -> None:
        async def talk() -> None:
            async with joined(web, "/echo", tls) as client:
                await client.close(4321, "enough")
                assert client.close_code == 4321
                with pytest.raises(ConnectionClosed):
                    await client.recv()

        run(talk())


class TestWebSocketBesides:
    @one_process
    def test_all_of_a_path_get_what_one_sends(self, web: Server) -> None:
        async def talk() -> None:
            async with joined(web, "/room") as ada, joined(web, "/room", 1) as bob, joined(web, "/other") as eve:
                await ada.send("hello")
                assert await ada.recv() == await bob.recv() == "hello"
                await bob.send(b"bye")
                assert await ada.recv() == await bob.recv() == b"bye"
                await eve.send("alone")
                assert await eve.recv() == "alone"

        run(talk())

    def test_plain_http_is_refused(self, web: Server) -> None:
        with web.connect() as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert receive_all(client).startswith(b"HTTP/1.1 400 ")
        with web.connect() as client:
            client.sendall(b"no HTTP at all\r\n\r\n")
            assert receive_all(client).startswith(b"HTTP/1.1 400 ")

    def test_a_wrong_frame(self, web: Server) -> None:
        async def talk() -> None:
            async with joined(web, "/echo") as client:
                client.transport.write(b"\xff\xff\xff\xff")
                with pytest.raises(ConnectionClosedError) as error:
                    await client.recv()
                assert error.value.rcvd is not None
                assert error.value.rcvd.code == 1002

        run(talk())

    @pytest.mark.skipif(PREFORK, reason="on prefork a busy process is not told of a graceful restart")
    def test_a_restart(self) -> None:
        async def talk() -> None:
            with serving_websocket() as server:
                async with joined(server, "/echo") as client:
                    await client.send("before")
                    assert await client.recv() == "before"
                    await asyncio.to_thread(server.graceful)
                    with pytest.raises(ConnectionClosedOK):
                        await client.recv()
                    assert client.close_code == 1001

        run(talk())


# ---- mail


@pytest.fixture(scope="module")
def spool() -> Iterator[Path]:
    """A directory that httpd's user may write to."""
    path = Path(tempfile.mkdtemp(prefix="mod_python-mail-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def mail(spool: Path) -> Iterator[Server]:
    """The mail sink; its key is that of the server, in files that httpd's user can read."""
    needs.package("aiosmtpd")
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        certificate = make_self_signed(Path(directory))
        certificate.key.chmod(0o644)
        options = {
            "smtp.directory": str(spool),
            "smtp.certificate": str(certificate.certificate),
            "smtp.key": str(certificate.key),
        }
        with running(handler_file=EXAMPLES / "smtp" / "sink.py", options=options, **sized()) as server:
            server_certificates[server.port] = certificate.certificate
            yield server


server_certificates: dict[int, Path] = {}


def kept(spool: Path, answer: bytes) -> bytes:
    """What the sink has kept, by its answer."""
    return (spool / answer.decode().split()[-1]).read_bytes()


def deliver(client: smtplib.SMTP, *to: str, text: bytes = b"Subject: Hi\r\n\r\nHello.\r\n") -> bytes:
    assert client.mail("ada@example.com")[0] == 250
    for each in to:
        assert client.rcpt(each)[0] == 250
    code, answer = client.data(text)
    assert code == 250, answer
    return answer


class TestMail:
    def test_plain(self, mail: Server, spool: Path) -> None:
        with smtplib.SMTP(mail.host, mail.port, timeout=TIMEOUT) as client:
            client.ehlo()
            assert client.has_extn("starttls")
            answer = deliver(client, "bob@example.com", "eve@example.com")
            found = kept(spool, answer)
            assert found.startswith(b"X-From: ada@example.com\r\nX-To: bob@example.com\r\nX-To: eve@example.com\r\n")
            assert found.endswith(b"X-TLS: no\r\nSubject: Hi\r\n\r\nHello.\r\n")

    def test_starttls(self, mail: Server, spool: Path) -> None:
        context = ssl.create_default_context(cafile=str(server_certificates[mail.port]))
        with smtplib.SMTP("localhost", mail.port, timeout=TIMEOUT) as client:
            client.ehlo()
            assert client.starttls(context=context)[0] == 220
            client.ehlo()
            assert not client.has_extn("starttls")
            text = b"Subject: Long\r\n\r\n" + b"x" * 70 + b"\r\n" + b"..two dots\r\n" * 50_000
            found = kept(spool, deliver(client, "bob@example.com", text=text))
            assert b"X-TLS: yes\r\n" in found
            assert found.endswith(text)
            assert b"kept as" in deliver(client, "eve@example.com")

    def test_openssl(self, mail: Server) -> None:
        command = [needs.program("openssl"), "s_client", "-starttls", "smtp", "-quiet", "-verify_return_error", "-crlf"]
        command += ["-CAfile", str(server_certificates[mail.port]), "-connect", f"{mail.host}:{mail.port}"]
        done = subprocess.run(
            command,
            input="EHLO here\nNOOP\nQUIT\n",
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert "250 OK" in done.stdout, done
        assert "221 Bye" in done.stdout

    def test_what_is_no_smtp(self, mail: Server) -> None:
        with mail.connect() as client:
            client.sendall(b"\xff\xfe\r\n\r\nDATA\r\nQUIT\r\n")
            lines = receive_all(client).decode().splitlines()
        assert [line[:3] for line in lines] == ["220", "500", "500", "503", "221"]

    def test_a_client_that_goes_away(self, mail: Server) -> None:
        hello = b"EHLO here\r\n"
        message = hello + b"MAIL FROM:<a@b>\r\nRCPT TO:<b@c>\r\nDATA\r\nhal"
        for data in (b"", hello, message, hello + b"STARTTLS\r\n\x16\x03"):
            with mail.connect() as client:
                assert client.recv(4) == b"220 "
                client.sendall(data)
        with smtplib.SMTP(mail.host, mail.port, timeout=TIMEOUT) as smtp:
            assert smtp.noop()[0] == 250
