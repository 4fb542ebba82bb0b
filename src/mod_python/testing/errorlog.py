"""Reading httpd's error log: records, tracebacks, crashes.

Works on httpd's usual line format, ``[time] [module:level] [pid N:tid N] message``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["LEVELS", "LogRecord", "crashes", "parse", "tracebacks"]

#: httpd's log levels, most severe first.
LEVELS = (
    *("emerg", "alert", "crit", "error", "warn", "notice", "info", "debug"),
    *(f"trace{number}" for number in range(1, 9)),
)

_LINE = re.compile(
    r"\[(?P<time>[^\]]*)\] \[(?P<module>[^\]:]*):(?P<level>\w+)\] "
    r"\[pid (?P<pid>\d+)(?::tid (?P<tid>\d+))?\] (?P<message>.*)",
    re.DOTALL,
)

# What httpd, the C library, sanitizers and Python write when a process dies badly. The last
# one is httpd's word that a child did not end and was killed.
_CRASH = re.compile(
    r"AH0005[012]: |exit signal|Segmentation fault|AddressSanitizer|runtime error: "
    r"|Fatal Python error|double free|corrupted |free\(\): |malloc\(\): |Assertion .* failed"
    r"|AH00046: |AH00047: "
)


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One line of the error log.

    Attributes:
        line: The line as it is.
        level: Its level, such as ``"error"``; ``""`` for a line that httpd did not
            write, such as the output of a child on standard error.
        module: The module that logged it, such as ``"python"`` or ``"core"``.
        pid: Process id, 0 if unknown.
        tid: Thread id, 0 if unknown.
        message: The rest.
    """

    line: str
    level: str = ""
    module: str = ""
    pid: int = 0
    tid: int = 0
    message: str = ""

    def at_least(self, level: str) -> bool:
        """Tell whether the record is as severe as `level`; a foreign line always is."""
        return not self.level or LEVELS.index(self.level) <= LEVELS.index(level)

    def __str__(self) -> str:
        return self.line


def parse(text: str) -> list[LogRecord]:
    """Split an error log into records."""
    return [_record(line) for line in text.split("\n") if line]


def tracebacks(records: Iterable[LogRecord]) -> list[str]:
    """Collect the Python tracebacks in a log, each as one text of whole log lines.

    A traceback begins with Python's well-known line and ends with the first line after
    it, from the same thread, that is not indented: the exception.
    """
    found: list[list[str]] = []
    open_ones: dict[tuple[int, int], tuple[list[str], int]] = {}
    for record in records:
        key = (record.pid, record.tid)
        column = record.line.find("Traceback (most recent call last)")
        if column >= 0:
            lines = [record.line]
            found.append(lines)
            # Logged as one record, line ends escaped, it is complete already.
            if "\\n" not in record.line:
                open_ones[key] = (lines, column)
        elif key in open_ones:
            lines, column = open_ones[key]
            lines.append(record.line)
            rest = record.line[column:]
            if rest and not rest.startswith(" "):
                del open_ones[key]
    return ["\n".join(lines) for lines in found]


def crashes(records: Iterable[LogRecord]) -> list[str]:
    """Return the lines that tell of a process that died or had to be killed."""
    return [record.line for record in records if _CRASH.search(record.line)]


def tail(records: Sequence[LogRecord], count: int = 20) -> str:
    """Return the last lines, for an error message."""
    return "\n".join(record.line for record in records[-count:]) or "(the error log is empty)"


def _record(line: str) -> LogRecord:
    match = _LINE.match(line)
    if match is None or match["level"] not in LEVELS:
        return LogRecord(line, message=line)
    return LogRecord(
        line,
        match["level"],
        match["module"],
        int(match["pid"]),
        int(match["tid"] or 0),
        match["message"],
    )
