"""Warnings about sections that do not protect what they seem to: at the start, and when a handler was not called."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.servers import running

HANDLERS = """
from mod_python import apache

def handler(req):
    req.write("served")
    return apache.OK

def accesshandler(req):
    return apache.OK

def authenhandler(req):
    req.user = "somebody"
    return apache.OK

def authzhandler(req):
    return apache.OK
"""
MODULES = [
    "mod_authn_core",
    "mod_authn_file",
    "mod_authz_user",
    "mod_authz_host",
    "mod_auth_basic",
    "mod_access_compat",
]
PYTHON = "SetHandler mod_python\nPythonHandler ${SITE}/h.py\n"
APP = f"<Location /app>\n{PYTHON}</Location>\n"
RULES = {
    "password": "AuthType Basic\nAuthName x\nAuthUserFile ${SITE}/none\nRequire valid-user",
    "denied": "Require all denied",
    "address": "Require ip 192.0.2.1",
    "ban": "<RequireAll>\nRequire all granted\nRequire not ip 192.0.2.1\n</RequireAll>",
    "deny": "Order deny,allow\nDeny from all",
    "allow": "Order deny,allow\nDeny from all\nAllow from 192.0.2.1",
    "python access": "PythonAccessHandler ${SITE}/h.py",
    "python authz": "Require all granted\nPythonAuthzHandler ${SITE}/h.py",
    "in a block": "<IfModule mod_authz_core.c>\nRequire valid-user\n</IfModule>",
}
GRANTED = "Require all granted"


def directory(lines: str, path: str = "${SITE}/h") -> str:
    return f'<Directory "{path}">\n{lines}\n</Directory>\n'


PASSWORD = directory(RULES["password"])
DENIED = directory("AllowOverride None\nRequire all denied", "/")


def app(lines: str) -> str:
    return f"<Location /app>\n{lines}</Location>\n"


#: Configurations of a host that has `${SITE}/h` for its DocumentRoot.
TRAPS = [
    *(directory(lines) + APP for lines in RULES.values()),
    PASSWORD + APP.replace("mod_python", "python-program"),
    PASSWORD + APP.replace("/app", '"/app"'),
    f"{PASSWORD}<LocationMatch ^/app>\n{PYTHON}</LocationMatch>\n",
    f"{PASSWORD}<Location ~ ^/app>\n{PYTHON}</Location>\n",
    f"{PASSWORD}<Location /app/*>\n{PYTHON}</Location>\n",
    f"{PASSWORD}SetHandler mod_python\n" + app("PythonHandler ${SITE}/h.py\n"),
    f"{PASSWORD}<Location />\nSetHandler mod_python\n</Location>\n" + app("PythonHandler ${SITE}/h.py\n"),
    f"{PASSWORD}<IfModule mod_python.c>\n{APP}</IfModule>\n",
    f"{PASSWORD}<Location /elsewhere>\nRequire valid-user\n</Location>\n{APP}",
    directory(RULES["password"], "/") + APP,
    DENIED + PASSWORD + APP,
    directory(GRANTED, "/") + PASSWORD + APP,
    directory(RULES["password"], "${SITE}") + APP,
    directory(RULES["password"], "${SITE}") + directory("Options None") + APP,
]
NO_TRAPS = [
    # What distributions begin with.
    DENIED + APP,
    DENIED + directory(GRANTED) + APP,
    DENIED + directory("Require all granted", "${SITE}") + APP,
    directory("Order deny,allow\nDeny from all", "/") + APP,
    # Rules of something else.
    directory(RULES["password"], "${SITE}/other") + APP,
    directory(GRANTED) + directory(RULES["password"], "${SITE}/h/private") + APP,
    PASSWORD + directory(GRANTED, "${SITE}/h/app") + APP,
    directory(RULES["password"], "${SITE}") + directory(GRANTED) + APP,
    directory(f'{GRANTED}\n<Files "*.secret">\nRequire all denied\n</Files>') + APP,
    directory(f"{GRANTED}\n<If \"%{{HTTP_USER_AGENT}} == 'bad'\">\nRequire all denied\n</If>") + APP,
    directory(f"{GRANTED}\nPythonAccessHandler ${{SITE}}/h.py | .html") + APP,
    directory("Order allow,deny\nAllow from all") + APP,
    f'<DirectoryMatch "^${{SITE}}/h">\n{RULES["password"]}\n</DirectoryMatch>\n{APP}',
    # Rules of its own.
    PASSWORD + app(f"{PYTHON}{GRANTED}\n"),
    PASSWORD + app(f"{PYTHON}{RULES['password']}\n"),
    PASSWORD + app(f"{PYTHON}PythonAccessHandler ${{SITE}}/h.py\n"),
    PASSWORD + app(f"{PYTHON}PythonHandlerModule ${{SITE}}/h.py\n"),
    PASSWORD + app(f"{PYTHON}AuthMerging And\n"),
    PASSWORD + app(f"{PYTHON}Order deny,allow\nAllow from all\n"),
    PASSWORD + app(f"{PYTHON}<RequireAny>\nRequire ip 127.0.0.1\n</RequireAny>\n"),
    PASSWORD + app(f"{PYTHON}<Limit GET>\nRequire valid-user\n</Limit>\n"),
    PASSWORD + APP + app(GRANTED + "\n"),
    PASSWORD + APP + "<Location />\nRequire all granted\n</Location>\n",
    PASSWORD + APP + "<LocationMatch ^/a>\nRequire all granted\n</LocationMatch>\n",
    PASSWORD + APP + "PythonAccessHandler ${SITE}/h.py\n",
    # Where httpd looks for files, or nothing of Python answers.
    PASSWORD + app("SetHandler mod_python\nPythonHandler mod_python.publisher\n"),
    PASSWORD + app("SetHandler mod_python\nPythonHandler ${SITE}/h.py | .x\n"),
    PASSWORD + app("PythonHandler ${SITE}/h.py\n"),
    PASSWORD + app("SetHandler server-status\nPythonHandler ${SITE}/h.py\n"),
    PASSWORD + PYTHON,
    directory(f"{RULES['password']}\n{PYTHON}"),
    PASSWORD + 'Alias /app "${SITE}/other"\n' + APP,
]


def warnings(server: Server) -> list[str]:
    return [line for line in server.error_log.splitlines() if "is not protected by" in line]


@pytest.fixture(scope="module")
def found() -> Iterator[list[str]]:
    """The warnings of a server that has a host for each of the configurations; each has locations of its own."""
    config = "<VirtualHost *:${PORT}>\nServerName first\n</VirtualHost>\n"
    for number, lines in enumerate(TRAPS + NO_TRAPS):
        own = lines.replace("/app", f"/app-{number}-")
        config += f"<VirtualHost *:${{PORT}}>\nServerName h{number}\nDocumentRoot ${{SITE}}/h\n{own}</VirtualHost>\n"
    with running(config, files={"h.py": HANDLERS, "h/x": "x", "other/x": "x"}, modules=MODULES) as server:
        server.get("/")
        yield warnings(server)


@pytest.mark.parametrize("number", range(len(TRAPS)))
def test_location_without_the_rules_of_the_document_root(found: list[str], number: int) -> None:
    (line,) = [line for line in found if f"/app-{number}-" in line]
    assert "[python:warn]" in line
    # Both sections are named, with file and line.
    assert line.count("httpd.conf:") == 2
    assert "<Location" in line
    assert "<Directory" in line


@pytest.mark.parametrize("number", range(len(NO_TRAPS)))
def test_nothing_is_said(found: list[str], number: int) -> None:
    assert [line for line in found if f"/app-{number + len(TRAPS)}-" in line] == []


def test_section_of_the_main_server_is_named_once() -> None:
    hosts = "".join(
        f"<VirtualHost *:${{PORT}}>\nServerName {name}\nDocumentRoot ${{SITE}}/{root}\n</VirtualHost>\n"
        for name, root in (("a", "open"), ("b", "h"), ("c", "h"))
    )
    files = {"h.py": HANDLERS, "h/x": "x", "open/x": "x"}
    with running(PASSWORD + APP + hosts, files=files, modules=MODULES) as server:
        assert server.get("/app", {"Host": "b"}).text == "served"  # what the warning is about
        assert server.get("/x", {"Host": "b"}).status == 401
        assert len(warnings(server)) == 1
        server.graceful()
        assert len(warnings(server)) == 2


# ---- PythonAuthenHandler -------------------------------------------------------


def not_called(server: Server) -> list[str]:
    return [line for line in server.error_log.splitlines() if "was not called for this request" in line]


AUTHEN = "AuthType Basic\nAuthName x\nPythonAuthenHandler ${SITE}/h.py\n"


@pytest.mark.parametrize("place", ["directory", "location", "server", "htaccess"])
def test_authentication_handler_without_require(place: str) -> None:
    files = {"h.py": HANDLERS, "h/x": "x"}
    config = "DocumentRoot ${SITE}/h\n"
    if place == "directory":
        config += directory(AUTHEN + GRANTED)
    elif place == "location":
        config += directory(GRANTED) + f"<Location />\n{AUTHEN}</Location>\n"
    elif place == "server":
        config += directory(GRANTED) + "PythonAuthenHandler ${SITE}/h.py\n"
    else:
        config += directory(GRANTED + "\nAllowOverride All")
        files["h/.htaccess"] = GRANTED + "\n"
    with running(config, files=files, modules=MODULES, processes=1) as server:
        if place == "htaccess":
            (server.site / "h/.htaccess").write_text(AUTHEN.replace("${SITE}", str(server.site)))
        for _ in range(20):
            assert server.get("/x").text == "x"
        found = not_called(server)
        # Once in a child, however many requests there are.
        assert 1 <= len(found) <= len(server.children())
        assert "[python:warn]" in found[0]
        assert f"PythonAuthenHandler {server.site}/h.py of " in found[0]
        assert "Require valid-user" in found[0]
        expected = {"server": "the server", "htaccess": "the .htaccess file of ", "location": "<Location /> ("}
        assert f" of {expected.get(place, '<Directory ')}" in found[0]


@pytest.mark.parametrize(
    "config",
    [
        directory(AUTHEN + "Require valid-user"),
        directory(AUTHEN + "<RequireAny>\nRequire ip 127.0.0.1\nRequire valid-user\n</RequireAny>"),
        directory(AUTHEN + "<Limit POST>\nRequire valid-user\n</Limit>"),
        directory(AUTHEN + GRANTED) + directory("Require user x", "${SITE}/h/private"),
        directory(AUTHEN + "Require valid-user\nSatisfy Any\nOrder deny,allow\nAllow from all"),
        directory(GRANTED) + "PythonAuthenHandler ${SITE}/h.py\n<Location /private>\nRequire user x\n</Location>\n",
        directory(f"PythonHandlerModule ${{SITE}}/h.py\n{GRANTED}"),
        directory(f"PythonAuthenHandler ${{SITE}}/h.py | .html\n{GRANTED}"),
    ],
)
def test_nothing_is_said_of_authentication_handlers(config: str) -> None:
    with running("DocumentRoot ${SITE}/h\n" + config, files={"h.py": HANDLERS, "h/x": "x"}, modules=MODULES) as server:
        headers = {"Authorization": "Basic " + base64.b64encode(b"a:b").decode()}
        assert server.get("/x", headers).status == 200
        assert not_called(server) == []
