"""Restarts and stops, under load and with handlers that do not want to end.

What httpd itself does at a graceful restart: the old children stop accepting and
finish what they are serving; the new ones accept from the same listening sockets, so no
connection is refused. An idle kept-alive connection is closed, at once by the event MPM,
after its next request by the others; a client that finds it closed when it sends its next
request has to come back. A connection handler is "being served" for as long as it runs:
it goes on in its old child until its client is done.

At a stop httpd closes the sockets under the threads that use them, and gives the children
about nine seconds before it kills them.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from mod_python.testing import Server
from tests.native_modules import compiled
from tests.processes import PREFORK, THREADED, asleep, at_once, http, quiet

pytestmark = pytest.mark.long

Httpd = Callable[..., Server]

RESTARTS = 20 if THREADED else 4

#: Old children occupy places while their last clients stay.
PLACES = "" if PREFORK else "ServerLimit 8\nMaxRequestWorkers 256\n"
WORKERS = {"processes": 12} if PREFORK else {"processes": 1, "threads": 32}

CONFIG = """
PythonPath "['${SITE}'] + sys.path"
SetHandler mod_python
PythonHandler module
<Location /sub>
    PythonInterpreter sub
</Location>
<VirtualHost *:${PORT2}>
    PythonConnectionHandler module
</VirtualHost>
"""

MODULE = """
import atexit, threading, time
from mod_python import apache

def note(text):
    apache.log_error(f"NOTE {text} {apache.interpreter}", apache.APLOG_NOTICE)

def fail(data):
    raise ValueError("on purpose")

apache.register_cleanup(note, "cleanup")
apache.register_cleanup(fail)
apache.register_cleanup(note, "first-cleanup")
atexit.register(note, "atexit")

class Noisy:
    def __del__(self):
        note("local")

local = threading.local()

def handler(req):
    what = req.args
    if what == "sleep":
        note("sleeping")
        time.sleep(60)
    elif what == "thread":
        threading.Thread(target=time.sleep, args=(60,), daemon=False).start()
    elif what == "daemon":
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    elif what == "busy":
        # It lets others run: up to Python 3.12, a thread that never does is interrupted only
        # for threads of its own interpreter.
        threading.Thread(target=lambda: [time.sleep(0) for _ in iter(int, 1)], daemon=True).start()
    elif what == "pool":
        global pool
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(4)
        assert pool.submit(abs, -1).result() == 1
    elif what == "local":
        local.noisy = Noisy()
    req.write("answer")
    return apache.OK

def connectionhandler(conn):
    for line in conn:
        conn.write(line)
    return apache.OK
"""

FILES = {"module.py": MODULE}


def notes(server: Server) -> list[str]:
    """What the module's functions logged, in order."""
    return re.findall(r"NOTE (.*)", server.error_log)


def noted_by(server: Server, note: str) -> set[int]:
    """Process ids of the children that logged a note."""
    return {record.pid for record in server.log_records() if record.message.endswith(f"NOTE {note}")}


class Load:
    """Clients that go on until told to stop; an unexpected end of a connection is an error."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.stopping = threading.Event()
        self.errors: list[str] = []
        self.done = {"kept-alive": 0, "new": 0, "echo": 0}
        self.threads: list[threading.Thread] = []

    def start(self, **clients: int) -> None:
        """Start so many clients of each kind."""
        for kind, count in clients.items():
            for _ in range(count):
                thread = threading.Thread(target=self._run, args=(getattr(self, f"_{kind}"),), daemon=True)
                self.threads.append(thread)
                thread.start()

    def end(self) -> None:
        """Let the clients finish."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self.threads), "a client hangs"

    def progress_since(self, before: dict[str, int]) -> bool:
        """Whether every kind of client got further, or one failed."""
        return bool(self.errors) or all(self.done[kind] > count for kind, count in before.items())

    def _run(self, client: Callable[[], None]) -> None:
        try:
            while not self.stopping.is_set():
                client()
        except Exception as error:
            self.errors.append(f"{client.__name__}: {error!r}")

    def _kept_alive(self) -> None:
        with self.server.connect() as sock:
            for number in range(50):
                target = ("/", "/sub")[number % 2]
                try:
                    status, body = http(sock, target, close=False)
                except (ConnectionResetError, BrokenPipeError):
                    status, body = 0, b""
                if status == 0 and number:
                    return  # closed while idle, as httpd does
                assert (status, body) == (200, b"answer"), (number, status, body)
                self.done["kept-alive"] += 1

    def _new(self) -> None:
        with self.server.connect() as sock:
            assert http(sock) == (200, b"answer")
        self.done["new"] += 1

    def _echo(self) -> None:
        with self.server.connect(1) as sock:
            answers = sock.makefile("rb")
            for number in range(100):
                line = b"line %d\n" % number
                sock.sendall(line)
                assert answers.readline() == line, number
                self.done["echo"] += 1


def test_row_1_8_graceful_restarts_under_load(httpd: Httpd) -> None:
    files = {"module.py": MODULE + "\nnote('loaded')\n"}
    server = httpd(CONFIG + PLACES, files=files, listen=2, **WORKERS)
    server.allow("on purpose")
    load = Load(server)
    with server.connect(1) as lasting, server.connect(1) as idle:
        for sock in (lasting, idle):
            sock.sendall(b"before\n")
            assert sock.recv(100) == b"before\n"
        load.start(kept_alive=2, new=1, echo=2)
        old: set[int] = set()
        for number in range(RESTARTS):
            old |= set(server.children())
            before = dict(load.done)
            server.graceful()
            lasting.sendall(b"%d\n" % number)
            assert lasting.recv(100) == b"%d\n" % number
            server.wait_until(partial(load.progress_since, before), what="work of every kind since the restart")
            assert load.errors == []
        load.end()
        assert load.errors == []
        idle.sendall(b"after\n")
        assert idle.recv(100) == b"after\n"
    server.wait_until(lambda: not old & set(server.children()), what="the end of the old children")
    assert server.get("/").body == b"answer"
    quiet(server)
    # Every child that ran the module and has gone ended in good order; of prefork's not those that were idle.
    there = set(server.children())
    loaded, ended = (noted_by(server, f"{note} main_interpreter") - there for note in ("loaded", "atexit"))
    assert ended
    assert ended == loaded if THREADED else ended <= loaded


def test_children_are_replaced_under_load(httpd: Httpd) -> None:
    places = PLACES + "MaxConnectionsPerChild 10\n"
    server = httpd(CONFIG + places, files=FILES, listen=2, **({"processes": 4} if PREFORK else WORKERS))
    server.allow("on purpose")
    first = set(server.children())
    load = Load(server)
    load.start(new=2, echo=1)
    server.wait_until(lambda: load.errors or len(first - set(server.children())) == len(first), 120)
    server.wait_until(lambda: load.errors or notes(server).count("atexit main_interpreter") >= 3, 120)
    load.end()
    assert load.errors == []
    quiet(server)


def test_stop_under_load(httpd: Httpd) -> None:
    """Every connection is in the middle of something when httpd is told to stop."""
    server = httpd(CONFIG, files=FILES, listen=2, **WORKERS)
    server.allow("on purpose")
    load = Load(server)
    load.start(echo=6)
    server.wait_until(lambda: load.errors or load.done["echo"] > 2000, 120)
    assert load.errors == []
    server.stop()
    load.end()
    assert not server.running
    if THREADED:
        assert notes(server) == [
            "first-cleanup main_interpreter",
            "cleanup main_interpreter",
            "atexit main_interpreter",
        ]


# httpd tells children once more that have not ended after three seconds.
@pytest.mark.alone
def test_stop_wakes_idle_connections(httpd: Httpd) -> None:
    server = httpd(CONFIG, files=FILES, listen=2, **WORKERS)
    server.allow("on purpose")
    clients = [server.connect(1) for _ in range(10)]
    for sock in clients:
        sock.sendall(b"line\n")
        assert sock.recv(100) == b"line\n"
    asleep(server)
    server.stop()
    for sock in clients:
        with sock:
            try:
                assert sock.recv(100) == b""
            except ConnectionResetError:
                pass
    ends = notes(server).count("atexit main_interpreter")
    assert ends == (len(clients) if PREFORK else 1)
    # Nobody was told again or killed, and nobody had to be shown the door.
    assert not re.search("AH0004[567]|still run Python [0-9]+ seconds|did not end in time", server.error_log)


# A thread's local objects go with the thread; that of prefork is the last one of all, and when
# Python is finalised its modules are empty already.
@pytest.mark.parametrize(
    "what",
    [
        "",
        # Waiting for the threads takes some of the seconds that the end of Python may take.
        pytest.param("thread", marks=pytest.mark.alone),
        "daemon",
        "busy",
        "pool",
        *(["local"] if THREADED else []),
    ],
)
def test_clean_ups_run_in_every_interpreter(httpd: Httpd, what: str) -> None:
    """Also when threads of Python's own are still there, asleep or busy."""
    server = httpd(CONFIG, files=FILES, listen=2, **({"processes": 2} if PREFORK else WORKERS))
    server.allow("on purpose")
    for target in ("/", "/sub"):
        assert server.get(f"{target}?{what}").status == 200
    quiet(server)
    server.stop()
    for name in ("main_interpreter", "sub"):
        mine = [note.split()[0] for note in notes(server) if note.split()[1] == name]
        assert [note for note in mine if note != "local"] == ["first-cleanup", "cleanup", "atexit"]
        if what == "local":
            assert "local" in mine
    assert len(re.findall("python:error.*ValueError: on purpose", server.error_log)) == 2
    if what == "thread":
        assert server.error_log.count("while these threads of interpreter") == 2


@pytest.mark.parametrize("waiting", [False, True], ids=["idle", "waiting"])
def test_daemon_threads_do_not_run_while_the_pools_go(httpd: Httpd, waiting: bool) -> None:
    """They may have objects of connections and requests whose memory is being freed."""
    handler = """
import os, threading, time
from mod_python import apache

def run():
    while True:
        os.write(2, b"NOTE daemon\\n")
        time.sleep(0.01)

def connectionhandler(conn):
    threading.Thread(target=run, daemon=True).start()
    conn.write(b"begun")
    if conn.readline() == b"":
        return apache.OK
"""
    with compiled("slow_end") as module:
        server = httpd(f"LoadModule slow_end_module {module}", handler=handler, processes=1)
        with server.connect() as sock:
            assert sock.recv(5) == b"begun"
            server.wait_until(lambda: "NOTE daemon" in server.error_log)
            if not waiting:
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(1) == b""
            server.stop()
    before, goes, after = server.error_log.rpartition("NOTE the pool goes")
    assert goes
    assert "NOTE daemon" in before
    assert "NOTE daemon" not in after


def test_a_handler_that_runs_may_come_to_its_end(httpd: Httpd) -> None:
    """At a stop, too: prefork would end the process in the middle of it, and without clean-ups."""
    handler = """
import time
from mod_python import apache

def note(text):
    apache.log_error(f"NOTE {text}", apache.APLOG_NOTICE)

apache.register_cleanup(note, "cleanup")

def handler(req):
    try:
        note("begin")
        time.sleep(0.4)
        note("end")
    finally:
        note("finally")
    return apache.OK
"""
    server = httpd("SetHandler mod_python\nPythonHandler ${SITE}/site.py", files={"site.py": handler}, processes=1)
    with server.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        server.wait_until(lambda: "NOTE begin" in server.error_log)
        server.stop()
    assert re.findall("NOTE (.*)", server.error_log) == ["begin", "end", "finally", "cleanup"]


@pytest.mark.skipif(PREFORK, reason="the second signal ends a process of prefork's")
def test_signals_do_not_shorten_what_a_handler_is_given(httpd: Httpd) -> None:
    """Whoever stops a child may be told so more than once, and any thread may get the signal."""
    handler = """
import time
from mod_python import apache

def handler(req):
    apache.log_error("NOTE begin", apache.APLOG_NOTICE)
    time.sleep(1.5)
    apache.log_error("NOTE end", apache.APLOG_NOTICE)
    return apache.OK
"""
    server = httpd("SetHandler mod_python\nPythonHandler ${SITE}/site.py", files={"site.py": handler}, processes=1)
    (child,) = server.children()
    with server.connect() as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        server.wait_until(lambda: "NOTE begin" in server.error_log)
        server.signal(signal.SIGTERM)
        with contextlib.suppress(ProcessLookupError):  # it has ended
            for _ in range(1000):
                os.kill(child, signal.SIGTERM)
                time.sleep(0.001)
        server.stop()
    assert "NOTE end" in server.error_log
    assert "still run Python" not in server.error_log


@pytest.mark.skipif(THREADED, reason="threads of the other MPMs block signals, and so does what they fork")
def test_a_forked_process_is_no_child_of_httpds(httpd: Httpd) -> None:
    """SIGTERM ends it, as multiprocessing expects, and it does not end what is its parent's."""
    handler = """
import os, signal, time
from mod_python import apache

apache.register_cleanup(apache.log_error, "NOTE cleanup")

def handler(req):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, b"forked")
        time.sleep(60)
        os._exit(0)
    assert os.read(reading, 6) == b"forked"
    os.close(reading)
    os.close(writing)
    os.kill(pid, signal.SIGTERM)
    status = os.waitpid(pid, 0)[1]
    req.write(f"{os.WIFSIGNALED(status)} {os.WTERMSIG(status)}")
    return apache.OK
"""
    server = httpd("SetHandler mod_python\nPythonHandler ${SITE}/site.py", files={"site.py": handler}, processes=1)
    before = server.children()
    assert server.get("/").body == b"True %d" % signal.SIGTERM
    assert server.get("/").status == 200
    assert server.children() == before
    assert "NOTE cleanup" not in server.error_log


# Of the nine seconds that httpd gives a child, the handlers have five and the clean-ups three.
@pytest.mark.alone
def test_a_handler_that_hangs_does_not_keep_the_child(httpd: Httpd) -> None:
    server = httpd(CONFIG, files=FILES, listen=2, **WORKERS)
    server.allow("on purpose")

    def ask(sock: socket.socket) -> None:
        sock.sendall(b"GET /sub?sleep HTTP/1.1\r\nHost: localhost\r\n\r\n")

    with server.connect() as one, server.connect() as other:
        ask(one)
        ask(other)
        server.wait_until(lambda: notes(server).count("sleeping sub") == 2)
        server.stop()
    # Not killed by httpd's parent (AH00046 would be reported as a crash).
    if THREADED:
        assert "2 thread(s) still run Python" in server.error_log
        assert [note for note in notes(server) if "sleeping" not in note] == [
            "first-cleanup sub",
            "cleanup sub",
            "atexit sub",
        ]


def test_a_restart_that_is_not_graceful(httpd: Httpd) -> None:
    server = httpd(CONFIG, files=FILES, listen=2, **WORKERS)
    server.allow("on purpose")
    with server.connect(1) as sock:
        sock.sendall(b"line\n")
        assert sock.recv(100) == b"line\n"
        asleep(server)
        before = set(server.children())
        server.signal(signal.SIGHUP)
        server.wait_until(lambda: server.children() and not before & set(server.children()))
    assert server.get("/").body == b"answer"
    quiet(server)
    assert "atexit main_interpreter" in notes(server)


def test_many_clients_at_the_moment_of_a_restart(httpd: Httpd) -> None:
    """New connections right at the restart wait in the kernel's queue; none is refused."""
    server = httpd(CONFIG + PLACES, files=FILES, listen=2, **WORKERS)
    server.allow("on purpose")
    server.get("/")

    def client(number: int, together: Callable[[], object]) -> object:
        together()
        if number == 0:
            server.signal(signal.SIGUSR1)
            return (200, b"answer")
        time.sleep(number / 1000)  # spread over the restart
        with server.connect() as sock:
            return http(sock)

    assert at_once(60, client) == [(200, b"answer")] * 60
    quiet(server)
