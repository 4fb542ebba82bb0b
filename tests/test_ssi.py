"""Python in pages of mod_include (spec rows 15.6 and what the manual page says)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.servers import running

HANDLERS = """
from mod_python import apache

def fixuphandler(req):
    req.ssi_globals = {"data": "prepared"}
    req.subprocess_env["WORD"] = "yes"
    return apache.OK

def handler(req):
    req.content_type = "text/html"
    req.add_output_filter("INCLUDES")
    req.write("a <!--#python eval='1 + 1' -->")
    req.write(" b <!--#python eval=\\"filter.req.uri\\" --> c")
    return apache.OK
"""

PAGES = {
    "order": """one
<!--#python exec="
filter.write(data + ' ')
for number in range(3):
    filter.write('%d ' % number)
filter.write(b'bytes')
" -->
<!--#python eval="data.upper()" -->
end
""",
    "shared": """<!--#python exec="import os
count = 1" --><!--#python exec="count += 1" --><!--#python eval="count, os.path.basename(__file__)" -->
<!--#python exec="kept = filter
print('printed', file=filter)" --><!--#python eval="filter is not kept and kept.closed" -->""",
    "none": "<!--#python eval='None' -->|<!--#python eval='&quot;&lt;&quot; * 3' -->",
    "unicode": "<!--#python eval='\"\u00e4\u20ac\"' -->",
    "condition": """<!--#if expr="v('WORD') = 'yes'" --><!--#python eval="'taken'" --><!--#else -->\
<!--#python exec="raise SystemError('must not run')" --><!--#endif -->""",
    "fails": "a <!--#python exec='filter.write(\"begun \"); 1/0' --> b <!--#python eval='3' -->",
    "syntax": "a <!--#python exec='if' --> b",
    "exits": "a <!--#python exec='raise SystemExit' --> b",
    "noexec/page": "a <!--#python eval='1' --> b",
    **{
        f"wrong{number}": f"a <!--#python {attributes} --> b"
        for number, attributes in enumerate(("", "eval='1' exec='1'", "eval=''", "run='1'", "eval='1' eval='2'"))
    },
}

CONFIG = """
DocumentRoot "${SITE}"
PythonPath "['${SITE}']+sys.path"
<Directory "${SITE}">
    Options +Includes
    SetOutputFilter INCLUDES
    SSIErrorMsg "[error]"
    PythonFixupHandler ssi
</Directory>
<Directory "${SITE}/noexec">
    Options -Includes +IncludesNOEXEC
</Directory>
<Location "/debug">
    PythonDebug On
</Location>
Alias "/debug" "${SITE}"
<Location "/generated">
    Options +Includes
    SetOutputFilter None
    SetHandler mod_python
    PythonHandler ssi
</Location>
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server whose files all go through mod_include."""
    files: dict[str, str | bytes] = {"ssi.py": HANDLERS, **PAGES}
    with running(CONFIG, files=files, modules=["mod_include", "mod_alias"]) as server:
        yield server


def test_row_15_6_order(server: Server) -> None:
    assert server.get("/order").text == "one\nprepared 0 1 2 bytes\nPREPARED\nend\n"


def test_globals_are_shared(server: Server) -> None:
    for _ in range(2):
        assert server.get("/shared").text == "(2, 'shared')\nprinted\n1"


def test_none_and_entities(server: Server) -> None:
    assert server.get("/none").text == "|<<<"


def test_unicode(server: Server) -> None:
    assert server.get("/unicode").body.decode() == "\u00e4\u20ac"


def test_branches(server: Server) -> None:
    assert server.get("/condition").text == "taken"


@pytest.mark.parametrize("number", range(5))
def test_wrong_attributes(server: Server, number: int) -> None:
    assert server.get(f"/wrong{number}").text == "a [error] b"
    server.wait_for_log(f'element "python" in {server.site}/wrong{number}: ')


def test_failure(server: Server) -> None:
    server.allow("ZeroDivisionError")
    assert server.get("/fails").text == "a begun [error] b 3"
    server.wait_for_log(f"""phase='INCLUDES', handler='{server.site}/fails'""")
    page = server.get("/debug/fails").text
    assert page.startswith("a begun <pre>\n")
    assert "ZeroDivisionError" in page
    assert page.endswith("</pre>\n[error] b 3")


@pytest.mark.parametrize(("page", "name"), [("syntax", "SyntaxError"), ("exits", "SystemExit")])
def test_other_failures(server: Server, page: str, name: str) -> None:
    server.allow(name)
    assert server.get(f"/{page}").text == "a [error] b"


def test_noexec(server: Server) -> None:
    assert server.get("/noexec/page").text == "a [error] b"
    server.wait_for_log("IncludesNOEXEC is in force")


def test_output_of_a_handler(server: Server) -> None:
    assert server.get("/generated").text == "a 2 b /generated c"
