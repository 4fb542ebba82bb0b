"""The test page: what it shows, and to whom."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.servers import running

CONFIG = """
PythonOption outer "<i>outer</i>"
<Location "/test">
    SetHandler mod_python
    PythonHandler mod_python.testhandler
    PythonOption shown "<b>&'quoted\\""
    PythonOption db.Password hunter2
</Location>
<Location "/test/all">
    PythonOption mod_python.testhandler.allow "10.0.0.0/8, 127.0.0.1 ::1"
    PythonOption mod_python.testhandler.view_log On
    PythonOption mod_python.testhandler.config_tree yes
</Location>
<Location "/test/none">
    PythonOption mod_python.testhandler.allow 192.0.2.1
</Location>
<Location "/test/bad">
    PythonOption mod_python.testhandler.allow nonsense
</Location>
<Location "/test/unclear">
    PythonOption mod_python.testhandler.view_log perhaps
</Location>
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(CONFIG) as server:
        yield server


def test_what_it_shows(server: Server) -> None:
    response = server.get("/test?<i>", {"X-Probe": "<script>alert(1)</script>", "Cookie": "c=crumbs"})
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    text = response.text
    for part in (
        "document root",
        "main_interpreter",
        "mod_python.publisher</th><td>can be imported",
        "X-Probe</th><td>&lt;script&gt;alert(1)&lt;/script&gt;",
        "&lt;b&gt;&amp;&#x27;quoted&quot;",
        "&lt;i&gt;outer&lt;/i&gt;",
        "PythonInterpreter",
        "REMOTE_ADDR",
        "SERVER_NAME",
        str(server.root),
    ):
        assert part in text, part
    assert "<script" not in text
    assert "<i>" not in text
    assert "://" not in text.replace("http://localhost", "")
    for secret in ("hunter2", "crumbs"):
        assert secret not in text
    assert text.count("(not shown)") >= 2
    assert "Configuration tree" not in text
    assert "error log</h2>" not in server.get("/test?view_log=1").text


def test_log_and_configuration(server: Server) -> None:
    text = server.get("/test/all?view_log=1").text
    assert "Last 100 lines of the error log" in text
    assert "resuming normal operations" in text
    assert "&lt;Location &quot;/test/all&quot;&gt;" in text or "&lt;Location /test/all&gt;" in text
    assert "    PythonOption" in text
    assert "hunter2" not in text
    assert "resuming normal operations" not in server.get("/test/all").text


def test_other_addresses(server: Server) -> None:
    assert server.get("/test/none").status == 403
    server.wait_for_log(r"127\.0\.0\.1 is not among the addresses of PythonOption mod_python\.testhandler\.allow")


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via"])
def test_behind_a_proxy(server: Server, header: str) -> None:
    assert server.get("/test", {header: "for=192.0.2.7"}).status == 403
    assert server.get("/test/all", {header: "for=192.0.2.7"}).status == 200


def test_methods(server: Server) -> None:
    assert server.request("HEAD", "/test").status == 200
    response = server.request("POST", "/test", b"")
    assert response.status == 405
    assert "GET" in response.headers["Allow"]


@pytest.mark.parametrize(
    ("path", "marker"),
    [("bad", "testhandler.allow takes addresses and networks"), ("unclear", "view_log must be On or Off")],
)
def test_wrong_options(server: Server, path: str, marker: str) -> None:
    server.allow(marker)
    assert server.get(f"/test/{path}").status == 500
    server.wait_for_log(marker)
