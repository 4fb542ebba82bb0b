"""Where the time of a child goes: Linux perf on a contestant's serving processes while they are under load."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

from benchmarks.load import Work, measure
from benchmarks.peers import Peer
from benchmarks.server import Sizes
from benchmarks.tools import Tools, UnavailableError, run

#: Lines of the report that are shown; the rest is noise below a fraction of a per cent.
TOP = 45


def profile(tools: Tools, suite: str, peer: Peer, connections: int, seconds: float, size: int, data: Path) -> str:
    """Records a profile.

    Args:
        tools: as for the servers
        suite: ``echo``, ``hello`` or ``publisher``
        peer: the contestant
        connections: how many at once
        seconds: how long to record
        size: bytes of an echo line
        data: where the recording is kept, for ``perf report -i``

    Returns:
        The functions that use the most time, and how to look further.

    Raises:
        UnavailableError: perf is missing or may not be used.
        LoadError: the measurement itself failed.
    """
    perf = shutil.which("perf")
    if perf is None:
        raise UnavailableError("perf is not installed (Debian: apt-get install linux-perf)")
    data.parent.mkdir(parents=True, exist_ok=True)
    protocol = "echo" if suite in ("echo", "async") else "http"
    # The load lasts longer than the recording at both ends: perf needs a moment to attach.
    work = Work(protocol, connections, seconds=seconds + 1.5, size=size, path=peer.path)
    recordings: list[subprocess.CompletedProcess[str]] = []
    with peer.open(tools, Sizes.for_connections(connections)) as server:
        measure(tools, server, Work(protocol, connections, seconds=0.2, size=size, path=peer.path))
        pids = ",".join(str(pid) for pid in server.workers())
        command = [perf, "record", "-q", "-F", "1999", "-g", "-p", pids, "-o", str(data)]
        command += ["--", "sleep", str(seconds)]

        def record() -> None:
            recordings.append(subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60))

        thread = threading.Thread(target=record)
        thread.start()
        try:
            sample = measure(tools, server, work)
        finally:
            thread.join()
    if not recordings or recordings[0].returncode != 0:
        reason = recordings[0].stderr.strip() if recordings else "perf did not end"
        raise UnavailableError(
            f"perf record failed: {reason}\n(as another user than root, see kernel.perf_event_paranoid)"
        )
    libraries, functions = _perf_report(perf, data, "dso"), _perf_report(perf, data, "dso,symbol")
    head = f"{suite} {peer.name}, {connections} connections: {sample.rate:,.0f}/s, {sample.cpu_us:.1f} µs CPU each"
    foot = f"callers: perf report -i {data} --no-children"
    return "\n".join([head, *libraries, "", *functions[:TOP], foot])


def _perf_report(perf: str, data: Path, keys: str) -> list[str]:
    """The lines of a flat report."""
    command = [perf, "report", "-i", str(data), "--stdio", "--no-children", "-g", "none"]
    command += ["--percent-limit", "0.3", "--sort", keys]
    text = run(command, what="reading the recording")
    # Some versions of perf append columns that are "-" without hardware counters.
    return [line.rstrip(" -") for line in text.splitlines() if line.strip() and not line.startswith("#")]
