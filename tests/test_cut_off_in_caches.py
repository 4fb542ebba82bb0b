"""A response that is not whole is stored by no cache: the next client gets a new one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.content_site import exchange, get
from tests.servers import running

HANDLERS = """
from mod_python import apache
count = {}

def fails_once(req):
    # The first time for each URI; then the page is whole.
    count[req.uri] = count.get(req.uri, 0) + 1
    return count[req.uri] == 1

def begin(req):
    req.content_type = "text/html"
    req.headers_out["Cache-Control"] = "max-age=100"

def exception(req):
    begin(req)
    req.write("half ")
    if fails_once(req):
        raise ValueError("on purpose")
    req.write("whole")
    return apache.OK

def announced(req):
    req.set_content_length(10)
    return exception(req)

def status(req):
    begin(req)
    req.write("half ")
    if fails_once(req):
        return apache.HTTP_NOT_FOUND
    req.write("whole")
    return apache.OK

def short(req):
    begin(req)
    req.set_content_length(10)
    req.write("half ")
    if not fails_once(req):
        req.write("whole")
    return apache.OK

def page(req):
    begin(req)
    for part in ("ha", "lf ", "who", "le"):
        req.write(part)
    return apache.OK

def breaks(filt):
    data = filt.read()
    if data == b"who" and fails_once(filt.req):
        raise ValueError("on purpose")
    while data:
        filt.write(data.upper())
        data = filt.read()
    if data is None:
        filt.close()

def outer(req):
    begin(req)
    req.add_output_filter("INCLUDES")
    req.write('[<!--#include virtual="/inner/%s" -->]' % req.args)
    return apache.OK

def application(environ, start_response):
    class Request:
        uri = "/wsgi"
    start_response("200 OK", [("Content-Type", "text/html"), ("Cache-Control", "max-age=100")])
    yield b"half "
    if fails_once(Request):
        raise ValueError("on purpose")
    yield b"whole"

def handler(req):
    return globals()[req.uri.rpartition("/")[2]](req)
"""

CONFIG = """
CacheEnable %s /
CacheIgnoreNoLastMod On
DocumentRoot "${SITE}/docs"
PythonPath "['${SITE}']+sys.path"
PythonInterpreter main_interpreter
PythonOutputFilter handlers::breaks BREAKS
<Location />
    Options +Includes
    SetHandler mod_python
    PythonHandler handlers
</Location>
<Location /debug>
    PythonDebug On
</Location>
<Location /page>
    SetOutputFilter BREAKS
</Location>
<Location /wsgi>
    PythonHandler mod_python.wsgi
    PythonOption mod_python.wsgi.application handlers::application
</Location>
"""


@pytest.fixture(scope="module", params=["disk", "socache"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    modules = ["mod_cache", "mod_include"]
    modules += ["mod_cache_disk"] if request.param == "disk" else ["mod_cache_socache", "mod_socache_shmcb"]
    files: dict[str, str | bytes] = {"handlers.py": HANDLERS, "docs/x": "", "stored/x": ""}
    stores = {"disk": 'CacheRoot "${SITE}/stored"', "socache": "CacheSocache shmcb:${SITE}/stored/data(1000000)"}
    config = CONFIG % request.param + stores[request.param]
    with running(config, files=files, modules=modules, processes=1) as server:
        os.chmod(server.site / "stored", 0o777)
        server.allow("on purpose")
        yield server


def body(server: Server, path: str) -> bytes:
    """Get a page with HTTP/1.0, as it comes; return its body."""
    return exchange(server, f"GET {path} HTTP/1.0\r\n\r\n".encode()).partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("path", ["/exception", "/announced", "/status", "/short", "/wsgi", "/debug/exception"])
def test_what_was_cut_off_is_not_stored(server: Server, path: str) -> None:
    first = body(server, path)
    assert b"half " in first
    assert b"whole" not in first
    assert body(server, path).strip(b"[]") == b"half whole"


@pytest.mark.parametrize("inner", ["exception", "announced", "status"])
def test_what_a_sub_request_has_not_finished_is_not_stored(server: Server, inner: str) -> None:
    """Neither as a page of its own nor as a part of the one that it is for."""
    assert body(server, f"/outer?{inner}").startswith(b"[half [an error occurred")
    assert body(server, f"/inner/{inner}") == b"half whole"
    assert body(server, f"/outer?{inner}") == b"[half whole]"


def test_what_a_filter_has_not_finished_is_not_stored(server: Server) -> None:
    assert body(server, "/page") == b"HALF le"  # it fails with what it has read
    assert body(server, "/page") == b"HALF WHOLE"


def test_what_is_whole_is_stored(server: Server) -> None:
    """The caches of these tests do store, shmcb only what has a length."""
    for _ in range(3):
        exchange(server, get("/announced?stored"))
    assert b"\r\nAge: " in exchange(server, get("/announced?stored"))
