"""`req.sendfile`: what is sent, in which order, and what it refuses."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.content_site import exchange, get, site

HANDLERS = r"""
import errno, os, stat, tempfile

def scratch(data, name="file"):
    directory = tempfile.mkdtemp(prefix="mod_python-tests-")
    path = os.path.join(directory, name)
    with open(path, "wb") as file:
        file.write(data)
    return path

def remove(path):
    os.unlink(path)
    os.rmdir(os.path.dirname(path))

def part(req):
    path = scratch(b"0123456789abc")
    assert req.sendfile(path, 2, 7) == 7
    remove(path)
    assert req.bytes_sent == req._bytes_queued == 7, (req.bytes_sent, req._bytes_queued)
    return apache.OK

def whole(req):
    path = scratch(b"0123456789")
    assert req.sendfile(path) == 10
    remove(path)
    return apache.OK

def link(req):
    path = scratch(b"0123456789" * 100)
    other = path + ".link"
    os.symlink(path, other)
    sent = req.sendfile(other)
    os.unlink(other)
    remove(path)
    assert sent == 1000
    return apache.OK

def ordered(req):
    path = scratch(b"[file]")
    req.write("queued ", 0)
    assert req.sendfile(path.encode(), len=-1, offset=0) == 6
    req.write(" between ", 0)
    class Name:
        def __fspath__(self):
            return path
    assert req.sendfile(Name(), 1, 4) == 4
    assert req.sendfile(path, 6) == req.sendfile(path, 0, 0) == 0
    assert req.sendfile(path, 4, 10**18) == 2
    req.write(" end", 0)
    remove(path)
    return apache.OK

def large(req):
    path = "%s/large" % os.path.dirname(__file__)
    assert req.sendfile(path) == os.path.getsize(path)
    return apache.OK

def many(req):
    path = scratch(b"x" * 100)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2000):
        req.sendfile(path)
    after = len(os.listdir("/proc/self/fd"))
    remove(path)
    assert after < before + 100, (before, after)
    return apache.OK

def refused(req):
    path = scratch(b"0123456789")
    none = path + ".none"
    fifo = path + ".fifo"
    os.mkfifo(fifo)
    locked = path + ".locked"
    with open(locked, "w"):
        os.chmod(locked, 0)
    found = []
    for args in ((none,), (os.path.dirname(path),), (fifo,), (locked,), (path + "/x",), ("/" + "x" * 5000,)):
        try:
            req.sendfile(*args)
        except OSError as exc:
            assert exc.filename == args[0] and exc.strerror, exc
            found.append(errno.errorcode[exc.errno])
    for args in ((path, -1), (path, 11), (path, 2**62), (path, 2**63), (path, 0, -2), (path, -10**40), ("a\0b",),
                 (path, "1"), (path, 0, None), (path, 1.0), (None,), (1,), (bytearray(b"x"),), ("\ud800",)):
        try:
            req.sendfile(*args)
        except (ValueError, TypeError) as exc:
            found.append(type(exc).__name__)
    assert req.bytes_sent == req._bytes_queued == 0
    os.unlink(fifo)
    os.unlink(locked)
    remove(path)
    req.write(" ".join(found))
    return apache.OK

def gone(req):
    path = "%s/large" % os.path.dirname(__file__)
    try:
        while True:
            req.sendfile(path)
    except OSError as exc:
        req.log_error("sendfile ended: %s %s" % (type(exc).__name__, exc), apache.APLOG_DEBUG)
        raise
"""

LARGE = random.Random(0).randbytes(5_000_000)


@pytest.fixture(scope="module", params=["On", "Off"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with site(HANDLERS, f"EnableSendfile {request.param}\n", {"large": LARGE}, listen=2, tls=[1]) as server:
        yield server


@pytest.fixture(params=[0, 1], ids=["plain", "tls"])
def index(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("part", b"2345678", id="6.35-part"),
        pytest.param("whole", b"0123456789", id="6.35-whole"),
        pytest.param("link", b"0123456789" * 100, id="6.35-link"),
        ("ordered", b"queued [file] between file" + b"e]" + b" end"),
        ("large", LARGE),
        ("many", b"x" * 200_000),
    ],
)
def test_sendfile(server: Server, index: int, path: str, body: bytes) -> None:
    response = server.get(f"/{path}", index=index)
    assert response.status == 200
    assert response.body == body


def test_head(server: Server) -> None:
    raw = exchange(server, get("/link", method="HEAD"))
    assert raw.startswith(b"HTTP/1.1 200 ")
    assert raw.endswith(b"\r\n\r\n")
    assert raw.count(b"\r\n\r\n") == 1


def test_refused(server: Server) -> None:
    names = ["ENOENT", "EISDIR", "EINVAL", "EACCES", "ENOTDIR", "ENAMETOOLONG"]
    names += ["ValueError"] * 7 + ["TypeError"] * 6 + ["UnicodeEncodeError"]
    assert server.get("/refused").text.split() == names


def test_client_gone(server: Server) -> None:
    with server.connect() as sock:
        sock.sendall(get("/gone"))
        assert sock.recv(1000)
        sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER: reset
    match = server.wait_for_log("sendfile ended: (.*)")
    assert match[1].startswith("ConnectionClosed Write failed, client closed connection.")
