"""What is set up when httpd and its interpreters start."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mod_python
from mod_python import version
from mod_python.testing import Server

Httpd = Callable[..., Server]

FACTS = """
import sys
from mod_python import apache

def handler(req):
    import site
    req.write(repr({
        "optimize": sys.flags.optimize,
        "user site": (sys.flags.no_user_site, site.ENABLE_USER_SITE),
        "environment": sys.flags.ignore_environment,
        "asserts": asserts(),
        "doc": asserts.__doc__,
        "argv": sys.argv,
        "path": sys.path,
    }))
    return apache.OK

def asserts():
    "Kept"
    try:
        assert False
    except AssertionError:
        return True
    return False
"""


def ask(server: Server, target: str = "/", **arguments: Any) -> Any:
    response = server.get(target, **arguments)
    assert response.status == 200, server.error_log
    return ast.literal_eval(response.text)


@pytest.mark.parametrize("same", [True, False], ids=["same", "different"])
def test_row_1_2_version_mismatch(public_path: Path, httpd: Httpd, same: bool) -> None:
    # An installation of its own, whose Python files can be changed.
    venv.create(public_path / "venv", symlinks=True)
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    copy = public_path / "venv" / "lib" / python / "site-packages" / "mod_python"
    shutil.copytree(Path(mod_python.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    if not same:
        text = (copy / "version.py").read_text()
        (copy / "version.py").write_text(text.replace(f'"{version.version}"', '"0.9.other"'))
    server = httpd(
        f"LoadModule python_module {copy}/mod_python.so\nSetHandler mod_python\nPythonHandler ${{SITE}}/fine.py",
        python=False,
        files={"fine.py": "def handler(req):\n    req.write('fine')\n    return 0\n"},
    )
    assert server.get("/").text == "fine"
    lines = [r for r in server.log_records() if "mod_python version mismatch" in r.message]
    if same:
        assert lines == []
    else:
        assert {line.level for line in lines} == {"warn"}
        for part in (version.version, "0.9.other", str(copy)):
            assert part in lines[0].message


@pytest.mark.parametrize("value", ["On", "Off", None])
def test_python_optimize(httpd: Httpd, value: str | None) -> None:
    server = httpd(
        (f"PythonOptimize {value}\n" if value else "")
        + """
        SetHandler mod_python
        PythonHandler ${SITE}/facts.py
        <Location /sub>
            PythonInterpreter sub
        </Location>
        """,
        files={"facts.py": FACTS},
    )
    for target in ("/", "/sub"):
        facts = ask(server, target)
        assert facts["optimize"] == (1 if value == "On" else 0)
        assert facts["asserts"] is (value != "On")
        assert facts["doc"] == "Kept"


def test_python_is_isolated_from_the_user(httpd: Httpd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere/else")
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    server = httpd("SetHandler mod_python\nPythonHandler ${SITE}/facts.py", files={"facts.py": FACTS})
    facts = ask(server)
    assert facts["user site"] == (1, False)
    assert facts["environment"] == 1
    assert facts["optimize"] == 0
    assert "/somewhere/else" not in facts["path"]
    assert facts["argv"] == ["mod_python"]


EARLY = """
from mod_python import apache

calls = []

def start(*args):
    calls.append(args)
    apache.main_server.get_options()["set at start"] = apache.interpreter
"""

ASKING = """
import sys
from mod_python import apache

def handler(req):
    early = sys.modules.get("early")
    req.write(repr({
        "imported": early is not None,
        "calls": early and early.calls,
        "same": early is apache.import_module("early"),
        "option": apache.main_server.get_options().get("set at start"),
        "path": sys.path,
    }))
    return apache.OK

def connectionhandler(conn):
    conn.write(repr(sys.path).encode())
    return apache.OK
"""


@pytest.mark.parametrize("name", ["main_interpreter", "other"])
def test_row_2_1_and_row_2_2_python_import(httpd: Httpd, name: str) -> None:
    server = httpd(
        f"""
        PythonPath "sys.path + ['${{SITE}}']"
        PythonImport early {name}
        PythonImport early::start {name}
        PythonInterpreter {name}
        SetHandler mod_python
        PythonHandler asking
        """,
        files={"early.py": EARLY, "asking.py": ASKING},
    )
    facts = ask(server)
    assert facts["imported"]
    assert facts["calls"] == [()]
    assert facts["same"]
    assert facts["option"] == name


def test_row_2_4_handler_directory_in_python_path(httpd: Httpd) -> None:
    server = httpd(
        """
        DocumentRoot ${SITE}
        <Directory ${SITE}>
            PythonPath "['${SITE}'] + sys.path"
            SetHandler mod_python
            PythonHandler asking
        </Directory>
        """,
        files={"asking.py": ASKING, "early.py": EARLY},
    )
    for _ in range(2):
        path = ask(server)["path"]
        assert [item.rstrip("/") for item in path].count(str(server.site)) == 1


def test_row_2_5_python_path_of_a_virtual_host(httpd: Httpd) -> None:
    server = httpd(
        """
        <VirtualHost *:${PORT2}>
            PythonPath "['${SITE}/lib'] + sys.path"
            PythonConnectionHandler asking
        </VirtualHost>
        """,
        files={"lib/asking.py": ASKING},
        listen=2,
    )
    with server.connect(1) as sock:
        path = ast.literal_eval(sock.makefile("rb").read().decode())
    assert path[0] == f"{server.site}/lib"


def test_row_5_1_and_row_5_2_options(httpd: Httpd) -> None:
    server = httpd(
        """
        PythonOption shared server
        PythonOption only_server 1
        PythonOption removed_1 x
        PythonOption removed_2 x
        SetHandler mod_python
        PythonHandler ${SITE}/options.py
        <Location /inner>
            PythonOption shared inner
            PythonOption removed_1 ""
            PythonOption removed_2
            PythonOption new 1
        </Location>
        """,
        files={"options.py": "def handler(req):\n    req.write(repr(dict(req.get_options().items())))\n    return 0\n"},
    )
    assert ask(server, "/inner") == {"shared": "inner", "only_server": "1", "new": "1"}
    assert ask(server) == {"shared": "server", "only_server": "1", "removed_1": "x", "removed_2": "x"}


TREE = """
from mod_python import apache

def flat(tree):
    found = []
    for item in tree:
        found += flat(item) if isinstance(item, list) else [item]
    return found

def handler(req):
    first = flat(apache.config_tree())
    apache.config_tree().clear()
    assert flat(apache.config_tree()) == first
    assert all(isinstance(text, str) for item in first for text in item)
    req.write(repr([args for name, args in first if name in ("PythonOption", "PythonHandler")]))
    return apache.OK
"""


def test_config_tree_after_restarts(httpd: Httpd) -> None:
    server = httpd(
        """
        PythonOption umlaut "caf\u00e9"
        SetHandler mod_python
        <Location "/tree">
            PythonHandler ${SITE}/tree.py
        </Location>
        """,
        files={"tree.py": TREE},
    )
    expected = ['umlaut "caf\u00e9"', "${SITE}/tree.py".replace("${SITE}", str(server.site))]
    for _ in range(3):
        assert ask(server, "/tree") == expected
        replace_children(server)
    text = server.settings.config_file.read_text()
    server.settings.config_file.write_text(text.replace("umlaut", "changed"))
    replace_children(server)
    # A child of the old generation may still answer, one that was being started just then.
    server.wait_until(lambda: ask(server, "/tree")[0].startswith("changed "))


def replace_children(server: Server) -> None:
    """Restart gracefully, and wait until the old children have gone."""
    old = server.children()
    server.graceful()
    server.wait_until(lambda: not set(old) & set(server.children()))


def test_help_is_readable() -> None:
    script = "import pydoc; from mod_python import apache; print(pydoc.render_doc(apache, renderer=pydoc.plaintext))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    text = done.stdout
    for line in (
        "    log_error(message: ",
        "    register_cleanup(callable: ",
        "    HTTP_NOT_FOUND = HTTP_NOT_FOUND",
        "    M_GET = 0",
    ):
        assert f"\n{line}" in text
    assert "class Status" not in text
