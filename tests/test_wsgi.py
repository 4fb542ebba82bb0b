"""mod_python.wsgi: the environment, start_response, the body (spec rows 15.2 to 15.5 and 15.7; PEP 3333)."""

from __future__ import annotations

import ast
import io
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from mod_python import wsgi
from mod_python._dispatch.handler import Handler
from mod_python.testing import Response, Server
from tests.content_site import exchange, get, reported
from tests.servers import running
from tests.wsgi_site import CONFIG, FILES, NESTED


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    # One child, so that what applications keep is found again; with prefork each request
    # that needs that asks for itself.
    with running(CONFIG, files=FILES, modules=["mod_setenvif", "mod_env", "mod_mime"], tls=[1], listen=2) as server:
        yield server
        assert "garbage collected without being closed" not in server.error_log


def value(response: Response) -> Any:
    assert response.status == 200, response.text
    return ast.literal_eval(response.text)


def kept(server: Server, name: str) -> Any:
    """Wait until an application has kept something; it may do so after the client has its response."""
    found: dict[str, Any] = {}
    server.wait_until(lambda: found.update(value(server.get("/kept_values"))) or name in found, what=f"kept {name!r}")
    return found[name]


threaded = pytest.mark.skipif(
    os.environ.get("MOD_PYTHON_TEST_MPM") == "prefork", reason="what applications keep is in another process"
)


class TestEnvironment:
    def test_row_15_2_environment(self, server: Server) -> None:
        found = value(server.get("/environment/a?b=c"))
        assert found["wsgi.version"] == (1, 0)
        assert found["wsgi.multithread"] is (server.mpm != "prefork")
        assert found["wsgi.multiprocess"] is True
        assert found["wsgi.run_once"] is False
        assert found["wsgi.url_scheme"] == "http"
        assert found["wsgi.input"] == "mp_request"
        assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == ("", "/environment/a")
        assert (found["REQUEST_METHOD"], found["QUERY_STRING"]) == ("GET", "b=c")
        assert (found["SERVER_PORT"], found["SERVER_PROTOCOL"]) == (str(server.port), "HTTP/1.1")
        facts = value(server.request("POST", "/facts", b"the body"))
        assert facts == {
            "errors": True,
            "exact": True,
            "values": [],
            "methods": [True] * 4,
            "path_info": "/facts",
            "body": b"the body",
        }

    def test_only_what_cgi_programs_get(self, server: Server) -> None:
        found = value(server.get("/environment"))
        ours = {name for name in os.environ if name not in ("PATH", "LD_LIBRARY_PATH")}
        assert not ours & set(found)
        assert found["FROM_CONFIG"] == "set by SetEnv"

    def test_headers(self, server: Server) -> None:
        fields = {"Authorization": "Basic eDp5", "X-Latin": "caf\u00e9", "Proxy": "evil", "Content-Type": "text/x-a"}
        found = value(server.request("POST", "/environment", b"12345", fields))
        assert found["HTTP_AUTHORIZATION"] == "Basic eDp5"
        assert found["HTTP_X_LATIN"] == "caf\u00e9"
        assert found["CONTENT_TYPE"] == "text/x-a"
        assert found["CONTENT_LENGTH"] == "5"
        assert not {"HTTP_PROXY", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & set(found)

    def test_one_request_after_another(self, server: Server) -> None:
        """The names of variables are kept from one request to the next."""
        for number in range(6):
            fields = {f"X-H{name}": f"{name}{number}" for name in range(number % 3 + 1)}
            found = value(server.get("/environment", fields))
            theirs = {key: text for key, text in found.items() if key.startswith("HTTP_X_H")}
            assert theirs == {f"HTTP_X_H{name}": f"{name}{number}" for name in range(number % 3 + 1)}

    def test_bytes_of_the_path_are_characters(self, server: Server) -> None:
        found = value(server.get("/environment/caf%C3%A9%FF?q=%C3%A9"))
        assert found["PATH_INFO"] == "/environment/caf\u00c3\u00a9\u00ff"
        assert found["QUERY_STRING"] == "q=%C3%A9"

    def test_scheme(self, server: Server) -> None:
        assert value(server.get("/environment", index=1))["wsgi.url_scheme"] == "https"
        assert value(server.get("/environment", {"X-Forwarded-Proto": "https"}))["wsgi.url_scheme"] == "https"
        assert value(server.get("/environment", {"HTTPS": "on"}))["wsgi.url_scheme"] == "http"

    def test_row_15_3_errors(self, server: Server) -> None:
        assert server.get("/errors").text == "ok"
        server.wait_for_log("written to wsgi.errors")
        server.wait_for_log("^another line$")


class TestNames:
    def test_row_15_4_location(self, server: Server) -> None:
        config = """
            <Location "/foo">
                SetHandler mod_python
                PythonHandler mod_python.wsgi
                PythonPath "['${SITE}']+sys.path"
                PythonOption mod_python.wsgi.application mine::app
            </Location>
        """
        source = NESTED.replace("def application", "def app").replace("(application)", "(app)")
        with running(config, files={"mine.py": source}) as server:
            assert server.get("/foo/bar").text == "mine /foo|/bar"
            assert server.get("/foo").text == "mine /foo|"
            assert server.get("/foo/").text == "mine /foo|/"
            assert server.get("/food").status == 404

    @pytest.mark.parametrize(
        ("path", "text"),
        [
            ("/foo/slash/x", "nested /foo/slash|/x"),
            ("/dotted/x", "package.inner /dotted|/x"),
            ("/match/abc/d", "nested /match/abc|/d"),
            ("/base", "nested /base|"),
            ("/base/x/y", "nested /base|/x/y"),
            ("/base//x", "nested /base|/x"),
            ("/base/../base/x", "nested /base|/x"),
            ("/base/./a/../b", "nested /base|/b"),
            ("/base/%2e%2e/base/c", "nested /base|/c"),
            ("/base/..a/.b", "nested /base|/..a/.b"),
        ],
    )
    def test_script_name_and_path_info(self, server: Server, path: str, text: str) -> None:
        with server.connect() as sock:
            sock.sendall(get(path))
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        assert answer.partition(b"\r\n\r\n")[2].decode() == text

    def test_file_as_module(self, server: Server) -> None:
        assert server.get("/path/x").text.endswith("_other |/path/x")

    def test_module_beside_the_handler(self, server: Server) -> None:
        assert server.get("/app/page.txt").text.endswith("_beside |/app/page.txt")

    @pytest.mark.parametrize("path", ["/bases/page.txt", "/other/page.txt"])
    def test_not_below_the_base(self, server: Server, path: str) -> None:
        assert server.get(path).text == "declined"
        server.wait_for_log(f":warn.*the URI '{path}' is not below the base URI '/base'")

    @pytest.mark.parametrize("name", ["badbase", "slashbase"])
    def test_base_with_a_slash(self, server: Server, name: str) -> None:
        server.allow("base_uri is '/(badbase/)?'; it must begin with a slash")
        assert server.get(f"/{name}/x").status == 500
        server.wait_for_log("ValueError: PythonOption mod_python.wsgi.base_uri is")

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("missing", "PythonOption mod_python.wsgi.application is not set"),
            ("nowhere", "there is no module for .*application no_such_package.app: No module named 'no_such_package'"),
            ("nofile", "there is no module for .*none.py"),
            ("noname", "contains no 'nothing', for PythonOption mod_python.wsgi.application nested::nothing"),
        ],
    )
    def test_no_such_application(self, server: Server, name: str, message: str) -> None:
        for _ in range(2):
            assert server.get(f"/{name}/page.txt").text == "declined"
        server.wait_for_log(f"python:warn.*{message}")

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("number", "TypeError: 'number' in module '.*nested.py' is no WSGI application: it is of type int"),
            ("syntax", "SyntaxError"),
            ("needs", "ModuleNotFoundError: No module named 'not_installed_anywhere'"),
        ],
    )
    def test_faulty_application(self, server: Server, name: str, message: str) -> None:
        server.allow(message)
        for _ in range(2):
            assert server.get(f"/{name}").status == 500
        server.wait_for_log(message)

    def test_files_beside_an_application_of_the_whole_site(self) -> None:
        config = """
            <Location "/">
                SetHandler mod_python
                PythonHandler mod_python.wsgi
                PythonOption mod_python.wsgi.application ${SITE}/nested.py
            </Location>
            Alias "/static" "${SITE}/static"
            <Location "/static">
                SetHandler None
            </Location>
            <Directory "${SITE}/static">
                Require all granted
            </Directory>
        """
        with running(config, files={"nested.py": NESTED, "static/style.css": "b {}"}) as server:
            assert server.get("/").text.endswith("_nested |/")
            assert server.get("/a/b").text.endswith("_nested |/a/b")
            response = server.get("/static/style.css")
            assert (response.text, response.headers["Content-Type"]) == ("b {}", "text/css")

    def test_option_of_an_earlier_handler(self) -> None:
        files = {
            "first.py": "def fixuphandler(req):\n"
            "    req.get_options()['mod_python.wsgi.application'] = 'nested'\n    return 0\n",
            "nested.py": NESTED,
        }
        config = """
            PythonPath "sys.path+['${SITE}']"
            PythonFixupHandler first
            SetHandler mod_python
            PythonHandler mod_python.wsgi
        """
        with running(config, files=files) as server:
            assert server.get("/x").text == "nested |/x"

    def test_reload(self) -> None:
        config = """
            DocumentRoot "${SITE}"
            <Directory "${SITE}">
                Require all granted
                SetHandler mod_python
                PythonHandler mod_python.wsgi
                PythonOption mod_python.wsgi.application app
            </Directory>
        """
        source = "def application(environ, start):\n    start('200 OK', [])\n    return [b'one']\n"
        with running(config, files={"app.py": source}) as server:
            assert server.get("/").text == "one"
            server.write_file("app.py", source.replace("one", "second"))
            server.wait_until(lambda: server.get("/").text == "second", what="the reload")


def test_interpreters_of_their_own() -> None:
    config = """
        SetHandler mod_python
        PythonHandler mod_python.wsgi
        PythonOption mod_python.wsgi.application ${SITE}/nested.py
        <Location "/other">
            PythonInterpreter other
            PythonHandler mod_python.wsgi
        </Location>
    """
    with running(config, files={"nested.py": NESTED}, flags={"PythonInterpreter": None}) as server:
        for _ in range(3):
            assert server.get("/x").text.endswith("_nested |/x")
            assert server.get("/other/x").text.endswith("_nested /other|/x")


class TestStartResponse:
    def test_row_15_7_status(self, server: Server) -> None:
        response = server.get("/status?404+Not+Here")
        assert (response.status, response.reason, response.body) == (404, "Not Here", b"body")
        assert response.headers["Content-Type"] == "text/plain"
        assert response.headers["X-One"] == "1"
        assert response.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
        assert server.get("/twice").text == "start_response was called already; a second call needs exc_info"
        assert server.get("/closing").text == "ab"
        if server.mpm != "prefork":
            assert kept(server, "closing") == ["closed"]

    @pytest.mark.parametrize("status", ["201+Created", "299+Odd", "403", "418+I'm+a+teapot", "500+Mine", "599+Last"])
    def test_statuses(self, server: Server, status: str) -> None:
        response = server.get(f"/status?{status}")
        number, _, reason = status.replace("+", " ").partition(" ")
        assert (response.status, response.reason, response.body) == (int(number), reason or "Forbidden", b"body")

    def test_replaced(self, server: Server) -> None:
        response = server.get("/replaced")
        assert (response.status, response.reason, response.text) == (503, "Not Today", "replaced")
        assert response.headers.get_all("X-Both") == ["new"]
        assert response.headers["X-Old"] is None
        assert response.headers["Content-Type"] == "text/plain"
        assert response.headers["Content-Length"] == "8"

    def test_sent_already(self, server: Server) -> None:
        response = server.get("/sent")
        assert (response.status, response.text) == (200, "sent cannot be replaced")

    def test_write(self, server: Server) -> None:
        assert server.get("/write").text == "one two three"

    @threaded
    def test_write_beyond_the_length(self, server: Server) -> None:
        assert server.get("/write_too_much").text == "1234"
        assert kept(server, "write") == "write: this is more than the Content-Length that the application gave"

    def test_arguments(self, server: Server) -> None:
        response = server.get("/types")
        assert response.headers["X-Tab"] == "a\tb"
        found = value(response)
        types = ("tuple", "pairs", "three", "bytes", "name", "number", "status_bytes", "wide", "exc")
        assert found == {name: "TypeError" if name in types else "ValueError" for name in found}
        assert len(found) == 27

    @pytest.mark.parametrize("path", ["/no_type/x.css", "/no_type/x.tar.gz", "/no_type/x.de"])
    def test_httpd_adds_no_description_of_its_own(self, server: Server, path: str) -> None:
        response = server.get(path)
        assert response.text == "whatever"
        for name in ("Content-Type", "Content-Encoding", "Content-Language"):
            assert response.headers[name] is None

    def test_headers_that_httpd_has_too(self, server: Server) -> None:
        response = server.get("/own_headers")
        assert response.text == "body"
        for name in ("Date", "Server", "Last-Modified", "ETag"):
            assert len(response.headers.get_all(name, [])) == 1
        assert ",".join(response.headers.get_all("Vary", [])).replace(" ", "") == "a,b"

    def test_never_called(self, server: Server) -> None:
        assert server.get("/no_start").status == 500
        reported(server, "RuntimeError: the application did not call start_response")
        assert server.get("/no_start?x").status == 500
        reported(server, "gave a part of its body before it called start_response")

    def test_called_by_the_body(self, server: Server) -> None:
        response = server.get("/late_start")
        assert (response.status, response.reason, response.text) == (202, "Late", "late")


class TestBody:
    def test_row_15_5_str(self, server: Server) -> None:
        response = server.get("/strings")
        assert response.body == b"caf\xe9 old"
        assert response.headers["Content-Length"] == "8"

    def test_what_is_no_bytes(self, server: Server) -> None:
        assert server.get("/snowman").status == 500
        reported(server, "TypeError: a WSGI application must give bytes; this str cannot be taken for")
        assert server.get("/ints").status == 500
        reported(server, "has it returned bytes in place of")

    def test_length_of_a_list(self, server: Server) -> None:
        response = server.get("/large_list")
        assert response.headers["Content-Length"] == str(30000 * 100 + 200000)
        assert response.body == b"".join(b"%099d\n" % number for number in range(30000)) + b"x" * 200000

    def test_large_parts(self, server: Server) -> None:
        response = server.get("/large_parts")
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert response.body == b"".join(b"%09d\n" % number * 10000 for number in range(30))

    @pytest.mark.parametrize("query", ["", "?iterator"])
    def test_more_than_the_length(self, server: Server, query: str) -> None:
        with server.connect() as sock:
            sock.sendall(get(f"/too_long{query}", close=False) + get("/strings"))
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        head, _, rest = answer.partition(b"\r\n\r\n")
        assert b"Content-Length: 5" in head
        assert rest.startswith(b"12345HTTP/1.1 200 OK\r\n")
        server.wait_for_log("python:warn.*gave more than its Content-Length")

    def test_less_than_the_length(self, server: Server) -> None:
        assert server.get("/too_short").status == 500
        reported(server, "RuntimeError: the application gave 2 bytes less than its Content-Length")
        with server.connect() as sock:
            sock.sendall(get("/too_short?iterator", close=False))
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        assert answer.endswith(b"\r\n\r\n123")

    @pytest.mark.parametrize("path", ["/large_list", "/large_parts", "/strings", "/file"])
    def test_head(self, server: Server, path: str) -> None:
        answer = exchange(server, get(path, method="HEAD"))
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\n")
        length = {"/large_list": 3200000, "/strings": 8, "/file": 1000}.get(path)
        if length is not None:
            assert b"\r\nContent-Length: %d\r\n" % length in answer

    def test_endless_for_head(self, server: Server) -> None:
        """Nobody would notice that the client has gone."""
        assert server.request("HEAD", "/endless").status == 200
        if server.mpm != "prefork":
            assert kept(server, "endless") == ["closed"]

    @pytest.mark.parametrize("status", [204, 304])
    def test_no_content(self, server: Server, status: int) -> None:
        answer = exchange(server, get(f"/no_content?{status}"))
        assert answer.startswith(b"HTTP/1.1 %d" % status)
        assert answer.endswith(b"\r\n\r\n")
        assert b"X-A: b" in answer

    @pytest.mark.parametrize("path", ["/streamed", "/streamed_write"])
    @threaded
    def test_each_part_leaves_at_once(self, server: Server, path: str) -> None:
        with server.connect() as sock:
            sock.sendall(get(path))
            data = b""
            while b"first" not in data:
                data += sock.recv(65536)
            assert b"second" not in data
            assert server.get("/release").status == 204
            data += b"".join(iter(lambda: sock.recv(65536), b""))
        assert data.endswith(b"6\r\nsecond\r\n0\r\n\r\n")

    def test_class(self, server: Server) -> None:
        assert server.get("/Class").text == "a class"

    def test_server_return(self, server: Server) -> None:
        assert server.get("/stop").status == 403

    def test_client_gone(self, server: Server) -> None:
        with server.connect() as sock:
            sock.sendall(get("/endless?gone"))
            assert sock.recv(10)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        server.wait_for_log("the client closed the connection")


class TestErrors:
    def test_application_fails(self, server: Server) -> None:
        response = server.get("/fails")
        assert response.status == 500
        assert response.headers["Content-Type"].startswith("text/html")
        assert b"Internal Server Error" in response.body
        assert "wsgi.py" in reported(server, "ValueError: the application broke")

    def test_body_fails(self, server: Server) -> None:
        response = server.get("/broken")
        assert (response.status, response.headers["X-Mine"]) == (500, None)
        reported(server, "ValueError: the body broke")
        with server.connect() as sock:
            sock.sendall(get("/broken?late", close=False))
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        assert answer.endswith(b"5\r\nbegun\r\n")
        if server.mpm != "prefork":
            assert kept(server, "broken") == kept(server, "brokenlate") == ["closed"]

    def test_close_fails(self, server: Server) -> None:
        response = server.get("/closing_fails")
        assert (response.status, response.text) == (200, "whole")
        text = reported(server, "ValueError: close failed")
        server.wait_for_log("phase='close\\(\\) of a WSGI result'")
        assert "in close" in text


class TestFiles:
    @pytest.mark.parametrize(
        ("how", "body", "length"),
        [
            ("", b"0123456789" * 100, 1000),
            ("unbuffered", b"0123456789" * 100, 1000),
            ("offset", b"0123456789" * 99, 990),
            ("limited", b"5678901", 7),
            ("end", b"", None),
            ("beyond", b"", None),
            ("bytesio", b"from memory" * 1000, None),
            ("gzip", b"unpacked", None),
            ("bz2", b"unpacked", None),
            ("lzma", b"unpacked", None),
            ("zip", b"unpacked", None),
            ("own", b"unpacked", None),
            ("temporary", b"temporary", 9),
            ("deleted", b"has no name", 11),
            ("iterated", b"0123456789" * 100, None),
            ("pipe", b"from a pipe", None),
        ],
    )
    def test_file(self, server: Server, how: str, body: bytes, length: int | None) -> None:
        response = server.get(f"/file?{how}")
        assert response.status == 200
        assert response.body == body
        if length is not None:
            assert response.headers["Content-Length"] == str(length)
        if how != "iterated" and server.mpm != "prefork":
            # The client has all of it before the file is closed.
            server.wait_until(lambda: server.get("/file_closed").text == "True", what="the end of the file")

    def test_shorter_than_the_length(self, server: Server) -> None:
        with server.connect() as sock:
            sock.sendall(get("/file?short", close=False))
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        assert answer.endswith(b"0123456789" * 100)
        reported(server, "gave 1000 bytes less than its Content-Length")


CHUNKED = "Transfer-Encoding: chunked"


class TestInput:
    BODY = b"first line\nsecond\n\nlast without end"

    @pytest.mark.parametrize("chunked", [False, True])
    @pytest.mark.parametrize(
        ("how", "expected"),
        [
            ("read", BODY),
            ("pieces", BODY),
            ("lines", b"[first line\n][second\n][\n][last without end]"),
            ("readlines", b"<first line\n><second\n><\n><last without end>"),
            ("readline", b"(firs)(t li)(ne\n)(seco)(nd\n)(\n)(last)( wit)(hout)( end)"),
        ],
    )
    def test_methods(self, server: Server, how: str, expected: bytes, chunked: bool) -> None:
        if chunked:
            body = (
                b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (self.BODY[:13], self.BODY[13:]))
                + b"0\r\n\r\n"
            )
            answer = exchange(server, get(f"/echo?{how}", CHUNKED, method="POST") + body)
            assert answer.partition(b"\r\n\r\n")[2] == expected
        else:
            assert server.request("POST", f"/echo?{how}", self.BODY).body == expected

    def test_lengths(self, server: Server) -> None:
        assert value(server.request("PUT", "/echo?", b"x" * 300000)) == ("300000", None, None, True, 300000)
        body = b"".join(b"10000\r\n%b\r\n" % (b"y" * 65536) for _ in range(10)) + b"0\r\n\r\n"
        answer = exchange(server, get("/echo?", CHUNKED, method="POST") + body)
        assert answer.endswith(b"(None, None, 'chunked', True, 655360)")


class TestValidator:
    @pytest.mark.parametrize(
        ("method", "how", "body"),
        [
            ("GET", "", b"read 0"),
            ("GET", "file", b"0123456789" * 100),
            ("GET", "large", b"x" * 5000000),
            ("GET", "write", b"written returned"),
            ("GET", "replace", b"replaced"),
            ("GET", "nothing", b""),
            ("HEAD", "", b""),
            ("HEAD", "file", b""),
            ("HEAD", "large", b""),
            ("POST", "", b"read 1000000"),
            ("POST", "lines", b"1"),
            ("POST", "readline", b"x" * 1000000),
            ("POST", "readlines", b"x" * 1000000),
            ("PUT", "", b"read 1000000"),
            ("DELETE", "", b"read 0"),
            ("OPTIONS", "", b"read 0"),
        ],
    )
    def test_valid(self, server: Server, method: str, how: str, body: bytes) -> None:
        sent = b"x" * 1000000 if method in ("POST", "PUT") else None
        response = server.request(method, f"/valid?{how}", sent)
        assert response.status == {"replace": 500, "nothing": 204}.get(how, 200), server.error_log[-3000:]
        assert response.body == body

    def test_chunked(self, server: Server) -> None:
        answer = exchange(server, get("/valid?", CHUNKED, method="POST") + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
        assert answer.endswith(b"5\r\nread \r\n2\r\n11\r\n0\r\n\r\n")

    def test_close_fails(self, server: Server) -> None:
        response = server.get("/valid?close")
        assert (response.status, response.text) == (200, "good")
        reported(server, "ValueError: the validator saw close fail")

    def test_many_at_once(self, server: Server) -> None:
        sockets = [server.connect() for _ in range(4)]
        for sock in sockets:
            sock.sendall(get("/valid?", close=False) * 20 + get("/valid?large"))
        for sock in sockets:
            with sock:
                answer = b"".join(iter(lambda sock=sock: sock.recv(65536), b""))  # type: ignore[misc]
            assert answer.count(b"HTTP/1.1 200 OK") == 21
            assert answer.count(b"x" * 100000) == 50


class TestOutsideHttpd:
    def test_file_wrapper(self) -> None:
        class Source:
            def __init__(self) -> None:
                self.parts = [b"one", b"two", b""]

            def read(self, size: int) -> bytes:
                assert size == 3
                return self.parts.pop(0)

        wrapper = wsgi.FileWrapper(Source(), 3)
        assert not hasattr(wrapper, "close")
        assert not wrapper.send(None)
        assert list(wrapper) == [b"one", b"two"]
        source = io.BytesIO(b"x" * 10000)
        wrapper = wsgi.FileWrapper(source)
        assert [len(part) for part in wrapper] == [8192, 1808]
        wrapper.close()
        assert source.closed

    @pytest.mark.parametrize(
        ("name", "missing", "expected"),
        [
            ("shop", "shop", True),
            ("shop.wsgi", "shop", True),
            ("shop.wsgi", "shop.wsgi", True),
            ("shop", "shopping", False),
            ("shop.wsgi", "shop.models", False),
            ("shopping", "shop", False),
        ],
    )
    def test_which_module_is_missing(self, name: str, missing: str, expected: bool) -> None:
        error = ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        assert wsgi._is_missing(Handler(name), error) is expected
