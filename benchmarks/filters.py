"""The filter suite: a large file through an output filter that copies it, in MiB/s.

The contestants are filters; the client is this process, which checks every byte. It shares the processors with the
server, as the load generator does in the other suites.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from socket import create_connection

from benchmarks import procfs
from benchmarks.load import LoadError, Sample, Work, server_memory
from benchmarks.peers import OURS, Opener, Peer, generation
from benchmarks.server import HttpdConfig, Server, Sizes, httpd
from benchmarks.tools import APPS, Tools

#: One block of the file; its length is a prime away from the sizes that buffers have.
BLOCK = "".join(f"{number:015d}\n" for number in range(65_536))
#: Length of the file in blocks of 1 MiB.
BLOCKS = 64
#: Seconds that a client waits for data.
PATIENCE = 30.0

_MIB = 1 << 20
_REQUEST = b"GET /app/large HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_FILES = {"htdocs/app/large": BLOCK * BLOCKS}


def _opener(
    family: str,
    mpm: str,
    directives: str,
    modules: Callable[[Tools], tuple[tuple[tuple[str, Path], ...], dict[str, str]]],
    files: dict[str, str] | None = None,
) -> Opener:
    def open_(tools: Tools, sizes: Sizes) -> AbstractContextManager[Server]:
        loaded, environment = modules(tools)
        config = HttpdConfig(mpm, loaded, directives, {**_FILES, **(files or {})}, environment)
        return httpd(tools, f"{family}-{mpm}", config, sizes)

    return open_


def _python(family: str, mpm: str) -> Opener:
    directives = (
        "PythonInterpreter main_interpreter\n"
        "PythonPath \"sys.path + ['@ROOT@']\"\nPythonOutputFilter copy_filter COPY\n"
        "<Location /app>\n    SetOutputFilter COPY\n</Location>"
    )
    files = {"copy_filter.py": (APPS / "copy_filter.py").read_text(encoding="utf-8")}
    return _opener(family, mpm, directives, generation(family), files)


def filter_peers(mpms: tuple[str, ...]) -> list[Peer]:
    """The contestants of the filter measurements."""
    peers = []
    for mpm in mpms:
        baseline = f"c_filter-{mpm}"
        copy = "<Location /app>\n    SetOutputFilter %s\n</Location>"
        cat = "ExtFilterDefine cat mode=output cmd=/bin/cat\n" + copy % "cat"
        openers = {
            OURS: _python(OURS, mpm),
            "c_filter": _opener(
                "c_filter", mpm, copy % "bench-copy", lambda t: ((("bench_filter_module", t.c_filter),), {})
            ),
            "ext_filter": _opener(
                "ext_filter", mpm, cat, lambda t: ((("ext_filter_module", t.httpd_module("mod_ext_filter")),), {})
            ),
            "no_filter": _opener("no_filter", mpm, "", lambda _: ((), {})),
        }
        peers += [Peer(f"{family}-{mpm}", family, mpm, open_, baseline) for family, open_ in openers.items()]
    return peers


def _download(port: int) -> float:
    """Get the file once; return the seconds it took.

    Raises:
        LoadError: what came is not the file.
    """
    expected = BLOCK.encode()
    begin = time.perf_counter()
    try:
        with create_connection(("127.0.0.1", port), PATIENCE) as sock:
            sock.sendall(_REQUEST)
            response = HTTPResponse(sock)
            response.begin()
            for _ in range(BLOCKS):
                if response.read(_MIB) != expected:
                    raise LoadError("the filtered file is not what was sent")
            if response.read():
                raise LoadError("the filtered file is too long")
    except (OSError, HTTPException) as problem:
        raise LoadError(f"the download failed: {problem!r}") from None
    return time.perf_counter() - begin


def measure_downloads(tools: Tools, server: Server, work: Work) -> Sample:
    """Download the file again and again for the time asked for, on so many connections at once.

    Args:
        tools: not used; as for `benchmarks.load.measure`
        server: the running server
        work: its number of connections and seconds

    Returns:
        A sample whose round trip is one MiB; the latencies are those of whole files.

    Raises:
        LoadError: an answer was wrong or did not come.
    """
    with ThreadPoolExecutor(work.connections) as pool:
        list(pool.map(lambda _: _download(server.port), range(work.connections)))  # warm-up
        pids = server.pids()
        memory_before, cpu_before = server_memory(server), procfs.cpu_seconds(pids)
        client_before, begin = time.process_time(), time.perf_counter()

        def again(_: int) -> list[float]:
            times = []
            while time.perf_counter() - begin < work.seconds:
                times.append(_download(server.port))
            return times

        times = sorted(seconds for part in pool.map(again, range(work.connections)) for seconds in part)
        elapsed = time.perf_counter() - begin
    # Programs that were started for a response have ended by now: their time is that of httpd's children.
    cpu = procfs.cpu_seconds(pids) - cpu_before
    mib = len(times) * BLOCKS
    return Sample(
        round_trips=mib,
        seconds=elapsed,
        rate=mib / elapsed,
        p50_us=times[len(times) // 2] * 1e6,
        p95_us=times[int(len(times) * 0.95)] * 1e6,
        p99_us=times[int(len(times) * 0.99)] * 1e6,
        cpu_us=cpu / mib * 1e6,
        client_cpu_us=(time.process_time() - client_before) / mib * 1e6,
        memory_before=memory_before,
        memory_after=server_memory(server),
    )
