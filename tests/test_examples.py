"""The examples, each as its users meet it: on a real httpd, over real connections."""

from __future__ import annotations

import hashlib
import http.client
import os
import select
import socket
from pathlib import Path
from typing import ClassVar

import pytest

from mod_python.testing import Response, Server
from mod_python.testing.plugin import Factory
from tests.chat import Member
from tests.form_requests import MULTIPART, multipart_body, part
from tests.publisher_site import basic
from tests.scripted import nothing_logged
from tests.session_site import Browser

pytestmark = pytest.mark.heavy


# Those who chat have to meet in one process, and each takes a thread of it.
threaded = pytest.mark.skipif(
    os.environ.get("MOD_PYTHON_TEST_MPM") == "prefork", reason="the chat needs threads in one process"
)


def include(examples: Path, name: str) -> str:
    """Return the configuration of an example as text, with its directory written out."""
    return (examples / name / "httpd.conf").read_text().replace("${CONFIG_DIR}", str(examples / name))


def test_all_examples_are_described(examples: Path) -> None:
    described = (examples / "README.md").read_text()
    for directory in examples.iterdir():
        if directory.is_dir() and directory.name != "__pycache__":
            assert f"\n## {directory.name}\n" in described


class TestEcho:
    def test_lines_come_back(self, httpd: Factory, examples: Path) -> None:
        server = httpd(handler_file=examples / "echo" / "echo.py")
        with server.connect() as client, client.makefile("rb") as answer:
            for line in (b"hi\n", b"\n", b"x" * 100_000 + b"\n"):
                client.sendall(line)
                assert answer.readline() == line

    def test_its_end_is_silent(self, httpd: Factory, examples: Path) -> None:
        server = httpd(handler_file=examples / "echo" / "echo.py")
        with nothing_logged(server):
            with server.connect() as client:
                client.sendall(b"no line end")
                client.shutdown(socket.SHUT_WR)
                assert client.makefile("rb").read() == b"no line end"
            server.wait_for_log("connection ended")


def test_hello(httpd: Factory, examples: Path) -> None:
    server = httpd(handler_file=examples / "hello" / "hello.py")
    response = server.get("/any/path")
    assert response.status == 200
    assert response.text == "Hello, world!\n"
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


def test_visits(httpd: Factory, examples: Path) -> None:
    server = httpd(handler_file=examples / "visits" / "visits.py", processes=4)
    browser = Browser(server)
    for number in (1, 2, 3):
        assert browser.get("/") == f"This is your visit number {number}.\n"
    assert Browser(server).get("/") == "This is your visit number 1.\n"


class TestUpload:
    def send(self, server: Server, *parts: bytes) -> Response:
        return server.request("POST", "/", multipart_body(parts), {"Content-Type": MULTIPART})

    def test_the_form(self, httpd: Factory, examples: Path) -> None:
        server = httpd(handler_file=examples / "upload" / "upload.py")
        response = server.get("/")
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert '<form method="post" enctype="multipart/form-data">' in response.text
        assert server.request("PUT", "/", b"x").status == 405

    def test_files(self, httpd: Factory, examples: Path) -> None:
        server = httpd(handler_file=examples / "upload" / "upload.py")
        data = bytes(range(256)) * 1000
        response = self.send(
            server,
            part("Zoë <b>".encode(), name=b"name"),
            part(data, name=b"files", filename=b"<a>\xff.bin"),
            part(b"", name=b"files", filename=b"empty"),
        )
        assert response.status == 200
        assert "Thank you, Zoë &lt;b&gt;.\n" in response.text
        assert f"&lt;a&gt;?.bin: 256000 bytes, SHA-256 {hashlib.sha256(data).hexdigest()}\n" in response.text
        assert f"empty: 0 bytes, SHA-256 {hashlib.sha256().hexdigest()}\n" in response.text

    def test_no_file(self, httpd: Factory, examples: Path) -> None:
        server = httpd(handler_file=examples / "upload" / "upload.py")
        response = self.send(server, part(b"", name=b"name"), part(b"", name=b"files", filename=b""))
        assert response.text.endswith("<p>Thank you, nobody.\n")

    def test_a_broken_body(self, httpd: Factory, examples: Path) -> None:
        server = httpd(handler_file=examples / "upload" / "upload.py")
        response = server.request("POST", "/", b"nonsense", {"Content-Type": MULTIPART})
        assert response.status == 400


def meet(first: Member, first_name: bytes, second: Member, second_name: bytes) -> None:
    """Wait until two are in: whoever was the first hears of the other, and that may be either of them."""
    ready, _, _ = select.select([first.socket, second.socket], [], [], 30)
    if first.socket in ready:
        assert first.hear() == second_name + b" is here\n"
    else:
        assert second.hear() == first_name + b" is here\n"


@threaded
class TestLinechat:
    def test_what_one_says_all_others_read(self, httpd: Factory, examples: Path) -> None:
        server = httpd(handler_file=examples / "linechat" / "linechat.py")
        ada = Member(server, b"Ada")
        bob = Member(server, b"Bob")
        meet(ada, b"Ada", bob, b"Bob")
        eve = Member(server, b"Eve")
        assert ada.hear() == b"Eve is here\n"
        assert bob.hear() == b"Eve is here\n"

        ada.say(b"hello")
        assert bob.hear() == b"Ada: hello\n"
        assert eve.hear() == b"Ada: hello\n"
        bob.say(b"welcome")
        assert ada.hear() == b"Bob: welcome\n"

        bob.leave()
        assert ada.hear() == b"Bob has left\n"
        eve.say(b"he is gone")
        assert ada.hear() == b"Eve: he is gone\n"
        ada.leave()
        eve.leave()

    def test_who_gives_no_name_is_shown_out(self, httpd: Factory, examples: Path) -> None:
        server = httpd(handler_file=examples / "linechat" / "linechat.py")
        with server.connect() as client:
            client.sendall(b"\n")
            assert client.makefile("rb").read() == b"Your name? "

    def test_who_is_cut_off_leaves_the_others_alone(self, httpd: Factory, examples: Path) -> None:
        server = httpd(handler_file=examples / "linechat" / "linechat.py")
        ada = Member(server, b"Ada")
        bob = Member(server, b"Bob")
        meet(ada, b"Ada", bob, b"Bob")
        # Closing with a reset rather than an orderly end.
        bob.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        bob.leave()
        assert ada.hear() == b"Bob has left\n"
        ada.say(b"anybody?")
        eve = Member(server, b"Eve")
        assert ada.hear() == b"Eve is here\n"
        ada.leave()
        eve.leave()


class TestGuestbook:
    def test_sign(self, httpd: Factory, examples: Path) -> None:
        server = httpd(include(examples, "guestbook"), processes=1)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        response = server.request("POST", "/sign", b"name=%3Cb%3EZo%C3%AB&text=hi+there", form)
        assert (response.status, response.headers["Location"]) == (302, "/")
        page = server.get("/")
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "<li><strong>&lt;b&gt;Zoë</strong>: hi there</li>" in page.text
        assert server.request("POST", "/sign", b"name=+&text=x", form).status == 400
        assert server.get("/count").text == "1\n"
        assert server.get("/sign?name=a&text=b").status == 302
        assert server.get("/count").text == "1\n"

    def test_only_its_pages_are_published(self, httpd: Factory, examples: Path) -> None:
        server = httpd(include(examples, "guestbook"), processes=1)
        for path in ("entries", "is_owner", "escape", "MOST", "hmac", "publish", "entries/clear"):
            assert server.get(f"/{path}").status == 403

    def test_owner(self, httpd: Factory, examples: Path) -> None:
        server = httpd(include(examples, "guestbook"), processes=1)
        response = server.get("/clear")
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, 'Basic realm="Guestbook"')
        assert server.get("/clear", basic("owner", "wrong")).status == 401
        assert server.get("/clear", basic("owner", "sesame")).text == "Cleared by owner\n"


class TestBoth:
    def test_lines(self, httpd: Factory, examples: Path) -> None:
        server = httpd(include(examples, "both"))
        with server.connect() as client, client.makefile("rb") as answer:
            client.sendall(b"set colour dark blue\nget colour\nget size\nwhat\nquit\n")
            assert answer.read() == b"ok\ndark blue\n\nget KEY, set KEY VALUE, or quit\n"

    def test_http_on_the_same_port(self, httpd: Factory, examples: Path) -> None:
        server = httpd(include(examples, "both"), processes=1)
        with server.connect() as client:
            client.sendall(b"set colour blue\nquit\n")
            assert client.makefile("rb").read() == b"ok\n"
        assert server.get("/").text == "colour = blue\n"

    def test_several_requests_on_one_connection(self, httpd: Factory, examples: Path) -> None:
        server = httpd(include(examples, "both"))
        connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
        for _ in range(3):
            connection.request("GET", "/")
            assert connection.getresponse().read() == b""
            local = connection.sock.getsockname()
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        assert connection.sock.getsockname() == local
        connection.close()

    def test_over_tls(self, httpd: Factory, examples: Path) -> None:
        server = httpd(include(examples, "both"), tls=True)
        with server.connect() as client, client.makefile("rb") as answer:
            client.sendall(b"set a b\n")
            assert answer.readline() == b"ok\n"
        assert server.get("/").status == 200

    def test_full(self, httpd: Factory, examples: Path) -> None:
        server = httpd(include(examples, "both"))
        with server.connect() as client, client.makefile("rb") as answer:
            client.sendall(b"".join(b"set key%d x\n" % n for n in range(1001)) + b"quit\n")
            assert answer.read() == 1000 * b"ok\n" + b"full\n"


class TestWsgi:
    FORM: ClassVar[dict[str, str]] = {"Content-Type": "application/x-www-form-urlencoded"}

    def test_notes(self, httpd: Factory, examples: Path) -> None:
        server = httpd(include(examples, "wsgi"), processes=1)
        assert "<li>" not in server.get("/notes").text
        response = server.request("POST", "/notes", b"note=caf%C3%A9+%3Cb%3E", self.FORM)
        assert (response.status, response.headers["Location"]) == (303, "/notes")
        response = server.get("/notes/")
        assert "<li>caf\u00e9 &lt;b&gt;</li>" in response.text
        assert 'action="/notes"' in response.text
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"

    def test_limits(self, httpd: Factory, examples: Path) -> None:
        server = httpd(include(examples, "wsgi"), processes=1)
        assert server.get("/notes/other").status == 404
        assert server.request("POST", "/notes", b"note=" + b"x" * 1000, self.FORM).status == 413
        body = b"&".join(b"note=%d" % number for number in range(120))
        assert server.request("POST", "/notes", body, self.FORM).status == 303
        text = server.get("/notes").text
        assert text.count("<li>") == 100
        assert "<li>19</li>" not in text
        assert "<li>119</li>" in text


class TestPages:
    def test_notes(self, httpd: Factory, examples: Path) -> None:
        server = httpd(include(examples, "pages"))
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        first = server.get("/notes.psp")
        assert "<h1>Notes: 0</h1>" in first.text
        cookie = {"Cookie": first.headers["Set-Cookie"].partition(";")[0]}
        for number, text in enumerate((b"buy%20tea", b"%3Cb%3E%20%26%20so%20on"), 1):
            added = server.request("POST", "/notes.psp", b"text=" + text, {**form, **cookie})
            assert (added.status, added.headers["Location"]) == (302, "/notes.psp")
            assert f"<h1>Notes: {number}</h1>" in server.get("/notes.psp", cookie).text
        assert "<ul>\n<li>buy tea</li>\n<li>&lt;b&gt; &amp; so on</li>\n</ul>" in server.get("/notes.psp", cookie).text

        refused = server.request("POST", "/notes.psp", b"text=" + 81 * b"x", {**form, **cookie})
        assert refused.status == 400
        assert "<h1>Sorry</h1>\n\n<p>A note has at most 80 characters.</p>" in refused.text
        assert "<h1>Notes: 2</h1>" in server.get("/notes.psp", cookie).text

    def test_included_files_are_not_served(self, httpd: Factory, examples: Path) -> None:
        server = httpd(include(examples, "pages"))
        assert server.get("/head.inc").status == 403
