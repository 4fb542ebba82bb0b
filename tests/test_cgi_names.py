"""Names of CGI say something about the request, whatever environment httpd was started with."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from unittest import mock

import pytest

from mod_python._cgi import is_cgi_name
from mod_python.testing import Server
from tests.servers import running

# What no request without login, TLS, body and path info has.
ABSENT = (
    *("AUTH_TYPE", "CONTENT_LENGTH", "CONTENT_TYPE", "HTTPS", "HTTP_AUTHORIZATION", "HTTP_COOKIE", "HTTP_PROXY"),
    *("HTTP_X_FORWARDED_FOR", "PATH_INFO", "PATH_TRANSLATED", "REDIRECT_STATUS", "REDIRECT_URL", "REMOTE_HOST"),
    *("REMOTE_IDENT", "REMOTE_USER", "SSL_CLIENT_S_DN", "SSL_CLIENT_VERIFY", "SSL_PROTOCOL", "SSL_TLS_SNI"),
    *("HTTP2", "H2_STREAM_ID", "UNIQUE_ID", "SERVER_SECRET", "REQUEST_BODY", "SCRIPT_OWNER"),
)
# What every request has.
PRESENT = {
    "DOCUMENT_ROOT": None,
    "GATEWAY_INTERFACE": None,
    "QUERY_STRING": "q=1",
    "REMOTE_ADDR": "127.0.0.1",
    "REMOTE_PORT": None,
    "REQUEST_METHOD": "GET",
    "REQUEST_SCHEME": "http",
    "REQUEST_URI": None,
    "SCRIPT_FILENAME": None,
    "SCRIPT_NAME": None,
    "SERVER_ADDR": "127.0.0.1",
    "SERVER_NAME": None,
    "SERVER_PORT": None,
    "SERVER_PROTOCOL": "HTTP/1.1",
    "SERVER_SOFTWARE": None,
}
EVIL = "of-the-server"
KEPT = {"DATABASE_URL": "db://x", "SSL_CERT_FILE": "/etc/ssl/some.pem", "http_proxy": "http://proxy:3128"}

SITE = {
    "lib/consumers.py": r"""
import os
from mod_python import apache

def handler(req):
    name = req.uri.split("/")[1]
    req.content_type = "text/plain"
    if name == "build_cgi_env":
        req.write(repr(dict(apache.build_cgi_env(req).items())))
    elif name == "subprocess_env":
        req.add_cgi_vars()
        req.write(repr(dict(req.subprocess_env.items())))
    elif name == "setup_cgi":
        before = dict(os.environ)
        saved = apache.setup_cgi(req)
        try:
            found = dict(os.environ)
        finally:
            apache.restore_nocgi(*saved)
        assert dict(os.environ) == before
        req.write(repr(found))
    return apache.OK

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [repr({name: value for name, value in environ.items() if isinstance(value, str)}).encode()]
""",
    "docs/script.py": 'import os\nprint("Content-Type: text/plain\\n")\nprint(dict(os.environ))\n',
    "docs/page.shtml": '<!--#python exec="print(repr(dict(filter.req.subprocess_env.items())), file=filter)" -->',
}
CONFIG = """
PythonPath "['${SITE}/lib']+sys.path"
DocumentRoot "${SITE}/docs"
SetEnv SERVER_FROM_CONFIG set
PassEnv CONTENT_PASSED
<Files "*.py">
    SetHandler mod_python
    PythonHandler mod_python.cgihandler
</Files>
<Files "*.shtml">
    Options +Includes
    SetOutputFilter INCLUDES
</Files>
<LocationMatch "^/(build_cgi_env|setup_cgi|subprocess_env)">
    SetHandler mod_python
    PythonHandler consumers
</LocationMatch>
<Location "/wsgi">
    SetHandler mod_python
    PythonHandler mod_python.wsgi
    PythonOption mod_python.wsgi.application consumers::application
</Location>
"""
CONSUMERS = {
    "cgihandler": "/script.py",
    "setup_cgi": "/setup_cgi",
    "build_cgi_env": "/build_cgi_env",
    "subprocess_env": "/subprocess_env",
    "wsgi": "/wsgi",
    "ssi": "/page.shtml",
}
# These have the server's environment otherwise.
WITH_ENVIRONMENT = ("cgihandler", "setup_cgi")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    evil = dict.fromkeys((*ABSENT, *PRESENT), EVIL)
    with (
        mock.patch.dict(os.environ, {**evil, **KEPT, "CONTENT_PASSED": "passed"}),
        running(CONFIG, files=SITE, modules=["mod_env", "mod_include"]) as server,
    ):
        yield server


def variables(server: Server, consumer: str, fields: dict[str, str] | None = None) -> dict[str, str]:
    response = server.get(CONSUMERS[consumer] + "?q=1", fields or {})
    assert response.status == 200
    found = ast.literal_eval(response.text)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("consumer", CONSUMERS)
@pytest.mark.parametrize("name", ABSENT)
def test_a_variable_that_the_request_has_not(server: Server, name: str, consumer: str) -> None:
    # An empty value says the same: WSGI and CGI have PATH_INFO always.
    assert variables(server, consumer).get(name, "") == ""


@pytest.mark.parametrize("consumer", CONSUMERS)
@pytest.mark.parametrize("name", PRESENT)
def test_a_variable_of_the_request(server: Server, name: str, consumer: str) -> None:
    found = variables(server, consumer)
    if consumer == "ssi" and name not in found:
        return  # mod_include adds those of CGI itself only where a page asks for them
    assert found.get(name) != EVIL
    assert PRESENT[name] in (None, found.get(name))


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_variables_that_the_configuration_gives_stay(server: Server, consumer: str) -> None:
    found = variables(server, consumer)
    assert (found["SERVER_FROM_CONFIG"], found["CONTENT_PASSED"]) == ("set", "passed")


@pytest.mark.parametrize("consumer", WITH_ENVIRONMENT)
def test_the_rest_of_the_environment_stays(server: Server, consumer: str) -> None:
    found = variables(server, consumer)
    assert {name: found.get(name) for name in KEPT} == KEPT


@pytest.mark.parametrize("consumer", CONSUMERS)
def test_a_client_chooses_no_proxy(server: Server, consumer: str) -> None:
    found = variables(server, consumer, {"Proxy": "http://evil:1", "X-Mine": "a"})
    assert "HTTP_PROXY" not in found
    assert found["HTTP_X_MINE"] == "a"


def test_the_names() -> None:
    assert all(is_cgi_name(name) for name in (*ABSENT, *PRESENT))
    assert not any(is_cgi_name(name) for name in (*KEPT, "PATH", "HOME", "TMPDIR", "LANG", "SSLKEYLOGFILE", "SSL"))
