"""The syntax of PSP pages, outside httpd: what a page sends, and where its mistakes are."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mod_python import apache, psp
from tests.conftest import ROOT
from tests.form_requests import steady


class Request:
    """As much of a request as a page needs."""

    def __init__(self, filename: str | os.PathLike[str] = "/srv/page.psp", autoescape: str | None = None) -> None:
        self.filename = os.fspath(filename)
        self.settings = (False, True, None, False, None)
        self.options = {} if autoescape is None else {"mod_python.psp.autoescape": autoescape}
        self.content_type: str | None = None
        self.sent = b""

    def _option(self, name: str) -> str | None:
        return self.options.get(name)

    def write(self, data: str | bytes, flush: int = 1) -> None:
        self.sent += data.encode() if isinstance(data, str) else data

    def flush(self) -> None:
        self.sent += b"[flush]"


def page(text: str | bytes, autoescape: str | None = None, **values: Any) -> bytes:
    """Run a page that is a string; return what it sent."""
    req = Request(autoescape=autoescape)
    psp.PSP(req, string=text, vars=values).run()
    return req.sent


def files(directory: Path, contents: Mapping[str, str | bytes]) -> Request:
    """Write files; return a request for `page.psp`."""
    for name, content in contents.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    return Request(directory / "page.psp")


def mistake(text: str | bytes, line: int, what: str = "") -> SyntaxError:
    """Expect a SyntaxError at a line."""
    with pytest.raises(SyntaxError, match=what or None) as caught:
        psp.PSP(Request(), string=text)
    assert caught.value.lineno == line, caught.value
    return caught.value


class TestText:
    @pytest.mark.parametrize(
        ("text", "sent"),
        [
            ("", ""),
            ("plain", "plain"),
            ("a\\x41b\\n\\r\\t\\", "a\\x41b\\n\\r\\t\\"),
            ("\"\"\"''' \\\" \\' {x} %s", "\"\"\"''' \\\" \\' {x} %s"),
            ("one\r\ntwo\nthree\rfour\n\rfive", "one\ntwo\nthree\rfour\n\rfive"),
            ("a %> b < % > <\n%", "a %> b < % > <\n%"),
            ("caf\u00e9 \U0001f600 \x00 \x0c \u2028", "caf\u00e9 \U0001f600 \x00 \x0c \u2028"),
            ("\ufeffmark", "\ufeffmark"),
        ],
    )
    def test_is_sent_as_it_is(self, text: str, sent: str) -> None:
        assert page(text) == sent.encode()
        assert page(text.encode()) == sent.encode()

    def test_of_another_encoding_keeps_its_bytes(self) -> None:
        assert page(b"caf\xe9 <%= 1 %>\xff") == b"caf\xe9 1\xff"

    @steady
    @given(st.text().filter(lambda text: "<%" not in text))
    def test_any_text(self, text: str) -> None:
        sent = page(text.encode("utf-8", "surrogatepass"))
        assert sent == text.replace("\r\n", "\n").encode("utf-8", "surrogatepass")

    @steady
    @given(st.binary().filter(lambda data: b"<%" not in data))
    def test_any_bytes(self, data: bytes) -> None:
        assert page(data) == data.replace(b"\r\n", b"\n")

    @steady
    @given(st.text(alphabet=st.sampled_from("<%=@->\n\r\t :#'\"\\()[]axif1,;\0\udc80"), max_size=40))
    def test_nothing_but_syntax_errors(self, text: str) -> None:
        error: Exception | None = None
        try:
            psp.PSP(Request(), string=text)
        except (SyntaxError, OSError) as exc:
            error = exc
        if isinstance(error, SyntaxError):
            lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
            assert error.lineno is not None
            assert 1 <= error.lineno <= len(lines)
            assert error.text == lines[error.lineno - 1]
        else:
            assert error is None or "include" in text

    @steady
    @given(st.lists(st.sampled_from(["<%", "%>", "<%=", "<%@", "<%--", "--%>", "\n", "if x:", "    ", "x", "include"])))
    def test_nothing_but_syntax_errors_of_tokens(self, parts: list[str]) -> None:
        try:
            psp.PSP(Request(), string="".join(parts))
        except SyntaxError:
            pass


class TestExpressions:
    @pytest.mark.parametrize(
        ("text", "sent"),
        [
            ("<%= 1 + 1 %>", "2"),
            ("<%=None%>", "None"),
            ("<%= b'x' %>", "b'x'"),
            ("<%= 1, 2 %>", "(1, 2)"),
            ("<%= 1, # why\n 2 %>", "(1, 2)"),
            ("<%= 'a' # why %>", "a"),
            ("<%= '#' %>b", "#b"),
            ("<%=\n\n  'a'\n   + 'b'\n%>", "ab"),
            ("<%= 'a'\r\n + 'b' %>", "ab"),
            ("<%= [n for n in (1, 2)] %>", "[1, 2]"),
            ("<%= (lambda: 'called')() %>", "called"),
            ("<%= '<b>' %>", "<b>"),
        ],
    )
    def test_the_value_is_sent(self, text: str, sent: str) -> None:
        assert page(text) == sent.encode()

    @pytest.mark.parametrize(
        ("text", "line", "what"),
        [
            ("a\n<%= %>", 2, "expression is missing"),
            ("a\n<%= 1 + %>", 2, ""),
            ("a\n<%= x) + (y %>", 2, ""),
            ("a\n<%=\n\n1 +\n%>", 4, ""),
            ("<%= x = 1 %>", 1, ""),
            ("<%= yield 1 %>", 1, ""),
            ("<%= x; y %>", 1, ""),
            ("\n<%= x \\ %>", 2, ""),
        ],
    )
    def test_anything_else_is_a_mistake(self, text: str, line: int, what: str) -> None:
        mistake(text, line, what)


class TestAutoescape:
    def test_values_are_escaped(self) -> None:
        text = "<p><%= value %></p>"
        assert page(text, "On", value="<b a='1' c=\"2\">&") == b"<p>&lt;b a=&#39;1&#39; c=&#34;2&#34;&gt;&amp;</p>"
        assert page(text, "On", value=7) == b"<p>7</p>"
        assert page(text, "Off", value="<b>") == b"<p><b></p>"
        assert page(text, None, value="<b>") == b"<p><b></p>"

    def test_what_is_html_stays(self) -> None:
        class Markup(str):
            def __html__(self) -> str:
                return str(self)

        class Widget:
            def __str__(self) -> str:
                return "<widget>"

        class Drawn(Widget):
            def __html__(self) -> str:
                return "<drawn/>"

        text = "<%= value %>"
        assert page(text, "on", value=Markup("<b>")) == b"<b>"
        assert page(text, "on", value=Drawn()) == b"<drawn/>"
        assert page(text, "on", value=Widget()) == b"&lt;widget&gt;"

    def test_code_writes_what_it_wants(self) -> None:
        assert page("<% req.write('<i>') %>", "On") == b"<i>"

    def test_a_mistyped_value_is_no_off(self) -> None:
        with pytest.raises(ValueError, match="On or Off, not 'Onn'"):
            page("text", "Onn")


class TestCode:
    def test_several_lines(self) -> None:
        assert page("<%\nx = 1\ny = 2\n%><%= x + y %>") == b"3"

    def test_the_last_line_tells_where_the_rest_belongs(self) -> None:
        text = (
            "<%\nfor name in 'ab':\n    # one item for each\n%><li><%= name %></li><% x = name %><%= x %>\n<%\n"
            "# end\n%>after\n"
        )
        assert page(text) == b"<li>a</li>a\n<li>b</li>b\nafter\n"

    def test_the_last_line_may_be_code(self) -> None:
        assert page("<%\nfor n in (1, 2):\n    m = n * 2\n%><%= m %>,<%\n%>end") == b"2,4,end"
        assert page("<%\nfor n in (1, 2):\n    m = n * 2 %><%= m %>,<%\n%>end") == b"2,4,end"

    def test_blanks_before_the_end_are_the_last_line(self) -> None:
        assert page("<%\nif 1:\n    pass\n    if 0:\n        pass\n%>text<%\n%>") == b""
        assert page("<%\nif 1:\n    pass\n    if 0:\n        pass\n    %>text<%\n%>") == b"text"

    def test_a_colon_at_the_end_opens_a_block(self) -> None:
        text = "<%\nif x:\n%>yes<%\nelse:\n%>no<%\n%> after"
        assert page(text, x=1) == b"yes after"
        assert page(text, x=0) == b"no after"

    @pytest.mark.parametrize("level", ["  ", "    ", "\t"])
    def test_a_block_that_was_opened_so_goes_on_as_it_is_indented(self, level: str) -> None:
        text = f"<%\nfor n in 1, 2:\n%>(<%\n{level}m = n * 2\n{level}m += 1\n%><%= m %>)<%\n%>."
        assert page(text) == b"(3)(5)."

    def test_nested(self) -> None:
        text = "<%\nfor a in 'xy':\n    for b in 'pq':\n%><%= a + b %> <%\n    # inner\n%>|<%\n%>."
        assert page(text) == b"xp xq |yp yq |."

    @pytest.mark.parametrize("colon", ["if x:", "if x: ", "if x:  # why: so", "if x == ':':"])
    def test_a_comment_may_follow_the_colon(self, colon: str) -> None:
        assert page(f"<%\n{colon}\n%>yes<%\n%>.", x=":") == b"yes."

    @pytest.mark.parametrize(
        "code",
        [
            "y = (1,\n     2)",
            "y = [\n    1,\n    2\n    ]",
            "y = 1 + \\\n    1",
            "y = '''\n    a:\n    '''",
            "y = 'a\\\n    b'",
            'y = "\\"" + (\n    "#")',
            "y = {1:\n    2}",
        ],
    )
    def test_a_line_that_goes_over_several(self, code: str) -> None:
        assert page(f"<%\n{code}\n%>text") == b"text"
        inside = code.replace("\n", "\n  ")
        assert page(f"<%\nif x:\n  {inside}\n%>text<%\n%>.", x=0) == b"."

    def test_a_condition_that_goes_over_several_lines(self) -> None:
        text = "<%\nif (x and\n        y):\n%>yes<%\nelse:\n%>no<%\n%>."
        assert page(text, x=1, y=1) == b"yes."
        assert page(text, x=1, y=0) == b"no."

    def test_a_comment_that_ends_in_a_colon_opens_nothing(self) -> None:
        assert page("<%\nx = 1\n# so:\n%>text") == b"text"
        assert page("<%\nif 1:\n    x = ':'  # so:\n%>text<%\n%>") == b"text"

    def test_an_empty_block_ends_all(self) -> None:
        assert page("<%\nif 0:\n    # never\n%>a<%\n%>b") == b"b"
        assert page("<%\nif 0:\n    # never\n%>a<%  \n%>b") == b"b"

    def test_a_block_may_have_nothing_in_it(self) -> None:
        assert page("<%\nif x:\n%><%-- nothing --%><%\nelse:\n%>no<%\n%>.", x=1) == b"."
        assert page("<%\nif x:\n    # nothing\n%><%\n%>.", x=1) == b"."
        assert page("a<%\nif x:\n%>", x=1) == b"a"
        assert page("a<%\nx = 1\n    # stray\n%><%\ny = 1\n%>") == b"a"

    def test_on_one_line(self) -> None:
        assert page("<% x = 1 %><% y = 2; %>a<% import os; z = x + y %><%= z %>") == b"a3"
        assert page("a<% x = 1 # one %>b<%= x %>") == b"ab1"
        assert page("a<%%>b<% %>c") == b"abc"
        assert page("<% if x: y = 1 %><% if not x: y = 2 %><%= y %>", x=0) == b"2"
        assert page("<%\nfor n in 1, 2:\n    # each\n%><% m = n %><%= m %><%\n%>.") == b"12."

    def test_on_one_line_it_opens_no_block(self) -> None:
        mistake("a\n<% if 1: %>text", 2)

    def test_the_first_line_may_follow_at_once(self) -> None:
        assert page("<% if x:\n    y = 1\nelse:\n    y = 2\n# end\n%><%= y %>", x=0) == b"2"
        assert page("<%\nfor n in 1, 2:\n    # each\n%><% if n == 2:\n        req.write('two')\n%><%\n%>.") == b"two."

    @pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
    def test_line_ends(self, end: str) -> None:
        text = "<%\nx = '''a\nb'''\nif x:\n    # yes\n%><%= x %><%\n%>."
        assert page(text.replace("\n", end)) == b"a\nb."

    def test_a_name_in_a_function(self) -> None:
        text = "<%\ndef row(x):\n    # a row\n%><td><%= x %></td><%\nrow(1)\nrow(2)\n%>"
        assert page(text) == b"<td>1</td><td>2</td>"

    @pytest.mark.parametrize(
        ("text", "line", "what"),
        [
            ("a\n<% x = %>", 2, ""),
            ("a\n\n<%\nx = 1\ny = (\n%>text\n", 5, "never closed"),
            ("a\n<%\nif x:\nfoo()\n%>", 4, "after 'if' statement on line 3"),
            ("a\n<%\nif x:\n    foo()\n  bar()\n%>", 5, ""),
            ("<%\nx = '''\n%>text", 2, "unterminated"),
            ("a\nb<% x", 2, "never closed"),
            ("a\n<%= x", 2, "never closed"),
            ("a\n<%-- x %>", 2, "never closed"),
            ("a\n\n<%@ include", 3, "never closed"),
            ("<%--%>", 1, "never closed"),
            ("a\n<% x = '\0' %>", 2, ""),
            (b"a\n<% x = '\xff' %>", 2, "UTF-8"),
            ("a\n<%= " + "(" * 5000 + ")" * 5000 + " %>", 2, ""),
            ("a\n<% return %>", 2, "outside function"),
        ],
    )
    def test_mistakes(self, text: str | bytes, line: int, what: str) -> None:
        exc = mistake(text, line, what)
        assert exc.filename is not None
        assert exc.filename.startswith("<psp ")

    def test_the_end_counts_also_in_a_string(self) -> None:
        mistake("<% x = '%>' %>", 1)
        assert page("<% x = '%' '>' %><%= x %>") == b"%>"


class TestComments:
    @pytest.mark.parametrize("comment", ["<%-- c --%>", "<%----%>", "<%-- <% x %> --%>", "<%--\n<%= nothing %>\n--%>"])
    def test_they_produce_nothing(self, comment: str) -> None:
        assert page(f"a{comment}b") == b"ab"

    def test_they_leave_the_indentation(self) -> None:
        assert page("<%\nif 0:\n    # no\n%>a<%--\n--%>b<%\n%>c") == b"c"


class TestDirectives:
    @pytest.mark.parametrize("text", ["<%@ page x='1' %>", "<%@%>", "<%@ includes file='x' %>", "<%@\n%>"])
    def test_unknown_ones_are_ignored(self, text: str) -> None:
        assert page(f"a{text}b") == b"ab"

    @pytest.mark.parametrize(
        "text", ["include", 'include "a"', "include file=a", 'include file="a', 'include file=""', 'include file="a" x']
    )
    def test_an_incomplete_include(self, text: str) -> None:
        mistake(f"a\n<%@ {text} %>", 2, "include file")


class TestInclude:
    def run(self, directory: Path, contents: Mapping[str, str | bytes]) -> bytes:
        req = files(directory, contents)
        psp.PSP(req).run()
        return req.sent

    def test_in_place(self, tmp_path: Path) -> None:
        sent = self.run(
            tmp_path,
            {
                "page.psp": '<%\nfor n in 1, 2:\n    # each\n%>(<%@ include file="part.inc" %>)<%\n%>.',
                "part.inc": "<%= n %><% m = n %>",
            },
        )
        assert sent == b"(1)(2)."

    def test_nested_and_relative_to_the_page(self, tmp_path: Path) -> None:
        sent = self.run(
            tmp_path,
            {
                "page.psp": '<%@include file="sub/a.inc"%>',
                "sub/a.inc": "a<%@  include  file = 'sub/b.inc' %>",
                "sub/b.inc": f'b<%@ include file="{tmp_path}/sub/c.inc" %>',
                "sub/c.inc": "c",
            },
        )
        assert sent == b"abc"

    def test_a_block_may_begin_in_an_included_file(self, tmp_path: Path) -> None:
        sent = self.run(
            tmp_path,
            {
                "page.psp": '<%@ include file="begin.inc" %><%= n %>,<%@ include file="end.inc" %>.',
                "begin.inc": "<%\nfor n in 1, 2:\n%>",
                "end.inc": "<%\n%>",
            },
        )
        assert sent == b"1,2,."

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        req = files(tmp_path, {"page.psp": 'a\n<%@ include file="none.inc" %>'})
        with pytest.raises(OSError, match=r"none\.inc") as caught:
            psp.PSP(req)
        assert caught.value.__notes__ == [f"included by {tmp_path}/page.psp, line 2"]

    def test_circles(self, tmp_path: Path) -> None:
        req = files(tmp_path, {"page.psp": '\n<%@ include file="a" %>', "a": '\n\n<%@ include file="page.psp" %>'})
        with pytest.raises(SyntaxError, match="includes itself") as caught:
            psp.PSP(req)
        assert (caught.value.filename, caught.value.lineno) == (str(tmp_path / "a"), 3)

    def test_too_many(self, tmp_path: Path) -> None:
        contents = {f"f{n}": 10 * f'<%@ include file="f{n + 1}" %>' for n in range(9)}
        req = files(tmp_path, {**contents, "f9": "x", "page.psp": '<%@ include file="f0" %>'})
        with pytest.raises(SyntaxError, match="more than 1000 files"):
            psp.PSP(req)

    def test_mistakes_name_the_included_file(self, tmp_path: Path) -> None:
        req = files(tmp_path, {"page.psp": '<%@ include file="part.inc" %>', "part.inc": "a\n<% x = %>"})
        with pytest.raises(SyntaxError) as caught:
            psp.PSP(req)
        error = caught.value
        assert (error.filename, error.lineno, error.text) == (str(tmp_path / "part.inc"), 2, "<% x = %>")
        (tmp_path / "part.inc").write_text("b\n\n\nc <% y = ")
        with pytest.raises(SyntaxError, match="never closed") as caught:
            psp.PSP(req)
        assert (caught.value.filename, caught.value.lineno) == (str(tmp_path / "part.inc"), 4)


class TestTracebacks:
    """They show the page's file, line and text; without marks for columns, which would be wrong."""

    def failing(self, req: Request) -> tuple[list[tuple[str, int | None, str, str | None]], str]:
        with pytest.raises(ZeroDivisionError) as caught:
            psp.PSP(req).run()
        frames = traceback.extract_tb(caught.value.__traceback__)
        text = "".join(traceback.format_exception(caught.value))
        inner = [(os.path.basename(f.filename), f.lineno, f.name, f.line) for f in frames]
        return inner[[i for i, f in enumerate(inner) if f[0] == "psp.py"][-1] + 1 :], text

    def test_a_page(self, tmp_path: Path) -> None:
        req = files(tmp_path, {"page.psp": "one\n<% x = 1 %> text # and\n<%= x %>\r\n<p><%= x / 0 %></p>\n"})
        frames, text = self.failing(req)
        assert frames == [("page.psp", 4, "<module>", "<p><%= x / 0 %></p>")]
        assert "^" not in text.partition('page.psp"')[2]

    def test_a_mistake_in_several_lines(self, tmp_path: Path) -> None:
        req = files(tmp_path, {"page.psp": "<%\nx = (1 +\n     2)\ny = [1,\n     1 / 0]\n%>"})
        assert self.failing(req)[0] == [("page.psp", 5, "<module>", "1 / 0]")]

    def test_included(self, tmp_path: Path) -> None:
        req = files(
            tmp_path,
            {
                "page.psp": 'one\ntwo <%@ include file="a.inc" %> three\n<% f(0) %>\n',
                "a.inc": 'a\n\n<%@ include file="b.inc" %>\n',
                "b.inc": "b\n<%\ndef f(x):\n    g = lambda: 1 / x\n    return g()\n# end\n%>\n",
            },
        )
        frames, _ = self.failing(req)
        assert frames == [
            ("page.psp", 3, "<module>", "<% f(0) %>"),
            ("b.inc", 5, "f", "return g()"),
            ("b.inc", 4, "<lambda>", "g = lambda: 1 / x"),
        ]

    def test_in_statements_of_an_included_file(self, tmp_path: Path) -> None:
        req = files(
            tmp_path,
            {
                "page.psp": '<%\ndef call(f):\n    return f()\n# end\n%>\n<%@ include file="a.inc" %>\n',
                "a.inc": "a\n\n<%= call(lambda: 1 / 0) %>",
            },
        )
        frames, text = self.failing(req)
        assert frames == [
            ("a.inc", 3, "<module>", "<%= call(lambda: 1 / 0) %>"),
            ("page.psp", 3, "call", "return f()"),
            ("a.inc", 3, "<lambda>", "<%= call(lambda: 1 / 0) %>"),
        ]
        assert "^" not in text.partition('a.inc"')[2]

    def test_a_function_that_includes(self, tmp_path: Path) -> None:
        req = files(
            tmp_path,
            {
                "page.psp": '<%\ndef f():\n    # text\n%>a\n<%@ include file="a.inc" %>\n<%\nf()\n%>',
                "a.inc": "\n<%= 1 / 0 %>",
            },
        )
        assert self.failing(req)[0] == [("page.psp", 7, "<module>", "f()"), ("a.inc", 2, "f", "<%= 1 / 0 %>")]

    def test_a_string(self) -> None:
        with pytest.raises(ZeroDivisionError) as caught:
            psp.PSP(Request(), string="one\n\n<b><%= 1 / 0 %></b>").run()
        frame = traceback.extract_tb(caught.value.__traceback__)[-1]
        assert frame.filename.startswith("<psp ")
        assert (frame.lineno, frame.line) == (3, "<b><%= 1 / 0 %></b>")

    def test_few_strings_are_kept_for_that(self) -> None:
        import linecache

        for n in range(100):
            with pytest.raises(ZeroDivisionError):
                psp.PSP(Request(), string=f"{n} <%= 1 / 0 %>").run()
        assert len([name for name in linecache.cache if name.startswith("<psp ")]) <= 64


class TestLineNumbers:
    PROBE = "<%= line() %>"
    PIECES = (
        "text",
        "\n",
        "two\r\nlines\r\n",
        "a lone\rCR",
        PROBE,
        PROBE,
        "<%=\n\nline2()\n%>",
        "<% x = 1 %>",
        "<% x = 1; y = 2; %>",
        "<% x = '#' # comment %>",
        "<% if 1: x = 1 %>",
        "<%\nx = 1\n%>",
        "<%\r\nx = 1\r\nif x:\r\n    # in\r\n%>",
        "<%\rx = 1\r%>",
        "<% x = 1\ny = (1,\n   2)%>",
        "<%\nif 1:\n%>t<%\nelse:\n%>t<%\n# out\n%>",
        "<%\n%>",
        "<%-- a\n\ncomment <% --%>",
        "<%@ ignored\n %>",
        "<%= 'a' # comment\n + 'b' %>",
    )

    @steady
    @given(st.lists(st.sampled_from(PIECES), max_size=12))
    def test_they_are_those_of_the_page(self, parts: list[str]) -> None:
        text = "".join(parts)
        expected, position = [], 0
        for part in parts:
            before = text[:position].replace("\r\n", "\n").replace("\r", "\n").count("\n") + 1
            if part == self.PROBE:
                expected.append(before)
            elif "line2" in part:
                expected.append(before + 2)
            position += len(part)
        seen: list[int] = []

        def line() -> str:
            seen.append(sys._getframe(1).f_lineno)
            return ""

        page(text, line=line, line2=line)
        assert seen == expected


class TestGenerated:
    def test_lines_have_the_numbers_of_the_page(self) -> None:
        text = "one\ntwo <%= a %> and <% b = a %>\n<%\nif b:\n    # yes\n%>\n<%= b %>\n"
        lines = psp.parsestring(text).split("\n")
        assert lines[1].startswith("req.write(str(a), 0); req.write(' and ', 0); b = a; req.write(")
        assert lines[3:5] == ["if b:", "    # yes"]
        assert lines[6] == "    req.write(str(b), 0); req.write('\\n', 0)"

    def test_parse(self, tmp_path: Path) -> None:
        files(tmp_path, {"page.psp": 'a<%@ include file="b.inc" %>', "b.inc": "b"})
        expected = "req.write('a', 0)\nreq.write('b', 0)\n"
        assert psp.parse("page.psp", f"{tmp_path}/") == expected
        assert psp.parse("page.psp", dir=f"{tmp_path}/") == expected
        with pytest.raises(OSError, match=r"b\.inc"):  # relative to the working directory
            psp.parse(f"{tmp_path}/page.psp")
        (tmp_path / "page.psp").write_text("a")
        assert psp.parse(f"{tmp_path}/page.psp") == "req.write('a', 0)\n"
        with pytest.raises(FileNotFoundError):
            psp.parse(f"{tmp_path}/none.psp")

    def test_parsestring(self) -> None:
        assert psp.parsestring("") == psp.parsestring(b"") == ""
        assert psp.parsestring("caf\u00e9") == psp.parsestring("caf\u00e9".encode()) == "req.write('caf\u00e9', 0)\n"
        assert psp.parsestring(b"\xe9") == "req.write(b'\\xe9', 0)\n"

    def test_display_code(self, tmp_path: Path) -> None:
        req = files(
            tmp_path, {"page.psp": b'<b>\xe9\n<%@ include file="b.inc" %>\n<%-- end --%>', "b.inc": "<% x = '&' %>"}
        )
        assert psp.PSP(req).display_code() == ""
        html = req.sent.decode()
        assert "<tr><td>1</td>" in html
        assert "<pre>&lt;b&gt;\\udce9</pre>" in html
        assert "<td>b.inc:1</td><td><pre>x = &#x27;&amp;&#x27;</pre></td><td><pre>&lt;% x" in html
        assert "<td>3</td>" in html
        assert "<b>" not in html

    def test_display_code_of_a_string(self) -> None:
        req = Request()
        psp.PSP(req, string="a\n<%= 1 %>").display_code()
        assert b"req.write(str(1), 0)" in req.sent


class TestConstructor:
    def test_file_and_string(self) -> None:
        with pytest.raises(ValueError, match="not both"):
            psp.PSP(Request(), "a.psp", "text")

    def test_a_relative_file(self, tmp_path: Path) -> None:
        req = files(tmp_path, {"sub/other.psp": "other"})
        made = psp.PSP(req, "sub/other.psp")
        assert made.filename == str(tmp_path / "sub/other.psp")
        made.run()
        assert req.sent == b"other"

    @pytest.mark.parametrize("name", ["none.psp", "", "sub/none/page.psp"])
    def test_no_such_file(self, tmp_path: Path, name: str) -> None:
        req = files(tmp_path, {"sub/x": "", "sub2/none": ""})
        req.filename = str(tmp_path / name)
        with pytest.raises(apache.SERVER_RETURN) as caught:
            psp.PSP(req)
        assert caught.value.args == (apache.HTTP_NOT_FOUND,)

    def test_an_empty_string(self) -> None:
        assert page("") == b""


class TestVariables:
    def test_later_ones_win(self) -> None:
        req = Request()
        made = psp.PSP(req, string="<%= a %><%= b %><%= req is r %>", vars={"a": 1, "b": 1, "r": req})
        made.run({"b": 2})
        assert req.sent == b"12True"
        req.sent = b""
        made.run(vars={"a": 3}, flush=1)
        assert req.sent == b"31True[flush]"

    def test_a_run_leaves_nothing_to_the_next(self) -> None:
        text = "<% seen = 'x' in globals(); x = 1 %><%= seen %>"
        assert page(text) == b"False"
        assert page(text) == b"False"

    def test_names(self, tmp_path: Path) -> None:
        req = files(
            tmp_path,
            {
                "page.psp": "<%= __file__ %> <%= int(apache.OK) %> <%= callable(util.redirect) %> "
                "<%= psp.filename %> <%= 'os' in globals() %> <%= 'PSP' in globals() %>"
            },
        )
        psp.PSP(req).run()
        file = tmp_path / "page.psp"
        assert req.sent.decode() == f"{file} 0 True {file} False False"

    def test_those_that_are_not_used_are_not_made(self) -> None:
        assert page("<% x = {}; f = lambda form: form %><%= 1 if f(2) == 2 else x.session %>") == b"1"

    def test_form_of_the_request(self) -> None:
        req: Any = Request()
        req.form = {"a": "b"}
        psp.PSP(req, string="<%= form['a'] %>").run()
        psp.PSP(req, string="<%= form['a'] %>", vars={"form": {"a": "own"}}).run()
        assert req.sent == b"bown"

    def test_imports_from_the_page_s_directory(self, tmp_path: Path) -> None:
        req = files(
            tmp_path, {"page.psp": "<% import psp_helper %><%= psp_helper.VALUE %>", "psp_helper.py": "VALUE = 5"}
        )
        psp.PSP(req).run()
        assert req.sent == b"5"

    def test_a_run_leaves_no_circles(self) -> None:
        # In a process without other threads, whose circles would count as well.
        program = "from tests.test_psp_syntax import circles; print(circles())"
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout == "0\n"

    def test_a_page_in_a_page(self) -> None:
        req = Request()
        inner = psp.PSP(req, string="inner <%= x %>", vars={"x": 1})
        psp.PSP(req, string="(<%= inner %>)", vars={"inner": inner}).run()
        assert req.sent == b"(inner 1)"
        assert req.content_type == "text/html"


def circles() -> int:
    """Return how many objects only the garbage collector frees after two pages."""
    req = Request()
    made = psp.PSP(req, string="<% x = [1] %><%= x %><% psp.redirect %>")
    made.run()
    gc.collect()
    gc.disable()
    made.run()
    psp.PSP(req, string="another <%= req %>").run()
    return gc.collect()
