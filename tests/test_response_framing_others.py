"""Responses that other modules make, where Python has had a part: they are framed as right, and arrive whole."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mod_python.httpd.find import find_httpd
from mod_python.testing import Server
from tests.content_site import exchange
from tests.servers import running
from tests.strict_client import Response, responses

HANDLERS = """
from mod_python import apache

def accesshandler(req):
    req.subprocess_env["ap_trust_cgilike_cl"] = "yes"
    return apache.OK

def fixuphandler(req):
    req.err_headers_out["Transfer-Encoding"] = "chunked"
    return apache.OK

def handler(req):
    req.content_type = "text/plain"
    if req.uri == "/second":
        req.write("second")
        return apache.OK
    text = "0123456789" * 1000
    req.set_content_length(int(req.args or len(text)))
    req.write(text, "flush" in req.uri)
    return apache.OK

def begins(req):
    # It sends a part, and leaves the rest to httpd.
    req.set_content_length(60)
    req.write("0123456789")
    return apache.DECLINED

def same(filt):
    filt.pass_on()

def encoding(filt):
    filt.req.headers_out["Transfer-Encoding"] = "chunked"
    doubled(filt)

def interim(filt):
    filt.req.status = 100
    doubled(filt)

def short(filt):
    filt.req.headers_out["Content-Length"] = "9"
    filt.write(filt.read(3))
    filt.flush()
    doubled(filt)

def doubled(filt):
    while data := filt.read():
        filt.write(data * 2)
    if data is None:
        filt.close()
"""

# The query: a length to announce, a pause after each 1000 bytes, the number of bytes.
SCRIPT = r"""#!/bin/sh
IFS=,
set -- $QUERY_STRING
printf 'Content-Type: text/plain\n'
[ -n "$1" ] && printf 'Content-Length: %s\n' "$1"
printf '\n'
if [ -z "$2" ]; then
    head -c "$3" /dev/zero | tr '\0' x
    exit
fi
n=$(($3 / 1000))
while [ "$n" -gt 0 ]; do
    head -c 1000 /dev/zero | tr '\0' x
    sleep "$2"
    n=$((n - 1))
done
"""

CONFIG = """
ScriptSock cgid.sock
DocumentRoot "${SITE}/docs"
PythonPath "['${SITE}']+sys.path"
PythonOutputFilter handlers::doubled DOUBLED
PythonOutputFilter handlers::encoding ENCODING
PythonOutputFilter handlers::interim INTERIM
PythonOutputFilter handlers::short SHORT
PythonAccessHandler handlers
Timeout 20
<Directory "${SITE}/docs">
    Require all granted
    Options +ExecCGI +Includes
    AddHandler cgi-script .cgi
    AddType text/html .shtml
    AddOutputFilter INCLUDES .shtml
</Directory>
<Directory "${SITE}/docs/begun">
    PythonFixupHandler handlers::begins
    ErrorDocument 403 /page.txt
</Directory>
<Directory "${SITE}/docs/begun/content">
    SetHandler mod_python
    PythonHandler handlers::begins
    PythonFixupHandler handlers
</Directory>
<LocationMatch "^/(second|page|flushed|deflated)">
    SetHandler mod_python
    PythonHandler handlers
</LocationMatch>
<Location "/deflated">
    SetOutputFilter DEFLATE
</Location>
<Files "encoded.txt">
    PythonFixupHandler handlers
</Files>
<Files "encoding.txt">
    SetOutputFilter ENCODING
</Files>
<Files "interim.txt">
    SetOutputFilter INTERIM
</Files>
<Files "short.txt">
    SetOutputFilter SHORT
</Files>
<Location "/proxied">
    ProxyPass "http://127.0.0.1:${BACKEND}"
</Location>
<Location "/proxied/doubled">
    SetOutputFilter DOUBLED
</Location>
"""


@contextmanager
def backend() -> Iterator[int]:
    """A server that answers with the bytes that its URI names, and closes."""
    answers = {
        b"/right": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright",
        b"/doubled": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright",
        b"/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nright\r\n0\r\n\r\n",
        b"/both": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nright\r\n0\r\n\r\n",
        b"/open": b"HTTP/1.1 200 OK\r\n\r\nright",
        b"/short": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
    }
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    data = b""
                    while b"\r\n\r\n" not in data and (more := client.recv(65536)):
                        data += more
                    if data:
                        client.sendall(answers[data.split(b" ")[1]])

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    if not find_httpd().has_module("mod_cgid"):
        pytest.skip("this httpd is built without mod_cgid")
    files: dict[str, str | bytes] = {
        "handlers.py": HANDLERS,
        "docs/encoded.txt": "a file",
        "docs/begun/file.txt": "a" * 100,
        "docs/begun/forbidden.txt": "never seen",
        "docs/begun/content/file.txt": "a" * 100,
        "docs/page.txt": "b" * 100,
        "docs/encoding.txt": "a file",
        "docs/interim.txt": "a file",
        "docs/short.txt": "a file longer",
        "docs/script.cgi": SCRIPT,
        "docs/parsed.shtml": 'a <!--#echo var="REQUEST_METHOD" --> page',
    }
    modules = ["mod_include", "mod_deflate", "mod_filter", "mod_proxy", "mod_proxy_http", "mod_cgid"]
    with backend() as port, running(CONFIG, files=files, modules=modules, defines={"BACKEND": str(port)}) as server:
        (server.site / "docs/script.cgi").chmod(0o755)
        (server.site / "docs/begun/forbidden.txt").chmod(0)
        yield server


def probe(server: Server, path: str, *lines: str, method: str = "GET") -> Response:
    """Send a request and another one after it; return the first response, the second being what it should."""
    first = [f"{method} {path} HTTP/1.1", "Host: localhost", *lines, "", ""]
    second = ["GET /second HTTP/1.1", "Host: localhost", "Connection: close", "", ""]
    found = responses(exchange(server, "\r\n".join([*first, *second]).encode()), [method, "GET"])
    if found[0].complete and not found[0].closes:
        assert [response.body for response in found[1:]] == [b"second"]
    else:
        assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("pause", ["", "0.01"])
@pytest.mark.parametrize("length", ["", "5000", "4500", "700", "6000", "abc"])
def test_a_cgi_script(server: Server, length: str, pause: str) -> None:
    found = probe(server, f"/script.cgi?{length},{pause},5000")
    announced = int(length) if length.isdigit() else 5000
    assert (found.status, len(found.body), found.complete) == (200, min(announced, 5000), announced <= 5000)


def test_a_long_cgi_script(server: Server) -> None:
    found = probe(server, "/script.cgi?3000000,,3000000")
    assert (len(found.body), found.complete) == (3000000, True)


@pytest.mark.parametrize("path", ["/encoded.txt", "/parsed.shtml"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_files(server: Server, path: str, method: str) -> None:
    found = probe(server, path, method=method)
    assert found.body == (b"" if method == "HEAD" else b"a file" if path == "/encoded.txt" else b"a GET page")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_file_of_which_only_a_filter_is_python(server: Server, method: str) -> None:
    """httpd makes the response to a file at once, and calls the filter when it has made the end."""
    found = probe(server, "/encoding.txt", method=method)
    assert (found.status, found.body) == (200, b"" if method == "HEAD" else b"a filea file")
    assert probe(server, "/interim.txt", method=method).status == 500


@pytest.mark.parametrize("directory", ["begun", "begun/content"])
@pytest.mark.parametrize(("name", "rest"), [("file.txt", b"a" * 50), ("nothing.txt", b"<!DOCTYPE")])
def test_what_httpd_adds_to_a_response_that_has_begun(server: Server, directory: str, name: str, rest: bytes) -> None:
    """A file, or an error page, is a part of the response whose length the client knows already."""
    found = probe(server, f"/{directory}/{name}")
    assert (found.status, len(found.body), found.complete) == (200, 60, True)
    assert found.body.startswith(b"0123456789" + rest)


def test_an_error_document_in_a_response_that_has_begun(server: Server) -> None:
    found = probe(server, "/begun/forbidden.txt")
    assert len(found.body) == 60


def test_a_file_of_which_a_filter_sends_too_much(server: Server) -> None:
    found = probe(server, "/short.txt")
    assert (found.status, found.body, found.complete) == (200, b"a file lo", True)


@pytest.mark.parametrize("path", ["/page", "/flushed"])
@pytest.mark.parametrize("length", [10000, 7000, 12000])
def test_what_is_compressed_is_counted_afterwards(server: Server, path: str, length: int) -> None:
    """mod_deflate takes the announced length out: the response is whole, whatever it said."""
    found = probe(server, f"/deflated{path}?{length}", "Accept-Encoding: gzip")
    assert gzip.decompress(found.body) == b"0123456789" * 1000


@pytest.mark.parametrize("path", ["/page", "/flushed"])
def test_a_range(server: Server, path: str) -> None:
    found = probe(server, f"{path}?10000", "Range: bytes=10-14")
    if found.status == 206:
        assert found.body == b"01234"
    else:
        assert found.body == b"0123456789" * 1000


def test_a_range_that_is_not_there(server: Server) -> None:
    """The page that httpd makes in place of a response that has not left has a length of its own."""
    found = probe(server, "/page?10000", "Range: bytes=20000-")
    if found.status == 416:
        assert found.body.endswith(b"</html>\n")
    assert found.complete


@pytest.mark.parametrize(
    ("path", "body", "complete"),
    [
        ("right", b"right", True),
        ("doubled", b"rightright", True),
        ("chunked", b"right", True),
        ("both", b"right", True),
        ("open", b"right", True),
        ("short", b"short", False),
    ],
)
def test_a_proxied_page(server: Server, path: str, body: bytes, complete: bool) -> None:
    found = probe(server, f"/proxied/{path}")
    assert (found.status, found.body, found.complete) == (200, body, complete)
