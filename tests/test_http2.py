"""Python handlers and filters on the streams of HTTP/2, which are connections of their own below one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from mod_python.httpd.find import find_httpd
from mod_python.testing import Server
from tests import needs
from tests.servers import running

HANDLERS = """
from mod_python import apache

def handler(req):
    data = req.read()
    req.content_type = "text/plain"
    req.conn = req.connection
    req.register_cleanup(lambda uri: apache.log_error("cleaned up %s" % uri, apache.APLOG_NOTICE), req.uri)
    if req.args == "redirect":
        req.internal_redirect("/py/target")
        return apache.OK
    if req.args == "raise":
        raise ValueError("on purpose")
    if req.args == "half":
        req.write("half")
        raise ValueError("on purpose")
    if req.args == "endless":
        while True:
            req.write("x" * 1000)
    req.write("%s %s " % (req.protocol, req.connection.local_addr[1]))
    req.write(str(len(data)), 0)
    return apache.OK

def framed(req):
    kind, length = req.args.split(",")
    if length:
        req.headers_out["Content-Length"] = length
    if kind == "encoded":
        req.headers_out["Transfer-Encoding"] = "chunked"
    if kind == "interim":
        req.status = 103
    req.write("01234", kind == "flushed")
    req.write("56789", kind == "flushed")
    return apache.OK

def discards(req):
    first = req.read(10)
    status = req.discard_request_body()
    req.write("%d %d %r" % (len(first), status, req.read()))
    return apache.OK

def preconnectionhandler(conn):
    conn.notes["door"] = conn.client_addr[0]
    return apache.OK

def notes(req):
    conn = req.connection
    before = [conn.notes.get("door"), conn.notes.get("greeted"), conn.notes.get("stream")]
    conn.notes["stream"] = req.uri
    req.write(repr(before))
    return apache.OK

def sends(req):
    req.content_type = "text/plain"
    req.write("begin ")
    req.sendfile(req.document_root() + "/page.html", 2)
    req.sendfile(req.document_root() + "/large.txt")
    req.write("end")
    return apache.OK

def upper(filt):
    while data := filt.read():
        filt.write(data.upper())
    if data is None:
        filt.close()

def doubled(filt):
    while data := filt.read():
        filt.write(data * 2)
    if data is None:
        filt.close()

def loghandler(req):
    req.log_error("logged %s %d %d" % (req.unparsed_uri, req.status, req.bytes_sent), apache.APLOG_NOTICE)
    return apache.OK

def wire(filt):
    filt.pass_on()

def connectionhandler(conn):
    conn.notes["greeted"] = "yes"
    return apache.DECLINED

def nothing(filt):
    pass

def collects(filt):
    filt.ctx = filt.ctx or []
    while data := filt.read():
        filt.ctx.append(data)
    if data is None:
        filt.req.headers_out["X-Parts"] = str(len(filt.ctx))
        filt.write(b"".join(filt.ctx) * 2)

def flushes(req):
    req.content_type = "text/plain"
    req.set_content_length(5)
    req.flush()
    req.write("he")
    req.write("llo")
    return apache.OK
"""

CONFIG = """
DocumentRoot "${SITE}"
PythonPath "['${SITE}']+sys.path"
Protocols h2 h2c http/1.1
PythonPreConnectionHandler h2::preconnectionhandler
PythonConnectionHandler h2::connectionhandler
PythonConnectionInputFilter h2::wire
PythonConnectionOutputFilter h2::wire
PythonOutputFilter h2::upper UPPER
PythonInputFilter h2::doubled DOUBLED
PythonInputFilter h2::nothing NOTHING
PythonOutputFilter h2::collects COLLECTS
<Location "/discards">
    SetHandler mod_python
    PythonHandler h2::discards
</Location>
<Location "/nothing">
    SetHandler mod_python
    PythonHandler h2
    SetInputFilter NOTHING
</Location>
<Location "/flushes">
    SetHandler mod_python
    PythonHandler h2::flushes
    SetOutputFilter COLLECTS
</Location>
<Location "/notes">
    SetHandler mod_python
    PythonHandler h2::notes
</Location>
<Location "/file">
    SetHandler mod_python
    PythonHandler h2::sends
</Location>
<Location "/framed">
    SetHandler mod_python
    PythonHandler h2::framed
</Location>
<Location "/py">
    SetHandler mod_python
    PythonHandler h2
    PythonLogHandler h2
    SetOutputFilter UPPER
    SetInputFilter DOUBLED
</Location>
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    version = subprocess.run([needs.program("curl"), "--version"], capture_output=True, text=True, check=True).stdout
    if "HTTP2" not in version:
        pytest.skip("this curl is built without HTTP/2")
    if not find_httpd().has_module("mod_http2"):
        pytest.skip("this httpd has no mod_http2")
    files: dict[str, str | bytes] = {"h2.py": HANDLERS, "page.html": "a page", "large.txt": "0123456789" * 200_000}
    with running(CONFIG, files=files, modules=["mod_http2"], log_level="info", listen=2, tls=[1]) as server:
        if server.mpm == "prefork":
            pytest.skip("mod_http2 declines on prefork")
        yield server


def curl(*args: str, code: int = 0) -> str:
    """Run curl, with HTTP/2 from the first byte; check its exit status."""
    done = subprocess.run(
        ["curl", "-sS", *([] if "--http2" in args else ["--http2-prior-knowledge"]), *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout


def test_content(server: Server) -> None:
    assert curl(f"{server.url}/py/a", "--data", "12345") == f"HTTP/2.0 {server.port} 10"
    server.wait_for_log("logged /py/a 200 ")
    server.wait_for_log("cleaned up /py/a")


def test_page(server: Server) -> None:
    assert curl(f"{server.url}/page.html") == "a page"


def test_sendfile(server: Server) -> None:
    assert curl(f"{server.url}/file") == "begin page" + "0123456789" * 200_000 + "end"


def test_many_streams(server: Server) -> None:
    # Over TLS: curl 7.88 cannot multiplex what it knows beforehand to be HTTP/2.
    urls = [f"{server.url_of(1)}/py/many{n}" for n in range(60)]
    out = curl("--insecure", "--http2", "-Z", "--parallel-max", "20", *urls)
    assert out.count("HTTP/2.0") == 60
    for n in range(60):
        server.wait_for_log(f"cleaned up /py/many{n}\\b")


def test_redirect(server: Server) -> None:
    assert curl(f"{server.url}/py/r?redirect") == f"HTTP/2.0 {server.port} 0"


def test_failures(server: Server) -> None:
    server.allow("on purpose")
    assert "500" in curl(f"{server.url}/py/f?raise", "-o", "/dev/null", "-w", "%{http_code}")
    server.allow("half")
    curl(f"{server.url}/py/f?half", code=92)


def test_client_goes(server: Server) -> None:
    command = ["curl", "-sS", "--no-buffer", "--http2-prior-knowledge", f"{server.url}/py/gone?endless"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        try:
            assert client.stdout.read(1000).upper() == b"X" * 1000
        finally:
            client.kill()
    server.wait_for_log("cleaned up /py/gone")


def test_upgrade(server: Server) -> None:
    assert curl("--http2", f"{server.url}/py/up") == f"HTTP/2.0 {server.port} 0"


@pytest.mark.parametrize("kind", ["flushed", "queued", "encoded"])
@pytest.mark.parametrize("length", ["", "10", "5", "0", "-5", "abc"])
def test_a_stream_has_the_bytes_that_its_head_announces(server: Server, kind: str, length: str) -> None:
    out = curl(f"{server.url}/framed?{kind},{length}")
    assert out == "0123456789"[: int(length) if length.isdigit() else None]


@pytest.mark.parametrize("kind", ["flushed", "queued"])
def test_a_stream_that_is_too_short_is_reset(server: Server, kind: str) -> None:
    done = subprocess.run(
        ["curl", "-sS", "--http2-prior-knowledge", f"{server.url}/framed?{kind},99"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 92, done.stderr  # "HTTP/2 stream was not closed cleanly"
    server.wait_for_log("the response to /framed ends after 10 of the 99 bytes of its Content-Length")


def test_an_interim_status_ends_no_stream(server: Server) -> None:
    assert "500" in curl("-o", "/dev/null", "-w", "%{http_code}", f"{server.url}/framed?interim,")


@pytest.mark.parametrize("size", [0, 5, 100, 3_000_000])
def test_discard_request_body(server: Server, size: int) -> None:
    """The client sends it all and gets its answer."""
    body = server.write_file("body", b"x" * size)
    out = curl(f"{server.url}/discards", "--data-binary", f"@{body}")
    assert out == f"{min(size, 10)} 0 b''"


def test_input_filter_that_does_nothing(server: Server) -> None:
    """The reader sees the end. A body that has not come by then makes httpd reset the stream, which curl may report."""
    command = ["curl", "-sS", "--http2-prior-knowledge", "--data-binary", "GET /smuggled HTTP/1.1"]
    done = subprocess.run([*command, f"{server.url}/nothing"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) in ((0, f"HTTP/2.0 {server.port} 0"), (92, ""))
    assert curl(f"{server.url}/page.html") == "a page"


def test_output_filter_is_called_before_the_head_leaves(server: Server) -> None:
    out = curl("-i", f"{server.url}/flushes")
    head, _, body = out.partition("\n\n")
    assert "x-parts: 2" in head.splitlines()
    assert body == "hellohello"


def test_notes_of_the_connection(server: Server) -> None:
    """Each stream begins with those of the connection's handlers, and keeps its own for itself."""
    urls = [f"{server.url_of(1)}/notes/{n}" for n in range(10)]
    out = curl("--insecure", "--http2", *urls)
    assert out == "['127.0.0.1', 'yes', None]" * 10
