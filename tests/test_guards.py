"""Guards in sub-requests and internal redirects: who the user is, what is asked again, and what is not."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from mod_python.testing.client import Response
from tests.servers import running

HANDLERS = """
from mod_python import apache

def note(what, req):
    kind = "sub" if req.main else "redirected" if req.prev else "first"
    apache.log_error("SEEN %s %s %s %s" % (what, kind, req.filename.rpartition("/")[2] or "/", req.user), 5)

def accesshandler(req):
    note("access", req)
    return apache.OK

def authenhandler(req):
    note("authen", req)
    password = req.get_basic_auth_pw()
    return apache.OK if (req.user, password) == ("good", "right") else apache.HTTP_UNAUTHORIZED

def authzhandler(req):
    note("authz", req)
    return apache.DECLINED

def lenient(req):
    # An error page is for everybody.
    if req.prev is not None:
        return apache.OK
    return apache.HTTP_FORBIDDEN

def strict(req):
    return apache.HTTP_FORBIDDEN

def fails(req):
    if req.filename.endswith("index.txt"):
        raise ValueError("marker-guard")
    return apache.OK

def check_password(req, user, password):
    note("password", req)
    return password == "right"

def may(req, arguments):
    note("require", req)
    return not req.filename.endswith(".secret")

def away(req):
    if req.filename.endswith("away.txt"):
        req.internal_redirect("/open.txt")
        return apache.DONE
    return apache.DECLINED

def handler(req):
    req.content_type = "text/plain"
    req.write("%s %s" % (req.user, req.ap_auth_type))
    return apache.OK
"""

BASIC = """
AuthType Basic
AuthName realm
Require valid-user
"""
FILE = f"{BASIC}AuthBasicProvider file\nAuthUserFile ${{SITE}}/passwords\n"
MODULES = ["mod_authn_core", "mod_authn_file", "mod_authz_user", "mod_auth_basic", "mod_dir", "mod_include"]
FILES = {
    "h/index.txt": "index",
    "h/index.show": "",
    "h/open.txt": "open",
    "h/away.txt": "away",
    "h/a.secret": "SECRET",
    "h/sorry.html": "so sorry",
    "h/page.shtml": '<!--#include virtual="open.txt" -->',
}


@contextlib.contextmanager
def site(lines: str, outside: str = "", index: str = "index.txt") -> Iterator[Server]:
    digest = base64.b64encode(hashlib.sha1(b"right").digest()).decode()
    config = f"""
    DocumentRoot ${{SITE}}/h
    {outside}
    <Directory ${{SITE}}/h>
        DirectoryIndex {index}
        Options +Includes
        AddOutputFilter INCLUDES .shtml
        {lines}
    </Directory>
    """
    files = {"guards.py": HANDLERS, "passwords": f"good:{{SHA}}{digest}\n", **FILES}
    with running(config, files=files, modules=MODULES) as server:
        yield server


def get(server: Server, path: str, password: str | None = "right") -> Response:
    headers = {}
    if password is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(f"good:{password}".encode()).decode()
    return server.get(path, headers)


def seen(server: Server) -> list[str]:
    """What the handlers have noted, in order."""
    return [line.partition("SEEN ")[2] for line in server.error_log.splitlines() if "SEEN " in line]


def test_access_handler_is_called_again_and_the_login_carried_over() -> None:
    """The password is checked once: httpd need not decide again what it has decided for the same configuration."""
    lines = BASIC + (
        "AuthBasicProvider python\nPythonAuthnProvider ${SITE}/guards.py\n"
        "PythonAccessHandler ${SITE}/guards.py\n"
        "AddHandler mod_python .show\nPythonHandler ${SITE}/guards.py"
    )
    with site(lines, index="index.show") as server:
        assert get(server, "/", "wrong").status == 401
        before = len(seen(server))
        assert get(server, "/").text == "good Basic"
        assert seen(server)[before:] == [
            "access first / None", "password first / good", "access sub index.show None",
        ]  # fmt: skip


def test_login_is_carried_over_into_includes() -> None:
    with site(f"{FILE}PythonAccessHandler ${{SITE}}/guards.py", index="page.shtml") as server:
        assert get(server, "/").text == "open"
        assert seen(server) == ["access first / None", "access sub page.shtml None", "access sub open.txt None"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("PythonAuthenHandler ${SITE}/guards.py", ["authen first / None", "authen sub index.txt None"]),
        ("PythonAuthzHandler ${SITE}/guards.py", ["authz first / good", "authz sub index.txt good"]),
        (
            "PythonHandlerModule ${SITE}/guards.py",
            [f"{phase} {what}" for what in ("first /", "sub index.txt")
             for phase in ("access", "authen")],
        ),
    ],
    ids=["authen", "authz", "module"],
)  # fmt: skip
def test_valid_login_goes_on_working(lines: str, expected: list[str]) -> None:
    with site(FILE + lines + "\nSetHandler none") as server:
        assert get(server, "/").text == "index"
        found = [line for line in seen(server) if line.startswith(expected[0].split()[0]) or "authen" in line]
        assert [line[: len(wanted)] for line, wanted in zip(found, expected, strict=True)] == expected
        for password in ("wrong", None):
            response = get(server, "/", password)
            assert response.status == 401
            assert response.headers.get_all("WWW-Authenticate") == ['Basic realm="realm"']


def test_requirement_of_an_alias_sees_the_index() -> None:
    """httpd reads an alias outside the section that it is used in."""
    outside = '<AuthzProviderAlias python maybe "${SITE}/guards.py::may">\n</AuthzProviderAlias>'
    with site("Require maybe", outside, "a.secret") as server:
        assert [get(server, path).status for path in ("/a.secret", "/", "/open.txt")] == [403, 403, 200]


def test_guard_that_fails_for_the_index_refuses_it() -> None:
    with site("PythonAccessHandler ${SITE}/guards.py::fails") as server:
        server.allow("marker-guard")
        assert get(server, "/open.txt").text == "open"
        assert get(server, "/").status == 500


def test_error_page_is_guarded_too() -> None:
    """As with <Files>; a guard that wants to show it can tell by req.prev."""
    document = "ErrorDocument 403 /sorry.html\nPythonAccessHandler ${SITE}/guards.py::"
    for guard, shown in (("strict", False), ("lenient", True)):
        with site(document + guard) as server:
            response = get(server, "/open.txt")
            assert (response.status, response.text == "so sorry") == (403, shown), guard


def test_error_page_of_a_module_without_guards_is_shown() -> None:
    """PythonHandlerModule names handlers of all phases: what the module does not have guards nothing."""
    lines = "ErrorDocument 401 /sorry.html\nPythonHandlerModule ${SITE}/empty.py\n"
    with site(FILE + lines) as server:
        (server.site / "empty.py").write_text("def loghandler(req):\n    return 0\n")
        response = get(server, "/open.txt", "wrong")
        assert (response.status, response.text) == (401, "so sorry")
        assert response.headers.get_all("WWW-Authenticate") == ['Basic realm="realm"']
        assert get(server, "/").text == "index"


def test_error_page_of_a_module_that_authenticates_is_guarded() -> None:
    lines = "ErrorDocument 401 /sorry.html\nPythonHandlerModule ${SITE}/some.py\n"
    text = HANDLERS.partition("def accesshandler")[0] + "def authenhandler" + HANDLERS.partition("def authenhandler")[2]
    with site(FILE + lines) as server:
        (server.site / "some.py").write_text(text.replace("def handler(", "def other("))
        response = get(server, "/open.txt", "wrong")
        assert (response.status, "so sorry" in response.text) == (401, False)
        assert response.headers.get_all("WWW-Authenticate") == ['Basic realm="realm"']
        assert get(server, "/").text == "index"


@pytest.mark.parametrize(
    "directive", ["PythonInitHandler", "PythonHeaderParserHandler", "PythonAccessHandler", "PythonAuthenHandler"]
)
def test_redirect_before_the_login_needs_the_login(directive: str) -> None:
    """httpd skips the password for a redirect within a section, for it takes the first request for checked."""
    with site(f"{FILE}{directive} ${{SITE}}/guards.py::away") as server:
        for password in (None, "wrong"):
            assert [get(server, path, password).status for path in ("/away.txt", "/open.txt")] == [401, 401]
        assert get(server, "/away.txt").text == "open"


def test_redirect_after_the_login_takes_it_over() -> None:
    lines = FILE.replace("AuthBasicProvider file", "AuthBasicProvider python\nPythonAuthnProvider ${SITE}/guards.py")
    with site(f"{lines}PythonFixupHandler ${{SITE}}/guards.py::away") as server:
        assert get(server, "/away.txt", None).status == 401
        assert get(server, "/away.txt").text == "open"
        assert [line for line in seen(server) if "password" in line] == ["password first away.txt good"]


def test_error_page_after_an_early_refusal_is_shown() -> None:
    """Only what a handler itself redirects is asked for again."""
    lines = f"{FILE}ErrorDocument 403 /sorry.html\nPythonHeaderParserHandler ${{SITE}}/guards.py::lenient"
    with site(lines) as server:
        response = get(server, "/open.txt", None)
        assert (response.status, response.text) == (403, "so sorry")
