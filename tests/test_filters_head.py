"""Output filters are called before the head of a response leaves: sources of output × filters.

Whoever makes the output, and however often it is flushed, the headers that a filter sets are sent, those that it
makes wrong are not, and the next response on the connection is where it should be.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.framing import NEXT, Answer, Reader
from tests.servers import running

MODULE = """
import time
from mod_python import apache, psp

# -- sources: each sends "hello world" and says how long that is

def begins(req):
    req.content_type = "text/plain"
    req.headers_out["Content-MD5"] = "XrY7u+Ae7tCTyyK7j1rNww=="
    req.set_content_length(11)

def flushed(req):
    begins(req)
    req.flush()
    req.flush()
    req.write("hello world")
    return apache.OK

def parts(req):
    begins(req)
    req.write("hello")
    req.write(" ", 0)
    req.flush()
    req.write("world")
    return apache.OK

def pauses(req):
    begins(req)
    req.flush()
    time.sleep(0.02)
    req.write("hello ")
    time.sleep(0.02)
    req.write("world")
    return apache.OK

def late_length(req):
    # Set while the head still waits.
    req.content_type = "text/plain"
    req.flush()
    req.set_content_length(11)
    req.write("hello ")
    req.set_content_length(11)
    req.write("world")
    return apache.OK

def at_once(req):
    begins(req)
    req.write("hello world", 0)
    return apache.OK

def sends(req):
    begins(req)
    req.flush()
    req.sendfile(req.document_root() + "/hello.txt")
    return apache.OK

def redirects(req):
    req.flush()
    req.internal_redirect("/%s/parts" % req.uri.split("/")[1])
    return apache.OK

def declines(req):
    req.flush()
    return apache.DECLINED

def conflict(req):
    return apache.HTTP_CONFLICT

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "11")])
    def parts():
        yield b""
        yield b"hello"
        yield b""
        yield b" world"
    return parts()

def next(req):
    req.write("next", 0)
    return apache.OK

def unfinished(req):
    begins(req)
    req.flush()
    raise ValueError("the handler fails")

# -- filters

def longer(filter):
    filter.req.headers_out["X-Filter"] = "was here"
    while data := filter.read():
        filter.write(data + data)
    if data is None:
        filter.close()

def collects(filter):
    filter.ctx = filter.ctx or []
    while data := filter.read():
        filter.ctx.append(data)
    if data is None:
        page = b"".join(filter.ctx)
        filter.req.headers_out["X-Filter"] = "%d bytes" % len(page)
        filter.req.headers_out["Content-Length"] = "%d" % (2 * len(page))
        filter.write(page + page)
        filter.close()

def sets_early(filter):
    # Its length in the first call, its data at the end.
    if filter.ctx is None:
        filter.ctx = []
        filter.req.headers_out["X-Filter"] = "early"
        filter.req.headers_out["Content-Length"] = "22"
    while data := filter.read():
        filter.ctx.append(data)
    if data is None:
        filter.write(b"".join(filter.ctx) * 2)

def by_line(filter):
    filter.req.headers_out["X-Filter"] = "lines"
    filter.ctx = filter.ctx or b""
    while line := filter.readline():
        filter.ctx += line
    if line is None:
        filter.write(filter.ctx * 2)

def waits(filter):
    # Ends its calls with SERVER_RETURN: what is written waits.
    filter.req.headers_out["X-Filter"] = "waits"
    while data := filter.read():
        filter.write(data + data)
    if data is not None:
        raise apache.SERVER_RETURN(apache.OK)

def passes_on(filter):
    filter.req.headers_out["X-Filter"] = "passes"
    filter.write(b"")
    filter.pass_on()

def disables(filter):
    filter.req.headers_out["X-Filter"] = "disabled"
    filter.disable()

def drops(filter):
    filter.req.headers_out["X-Filter"] = "dropped"
    while filter.read():
        pass

def fails(filter):
    if filter.read() is None:
        raise ValueError("the filter fails")
"""

#: What of "hello world" reaches the client: in what order the bytes come depends on the pieces.
FILTERS = {
    "longer": 22,
    "collects": 22,
    "sets_early": 22,
    "by_line": 22,
    "waits": 22,
    "passes_on": 11,
    "disables": 11,
    "drops": 0,
    "longer_collects": 44,
    "collects_longer": 44,
    "collects_disables": 22,
}
HANDLERS = ["flushed", "parts", "pauses", "late_length", "at_once", "sends", "redirects", "conflict"]
SOURCES = [
    *HANDLERS,
    "application",
    "hello.txt",
    "declined.txt",
    "program",
    "program_parts",
    "page.psp",
    "page.shtml",
    "proxied",
]

CONFIG = (
    """
PythonPath "['${SITE}'] + sys.path"
DocumentRoot ${SITE}/docs
ScriptSock cgid.sock
AliasMatch "^/[a-z_]+/((?:hello|declined).txt|page[.][a-z]+)$" ${SITE}/docs/$1
ScriptAliasMatch "^/[a-z_]+/(program(?:_parts)?)$" ${SITE}/cgi/$1
ProxyPassMatch "^/([a-z_]+)/proxied$" "http://127.0.0.1:${PORT}/plain/$1/pauses"
<Directory ${SITE}>
    Require all granted
    Options +Includes
</Directory>
<LocationMatch "^/[a-z_]+/application$">
    SetHandler mod_python
    PythonHandler mod_python.wsgi
    PythonOption mod_python.wsgi.application heads::application
</LocationMatch>
<Files declined.txt>
    SetHandler mod_python
    PythonHandler heads::declines
</Files>
<LocationMatch "/page.psp$">
    SetHandler mod_python
    PythonHandler mod_python.psp
</LocationMatch>
<Location /debug/>
    PythonDebug On
</Location>
PythonOutputFilter heads::fails fails
<Location /debug/fails/>
    SetOutputFilter fails
</Location>
<Location /debug/collects/>
    SetOutputFilter collects
</Location>
"""
    + "".join(f"PythonOutputFilter heads::{name} {name}\n" for name in FILTERS if name.count("_") < 2)
    + "".join(
        f"<Location /{name}/>\nSetOutputFilter {';'.join(stack)}\nErrorDocument 409 /{name}/parts\n</Location>\n"
        f"<Location /{name}/page.shtml>\nSetOutputFilter INCLUDES;{';'.join(stack)}\n</Location>\n"
        for name in FILTERS
        for stack in [[name] if name in ("by_line", "sets_early", "passes_on") else name.split("_")]
    )
    + "".join(
        f'<LocationMatch "/{name}$">\nSetHandler mod_python\nPythonHandler heads::{name}\n</LocationMatch>\n'
        for name in [*HANDLERS, NEXT[1:], "unfinished"]
    )
)
FILES: dict[str, str | bytes] = {
    "heads.py": MODULE,
    "docs/hello.txt": "hello world",
    "docs/declined.txt": "hello world",
    "docs/page.psp": "<% req.flush() %>hello<% req.flush() %> world",
    "docs/page.shtml": '<!--#include virtual="/none/part1" --><!--#include virtual="/none/parts" -->',
    "docs/none/part1": "",
    "cgi/program": "#!/bin/sh\nprintf 'Content-Type: text/plain\\nContent-Length: 11\\n\\nhello world'\n",
    "cgi/program_parts": "#!/bin/sh\nprintf 'Content-Type: text/plain\\nContent-Length: 11\\n\\n'\nsleep 0.1\n"
    "printf hello\nsleep 0.1\nprintf ' world'\n",
}
MODULES = ["mod_cgid", "mod_include", "mod_proxy", "mod_proxy_http"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(CONFIG, files=FILES, modules=MODULES, log_level="info") as server:
        for name in ("program", "program_parts"):
            (server.site / "cgi" / name).chmod(0o755)
        yield server


def get(server: Server, path: str, method: str = "GET") -> Answer:
    """The response to a request; two more on the same connection are in step."""
    with server.connect() as sock:
        lines = [f"{method} {path}", f"GET {NEXT}", f"GET {NEXT}"]
        requests = [f"{line} HTTP/1.1\r\nHost: localhost\r\n" for line in lines]
        sock.sendall(("\r\n".join(requests) + "Connection: close\r\n\r\n").encode())
        reader = Reader(sock)
        answers = [reader.answer(without_body=method == "HEAD"), reader.answer(), reader.answer()]
        assert reader.answer() is None
    assert answers[0] is not None
    assert [answer and answer.body for answer in answers[1:]] == [b"next"] * 2
    return answers[0]


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", FILTERS)
def test_filter_is_called_before_the_head_leaves(server: Server, name: str, source: str) -> None:
    answer = get(server, f"/{name}/{source}")
    assert answer.status == (409 if source == "conflict" else 200)
    assert sorted(answer.body) == sorted(b"hello world" * (FILTERS[name] // 11))
    assert "x-filter" in answer.headers
    if "disables" not in name:
        assert "content-md5" not in answer.headers


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["longer", "collects", "passes_on"])
def test_head_requests(server: Server, name: str, source: str) -> None:
    answer = get(server, f"/{name}/{source}", "HEAD")
    assert "x-filter" in answer.headers
    assert answer.headers.get("content-length") != "11" or name == "passes_on"


def test_whole_pages_are_collected_as_one(server: Server) -> None:
    """The flush marks of those who write do not send what a filter has not given."""
    for source in ("flushed", "parts", "application", "program_parts", "proxied"):
        answer = get(server, f"/collects/{source}")
        assert answer.headers["x-filter"] == "11 bytes"
        assert answer.headers["content-length"] == "22"
        assert answer.body == b"hello world" * 2


def test_report_of_a_filter_that_fails_after_a_flush_mark(server: Server) -> None:
    """PythonDebug: nothing was sent, so the report takes the place of the response."""
    server.allow("the filter fails")
    with server.connect() as sock:
        sock.sendall(b"GET /debug/fails/flushed HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = Reader(sock).answer()
    assert answer is not None
    assert answer.status == 500
    assert b"ValueError: the filter fails" in answer.body


def test_report_of_a_handler_that_fails_after_a_flush_mark(server: Server) -> None:
    server.allow("the handler fails")
    with server.connect() as sock:
        sock.sendall(b"GET /debug/collects/unfinished HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = Reader(sock).answer()
    assert answer is not None
    assert answer.status == 500
    assert b"ValueError: the handler fails" in answer.body
