"""One measurement: the load generator against a running server, with the server's CPU time and memory around it.

The load generator stops twice (see native/load.c): when all connections are open and warm, and when it has finished
but still holds them. At these points the server is idle, so its CPU time and memory can be read without a race and
without counting its start, the connecting or the closing.
"""

from __future__ import annotations

import json
import selectors
import subprocess
import time
from dataclasses import dataclass
from typing import IO

from benchmarks import procfs
from benchmarks.server import Server
from benchmarks.tools import Tools

#: Seconds that the load generator may take beyond what it was asked for: its own limit for an answer is 30 s, twice
#: (warm-up, and the last answers), and it should be the one to report.
GRACE = 90.0
#: The slowest rate at which a measurement with a fixed count may proceed before it is given up, round trips/s.
SLOWEST_RATE = 500.0
#: Seconds until the load generator has closed its connections.
STOP_SECONDS = 10.0

HELLO = "Hello, world!\n"


class LoadError(Exception):
    """A measurement did not come to its end: a wrong answer, a closed connection, a server that hangs."""


@dataclass(frozen=True)
class Work:
    """What the load generator does.

    Attributes:
        protocol: ``echo`` or ``http``
        connections: how many at once, each with one message outstanding
        seconds: duration, unless count is given
        count: total number of round trips, or 0
        size: length of an echo line in bytes, with its newline
        path: path of the URL, HTTP only
        warmup: round trips per connection before the measurement
    """

    protocol: str
    connections: int
    seconds: float = 1.0
    count: int = 0
    size: int = 64
    path: str = "/"
    warmup: int = 100

    def arguments(self, port: int) -> list[str]:
        """The load generator's command line."""
        arguments = [self.protocol, "--steps", "--port", str(port), "--connections", str(self.connections)]
        arguments += ["--warmup", str(self.warmup)]
        arguments += ["--count", str(self.count)] if self.count else ["--seconds", str(self.seconds)]
        if self.protocol == "http":
            return [*arguments, "--path", self.path, "--body", HELLO]
        return [*arguments, "--size", str(self.size)]

    @property
    def time_limit(self) -> float:
        """Seconds after which the measurement is given up."""
        return GRACE + (self.count / SLOWEST_RATE if self.count else self.seconds)


@dataclass(frozen=True)
class Sample:
    """The result of one measurement.

    Attributes:
        round_trips: how many were completed and verified
        seconds: how long they took
        rate: round trips per second
        p50_us: median latency in µs; likewise 95 and 99 %
        cpu_us: the server's CPU time per round trip in µs, user and system, all its processes
        client_cpu_us: the load generator's own, per round trip: near the total it would be the bottleneck
        memory_before: memory of the serving processes before the measurement, KiB
        memory_after: the same after it, connections still open
    """

    round_trips: int
    seconds: float
    rate: float
    p50_us: float
    p95_us: float
    p99_us: float
    cpu_us: float
    client_cpu_us: float
    memory_before: procfs.Memory
    memory_after: procfs.Memory


class _Lines:
    """Reads lines from a pipe with a deadline."""

    def __init__(self, stream: IO[bytes], deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline
        self._buffer = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(stream, selectors.EVENT_READ)

    def next(self) -> str | None:
        """The next line, or None at the end of the stream or when the time is over."""
        while b"\n" not in self._buffer:
            if not self._selector.select(max(0.0, self._deadline - time.monotonic())):
                return None
            data = self._stream.read1(65536)  # type: ignore[attr-defined]
            if not data:
                return None
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("utf-8", "replace")


def server_memory(server: Server) -> procfs.Memory:
    """The sum over the server's serving processes; those that are gone or unreadable count as nothing."""
    total = procfs.Memory(0, 0, 0)
    for pid in server.workers():
        try:
            total += procfs.memory(pid)
        except (OSError, KeyError):
            continue
    return total


def measure(tools: Tools, server: Server, work: Work) -> Sample:
    """Makes one measurement.

    Args:
        tools: for the load generator
        server: the running server
        work: what to do

    Returns:
        The sample; every answer in it was verified.

    Raises:
        LoadError: with the load generator's message and the end of the server's log.
    """
    command = [str(tools.load_generator), *work.arguments(server.port)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    assert process.stderr
    try:
        lines = _Lines(process.stdout, time.monotonic() + work.time_limit)

        def expect() -> str:
            line = lines.next()
            if line is None:
                raise LoadError(_explain(process, server))
            return line

        def go_on() -> None:
            assert process.stdin
            process.stdin.write(b"\n")
            process.stdin.flush()

        expect()
        pids = server.pids()
        memory_before = server_memory(server)
        cpu_before = procfs.cpu_seconds(pids)
        go_on()
        result = json.loads(expect())
        cpu = procfs.cpu_seconds(pids) - cpu_before
        memory_after = server_memory(server)
        go_on()
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        raise LoadError("the load generator does not end") from None
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()
    n = result["round_trips"]
    return Sample(
        round_trips=n,
        seconds=result["seconds"],
        rate=result["rate"],
        p50_us=result["p50_us"],
        p95_us=result["p95_us"],
        p99_us=result["p99_us"],
        cpu_us=cpu / n * 1e6,
        client_cpu_us=result["client_cpu_seconds"] / n * 1e6,
        memory_before=memory_before,
        memory_after=memory_after,
    )


def _explain(process: subprocess.Popen[bytes], server: Server) -> str:
    """Why the load generator stopped talking."""
    try:
        process.wait(1.0)
    except subprocess.TimeoutExpired:
        process.kill()
        return f"no result in time; the server's log ends with:\n{server.log_tail()}"
    assert process.stderr
    message = process.stderr.read().decode("utf-8", "replace").strip() or f"status {process.returncode}"
    return f"{message}; the server's log ends with:\n{server.log_tail()}"
