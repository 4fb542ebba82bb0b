"""Filters of connections: every byte in both directions, under HTTP, under TLS, under connection handlers."""

from __future__ import annotations

import random
import socket
import subprocess
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any

import pytest

from mod_python.httpd.find import find_httpd
from mod_python.testing import Server
from tests import needs
from tests.processes import PREFORK
from tests.scripted import receive_exactly
from tests.servers import running

FILTERS = """
import threading
from mod_python import apache

kept = {}
TABLE = bytes(byte ^ 0x55 for byte in range(256))

# -- filters

def scramble(filter):
    data = filter.read()
    while data:
        filter.write(data.translate(TABLE))
        data = filter.read()

def first(filter):
    while (data := filter.read()):
        filter.write(data.replace(b"abc", b"first abc"))

def second(filter):
    while (data := filter.read()):
        filter.write(data.replace(b"first", b"second first"))

def facts(filter):
    kept["facts"] = [filter.name, filter.req, filter.connection.local_addr[1], filter.is_input, filter.handler,
                     filter.dir, filter.parent, filter.closed]
    filter.pass_on()

def no_end(filter):
    data = filter.read()
    while data:
        filter.write(data)
        data = filter.read()
    kept["no_end"] = data

def half(filter):
    # Says nothing until a whole pair of bytes is there, and then one byte.
    filter.ctx = (filter.ctx or b"") + (filter.read() or b"")
    pairs = len(filter.ctx) // 2
    filter.write(filter.ctx[:2 * pairs:2])
    filter.ctx = filter.ctx[2 * pairs:]

def fails(filter):
    data = filter.read()
    if b"fail" in (data or b""):
        filter.write(data)
        raise RuntimeError("filter failed")
    filter.write(data or b"")

def closes(filter):
    data = filter.read()
    filter.write(data or b"")
    if b"stop" in (data or b""):
        filter.close()

def uses_connection(filter):
    data = filter.read() or b""
    got = []
    if b"probe" in data:
        for use in (lambda: filter.connection.write(b"x"), filter.connection.read, filter.connection.flush):
            try:
                use()
            except RuntimeError as error:
                got.append("refused")
    filter.write(data + " ".join(got).encode())

def counts(filter):
    filter.ctx = filter.ctx or []
    while (data := filter.read()):
        filter.ctx.append(len(data))
        filter.write(data)
    kept["counts"] = len(filter.ctx), sum(filter.ctx)
    if data is None:
        kept["end"] = data

# -- handlers

def handler(req):
    req.content_type = "text/plain"
    if req.args == "kept":
        req.write(repr(kept))
        kept.clear()
    elif req.method == "POST":
        req.write(req.read())
    else:
        req.write("%s %s abc" % (req.method, req.uri))
    return apache.OK

def echo(conn):
    for line in conn:
        conn.write(line)
    return apache.OK

def declines(conn):
    conn.peek(5)
    return apache.DECLINED

def exactly(conn):
    for line in conn:
        conn.write(conn.readexactly(int(line)))
        conn.flush()
"""

#: One virtual host for each, in this order, on ports of their own.
HOSTS = {
    "plain": "",
    "scramble": "PythonConnectionInputFilter filters::scramble\nPythonConnectionOutputFilter filters::scramble",
    "tls": "PythonConnectionInputFilter filters::facts\nPythonConnectionOutputFilter filters::first",
    "order": "PythonConnectionOutputFilter filters::first filters::second\n"
    "PythonConnectionInputFilter filters::first\nPythonConnectionInputFilter filters::second",
    "echo": "PythonConnectionHandler filters::echo\nPythonConnectionInputFilter filters::scramble\n"
    "PythonConnectionOutputFilter filters::scramble",
    "exactly": "PythonConnectionHandler filters::exactly\nPythonConnectionInputFilter filters::counts\n"
    "PythonConnectionOutputFilter filters::no_end",
    "fails": "PythonConnectionHandler filters::echo\nPythonConnectionOutputFilter filters::fails",
    "fails_in": "PythonConnectionHandler filters::echo\nPythonConnectionInputFilter filters::fails",
    "closes": "PythonConnectionHandler filters::echo\nPythonConnectionOutputFilter filters::closes",
    "closes_in": "PythonConnectionHandler filters::echo\nPythonConnectionInputFilter filters::closes",
    "uses": "PythonConnectionHandler filters::echo\nPythonConnectionOutputFilter filters::uses_connection",
    "half": "PythonConnectionHandler filters::echo\nPythonConnectionInputFilter filters::half",
    "declines": "PythonConnectionHandler filters::declines\nPythonConnectionInputFilter filters::scramble",
    "no_end": "PythonConnectionOutputFilter filters::no_end",
}
CONFIG = """
PythonPath "['${SITE}'] + sys.path"
PythonInterpreter main_interpreter
DocumentRoot ${SITE}
KeepAliveTimeout 60
<LocationMatch "/page">
    SetHandler mod_python
    PythonHandler filters
</LocationMatch>
""" + "".join(
    f"<VirtualHost *:${{PORT{number if number > 1 else ''}}}>\n{text}\n</VirtualHost>\n"
    for number, text in enumerate(HOSTS.values(), 1)
)
BIG = random.Random(5).randbytes(2_000_000)
TABLE = bytes(byte ^ 0x55 for byte in range(256))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(
        CONFIG,
        files={"filters.py": FILTERS, "big.bin": BIG},
        listen=len(HOSTS),
        processes=1,
    ) as server:
        yield server


def connect(server: Server, name: str) -> socket.socket:
    return server.connect(list(HOSTS).index(name))


def kept(server: Server) -> dict[str, Any]:
    value = eval(server.get("/page?kept").text)
    assert isinstance(value, dict)
    return value


class Scrambled:
    """A socket that speaks HTTP in scrambled bytes, for `HTTPResponse`."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def send(self, data: bytes) -> None:
        self.sock.sendall(data.translate(TABLE))

    def receive(self, end: bytes) -> bytes:
        data = b""
        while not data.endswith(end):
            part = self.sock.recv(65536)
            if not part:
                break
            data += part.translate(TABLE)
        return data


def request(path: str, *, close: bool = False, body: bytes | None = None) -> bytes:
    lines = [f"{'GET' if body is None else 'POST'} {path} HTTP/1.1", "Host: localhost"]
    if close:
        lines.append("Connection: close")
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def test_pipelined_requests(server: Server) -> None:
    """Bytes that were read ahead are those of the next request."""
    requests = [request("/page/1"), request("/page/2", body=b"x" * 20_000), request("/page/3"), b"\r\n"]
    with connect(server, "scramble") as sock:
        peer = Scrambled(sock)
        peer.send(b"".join(requests) + request("/page/4", close=True))
        got = peer.receive(b"never")
    assert got.count(b"HTTP/1.1 200 OK") == 4
    assert got.index(b"/page/1 abc") < got.index(b"xxxx") < got.index(b"/page/3 abc") < got.index(b"/page/4 abc")


def test_split_requests(server: Server) -> None:
    """Byte by byte, so that each reading finds next to nothing."""
    with connect(server, "scramble") as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = Scrambled(sock)
        for byte in request("/page/1", close=True, body=b"text"):
            peer.send(bytes([byte]))
        assert b"text" in peer.receive(b"never")


def test_large_file(server: Server) -> None:
    with connect(server, "scramble") as sock:
        peer = Scrambled(sock)
        peer.send(request("/big.bin") + request("/big.bin", close=True))
        got = peer.receive(b"never")
    assert got.count(BIG) == 2


def test_large_upload(server: Server) -> None:
    with connect(server, "scramble") as sock:
        peer = Scrambled(sock)
        peer.send(request("/page", close=True, body=BIG))
        got = peer.receive(b"never")
    assert BIG in got


def test_one_request_after_the_other(server: Server) -> None:
    """In between httpd waits for the next request; nothing of it is lost."""
    with connect(server, "scramble") as sock:
        peer = Scrambled(sock)
        for _ in range(3):
            peer.send(request("/page"))
            assert b"/page abc" in peer.receive(b"0\r\n\r\n")


def test_order(server: Server) -> None:
    """The first directive's filter is the first to see the data, whichever way it goes."""
    with connect(server, "order") as sock:
        sock.sendall(request("/page/abc", close=True))
        got = b"".join(iter(lambda: sock.recv(65536), b""))
    # "abc" in the request line has become "second first abc", which is no request line.
    assert got.startswith(b"HTTP/1.1 400")
    with connect(server, "order") as sock:
        sock.sendall(request("/page", close=True, body=b"abc" + b" " * 13))
        got = b"".join(iter(lambda: sock.recv(65536), b""))
    assert b"second first second second first first abc" in got or got.count(b"second") >= 2


def test_facts_and_no_request(server: Server) -> None:
    with connect(server, "tls") as sock:
        sock.sendall(request("/page", close=True))
        assert b"first abc" in b"".join(iter(lambda: sock.recv(65536), b""))
    found = kept(server)["facts"]
    port = server.ports[list(HOSTS).index("tls")]
    assert found == ["filters::facts", None, port, 1, "filters::facts", None, None, 0]


def test_plain_text_under_tls() -> None:
    """The filters see what TLS carries."""
    config = CONFIG.partition("<VirtualHost")[0] + HOSTS["tls"]
    with (
        running(config, files={"filters.py": FILTERS, "big.bin": BIG}, tls=True, processes=1) as server,
        server.connect() as sock,
    ):
        sock.sendall(request("/page", body=b"abc"))
        response = HTTPResponse(sock)
        response.begin()
        # Longer than httpd said it would be: a filter of bytes does not know of lengths.
        assert response.read(3) == b"fir"


def test_end_of_input(server: Server) -> None:
    """When the peer closes, reading gives None."""
    with connect(server, "exactly") as sock:
        sock.sendall(b"3\nabc")
        assert receive_exactly(sock, 3) == b"abc"
    found: dict[str, Any] = {}
    server.wait_until(lambda: bool(found.update(kept(server)) or "end" in found), what="the end")
    assert found["end"] is None


def test_output_has_no_end(server: Server) -> None:
    """The end of a response is not that of the connection."""
    with connect(server, "no_end") as sock:
        sock.sendall(request("/page") + request("/page", close=True))
        assert b"".join(iter(lambda: sock.recv(65536), b"")).count(b"/page abc") == 2
    assert kept(server)["no_end"] == b""


def test_connection_handler(server: Server) -> None:
    with connect(server, "echo") as sock:
        for line in (b"one\n", b"two\nthree\n", b"x" * 100_000 + b"\n"):
            sock.sendall(line.translate(TABLE))
            assert receive_exactly(sock, len(line)).translate(TABLE) == line
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100) == b""


def test_connection_handler_with_much_data(server: Server) -> None:
    with connect(server, "exactly") as sock:
        for size in (0, 1, 8192, 100_000, len(BIG)):
            sock.sendall(b"%d\n" % size + BIG[:size])
            assert receive_exactly(sock, size) == BIG[:size]
    assert kept(server)["counts"][1] > len(BIG)


def test_filter_that_holds_back(server: Server) -> None:
    """Bytes that give nothing yet are no end; the handler waits for more."""
    with connect(server, "half") as sock:
        for byte in b"o?n?e?\n":
            sock.sendall(bytes([byte]))
        sock.sendall(b"?")
        assert receive_exactly(sock, 4) == b"one\n"


@pytest.mark.parametrize("name", ["fails", "fails_in"])
def test_row_10_7_a_filter_that_raises(server: Server, name: str) -> None:
    """The connection goes on without it."""
    server.allow("RuntimeError: filter failed")
    with connect(server, name) as sock:
        for line in (b"one\n", b"fail\n", b"fail again\n"):
            sock.sendall(line)
            assert receive_exactly(sock, len(line)) == line
    assert "phase='filters::fails', handler='filters::fails'): Application error" in server.error_log


def test_close(server: Server) -> None:
    """What comes after it is dropped; the handler that reads finds the end."""
    with connect(server, "closes") as sock:
        sock.sendall(b"one\nstop\n")
        assert receive_exactly(sock, 9) == b"one\nstop\n"
        sock.sendall(b"more\n")
        sock.shutdown(socket.SHUT_WR)
        assert sock.recv(100) == b""
    with connect(server, "closes_in") as sock:
        sock.sendall(b"stop\n")
        assert b"".join(iter(lambda: sock.recv(100), b"")) == b"stop\n"


def test_connection_inside_a_filter(server: Server) -> None:
    """The handler's thread is in the middle of a write: it would wait for itself."""
    with connect(server, "uses") as sock:
        sock.sendall(b"probe\n")
        assert receive_exactly(sock, 29) == b"probe\nrefused refused refused"


def test_bytes_that_a_handler_gives_back(server: Server) -> None:
    """They have been through the filters and do not go through them again."""
    with connect(server, "declines") as sock:
        sock.sendall(request("/page", close=True, body=b"x" * 20_000).translate(TABLE))
        assert b"x" * 20_000 in b"".join(iter(lambda: sock.recv(65536), b""))


def test_connection_to_a_backend() -> None:
    """Filters are for the connections that the server accepts, not for those that it makes."""
    config = (
        CONFIG.partition("<VirtualHost")[0]
        + f"<VirtualHost *:${{PORT2}}>\n{HOSTS['scramble']}\nProxyPass / http://127.0.0.1:${{PORT}}/\n</VirtualHost>"
    )
    modules = ["mod_proxy", "mod_proxy_http"]
    with running(config, files={"filters.py": FILTERS}, modules=modules, listen=2) as server, server.connect(1) as sock:
        peer = Scrambled(sock)
        peer.send(request("/page/1", close=True, body=b"text"))
        got = peer.receive(b"never")
    assert got.startswith(b"HTTP/1.1 200 OK")
    assert b"text" in got


@pytest.mark.skipif(PREFORK, reason="mod_http2 declines on prefork")
@pytest.mark.skipif(not find_httpd().module_file("mod_http2"), reason="this httpd has no mod_http2")
def test_http_2() -> None:
    """A request's filters see its body, a connection's the frames; those of the streams are none."""
    curl = needs.program("curl")
    config = (
        CONFIG.partition("<VirtualHost")[0]
        + f"""
        Protocols h2c http/1.1
        H2MinWorkers 2
        PythonOutputFilter filters::first first
        PythonInputFilter filters::first first
        <Location /page>
            SetOutputFilter first
            SetInputFilter first
        </Location>
        {HOSTS["exactly"].partition(chr(10))[2]}
    """
    )
    with running(config, files={"filters.py": FILTERS}, modules=["mod_http2"], processes=1) as server:
        command = [curl, "-s", "--noproxy", "*", "--http2-prior-knowledge", "-w", " %{http_version} %{http_code}"]
        done = subprocess.run(
            [*command, "--data-binary", "abc", server.url + "/page"], capture_output=True, check=True, timeout=30
        )
        assert done.stdout == b"first first abc 2 200"
        found = kept(server)
    assert found["counts"][1] > 0
    assert found["no_end"] == b""


def test_a_host_without_filters(server: Server) -> None:
    assert server.get("/page").body == b"GET /page abc"
