"""Content handlers on a real httpd: headers, status, body both ways, and what goes wrong."""

from __future__ import annotations

import http.client
import random
import socket
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from mod_python.testing.errorlog import tracebacks
from tests.servers import running

HANDLERS = """
import threading
from mod_python import apache

kept = {}

# -- headers

def headers_in(req):
    req.content_type = "text/plain; charset=iso-8859-1"
    lines = ["%s=%s" % item for item in req.headers_in.items() if item[0].lower().startswith("x-")]
    lines.append("joined %s" % req.headers_in["X-TWICE"])
    req.write("\\n".join(lines).encode("latin-1"))
    return apache.OK

def headers_out(req):
    req.content_type = "text/x-test"
    req.headers_out["X-One"] = "1"
    req.headers_out["x-one"] = "2"
    req.headers_out.add("Set-Cookie", "a=1")
    req.headers_out.add("set-cookie", "b=2")
    req.headers_out[b"X-Latin"] = "".join(map(chr, range(0xA0, 0x100)))
    req.headers_out["X-Tab"] = "a\\tb"
    req.headers_out["X-Gone"] = "1"
    del req.headers_out["X-GONE"]
    return apache.OK

def injection(req):
    refused = []
    for table in (req.headers_out, req.err_headers_out, req.headers_in):
        for bad in ("a\\r\\nX-Evil: 1", "a\\nX-Evil: 1", "a\\rX-Evil: 1", "a\\0b", b"a\\nX-Evil: 1", "\\n"):
            for act in (
                lambda: table.__setitem__("X-Test", bad),
                lambda: table.__setitem__(bad, "v"),
                lambda: table.add("X-Test", bad),
                lambda: table.add(bad, "v"),
                lambda: table.setdefault("X-New", bad),
                lambda: table.update({"X-Test": bad}),
                lambda: table.update({bad: "x"}),
                lambda: table.update(apache.table({"X-Test": bad})),
                lambda: table.__init__({"X-Test": bad}),
                lambda: setattr(req, "content_type", bad),
            ):
                try:
                    act()
                except ValueError:
                    refused.append(True)
                else:
                    refused.append(False)
    req.write("%d refused, %d not" % (refused.count(True), refused.count(False)))
    return apache.OK

def bad_name(req):
    req.headers_out[{"blank": "X Evil", "colon": "X-Evil:1", "empty": ""}[req.args]] = "1"
    req.write("text")
    return apache.OK

def control_character(req):
    req.headers_out["X-Test"] = "a\\x01b"
    req.write("text")
    return apache.OK

def error_headers(req):
    req.headers_out["X-Out"] = "1"
    req.err_headers_out["X-Err"] = "2"
    return apache.HTTP_NOT_FOUND

# -- status

def status(req):
    before = req.status, req.status_line
    req.status = int(req.args)
    req.content_type = "text/plain"
    req.write("%s %s" % before)
    return apache.OK

def returned(req):
    req.write("not to be seen", 0)
    return int(req.args)

def server_return(req):
    req.write("queued", 0)
    raise apache.SERVER_RETURN(*[eval(arg) for arg in req.args.split(",")])

def bad_status(req):
    refused = []
    for bad in (0, 99, 1000, -1, "200", None):
        try:
            req.status = bad
        except (TypeError, ValueError) as exc:
            refused.append(type(exc).__name__)
    req.write(" ".join(refused))
    return apache.OK

def bad_result(req):
    return {"None": None, "str": "200", "float": 0.0, "True": True, "7": 7, "1000": 1000}[req.args]

async def coroutine(req):
    return apache.OK

# -- writing

def queued(req):
    for part in ("one ", b"two ", bytearray(b"three "), memoryview(b"four "), "f\\u00fcnf \\u20ac"):
        req.write(part, 0)
    req.write("", 0)
    req.write(b"")
    assert req.bytes_sent == 0 and not req.sent_bodyct
    assert req._bytes_queued == len("one two three four f\\u00fcnf \\u20ac".encode()), req._bytes_queued
    return apache.OK

def flushed(req):
    req.write("1234")
    assert req.bytes_sent == 4, req.bytes_sent
    assert req.chunked == (1 if req.proto_num >= 1001 else 0)
    req.write("56", flush=0)
    assert req.bytes_sent == 4
    req.flush()
    assert req.bytes_sent == 6
    req.flush()
    return apache.OK

def bad_write(req):
    for bad in (None, 1, ["x"], 1.5, object()):
        try:
            req.write(bad)
        except TypeError:
            continue
        return apache.HTTP_NOT_IMPLEMENTED
    try:
        req.write("\\udcff")
    except UnicodeEncodeError:
        req.write("refused")
    return apache.OK

def length(req):
    req.set_content_length(4)
    assert req.clength == 4 and req.headers_out["content-length"] == "4"
    for bad in (-1, "x", None, 2**64):
        try:
            req.set_content_length(bad)
        except (ValueError, TypeError, OverflowError):
            continue
        return apache.HTTP_NOT_IMPLEMENTED
    req.write("abcd")
    return apache.OK

def many(req):
    for _ in range(20000):
        req.write("x" * 10, int(req.args))
    return apache.OK

def nothing(req):
    return apache.OK

def done(req):
    req.write("done", 0)
    return apache.DONE

def declined(req):
    return apache.DECLINED

def declined_after_output(req):
    req.write("[before]", 0)
    return apache.DECLINED

# -- reading

def echo(req):
    req.write(req.read())
    return apache.OK

def echo_parts(req):
    while True:
        data = req.read(8191)
        if not data:
            break
        assert len(data) <= 8191
        req.write(data, 0)
    assert req.read() == req.read(5) == req.readline() == b"" and req.readlines() == []
    return apache.OK

def lines(req):
    req.write(repr([len(line) for line in req]))
    return apache.OK

def readlines(req):
    first = req.readlines(int(req.args))
    rest = req.readlines()
    req.write(repr([[len(line) for line in first], [len(line) for line in rest]]))
    return apache.OK

def mixed(req):
    got = [req.read(3), req.readline(), req.readline(4), req.read(0), req.readline(0), req.readline(), req.read(1)]
    got += req.readlines(1)
    got.append(next(req))
    got += list(req)
    got.append(req.read())
    req.write(repr(got))
    return apache.OK

def no_read(req):
    req.write("unread", 0)
    return apache.OK

def read_error(req):
    try:
        req.read()
    except OSError as exc:
        kept["error"] = [c.__name__ for c in type(exc).__mro__] + [str(exc)]
        req.log_error("read failed: " + str(kept["error"]))
        raise
    req.log_error("read did not fail")
    return apache.OK

# -- failures

def helper(text):
    raise ValueError(text)

def failing(req):
    req.content_type = "text/plain"
    req.write("never seen", 0)
    helper("marker-%s <b>&\\"'" % req.args)

def chained(req):
    try:
        helper("first-of-chain")
    except ValueError as exc:
        raise KeyError("second-of-chain") from exc

def failing_after_output(req):
    req.write("sent")
    helper("marker-after-output")

def exits(req):
    raise SystemExit("marker-exit")

def recursion(req):
    return recursion(req)

def multi_line(req):
    raise ValueError("marker-lines\\n[Sat Jan 01 00:00:00 2000] [core:crit] forged\\r\\x1b[31mred")

def to_nobody(req):
    try:
        while True:
            req.write(b"x" * 65536)
    except OSError as exc:
        req.log_error("writing ended: %s %s" % (type(exc).__name__, exc), apache.APLOG_DEBUG)
        raise

# -- the object

def attributes(req):
    assert not hasattr(req, "form")
    req.form = [1]
    assert req.form == [1] and vars(req) == {"form": [1]}
    req.form.append(2)
    del req.form
    try:
        req.form
    except AttributeError as exc:
        assert "form" in str(exc)
    else:
        raise AssertionError
    for name in ("uri", "headers_in", "connection", "phase", "bytes_sent"):
        for change in (lambda: delattr(req, name), lambda: setattr(req, name, None)):
            try:
                change()
            except (AttributeError, TypeError):
                continue
            raise AssertionError(name)
    for name in ("status", "content_type"):
        try:
            delattr(req, name)
        except (AttributeError, TypeError, NotImplementedError):
            continue
        raise AssertionError(name)
    try:
        type(req)()
    except TypeError as exc:
        assert "mp_request" in str(exc)
    req.write("fine")
    return apache.OK

def facts(req):
    conn = req.connection
    assert req.connection is conn
    assert str(type(conn)) == "<class 'mp_conn'>", type(conn)
    assert str(type(req)) == "<class 'mp_request'>", type(req)
    assert str(type(req.server)) == "<class 'mp_server'>", type(req.server)
    assert str(type(req.headers_in)) == "<class 'mp_table'>", type(req.headers_in)
    assert req.server is req.server and type(conn.base_server) is type(req.server)
    assert req.next is None and req.prev is None and req.main is None
    assert req.the_request == "GET /facts?a=b%20c HTTP/1.1", req.the_request
    assert req.protocol == "HTTP/1.1" and req.proto_num == 1001
    assert req.header_only == 0 and req.method == "GET" and req.method_number == apache.M_GET
    assert req.hostname == "127.0.0.1" and req.headers_in["Host"].startswith("127.0.0.1:")
    import time
    assert abs(req.request_time - time.time()) < 60
    assert req.status == 200 and req.status_line is None
    assert req.sent_bodyct == 0 and req.bytes_sent == 0 and req.clength == 0 and req.chunked == 0
    assert req.phase == "PythonHandler" and req.handler == "mod_python" and req.extension is None
    assert req.interpreter == apache.interpreter == "main_interpreter"
    assert req.uri == "/facts" and req.unparsed_uri == "/facts?a=b%20c" and req.args == "a=b%20c"
    assert req.user is None and req.path_info is not None
    assert req.useragent_ip == conn.client_ip == "127.0.0.1"
    assert conn.client_addr[0] == conn.local_addr[0] == conn.local_ip == "127.0.0.1"
    assert conn.remote_host is None and conn.remote_logname is None and conn.local_host is None
    assert conn.aborted == 0 and conn.double_reverse == 0
    assert str(conn.notes) == "{}"
    assert req.document_root() and req.hlist.handler.startswith("/") and req.hlist.is_location == 1
    assert req._content_type_set == 0
    req.content_type = "text/plain"
    assert req.content_type == "text/plain" and req._content_type_set == 1
    assert "GET" in repr(req) and "127.0.0.1" in repr(conn)
    assert req.is_https() == 0 and req.ssl_var_lookup("SSL_PROTOCOL") is None
    req.notes["k"] = "v"
    assert req.notes["K"] == "v"
    import sys
    assert sys.argv == ["mod_python"]
    req.write("fine")
    assert (conn.keepalive, conn.keepalives) in ((apache.AP_CONN_KEEPALIVE, 1), (apache.AP_CONN_CLOSE, 0))
    return apache.OK

def tls(req):
    req.write("%d %s %d" % (req.is_https(), req.ssl_var_lookup("SSL_PROTOCOL"), req.connection.is_https()))
    assert req.ssl_var_lookup("NO_SUCH_VARIABLE") is None
    return apache.OK

def tables(req):
    # The same objects, and changes through them last as long as the request.
    assert req.get_config() is req.get_config() and req.get_options() is req.get_options()
    req.get_options()["new"] = "value"
    assert req.get_options()["new"] == "value"
    req.write("fine")
    return apache.OK

def untouched_options(req):
    req.write(str("new" in req.get_options()))
    return apache.OK

def keep(req):
    kept.update(req=req, headers=req.headers_in, notes=req.notes, write=req.write, iterator=iter(req.headers_in),
                options=req.get_options(), config=req.get_config(), own=apache.table({"a": "1"}))
    req.own_attribute = 1
    req.write("kept")
    return apache.OK

def check_detached():
    old = kept["req"]
    calls = {"write": (b"x",), "log_error": ("x",), "set_content_length": (1,), "ssl_var_lookup": ("X",)}
    for way in ("input", "output"):
        calls["add_%s_filter" % way] = ("name",)
        calls["register_%s_filter" % way] = ("name", "module")
    wrong = []
    checked = 0

    def must_raise(what, function, *args):
        nonlocal checked
        checked += 1
        try:
            function(*args)
        except apache.DetachedError as exc:
            assert isinstance(exc, RuntimeError) and "over" in str(exc)
        except Exception as exc:
            wrong.append("%s: %r" % (what, exc))
        else:
            wrong.append("%s: no exception" % what)

    for name in dir(type(old)):
        if name.startswith("__"):
            continue
        kind = type(getattr(type(old), name)).__name__
        if kind == "getset_descriptor":
            must_raise(name, getattr, old, name)
        else:
            must_raise(name, getattr(old, name), *calls.get(name, ()))
    must_raise("status=", setattr, old, "status", 200)
    must_raise("content_type=", setattr, old, "content_type", "text/plain")
    must_raise("iter", iter, old)
    must_raise("next", next, old)
    must_raise("bound write", kept["write"], b"x")
    must_raise("iterator", next, kept["iterator"])
    for label in ("headers", "notes", "options", "config"):
        table = kept[label]
        for name in ("keys", "values", "items", "clear", "copy", "popitem"):
            must_raise(label + "." + name, getattr(table, name))
        must_raise(label + "[]", lambda: table["k"])
        must_raise(label + "[]=", table.__setitem__, "k", "v")
        must_raise(label + " del", table.__delitem__, "k")
        for name in ("get", "has_key", "__contains__", "setdefault"):
            must_raise(label + "." + name, getattr(table, name), "k")
        must_raise(label + ".add", table.add, "k", "v")
        must_raise(label + ".update", table.update, {"k": "v"})
        must_raise(label + ".update table", table.update, apache.table({"k": "v"}))
        must_raise(label + ".init", table.__init__, {"k": "v"})
        for function in (len, bool, repr, str, list, iter):
            must_raise(label + " " + function.__name__, function, table)
        must_raise(label + " ==", lambda: table == {})
    assert "gone" in repr(old)
    assert kept["own"] == {"a": "1"} and old.own_attribute == 1
    return checked, wrong

def detached(req):
    results = [check_detached()]
    thread = threading.Thread(target=lambda: results.append(check_detached()))
    thread.start()
    thread.join()
    assert req is not kept["req"]
    for checked, wrong in results:
        assert not wrong, wrong
        assert checked > 120, checked
    assert len(results) == 2
    kept.clear()
    req.write("fine")
    return apache.OK

def handler(req):
    return globals()[req.uri.rpartition("/")[2]](req)
"""

CONFIG = """
DocumentRoot ${SITE}/docs
<Directory ${SITE}/docs>
    Require all granted
</Directory>
<Location />
    SetHandler mod_python
    PythonHandler ${SITE}/handlers.py
</Location>
<Location /debug>
    PythonDebug On
</Location>
<Location /coroutine>
    PythonHandler ${SITE}/handlers.py::coroutine
</Location>
<Location /files>
    PythonHandler ${SITE}/handlers.py::declined
</Location>
<Location /appended>
    PythonHandler ${SITE}/handlers.py::declined_after_output
</Location>
"""

FILES = {
    "handlers.py": HANDLERS,
    "docs/index.html": "index",
    "docs/files/page.txt": "the file",
    "docs/appended/page.txt": "the file",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(CONFIG, files=FILES, listen=2, tls=[1]) as server:
        yield server


@pytest.fixture(scope="module")
def impatient() -> Iterator[Server]:
    """A server that waits one second for the client."""
    with running("Timeout 1\n" + CONFIG, files=FILES) as server:
        yield server


def exchange(server: Server, data: bytes) -> bytes:
    """Send bytes, and return all that comes until the server closes."""
    with server.connect() as sock:
        sock.sendall(data)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def get(path: str, *lines: str, method: str = "GET", close: bool = True) -> bytes:
    """Return the head of a request."""
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", *lines, *(["Connection: close"] if close else [])]
    return "\r\n".join([*head, "", ""]).encode("latin-1")


def lines_of(server: Server, text: str) -> list[str]:
    """Return the messages in the error log that contain a text."""
    return [record.message for record in server.log_records() if text in record.message]


def reported(server: Server, marker: str) -> str:
    """Expect one traceback with this text; return it."""
    server.allow(marker)
    server.wait_for_log(marker)
    found = [text for text in tracebacks(server.log_records()) if marker in text]
    assert len(found) == 1, found
    return found[0]


# ---- headers


def test_headers_in(server: Server) -> None:
    value = "".join(map(chr, range(0xA0, 0x100)))
    answer = exchange(server, get("/headers_in", "X-Twice: 1", f"x-latin: {value}", "X-TWICE: 2", "X-Empty:"))
    body = answer.partition(b"\r\n\r\n")[2].decode("latin-1")
    assert "X-Twice=1, 2\n" in body or ("X-Twice=1\n" in body and "X-TWICE=2\n" in body)
    assert f"x-latin={value}\n" in body
    assert "X-Empty=\n" in body
    assert "joined 1, 2" in body or "joined ['1', '2']" in body


def test_headers_out(server: Server) -> None:
    response = server.get("/headers_out")
    assert response.headers["Content-Type"] == "text/x-test"
    assert response.headers.get_all("x-one") == ["2"]
    assert response.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert response.headers["X-Tab"] == "a\tb"
    assert "X-Gone" not in response.headers
    raw = exchange(server, get("/headers_out"))
    assert b"X-Latin: " + bytes(range(0xA0, 0x100)) + b"\r\n" in raw


def test_no_header_can_be_injected(server: Server) -> None:
    raw = exchange(server, get("/injection"))
    assert b"180 refused, 0 not" in raw
    assert b"X-Evil" not in raw
    assert raw.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("path", ["bad_name?blank", "bad_name?colon", "bad_name?empty", "control_character"])
def test_httpd_refuses_other_bad_headers(server: Server, path: str) -> None:
    raw = exchange(server, get(f"/{path}"))
    assert b"Evil" not in raw
    assert b"\x01" not in raw
    assert raw.startswith(b"HTTP/1.1 500 ")


def test_headers_of_an_error_response(server: Server) -> None:
    response = server.get("/error_headers")
    assert response.status == 404
    assert response.headers["X-Err"] == "2"
    assert "X-Out" not in response.headers


# ---- status


@pytest.mark.parametrize("status", [200, 201, 404, 418, 503, 299, 999])
def test_status_set(server: Server, status: int) -> None:
    response = server.get(f"/status?{status}")
    assert response.status == status
    assert response.text == "200 None"


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_status_returned(server: Server, status: int) -> None:
    response = server.get(f"/returned?{status}")
    assert response.status == status
    assert "not to be seen" not in response.text
    assert f"<title>{status} " in response.text


def test_bad_status_set(server: Server) -> None:
    names = "ValueError ValueError ValueError ValueError TypeError TypeError"
    assert server.get("/bad_status").text == names


@pytest.mark.parametrize(
    ("args", "status", "text"),
    [
        ("apache.OK", 200, "queued"),
        ("apache.DONE", 200, "queued"),
        ("apache.OK,404", 404, "queued"),
        ("403", 403, None),
        ("404,0", 404, None),
        ("apache.DONE,201", 201, "queued"),
    ],
)
def test_server_return(server: Server, args: str, status: int, text: str | None) -> None:
    response = server.get(f"/server_return?{args}")
    assert response.status == status
    if text is None:
        assert "queued" not in response.text
        assert "<title>" in response.text
    else:
        assert response.text == text


@pytest.mark.parametrize("args", ["None", "'x'", "1.5", "0,0,0"])
def test_bad_server_return(server: Server, args: str) -> None:
    server.allow("SERVER_RETURN")
    before = len(tracebacks(server.log_records()))
    assert server.get(f"/server_return?{args}").status == 500
    server.wait_until(lambda: len(tracebacks(server.log_records())) == before + 1)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("None", "returned None"),
        ("str", "returned a str"),
        ("float", "returned a float"),
        ("True", "returned True"),
        ("7", "returned 7"),
        ("1000", "returned 1000"),
    ],
)
def test_bad_result(server: Server, result: str, text: str) -> None:
    server.allow("handlers.py' returned")
    assert server.get(f"/bad_result?{result}").status == 500
    server.wait_for_log(rf"(Type|Value)Error: handler '.*handlers\.py' {text}\b.*apache\.OK")
    response = server.get(f"/debug/bad_result?{result}")
    assert response.status == 500
    assert text in response.text


def test_coroutine_function(server: Server) -> None:
    server.allow("async def")
    assert server.get("/coroutine").status == 500
    server.wait_for_log("TypeError: .*returned a coroutine.*'async def'")
    assert "never awaited" not in server.error_log


# ---- writing


def test_queued_output_has_a_length(server: Server) -> None:
    response = server.get("/queued")
    expected = "one two three four fünf €".encode()
    assert response.body == expected
    assert response.headers["Content-Length"] == str(len(expected))
    assert "Transfer-Encoding" not in response.headers


def test_flushed_output_is_chunked(server: Server) -> None:
    response = server.get("/flushed")
    assert response.body == b"123456"
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in response.headers


def test_flushed_output_to_http_1_0(server: Server) -> None:
    raw = exchange(server, b"GET /flushed HTTP/1.0\r\n\r\n")
    assert raw.endswith(b"\r\n\r\n123456")
    assert b"chunked" not in raw


@pytest.mark.parametrize("path", ["bad_write", "length", "nothing", "done"])
def test_small_responses(server: Server, path: str) -> None:
    response = server.get(f"/{path}")
    assert response.status == 200
    assert response.text == {"bad_write": "refused", "length": "abcd", "nothing": "", "done": "done"}[path]
    if path != "bad_write":
        assert response.headers["Content-Length"] == str(len(response.body))


@pytest.mark.parametrize("flush", [0, 1])
def test_many_writes(server: Server, flush: int) -> None:
    assert server.get(f"/many?{flush}").body == b"x" * 200_000


@pytest.mark.parametrize("path", ["queued", "flushed", "length", "nothing"])
def test_head(server: Server, path: str) -> None:
    # bytes_sent stays 0 with HEAD, which is what "flushed" asserts for GET.
    if path == "flushed":
        path = "many?1"
    raw = exchange(server, get(f"/{path}", method="HEAD"))
    assert raw.startswith(b"HTTP/1.1 200 ")
    assert raw.endswith(b"\r\n\r\n")
    assert raw.count(b"\r\n\r\n") == 1


def test_declined(server: Server) -> None:
    assert server.get("/files/page.txt").text == "the file"
    assert server.get("/files/none.txt").status == 404
    response = server.get("/appended/page.txt")
    assert response.text == "[before]the file"


# ---- reading


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 8193, 100_000, 20 * 1024 * 1024])
@pytest.mark.parametrize("path", ["/echo", "/echo_parts"])
def test_echo(server: Server, path: str, size: int) -> None:
    body = random.Random(size).randbytes(size)
    response = server.request("POST", path, body)
    assert response.status == 200
    assert response.body == body


def test_body_of_a_get(server: Server) -> None:
    assert server.request("GET", "/echo", b"abc").body == b"abc"
    assert server.get("/echo").body == b""


@pytest.mark.parametrize("path", ["/echo", "/echo_parts"])
def test_chunked_request(server: Server, path: str) -> None:
    parts = [b"a" * 10, b"b" * 20_000, b"c"]
    head = get(path, "Transfer-Encoding: chunked", method="POST")
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    raw = exchange(server, head + chunks + b"0\r\nX-Trailer: 1\r\n\r\n")
    body = raw.partition(b"\r\n\r\n")[2]
    if b"Transfer-Encoding: chunked" in raw:
        assert body.replace(b"\r\n", b"").startswith(b"4e2b" + b"".join(parts)[:10])
        assert body.endswith(b"bc\r\n0\r\n\r\n")
    else:
        assert body == b"".join(parts)


def test_lines(server: Server) -> None:
    body = (b"a" * 30_000 + b"\n") * 3 + b"\n" + b"last"
    assert server.request("POST", "/lines", body).text == "[30001, 30001, 30001, 1, 4]"
    assert server.request("POST", "/lines", b"").text == "[]"


@pytest.mark.parametrize(
    ("hint", "result"),
    [
        (30_000, "[[30001], [30001, 30001]]"),
        (30_001, "[[30001], [30001, 30001]]"),
        (30_002, "[[30001, 30001], [30001]]"),
        (32_000, "[[30001, 30001], [30001]]"),
        (-1, "[[30001, 30001, 30001], []]"),
        (0, "[[30001, 30001, 30001], []]"),
    ],
)
def test_readlines(server: Server, hint: int, result: str) -> None:
    body = (b"a" * 30_000 + b"\n") * 3
    assert server.request("POST", f"/readlines?{hint}", body).text == result


def test_mixed_reading(server: Server) -> None:
    body = b"abcdef\nghijklm\nopq\nrst\nuvw\nxyz"
    expected = [b"abc", b"def\n", b"ghij", b"", b"", b"klm\n", b"o", b"pq\n", b"rst\n", b"uvw\n", b"xyz", b""]
    assert server.request("POST", "/mixed", body).text == repr(expected)


def test_body_in_small_segments(server: Server) -> None:
    body = b"one\ntwo\n" * 5
    with server.connect() as sock:
        sock.sendall(get("/lines", f"Content-Length: {len(body)}", method="POST"))
        for byte in body:
            sock.sendall(bytes([byte]))
        raw = b"".join(iter(lambda: sock.recv(65536), b""))
    assert b"[4, 4, 4, 4, 4, 4, 4, 4, 4, 4]" in raw


def test_expect_continue(server: Server) -> None:
    with server.connect() as sock, sock.makefile("rb") as file:
        sock.sendall(get("/echo", "Content-Length: 3", "Expect: 100-continue", method="POST"))
        assert file.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert file.readline() == b"\r\n"
        sock.sendall(b"abc")
        rest = file.read()
    assert b"HTTP/1.1 200 " in rest
    assert b"\r\nabc" in rest
    with server.connect() as sock, sock.makefile("rb") as file:
        sock.sendall(get("/returned?403", "Content-Length: 3", "Expect: 100-continue", method="POST"))
        assert file.readline().startswith(b"HTTP/1.1 403 ")


def test_unread_body_keeps_the_connection(server: Server) -> None:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        for _ in range(3):
            connection.request("POST", "/no_read", b"x" * 50_000)
            assert connection.getresponse().read() == b"unread"
    finally:
        connection.close()


def test_bad_chunk(server: Server) -> None:
    head = get("/echo", "Transfer-Encoding: chunked", method="POST")
    raw = exchange(server, head + b"zz\r\nabc\r\n0\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 400 ")


def test_body_that_ends_early(server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(get("/read_error?early", "Content-Length: 100", method="POST") + b"only this")
        sock.shutdown(socket.SHUT_WR)
        b"".join(iter(lambda: sock.recv(65536), b""))
    match = server.wait_for_log(r"read (failed: .*|did not fail)")
    assert "'OSError'" in match[0]
    assert "'ConnectionClosed'" in match[0]


def test_body_that_stalls(impatient: Server) -> None:
    with impatient.connect() as sock:
        sock.sendall(get("/read_error?stalls", "Content-Length: 100", method="POST") + b"only this")
        raw = b"".join(iter(lambda: sock.recv(65536), b""))
    match = impatient.wait_for_log(r"read (failed: .*|did not fail)")
    assert "'OSError'" in match[0]
    assert "'TimeoutError'" in match[0]
    assert "Client read error (Timeout?)" in match[0]
    assert raw.startswith(b"HTTP/1.1 408 ") or raw == b""


# ---- failures


def test_exception(server: Server) -> None:
    response = server.get("/failing?plain")
    assert response.status == 500
    assert "never seen" not in response.text
    assert "marker" not in response.text
    text = reported(server, "marker-plain")
    for part in ("Traceback (most recent call last)", "in handler", "in failing", "in helper", "raise ValueError"):
        assert part in text
    assert text.splitlines()[-1].endswith("ValueError: marker-plain <b>&\"'")
    assert "_dispatch" not in text
    assert len(lines_of(server, "marker-plain")) == 1
    assert lines_of(server, "Application error")


def test_exception_with_debug_on(server: Server) -> None:
    response = server.get("/debug/failing?page")
    assert response.status == 500
    assert response.headers.get_content_type() == "text/html"
    assert "ValueError: marker-page &lt;b&gt;&amp;&quot;&#x27;" in response.text
    assert "<b>" not in response.text
    assert "in helper" in response.text
    assert "never seen" not in response.text
    reported(server, "marker-page")


def test_chained_exception(server: Server) -> None:
    assert server.get("/chained").status == 500
    server.allow("-of-chain")
    server.wait_for_log("second-of-chain")
    assert len(lines_of(server, "ValueError: first-of-chain")) == 1
    assert len(lines_of(server, "KeyError: 'second-of-chain'")) == 1
    assert lines_of(server, "direct cause")


@pytest.mark.parametrize("prefix", ["", "/debug"])
def test_exception_after_output(server: Server, prefix: str) -> None:
    """What was sent must not pass for the whole: no error page after it, no last chunk."""
    raw = exchange(server, get(f"{prefix}/failing_after_output", close=False))
    assert raw.startswith(b"HTTP/1.1 200 ")
    assert raw.endswith(b"\r\n\r\n4\r\nsent\r\n")
    server.allow("marker-after-output")
    server.wait_for_log("ValueError: marker-after-output")


def test_system_exit_ends_the_request_only(server: Server) -> None:
    before = server.children()
    assert server.get("/exits").status == 500
    reported(server, "marker-exit")
    assert server.children() == before


def test_endless_recursion(server: Server) -> None:
    server.allow("recursion")
    assert server.get("/recursion").status == 500
    server.wait_for_log("RecursionError: maximum recursion depth exceeded")


def test_exception_text_cannot_forge_a_log_line(server: Server) -> None:
    server.allow("marker-lines")
    assert server.get("/multi_line").status == 500
    server.wait_for_log("forged")
    assert "\x1b" not in server.error_log
    for record in server.log_records():
        if "forged" in record.line:
            assert (record.module, record.level) == ("python", "error")


def test_client_gone(server: Server) -> None:
    before = len(server.log_records("info"))
    with server.connect() as sock:
        sock.sendall(get("/to_nobody"))
        assert sock.recv(1000)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    match = server.wait_for_log("writing ended: (.*)")
    assert match[1].startswith("ConnectionClosed Write failed, client closed connection.")
    server.wait_for_log("handlers.py: the client closed the connection: Write failed")
    new = [r.line for r in server.log_records("info")[before:] if r.module == "python"]
    assert new == []


# ---- the object


@pytest.mark.parametrize("path", ["attributes", "facts?a=b%20c", "tables"])
def test_object(server: Server, path: str) -> None:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        connection.request("GET", f"/{path}")
        assert connection.getresponse().read() == b"fine"
    finally:
        connection.close()


def test_options_of_a_request_are_its_own(server: Server) -> None:
    assert server.get("/tables").text == "fine"
    for _ in range(5):
        assert server.get("/untouched_options").text == "False"


def test_everything_is_detached_after_the_request(server: Server) -> None:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        connection.request("GET", "/keep")
        assert connection.getresponse().read() == b"kept"
        connection.request("GET", "/detached")
        assert connection.getresponse().read() == b"fine"
    finally:
        connection.close()


def test_keep_alive(server: Server) -> None:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        sock = None
        for number in range(50):
            path = ("/queued", "/flushed", "/nothing", "/returned?404")[number % 4]
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            assert response.status == (404 if "404" in path else 200)
            assert sock is None or connection.sock is sock
            sock = connection.sock
    finally:
        connection.close()


def test_tls(server: Server) -> None:
    response = server.get("/tls", index=1)
    assert response.status == 200
    https, protocol, conn = response.text.split()
    assert int(https)
    assert int(conn)
    assert protocol.startswith("TLSv1.")
    body = random.Random(1).randbytes(300_000)
    assert server.request("POST", "/echo", body, index=1).body == body
