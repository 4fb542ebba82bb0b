"""No request body is ever read as a request: kinds of bodies × who reads them × input filters on the way."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from mod_python.testing import Server
from tests.framing import BODIES, NEXT, SMUGGLED, CutOffError, FramingError, Reader, in_step
from tests.servers import running

HANDLERS = """
from mod_python import apache, util

# -- who reads

def unread(req):
    req.write("unread", 0)
    return apache.OK

def nothing_written(req):
    return apache.OK

def flushed(req):
    req.write("sent before the body is read")
    return apache.OK

def flushed_then_all(req):
    req.write("sent before the body is read")
    req.write("%d" % len(req.read()))
    return apache.OK

def part(req):
    req.write("%d" % len(req.read(5)))
    return apache.OK

def line(req):
    req.write("%d" % len(req.readline()))
    return apache.OK

def all(req):
    req.write("%d" % len(req.read()))
    return apache.OK

def catches(req):
    try:
        req.write("%d" % len(req.read()))
    except BaseException:
        req.write("caught", 0)
    return apache.OK

def discards(req):
    req.write("%r" % req.discard_request_body(), 0)
    return apache.OK

def part_then_discards(req):
    req.read(5)
    req.write("%r" % req.discard_request_body(), 0)
    return apache.OK

def raises(req):
    raise ValueError("on purpose")

def part_then_raises(req):
    req.read(5)
    raise ValueError("on purpose")

def flushed_then_raises(req):
    req.write("flushed")
    raise ValueError("on purpose")

def declines(req):
    return apache.DECLINED

def part_then_declines(req):
    req.read(5)
    return apache.DECLINED

def done(req):
    req.write("done", 0)
    return apache.DONE

def not_found(req):
    return apache.HTTP_NOT_FOUND

def forbidden(req):
    req.read(5)
    raise apache.SERVER_RETURN(apache.HTTP_FORBIDDEN)

def returns_ok(req):
    raise apache.SERVER_RETURN(apache.OK, 202)

def no_content(req):
    req.status = 204
    return apache.OK

def redirects(req):
    req.internal_redirect("/none/all")
    return apache.OK

def part_then_redirects(req):
    req.read(5)
    req.internal_redirect("/none/unread")
    return apache.OK

def conflict(req):
    return apache.HTTP_CONFLICT

def sends(req):
    req.sendfile(req.document_root() + "/file.txt")
    return apache.OK

def form(req):
    util.FieldStorage(req)
    req.write("form")
    return apache.OK

def adds(req):
    req.register_input_filter("mine", nothing)
    req.add_input_filter("mine")
    req.write("%d" % len(req.read()), 0)
    return apache.OK

def part_then_adds(req):
    req.read(5)
    req.register_input_filter("mine", closes)
    req.add_input_filter("mine")
    req.write("%d" % len(req.read()), 0)
    return apache.OK

def adds_unread(req):
    req.register_input_filter("mine", nothing)
    req.add_input_filter("mine")
    req.write("unread", 0)
    return apache.OK

def includes(req):
    # Sub-requests before the body is read.
    req.content_type = "text/html"
    for name in ("part", "discards", "all"):
        req.write('<!--#include virtual="/none/%s" -->' % name)
    return apache.OK

def upload(a=None):
    return "published %r" % a

def denies(req):
    req.read(5)
    return apache.HTTP_FORBIDDEN

def breaks(req):
    raise ValueError("on purpose")

def passes(req):
    req.read(5)
    return apache.OK

def late(req):
    try:
        req.read()
    except Exception:
        pass
    return apache.OK

def quick(req):
    if req.uri.endswith("next"):
        return apache.DECLINED
    req.write("%d" % len(req.read(5)), 0)
    return apache.OK

def application(environ, start_response):
    name = environ["SCRIPT_NAME"].rpartition("/")[2]
    if name == "wsgi_raises":
        raise ValueError("on purpose")
    if name == "wsgi_part":
        environ["wsgi.input"].read(5)
    if name == "wsgi_lines":
        list(environ["wsgi.input"])
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
    return [b"wsgi"]

def next(req):
    req.write("next %s" % req.args, 0)
    return apache.OK

def smuggled(req):
    req.log_error("a body was read as a request", apache.APLOG_ERR)
    req.write("smuggled", 0)
    return apache.OK

# -- filters

def forgets(req):
    del req.headers_in["Content-Length"]
    del req.headers_in["Transfer-Encoding"]
    req.write("forgotten")
    return apache.OK

def forgets_then_all(req):
    forgets(req)
    req.write(str(len(req.read())))
    return apache.OK

def says_nothing(req):
    req.headers_in["Content-Length"] = "0"
    return all(req)

def says_less(req):
    del req.headers_in["Transfer-Encoding"]
    req.headers_in["Content-Length"] = "5"
    return all(req)

def forgets_early(req):
    del req.headers_in["Content-Length"]
    return apache.OK

def forgets_length(filter):
    del filter.req.headers_in["Content-Length"]
    del filter.req.headers_in["Transfer-Encoding"]
    filter.pass_on()

def nothing(filter):
    pass

def nothing_later(filter):
    if filter.ctx is None:
        filter.write(filter.read(3) or b"")
        filter.ctx = True

def looks_only(filter):
    filter.read(3)

def closes(filter):
    filter.close()

def part_then_closes(filter):
    filter.write(filter.read(3) or b"")
    filter.close()

def writes_then_closes(filter):
    filter.write("made up")
    filter.close()

def fails(filter):
    raise ValueError("on purpose")

def part_then_fails(filter):
    filter.read(3)
    raise ValueError("on purpose")

def fails_later(filter):
    if filter.ctx is None:
        filter.write(filter.read(3) or b"")
        filter.ctx = True
    else:
        raise ValueError("on purpose")

def exits(filter):
    raise SystemExit

def returns(filter):
    raise apache.SERVER_RETURN(apache.OK)

def returns_403(filter):
    raise apache.SERVER_RETURN(apache.HTTP_FORBIDDEN, 403)

def part_then_returns(filter):
    filter.write(filter.read(3) or b"")
    raise apache.SERVER_RETURN(apache.DONE)

def disables(filter):
    filter.disable()

def part_then_disables(filter):
    filter.read(3)
    filter.disable()

def disables_and_closes(filter):
    filter.disable()
    filter.close()

def passes_on(filter):
    filter.pass_on()

def upper(filter):
    while data := filter.read():
        filter.write(data.upper())
    if data is None:
        filter.close()

def by_line(filter):
    while data := filter.readline():
        filter.write(data)

def catches_all(filter):
    try:
        upper(filter)
    except Exception:
        filter.close()

def swallows(filter):
    while filter.read():
        pass

async def coroutine(filter):
    pass

# -- filters of a connection: they do what they do behind the first bytes

def later(act):
    def run(filter):
        filter.ctx = (filter.ctx or 0)
        if filter.ctx < 130:
            data = filter.read(130 - filter.ctx)
            filter.ctx += len(data or b"")
            filter.write(data or b"")
        else:
            act(filter)
    return run

def loses(filter):
    filter.read(3)
    raise ValueError("on purpose")

wire_passes = later(lambda filter: filter.pass_on())
wire_slow = later(lambda filter: filter.write(filter.read(7) or b""))
wire_nothing = later(nothing)
wire_closes = later(closes)
wire_part_then_closes = later(part_then_closes)
wire_fails = later(fails)
wire_loses = later(loses)
wire_returns = later(returns)
"""

#: Content handlers, each for a path /FILTER/NAME.
CONSUMERS = [
    *("unread", "nothing_written", "flushed", "flushed_then_all", "part", "line", "all", "catches", "discards"),
    *("part_then_discards", "raises", "part_then_raises", "flushed_then_raises"),
    *("done", "not_found", "forbidden", "returns_ok", "no_content", "redirects", "part_then_redirects", "conflict"),
    *("sends", "form", "adds", "part_then_adds", "adds_unread", "includes"),
]
#: Those that change the headers by which httpd finds the end of a body.
CHANGERS = ["forgets", "forgets_then_all", "says_nothing", "says_less", "forgets_early"]
#: Other ways to be answered.
OTHERS = [
    *("wsgi_unread", "wsgi_part", "wsgi_lines", "wsgi_raises", "upload", "denies", "breaks", "passes", "late"),
    *(
        "file.txt",
        "absent.txt",
        "declined.txt",
        "part_declined.txt",
        "cgi_cat",
        "cgi_late",
        "cgi_python",
        "page.psp",
        "page.shtml",
        "proxied",
        "coded",
    ),
]
FILTERS = [
    *("nothing", "nothing_later", "looks_only", "closes", "part_then_closes", "writes_then_closes", "fails"),
    *("part_then_fails", "fails_later", "exits", "returns", "returns_403", "part_then_returns", "disables"),
    *("part_then_disables", "disables_and_closes", "passes_on", "upper", "by_line", "catches_all", "swallows"),
    *("coroutine", "forgets_length"),
]
STACKS = {
    "upper_nothing": "upper;nothing",
    "nothing_upper": "nothing;upper",
    "closes_closes": "closes;part_then_closes",
    "fails_later_nothing": "fails_later;nothing_later",
    "nothing_inflate": "nothing;INFLATE",
}
#: Filters that a body goes through to its end, whoever reads it.
WHOLE = {
    *("none", "part_then_disables", "disables", "passes_on", "upper", "by_line", "catches_all", "swallows"),
    *("fails", "part_then_fails", "fails_later"),
}
#: Who is answered with a status for which httpd closes the connection, or answers by closing it.
CLOSE = {"raises", "part_then_raises", "flushed_then_raises", "wsgi_raises", "breaks"}

#: Filters of a connection, each for a port.
CONNECTION_FILTERS = [
    *("wire_passes", "wire_slow", "wire_nothing", "wire_closes", "wire_part_then_closes", "wire_fails", "wire_loses"),
    "wire_returns",
]

#: Prefixes of paths: no filter, one, several.
WAYS = ["none", *FILTERS, *STACKS]

CONFIG = (
    """
PythonPath "['${SITE}'] + sys.path"
DocumentRoot ${SITE}/docs
Timeout 60
KeepAliveTimeout 60
LimitRequestBody 1000000
ScriptSock cgid.sock
ErrorDocument 409 /none/part
AddHandler mod_python .psp
AliasMatch "^/[a-z_0-9]+/([a-z_]+[.][a-z]+)$" ${SITE}/docs/$1
ScriptAliasMatch "^/[a-z_0-9]+/(cgi_(?:cat|late))$" ${SITE}/cgi/$1
ScriptAliasMatch "^/[a-z_0-9]+/(cgi_python)$" ${SITE}/cgi/$1.py
ProxyPassMatch "^/([a-z_0-9]+)/proxied$" "http://127.0.0.1:${PORT}/plain/$1/all"
<Directory ${SITE}>
    Require all granted
    Options +Includes
</Directory>
<LocationMatch "^/[a-z_0-9]+/wsgi_[a-z]+$">
    SetHandler mod_python
    PythonHandler mod_python.wsgi
    PythonOption mod_python.wsgi.application framing::application
</LocationMatch>
<LocationMatch "/upload$">
    SetHandler mod_python
    PythonHandler mod_python.publisher
</LocationMatch>
AliasMatch "^/[a-z_0-9]+/upload$" ${SITE}/framing.py/upload
<LocationMatch "/cgi_python$">
    SetHandler mod_python
    PythonHandler mod_python.cgihandler
</LocationMatch>
<Files declined.txt>
    SetHandler mod_python
    PythonHandler framing::declines
</Files>
<Files part_declined.txt>
    SetHandler mod_python
    PythonHandler framing::part_then_declines
</Files>
<LocationMatch "/page.psp$">
    SetHandler mod_python
    PythonHandler mod_python.psp
</LocationMatch>
<LocationMatch "/(?:page.shtml|includes)$">
    Options +Includes
    SetOutputFilter INCLUDES
</LocationMatch>
<LocationMatch "/forgets_early$">
    PythonFixupHandler framing::forgets_early
</LocationMatch>
<LocationMatch "/denies$">
    PythonAccessHandler framing::denies
</LocationMatch>
<LocationMatch "/breaks$">
    PythonFixupHandler framing::breaks
</LocationMatch>
<LocationMatch "/passes$">
    SetHandler mod_python
    PythonHeaderParserHandler framing::passes
    PythonFixupHandler framing::passes
    PythonHandler framing::unread
</LocationMatch>
<LocationMatch "/late$">
    SetHandler mod_python
    PythonHandler framing::unread
    PythonLogHandler framing::late
    PythonCleanupHandler framing::late
</LocationMatch>
<LocationMatch "/coded$">
    SetHandler mod_python
    PythonHandler framing::all
    SetOutputFilter DEFLATE
</LocationMatch>
<VirtualHost *:${PORT2}>
    PythonQuickHandler framing::quick
</VirtualHost>
"""
    + "".join(
        f"<VirtualHost *:${{PORT{n}}}>\nPythonConnectionInputFilter framing::{name}\n</VirtualHost>\n"
        for n, name in enumerate(CONNECTION_FILTERS, 3)
    )
    + "".join(f"PythonInputFilter framing::{name} {name}\n" for name in FILTERS)
    + "".join(f"<Location /{name}/>\nSetInputFilter {name}\n</Location>\n" for name in FILTERS)
    + "".join(f"<Location /{name}/>\nSetInputFilter {filters}\n</Location>\n" for name, filters in STACKS.items())
    + "".join(
        f'<LocationMatch "/{name}$">\nSetHandler mod_python\nPythonHandler framing::{name}\n</LocationMatch>\n'
        for name in [*CONSUMERS, *CHANGERS, NEXT[1:], SMUGGLED[1:]]
    )
)
FILES: dict[str, str | bytes] = {
    "framing.py": HANDLERS,
    "docs/file.txt": "a file",
    "docs/page.psp": "<% req.write(str(len(req.read(3)))) %>",
    "docs/page.shtml": '<!--#include virtual="/none/part" --><!--#include virtual="/none/discards" -->',
    "docs/declined.txt": "a file",
    "docs/part_declined.txt": "a file",
    "cgi/cgi_cat": "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\ncat | wc -c\n",
    # A program that leaves its input unread makes mod_cgid itself leave out the last chunk.
    "cgi/cgi_late": "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\nlate'\ncat > /dev/null\n",
    "cgi/cgi_python.py": "import sys\nprint('Content-Type: text/plain\\n')\nsys.stdin.read(3)\n",
}
MODULES = ["mod_cgid", "mod_include", "mod_proxy", "mod_proxy_http", "mod_deflate"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(CONFIG, files=FILES, modules=MODULES, listen=2 + len(CONNECTION_FILTERS), log_level="info") as server:
        for name in ("cgi_cat", "cgi_late"):
            (server.site / "cgi" / name).chmod(0o755)
        server.allow(".")
        yield server
        assert "a body was read as a request" not in server.error_log


#: What a consumer answers to a form if no filter is on the way; 200 if it is not here.
STATUS = {
    **dict.fromkeys(CLOSE - {"flushed_then_raises"}, 500),
    **dict.fromkeys(("not_found", "absent.txt"), 404),
    **dict.fromkeys(("forbidden", "denies"), 403),
    "conflict": 409,
    "returns_ok": 202,
    "no_content": 204,
    "flushed_then_raises": None,
}

Probe = tuple[str, str]


def wrong(server: Server, probes: list[Probe], *, keeps: bool = False, **arguments: Any) -> list[str]:
    """Send probes; what is wrong with the responses.

    Args:
        server: The server.
        probes: For each the path and the kind of the body.
        keeps: Whether connections must be kept.
        **arguments: As for `in_step`.
    """
    found = []
    for path, kind in probes:
        try:
            count = in_step(server, path, BODIES[kind], **arguments)
            if keeps and count != 3:
                raise FramingError(f"the connection was closed after {count} responses")
        except FramingError as error:
            found.append(f"{path} {kind}: {error}")
    return found


def kinds(consumer: str, bodies: Iterable[str] = BODIES) -> list[str]:
    """The bodies that a consumer can be sent.

    mod_proxy waits for those that are too large. A handler that says that there is a body reads one. What is wrong
    with a body that a sub-request reads, httpd answers in the middle of the page.
    """
    return [
        kind
        for kind in bodies
        if (consumer, kind) not in (("proxied", "too large"), ("says_less", "none"))
        and (consumer != "includes" or BODIES[kind].sound)
    ]


@pytest.mark.parametrize("consumer", [*CONSUMERS, *OTHERS])
def test_consumers_are_what_they_are_taken_for(server: Server, consumer: str) -> None:
    body = BODIES["form"]
    head = "\r\n".join([f"POST /none/{consumer} HTTP/1.1", "Host: localhost", *body.headers, "", ""])
    with server.connect() as sock:
        sock.sendall(head.encode() + body.data)
        try:
            answer = Reader(sock).answer()
        except CutOffError:
            answer = None
    assert (answer and answer.status) == STATUS.get(consumer, 200)


@pytest.mark.parametrize("consumer", [*CONSUMERS, *OTHERS, *CHANGERS])
def test_requests_in_one_segment_are_in_step(server: Server, consumer: str) -> None:
    """Whatever filters do with the body and whoever reads it."""
    probes = [(f"/{way}/{consumer}", kind) for way in WAYS for kind in kinds(consumer)]
    assert not (found := wrong(server, probes)), "\n".join(found)


@pytest.mark.parametrize(
    "consumer", ["unread", "part", "all", "raises", "redirects", "file.txt", "wsgi_part", "cgi_cat"]
)
@pytest.mark.parametrize(
    ("timing", "version"), [("one by one", "1.1"), ("late body", "1.1"), ("at once", "1.0"), ("one by one", "1.0")]
)
def test_requests_one_by_one_and_of_old_clients(server: Server, consumer: str, timing: str, version: str) -> None:
    """Body and response may pass each other, and HTTP/1.0 keeps connections only if it is asked to."""
    bodies = ["length", "some", "trailers", "junk later"]
    if timing != "late body":
        bodies += ["none", "much", "chunked", "too large"]
    probes = [(f"/{way}/{consumer}", kind) for way in WAYS for kind in bodies]
    assert not (found := wrong(server, probes, timing=timing, version=version)), "\n".join(found)


@pytest.mark.parametrize("consumer", sorted({*CONSUMERS, *OTHERS} - CLOSE))
def test_connections_are_kept(server: Server, consumer: str) -> None:
    """None is closed for a body that was read, or can be read and dropped."""
    ways = {"wsgi_lines": WHOLE, "all": WHOLE, "unread": WHOLE, "part": WHOLE}.get(consumer, {"none", "upper"})
    bodies = ["none", "empty", "get", "length", "some", "chunked", "small chunks", "extensions", "trailers"]
    if consumer in ("form", "upload"):
        bodies = bodies[:5]
    probes = [(f"/{way}/{consumer}", kind) for way in sorted(ways) for kind in bodies]
    assert not (found := wrong(server, probes, keeps=True)), "\n".join(found)


@pytest.mark.parametrize("way", sorted({*FILTERS, *STACKS} - {"returns_403", "nothing_inflate", "forgets_length"}))
def test_a_short_body_that_a_filter_leaves_is_dropped(server: Server, way: str) -> None:
    """It has come together with the head, so the connection is kept."""
    bodies = ("none", "get", "length", "some", "small chunks", "trailers")
    probes = [(f"/{way}/all", kind) for kind in bodies]
    assert not (found := wrong(server, probes, keeps=True)), "\n".join(found)


def test_sub_request_that_discards_the_body(server: Server) -> None:
    """One has read five bytes, the next drops the rest, the last finds nothing."""
    assert server.request("POST", "/none/includes", body=b"x" * 20_000).text == "500"


def test_quick_handler_that_leaves_a_body(server: Server) -> None:
    assert not (found := wrong(server, [("/quick", kind) for kind in BODIES], index=1)), "\n".join(found)
    assert in_step(server, "/quick", BODIES["some"], index=1) == 3


@pytest.mark.parametrize("consumer", ["unread", "part", "all", "discards", "flushed", "raises", "file.txt"])
@pytest.mark.parametrize("way", WAYS)
def test_client_that_waits_for_100(server: Server, consumer: str, way: str) -> None:
    """It is told to send the body, or answered and the connection closed: the server must not wait for a body."""
    body = BODIES["length"]
    head = f"POST /{way}/{consumer} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"
    follow = f"GET {NEXT}?0 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with server.connect() as sock:
        sock.sendall(head.encode())
        reader = Reader(sock)
        if reader.told_to_continue():
            sock.sendall(body.data + follow.encode())
            assert reader.answer() is not None
            answer = reader.answer()
            assert answer is None or (answer.status, answer.body) == (200, b"next 0")
        elif (answer := reader.answer()) is not None:
            assert answer.headers.get("connection") == "close"
        assert reader.answer() is None


@pytest.mark.parametrize("name", CONNECTION_FILTERS)
def test_filters_of_the_connection(server: Server, name: str) -> None:
    """One that ends or fails in the middle of a body ends the connection."""
    index = 2 + CONNECTION_FILTERS.index(name)
    probes = [(f"/none/{consumer}", kind) for consumer in ("unread", "part", "all", "file.txt") for kind in BODIES]
    assert not (found := wrong(server, probes, index=index, ends=True)), "\n".join(found)
