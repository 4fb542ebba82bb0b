"""Writing in coroutine functions: what is unsent, who waits for it, and peers that do not read.

What ordinary handlers have in common with them is in test_connection_writing.py.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
from collections.abc import Iterator

import pytest

from tests.async_scripted import AsyncScripted, async_scripted, is_prefork
from tests.processes import memory
from tests.scripted import receive_all, receive_exactly, reset

MIB = 1 << 20


@pytest.fixture(scope="module")
def kit() -> Iterator[AsyncScripted]:
    with async_scripted() as kit:
        yield kit


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


# ---- how much may be unsent


def test_write_does_not_wait_and_drain_does(kit: AsyncScripted, tls: bool) -> None:
    body = """
    await conn.readline()
    waits = 0
    async def counter():
        nonlocal waits
        while True:
            waits += 1
            await asyncio.sleep(0.001)
    task = asyncio.create_task(counter())
    before = conn.high_water, conn.unsent_bytes
    conn.write(b"x" * (16 << 20))
    conn.write(b"y")
    unsent = conn.unsent_bytes
    conn.log_error(f"unsent: {before} {unsent > 1 << 20} {waits}", apache.APLOG_NOTICE)
    await conn.drain()
    after = conn.unsent_bytes
    task.cancel()
    conn.write(repr((after <= conn.high_water, waits > 0)).encode())
    """
    mark = kit.mark()
    with kit.open(body, b"go\n", tls=tls) as sock:
        # Nobody has waited in write(), though nobody reads yet.
        assert kit.wait_logged(mark, "unsent:").message.endswith("unsent: (65536, 0) True 0")
        data = receive_all(sock)
    assert data == b"x" * 16 * MIB + b"y(True, True)"


def test_high_water_can_be_chosen(kit: AsyncScripted, tls: bool) -> None:
    body = """
    result = []
    for value in (-1, "1", None):
        try:
            conn.high_water = value
        except (ValueError, TypeError) as error:
            result.append(type(error).__name__)
    conn.high_water = 32 << 20
    conn.write(b"x" * (16 << 20))
    task = asyncio.create_task(asyncio.sleep(0))
    await conn.drain()                  # at once
    result.append(task.done())
    conn.high_water = 0
    await conn.drain()
    result.append(conn.unsent_bytes)
    conn.write(repr(result).encode())
    """
    data = kit.run(body, tls=tls)
    assert data[16 * MIB :] == repr(["ValueError", "TypeError", "TypeError", False, 0]).encode()


def test_more_than_the_limit_is_refused(kit: AsyncScripted, tls: bool) -> None:
    """The peer reads only afterwards."""
    body = """
    conn.limit = 20 << 20
    await conn.readline()
    conn.write(b"x" * (19 << 20))
    message = "nothing was raised"
    try:
        conn.write(b"y" * (19 << 20))
    except apache.LimitError as error:
        message = str(error)
    conn.log_error("tried", apache.APLOG_NOTICE)
    await conn.drain()
    conn.write(message.encode())
    """
    mark = kit.mark()
    with kit.open(body, b"go\n", tls=tls) as sock:
        kit.wait_logged(mark, "tried")
        data = receive_all(sock)
    assert len(data) - 19 * MIB < 200
    assert b"await conn.drain()" in data[19 * MIB :]


def test_one_write_may_be_longer_than_the_limit(kit: AsyncScripted) -> None:
    assert len(kit.run("conn.limit = 1000\nconn.write(b'x' * 5_000_000)\nawait conn.drain()")) == 5_000_000


def test_a_write_over_the_limit_that_escapes_is_one_line(kit: AsyncScripted) -> None:
    body = "conn.limit = 10\nawait conn.readline()\nwhile True: conn.write(b'x' * 1_000_000)"
    mark = kit.mark()
    with kit.open(body, b"go\n") as sock:
        record = kit.wait_logged(mark, "bytes are unsent already")
        assert record.level == "info"
        assert len(receive_all(sock)) % 1_000_000 == 0  # what was accepted is sent


def test_memory_is_bounded_with_peers_that_do_not_read(kit: AsyncScripted, tls: bool) -> None:
    body = """
    data = b"x" * 10_000
    while True:
        conn.write(data)
        await conn.drain()
        kept["written"] = kept.get("written", 0) + 1
    """
    if is_prefork():
        pytest.skip("a process of prefork has one connection at a time")
    kit.run("kept.pop('written', None)")
    (child,) = kit.server.children()
    before = memory(child).private
    socks = [kit.open(body, tls=tls) for _ in range(20)]
    written = -1

    def still() -> bool:
        nonlocal written
        previous, written = written, kit.value("await asyncio.sleep(0.1)\nreturn kept.get('written', 0)")
        return bool(written == previous > 0)

    kit.server.wait_until(still, what="all of them to wait")
    # high_water, one write, what httpd's filters hold, and malloc's waste.
    assert memory(child).private - before < len(socks) * 400_000 + 4 * MIB
    for sock in socks:
        reset(sock)
    kit.server.wait_until(lambda: kit.value("return len(asyncio.all_tasks())") == 1)


# ---- what flush waits for


def test_flush_has_handed_over_everything(kit: AsyncScripted, tls: bool) -> None:
    body = """
    conn.write(b"x" * (16 << 20))
    await conn.flush()
    kept["unsent"] = conn.unsent_bytes
    conn.write(b"end")
    """
    data = kit.run(body, tls=tls)
    assert len(data) == 16 * MIB + 3
    assert kit.wait_kept("unsent") == 0


def test_everything_is_sent_after_the_handler_has_returned(kit: AsyncScripted, tls: bool) -> None:
    kit.server.allow("on purpose")
    for end in (
        "return",
        "return apache.OK",
        "conn.close()",
        "raise ValueError('on purpose')",
        "asyncio.current_task().cancel(); await asyncio.sleep(0)",
    ):
        body = f"""
        import hashlib
        data = os.urandom(16 << 20)
        conn.write([data, hashlib.sha256(data).digest()])
        {end}
        await asyncio.sleep(0)
        """
        data = kit.run(body, tls=tls)
        assert len(data) == 16 * MIB + 32, end
        assert hashlib.sha256(data[:-32]).digest() == data[-32:], end


def test_several_tasks_wait_for_the_same_output(kit: AsyncScripted, tls: bool) -> None:
    body = """
    conn.write(b"x" * (8 << 20))
    await asyncio.gather(conn.drain(), conn.flush(), conn.drain(), conn.flush())
    conn.write(b"%d" % conn.unsent_bytes)
    """
    assert kit.run(body, tls=tls) == b"x" * 8 * MIB + b"0"


def test_a_drain_that_is_given_up(kit: AsyncScripted, tls: bool) -> None:
    body = """
    await conn.readline()
    conn.write(b"x" * (16 << 20))
    for wait in (conn.drain, conn.flush):
        try:
            await asyncio.wait_for(wait(), 0.01)
        except TimeoutError:
            conn.write(b"y")
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            conn.write(b"z")
    conn.log_error("given up", apache.APLOG_NOTICE)
    await conn.readline()
    """
    mark = kit.mark()
    with kit.open(body, b"go\n", tls=tls) as sock:
        kit.wait_logged(mark, "given up")
        sock.sendall(b"end\n")
        assert receive_all(sock) == b"x" * 16 * MIB + b"yzyz"


# ---- who writes


def test_any_task_of_the_loop_may_write(kit: AsyncScripted, tls: bool) -> None:
    body = """
    queue = asyncio.Queue()

    async def writer():
        while (line := await queue.get()) is not None:
            conn.write(line)
            await conn.drain()

    task = asyncio.create_task(writer())
    async for line in conn:
        await queue.put(line.upper())
    await queue.put(None)
    await task
    """
    with kit.open(body, tls=tls) as sock:
        for number in range(20):  # each answer comes although the handler waits for input
            sock.sendall(b"line %d\n" % number)
            assert receive_exactly(sock, len(b"line %d\n" % number)) == b"LINE %d\n" % number


def test_a_connection_writes_to_another_one(kit: AsyncScripted, tls: bool) -> None:
    if is_prefork():
        pytest.skip("a process of prefork has one connection at a time")
    talk = """
    others = kept.setdefault("others", [])
    others.append(conn)
    conn.write(b"welcome\\n")
    try:
        async for line in conn:
            for other in others:
                other.write(line)
    finally:
        others.remove(conn)
    """
    with kit.open(talk, tls=tls) as one, kit.open(talk) as other:
        assert receive_exactly(one, 8) == receive_exactly(other, 8) == b"welcome\n"
        for sock in (one, other):
            sock.sendall(b"hello\n")
            assert receive_exactly(one, 6) == receive_exactly(other, 6) == b"hello\n"


def test_threads_write_through_the_loop(kit: AsyncScripted, tls: bool) -> None:
    body = """
    import threading
    loop, errors = asyncio.get_running_loop(), []

    def work():
        for call in (lambda: conn.write(b"no"), conn.close, lambda: conn.drain().send(None)):
            try:
                call()
            except RuntimeError as error:
                errors.append("call_soon_threadsafe" in str(error))
        loop.call_soon_threadsafe(conn.write, b"from a thread\\n")

    thread = threading.Thread(target=work)
    thread.start()
    conn.write(await conn.readline() + repr(errors).encode())
    thread.join()
    """
    with kit.open(body, tls=tls) as sock:
        assert receive_exactly(sock, 14) == b"from a thread\n"
        sock.sendall(b"line\n")
        assert receive_all(sock) == b"line\n[True, True, True]"


def test_what_is_written_in_one_turn_goes_together(kit: AsyncScripted) -> None:
    """One segment, not a hundred: as in ordinary handlers."""
    body = """
    await conn.readline()
    for number in range(100):
        conn.write(b"%02d" % number)
    await conn.readline()
    """
    with kit.open(body, b"go\n") as sock:
        first = sock.recv(1000)
    assert len(first) == 200


# ---- half-close


def test_write_eof_sends_what_is_pending(kit: AsyncScripted) -> None:
    body = """
    conn.write(b"x" * (8 << 20))
    await conn.write_eof()
    kept["heard"] = await conn.readline(), await conn.readline()
    """
    with kit.open(body) as sock:
        assert receive_all(sock) == b"x" * 8 * MIB
        sock.sendall(b"still talking\n")
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(1) == b""
    assert kit.wait_kept("heard") == (b"still talking\n", b"")


# ---- peers that do not read, or have gone


@pytest.mark.parametrize("wait", ["drain()", "flush()", "readline()", "write_eof()"])
def test_a_write_timeout(kit: AsyncScripted, tls: bool, wait: str) -> None:
    if tls and wait == "write_eof()":
        pytest.skip("TLS has no half-close: write_eof() is for plain connections")
    body = f"""
    conn.write_timeout = 0.2
    conn.read_timeout = None
    await conn.readline()
    conn.write(b"x" * (64 << 20))
    try:
        await conn.{wait}
    except apache.ConnectionTimeout as error:
        kept["error"] = str(error), conn.aborted, conn.closed
        raise
    """
    mark = kit.mark()
    with kit.open(body, b"go\n", tls=tls):
        # Not reading anything until it has happened.
        record = kit.wait_logged(mark, "connection ended: time-out while writing")
    assert record.level == "info"
    assert kit.wait_kept("error") == ("time-out while writing: nothing could be sent for 0.2 seconds", 1, True)
    assert kit.since(mark) == [record]


def test_a_write_timeout_after_the_handler_has_returned(kit: AsyncScripted, tls: bool) -> None:
    body = "conn.write_timeout = 0.2\nawait conn.readline()\nconn.write(b'x' * (64 << 20))\nkept['done'] = True"
    with kit.open(body, b"go\n", tls=tls):
        if is_prefork():
            # The same process serves the next connection: it has ended.
            assert kit.wait_kept("done") is True
        else:
            kit.server.wait_until(lambda: kit.value("return len(asyncio.all_tasks())") == 1)


def test_a_peer_that_reads_slowly_is_waited_for(kit: AsyncScripted, tls: bool) -> None:
    """The time-out is for a peer that takes nothing at all."""
    limit = 5
    body = f"conn.write_timeout = {limit}\nconn.write(b'x' * (24 << 20))\nawait conn.flush()\nconn.write(b'end')"
    with kit.open(body, tls=tls) as sock:
        data, begin = bytearray(), time.monotonic()
        # Longer than the time-out, and always a little.
        while time.monotonic() - begin < limit + 1:
            time.sleep(0.06)
            data += receive_exactly(sock, 150_000)
        data += receive_all(sock)
    assert data == b"x" * 24 * MIB + b"end"


@pytest.mark.parametrize(
    ("where", "size"),
    [
        ("await conn.drain()", 100_000),
        ("await conn.flush()", 100_000),
        ("await conn.readline()", 100_000),
        # Nothing slows these down: the limit must be far away until the reset is noticed.
        ("await asyncio.sleep(0.001)", 100),
        ("await asyncio.sleep(0)", 100),
    ],
)
def test_a_reset_while_writing(kit: AsyncScripted, tls: bool, where: str, size: int) -> None:
    body = f"""
    import errno
    conn.limit = 1 << 30
    conn.write(b"ready")
    await conn.readline()
    try:
        while True:
            conn.write(b"x" * {size})
            {where}
    except apache.ConnectionClosed as error:
        kept["gone"] = error.errno in (errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED), conn.closed, conn.aborted
        try:
            conn.write(b"more")
        except apache.ConnectionClosed:
            kept["again"] = True
        raise
    """
    mark = kit.mark()
    sock = kit.open(body, tls=tls)
    assert receive_exactly(sock, 5) == b"ready"
    sock.sendall(b"go\n")
    receive_exactly(sock, 50_000)
    reset(sock)
    assert kit.wait_kept("gone") == (True, True, 1)
    if where != "await conn.readline()":  # which learns of it by reading
        assert kit.wait_kept("again") is True
    assert kit.wait_logged(mark, "connection ended: [Errno").level == "debug"
    assert kit.since(mark) == []


def test_the_socket_is_closed_when_the_peer_has_gone(kit: AsyncScripted, tls: bool) -> None:
    """Nobody who has been reset costs anything afterwards."""

    def sockets() -> int:
        (child,) = kit.server.children()
        count = 0
        for entry in os.listdir(f"/proc/{child}/fd"):
            try:
                count += bool(re.match("socket:", os.readlink(f"/proc/{child}/fd/{entry}")))
            except FileNotFoundError:
                pass
        return count

    before = sockets()
    for _ in range(10):
        sock = kit.open("conn.write(b'ready')\nconn.write(await conn.readline())", tls=tls)
        assert receive_exactly(sock, 5) == b"ready"
        reset(sock)
    kit.server.wait_until(lambda: sockets() <= before, what="the end of the sockets")
