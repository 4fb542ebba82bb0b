"""Run the suite on every combination that counts, and say at the end which passed.

    .venv/bin/python -m tools.matrix [--rest] [-- pytest arguments]

1. the checkout, on the machine's httpd, with each of its MPMs;
2. a wheel for each later Python on the machine, on the same httpd, with its first MPM;
3. a wheel of a debug build, for the tests that count what is left at the end;
4. a wheel for the httpd of PyPI, with the MPM event;
5. the newest Python there is: in a chroot of Debian's unstable distribution (tools/chroot.py; as root).

Heavy tests run in the first part only (tools/run_tests.py says why). A combination that fails does not
end the run, so that one run shows everything. A chroot that cannot be made, because
the distribution is broken today or this is not root, is reported and does not fail the run; a
test that fails in it does.

`--rest` leaves out what `make test` has run just before, and shows its result with the others.

Environment variables:
    MOD_PYTHON_TEST_PYTHONS   the later Pythons, separated by colons; by default
                              the newest one that is found on the PATH or in ~/.pyenv
    MOD_PYTHON_TEST_PYPI      0 leaves out the fourth part
    MOD_PYTHON_TEST_CHROOT    0 leaves out the fifth part; or another distribution's name
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

from . import environments, pythons, results, system
from .chroot import CHECKOUT, Chroot, ChrootUnavailable
from .environments import Environment
from .pythons import ROOT
from .results import Result
from .run_tests import INTERRUPTED, LAST_RESULT, Combination, add_options, httpd_of, main_environment, run

Run = Callable[[Combination], Result]


def in_the_checkout(main: Environment, later: list[pythons.Python], *, rest: bool, run_it: Run) -> Iterator[Result]:
    """Run what this machine has; each environment is made when its turn comes.

    Args:
        main: .venv.
        later: the later Pythons to test with.
        rest: without the combination of `make test`.
        run_it: runs the suite on one combination.
    """
    httpd = httpd_of(main)
    for mpm in httpd.mpms[1 if rest else 0 :]:
        yield run_it(Combination(main, httpd, mpm))

    def light(environment: Environment) -> Combination:
        own = httpd_of(environment)
        return Combination(environment, own, own.mpms[0], light=True)

    def debug(environment: Environment) -> Combination:
        return Combination(environment, httpd, httpd.mpms[0], only="debug_build")

    for python in later:
        yield _made(python.name, partial(environments.with_python, python), light, run_it)
    yield _made("debug build", partial(environments.with_debug_build, main.base), debug, run_it)
    if os.environ.get("MOD_PYTHON_TEST_PYPI") == "0":
        system.say("leaving out the httpd of PyPI: MOD_PYTHON_TEST_PYPI is 0")
    elif httpd.origin == "pypi":
        system.say("no other httpd than that of PyPI, so there is no more to run")
    else:
        yield _made("httpd of PyPI", partial(environments.with_pypi_httpd, main.base), light, run_it)


def _made(
    name: str, make: Callable[[], Environment], combine: Callable[[Environment], Combination], run_it: Run
) -> Result:
    """Make an environment and run the suite in it; one that cannot be made fails, and the others go on."""
    start = time.monotonic()
    try:
        combination = combine(make())
    except (SystemExit, subprocess.CalledProcessError) as error:
        print(error, flush=True)
        return Result(name, time.monotonic() - start, problem="its environment cannot be made")
    return run_it(combination)


def in_a_chroot(chroot: Chroot, arguments: list[str], jobs: int | None) -> Result:
    """Run the light part of the suite in another release of Debian, with the newest Python that it has.

    Args:
        chroot: of the release; it is made if need be.
        arguments: more arguments for pytest.
        jobs: how many processes run tests at the same time; None for the usual number.

    Returns:
        The outcome. It is `unavailable` if there can be no chroot.
    """
    start = time.monotonic()
    name = f"chroot of Debian {chroot.release}"
    print(f"\n== {name}", flush=True)
    try:
        chroot.prepare(["make", "python3"])
        newest = max((python for python in chroot.pythons() if python <= pythons.NEWEST), default=None)
        if newest is None:
            raise ChrootUnavailable("it has no Python that mod_python supports")
        python = f"python{newest[0]}.{newest[1]}"
        chroot.prepare(["make", "python3", f"{python}-venv", f"{python}-dev"])
    except ChrootUnavailable as error:
        system.say(f"leaving out {chroot.release}: {error.reason}")
        return Result(name, time.monotonic() - start, problem=error.reason, unavailable=True)
    try:
        with chroot.checkout_lock():
            chroot.copy_checkout()
            result = _run_in(chroot, python, name, arguments, jobs)
    except (ChrootUnavailable, OSError) as error:
        result = Result(name, problem=f"the checkout cannot be tested there: {error}")
    result.seconds = time.monotonic() - start
    return result


def _run_in(chroot: Chroot, python: str, name: str, arguments: list[str], jobs: int | None) -> Result:
    """Set up the copy of the checkout in a chroot, and run the light part of the suite there."""
    report = chroot.path.joinpath(CHECKOUT.lstrip("/"), LAST_RESULT.relative_to(ROOT))
    report.unlink(missing_ok=True)
    words = [".venv/bin/python", "-m", "tools.run_tests", "--light"]
    words += [] if jobs is None else ["--jobs", str(jobs)]
    status = chroot.run(["make", "setup-tests", f"PYTHON={python}"]) or chroot.run([*words, "--", *arguments])
    try:
        result = results.read(report)
    except (OSError, ValueError):
        result = Result(name, problem=f"the suite did not run with {python}: exit status {status}")
    result.name = f"Debian {chroot.release}: {result.name}"
    return result


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


def wanted_chroot(release: str) -> Chroot | None:
    """Name the chroot to test in.

    Args:
        release: of Debian; "0" for none.

    Raises:
        SystemExit: that is not the name of a release.
    """
    if release == "0":
        return None
    try:
        return Chroot(release)
    except ValueError as error:
        system.fail(f"MOD_PYTHON_TEST_CHROOT: {error}")


def made_by_make_test() -> list[Result]:
    """Read what `make test` left.

    Raises:
        SystemExit: it left nothing.
    """
    try:
        result = results.read(LAST_RESULT)
    except (OSError, ValueError):
        system.fail("--rest goes on after make test, which has not run here yet.")
    if not result.whole:
        system.fail("--rest goes on after make test, which has run only a part of the suite, or on another MPM.")
    return [result]


def main(words: list[str]) -> int:
    """Run everything.

    Args:
        words: the command line.

    Returns:
        The exit status: 0 if nothing failed.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.matrix", description="Run the suite on everything.")
    parser.add_argument("--rest", action="store_true", help="without what make test has run just before")
    add_options(parser)
    options = parser.parse_args(words)
    environment = main_environment()
    # What is wrong with the settings is said now, not after half an hour.
    found = made_by_make_test() if options.rest else []
    later = later_pythons(environment)
    chroot = wanted_chroot(os.environ.get("MOD_PYTHON_TEST_CHROOT") or "sid")
    run_it = partial(run, arguments=options.arguments, jobs=options.jobs)
    found.extend(in_the_checkout(environment, later, rest=options.rest, run_it=run_it))
    if chroot is not None:
        found.append(in_a_chroot(chroot, options.arguments, options.jobs))
    print(f"\n== Summary of the matrix\n\n{results.summary(found)}", flush=True)
    return 0 if all(result.good for result in found) else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
