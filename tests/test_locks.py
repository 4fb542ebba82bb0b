"""The locks between processes behind `_apache._global_lock`."""

from __future__ import annotations

import ast
import contextlib
import itertools
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mod_python.httpd.errors import HttpdError
from mod_python.testing import Server
from tests.processes import PREFORK, at_once, at_same_time
from tests.servers import running

pytestmark = pytest.mark.long

Httpd = Callable[..., Server]

HANDLERS = """
import os, signal, threading, time
import _apache
from mod_python import apache

go = threading.Event()

def where():
    return (os.getpid(), apache.interpreter)

def hold(req, key):
    "Hold a lock for a while; tell when."
    _apache._global_lock(req.server, key)
    begin = time.monotonic()
    time.sleep(0.2)
    end = time.monotonic()
    _apache._global_unlock(req.server, key)
    return where() + (begin, end)

def take(req, key):
    _apache._global_lock(req.server, key)
    return where()

def wait(req, key):
    _apache._global_lock(req.server, key)
    _apache._global_unlock(req.server, key)
    return where()

def try_(req, key):
    taken = _apache._global_trylock(req.server, key)
    if taken:
        _apache._global_unlock(req.server, key)
    return where() + (taken,)

def release(req, key):
    try:
        _apache._global_unlock(req.server, key)
    except ValueError as exc:
        return where() + (str(exc),)
    return where() + (None,)

def die(req, key):
    _apache._global_lock(req.server, key)
    os.kill(os.getpid(), signal.SIGKILL)

def other_thread(req, key):
    "A lock goes back from another thread than the one that took it."
    _apache._global_lock(req.server, key)
    thread = threading.Thread(target=_apache._global_unlock, args=(req.server, key))
    thread.start()
    thread.join()
    return _apache._global_trylock(req.server, key) and _apache._global_unlock(req.server, key) is None

def errors(req, key):
    found = []
    for arguments in (
        (None, "key"), (req, "key"), (req.server, "key", 8), (req.server, "key", -2), (req.server, None),
        (req.server, 1.5), (req.server, "key", "1"),
    ):
        for function in (_apache._global_lock, _apache._global_trylock, _apache._global_unlock):
            try:
                function(*arguments)
            except (TypeError, ValueError) as exc:
                found.append((type(exc).__name__, str(exc)))
            else:
                found.append(None)
    return found

def index(req, key):
    "Every number works, 0 included, and the key does not matter then."
    for number in range(8):
        _apache._global_lock(req.server, None, number)
    busy = [_apache._global_trylock(req.server, "x", number) for number in range(8)]
    for number in range(8):
        _apache._global_unlock(req.server, object(), index=number)
    return busy

def numbers(req, key):
    from mod_python._dispatch import private
    keys = [str(n) for n in range(1000)] + [b"a", "a", 1, "1", -1, "\\u20ac", "\\udcff", 10**30]
    return [private._number(req.server, k, -1) for k in keys]

def count(req, key):
    from mod_python import _core
    return _core.lock_count()

def handler(req):
    function = globals()[req.uri.rpartition("/")[2]]
    req.write(repr(function(req, req.args or "key")))
    return apache.OK
"""

CONFIG = """
SetHandler mod_python
PythonPath "sys.path + ['${SITE}']"
PythonHandler locking
<Location /one>
    PythonInterpreter one
</Location>
<Location /two>
    PythonInterpreter two
</Location>
"""


def ask(server: Server, target: str) -> Any:
    response = server.get(target)
    assert response.status == 200, response.text
    return ast.literal_eval(response.text)


def start(**arguments: Any) -> Any:
    config = CONFIG + arguments.pop("config", "")
    return running(config, files={"locking.py": HANDLERS}, **{"processes": 2, "threads": 16, **arguments})


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with start(processes=8 if PREFORK else 2) as server:
        yield server


def test_row_1_6_one_at_a_time(server: Server) -> None:
    targets = ["/hold", "/one/hold", "/two/hold", "/hold", "/one/hold"]
    times = at_same_time(*(lambda target=target: ask(server, target) for target in targets))
    spans = sorted((begin, end) for *_, begin, end in times)
    for (_, end), (begin, _) in itertools.pairwise(spans):
        assert begin >= end
    assert len({interpreter for _, interpreter, _, _ in times}) == 3


def test_other_keys_do_not_wait(server: Server) -> None:
    pid, _ = ask(server, "/take?0")
    try:
        # 0 and 1 are keys of different locks; 0 is taken.
        assert ask(server, "/try_?1")[2] is True
        assert ask(server, "/try_?0")[2] is False
    finally:
        give_back(server, pid, "0")


def give_back(server: Server, pid: int, key: str) -> None:
    """Release a lock in the process that has it; the others must refuse."""

    def look() -> bool:
        # Several at a time, so that every child gets one.
        answers = at_once(8, lambda number, together: ask(server, f"/release?{key}"))
        for _, _, why in answers:
            assert why is None or "this process has not taken it" in why
        assert all(found == pid for found, _, why in answers if why is None)
        return any(why is None for _, _, why in answers)

    server.wait_until(look)


def test_same_lock_in_every_process_and_interpreter(server: Server) -> None:
    pid, _ = ask(server, "/one/take?shared")
    seen = set()

    def look() -> bool:
        # Several at a time, so that the kernel does not give them all to one child.
        for found in at_once(4, lambda number, together: ask(server, ("/try_", "/one/try_")[number % 2] + "?shared")):
            assert found[2] is False
            seen.add(found[:2])
        return len({process for process, _ in seen}) > 1 and len(seen) > 2

    server.wait_until(look)
    give_back(server, pid, "shared")
    assert ask(server, "/two/try_?shared")[2] is True


@pytest.mark.skipif(PREFORK, reason="a process of prefork has one thread")
def test_waiting_releases_the_gil() -> None:
    with start(processes=1) as server:
        ask(server, "/take")

        def run(number: int, together: Callable[[], object]) -> Any:
            if number == 0:
                return ask(server, "/wait")
            # The same interpreter answers while a thread of it waits.
            assert all(ask(server, "/try_")[2] is False for _ in range(5))
            return ask(server, "/release")[2]

        waited, why = at_once(2, run)
        assert waited
        assert why is None


def test_released_by_another_thread(server: Server) -> None:
    assert ask(server, "/other_thread?from-another") is True


def test_errors(server: Server) -> None:
    found = ask(server, "/errors")
    assert None not in found
    kinds = [kind for kind, _ in found[::3]]
    assert kinds == ["TypeError", "TypeError", "ValueError", "ValueError", "ValueError", "TypeError", "TypeError"]
    assert found[::3] == found[1::3] == found[2::3]
    assert [text for _, text in found[::3]][:4] == [
        "first argument must be a server, not NoneType",
        "first argument must be a server, not mp_request",
        "there is no lock 8: there are 8, numbered from 0 (mod_python.mutex_locks)",
        "there is no lock -2; -1 chooses one by the key",
    ]
    server.wait_for_log(r"python:warn\].*there is no lock 8")
    assert "this process has not taken it" in ask(server, "/release?nobody-has-it")[2]


def test_numbers(server: Server) -> None:
    assert ask(server, "/index") == [False] * 8
    numbers = ask(server, "/numbers")
    assert set(numbers[:1000]) == set(range(1, 8))
    assert numbers[1000] == numbers[1001]
    assert numbers[1002] == numbers[1003]
    assert ask(server, "/one/numbers") == numbers


def test_a_process_that_dies_gives_its_locks_back(httpd: Httpd) -> None:
    server = httpd(CONFIG, files={"locking.py": HANDLERS}, processes=2)
    server.allow(r"exit signal Killed \(9\)")
    with server.connect() as sock:
        sock.sendall(b"GET /die HTTP/1.1\r\nHost: x\r\n\r\n")
        assert sock.recv(1) == b""
    assert ask(server, "/wait")


def test_a_graceful_restart_keeps_the_locks() -> None:
    # In worker a child that waits for its last connection keeps its place in the scoreboard.
    places = "" if PREFORK else "ServerLimit 4\nMaxRequestWorkers 64\n"
    with start(processes=4 if PREFORK else 1, config=places) as server:
        pid, _ = ask(server, "/take?mine")
        # Held as long as its process: keep that one serving a request.
        with server.connect() as sock:
            sock.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n")
            server.graceful()
            server.wait_until(lambda: ask(server, "/try_?other")[0] != pid)
            if os.path.exists(f"/proc/{pid}"):
                assert ask(server, "/count") == (4 if PREFORK else 8)
        # And then the lock is free, because its process has ended.
        server.wait_until(lambda: ask(server, "/try_?mine")[2])
        assert server.error_log.count("locks between processes") == 1


@pytest.mark.parametrize(
    ("number", "expected"), [("2", 2), ("1", 2), ("5", 5), ("20", 20)], ids=["two", "never-one", "five", "twenty"]
)
def test_number_of_locks(number: str, expected: int) -> None:
    with start(config=f"PythonOption mod_python.mutex_locks {number}") as server:
        clients = 2 * (1 if PREFORK else 16)
        assert ask(server, "/count") == min(expected, clients)
        assert ask(server, "/try_?any")[2] is True


@pytest.mark.parametrize("number", ["0", "-3", "many", "8x", "100000"])
def test_senseless_numbers_are_refused(number: str) -> None:
    with pytest.raises(HttpdError, match="mutex_locks"), Server(f'PythonOption mod_python.mutex_locks "{number}"'):
        pass


def test_directory() -> None:
    config = "PythonOption mod_python.mutex_directory ${SITE}"
    with start(config=config) as server:
        assert ask(server, "/try_")[2] is True
        match = re.search(r"locks between processes \(fcntl, (.*)\)", server.error_log)
        assert match is not None
        assert match[1] == str(server.site)
        links = []
        for name in os.listdir(f"/proc/{server.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                links.append(os.readlink(f"/proc/{server.pid}/fd/{name}"))
        assert sum(f"{server.site}/mpmtx{server.pid}-" in link for link in links) >= 2


def test_a_directory_that_does_not_exist_is_refused() -> None:
    config = "PythonOption mod_python.mutex_directory /nonexistent/directory"
    with pytest.raises(HttpdError, match=r"lock 1 of \d could not be made in /nonexistent/directory"), Server(config):
        pass


@pytest.mark.parametrize("mechanism", ["flock", "sysvsem", "posixsem", "pthread", "file"])
def test_mutex_directive(mechanism: str) -> None:
    with start(config=f"Mutex {mechanism} mod_python", processes=4 if PREFORK else 2) as server:
        name = {"pthread": "fcntl", "file": r"\w+"}.get(mechanism, mechanism)
        server.wait_for_log(rf"locks between processes \({name}, ")
        assert ("belong to one thread" in server.error_log) == (mechanism == "pthread")
        times = at_same_time(*[lambda: ask(server, "/hold")] * 3)
        spans = sorted((begin, end) for *_, begin, end in times)
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))
        assert ask(server, "/other_thread") is True
