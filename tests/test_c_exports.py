"""What mod_python offers to other httpd modules in C (include/mod_python.h)."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mod_python.testing import Server
from tests.native_modules import compiled
from tests.processes import PREFORK, at_once

Httpd = Callable[..., Server]

ANSWERS = """
from mod_python import apache

kept = []

def name(nothing):
    return apache.interpreter

def about_request(req):
    kept.append(req)
    return " ".join([type(req).__name__, req.uri, req.interpreter, str(req.phase)])

def about_server(server):
    return " ".join([type(server).__name__, server.server_hostname, str(server is apache.main_server)])

def about_connection(conn):
    return " ".join([type(conn).__name__, conn.client_ip])

def handler(req):
    "In the same interpreter later: the requests of then are gone."
    gone = 0
    for old in kept:
        try:
            old.uri
        except apache.DetachedError:
            gone += 1
    req.write(str(gone == len(kept) > 0))
    return apache.OK
"""

CONFIG = """
PythonPath "sys.path + ['${SITE}']"
PythonImport answers main_interpreter
PythonImport answers own
PythonImport answers nested
SetHandler uses_python
<Location /python>
    SetHandler mod_python
    PythonHandler answers
</Location>
"""


@pytest.fixture(scope="module")
def module_file() -> Iterator[Path]:
    with compiled("uses_python") as path:
        yield path


@pytest.mark.parametrize(("query", "interpreter"), [("", "main_interpreter"), ("?own", "own"), ("?nested", "nested")])
def test_objects_and_interpreters(httpd: Httpd, module_file: Path, query: str, interpreter: str) -> None:
    # After mod_python, which brings libpython.
    server = httpd(f"LoadModule uses_python_module {module_file}\n{CONFIG}", files={"answers.py": ANSWERS}, processes=1)
    expected = [
        f"mp_request /page {interpreter} None",
        "mp_server localhost True",
        "mp_conn 127.0.0.1",
        "nested",
        interpreter,
        "0" if interpreter == "nested" else "1",
    ]

    def one(number: int, together: Callable[[], object]) -> None:
        together()
        for _ in range(5):
            response = server.get("/page" + query)
            assert response.status == 200, server.error_log
            assert response.text.splitlines() == expected

    at_once(4, one)
    if interpreter == "main_interpreter" and not PREFORK:
        # httpd frees a request a moment after its client has the answer.
        server.wait_until(lambda: server.get("/python").text == "True")


def test_without_mod_python(httpd: Httpd, module_file: Path) -> None:
    libpython = Path(sysconfig.get_config_var("LIBDIR") or "") / str(sysconfig.get_config_var("LDLIBRARY"))
    if not libpython.is_file():
        pytest.skip("no libpython to load for the other module")
    server = httpd(
        f"LoadFile {libpython}\nLoadModule uses_python_module {module_file}\nSetHandler uses_python", python=False
    )
    assert server.get("/").status == 501
