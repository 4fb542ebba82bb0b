"""Content handlers on a real httpd: headers, status and what is written."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from mod_python.testing.errorlog import tracebacks
from tests.content_site import exchange, get, site

HANDLERS = """
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
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with site(HANDLERS) as server:
        yield server


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


# ---- connections


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
