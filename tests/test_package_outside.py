"""The package outside httpd: it can be imported, and costs little."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mod_python

# Each would cost every interpreter of every httpd child memory and start-up time.
HEAVY = (
    "asyncio",
    "collections",
    "contextlib",
    "dataclasses",
    "enum",
    "functools",
    "importlib.util",
    "inspect",
    "json",
    "linecache",
    "logging",
    "pathlib",
    "re",
    "tempfile",
    "threading",
    "tokenize",
    "traceback",
    "typing",
    "warnings",
)

SOURCES = str(Path(mod_python.__file__).resolve().parent.parent)


def run(source: str) -> str:
    """Run code in a Python of its own, without site, and return its output."""
    code = f"import sys; sys.path.insert(0, {SOURCES!r})\n{source}"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    "module",
    [
        "mod_python",
        "mod_python.apache",
        "mod_python.errors",
        "mod_python._dispatch.boot",
        "mod_python._dispatch.dispatcher",
        "mod_python._dispatch.handler",
        "mod_python._dispatch.importer",
        "mod_python._dispatch.report",
        "mod_python.cache",
        "mod_python.psp",
    ],
)
def test_import_is_light(module: str) -> None:
    loaded = set(run(f"import {module}\nprint(*sys.modules, sep='\\n')").split())
    assert module in loaded
    bare = set(run("print(*sys.modules, sep='\\n')").split())
    assert sorted((loaded - bare) & set(HEAVY)) == []


def test_apache_outside_httpd() -> None:
    source = """
from mod_python import apache
assert apache.main_server is None and apache.interpreter == ""
assert apache.OK == 0 and apache.HTTP_NOT_FOUND == 404
assert str(apache.HTTP_NOT_FOUND) == "404" and repr(apache.HTTP_NOT_FOUND) == "HTTP_NOT_FOUND"
assert apache.table([("a", "b")])["A"] == "b" and apache.make_table is apache.table
for name, args in (("server_root", ()), ("mpm_query", (1,)), ("config_tree", ()), ("exists_config_define", ("X",)),
                   ("get_current_config", ()), ("get_current_options", ())):
    try:
        getattr(apache, name)(*args)
    except RuntimeError as exc:
        assert name in str(exc) and "httpd" in str(exc)
    else:
        raise AssertionError(name)
assert apache.get_handler_root() is None
try:
    from mod_python import _core
except ImportError:
    print("fine")
"""
    assert run(source) == "fine\n"


def test_log_error_outside_httpd_goes_to_stderr() -> None:
    code = f"""
import sys; sys.path.insert(0, {SOURCES!r})
from mod_python import apache
apache.log_error("one\\ntwo")
apache.log_error(None)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == "one\n    two\n"


def test_every_module_of_the_child_is_light_at_its_head() -> None:
    """No import statement outside a function names a heavy module, unless for the type checker.

    The library, the event loop and what makes pages of errors are not meant: only who uses them imports them.
    """
    import ast

    package = Path(mod_python.__file__).resolve().parent
    own = {"asynchronous.py"}
    library = {"_values.py", "_secrets.py"}
    files = [file for file in (package / "_dispatch").glob("*.py") if file.name not in own]
    files += [file for file in package.glob("*.py") if file.name not in library]
    assert len(files) > 10
    for file in files:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in tree.body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                assert name not in HEAVY, f"{os.path.relpath(file, package)} imports {name}"
