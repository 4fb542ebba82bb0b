"""Thousands of idle connections to a coroutine handler: what one takes, and whether active ones feel them.

    python -m benchmarks.idle [--connections 10000] [--tls] [--rounds 5]

One child of the event MPM with 25 threads.  64 connections make round trips; then so many more are opened, say
one line each and keep silent; then the 64 go on.  Memory is that of the child, resident, before and after.
"""

from __future__ import annotations

import argparse
import resource
import socket
import statistics
import sys
import time
from pathlib import Path

from benchmarks.tools import APPS
from mod_python.testing import Server

ACTIVE = 64
THREADS = 25
#: Descriptors that both sides need besides those of the connections.
OWN = 500


def raise_limit(connections: int) -> int:
    """Raise the limit of open files as far as it goes; return how many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + ACTIVE + OWN
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return min(connections, soft - ACTIVE - OWN)


def resident(pid: int) -> int:
    """Resident memory of a process in KiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])


def say(sock: socket.socket, text: bytes) -> None:
    """One round trip."""
    sock.sendall(text)
    answer = b""
    while len(answer) < len(text):
        part = sock.recv(len(text) - len(answer))
        assert part, "the connection was closed"
        answer += part
    assert answer == text


def rate(active: list[socket.socket], seconds: float) -> float:
    """Round trips per second of all active connections together, one message outstanding on each."""
    line = b"x" * 63 + b"\n"
    done = 0
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        for sock in active:
            sock.sendall(line)
        for sock in active:
            assert sock.recv(64) == line
        done += len(active)
    return done / (time.perf_counter() - start)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.idle")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    count = raise_limit(options.connections)
    if count < options.connections:
        print(f"the limit of open files allows {count} connections")
    source = (APPS / "async_echo.py").read_text(encoding="utf-8")
    handler = source.replace("(conn):\n", "(conn):\n    conn.timeout = None\n")
    factor = -(-(count + ACTIVE) // (THREADS - 2)) + 4
    config = f"AsyncRequestWorkerFactor {factor}"
    with Server(
        config, handler=handler, mpm="event", processes=1, threads=THREADS, tls=options.tls, log_level="warn"
    ) as server:
        (pid,) = server.children()
        active = [server.connect() for _ in range(ACTIVE)]
        rate(active, 1.0)
        before = [rate(active, 1.0) for _ in range(options.rounds)]
        empty = resident(pid)
        idle = [server.connect() for _ in range(count)]
        for sock in idle:
            say(sock, b"hello\n")
        time.sleep(1)
        full = resident(pid)
        after = [rate(active, 1.0) for _ in range(options.rounds)]
        for sock in idle[:: max(1, count // 1000)]:
            say(sock, b"still there\n")
        for sock in (*active, *idle):
            sock.close()
    a, b = statistics.median(before), statistics.median(after)
    print(
        f"{count:,} idle connections{' with TLS' if options.tls else ''}: {(full - empty) / count:.2f} KiB each; "
        f"{ACTIVE} active ones: {a:,.0f} round trips/s before, {b:,.0f} with them ({b / a:.2f})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
