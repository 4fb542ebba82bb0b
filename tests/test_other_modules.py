"""Python handlers among httpd's other modules: what these look at must be there."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from mod_python.httpd.find import find_httpd
from mod_python.testing import Server
from tests.servers import running

HANDLERS = """
import json
from mod_python import apache

def handler(req):
    req.content_type = "text/html"
    req.write(json.dumps({"uri": req.uri, "file": req.filename, "info": req.path_info}), 0)
    return apache.OK

def flushed(req):
    req.content_type = "text/html"
    req.write("[")
    req.write("python of %s" % req.uri)
    req.write("]")
    return apache.OK

def declines(req):
    return apache.DECLINED

def fails(req):
    return int(req.args)

def raises(req):
    raise ValueError("on purpose")

def error_page(req):
    req.content_type = "text/plain"
    req.write("error %s of %s" % (req.prev.status, req.prev.uri), 0)
    return apache.OK

def error_page_flushed(req):
    req.content_type = "text/plain"
    req.write("error %s of %s" % (req.prev.status, req.prev.uri))
    return apache.OK

def authenhandler(req):
    return apache.HTTP_UNAUTHORIZED

def redirects(req):
    req.internal_redirect("/py/target")
    return apache.OK
"""

CONFIG = """
DocumentRoot "${SITE}"
PythonPath "['${SITE}']+sys.path"
<Directory "${SITE}">
    Options All +MultiViews
    CheckSpelling On
    DirectoryIndex index.html index.pyx
    AddHandler mod_python .pyx
    PythonHandler handlers::flushed
    AddOutputFilter INCLUDES .shtml
    AddType text/html .shtml
</Directory>
<Location "/py">
    Options All +MultiViews
    CheckSpelling On
    CheckCaseOnly Off
    RewriteEngine On
    RewriteRule ^nothing - [F]
    RewriteCond %{REQUEST_FILENAME} -f
    RewriteRule xyz - [F]
    FallbackResource /py/fallback
    AddDefaultCharset UTF-8
    ExpiresActive On
    AddOutputFilterByType DEFLATE text/html
    MetaFiles On
    SetHandler mod_python
    PythonHandler handlers
</Location>
<Location "/flushed">
    SetHandler mod_python
    PythonHandler handlers::flushed
</Location>
<Location "/declines">
    Options All +MultiViews
    SetHandler mod_python
    PythonHandler handlers::declines
</Location>
<Location "/fails">
    SetHandler mod_python
    PythonHandler handlers::fails
    ErrorDocument 404 /errors/page
    ErrorDocument 500 /errors/flushed
    ErrorDocument 403 /fails?500
</Location>
<Location "/raises">
    SetHandler mod_python
    PythonHandler handlers::raises
    ErrorDocument 500 /errors/page
</Location>
<Location "/loop">
    SetHandler mod_python
    PythonHandler handlers::raises
    ErrorDocument 500 /loop/again
</Location>
<Location "/errors/page">
    SetHandler mod_python
    PythonHandler handlers::error_page
</Location>
<Location "/errors/flushed">
    SetHandler mod_python
    PythonHandler handlers::error_page_flushed
</Location>
<Location "/secret">
    AuthType Basic
    AuthName "x"
    Require valid-user
    PythonAuthenHandler handlers
    ErrorDocument 401 /errors/page
    SetHandler mod_python
    PythonHandler handlers
</Location>
<Location "/redirects">
    PythonHandler handlers::redirects
    SetHandler mod_python
</Location>
"""

MODULES = """
    actions alias auth_basic auth_digest authn_core authn_file authn_anon authz_core authz_user authz_host
    authz_groupfile authz_owner authz_dbm access_compat autoindex cern_meta dav dav_fs deflate dir env expires
    ext_filter filter headers include info mime mime_magic negotiation rewrite setenvif speling status substitute
    unique_id userdir usertrack vhost_alias cache cache_disk socache_shmcb cgid request session session_cookie
    remoteip proxy proxy_http allowmethods asis brotli imagemap logio ident reqtimeout ratelimit suexec
""".split()  # noqa: SIM905

#: What the server has anyway, and what its configuration cannot do without.
NEEDED = ("mod_include", "mod_speling", "mod_negotiation", "mod_rewrite", "mod_dir", "mod_mime", "mod_deflate")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with most of httpd's modules, some of them at work in all sections."""
    httpd = find_httpd()
    lacking = [name for name in NEEDED if not httpd.has_module(name)]
    if lacking:
        pytest.skip(f"this httpd has no {', '.join(lacking)}")
    modules = [f"mod_{name}" for name in MODULES if httpd.has_module(f"mod_{name}")]
    config = "\n".join(
        line for line in CONFIG.splitlines() if "MetaFiles" not in line or httpd.has_module("mod_cern_meta")
    )
    files: dict[str, str | bytes] = {
        "handlers.py": HANDLERS,
        "index.pyx": "",
        "sub/index.pyx": "",
        "found.pyx": "",
        "py/x.html": "a file",
        "page.shtml": '<!--#include virtual="/py/in?x=1" -->|<!--#include virtual="/flushed/in" -->|'
        '<!--#include virtual="/found.pyx" -->|<!--#include virtual="/fails?404" -->|'
        '<!--#include virtual="/raises" -->|<!--#include virtual="/redirects" -->',
    }
    with running(config, files=files, modules=modules) as server:
        yield server


@pytest.mark.parametrize("path", ["/py", "/py/", "/py/x", "/py/x.html", "/py/a/b/c.txt", "/py/index", "/py/X.html"])
def test_content_in_a_location(server: Server, path: str) -> None:
    answer = server.get(path)
    assert answer.status == 200
    assert json.loads(answer.text) == {"uri": path, "file": None, "info": None}


def test_declined_in_a_location(server: Server) -> None:
    assert server.get("/declines/x").status == 404


@pytest.mark.parametrize("path", ["/", "/sub/", "/found.pyx"])
def test_content_of_files(server: Server, path: str) -> None:
    answer = server.get(path)
    assert answer.status == 200
    assert answer.text.startswith("[python of ")


def test_misspelt(server: Server) -> None:
    assert server.get("/fuond.pyx").status == 301


def test_included_pages(server: Server) -> None:
    server.allow("on purpose")
    server.allow("unable to include")
    error = "[an error occurred while processing this directive]"
    target = '{"uri": "/py/%s", "file": null, "info": null}'
    expected = [target % "in", "[python of /flushed/in]", "[python of /found.pyx]", error, error, target % "target"]
    assert server.get("/page.shtml").text == "|".join(expected)


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/fails?404", 404, "error 404 of /fails"),
        ("/fails?500", 500, "error 500 of /fails"),
        ("/fails?403", 403, "Additionally, a 403 Forbidden"),
        ("/raises", 500, "error 500 of /raises"),
        ("/loop", 500, "Additionally, a 500 Internal Server Error"),
        ("/secret", 401, "error 401 of /secret"),
    ],
)
def test_error_documents(server: Server, path: str, status: int, text: str) -> None:
    server.allow("on purpose")
    answer = server.get(path)
    assert answer.status == status
    assert text in answer.text
