"""Reading from a connection: every method, however the bytes are cut into segments."""

from __future__ import annotations

import pytest

from tests.async_scripted import either, ordinary_only
from tests.scripted import Scripted, receive_all, receive_exactly, wait_read

kit = either()


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def in_segments(kit: Scripted, body: str, segments: list[bytes], *, tls: bool = False) -> bytes:
    """Run a handler that gets its input in these segments, each read before the next is sent."""
    with kit.open(body, tls=tls) as sock:
        for segment in segments:
            wait_read(sock)
            sock.sendall(segment)
        return receive_all(sock)


# ---- readline


def test_readline_of_a_line_in_many_segments(kit: Scripted, tls: bool) -> None:
    body = "conn.write(conn.readline() + b'|' + conn.readline())"
    assert in_segments(kit, body, [b"a", b"b", b"c\r", b"\nd", b"e\nrest"], tls=tls) == b"abc\r\n|de\n"


def test_readline_with_a_length(kit: Scripted, tls: bool) -> None:
    lines = "return [conn.readline(n) for n in (3, 3, 3, 100, 1, 0, -1)]"
    expected = [b"abc", b"def", b"\n", b"gh\n", b"i", b"jkl\n", b"mno\n"]
    assert kit.value(lines, b"abcdef\ngh\nijkl\nmno\n", tls=tls) == expected


def test_readline_with_a_length_does_not_wait_for_the_line(kit: Scripted) -> None:
    assert kit.value("return conn.readline(3)", b"abc") == b"abc"


def test_readline_returns_an_unfinished_line_at_the_end(kit: Scripted) -> None:
    assert kit.value("return conn.readline(), conn.readline(), conn.readline()", b"a\nb", end=True) == (
        b"a\n",
        b"b",
        b"",
    )


def test_end_of_input_is_told_once(kit: Scripted) -> None:
    body = """
    result = [conn.{first}]
    for read in (conn.readline, conn.read, lambda: conn.read(-1), lambda: conn.read(5)):
        try:
            result.append(read())
        except apache.ConnectionClosed as error:
            result.append((isinstance(error, OSError), "end" in str(error)))
    return result
    """
    for first in ("readline()", "read()", "read(10)", "read(-1)"):
        assert kit.value(body.replace("{first}", first), end=True) == [b""] + [(True, True)] * 4


# ---- read


def test_read_gives_what_is_there(kit: Scripted, tls: bool) -> None:
    body = "conn.write(b'%r %r %r' % (conn.read(), conn.read(2), conn.read(0)))"
    assert in_segments(kit, body, [b"abc", b"defg"], tls=tls) == b"b'abc' b'de' b'fg'"


def test_read_waits_for_one_byte_only(kit: Scripted, tls: bool) -> None:
    with kit.open("while 1: conn.write(conn.read(100))", tls=tls) as sock:
        for part in (b"a", b"bc", b"\n\n"):
            sock.sendall(part)
            assert receive_exactly(sock, len(part)) == part


def test_read_everything(kit: Scripted) -> None:
    data = bytes(range(256)) * 4000
    assert kit.run("conn.write(conn.read(-1))", data, end=True) == data
    assert kit.value("return conn.readline(), conn.read(-1), conn.read(-1)", b"a\nb\nc", end=True) == (
        b"a\n",
        b"b\nc",
        b"",
    )


def test_read_of_a_number_of_bytes_never_gives_more(kit: Scripted) -> None:
    body = """
    parts = []
    while part := conn.read(1000):
        parts.append(part)
    return max(map(len, parts)), sum(map(len, parts))
    """
    assert kit.value(body, b"x" * 100_000, end=True) == (1000, 100_000)


# ---- readexactly


def test_readexactly(kit: Scripted, tls: bool) -> None:
    body = "conn.write(conn.readexactly(5) + b'|' + conn.readexactly(0) + b'|' + conn.readexactly(1))"
    assert in_segments(kit, body, [b"ab", b"cd", b"ef"], tls=tls) == b"abcde||f"
    assert len(kit.run("conn.write(conn.readexactly(3_000_000))", b"x" * 3_000_000, tls=tls)) == 3_000_000


def test_readexactly_of_an_incomplete_message(kit: Scripted) -> None:
    body = """
    result = [conn.readline()]
    for _ in range(2):
        try:
            conn.readexactly(10)
        except apache.IncompleteRead as error:
            result.append((error.partial, error.expected, isinstance(error, apache.ConnectionClosed)))
    try:
        conn.read()
    except apache.ConnectionClosed as error:
        result.append(type(error).__name__)
    return result
    """
    expected = [b"x\n", (b"abc", 10, True), (b"", 10, True), "ConnectionClosed"]
    assert kit.value(body, b"x\nabc", end=True) == expected


def test_an_incomplete_message_is_a_normal_end(kit: Scripted) -> None:
    mark = kit.mark()
    assert kit.run("conn.readexactly(10)", b"abc", end=True) == b""
    assert kit.wait_logged(mark, "closed the connection after 3 bytes, before 10 bytes").level == "debug"
    assert kit.since(mark) == []


# ---- readuntil


def test_readuntil_a_separator_in_two_segments(kit: Scripted, tls: bool) -> None:
    body = "conn.write(conn.readuntil(b'--END--') + b'|' + conn.readline())"
    for segments in (
        [b"text--E", b"ND--rest\n"],
        [b"text", b"--END--rest\n"],
        [b"text-", b"-", b"E", b"N", b"D", b"-", b"-", b"rest\n"],
        [b"text--END--rest\n"],
    ):
        assert in_segments(kit, body, segments, tls=tls) == b"text--END--|rest\n"


def test_readuntil_finds_the_first_one(kit: Scripted) -> None:
    body = "return conn.readuntil(), conn.readuntil(b'::'), conn.readuntil(bytearray(b'aa')), conn.readuntil(b'\\0')"
    assert kit.value(body, b"x\ny:z::baaa\0aa") == (b"x\n", b"y:z::", b"baa", b"a\0")


def test_readuntil_partial_separators_before_the_real_one(kit: Scripted) -> None:
    body = "conn.write(conn.readuntil(b'aab'))"
    assert in_segments(kit, body, [b"aa", b"aa", b"a", b"ab"]) == b"aaaaaab"


def test_readuntil_at_the_end(kit: Scripted) -> None:
    body = """
    try:
        conn.readuntil(b";")
    except apache.IncompleteRead as error:
        return error.partial, error.expected
    """
    assert kit.value(body, b"abc", end=True) == (b"abc", None)
    assert kit.value(body, b"", end=True) == (b"", None)


def test_readuntil_with_a_limit_leaves_the_data(kit: Scripted, tls: bool) -> None:
    body = """
    result = []
    for limit in (1, 3, 4):
        try:
            result.append(conn.readuntil(b";", limit))
        except apache.LimitError as error:
            result.append(isinstance(error, ValueError))
    result.append(conn.readuntil(b";", limit=4))
    return result
    """
    assert kit.value(body, b"abc;def;", tls=tls) == [True, True, b"abc;", b"def;"]
    # No separator at all: found out as soon as that many bytes are there.
    assert kit.value(body.replace("limit=4", "limit=None"), b"abcdefgh;", tls=tls) == [True, True, True, b"abcdefgh;"]


def test_the_limit_of_readuntil_may_exceed_that_of_the_connection(kit: Scripted) -> None:
    body = "conn.limit = 10\nreturn len(conn.readuntil(b';', limit=100_000))"
    assert kit.value(body, b"x" * 50_000 + b";") == 50_001


# ---- peek


def test_peek_takes_nothing(kit: Scripted, tls: bool) -> None:
    body = "return conn.peek(), conn.peek(3), conn.peek(1), conn.readline(), conn.peek(2), conn.read()"
    assert kit.value(body, b"ab\ncd", tls=tls) == (b"a", b"ab\n", b"a", b"ab\n", b"cd", b"cd")


def test_peek_waits_for_as_many_bytes(kit: Scripted, tls: bool) -> None:
    body = "conn.write(conn.peek(4) + b'|' + conn.readline())"
    assert in_segments(kit, body, [b"a", b"b", b"cdef\n"], tls=tls) == b"abcd|abcdef\n"
    assert len(kit.run("conn.write(conn.peek(100_000))", b"x" * 100_000, tls=tls)) == 100_000


def test_peek_at_the_end(kit: Scripted) -> None:
    body = "return conn.peek(10), conn.readline(), conn.peek(10), conn.peek(), conn.readline()"
    assert kit.value(body, b"abc", end=True) == (b"abc", b"abc", b"", b"", b"")


# ---- iteration


def test_iteration_over_lines(kit: Scripted) -> None:
    assert kit.value("return list(conn)", b"a\nb\n\nc", end=True) == [b"a\n", b"b\n", b"\n", b"c"]
    assert kit.value("return list(conn), list(conn)", b"", end=True) == ([], [])
    assert kit.value("return iter(conn) is conn, next(conn), conn.readline(), next(conn)", b"a\nb\nc\n") == (
        True,
        b"a\n",
        b"b\n",
        b"c\n",
    )


def test_iteration_answers_as_it_goes(kit: Scripted, tls: bool) -> None:
    with kit.open("for line in conn: conn.write(line.upper())", tls=tls) as sock:
        for line in (b"one\n", b"two\n"):
            sock.sendall(line)
            assert receive_exactly(sock, 4) == line.upper()


# ---- limits


def test_the_limit_is_ample_and_can_be_set(kit: Scripted) -> None:
    assert kit.value("before = conn.limit\nconn.limit = 5\nreturn before, conn.limit") == (128 * 1024 * 1024, 5)
    body = """
    errors = []
    for value in (0, -1, "5", None):
        try:
            conn.limit = value
        except (ValueError, TypeError) as error:
            errors.append(type(error).__name__)
    return errors
    """
    assert kit.value(body) == ["ValueError", "ValueError", "TypeError", "TypeError"]


@pytest.mark.parametrize("read", ["readline()", "readline(0)", "readline(1000)", "readuntil(b'\\n')", "__next__()"])
def test_a_line_over_the_limit(kit: Scripted, read: str) -> None:
    # Whether the line came at once, with its end, or without one.
    body = f"""
    conn.limit = 10
    result = [conn.{read}]
    try:
        conn.{read}
    except apache.LimitError as error:
        result.append("10 bytes" in str(error))
    conn.limit = 100
    result.append(conn.readline())
    return result
    """
    expected = [b"123456789\n", True, b"1234567890\n"]
    assert kit.value(body, b"123456789\n1234567890\nmore\n") == expected
    assert kit.value(body.replace("100\n", "100_000\n"), b"123456789\n" + b"x" * 50_000 + b"\n") == [
        b"123456789\n",
        True,
        b"x" * 50_000 + b"\n",
    ]


def test_a_part_of_a_line_over_the_limit(kit: Scripted) -> None:
    assert kit.value("conn.limit = 10\nreturn conn.readline(10), conn.readline(5)", b"x" * 100) == (b"x" * 10, b"x" * 5)


def test_a_stream_over_the_limit(kit: Scripted) -> None:
    body = """
    conn.limit = 10
    try:
        return conn.read(-1)
    except apache.LimitError:
        return conn.read(11)
    """
    assert kit.value(body, b"0123456789", end=True) == b"0123456789"
    assert kit.value(body, b"0123456789a", end=True) == b"0123456789a"


@pytest.mark.parametrize("call", ["readexactly(11)", "peek(11)"])
def test_a_number_over_the_limit(kit: Scripted, call: str) -> None:
    body = f"""
    conn.limit = 10
    try:
        conn.{call}
    except apache.LimitError as error:
        return "11 bytes" in str(error), conn.readline()
    """
    assert kit.value(body, b"abc\n") == (True, b"abc\n")


def test_a_limit_that_escapes_is_one_line_at_info(kit: Scripted) -> None:
    mark = kit.mark()
    assert kit.run("conn.limit = 10\nconn.readline()", b"x" * 1000) == b""
    record = kit.wait_logged(mark, "more than 10 bytes")
    assert record.level == "info"
    assert kit.since(mark) == [record]


# ---- misuse


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("readexactly(-1)", "ValueError"),
        ("readexactly('1')", "TypeError"),
        ("readexactly()", "TypeError"),
        ("readuntil(b'')", "ValueError"),
        ("readuntil('x')", "TypeError"),
        ("readuntil(b'x', 0)", "ValueError"),
        ("readuntil(b'x', 'y')", "TypeError"),
        ("peek(0)", "ValueError"),
        ("peek(-1)", "ValueError"),
        ("read('1')", "TypeError"),
        ("read(1.5)", "TypeError"),
        ("readline(None)", "TypeError"),
    ],
)
def test_wrong_arguments(kit: Scripted, call: str, error: str) -> None:
    body = f"""
    try:
        conn.{call}
    except (TypeError, ValueError) as error:
        return type(error).__name__, conn.readline()
    """
    assert kit.value(body, b"nothing lost\n") == (error, b"nothing lost\n")


def test_two_threads_cannot_read_at_once(kit: Scripted, tls: bool) -> None:
    ordinary_only(kit)
    body = """
    import threading

    def attempt():
        try:
            lines.append(conn.readline())
        except RuntimeError as error:
            conn.write(b"%s\\n" % str(error).encode())

    lines = []
    threads = [threading.Thread(target=attempt) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    conn.write(b"".join(lines) + conn.readline())
    """
    # While there is no input the one waits for it and the other one is refused.
    refusal = b"another thread is reading from this connection\n"
    with kit.open(body, tls=tls) as sock:
        assert receive_exactly(sock, len(refusal)) == refusal
        sock.sendall(b"one\ntwo\n")
        assert receive_all(sock) == b"one\ntwo\n"


def test_keyword_arguments(kit: Scripted) -> None:
    body = """
    return (conn.peek(length=1), conn.read(length=1), conn.readexactly(length=1), conn.readline(length=1),
            conn.readuntil(separator=b";", limit=9))
    """
    assert kit.value(body, b"abcd;") == (b"a", b"a", b"b", b"c", b"d;")
