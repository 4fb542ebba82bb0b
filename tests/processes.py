"""What tests about processes, threads and their memory share."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPResponse, RemoteDisconnected
from pathlib import Path
from typing import TypeVar

import pytest

from mod_python.testing import Server

__all__ = [
    "MIB",
    "PREFORK",
    "THREADED",
    "Memory",
    "asleep",
    "at_once",
    "at_same_time",
    "bare_python",
    "http",
    "interpreters",
    "memory",
    "open_files",
    "quiet",
    "steady_malloc",
]

MIB = 1 << 20

#: Whether the servers of this run have one process per connection.
PREFORK = os.environ.get("MOD_PYTHON_TEST_MPM") == "prefork"
THREADED = not PREFORK

#: Seconds a client waits for anything.
TIMEOUT = 60.0

T = TypeVar("T")


#: Descriptors of a process for other things than many connections.
OWN_FILES = 500


@contextlib.contextmanager
def open_files(wanted: int) -> Iterator[int]:
    """Raise the limit of open files, of servers started meanwhile, too, as far as it goes.

    Args:
        wanted: Connections that each process is to have.

    Yields:
        How many connections each can have, at most `wanted`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted + OWN_FILES if hard == resource.RLIM_INFINITY else min(wanted + OWN_FILES, hard)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield min(wanted, max(soft, most) - OWN_FILES)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a process, in bytes.

    Attributes:
        rss: What is resident, shared libraries and what was inherited from the parent
            included: the number that `ps` and `top` show.
        private: Pages that the process wrote to and no other process has: what one child
            more costs. Pages of programs and libraries are not among them, because
            any number of children have them in common.
    """

    rss: int
    private: int


def memory(pid: int) -> Memory:
    """Read the memory of a process (Linux: ``/proc/PID/smaps_rollup``)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    kib = {name: int(number) for name, number in re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE)}
    private = kib["Private_Dirty"] + kib.get("Private_Hugetlb", 0)
    return Memory(kib["Rss"] * 1024, private * 1024)


def steady_malloc(patch: pytest.MonkeyPatch) -> None:
    """Have servers that are started from now on give freed memory back, whichever thread has used it.

    glibc's malloc keeps an arena for each of some threads, and learns from the first large block that was
    freed to keep later ones. What a child holds then depends on which thread happened to do what.

    Args:
        patch: Ends it.
    """
    patch.setenv("MALLOC_ARENA_MAX", "1")
    patch.setenv("MALLOC_MMAP_THRESHOLD_", str(MIB // 8))  # glibc's own, without the learning
    patch.setenv("MALLOC_TRIM_THRESHOLD_", str(MIB // 8))


def bare_python(interpreters: int, threads: int) -> int:
    """Measure the private memory, in bytes, of this Python without httpd and mod_python.

    Args:
        interpreters: How many it has, apart from the main one.
        threads: How many run Python in each of them.
    """
    script = str(Path(__file__).with_name("bare_python.py"))
    command = [sys.executable, "-I", script, str(interpreters), str(threads)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def at_once(count: int, function: Callable[[int, Callable[[], object]], T]) -> list[T]:
    """Call a function in many threads that go on together from a point it chooses.

    Args:
        count: How many threads.
        function: Gets its number and a function that returns when all have called it.

    Returns:
        What the calls returned, in order.

    Raises:
        BaseException: What the first failing call raised.
    """
    barrier = threading.Barrier(count)
    results: list[T | None] = [None] * count
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            results[number] = function(number, lambda: barrier.wait(TIMEOUT))
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT * 2)
    # Not the consequence (a broken barrier) if there is a cause.
    for error in sorted(errors, key=lambda error: isinstance(error, threading.BrokenBarrierError)):
        raise error
    assert not any(thread.is_alive() for thread in threads), "a client thread hangs"
    return results  # type: ignore[return-value]


def at_same_time(*functions: Callable[[], T]) -> list[T]:
    """Call functions, each in a thread of its own, and return what they returned."""

    def run(number: int, together: Callable[[], object]) -> T:
        together()
        return functions[number]()

    return at_once(len(functions), run)


def http(sock: socket.socket, target: str = "/", close: bool = True, host: str = "localhost") -> tuple[int, bytes]:
    """Make a request on a connected socket.

    Args:
        sock: The socket.
        target: Path and query.
        close: Ask for the connection to be closed afterwards.
        host: Value of the ``Host`` field.

    Returns:
        Status and content; status 0 if the server closed the connection before it
        answered anything, as httpd may do with a kept-alive one.
    """
    field = "Connection: close\r\n" if close else ""
    sock.sendall(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{field}\r\n".encode())
    response = HTTPResponse(sock)
    try:
        response.begin()
        return response.status, response.read()
    except RemoteDisconnected:
        return 0, b""
    finally:
        response.close()


def interpreters(server: Server, pid: int | None = None) -> list[str]:
    """Names of the interpreters that were made, in order, from the debug log.

    Args:
        server: The server.
        pid: Of this child only; None for all children.
    """
    found = []
    for record in server.log_records():
        match = re.search(r"mod_python: interpreter '([^']*)' is ready", record.message)
        if match is not None and pid in (None, record.pid):
            found.append(match[1])
    return found


def quiet(server: Server) -> None:
    """Wait until the children have closed the connections of their clients.

    A client sees the end of its connection before httpd is done with it. When the event
    MPM is stopped in this very moment, it may look at a socket whose memory is free
    already (``close_worker_sockets``), with or without Python, and crash.
    """

    def sockets() -> int:
        found = 0
        for pid in server.children():
            for entry in os.scandir(f"/proc/{pid}/fd"):
                try:
                    found += os.readlink(entry.path).startswith("socket:")
                except OSError:
                    pass
        return found

    listening = len(server.ports) * len(server.children())
    server.wait_until(lambda: sockets() <= listening and sockets() <= listening, what="closed connections")


def asleep(server: Server) -> None:
    """Wait until the main thread of every child sleeps: with prefork, until it waits for input."""

    def states() -> set[str]:
        return {Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in server.children()}

    server.wait_until(lambda: states() == {"S"} and states() == {"S"}, what="sleeping children")
