"""pytest plugin of `tools.run_tests`: which part of the suite runs, and how far it has got.

    python -m pytest -p tools.pytest_parts --part=together --without-heavy

`--part=together` leaves out the tests that are marked `alone`, which cannot share the machine with
others; `--part=alone` runs only those. Files with tests that are marked `heavy` or `long` come first, then those
with many tests: a long file that starts last would leave the other processes without work at the end.

With the environment variable MOD_PYTHON_TEST_SEED, files start in a random order, the same for the same seed
(tools/repeat.py); with MOD_PYTHON_TEST_SHUFFLE=tests, so do the tests in each file.

A test that crashes its process fails, and is not given to another process; the rest of its file is.

Instead of a dot for each test there is one line that counts, and each failure as soon as it is known.
`--count-file=FILE` gets the number of tests that were selected, and of those that have ended.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

REDRAW_SECONDS = 0.2  # on a terminal
LINE_SECONDS = 20.0  # elsewhere, where every line stays


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that select a part."""
    group = parser.getgroup("parts", "parts of the suite")
    group.addoption("--part", choices=["together", "alone"], help="tests that share the machine, or those that do not")
    group.addoption("--count-file", help="a file for two numbers: tests selected, and tests ended")
    group.addoption("--without-heavy", action="store_true", help="leave out tests that are marked heavy")


def pytest_configure(config: pytest.Config) -> None:
    """Show progress, unless this is a worker of pytest-xdist."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Progress(config), "mod_python-progress")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of the part, files with heavy tests first."""
    part, without_heavy = config.getoption("--part"), config.getoption("--without-heavy")

    def wanted(item: pytest.Item) -> bool:
        if without_heavy and item.get_closest_marker("heavy"):
            return False
        return part is None or (part == "alone") == bool(item.get_closest_marker("alone"))

    kept = [item for item in items if wanted(item)]
    left_out = [item for item in items if not wanted(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
    seed = os.environ.get("MOD_PYTHON_TEST_SEED")
    shuffled = _shuffled(kept, seed) if seed else kept
    first = {item.path for item in kept for mark in ("heavy", "long") if item.get_closest_marker(mark)}
    number = Counter(item.path for item in kept)
    if seed:
        number.clear()
    items[:] = sorted(shuffled, key=lambda item: (item.path not in first, -number[item.path]))


def _shuffled(items: list[pytest.Item], seed: str) -> list[pytest.Item]:
    """Change the order of files, and of the tests in each if that is asked for."""
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    generator = random.Random(seed)
    groups = list(files.values())
    generator.shuffle(groups)
    if os.environ.get("MOD_PYTHON_TEST_SHUFFLE") == "tests":
        for group in groups:
            generator.shuffle(group)
    return [item for group in groups for item in group]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give the tests out by files, and a test that crashes its process only once."""
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
        def remove_node(self, node: Any) -> str | None:
            workload = self.assigned_work.pop(node)
            waiting = [(unit, test) for unit in workload.values() for test, ended in unit.items() if not ended]
            if not waiting:
                return None
            unit, crashed = waiting[0]
            unit[crashed] = True
            self.workqueue.update({name: unit for name, unit in workload.items() if not all(unit.values())})
            for other in self.assigned_work:
                self._reschedule(other)
            return str(crashed)

        def _reschedule(self, node: Any) -> None:
            # A process keeps its last test until it knows what comes after it: another, or the end.
            super()._reschedule(node)
            while not node.shutting_down and self._pending_of(self.assigned_work[node]) < 2:
                super()._reschedule(node)

        def _assign_work_unit(self, node: Any) -> None:
            # A process that has just died is noticed later: what was to be sent to it counts as its work,
            # and remove_node() gives it to another.
            with contextlib.suppress(OSError):
                super()._assign_work_unit(node)

    return Files(config, log) if config.getvalue("dist") == "loadfile" else None


class Progress:
    """Counts the tests that have ended.

    Args:
        config: of the pytest that prints.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.start = self.shown = time.monotonic()
        self.total = 0
        self.ended = self.failed = 0

    @property
    def reporter(self) -> Any:
        """pytest's reporter, which writes to the terminal."""
        return self.config.pluginmanager.get_plugin("terminalreporter")

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Note how many tests there are, in one process."""
        self.total = max(self.total, len(session.items))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: object, ids: Sequence[str]) -> None:
        """Note how many tests there are, with pytest-xdist."""
        self.total = max(self.total, len(ids))

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, str] | None:
        """Count in pytest's own categories, but without a letter for each test."""
        if not isinstance(report, pytest.TestReport) or hasattr(report, "wasxfail"):
            return None
        if report.failed:
            return ("failed" if report.when == "call" else "error"), "", ""
        if report.skipped:
            return "skipped", "", ""
        return ("passed" if report.when == "call" else ""), "", ""

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Show a failure, and from time to time how far the run has got."""
        if report.failed:
            self.failed += 1
            self._clear()
            self.reporter.write_line(f"FAILED {report.nodeid} ({report.when}): {_reason(report)}", red=True)
        if report.when in ("teardown", "???"):  # the latter is xdist's, for a test that crashed its process
            self.ended += 1
            self._show()

    def pytest_sessionfinish(self) -> None:
        """Show the end of it, and write the numbers down."""
        file = self.config.getoption("--count-file")
        if file:
            Path(file).write_text(f"{self.total} {self.ended}", encoding="utf-8")
        if self.ended:
            self._show(always=True)
            if self.reporter.isatty:
                self.reporter.write_line("")

    def _show(self, *, always: bool = False) -> None:
        now = time.monotonic()
        if not always and now - self.shown < (REDRAW_SECONDS if self.reporter.isatty else LINE_SECONDS):
            return
        self.shown = now
        minutes, seconds = divmod(int(now - self.start), 60)
        share = f", {100 * self.ended // self.total} %" if self.total else ""
        failed = f", {self.failed} failed" if self.failed else ""
        line = f"{minutes}:{seconds:02d}  {self.ended} of {self.total} tests{share}{failed}"
        if self.reporter.isatty:
            self.reporter.rewrite(line, erase=True)
        else:
            self.reporter.write_line(line)

    def _clear(self) -> None:
        if self.reporter.isatty:
            self.reporter.rewrite("", erase=True)


def _reason(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash is not None else str(report.longrepr or "")
    return text.strip().partition("\n")[0][:200]
