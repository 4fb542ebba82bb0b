"""How connections of coroutine functions end, what is a coroutine function, and what else runs on the loop.

Results, exceptions and time-outs of ordinary handlers are in test_connection_end.py, which runs
for both kinds.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from mod_python.testing import Server
from tests.async_scripted import AsyncScripted, async_scripted, is_prefork
from tests.scripted import receive_all, receive_exactly, reset, running

Httpd = Callable[..., Server]


@pytest.fixture(scope="module")
def kit() -> Iterator[AsyncScripted]:
    with async_scripted() as kit:
        for expected in ("on purpose", "ZeroDivisionError", "which is no status|it must return a status", "DECLINED"):
            kit.server.allow(expected)
        yield kit


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


# ---- results and exceptions


@pytest.mark.parametrize("result", ["None", "apache.OK", "apache.DONE", "0", "404"])
def test_what_a_coroutine_function_may_return(kit: AsyncScripted, tls: bool, result: str) -> None:
    mark = kit.mark()
    assert kit.run(f"conn.write(b'bye')\nawait asyncio.sleep(0)\nreturn {result}", tls=tls) == b"bye"
    assert kit.since(mark) == []


def test_declining_comes_too_late(kit: AsyncScripted) -> None:
    mark = kit.mark()
    assert kit.run("conn.write(b'bye')\nawait asyncio.sleep(0)\nreturn apache.DECLINED") == b"bye"
    assert kit.wait_logged(mark, "use an ordinary function to decline").level == "error"


@pytest.mark.parametrize("result", ["'garbage'", "True", "1000", "object()", "[]", "asyncio.sleep(0)"])
def test_garbage_is_an_error(kit: AsyncScripted, result: str) -> None:
    mark = kit.mark()
    assert kit.run(f"conn.write(b'bye')\nawait asyncio.sleep(0)\nreturn {result}") == b"bye"
    assert re.search("it must return a status|which is no status", kit.wait_logged(mark, "status").message)


def test_others_go_on_when_one_fails(kit: AsyncScripted) -> None:
    if is_prefork():
        pytest.skip("a process of prefork has one connection at a time")
    with kit.open("async for line in conn: conn.write(line)") as other:
        for _ in range(3):
            mark = kit.mark()
            assert kit.run("await asyncio.sleep(0)\nraise ValueError('on purpose')") == b""
            kit.wait_logged(mark, "ValueError: on purpose")
            messages = [record.message for record in kit.since(mark)]
            assert sum("Traceback (most recent call last)" in message for message in messages) == 1
            other.sendall(b"line\n")
            assert receive_exactly(other, 5) == b"line\n"


def test_a_task_that_nobody_waits_for_fails(kit: AsyncScripted) -> None:
    """asyncio's own report goes to the error log, whole."""
    body = """
    async def fail():
        1 / 0
    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    del task
    import gc
    gc.collect()
    """
    mark = kit.mark()
    assert kit.run(body) == b""
    kit.wait_logged(mark, "Task exception was never retrieved")
    kit.wait_logged(mark, "ZeroDivisionError")


def test_the_handler_cancels_itself(kit: AsyncScripted, tls: bool) -> None:
    mark = kit.mark()
    body = "conn.write(b'bye')\nasyncio.current_task().cancel()\nawait conn.readline()"
    assert kit.run(body, tls=tls) == b"bye"
    assert kit.wait_logged(mark, ": cancelled").level == "debug"
    assert kit.since(mark) == []


def test_nothing_is_left_of_many_connections(kit: AsyncScripted, tls: bool) -> None:
    """No descriptor, task or object, however they ended."""
    ends = ("await conn.readline()", "return", "conn.close()", "raise apache.ConnectionClosed('enough')")

    def look() -> tuple[int, int]:
        """From outside: a connection that looks would be one itself."""
        counts = [[len(os.listdir(f"/proc/{pid}/{what}")) for pid in kit.server.children()] for what in ("fd", "task")]
        return sum(counts[0]), sum(counts[1])

    before = (0, 0)

    def quiet() -> bool:
        nonlocal before
        before = look()
        time.sleep(1.1)
        return before == look()

    kit.server.wait_until(quiet)
    for number in range(40):
        sock = kit.open("conn.write(b'ready')\nawait conn.flush()\n" + ends[number % 4], tls=tls)
        receive_exactly(sock, 5)
        (reset if number % 3 else type(sock).close)(sock)

    def as_before() -> bool:
        return all(now <= then for now, then in zip(look(), before, strict=True))

    kit.server.wait_until(as_before, what="as few descriptors and threads as before")
    kit.server.wait_until(lambda: kit.value("return len(asyncio.all_tasks())") == 1, what="the end of the tasks")
    count = "import gc; gc.collect()\nreturn sum(type(o).__name__ == 'Task' for o in gc.get_objects())"
    kit.server.wait_until(lambda: kit.value(count) <= 2, what="the end of the tasks' objects")


# ---- what is a coroutine function

KINDS = """
import asyncio, functools
from mod_python import apache

async def plain(conn):
    conn.write(await conn.readline())

class Own:
    async def method(self, conn):
        await plain(conn)

    @classmethod
    async def of_class(cls, conn):
        await plain(conn)

    @staticmethod
    async def static(conn):
        await plain(conn)

    async def __call__(self, conn):
        await plain(conn)

class Made:
    def __init__(self, conn):
        self.made_for = conn

    async def method(self, conn):
        await plain(conn)

async def with_more(greeting, conn, *, end=b""):
    conn.write(greeting)
    await plain(conn)
    conn.write(end)

def decorated(function):
    @functools.wraps(function)
    async def wrapper(conn):
        return await function(conn)
    return wrapper

own = Own()
method = own.method
of_class = Own.of_class
static = Own.static
partial = functools.partial(with_more, b"", end=b"")
nested = functools.partial(functools.partial(with_more, end=b""), b"")
partial_method = functools.partial(own.method)
wrapped = decorated(plain)
"""

OBJECTS = [
    "plain",
    "own",
    "method",
    "of_class",
    "static",
    "partial",
    "nested",
    "partial_method",
    "wrapped",
    "own.method",
    "Made.method",
]


@pytest.fixture(scope="module")
def kinds() -> Iterator[Server]:
    hosts = "".join(
        f"<VirtualHost *:${{PORT{number}}}>\nPythonConnectionHandler kinds::{name}\n</VirtualHost>\n"
        for number, name in enumerate(OBJECTS, 2)
    )
    config = f"PythonPath \"['${{SITE}}'] + sys.path\"\n{hosts}"
    with running(config, files={"kinds.py": KINDS}, listen=len(OBJECTS) + 1) as server:
        yield server


@pytest.mark.parametrize("name", OBJECTS)
def test_what_is_taken_as_a_coroutine_function(kinds: Server, name: str) -> None:
    with kinds.connect(OBJECTS.index(name) + 1) as sock:
        sock.sendall(b"line\n")
        assert receive_all(sock) == b"line\n"


def test_coroutine_functions_are_recognised() -> None:
    import asyncio
    import functools
    import types

    from mod_python._dispatch.resolve import is_coroutine_function

    scope: dict[str, object] = {}
    exec(compile(KINDS.replace("from mod_python import apache", ""), "kinds", "exec"), scope)
    for name in OBJECTS:
        if "." not in name:
            assert is_coroutine_function(scope[name]), name

    def ordinary(conn: object) -> None: ...

    def generator(conn: object) -> Iterator[int]:
        yield 1

    @types.coroutine
    def old_style(conn: object) -> Iterator[int]:
        yield 1

    class Instance:
        def __call__(self, conn: object) -> None: ...

    for no in (
        ordinary,
        generator,
        Instance(),
        Instance,
        functools.partial(ordinary),
        len,
        print,
        None,
        5,
        asyncio.Queue,
    ):
        assert not is_coroutine_function(no), no


@pytest.mark.parametrize("value", [None, 0, 200, 404, 599, -2])
def test_statuses_of_coroutine_functions(value: int | None) -> None:
    from mod_python._dispatch import asynchronous
    from mod_python._dispatch.handler import Handler

    if value is not None:
        asynchronous.check(value, Handler("module"))


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [(-1, ValueError, "DECLINED"), ("x", TypeError, "status"), (7, ValueError, "status"), (True, TypeError, "status")],
)
def test_what_is_no_status_of_a_coroutine_function(value: object, error: type[Exception], text: str) -> None:
    from mod_python._dispatch import asynchronous
    from mod_python._dispatch.handler import Handler

    with pytest.raises(error, match=text):
        asynchronous.check(value, Handler("module"))


@pytest.mark.parametrize("text", ["0", "0.5", "60"])
def test_settings_in_seconds(text: str) -> None:
    from mod_python._dispatch import asynchronous

    assert asynchronous._seconds(text) == float(text)


@pytest.mark.parametrize("text", ["", "x", "-1", "nan", "1s"])
def test_settings_that_are_no_seconds(text: str) -> None:
    from mod_python._dispatch import asynchronous

    with pytest.raises(ValueError, match="slow_callback"):
        asynchronous._seconds(text)


def test_the_loop_that_is_asked_for() -> None:
    from mod_python._dispatch import asynchronous

    for kind in ("asyncio", "auto"):
        made, loop = asynchronous._new_loop(kind)
        assert made in ("asyncio", "uvloop")
        loop.close()
    with pytest.raises(ValueError, match="must be auto, uvloop or asyncio"):
        asynchronous._new_loop("trio")


# ---- what came before the handler


def test_the_settings_of_a_preconnection_handler_are_taken_over(httpd: Httpd) -> None:
    handler = """
from mod_python import apache

kept = []

def preconnectionhandler(conn):
    conn.limit = 1234
    conn.read_timeout = 12.5
    conn.write_timeout = 7
    conn.notes["note"] = "from before"
    kept.append(conn)
    return apache.OK

async def connectionhandler(conn):
    await conn.peek()
    before = kept.pop()
    conn.write(repr((conn.limit, conn.read_timeout, conn.write_timeout, conn.notes["note"], before.notes["note"],
                     before.id == conn.id)).encode())
"""
    config = """
    PythonPath "['${SITE}'] + sys.path"
    <VirtualHost *:${PORT2}>
        PythonPreConnectionHandler pre
        PythonConnectionHandler pre
    </VirtualHost>
    """
    server = httpd(config, files={"pre.py": handler}, listen=2)
    with server.connect(1) as sock:
        sock.sendall(b"x")
        assert receive_all(sock) == repr((1234, 12.5, 7.0, "from before", "from before", True)).encode()


# ---- beside connections

BESIDE = """
import asyncio
from mod_python import apache

def note(text):
    apache.log_error(f"NOTE {text}", apache.APLOG_NOTICE)

loop = None

async def start():
    global loop
    await asyncio.sleep(0)
    loop = asyncio.get_running_loop()
    note("import")
    asyncio.create_task(background(), name="background")

async def background():
    try:
        await asyncio.sleep(3600)
    finally:
        note("background finally")

async def fails():
    raise ValueError("on purpose")

async def childinithandler(server):
    await asyncio.sleep(0)
    note(f"init {server.is_virtual == 0} {asyncio.get_running_loop() is loop}")

async def cleanup(data):
    await asyncio.sleep(0)
    note(f"cleanup {data} {asyncio.get_running_loop() is loop}")

async def failing(data):
    raise ValueError("on purpose")

apache.register_cleanup(cleanup, "data")
apache.register_cleanup(failing, "data")

async def connectionhandler(conn):
    conn.write(b"%d" % (asyncio.get_running_loop() is loop))
"""


def test_coroutine_functions_at_the_beginning_and_the_end_of_a_child(httpd: Httpd) -> None:
    config = """
    PythonPath "['${SITE}'] + sys.path"
    PythonImport beside::start main_interpreter
    PythonImport beside::fails main_interpreter
    PythonChildInitHandler beside
    <VirtualHost *:${PORT2}>
        PythonConnectionHandler beside
    </VirtualHost>
    """
    server = httpd(config, files={"beside.py": BESIDE}, listen=2, processes=1)
    server.allow("on purpose")
    with server.connect(1) as sock:
        assert receive_all(sock) == b"1"
    server.stop()
    notes = re.findall("NOTE (.*)", server.error_log)
    assert notes == ["import", "init True True", "background finally", "cleanup data True"]
    assert len(re.findall(r"python:error.*ValueError: on purpose", server.error_log)) == 2


def test_a_handler_that_blocks_the_loop_is_reported_once(httpd: Httpd) -> None:
    handler = """
import os, time
from mod_python import apache

def the_culprit(path):
    while not os.path.exists(path):
        time.sleep(0.01)

async def connectionhandler(conn):
    async for line in conn:
        if line == b"block\\n":
            the_culprit(os.path.dirname(__file__) + "/go-on")
        conn.write(line)
"""
    # Long enough that nobody is reported whom a busy machine alone has kept waiting.
    server = httpd(handler=handler, options={"mod_python.async.slow_callback": "2"}, processes=1)
    with server.connect() as sock:
        for turn in range(2):
            (server.site / "go-on").unlink(missing_ok=True)
            sock.sendall(b"block\n")
            server.wait_until(lambda: len(re.findall("has been blocked for", server.error_log)) == turn + 1)  # noqa: B023
            server.write_file("go-on", "")
            assert receive_exactly(sock, 6) == b"block\n"
            sock.sendall(b"on\n")
            assert receive_exactly(sock, 3) == b"on\n"
    records = [record for record in server.log_records("warn") if "blocked for" in record.message]
    assert len(records) == 2
    assert "and 1 connection(s) with it" in records[0].message
    assert "in the_culprit" in server.error_log
    assert "in connectionhandler" in server.error_log
    assert "/asyncio/" not in server.error_log


def test_a_connection_that_the_blocked_loop_never_saw(httpd: Httpd) -> None:
    """The child ends at once while the loop is blocked for longer than handlers get; worker's thread gives up."""
    handler = """
import os, time
from mod_python import apache

async def connectionhandler(conn):
    async for line in conn:
        if line == b"block\\n":
            apache.log_error("NOTE blocked", apache.APLOG_NOTICE)
            while not os.path.exists(os.path.dirname(__file__) + "/go-on"):
                time.sleep(0.01)
        conn.write(line)
"""
    workers = {"processes": 3} if is_prefork() else {"processes": 1, "threads": 8}
    server = httpd(handler=handler, options={"mod_python.async.slow_callback": "0"}, **workers)
    with server.connect() as first, server.connect() as second:
        first.sendall(b"line\n")
        assert receive_exactly(first, 5) == b"line\n"
        first.sendall(b"block\n")
        server.wait_until(lambda: "NOTE blocked" in server.error_log)
        second.sendall(b"line\n")
        server.signal(signal.SIGTERM)
        server.wait_for_log("the loop itself is blocked")
        server.write_file("go-on", "")
        server.stop()
        assert not server.running
