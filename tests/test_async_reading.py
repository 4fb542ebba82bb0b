"""Reading in coroutine functions: what ordinary handlers do not have, such as tasks, cancellation and time-outs.

That every method reads as in an ordinary handler, however the bytes are cut, is shown by
test_connection_reading.py and test_connection_mixed.py, which run for both kinds.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from tests.async_scripted import AsyncScripted, async_scripted
from tests.scripted import TlsPeer, receive_all, receive_exactly, wait_read


@pytest.fixture(scope="module", params=["auto", "asyncio"])
def kit(request: pytest.FixtureRequest) -> Iterator[AsyncScripted]:
    with async_scripted(f"PythonOption mod_python.async.loop {request.param}") as kit:
        yield kit


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


#: Every read that has to wait, and what it gives of b"abcdef\n" in the end.
READS = [
    ("readline()", b"abcdef\n"),
    ("readline(100)", b"abcdef\n"),
    ("readexactly(6)", b"abcdef"),
    ("readuntil(b'f')", b"abcdef"),
    ("readuntil(b'def')", b"abcdef"),
    ("peek(6)", b"abcdef"),
    ("__anext__()", b"abcdef\n"),
]


# ---- ways to give up


@pytest.mark.parametrize(("read", "result"), READS)
@pytest.mark.parametrize(
    "attempt",
    [
        "async with asyncio.timeout(0.02): await conn.{read}",
        "await asyncio.wait_for(conn.{read}, 0.02)",
        "conn.read_timeout = 0.02; await conn.{read}",
    ],
    ids=["timeout", "wait_for", "read_timeout"],
)
def test_a_read_that_took_too_long_loses_nothing(
    kit: AsyncScripted, tls: bool, read: str, result: bytes, attempt: str
) -> None:
    body = f"""
    for turn in range(3):
        try:
            {attempt.replace("{read}", read)}
        except TimeoutError:
            conn.write(b"late\\n")
    conn.read_timeout = None
    conn.write(await conn.{read})
    """
    with kit.open(body, b"abc", tls=tls) as sock:
        assert receive_exactly(sock, 15) == b"late\n" * 3
        sock.sendall(b"def\n")
        assert receive_all(sock) == result


@pytest.mark.parametrize(("read", "result"), READS)
def test_a_read_whose_task_was_cancelled_loses_nothing(kit: AsyncScripted, tls: bool, read: str, result: bytes) -> None:
    body = f"""
    for turn in range(3):
        task = asyncio.create_task(conn.{read})
        for _ in range(turn):       # not begun, just begun, waiting
            await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            conn.write(b"cancelled\\n")
    conn.write(await conn.{read})
    """
    with kit.open(body, b"abc", tls=tls) as sock:
        assert receive_exactly(sock, 30) == b"cancelled\n" * 3
        sock.sendall(b"def\n")
        assert receive_all(sock) == result


def test_bytes_that_come_while_a_read_is_given_up(kit: AsyncScripted, tls: bool) -> None:
    """However the arrival and the end of the wait fall together, every byte is read once."""
    body = """
    got, late = bytearray(), 0
    while len(got) < 3000:
        try:
            got += await asyncio.wait_for(conn.readexactly(3), 0.001)
        except TimeoutError:
            late += 1
            if late == 1:
                conn.write(b"!")
    conn.write(got)
    """
    data = b"".join(b"%03d" % number for number in range(1000))
    with kit.open(body, tls=tls) as sock:
        assert receive_exactly(sock, 1) == b"!"
        for start in range(0, len(data), 7):
            sock.sendall(data[start : start + 7])
            if start % 70 == 0:
                time.sleep(0.001)
        assert receive_all(sock) == data


def test_a_read_timeout_says_what_it_is(kit: AsyncScripted) -> None:
    body = """
    conn.read_timeout = 0.02
    try:
        await conn.readline()
    except apache.ConnectionTimeout as error:
        return isinstance(error, TimeoutError), str(error)
    """
    assert kit.value(body) == (True, "time-out while reading: nothing came for 0.02 seconds")


def test_many_connections_with_time_outs(kit: AsyncScripted) -> None:
    from tests.async_scripted import is_prefork

    body = "conn.read_timeout = 0.2\nawait conn.readline()"
    mark = kit.mark()
    socks = [kit.open(body) for _ in range(1 if is_prefork() else 30)]
    for sock in socks:
        with sock:
            assert receive_all(sock) == b""

    def late() -> int:
        return sum("time-out while reading" in record.message for record in kit.since(mark))

    kit.server.wait_until(lambda: late() == len(socks), what="a time-out of each")


# ---- tasks


def test_two_tasks_cannot_read_at_once(kit: AsyncScripted, tls: bool) -> None:
    body = """
    first = asyncio.create_task(conn.readline())
    await asyncio.sleep(0)
    for read in (conn.readline, conn.read, conn.peek, conn.__anext__, lambda: conn.readexactly(1)):
        try:
            await read()
        except RuntimeError as error:
            conn.write(b"%s\\n" % str(error).encode())
    conn.write(await first + await conn.readline())
    """
    refusal = b"another task is reading from this connection\n"
    with kit.open(body, tls=tls) as sock:
        assert receive_exactly(sock, 5 * len(refusal)) == 5 * refusal
        sock.sendall(b"one\ntwo\n")
        assert receive_all(sock) == b"one\ntwo\n"


def test_a_read_is_awaited_once(kit: AsyncScripted) -> None:
    body = """
    result = []
    for reading in (conn.readline(), conn.read(), conn.drain(), conn.flush()):
        await reading
        try:
            await reading
        except RuntimeError as error:
            result.append(str(error))
    return result
    """
    twice = ["cannot await the same read twice"] * 2 + ["cannot await the same flush twice"] * 2
    assert kit.value(body, b"one\ntwo\n") == twice


def test_a_read_that_is_not_awaited_takes_nothing(kit: AsyncScripted) -> None:
    body = """
    conn.readline()
    reading = conn.readline()
    del reading
    task = asyncio.create_task(conn.readline())
    task.cancel()
    return await conn.readline()
    """
    assert kit.value(body, b"one\ntwo\n") == b"one\n"


def test_a_read_that_is_dropped_while_it_waits(kit: AsyncScripted) -> None:
    body = """
    reading = conn.readline()
    reading.send(None)      # it waits now
    del reading
    conn.write(b"ready\\n")
    conn.write(await conn.readline())
    """
    with kit.open(body) as sock:
        assert receive_exactly(sock, 6) == b"ready\n"
        sock.sendall(b"line\n")
        assert receive_all(sock) == b"line\n"


def test_reads_as_arguments_of_asyncio(kit: AsyncScripted, tls: bool) -> None:
    body = """
    one, answer = await asyncio.gather(conn.readline(), asyncio.sleep(0, "slept"))
    task = asyncio.ensure_future(conn.readline())
    done, pending = await asyncio.wait([task], timeout=30)
    async with asyncio.TaskGroup() as group:
        three = group.create_task(conn.readline())
    return one, answer, task.result(), len(pending), three.result()
    """
    assert kit.value(body, b"a\nb\nc\n", tls=tls) == (b"a\n", "slept", b"b\n", 0, b"c\n")


def test_another_task_reads(kit: AsyncScripted, tls: bool) -> None:
    body = """
    queue = asyncio.Queue(2)

    async def reader():
        async for line in conn:
            await queue.put(line)
        await queue.put(None)

    task = asyncio.create_task(reader())
    while (line := await queue.get()) is not None:
        conn.write(line.upper())
    await task
    """
    lines = b"".join(b"line %d\n" % number for number in range(500))
    assert kit.run(body, lines, end=True, tls=tls) == lines.upper()


def test_a_read_of_another_loop(kit: AsyncScripted) -> None:
    body = """
    async def read():
        return await conn.readline()

    def work():
        try:
            asyncio.run(read())
        except RuntimeError as error:
            return str(error)

    return await asyncio.to_thread(work), await conn.readline()
    """
    message, line = kit.value(body, b"line\n")
    assert "another thread" in message
    assert line == b"line\n"


def test_context_variables(kit: AsyncScripted) -> None:
    """Each connection has its own, and they are there after every wait."""
    body = """
    import contextvars
    name = kept.setdefault("variable", contextvars.ContextVar("name", default=None))
    result = [name.get()]
    name.set(await conn.readline())
    conn.write(b"!")
    await conn.readline()
    result.append(name.get())
    async with asyncio.timeout(60):
        await asyncio.sleep(0)
        result.append(name.get())
    result.append(await asyncio.to_thread(name.get))
    conn.write(repr(result).encode())
    """
    from tests.async_scripted import is_prefork

    count = 1 if is_prefork() else 3
    socks = [kit.open(body, b"%d\n" % number) for number in range(count)]
    for sock in socks:
        assert receive_exactly(sock, 1) == b"!"
    for number, sock in enumerate(socks):
        with sock:
            sock.sendall(b"go\n")
            own = b"%d\n" % number
            assert receive_all(sock) == repr([None, own, own, own]).encode()


def test_threads_for_what_takes_long(kit: AsyncScripted) -> None:
    body = """
    import threading
    own, other = threading.get_ident(), await asyncio.to_thread(threading.get_ident)
    return own != other, await asyncio.to_thread(conn.notes.get, "x", "y")
    """
    assert kit.value(body) == (True, "y")


# ---- the end of the stream


def test_the_end_comes_with_the_last_bytes(kit: AsyncScripted, tls: bool) -> None:
    """A handler that was busy finds both at once."""
    body = """
    conn.write(b"ready")
    await conn.flush()
    while not os.path.exists({path!r}):
        time.sleep(0.001)       # deliberately: the loop must not read meanwhile
    result = [await conn.{read}]
    result.append(await conn.read(-1))
    result.append(await conn.read())
    conn.write(repr(result).encode())
    """
    for number, (read, first, rest) in enumerate(
        [
            ("readline()", b"a\n", b"b;cd\n"),
            ("readline(1)", b"a", b"\nb;cd\n"),
            ("readexactly(3)", b"a\nb", b";cd\n"),
            ("readuntil(b';')", b"a\nb;", b"cd\n"),
            ("read(4)", b"a\nb;", b"cd\n"),
            ("peek(2)", b"a\n", b"a\nb;cd\n"),
            ("__anext__()", b"a\n", b"b;cd\n"),
        ]
    ):
        path = kit.server.site / f"end{tls:d}{number}"
        path.unlink(missing_ok=True)
        source = kit.script(body.replace("{path!r}", repr(str(path))).replace("{read}", read))
        if tls:
            with TlsPeer(kit.server, 1) as peer:
                peer.sendall(source)
                ready = b""
                while len(ready) < 5:
                    ready += _tls_some(peer)
                peer.sendall(b"a\nb;cd\n")
                peer.end()
                kit.server.write_file(path.name, "")
                answer = peer.receive_all()
        else:
            with kit.server.connect() as sock:
                sock.sendall(source)
                assert receive_exactly(sock, 5) == b"ready"
                sock.sendall(b"a\nb;cd\n")
                sock.shutdown(socket.SHUT_WR)
                kit.server.write_file(path.name, "")
                answer = receive_all(sock)
        assert answer == repr([first, rest, b""]).encode(), read


def _tls_some(peer: TlsPeer) -> bytes:
    """Receive something, at least one byte."""
    import ssl

    while True:
        try:
            return peer._tls.read(1 << 16)
        except ssl.SSLWantReadError:
            more = peer.sock.recv(1 << 16)
            assert more
            peer._in.write(more)


def test_iteration_ends_and_stays_ended(kit: AsyncScripted) -> None:
    body = """
    first = [line async for line in conn]
    second = [line async for line in conn]
    try:
        await conn.readline()
    except apache.ConnectionClosed:
        second.append("closed")
    return first, second
    """
    assert kit.value(body, b"a\nb", end=True) == ([b"a\n", b"b"], ["closed"])


def test_the_end_is_learnt_of_while_waiting_for_something_else(kit: AsyncScripted, tls: bool) -> None:
    body = """
    task = asyncio.create_task(conn.read())
    event = asyncio.ensure_future(asyncio.Event().wait())
    done, pending = await asyncio.wait([task, event], return_when=asyncio.FIRST_COMPLETED)
    kept["end"] = task in done and task.result()
    event.cancel()
    """
    assert kit.run(body, end=True, tls=tls) == b""
    assert kit.wait_kept("end") == b""


# ---- back-pressure and limits


def test_a_peer_that_sends_faster_than_the_handler_reads(kit: AsyncScripted) -> None:
    """It is slowed down by TCP: the server keeps no more than a few buffers of it."""
    body = """
    import resource
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while not os.path.exists({path!r}):
        await asyncio.sleep(0.001)
    total = 0
    while part := await conn.read(10_000):
        total += len(part)
    conn.write(b"%d %d" % (total, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024))
    """
    path = kit.server.site / "fast"
    path.unlink(missing_ok=True)
    size = 64 << 20
    with kit.open(body.replace("{path!r}", repr(str(path)))) as sock:
        sock.setblocking(False)
        sent, data = 0, b"x" * (1 << 20)
        still = 0
        while still < 50 and sent < size:
            try:
                sent += sock.send(data)
                still = 0
            except BlockingIOError:
                still += 1
                time.sleep(0.002)
        assert sent < size // 2  # the rest waits here
        sock.setblocking(True)
        sock.settimeout(30)
        kit.server.write_file(path.name, "")
        sock.sendall(b"x" * (size - sent))
        sock.shutdown(socket.SHUT_WR)
        total, grown = map(int, receive_all(sock).split())
    assert total == size
    assert grown < 8


def test_one_byte_after_another(kit: AsyncScripted, tls: bool) -> None:
    text = b"one byte\nafter another\n"
    body = "conn.write(await conn.readline())\nconn.write(await conn.readexactly(14))"
    with kit.open(body, tls=tls) as sock:
        for byte in text:
            wait_read(sock)
            sock.sendall(bytes([byte]))
        assert receive_all(sock) == text


def test_close_during_the_read_of_another_task(kit: AsyncScripted, tls: bool) -> None:
    body = """
    async def read():
        try:
            await conn.readline()
        except apache.ConnectionClosed as error:
            return str(error)

    task = asyncio.create_task(read())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    conn.write(b"last words")
    before = conn.closed
    conn.close()
    conn.close()
    kept["close"] = before, conn.closed, await asyncio.wait_for(task, 60)
    """
    assert kit.run(body, b"unfinished", tls=tls) == b"last words"
    assert kit.wait_kept("close") == (False, True, "this connection was closed while waiting for input")
