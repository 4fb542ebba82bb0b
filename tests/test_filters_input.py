"""Input filters on a real httpd: request bodies go through them whole, whoever reads them, and in whatever pieces."""

from __future__ import annotations

import random
import socket
import zlib
from collections.abc import Iterator
from http.client import HTTPResponse

import pytest

from mod_python.testing import Server
from tests.processes import quiet
from tests.servers import running

FILTERS = """
import zlib
from mod_python import apache

kept = {"calls": 0}

# -- filters

def upper(filter):
    assert filter.is_input == 1
    data = filter.read()
    while data:
        filter.write(data.upper())
        data = filter.read()
    if data is None:
        filter.close()

def inputfilter(filter):
    upper(filter)

def lines(filter):
    line = filter.readline()
    while line:
        filter.write(b"<" + line + b">")
        line = filter.readline()

def one_at_a_time(filter):
    # Reads less than there is; the rest is there in the next call.
    filter.write(filter.read(5) or b"")

def decompress(filter):
    if filter.ctx is None:
        filter.ctx = zlib.decompressobj()
    data = filter.read()
    while data:
        filter.write(filter.ctx.decompress(data))
        data = filter.read()

def expands(filter):
    kept["calls"] += 1
    while (data := filter.read()):
        filter.write(data * 1000)
        filter.flush()

def whole(filter):
    # Says nothing until it has seen the end.
    filter.ctx = filter.ctx or []
    while (data := filter.read()):
        filter.ctx.append(data)
    if data is None:
        filter.write(b"".join(filter.ctx)[::-1])

def closes_early(filter):
    filter.write(filter.read(3))
    filter.close()
    got = []
    for use in (filter.read, filter.readline, lambda: filter.write("x")):
        try:
            use()
        except ValueError as error:
            got.append(str(error))
    assert got == ["I/O operation on closed filter"] * 3

def passes_on(filter):
    filter.pass_on()

def disables(filter):
    filter.write(b"first:" + filter.read(2))
    filter.disable()

def fails(filter):
    filter.write(b"written,")
    filter.read(3)
    raise RuntimeError("filter failed")

def does_nothing(filter):
    pass

def adds_head(filter):
    if filter.ctx is None:
        filter.ctx = "said"
        filter.write("head:")
    filter.pass_on()

def server_return(filter):
    filter.write(filter.read() or b"")
    raise apache.SERVER_RETURN(apache.OK, 202)

def catches(filter):
    try:
        upper(filter)
    except OSError as error:
        kept["caught"] = [type(error).__mro__[1].__name__, str(error)]

def writes_first(filter):
    filter.write(b"+")
    filter.write(filter.read() or b"")

def uses_request(filter):
    for use in (lambda: filter.req.read(), lambda: filter.req.write("x")):
        try:
            use()
        except RuntimeError:
            filter.write("refused ")
    filter.pass_on()

def keeps(filter):
    kept["filter"] = filter
    upper(filter)

# -- handlers

def echo(req):
    req.content_type = "text/plain"
    req.write(req.read())
    return apache.OK

def pieces(req):
    got = []
    while (data := req.read(1000)):
        got.append(len(data))
    req.write("%d %d %s" % (sum(got), max(got), kept.pop("calls")))
    kept["calls"] = 0
    return apache.OK

def by_piece(req):
    while (data := req.read(1)):
        req.write(data, 0)
    return apache.OK

def by_line(req):
    req.write(repr(list(req)))
    return apache.OK

def unread(req):
    req.write("not read")
    return apache.OK

def tries(req):
    try:
        req.write("read %r" % req.read())
    except OSError as error:
        kept["handler"] = str(error)
        raise
    return apache.OK

def registers(req):
    def bracket(a, b):
        def run(filter):
            data = filter.read()
            if data is None:
                return
            if data:
                filter.write(a + data + b)
        return run
    req.register_input_filter("First", bracket(b"(", b")"))
    req.register_input_filter("second", bracket(b"[", b"]"))
    req.register_input_filter("text", "filters::passes_on")
    for name in ("first", "SECOND", "text"):
        req.add_input_filter(name)
    req.write(req.read())
    return apache.OK

def shared(req):
    # What the filter leaves on the request is there for the handler.
    def note(filter):
        filter.req.seen = getattr(filter.req, "seen", 0) + 1
        filter.pass_on()
    req.register_input_filter("note", note)
    req.add_input_filter("note")
    body = req.read()
    req.write("%s %d" % (body.decode(), req.seen > 0))
    return apache.OK

def show(req):
    filter = kept.pop("filter", None)
    if filter is not None:
        got = []
        for use in (lambda: filter.req, filter.disable):
            try:
                use()
            except apache.DetachedError:
                got.append("detached")
        kept["uses"] = got
    req.write(repr(kept))
    kept.clear()
    kept["calls"] = 0
    return apache.OK
"""

NAMES = [
    *("upper", "lines", "one_at_a_time", "decompress", "expands", "whole", "closes_early", "passes_on"),
    *("disables", "fails", "does_nothing", "adds_head", "server_return", "catches", "uses_request", "keeps"),
    "writes_first",
]
LOCATIONS = "".join(
    f"PythonInputFilter filters::{name} {name}\n<Location /{name}/>\n    SetInputFilter {name}\n</Location>\n"
    for name in NAMES
)
HANDLERS = "".join(
    f'<LocationMatch "/{name}$">\n    SetHandler mod_python\n    PythonHandler filters::{name}\n</LocationMatch>\n'
    for name in ("echo", "pieces", "by_piece", "by_line", "unread", "tries", "registers", "shared", "show")
)
CONFIG = f"""
PythonPath "['${{SITE}}'] + sys.path"
PythonInterpreter main_interpreter
DocumentRoot ${{SITE}}
Timeout 60
{LOCATIONS}
{HANDLERS}
PythonInputFilter filters
<Location /default/>
    SetInputFilter Filters
</Location>
<Location /two/>
    SetInputFilter lines;upper
</Location>
<Location /nowhere>
    PythonInputFilter filters::upper nowhere
</Location>
<Location /else/>
    SetInputFilter nowhere
</Location>
<LocationMatch "^/proxy/">
    SetInputFilter upper
</LocationMatch>
ProxyPass /proxy/ http://127.0.0.1:${{PORT}}/
"""
FILES = {"filters.py": FILTERS, "file.txt": "file", "upper/file.txt": "file", "else/file.txt": "file"}
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(CONFIG.partition("ProxyPass")[0], files=FILES, processes=1) as server:
        yield server


def post(server: Server, path: str, body: bytes) -> bytes:
    response = server.request("POST", path, body=body)
    assert response.status == 200, server.error_log
    return response.body


def answer(sock: socket.socket) -> bytes:
    """The body of an answer with status 200."""
    response = HTTPResponse(sock)
    response.begin()
    assert response.status == 200
    return response.read()


def chunked(server: Server, path: str, chunks: list[bytes]) -> bytes:
    """POST a body chunk by chunk; the body of the answer."""
    with server.connect() as sock:
        sock.sendall(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        for chunk in [*chunks, b""]:
            sock.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        return answer(sock)


def kept(server: Server) -> dict[str, object]:
    value = eval(server.get("/show").text)
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize("path", ["/upper/echo", "/default/echo", "/catches/echo"])
def test_body(server: Server, path: str) -> None:
    assert post(server, path, b"a body") == b"A BODY"
    assert post(server, path, b"") == b""


def test_large_body(server: Server) -> None:
    body = random.Random(1).randbytes(3 * MIB)
    assert post(server, "/upper/echo", body) == body.upper()
    assert post(server, "/passes_on/echo", body) == body
    assert post(server, "/one_at_a_time/echo", body[:100_001]) == body[:100_001]


def test_chunked_upload(server: Server) -> None:
    chunks = [b"one,", b"two,", b"x" * 100_000]
    assert chunked(server, "/upper/echo", chunks) == b"ONE,TWO," + b"X" * 100_000


def test_lines(server: Server) -> None:
    body = b"one\ntwo\n" + b"long " * 10 + b"\nlast"
    assert post(server, "/lines/echo", body) == b"".join(b"<" + line + b">" for line in body.splitlines(keepends=True))
    assert eval(post(server, "/upper/by_line", b"a\nb\nc")) == [b"A\n", b"B\n", b"C"]


def test_stateful_filter(server: Server) -> None:
    body = random.Random(2).randbytes(10_000) * 200
    assert post(server, "/decompress/echo", zlib.compress(body)) == body


def test_filter_that_waits_for_the_end(server: Server) -> None:
    """An empty call is not the end of the body."""
    body = random.Random(3).randbytes(200_000)
    assert post(server, "/whole/echo", body) == body[::-1]
    assert chunked(server, "/whole/echo", [body[:1000], body[1000:]]) == body[::-1]


def test_stacked_filters(server: Server) -> None:
    """The last one of SetInputFilter is next to the network, as in httpd."""
    assert post(server, "/two/echo", b"a\nb") == b"<A\n><B>"


def test_more_than_was_asked_for(server: Server) -> None:
    """What a call wrote is handed out in pieces; Python is not called for each of them."""
    size, longest, calls = map(int, post(server, "/expands/pieces", b"abc").split())
    assert (size, longest) == (3000, 1000)
    assert calls <= 2


def test_close_early(server: Server) -> None:
    """The rest of the body is not taken for a request."""
    head = b"POST /closes_early/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    for size in (3, 100, 8193, 30_000):
        with server.connect() as sock:
            sock.sendall(head % size + b"y" * size)
            assert answer(sock) == b"yyy"
    # More than is worth reading, or not even here yet: the connection ends.
    smuggled = b"GET /show HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with server.connect() as sock:
        sock.sendall(head % (10 * MIB) + smuggled * 100)
        got = b"".join(iter(lambda: sock.recv(65536), b""))
    assert got.count(b"HTTP/1.1 200 OK") == 1
    assert b"Connection: close" in got


def test_data_left_unread_is_logged(server: Server) -> None:
    """Once for a connection; not if there is no body."""

    def lines(name: str) -> int:
        return sum(f"the input filter '{name}'" in record.message for record in server.log_records())

    for name in ("closes_early", "does_nothing"):
        before = lines(name)
        with server.connect() as sock:
            for _ in range(3):
                head = f"POST /{name}/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
                sock.sendall(head.encode() + b"123456789")
                answer(sock)
        assert lines(name) == before + 1
        assert post(server, "/does_nothing/echo", b"") == b""
        assert lines(name) == before + 1


def test_disable(server: Server) -> None:
    body = b"0123456789" * 10_000
    assert post(server, "/disables/echo", body) == b"first:" + body


def test_row_10_7_a_filter_that_raises(server: Server) -> None:
    server.allow("RuntimeError: filter failed")
    assert post(server, "/fails/echo", b"abcdef") == b"written,def"
    assert "phase='fails', handler='filters::fails'): Application error" in server.error_log


def test_server_return(server: Server) -> None:
    response = server.request("POST", "/server_return/echo", body=b"text")
    assert (response.status, response.body) == (202, b"text")


def test_writing_before_reading(server: Server) -> None:
    assert post(server, "/adds_head/echo", b"x" * 20_000) == b"head:" + b"x" * 20_000


def test_filter_that_does_nothing(server: Server) -> None:
    assert post(server, "/does_nothing/echo", b"text") == b""
    assert "'does_nothing' neither read nor wrote" in server.error_log


def test_registered_on_the_request(server: Server) -> None:
    """Row 10.3 for input: the one added last is the first to see the data."""
    assert post(server, "/registers", b"text") == b"([text])"


def test_request_inside_a_filter(server: Server) -> None:
    assert post(server, "/uses_request/echo", b"") == b"refused refused "
    assert post(server, "/shared", b"text") == b"text 1"


def test_unread_body(server: Server) -> None:
    """httpd reads the rest through the filter, so the next request is where it should be."""
    with server.connect() as sock:
        head = "POST /%s/unread HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n"
        for name in ("upper", "closes_early", "disables", "one_at_a_time"):
            sock.sendall((head % name).encode() + b"\r\n" + b"z" * 10_000)
        sock.sendall(b"GET /unread HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        got = b"".join(iter(lambda: sock.recv(65536), b""))
    assert got.count(b"HTTP/1.1 200 OK") == got.count(b"not read") == 5


def test_get_without_body(server: Server) -> None:
    assert server.get("/upper/file.txt").body == b"file"
    assert server.get("/upper/echo").body == b""


def test_unregistered_filter(server: Server) -> None:
    for method in ("GET", "POST"):
        response = server.request(method, "/else/echo", body=b"text" if method == "POST" else None)
        assert response.status == 500
    assert server.get("/else/file.txt").status == 500
    assert "Could not find registered filter 'nowhere'" in server.error_log


def test_client_goes_away(server: Server) -> None:
    """A body that ends too soon is an error for the reader, not an end."""
    with server.connect() as sock:
        sock.sendall(b"POST /upper/tries HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc")
        sock.shutdown(socket.SHUT_WR)
        got = b"".join(iter(lambda: sock.recv(65536), b""))
    assert b"read b'" not in got
    server.wait_until(lambda: "handler" in (found := kept(server)) and bool(found), what="the handler's error")
    with server.connect() as sock:
        sock.sendall(b"POST /catches/tries HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc")
        sock.shutdown(socket.SHUT_WR)
        got = b"".join(iter(lambda: sock.recv(65536), b""))
    assert b"read b'" not in got
    found: dict[str, object] = {}
    server.wait_until(lambda: bool(found.update(kept(server)) or "caught" in found), what="the filter's error")
    assert found["caught"] == ["ConnectionError", "Input filter read error"]


def test_broken_chunks(server: Server) -> None:
    """httpd refuses the body; a filter on the way changes nothing about that."""
    with server.connect() as sock:
        sock.sendall(b"POST /upper/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_broken_chunks_behind_what_a_filter_adds(server: Server) -> None:
    """The reader is told at once: it could not answer any more."""
    with server.connect() as sock:
        head = b"POST /writes_first/by_piece HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        sock.sendall(head + b"zz\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 400 ")


def test_kept_filter(server: Server) -> None:
    assert post(server, "/keeps/echo", b"text") == b"TEXT"
    quiet(server)  # the request ends after its response
    assert kept(server)["uses"] == ["detached"] * 2


def test_reading_without_waiting() -> None:
    """mod_proxy reads what is there, and waits only if that is nothing."""
    body = random.Random(4).randbytes(MIB)
    # It is its own backend, so it needs more than one process on prefork.
    with running(CONFIG, files=FILES, modules=["mod_proxy", "mod_proxy_http"]) as server:
        assert post(server, "/proxy/echo", b"text") == b"TEXT"
        assert post(server, "/proxy/echo", body) == body.upper()
        assert chunked(server, "/proxy/echo", [b"one,", b"two"]) == b"ONE,TWO"
