"""CGI scripts in process: `apache.build_cgi_env`, `setup_cgi`, `restore_nocgi` and the streams."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from mod_python import apache
from mod_python.testing import Server
from tests.servers import running

HANDLERS = r"""
import os
import sys
from mod_python import apache

class Filled:
    "A request whose variables were filled in by hand, where add_cgi_vars() is still missing."
    def __init__(self, req):
        self.__dict__["req"] = req
    def __getattr__(self, name):
        return getattr(self.req, name)
    def __setattr__(self, name, value):
        setattr(self.req, name, value)
    def add_cgi_vars(self):
        env = self.req.subprocess_env
        env["GATEWAY_INTERFACE"] = "CGI/1.1"
        env["REQUEST_METHOD"] = self.req.method
        env["QUERY_STRING"] = self.req.args or ""

def with_vars(req):
    return req if hasattr(req, "add_cgi_vars") else Filled(req)

def env(req):
    found = apache.build_cgi_env(with_vars(req))
    found["ADDED"] = "here only"
    names = ("GATEWAY_INTERFACE", "SCRIPT_NAME", "HTTP_AUTHORIZATION", "QUERY_STRING", "REQUEST_METHOD")
    result = {name: found.get(name) for name in names}
    result["copy"] = "ADDED" not in req.subprocess_env and req.subprocess_env["GATEWAY_INTERFACE"] == "CGI/1.1"
    req.write(repr(result))

def script(req, run):
    before = (dict(os.environ), sys.stdin, sys.stdout)
    saved = apache.setup_cgi(with_vars(req))
    try:
        assert saved == before
        assert sys.argv == []
        run()
    finally:
        apache.restore_nocgi(*saved)
    assert (dict(os.environ), sys.stdin, sys.stdout) == before
    assert sys.argv == ["mod_python"]

def echo(req):
    def run():
        print("Content-Type: text/x-test; charset=utf-8")
        print("Status: 201 Made")
        print("X-One: 1")
        print("Set-Cookie: a=1")
        print("Set-Cookie: b=2")
        print()
        print(os.environ["REQUEST_METHOD"], os.environ["QUERY_STRING"])
        sys.stdout.buffer.write(b"bytes \xff\n")
        print("caf\u00e9", sys.stdin.readline(), end="")
        print(repr(sys.stdin.read(3)), repr(sys.stdin.readlines()), repr(sys.stdin.read()), sys.stdin.tell())
        assert isinstance(sys.stdin, apache.NullIO) and isinstance(sys.stdout, apache.CGIStdout)
        assert not sys.stdin.isatty() and not sys.stdout.isatty()
    script(req, run)

def raw(req):
    "In pieces of one byte, with CRLF, and the body as bytes."
    def run():
        body = sys.stdin.buffer.read()
        for byte in b"Content-Type: application/x-raw\r\nX-Two: 2\r\n\r\n\r\nrest":
            sys.stdout.buffer.write(bytes([byte]))
        sys.stdout.buffer.write(body)
        assert sys.stdout.tell() == 0
        sys.stdout.write("four")
        assert sys.stdout.tell() == 4
        sys.stdout.flush()
    script(req, run)

def no_headers(req):
    script(req, lambda: print("\nbody only", end=""))

def large(req):
    def run():
        print("Content-Type: text/plain\n")
        for number in range(2000):
            print(f"{number:0100}")
    script(req, run)

def unfinished(req):
    script(req, lambda: print("Content-Type: text/plain"))
    req.write("after")

def bad(req):
    lines = {
        "status": "Status: fine\n\n", "colon": "no header at all\n\n", "endless": "x" * 70000,
        "break": "X-A: \x01\n\n",
    }
    try:
        script(req, lambda: sys.stdout.write(lines[req.args]))
    except ValueError as exc:
        req.write(str(exc))

def late(req):
    kept = []
    def run():
        print("\nstart", end="")
        kept.append(sys.stdout)
    script(req, run)
    try:
        kept[0].write("too late")
    except ValueError as exc:
        req.write(" " + str(exc))

def handler(req):
    globals()[req.uri.split("/")[1]](req)
    return apache.OK
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    config = "SetHandler mod_python\nPythonHandler ${SITE}/handlers.py"
    with running(config, files={"handlers.py": HANDLERS}) as server:
        yield server


def test_environment(server: Server) -> None:
    plain = ast.literal_eval(server.get("/env?a=b").text)
    assert plain == {
        "GATEWAY_INTERFACE": "Python-CGI/1.1",
        "SCRIPT_NAME": "/env",
        "HTTP_AUTHORIZATION": None,
        "QUERY_STRING": "a=b",
        "REQUEST_METHOD": "GET",
        "copy": True,
    }
    found = ast.literal_eval(server.get("/env", {"Authorization": "Basic eDp5"}).text)
    assert found["HTTP_AUTHORIZATION"] == "Basic eDp5"


def test_script_name_ends_before_the_path_info(server: Server) -> None:
    # httpd maps /env to the directory of the documents, where there is no such file.
    found = ast.literal_eval(server.get("/env/rest/caf%C3%A9").text)
    assert found["SCRIPT_NAME"] == "/env"


def test_text(server: Server) -> None:
    response = server.request("POST", "/echo?x=1", "first\nsecond\nthird caf\u00e9\n".encode())
    assert response.status == 201
    assert response.headers["Content-Type"] == "text/x-test; charset=utf-8"
    assert response.headers["X-One"] == "1"
    assert response.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert response.body == (
        b"POST x=1\nbytes \xff\ncaf\xc3\xa9 first\n'sec' " + repr(["ond\n", "third caf\u00e9\n"]).encode() + b" '' 0\n"
    )


def test_bytes(server: Server) -> None:
    body = bytes(range(256)) * 100
    response = server.request("POST", "/raw", body)
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/x-raw"
    assert response.headers["X-Two"] == "2"
    assert response.body == b"\r\nrest" + body + b"four"


def test_large_output(server: Server) -> None:
    text = server.get("/large").text
    assert text.splitlines() == [f"{number:0100}" for number in range(2000)]


def test_output_without_headers(server: Server) -> None:
    assert server.get("/no_headers").text == "body only"


def test_headers_that_do_not_end(server: Server) -> None:
    assert server.get("/unfinished").text == "after"
    server.wait_for_log("the script ended before the empty line that ends its headers")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("status", "the script's header Status is 'fine'"),
        ("colon", "begins with 'no header at all', which is no header"),
        ("endless", "without the empty line that ends the headers"),
    ],
)
def test_bad_headers(server: Server, what: str, message: str) -> None:
    assert message in server.get(f"/bad?{what}").text
    server.allow("the script ended before")


def test_a_stream_that_is_kept(server: Server) -> None:
    assert server.get("/late").text == "start the request that this stream belonged to is over"


def test_null_io() -> None:
    null = apache.NullIO()
    assert (null.tell(), null.read(), null.read(5), null.readline(), null.readlines()) == (0, "", "", "", [])
    assert null.write("text") == 4
    assert not null.isatty()
    null.writelines(["a"])
    null.flush()
    null.close()
    null.detach()
    assert null.seek(3) == 0
