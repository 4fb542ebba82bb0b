"""Requests that httpd refuses before they are complete, as handlers at their end see them; connections to a backend."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.servers import running

HANDLERS = """
import os
from mod_python import apache

def look(req):
    for name in dir(req):
        if not name.startswith("__"):
            try:
                getattr(req, name)
            except AttributeError:
                pass
    for call in (req.add_common_vars, req.add_cgi_vars, req.get_config, req.get_options, req.document_root,
                 req.auth_type, req.auth_name, req.get_remote_host, req.get_basic_auth_pw, req.meets_conditions,
                 req.is_https, req.set_etag, req.get_addhandler_exts):
        call()
    req.construct_url("/x")
    repr(req), [table.items() for table in (req.headers_in, req.headers_out, req.subprocess_env, req.notes)]

def loghandler(req):
    look(req)
    req.log_error("looked at %d" % req.status, apache.APLOG_NOTICE)
    return apache.OK

def cleanuphandler(req):
    look(req)
    req.log_error("ended %d" % req.status, apache.APLOG_NOTICE)
    return apache.OK

def preconnectionhandler(conn):
    conn.limit = 77
    return apache.OK if conn.local_addr[1] in PORTS else apache.HTTP_FORBIDDEN

def handler(req):
    req.content_type = "text/plain"
    req.write("limit %d" % req.connection.limit, 0)
    return apache.OK

def childinithandler(server):
    global PORTS
    PORTS = [int(port) for port in server.get_options()["ports"].split()]
"""

CONFIG = """
PythonPath "['${SITE}']+sys.path"
DocumentRoot "${SITE}"
PythonOption ports "${PORT}"
PythonChildInitHandler broken
PythonPreConnectionHandler broken
PythonLogHandler broken
PythonCleanupHandler broken
LimitRequestLine 200
LimitRequestFieldSize 200
RewriteEngine On
RewriteRule ^/python/moved/(.*)$ /$1 [PT]
<Location /python>
    SetHandler mod_python
    PythonHandler broken
</Location>
ProxyPass /back http://127.0.0.1:${PORT}/page.txt
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    files: dict[str, str | bytes] = {"broken.py": HANDLERS, "page.txt": "a page"}
    with running(CONFIG, files=files, modules=["mod_proxy", "mod_proxy_http", "mod_rewrite"]) as server:
        yield server


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET\r\n\r\n", 400),
        (b"\x01\x02\x03\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /" + b"x" * 300 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 300 + b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: odd\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
        (b"GET /%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        (b"GET /../../x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400),
    ],
)
def test_refused(server: Server, request_: bytes, status: int) -> None:
    looked = server.error_log.count("looked at ")
    with server.connect() as sock:
        sock.sendall(request_)
        assert b" %d " % status in b"".join(iter(lambda: sock.recv(65536), b""))
    server.wait_until(lambda: server.error_log.count("looked at ") > looked)
    server.wait_for_log(f"ended {status}")


def test_a_connection_to_a_backend_does_not_come_in(server: Server) -> None:
    assert server.get("/back").text == "a page"


def test_settings_of_the_connection_last(server: Server) -> None:
    assert server.get("/python").text == "limit 77"


def test_a_rewritten_uri_has_a_file(server: Server) -> None:
    assert server.get("/python/moved/page.txt").text == "a page"


PER_DIRECTORY = """
from mod_python import apache

def look(req):
    req.log_error("%s of %s in '%s'" % (req.phase, req.uri, req.interpreter), apache.APLOG_NOTICE)
    return apache.DECLINED
"""


def test_clients_do_not_name_interpreters() -> None:
    config = """
    PythonPath "['${SITE}']+sys.path"
    DocumentRoot "${SITE}"
    PythonInterpPerDirectory On
    PythonMapToStorageHandler per::look
    PythonFixupHandler per::look
    ProxyPass /back http://127.0.0.1:1/
    """
    files: dict[str, str | bytes] = {"per.py": PER_DIRECTORY}
    modules = ["mod_proxy", "mod_proxy_http"]
    with running(config, files=files, modules=modules, flags={"PythonInterpreter": None}) as server:
        server.allow("Connection refused|failed to make connection|AH01114|AH00957")
        for uri in ("/back/a/b", "/missing/c"):
            server.get(uri)
        found = set(re.findall(r"of (\S+) in '([^']*)'", server.error_log))
        assert found == {
            ("/back/a/b", "main_interpreter"),
            ("/missing/c", "main_interpreter"),
            ("/missing/c", f"{server.site}/"),
        }
