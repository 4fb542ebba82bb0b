"""The result of one run of the suite: counts, failures, skips, and the tables that show them.

A run has one or two reports (JUnit XML, which pytest writes); a `Result` sums them up.
It goes from one process to another, or out of a chroot, as a JSON file.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from xml.etree import ElementTree

_WHOLE_FILE = "collection skipped"  # pytest's message for a file that is skipped as a whole
LONGEST_REASON = 200  # characters of a reason in the summary; the whole of it is further up


@dataclass
class Result:
    """The outcome of one run of the suite.

    Attributes:
        name: the httpd, MPM and Python of the run.
        seconds: how long it took.
        passed: how many tests passed.
        failures: each failed test, with the first line of the reason.
        skips: each reason for skipping tests, with their number.
        problem: what went wrong with the run itself, or "".
        unavailable: the run could not be made here, which is reported and does not fail.
        whole: it was the whole suite, as `make test` runs it without more arguments.
    """

    name: str
    seconds: float = 0.0
    passed: int = 0
    failures: list[str] = field(default_factory=list)
    skips: dict[str, int] = field(default_factory=dict)
    problem: str = ""
    unavailable: bool = False
    whole: bool = False

    @property
    def skipped(self) -> int:
        """The number of tests that were skipped."""
        return sum(self.skips.values())

    @property
    def good(self) -> bool:
        """Whether nothing failed."""
        return self.unavailable or not (self.failures or self.problem)

    @property
    def word(self) -> str:
        """The outcome in one word."""
        if self.unavailable:
            return "not run"
        return "passed" if self.good else "FAILED"

    def write(self, path: Path) -> None:
        """Write it to a file, for `read`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")


def read(path: Path) -> Result:
    """Read a result that was written to a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not the file of a result.
    """
    try:
        return Result(**json.loads(path.read_text(encoding="utf-8")))
    except TypeError as error:
        raise ValueError(f"{path} is not the file of a result: {error}") from None


def add_report(result: Result, report: Path, *, whole_files: bool = True) -> bool:
    """Count the tests of one report.

    Args:
        result: what they are added to.
        report: what pytest wrote with --junitxml.
        whole_files: count files that are skipped as a whole. Each part of a run meets them.

    Returns:
        Whether there was a report: a run that was broken off writes none.
    """
    try:
        cases = list(ElementTree.parse(report).iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return False
    skips: Counter[str] = Counter(result.skips)
    for case in cases:
        problems = [*case.findall("failure"), *case.findall("error")]
        skipped = case.find("skipped")
        for problem in problems:
            name = f"{case.get('classname')}::{case.get('name')}"
            result.failures.append(f"{name}: {_first_line(problem.get('message'))}")
        if skipped is not None:
            if whole_files or skipped.get("message") != _WHOLE_FILE:
                skips[_why_skipped(skipped)] += 1
        elif not problems:
            result.passed += 1
    result.skips = dict(sorted(skips.items()))
    return True


def _why_skipped(skipped: ElementTree.Element) -> str:
    """Read the reason; that of a file skipped as a whole is in the text: ('FILE', LINE, 'Skipped: REASON')."""
    whole_file = re.search(r"'Skipped: (.*)'\)$", skipped.text or "", re.DOTALL)
    message = skipped.get("message")
    return _first_line(whole_file[1] if whole_file and message == _WHOLE_FILE else message)


def _first_line(reason: str | None) -> str:
    return (reason or "no reason given").partition("\n")[0][:LONGEST_REASON]


def details(result: Result) -> Iterable[str]:
    """Compose the lines that say what failed and what was skipped, and why."""
    for failure in result.failures:
        yield f"FAILED   {failure}"
    if result.problem:
        yield f"{'not run' if result.unavailable else 'PROBLEM'}  {result.problem}"
    for reason, number in result.skips.items():
        yield f"skipped  {number:4d}  {reason}"


def table(results: Sequence[Result]) -> Iterable[str]:
    """Compose a table of results, one line each."""
    yield f"{'':8} {'passed':>6} {'failed':>6} {'skipped':>7} {'minutes':>7}"
    for result in results:
        minutes, seconds = divmod(round(result.seconds), 60)
        counts = f"{result.passed:6d} {len(result.failures):6d} {result.skipped:7d} {minutes:4d}:{seconds:02d}"
        yield f"{result.word:8} {counts}  {result.name}"


def summary(results: Sequence[Result]) -> str:
    """Compose the end of a run: for each result what failed and what was skipped, then the table."""
    lines: list[str] = []
    for result in results:
        found = list(details(result))
        if found:
            lines += [f"{result.name}:", *(f"    {line}" for line in found), ""]
    return "\n".join([*lines, *table(results)])
