"""The constants have the values of the httpd that the module was built for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from build_support.httpd import facts, find_apxs
from mod_python.httpd.find import find_httpd
from mod_python.testing import Server
from tests import needs
from tools import list_api

#: Constants that are not in every httpd 2.4, or are of Python only.
OURS = ("FINFO_", "URI_", "REQ_", "PROG_", "APLOG_NOERRNO", "HTTP_IM_A_TEAPOT", "HTTP_TOO_EARLY")
#: Names that are longer in C.
LONGER = {"REMOTE_HOST", "REMOTE_NAME", "REMOTE_NOLOOKUP", "REMOTE_DOUBLE_REV"}


def test_values_are_those_of_the_headers(tmp_path: Path) -> None:
    names = [
        name
        for name, value in list_api.CONSTANTS.items()
        if not name.startswith(OURS) and name not in LONGER and isinstance(value, int)
    ]
    assert len(names) > 150
    source = tmp_path / "print.c"
    headers = ("httpd", "http_log", "http_core", "http_protocol", "ap_mpm", "apr_file_info", "apr_file_io")
    lines = [f"#include <{name}.h>" for name in headers]
    lines += ["#include <stdio.h>", "int main(void) {"]
    lines += [f'printf("{name} %ld\\n", (long)({name}));' for name in names]
    source.write_text("\n".join([*lines, "return 0; }"]))
    httpd = facts(find_apxs())
    includes = [f"-I{directory}" for directory in httpd.includes]
    program = tmp_path / "print"
    done = subprocess.run(
        [*needs.compiler(), *httpd.cppflags, *includes, "-o", str(program), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout
    values = {name: int(value) for name, value in (line.split() for line in printed.splitlines())}
    assert values == {name: list_api.CONSTANTS[name] for name in names}


PRIVATE = """
import _apache
from mod_python import apache

def end(data):
    apache.log_error("ended with %s in %s" % (data, apache.interpreter))

def handler(req):
    import sys
    from _apache import APR_REG, table, log_error
    wrong = []
    for arguments in (
        (None, req.server, end), ("another", req.server, end), (apache.interpreter, req, end),
        (apache.interpreter, None, end), (apache.interpreter, req.server, None),
    ):
        try:
            _apache.register_cleanup(*arguments)
        except ValueError:
            wrong.append(True)
    _apache.register_cleanup(apache.interpreter, req.server, end, "data")
    try:
        _apache.no_such_name
    except AttributeError as exc:
        wrong.append(str(exc))
    same = [
        getattr(_apache, name) is getattr(apache, name)
        for name in ("table", "SERVER_RETURN", "log_error", "config_tree", "server_root", "mpm_query",
                     "exists_config_define", "APR_DIR", "AP_CONN_CLOSE", "MODULE_MAGIC_NUMBER_MAJOR")
    ]
    numbers = (apache.MODULE_MAGIC_NUMBER_MAJOR, apache.MODULE_MAGIC_NUMBER_MINOR)
    req.write(repr((wrong, all(same), table is apache.table, numbers)))
    return apache.OK
"""


@pytest.fixture
def magic_number() -> tuple[int, int]:
    """Module magic number of the httpd that runs."""
    httpd = find_httpd()
    done = subprocess.run([str(httpd.binary), "-V"], env=httpd.environ(), capture_output=True, text=True, check=False)
    (line,) = [line for line in done.stdout.splitlines() if "Magic Number" in line]
    major, minor = line.split()[-1].split(":")
    return int(major), int(minor)


def test_private_module_and_magic_number(magic_number: tuple[int, int]) -> None:
    with Server(
        "PythonInterpreter one\nSetHandler mod_python\nPythonHandler ${SITE}/private.py", files={"private.py": PRIVATE}
    ) as server:
        response = server.get("/")
        assert response.status == 200, server.error_log
        wrong, same, imported, numbers = eval(response.text)
    assert wrong == [True] * 5 + ["module '_apache' has no attribute 'no_such_name'"]
    assert same
    assert imported
    assert numbers[0] == magic_number[0]
    assert 0 < numbers[1] <= magic_number[1]
    assert "ended with data in one" in server.error_log
    assert server.problems() == []
