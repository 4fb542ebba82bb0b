"""Cold start: everybody comes at once, and nothing has been imported yet.

The modules take their time to import, so that clients arrive in the middle of it. Each
notes in the error log when its import begins and ends; a handler that ran in a half
imported module would not find the module's last name.
"""

from __future__ import annotations

import compileall
import re
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import mod_python
from mod_python.testing import Server
from tests.processes import PREFORK, THREADED, at_once, bare_python, http, interpreters, memory, quiet
from tests.servers import running

pytestmark = pytest.mark.long

#: Clients of each kind that come at once.
CLIENTS = 40

#: Fresh servers. Children of prefork serve one client at a time, so there is less to find.
STARTS = 20 if THREADED else 4

#: What a child may cost after serving the clients in all its interpreters: so many times what this
#: Python needs for as many interpreters and threads (6.4 MiB for 3.11, 9.2 MiB for 3.15).  mod_python
#: adds modules to each interpreter, which grow from version to version as Python's own do: on 3.11,
#: 3.13, 3.14 and 3.15 it is 1.72, 1.77, 1.78 and 1.75 times as much.
CHILD_LIMIT = 2.25

MODULE = """
import time
from mod_python import apache

def _note(what):
    apache.log_error(f"NOTE {__name__.rpartition('_')[2]} {apache.interpreter} {what}", apache.APLOG_NOTICE)

_note("begins")
time.sleep(0.05)
IMPORT
time.sleep(0.05)
_note("ends")
"""

WEB = (
    MODULE.replace("IMPORT", "import shared")
    + """
def handler(req):
    assert shared.whole
    req.write(whole)
    return apache.OK

whole = "whole"
"""
)

WIRE = (
    MODULE.replace("IMPORT", "import shared")
    + """
def connectionhandler(conn):
    assert shared.whole
    line = conn.readline()
    conn.write(whole + line)
    return apache.OK

whole = b"whole "
"""
)

SHARED = MODULE.replace("IMPORT", "") + "\nwhole = True\n"

CONFIG = """
<VirtualHost *:${PORT}>
    SetHandler mod_python
    PythonInterpreter web
    PythonPath "['${SITE}'] + sys.path"
    PythonHandler web
</VirtualHost>
<VirtualHost *:${PORT2}>
    PythonInterpreter wire
    PythonPath "['${SITE}'] + sys.path"
    PythonConnectionHandler wire
</VirtualHost>
"""


@pytest.fixture(scope="module")
def compiled() -> None:
    """Have the package and the standard library compiled, as installed ones are: compiling takes memory."""
    compileall.compile_dir(Path(mod_python.__file__).parent, quiet=2)
    others = re.compile(r"/(test|tests|site-packages|dist-packages|idlelib|lib2to3|tkinter)/")
    compileall.compile_dir(sysconfig.get_path("stdlib"), rx=others, quiet=2)


def come_at_once(server: Server) -> list[object]:
    """All clients: requests on connections opened before, and new connections."""

    def client(number: int, together: Callable[[], object]) -> object:
        if number % 2 == 0:
            with server.connect(0) as sock:
                together()
                return http(sock)
        together()
        with server.connect(1) as sock:
            sock.sendall(b"%d\n" % number)
            return sock.makefile("rb").readline()

    return at_once(2 * CLIENTS, client)


@contextmanager
def cold_start() -> Iterator[Server]:
    """A fresh server, after all clients have come at once and have been served."""
    size = {"processes": 6} if PREFORK else {"processes": 1, "threads": 2 * CLIENTS + 16}
    with running(CONFIG, files={"web.py": WEB, "wire.py": WIRE, "shared.py": SHARED}, listen=2, **size) as server:
        answers = come_at_once(server)
        quiet(server)
        assert answers[::2] == [(200, b"whole")] * CLIENTS
        assert answers[1::2] == [b"whole %d\n" % number for number in range(1, 2 * CLIENTS, 2)]
        yield server


@pytest.mark.parametrize("start", range(STARTS))
def test_everything_is_made_once_and_wholly(start: int) -> None:
    with cold_start() as server:
        made: Counter[tuple[int, str]] = Counter()
        notes: dict[tuple[int, str, str], list[str]] = {}
        for record in server.log_records():
            if match := re.search(r"interpreter '(\w+)' is ready", record.message):
                made[record.pid, match[1]] += 1
            elif match := re.search(r"NOTE (\w+) (\w+) (\w+)", record.message):
                notes.setdefault((record.pid, match[1], match[2]), []).append(match[3])
        assert set(made.values()) == {1}, made
        assert {name for _, name in made} == {"web", "wire"}
        # By process, module and interpreter: once, from its beginning to its end.
        assert set(map(tuple, notes.values())) == {("begins", "ends")}, notes
        assert {key[1:] for key in notes} == {("web", "web"), ("wire", "wire"), ("shared", "web"), ("shared", "wire")}

        for pid in server.children():
            assert len(interpreters(server, pid)) <= 2


# How many of malloc's arenas are in use depends on how many threads get to run at the same moment.
@pytest.mark.alone
@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("start", range(3))
def test_the_memory_of_a_child(start: int) -> None:
    limit = CHILD_LIMIT * bare_python(2, CLIENTS if THREADED else 1)
    with cold_start() as server:
        for pid in server.children():
            used = memory(pid)
            assert used.private <= limit, used


def test_the_first_requests_of_many_interpreters(httpd: Callable[..., Server]) -> None:
    """Each client is the first, or nearly the first, of another interpreter."""
    names = [f"name{number}" for number in range(8)]
    config = "".join(
        f"<Location /{name}>\n SetHandler mod_python\n PythonInterpreter {name}\n"
        " PythonPath \"['${SITE}'] + sys.path\"\n PythonHandler web\n</Location>\n"
        for name in names
    )
    server = httpd(config, files={"web.py": WEB, "shared.py": SHARED}, processes=6 if PREFORK else 1)

    def client(number: int, together: Callable[[], object]) -> object:
        with server.connect() as sock:
            together()
            return http(sock, f"/{names[number % len(names)]}")

    assert at_once(CLIENTS, client) == [(200, b"whole")] * CLIENTS
    for pid in server.children():
        made = interpreters(server, pid)
        assert len(made) == len(set(made))
    assert set(interpreters(server)) == set(names)
    quiet(server)
