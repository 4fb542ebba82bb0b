"""Writing to a connection: what is collected, when it is sent, and by whom."""

from __future__ import annotations

import errno
import hashlib
import socket
import textwrap
from pathlib import Path

import pytest

from tests.async_scripted import either, ordinary_only
from tests.scripted import TIMEOUT, Scripted, receive_all, receive_exactly, reset, reset_and_wait, wait_read

MIB = 1 << 20


kit = either()


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


#: For handlers that must not do anything with their connection until the client says so.
UNTIL = """
def until(path):
    import os, time
    while not os.path.exists(path):
        time.sleep(0.001)
"""


# ---- what may be written


@pytest.mark.parametrize(
    ("data", "sent"),
    [
        ("b'bytes'", b"bytes"),
        ("b'\\0\\xff\\n'", b"\0\xff\n"),
        ("bytearray(b'bytearray')", b"bytearray"),
        ("memoryview(b'memoryview')[2:6]", b"mory"),
        ("type('Own', (bytes,), {})(b'subclass')", b"subclass"),
        ("__import__('array').array('I', [1, 2])", b"\1\0\0\0\2\0\0\0"),
        ("[b'a', bytearray(b'b'), memoryview(b'c')]", b"abc"),
        ("(b'a', b'', b'b')", b"ab"),
        ("[]", b""),
        ("()", b""),
        ("b''", b""),
        ("bytearray()", b""),
        ("[b'x' * 70_000, b'y', b'z' * 70_000]", b"x" * 70_000 + b"y" + b"z" * 70_000),
    ],
)
def test_what_may_be_written(kit: Scripted, data: str, sent: bytes) -> None:
    assert kit.run(f"assert conn.write({data}) is None\nconn.write(b'.')") == sent + b"."


@pytest.mark.parametrize(
    ("data", "error", "sent"),
    [
        ("'text'", "TypeError", b""),
        ("None", "TypeError", b""),
        ("5", "TypeError", b""),
        ("iter([b'x'])", "TypeError", b""),
        ("{b'x': 1}", "TypeError", b""),
        ("[[b'x']]", "TypeError", b""),
        ("[b'x', 'text', b'y']", "TypeError", b"x"),
        ("memoryview(b'abcd')[::2]", "BufferError", b""),
    ],
)
def test_what_may_not_be_written(kit: Scripted, data: str, error: str, sent: bytes) -> None:
    body = f"""
    try:
        conn.write({data})
    except (TypeError, BufferError) as error:
        conn.write(b"|" + type(error).__name__.encode())
    """
    assert kit.run(body) == sent + b"|" + error.encode()


def test_text_is_refused_with_the_remedy(kit: Scripted) -> None:
    body = """
    try:
        conn.write("text")
    except TypeError as error:
        message = str(error)
    return message
    """
    assert "encode" in kit.value(body)


def test_what_was_written_may_change_afterwards(kit: Scripted, tls: bool) -> None:
    body = """
    for size in (10, 1000, 100_000):
        data = bytearray(b"a" * size)
        conn.write(data)
        data[:] = b"b" * size
    """
    assert kit.run(body, tls=tls) == b"a" * 101_010


# ---- when it is sent


def test_pending_output_is_sent_before_waiting_for_input(kit: Scripted, tls: bool) -> None:
    body = """
    for turn in range(3):
        for number in range(100):
            conn.write(b"%d.%d " % (turn, number))
        conn.readline()
    """
    with kit.open(body, tls=tls) as sock:
        for turn in range(3):
            expected = b"".join(b"%d.%d " % (turn, number) for number in range(100))
            assert receive_exactly(sock, len(expected)) == expected
            sock.sendall(b"\n")
        assert receive_all(sock) == b""


@pytest.mark.parametrize("read", ["read()", "read(1)", "readexactly(1)", "readuntil(b'x')", "peek()", "__next__()"])
def test_every_reading_method_sends_first(kit: Scripted, read: str) -> None:
    with kit.open(f"conn.write(b'prompt> ')\nconn.{read}") as sock:
        assert receive_exactly(sock, 8) == b"prompt> "
        sock.sendall(b"x\n")


def test_flush_sends(kit: Scripted, tls: bool) -> None:
    ordinary_only(kit)
    path = kit.server.site / f"flushed{tls:d}"
    body = f"{UNTIL}\nconn.write(b'one')\nconn.flush()\nuntil({str(path)!r})\nconn.write(b'two')\nconn.flush()"
    with kit.open(body, tls=tls) as sock:
        assert receive_exactly(sock, 3) == b"one"
        kit.server.write_file(path.name, "")
        assert receive_all(sock) == b"two"


def test_much_is_sent_without_a_flush(kit: Scripted, tls: bool) -> None:
    ordinary_only(kit)
    path = kit.server.site / f"much{tls:d}"
    body = f"{UNTIL}\nfor n in range(70): conn.write(b'x' * 1000)\nuntil({str(path)!r})"
    with kit.open(body, tls=tls) as sock:
        # 64 KiB is collected at most.
        assert len(receive_exactly(sock, 65_000)) == 65_000
        kit.server.write_file(path.name, "")
        assert len(receive_all(sock)) == 5000


def test_the_end_of_the_handler_sends(kit: Scripted, tls: bool) -> None:
    kit.server.allow("on purpose")
    assert kit.run("conn.write(b'last words')", tls=tls) == b"last words"
    assert kit.run("conn.write(b'last words')\nconn.close()", tls=tls) == b"last words"
    assert kit.run("conn.write(b'last words')\nraise ValueError('on purpose')", tls=tls) == b"last words"


def test_small_and_large_pieces_keep_their_order(kit: Scripted, tls: bool) -> None:
    body = """
    for number, size in enumerate([1, 65535, 1, 65536, 1, 65537, 3, 200_000, 5, 0, 7, 65530]):
        conn.write(bytes([number]) * size)
    """
    sizes = [1, 65535, 1, 65536, 1, 65537, 3, 200_000, 5, 0, 7, 65530]
    assert kit.run(body, tls=tls) == b"".join(bytes([number]) * size for number, size in enumerate(sizes))


def test_a_slow_reader_gets_everything(kit: Scripted, tls: bool) -> None:
    body = """
    import hashlib
    data = os.urandom(32 << 20)
    conn.write(data)
    conn.write(hashlib.sha256(data).digest())
    """
    with kit.open(body, tls=tls) as sock:
        # More than the kernel's buffers hold, so the handler has to wait for us.
        data = bytearray()
        while part := sock.recv(10_000):
            data += part
    assert len(data) == 32 * MIB + 32
    assert hashlib.sha256(data[:-32]).digest() == bytes(data[-32:])


def test_both_directions_at_once(kit: Scripted, tls: bool) -> None:
    # The client sends much more than buffers hold before it reads anything; the handler
    # answers in between.
    body = """
    total = 0
    while part := conn.read(100_000):
        total += len(part)
        conn.write(b".")
        if total == 4 << 20:
            break
    conn.write(b"%d" % total)
    """
    assert kit.run(body, b"x" * 4 * MIB, tls=tls).lstrip(b".") == b"%d" % (4 * MIB)


# ---- from other threads


def test_another_thread_writes_while_the_handler_waits(kit: Scripted, tls: bool) -> None:
    ordinary_only(kit)
    body = """
    import threading

    def work():
        conn.write(b"from a thread\\n")
        if go_on.wait(30):
            conn.write(b"again\\n")

    go_on = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    assert conn.readline() == b"first\\n"
    go_on.set()
    assert conn.readline() == b"second\\n"
    thread.join()
    conn.write(b"end")
    """
    with kit.open(body, tls=tls) as sock:
        assert receive_exactly(sock, 14) == b"from a thread\n"
        sock.sendall(b"first\n")
        assert receive_exactly(sock, 6) == b"again\n"
        sock.sendall(b"second\n")
        assert receive_all(sock) == b"end"


def test_each_write_of_many_threads_is_whole(kit: Scripted, tls: bool) -> None:
    ordinary_only(kit)
    body = """
    import threading

    def work(name):
        for number in range(100):
            conn.write(b"%d %d %s\\n" % (name, number, b"x" * (number * 37 % 2000)))

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    while conn.readline() != b"stop\\n":
        pass
    for thread in threads:
        thread.join()
    """
    with kit.open(body, tls=tls) as sock:
        sock.sendall(b"go on\n" * 200 + b"stop\n")
        lines = receive_all(sock).splitlines()
    assert len(lines) == 400
    for name in range(4):
        own = [line for line in lines if line.startswith(b"%d " % name)]
        assert own == [b"%d %d %s" % (name, number, b"x" * (number * 37 % 2000)) for number in range(100)]


# ---- half-close


def test_the_sending_direction_alone_can_be_closed(kit: Scripted) -> None:
    body = """
    assert conn.can_write_eof()
    conn.write(b"bye")
    conn.write_eof()
    kept["heard"] = conn.readline(), conn.readline()
    try:
        conn.write(b"too late")
        conn.flush()
    except apache.ConnectionClosed:
        kept["late"] = True
    """
    with kit.open(body) as sock:
        assert receive_all(sock) == b"bye"
        sock.sendall(b"still talking\n")
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(TIMEOUT)
    assert kit.wait_kept("heard") == (b"still talking\n", b"")
    assert kit.wait_kept("late") is True


def test_half_close_of_a_connection_that_was_reset(kit: Scripted, public_path: Path) -> None:
    ordinary_only(kit)
    gone = public_path / "gone"
    body = f"""
    {textwrap.indent(UNTIL, "    ").strip()}
    conn.readline()
    until({str(gone)!r})
    try:
        conn.write_eof()
    except apache.ConnectionClosed as error:
        kept["error"] = error.errno
    """
    sock = kit.open(body, b"line\n")
    wait_read(sock)
    reset_and_wait(sock)
    gone.touch()
    assert kit.wait_kept("error") == errno.ENOTCONN


def test_tls_has_no_half_close(kit: Scripted) -> None:
    body = """
    assert not conn.can_write_eof()
    try:
        conn.write_eof()
    except OSError as error:
        conn.write(b"%s|" % str(error).encode() + conn.readline())
    """
    assert kit.run(body, b"usable\n", tls=True) == b"a TLS connection cannot be closed in one direction|usable\n"


def test_the_client_may_close_its_sending_direction(kit: Scripted, tls: bool) -> None:
    body = """
    count = 0
    for line in conn:
        count += 1
    for number in range(1000):
        conn.write(b"%d\\n" % number)
        conn.flush()
    conn.write(b"%d" % count)
    """
    expected = b"".join(b"%d\n" % number for number in range(1000)) + b"3"
    assert kit.run(body, b"a\nb\nc\n", end=True, tls=tls) == expected


# ---- peers that are gone


@pytest.mark.parametrize("flush", [False, True], ids=["write", "flush"])
def test_writing_to_a_peer_that_has_gone(kit: Scripted, tls: bool, flush: bool) -> None:
    body = f"""
    errors = []
    conn.readline()
    for turn in range(2):
        try:
            while True:
                conn.write(b"x" * {1000 if flush else 100_000})
                {"conn.flush()" if flush else "pass"}
        except OSError as error:
            errors.append((type(error).__name__, isinstance(error, apache.ConnectionClosed), conn.aborted))
    kept["gone"] = errors
    conn.write(b"x" * 100_000)
    """
    mark = kit.mark()
    sock = kit.open(body, tls=tls)
    sock.sendall(b"\n")
    receive_exactly(sock, 100_000)
    reset(sock)
    assert kit.wait_kept("gone") == [("ConnectionClosed", True, 1)] * 2
    assert kit.wait_logged(mark, "the peer has gone: writing failed").level == "debug"
    assert kit.since(mark) == []


def test_what_came_before_a_reset_of_the_answer_can_be_read(kit: Scripted) -> None:
    # A failed write does not take away input that has arrived.
    body = """
    conn.peek(4)
    try:
        while True:
            conn.write(b"x" * 100_000)
    except apache.ConnectionClosed:
        pass
    lines = [conn.readline(), conn.readline()]
    try:
        conn.readline()
    except apache.ConnectionClosed:
        lines.append("closed")
    kept["lines"] = lines
    """
    sock = kit.open(body, b"a\nb\n")
    receive_exactly(sock, 100_000)
    reset(sock)
    assert kit.wait_kept("lines") == [b"a\n", b"b\n", "closed"]
