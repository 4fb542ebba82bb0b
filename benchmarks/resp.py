"""The key-value server of the examples under redis-benchmark: our two kinds of handlers, bare asyncio, Redis itself.

All but Redis run the same parser and the same store (``examples/resp``), so what differs is how bytes come and go. The
load generator is redis-benchmark (Debian: ``redis-tools``). It counts answers and does not look into them, so each
server has to give the right ones before it is measured.
"""

from __future__ import annotations

import csv
import io
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks import procfs
from benchmarks.load import LoadError, Sample, server_memory
from benchmarks.peers import ASYNC, ASYNC_SIZES, OURS, Opener, Peer, generation
from benchmarks.rounds import Failure, Results, progress
from benchmarks.server import HttpdConfig, Server, Sizes, httpd, program
from benchmarks.tools import APPS, Tools, UnavailableError

SOURCES = Path(__file__).resolve().parent.parent / "examples" / "resp"

#: Commands, as redis-benchmark calls them, and how many of them are sent before an answer is waited for.
TESTS = ("ping_mbulk", "set", "get")
PIPELINES = (1, 16)

CONNECTIONS = 50

#: redis-benchmark takes a number of requests and no time: as many as take about a second on a machine of today.
REQUESTS_PER_SECOND = {1: 20_000, 16: 100_000}
#: Seconds beyond the time asked for, for a slow machine.
GRACE = 120.0

_CHECK = b"*3\r\n$3\r\nSET\r\n$5\r\ncheck\r\n$2\r\nok\r\n*2\r\n$3\r\nGET\r\n$5\r\ncheck\r\nPING\r\n"
_ANSWER = b"+OK\r\n$2\r\nok\r\n+PONG\r\n"


def _ours(handler: str, name: str, sizes_of: Callable[[Sizes], Sizes]) -> Opener:
    def open_(tools: Tools, sizes: Sizes) -> AbstractContextManager[Server]:
        modules, environment = generation(OURS)(tools)
        own = sizes_of(sizes)
        # Room for as many connections as the others have threads.
        factor = max(2, -(-sizes.threads // own.threads) + 1)
        config = HttpdConfig(
            mpm="event",
            modules=modules,
            directives=f"AsyncRequestWorkerFactor {factor}\n"
            "PythonPath \"sys.path + ['@ROOT@']\"\n"
            "PythonInterpreter main_interpreter\n"
            f"PythonConnectionHandler {handler}",
            files={path.name: path.read_text(encoding="utf-8") for path in SOURCES.glob("*.py")},
            environment=environment,
        )
        return httpd(tools, name, config, own)

    return open_


def _bare(form: str, loop: str) -> Opener:
    def open_(tools: Tools, sizes: Sizes) -> AbstractContextManager[Server]:
        python = sys.executable if loop == "asyncio" else str(tools.peers_python)
        command = [python, str(APPS / "resp_asyncio.py"), "@PORT@", form, loop, str(SOURCES)]
        return program(tools, f"{loop}_{form}", command)

    return open_


def _redis(tools: Tools, sizes: Sizes) -> AbstractContextManager[Server]:
    if shutil.which("redis-server") is None:
        raise UnavailableError("redis-server is not installed (Debian: apt-get install redis-server)")
    options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    return program(tools, "redis", ["redis-server", "--port", "@PORT@", *options])


def resp_peers() -> list[Peer]:
    """The contestants; the ratios in the tables refer to streams on asyncio's own loop."""
    baseline = "asyncio"
    return [
        Peer(ASYNC, ASYNC, "event", _ours("kv_async", ASYNC, lambda sizes: ASYNC_SIZES), baseline),
        Peer(f"{OURS}-event", OURS, "event", _ours("kv", OURS, lambda sizes: sizes), baseline),
        Peer("asyncio", "asyncio", None, _bare("streams", "asyncio"), baseline),
        Peer("asyncio_protocol", "asyncio_protocol", None, _bare("protocol", "asyncio"), baseline),
        Peer("uvloop", "uvloop", None, _bare("streams", "uvloop"), baseline),
        Peer("uvloop_protocol", "uvloop_protocol", None, _bare("protocol", "uvloop"), baseline),
        Peer("redis", "redis", None, _redis, baseline),
    ]


def _check(server: Server) -> None:
    """See that the server answers rightly.

    Raises:
        LoadError: it does not.
    """
    try:
        with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
            sock.sendall(_CHECK)
            answer = b""
            while len(answer) < len(_ANSWER) and (data := sock.recv(100)):
                answer += data
    except OSError as problem:
        raise LoadError(f"no answer: {problem!r}") from None
    if answer != _ANSWER:
        raise LoadError(f"a wrong answer: {answer!r}")


def measure(server: Server, test: str, pipeline: int, connections: int, seconds: float) -> Sample:
    """Run redis-benchmark once.

    Args:
        server: the running server
        test: one of `TESTS`
        pipeline: commands that are sent at a time
        connections: how many at once
        seconds: how long it should take, roughly

    Returns:
        The sample; its CPU times include those of opening and closing the connections.

    Raises:
        LoadError: it failed, or printed no figures.
    """
    count = max(int(REQUESTS_PER_SECOND[pipeline] * seconds), connections * pipeline)
    command = ["redis-benchmark", "-h", "127.0.0.1", "-p", str(server.port), "-t", test, "-P", str(pipeline)]
    command += ["-c", str(connections), "-n", str(count), "-e", "--csv"]
    pids = server.pids()
    memory_before, cpu_before = server_memory(server), procfs.cpu_seconds(pids)
    client_before = _client_seconds()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GRACE + 10 * seconds, check=False)
    except subprocess.TimeoutExpired:
        raise LoadError("redis-benchmark does not end") from None
    cpu = procfs.cpu_seconds(pids) - cpu_before
    client = _client_seconds() - client_before
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    if done.returncode != 0 or len(rows) != 1 or not re.fullmatch(r"[\d.]+", rows[0].get("rps") or ""):
        raise LoadError(f"redis-benchmark ended with status {done.returncode}: {(done.stderr + done.stdout)[-500:]}")
    row = rows[0]
    rate = float(row["rps"])
    return Sample(
        round_trips=count,
        seconds=count / rate,
        rate=rate,
        p50_us=float(row["p50_latency_ms"]) * 1000,
        p95_us=float(row["p95_latency_ms"]) * 1000,
        p99_us=float(row["p99_latency_ms"]) * 1000,
        cpu_us=cpu / count * 1e6,
        client_cpu_us=client / count * 1e6,
        memory_before=memory_before,
        memory_after=server_memory(server),
    )


def _client_seconds() -> float:
    """Processor time of programs that this process has run to their end."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run_resp(
    tools: Tools,
    peers: list[Peer],
    connections: int,
    rounds: int,
    seconds: float,
    tell: Callable[[str], None] = progress,
) -> list[Results]:
    """Runs all tests on all contestants, in interleaved rounds as `benchmarks.rounds`.

    Args:
        tools: as for the servers
        peers: the contestants
        connections: how many at once
        rounds: how often
        seconds: length of one measurement, roughly
        tell: gets lines of progress

    Returns:
        One result for each pair of test and pipeline, and what failed with the first of them.

    Raises:
        UnavailableError: redis-benchmark is not installed.
    """
    if shutil.which("redis-benchmark") is None:
        raise UnavailableError("redis-benchmark is not installed (Debian: apt-get install redis-tools)")
    cases = [(test, pipeline) for pipeline in PIPELINES for test in TESTS]
    found = {case: Results(f"resp {case[0]} -P {case[1]}", peers, [connections]) for case in cases}
    first = found[cases[0]]
    absent: set[str] = set()
    sizes = Sizes.for_connections(connections)
    for number in range(1, rounds + 1):
        for peer in peers:
            if peer.name in absent:
                continue
            done: list[str] = []
            case = cases[0]
            try:
                with peer.open(tools, sizes) as server:
                    _check(server)
                    for case in cases:
                        sample = measure(server, *case, connections, seconds)
                        found[case].samples.setdefault((peer.name, connections), {})[number] = sample
                        done.append(f"{case[0]}×{case[1]}: {sample.rate:,.0f}/s")
            except UnavailableError as problem:
                absent.add(peer.name)
                first.failures.append(Failure(peer.name, number, None, str(problem)))
                done.append("not running")
            except LoadError as problem:
                found[case].failures.append(Failure(peer.name, number, connections, str(problem)))
                done.append(f"{case[0]}×{case[1]}: FAILED")
            tell(f"resp round {number}/{rounds}  {peer.name:<17} {'   '.join(done)}")
    return list(found.values())
