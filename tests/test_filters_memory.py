"""Filters and memory: much data goes through in little of it, and nothing is left of a filter."""

from __future__ import annotations

import re
from collections.abc import Callable
from http.client import HTTPResponse

import pytest

from mod_python import _build
from mod_python.testing import Server
from tests.processes import MIB, memory, quiet, steady_malloc
from tests.test_memory import FLAT, ONE_CHILD, growth

pytestmark = pytest.mark.heavy


Httpd = Callable[..., Server]

#: Growth that is taken for none while a large stream passes: buffers, pieces in flight, what the allocators of
#: httpd and Python keep for the next time, in each thread that gets its first connection. A hundredth of 1 GiB.
STREAM = 12 * MIB

#: How much goes through in one stream.
SIZE = 256 * MIB

MODULE = """
from mod_python import apache

def copy(filter):
    data = filter.read()
    while data:
        filter.write(data)
        data = filter.read()
    if data is None:
        filter.close()

def lines(filter):
    while (line := filter.readline()):
        filter.write(line)

def connection(filter):
    while (data := filter.read()):
        filter.write(data)

def handler(req):
    size = 0
    while (data := req.read(65536)):
        size += len(data)
    req.write("%d" % size)
    return apache.OK

def page(req):
    def own(filter):
        filter.ctx = filter      # a cycle through the object itself
        filter.req.mine = filter
        filter.pass_on()
    req.register_output_filter("own", own)
    req.add_output_filter("own")
    req.write("some ")
    req.write("text")
    return apache.OK
"""

CONFIG = """
MaxKeepAliveRequests 0
KeepAliveTimeout 60
PythonPath "['${SITE}'] + sys.path"
DocumentRoot ${SITE}
PythonInputFilter module::copy copy
PythonOutputFilter module::copy copy
PythonOutputFilter module::lines lines
<Location /copy/>
    SetOutputFilter copy
    SetInputFilter copy
</Location>
<Location /lines/>
    SetOutputFilter lines
</Location>
<LocationMatch "/upload$">
    SetHandler mod_python
    PythonHandler module
</LocationMatch>
<LocationMatch "/page$">
    SetHandler mod_python
    PythonHandler module::page
</LocationMatch>
AliasMatch ^/[a-z]+/(file.*)$ ${SITE}/$1
<VirtualHost *:${PORT2}>
    PythonConnectionInputFilter module::connection
    PythonConnectionOutputFilter module::connection
</VirtualHost>
"""


@pytest.fixture
def server(httpd: Httpd, monkeypatch: pytest.MonkeyPatch) -> Server:
    steady_malloc(monkeypatch)
    # A file with holes costs no disk.
    server = httpd(CONFIG, files={"module.py": MODULE, "file": b""}, listen=2, log_level="info", **ONE_CHILD)
    with (server.site / "file").open("r+b") as file:
        file.truncate(SIZE)
    return server


def download(server: Server, path: str, port: int = 0) -> None:
    with server.connect(port) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        response = HTTPResponse(sock)
        response.begin()
        size = 0
        while data := response.read(MIB):
            size += len(data)
    assert (response.status, size) == (200, SIZE)


def upload(server: Server, path: str, port: int = 0) -> None:
    with server.connect(port) as sock:
        sock.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {SIZE}\r\n\r\n".encode())
        part = bytes(MIB)
        for _ in range(SIZE // MIB):
            sock.sendall(part)
        response = HTTPResponse(sock)
        response.begin()
        assert (response.status, response.read()) == (200, b"%d" % SIZE)


def peak(pid: int) -> int:
    """The most memory, in bytes, that a process has ever held, mapped files left out."""
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields["VmHWM"].split()[0]) * 1024


@pytest.mark.parametrize(
    ("path", "port", "work"),
    [
        pytest.param("/copy/file", 0, download, id="output"),
        pytest.param("/lines/file", 0, download, id="output by lines"),
        pytest.param("/copy/upload", 0, upload, id="input"),
        pytest.param("/file", 1, download, id="connection output"),
        pytest.param("/upload", 1, upload, id="connection input"),
    ],
)
def test_a_large_stream(server: Server, path: str, port: int, work: Callable[[Server, str, int], None]) -> None:
    """Row 10.8, 1 GiB: it passes in pieces; neither its length nor its lack of line ends matters."""

    def streams(count: int) -> None:
        for _ in range(count):
            work(server, path, port)

    assert growth(server, streams, 1, 4) < STREAM
    (child,) = server.children()
    # Not even for a moment: 4 MiB at a time of the file are mapped.
    assert peak(child) < memory(child).rss + 16 * MIB


def test_requests_with_filters(server: Server) -> None:
    """Nothing of a filter outlives its request."""

    def work(count: int) -> None:
        with server.connect() as sock:
            for _ in range(count):
                sock.sendall(b"GET /copy/page HTTP/1.1\r\nHost: localhost\r\n\r\n")
                response = HTTPResponse(sock)
                response.begin()
                assert response.read() == b"some text"

    assert growth(server, work, 1_000, 5_000) < FLAT


@pytest.mark.skipif(not _build.DEBUG_BUILD, reason="only a debug build counts (MOD_PYTHON_DEBUG_BUILD=1)")
def test_counters_of_the_debug_build(httpd: Httpd) -> None:
    """At the end of the child nothing is left that stood for a filter, its data or its request."""
    files = {"module.py": MODULE, "file": b"x" * 100_000}
    server = httpd(CONFIG, files=files, listen=2, **ONE_CHILD)
    for port in (0, 1):
        for path in ("/copy/page", "/copy/upload", "/lines/file", "/copy/file"):
            with server.connect(port) as sock:
                for _ in range(3):
                    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                    response = HTTPResponse(sock)
                    response.begin()
                    assert response.status == 200
                    response.read()
                sock.sendall(f"GET {path} HTTP/1.1\r\n".encode())
    quiet(server)
    server.stop()
    (found,) = re.findall(r"leak check: (.*)", server.error_log)
    counted = {name: int(number) for name, number in re.findall(r"(\w+) (-?\d+)", found)}
    assert counted["entries"] == counted["leaves"] > 24
    assert {counted[name] for name in ("records", "wrappers", "brigades")} == {0}
