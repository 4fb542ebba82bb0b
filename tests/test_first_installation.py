"""The first test of an installation, word for word: section 7 of the specification of the command line (06).

And what the section before it promises of the installed parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import mod_python
from mod_python.httpd.config import module_so
from mod_python.testing import Server
from tests.servers import running
from tests.serving import COMMAND, command

HELLO = """\
from mod_python import apache

def handler(request):
    request.content_type = "text/plain; charset=utf-8"
    request.write("interpreter: %s\\n" % request.interpreter)
    return apache.OK
"""

LINES = """
    AddHandler mod_python .py
    PythonHandler hello
    PythonDebug On
"""

CONFIG = f"""
DocumentRoot "${{SITE}}"
<Directory "${{SITE}}/test">{LINES}</Directory>
<Directory "${{SITE}}/own">
    AllowOverride FileInfo
</Directory>
<Directory "${{SITE}}/closed">
    AllowOverride None
</Directory>
<Location "/mpinfo">
    SetHandler mod_python
    PythonHandler mod_python.testhandler
</Location>
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    files = {
        "test/hello.py": HELLO,
        "test/sub/note.txt": "",
        "own/hello.py": HELLO,
        "own/.htaccess": LINES,
        "closed/hello.py": HELLO,
        "closed/.htaccess": LINES,
    }
    # The interpreter is the one of httpd's own rules, as in an installation without further settings.
    with running(CONFIG, files=files, flags={"PythonInterpreter": None}) as server:
        yield server


@pytest.mark.parametrize("path", ["/test/hello.py", "/test/anything.py", "/test/sub/x.py", "/own/x.py"])
def test_section_7_any_url_that_ends_in_py(server: Server, path: str) -> None:
    response = server.get(path)
    assert response.status == 200
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.text == "interpreter: localhost\n"


@pytest.mark.parametrize("path", ["/test/", "/test/none.txt", "/closed/none.py"])
def test_section_7_other_urls_are_not_for_it(server: Server, path: str) -> None:
    assert "interpreter: " not in server.get(path).text


def test_section_7_the_diagnostic_page(server: Server) -> None:
    response = server.get("/mpinfo")
    assert response.status == 200
    assert mod_python.mp_version in response.text


def test_section_7_one_process_in_the_foreground() -> None:
    with running(CONFIG, files={"test/hello.py": HELLO}, one_process=True) as server:
        assert server.get("/test/hello.py").text.startswith("interpreter: ")


def test_section_6_what_is_installed() -> None:
    assert module_so().is_file()
    assert module_so().parent == Path(mod_python.__file__).resolve().parent
    assert Path(COMMAND).is_file()
    assert command("module-config").stdout == f'LoadModule python_module "{module_so()}"\n'


def test_section_4_the_server_tells_its_version(server: Server) -> None:
    header = server.get("/test/x.py").headers["Server"]
    assert f"mod_python/{mod_python.mp_version} Python/" in header
