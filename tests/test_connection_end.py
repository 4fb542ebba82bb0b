"""How connections end: results, exceptions, time-outs, close(), and use after the end."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.async_scripted import AsyncScripted, async_scripted, ordinary_only
from tests.scripted import Scripted, receive_all, receive_exactly, reset, scripted


@pytest.fixture(scope="module", params=["sync", "async"])
def kit(request: pytest.FixtureRequest) -> Iterator[Scripted]:
    with (async_scripted if request.param == "async" else scripted)("Timeout 77") as kit:
        for expected in ("on purpose", "Exception Group", "ZeroDivisionError"):
            kit.server.allow(expected)
        kit.server.allow("which is no status|it must return a status")
        yield kit


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


# ---- results and exceptions


@pytest.mark.parametrize("status", ["apache.OK", "apache.DONE", "0", "apache.HTTP_INTERNAL_SERVER_ERROR", "404"])
def test_a_status_ends_the_connection(kit: Scripted, status: str) -> None:
    mark = kit.mark()
    assert kit.run(f"conn.write(b'bye')\nreturn {status}") == b"bye"
    assert kit.since(mark) == []


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("None", "TypeError: handler '.*' returned None; it must return a status"),
        ("'OK'", "TypeError: handler '.*' returned a str; it must return a status"),
        ("True", "TypeError: handler '.*' returned True"),
        ("1000", "ValueError: handler '.*' returned 1000, which is no status"),
        ("7", "ValueError: handler '.*' returned 7, which is no status"),
    ],
)
def test_anything_else_is_an_error(kit: Scripted, result: str, text: str) -> None:
    mark = kit.mark()
    if result == "None" and isinstance(kit, AsyncScripted):
        pytest.skip("a coroutine function need not return anything")
    before = kit.value("return os.getpid()")
    assert kit.run(f"conn.write(b'bye')\nreturn {result}") == b"bye"
    kit.server.wait_for_log(text)
    assert {record.level for record in kit.since(mark)} == {"error"}
    assert kit.value("return os.getpid()") == before


@pytest.mark.parametrize(
    ("statement", "last"),
    [
        ("raise ValueError('on purpose')", "ValueError: on purpose"),
        ("raise SystemExit('on purpose')", "SystemExit: on purpose"),
        ("import sys; sys.exit('on purpose')", "SystemExit: on purpose"),
        ("raise KeyboardInterrupt('on purpose')", "KeyboardInterrupt: on purpose"),
        ("raise BaseException('on purpose')", "BaseException: on purpose"),
        ("raise OSError(5, 'on purpose')", "OSError: [Errno 5] on purpose"),
        ("raise ConnectionResetError('on purpose')", "ConnectionResetError: on purpose"),
        ("raise TimeoutError('on purpose')", "TimeoutError: on purpose"),
        ("raise apache.SERVER_RETURN('on purpose')", "mod_python.errors.SERVER_RETURN: on purpose"),
        ("raise ExceptionGroup('on purpose', [ValueError(1)])", "+------------------------------------"),
    ],
)
def test_an_exception_is_logged_once_and_ends_the_connection(kit: Scripted, statement: str, last: str) -> None:
    before = kit.value("return os.getpid()")
    mark = kit.mark()
    assert kit.run(f"conn.write(b'written before')\n{statement}") == b"written before"
    records = kit.since(mark)
    assert {record.level for record in records} == {"error"}
    messages = [record.message.partition("] ")[2] for record in records]
    assert "Application error" in messages[0]
    assert "phase='PythonConnectionHandler'" in messages[0]
    assert "handler.py" in messages[0]
    assert sum("Traceback (most recent call last)" in message for message in messages) == 1
    assert any(re.search('File "<test>", line [34], in handler', message) for message in messages)
    # Nothing of the server's own machinery.
    assert not any("_dispatch" in message for message in messages)
    assert messages[-1].strip() == last
    assert kit.value("return os.getpid()") == before


def test_chained_exceptions_are_logged_whole(kit: Scripted) -> None:
    mark = kit.mark()
    kit.run("try: 1 / 0\nexcept ZeroDivisionError as error: raise ValueError('on purpose') from error")
    text = "\n".join(record.message for record in kit.since(mark))
    assert text.count("Traceback (most recent call last)") == 2
    assert text.index("ZeroDivisionError: ") < text.index("direct cause") < text.index("ValueError: on purpose")


def test_the_end_of_input_that_escapes_is_silent(kit: Scripted, tls: bool) -> None:
    mark = kit.mark()
    assert kit.run("while 1: conn.read()", end=True, tls=tls) == b""
    record = kit.wait_logged(mark, "connection ended: reading beyond the end of the connection's input")
    assert record.level == "debug"
    assert kit.since(mark) == []


def test_a_closed_connection_of_ones_own_is_silent_too(kit: Scripted) -> None:
    mark = kit.mark()
    assert kit.run("raise apache.ConnectionClosed('enough')") == b""
    assert kit.wait_logged(mark, "connection ended: enough").level == "debug"
    assert kit.since(mark) == []


# ---- time-outs


def test_timeouts_are_those_of_the_server_until_set(kit: Scripted) -> None:
    body = """
    result = [conn.read_timeout, conn.write_timeout, conn.timeout]
    conn.read_timeout = 1.5
    conn.write_timeout = 2
    result += [conn.read_timeout, conn.write_timeout, conn.timeout]
    conn.timeout = None
    result += [conn.read_timeout, conn.write_timeout, conn.timeout]
    conn.timeout = 0.25
    return result + [conn.read_timeout, conn.write_timeout, conn.timeout]
    """
    assert kit.value(body) == [77.0, 77.0, 77.0, 1.5, 2.0, 1.5, None, None, None, 0.25, 0.25, 0.25]


def test_odd_timeouts(kit: Scripted) -> None:
    body = """
    result = []
    for value in (0, -1, float("nan"), "1", b"", []):
        for name in ("read_timeout", "write_timeout", "timeout"):
            try:
                setattr(conn, name, value)
            except (TypeError, ValueError) as error:
                result.append(type(error).__name__)
    for value in (1e-9, 1e30, float("inf")):
        conn.timeout = value
        result.append(conn.read_timeout is not None and conn.read_timeout > 0)
    return result, conn.readline()
    """
    expected = ["ValueError"] * 9 + ["TypeError"] * 9 + [True, True, True]
    assert kit.value(body, b"a line\n") == (expected, b"a line\n")


def test_a_read_times_out_and_can_be_repeated(kit: Scripted, tls: bool) -> None:
    body = """
    conn.read_timeout = 0.05
    for read in (conn.readline, conn.__next__, lambda: conn.readexactly(7), lambda: conn.peek(7),
                 lambda: conn.readuntil(b"#"), lambda: conn.read(-1)):
        try:
            read()
        except apache.ConnectionTimeout as error:
            conn.write(b"%d" % (isinstance(error, TimeoutError) and "nothing came for 0.05 seconds" in str(error)))
    conn.read_timeout = None
    conn.write(b"|")
    conn.write(conn.readline())
    """
    with kit.open(body, b"abc", tls=tls) as sock:
        assert receive_exactly(sock, 7) == b"111111|"
        sock.sendall(b"def\n")
        assert receive_all(sock) == b"abcdef\n"


def test_a_read_timeout_that_escapes(kit: Scripted, tls: bool) -> None:
    mark = kit.mark()
    assert kit.run("conn.write(b'hello')\nconn.read_timeout = 0.2\nconn.readline()", b"abc", tls=tls) == b"hello"
    record = kit.wait_logged(mark, "connection ended: time-out while reading: nothing came for 0.2 seconds")
    assert record.level == "info"
    assert kit.since(mark) == [record]


def test_a_write_times_out(kit: Scripted, tls: bool) -> None:
    body = """
    conn.write_timeout = 0.2
    conn.readline()
    try:
        while True:
            conn.write(b"x" * (1 << 20))
    except apache.ConnectionTimeout as error:
        kept["error"] = str(error)
        raise
    """
    mark = kit.mark()
    with kit.open(body, b"go\n", tls=tls):
        # Not reading anything until it has happened.
        record = kit.wait_logged(mark, "connection ended: time-out while writing")
    assert record.level == "info"
    assert kit.wait_kept("error") == "time-out while writing: nothing could be sent for 0.2 seconds"
    assert kit.since(mark) == [record]


# ---- close()


def test_close(kit: Scripted, tls: bool) -> None:
    body = """
    conn.write(b"last words")
    before = conn.closed
    conn.close()
    conn.close()
    errors = [before, conn.closed]
    for call in (conn.readline, conn.read, conn.flush, conn.peek, conn.__next__, lambda: conn.write(b"x"),
                 lambda: conn.readuntil(b"x"), lambda: conn.readexactly(1)):
        try:
            call()
        except apache.ConnectionClosed as error:
            errors.append("closed" in str(error))
    kept["errors"] = errors, conn.client_ip
    """
    assert kit.run(body, b"unread input\n", tls=tls) == b"last words"
    assert kit.wait_kept("errors") == ([False, *[True] * 9], "127.0.0.1")


def test_close_by_another_thread_wakes_the_reader(kit: Scripted, tls: bool) -> None:
    ordinary_only(kit)
    body = """
    import threading
    def closer():
        go.wait(30)
        conn.close()

    go = threading.Event()
    thread = threading.Thread(target=closer)
    thread.start()
    conn.readline()
    go.set()
    try:
        conn.readline()
    except apache.ConnectionClosed as error:
        kept["woken"] = "closed" in str(error)
    thread.join()
    """
    with kit.open(body, tls=tls) as sock:
        sock.sendall(b"go\n")
        assert receive_all(sock) == b""
    assert kit.wait_kept("woken") is True


# ---- after the end


def test_threads_that_outlive_the_handler(kit: Scripted, tls: bool) -> None:
    ordinary_only(kit)
    body = """
    import threading, time

    def read():
        try:
            while True:
                conn.readline()
        except apache.ConnectionClosed as error:
            kept["reader"] = "closed" in str(error)

    def write():
        while not conn.closed:
            time.sleep(0.001)
        try:
            conn.write(b"too late")
            conn.flush()
        except apache.ConnectionClosed as error:
            kept["writer"] = "closed" in str(error)

    for target in (read, write):
        threading.Thread(target=target, daemon=True).start()
    """
    assert kit.run(body, tls=tls) == b""
    assert kit.wait_kept("reader") is True
    assert kit.wait_kept("writer") is True


def test_a_connection_kept_beyond_its_end(kit: Scripted, tls: bool) -> None:
    assert kit.run("kept['conn'] = conn; kept['notes'] = conn.notes; conn.write(b'x')", tls=tls) == b"x"
    kit.server.wait_until(lambda: kit.value("return repr(kept['conn'])") == "<mp_conn, gone>")
    body = """
    gone, result = kept["conn"], {}
    for name in dir(type(gone)):
        if not name.startswith("_") and not callable(getattr(type(gone), name)):
            try:
                result[name] = repr(getattr(gone, name))
            except apache.DetachedError:
                pass
    return result
    """
    answers = kit.value(body)
    if isinstance(kit, AsyncScripted):
        assert answers.pop("unsent_bytes") == "0"
        del answers["closing"], answers["high_water"]
    # Everything but the answer to that very question.
    assert answers == {"closed": "True"}

    body = """
    gone, result = kept["conn"], []
    for name, *arguments in [("is_https",), ("ssl_var_lookup", "HTTPS"), ("get_options",), ("get_config",),
                             ("log_error", "x"), ("can_write_eof",)]:
        try:
            result.append(getattr(gone, name)(*arguments))
        except apache.DetachedError as error:
            result.append(isinstance(error, RuntimeError))
    try:
        kept.pop("notes")["x"]
    except apache.DetachedError:
        result.append(True)
    return result
    """
    assert kit.value(body) == [True] * 7

    # Code that serves many connections need not tell a closed one from one that is gone.
    body = """
    gone, result = kept.pop("conn"), []
    for call in (gone.readline, gone.read, gone.peek, gone.flush, gone.__next__, lambda: gone.write(b"x"),
                 lambda: gone.readexactly(1), lambda: gone.readuntil(b"x"), gone.write_eof):
        try:
            call()
        except apache.ConnectionClosed as error:
            result.append("closed" in str(error))
    gone.close()
    return result
    """
    assert kit.value(body) == [True] * 9


def test_a_reset_while_the_handler_waits(kit: Scripted, tls: bool) -> None:
    mark = kit.mark()
    sock = kit.open("conn.write(b'ready')\nconn.readline()", tls=tls)
    receive_exactly(sock, 5)
    reset(sock)
    assert kit.wait_logged(mark, "connection ended:").level == "debug"
    assert kit.since(mark) == []
