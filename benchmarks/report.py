"""Ratios, tables, bars and the JSON file.

A ratio is taken within a round, between two contestants that ran within seconds of each other; the report gives the
median of these ratios with the smallest and the largest. A bar holds the median against a limit. What could not be
measured is a bar that was not reached, never one that is left out.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.load import Sample
from benchmarks.memory import MemoryResults
from benchmarks.peers import ASYNC, FLUSHED, OLD, OURS, PROTOCOL, WAITING, Peer
from benchmarks.rounds import Results
from benchmarks.tools import Tools, UnavailableError

#: Ours against the others, at least: (suite, our family, family to compare with) -> ratio of the rates.
RATIO_BARS = {
    ("echo", OURS, "mod_echo"): 0.9,
    ("echo", OURS, OLD): 1.4,
    ("async", ASYNC, "asyncio"): 1.0,
    ("async", ASYNC, PROTOCOL): 0.7,
    ("hello", OURS, "c"): 0.8,
    ("hello", OURS, OLD): 1.6,
    ("hello", OURS + FLUSHED, "c" + FLUSHED): 0.8,
    ("hello", OURS + FLUSHED, OLD + FLUSHED): 1.6,
    ("publisher", OURS, OLD): 2.0,
    ("wsgi", OURS, "mod_wsgi"): 1.0,
    ("psp", OURS, OLD): 2.0,
    ("wait", OURS + WAITING, "mod_wsgi" + WAITING): 0.95,
    ("wait", OURS + WAITING, OLD + WAITING): 0.95,
    ("filter", OURS, "c_filter"): 0.7,
    ("filter", OURS, "ext_filter"): 1.0,
}
#: With one connection the client's and the kernel's wake-ups dominate; the bars are for a server that has work to do.
BAR_CONNECTIONS = (16, 50)
#: Growth of a child over the long connection, KiB.
GROWTH_BAR = 1024


@dataclass(frozen=True)
class Spread:
    """Smallest, median and largest of some values."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread | None:
        """The spread of the values, or None if there are none."""
        found = sorted(values)
        return cls(found[0], median(found), found[-1]) if found else None

    def text(self, form: str) -> str:
        """Median, then the range in brackets."""
        return f"{self.middle:{form}} [{self.low:{form}}–{self.high:{form}}]"


@dataclass(frozen=True)
class Bar:
    """One limit and what was reached.

    Attributes:
        name: what is compared
        limit: the limit, as text
        value: what was measured, as text, or why nothing was
        passed: whether the limit was kept
    """

    name: str
    limit: str
    value: str
    passed: bool


def ratios(results: Results, peer: str, other: str, connections: int, what: str = "rate") -> Spread | None:
    """Peer divided by other, round by round.

    Args:
        results: the suite
        peer: dividend
        other: divisor
        connections: at this number of connections
        what: the attribute of the samples, ``rate`` or ``cpu_us``

    Returns:
        The spread over the rounds in which both were measured, or None if there is none.
    """
    ours, theirs = results.of(peer, connections), results.of(other, connections)
    return Spread.of(getattr(ours[n], what) / getattr(theirs[n], what) for n in ours if n in theirs)


def _median_of(samples: Iterable[Sample], what: str) -> float:
    return float(median(getattr(sample, what) for sample in samples))


def table(results: Results, connections: int) -> str:
    """The table of one suite at one number of connections."""
    unit = {"echo": "round trips/s", "async": "round trips/s", "filter": "MiB/s"}.get(results.suite, "requests/s")
    header = ["", f"{unit} [min–max]", "p50 µs", "p95", "p99", "CPU µs", "rate ratio [min–max]", "CPU ratio [min–max]"]
    rows = [header]
    for peer in results.peers:
        samples = results.of(peer.name, connections)
        if not samples:
            failures = results.failures_of(peer.name)
            rows.append([peer.name, "not measured: see below" if failures else "not measured"])
            continue
        rate = Spread.of(sample.rate for sample in samples.values())
        assert rate
        row = [peer.name, rate.text(",.0f")]
        row += [f"{_median_of(samples.values(), what):,.0f}" for what in ("p50_us", "p95_us", "p99_us")]
        row += [f"{_median_of(samples.values(), 'cpu_us'):.1f}"]
        for what in ("rate", "cpu_us"):
            ratio = ratios(results, peer.name, peer.baseline, connections, what)
            row.append(ratio.text(".2f") if ratio and peer.name != peer.baseline else "")
        rows.append(row)
    noun = "connection" if connections == 1 else "connections"
    baselines = ", ".join(dict.fromkeys(peer.baseline for peer in results.peers))
    title = f"{results.suite}, {connections} {noun}; ratios to {baselines}"
    return title + "\n" + _align(rows)


def _align(rows: list[list[str]]) -> str:
    """Columns of text: the first to the left, the others to the right; a row of two is a name and a remark."""
    widths = [max((len(row[i]) for row in rows if len(row) > 2), default=0) for i in range(len(rows[0]))]
    widths[0] = max(len(row[0]) for row in rows)
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        if len(row) == 2:
            cells += row[1:]
        else:
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def suite_bars(results: Results) -> list[Bar]:
    """The bars of a suite, for the pairs of contestants that were chosen to run."""
    bars = []
    names = {peer.name for peer in results.peers}
    for peer in results.peers:
        for connections in results.connections:
            if connections not in BAR_CONNECTIONS and results.suite not in ("filter", "async"):
                continue
            for (suite, ours, family), limit in RATIO_BARS.items():
                other = family if family in names else f"{family}-{peer.mpm}"
                if suite != results.suite or peer.family != ours or other not in names:
                    continue
                name = f"{suite} {peer.name} / {other}, {connections} connections"
                bars.append(_ratio_bar(results, peer, other, connections, name, limit))
    return bars


def _ratio_bar(results: Results, peer: Peer, other: str, connections: int, name: str, limit: float) -> Bar:
    ratio = ratios(results, peer.name, other, connections)
    failed = [f for f in results.failures_of(peer.name) if f.connections in (None, connections)]
    if ratio is None:
        value, passed = "not measured", False
    else:
        value, passed = ratio.text(".2f"), ratio.middle >= limit and not failed
    if failed:
        value += f"; {len(failed)} of our measurements failed"
    # Where even C code does not come that far, the reader should see that: the kernel sets the pace there.
    ceiling = ratios(results, peer.baseline, other, connections)
    if ceiling and other != peer.baseline:
        value += f"; {peer.baseline} itself: {ceiling.middle:.2f}"
    return Bar(name, f"≥ {limit}", value, passed)


def memory_bars(results: MemoryResults) -> list[Bar]:
    """The bar on growth, for our own contestants."""
    bars = []
    for growth in results.growth:
        if growth.peer.startswith(f"{OURS}-"):
            grown = growth.grown
            value = f"{grown.rss:,} KiB resident, {grown.private_dirty:,} KiB private dirty"
            passed = grown.rss < GROWTH_BAR and grown.private_dirty < GROWTH_BAR
            name = f"growth of {growth.peer} over {growth.round_trips:,} round trips on one connection"
            bars.append(Bar(name, f"< {GROWTH_BAR:,} KiB", value, passed))
    failed = [name.removeprefix("echo ") for name in results.failures if name.startswith(f"echo {OURS}-")]
    bars += [Bar(f"growth of {name}", f"< {GROWTH_BAR:,} KiB", "not measured", False) for name in failed]
    return bars


def memory_table(results: MemoryResults) -> str:
    """Growth and sizes."""
    rows = [["child after start, KiB", "resident", "proportional", "private dirty"]]
    for size in results.sizes:
        found = size.largest
        rows.append([f"{size.suite} {size.peer}", f"{found.rss:,}", f"{found.pss:,}", f"{found.private_dirty:,}"])
    parts = ["memory\n" + _align(rows)] if results.sizes else ["memory"]
    if results.growth:
        rows = [["growth, KiB", "round trips", "resident", "private dirty"]]
        for growth in results.growth:
            grown = growth.grown
            rows.append([growth.peer, f"{growth.round_trips:,}", f"{grown.rss:,}", f"{grown.private_dirty:,}"])
        parts.append(_align(rows))
    return "\n".join(parts)


def failures_text(suites: list[Results], memory: MemoryResults | None) -> str:
    """Everything that did not work, with its whole message; empty if nothing."""
    lines = []
    for results in suites:
        for failure in results.failures:
            at = f"round {failure.round}" + (f", {failure.connections} connections" if failure.connections else "")
            lines.append(f"{results.suite} {failure.peer} ({at}): {_indent(failure.reason)}")
    if memory:
        lines += [f"memory, {name}: {_indent(reason)}" for name, reason in memory.failures.items()]
    return "\n".join(["What did not work:", *(f"  {line}" for line in lines)]) if lines else ""


def _indent(text: str) -> str:
    return text.replace("\n", "\n      ")


def bars_text(bars: list[Bar]) -> str:
    """One line per bar, PASS or FAIL in front."""
    rows = [[f"{'PASS' if bar.passed else 'FAIL'}  {bar.name}", f"{bar.limit}:  {bar.value}"] for bar in bars]
    return "Bars (medians of the ratios)\n" + _align(rows) if rows else "No bar applies to what was measured."


def machine(tools: Tools) -> dict[str, str]:
    """Facts about the machine and the programs, for the head of the report and the JSON file."""
    facts = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": f"{len(os.sched_getaffinity(0))} × {_cpu_model()}",
        "load average": " ".join(f"{value:.2f}" for value in os.getloadavg()),
        "python": platform.python_version(),
    }
    try:
        facts["httpd"] = tools.httpd_version()
    except UnavailableError as problem:
        facts["httpd"] = str(problem)
    return facts


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def write_json(
    path: Path,
    facts: dict[str, str],
    settings: dict[str, object],
    suites: list[Results],
    memory: MemoryResults | None,
    bars: list[Bar],
) -> None:
    """Writes everything that was measured, sample by sample.

    Args:
        path: the file; its directory is made
        facts: see ``machine``
        settings: the options of the run
        suites: the results
        memory: the memory results, if measured
        bars: the bars
    """
    document: dict[str, object] = {"format": 1, "machine": facts, "settings": settings}
    document["samples"] = [
        {"suite": results.suite, "peer": peer, "connections": n, "round": number, **dataclasses.asdict(sample)}
        for results in suites
        for (peer, n), samples in results.samples.items()
        for number, sample in samples.items()
    ]
    document["failures"] = [
        {"suite": results.suite, **dataclasses.asdict(failure)} for results in suites for failure in results.failures
    ]
    document["memory"] = dataclasses.asdict(memory) if memory else None
    document["bars"] = [dataclasses.asdict(bar) for bar in bars]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
