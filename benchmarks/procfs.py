"""CPU time and memory of a server's processes, as Linux reports them in /proc.

CPU time per round trip is the steadiest figure a shared machine gives: other work slows a server down, but hardly
changes what it has to compute. The kernel reports it per process in ticks of 10 ms (``/proc/PID/stat``), which is too
coarse when fifty prefork children share two seconds of work; ``/proc/PID/task/TID/schedstat`` has the same time in
nanoseconds per thread and is used where the kernel offers it.

Field numbers and meanings: proc(5); Documentation/scheduler/sched-stats in the kernel for schedstat.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Memory:
    """Memory of one process or a sum of several, in KiB."""

    rss: int
    pss: int
    private_dirty: int

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.rss + other.rss, self.pss + other.pss, self.private_dirty + other.private_dirty)

    def __sub__(self, other: Memory) -> Memory:
        return Memory(self.rss - other.rss, self.pss - other.pss, self.private_dirty - other.private_dirty)


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on; the second, the name, may hold blanks."""
    text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    return text[text.rindex(")") + 2 :].split()


def descendants(root: int) -> list[int]:
    """The process *root* and all that descend from it, those that have already ended left out.

    Args:
        root: process id of the server's first process

    Returns:
        Process ids, *root* first, the others in ascending order.
    """
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fields = _stat_fields(int(name))
            except (OSError, ValueError):
                continue
            if fields[0] != "Z":
                children.setdefault(int(fields[1]), []).append(int(name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return [root, *sorted(found[1:])]


def _schedstat_seconds(pid: int) -> float:
    """Time on a CPU of all living threads of a process; raises OSError where the kernel has no schedstat."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text(encoding="ascii").split()[0])
        except ProcessLookupError:
            continue
    return total / 1e9


def _stat_seconds(pid: int) -> float:
    fields = _stat_fields(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND


def cpu_seconds(pids: list[int]) -> float:
    """User and system time used so far by the given processes.

    Args:
        pids: process ids; those that are gone count as nothing

    Returns:
        Seconds. Differences between two calls are meaningful as long as no thread ends in between, which the
        servers' configuration sees to (no limit on connections per child, spare limits that are never reached).
    """
    total = 0.0
    for pid in pids:
        try:
            try:
                total += _schedstat_seconds(pid)
            except FileNotFoundError:
                total += _stat_seconds(pid)
        except OSError:
            continue
    return total


def memory(pid: int) -> Memory:
    """Resident, proportional and private dirty memory of a process.

    Args:
        pid: process id; needs the same user or root

    Returns:
        The sums of /proc/PID/smaps_rollup, in KiB.

    Raises:
        OSError: the process is gone or belongs to someone else.
    """
    values: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]:
        name, _, rest = line.partition(":")
        values[name] = int(rest.split()[0])
    return Memory(values["Rss"], values["Pss"], values["Private_Dirty"])
