"""Run the whole suite once, in parallel, and say at the end what failed and why.

    .venv/bin/python -m tools.run_tests [--mpm prefork] [--light] [-- pytest arguments]

This is `make test`. It has two parts: most tests share the machine, several processes at a time
(pytest-xdist; a file stays in one process); those that are marked `alone` follow one by one.

    --mpm NAME       the MPM; by default the httpd's first, which is event
    --light          without the tests that are marked `heavy`: they take long, and another Python
                     or httpd changes little about them (the manual's programs, large streams)
    --result FILE    write the result to a file, too (tools/results.py)
    --jobs NUMBER    how many processes run tests at the same time; by default three for each processor,
                     because tests mostly wait for servers; 0 for one after the other in one process
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from . import environments, results, system
from .environments import Environment
from .pythons import ROOT
from .results import Result

JOBS_FOR_EACH_PROCESSOR = 3
MAX_JOBS = 24  # each job has httpds with several children of their own

LAST_RESULT = ROOT / "build" / "test-result.json"

# pytest's exit statuses for a run that came to its end: all passed, some failed, none was selected.
_PASSED, _FAILED, _NO_TESTS = 0, 1, 5
INTERRUPTED = 130  # a shell's status for a command that SIGINT has ended

_FACTS = """
import json
from mod_python.httpd.find import find_httpd
found = find_httpd()
print(json.dumps([found.version, str(found.binary), found.origin, found.mpms()]))
"""


@dataclass(frozen=True)
class Httpd:
    """The httpd that the package in an environment runs.

    Attributes:
        version: such as "2.4.62".
        binary: its program.
        origin: where it came from: "pypi", or another word of `mod_python.httpd.find`.
        mpms: those that it has, the preferred one first.
    """

    version: str
    binary: str
    origin: str
    mpms: list[str]


def httpd_of(environment: Environment) -> Httpd:
    """Ask which httpd the package in an environment runs."""
    return Httpd(*json.loads(environment.ask("-c", _FACTS)))


@dataclass(frozen=True)
class Combination:
    """What the suite runs on.

    Attributes:
        environment: has the Python and mod_python.
        httpd: the server.
        mpm: one of its MPMs.
        only: an expression for pytest -k, or None.
        light: without the tests that are marked heavy.
    """

    environment: Environment
    httpd: Httpd
    mpm: str
    only: str | None = None
    light: bool = False

    def __str__(self) -> str:
        what = f", only {self.only}" if self.only else ", without heavy tests" if self.light else ""
        origin = "PyPI's httpd" if self.httpd.origin == "pypi" else "httpd"
        version = ".".join(map(str, self.environment.base.version))
        return f"{origin} {self.httpd.version}, {self.mpm}, Python {version}{what}"


def run(combination: Combination, arguments: list[str], jobs: int | None = None) -> Result:
    """Run both parts of the suite.

    Args:
        combination: what it runs on.
        arguments: more arguments for pytest.
        jobs: how many processes run tests at the same time; None for the usual number.

    Returns:
        The outcome of both. No test at all is a problem.
    """
    result = Result(str(combination))
    print(f"\n== {result.name}", flush=True)
    start = time.monotonic()
    jobs = usual_jobs() if jobs is None else jobs
    together = ["-n", str(jobs), "--dist", "loadfile", "--no-loadscope-reorder"]
    problems = []
    with tempfile.TemporaryDirectory(prefix="mod_python-tests-") as directory:
        problems += _run_part(combination, "together", arguments, together, Path(directory), result)
        problems += _run_part(combination, "alone", arguments, ["-n", "0"], Path(directory), result)
    if not (problems or result.failures or result.passed):
        problems.append("no test ran")
    result.problem = "; ".join(problems)
    result.seconds = time.monotonic() - start
    return result


def _run_part(
    combination: Combination, part: str, arguments: list[str], own: list[str], directory: Path, result: Result
) -> list[str]:
    """Run one part, add its counts to a result, and return what went wrong with the run itself."""
    report, count = directory / f"{part}.xml", directory / f"{part}.count"
    command = [combination.environment.python, "-m", "pytest", "-q", "-rN", "-p", "tools.pytest_parts", *arguments]
    # Ours come last, so that the user's do not change what a part is.
    command += [f"--part={part}", f"--junitxml={report}", f"--count-file={count}", *own]
    if combination.light:
        command.append("--without-heavy")
    if combination.only:
        command += ["-k", combination.only]
    environ = {**os.environ, "MOD_PYTHON_HTTPD": combination.httpd.binary, "MOD_PYTHON_TEST_MPM": combination.mpm}
    environ.pop("PYTHONPATH", None)
    print(f"-- {'tests that share the machine' if part == 'together' else 'tests that run alone'}", flush=True)
    process = subprocess.Popen(command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        process.wait()  # pytest got the signal, too, and stops its servers
        raise
    before = len(result.failures)
    reported = results.add_report(result, report, whole_files=part == "together")
    where = f"in the part {part!r}"
    if not reported:
        return [f"pytest ended with status {status} and without a report {where}"]
    if status not in (_PASSED, _FAILED, _NO_TESTS):
        return [f"pytest ended with status {status} {where}"]
    if status == _FAILED and len(result.failures) == before:
        return [f"pytest ended with status {status}, but no test failed {where}"]
    selected, ended = map(int, count.read_text(encoding="utf-8").split()) if count.exists() else (0, 0)
    if ended < selected:
        return [f"{selected - ended} of {selected} tests did not run {where}"]
    return []


def usual_jobs() -> int:
    """How many processes run tests at the same time, unless the user says."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MAX_JOBS, JOBS_FOR_EACH_PROCESSOR * allowed)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every command has that runs the suite."""
    parser.add_argument("--jobs", type=int, help="tests that run at the same time; 0 for one process")
    parser.add_argument("arguments", nargs="*", metavar="ARGUMENT", help="for pytest, after --")


def combine(environment: Environment, httpd: Httpd, mpm: str | None, *, light: bool = False) -> Combination:
    """Choose what the suite runs on.

    Args:
        environment: has the Python and mod_python.
        httpd: the server.
        mpm: the MPM that the user asked for, or None for the httpd's first.
        light: without the tests that are marked heavy.

    Raises:
        SystemExit: the httpd has no such MPM.
    """
    chosen = mpm or httpd.mpms[0]
    if chosen not in httpd.mpms:
        system.fail(f"{httpd.binary} has no MPM {chosen}; it has {', '.join(httpd.mpms)}.")
    return Combination(environment, httpd, chosen, light=light)


def main_environment() -> Environment:
    """Give .venv, with what the tests need.

    Raises:
        SystemExit: it is not there.
    """
    if system.is_root():
        # Files that httpd's children are to read must be readable for their user.
        os.umask(0o022)
    base = environments.existing()
    if base is None:
        system.fail(".venv is not there or cannot be used; run make setup-tests first.")
    return Environment(".venv", base)


def main(words: list[str]) -> int:
    """Run the suite once in .venv.

    Args:
        words: the command line.

    Returns:
        The exit status: 0 if all passed.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.run_tests", description="Run the whole suite once.")
    parser.add_argument("--mpm", help="event, worker or prefork")
    parser.add_argument("--light", action="store_true", help="without heavy tests")
    parser.add_argument("--result", type=Path, default=LAST_RESULT, help="a file for the result")
    add_options(parser)
    options = parser.parse_args(words)
    environment = main_environment()
    httpd = httpd_of(environment)
    combination = combine(environment, httpd, options.mpm, light=options.light)
    options.result.unlink(missing_ok=True)
    result = run(combination, options.arguments, options.jobs)
    result.whole = combination.mpm == httpd.mpms[0] and not options.light and not options.arguments
    result.write(options.result)
    print(f"\n== Summary\n\n{results.summary([result])}", flush=True)
    return 0 if result.good else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
