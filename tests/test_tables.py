"""`apache.table`: the core's class inside httpd and the pure Python class outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import mod_python.apache
from mod_python._table import mp_table
from mod_python.testing import Server
from tests import table_checks
from tests.servers import running

RUN = """
from mod_python import apache
import table_checks

def handler(req):
    from traceback import format_exc
    try:
        getattr(table_checks, req.args)(apache.table)
    except Exception:
        req.write(format_exc())
    else:
        req.write("passed")
    return apache.OK
"""

LIVE = """
from mod_python import apache

def client_bytes(req):
    # Header fields with any byte, read in every way.
    t = req.headers_in
    want = bytes(c for c in range(33, 256) if c != 127).decode("latin-1")
    assert t["X-Bytes"] == t.get("x-bytes") == want, t["X-Bytes"]
    assert want in t.values() and want in dict(t.items()).values()
    assert want in list(t.itervalues()) and ("X-Bytes", want) in list(t.iteritems())
    assert "X-Bytes" in t and t.copy() == t and repr(want) in repr(t)
    assert t.setdefault("x-bytes", "no") == want

def live(req):
    one, other = req.notes, req.notes
    one["a"] = "1"
    other.add("A", "2")
    assert one == other and one["a"] == ["1", "2"]
    other.clear()
    assert not one
    raised = 0
    for name in ("headers_in", "headers_out", "err_headers_out", "notes"):
        try:
            setattr(req, name, apache.table())
        except AttributeError:
            raised += 1
    assert raised == 4
    assert type(one) is apache.table and apache.make_table is apache.table

def init_of_a_view(req):
    before = req.headers_in.items()
    req.headers_in.__init__()
    assert req.headers_in.items() == before

def handler(req):
    from traceback import format_exc
    try:
        globals()[req.args](req)
    except Exception:
        req.write(format_exc())
    else:
        req.write("passed")
    return apache.OK
"""


# Rows of the specification's list of behaviours.
ROWS = {
    "check_empty": "9.1",
    "check_update": "9.2-9.3",
    "check_update_from_any_mapping": "9.4",
    "check_update_passes_exceptions_on": "9.5",
    "check_copy": "9.6",
    "check_get": "9.7",
    "check_setdefault": "9.8",
    "check_popitem": "9.9",
    "check_iteration": "9.10",
    "check_subclass": "9.11",
    "check_duplicates": "9.12",
    "check_every_byte": "9.13",
}
CHECKS = [pytest.param(name, id=f"{ROWS.get(name, '')}-{name}".lstrip("-")) for name in table_checks.CHECKS]
assert set(ROWS) <= set(table_checks.CHECKS)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    checks = Path(table_checks.__file__).read_text(encoding="utf-8")
    config = """
    <Location /checks>
        SetHandler mod_python
        PythonHandler ${SITE}/run.py
    </Location>
    <Location /live>
        SetHandler mod_python
        PythonHandler ${SITE}/live.py
    </Location>
    """
    files = {"table_checks.py": checks, "run.py": RUN, "live.py": LIVE}
    with running(config, files=files) as server:
        yield server


@pytest.mark.parametrize("name", CHECKS)
def test_pure_python(name: str) -> None:
    assert vars(mod_python.apache)["table"] is mp_table
    getattr(table_checks, name)(mp_table)


@pytest.mark.parametrize("name", CHECKS)
def test_core(server: Server, name: str) -> None:
    assert server.get(f"/checks?{name}").text == "passed"


@pytest.mark.parametrize("name", ["live", "init_of_a_view"])
def test_views(server: Server, name: str) -> None:
    assert server.get(f"/live?{name}").text == "passed"


def test_row_9_13_any_byte_from_a_client(server: Server) -> None:
    # All but the control characters that RFC 9110 (5.5) does not allow in a field.
    value = b"\t" + bytes(c for c in range(32, 256) if c != 127)
    with server.connect() as sock:
        head = b"GET /live?client_bytes HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Bytes: "
        sock.sendall(head + value + b"\r\n\r\n")
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert b"passed" in answer, answer.decode("latin-1")
