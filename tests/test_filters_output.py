"""Output filters on a real httpd: what handlers, files and programs send goes through them whole and in order."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from http.client import HTTPResponse

import pytest

from mod_python.httpd.config import module_so
from mod_python.testing import Server
from tests.processes import at_same_time, quiet
from tests.servers import running

FILTERS = """
import os, threading, zlib
from mod_python import apache

kept = {}

# -- filters

def upper(filter):
    data = filter.read()
    while data:
        filter.write(data.upper())
        data = filter.read()
    if data is None:
        filter.close()

def outputfilter(filter):
    upper(filter)

class Filters:
    def __init__(self, filter):
        self.filter = filter
    def method(self, filter):
        assert filter is self.filter
        upper(filter)

def lines(filter):
    line = filter.readline()
    while line:
        assert line.count(b"\\n") <= 1 and b"\\n" not in line[:-1]
        filter.write(b"<%d>" % len(line) + line)
        line = filter.readline()

def short_reads(filter):
    while True:
        data = filter.read(7)
        if not data:
            break
        assert len(data) <= 7
        filter.write(data)
        line = filter.readline(5)
        assert line is None or len(line) <= 5
        filter.write(line or b"")
    assert filter.read(0) == filter.readline(0) == b""

def compress(filter):
    if filter.ctx is None:
        filter.ctx = zlib.compressobj(wbits=31)
        filter.req.headers_out["Content-Encoding"] = "gzip"
    data = filter.read()
    while data:
        filter.write(filter.ctx.compress(data))
        data = filter.read()
    if data is None:
        filter.write(filter.ctx.flush())
        filter.close()

def calls(filter):
    # Each call's pieces in brackets, the end of the stream as a full stop.
    pieces = []
    data = filter.read()
    while data:
        pieces.append(data)
        data = filter.read()
    filter.write(b"[%s]%s" % (b"|".join(pieces), b"." if data is None else b""))

def once(filter):
    # The page at once, as it is written in many programs.
    if not filter.closed:
        page = filter.read()
        filter.write("%d:" % len(page))
        filter.write(page[-1:])
        filter.close()

def sizes(filter):
    data = filter.read()
    while data:
        filter.write("%d " % len(data))
        data = filter.read()

def forgets(filter):
    filter.write(filter.read(2) or b"")

def closes_early(filter):
    filter.write(filter.read(3))
    filter.close()
    filter.close()
    got = []
    for use in (filter.read, filter.readline, lambda: filter.write("x")):
        try:
            use()
        except ValueError as error:
            got.append(str(error))
    kept["closed"] = (filter.closed, got)

def passes_on(filter):
    filter.write("<")
    filter.pass_on()
    assert filter.read() in (b"", None)
    filter.write(">")

def disables(filter):
    filter.write(b"first:" + filter.read(2))
    filter.disable()

def disabled_at_once(filter):
    filter.disable()

def fails(filter):
    filter.write("written,")
    filter.read(3)
    raise RuntimeError("filter <failed>")

def fails_later(filter):
    filter.ctx = (filter.ctx or 0) + 1
    if filter.ctx == 2:
        raise RuntimeError("filter failed later")
    upper(filter)

def server_return(filter):
    filter.write(b"before ")
    data = filter.read()
    if data is not None:
        raise apache.SERVER_RETURN(apache.OK, 202)
    filter.write(b"end")

def bad_server_return(filter):
    filter.pass_on()
    raise apache.SERVER_RETURN("no status")

async def coroutine(filter):
    pass

def facts(filter):
    kept["facts"] = [type(filter).__name__, filter.name, filter.is_input, filter.handler, filter.dir, filter.parent,
        filter.closed, filter.softspace, filter.ctx, hasattr(filter, "unknown"), filter.req.uri,
        filter.connection is filter.req.connection, filter.req.phase]
    errors = []
    filter.softspace = 5
    for change in (lambda: setattr(filter, "name", "x"), lambda: setattr(filter, "unknown", 1),
                   lambda: delattr(filter, "softspace"), lambda: delattr(filter, "name"), type(filter)):
        try:
            change()
        except (AttributeError, TypeError) as error:
            errors.append(type(error).__name__)
    kept["errors"] = errors, filter.softspace
    upper(filter)

def types(filter):
    filter.pass_on()
    for data in ("\\u20ac", bytearray(b"1"), memoryview(b"2"), b"", ""):
        filter.write(data)
    for bad in (None, 1, ["x"]):
        try:
            filter.write(bad)
        except TypeError:
            filter.write(b"!")

def same_object(filter):
    if filter.ctx is None:
        filter.ctx = id(filter)
    filter.write(b"same " if filter.ctx == id(filter) else b"other ")

def keeps(filter):
    kept["filter"] = filter
    upper(filter)

def uses_request(filter):
    try:
        filter.req.write("again")
    except RuntimeError as error:
        filter.write("%s: " % error)
    try:
        filter.req.read()
    except RuntimeError:
        filter.write("nor read: ")
    filter.pass_on()

def in_thread(filter):
    got = []
    def work():
        for use in (lambda: filter.write("from a thread "), filter.flush, filter.read):
            got.append(use())
        inside.set()
        leave.wait(30)
        try:
            filter.write("too late")
        except apache.DetachedError:
            kept["late"] = "detached"
    inside, leave = threading.Event(), threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(30)
    filter.write(got[2] or b"")
    kept["leave"] = leave
    kept["thread"] = thread

def flushes(filter):
    data = filter.read()
    while data:
        filter.write(data)
        filter.flush()
        data = filter.read()

def big_write(filter):
    while (data := filter.read()):
        filter.write(data * 100)

def only_main(filter):
    if filter.req.main is not None:
        return upper(filter)
    filter.pass_on()

# -- handlers

def page(req):
    req.content_type = "text/plain"
    req.write("some text\\n", 0)
    req.write("more text", 0)
    return apache.OK

def flushed(req):
    req.content_type = "text/plain"
    for part in ("one ", "two ", "three"):
        req.write(part)
    return apache.OK

def with_length(req):
    req.content_type = "text/plain"
    req.set_content_length(9)
    req.write("some text")
    return apache.OK

def adds(req):
    req.content_type = "text/plain"
    for name in req.args.split(","):
        req.add_output_filter(name)
    req.write("text")
    return apache.OK

def registers(req):
    req.content_type = "text/plain"
    req.register_output_filter("Mine", "filters::facts")
    req.add_output_filter("mINE")
    req.write("text")
    return apache.OK

def registers_early(req):
    req.register_output_filter("early", upper)
    return apache.OK

def callables(req):
    req.content_type = "text/plain"
    def bracket(a, b):
        def run(filter):
            filter.write(a)
            filter.pass_on()
            filter.write(b)
        return run
    req.register_output_filter("a", bracket("(", ")"))
    req.register_output_filter("b", bracket("[", "]"))
    req.add_output_filter("a")
    req.add_output_filter("b")
    req.write("text", 0)
    return apache.OK

def bad_adds(req):
    got = []
    for act in (lambda: req.add_output_filter("nowhere"), lambda: req.add_input_filter("nowhere"),
                lambda: req.add_output_filter(""), lambda: req.add_output_filter(None),
                lambda: req.register_output_filter("x", None), lambda: req.register_output_filter(1, upper),
                lambda: req.register_output_filter("a\\0b", upper)):
        try:
            act()
        except Exception as error:
            got.append("%s: %s" % (type(error).__name__, error))
    req.write("\\n".join(got))
    return apache.OK

def missing(req):
    req.register_output_filter("m", req.args)
    req.add_output_filter("m")
    req.write("text")
    return apache.OK

def big(req):
    for _ in range(64):
        req.write(b"0123456789abcdef" * 4096)
    return apache.OK

def large(req):
    req.content_type = "text/plain"
    for _ in range(int(req.args) // 8000):
        req.write(b"x" * 8000, 0)
    req.write(b"x" * (int(req.args) % 8000), 0)
    return apache.OK

def sends_file(req):
    req.content_type = "text/plain"
    req.write("before ", 0)
    size = req.sendfile(os.path.dirname(__file__) + "/file_big.txt")
    req.write(" %d" % size)
    return apache.OK

def fixup(req):
    req.register_output_filter("early", upper)
    req.add_output_filter("early")
    return apache.OK

def show(req):
    for key in ("leave",):
        if key in kept:
            kept.pop(key).set()
            kept.pop("thread").join(30)
    filter = kept.pop("filter", None)
    if filter is not None:
        got = []
        for use in (filter.read, filter.readline, lambda: filter.write("x"), filter.flush, filter.close,
                    filter.pass_on, filter.disable, lambda: filter.req, lambda: filter.connection):
            try:
                use()
                got.append("alive")
            except (apache.DetachedError, ValueError) as error:
                got.append(type(error).__name__)
        kept["uses"] = got, filter.name, filter.closed, "gone" in repr(filter)
    req.write(repr(kept))
    kept.clear()
    return apache.OK
"""

#: Filters that the configuration names, each at a location /NAME/ of its own.
NAMES = [
    "upper",
    "lines",
    "short_reads",
    "compress",
    "calls",
    "once",
    "sizes",
    "forgets",
    "closes_early",
    "passes_on",
    "disables",
    "disabled_at_once",
    "fails",
    "fails_later",
    "server_return",
    "bad_server_return",
    "coroutine",
    "facts",
    "types",
    "same_object",
    "keeps",
    "uses_request",
    "in_thread",
    "flushes",
    "big_write",
    "only_main",
]
LOCATIONS = "".join(
    f"""
PythonOutputFilter filters::{name} {name}
<Location /{name}/>
    SetOutputFilter {name}
</Location>
"""
    for name in NAMES
)
HANDLERS = "".join(
    f"""
<LocationMatch "/{name}$">
    SetHandler mod_python
    PythonHandler filters::{name}
</LocationMatch>
"""
    for name in (
        "page flushed large with_length adds registers callables bad_adds missing big show sends_file".split()  # noqa: SIM905
    )
)
CONFIG = f"""
PythonPath "['${{SITE}}'] + sys.path"
PythonInterpreter main_interpreter
DocumentRoot ${{SITE}}
Alias /static/ ${{SITE}}/
AliasMatch ^/(?!other)[a-z_]+/(file.*)$ ${{SITE}}/$1
AddType text/plain .txt
{LOCATIONS}
{HANDLERS}
PythonOutputFilter filters
PythonOutputFilter filters::Filters.method Method
PythonOutputFilter filters::upper Wrong
<Location /fixup/>
    PythonFixupHandler filters::fixup
</Location>
<Location /early>
    SetHandler mod_python
    PythonFixupHandler filters::registers_early
    PythonHandler filters::adds
</Location>
<Location /default/>
    SetOutputFilter FILTERS
</Location>
<Location /method/>
    SetOutputFilter METHOD
</Location>
<Location /two/>
    SetOutputFilter calls;passes_on
</Location>
<Location /deflate/>
    SetOutputFilter upper;DEFLATE
</Location>
<Location /debug/>
    PythonDebug On
    SetOutputFilter fails
</Location>
<Location /debug_later/>
    PythonDebug On
    SetOutputFilter fails_later
</Location>
<Directory ${{SITE}}/pages>
    PythonOutputFilter ./inside.py::outputfilter Inside
    AddOutputFilter INSIDE .page
    Options +Includes
</Directory>
<Location /pages/includes.html>
    SetOutputFilter INCLUDES;only_main
</Location>
<Directory ${{SITE}}/other>
    SetOutputFilter INSIDE
</Directory>
"""

LINES = b"".join(b"line %d\n" % number for number in range(300_000))
FILES = {
    "filters.py": FILTERS,
    "file.txt": b"file text\n",
    "file_big.txt": LINES,
    "pages/inside.py": "from filters import upper as outputfilter\n",
    "pages/a.page": "from a file",
    "pages/sub.page": "included",
    "pages/includes.html": '<!--#include virtual="sub.page" -->',
    "other/file.txt": "text",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(CONFIG, files=FILES, modules=["mod_deflate", "mod_include"], processes=1) as server:
        yield server


def kept(server: Server) -> dict[str, object]:
    value = eval(server.get("/show").text)
    assert isinstance(value, dict)
    return value


# ---- the configuration's filters


def test_row_10_1_directive_and_add_output_filter(server: Server) -> None:
    response = server.get("/pages/a.page")
    assert (response.status, response.body) == (200, b"FROM A FILE")


def test_row_10_2_directive_and_add_in_the_handler(server: Server) -> None:
    assert server.get("/adds?Upper").body == b"TEXT"


def test_row_10_4_the_loop_and_close(server: Server) -> None:
    assert server.get("/upper/page").body == b"SOME TEXT\nMORE TEXT"
    assert server.get("/upper/flushed").body == b"ONE TWO THREE"


@pytest.mark.parametrize("place", ["default", "method"])
def test_names_of_objects(server: Server, place: str) -> None:
    assert server.get(f"/{place}/page").body == b"SOME TEXT\nMORE TEXT"


def test_row_10_5_members(server: Server) -> None:
    assert server.get("/facts/page").body == b"SOME TEXT\nMORE TEXT"
    found = kept(server)
    assert found["facts"] == [
        *("mp_filter", "facts", 0, "filters::facts", None, None, 0, 0, None, False),
        *("/facts/page", True, None),
    ]
    assert found["errors"] == (["AttributeError"] * 4 + ["TypeError"], 5)


def test_row_10_6_what_is_written(server: Server) -> None:
    assert server.get("/types/page").body == "some text\nmore text€12!!!".encode()


def test_calls_follow_what_is_flushed(server: Server) -> None:
    """One call for each part that the handler flushes, and the last one has the end."""
    assert server.get("/calls/flushed").body == b"[one ][two ][three][]."
    assert server.get("/calls/page").body == b"[some text\nmore text]."


def test_the_same_object_for_each_call(server: Server) -> None:
    assert server.get("/same_object/flushed").body == b"same same same same "


def test_stacked_filters(server: Server) -> None:
    assert server.get("/two/page").body == b"<[some text\nmore text].>"


def test_deflate_after_ours(server: Server) -> None:
    response = server.request("GET", "/deflate/file_big.txt", headers={"Accept-Encoding": "gzip"})
    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(response.body) == LINES.upper()


def test_compressing_filter(server: Server) -> None:
    response = server.get("/compress/file_big.txt")
    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(response.body) == LINES


def test_length_of_the_response(server: Server) -> None:
    """That of the handler would be wrong; httpd finds the right one if it sees the whole."""
    response = server.get("/types/with_length")
    assert response.body.startswith(b"some text")
    assert response.headers.get("Content-Length") in (None, str(len(response.body)))
    response = server.get("/passes_on/page")
    assert response.headers["Content-Length"] == str(len(response.body))
    response = server.get("/disabled_at_once/file.txt")
    assert (response.headers["Content-Length"], response.body) == ("10", b"file text\n")


def test_head(server: Server) -> None:
    response = server.request("HEAD", "/upper/file.txt")
    assert (response.status, response.body) == (200, b"")


def test_not_modified(server: Server) -> None:
    tag = server.get("/static/file.txt").headers["ETag"]
    response = server.request("GET", "/upper/file.txt", headers={"If-None-Match": tag})
    assert (response.status, response.body) == (304, b"")


def test_sub_requests(server: Server) -> None:
    """Called for them too; the filter sees which it is."""
    assert server.get("/pages/includes.html").body == b"INCLUDED"


def test_unregistered_filter(server: Server) -> None:
    server.allow("Could not find registered filter")
    response = server.get("/other/file.txt")
    assert response.status == 500
    assert "Could not find registered filter 'inside'" in server.error_log


# ---- a request's filters


def test_row_10_3_registered_on_the_request(server: Server) -> None:
    assert server.get("/registers").body == b"TEXT"
    facts = kept(server)["facts"]
    assert isinstance(facts, list)
    assert facts[1:4] == ["Mine", 0, "filters::facts"]
    assert "mp_hlist" in str(facts[5]) or "'handler': 'filters::registers'" in str(facts[5])


def test_registered_in_an_earlier_phase(server: Server) -> None:
    assert server.get("/early?early").body == b"TEXT"


def test_row_10_3_callables_stack(server: Server) -> None:
    assert server.get("/callables").body == b"[(text)]"


def test_row_10_3_added_in_an_earlier_phase(server: Server) -> None:
    """By a fix-up handler, for a page that httpd serves by itself."""
    assert server.get("/fixup/file.txt").body == b"FILE TEXT\n"


def test_any_filter_of_httpd(server: Server) -> None:
    response = server.request("GET", "/adds?DEFLATE", headers={"Accept-Encoding": "gzip"})
    assert gzip.decompress(response.body) == b"text"
    response = server.get("/adds?content_length")
    assert response.body == b"text"


def test_wrong_arguments(server: Server) -> None:
    got = server.get("/bad_adds").text.splitlines()
    assert [line.partition(":")[0] for line in got] == [
        *("ValueError", "ValueError", "ValueError", "TypeError", "TypeError", "TypeError", "ValueError")
    ]
    assert "there is no output filter 'nowhere'" in got[0]
    assert "there is no input filter 'nowhere'" in got[1]


@pytest.mark.parametrize(
    ("handler", "error"),
    [("nomodule", "nomodule"), ("filters::nothing", "contains no 'nothing'"), ("", "names no module")],
)
def test_errors_of_the_handler_come_when_it_runs(server: Server, handler: str, error: str) -> None:
    server.allow(".")
    response = server.get(f"/missing?{handler}")
    assert (response.status, response.body) == (200, b"text")
    assert error in server.error_log


# ---- much data


def test_row_10_8_a_large_file(server: Server) -> None:
    """Sent by httpd's own handler, as one bucket."""
    assert server.get("/upper/file_big.txt").body == LINES.upper()
    assert server.get("/short_reads/file_big.txt").body == LINES


def test_row_10_8_behind_sendfile(server: Server) -> None:
    assert server.get("/upper/sends_file").body == b"BEFORE " + LINES.upper() + b" %d" % len(LINES)


def test_row_10_8_more_than_one_bucket(server: Server) -> None:
    assert server.get("/upper/big").body == b"0123456789ABCDEF" * 4096 * 64
    response = server.get("/big_write/file_big.txt")
    assert len(response.body) == 100 * len(LINES)


def test_lines_of_a_large_file(server: Server) -> None:
    """Each whole, whatever its place in the buckets."""
    expected = b"".join(b"<%d>" % len(line) + line for line in LINES.splitlines(keepends=True))
    assert server.get("/lines/file_big.txt").body == expected


def test_flushing_and_streaming(server: Server) -> None:
    assert server.get("/flushes/flushed").body == b"one two three"
    assert server.get("/flushes/file_big.txt").body == LINES


def test_keep_alive(server: Server) -> None:
    """The end of one response is that of no other."""
    with server.connect() as sock:
        request = "GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
        wanted = ["upper/page", "compress/file.txt", "closes_early/page", "calls/flushed", "passes_on/file.txt"]
        sock.sendall("".join(request % path for path in wanted).encode() + b"GET /show HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: sock.recv(65536), b""))
    assert answer.count(b"HTTP/1.1 200 OK") == 6
    assert b"SOME TEXT\nMORE TEXT" in answer
    assert b"<file text\n>" in answer


# ---- ending early


def test_unread_data_is_dropped(server: Server) -> None:
    assert server.get("/forgets/flushed").body == b"ontwth"


@pytest.mark.parametrize("size", [1, 65_536, 65_537, 480_001, 8 * 1024 * 1024])
def test_reading_once_gives_the_whole_page(server: Server, size: int) -> None:
    """From memory and from a file: functions that read once are common."""
    server.write_file("file_once.txt", b"x" * size)
    for path in (f"/once/large?{size}", "/once/file_once.txt"):
        assert server.get(path).text == f"{size}:x"


def test_longest_result_of_reading(server: Server) -> None:
    size = 8 * 1024 * 1024
    assert server.get(f"/sizes/large?{size + 5}").text == f"{size} 5 "
    # A file that is longer passes in small pieces.
    server.write_file("file_once.txt", b"x" * (size + 5))
    assert set(server.get("/sizes/file_once.txt").text.split()) == {"65536", "5"}


def unread_lines(server: Server, name: str) -> list[str]:
    return [r.message for r in server.log_records() if f"'{name}'" in r.message and "not read" in r.message]


@pytest.mark.parametrize("name", ["forgets", "closes_early"])
def test_data_left_unread_is_logged_once_for_a_connection(server: Server, name: str) -> None:
    before = len(unread_lines(server, name))
    for path in (f"/{name}/flushed", f"/{name}/file_big.txt"):
        with server.connect() as sock:
            for _ in range(2):
                sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                response = HTTPResponse(sock)
                response.begin()
                response.read()
    found = unread_lines(server, name)[before:]
    assert len(found) == 2
    assert "read until read() gives" in found[0]


def test_data_that_was_read_passed_on_or_disabled_is_not_logged(server: Server) -> None:
    for name in ("upper", "passes_on", "disables", "disabled_at_once", "lines", "once"):
        before = len(unread_lines(server, name))
        assert server.get(f"/{name}/page").status == 200
        assert len(unread_lines(server, name)) == before


def test_close_early(server: Server) -> None:
    assert server.get("/closes_early/file_big.txt").body == b"lin"
    assert kept(server)["closed"] == (1, ["I/O operation on closed filter"] * 3)
    assert server.get("/closes_early/flushed").body == b"one"


def test_pass_on(server: Server) -> None:
    assert server.get("/passes_on/file_big.txt").body == b"<" + LINES + b">"
    assert server.get("/passes_on/flushed").body == b"<one ><two ><three><>"


def test_disable(server: Server) -> None:
    assert server.get("/disables/flushed").body == b"first:one two three"
    assert server.get("/disables/file_big.txt").body == b"first:" + LINES


def test_server_return(server: Server) -> None:
    """It ends the call; the second argument sets the status."""
    response = server.get("/server_return/flushed")
    assert (response.status, response.body) == (202, b"before before before before end")


def test_bad_server_return(server: Server) -> None:
    server.allow("SERVER_RETURN takes")
    assert server.get("/bad_server_return/page").body == b"some text\nmore text"
    assert "SERVER_RETURN takes (result) or (result, status), not ('no status',)" in server.error_log


# ---- what goes wrong


def test_row_10_7_a_filter_that_raises(server: Server) -> None:
    """It is logged, and data passes through from there on."""
    server.allow("RuntimeError: filter")
    response = server.get("/fails/flushed")
    assert (response.status, response.body) == (200, b"written, two three")
    assert "phase='fails', handler='filters::fails'): Application error" in server.error_log
    assert "RuntimeError: filter <failed>" in server.error_log
    response = server.get("/fails_later/flushed")
    assert response.body == b"ONE two three"


def test_debug_page(server: Server) -> None:
    server.allow("RuntimeError: filter")
    response = server.get("/debug/page")
    assert response.status == 500
    assert "RuntimeError: filter &lt;failed&gt;" in response.text
    assert "written" not in response.text.partition("Traceback")[0]
    assert "some text" not in response.text
    response = server.get("/debug/file_big.txt")
    assert response.status == 500


def test_debug_page_comes_too_late(server: Server) -> None:
    server.allow("RuntimeError: filter")
    response = server.get("/debug_later/flushed")
    assert (response.status, response.body) == (200, b"ONE two three")


def test_coroutine(server: Server) -> None:
    server.allow("async def")
    assert server.get("/coroutine/page").body == b"some text\nmore text"
    assert "is an 'async def' function, which cannot be a filter" in server.error_log


def test_kept_filter(server: Server) -> None:
    assert server.get("/keeps/page").body == b"SOME TEXT\nMORE TEXT"
    quiet(server)  # the request ends after its response
    uses = ["ValueError"] * 3 + ["DetachedError", "alive"] + ["DetachedError"] * 4
    assert kept(server)["uses"] == (uses, "keeps", 1, True)


def test_request_inside_a_filter(server: Server) -> None:
    """The response is being written: writing it once more has no meaning."""
    body = server.get("/uses_request/with_length").text
    assert body.startswith("this request is being read or written already")
    assert "nor read: some text" in body


def test_threads(server: Server) -> None:
    assert server.get("/in_thread/with_length").body.startswith(b"from a thread some text")
    quiet(server)  # the request ends after its response
    assert kept(server)["late"] == "detached"


def test_client_goes_away(server: Server) -> None:
    """In the middle of a response; the server is none the worse."""
    with server.connect() as sock:
        sock.sendall(b"GET /big_write/file_big.txt HTTP/1.0\r\n\r\n")
        assert sock.recv(1000)
    assert server.get("/upper/page").body == b"SOME TEXT\nMORE TEXT"


def test_many_at_once(server: Server) -> None:
    def work() -> None:
        for _ in range(3):
            assert server.get("/upper/file_big.txt").body == LINES.upper()
            assert server.get("/two/page").body == b"<[some text\nmore text].>"

    at_same_time(*[work] * 4)


# ---- data that comes slowly

CGI = """#!/bin/sh
printf 'Content-Type: text/plain\\n\\none\\n'
while [ ! -e "$PATH_TRANSLATED" ]; do sleep 0.01; done
printf 'two\\n'
"""


def test_a_slow_program() -> None:
    """What a CGI program has said so far goes to the client while it thinks on."""
    config = """
        DocumentRoot ${SITE}
        PythonPath "['${SITE}'] + sys.path"
        PythonOutputFilter filters::lines lines
        ScriptSock cgid.sock
        ScriptAlias /cgi/ ${SITE}/cgi/
        <Location /cgi/>
            SetOutputFilter lines
        </Location>
    """
    files = {"filters.py": FILTERS, "cgi/slow": CGI}
    with running(config, files=files, modules=["mod_cgid"]) as server:
        (server.site / "cgi" / "slow").chmod(0o755)
        with server.connect() as sock:
            sock.sendall(b"GET /cgi/slow/go HTTP/1.0\r\n\r\n")
            got = b""
            while not got.endswith(b"\r\n\r\n<4>one\n"):
                part = sock.recv(65536)
                assert part, got
                got += part
            server.write_file("go", "")
            rest = b"".join(iter(lambda: sock.recv(65536), b""))
    assert rest == b"<4>two\n"


# ---- where it runs, and for how long

WHERE = """
import os
from mod_python import apache

def outputfilter(filter):
    filter.write(apache.interpreter.rpartition("/site")[2] + " ")
    filter.pass_on()
"""


def test_interpreters_and_restarts() -> None:
    """The directive's directory names the interpreter; a restart registers all names anew."""
    config = """
        DocumentRoot ${SITE}
        PythonInterpPerDirective On
        PythonOutputFilter ${SITE}/where.py main
        <Directory ${SITE}/in>
            PythonOutputFilter ../where.py Here
            PythonOutputFilter ../where.py Once
            PythonOutputFilter ../where.py once
            SetOutputFilter HERE;main
        </Directory>
        <Location /in/named.txt>
            PythonInterpreter named
            SetOutputFilter HERE
        </Location>
    """
    files = {"where.py": WHERE, "in/file.txt": "text", "in/named.txt": "text"}
    # Loaded by hand: the kit's own PythonInterpreter would decide.
    with running(f"LoadModule python_module {module_so()}\n" + config, files=files, python=False) as server:
        for restart in (False, True):
            if restart:
                server.graceful()
            assert server.get("/in/file.txt").text == "main_interpreter /in/ text"
            assert server.get("/in/named.txt").text == "named text"
