"""What the test page and the reports of errors do not show."""

from __future__ import annotations

import os
from collections.abc import Iterator
from unittest import mock

import pytest

from mod_python import _secrets
from mod_python.testing import Server
from tests.servers import running

# PASSWORD stands for what must not be seen; the base64 text is b"PASSWORD".
TEXTS = (
    "redis://user:PASSWORD@host/0",
    "redis://:PASSWORD@host/0",
    "postgresql+psycopg://user:PASS/PASSWORD@PASSWORD@host/db?sslmode=require",
    "amqp://a:PASSWORD@one,amqp://b:PASSWORD@two",
    "https://PASSWORD@example.com/repository.git",
    "cannot connect to mysql://root:PASSWORD@db: refused",
    "host=db user=u password=PASSWORD dbname=d",
    "host=db user=u password='PASSWORD and more' dbname=d",
    "Server=db;Uid=u;Pwd=PASSWORD;",
    '{"user": "u", "password": "PASSWORD"}',
    "{'password': 'PASSWORD'}",
    "{'client_secret': b'PASSWORD'}",
    "/callback?state=1&access_token=PASSWORD&x=2",
    "api_key = PASSWORD",
    "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=PASSWORD==;",
    "signing_key='PASSWORD'",
    "dict(user='u', pw='PASSWORD')",
    'password = """PASSWORD"""',
    "password = '''PASSWORD's'''",
    "pysid=PASSWORD",
    "ghp_PASSWORD0123456789",
    "sk_live_PASSWORD0123456789",
    "Authorization: Basic UEFTU1dPUkQ=",
    "{'Authorization': 'Basic UEFTU1dPUkQ='}",
    "Authorization: Digest username=u, response=PASSWORD",
    "Cookie: session=PASSWORD; other=PASSWORD",
    "Set-Cookie: session=PASSWORD",
    "X-Api-Key: PASSWORD",
    "sent Bearer PASSWORD to the server",
    "eyJQQVNTV09SRA.eyJQQVNTV09SRA.PASSWORD",
    "session-eyJQQVNTV09SRA.eyJQQVNTV09SRA.PASSWORD",
    "-----BEGIN RSA PRIVATE KEY-----\nPASSWORD\n-----END RSA PRIVATE KEY-----",
)
PLAIN = (
    "http://localhost:8000/path?q=1",
    "postgresql://user@host/db",
    "user@example.com",
    "KeyError: 'password'",
    "tokenize.TokenError: ('EOF in multi-line statement', (2, 0))",
    "http.cookies.CookieError: Illegal key 'x'",
    "Basic authentication failed",
    "the password is wrong",
    "compass=north",
    "pwned=no",
    "key=value",
)
NAMES = (
    *("Authorization", "Proxy-Authorization", "Cookie", "HTTP_COOKIE", "db.Password", "PGPASSWORD", "MYSQL_PWD"),
    *("AWS_SECRET_ACCESS_KEY", "mod_python.session.secret", "X-Api-Key", "app.key", "GITHUB_TOKEN", "DB_PASS"),
    *("SSL_SESSION_ID", "password_salt", "smtp-passwd"),
)
PLAIN_NAMES = ("PATH", "PWD", "OLDPWD", "DATABASE_URL", "Host", "monkey", "keyboard", "REMOTE_ADDR", "bypass", "Accept")


def seen(text: str) -> bool:
    return any(secret in text for secret in ("PASSWORD", "UEFTU1dPUkQ", "QQVNTV09SRA"))


@pytest.mark.parametrize("text", TEXTS)
def test_a_value_that_looks_like_a_secret(text: str) -> None:
    assert not seen(_secrets.hide_in(text))
    assert not seen(_secrets.hide_in(f"before {text} after"))
    assert not seen(_secrets.hide_in_traceback(f"ValueError: {text}"))


@pytest.mark.parametrize("text", PLAIN)
def test_other_texts_are_left_alone(text: str) -> None:
    assert _secrets.hide_in(text) == text
    assert _secrets.hide_in_traceback(text) == text


def test_names() -> None:
    assert [name for name in NAMES if not _secrets.is_secret(name)] == []
    assert [name for name in PLAIN_NAMES if _secrets.is_secret(name)] == []
    assert _secrets.hide("Cookie", "a=1") == _secrets.HIDDEN
    assert _secrets.hide("Host", "localhost") == "localhost"
    assert _secrets.hide("Cookie", None) is None


def test_tracebacks_of_groups_and_strings_in_sources() -> None:
    text = """\
  + Exception Group Traceback (most recent call last):
  |   File "/srv/app/page.py", line 1, in page
  |     open("/file?token=PASSWORD", password=given)
  | ExceptionGroup: two (1 sub-exception)
  +-+---------------- 1 ----------------
    | ValueError: password=PASSWORD
    +------------------------------------
"""
    shown = _secrets.hide_in_traceback(text)
    assert not seen(shown)
    assert '  |     open("/file?token=(not shown)", password=given)\n' in shown
    assert "    | ValueError: password=(not shown)\n" in shown


def test_what_stays_of_a_url() -> None:
    assert _secrets.hide_in("redis://user:x@host:1/0 and more") == "redis://user:(not shown)@host:1/0 and more"


def test_expressions_in_source_stay() -> None:
    text = '    connect(password="PASSWORD", token=find(token))\n    ^^^^^^^\nValueError: password=PASSWORD'
    found = _secrets.hide_in_traceback(text)
    assert not seen(found)
    assert "token=find(token)" in found


@pytest.mark.parametrize(
    "piece",
    [
        *("a", "://a:", "password", "password=", "token:'\\", 'pwd="'),
        *("eyJa", "eyJ-", "eyJ.", "x-", "basic A", "cookie"),
    ],
)
def test_long_texts_end(piece: str) -> None:
    """No pattern takes time that grows with the square of what a client sends: 2**40 steps would not end."""
    _secrets.hide_in(piece * (2**20 // len(piece)))


CONFIG = """
PassEnv DATABASE_URL
PassEnv SOME_DSN
PythonOption mod_python.redis_session.url redis://user:PASSWORD@host/0
PythonOption app.key PASSWORD
<Location "/test">
    SetHandler mod_python
    PythonHandler mod_python.testhandler
    PythonOption mod_python.testhandler.view_log On
    PythonOption mod_python.testhandler.config_tree On
</Location>
<Location "/fails">
    SetHandler mod_python
    PythonHandler ${SITE}/fails.py
    PythonDebug On
</Location>
DocumentRoot ${SITE}
<Files "page.shtml">
    Options +Includes
    SetOutputFilter INCLUDES
    PythonDebug On
</Files>
"""
PAGE = """<!--#python exec="raise ValueError('redis://user:PASS' + 'WORD@host/0')" -->"""
FAILS = """
from mod_python import apache

def connect(url, password=None):
    raise ValueError(f"cannot connect to {url}, password={password!r}")

def handler(req):
    connect(
        "redis://user:" + "PASS" + "WORD" + "@host/0", password="PASS" "WORD")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    environ = {"DATABASE_URL": "postgresql://user:PASSWORD@host/db", "SOME_DSN": "host=db password=PASSWORD"}
    with (
        mock.patch.dict(os.environ, environ),
        running(CONFIG, files={"fails.py": FAILS, "page.shtml": PAGE}, modules=["mod_env", "mod_include"]) as server,
    ):
        yield server


def test_the_test_page(server: Server) -> None:
    headers = {"X-Link": "https://me:PASSWORD@example.com/", "Authorization": "Bearer PASSWORD"}
    response = server.get("/test?view_log=1&password=PASSWORD", headers)
    assert response.status == 200
    for name in ("DATABASE_URL", "SOME_DSN", "mod_python.redis_session.url", "app.key", "X-Link"):
        assert name in response.text
    assert not seen(response.text)


@pytest.mark.parametrize("accept", ["text/html", "text/plain"])
def test_the_report_of_an_error(server: Server, accept: str) -> None:
    response = server.get("/fails", {"Accept": accept})
    assert response.status == 500
    assert "cannot connect to redis://user:(not shown)@host/0" in response.text
    assert not seen(response.text)
    server.allow("cannot connect")
    server.wait_for_log("ValueError: cannot connect to redis://user:PASSWORD@host/0")


def test_the_report_of_an_element_of_a_page(server: Server) -> None:
    response = server.get("/page.shtml")
    assert "ValueError: redis://user:(not shown)@host/0" in response.text
    assert not seen(response.text)
    server.allow("ValueError: redis")
