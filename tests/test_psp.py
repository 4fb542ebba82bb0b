"""PSP pages on a real httpd: rows 14.1 to 14.5 of the behaviours, and what the handler does."""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Iterator

import pytest

from mod_python.testing import Response, Server
from mod_python.testing.errorlog import tracebacks
from tests.servers import running

CONFIG = """
DocumentRoot ${SITE}
<Directory ${SITE}>
    Require all granted
    AddHandler mod_python .psp .psp_
    PythonHandler mod_python.psp
</Directory>
<Directory ${SITE}/debug>
    PythonDebug On
</Directory>
<Directory ${SITE}/escaped>
    PythonOption mod_python.psp.autoescape On
</Directory>
<Directory ${SITE}/never>
    PythonAutoReload Off
</Directory>
<Location /template>
    SetHandler mod_python
    PythonHandler ${SITE}/template.py
</Location>
"""

TEMPLATE = """
from mod_python import apache, psp

def handler(req):
    req.content_type = "text/html"
    psp.PSP(req, filename="cards/card.psp", vars={"title": "Card", "who": "nobody"}).run({"who": "Ann"})
    page = psp.PSP(req, string="<% req.write('direct') %>[<%= who %>]")
    page.run({"who": "string"}, flush=1)
    assert req.sent_bodyct
    return apache.OK
"""

FILES = {
    "one_line_suite.psp": '<% if 1:\n  req.write("t")\n%>est<%= " " + "ok" %>\n',
    "escapes.psp": "a\\nb\\rc\\td\n",
    "code_escapes.psp": '<%\nx = "a\\nb\\\\c\\x41"\n%><%= x %><% req.write("\\ttab \\\\n") %>\n',
    "quotes.psp": "<a href=\"<%= 1 %>\" title='<%= 2 %>'>\"'<%= 3 %>'\"</a>\n",
    "failing.psp": '<% psp.set_error_page("error.psp") %>before<% session["seen"] = "main" %>\n<%= 1 / 0 %>never\n',
    "error.psp": " error: <%= exception[0].__name__ %>,<%= exception[1] %>,<%= session['seen'] %>\n",
    "sub/failing.psp": '<% psp.set_error_page("/error.psp") %><% session["seen"] = "sub"; raise ValueError("v") %>',
    "sub/returning.psp": '<% psp.set_error_page("/error.psp"); raise apache.SERVER_RETURN(apache.HTTP_GONE) %>',
    "sub/missing.psp": 'text<% psp.set_error_page("/none.psp") %>',
    "counter.psp": "<% session['n'] = session.get('n', 0) + 1 %><%= session['n'] %> <%= session.is_new() == True %>",
    "not_saved.psp": "<% session['n'] = 100; raise apache.SERVER_RETURN(apache.OK) %>",
    "left.psp": "<%= hasattr(req, 'session') %>",
    "form.psp": "<%= form.getfirst('a') %>,<%= [str(b) for b in form.getlist('b')] %>,<%= form is req.form %>",
    "no_form.psp": "<%= req.read() %>",
    "apply.psp": (
        "<%\ndef show(req, a, b='none', extra=None):\n    return f'{req.method} {a} {b} {extra}'\n"
        "# end\n%><%= psp.apply_data(show, extra=5) %>|<%= form['a'] %>"
    ),
    "redirect.psp": "queued<% psp.redirect('/form.psp?a=1', permanent=form.has_key('p')) %>never",
    "redirect_late.psp": "sent<% req.flush() %><% psp.redirect('/form.psp') %>",
    "order.psp": (
        "1<% req.write('2', 0) %>3<% req.write(b'4') %>5<% req.flush() %>6<%= inner('7') %>8"
        "<%\n\nreq.sendfile(req.filename.replace('order.psp', 'nine.txt'))\n%>10<% req.write('11') %>12\n"
    ).replace("<%= inner", "<%\ndef inner(x):\n    req.write(x, 0)\n    return ''\n# end\n%><%= inner"),
    "nine.txt": "9",
    "broken.psp": "one\n<% x = %>\n",
    "fails.psp": "one\n<p><%= 1 / 0 %></p>\n",
    "includes.psp": 'one\n<%@ include file="part.inc" %>\n',
    "part.inc": "<%\n# part\n%>\n<b><%= unknown %></b>\n",
    "no_include.psp": 'one\n<%@ include file="none.inc" %>\n',
    "debug/page.psp": "<b>one</b>\n<%= 1 + 1 %>\n",
    "debug/fails.psp": "one\n<p><%= 1 / 0 %></p>\n",
    "page.psp": "<b>one</b>\n",
    "escaped/page.psp": "<%= '<b>' %>",
    "utf8.psp": "caf\u00e9 <%= '\u20ac' %>",
    "latin.psp": b"caf\xe9 <%= 1 %>",
    "type.psp": "<% req.content_type = 'text/plain' %>text",
    "big.psp": "<%\nfor n in range(20000):\n    # a line\n%>0123456789<%= n %>\n<%\n%>",
    "import.psp": "<% import beside %><%= beside.VALUE %>",
    "beside.py": "VALUE = 'beside'",
    "changing.psp": 'old <%@ include file="changing.inc" %>',
    "changing.inc": "old",
    "never/page.psp": "old",
    "never/gone.psp": "old",
    "gone.psp": "here",
    "becomes_broken.psp": "whole",
    "many.psp": "<% import os %><%= 'many' %>",
    "template.py": TEMPLATE,
    "cards/card.psp": "<h1><%= title %></h1><%= who %>\n",
    "embedding.psp": "(<%= PSP(req, 'page.psp') %>)<% from mod_python.psp import PSP %>".replace(
        "(<%= PSP(req, 'page.psp') %>)<% from mod_python.psp import PSP %>",
        "<% from mod_python.psp import PSP %>(<%= PSP(req, 'page.psp') %>)",
    ),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(CONFIG, files=FILES) as server:
        yield server


def text(server: Server, path: str) -> str:
    """Get a page that must succeed."""
    response = server.get(path)
    assert response.status == 200
    return response.text


def post(server: Server, path: str, body: bytes) -> str:
    """Send a form."""
    fields = {"Content-Type": "application/x-www-form-urlencoded"}
    return server.request("POST", path, body, fields).text


def fails(server: Server, path: str, *frames: str, status: int = 500) -> Response:
    """Get a page whose traceback must contain some text."""
    server.allow(re.escape(frames[0]))
    before = len(tracebacks(server.log_records()))
    response = server.get(path)
    assert response.status == status
    server.wait_until(lambda: len(tracebacks(server.log_records())) > before, what="a traceback")
    found = tracebacks(server.log_records())[before:]
    assert all(frame in found[0] for frame in frames), found[0]
    return response


def until(server: Server, path: str, wanted: str) -> None:
    """Wait until every process answers with a text."""
    server.wait_until(lambda: {server.get(path).text for _ in range(8)} == {wanted}, what=f"{wanted!r} at {path}")


class TestRows:
    def test_row_14_1_code_text_and_expression(self, server: Server) -> None:
        response = server.get("/one_line_suite.psp")
        assert (response.status, response.text) == (200, "test ok\n")
        assert response.headers["Content-Type"] == "text/html"

    def test_row_14_2_backslashes_in_text(self, server: Server) -> None:
        assert text(server, "/escapes.psp") == "a\\nb\\rc\\td\n"

    def test_row_14_3_escapes_in_code_apply_once(self, server: Server) -> None:
        assert text(server, "/code_escapes.psp") == "a\nb\\cA\ttab \\n\n"

    def test_row_14_4_expressions_in_quotes(self, server: Server) -> None:
        assert text(server, "/quotes.psp") == "<a href=\"1\" title='2'>\"'3'\"</a>\n"

    def test_row_14_5_error_page_with_session(self, server: Server) -> None:
        assert text(server, "/failing.psp") == "before\n error: ZeroDivisionError,division by zero,main\n"


class TestSession:
    def visit(self, server: Server, path: str, cookie: str = "") -> tuple[str, str]:
        response = server.get(path, {"Cookie": cookie} if cookie else {})
        return response.text, (response.headers["Set-Cookie"] or "").partition(";")[0]

    def test_it_is_saved_and_found_again(self, server: Server) -> None:
        first, cookie = self.visit(server, "/counter.psp")
        assert first == "1 True"
        assert self.visit(server, "/counter.psp", cookie)[0] == "2 False"
        # Unlocked at the end: otherwise this would wait for ever.
        assert self.visit(server, "/counter.psp", cookie)[0] == "3 False"

    def test_server_return_saves_nothing(self, server: Server) -> None:
        _, cookie = self.visit(server, "/counter.psp")
        self.visit(server, "/not_saved.psp", cookie)
        assert self.visit(server, "/counter.psp", cookie)[0] == "2 False"

    def test_pages_without_it_make_none(self, server: Server) -> None:
        assert self.visit(server, "/left.psp") == ("False", "")

    def test_the_error_page_s_output_and_its_session_are_kept(self, server: Server) -> None:
        assert text(server, "/sub/failing.psp") == " error: ValueError,v,sub\n"


class TestForm:
    def test_fields(self, server: Server) -> None:
        assert text(server, "/form.psp?a=x%20y&b=1&b=") == "x y,['1', ''],True"

    def test_a_body(self, server: Server) -> None:
        assert post(server, "/form.psp", b"a=1&b=2") == "1,['2'],True"

    def test_pages_without_it_leave_the_body(self, server: Server) -> None:
        assert post(server, "/no_form.psp", b"a=1&b=2") == "b'a=1&b=2'"

    def test_apply_data(self, server: Server) -> None:
        assert text(server, "/apply.psp?a=1&c=3&extra=9&req=no") == "GET 1 none 5|1"


class TestInterface:
    def test_server_return_runs_no_error_page(self, server: Server) -> None:
        response = server.get("/sub/returning.psp")
        assert response.status == 410
        assert "error:" not in response.text

    def test_an_error_page_that_does_not_exist(self, server: Server) -> None:
        assert server.get("/sub/missing.psp").status == 404
        server.wait_for_log(r"psp\.set_error_page\('/none\.psp'\): there is no file")

    @pytest.mark.parametrize(("query", "status"), [("", 302), ("?p=1", 301)])
    def test_redirect(self, server: Server, query: str, status: int) -> None:
        response = server.get(f"/redirect.psp{query}")
        assert response.status == status
        assert response.headers["Location"] == "/form.psp?a=1"
        assert "never" not in response.text

    def test_redirect_after_output(self, server: Server) -> None:
        server.allow("Cannot redirect")
        with pytest.raises(http.client.IncompleteRead):
            server.get("/redirect_late.psp")


class TestOutput:
    def test_it_is_in_the_order_of_writing(self, server: Server) -> None:
        assert text(server, "/order.psp") == "1234567891011" + "12\n"

    def test_it_is_collected(self, server: Server) -> None:
        assert server.get("/page.psp").headers["Content-Length"] == "11"

    def test_encodings(self, server: Server) -> None:
        assert server.get("/utf8.psp").body == "caf\u00e9 \u20ac".encode()
        assert server.get("/latin.psp").body == b"caf\xe9 1"

    def test_another_type(self, server: Server) -> None:
        assert server.get("/type.psp").headers["Content-Type"].startswith("text/plain")

    def test_much(self, server: Server) -> None:
        assert text(server, "/big.psp") == "".join(f"0123456789{n}\n" for n in range(20000))

    def test_autoescape(self, server: Server) -> None:
        assert text(server, "/escaped/page.psp") == "&lt;b&gt;"

    def test_templates(self, server: Server) -> None:
        response = server.get("/template")
        assert response.text == "<h1>Card</h1>Ann\ndirect[string]"

    def test_a_page_in_a_page(self, server: Server) -> None:
        assert text(server, "/embedding.psp") == "(<b>one</b>\n)"

    def test_imports_from_its_directory(self, server: Server) -> None:
        assert text(server, "/import.psp") == "beside"


class TestFailures:
    def test_no_such_page(self, server: Server) -> None:
        assert server.get("/none.psp").status == 404

    def test_syntax_error(self, server: Server) -> None:
        fails(server, "/broken.psp", "broken.psp", "line 2", "<% x = %>", "SyntaxError")

    def test_traceback(self, server: Server) -> None:
        found = fails(server, "/fails.psp", "/fails.psp", "line 2, in <module>", "<p><%= 1 / 0 %></p>", "ZeroDivision")
        assert "one" not in found.text

    def test_traceback_of_an_included_file(self, server: Server) -> None:
        fails(server, "/includes.psp", "/part.inc", "line 4, in <module>", "<b><%= unknown %></b>", "NameError")

    def test_an_included_file_that_is_missing(self, server: Server) -> None:
        fails(server, "/no_include.psp", "/none.inc", "FileNotFoundError")
        server.wait_for_log(r"included by .*/no_include\.psp, line 2")

    def test_debug(self, server: Server) -> None:
        response = fails(server, "/debug/fails.psp", "/debug/fails.psp", "line 2, in <module>", "ZeroDivision")
        assert "ZeroDivisionError" in response.text


class TestDisplayCode:
    def test_with_debug(self, server: Server) -> None:
        response = server.get("/debug/page.psp_")
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/html"
        assert "req.write(&#x27;&lt;b&gt;one&lt;/b&gt;\\n&#x27;, 0)" in response.text
        assert "<b>" not in response.text

    def test_without(self, server: Server) -> None:
        assert server.get("/page.psp_").status == 404


class TestReload:
    def test_a_changed_page(self, server: Server) -> None:
        assert text(server, "/changing.psp") == "old old"
        server.write_file("changing.inc", "new")
        until(server, "/changing.psp", "old new")
        server.write_file("changing.psp", 'new <%@ include file="changing.inc" %>')
        until(server, "/changing.psp", "new new")

    def test_one_that_goes(self, server: Server) -> None:
        assert text(server, "/gone.psp") == "here"
        (server.site / "gone.psp").unlink()
        server.wait_until(lambda: {server.get("/gone.psp").status for _ in range(8)} == {404}, what="404")

    def test_one_that_becomes_broken_and_whole_again(self, server: Server) -> None:
        assert text(server, "/becomes_broken.psp") == "whole"
        server.allow(r"becomes_broken\.psp")
        server.write_file("becomes_broken.psp", "<%")
        server.wait_until(lambda: {server.get("/becomes_broken.psp").status for _ in range(8)} == {500}, what="500")
        server.write_file("becomes_broken.psp", "again")
        until(server, "/becomes_broken.psp", "again")

    def test_many_at_once(self, server: Server) -> None:
        answers: list[str] = []
        threads = [threading.Thread(target=lambda: answers.append(server.get("/many.psp").text)) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == 16 * ["many"]


def test_without_autoreload() -> None:
    with running(CONFIG, files=FILES, processes=1) as server:
        assert text(server, "/never/page.psp") == "old"
        assert text(server, "/changing.psp") == "old old"
        server.write_file("never/page.psp", "new")
        server.write_file("changing.psp", "new")
        until(server, "/changing.psp", "new")
        assert text(server, "/never/page.psp") == "old"
