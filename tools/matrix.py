"""Run the suite on every combination that counts, and say at the end which passed.

    .venv/bin/python -m tools.matrix [--rest] [-- pytest arguments]

1. the checkout, on the machine's httpd, with each of its MPMs;
2. a wheel for each later Python on the machine, on the same httpd, with its first MPM;
3. a wheel of a debug build, for the tests that count what is left at the end;
4. a wheel for the httpd of PyPI, with the MPM event;
5. the newest Python there is: in a chroot of Debian's unstable distribution (tools/chroot.py; as root).

Heavy tests run in the first part only (tools/run_tests.py says why). All combinations run even if
one fails, so that one run shows everything. A chroot that cannot be made, because
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
import sys
from collections.abc import Callable, Iterator
from functools import partial

from . import environments, pythons, results, system
from .environments import Environment
from .results import Result
from .run_tests import LAST_RESULT, Combination, add_options, httpd_of, main_environment, run

Run = Callable[[Combination], Result]


def in_the_checkout(main: Environment, *, rest: bool, run_it: Run) -> Iterator[Result]:
    """Run what this machine has; each environment is made when its turn comes.

    Args:
        main: .venv.
        rest: without the combination of `make test`.
        run_it: runs the suite on one combination.
    """
    httpd = httpd_of(main)
    for mpm in httpd.mpms[1 if rest else 0 :]:
        yield run_it(Combination(main, httpd, mpm))
    for python in later_pythons(main):
        yield run_it(Combination(environments.with_python(python), httpd, httpd.mpms[0], light=True))
    debug = environments.with_debug_build(main.base)
    yield run_it(Combination(debug, httpd, httpd.mpms[0], only="debug_build"))
    if os.environ.get("MOD_PYTHON_TEST_PYPI") == "0":
        system.say("leaving out the httpd of PyPI: MOD_PYTHON_TEST_PYPI is 0")
    elif httpd.origin == "pypi":
        system.say("no other httpd than that of PyPI, so there is no more to run")
    else:
        other = environments.with_pypi_httpd(main.base)
        found = httpd_of(other)
        yield run_it(Combination(other, found, found.mpms[0], light=True))


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


def made_by_make_test() -> list[Result]:
    """Read what `make test` left.

    Raises:
        SystemExit: it left nothing.
    """
    try:
        return [results.read(LAST_RESULT)]
    except (OSError, ValueError):
        system.fail("--rest goes on after make test, which has not run here yet.")


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
    found = made_by_make_test() if options.rest else []
    run_it = partial(run, arguments=options.arguments, jobs=options.jobs)
    found.extend(in_the_checkout(environment, rest=options.rest, run_it=run_it))
    print(f"\n== Summary of the matrix\n\n{results.summary(found)}", flush=True)
    return 0 if all(result.good for result in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
