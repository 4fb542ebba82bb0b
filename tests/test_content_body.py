"""Content handlers on a real httpd: reading the request body."""

from __future__ import annotations

import http.client
import random
import socket
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.content_site import exchange, get, site

HANDLERS = """
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

def discard(req):
    first = req.read(10)
    status = req.discard_request_body()
    again = req.discard_request_body()
    req.write(repr([first, status, again, req.read(), req.read(5), req.readline(), req.readlines(), list(req)]))
    return apache.OK

def discard_status(req):
    status = req.discard_request_body()
    if status == apache.OK:
        req.write("discarded")
    return status

def streams(req):
    while (data := req.read(2)):
        req.write(data)
    return apache.OK

def counts(req):
    def look():
        return (req.remaining, req.read_length, req.read_chunked, req.read_body, req.expecting_100)
    found = [look()]
    for size in (1, 10, 5):
        req.read(size)
        found.append(look())
    req.readline()
    found.append(look())
    req.read()
    found.append(look())
    req.write(repr(found))
    return apache.OK

def lengths(req):
    for call in (lambda: req.read("1"), lambda: req.read(None), lambda: req.read(2**70), lambda: req.readline(1.5),
                 lambda: req.readlines("x"), lambda: req.read(1, 2)):
        try:
            call()
        except (TypeError, OverflowError):
            continue
        raise AssertionError
    assert req.readline(len=2**62) == b"first\\n" and req.read(len=-5)[:6] == b"second"
    req.write("fine")
    return apache.OK

def huge_length(req):
    # The word of the client is worth nothing: it takes memory only as bytes come.
    data = req.read(3)
    req.write(data)
    req.log_error("%d remaining" % req.remaining)
    return apache.OK

def refuse(req):
    return apache.HTTP_FORBIDDEN

def read_error(req):
    try:
        req.read()
    except OSError as exc:
        kept["error"] = [c.__name__ for c in type(exc).__mro__] + [str(exc)]
        req.log_error("read failed: " + str(kept["error"]))
        raise
    req.log_error("read did not fail")
    return apache.OK
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with site(HANDLERS) as server:
        yield server


@pytest.fixture(scope="module")
def impatient() -> Iterator[Server]:
    """A server that waits one second for the client."""
    with site(HANDLERS, "Timeout 1\n") as server:
        yield server


# ---- reading


def test_row_6_44_discard_request_body(server: Server) -> None:
    body = bytes(range(65, 91)) * 1000
    for method in ("GET", "POST"):
        expected = repr([body[:10], 0, 0, b"", b"", b"", [], []])
        assert server.request(method, "/discard", body).text == expected
    assert server.get("/discard").text == repr([b"", 0, 0, b"", b"", b"", [], []])


def test_discarding_a_broken_body(server: Server) -> None:
    head = get("/discard_status", "Transfer-Encoding: chunked", method="POST")
    raw = exchange(server, head + b"zz\r\n")
    assert raw.startswith(b"HTTP/1.1 400 ")
    assert raw.count(b"HTTP/1.1 ") == 1
    assert b"discarded" in exchange(server, head + b"2\r\nab\r\n0\r\n\r\n")


def test_answering_a_body_that_breaks_off(server: Server) -> None:
    # The server's log, where no traceback may be, is looked at in the end.
    head = get("/streams", "Transfer-Encoding: chunked", method="POST")
    for body in (b"4\r\nabcd\r\nzz\r\n", b"3\r\nabc\r\n4\r\nefghi\r\n"):
        raw = exchange(server, head + body)
        assert raw.startswith(b"HTTP/1.1 ")
        assert raw.count(b"HTTP/1.1 ") == 1


def test_counts(server: Server) -> None:
    body = b"0123456789" * 2 + b"\n" + b"x" * 29
    text = server.request("POST", "/counts", body).text
    assert text == repr([(50 - n, n, 0, 0, 0) for n in (0, 1, 11, 16, 21, 50)])
    head = get("/counts", "Transfer-Encoding: chunked", method="POST")
    raw = exchange(server, head + b"32\r\n" + body + b"\r\n0\r\n\r\n")
    assert repr([(0, n, 1, 0, 0) for n in (0, 1, 11, 16, 21, 50)]).encode() in raw


def test_lengths(server: Server) -> None:
    assert server.request("POST", "/lengths", b"first\nsecond" + b"x" * 20_000).text == "fine"


def test_the_length_that_a_client_claims_is_not_allocated(server: Server) -> None:
    length = 10**9  # httpd's own limit is a little more
    with server.connect() as sock:
        sock.sendall(get("/huge_length", f"Content-Length: {length}", method="POST") + b"abc")
        server.wait_for_log(rf"{length - 3} remaining")


def test_row_6_46_lines_of_a_chunked_body(server: Server) -> None:
    body = (b"a" * 30_000 + b"\n") * 3
    head = get("/lines", "Transfer-Encoding: chunked", method="POST")
    chunks = b"".join(
        b"%x;ext=1\r\n%b\r\n" % (len(body[n : n + 7000]), body[n : n + 7000]) for n in range(0, len(body), 7000)
    )
    raw = exchange(server, head + chunks + b"0\r\n\r\n")
    assert b"[30001, 30001, 30001]" in raw


@pytest.mark.parametrize("end", [b"", b"5\r\nab", b"5\r\nabcde\r\n", b"fffffffffffffffff\r\n"])
def test_row_6_46_chunked_body_that_breaks(server: Server, end: bytes) -> None:
    server.allow("Client read error")
    head = get("/echo", "Transfer-Encoding: chunked", method="POST")
    with server.connect() as sock:
        sock.sendall(head + b"3\r\nabc\r\n" + end)
        sock.shutdown(socket.SHUT_WR)
        raw = b"".join(iter(lambda: sock.recv(65536), b""))
    assert b"200 OK" not in raw


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 8193, 100_000, 20 * 1024 * 1024])
@pytest.mark.parametrize("path", ["/echo", "/echo_parts"])
def test_row_6_40_echo(server: Server, path: str, size: int) -> None:
    body = random.Random(size).randbytes(size)
    response = server.request("POST", path, body)
    assert response.status == 200
    assert response.body == body


def test_body_of_a_get(server: Server) -> None:
    assert server.request("GET", "/echo", b"abc").body == b"abc"
    assert server.get("/echo").body == b""


@pytest.mark.parametrize("path", ["/echo", "/echo_parts"])
def test_row_6_46_chunked_request(server: Server, path: str) -> None:
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


def test_row_6_42_lines(server: Server) -> None:
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
def test_row_6_43_readlines(server: Server, hint: int, result: str) -> None:
    body = (b"a" * 30_000 + b"\n") * 3
    assert server.request("POST", f"/readlines?{hint}", body).text == result


def test_row_6_45_mixed_reading(server: Server) -> None:
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
        sock.sendall(get("/refuse", "Content-Length: 3", "Expect: 100-continue", method="POST"))
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


def test_row_6_41_body_that_stalls(impatient: Server) -> None:
    with impatient.connect() as sock:
        sock.sendall(get("/read_error?stalls", "Content-Length: 100", method="POST") + b"only this")
        raw = b"".join(iter(lambda: sock.recv(65536), b""))
    match = impatient.wait_for_log(r"read (failed: .*|did not fail)")
    assert "'OSError'" in match[0]
    assert "'TimeoutError'" in match[0]
    assert "Client read error (Timeout?)" in match[0]
    assert raw.startswith(b"HTTP/1.1 408 ") or raw == b""


def test_row_6_41_body_that_stalls_with_debug_on(impatient: Server) -> None:
    with impatient.connect() as sock:
        sock.sendall(get("/debug/echo", "Content-Length: 100", "Accept: text/plain", method="POST") + b"only this")
        raw = b"".join(iter(lambda: sock.recv(65536), b""))
    assert raw.startswith(b"HTTP/1.1 500 ")
    assert b"ConnectionTimeout: Client read error (Timeout?)\n(an OSError: " in raw
