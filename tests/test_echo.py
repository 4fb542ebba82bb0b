"""The echo server of the manual, as it stands there, plain and over TLS.

Whatever clients do, every line comes back whole, and neither an orderly end nor a reset
is worth a line in the error log above debug.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mod_python.testing import Server
from tests import needs
from tests.async_scripted import SLOW_MACHINE
from tests.conftest import ROOT
from tests.scripted import TIMEOUT, TlsPeer, nothing_logged, receive_all, receive_exactly, reset, running, wait_read

#: Word for word the program in the manual.
ECHO = """\
from mod_python import apache

def connectionhandler(conn):

    while 1:
        conn.write(conn.readline())

    return apache.OK
"""

#: The same as a coroutine function.
ASYNC_ECHO = """\
from mod_python import apache

async def connectionhandler(conn):

    async for line in conn:
        conn.write(line)
        await conn.drain()

    # As the program above, whose last read is one beyond the end.
    await conn.readline()
"""

MIB = 1 << 20

#: Threads, or with prefork processes, beyond those for the many clients: connections of the
#: tests before may still be on their way out.
SPARE = 8

#: What a child of prefork may take, in bytes, generously.
CHILD_MEMORY = 25 * MIB


def _clients() -> int:
    """How many clients come at once: 200, each with a thread of httpd or with prefork a process."""
    if os.environ.get("MOD_PYTHON_TEST_MPM") != "prefork":
        return 200
    memory = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    assert memory is not None
    return min(200, max(int(memory[1]) * 1024 // CHILD_MEMORY // 2, 10))


CLIENTS = _clients()

Connect = Callable[[], socket.socket]


@pytest.fixture(scope="module", params=["sync", "async", "asyncio"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The echo server: plain on its first port, TLS on the second.

    As an ordinary function, and as a coroutine function on the default event loop and on asyncio's own.
    """
    program = ECHO if request.param == "sync" else ASYNC_ECHO
    options = {**SLOW_MACHINE, **({"mod_python.async.loop": "asyncio"} if request.param == "asyncio" else {})}
    many = CLIENTS + SPARE
    prefork = os.environ.get("MOD_PYTHON_TEST_MPM") == "prefork"
    workers: dict[str, Any] = {"processes": many} if prefork else {"processes": 1, "threads": many}
    with (
        running(handler=program, options=options, listen=2, tls=[1], **workers) as server,
        nothing_logged(server, "serves coroutine handlers"),
    ):
        yield server


@pytest.fixture(params=["plain", "tls"])
def index(request: pytest.FixtureRequest) -> int:
    """Number of the port to talk to."""
    return int(request.param == "tls")


@pytest.fixture
def connect(server: Server, index: int) -> Connect:
    """Opens a connection to that port."""
    return lambda: server.connect(index)


@pytest.mark.parametrize("document", ["examples/echo/echo.py", "README.md", "docs/connections.md"])
def test_it_is_the_program_of_the_manual(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    if document.endswith(".py"):
        assert text == ECHO
    else:
        assert f"```python\n{ECHO}```\n" in text


def test_one_line(connect: Connect) -> None:
    with connect() as sock:
        for line in (b"hi\n", b"\n", b"\0\r\n", bytes(range(256)).replace(b"\n", b"") + b"\n"):
            sock.sendall(line)
            assert receive_exactly(sock, len(line)) == line


def test_row_7_12_several_lines_in_one_segment(connect: Connect) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(100)) + b"\n\n\n"
    with connect() as sock:
        sock.sendall(lines)
        assert receive_exactly(sock, len(lines)) == lines


def test_row_7_12_one_line_in_many_segments(connect: Connect) -> None:
    line = b"a line, one byte after another\n"
    with connect() as sock:
        for byte in line:
            sock.sendall(bytes([byte]))
            wait_read(sock)
        assert receive_exactly(sock, len(line)) == line


def test_a_line_ends_in_the_segment_where_the_next_begins(connect: Connect) -> None:
    with connect() as sock:
        sock.sendall(b"one")
        wait_read(sock)
        sock.sendall(b" and a half\ntwo")
        assert receive_exactly(sock, 15) == b"one and a half\n"
        sock.sendall(b"\nthree\n")
        assert receive_exactly(sock, 10) == b"two\nthree\n"


# 8192 is what httpd reads at once, 8000 what its core filter hands on.
@pytest.mark.parametrize("length", [1, 2, *range(7999, 8003), *range(8190, 8195), 65536, 65537, MIB, 64 * MIB])
def test_row_7_12_lines_of_all_lengths(connect: Connect, length: int) -> None:
    line = (b"0123456789abcdef!" * (length // 17 + 1))[: length - 1] + b"\n"
    with connect() as sock:
        for _ in range(2 if length < MIB else 1):
            sock.sendall(line)
            assert receive_exactly(sock, length) == line


def test_long_and_short_lines_mixed(connect: Connect) -> None:
    lines = b"".join(b"x" * (number * 937 % 20011) + b"\n" for number in range(50))
    with connect() as sock:
        sock.sendall(lines)
        assert receive_exactly(sock, len(lines)) == lines


def test_a_last_line_without_its_end(server: Server, index: int) -> None:
    # Also over TLS a client can say that it has ended, and go on reading.
    if index:
        with TlsPeer(server, index) as peer:
            peer.sendall(b"whole\nlast")
            peer.end()
            assert peer.receive_all() == b"whole\nlast"
        return
    with server.connect(index) as sock:
        sock.sendall(b"whole\nlast")
        sock.shutdown(socket.SHUT_WR)
        assert receive_all(sock) == b"whole\nlast"


def test_row_7_12_an_end_at_once(connect: Connect, index: int) -> None:
    with connect() as sock:
        sock.shutdown(socket.SHUT_WR)  # over TLS without a close_notify, which is abrupt
        answer = receive_all(sock)
        assert index or answer == b""


def test_many_clients_at_once(connect: Connect) -> None:
    rounds = 5
    clients: list[socket.socket] = []
    try:
        clients.extend(connect() for _ in range(CLIENTS))
        for turn in range(rounds):
            lines = [b"client %d, turn %d\n" % (number, turn) for number in range(CLIENTS)]
            for client, line in zip(clients, lines, strict=True):
                client.sendall(line)
            for client, line in zip(clients, lines, strict=True):
                assert receive_exactly(client, len(line)) == line
    finally:
        for client in clients:
            client.close()


def _reset_at_once(sock: socket.socket) -> None:
    reset(sock)


def _reset_within_a_line(sock: socket.socket) -> None:
    sock.sendall(b"a line that")
    wait_read(sock)
    reset(sock)


def _reset_with_an_unread_answer(sock: socket.socket) -> None:
    sock.sendall(b"line\n")
    wait_read(sock)
    reset(sock)


def _reset_after_an_answer(sock: socket.socket) -> None:
    sock.sendall(b"line\n")
    receive_exactly(sock, 5)
    reset(sock)


def _reset_within_a_long_line(sock: socket.socket) -> None:
    sock.sendall(b"x" * MIB)
    reset(sock)


def _reset_within_a_long_answer(sock: socket.socket) -> None:
    sock.sendall(b"x" * 8 * MIB + b"\n")
    receive_exactly(sock, 1000)
    reset(sock)


def _close_within_a_long_answer(sock: socket.socket) -> None:
    sock.sendall(b"x" * 8 * MIB + b"\n")
    receive_exactly(sock, 1000)
    sock.close()


def _close_within_a_line(sock: socket.socket) -> None:
    sock.sendall(b"no end")
    sock.close()


def _close_with_unread_answers(sock: socket.socket) -> None:
    sock.sendall(b"line\n" * 1000)
    sock.close()


ENDS = [value for name, value in sorted(globals().items()) if re.match("_(reset|close)_", name)]


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__[1:])
def test_abrupt_ends(server: Server, connect: Connect, end: Callable[[socket.socket], None]) -> None:
    ports = []
    for _ in range(5):
        sock = connect()
        ports.append(sock.getsockname()[1])
        end(sock)
    # One debug line for each, whatever way it ended. httpd says "remote" where no thread of its own is at work.
    for port in ports:
        server.wait_for_log(rf"python:debug.* \[(client|remote) 127\.0\.0\.1:{port}\] .*connection ended:")
    with connect() as sock:
        sock.sendall(b"still there\n")
        assert receive_exactly(sock, 12) == b"still there\n"


def test_resets_within_the_handshake(server: Server) -> None:
    hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # a ClientHello, cut off
    for part in (b"", hello[:3], hello):
        sock = server.connect_plain(1)
        sock.sendall(part)
        if part:
            wait_read(sock)
        reset(sock)
    with server.connect(1) as sock:
        sock.sendall(b"still there\n")
        assert receive_exactly(sock, 12) == b"still there\n"


def test_openssl_as_client(server: Server) -> None:
    command = [needs.program("openssl"), "s_client", "-quiet", "-no_ign_eof", "-verify_return_error"]
    command += ["-CAfile", str(server.certificate.certificate), "-connect", f"{server.host}:{server.ports[1]}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stderr is not None
        try:
            for line in (b"hi\n", b"\n", b"x" * 100_000 + b"\n"):
                client.stdin.write(line)
                client.stdin.flush()
                assert client.stdout.readline() == line
            client.stdin.close()
            assert client.stdout.read() == b""
            assert client.wait(TIMEOUT) == 0, client.stderr.read()
        finally:
            client.kill()
