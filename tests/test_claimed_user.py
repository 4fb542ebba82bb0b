"""The user that a request claims is not an authenticated user, whichever handler has read the claim.

`get_basic_auth_pw()` sets `req.user` before anybody has checked the password. httpd's authorisation, and
whoever reads REMOTE_USER, must not meet that name (the class of CVE-2017-3167).
"""

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

def early(req):
    req.get_basic_auth_pw()
    if req.ap_auth_type:
        req.headers_out["X-Read"] = req.user
    return apache.OK

def declines(req):
    early(req)
    return apache.DECLINED

def reads(filter):
    early(filter.req)
    filter.pass_on()

def authorize(req, text):
    early(req)
    return True

def refuse(req, text):
    early(req)
    return False

def logs(req):
    req.log_error("log handler: %r" % req.user, apache.APLOG_NOTICE)
    return apache.OK

def decides(req):
    req.user = "good"
    return apache.OK

def checks(req):
    password = req.get_basic_auth_pw()
    return apache.OK if (req.user, password) == ("good", "right") else apache.HTTP_UNAUTHORIZED

def passes_on(req):
    req.get_basic_auth_pw()
    return apache.DECLINED

def shows(req):
    req.add_cgi_vars()
    req.write(ascii([req.user, req.ap_auth_type, req.subprocess_env.get("REMOTE_USER")]))
    return apache.OK

def own(req):
    password = req.get_basic_auth_pw()
    req.write(ascii([req.user, password]))
    return apache.OK
"""

#: What a handler of an early phase is configured with: inside the directories, or for the server.
SECTION = {
    "init": "PythonInitHandler ${SITE}/handlers.py::early",
    "header": "PythonHeaderParserHandler ${SITE}/handlers.py::early",
    "access": "PythonAccessHandler ${SITE}/handlers.py::early",
    "access declined": "PythonAccessHandler ${SITE}/handlers.py::declines",
    "filter": "SetInputFilter READS",
}
SERVER = {
    "post-read": "PythonPostReadRequestHandler ${SITE}/handlers.py::early",
    "server init": "PythonInitHandler ${SITE}/handlers.py::early",
    "quick": "PythonQuickHandler ${SITE}/handlers.py::declines",
    "trans": "PythonTransHandler ${SITE}/handlers.py::declines",
    "map": "PythonMapToStorageHandler ${SITE}/handlers.py::declines",
}

#: What a user has to be, by directory.
REQUIRE = {
    "user": "Require user good",
    "valid": "Require valid-user",
    "expr": "Require expr %{REMOTE_USER} == 'good'",
    "python": "<RequireAll>\nRequire python ${SITE}/handlers.py::authorize\nRequire user good\n</RequireAll>",
}

BASIC = """
AuthType Basic
AuthName realm
AuthBasicProvider file
AuthUserFile ${SITE}/passwords
"""

MODULES = ["mod_authn_core", "mod_authn_file", "mod_authz_user", "mod_auth_basic"]
FILTER = "PythonInputFilter ${SITE}/handlers.py::reads READS\n"


def directory(name: str, lines: str) -> str:
    return f"<Directory ${{SITE}}/pages/{name}>\n{lines}\n</Directory>\n"


@contextlib.contextmanager
def site(config: str, *names: str) -> Iterator[Server]:
    """Run a server with a file in each of some directories."""
    digest = base64.b64encode(hashlib.sha1(b"right").digest()).decode()
    files = {"handlers.py": HANDLERS, "passwords": f"good:{{SHA}}{digest}\n"}
    files |= {f"pages/{name}/page.txt": "SECRET" for name in names}
    with running(f"DocumentRoot ${{SITE}}/pages\n{FILTER}{config}", files=files, modules=MODULES) as server:
        yield server


def get(server: Server, path: str, password: str | None, user: str = "good") -> Response:
    headers = {}
    if password is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    return server.get(path, headers)


@pytest.mark.parametrize(
    ("section", "server_wide"),
    [
        *(pytest.param(line, "", id=name) for name, line in SECTION.items()),
        *(pytest.param("", line, id=name) for name, line in SERVER.items()),
        pytest.param("", "", id="nobody"),
    ],
)
def test_password_is_checked_whoever_has_read_it(section: str, server_wide: str) -> None:
    sections = "".join(directory(name, BASIC + require + "\n" + section) for name, require in REQUIRE.items())
    with site(server_wide + "\n" + sections, *REQUIRE) as server:
        for name in REQUIRE:
            path = f"/{name}/page.txt"
            assert [get(server, path, password).status for password in (None, "wrong", "", "right")] == [
                401, 401, 401, 200,
            ], name  # fmt: skip
            assert get(server, path, "right", "other").status == 401, name
        if "Access" in section and "early" in section:
            assert get(server, "/user/page.txt", "right").headers["X-Read"] == "good"


def test_a_provider_that_reads_does_not_grant() -> None:
    """The order of the requirements does not matter, nor that another one is met."""
    ways = {
        "any": "<RequireAny>\nRequire python ${SITE}/handlers.py::refuse\nRequire user good\n</RequireAny>",
        "none": "Require not python ${SITE}/handlers.py::refuse\nRequire user good",
    }
    ways["none"] = f"<RequireAll>\n{ways['none']}\n</RequireAll>"
    sections = "".join(directory(name, BASIC + require) for name, require in ways.items())
    with site(sections, *ways) as server:
        for name in ways:
            found = [get(server, f"/{name}/page.txt", password).status for password in (None, "wrong", "right")]
            assert found == [401, 401, 200], name


SHOWS = "SetHandler mod_python\nPythonHandler ${SITE}/handlers.py::shows\n"


def test_claimed_user_is_not_shown_to_later_handlers() -> None:
    """REMOTE_USER is for authenticated users, where everybody is let in, too."""
    sections = {
        "access": "PythonAccessHandler ${SITE}/handlers.py::early",
        "type": "PythonTypeHandler ${SITE}/handlers.py::declines",
        "fixup": "PythonFixupHandler ${SITE}/handlers.py::early",
        "header": "PythonHeaderParserHandler ${SITE}/handlers.py::early",
    }
    config = "".join(
        directory(name, f"AuthType Basic\nAuthName realm\nRequire all granted\n{SHOWS}{lines}")
        for name, lines in sections.items()
    )
    with site(config, *sections) as server:
        for name in sections:
            assert get(server, f"/{name}/x", "wrong").text == ascii([None, None, None]), name


def test_what_a_handler_decides_stays() -> None:
    """An authentication handler that succeeds vouches for the user; so does a handler that sets it."""
    declared = "AuthType Basic\nAuthName realm\n"
    sections = {
        "authen": declared + "Require user good\nPythonAuthenHandler ${SITE}/handlers.py::checks",
        "passed": BASIC + "Require user good\nPythonAuthenHandler ${SITE}/handlers.py::passes_on",
        "authz": BASIC + "Require user good\nPythonAuthzHandler ${SITE}/handlers.py::passes_on",
        "set": declared + "Require user good\nPythonAccessHandler ${SITE}/handlers.py::decides",
    }
    config = "".join(directory(name, SHOWS + lines) for name, lines in sections.items())
    with site(config, *sections) as server:
        for name in ("authen", "passed", "authz"):
            assert get(server, f"/{name}/x", "wrong").status == 401, name
            assert get(server, f"/{name}/x", "right").text == ascii(["good", "Basic", "good"]), name
        assert get(server, "/set/x", None).text == ascii(["good", None, "good"])


def test_content_handler_reads_and_logs_the_claim() -> None:
    """It decides by itself, after all access control, and its access log names the user."""
    lines = "AuthType Basic\nAuthName realm\nRequire all granted\n" + SHOWS.replace("::shows", "::own")
    log = "PythonLogHandler ${SITE}/handlers.py::logs\n"
    with site(directory("own", lines + log), "own") as server:
        assert get(server, "/own/x", "any").text == ascii(["good", "any"])
        server.wait_for_log("log handler: 'good'")
