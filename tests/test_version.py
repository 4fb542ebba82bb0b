"""`mod_python.version`, `mp_version`, and what the package exports."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

import mod_python
from mod_python import version
from mod_python.httpd.find import inspect_httpd
from tests.conftest import ROOT

NAMES = [
    "version",
    "HTTPD",
    "HTTPD_VERSION",
    "APR_VERSION",
    "LIBEXECDIR",
    "SYSCONFDIR",
    "TEST_MOD_PYTHON_SO",
    "TESTHOME",
]


@pytest.mark.parametrize("name", [*NAMES, "PYTHON_BIN"])
def test_a_string(name: str) -> None:
    assert type(getattr(version, name)) is str
    assert name in version.__all__


def test_facts_of_the_build() -> None:
    assert os.access(version.HTTPD, os.X_OK)
    httpd = inspect_httpd(Path(version.HTTPD))
    assert httpd.version == version.HTTPD_VERSION
    assert version.APR_VERSION.split(".")[0] == httpd.apr_version.split(".")[0]
    assert list(Path(version.LIBEXECDIR).glob("mod_*.so"))
    assert Path(version.TEST_MOD_PYTHON_SO).is_file()
    assert os.access(version.PYTHON_BIN, os.X_OK)


def test_the_version_is_the_same_everywhere() -> None:
    assert re.match(r"\d+\.\d+\.\d+", version.version)
    assert mod_python.mp_version == mod_python.__version__ == version.version
    # How a program that also runs with 3.3 asks.
    assert getattr(mod_python, "mp_version", mod_python.version) == version.version


def test_what_the_package_exports() -> None:
    assert set(mod_python.__all__) >= {"apache", "cgihandler", "psp", "publisher", "util", "python22", "version"}


def test_from_mod_python_import_everything() -> None:
    names: dict[str, Any] = {}
    exec("from mod_python import *", names)
    assert set(mod_python.__all__) <= names.keys()


def test_python22_is_there_and_empty() -> None:
    names: dict[str, Any] = {}
    exec("from mod_python.python22 import *", names)
    assert names.keys() == {"__builtins__"}
    assert (ROOT / "src" / "mod_python" / "python22.py").is_file()
