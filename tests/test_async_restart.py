"""Graceful restarts under load with connections of coroutine functions: nobody is refused, no byte is lost."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mod_python.testing import Server
from tests.native_modules import compiled
from tests.processes import PREFORK, THREADED, open_files

pytestmark = pytest.mark.heavy


Httpd = Callable[..., Server]

RESTARTS = 20 if THREADED else 4

EVENT = os.environ.get("MOD_PYTHON_TEST_MPM", "event") == "event"

#: Connections that live through all restarts. Where each has a thread, old children, of which
#: there is one per restart, have that many.
LASTING = 1000 if EVENT else 30 if THREADED else 6

#: Seconds to wait for a thousand clients, one of whom may be the last; far more than it takes.
TIMEOUT = 120.0

#: Old children occupy places while their last clients stay.
CONFIG = "" if PREFORK else "ServerLimit 40\nMaxRequestWorkers 1600\n"
WORKERS: dict[str, Any] = {"processes": 24} if PREFORK else {"processes": 1, "threads": 40}

HANDLER = """
import asyncio
from mod_python import apache

ended = 0

async def connectionhandler(conn):
    try:
        async for line in conn:
            conn.write(line)
            await conn.drain()
    finally:
        await asyncio.sleep(0)
        conn.log_error("NOTE finally", apache.APLOG_NOTICE)
"""


class Load:
    """Clients that connect, talk and go; and such as stay, each a line of its own at a time."""

    def __init__(self, server: Server, lasting: int) -> None:
        self.server = server
        self.stopping = threading.Event()
        self.errors: list[str] = []
        self.new = self.lines = 0
        self.socks = [server.connect(number % 2, timeout=TIMEOUT) for number in range(lasting)]
        self.threads = [
            threading.Thread(target=self._guard, args=(run,), daemon=True) for run in (self._stay, self._come)
        ]
        for thread in self.threads:
            thread.start()

    def _guard(self, run: Callable[[], None]) -> None:
        try:
            run()
        except Exception as error:
            self.errors.append(f"{run.__name__}: {error!r}")

    def _come(self) -> None:
        while not self.stopping.is_set():
            with self.server.connect(self.new % 2, timeout=TIMEOUT) as sock:
                talk(sock, b"new %d\n" % self.new)
            self.new += 1

    def _stay(self) -> None:
        number = 0
        while not self.stopping.is_set():
            number += 1
            line = b"line %d %s\n" % (number, b"x" * (number * 7919 % 3000))
            for sock in self.socks:
                sock.sendall(line)
            for sock in self.socks:
                got = receive_line(sock, len(line))
                assert got == line, (number, len(got), len(line))
            self.lines += len(self.socks)

    def progress(self, new: int, lines: int) -> bool:
        """Whether both kinds got further, or something failed."""
        return bool(self.errors) or (self.new > new + 2 and self.lines > lines + len(self.socks))

    def end(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join(TIMEOUT)
        assert not any(thread.is_alive() for thread in self.threads), "a client hangs"


def receive_line(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            break
        data += part
    return data


def talk(sock: socket.socket, line: bytes) -> None:
    sock.sendall(line)
    got = receive_line(sock, len(line))
    assert got == line, got


def wait_for_end(server: Server, children: list[int]) -> None:
    """Wait for children to end: prefork's parent process does not at the end of a graceful stop."""
    server.wait_until(lambda: not any(Path("/proc", str(pid)).exists() for pid in children), what="the children's end")


def test_graceful_restarts_under_load(httpd: Httpd) -> None:
    with open_files(LASTING) as lasting:
        go_through_restarts(httpd(CONFIG, handler=HANDLER, listen=2, tls=[1], **WORKERS), lasting)


def go_through_restarts(server: Server, lasting: int) -> None:
    load = Load(server, lasting)
    old: set[int] = set()
    for _ in range(RESTARTS):
        old |= set(server.children())
        new, lines = load.new, load.lines
        server.graceful()
        server.wait_until(
            lambda: load.progress(new, lines),  # noqa: B023
            TIMEOUT,
            "work of every kind since the restart",
        )
        assert load.errors == []
    load.end()
    assert load.errors == []
    for sock in load.socks:
        talk(sock, b"still there\n")
        sock.close()
    # An old child ends with its last connection.
    server.wait_until(lambda: not old & set(server.children()), TIMEOUT, "the end of the old children")
    total = load.new + lasting
    server.wait_until(lambda: server.error_log.count("NOTE finally") == total, TIMEOUT, "every finally")
    with server.connect() as sock:
        talk(sock, b"and again\n")


def test_a_restart_that_is_not_graceful_ends_all(httpd: Httpd) -> None:
    count = 50 if THREADED else 6
    server = httpd(handler=HANDLER, **({"processes": 8} if PREFORK else {"processes": 1}))
    socks = [server.connect() for _ in range(count)]
    for sock in socks:
        talk(sock, b"line\n")
    before = set(server.children())
    server.signal(signal.SIGHUP)
    server.wait_until(lambda: server.children() and not before & set(server.children()))
    assert server.error_log.count("NOTE finally") == count
    for sock in socks:
        sock.close()
    with server.connect() as sock:
        talk(sock, b"line\n")


def test_connections_at_the_moment_of_a_restart(httpd: Httpd) -> None:
    """Those that are accepted just then are served, by the old child or the new one."""
    server = httpd(handler=HANDLER, **({"processes": 24} if PREFORK else {"processes": 1}))
    with server.connect() as sock:
        talk(sock, b"line\n")
    selector = selectors.DefaultSelector()
    socks = []
    for number in range(16):
        if number == 4:
            server.signal(signal.SIGUSR1)
        sock = server.connect()
        sock.sendall(b"line\n")
        selector.register(sock, selectors.EVENT_READ)
        socks.append(sock)
        time.sleep(0.005)
    for sock in socks:
        assert receive_line(sock, 5) == b"line\n"
        sock.close()
    selector.close()
    server.wait_until(lambda: server.error_log.count("NOTE finally") == 17)


@pytest.mark.parametrize("kind", ["restart", "stop", "terminated"])
def test_a_connection_that_the_mpm_does_not_count_yet(httpd: Httpd, kind: str) -> None:
    """Its child is told to end between the accept and the worker's first step: it is served to its end all the same."""
    with compiled("slow_workers") as module:
        workers = {"processes": 4} if PREFORK else {"processes": 1}
        server = httpd(f"LoadModule slow_workers_module {module}", handler=HANDLER, **workers)
        with server.connect() as sock:
            server.wait_until(lambda: "NOTE accepted" in server.error_log)
            children = server.children()
            server.signal(signal.SIGUSR1 if kind == "restart" else signal.SIGWINCH)
            talk(sock, b"line\n")
            time.sleep(0.1)
            talk(sock, b"still there\n")
            if kind == "terminated":
                server.signal(signal.SIGTERM)
                assert receive_line(sock, 1) == b""
        server.wait_until(lambda: server.error_log.count("NOTE finally") == 1)
        server.wait_until(lambda: server.running == (kind == "restart"))
        wait_for_end(server, children)
        assert (": cancelled" in server.error_log) == (kind == "terminated")


@pytest.mark.parametrize("graceful", [False, True], ids=["at-once", "graceful"])
def test_a_finally_that_takes_its_time(httpd: Httpd, graceful: bool) -> None:
    """It is cancelled once, and not again in its `finally`."""
    handler = HANDLER.replace("asyncio.sleep(0)", "asyncio.sleep(1)")
    server = httpd("GracefulShutdownTimeout 1", handler=handler, **({"processes": 2} if PREFORK else {"processes": 1}))
    with server.connect() as sock:
        talk(sock, b"line\n")
        children = server.children()
        server.signal(signal.SIGWINCH if graceful else signal.SIGTERM)
        server.wait_until(lambda: not server.running, what="the end of httpd")
    wait_for_end(server, children)
    assert server.error_log.count("NOTE finally") == 1


@pytest.mark.skipif(not PREFORK, reason="the other MPMs have their signals handled on one thread")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_signal_of_the_mpm_on_the_loops_thread(httpd: Httpd, name: str) -> None:
    """The kernel may choose any thread; the MPM's handlers end the process from within."""
    handler = "import os, signal, threading\n" + HANDLER.replace(
        "await conn.drain()",
        f"await asyncio.sleep(0.1); conn.write(b'%d\\n' % os.getpid()); await conn.drain()\n"
        f"            signal.pthread_kill(threading.get_ident(), signal.{name})",
    )
    server = httpd(handler=handler, processes=4)
    for count in 1, 2, 3:
        with server.connect() as sock:
            sock.sendall(b"line\n")
            with sock.makefile("rb") as answers:
                assert answers.readline() == b"line\n"
                pid = int(answers.readline())
            if name == "SIGUSR1":
                sock.close()
            server.wait_until(lambda: server.error_log.count("NOTE finally") == count)  # noqa: B023
            server.wait_until(lambda: pid not in server.children(), what="the end of the child")  # noqa: B023


@pytest.mark.skipif(PREFORK, reason="a process ends with its connection")
def test_a_graceful_stop_with_a_limit(httpd: Httpd) -> None:
    """At the end of GracefulShutdownTimeout those that go on are cancelled."""
    server = httpd("GracefulShutdownTimeout 1", handler=HANDLER, processes=1)
    with server.connect() as sock:
        talk(sock, b"line\n")
        begin = time.monotonic()
        server.signal(signal.SIGWINCH)
        server.wait_until(lambda: "NOTE finally" in server.error_log, what="the end of the handler")
        assert time.monotonic() - begin >= 1
        server.wait_until(lambda: not server.running, what="the end of httpd")
        assert receive_line(sock, 1) == b""
    assert server.error_log.count("NOTE finally") == 1
