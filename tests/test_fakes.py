"""The fake connections of the test kit: they have what the core's have, and do what those do."""

from __future__ import annotations

import ast
import asyncio
import ssl
import sys
import textwrap
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mod_python
from mod_python import apache
from mod_python.testing import FakeAsyncConnection, FakeConnection
from tests import needs
from tests.conftest import ROOT
from tests.scripted import Scripted, scripted

STUB = ast.parse((Path(mod_python.__file__).parent / "_core.pyi").read_text(encoding="utf-8"))
KINDS = [("Connection", FakeConnection), ("AsyncConnection", FakeAsyncConnection)]
PACKAGE = Path(mod_python.__file__).parent / "testing"


def members(tree: ast.Module, name: str) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef | None]:
    """Members of a class and its bases: functions, or None for attributes."""
    [node] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    found: dict[str, ast.FunctionDef | ast.AsyncFunctionDef | None] = {}
    for base in node.bases:
        assert isinstance(base, ast.Name)
        found |= members(tree, base.id)
    for item in node.body:
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            found[item.target.id] = None
        elif isinstance(item, ast.FunctionDef):
            found[item.name] = None if item.decorator_list else item
    return found


def own_methods(kind: type) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    found: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
    for name in ("_fake_facts", "fakes", "fakes_async"):
        for node in ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and node.name in [base.__name__ for base in kind.__mro__]:
                functions = (ast.FunctionDef, ast.AsyncFunctionDef)
                found |= {item.name: item for item in node.body if isinstance(item, functions)}
    return found


class TestTheyAreLikeTheCores:
    @pytest.mark.parametrize(("core", "fake"), KINDS)
    def test_signatures(self, core: str, fake: type) -> None:
        methods = own_methods(fake)
        for name, function in members(STUB, core).items():
            if function is not None and (not name.startswith("_") or name.startswith("__")):
                found = methods[name]
                assert ast.unparse(found.args) == ast.unparse(function.args), name
                if not name.startswith("__"):
                    assert isinstance(found, ast.FunctionDef), f"{name}: checks arguments before it is awaited"
                    assert found.returns is not None
                    assert function.returns is not None
                    core_returns = ast.unparse(function.returns).replace("_Awaited[", "Coroutine[Any, Any, ")
                    assert ast.unparse(found.returns) in (core_returns, "Any"), name

    @pytest.mark.parametrize(("core", "fake"), KINDS)
    def test_attributes(self, core: str, fake: type) -> None:
        conn = fake()
        for name, function in members(STUB, core).items():
            if function is None and not name.startswith("_"):
                getattr(conn, name)

    @pytest.mark.parametrize(("core", "fake"), KINDS)
    def test_what_they_have_besides(self, core: str, fake: type) -> None:
        besides = {name for name in dir(fake()) if not name.startswith("_")} - set(members(STUB, core))
        for_tests = {"feed", "feed_eof", "feed_reset", "feed_timeout", "written", "eof_written", "take", "run"}
        for_tests |= {"ended_by", "log", "options"}
        for_tests |= {"wait_idle"} if fake is FakeConnection else {"idle", "hold", "release"}
        assert besides == for_tests


# ---- the same script here and in a real httpd

DATA = b"first\nsecond line\n\nlast"
SCRIPTS = [
    "return [conn.readline(), conn.readline(3), conn.readline(100), conn.readline(), conn.readline()]",
    "return list(conn)",
    "return [conn.read(4), conn.read(-1), conn.read()]",
    "return [conn.readexactly(6), conn.readexactly(0), conn.peek(3), conn.read(3)]",
    "return [conn.readuntil(b'li'), conn.readuntil(b'\\n\\n', 100), conn.peek(100), conn.read(-1), conn.peek()]",
    "return conn.readexactly(100)",
    "return conn.readuntil(b'no')",
    "return conn.readuntil(b'line', 12)",
    "return conn.readuntil(b'')",
    "return conn.readuntil(b'x', 0)",
    "return conn.readexactly(-1)",
    "return conn.peek(0)",
    "conn.limit = 5\nreturn conn.readline()",
    "conn.limit = 6\nreturn [conn.readline(), conn.read(-1)]",
    "conn.limit = 10\nreturn conn.readexactly(11)",
    "conn.limit = 0",
    "conn.timeout = 0",
    "conn.timeout = 5\nreturn [conn.read_timeout, conn.write_timeout, conn.timeout]",
    "conn.read_timeout = None\nreturn [conn.read_timeout, conn.write_timeout]",
    "conn.read(-1)\nreturn [conn.read(), conn.read()]",
    "conn.write('text')",
    "conn.write(3)",
    "conn.write([b'a', 'text'])",
    "conn.write(bytearray(b'ab'))\nconn.write([b'cd', memoryview(b'ef')])\nconn.write([])\nconn.flush()",
    "return [conn.closed, conn.aborted, conn.is_https(), conn.can_write_eof(), conn.ssl_var_lookup('SSL_PROTOCOL')]",
    "conn.start_tls('no context')",
    "return [conn.interpreter, conn.client_ip, conn.client_addr[0], conn.local_ip, conn.tls, conn.keepalive]",
    "return [conn.get_options().get('fake'), conn.base_server.is_virtual, conn.notes.get('x')]",
]

OUTCOME = """
import re
def function(conn):
{body}
try:
    result = function(conn)
except Exception as exc:
    result = type(exc).__name__, re.sub("0x\\\\w+", "", str(exc)), getattr(exc, "partial", None)
return result
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    with scripted() as server:
        yield server


def outcome(body: str) -> str:
    return OUTCOME.format(body=textwrap.indent(body, "    "))


@pytest.mark.parametrize("body", SCRIPTS)
def test_the_same_as_in_httpd(server: Scripted, body: str) -> None:
    script = outcome(body)
    real = server._talk(server.script(script, value=True) + DATA, True, False)
    scope: dict[str, Any] = {"apache": apache}
    source = "def handler(conn):\n" + textwrap.indent(script, "    ")
    exec(compile(source, "<test>", "exec"), scope)
    conn = FakeConnection(DATA[:8], DATA[8:])
    result = conn.run(scope["handler"])
    assert conn.written + ascii(result).encode() == real


def awaiting(body: str) -> str:
    """Make the body of a coroutine function of it."""
    for name in ("readline", "readexactly", "readuntil", "read", "peek", "flush", "start_tls"):
        body = body.replace(f"conn.{name}(", f"await conn.{name}(")
    return body.replace("list(conn)", "[line async for line in conn]")


@pytest.mark.parametrize("body", SCRIPTS)
def test_both_fakes_are_the_same(body: str) -> None:
    results = []
    for fake in (FakeConnection, FakeAsyncConnection):
        script = outcome(body)
        if fake is FakeAsyncConnection:
            script = (
                awaiting(script).replace("def function", "async def function").replace("= function", "= await function")
            )
        scope: dict[str, Any] = {"apache": apache}
        source = f"{'async ' if fake is FakeAsyncConnection else ''}def handler(conn):\n" + textwrap.indent(
            script, "    "
        )
        exec(compile(source, "<test>", "exec"), scope)
        conn = fake(DATA[:8], DATA[8:])
        result = conn.run(scope["handler"])
        if fake is FakeAsyncConnection:
            result = asyncio.run(result)
        results.append((result, conn.written))
    assert results[0] == results[1]


# ---- what only tests do with them


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await test()

    asyncio.run(limited())


class TestOrdinary:
    def test_time_outs_and_resets(self) -> None:
        conn = FakeConnection()
        conn.feed(b"one\ntw")
        conn.feed_timeout()
        conn.feed(b"o\n")
        conn.feed_reset()
        assert conn.readline() == b"one\n"
        with pytest.raises(apache.ConnectionTimeout, match="nothing came for 60 seconds"):
            conn.readline()
        assert conn.readline() == b"two\n"
        with pytest.raises(apache.ConnectionClosed, match="reset by peer"):
            conn.readline()
        assert conn.aborted
        assert conn.closed
        with pytest.raises(apache.ConnectionClosed):
            conn.write(b"x")
        with pytest.raises(ValueError, match="ended already"):
            conn.feed(b"x")

    def test_a_real_time_out(self) -> None:
        conn = FakeConnection()
        conn.read_timeout = 0.01
        with pytest.raises(apache.ConnectionTimeout):
            conn.read()

    def test_with_threads(self) -> None:
        conn = FakeConnection()

        def handler(conn: Any) -> int:
            for line in conn:
                conn.write(line)
            return 0

        thread = threading.Thread(target=conn.run, args=(handler,))
        thread.start()
        conn.wait_idle()
        for line in (b"one\n", b"two\n"):
            conn.feed(line)
            conn.wait_idle()
            assert conn.take() == line
        with pytest.raises(RuntimeError, match="is reading"):
            conn.read()
        conn.close()
        thread.join(60)
        assert not thread.is_alive()
        assert isinstance(conn.ended_by, apache.ConnectionClosed)
        assert conn.closed

    def test_facts(self) -> None:
        tls = {"SSL_CLIENT_S_DN": "CN=Ada"}
        conn = FakeConnection(options={"name": "Ada"}, tls=tls, client_addr=("192.0.2.1", 5))
        assert conn.client_ip == "192.0.2.1"
        assert conn.get_options()["name"] == "Ada"
        assert conn.is_https()
        assert conn.ssl_var_lookup("SSL_CLIENT_S_DN") == "CN=Ada"
        assert not conn.can_write_eof()
        with pytest.raises(OSError, match="one direction"):
            conn.write_eof()
        conn.remote_host = "client.example.com"
        conn.log_error("two\nlines", apache.APLOG_INFO)
        assert conn.log == [(apache.APLOG_INFO, "two\nlines")]

    def test_tls(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        conn = FakeConnection(b"STARTTLS\r\n", b"hello\r\n")
        conn.readline()
        conn.start_tls(context)
        assert conn.is_https()
        assert conn.tls.version() == "TLSv1.3"
        assert conn.readline() == b"hello\r\n"
        conn = FakeConnection(b"STARTTLS\r\nRCPT TO:<x>\r\n")
        conn.readline()
        with pytest.raises(apache.TLSError, match="13 bytes came"):
            conn.start_tls(context)
        assert conn.closed


class TestCoroutine:
    def test_a_conversation(self) -> None:
        async def handler(conn: Any) -> None:
            async for line in conn:
                conn.write(line)

        async def test() -> None:
            conn = FakeAsyncConnection()
            task = asyncio.create_task(conn.run(handler))
            await conn.idle()
            conn.feed(b"one\ntw")
            await conn.idle()
            assert conn.take() == b"one\n"
            with pytest.raises(RuntimeError, match="is reading"):
                await conn.read()
            conn.feed(b"o\n")
            conn.feed_eof()
            await task
            assert conn.take() == b"two\n"

        run(test)

    def test_back_pressure(self) -> None:
        async def handler(conn: Any) -> None:
            conn.high_water = 10
            for _ in range(3):
                conn.write(b"12345678")
                await conn.drain()
                conn.log_error("drained")

        async def test() -> None:
            conn = FakeAsyncConnection()
            conn.hold()
            task = asyncio.create_task(conn.run(handler))
            for _ in range(5):
                await asyncio.sleep(0)
            assert len(conn.log) == 1
            assert conn.unsent_bytes == 16
            conn.release()
            await task
            assert conn.unsent_bytes == 0

        run(test)

    def test_a_peer_that_does_not_read(self) -> None:
        async def test() -> None:
            conn = FakeAsyncConnection()
            conn.write_timeout = 0.01
            conn.hold()
            conn.write(b"x")
            await conn.drain()
            with pytest.raises(apache.ConnectionTimeout):
                await conn.flush()
            with pytest.raises(apache.ConnectionClosed):
                conn.write(b"x")

        run(test)

    def test_time_outs_and_closing(self) -> None:
        async def test() -> None:
            conn = FakeAsyncConnection()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await conn.read()
            conn.feed_timeout()
            with pytest.raises(apache.ConnectionTimeout):
                await conn.read()
            conn.read_timeout = 0.01
            with pytest.raises(apache.ConnectionTimeout):
                await conn.read()
            conn.read_timeout = None
            reading = asyncio.ensure_future(conn.read())
            await conn.idle()
            conn.close()
            with pytest.raises(apache.ConnectionClosed):
                await reading

        run(test)


# ---- the examples, with them


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a module of the examples; it is forgotten with the test."""
    before = set(sys.modules)

    def load(name: str) -> ModuleType:
        import importlib

        directory, _, module = name.partition("/")
        installed = getattr(sys.modules.get(module), "__file__", None)
        if installed and str(ROOT / "examples") not in installed:
            monkeypatch.delitem(sys.modules, module)  # a package of the same name; it comes back
        monkeypatch.syspath_prepend(str(ROOT / "examples" / directory))
        return importlib.import_module(module)

    yield load
    for name in set(sys.modules) - before:
        if str(ROOT / "examples") in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


Example = Callable[[str], ModuleType]


class TestExamples:
    def test_echo(self, example: Example) -> None:
        conn = FakeConnection(b"one\n", b"tw", b"o\nlast")
        conn.run(example("echo/echo").connectionhandler)
        assert conn.written == b"one\ntwo\nlast"
        assert isinstance(conn.ended_by, apache.ConnectionClosed)

    def test_echo_async(self, example: Example) -> None:
        conn = FakeAsyncConnection(b"one\n", b"tw", b"o\nlast")
        asyncio.run(conn.run(example("echo/echo_async").connectionhandler))
        assert conn.written == b"one\ntwo\nlast"

    def test_chat(self, example: Example) -> None:
        chat = example("linechat/linechat_async")

        async def test() -> None:
            ada, bob = FakeAsyncConnection(), FakeAsyncConnection()
            tasks = [asyncio.create_task(conn.run(chat.connectionhandler)) for conn in (ada, bob)]
            for conn, name in ((ada, b"Ada\n"), (bob, b"Bob\n")):
                conn.feed(name)
                await conn.idle()
                conn.feed(b"hello\n")
                await conn.idle()
            assert ada.take() == b"Your name? Welcome, others here: 0\nBob is here\nBob: hello\n"
            assert bob.take() == b"Your name? Welcome, others here: 1\n"
            # Who does not read is shown out.
            bob.hold()
            for _ in range(70):
                ada.feed(b"x" * 1000 + b"\n")
                await ada.idle()
            assert bob.closed
            await tasks[1]
            assert ada.take() == b"Bob has left\n"
            ada.closing.set()
            await tasks[0]
            assert ada.take() == b"The server restarts\n"
            assert chat.members == {}

        run(test)

    def test_linechat(self, example: Example) -> None:
        conn = FakeConnection(b"Ada\n", b"hello\n")
        assert conn.run(example("linechat/linechat").connectionhandler) == apache.OK
        assert conn.written == b"Your name? Welcome, others here: 0\n"
        assert conn.read_timeout == 3600

    @pytest.mark.parametrize("size", [1, 3, 7, 1000])
    def test_resp(self, example: Example, size: int) -> None:
        data = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n\r\n\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n\r\n"
        data += b"INCR n\r\n*0\r\nGET x\n*1\r\n$x\r\n"
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        expected = b"+OK\r\n$4\r\n\r\n\r\n\r\n:1\r\n$-1\r\n-ERR Protocol error: invalid bulk length\r\n"
        store = example("resp/store")
        conn = FakeConnection(*pieces)
        assert conn.run(example("resp/kv").connectionhandler) == apache.OK
        assert conn.written == expected
        store.values.clear()
        again = FakeAsyncConnection(*pieces)
        asyncio.run(again.run(example("resp/kv_async").connectionhandler))
        assert again.written == expected

    def test_resp_limits(self, example: Example) -> None:
        resp = example("resp/resp")
        for data in (b"x" * 65537, b"*1\r\n$" + b"1" * 65537, b"*2\r\n$1048576\r\n" + b"x" * 1048576 + b"\r\n$1\r\n"):
            with pytest.raises(resp.ProtocolError):
                list(resp.Parser().feed(data))
        value = b"x" * 1048576
        assert list(resp.Parser().feed(b"*1\r\n$1048576\r\n" + value + b"\r\n")) == [[value]]

    def test_proxy_without_its_server(self, example: Example) -> None:
        conn = FakeAsyncConnection(options={"proxy.to": "127.0.0.1:1"})
        asyncio.run(conn.run(example("proxy/proxy").connectionhandler))
        [(level, text)] = conn.log
        assert level == apache.APLOG_WARNING
        assert text.startswith("cannot connect to 127.0.0.1:1: ")

    def test_websocket(self, example: Example) -> None:
        needs.package("wsproto")
        from wsproto import ConnectionType, WSConnection
        from wsproto.events import AcceptConnection, CloseConnection, Ping, Pong, Request, TextMessage

        module = example("websocket/websocket")

        async def test() -> None:
            conn = FakeAsyncConnection()
            task = asyncio.create_task(conn.run(module.connectionhandler))
            client = WSConnection(ConnectionType.CLIENT)

            async def said(event: Any) -> list[Any]:
                for byte in client.send(event):
                    conn.feed(bytes([byte]))
                await conn.idle()
                client.receive_data(conn.take())
                return list(client.events())

            assert isinstance((await said(Request(host="localhost", target="/echo")))[0], AcceptConnection)
            assert [event.data for event in await said(TextMessage("hi"))] == ["hi"]
            assert await said(TextMessage("h", message_finished=False)) == []
            assert isinstance((await said(Ping()))[0], Pong)
            assert [event.data for event in await said(TextMessage("o"))] == ["ho"]
            conn.closing.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            client.receive_data(conn.take())
            [event] = client.events()
            assert isinstance(event, CloseConnection)
            assert event.code == 1001
            conn.feed(client.send(event.response()))
            await task
            assert module.rooms == {}

        run(test)

    def test_mail(self, example: Example, tmp_path: Path) -> None:
        needs.package("aiosmtpd")
        module = example("smtp/sink")

        async def test() -> None:
            conn = FakeAsyncConnection(options={"smtp.directory": str(tmp_path)})
            task = asyncio.create_task(conn.run(module.connectionhandler))
            answers = []
            for line in ("", "EHLO here", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA", "Hi.\r\n."):
                if line:
                    conn.feed(f"{line}\r\n".encode())
                while not (answer := conn.take()):
                    await asyncio.sleep(0.001)
                answers.append(answer[:3])
            assert answers == [b"220", b"250", b"250", b"250", b"354", b"250"]
            conn.feed(b"QUIT\r\n")
            await task
            assert conn.written.endswith(b"221 Bye\r\n")

        run(test)
        [file] = tmp_path.iterdir()
        assert file.read_bytes() == b"X-From: a@b\r\nX-To: c@d\r\nX-TLS: no\r\nHi.\r\n"

    def test_streams(self) -> None:
        async def handler(conn: Any) -> None:
            reader, writer = conn.streams()
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def test() -> None:
            conn = FakeAsyncConnection(b"one\ntw", b"o\n")
            await conn.run(handler)
            assert conn.written == b"one\ntwo\n"

        run(test)
