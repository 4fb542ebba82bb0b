"""From a handler string in the configuration to the function that runs, on a real httpd."""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.servers import running


def page(text: str, *names: str) -> str:
    """A module whose functions (by default: handler) write a text."""
    source = "def {name}(req):\n    req.write({text!r} + ' {name} ')\n    return apache.OK\n"
    functions = [source.format(name=name, text=text) for name in names or ("handler",)]
    return "from mod_python import apache\n" + "".join(functions)


WHERE = """
from mod_python import apache

def handler(req):
    h = req.hlist
    req.write("%s|%s|%s|%s|%s|%s" % (__file__, h.handler, h.directory, h.location, h.is_location, req.extension))
    return apache.OK
"""

CLASSES = """
from mod_python import apache

made = []

class Front:
    count = 0

    def __init__(self, req):
        made.append(1)
        self.req = req

    def dispatch(self, req):
        assert self.req is req
        req.write("dispatch %d" % len(made))
        return apache.OK

    class Inner:
        def __init__(self, req):
            self.req = req

        def deep(self, req):
            req.write("deep")
            return apache.OK

class Callable:
    def __call__(self, req):
        req.write("called")
        return apache.OK

instance = Callable()
none_name = None
number = 7
function = lambda req: req.write("lambda") or apache.OK
"""

STACK = """
from mod_python import apache

def step(name, result):
    def run(req):
        req.trail = getattr(req, "trail", "") + name + " "
        req.write(name + " ", 0)
        return result
    return run

ok = step("ok", apache.OK)
declined = step("declined", apache.DECLINED)
done = step("done", apache.DONE)
forbidden = step("forbidden", apache.HTTP_FORBIDDEN)

def last(req):
    req.write("last after " + req.trail)
    return apache.OK

def raising(req):
    req.trail = "raised "
    raise apache.SERVER_RETURN(apache.OK)
"""

SIBLING = """
import os
import sibling
from other import NAME

from mod_python import apache

def handler(req):
    import sibling as again
    assert again is sibling
    mine = os.path.join(os.path.dirname(__file__), "sibling.py")
    req.write("%s %s %s" % (sibling.NAME, NAME, sibling.__file__ == mine))
    return apache.OK
"""

IMPORTED = """
import os

from mod_python import apache

log = []

def start():
    log.append("started in " + apache.interpreter)
    apache.log_error("start() was called")

def handler(req):
    req.write(" ".join(log))
    return apache.OK
"""

FILES = {
    "where.py": WHERE,
    "classes.py": CLASSES,
    "stack.py": STACK,
    "lib/onpath.py": page("onpath"),
    "lib/pack/__init__.py": "",
    "lib/pack/pages.py": page("pack.pages", "handler", "show"),
    "lib/imported.py": IMPORTED,
    "plain/index.py": page("plain", "handler", "other"),
    "plain/target.html": "file",
    "one/index.py": SIBLING,
    "one/sibling.py": "NAME = 'sibling of one'",
    "one/other.py": "NAME = 'other of one'",
    "two/index.py": SIBLING,
    "two/sibling.py": "NAME = 'sibling of two'",
    "two/other.py": "NAME = 'other of two'",
    "local/inside/package/__init__.py": "",
    "local/inside/package/pages.py": page("package in the handler directory"),
    "ext/where.py": WHERE,
    "ext/fallback.py": page("fallback"),
    "htaccess/.htaccess": "PythonHandler where\nPythonOption from htaccess\n",
    "htaccess/where.py": WHERE,
    "htaccess/sub/x.html": "",
    "match/alpha/where.py": WHERE,
    "match/beta/where.py": WHERE,
    "match/beta/deeper/where.py": WHERE,
    "wild/a/pages/where.py": WHERE,
    "wild/b/pages/where.py": WHERE,
    "files/where.py": WHERE,
    "files/x.special": "",
    "broken/syntax.py": "def handler(req:\n    pass\n",
    "broken/raises.py": "value = 1\nraise ValueError('while loading')\n",
    "broken/wrong_import.py": "import no_such_module_anywhere\n",
    "broken/empty.py": "",
}

CONFIG = """
KeepAliveTimeout 60
DocumentRoot ${SITE}
PythonPath "sys.path + ['${SITE}/lib']"
PythonImport imported::start main_interpreter
PythonImport pack.pages main_interpreter
<Directory />
    Require all granted
    AllowOverride None
</Directory>
SetHandler mod_python

<Location /l/onpath>
    PythonHandler onpath
</Location>
<Location /l/pack>
    PythonHandler pack.pages
</Location>
<Location /l/pack/show>
    PythonHandler pack.pages::show
</Location>
<Location /l/imported>
    PythonHandler imported
</Location>
<Location /l/where>
    PythonHandler ${SITE}/where.py
</Location>
<LocationMatch "^/m/(x|y)+">
    PythonHandler ${SITE}/where.py
</LocationMatch>
<Location /c/front>
    PythonHandler ${SITE}/classes.py::Front.dispatch
</Location>
<Location /c/deep>
    PythonHandler ${SITE}/classes.py::Front.Inner.deep
</Location>
<Location /c/instance>
    PythonHandler ${SITE}/classes.py::instance
</Location>
<Location /c/lambda>
    PythonHandler ${SITE}/classes.py::function
</Location>
<Location /c/none>
    PythonHandler ${SITE}/classes.py::none_name
</Location>
<Location /c/number>
    PythonHandler ${SITE}/classes.py::number
</Location>
<Location /c/missing>
    PythonHandler ${SITE}/classes.py::missing_name
</Location>
<Location /c/missing_attribute>
    PythonHandler ${SITE}/classes.py::Front.missing_method
</Location>
<Location /c/missing_default>
    PythonHandler ${SITE}/classes.py
</Location>
<Location /b/no_module>
    PythonHandler no_such_module
</Location>
<Location /b/no_file>
    PythonHandler ${SITE}/no/such/file.py
</Location>
<Location /b/raises>
    PythonHandler ${SITE}/broken/raises.py
</Location>
<Location /b/wrong_import>
    PythonHandler ${SITE}/broken/wrong_import.py
</Location>
<Location /b/empty>
    PythonHandler ${SITE}/broken/empty.py
</Location>
<Location /b/syntax>
    PythonHandler ${SITE}/broken/syntax.py
</Location>
<Location /s/all>
    PythonHandler ${SITE}/stack.py::ok ${SITE}/stack.py::declined ${SITE}/stack.py::last
</Location>
<Location /s/lines>
    PythonHandler ${SITE}/stack.py::ok
    PythonHandler ${SITE}/stack.py::last
</Location>
<Location /s/done>
    PythonHandler ${SITE}/stack.py::ok ${SITE}/stack.py::done ${SITE}/stack.py::last
</Location>
<Location /s/forbidden>
    PythonHandler ${SITE}/stack.py::ok ${SITE}/stack.py::forbidden ${SITE}/stack.py::last
</Location>
<Location /s/raising>
    PythonHandler ${SITE}/stack.py::raising ${SITE}/stack.py::last
</Location>

<Directory ${SITE}/plain>
    PythonHandler index
    <Files "*.html">
        PythonHandler index::other
    </Files>
</Directory>
<Directory ${SITE}/one>
    PythonHandler index
</Directory>
<Directory ${SITE}/two/>
    PythonHandler index
</Directory>
<Directory ${SITE}/local/inside>
    PythonHandler ./package/pages.py
</Directory>
<Directory ${SITE}/ext>
    PythonHandler where | .x .tar.gz
    PythonHandler ./../where.py | .up
    PythonHandler ~/where.py | .home
    PythonHandler fallback
</Directory>
<Directory ${SITE}/htaccess>
    AllowOverride All
</Directory>
<DirectoryMatch "/match/(alpha|beta)/">
    PythonHandler where
</DirectoryMatch>
<Directory "${SITE}/wild/*/pages">
    PythonHandler where
</Directory>
<Directory ${SITE}/files>
    <Files "*.special">
        PythonHandler where
    </Files>
</Directory>
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(CONFIG, files=FILES) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/l/onpath", "onpath handler "),
        ("/l/pack", "pack.pages handler "),
        ("/l/pack/show", "pack.pages show "),
        ("/l/imported", "started in main_interpreter"),
        ("/plain/x", "plain handler "),
        ("/plain/target.html", "plain other "),
        ("/one/x", "sibling of one other of one True"),
        ("/two/x", "sibling of two other of two True"),
        ("/local/inside/x", "package in the handler directory handler "),
        ("/ext/x.none", "fallback handler "),
        ("/ext/archive.gz", "fallback handler "),
        ("/ext/x.X", "fallback handler "),
        ("/c/deep", "deep"),
        ("/c/instance", "called"),
        ("/c/lambda", "lambda"),
        ("/s/all", "ok declined last after ok declined "),
        ("/s/lines", "ok last after ok "),
        ("/s/done", "ok done "),
        ("/s/raising", "last after raised "),
    ],
)
def test_what_runs(server: Server, path: str, text: str) -> None:
    response = server.get(path)
    assert response.text == text
    assert response.status == 200


def test_a_stack_ends_at_an_error(server: Server) -> None:
    response = server.get("/s/forbidden")
    assert response.status == 403
    assert "ok" not in response.text.split()


def test_a_class_is_instantiated_for_each_request(server: Server) -> None:
    # On one connection, so that one process serves them all.
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        made = []
        for _ in range(3):
            connection.request("GET", "/c/front")
            made.append(int(connection.getresponse().read().removeprefix(b"dispatch ")))
        assert made == [made[0], made[0] + 1, made[0] + 2]
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "file", "handler", "directory", "location", "extension"),
    [
        ("/l/where/deep/down", "where.py", "{site}/where.py", "/l/where", "/l/where", None),
        ("/ext/x.x", "ext/where.py", "where", "{site}/ext/", None, ".x"),
        ("/ext/a.tar.gz", "ext/where.py", "where", "{site}/ext/", None, ".tar.gz"),
        ("/ext/x.up", "where.py", "./../where.py", "{site}/ext/", None, ".up"),
        ("/htaccess/x", "htaccess/where.py", "where", "{site}/htaccess/", None, None),
        ("/htaccess/sub/x.html", "htaccess/where.py", "where", "{site}/htaccess/", None, None),
        ("/match/alpha/x", "match/alpha/where.py", "where", "{site}/match/alpha/", None, None),
        ("/match/beta/x", "match/beta/where.py", "where", "{site}/match/beta/", None, None),
        ("/match/beta/deeper/x", "match/beta/where.py", "where", "{site}/match/beta/", None, None),
        ("/wild/a/pages/x", "wild/a/pages/where.py", "where", "{site}/wild/a/pages/", None, None),
        ("/wild/b/pages/x", "wild/b/pages/where.py", "where", "{site}/wild/b/pages/", None, None),
        ("/files/x.special", "files/where.py", "where", "{site}/files/", None, None),
    ],
)
def test_where(
    server: Server, path: str, file: str, handler: str, directory: str, location: str | None, extension: str | None
) -> None:
    site = str(server.site)
    found = server.get(path).text.split("|")
    assert found == [
        f"{site}/{file}",
        handler.format(site=site),
        directory.format(site=site),
        str(location),
        str(int(location is not None)),
        str(extension),
    ]


def test_location_match_gives_the_matching_part(server: Server) -> None:
    assert server.get("/m/xyx/more").text.split("|")[2:5] == ["/m/xyx", "/m/xyx", "1"]
    assert server.get("/m/y/more").text.split("|")[2:5] == ["/m/y", "/m/y", "1"]


def test_home_is_the_handler_directory(server: Server) -> None:
    assert server.get("/ext/x.home").text.split("|")[0] == f"{server.site}/ext/where.py"


def test_python_import(server: Server) -> None:
    """It ran once in each child, and gave the very module that requests use."""
    for _ in range(3):
        assert server.get("/l/imported").text == "started in main_interpreter"
    calls = [r for r in server.log_records() if "start() was called" in r.message]
    assert len({record.pid for record in calls}) == len(calls) >= 1


def failing(server: Server, path: str, pattern: str) -> str:
    """Expect a 500 and one report that matches; return the report."""
    server.allow(pattern)
    before = len(server.error_log)
    assert server.get(path).status == 500
    server.wait_until(lambda: re.search(pattern, server.error_log[before:]), what=pattern)
    report = server.error_log[before:]
    assert report.count("Application error") == 1
    assert len(re.findall(pattern, report)) == 1
    assert "_dispatch" not in report
    return report


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/c/missing", r"AttributeError: module '.*/classes\.py' contains no 'missing_name'"),
        (
            "/c/missing_attribute",
            r"AttributeError: 'Front' in module '.*/classes\.py' contains no 'missing_method'",
        ),
        ("/c/missing_default", r"AttributeError: module '.*/classes\.py' contains no 'handler'"),
        ("/c/none", r"TypeError: 'none_name' in module '.*/classes\.py' is not callable: it is None"),
        ("/c/number", r"TypeError: 'number' in module '.*/classes\.py' is not callable: it is of type int"),
        ("/b/no_module", r"ModuleNotFoundError: No module named 'no_such_module'"),
        ("/b/no_file", r"ImportError: cannot read the module file .*/no/such/file\.py"),
        ("/b/raises", r"ValueError: while loading"),
        ("/b/wrong_import", r"ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
        ("/b/empty", r"AttributeError: module '.*/empty\.py' contains no 'handler'"),
    ],
)
def test_what_cannot_run(server: Server, path: str, pattern: str) -> None:
    failing(server, path, pattern)
    failing(server, path, pattern)  # it stays an error, and is reported again


def test_syntax_error_and_its_repair(server: Server) -> None:
    text = failing(server, "/b/syntax", r"SyntaxError: ")
    assert "broken/syntax.py" in text
    assert "line 1" in text
    assert "def handler(req:" in text
    server.write_file("broken/syntax.py", page("repaired"))
    # A module that has never been loaded is tried again at once.
    assert server.get("/b/syntax").text == "repaired handler "


def test_python_path_in_several_places() -> None:
    config = """
    PythonPath "['${SITE}/base'] + sys.path"
    SetHandler mod_python
    <Location /a>
        PythonPath "['${SITE}/a'] + sys.path"
        PythonHandler in_a
    </Location>
    <Location /bad>
        PythonPath "no_such_name"
        PythonHandler in_a
    </Location>
    <Location /type>
        PythonPath "'/x'"
        PythonHandler in_a
    </Location>
    PythonHandler in_base
    """
    files = {
        "base/in_base.py": "import sys\ndef handler(req):\n    req.write(repr(sys.path))\n    return 0\n",
        "a/in_a.py": page("a"),
    }
    with running(config, files=files, mpm="prefork", processes=1) as server:
        base, a = str(server.site / "base"), str(server.site / "a")
        paths = eval(server.get("/").text)
        assert paths[0] == base
        assert paths.count(base) == 1
        assert a not in paths
        assert server.get("/a").text == "a handler "
        paths = eval(server.get("/").text)
        assert paths[:2] == [a, base]
        assert eval(server.get("/").text) == paths
        server.allow("no_such_name")
        assert server.get("/bad").status == 500
        server.wait_for_log("NameError: name 'no_such_name' is not defined")
        server.allow("PythonPath must be")
        assert server.get("/type").status == 500
        server.wait_for_log("TypeError: PythonPath must be an expression that gives a list")


def test_failing_python_import() -> None:
    config = """
    PythonPath "sys.path + ['${SITE}']"
    PythonImport no_such_module_at_start main_interpreter
    PythonImport good::fails main_interpreter
    PythonImport good::nothing main_interpreter
    PythonImport good::works main_interpreter
    SetHandler mod_python
    PythonHandler good
    """
    files = {
        "good.py": page("good")
        + "def fails(): raise ValueError('fails at start')\n"
        + "def works(): apache.log_error('works at start')\n"
    }
    with running(config, files=files) as server:
        for text in ("no_such_module_at_start", "fails at start", "contains no 'nothing'"):
            server.allow(text)
        assert server.get("/").text == "good handler "
        log = server.error_log
        order = [log.index(text) for text in ("'no_such_module_at_start'", "fails at start", "'nothing'", "works at")]
        assert order == sorted(order)
        assert "phase='PythonImport', handler='good::fails'" in log
