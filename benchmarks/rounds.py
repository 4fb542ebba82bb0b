"""Interleaved rounds: A B C, A B C, … and never A A A, B B B.

A shared machine is faster in one minute than in the next. When each round visits every contestant, whatever happens
to the machine happens to all of them, and a ratio taken within a round hardly feels it. A server is started afresh in
each round, so that what differs between two starts of one program (memory layout, hash seeds) is part of the
spread that the report shows instead of being frozen into one lucky or unlucky process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from benchmarks.load import LoadError, Sample, Work, measure
from benchmarks.peers import Peer
from benchmarks.server import Server, Sizes
from benchmarks.tools import Tools, UnavailableError


@dataclass(frozen=True)
class Failure:
    """Something that did not work.

    Attributes:
        peer: the contestant's name
        round: from 1
        connections: during which measurement, or None if the server did not start
        reason: the whole message
    """

    peer: str
    round: int
    connections: int | None
    reason: str


@dataclass
class Results:
    """What the rounds of one suite brought.

    Attributes:
        suite: ``echo``, ``hello``, ``wsgi`` or ``filter``
        peers: the contestants in order, those that failed included
        connections: the numbers of connections measured
        samples: by (contestant, connections) and round
        failures: in order of time
    """

    suite: str
    peers: list[Peer]
    connections: list[int]
    samples: dict[tuple[str, int], dict[int, Sample]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def of(self, peer: str, connections: int) -> dict[int, Sample]:
        """The samples of a contestant by round; empty if there are none."""
        return self.samples.get((peer, connections), {})

    def failures_of(self, peer: str) -> list[Failure]:
        """What went wrong with a contestant."""
        return [failure for failure in self.failures if failure.peer == peer]


def progress(text: str) -> None:
    """Tells on standard error what is going on; the tables on standard output stay clean."""
    print(text, file=sys.stderr, flush=True)


def run_rounds(
    tools: Tools,
    suite: str,
    peers: list[Peer],
    work: Work,
    connections: list[int],
    rounds: int,
    tell: Callable[[str], None] = progress,
    measure: Callable[[Tools, Server, Work], Sample] = measure,
) -> Results:
    """Runs a suite.

    Args:
        tools: as for the servers
        suite: its name
        peers: the contestants
        work: what to do; the number of connections and the path are filled in
        connections: the numbers of connections to measure, one after the other on the same server
        rounds: how often
        tell: gets lines of progress
        measure: makes one measurement

    Returns:
        All samples and failures. A contestant that does not start is not tried again; one that fails during a
        measurement gets its chance in the next round, and the failure is kept.
    """
    results = Results(suite, peers, connections)
    sizes = Sizes.for_connections(max(connections))
    absent: set[str] = set()
    for number in range(1, rounds + 1):
        for peer in peers:
            if peer.name in absent:
                continue
            done: list[str] = []
            n: int | None = None
            try:
                with peer.open(tools, sizes) as server:
                    for n in connections:
                        sample = measure(tools, server, replace(work, connections=n, path=peer.path))
                        results.samples.setdefault((peer.name, n), {})[number] = sample
                        done.append(f"{n}: {sample.rate:,.0f}/s {sample.cpu_us:.1f} µs")
            except UnavailableError as problem:
                absent.add(peer.name)
                results.failures.append(Failure(peer.name, number, None, str(problem)))
                done.append(f"not running: {_one_line(problem)}")
            except LoadError as problem:
                results.failures.append(Failure(peer.name, number, n, str(problem)))
                done.append(f"{n}: FAILED: {_one_line(problem)}")
            tell(f"{suite} round {number}/{rounds}  {peer.name:<17} {'   '.join(done)}")
    return results


def _one_line(problem: Exception) -> str:
    """The beginning of a message; the whole stands in the report."""
    text = " ".join(str(problem).split())
    return text if len(text) <= 160 else text[:159] + "…"
