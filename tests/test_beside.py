"""Python handlers of the other phases in front of content that is not Python's.

Each kind of content is asked for with the guard's word and without it; what the module
does must not change, the access handler must decide, and the log handler must see it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mod_python.httpd import find
from mod_python.testing import Server
from tests.servers import running

GUARD = """
import base64
from mod_python import apache

def accesshandler(req):
    if req.headers_in.get("X-Word") == "wrong":
        return apache.HTTP_FORBIDDEN
    return apache.OK

def authenhandler(req):
    kind, _, token = req.headers_in.get("Authorization", "").partition(" ")
    user, _, password = base64.b64decode(token).decode("latin-1").partition(":")
    if kind != "Basic" or password != "secret":
        return apache.HTTP_UNAUTHORIZED
    req.user = user
    return apache.OK

def authzhandler(req):
    return apache.HTTP_FORBIDDEN if req.user == "eve" else apache.OK

def fixuphandler(req):
    req.headers_out["X-Fixed"] = "by Python"
    req.subprocess_env["FIXED"] = "by Python"
    return apache.DECLINED

def loghandler(req):
    req.log_error("logged %s %s %s %s" % (req.method, req.uri, req.status, req.user), apache.APLOG_NOTICE)
    return apache.OK
"""

ANN = {"Authorization": "Basic YW5uOnNlY3JldA=="}
EVE = {"Authorization": "Basic ZXZlOnNlY3JldA=="}

CONFIG = """
DocumentRoot "${SITE}/htdocs"
PythonPath "['${SITE}']+sys.path"
<Location "/">
    AuthType Basic
    AuthName "guarded"
    Require valid-user
    PythonAccessHandler guard
    PythonAuthenHandler guard
    PythonAuthzHandler guard
    PythonFixupHandler guard
    PythonLogHandler guard
</Location>
Alias "/alias" "${SITE}/elsewhere"
<Directory "${SITE}/elsewhere">
    Require valid-user
</Directory>
"""

DAV = """
Alias "/dav" "${SITE}/dav"
DavLockDB "${SITE}/dav-locks/db"
<Directory "${SITE}/dav">
    Dav On
</Directory>
"""

CGI = """
ScriptSock cgid.sock
ScriptAlias "/cgi" "${SITE}/cgi"
<Directory "${SITE}/cgi">
    Options +ExecCGI
</Directory>
"""

PROXY = """
<VirtualHost 127.0.0.1:${PORT2}>
    DocumentRoot "${SITE}/backend"
    <Location "/">
        AuthMerging Off
        Require all granted
    </Location>
</VirtualHost>
ProxyPass "/proxy" "http://127.0.0.1:${PORT2}"
"""

BASIC = ["mod_alias", "mod_authn_core", "mod_authz_core", "mod_authz_user", "mod_auth_basic"]
FILES = {
    "guard.py": GUARD,
    "htdocs/page.txt": "static page\n",
    "elsewhere/page.txt": "aliased page\n",
    "cgi/script": "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s %s %s %s' "
    '"$REMOTE_USER" "$FIXED" "$PATH_INFO" $(wc -c)',
    "backend/page.txt": "page of the backend\n",
    "backend/.keep": "",
}


def has(*modules: str) -> bool:
    """Whether the httpd under test was built with these modules."""
    directory = find.find_httpd().modules_dir
    assert directory is not None
    return all((directory / f"{name}.so").exists() for name in modules)


def check(server: Server, target: str, body: str) -> None:
    """Ask with and without the right to: the content must be unchanged, the handlers must have run."""
    assert server.get(target).status == 401
    assert server.get(target, headers={**ANN, "X-Word": "wrong"}).status == 403
    assert server.get(target, headers=EVE).status == 403
    reply = server.get(target, headers=ANN)
    assert (reply.status, reply.text) == (200, body)
    server.wait_for_log(f"logged GET {target} 401 None")
    server.wait_for_log(f"logged GET {target} 403 eve")
    server.wait_for_log(f"logged GET {target} 200 ann")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with static files and an alias."""
    with running(CONFIG, files=FILES, modules=BASIC) as server:
        yield server


def test_static(server: Server) -> None:
    check(server, "/page.txt", "static page\n")
    reply = server.get("/page.txt", headers={**ANN, "Range": "bytes=0-5"})
    assert (reply.status, reply.text, reply.headers["X-Fixed"]) == (206, "static", "by Python")
    assert server.request("HEAD", "/page.txt", headers=ANN).headers["Content-Length"] == "12"


def test_alias(server: Server) -> None:
    check(server, "/alias/page.txt", "aliased page\n")
    assert server.get("/alias/none", headers=ANN).status == 404


@pytest.mark.skipif(not has("mod_dav", "mod_dav_fs", "mod_dav_lock"), reason="this httpd is built without mod_dav")
def test_dav(public_path: Path) -> None:
    with running(CONFIG + DAV, files=FILES, modules=[*BASIC, "mod_dav", "mod_dav_fs"]) as server:
        for name in ("dav", "dav-locks"):
            (server.site / name).mkdir()
            (server.site / name).chmod(0o777)
        assert server.request("PUT", "/dav/new.txt", b"written by DAV", ANN).status == 201
        check(server, "/dav/new.txt", "written by DAV")
        listing = server.request("PROPFIND", "/dav/", b"", {**ANN, "Depth": "1"})
        assert listing.status == 207
        assert "/dav/new.txt" in listing.text
        lock = (
            b'<?xml version="1.0"?><D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>'
            b"<D:locktype><D:write/></D:locktype></D:lockinfo>"
        )
        locked = server.request("LOCK", "/dav/new.txt", lock, {**ANN, "Content-Type": "text/xml"})
        assert locked.status == 200
        assert server.request("PUT", "/dav/new.txt", b"again", ANN).status == 423
        token = locked.headers["Lock-Token"]
        assert server.request("UNLOCK", "/dav/new.txt", headers={**ANN, "Lock-Token": token}).status == 204
        host = f"http://{server.host}:{server.port}"
        moved = server.request("MOVE", "/dav/new.txt", headers={**ANN, "Destination": f"{host}/dav/moved.txt"})
        assert moved.status == 201
        assert server.get("/dav/moved.txt", headers=ANN).text == "written by DAV"
        assert server.request("DELETE", "/dav/moved.txt", headers=EVE).status == 403
        assert server.request("DELETE", "/dav/moved.txt", headers=ANN).status == 204
        assert server.get("/dav/moved.txt", headers=ANN).status == 404


@pytest.mark.skipif(not has("mod_cgid"), reason="this httpd is built without mod_cgid")
def test_cgid() -> None:
    with running(CONFIG + CGI, files=FILES, modules=[*BASIC, "mod_cgid"]) as server:
        (server.site / "cgi/script").chmod(0o755)
        check(server, "/cgi/script", "ann by Python  0")
        assert server.get("/cgi/script/more", headers=ANN).text == "ann by Python /more 0"
        assert server.request("POST", "/cgi/script", b"x" * 100_000, ANN).text == "ann by Python  100000"


@pytest.mark.skipif(not has("mod_proxy", "mod_proxy_http"), reason="this httpd is built without mod_proxy_http")
def test_proxy() -> None:
    with running(CONFIG + PROXY, files=FILES, modules=[*BASIC, "mod_proxy", "mod_proxy_http"], listen=2) as server:
        check(server, "/proxy/page.txt", "page of the backend\n")
        assert server.get("/proxy/none", headers=ANN).status == 404
        assert server.get("/page.txt", headers=ANN).text == "static page\n"
