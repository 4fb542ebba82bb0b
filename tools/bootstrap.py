"""From a checkout on a bare machine to an environment that is built and ready.

    python3 -m tools.bootstrap [--tests]

installs what the machine lacks (on Debian, as root or with sudo), chooses a
Python, makes `.venv` and builds mod_python in it.  With --tests also what tests and
linters need: a server needs none of it.  Done again, it only rebuilds what changed.
The variable PYTHON names the Python to use.
"""

from __future__ import annotations

import os
import sys

from . import environments, pythons, system


def packages(given: str | None) -> list[str]:
    """List the packages that a server lacks.

    Args:
        given: the Python that the user asked for, or None; then it may have to be installed.
    """
    lacking = system.missing()
    if not given and environments.existing() is None:
        python, _ = pythons.choose(None, for_others=system.is_root())
        if python is None:
            lacking += system.PYTHON_PACKAGES
    return lacking


def choose_python(given: str | None) -> pythons.Python:
    """Choose the Python for .venv.

    Args:
        given: the one that the user asked for, or None.

    Returns:
        A Python that can be used.

    Raises:
        SystemExit: there is none; the message says why each was passed over.
    """
    for_others = system.is_root()
    if not given:
        kept = environments.existing()
        if kept is not None:
            return kept
    python, passed = pythons.choose(given, for_others=for_others)
    if python is None:
        oldest = ".".join(map(str, pythons.OLDEST))
        what = f"PYTHON={given} cannot be used" if given else f"no Python {oldest} or later can be used here"
        reasons = "".join(f"\n    {other.name}: {other.problem}" for other in passed)
        system.fail(
            f"{what}.{reasons}\n"
            "Python needs its headers, its shared library and the module venv:\n"
            f"    Debian, Ubuntu   apt-get install {' '.join(system.PYTHON_PACKAGES)}\n"
            "    Fedora, RHEL     dnf install python3 python3-devel\n"
            "    Alpine           apk add python3 python3-dev\n"
            "    pyenv            PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install VERSION\n"
            "or name another one: make PYTHON=/path/to/python3"
        )
    for other in passed:
        system.say(f"passing over {other.name}: {other.problem}")
    return python


def main(words: list[str]) -> None:
    """Set up the machine and .venv.

    Args:
        words: the command line.
    """
    if words not in ([], ["--tests"]):
        system.fail(f"usage: python3 -m tools.bootstrap [--tests]; it got {' '.join(words)}")
    tests = bool(words)
    if sys.version_info < (3, 9):  # noqa: UP036  (whatever python3 is on the machine)
        system.fail(f"this needs Python 3.9 or later to start with, and {sys.executable} is older.")
    if system.is_root():
        # Root's umask may be 077, and httpd's children read what is made here.
        os.umask(0o022)
    system.check_checkout()
    given = os.environ.get("PYTHON") or None
    lacking = packages(given)
    if lacking and not system.install(lacking):
        system.say(f"not installed: {' '.join(lacking)} (that takes root or sudo, and apt)")
    if tests and (lacking := system.install_separately(system.missing_for_tests())):
        system.say(
            f"not installed: {' '.join(lacking)}; tests that need them are skipped, or fail where they must not be"
        )
    environment = environments.development(choose_python(given), tests=tests)
    facts = "from mod_python import version as v; print(v.HTTPD_VERSION, v.HTTPD)"
    number, binary = environment.ask("-c", facts).split(" ", 1)
    system.say(f"ready: {environment.base.name}, httpd {number} ({binary})")


if __name__ == "__main__":
    main(sys.argv[1:])
