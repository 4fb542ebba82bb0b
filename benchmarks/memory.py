"""Memory: does a child grow over a million round trips on one connection, and how large is it after its start?

Growth is read as resident memory and as private dirty memory: the first also grows by pages of shared libraries
that are merely touched for the first time, the second is what the process itself wrote and nobody shares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks import procfs
from benchmarks.load import LoadError, Work, measure
from benchmarks.peers import Peer
from benchmarks.rounds import progress
from benchmarks.server import Sizes
from benchmarks.tools import Tools, UnavailableError

#: Round trips before the first look, so that caches, the allocator's arenas and the adaptive interpreter have settled.
WARMUP = 10_000
#: Round trips before the size of a fresh child is read: enough to have imported everything that serving needs.
AFTER_START = 20


@dataclass(frozen=True)
class Growth:
    """One long connection.

    Attributes:
        peer: the contestant
        round_trips: how many between the two looks
        before: the serving processes' memory before, KiB
        after: and after
    """

    peer: str
    round_trips: int
    before: procfs.Memory
    after: procfs.Memory

    @property
    def grown(self) -> procfs.Memory:
        """KiB more than before."""
        return self.after - self.before


@dataclass(frozen=True)
class ChildSize:
    """A child after its start.

    Attributes:
        suite: ``echo`` or ``hello``
        peer: the contestant
        children: how many serving processes there were
        largest: the one with the most private memory, KiB: with prefork, one that has served
    """

    suite: str
    peer: str
    children: int
    largest: procfs.Memory


@dataclass
class MemoryResults:
    """What was found.

    Attributes:
        growth: one entry per contestant
        sizes: one entry per contestant and suite
        failures: by contestant, the reason
    """

    growth: list[Growth] = field(default_factory=list)
    sizes: list[ChildSize] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def run_memory(
    tools: Tools,
    echo: list[Peer],
    hello: list[Peer],
    round_trips: int,
    size: int,
    tell: Callable[[str], None] = progress,
) -> MemoryResults:
    """Measures growth and size.

    Args:
        tools: as for the servers
        echo: contestants whose growth and size is measured
        hello: contestants whose size is measured
        round_trips: length of the long connection
        size: bytes of an echo line
        tell: gets lines of progress

    Returns:
        The findings; a contestant that failed is listed with the reason.
    """
    results = MemoryResults()
    for suite, peers in (("echo", echo), ("hello", hello)):
        for peer in peers:
            try:
                _one(tools, suite, peer, round_trips, size, results)
            except (UnavailableError, LoadError) as problem:
                results.failures[f"{suite} {peer.name}"] = str(problem)
                tell(f"memory {suite} {peer.name:<17} FAILED: {str(problem).splitlines()[0]}")
            else:
                found = results.sizes[-1].largest
                text = f"after start {found.rss:,} KiB resident, {found.private_dirty:,} private"
                if suite == "echo":
                    grown = results.growth[-1].grown
                    text += f"; grown by {grown.rss:,} and {grown.private_dirty:,}"
                tell(f"memory {suite} {peer.name:<17} {text}")
    return results


def _one(tools: Tools, suite: str, peer: Peer, round_trips: int, size: int, results: MemoryResults) -> None:
    # Prefork with a few children only: one serves, the others are what a child costs that has done nothing yet.
    with peer.open(tools, Sizes(processes=4)) as server:
        protocol = "echo" if suite == "echo" else "http"
        start = Work(protocol, 1, count=AFTER_START, size=size, path=peer.path, warmup=1)
        measure(tools, server, start)
        each = [procfs.memory(pid) for pid in server.workers()]
        largest = max(each, key=lambda found: found.private_dirty)
        size_found = ChildSize(suite, peer.name, len(each), largest)
        if suite == "echo":
            sample = measure(tools, server, Work("echo", 1, count=round_trips, size=size, warmup=WARMUP))
            results.growth.append(Growth(peer.name, sample.round_trips, sample.memory_before, sample.memory_after))
        results.sizes.append(size_found)
