"""Programs and Python packages that some tests need, and that not every machine has.

A test, or a fixture, calls `program()`, `package()` or `compiler()` before it uses one. If it is not
installed, the test is skipped with a reason of one form. The environment variable
MOD_PYTHON_TEST_TOOLS changes that:

    required                              what is missing fails the test; for CI
    required except chromium, uvloop      the same, but what is named may be missing
    optional                              what is missing skips the test; the default
"""

from __future__ import annotations

import importlib
import os
import shlex
import shutil
import sysconfig
from types import ModuleType
from typing import NoReturn

import pytest

#: The environment variable.
VARIABLE = "MOD_PYTHON_TEST_TOOLS"

#: Debian's package of a program, where it has another name.
DEBIAN = {
    "chromedriver": "chromium-driver",
    "nc": "netcat-openbsd",
    "redis-benchmark": "redis-tools",
    "redis-cli": "redis-tools",
}

#: The name that pip knows a package by, where Python imports it by another.
PIP = {"yaml": "PyYAML"}


def required(name: str) -> bool:
    """Return whether a test fails, instead of being skipped, if a program or package is missing.

    Args:
        name: The program or package.

    Raises:
        ValueError: if MOD_PYTHON_TEST_TOOLS has a value that is not one of the above.
    """
    words = os.environ.get(VARIABLE, "optional").replace(",", " ").split()
    if words in ([], ["optional"]):
        return False
    if words == ["required"]:
        return True
    if words[:2] == ["required", "except"] and len(words) > 2:
        return name not in words[2:]
    raise ValueError(
        f'{VARIABLE}={os.environ[VARIABLE]!r} is not valid: write "optional", "required", or '
        '"required except" and the names of what may be missing.'
    )


def program(*names: str, path: str | None = None) -> str:
    """Find a program; skip or fail the test if it is not installed.

    Args:
        *names: The program, and other names that it may have.
        path: Where to look, in the form of PATH; None for PATH itself.

    Returns:
        Its path.
    """
    for name in names:
        found = shutil.which(name, path=path)
        if found is not None:
            return found
    return _missing(names[0], f"needs {names[0]}, which is not installed (Debian: {DEBIAN.get(names[0], names[0])})")


def package(name: str) -> ModuleType:
    """Import a Python package; skip or fail the test if it is not installed.

    At the head of a file this skips, or fails, the whole file. A package that is installed and
    cannot be imported is an error, as with an import statement.

    Args:
        name: The package, as it is imported.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
    return _missing(
        name, f"needs the Python package {name}, which is not installed (pip install {PIP.get(name, name)})"
    )


def compiler() -> list[str]:
    """Find the C compiler; skip or fail the test if it is not installed.

    Returns:
        The words of its command.
    """
    words = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(words[0]) is None:
        _missing("gcc", f"needs {words[0]}, which is not installed (Debian: gcc)")
    return words


def _missing(name: str, reason: str) -> NoReturn:
    if required(name):
        pytest.fail(f"{reason}; {VARIABLE} requires it", pytrace=False)
    pytest.skip(reason, allow_module_level=True)
