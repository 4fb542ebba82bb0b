"""`mod_python.apache` outside httpd, and the exceptions."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from typing import Any

import pytest

from mod_python import apache, errors
from mod_python._constants import Status


def test_constants_have_the_documented_values() -> None:
    expected = {
        "OK": 0,
        "DECLINED": -1,
        "DONE": -2,
        "HTTP_OK": 200,
        "HTTP_IM_A_TEAPOT": 418,
        "HTTP_INTERNAL_SERVER_ERROR": 500,
        "HTTP_NOT_EXTENDED": 510,
        "REQ_PROCEED": 0,
        "REQ_NOACTION": -1,
        "REQ_ABORTED": 500,
        "REQ_EXIT": "REQ_EXIT",
        "APLOG_EMERG": 0,
        "APLOG_DEBUG": 7,
        "APLOG_NOERRNO": 0,
        "REMOTE_DOUBLE_REV": 3,
        "FINFO_FILETYPE": 12,
        "URI_FRAGMENT": 8,
        "PROXYREQ_RESPONSE": 3,
        "M_PATCH": 7,
        "M_INVALID": 26,
        "AP_REQ_DEFAULT_PATH_INFO": 2,
        "AP_MPMQ_MAX_DAEMONS": 12,
        "DIR_MAGIC_TYPE": "httpd/unix-directory",
        "REQUEST_CHUNKED_DECHUNK": 2,
        "AP_CONN_KEEPALIVE": 2,
        "APR_UNKFILE": 127,
        "APR_FINFO_NORM": 0x73B170,
    }
    assert {name: getattr(apache, name) for name in expected} == expected


def test_statuses_print_their_names_and_are_ints() -> None:
    assert repr([apache.OK, apache.HTTP_NOT_FOUND, apache.DECLINED]) == "[OK, HTTP_NOT_FOUND, DECLINED]"
    assert f"{apache.HTTP_NOT_FOUND} {apache.HTTP_OK:d}" == "404 200"
    assert str(apache.HTTP_NOT_FOUND) == "404"
    assert "%s" % apache.HTTP_NOT_FOUND == "404"  # noqa: UP031  (what old applications do)
    assert json.dumps([apache.HTTP_NOT_FOUND]) == "[404]"
    assert pickle.loads(pickle.dumps(apache.HTTP_GONE)) == 410
    assert {404: "found"}[apache.HTTP_NOT_FOUND] == "found"
    assert repr(Status(299)) == "299"


def test_outside_httpd_there_is_no_server() -> None:
    assert apache.interpreter == ""
    server: Any = apache.main_server
    assert server is None
    assert apache.make_table is apache.table
    calls: list[Any] = [
        lambda: apache.exists_config_define("X"),
        apache.server_root,
        lambda: apache.mpm_query(apache.AP_MPMQ_IS_THREADED),
        apache.config_tree,
        lambda: apache.stat("/", 0),
        apache.get_current_config,
        apache.get_current_options,
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="inside httpd"):
            call()
    with pytest.raises(TypeError, match="needs an int"):
        apache.mpm_query("x")  # type: ignore[arg-type]


def test_log_error_outside_httpd(capsys: pytest.CaptureFixture[str]) -> None:
    apache.log_error(None)
    apache.log_error("one\ntwo", apache.APLOG_INFO)
    apache.log_error(ValueError("three"))
    assert capsys.readouterr().err == "one\n    two\nthree\n"


def test_exceptions_are_what_python_code_expects() -> None:
    assert issubclass(apache.ConnectionClosed, ConnectionError)
    assert issubclass(apache.ConnectionTimeout, TimeoutError)
    assert issubclass(apache.IncompleteRead, apache.ConnectionClosed)
    assert issubclass(apache.LimitError, ValueError)
    assert issubclass(apache.DetachedError, RuntimeError)
    for name in errors.__all__:
        assert getattr(apache, name) is getattr(errors, name)


def test_incomplete_read() -> None:
    exc = pickle.loads(pickle.dumps(apache.IncompleteRead(b"abc", 10)))
    assert (exc.partial, exc.expected) == (b"abc", 10)
    assert str(exc) == "the peer closed the connection after 3 bytes, before 10 bytes arrived"
    assert "the separator" in str(apache.IncompleteRead(b"abc"))


def test_importing_is_light() -> None:
    """What every interpreter of every httpd child imports must not drag more in."""
    script = (
        "import sys; before = set(sys.modules)\n"
        "import mod_python.apache, mod_python._dispatch.dispatcher, mod_python._dispatch.boot\n"
        "print('\\n'.join(sorted(set(sys.modules) - before)))"
    )
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script_with_path(script)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    others = [name for name in result.stdout.split() if name.partition(".")[0] != "mod_python"]
    assert set(others) <= {"__future__"}


def script_with_path(script: str) -> str:
    """Let an isolated Python find the package where this one does."""
    from pathlib import Path

    root = str(Path(apache.__file__).parent.parent)
    # `os` and what it needs are part of any interpreter that has a site module.
    return f"import sys; sys.path.insert(0, {root!r}); import os, io, codecs\n{script}"
