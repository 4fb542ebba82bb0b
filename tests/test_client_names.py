"""What a client sends names nothing that stays: no interpreters, no records of modules, no entries of caches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mod_python.testing import Server
from tests.servers import running

HANDLERS = """
import sys
from mod_python import apache
from mod_python._dispatch import handler as handlers, importer

def handler(req):
    req.content_type = "text/html"
    req.write(req.interpreter)
    return apache.OK

def accesshandler(req):
    return apache.OK

def may(req, arguments):
    return True

def passes(filter):
    filter.pass_on()

def elsewhere(req):
    # A name that no walk through the directories has made simple.
    if req.args:
        req.filename = req.document_root() + req.args
    return apache.OK

def sizes(req):
    found = importer.default()
    req.write("%d %d %d" % (len(found.files), len(found.labels), len(sys.path_importer_cache)))
    return apache.OK
"""

#: What is looked for in the directory that a pattern matches.
USES = {
    "content": "SetHandler mod_python\nPythonHandler ${SITE}/hh.py",
    "access": "PythonAccessHandler ${SITE}/hh.py\nSetHandler mod_python\nPythonHandler ${SITE}/hh.py",
    "require": "Require python ${SITE}/hh.py::may\nSetHandler mod_python\nPythonHandler ${SITE}/hh.py",
    "filter": "SetOutputFilter PASSES\nSetHandler mod_python\nPythonHandler ${SITE}/hh.py",
    "fixup": "PythonFixupHandler ${SITE}/hh.py::elsewhere\nSetHandler mod_python\nPythonHandler ${SITE}/hh.py",
}
PATTERN = '<DirectoryMatch "^${{SITE}}/h/u/[^/]+">\n{lines}\n</DirectoryMatch>\n'


def ready(server: Server) -> set[str]:
    """The interpreters that were made, with the directory of the site left out."""
    found = re.findall(r"interpreter '([^']*)' is ready", server.error_log)
    return {name.removeprefix(f"{server.site}/h/u/") for name in found}


@contextmanager
def site(config: str, flags: dict[str, str | None] | None = None) -> Iterator[Server]:
    files = {"hh.py": HANDLERS, "h/u/real/x": "x", "h/u/real/deep/x": "x"}
    first = "DocumentRoot ${SITE}/h\nPythonOutputFilter ${SITE}/hh.py::passes PASSES\n"
    first += '<Directory "${SITE}/h">\nRequire all granted\nOptions +FollowSymLinks\n</Directory>\n'
    with running(first + config, files=files, flags=flags, processes=1, modules=["mod_include"]) as server:
        (server.site / "h/u/real/again").symlink_to("..")
        (server.site / "h/u/other").symlink_to("real")
        yield server


@pytest.mark.parametrize("setting", ["PythonInterpPerDirectory", "PythonInterpPerDirective"])
@pytest.mark.parametrize("use", USES)
def test_interpreters_are_for_directories_that_exist(use: str, setting: str) -> None:
    config = f"{setting} On\n" + PATTERN.format(lines=USES[use])
    with site(config, {"PythonInterpreter": None}) as server:
        for number in range(40):
            for path in (f"n{number}", f"n{number}/", f"n{number}/x", f"n{number}/a/b", f"real{'%2F' * number}",
                         f"n{number}/%2e/x", f"real/none{number}", f"x{number}'\"%0a/x"):  # fmt: skip
                server.get(f"/u/{path}")
            server.get(f"/u/{'real/again/' * (number % 8 + 1)}real/x")
            server.get(f"/u/other/x?/u/{'./' * number}real{'/' * number}/x")
            server.get(f"/u/other/x?/u/{'real/../' * number}real/x")
        allowed = {"", "real/", "other/", "main_interpreter"}
        made = ready(server)
        assert made <= allowed, sorted(made - allowed)[:10]
        # The real ones have theirs all the same.
        assert server.get("/u/real/x").text == f"{server.site}/h/u/real/"
        assert server.get("/u/other/x").text == f"{server.site}/h/u/other/"
        existing = setting == "PythonInterpPerDirectory"  # that of the first part that is no directory
        assert server.get("/u/fake/x").text == (f"{server.site}/h/u/" if existing else "main_interpreter")
        if setting == "PythonInterpPerDirectory":
            assert server.get("/u/real/deep/x").text == f"{server.site}/h/u/real/deep/"


@pytest.mark.parametrize(
    ("handler", "status"),
    [("./page.py", 500), ("../page.py", 500), ("mod_python.testhandler", 200), ("none", 500), ("none.such", 500)],
)
def test_no_records_of_modules_in_invented_directories(handler: str, status: int) -> None:
    config = PATTERN.format(lines=f"SetHandler mod_python\nPythonHandler {handler}")
    config += "<Location /sizes>\nSetHandler mod_python\nPythonHandler ${SITE}/hh.py::sizes\n</Location>\n"
    with site(config) as server:
        server.allow(r"ImportError|ModuleNotFoundError")
        assert server.get("/u/first/x/y").status == status
        before = server.get("/sizes").text
        for number in range(50):
            assert server.get(f"/u/n{number}/x/y").status == status
        assert server.get("/sizes").text == before
        if handler == "./page.py":
            server.wait_for_log("cannot read the module file .*/h/u/n49/page.py: No such file or directory")
            (server.site / "h/u/real/page.py").write_text(HANDLERS)
            assert server.get("/u/real/x").text == "main_interpreter"
