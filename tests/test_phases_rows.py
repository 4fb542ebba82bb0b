"""What the statuses and results of handlers do, and which handlers and interpreters are chosen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.servers import running

HANDLERS = """
from mod_python import apache, util

none_name = None

def int_files(req):
    req.write("int files %s" % req.extension, 0)
    return apache.OK

def redirecting(req):
    req.internal_redirect("/ext/something.int")
    return apache.OK

def others(req):
    req.write("others %s" % req.extension, 0)
    return apache.OK

def directory(req):
    req.write(req.hlist.directory, 0)
    return apache.OK

def fix(req):
    req.handler = "mod_python"
    req.handler = None
    req.handler = "mod_python"
    req.add_handler("PythonHandler", "rows::others")
    return apache.OK

def not_allowed(req):
    req.allow_methods(["MKWORKSPACE"])
    req.allow_methods(["MADE-%d" % number for number in range(9)])
    kept = [b"something else %d" % number for number in range(1000)]
    assert len(kept) == 1000
    return apache.HTTP_METHOD_NOT_ALLOWED

def to_dummy(req):
    util.redirect(req, "/dummy", text="elsewhere\\n")

def redirects(req):
    if req.args == "default":
        util.redirect(req, '/a?b="<x>&c'.replace('"', "%22").replace("<", "%3C").replace(">", "%3E"))
    if req.args == "permanent":
        util.redirect(req, "/p", permanent=1)
    if req.args == "late":
        req.write("x")
    try:
        bad = {"line": "/a\\r\\nX-Evil: 1", "blank": "/a b", "type": 5, "wide": "/\\u20ac"}
        util.redirect(req, bad.get(req.args, "/"))
    except (OSError, ValueError, TypeError) as exc:
        req.write(type(exc).__name__, 0)
    return apache.OK

def never(req):
    raise AssertionError("this handler must not run")

def returns_none(req):
    req.content_type = "text/plain"

def returns_text(req):
    return "OK"

def hello(req):
    req.content_type = "text/plain"
    req.write("hello")
    return apache.OK

def auth(req):
    req.user = "ann"
    req.ap_auth_type = "Made-up"
    return note(req)

def note(req):
    req.seen = getattr(req, "seen", []) + ["%s %s %s" % (req.phase, req.auth_type(), req.auth_name())]
    return apache.OK

def show_auth(req):
    note(req)
    req.write("\\n".join(req.seen), 0)
    return apache.OK

def post_read(req):
    if req.uri == "/early":
        req.add_common_vars()
        req.subprocess_env["QUOTES"] = '''"double" and 'single' '''
        assert req.subprocess_env["QUOTES"] == '''"double" and 'single' '''
        values, items = list(req.subprocess_env.values()), list(req.subprocess_env.items())
        assert len(values) == len(items) > 5
        req.write("%s %s" % (req.subprocess_env["SCRIPT_FILENAME"], req.subprocess_env.get("SCRIPT_FILENAME")))
        return apache.DONE
    return apache.OK

def interpreter(req):
    req.content_type = "text/plain"
    req.write("%s|%s" % (req.interpreter, apache.interpreter))
    return apache.DONE
"""

CONFIG = """
DocumentRoot "${SITE}/htdocs"
ServerName rows.example
PythonPath "['${SITE}']+sys.path"
PythonPostReadRequestHandler rows::post_read
<Directory "${SITE}/htdocs">
    AllowOverride None
</Directory>
<Directory "${SITE}/htdocs/ext">
    SetHandler mod_python
    PythonHandler mod_python.publisher | .py
    PythonHandler rows::redirecting | .redirect
    PythonHandler rows::int_files | .int
    PythonHandler rows::others
</Directory>
<Directory "${SITE}/htdocs/files">
    <Files "*.py">
        SetHandler mod_python
        PythonHandler rows::directory
    </Files>
</Directory>
<Directory "${SITE}/htdocs/auth">
    SetHandler mod_python
    AuthType Made-up
    AuthName "the realm"
    Require valid-user
    PythonAuthenHandler rows::auth
    PythonAuthzHandler rows::note
    PythonHandler rows::show_auth
</Directory>
<Directory "${SITE}/htdocs/redirect">
    SetHandler mod_python
    PythonFixupHandler rows::to_dummy rows::never
    PythonHandler rows::never
</Directory>
<LocationMatch "^/$">
    PythonFixupHandler rows::fix
</LocationMatch>
""" + "".join(
    f"""
<Location "/call/{name}">
    SetHandler mod_python
    PythonHandler rows::{name}
    {more}
</Location>"""
    for name, more in [
        ("none_name", ""),
        ("not_allowed", ""),
        ("returns_none", ""),
        ("returns_text", "PythonDebug On"),
        ("hello", ""),
        ("redirects", ""),
    ]
)

FILES = {
    "rows.py": HANDLERS,
    "htdocs/ext/something.int": "x",
    "htdocs/ext/tests.py": """
def name(req):
    return "%s %s of %s, path info %s" % (__name__[-6:], req.extension, req.filename[-8:], req.path_info)
""",
    "htdocs/ext/page.redirect": "x",
    "htdocs/ext/a.b.py": "x",
    "htdocs/files/a.py": "x",
    "htdocs/files/a.txt": "text",
    "htdocs/auth/page": "x",
    "htdocs/redirect/page": "x",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with one place for each behaviour."""
    with running(CONFIG, files=FILES, modules=["mod_authn_core", "mod_authz_core", "mod_authz_user"]) as server:
        yield server


def test_row_3_7_extension_after_an_internal_redirect(server: Server) -> None:
    assert server.get("/ext/page.redirect").text == "int files .int"


def test_row_3_8_extension_of_the_file_part(server: Server) -> None:
    assert server.get("/ext/tests.py/name").text == "_tests .py of tests.py, path info /name"
    assert server.get("/ext/tests/anything").text == "others None"
    assert server.get("/ext/a.b.py").text == "others None"


def test_row_3_9_name_bound_to_none(server: Server) -> None:
    server.allow("is not callable: it is None")
    assert server.get("/call/none_name").status == 500


def test_row_3_13_auth_type_and_name(server: Server) -> None:
    lines = server.get("/auth/page").text.splitlines()
    assert lines[0] == "PythonAuthenHandler Made-up the realm"
    assert set(lines[1:-1]) == {"PythonAuthzHandler Made-up the realm"}
    assert lines[-1] == "PythonHandler Made-up the realm"


def test_row_3_14_common_vars_before_mapping(server: Server) -> None:
    assert server.get("/early").text == "None None"


def test_row_3_16_directory_of_a_files_section(server: Server) -> None:
    assert server.get("/files/a.py").text == f"{server.site}/htdocs/files/"
    assert server.get("/files/a.txt").text == "text"


def test_row_3_17_content_handler_for_the_root(server: Server) -> None:
    assert server.get("/").text == "others None"


def test_row_3_18_allow_methods(server: Server) -> None:
    reply = server.get("/call/not_allowed")
    assert reply.status == 405
    assert "MKWORKSPACE" in reply.headers["Allow"]
    assert reply.headers["Allow"].endswith(",".join(f"MADE-{number}" for number in range(9)))


def test_row_3_19_redirect_in_a_fixup_handler(server: Server) -> None:
    reply = server.get("/redirect/page")
    assert (reply.status, reply.headers["Location"], reply.text) == (302, "/dummy", "elsewhere\n")


@pytest.mark.parametrize(
    ("args", "status", "text"),
    [
        ("default", 302, '<p>The document has moved <a href="/a?b=%22%3Cx%3E&amp;c">here</a>.</p>\n'),
        ("permanent", 301, '<p>The document has moved <a href="/p">here</a>.</p>\n'),
        ("line", 200, "ValueError"),
        ("blank", 200, "ValueError"),
        ("wide", 200, "ValueError"),
        ("type", 200, "TypeError"),
        ("late", 200, "xOSError"),
    ],
)
def test_redirect(server: Server, args: str, status: int, text: str) -> None:
    reply = server.get(f"/call/redirects?{args}")
    assert (reply.status, reply.text) == (status, text)


def test_row_3_23_wrong_results(server: Server) -> None:
    server.allow("returned None")
    assert server.get("/call/returns_none").status == 500
    server.wait_for_log("handler 'rows::returns_none' returned None; it must return a status")
    server.allow("returned a str")
    reply = server.get("/call/returns_text")
    assert reply.status == 500
    assert "returned a str" in reply.text


def test_row_3_24_head(server: Server) -> None:
    reply = server.request("HEAD", "/call/hello")
    assert (reply.status, reply.body, reply.headers["Content-Type"]) == (200, b"", "text/plain")


INTERPRETERS = """
DocumentRoot "${SITE}/htdocs"
PythonPath "['${SITE}']+sys.path"
<VirtualHost *:${PORT}>
    ServerName plain.example
    DocumentRoot "${SITE}/htdocs"
    PythonFixupHandler rows::interpreter
</VirtualHost>
<VirtualHost *:${PORT2}>
    ServerName directory.example
    DocumentRoot "${SITE}/htdocs"
    <Directory "${SITE}/htdocs">
        PythonInterpPerDirectory On
        PythonFixupHandler rows::interpreter
    </Directory>
</VirtualHost>
<VirtualHost *:${PORT3}>
    ServerName directive.example
    DocumentRoot "${SITE}/htdocs"
    <Directory "${SITE}/htdocs">
        PythonInterpPerDirective On
        PythonFixupHandler rows::interpreter
    </Directory>
</VirtualHost>
"""


@pytest.fixture(scope="module")
def hosts() -> Iterator[Server]:
    """Three virtual hosts that name their interpreters in different ways."""
    files = {"rows.py": HANDLERS, "htdocs/subdir/foo.py": "x", "htdocs/x": "x"}
    with running(INTERPRETERS, files=files, listen=3, modules=["mod_dir"], flags={"PythonInterpreter": None}) as server:
        yield server


def names(server: Server, target: str, index: int) -> str:
    one, _, other = server.get(target, index=index).text.partition("|")
    assert one == other
    return one.replace(str(server.site), "SITE")


def test_row_4_1_name_of_the_server(hosts: Server) -> None:
    assert names(hosts, "/x", 0) == "plain.example"


@pytest.mark.parametrize("target", ["/x", "/subdir/foo.py", "/subdir/"])
def test_row_4_2_per_directive(hosts: Server, target: str) -> None:
    assert names(hosts, target, 2) == "SITE/htdocs/"


@pytest.mark.parametrize(
    ("target", "name"),
    [("/x", ""), ("/subdir/foo.py", "subdir/"), ("/subdir/", "subdir/"), ("/subdir", "subdir/")],
)
def test_row_4_3_per_directory(hosts: Server, target: str, name: str) -> None:
    assert names(hosts, target, 1) == f"SITE/htdocs/{name}"
