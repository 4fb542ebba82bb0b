"""The command line: ``python -m benchmarks [run|profile|list] …``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from benchmarks import report
from benchmarks.filters import filter_peers, measure_downloads
from benchmarks.load import LoadError, Work, measure
from benchmarks.memory import MemoryResults, run_memory
from benchmarks.peers import (
    MPMS,
    Peer,
    async_peers,
    echo_peers,
    fits,
    hello_peers,
    psp_peers,
    publisher_peers,
    select,
    wait_peers,
    wsgi_peers,
)
from benchmarks.profiler import profile
from benchmarks.resp import CONNECTIONS as RESP_CONNECTIONS
from benchmarks.resp import resp_peers, run_resp
from benchmarks.rounds import Results, progress, run_rounds
from benchmarks.tools import BUILD, Tools, UnavailableError

PROFILED = ("echo", "async", "hello", "publisher", "psp", "wsgi", "wait")
SUITES = (*PROFILED, "resp", "filter", "memory")
#: Where lines go back and forth; in the others requests are made.
ECHO_SUITES = ("echo", "async")

#: MPMs by default: the echo comparison is about all three, the page is served by the default MPM of httpd.
ECHO_MPMS: tuple[str, ...] = MPMS
HELLO_MPMS: tuple[str, ...] = ("event",)

#: The contestants of the memory measurements by default: ours, and for scale what it is built on and what it replaces.
MEMORY_PEERS = ["ours", "mod_echo-event", "old-event", "c-event"]

#: More rounds or longer ones than this are surely a mistyped option; the run would last for hours.
MOST_ROUNDS = 100
MOST_SECONDS = 600.0


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> list[int]:
    numbers = [int(word) for word in _words(text)]
    if not numbers or min(numbers) < 1 or max(numbers) > 1000:
        raise argparse.ArgumentTypeError("numbers of connections must be between 1 and 1000")
    return numbers


def _suites(text: str) -> list[str]:
    words = _words(text)
    if not words or set(words) - set(SUITES):
        raise argparse.ArgumentTypeError(f"choose from {', '.join(SUITES)}")
    return words


def _mpms(text: str) -> tuple[str, ...]:
    words = tuple(_words(text))
    if not words or set(words) - set(MPMS):
        raise argparse.ArgumentTypeError(f"choose from {', '.join(MPMS)}")
    return words


def _rounds(text: str) -> int:
    if not 1 <= int(text) <= MOST_ROUNDS:
        raise argparse.ArgumentTypeError(f"must be between 1 and {MOST_ROUNDS}")
    return int(text)


def _seconds(text: str) -> float:
    if not 0.1 <= float(text) <= MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"must be between 0.1 and {MOST_SECONDS:.0f}")
    return float(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures mod_python against httpd's C modules, the old mod_python and other Python servers.",
        epilog="Contestants of --peers are names, families or patterns, such as ours-event, mod_echo, '*-prefork'; "
        "'list' shows them. The exit status is 0 if every bar that applies was reached, 1 if not, "
        "2 if nothing could be measured.",
    )
    parser.add_argument("command", nargs="?", choices=("run", "profile", "list"), default="run")
    parser.add_argument("suite", nargs="?", choices=PROFILED, help="what to profile (default: echo)")
    parser.add_argument("--only", type=_suites, metavar="SUITES", help=f"some of {','.join(SUITES)}")
    parser.add_argument("--peers", type=_words, metavar="PEERS", help="some of the contestants")
    parser.add_argument("--mpm", type=_mpms, metavar="MPMS", help=f"some of {','.join(MPMS)}")
    parser.add_argument("--connections", type=_numbers, metavar="N,…", help="default: 1,16,50 (profile: 16)")
    parser.add_argument("--rounds", type=_rounds, help="default: 5")
    parser.add_argument("--seconds", type=_seconds, help="length of one measurement, default: 2")
    parser.add_argument("--size", type=int, default=64, help="bytes of an echo line with its newline, default: 64")
    parser.add_argument("--count", type=int, help="round trips of the memory measurement, default: 1000000")
    parser.add_argument("--quick", action="store_true", help="a first impression: 3 rounds of 0.5 s, event only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="results (default: in benchmarks/.build/results)")
    parser.add_argument("--apxs", help="the apxs of the httpd to measure (also the variable APXS)")
    parser.add_argument("--httpd", help="the httpd program, if not the one that apxs names")
    return parser


class _Run:
    """The options with their defaults, and the contestants they choose."""

    def __init__(self, options: argparse.Namespace) -> None:
        quick: bool = options.quick
        self.suites: list[str] = options.only or list(SUITES)
        self.connections: list[int] = options.connections or ([16] if quick else [1, 16, 50])
        self.rounds: int = options.rounds or (3 if quick else 5)
        self.seconds: float = options.seconds or (0.5 if quick else 2.0)
        self.size: int = options.size
        self.count: int = options.count or (100_000 if quick else 1_000_000)
        self.patterns: list[str] | None = options.peers
        echo_mpms, hello_mpms = ECHO_MPMS, HELLO_MPMS
        if quick:
            echo_mpms = ("event",)
        if options.mpm:
            echo_mpms = hello_mpms = options.mpm
        elif self.patterns is not None and not quick:
            hello_mpms = MPMS  # the patterns say which
        self._all = {
            "echo": echo_peers(echo_mpms),
            "async": async_peers(),
            "resp": resp_peers(),
            "hello": hello_peers(hello_mpms),
            "publisher": publisher_peers(hello_mpms),
            "psp": psp_peers(hello_mpms),
            "wsgi": wsgi_peers(hello_mpms),
            "wait": wait_peers(hello_mpms),
            "filter": filter_peers(hello_mpms),
        }
        for pattern in self.patterns or ():
            if not any(fits(peer, pattern) for peer in self.everyone()):
                names = ", ".join(dict.fromkeys(peer.name for peer in self.everyone()))
                raise UnavailableError(f"no contestant fits {pattern!r}; there are: {names}")
        #: The contestants of each suite.
        self.peers = {suite: select(peers, self.patterns) for suite, peers in self._all.items()}
        self._asked: list[int] | None = options.connections
        self._quick = quick

    def connections_of(self, suite: str) -> list[int]:
        """How many connections a suite is measured with."""
        if suite == "filter":
            # Each of these keeps the client busy by itself; more of them measure the client.
            return self._asked or [1]
        if suite == "resp":
            return self._asked or [RESP_CONNECTIONS]
        if suite == "async":
            return self._asked or ([64] if self._quick else [64, 1000])
        return self.connections

    def everyone(self) -> list[Peer]:
        """All contestants before the choice."""
        return [peer for peers in self._all.values() for peer in peers]

    def memory_peers(self) -> tuple[list[Peer], list[Peer]]:
        """Those of the memory measurements."""
        patterns = self.patterns or MEMORY_PEERS
        return select(self._all["echo"], patterns), select(self._all["hello"], patterns)

    def settings(self) -> dict[str, object]:
        """For the JSON file."""
        return {
            "suites": self.suites,
            "connections": self.connections,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "size": self.size,
            "count": self.count,
        }


def _run(tools: Tools, run: _Run, json_path: Path | None) -> int:
    facts = report.machine(tools)
    for name, value in facts.items():
        print(f"{name + ':':<14}{value}")
    # Without these nothing can be measured, so their absence is no contestant's failure.
    progress(f"load generator: {tools.load_generator}, httpd: {tools.httpd}")

    suites: list[Results] = []
    memory: MemoryResults | None = None
    bars: list[report.Bar] = []
    for suite, peers in run.peers.items():
        if suite not in run.suites or not peers:
            continue
        if suite == "resp":
            for connections in run.connections_of(suite):
                suites += run_resp(tools, peers, connections, run.rounds, run.seconds)
            continue
        protocol = "echo" if suite in ECHO_SUITES else "http"
        work = Work(protocol, 1, seconds=run.seconds, size=run.size)
        way = measure_downloads if suite == "filter" else measure
        results = run_rounds(tools, suite, peers, work, run.connections_of(suite), run.rounds, measure=way)
        suites.append(results)
        bars += report.suite_bars(results)
    if "memory" in run.suites:
        memory = run_memory(tools, *run.memory_peers(), run.count, run.size)
        bars += report.memory_bars(memory)

    for results in suites:
        for connections in results.connections:
            print("\n" + report.table(results, connections))
    if memory:
        print("\n" + report.memory_table(memory))
    if failures := report.failures_text(suites, memory):
        print("\n" + failures)
    print("\n" + report.bars_text(bars))

    path = json_path or BUILD / "results" / time.strftime("%Y%m%d-%H%M%S.json")
    report.write_json(path, facts, run.settings(), suites, memory, bars)
    print(f"\nall samples: {path}")
    if not any(results.samples for results in suites) and not (memory and memory.sizes):
        return 2
    return 0 if all(bar.passed for bar in bars) else 1


def _profile(tools: Tools, run: _Run, suite: str, connections: int, seconds: float) -> int:
    peers = run.peers[suite]
    if run.patterns is None:
        peers = peers[:1]  # ours, on the first MPM
    for peer in peers:
        data = BUILD / "profiles" / f"{suite}-{peer.name}.data"
        print(profile(tools, suite, peer, connections, seconds, run.size, data))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: without the program's name; default: those of the process

    Returns:
        The exit status.
    """
    options = _parser().parse_args(arguments)
    tools = Tools(options.apxs or os.environ.get("APXS"), options.httpd)
    try:
        run = _Run(options)
        if options.command == "list":
            for suite, peers in run.peers.items():
                print(f"{suite}: {' '.join(peer.name for peer in peers)}")
            return 0
        if options.command == "profile":
            connections = (options.connections or [16])[0]
            return _profile(tools, run, options.suite or "echo", connections, options.seconds or 5.0)
        return _run(tools, run, options.json)
    except (UnavailableError, LoadError) as problem:
        print(f"benchmarks: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmarks: interrupted", file=sys.stderr)
        return 130
    finally:
        tools.close()
