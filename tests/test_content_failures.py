"""Content handlers on a real httpd: what goes wrong."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.content_site import exchange, get, lines_of, reported, site

HANDLERS = """
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
    from urllib.parse import parse_qsl
    say = dict(parse_qsl(req.args or ""))
    if say.get("type", "none") != "none":
        req.content_type = say["type"]
    for name, key in (("Content-Length", "length"), ("Content-Encoding", "encoding")):
        if key in say:
            req.headers_out[name] = say[key]
    req.write("sent")
    helper("marker-after-output redis://me:hunter2@host/0")

def returns_after_output(req):
    req.write("sent")
    return int(req.args)

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
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with site(HANDLERS) as server:
        yield server


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
    match = re.search(r"Modules of this request:\n(/\S+\.py): loaded (\S+ \S+), changed \S+ \S+, ", response.text)
    assert match is not None
    assert re.search(rf"{re.escape(match[1])}: .*, instance 1, generation \d+, imports ", response.text)
    reported(server, "marker-page")


def test_chained_exception(server: Server) -> None:
    assert server.get("/chained").status == 500
    server.allow("-of-chain")
    server.wait_for_log("second-of-chain")
    assert len(lines_of(server, "ValueError: first-of-chain")) == 1
    assert len(lines_of(server, "KeyError: 'second-of-chain'")) == 1
    assert lines_of(server, "direct cause")


def test_row_3_25_exception_after_output(server: Server) -> None:
    """What was sent must not pass for the whole: no error page after it, no last chunk."""
    raw = exchange(server, get("/failing_after_output", close=False))
    assert raw.startswith(b"HTTP/1.1 200 ")
    assert raw.endswith(b"\r\n\r\n4\r\nsent\r\n")
    server.allow("marker-after-output")
    server.wait_for_log("ValueError: marker-after-output")


@pytest.mark.parametrize("kind", ["text/plain", "text/html; charset=utf-8", "none"])
def test_exception_after_output_with_debug_on(server: Server, kind: str) -> None:
    """The report is added to the page, which ends properly."""
    server.allow("marker-after-output")
    raw = exchange(server, get(f"/debug/failing_after_output?type={kind}".replace(" ", "%20")))
    assert raw.startswith(b"HTTP/1.1 200 ")
    assert raw.endswith(b"\r\n0\r\n\r\n")
    assert (b"<pre>" in raw) == kind.startswith("text/html")
    for text in (b"sent", b"ValueError: marker-after-output", b"PythonDebug is On"):
        assert text in raw
    assert b"hunter2" not in raw


@pytest.mark.parametrize("query", ["type=image/png", "type=application/json", "length=9", "encoding=gzip"])
def test_exception_after_output_where_a_report_would_not_be_read(server: Server, query: str) -> None:
    server.allow("marker-after-output")
    raw = exchange(server, get(f"/debug/failing_after_output?{query}"))
    assert raw.startswith(b"HTTP/1.1 200 ")
    assert raw.endswith((b"\r\n\r\n4\r\nsent\r\n", b"\r\n\r\nsent"))


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_status_after_output_cuts_the_response_off(server: Server, status: int) -> None:
    raw = exchange(server, get(f"/returns_after_output?{status}", close=False))
    assert raw.endswith(b"\r\n\r\n4\r\nsent\r\n")
    server.wait_for_log(f"returned {status} after a part of the response was sent; it is cut off there")


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
