"""The request object, for a plain GET of ``/tests.py`` in a virtual host named ``test_internal``.

The names of the checks are those of the rows of the specification's list of behaviours, section 6.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mod_python.testing import Response, Server
from tests.servers import running

CHECKS = r"""
import os, time
from mod_python import apache

def row_6_1(req):
    assert str(type(req.connection)) == "<class 'mp_conn'>"
    assert str(type(req.server)) == "<class 'mp_server'>"
    assert str(type(req.finfo)) == "<class 'mp_finfo'>"

def row_6_2(req):
    assert req.next is req.prev is req.main is None

def row_6_3(req):
    assert req.the_request == "GET /tests.py HTTP/1.1" and req.protocol == "HTTP/1.1"
    assert req.proto_num == 1001

def row_6_4(req):
    assert req.assbackwards == req.proxyreq == req.header_only == 0

def row_6_5(req):
    assert req.hostname == "test_internal"

def row_6_6(req):
    assert abs(req.request_time - time.time()) < 60 and type(req.request_time) is float

def row_6_7(req):
    assert req.status_line is None and req.status == 200
    req.status = 201
    assert req.status == 201
    req.status = 200

def row_6_8(req):
    assert (req.method, req.method_number, req.allowed) == ("GET", 0, 0)
    assert req.allowed_methods == req.allowed_xmethods == ()

def row_6_9(req):
    assert req.sent_bodyct == 0
    before = req.bytes_sent
    req.write("1234")
    assert req.bytes_sent - before == 4

def row_6_10(req):
    req.write("1234567890")
    assert req.chunked == 1
    req.set_content_length(15)
    assert req.clength == 15 and req.headers_out["content-length"] == "15"

def row_6_11(req):
    assert req.range is None and req.mtime == 0
    assert req.remaining == req.read_length == req.read_body == req.read_chunked == req.expecting_100 == 0

def row_6_12(req):
    assert req.headers_in["Host"] == "test_internal:%d" % req.connection.local_addr[1]

def row_6_13(req):
    sizes = [len(req.subprocess_env)]
    req.add_common_vars()
    sizes.append(len(req.subprocess_env))
    assert "GATEWAY_INTERFACE" not in req.subprocess_env
    req.add_cgi_vars()
    sizes.append(len(req.subprocess_env))
    assert sizes[0] < sizes[1] < sizes[2], sizes
    env = req.subprocess_env
    assert "Python" in env["SERVER_SOFTWARE"]
    expected = {"GATEWAY_INTERFACE": "CGI/1.1", "SERVER_PROTOCOL": "HTTP/1.1", "REQUEST_METHOD": "GET",
                "QUERY_STRING": "", "REQUEST_URI": "/tests.py", "SCRIPT_NAME": "/tests.py"}
    assert {k: env[k] for k in expected} == expected
    assert "PATH_INFO" not in env and "PATH_TRANSLATED" not in env and "HTTP_AUTHORIZATION" not in env

def row_6_14(req):
    req.notes["testing"] = "a note"
    assert req.notes["testing"] == "a note"

def row_6_15(req):
    assert req.phase == "PythonHandler"

def row_6_16(req):
    assert req._content_type_set == 0
    req.content_type = "test/123"
    assert req._content_type_set == 1 and req.content_type == "test/123"

def row_6_17(req):
    assert req.handler == "mod_python"

def row_6_18(req):
    for name in ("content_encoding", "vlist_validator", "user", "ap_auth_type", "args"):
        assert getattr(req, name) is None, name
    assert req.content_languages == ()
    assert req.no_cache == req.no_local_copy == 0

def row_6_19(req):
    assert req.uri == req.unparsed_uri == req.parsed_uri[apache.URI_PATH] == "/tests.py"
    assert req.filename == req.document_root() + req.uri
    assert req.canonical_filename and req.path_info == ""
    port = req.connection.local_addr[1]
    # httpd adds the port of the Host header.
    assert req.parsed_uri == (None, None, None, None, None, port, "/tests.py", None, None), req.parsed_uri

def row_6_20(req):
    name = req.finfo[apache.FINFO_FNAME]
    assert not name or name == req.canonical_filename

def row_6_21(req):
    assert req.used_path_info == apache.AP_REQ_DEFAULT_PATH_INFO == 2

def row_6_22(req):
    assert not req.eos_sent

def row_6_23(req):
    assert req.useragent_ip == req.useragent_addr[0] == "127.0.0.1"
    assert req.useragent_addr == req.connection.client_addr

def row_6_24(req):
    assert req.get_remote_host(apache.REMOTE_HOST) is None
    assert req.get_remote_host() == req.get_remote_host(apache.REMOTE_NOLOOKUP) == "127.0.0.1"
    text, flag = req.get_remote_host(apache.REMOTE_NAME, 1)
    assert text == "127.0.0.1" and flag
    assert req.get_remote_host(apache.REMOTE_HOST, str_is_ip=True) is None
    double = req.get_remote_host(apache.REMOTE_DOUBLE_REV)
    assert double is None or isinstance(double, str)
    for bad, error in ((4, ValueError), (-1, ValueError), ("x", TypeError), (2**80, OverflowError)):
        try:
            req.get_remote_host(bad)
        except error:
            continue
        raise AssertionError(bad)

def row_6_25(req):
    assert req.get_config()["PythonDebug"] == "1"

def row_6_26(req):
    assert req.document_root() == os.path.dirname(__file__)

def row_6_27(req):
    port = req.connection.local_addr[1]
    assert req.construct_url("/index.html") == "http://test_internal:%d/index.html" % port

def row_6_29(req):
    req.write("not to be seen", 0)
    return apache.HTTP_UNAUTHORIZED

def row_6_31(req):
    req.headers_out["X-Test-Header"] = "sent"

def row_6_32(req):
    req.no_cache = 1

def row_6_33(req):
    assert req.mtime == 0.0
    req.update_mtime(100.0)
    assert req.mtime == 100.0
    req.update_mtime(50)
    assert req.mtime == 100.0
    for bad in (float("nan"), float("inf"), 1e300, 2**80, -2**80, "x", None):
        try:
            req.update_mtime(bad)
        except (ValueError, TypeError, OverflowError):
            continue
        raise AssertionError(bad)
    req.set_etag()
    req.set_last_modified()

def handler(req):
    return globals()[req.headers_in["X-Row"]](req) or write_ok(req)

def write_ok(req):
    req.write("ok")
    return apache.OK
"""

CONFIG = """
<VirtualHost *:${PORT}>
    ServerName test_internal
    DocumentRoot ${SITE}
    <Directory ${SITE}>
        Require all granted
        SetHandler mod_python
        PythonHandler tests
        PythonDebug On
    </Directory>
</VirtualHost>
"""

ROWS = sorted(
    {line[4 : line.index("(")] for line in CHECKS.splitlines() if line.startswith("def row_")},
    key=lambda name: int(name.rpartition("_")[2]),
)
# Those with a test of their own.
OWN = {"row_6_29", "row_6_31", "row_6_32", "row_6_33"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(CONFIG, files={"tests.py": CHECKS}) as server:
        yield server


def ask(server: Server, row: str, **headers: str) -> Response:
    return server.get("/tests.py", {"Host": f"test_internal:{server.port}", "X-Row": row, **headers})


@pytest.mark.parametrize("row", [row for row in ROWS if row not in OWN])
def test(server: Server, row: str) -> None:
    response = ask(server, row)
    assert response.status == 200, response.text
    assert response.text.endswith("ok"), response.text


def test_row_6_29_unauthorized(server: Server) -> None:
    response = ask(server, "row_6_29")
    assert response.status == 401
    assert "not to be seen" not in response.text


def test_row_6_31_header_before_the_first_write(server: Server) -> None:
    assert ask(server, "row_6_31").headers["X-Test-Header"] == "sent"


def test_row_6_32_no_cache(server: Server) -> None:
    assert "Expires" in ask(server, "row_6_32").headers
    assert "Expires" not in ask(server, "row_6_2").headers


def test_row_6_33_update_mtime(server: Server) -> None:
    response = ask(server, "row_6_33")
    assert response.text == "ok"
    assert response.headers["ETag"]
    assert response.headers["Last-Modified"] == "Thu, 01 Jan 1970 00:01:40 GMT"
