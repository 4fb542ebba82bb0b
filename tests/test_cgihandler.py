"""mod_python.cgihandler: CGI scripts in the server's process (spec row 15.1 and 05, section 3)."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from mod_python import cgihandler
from mod_python.testing import Server
from tests.content_site import exchange, get, reported
from tests.servers import running

SCRIPTS: dict[str, str | bytes] = {
    "plain.py": 'print("Content-type: text/html\\n")\nprint("the text")\n',
    "variables.py": r"""
import os, sys
names = ("REQUEST_METHOD", "QUERY_STRING", "SCRIPT_NAME", "PATH_INFO", "GATEWAY_INTERFACE", "CONTENT_LENGTH",
         "HTTP_X_MINE", "HTTP_AUTHORIZATION", "FROM_CONFIG")
print("Content-Type: text/plain\n")
print({name: os.environ.get(name) for name in names} | {"getenv": os.getenv("REQUEST_METHOD"),
      "bytes": os.environb.get(b"REQUEST_METHOD"), "argv": sys.argv, "cwd": os.getcwd(), "path": sys.path[0],
      "name": __name__, "file": __file__, "main": sys.modules["__main__"].__file__, "has": "SCRIPT_NAME" in os.environ})
""",
    "body.py": r"""
import sys
first = sys.stdin.buffer.readline()
print("Content-Type: application/octet-stream\n")
sys.stdout.buffer.write(repr(first).encode() + sys.stdin.buffer.read())
""",
    "lines.py": """
import sys
print("Content-Type: text/plain\\n")
print(input(), sys.stdin.readline(), end="")
for line in sys.stdin:
    print("[%s]" % line.rstrip())
""",
    "main.py": """
def work():
    print("Content-Type: text/plain\\n\\nworked, and sees", type(Thing()).__module__)

class Thing:
    pass

if __name__ == "__main__":
    import pickle
    assert isinstance(pickle.loads(pickle.dumps(Thing())), Thing)
    work()
""",
    "exits.py": """
import os, sys
print("Content-Type: text/plain\\n\\nbefore")
how = os.environ["QUERY_STRING"]
sys.exit({"": None, "one": 1, "text": "the script says good-bye"}[how])
print("after")
""",
    "status.py": 'print("Status: 404 Gone Fishing\\nContent-Type: text/plain\\nX-A: 1\\n\\nnot here", end="")\n',
    "location.py": 'print("Location: https://example.com/\\n")\n',
    "moved.py": 'print("Status: 301 Moved\\nLocation: /elsewhere\\n")\n',
    "breaks.py": 'print("Content-Type: text/plain\\n\\nstarted")\nraise ValueError("another script broke")\n',
    "fails.py": 'print("Content-Type: text/plain\\n\\nstarted")\nraise ValueError("the script broke")\n',
    "syntax.py": "if\n",
    "wrapped.py": """
import io, sys
sys.stdout = io.TextIOWrapper(sys.stdout.buffer, "latin-1")
print("Content-Type: text/plain; charset=latin-1\\n")
print("caf\\u00e9")
""",
    "kept_wrapper.py": """
import io, sys
out = io.TextIOWrapper(sys.stdout.buffer, "utf-8")
out.write("Content-Type: text/plain\\n\\nnever flushed")
""",
    "changes.py": """
import os, sys
os.environ["LEFT_BEHIND"] = "1"
os.environ.pop("PATH", None)
del os.environ["REQUEST_METHOD"]
os.environ.setdefault("ANOTHER", "2")
try:
    del os.environ["NEVER_SET"]
except KeyError as exc:
    print(f"Content-Type: text/plain\\n\\n{exc}")
os.chdir("/")
sys.argv.append("more")
sys.path.append("/left/behind")
sys.stdin = sys.stdout = None
""",
    "replaces.py": 'import sys\nsys.path = ["/only"]\nprint("Content-Type: text/plain\\n\\nreplaced")\n',
    "helped.py": 'import helper\nprint("Content-Type: text/plain\\n")\nprint(helper.VALUE)\n',
    "helper.py": "VALUE = 'first'\n",
    "process.py": """
import os, subprocess, sys
print("Content-Type: text/plain\\n", flush=True)
code = "import os; print(os.environ.get('QUERY_STRING'))"
for env in (None, os.environ):
    print(subprocess.run(["python3", "-c", code], env=env, capture_output=True, text=True).stdout, end="")
""",
    "form.py": """
import warnings
warnings.simplefilter("ignore")
import cgi
form = cgi.FieldStorage()
print("Content-Type: text/plain\\n")
print({name: form.getlist(name) for name in sorted(form)})
""",
    "sub/deep.py": 'import os\nprint("Content-Type: text/plain\\n\\n" + os.path.basename(os.getcwd()))\n',
    "return.py": "from mod_python import apache\nraise apache.SERVER_RETURN(apache.HTTP_FORBIDDEN)\n",
    "outer.py": """
import os
print("Content-Type: text/html\\n")
print('1 <!--#include virtual="/sub/deep.py?inner" -->', flush=True)
print(os.environ["QUERY_STRING"], os.path.basename(os.getcwd()), "LEFT_BEHIND" in os.environ)
""",
    "waits.py": """
import os, sys, threading
import gate
print("Content-Type: text/plain\\n\\nstarted", flush=True)
gate.inside.append(os.environ["QUERY_STRING"])
threading.Thread(target=lambda: print("from the script's thread", file=sys.stderr, flush=True)).start()
gate.go_on.wait(30)
print(gate.inside, len(gate.inside))
gate.inside.remove(os.environ["QUERY_STRING"])
""",
}

HANDLERS = """
import os
import sys
from os import environ
from mod_python import apache
import gate

def handler(req):
    if req.uri.endswith("/go"):
        gate.go_on.set()
    elif req.uri.endswith("/stop"):
        gate.go_on.clear()
    print("printed elsewhere", flush=True)
    req.write(repr({
        "inside": list(gate.inside), "cgi": "GATEWAY_INTERFACE" in os.environ, "same": environ is os.environ,
        "left": [name for name in ("LEFT_BEHIND", "ANOTHER", "REQUEST_METHOD") if name in os.environ],
        "path": "PATH" in os.environ, "class": type(os.environ) is os._Environ, "argv": sys.argv, "cwd": os.getcwd(),
        "syspath": [name for name in sys.path if "behind" in name or "only" in name or name.endswith("cgi")],
        "syspath_long": len(sys.path) > 3, "main": "cgi" in str(getattr(sys.modules["__main__"], "__file__", "")),
        "watch": len(sys.meta_path), "streams": [type(stream).__module__ for stream in (sys.stdin, sys.stdout)],
    }))
    return apache.OK
"""

CONFIG = """
PythonPath "['${SITE}/lib']+sys.path"
DocumentRoot "${SITE}/cgi"
SetEnv FROM_CONFIG yes
<Directory "${SITE}/cgi">
    Require all granted
    Options FollowSymLinks
    SetHandler mod_python
    PythonHandler mod_python.cgihandler
</Directory>
<Location "/look">
    SetHandler mod_python
    PythonHandler look
</Location>
<Location "/other">
    PythonInterpreter another
</Location>
Alias "/other" "${SITE}/cgi"
Alias "/located" "${SITE}/cgi"
<Location "/located">
    PythonHandler mod_python.cgihandler
    SetHandler mod_python
</Location>
<Location "/outer.py">
    Options +Includes
    SetOutputFilter INCLUDES
</Location>
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    files = {f"cgi/{name}": text for name, text in SCRIPTS.items()}
    files["lib/look.py"] = HANDLERS
    # A module of the site, not of the scripts: loaded before they run, it stays.
    files["lib/gate.py"] = "import threading\ngo_on = threading.Event()\ninside = []\n"
    files["cgi-secret/outside.py"] = 'print("Content-Type: text/plain\\n\\noutside")\n'
    with running(CONFIG, files=files, modules=["mod_env", "mod_include"], processes=1) as server:
        (server.site / "cgi" / "link_out.py").symlink_to(server.site / "cgi-secret" / "outside.py")
        (server.site / "cgi" / "link_in.py").symlink_to("sub/deep.py")
        assert server.get("/look").status == 200
        yield server


def look(server: Server, path: str = "") -> Any:
    return ast.literal_eval(server.get(f"/look{path}").text)


@pytest.fixture(scope="module")
def clean(server: Server) -> Any:
    """What other handlers see while no script runs."""
    found = look(server)
    assert (found["cgi"], found["same"], found["class"], found["main"]) == (False, True, True, False)
    return found


def test_row_15_1_script(server: Server) -> None:
    response = server.get("/plain.py")
    assert (response.status, response.text) == (200, "the text\n")
    assert response.headers["Content-Type"] == "text/html"
    assert response.headers["Content-Length"] == "9"


def test_surroundings(server: Server) -> None:
    fields = {"X-Mine": "a", "Authorization": "Basic eDp5"}
    found = ast.literal_eval(server.request("POST", "/variables.py/more/info?a=b", b"123", fields).text)
    script = str(server.site / "cgi" / "variables.py")
    assert found == {
        "REQUEST_METHOD": "POST",
        "QUERY_STRING": "a=b",
        "SCRIPT_NAME": "/variables.py",
        "PATH_INFO": "/more/info",
        "GATEWAY_INTERFACE": "Python-CGI/1.1",
        "CONTENT_LENGTH": "3",
        "HTTP_X_MINE": "a",
        "HTTP_AUTHORIZATION": "Basic eDp5",
        "FROM_CONFIG": "yes",
        "getenv": "POST",
        "bytes": b"POST",
        "argv": [script],
        "cwd": str(server.site / "cgi"),
        "path": str(server.site / "cgi"),
        "name": "__main__",
        "file": script,
        "main": script,
        "has": True,
    }


def test_body(server: Server) -> None:
    response = server.request("POST", "/body.py", b"one\ntwo\n\x00\xff rest")
    assert response.body == b"b'one\\n'two\n\x00\xff rest"
    assert server.request("POST", "/lines.py", b"a\nb\nc\nd").text == "a b\n[c]\n[d]\n"


def test_main(server: Server) -> None:
    assert server.get("/main.py").text == "worked, and sees __main__\n"


@pytest.mark.parametrize("how", ["", "one", "text"])
def test_exit(server: Server, how: str) -> None:
    response = server.get(f"/exits.py?{how}")
    assert (response.status, response.text) == (200, "before\n")
    if how == "text":
        server.wait_for_log("^the script says good-bye$")


def test_status(server: Server) -> None:
    response = server.get("/status.py")
    assert (response.status, response.text, response.headers["X-A"]) == (404, "not here", "1")


@pytest.mark.parametrize(
    ("name", "status", "place"), [("location", 302, "https://example.com/"), ("moved", 301, "/elsewhere")]
)
def test_redirect(server: Server, name: str, status: int, place: str) -> None:
    response = server.get(f"/{name}.py")
    assert (response.status, response.headers["Location"]) == (status, place)


def test_failure(server: Server) -> None:
    response = server.get("/fails.py")
    assert response.status == 500
    assert "started" not in response.text
    text = reported(server, "ValueError: the script broke")
    assert 'cgi/fails.py", line 2' in text
    assert server.get("/syntax.py").status == 500
    reported(server, "SyntaxError")
    assert server.get("/return.py").status == 403


def test_streams_around_ours(server: Server) -> None:
    assert server.get("/wrapped.py").body == b"caf\xe9\n"
    assert server.get("/kept_wrapper.py").text == "never flushed"


@pytest.mark.parametrize(
    "path", ["/none.py", "/sub", "/sub/none.py", "/plain.py.py", "/link_out.py", "/cgi-secret/outside.py"]
)
def test_not_found(server: Server, path: str) -> None:
    assert server.get(path).status in ((404,) if path != "/sub" else (301, 403, 404))


def test_in_a_location(server: Server) -> None:
    plain = server.get("/plain.py")
    located = server.get("/located/plain.py")
    assert (located.status, located.body) == (200, plain.body)
    assert server.get("/located/missing.py").status == 404


def test_links_inside(server: Server) -> None:
    assert server.get("/sub/deep.py").text == "sub\n"
    assert server.get("/link_in.py").text == "cgi\n"


def test_unreadable(server: Server) -> None:
    path = server.write_file("cgi/secret.py", "print('\\nsecret')")
    path.chmod(0)
    if os.geteuid() != 0:
        pytest.skip("the children are the same user, who may read what it owns after chmod")
    assert server.get("/secret.py").status == 403
    server.wait_for_log("mod_python.cgihandler: .*secret.py: Permission denied")


def test_everything_is_undone(server: Server, clean: Any) -> None:
    assert server.get("/changes.py").text == "'NEVER_SET'\n"
    assert look(server) == clean
    assert server.get("/replaces.py").text == "replaced\n"
    assert look(server) == clean
    server.get("/breaks.py")
    server.allow("another script broke")
    assert look(server) == clean
    assert server.get("/plain.py").text == "the text\n"


def test_scripts_see_changes(server: Server) -> None:
    assert server.get("/helped.py").text == "first\n"
    server.write_file("cgi/helper.py", "VALUE = 'the second'\n")
    assert server.get("/helped.py").text == "the second\n"
    server.write_file("cgi/plain.py", 'print("Content-type: text/plain\\n\\nanother text")\n')
    assert server.get("/plain.py").text == "another text\n"
    server.write_file("cgi/plain.py", SCRIPTS["plain.py"])


def test_programs_that_a_script_starts(server: Server) -> None:
    """The variables are the script's, unless it hands them on."""
    assert server.get("/process.py?q").text == "None\nq\n"


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the module cgi left Python with 3.13")
def test_the_module_cgi(server: Server) -> None:
    for _ in range(2):
        assert server.get("/form.py?b=2&a=1&b=3").text == "{'a': ['1'], 'b': ['2', '3']}\n"
        fields = {"Content-Type": "application/x-www-form-urlencoded"}
        assert (
            server.request("POST", "/form.py?q=0", b"x=caf%C3%A9", fields).text == "{'q': ['0'], 'x': ['caf\u00e9']}\n"
        )


def test_head(server: Server) -> None:
    answer = exchange(server, get("/plain.py", method="HEAD"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.skipif(os.environ.get("MOD_PYTHON_TEST_MPM") == "prefork", reason="a process of prefork has one thread")
def test_threads(server: Server, clean: Any) -> None:
    """Scripts run one at a time; what they see is not what other threads see."""
    look(server, "/stop")
    sockets = [server.connect() for _ in range(3)]
    try:
        for number, sock in enumerate(sockets):
            sock.sendall(get(f"/waits.py?{number}"))
        server.wait_until(lambda: look(server)["inside"], what="a script")
        found = look(server)
        assert len(found["inside"]) == 1
        for name in ("cgi", "left", "path", "same"):
            assert found[name] == clean[name], name
        look(server, "/go")
        answers = [b"".join(iter(lambda sock=sock: sock.recv(65536), b"")) for sock in sockets]  # type: ignore[misc]
    finally:
        for sock in sockets:
            sock.close()
    for number, answer in enumerate(answers):
        assert b"['%d'] 1" % number in answer
        assert b"printed elsewhere" not in answer
    server.wait_for_log("^from the script's thread$")
    assert look(server) == clean


def test_a_script_whose_output_includes_another(server: Server, clean: Any) -> None:
    assert server.get("/outer.py?x").text == "1 sub\n\nx cgi False\n"
    assert look(server) == clean


def test_interpreters_take_turns(server: Server) -> None:
    assert server.get("/other/plain.py").text == "the text\n"
    assert server.get("/other/sub/deep.py").text == "sub\n"


class TestOutsideHttpd:
    def test_inside(self, tmp_path: Path) -> None:
        (tmp_path / "cgi").mkdir()
        (tmp_path / "cgi-bin").mkdir()
        (tmp_path / "cgi" / "a.py").touch()
        (tmp_path / "cgi" / "out.py").symlink_to(tmp_path / "cgi-bin" / "b.py")
        (tmp_path / "linked").symlink_to(tmp_path / "cgi")
        assert cgihandler.is_inside(str(tmp_path / "cgi" / "a.py"))
        assert cgihandler.is_inside(str(tmp_path / "linked" / "a.py"))
        assert not cgihandler.is_inside(str(tmp_path / "cgi" / "out.py"))
        assert not cgihandler.is_inside("a.py")
        assert not cgihandler.is_inside(str(tmp_path) + "/cgi/")

    def test_installed(self) -> None:
        import ast
        import xml

        assert all(cgihandler.is_installed(module) for module in (sys, ast, xml, pytest))
        own = ModuleType("own")
        own.__file__ = "/srv/site/own.py"
        assert not cgihandler.is_installed(own)
        own.__file__ = None
        own.__path__ = ["/srv/site/space"]
        assert not cgihandler.is_installed(own)

    def test_compiled(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cgihandler, "MAX_COMPILED", 2)
        monkeypatch.setattr(cgihandler, "_compiled", {})
        path = tmp_path / "a.py"
        path.write_text("1")
        first = cgihandler.compiled(str(path))
        assert cgihandler.compiled(str(path)) is first
        path.write_text("12")
        assert cgihandler.compiled(str(path)) is not first
        for name in "bcd":
            (tmp_path / name).write_text("")
            cgihandler.compiled(str(tmp_path / name))
        assert len(cgihandler._compiled) <= 2
