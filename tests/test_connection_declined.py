"""One port for a protocol of one's own and HTTP: a handler that declines hands on to httpd.

Nothing that the handler has only looked at is lost, and of what it has read, httpd gets
the rest.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.scripted import nothing_logged, receive_all, receive_exactly, running, wait_read

SITE = '''
from mod_python import apache

def count(conn):
    conn.notes["calls"] = str(int(conn.notes.get("calls", "0")) + 1)

def connectionhandler(conn):
    ports = conn.get_options()["UNREAD_PORTS"].split()
    return blind(conn) if str(conn.local_addr[1]) in ports else looks(conn)

def looks(conn):
    """Look at the first bytes."""
    count(conn)
    start = conn.peek(4)
    if start == b"TEXT":
        for line in conn:
            conn.write(b"heard " + line)
        return apache.OK
    if start == b"SKIP":
        conn.readline()
    elif start == b"SWAP":
        conn.write(b"hello " + conn.readline())
    elif start == b"LATE":
        kept = conn.readuntil(b";")
        conn.write(kept)
        conn.peek(100)
    return apache.DECLINED

def blind(conn):
    """Do not look at all."""
    count(conn)
    return apache.DECLINED

def by_hand(conn):
    """Speak HTTP without httpd."""
    while conn.readline().strip():
        pass
    conn.write(b"HTTP/1.1 200 OK\\r\\n")
    conn.write(b"Content-Length: 7\\r\\n")
    conn.write(b"\\r\\n")
    conn.write(b"by hand")
    return apache.OK

def handler(req):
    body = req.read()
    conn = req.connection
    try:
        conn.readline()
    except RuntimeError as error:
        refused = "no connection handler owns" in str(error)
    req.content_type = "text/plain"
    req.headers_out["X-Calls"] = conn.notes.get("calls", "0")
    req.headers_out["X-Refused"] = str(refused)
    req.write(req.method.encode() + b" " + req.uri.encode() + b" " + body)
    return apache.OK
'''

CONFIG = """
LimitRequestFieldSize 8190
KeepAliveTimeout 30
MaxKeepAliveRequests 0
<Location "/">
    SetHandler mod_python
    PythonHandler ${SITE}/site.py
</Location>
PythonConnectionHandler ${SITE}/site.py
PythonOption UNREAD_PORTS "${PORT3} ${PORT4}"
"""

LOOKS, LOOKS_TLS, UNREAD, UNREAD_TLS = range(4)

Client = http.client.HTTPConnection


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with (
        running(CONFIG, files={"site.py": SITE}, listen=4, tls=[LOOKS_TLS, UNREAD_TLS]) as server,
        nothing_logged(server),
    ):
        yield server


@pytest.fixture(params=[LOOKS, LOOKS_TLS, UNREAD, UNREAD_TLS], ids=["peek", "peek-tls", "unread", "unread-tls"])
def index(request: pytest.FixtureRequest) -> int:
    """Number of the port to talk to."""
    return int(request.param)


@pytest.fixture(params=[LOOKS, LOOKS_TLS], ids=["plain", "tls"])
def looks(request: pytest.FixtureRequest) -> int:
    """Number of a port whose handler looks at what comes."""
    return int(request.param)


def over(sock: socket.socket) -> Client:
    """Return an HTTP client that uses a connection that is open."""
    client = Client("localhost")
    client.sock = sock
    return client


def ask(client: Client, method: str, target: str, body: bytes | None = None) -> bytes:
    """Make a request; return the content of the response."""
    client.request(method, target, body)
    response = client.getresponse()
    assert response.status == 200
    # Asked once per connection, whatever number of requests it carries.
    assert response.headers["X-Calls"] == "1"
    assert response.headers["X-Refused"] == "True"
    return response.read()


def responses(sock: socket.socket, count: int) -> list[bytes]:
    """Read a number of responses to pipelined requests."""
    result = []
    with sock.makefile("rb") as file:
        for _ in range(count):
            assert file.readline().startswith(b"HTTP/1.1 200 ")
            fields = dict(line.lower().split(b": ", 1) for line in iter(lambda: file.readline().strip(), b""))
            if b"content-length" in fields:
                result.append(file.read(int(fields[b"content-length"])))
                continue
            assert fields[b"transfer-encoding"] == b"chunked"
            body = b""
            while size := int(file.readline(), 16):
                body += file.read(size)
                assert file.readline() == b"\r\n"
            assert file.readline() == b"\r\n"
            result.append(body)
    return result


# ---- HTTP


def test_get(server: Server, index: int) -> None:
    response = server.get("/page", index=index)
    assert (response.status, response.body, response.headers["X-Calls"]) == (200, b"GET /page ", "1")


@pytest.mark.parametrize("size", [0, 1, 8000, 8192, 1 << 20])
def test_post(server: Server, index: int, size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    response = server.request("POST", "/form", body[:size], index=index)
    assert response.body == b"POST /form " + body[:size]


def test_a_body_in_the_same_segment_as_the_head(server: Server, index: int) -> None:
    head = b"POST /both HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n"
    with server.connect(index) as sock:
        sock.sendall(head + b"x" * 3000)
        assert responses(sock, 1) == [b"POST /both " + b"x" * 3000]


def test_a_chunked_body(server: Server, index: int) -> None:
    chunks = b"5\r\nhello\r\n3;extension=1\r\n wo\r\n3\r\nrld\r\n0\r\n\r\n"
    with server.connect(index) as sock:
        for _ in range(2):
            sock.sendall(b"POST /chunks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
            assert responses(sock, 1) == [b"POST /chunks hello world"]


def test_keep_alive(server: Server, index: int) -> None:
    with server.connect(index) as sock:
        client = over(sock)
        for number in range(5):
            assert ask(client, "GET", f"/{number}") == b"GET /%d " % number
            assert ask(client, "POST", f"/{number}", b"x" * 20_000) == b"POST /%d " % number + b"x" * 20_000


def test_pipelined_requests(server: Server, index: int) -> None:
    count = 50
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number for number in range(count))
    with server.connect(index) as sock:
        sock.sendall(requests)
        assert responses(sock, count) == [b"GET /%d " % number for number in range(count)]
        # The connection is still good, and so for a second batch.
        sock.sendall(requests)
        assert responses(sock, count) == [b"GET /%d " % number for number in range(count)]


def test_pipelined_requests_with_bodies(server: Server, index: int) -> None:
    sizes = [1, 5000, 0, 9000, 100, 20_000]
    requests = [b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (n, n) + b"b" * n for n in sizes]
    with server.connect(index) as sock:
        sock.sendall(b"".join(requests))
        assert responses(sock, len(sizes)) == [b"POST /%d " % size + b"b" * size for size in sizes]


def test_a_request_in_small_segments(server: Server, index: int) -> None:
    # What was looked at ends in the middle of the head: the body still has its end.
    request = b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
    with server.connect(index) as sock:
        for place in range(0, len(request), 3):
            sock.sendall(request[place : place + 3])
            wait_read(sock)
        assert responses(sock, 1) == [b"POST /slow body"]
        sock.sendall(request + b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
        assert responses(sock, 2) == [b"POST /slow body", b"GET /next "]


def test_long_request_lines_and_headers(server: Server, index: int) -> None:
    target = b"/?" + b"t" * 7000
    head = b"GET %s HTTP/1.1\r\nHost: x\r\n" % target + b"".join(b"X-%d: %s\r\n" % (n, b"v" * 7000) for n in range(5))
    with server.connect(index) as sock:
        sock.sendall(head + b"\r\n" + b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
        assert responses(sock, 2) == [b"GET / ", b"GET /next "]


def test_empty_lines_before_a_request(server: Server, index: int) -> None:
    # RFC 9112 section 2.2: a server should ignore at least one.
    with server.connect(index) as sock:
        sock.sendall(b"\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n")
        assert responses(sock, 2) == [b"GET /a ", b"GET /b "]


@pytest.mark.parametrize(
    "head",
    [b"GET / HTTPS/1.1", b"GET / HTTP/1.1\r\nBad Name: x", b"G@T / HTTP/1.1"],
    ids=["version", "header", "method"],
)
def test_a_request_that_httpd_refuses(server: Server, index: int, head: bytes) -> None:
    # All of it was looked at, so httpd's core filter has read nothing.
    with server.connect(index) as sock:
        sock.sendall(head + b"\r\nHost: localhost\r\n\r\nGET /next HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = receive_all(sock)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1  # what comes behind it is not trusted


def test_no_request_at_all(server: Server) -> None:
    for data in (b"", b"GE", b"GET / HTTP/1.1\r\n"):
        for index in (LOOKS, UNREAD):
            with server.connect(index) as sock:
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
                assert b"200" not in receive_all(sock)


# ---- another protocol on the same port


def test_the_other_protocol(server: Server, looks: int) -> None:
    with server.connect(looks) as sock:
        for line in (b"TEXT\n", b"GET / HTTP/1.1\n"):
            sock.sendall(line)
            assert receive_exactly(sock, len(line) + 6) == b"heard " + line


def test_a_decision_that_needs_several_segments(server: Server, looks: int) -> None:
    with server.connect(looks) as sock:
        for byte in b"TEXT\n":
            sock.sendall(bytes([byte]))
            wait_read(sock)
        assert receive_exactly(sock, 11) == b"heard TEXT\n"


def test_what_follows_what_was_read(server: Server, looks: int) -> None:
    with server.connect(looks) as sock:
        sock.sendall(b"SKIP this line\nPOST /rest HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody")
        assert responses(sock, 1) == [b"POST /rest body"]
        assert ask(over(sock), "GET", "/more") == b"GET /more "


def test_what_follows_later(server: Server, looks: int) -> None:
    with server.connect(looks) as sock:
        sock.sendall(b"SKIP this line\n")
        wait_read(sock)
        assert ask(over(sock), "GET", "/later") == b"GET /later "


def test_an_answer_before_http(server: Server, looks: int) -> None:
    with server.connect(looks) as sock:
        sock.sendall(b"SWAP\nGET /then HTTP/1.1\r\nHost: x\r\n\r\n")
        assert receive_exactly(sock, 11) == b"hello SWAP\n"
        assert responses(sock, 1) == [b"GET /then "]


def test_more_looked_at_than_read(server: Server, looks: int) -> None:
    request = b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"x" * 100)
    with server.connect(looks) as sock:
        sock.sendall(b"LATE;" + request + request)
        assert receive_exactly(sock, 5) == b"LATE;"
        assert responses(sock, 2) == [b"GET /%s " % (b"x" * 100)] * 2


# ---- virtual hosts


def test_virtual_hosts_have_handlers_of_their_own() -> None:
    config = """
    <Location "/">
        SetHandler mod_python
        PythonHandler ${SITE}/site.py
    </Location>
    <VirtualHost *:${PORT}>
        PythonConnectionHandler ${SITE}/site.py::by_hand
    </VirtualHost>
    <VirtualHost *:${PORT2}>
        PythonConnectionHandler ${SITE}/site.py::blind
    </VirtualHost>
    <VirtualHost *:${PORT3}>
    </VirtualHost>
    """
    with running(config, files={"site.py": SITE}, listen=4) as server:
        assert server.get("/").body == b"by hand"
        for index, calls in ((1, "1"), (2, "0"), (3, "0")):
            response = server.get("/x", index=index)
            assert (response.body, response.headers["X-Calls"]) == (b"GET /x ", calls)


def test_many_kept_alive_connections(server: Server, index: int) -> None:
    clients = [over(server.connect(index)) for _ in range(2 if server.mpm == "prefork" else 20)]
    try:
        for turn in range(3):
            for number, client in enumerate(clients):
                assert ask(client, "GET", f"/{turn}/{number}") == b"GET /%d/%d " % (turn, number)
    finally:
        for client in clients:
            client.close()
