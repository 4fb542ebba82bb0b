"""Hooks that httpd has and the Python API of old had not: connections, storage, children, providers."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.servers import running

HANDLERS = """
import hashlib, os
from mod_python import apache

state = []

def preconnectionhandler(conn):
    conn.notes["seen"] = "pre"
    try:
        conn.write(b"too early")
    except RuntimeError:
        conn.notes["seen"] = "pre, no i/o"
    return apache.OK

def second(conn):
    conn.notes["seen"] += ", second"
    return apache.DECLINED

def refuse(conn):
    return apache.HTTP_FORBIDDEN

def fail(conn):
    raise RuntimeError("pre-connection fails")

def show(req):
    req.content_type = "text/plain"
    req.write("%s %s" % (req.connection.notes.get("seen"), req.filename), 0)
    return apache.OK

def quickhandler(req):
    if req.uri != "/quick":
        return apache.DECLINED
    req.content_type = "text/plain"
    req.write("quick %s" % req.filename, 0)
    return apache.OK

def maptostoragehandler(req):
    if req.uri.startswith("/nowhere"):
        return apache.OK            # no directory walk, no .htaccess
    return apache.HTTP_GONE if req.uri == "/gone" else apache.DECLINED

def childinithandler(server):
    state.append("init of %s in %s" % (server.server_hostname, apache.interpreter))
    server.log_error("%s, pid %d" % (state[-1], os.getpid()), apache.APLOG_NOTICE)

def childexithandler(server):
    server.log_error("exit of %s after %s" % (server.server_hostname, state), apache.APLOG_NOTICE)

def broken(server):
    raise RuntimeError("child-init fails")

# -- providers

USERS = {"ann": "secret", "k\\xe4the": "p\\xe4ss"}

def check_password(req, user, password):
    assert req.phase == "PythonAuthnProvider", req.phase
    if user not in USERS:
        return None
    if user == "ann" and password == "boom":
        raise RuntimeError("the provider fails")
    if user == "ann" and password == "odd":
        return 1
    return USERS[user] == password

def get_realm_hash(req, user, realm):
    if user not in USERS:
        return None
    return hashlib.md5(("%s:%s:%s" % (user, realm, USERS[user])).encode("latin-1")).hexdigest()

def check_authorization(req, arguments):
    req.log_error("asked for %r with user %r" % (arguments, req.user), apache.APLOG_NOTICE)
    return req.user in arguments.split()

def anybody(req, arguments):
    return arguments == "127.0.0.1 yes"

def not_bool(req, arguments):
    return None
"""

PATH = "PythonPath \"['${SITE}']+sys.path\"\n"
AUTH_MODULES = ["mod_authn_core", "mod_authz_core", "mod_authz_user", "mod_auth_basic", "mod_auth_digest", "mod_alias"]

AUTH = (
    PATH
    + """
DocumentRoot "${SITE}"
<Directory "${SITE}/basic">
    AuthType Basic
    AuthName "a realm"
    AuthBasicProvider python
    PythonAuthnProvider hooks
    Require valid-user
</Directory>
<Directory "${SITE}/digest">
    AuthType Digest
    AuthName "a realm"
    AuthDigestProvider python
    PythonAuthnProvider hooks
    Require valid-user
</Directory>
<Directory "${SITE}/require">
    AuthType Basic
    AuthName "a realm"
    AuthBasicProvider python
    PythonAuthnProvider hooks::check_password
    Require python hooks ann %{HTTP:X-Also}
</Directory>
<Directory "${SITE}/open">
    Require python hooks::anybody %{REMOTE_ADDR} yes
</Directory>
<Directory "${SITE}/closed">
    Require python hooks::anybody no
</Directory>
<Directory "${SITE}/none">
    Require python hooks::not_bool
</Directory>
<Directory "${SITE}/unset">
    AuthType Basic
    AuthName "a realm"
    AuthBasicProvider python
    Require valid-user
</Directory>
"""
)
PAGES = {f"{name}/page": "the page" for name in ("basic", "digest", "require", "open", "closed", "none", "unset")}


@pytest.fixture(scope="module")
def auth() -> Iterator[Server]:
    """A server whose directories are guarded by providers."""
    with running(AUTH, files={"hooks.py": HANDLERS, **PAGES}, modules=AUTH_MODULES) as server:
        yield server


def basic(user: str, password: str) -> dict[str, str]:
    token = base64.b64encode(f"{user}:{password}".encode("latin-1")).decode()
    return {"Authorization": f"Basic {token}"}


class TestConnections:
    def test_pre_connection(self) -> None:
        config = (
            PATH
            + """
PythonPreConnectionHandler hooks hooks::second
<Location />
    SetHandler mod_python
    PythonHandler hooks::show
</Location>
"""
        )
        with running(config, files={"hooks.py": HANDLERS}) as server:
            assert server.get("/").text == "pre, no i/o, second None"

    @pytest.mark.parametrize(("function", "logged"), [("refuse", None), ("fail", "pre-connection fails")])
    def test_refused(self, function: str, logged: str | None) -> None:
        config = PATH + f"PythonPreConnectionHandler hooks::{function}\n"
        with running(config, files={"hooks.py": HANDLERS, "page": "x"}) as server:
            if logged is not None:
                server.allow(logged)
            with server.connect() as sock:
                try:
                    sock.sendall(b"GET /page HTTP/1.0\r\n\r\n")
                    reply = sock.recv(100)
                except ConnectionError:
                    reply = b""
            assert reply == b""
            if logged is not None:
                server.wait_for_log(logged)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with a quick handler and a handler for the mapping to storage."""
    config = PATH + 'DocumentRoot "${SITE}"\nPythonQuickHandler hooks\nPythonMapToStorageHandler hooks\n'
    with running(config, files={"hooks.py": HANDLERS, "page": "a file"}) as server:
        yield server


class TestRequests:
    def test_quick_handler(self, server: Server) -> None:
        reply = server.get("/quick")
        assert (reply.status, reply.text, reply.headers["Content-Length"]) == (200, "quick None", "10")
        assert server.get("/page").text == "a file"

    def test_map_to_storage(self, server: Server) -> None:
        assert server.get("/gone").status == 410
        assert server.get("/nowhere/x").status == 404
        assert server.get("/page").text == "a file"


class TestChildren:
    def test_init_and_exit(self) -> None:
        config = (
            PATH
            + """
ServerName main.example
PythonChildInitHandler hooks hooks::broken
PythonChildExitHandler hooks
<VirtualHost 127.0.0.1:${PORT}>
    ServerName virtual.example
    PythonInterpreter main_interpreter
    PythonChildInitHandler hooks
</VirtualHost>
"""
        )
        with running(config, files={"hooks.py": HANDLERS, "page": "x"}, processes=1) as server:
            server.allow("child-init fails")
            server.wait_for_log("init of virtual.example in main_interpreter")
            assert re.search("init of main.example in ", server.error_log)
            assert len(re.findall("init of main.example", server.error_log)) == len(server.children())
        assert "exit of main.example after ['init of main.example" in server.error_log
        assert "exit of virtual.example" not in server.error_log


class TestProviders:
    def test_password(self, auth: Server) -> None:
        asked = auth.get("/basic/page")
        assert (asked.status, asked.headers["WWW-Authenticate"]) == (401, 'Basic realm="a realm"')
        assert auth.get("/basic/page", headers=basic("ann", "secret")).text == "the page"
        assert auth.get("/basic/page", headers=basic("k\xe4the", "p\xe4ss")).text == "the page"
        assert auth.get("/basic/page", headers=basic("ann", "wrong")).status == 401
        assert auth.get("/basic/page", headers=basic("bob", "secret")).status == 401

    @pytest.mark.parametrize(("password", "logged"), [("boom", "the provider fails"), ("odd", "returned a int")])
    def test_failure_is_500(self, auth: Server, password: str, logged: str) -> None:
        auth.allow(logged)
        assert auth.get("/basic/page", headers=basic("ann", password)).status == 500
        auth.wait_for_log(logged)

    def test_digest(self, auth: Server) -> None:
        challenge = auth.get("/digest/page").headers["WWW-Authenticate"]
        nonce = re.search('nonce="([^"]+)"', challenge)
        assert nonce is not None
        for user, password, status in (("ann", "secret", 200), ("ann", "wrong", 401), ("bob", "secret", 401)):
            ha1 = hashlib.md5(f"{user}:a realm:{password}".encode()).hexdigest()
            ha2 = hashlib.md5(b"GET:/digest/page").hexdigest()
            answer = hashlib.md5(f"{ha1}:{nonce.group(1)}:00000001:abc:auth:{ha2}".encode()).hexdigest()
            header = (
                f'Digest username="{user}", realm="a realm", nonce="{nonce.group(1)}", uri="/digest/page", '
                f'qop=auth, nc=00000001, cnonce="abc", response="{answer}", algorithm=MD5'
            )
            assert auth.get("/digest/page", headers={"Authorization": header}).status == status

    def test_require(self, auth: Server) -> None:
        assert auth.get("/require/page").status == 401
        assert auth.get("/require/page", headers=basic("ann", "secret")).text == "the page"
        kaethe = basic("k\xe4the", "p\xe4ss")
        assert auth.get("/require/page", headers=kaethe).status in (401, 403)
        also = {**kaethe, "X-Also": "k\xe4the"}
        assert auth.get("/require/page", headers=also).text == "the page"

    def test_require_without_user(self, auth: Server) -> None:
        assert auth.get("/open/page").text == "the page"
        assert auth.get("/closed/page").status == 403

    def test_require_must_answer_bool(self, auth: Server) -> None:
        auth.allow("check_authorization returned a NoneType")
        assert auth.get("/none/page").status == 500

    def test_provider_without_module(self, auth: Server) -> None:
        assert auth.get("/unset/page", headers=basic("ann", "secret")).status == 500
        auth.wait_for_log("no PythonAuthnProvider names a module here")
