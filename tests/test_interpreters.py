"""Interpreters: which one runs a handler, what they share (nothing), when they are made."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mod_python
from mod_python import version
from mod_python.httpd.config import module_so
from mod_python.testing import Server
from tests.processes import PREFORK, at_once, at_same_time, http, interpreters, quiet

pytestmark = pytest.mark.long

Httpd = Callable[..., Server]

#: The kit has every handler run in main_interpreter unless told otherwise; tests of the
#: rules themselves load the module without saying anything else.
BARE = f"LoadModule python_module {module_so()}\n"

WHERE = """
import sys
from mod_python import apache

def handler(req):
    assert req.interpreter == apache.interpreter
    req.write(req.interpreter)
    return apache.OK

def argv(req):
    req.write(repr(sys.argv))
    return apache.OK

def defined(req):
    req.write(repr([apache.exists_config_define(name) for name in ("GIVEN", "NOT_GIVEN")]))
    return apache.OK
"""


# ---- names


def test_row_4_1_default_is_the_name_of_the_virtual_host(httpd: Httpd) -> None:
    server = httpd(
        BARE
        + """
        SetHandler mod_python
        PythonPath "['${SITE}'] + sys.path"
        PythonHandler where
        <VirtualHost *:${PORT}>
            ServerName one.example
        </VirtualHost>
        <VirtualHost *:${PORT}>
            ServerName two.example
        </VirtualHost>
        <VirtualHost *:${PORT2}>
            ServerName wire.example
            PythonConnectionHandler line
        </VirtualHost>
        """,
        python=False,
        files={
            "where.py": WHERE,
            "line.py": """
from mod_python import apache

def connectionhandler(conn):
    conn.write(apache.interpreter.encode())
    return apache.OK
""",
        },
        listen=2,
    )
    for name in ("one.example", "two.example"):
        with server.connect() as sock:
            assert http(sock, host=name) == (200, name.encode())
    with server.connect(1) as sock:
        assert sock.makefile("rb").read() == b"wire.example"


def test_python_interpreter_in_every_context(httpd: Httpd) -> None:
    server = httpd(
        """
        SetHandler mod_python
        PythonPath "['${SITE}'] + sys.path"
        PythonHandler where
        PythonInterpreter server-wide
        <Location /location>
            PythonInterpreter location
        </Location>
        <Location /main>
            PythonInterpreter main_interpreter
        </Location>
        <VirtualHost *:${PORT2}>
            PythonInterpreter host
        </VirtualHost>
        """,
        files={"where.py": WHERE},
        listen=2,
    )
    assert server.get("/").text == "server-wide"
    assert server.get("/location").text == "location"
    assert server.get("/main").text == "main_interpreter"
    assert server.get("/", index=1).text == "host"


def test_row_4_3_interpreter_per_directory_of_the_file(httpd: Httpd) -> None:
    server = httpd(
        BARE
        + """
        DocumentRoot ${SITE}
        DirectorySlash Off
        PythonInterpPerDirectory On
        <Directory ${SITE}>
            SetHandler mod_python
            PythonHandler where
        </Directory>
        """,
        python=False,
        files={"where.py": WHERE, "sub/where.py": WHERE, "sub/file.txt": ""},
    )
    for target in ("/x", "/"):
        assert server.get(target).text == f"{server.site}/"
    for target in ("/sub/file.txt", "/sub/", "/sub"):
        assert server.get(target).text == f"{server.site}/sub/"


def test_row_4_2_interpreter_per_directory_of_the_directive(httpd: Httpd) -> None:
    server = httpd(
        BARE
        + """
        DocumentRoot ${SITE}
        PythonInterpPerDirective On
        <Directory ${SITE}>
            SetHandler mod_python
            PythonHandler where
        </Directory>
        <Location /location>
            SetHandler mod_python
            PythonPath "['${SITE}'] + sys.path"
            PythonHandler where
        </Location>
        """,
        python=False,
        files={"where.py": WHERE, "sub/file.txt": ""},
    )
    for target in ("/x", "/sub/file.txt"):
        assert server.get(target).text == f"{server.site}/"
    # A location is no directory.
    assert server.get("/location").text == "main_interpreter"


# ---- what an interpreter is


def test_row_1_7_argv(httpd: Httpd) -> None:
    server = httpd(
        """
        SetHandler mod_python
        PythonPath "['${SITE}'] + sys.path"
        PythonHandler where::argv
        <Location /sub>
            PythonInterpreter sub
        </Location>
        """,
        files={"where.py": WHERE},
    )
    assert server.get("/").text == "['mod_python']"
    assert server.get("/sub").text == "['mod_python']"


def test_row_1_5_exists_config_define(httpd: Httpd) -> None:
    server = httpd(
        "SetHandler mod_python\nPythonPath \"['${SITE}'] + sys.path\"\nPythonHandler where::defined",
        files={"where.py": WHERE},
        defines={"GIVEN": "1"},
    )
    assert server.get("/").text == "[True, False]"


def test_row_1_1_versions_in_the_server_field(httpd: Httpd) -> None:
    python = ".".join(map(str, sys.version_info[:3]))
    field = httpd(BARE, python=False).get("/").headers["Server"]
    assert f"mod_python/{version.version}" in field.split()
    assert any(word.startswith(f"Python/{python}") for word in field.split())


STATE = """
import threading
from mod_python import apache

lock = threading.Lock()
count = 0
seen = set()

def handler(req):
    global count
    with lock:
        count += 1
        assert req.args not in seen, "a request of another interpreter, or twice"
        seen.add(req.args)
        assert len(seen) == count
    req.write(f"{apache.interpreter} {id(seen)} {count}")
    return apache.OK

def connectionhandler(conn):
    number = 0
    for line in conn:
        number += 1
        conn.write(b"%s %d %s" % (apache.interpreter.encode(), number, line))
    return apache.OK
"""


def test_three_interpreters_at_once_under_load(httpd: Httpd) -> None:
    names = ("main_interpreter", "red", "green")
    clients, requests = (2 if PREFORK else 4), 100
    config = "SetHandler mod_python\nPythonPath \"['${SITE}'] + sys.path\"\nPythonHandler state\n" + "".join(
        f"<VirtualHost *:${{PORT{number or ''}}}>\nPythonInterpreter {name}\n</VirtualHost>\n"
        for number, name in zip((0, 2, 3), names, strict=True)
    )
    config += "KeepAliveTimeout 60\n"
    config += "<VirtualHost *:${PORT4}>\nPythonInterpreter green\nPythonConnectionHandler state\n</VirtualHost>\n"
    server = httpd(config, files={"state.py": STATE}, listen=4, processes=8 if PREFORK else 1)

    def client(number: int, together: Callable[[], object]) -> set[str]:
        index = number % 4
        owners = set()
        together()
        if index == 3:
            with server.connect(3) as sock:
                answers = sock.makefile("rb")
                for count in range(1, requests + 1):
                    sock.sendall(b"x\n")
                    assert answers.readline() == b"green %d x\n" % count
            return set()
        with server.connect(index) as sock:
            for count in range(requests):
                status, body = http(sock, f"/?{number}-{count}", close=count == requests - 1)
                assert status == 200
                name, owner, _ = body.decode().split()
                assert name == names[index]
                owners.add(f"{name} {owner}")
        return owners

    owners = set().union(*at_once(4 * clients, client))
    quiet(server)
    if not PREFORK:
        assert len(owners) == 3, "each interpreter has one copy of the module, its own"
        totals = [server.get("/?last", index=index).text.split()[2] for index in range(3)]
        assert totals == [str(clients * requests + 1)] * 3
    for pid in server.children():
        made = interpreters(server, pid)
        assert len(made) == len(set(made))


EXTENSIONS = """
import asyncio, ctypes, datetime, decimal, json, sqlite3, ssl, zlib
from mod_python import apache

async def answer():
    await asyncio.sleep(0)
    return 42

def handler(req):
    base = sqlite3.connect(":memory:")
    (number,) = base.execute("select 6 * 7").fetchone()
    base.close()
    loop = asyncio.new_event_loop()
    try:
        assert loop.run_until_complete(answer()) == number
    finally:
        loop.close()
    assert decimal.Decimal("0.1") * 3 == decimal.Decimal("0.3")
    assert ssl.create_default_context() is not None
    assert ctypes.sizeof(ctypes.c_int) == 4
    assert zlib.decompress(zlib.compress(b"x")) == b"x"
    when = datetime.datetime.strptime("2024-02-29", "%Y-%m-%d")
    req.write(json.dumps([apache.interpreter, number, when.year]))
    return apache.OK
"""


def test_extension_modules_of_the_library(httpd: Httpd) -> None:
    server = httpd(
        """
        SetHandler mod_python
        PythonPath "['${SITE}'] + sys.path"
        PythonHandler extensions
        <Location /one>
            PythonInterpreter one
        </Location>
        <Location /two>
            PythonInterpreter two
        </Location>
        """,
        files={"extensions.py": EXTENSIONS},
    )
    names = ("main_interpreter", "one", "two")
    targets = [("/", *names[1:])[number % 3].replace("one", "/one").replace("two", "/two") for number in range(30)]
    texts = at_same_time(*(lambda target=target: server.get(target).text for target in targets))
    assert texts == [f'["{names[number % 3]}", 42, 2024]' for number in range(30)]
    quiet(server)


# ---- when they are made


def test_row_1_9_files_are_served_without_any_python_directive(httpd: Httpd) -> None:
    server = httpd(BARE + "DocumentRoot ${SITE}", python=False, files={"page.txt": "text"})
    assert server.get("/page.txt").body == b"text"
    assert interpreters(server) == []


def test_a_phase_without_handler_touches_no_interpreter(httpd: Httpd) -> None:
    server = httpd(
        BARE
        + """
        DocumentRoot ${SITE}
        ServerName unused.example
        PythonPath "['${SITE}'] + sys.path"
        PythonHandler where
        <Location /python>
            SetHandler mod_python
            PythonInterpreter used
        </Location>
        """,
        python=False,
        files={"page.txt": "text", "where.py": WHERE},
        processes=1,
    )
    for target, status in (("/page.txt", 200), ("/missing", 404), ("/page.txt", 200)):
        assert server.get(target).status == status
    assert interpreters(server) == []
    assert server.get("/python").text == "used"
    assert interpreters(server) == ["used"]


def test_an_interpreter_that_does_not_start(httpd: Httpd, public_path: Path) -> None:
    """One with a broken package answers 500, says why once, and harms no other."""
    packages = public_path / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    package = packages / "mod_python"
    shutil.copytree(Path(mod_python.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (public_path / "bin").mkdir()
    real = os.path.realpath(sys.executable)
    (public_path / "bin" / "python3").symlink_to(real)
    (public_path / "pyvenv.cfg").write_text(f"home = {os.path.dirname(real)}\ninclude-system-site-packages = false\n")
    locations = "".join(
        f"<Location /{name}>\n PythonInterpreter {name}\n</Location>\n" for name in ("before", "broken", "after")
    )
    server = httpd(
        f"LoadModule python_module {package}/mod_python.so\n"
        "SetHandler mod_python\nPythonPath \"['${SITE}'] + sys.path\"\nPythonHandler where\n" + locations,
        python=False,
        processes=1,
        files={"where.py": WHERE},
    )
    boot = package / "_dispatch" / "boot.py"
    whole = boot.read_text()
    assert server.get("/before").text == "before"
    boot.write_text("raise RuntimeError('broken on purpose')\n")
    server.allow("broken on purpose")
    answers = at_same_time(*(lambda: server.get("/broken").status,) * 10)
    assert answers == [500] * 10
    boot.write_text(whole)
    assert server.get("/broken").status == 500
    assert server.get("/after").text == "after"
    assert server.get("/before").text == "before"
    quiet(server)
    log = server.error_log
    assert len(re.findall(r"python:error.*RuntimeError: broken on purpose", log)) == 1
    assert len(re.findall(r"python:error.*failed in interpreter 'broken'", log)) == 1
    assert str(packages) in re.findall(r"sys\.path is (.*)", log)[0]


def test_no_more_than_256_interpreters(httpd: Httpd) -> None:
    """Names are counted, also of interpreters that never start: here most are refused."""
    count = 258
    server = httpd(
        BARE
        + """
        KeepAliveTimeout 60
        PythonInterpPerDirectory On
        DocumentRoot ${SITE}
        <Directory ${SITE}>
            SetHandler mod_python
            PythonHandler where
        </Directory>
        """,
        python=False,
        processes=1,
        files={"where.py": WHERE, **{f"d{number}/x": "" for number in range(count)}},
    )
    with server.connect() as sock:
        statuses = []
        for number in range(count):
            status, _ = http(sock, f"/d{number}/x", close=False)
            if status == 0:  # httpd closes a kept-alive connection after 100 requests
                break
            statuses.append(status)
    assert statuses == [200] * len(statuses)
    statuses += [server.get(f"/d{number}/x").status for number in range(len(statuses), count)]
    # The main interpreter is the first of the 256.
    assert statuses == [200] * 255 + [500] * (count - 255)
    assert server.get("/d0/x").text == f"{server.site}/d0/"
    refusals = re.findall(r"interpreter '.*/d(\d+)/' refused: this child has 256", server.error_log)
    assert refusals == ["255"]  # once: whoever asks again adds no line
    assert "PythonInterpreter" in server.error_log


# ---- PythonImport


def test_row_2_3_python_import_runs_in_order_before_the_first_request(httpd: Httpd) -> None:
    early = """
from mod_python import apache

def note(text):
    apache.log_error(f"NOTE {text} {apache.interpreter}", apache.APLOG_NOTICE)

note("module")

def function():
    note("function")

def fails():
    raise KeyError("on purpose")

def handler(req):
    note("handler")
    return apache.OK
"""
    server = httpd(
        """
        PythonPath "['${SITE}'] + sys.path"
        PythonImport early first
        PythonImport early::function first
        PythonImport early::function second
        PythonImport early::fails second
        PythonImport missing_module first
        PythonImport early::function main_interpreter
        <Location /first>
            SetHandler mod_python
            PythonHandler early
            PythonInterpreter first
        </Location>
        """,
        files={"early.py": early},
        processes=2,
    )
    server.allow("on purpose")
    server.allow("missing_module")
    assert server.get("/first").status == 200
    server.wait_until(lambda: server.error_log.count("NOTE function main_interpreter") == 2)
    expected = ["module first", "function first", "module second", "function second"]
    expected += ["module main_interpreter", "function main_interpreter"]
    notes: dict[int, list[str]] = {}
    for record in server.log_records():
        if match := re.search(r"NOTE (.*)", record.message):
            notes.setdefault(record.pid, []).append(match[1])
    assert sorted(notes.values(), key=len) == [expected, [*expected, "handler first"]]
    for pid in server.children():
        assert interpreters(server, pid) == ["first", "second"]
    log = server.error_log
    assert len(re.findall("python:error.*KeyError: 'on purpose'", log)) == 2
    assert re.search("python:error.*missing_module", log)


@pytest.mark.parametrize("name", ["main_interpreter", "other"])
def test_a_module_imported_early_is_the_one_the_handler_runs_in(httpd: Httpd, name: str) -> None:
    server = httpd(
        f"""
        PythonPath "['${{SITE}}'] + sys.path"
        PythonImport counted::count {name}
        SetHandler mod_python
        PythonHandler counted
        PythonInterpreter {name}
        """,
        files={
            "counted.py": """
from mod_python import apache
calls = 0

def count():
    global calls
    calls += 1

def handler(req):
    req.write(str(calls))
    return apache.OK
"""
        },
    )
    assert [server.get("/").text for _ in range(3)] == ["1"] * 3
