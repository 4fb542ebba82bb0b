"""What `mod_python.apache` tells of modules, and the dispatcher under its old names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import pytest

from mod_python._dispatch import graph
from mod_python._dispatch.importer import Importer
from mod_python.testing import Server
from tests.servers import running

FILES = {
    "top.py": r"""
import time
import middle
from mod_python import apache

def handler(req):
    names = {info.entry.file.rpartition("/")[2]: info.label for info in (middle.__mp_info__, middle.leaf.__mp_info__)}
    names["top.py"] = __name__
    before = apache.module_info(__name__)
    known = {}
    for name, label in names.items():
        entry = apache.module_info(label)
        known[name] = {
            "same": entry.label == label and entry.file.endswith("/" + name),
            "times": 0 < entry.mtime <= entry.ctime <= time.time() and 0 < entry.atime <= time.time(),
            "counts": (entry.instance, entry.generation > 0, entry.direct, entry.indirect),
            "children": sorted(child.file.rpartition("/")[2] for child in entry.children),
            "reload": entry.reload,
        }
    try:
        apache.module_info("nothing")
    except KeyError:
        known["unknown"] = True
    req.write(repr((names, known, apache.modules_graph(), apache.modules_graph(verbose=1),
                    apache.request_modules_graph(), apache.request_modules_graph(1))))
    return apache.OK
""",
    "middle.py": "import leaf\n",
    "leaf.py": "value = 1\n",
    "other.py": "def handler(req):\n    req.write('other')\n    return 0\n",
    "start.py": """
from mod_python import apache
graph = apache.request_modules_graph()
""",
    "callback.py": r"""
import sys
from mod_python import apache
import mod_python._dispatch.dispatcher

depth = 0

def handler(req):
    "Runs itself and the second handler once more, through the dispatcher's old names."
    global depth
    if req.args == "init":
        old = (apache.interpreter, apache.main_server)
        found = apache.init("renamed", old[1])
        result = (type(found).__name__, apache.interpreter, apache.main_server is old[1], sys.argv)
        assert isinstance(found, apache.CallBack)
        apache.interpreter = old[0]
        req.write(repr(result))
        return apache.DONE
    if req.args == "import":
        apache.CallBack().ImportDispatch("other")
        apache.CallBack().ImportDispatch("start::graph.strip")
        apache.CallBack().ImportDispatch("missing_one")
        req.write(repr(["start" in sys.modules, "digraph" in sys.modules["start"].graph]))
        return apache.DONE
    if req.args == "report":
        try:
            1 / 0
        except ZeroDivisionError as exc:
            req.write(repr(apache.CallBack().ReportError(exc, req, handler="some::handler")))
        return apache.DONE
    if req.args == "filter":
        return filters(req)
    depth += 1
    req.write("%d " % depth)
    if depth == 1:
        status = apache.CallBack().HandlerDispatch(req)
        req.write("back %r %s " % (status, req.hlist.handler))
    depth -= 1
    return apache.OK

def second(req):
    req.write("second ")
    return apache.DONE

class FakeFilter:
    dir = None
    is_input = False
    closed = False
    def __init__(self, req, handler):
        self.req, self.handler, self.calls = req, handler, []
    def flush(self):
        self.calls.append("flush")

def outputfilter(filter):
    filter.calls.append("called")

def filters(req):
    found = FakeFilter(req, __file__)
    status = apache.CallBack().FilterDispatch(found)
    req.write(repr((status, found.calls)))
    return apache.DONE

def connectionhandler(conn):
    global depth
    depth += 1
    conn.write(b"%d " % depth)
    if depth == 1:
        conn.write(b"back %d" % apache.CallBack().ConnectionDispatch(conn))
    depth -= 1
    return apache.OK
""",
}

CONFIG = """
PythonPath "sys.path + ['${SITE}']"
PythonImport start main_interpreter
SetHandler mod_python
PythonHandler ${SITE}/top.py
<Location /other>
    PythonHandler ${SITE}/other.py
</Location>
<Location /callback>
    PythonHandler ${SITE}/callback.py ${SITE}/callback.py::second
</Location>
<VirtualHost 127.0.0.1:${PORT2}>
    PythonConnectionHandler ${SITE}/callback.py
</VirtualHost>
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(CONFIG, files=FILES, listen=2, processes=1) as server:
        yield server


def test_modules(server: Server) -> None:
    assert server.get("/other").text == "other"
    # With prefork, the one that loaded top.py may be another process than the one that loaded other.py.
    names, known, everything, verbose, of_request, verbose_request = ast.literal_eval(server.get("/").text)
    assert known.pop("unknown")
    assert all(entry["same"] and entry["times"] and not entry["reload"] for entry in known.values())
    assert {name: entry["children"] for name, entry in known.items()} == {
        "top.py": ["middle.py"],
        "middle.py": ["leaf.py"],
        "leaf.py": [],
    }
    assert known["top.py"]["counts"] == (1, True, 1, 0)
    assert known["leaf.py"]["counts"] == (1, True, 0, 1)
    for text in (everything, verbose, of_request, verbose_request):
        assert text.startswith("digraph modules {")
        assert text.endswith("}\n")
        assert f'"{names["top.py"]}" -> "{names["middle.py"]}";' in text
        assert f'"{names["middle.py"]}" -> "{names["leaf.py"]}";' in text
        for name, label in names.items():
            assert re.search(rf'"{label}" \[label="{re.escape(str(server.site))}/{name}["\\]', text)
        assert ("generation " in text) == (text in (verbose, verbose_request))
    assert "other.py" not in of_request


def test_names_in_the_graph_are_quoted(tmp_path: Any) -> None:
    importer = Importer()
    try:
        file = tmp_path / 'a"b\\c' / "x.py"
        file.parent.mkdir()
        file.touch()
        text = graph.render([importer.entry(str(file))], True)
    finally:
        importer.close()
    assert r"/a\"b\\c/x.py\nchanged never\n" in text


def test_dispatch_under_the_old_names(server: Server) -> None:
    assert server.get("/callback").text == f"1 2 second back -2 {server.site}/callback.py second "
    assert server.get("/callback?init").text == "('CallBack', 'renamed', True, ['mod_python'])"
    assert server.get("/callback?filter").text == "(0, ['called', 'flush'])"
    server.allow("missing_one")
    assert server.get("/callback?import").text == "[True, True]"
    server.wait_for_log("missing_one")
    server.allow("ZeroDivisionError")
    assert server.get("/callback?report").text == "500"
    server.wait_for_log("ZeroDivisionError: division by zero")
    server.wait_for_log("handler='some::handler'")
    with server.connect(1) as sock:
        assert sock.makefile("rb").read() == b"1 2 back 0"
