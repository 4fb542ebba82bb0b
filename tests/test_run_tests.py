"""The commands that run the suite: its two parts, what is counted, what is said at the end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pytest

from tools import matrix, pytest_parts, repeat, results, run_tests
from tools.chroot import CHECKOUT, Chroot, ChrootUnavailable
from tools.environments import Environment
from tools.pythons import ROOT, Python
from tools.results import Result

TESTS = """
import pytest

@pytest.fixture
def broken():
    raise RuntimeError("not\\nthere")

def test_good(): pass
def test_bad(): assert 1 == 2, "too\\nsmall"
def test_error(broken): pass
def test_tool(): pytest.skip("needs a tool")
@pytest.mark.parametrize("number", [1, 2])
def test_tools(number): pytest.skip("needs a tool")
@pytest.mark.alone
def test_alone(): pass
@pytest.mark.heavy
def test_heavy(): pass
"""

INI = "[pytest]\nmarkers =\n    heavy: does much\n    long: takes long\n    alone: cannot share the machine\n"


@pytest.fixture
def small_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a few tests of every outcome, in an order that is not this run's."""
    for name in ("MOD_PYTHON_TEST_SEED", "MOD_PYTHON_TEST_SHUFFLE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "pytest.ini").write_text(INI)
    (tmp_path / "test_some.py").write_text(TESTS)
    return tmp_path


def python(minor: int) -> Python:
    """Describe a Python."""
    return Python("python3", (3, minor, 2), sys.executable, sys.prefix, "")


class FakeChroot(Chroot):
    """A chroot that is a directory, and notes what is to happen in it."""

    def __init__(self, release: str, base: Path) -> None:
        super().__init__(release, base)
        self.broken = ""
        self.status = 0
        self.outcome: Result | None = None
        self.installed: list[str] = []
        self.commands: list[str] = []

    def prepare(self, packages: Iterable[str] = (), *, fresh: bool = False) -> None:
        if self.broken:
            raise ChrootUnavailable(self.broken)
        self.installed += packages

    def pythons(self) -> list[tuple[int, int]]:
        return [(3, 14), (3, 15), (3, 99)]

    def install(self, packages: Iterable[str]) -> None:
        self.installed += packages

    def copy_checkout(self, place: str = CHECKOUT, root: Path = ROOT) -> None:
        pass

    def run(self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: str = CHECKOUT) -> int:
        self.commands.append(" ".join(command))
        if self.outcome is not None and "tools.run_tests" in command:
            self.outcome.write(self.path / CHECKOUT.lstrip("/") / run_tests.LAST_RESULT.relative_to(ROOT))
        return self.status


def run_pytest(directory: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run pytest with the plugin."""
    # Other plugins of the environment would only cost time.
    ours = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for name in (
        "PYTEST_XDIST_WORKER",
        "MOD_PYTHON_TEST_SEED",
        "MOD_PYTHON_TEST_SHUFFLE",
    ):  # of the run that this test is in
        ours.pop(name, None)
    command = [sys.executable, "-m", "pytest", "-rN", "-q", "-p", "xdist", "-p", "tools.pytest_parts", *arguments]
    return subprocess.run(command, cwd=directory, env={**ours, **environ}, capture_output=True, text=True, check=False)


class TestParts:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ([], "8 of 8 tests"),
            (["--part=together"], "7 of 7 tests"),
            (["--part=alone"], "1 of 1 tests"),
            (["--part=together", "--without-heavy"], "6 of 6 tests"),
        ],
    )
    def test_each_test_is_in_one_part(self, small_suite: Path, arguments: list[str], expected: str) -> None:
        done = run_pytest(small_suite, *arguments)
        assert expected in done.stdout

    def test_a_part_in_several_processes(self, small_suite: Path) -> None:
        done = run_pytest(small_suite, "-n", "2", "--dist", "loadfile", "--part=together")
        assert "7 of 7 tests" in done.stdout

    def test_a_failure_is_shown_when_it_happens(self, small_suite: Path) -> None:
        done = run_pytest(small_suite)
        assert "FAILED test_some.py::test_bad (call): AssertionError: too\n" in done.stdout
        assert "FAILED test_some.py::test_error (setup): RuntimeError: not\n" in done.stdout
        assert re.search(r"2 failed|1 failed", done.stdout)
        assert done.returncode == 1

    def test_long_files_come_first(self, small_suite: Path) -> None:
        (small_suite / "test_a.py").write_text("def test_light(): pass\n")
        (small_suite / "test_b.py").write_text("def test_1(): pass\ndef test_2(): pass\n")
        (small_suite / "test_c.py").write_text("import pytest\npytestmark = pytest.mark.long\ndef test_long(): pass\n")
        done = run_pytest(small_suite, "--collect-only")
        names = re.findall(r"^test_\w+\.py(?=::)", done.stdout, re.M)
        assert list(dict.fromkeys(names)) == ["test_some.py", "test_c.py", "test_b.py", "test_a.py"]

    @pytest.mark.parametrize("shuffle", ["files", "tests"])
    def test_a_seed_decides_the_order(self, tmp_path: Path, shuffle: str) -> None:
        (tmp_path / "pytest.ini").write_text(INI)
        for name in "abcdef":
            (tmp_path / f"test_{name}.py").write_text("def test_1(): pass\ndef test_2(): pass\n")

        def order(seed: str) -> list[str]:
            done = run_pytest(tmp_path, "--collect-only", MOD_PYTHON_TEST_SEED=seed, MOD_PYTHON_TEST_SHUFFLE=shuffle)
            return re.findall(r"^test_\w+\.py::\w+", done.stdout, re.M)

        assert order("1") == order("1")
        assert sorted(order("1")) == sorted(order("2")) == order("")
        assert len({tuple(order(seed)) for seed in "123"}) > 1
        files = [name.partition("::")[0] for name in order("1")]
        assert files[::2] == files[1::2], "the tests of a file stay together"
        in_order = all(name.endswith("1") for name in order("1")[::2])
        assert in_order == (shuffle == "files")


class TestResults:
    @pytest.fixture
    def result(self, small_suite: Path) -> Result:
        """What came of the small suite."""
        report = small_suite / "report.xml"
        run_pytest(small_suite, f"--junitxml={report}")
        result = Result("a run", seconds=61)
        assert results.add_report(result, report)
        return result

    def test_what_is_counted(self, result: Result) -> None:
        assert result.passed == 3
        assert result.failures == [
            "test_some::test_bad: AssertionError: too",
            'test_some::test_error: failed on setup with "RuntimeError: not',
        ]
        assert result.skips == {"needs a tool": 3}
        assert result.skipped == 3
        assert not result.good

    def test_a_file_that_is_skipped_has_its_reason(self, tmp_path: Path) -> None:
        (tmp_path / "test_whole.py").write_text("import pytest\npytest.skip('needs it all', allow_module_level=True)\n")
        run_pytest(tmp_path, "--junitxml=report.xml")
        result = Result("a run")
        assert results.add_report(result, tmp_path / "report.xml")
        assert result.skips == {"needs it all": 1}
        assert results.add_report(result, tmp_path / "report.xml", whole_files=False)
        assert result.skips == {"needs it all": 1}

    def test_two_reports_add_up(self, result: Result, small_suite: Path) -> None:
        assert results.add_report(result, small_suite / "report.xml")
        assert (result.passed, len(result.failures), result.skips) == (6, 4, {"needs a tool": 6})

    def test_a_run_that_was_broken_off_has_no_report(self, tmp_path: Path) -> None:
        result = Result("a run")
        assert not results.add_report(result, tmp_path / "report.xml")
        (tmp_path / "report.xml").write_text("<testsuites><testsu")
        assert not results.add_report(result, tmp_path / "report.xml")
        assert result == Result("a run")

    def test_a_file_keeps_it(self, result: Result, tmp_path: Path) -> None:
        result.write(tmp_path / "new" / "result.json")
        assert results.read(tmp_path / "new" / "result.json") == result

    @pytest.mark.parametrize("text", ["", "{}", '{"name": "a", "other": 1}'])
    def test_another_file_is_none(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "result.json"
        path.write_text(text)
        with pytest.raises(ValueError, match=r"result\.json|Expecting"):
            results.read(path)

    def test_the_summary_names_what_failed_and_what_was_skipped(self, result: Result) -> None:
        away = Result("sid", problem="the archive is broken", unavailable=True)
        good = Result("another run", seconds=3.4, passed=7)
        text = results.summary([result, good, away])
        assert "FAILED   test_some::test_bad: AssertionError: too" in text
        assert "skipped     3  needs a tool" in text
        assert "not run  the archive is broken" in text
        assert [line.split() for line in text.splitlines()[-3:]] == [
            ["FAILED", "3", "2", "3", "1:01", "a", "run"],
            ["passed", "7", "0", "0", "0:03", "another", "run"],
            ["not", "run", "0", "0", "0", "0:00", "sid"],
        ]
        assert good.good
        assert away.good, "a chroot that cannot be made does not fail the run"


CRASH = "import os\ndef test_before(): pass\ndef test_crash(): os.kill(os.getpid(), 9)\ndef test_after(): pass\n"

# For the small suite: the process with test_crash.py is dead before the other one gets a test, and its next file is
# sent to it before its end is noticed.
SEND_TO_THE_DEAD = """
import threading
from xdist.workermanage import Marker, WorkerController

notice, send = WorkerController.process_from_remote, WorkerController.send_runtest_some
sent_to = []
sent_to_the_dead = threading.Event()


def notice_late(node, event):
    if event is Marker.END and node is sent_to[0]:
        assert sent_to_the_dead.wait(30)
    notice(node, event)


def send_late(node, indices):
    first = node not in sent_to
    if sent_to:
        sent_to[0].gateway._io.popen.wait(30)
    sent_to.append(node)
    if node is sent_to[0] and not first:
        sent_to_the_dead.set()
    send(node, indices)


WorkerController.process_from_remote, WorkerController.send_runtest_some = notice_late, send_late
"""


class TestRun:
    @pytest.fixture
    def combination(self, small_suite: Path, monkeypatch: pytest.MonkeyPatch) -> run_tests.Combination:
        """The small suite in place of the real one."""
        monkeypatch.setattr(run_tests, "ROOT", small_suite)
        # As `python -m` in the checkout: the plugin is found there.
        (small_suite / "tools").symlink_to(ROOT / "tools")
        (small_suite / "build_support").symlink_to(ROOT / "build_support")

        class Here(Environment):
            python = sys.executable

        base = Python("python3", (3, 11, 2), sys.executable, sys.prefix, "")
        return run_tests.Combination(
            Here(".venv", base), run_tests.Httpd("2.4.62", "/httpd", "PATH", ["event"]), "event"
        )

    def test_both_parts_are_counted(self, combination: run_tests.Combination) -> None:
        result = run_tests.run(combination, [], jobs=2)
        assert result.name == "httpd 2.4.62, event, Python 3.11.2"
        assert (result.passed, len(result.failures), result.skipped) == (3, 2, 3)
        assert result.problem == ""

    def test_a_selection_may_leave_a_part_empty(self, combination: run_tests.Combination) -> None:
        result = run_tests.run(combination, ["-k", "test_good"], jobs=0)
        assert (result.passed, result.skipped, result.good) == (1, 0, True)

    def test_no_test_at_all_is_a_problem(self, combination: run_tests.Combination) -> None:
        result = run_tests.run(combination, ["-k", "nothing_like_it"], jobs=0)
        assert result.problem == "no test ran"
        assert not result.good

    def test_a_suite_that_cannot_be_collected_is_a_failure(
        self, combination: run_tests.Combination, small_suite: Path
    ) -> None:
        (small_suite / "test_broken.py").write_text("import nothing_like_it\n")
        result = run_tests.run(combination, ["test_broken.py"], jobs=0)
        assert not result.good

    def test_wrong_arguments_are_a_problem(self, combination: run_tests.Combination) -> None:
        result = run_tests.run(combination, ["--no-such-option"], jobs=0)
        assert result.problem.startswith("pytest ended with status 4 and without a report in the part 'together'; ")
        assert not result.good

    def test_a_process_that_ends_early_is_a_problem(
        self, combination: run_tests.Combination, small_suite: Path
    ) -> None:
        (small_suite / "test_end.py").write_text(
            "import os\ndef test_end(): os._exit(0)\ndef test_bad(): assert False\n"
        )
        result = run_tests.run(combination, ["test_end.py"], jobs=0)
        assert "without a report in the part 'together'" in result.problem
        assert not result.good

    def test_tests_that_do_not_run_are_a_problem(self, combination: run_tests.Combination) -> None:
        result = run_tests.run(combination, ["--exitfirst"], jobs=0)
        assert re.search(r"\d of 7 tests did not run in the part 'together'", result.problem)

    @pytest.mark.parametrize("noticed", ["soon", "late"])
    def test_a_test_that_crashes_its_process_fails_once_and_the_others_run(
        self, combination: run_tests.Combination, small_suite: Path, noticed: str
    ) -> None:
        if noticed == "late":
            (small_suite / "conftest.py").write_text(SEND_TO_THE_DEAD)
        (small_suite / "test_crash.py").write_text(CRASH)
        for name in "abc":
            (small_suite / f"test_{name}.py").write_text("def test_1(): pass\ndef test_2(): pass\n")
        result = run_tests.run(combination, ["-k", "crash or test_1 or test_2"], jobs=2)
        assert result.passed == 8
        [failure] = result.failures
        assert "test_crash" in failure
        assert result.problem == ""

    def test_one_test_after_a_crash_and_nothing_else_to_do(
        self, combination: run_tests.Combination, small_suite: Path
    ) -> None:
        (small_suite / "test_crash.py").write_text(CRASH)
        result = run_tests.run(combination, ["test_crash.py"], jobs=2)
        assert (result.passed, len(result.failures), result.problem) == (2, 1, "")

    def test_arguments_do_not_change_what_a_part_is(self, combination: run_tests.Combination) -> None:
        result = run_tests.run(combination, ["-n", "2", "--part=alone", "-k", "test_good or test_alone"], jobs=0)
        assert (result.passed, result.problem) == (2, "")


class TestMatrix:
    @pytest.fixture
    def ran(self, monkeypatch: pytest.MonkeyPatch) -> list[run_tests.Combination]:
        """The combinations that were run, on a machine where nothing is real."""
        httpd = run_tests.Httpd("2.4.62", "/httpd", "PATH", ["event", "prefork"])
        monkeypatch.setattr(matrix, "httpd_of", lambda environment: httpd)
        monkeypatch.delenv("MOD_PYTHON_TEST_PYPI", raising=False)
        for function in ("with_debug_build", "with_python", "with_pypi_httpd"):
            monkeypatch.setattr(f"tools.matrix.environments.{function}", lambda base: Environment(".venv-other", base))
        return []

    def run_all(self, ran: list[run_tests.Combination], *, rest: bool) -> list[Result]:
        def run_it(combination: run_tests.Combination) -> Result:
            ran.append(combination)
            return Result(str(combination))

        return list(matrix.in_the_checkout(Environment(".venv", python(11)), [python(12)], rest=rest, run_it=run_it))

    @pytest.mark.parametrize(("rest", "expected"), [(False, ["event", "prefork"]), (True, ["prefork"])])
    def test_nothing_runs_twice(self, ran: list[run_tests.Combination], rest: bool, expected: list[str]) -> None:
        self.run_all(ran, rest=rest)
        whole = [combination.mpm for combination in ran if not (combination.only or combination.light)]
        assert whole == expected
        assert [combination.only for combination in ran if combination.only] == ["debug_build"]
        assert len([combination for combination in ran if combination.light]) == 2

    def test_an_environment_that_cannot_be_made_fails_and_the_others_run(
        self, ran: list[run_tests.Combination], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(base: Python) -> Environment:
            raise SystemExit("no compiler")

        monkeypatch.setattr("tools.matrix.environments.with_python", fail)
        found = self.run_all(ran, rest=False)
        assert [result.problem for result in found if not result.good] == ["its environment cannot be made"]
        assert len(ran) == len(found) - 1 == 4

    def test_the_rest_wants_a_result_of_make_test(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(matrix, "LAST_RESULT", tmp_path / "result.json")
        with pytest.raises(SystemExit, match="make test, which has not run here"):
            matrix.made_by_make_test()
        Result("event", passed=3).write(tmp_path / "result.json")
        with pytest.raises(SystemExit, match="only a part of the suite"):
            matrix.made_by_make_test()
        Result("event", passed=3, whole=True).write(tmp_path / "result.json")
        assert matrix.made_by_make_test() == [Result("event", passed=3, whole=True)]

    def test_wrong_settings_are_refused(self) -> None:
        assert matrix.wanted_chroot("0") is None
        found = matrix.wanted_chroot("sid")
        assert found is not None
        assert found.release == "sid"
        with pytest.raises(SystemExit, match="MOD_PYTHON_TEST_CHROOT: not the name of a release: '/srv'"):
            matrix.wanted_chroot("/srv")


class TestChroot:
    """The part of the matrix that runs in a chroot, with a chroot that is a directory."""

    @pytest.fixture
    def chroot(self, tmp_path: Path) -> FakeChroot:
        return FakeChroot("sid", tmp_path)

    def test_the_newest_python_is_used(self, chroot: FakeChroot) -> None:
        chroot.outcome = Result("httpd 2.4.69, event, Python 3.15.2", passed=9, skips={"needs a tool": 1})
        result = matrix.in_a_chroot(chroot, ["-x"], 4)
        assert set(chroot.installed) == {"make", "python3", "python3.15-venv", "python3.15-dev"}
        assert chroot.commands == [
            "make setup-tests PYTHON=python3.15",
            ".venv/bin/python -m tools.run_tests --light --jobs 4 -- -x",
        ]
        assert (result.name, result.passed, result.skipped, result.good) == (
            "Debian sid: httpd 2.4.69, event, Python 3.15.2", 9, 1, True,
        )  # fmt: skip

    def test_a_test_that_fails_in_it_is_a_failure(self, chroot: FakeChroot) -> None:
        chroot.outcome = Result("event", failures=["test_some::test_bad: why"])
        assert not matrix.in_a_chroot(chroot, [], None).good

    def test_a_setup_that_fails_in_it_is_a_failure(self, chroot: FakeChroot) -> None:
        chroot.status = 2
        result = matrix.in_a_chroot(chroot, [], None)
        assert chroot.commands == ["make setup-tests PYTHON=python3.15"]
        assert result.problem == "the suite did not run with python3.15: exit status 2"
        assert not result.good

    def test_one_that_cannot_be_made_is_reported(self, chroot: FakeChroot) -> None:
        chroot.broken = "debootstrap of sid failed"
        result = matrix.in_a_chroot(chroot, [], None)
        assert (result.problem, result.unavailable, result.good) == ("debootstrap of sid failed", True, True)
        assert not chroot.commands


class TestRepeat:
    @pytest.fixture
    def series(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Result]:
        """The results that the runs will have."""
        monkeypatch.setattr(repeat, "main_environment", lambda: Environment(".venv", python(11)))
        monkeypatch.setattr(repeat, "httpd_of", lambda _: run_tests.Httpd("2.4.62", "/httpd", "PATH", ["event"]))
        for name in ("PYTHONHASHSEED", "MOD_PYTHON_TEST_SEED", "MOD_PYTHON_TEST_SHUFFLE"):
            monkeypatch.setenv(name, "")  # and restored after the test
        coming: list[Result] = []
        monkeypatch.setattr(repeat, "run", lambda *_: coming.pop(0))
        monkeypatch.setattr(repeat, "LOG", tmp_path / "repeat.log")
        return coming

    def words(self, tmp_path: Path) -> list[str]:
        return ["--times", "2", "--seed", "7", "--log", str(tmp_path / "log")]

    def test_each_run_is_noted(self, series: list[Result], tmp_path: Path) -> None:
        series += [Result("event", 61, 5, [], {"why": 1}), Result("event", 62, 5, [], {"why": 1})]
        assert repeat.main(self.words(tmp_path)) == 0
        lines = (tmp_path / "log").read_text().splitlines()
        runs = [line.partition("  ")[2] for line in lines if "  run " in line]
        assert runs == [
            "run 1  seed 7  passed: 5 passed, 0 failed, 1 skipped in 61 s  event",
            "run 2  seed 8  passed: 5 passed, 0 failed, 1 skipped in 62 s  event",
        ]

    def test_a_failure_counts_and_the_series_goes_on(self, series: list[Result], tmp_path: Path) -> None:
        series += [Result("event", 1, 4, ["test_some::test_bad: why"]), Result("event", 1, 5)]
        assert repeat.main(self.words(tmp_path)) == 1
        assert "test_some::test_bad: why" in (tmp_path / "log").read_text()
        assert not series

    def test_different_counts_are_not_good(self, series: list[Result], tmp_path: Path) -> None:
        series += [Result("event", 1, 4), Result("event", 1, 5)]
        assert repeat.main(self.words(tmp_path)) == 1
        assert "the counts differ: [(4, 0), (5, 0)]" in (tmp_path / "log").read_text()


def test_progress_is_shown_by_one_process_only() -> None:
    class Worker:
        workerinput = object()

    pytest_parts.pytest_configure(Worker())  # type: ignore[arg-type]  # would fail if it registered anything
