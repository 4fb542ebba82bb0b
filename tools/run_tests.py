"""Run the tests on every combination that counts, and say at the end which passed.

    .venv/bin/python -m tools.run_tests [pytest arguments]

1. the checkout, on the machine's httpd, with each of its MPMs;
2. a wheel for each later Python, on the same httpd, with its first MPM;
3. a wheel of a debug build, for the tests that count what is left at the end;
4. a wheel for the httpd of PyPI, with the MPM event.

The tests that are marked `heavy` run in the first part only: they take long, and another
Python or httpd would change little about them (the manual's programs, large streams).

All of them run even if one fails, so that one run shows everything.  The last lines name
each test that failed, and why: who sees no more than the end of a run sees that.

Environment variables:
    MOD_PYTHON_TEST_PYTHONS   the later Pythons, separated by colons; by default
                              the newest one that is found on the PATH or in ~/.pyenv
    MOD_PYTHON_TEST_PYPI      0 leaves out the fourth part
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from . import environments, pythons, system
from .environments import Environment
from .pythons import ROOT

_FACTS = """
import json
from mod_python.httpd.find import find_httpd
found = find_httpd()
print(json.dumps([found.version, str(found.binary), found.origin, found.mpms()]))
"""


@dataclass(frozen=True)
class Combination:
    """One run of the tests."""

    environment: Environment
    httpd: str
    version: str
    mpm: str
    only: str | None = None  # an expression for pytest -k
    light: bool = False  # without the tests that are marked heavy

    def __str__(self) -> str:
        what = f", only {self.only}" if self.only else ", without heavy tests" if self.light else ""
        return f"httpd {self.version} ({self.httpd}), {self.mpm}, {self.environment.base.name}{what}"


@dataclass
class Result:
    """What came of one run of the tests."""

    name: str
    passed: bool
    seconds: float
    failures: list[str] = field(default_factory=list)


def combinations(main: Environment) -> Iterator[Combination]:
    """Name the combinations one after the other; each environment is made when its turn comes.

    Args:
        main: .venv.
    """
    version, httpd, origin, mpms = facts(main)
    for mpm in mpms:
        yield Combination(main, httpd, version, mpm)
    for python in later_pythons(main):
        yield Combination(environments.with_python(python), httpd, version, mpms[0], light=True)
    yield Combination(environments.with_debug_build(main.base), httpd, version, mpms[0], "debug_build")
    if os.environ.get("MOD_PYTHON_TEST_PYPI") == "0":
        system.say("leaving out the httpd of PyPI: MOD_PYTHON_TEST_PYPI is 0")
    elif origin == "pypi":
        system.say("no other httpd than that of PyPI, so there is no more to run")
    else:
        other = environments.with_pypi_httpd(main.base)
        version, httpd, _, mpms = facts(other)
        yield Combination(other, httpd, version, mpms[0], light=True)


def facts(environment: Environment) -> tuple[str, str, str, list[str]]:
    """Ask which httpd the package in an environment would run: version, path, origin, MPMs."""
    version, binary, origin, mpms = json.loads(environment.ask("-c", _FACTS))
    return version, binary, origin, mpms


def later_pythons(main: Environment) -> list[pythons.Python]:
    """Find the later Pythons to test with, and say what was found.

    Raises:
        SystemExit: one that was asked for cannot be used.
    """
    for_others = system.is_root()
    given = os.environ.get("MOD_PYTHON_TEST_PYTHONS")
    if given is not None:
        wanted = [pythons.look_at(command, for_others=for_others) for command in given.split(":") if command]
        for python in wanted:
            if python.problem:
                system.fail(f"MOD_PYTHON_TEST_PYTHONS: {python.name} cannot be used: {python.problem}")
        return wanted
    usable, unusable = pythons.later(main.base.version, for_others=for_others)
    for python in unusable:
        system.say(f"passing over {python.name}: {python.problem}")
    if not usable:
        system.say(f"no Python later than {main.base.name} to test with")
    return usable[:1]


def run(combination: Combination, arguments: list[str]) -> Result:
    """Run the tests once.

    Args:
        combination: on what.
        arguments: more arguments for pytest.

    Returns:
        Whether they passed (pytest exits with 5 if there were none: that is not passing), and
        which did not.
    """
    print(f"\n== {combination}\n", flush=True)
    environ = {
        **os.environ,
        "MOD_PYTHON_HTTPD": combination.httpd,
        "MOD_PYTHON_TEST_MPM": combination.mpm,
    }
    environ.pop("PYTHONPATH", None)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mod_python-tests-") as directory:
        report = Path(directory, "report.xml")
        command = [combination.environment.python, "-m", "pytest", f"--junitxml={report}", *arguments]
        if combination.only:
            command += ["-k", combination.only]
        if combination.light:
            command += ["-m", "not heavy"]
        done = subprocess.run(command, cwd=ROOT, env=environ, stdin=subprocess.DEVNULL, check=False)
        failures = failures_in(report)
    return Result(str(combination), done.returncode == 0, time.monotonic() - start, failures)


def failures_in(report: Path) -> list[str]:
    """Name the tests that failed, each with the first line of the reason.

    Args:
        report: what pytest wrote with --junitxml; it need not be there.
    """
    try:
        cases = list(ElementTree.parse(report).iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return []
    failures = []
    for case in cases:
        for problem in (*case.findall("failure"), *case.findall("error")):
            reason = (problem.get("message") or "no reason given").partition("\n")[0]
            failures.append(f"{case.get('classname')}::{case.get('name')}: {reason[:200]}")
    return failures


def main(arguments: list[str]) -> int:
    """Run everything.

    Args:
        arguments: for pytest.

    Returns:
        The exit status: 0 if all passed.
    """
    if system.is_root():
        os.umask(0o022)
    base = environments.existing()
    if base is None:
        system.fail(f"{Path('.venv')} is not there or cannot be used; run make setup first.")
    system.prepare_for_tests()
    results = [run(combination, arguments) for combination in combinations(Environment(".venv", base))]
    print("\n== Summary\n")
    for result in results:
        print(f"{'passed' if result.passed else 'FAILED'}  {result.seconds:5.0f} s  {result.name}")
        for failure in result.failures:
            print(f"        {failure}")
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
