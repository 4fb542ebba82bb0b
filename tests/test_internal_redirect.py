"""`req.internal_redirect`: order of output, who may write, what follows it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.content_site import exchange, get, reported, site
from tests.servers import running
from tests.strict_client import Response, responses

HANDLERS = r'''
import time

def both(req):
    """Queued output, then a redirect to a handler that writes through req.prev and req."""
    req.headers_out["X-First"] = "1"
    req.write("first ", 0)
    result = req.internal_redirect("/through_prev?x=1")
    assert result is None
    assert req.next is not None and req.next.prev is req and req.next.uri == "/through_prev"
    return apache.OK

def through_prev(req):
    assert req.prev.uri.rpartition("/")[2] in ("both", "unqueued", "other") and req.args == "x=1"
    assert req.prev.phase in ("PythonHandler", None) and req.next is None and req.main is None
    req.headers_out["X-Second"] = "2"
    flush = 0
    for number in range(3):
        req.prev.write("prev%d " % number, flush)
        req.write("own%d " % number, flush)
        req.prev.flush()
        flush = not flush
    req.prev.write("last", 0)
    req.prev.log_error("logged through prev", apache.APLOG_DEBUG)
    return apache.OK

def unqueued(req):
    req.internal_redirect("/through_prev?x=1")
    return apache.OK

def after(req):
    """The response is complete after the redirect."""
    req.internal_redirect("/plain")
    refused = []
    for call in (lambda: req.write("x"), lambda: req.write("x", 0), lambda: req.sendfile(__file__),
                 lambda: req.internal_redirect("/plain")):
        try:
            call()
        except RuntimeError as error:
            refused.append(str(error))
    req.flush()
    req.write("")
    assert len(refused) == 4 and all("complete" in text for text in refused), refused
    if req.args == "raise":
        helper()
    return int(req.args or apache.OK)

def helper():
    raise ValueError("marker-after-redirect")

def plain(req):
    req.content_type = "text/plain"
    req.write("plain")
    return apache.OK

def to(req):
    req.internal_redirect(req.args)
    return apache.OK

def loop(req):
    req.internal_redirect("/loop")
    return apache.OK

def deep(req):
    depth = int(req.args)
    # Each of the chain writes to the first and to itself.
    first = req
    while first.prev is not None:
        first = first.prev
    req.write("own%d " % depth, depth % 2)
    first.write("first%d " % depth, (depth + 1) % 2)
    if depth:
        req.internal_redirect("/deep?%d" % (depth - 1))
    else:
        busy = req.prev.prev
        for call in (lambda: busy.internal_redirect("/plain"),):
            try:
                call()
            except RuntimeError as error:
                req.write("refused")
    return apache.OK

def failing(req):
    raise ValueError("marker-redirected")

def bad(req):
    refused = []
    for value in (None, 1, "", "/a\0b", "/a\r\nX: 1", "/a\x7f", "\ud800"):
        try:
            req.internal_redirect(value) if value != "" else req.internal_redirect()
        except (TypeError, ValueError) as error:
            refused.append(type(error).__name__)
    req.write(" ".join(refused))
    return apache.OK

def body(req):
    """Reads a part of the body; the other handler goes on."""
    kept["first"] = req.read(5)
    req.internal_redirect("/rest")
    return apache.OK

def rest(req):
    line = req.prev.readline()
    req.write(b"|".join([kept.pop("first"), line, req.readline(), req.read()]))
    return apache.OK

def left_thread(req):
    """A thread of the first handler is refused while the second one runs."""
    results = []
    def late():
        start.wait()
        for call in (lambda: req.write("x"), lambda: req.flush(), lambda: req.internal_redirect("/plain")):
            try:
                call()
            except RuntimeError as error:
                results.append(str(error))
        done.set()
    kept["start"], kept["done"] = start, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=late)
    thread.start()
    req.internal_redirect("/while_redirected")
    thread.join()
    kept["results"] = results
    return apache.OK

def while_redirected(req):
    kept["start"].set()
    assert kept["done"].wait(30)
    req.write("undisturbed")
    return apache.OK

def results(req):
    req.write("%d" % len(kept.pop("results")))
    return apache.OK

def error_document(req):
    req.content_type = "text/plain"
    req.write("gone", 0)
    return 404

def page(req):
    """An ErrorDocument: the first object was dropped, and what it remembers was not."""
    before = req.prev
    req.prev.write("[page %s %d %d]" % (before.status, before._content_type_set, before._bytes_queued))
    assert before._bytes_queued > 4
    req.write(" own")
    return apache.OK
'''


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with site(HANDLERS, processes=1) as server:
        yield server


def test_row_6_30_order_of_output(server: Server) -> None:
    response = server.get("/both")
    assert response.text == "first prev0 own0 prev1 own1 prev2 own2 last"
    # What was queued went out with the headers of the first request.
    assert response.headers["X-First"] == "1"
    assert "X-Second" not in response.headers


def test_row_6_30_headers_of_the_second(server: Server) -> None:
    response = server.get("/unqueued")
    assert response.text == "prev0 own0 prev1 own1 prev2 own2 last"
    assert response.headers["X-Second"] == "2"


@pytest.mark.parametrize("args", ["", "-1", "-2", "302", "404", "raise"])
@pytest.mark.parametrize("prefix", ["", "/debug"])
def test_nothing_follows(server: Server, prefix: str, args: str) -> None:
    raw = exchange(server, get(f"{prefix}/after?{args}"))
    assert raw.count(b"HTTP/1.1 ") == 1
    assert raw.startswith(b"HTTP/1.1 200 ")
    assert raw.count(b"plain") == 2  # the content type and the text
    assert b"<html" not in raw.lower()
    if args == "raise":
        server.allow("marker-after-redirect")
        server.wait_for_log("marker-after-redirect")


def test_to_a_file(server: Server) -> None:
    response = server.get("/to?/files/page.txt")
    assert (response.status, response.text) == (200, "the file")


def test_to_nothing(server: Server) -> None:
    assert server.get("/to?/files/none.txt").status == 404
    assert server.get("/to?nonsense%20").status in (400, 404)


def test_loop(server: Server) -> None:
    assert server.get("/loop").status == 500
    server.wait_for_log("AH00124")


def test_chain(server: Server) -> None:
    expected = "".join(f"own{n} first{n} " for n in (4, 3, 2, 1, 0)) + "refused"
    assert server.get("/deep?4").text == expected


def test_error_in_the_second(server: Server) -> None:
    assert server.get("/to?/failing").status == 500
    reported(server, "marker-redirected")


def test_bad_arguments(server: Server) -> None:
    names = "TypeError TypeError TypeError ValueError ValueError ValueError UnicodeEncodeError"
    assert server.get("/bad").text == names


def test_the_body_goes_on(server: Server) -> None:
    response = server.request("POST", "/body", b"12345-line\nsecond\nthe rest")
    assert response.text == "12345|-line\n|second\n|the rest"


def test_threads_are_refused_meanwhile(server: Server) -> None:
    assert server.get("/left_thread").text == "undisturbed"
    assert server.get("/results").text == "3"


def test_a_dropped_object_is_remembered() -> None:
    with site(HANDLERS, "ErrorDocument 404 /page\n") as server:
        response = server.get("/error_document")
        assert response.status == 404
        assert response.text == "[page 404 1 4] own"


def test_to_another_interpreter() -> None:
    config = "<Location /through_prev>\nPythonInterpreter second\n</Location>\n"
    with site(HANDLERS, config) as server:
        assert server.get("/to?/plain").text == "plain"
        response = server.get("/unqueued")
        assert response.text == "prev0 own0 prev1 own1 prev2 own2 last"


EARLY = """
from mod_python import apache

def away(req):
    if req.prev is None and req.uri != "/second":
        req.internal_redirect("/login.txt")
        return int(req.args)
    return apache.DECLINED

def second(req):
    req.write("second")
    return apache.OK

def interim(req):
    if req.uri == "/second":
        return apache.DECLINED
    req.status = 100
    return apache.DONE
"""
#: Directive -> whether it stands in a section.
STEPS = {
    "PythonQuickHandler": False, "PythonPostReadRequestHandler": False, "PythonTransHandler": False,
    "PythonMapToStorageHandler": False, "PythonInitHandler": True, "PythonHeaderParserHandler": True,
    "PythonAccessHandler": True, "PythonTypeHandler": True, "PythonFixupHandler": True,
}  # fmt: skip


@pytest.fixture(scope="module", params=STEPS)
def early(request: pytest.FixtureRequest) -> Iterator[tuple[str, Server]]:
    line = request.param + " ${SITE}/early.py::"
    inside = STEPS[request.param]
    hosts = "".join(
        f"""
        <VirtualHost 127.0.0.1:${{{port}}}>
            DocumentRoot ${{SITE}}/docs
            {"" if inside else line + function}
            <Directory ${{SITE}}/docs>
                Require all granted
                {line + function if inside else ""}
            </Directory>
            <Location /second>
                SetHandler mod_python
                PythonHandler ${{SITE}}/early.py::second
            </Location>
        </VirtualHost>
        """
        for port, function in (("PORT", "away"), ("PORT2", "interim"))
    )
    files = {"early.py": EARLY, "docs/secret.txt": "SECRET", "docs/login.txt": "log in"}
    with running(hosts, files=files, listen=2) as server:
        yield request.param, server


def pipelined(server: Server, target: str, index: int = 0) -> list[Response]:
    """Send two requests at once; return the responses, of which the second may be missing if the connection ended."""
    data = f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\nGET /second HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with server.connect(index=index) as client:
        client.sendall(data.encode())
        found = responses(b"".join(iter(lambda: client.recv(65536), b"")), ["GET", "GET"])
    assert [response.body for response in found[1:]] in ([], [b"second"])
    return found


@pytest.mark.parametrize("status", [0, -1, -2, 404])
def test_nothing_follows_in_an_early_step(early: tuple[str, Server], status: int) -> None:
    """What the client has asked for is not sent after what it was redirected to, whatever the handler returns."""
    directive, server = early
    found = pipelined(server, f"/secret.txt?{status}")
    assert found[0].body == b"log in"
    if directive != "PythonPostReadRequestHandler":  # httpd closes the connection after it
        assert len(found) == 2


def test_a_status_that_another_follows_does_not_end_a_request(early: tuple[str, Server]) -> None:
    _, server = early
    assert pipelined(server, "/secret.txt", 1)[0].status == 500
