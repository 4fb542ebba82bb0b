"""A client finds the end of every response where it is, whoever makes it and whatever length it announces.

Each probe sends two requests at once. Either both responses arrive, each with the bytes that its head
announces, or the connection ends within the first, so that nobody takes it for whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from mod_python.testing import Server
from tests.content_site import exchange
from tests.servers import running
from tests.strict_client import Response, responses

HANDLERS = """
from urllib.parse import parse_qsl
from mod_python import apache

def options(req):
    return dict(parse_qsl(req.args or "", keep_blank_values=True))

def announce(req, say):
    headers = getattr(req, say.get("where", "headers_out"))
    for value in filter(None, say.get("length", "").split("|")):
        headers.add("Content-Length", value)
    if "encoding" in say:
        headers["Transfer-Encoding"] = say["encoding"]
    req.status = int(say.get("status", "200"))
    req.content_type = "text/plain"

def parts(say):
    text = say.get("body", "")
    return [text[i : i + 7] for i in range(0, len(text), 7)]

def second(req):
    req.write("second", 0)
    return apache.OK

def write(req):
    say = options(req)
    announce(req, say)
    for part in parts(say):
        req.write(part)
    if "fail" in say:
        raise ValueError("on purpose")
    return int(say.get("result", apache.OK))

def queue(req):
    say = options(req)
    announce(req, say)
    for part in parts(say):
        req.write(part, 0)
    return apache.OK

def sendfile(req):
    say = options(req)
    announce(req, say)
    req.sendfile(req.document_root() + "/alphabet.txt")
    return apache.OK

def mixed(req):
    say = options(req)
    announce(req, say)
    text = say["body"]
    req.write(text[:3], 0)
    req.sendfile(req.document_root() + "/alphabet.txt", 3, 4)
    req.write(text[7:])
    return apache.OK

def error(req):
    announce(req, options(req))
    return apache.HTTP_NOT_FOUND

def redirected(req):
    announce(req, options(req))
    req.internal_redirect("/target?" + req.args)
    return apache.OK

def target(req):
    for part in parts(options(req)):
        req.write(part)
    return apache.OK

def fixuphandler(req):
    say = options(req)
    announce(req, say)
    return apache.OK

def early(req):
    write(req)
    return apache.DONE

def same(filt):
    while data := filt.read():
        filt.write(data)
    if data is None:
        filt.close()

def announcing(filt):
    announce(filt.req, options(filt.req))
    same(filt)

def application(environ, start_response):
    say = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
    headers = [("Content-Type", "text/plain")]
    headers += [("Content-Length", value) for value in filter(None, say.get("length", "").split("|"))]
    if "encoding" in say:
        headers.append(("Transfer-Encoding", say["encoding"]))
    write = start_response(say.get("status", "200") + " Status", headers)
    pieces = [part.encode() for part in parts(say)]
    kind = environ["SCRIPT_NAME"]
    if kind == "/wsgi-write":
        for piece in pieces:
            write(piece)
        return []
    return iter(pieces) if kind == "/wsgi-generator" else pieces

def handler(req):
    return globals()[req.uri.strip("/").replace("-", "_")](req)
"""

SCRIPT = """
import os
from urllib.parse import parse_qsl
say = dict(parse_qsl(os.environ["QUERY_STRING"], keep_blank_values=True))
print("Content-Type: text/plain")
print("Status: " + say.get("status", "200"))
for value in filter(None, say.get("length", "").split("|")):
    print("Content-Length: " + value)
if "encoding" in say:
    print("Transfer-Encoding: " + say["encoding"])
print()
print(say.get("body", ""), end="")
"""

PAGE = """<%
import sys
sys.modules["handlers"].announce(req, sys.modules["handlers"].options(req))
%><%= sys.modules["handlers"].options(req).get("body", "") %>"""

CONFIG = """
DocumentRoot "${SITE}/docs"
PythonPath "['${SITE}']+sys.path"
PythonImport handlers main_interpreter
PythonInterpreter main_interpreter
PythonOutputFilter handlers::same SAME
PythonOutputFilter handlers::announcing ANNOUNCING
<Directory "${SITE}/docs">
    Require all granted
    AddHandler mod_python .psp
    PythonHandler mod_python.psp
</Directory>
<Directory "${SITE}/docs/cgi">
    SetHandler mod_python
    PythonHandler mod_python.cgihandler
</Directory>
<Files static.txt>
    PythonFixupHandler handlers
</Files>
<Files early.txt>
    PythonFixupHandler handlers::early
</Files>
<Location "/filtered">
    SetOutputFilter SAME
    PythonHandler handlers::queue
</Location>
<Location "/announcing">
    SetOutputFilter ANNOUNCING
    PythonHandler handlers::target
</Location>
<LocationMatch "^/(second|write|queue|sendfile|mixed|error|redirected|target|filtered|announcing)$">
    SetHandler mod_python
</LocationMatch>
<LocationMatch "^/(second|write|queue|sendfile|mixed|error|redirected|target)$">
    PythonHandler handlers
</LocationMatch>
"""

WSGI = """
<Location "/wsgi-{0}">
    SetHandler mod_python
    PythonHandler mod_python.wsgi
    PythonOption mod_python.wsgi.application handlers::application
</Location>
"""

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
PATHS = {
    "write": "/write",
    "queue": "/queue",
    "sendfile": "/sendfile",
    "mixed": "/mixed",
    "WSGI list": "/wsgi-list",
    "WSGI generator": "/wsgi-generator",
    "WSGI write": "/wsgi-write",
    "CGI": "/cgi/script.py",
    "PSP": "/page.psp",
    "output filter": "/filtered",
    "announced by an output filter": "/announcing",
    "announced for a static file": "/static.txt",
    "written by an early phase": "/early.txt",
    "error page": "/error",
    "internal redirect": "/redirected",
}
LENGTHS = {
    "none": "",
    "right": "26",
    "right with blanks": " 26 ",
    "too small": "5",
    "nothing": "0",
    "too large": "99",
    "negative": "-5",
    "no number": "abc",
    "hexadecimal": "0x1a",
    "a list": "26, 26",
    "beyond all numbers": "9" * 40,
    "the same twice": "26|26",
    "two different": "26|5",
    "two, one too large": "99|26",
}
# Where a length that is set has no say: it is another response's, or httpd sets the right one.
WITHOUT_SAY = {"announced for a static file", "error page", "internal redirect", "output filter"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    files: dict[str, str | bytes] = {
        "handlers.py": HANDLERS,
        "docs/alphabet.txt": ALPHABET,
        "docs/static.txt": ALPHABET,
        "docs/early.txt": "never seen",
        "docs/page.psp": PAGE,
        "docs/cgi/script.py": SCRIPT,
    }
    config = CONFIG + "".join(WSGI.format(kind) for kind in ("list", "generator", "write"))
    with running(config, files=files) as server:
        server.allow("on purpose|start_response|Content-Length|Transfer-Encoding|interim response")
        yield server


def probe(server: Server, path: str, method: str = "GET", version: str = "1.1", **say: Any) -> list[Response]:
    """Send a request for a response and another one after it; return what came, taken apart.

    Args:
        server: the server.
        path: who makes the first response.
        method: of the first request.
        version: of HTTP.
        **say: what the first response is to be.
    """
    query = urlencode({"body": ALPHABET, **say})
    keep = ["Connection: keep-alive"] if version == "1.0" else []
    data = "".join(
        "\r\n".join([f"{verb} {target} HTTP/{version}", "Host: localhost", *lines, "", ""])
        for verb, target, lines in (
            (method, f"{path}?{query}", [*keep, *(["Content-Length: 0"] if method == "POST" else [])]),
            ("GET", "/second", ["Connection: close"]),
        )
    )
    return responses(exchange(server, data.encode()), [method, "GET"])


def check_second(found: list[Response], *, failed: bool = False) -> None:
    """Expect the second response to be there, unless the first one has ended the connection.

    Args:
        found: what came.
        failed: whoever made the first response has failed after its head had left, which
            ends the connection without notice.
    """
    first = found[0]
    if first.complete and not first.closes and not failed:
        assert [response.body for response in found[1:]] == [b"second"]
    else:
        assert len(found) == 1


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("writer", PATHS)
def test_a_response_ends_where_its_head_says(
    server: Server, writer: str, length: str, method: str, version: str
) -> None:
    found = probe(server, PATHS[writer], method, version, length=LENGTHS[length])
    check_second(found)
    first = found[0]
    if method == "HEAD":
        return
    announced = LENGTHS[length].strip()
    if writer == "error page":
        assert (first.status, first.complete) == (404, True)
    elif writer.startswith("WSGI") and first.status == 500:
        assert first.complete
        assert length not in ("none", "right", "the same twice")
    elif writer in WITHOUT_SAY or not announced.isdigit() or len(announced) > 18:
        # The right length or none; or an application that is told of its mistake.
        assert first.complete
        assert (first.status, first.body.decode()) == (200, ALPHABET) or first.status == 500
    else:
        assert (first.status, first.body.decode()) == (200, ALPHABET[: int(announced)])
        assert first.complete == (int(announced) <= len(ALPHABET))


@pytest.mark.parametrize("where", ["headers_out", "err_headers_out"])
@pytest.mark.parametrize("encoding", ["chunked", "gzip, chunked", "identity"])
@pytest.mark.parametrize("length", ["none", "right", "too small", "too large"])
@pytest.mark.parametrize("writer", PATHS)
def test_an_encoding_of_the_transfer_is_httpds_to_say(
    server: Server, writer: str, length: str, encoding: str, where: str
) -> None:
    check_second(probe(server, PATHS[writer], length=LENGTHS[length], encoding=encoding, where=where))


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("writer", ["write", "queue", "error page", "internal redirect"])
def test_a_length_among_the_headers_of_errors(server: Server, writer: str, length: str) -> None:
    check_second(probe(server, PATHS[writer], length=LENGTHS[length], where="err_headers_out"))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("length", ["none", "right", "too small", "too large", "two different"])
@pytest.mark.parametrize("status", [100, 101, 102, 103, 199, 204, 205, 206, 226, 304, 404, 500])
@pytest.mark.parametrize("writer", ["write", "queue", "sendfile", "WSGI list", "WSGI generator", "WSGI write", "CGI"])
def test_a_status_with_and_without_a_body(server: Server, writer: str, status: int, length: str, method: str) -> None:
    found = probe(server, PATHS[writer], method, status=status, length=LENGTHS[length])
    check_second(found)
    # PEP 3333 has applications told of a mistake by an exception.
    is_told = writer.startswith("WSGI") and length not in ("none", "right")
    assert found[0].status == 500 if status < 200 else found[0].status in (status, 500 if is_told else status)


@pytest.mark.parametrize("length", ["none", "right", "too small", "too large"])
@pytest.mark.parametrize("how", ["exception", "404", "302"])
def test_a_failure_in_the_middle(server: Server, how: str, length: str) -> None:
    """What was sent does not pass for the whole, unless all that was announced has been sent."""
    say = {"fail": "1"} if how == "exception" else {"result": how}
    found = probe(server, "/write", length=LENGTHS[length], **say)
    check_second(found, failed=True)
    assert (found[0].status, found[0].complete) == (200, length in ("right", "too small"))


@pytest.mark.parametrize(
    ("length", "message"),
    [
        ("5", "has more than its Content-Length of 5 bytes; the rest is left out"),
        ("99", "ends after 26 of the 99 bytes of its Content-Length; the connection is closed"),
        ("-5", "has a Content-Length '-5' that is no number of bytes"),
    ],
)
def test_what_is_wrong_is_said_once(server: Server, length: str, message: str) -> None:
    def said() -> int:
        return sum(f"/queue {message}" in record.message for record in server.log_records("warn"))

    before = said()
    probe(server, "/queue", length=length)
    server.wait_for_log(f"the response to /queue {re.escape(message)}")
    assert said() == before + 1
