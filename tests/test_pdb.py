"""PythonEnablePdb: handlers under pdb, on the terminal that httpd was started from."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mod_python.testing import Server
from mod_python.testing.client import request
from tests.serving import COMMAND, TIMEOUT, environment, free_port

Httpd = Callable[..., Server]

HANDLERS = """
from mod_python import apache

def handler(req):
    answer = "unchanged"
    req.write(answer)
    return apache.OK

def forgiving(req):
    try:
        answer = "unchanged"
        req.user_of_pdb = answer
    except Exception:
        pass
    return apache.OK

def plain(req):
    req.write("plain")
    return apache.OK

def connectionhandler(conn):
    reply = b"unchanged"
    conn.write(reply)
    return apache.OK
"""

CONFIG = """
PythonPath "sys.path + ['{site}']"
PythonEnablePdb On
SetHandler mod_python
PythonHandler debugged
<Location /forgiving>
    PythonHandler debugged::forgiving
</Location>
<Location /off>
    PythonEnablePdb Off
    PythonHandler debugged::plain
</Location>
<Location /sub>
    PythonInterpreter sub
</Location>
Listen 127.0.0.1:{port}
Listen 127.0.0.1:{wire}
<VirtualHost 127.0.0.1:{wire}>
    PythonConnectionHandler debugged
</VirtualHost>
"""


class Terminal:
    """``mod_python serve --debug`` on a pseudo-terminal."""

    def __init__(self, directory: Path, stdin: bool = True) -> None:
        self.port, self.wire = free_port(), free_port()
        (directory / "debugged.py").write_text(HANDLERS)
        config = directory / "pdb.conf"
        config.write_text(CONFIG.format(site=directory, port=self.port, wire=self.wire))
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [COMMAND, "serve", str(config), "--debug"],
            cwd=directory,
            env={**environment(), "TERM": "dumb", "NO_COLOR": "1"},
            stdin=slave if stdin else subprocess.DEVNULL,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.text = ""
        self.seen = 0

    def expect(self, pattern: str) -> re.Match[str]:
        """Wait until a pattern appears after what was expected before."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            match = re.compile(pattern, re.DOTALL).search(self.text, self.seen)
            if match is not None:
                self.seen = match.end()
                return match
            ready, _, _ = select.select([self.master], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"{pattern!r} did not appear in:\n{self.text}"
            try:
                self.text += os.read(self.master, 65536).decode(errors="replace").replace("\r\n", "\n")
            except OSError:
                raise AssertionError(f"it ended before {pattern!r} appeared:\n{self.text}") from None

    def type(self, line: str) -> None:
        """Type a line at pdb's prompt."""
        self.expect(r"\(Pdb\) ")
        os.write(self.master, line.encode() + b"\n")

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                # Its last words must have somewhere to go.
                deadline = time.monotonic() + TIMEOUT
                while self.process.poll() is None and time.monotonic() < deadline:
                    if select.select([self.master], [], [], 0.05)[0]:
                        try:
                            self.text += os.read(self.master, 65536).decode(errors="replace")
                        except OSError:
                            break
                self.process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        os.close(self.master)


@contextmanager
def terminal(directory: Path, stdin: bool = True) -> Iterator[Terminal]:
    found = Terminal(directory, stdin)
    try:
        found.expect("Ctrl-C stops")
        yield found
    finally:
        found.end()


class Client(threading.Thread):
    """A client that waits for its answer while the debugger is talked to."""

    def __init__(self, port: int, target: str | None) -> None:
        super().__init__(daemon=True)
        self.port, self.target = port, target
        self.status, self.text = 0, ""
        self.start()

    def run(self) -> None:
        import socket

        sock = socket.create_connection(("127.0.0.1", self.port), TIMEOUT)
        if self.target is None:
            with sock:
                self.text = b"".join(iter(lambda: sock.recv(4096), b"")).decode()
            return
        response = request(sock, "GET", self.target, ("127.0.0.1", self.port), None, None)
        self.status, self.text = response.status, response.text

    def answer(self) -> tuple[int, str]:
        self.join(TIMEOUT)
        assert not self.is_alive()
        return self.status, self.text


@pytest.mark.parametrize("target", ["/", "/sub"], ids=["main", "sub-interpreter"])
def test_stepping_through_a_handler(public_path: Path, target: str) -> None:
    with terminal(public_path) as term:
        client = Client(term.port, target)
        term.expect(r"debugged\.py\(\d+\)handler\(\)")
        term.type("next")
        term.expect(r"-> req\.write\(answer\)")
        term.type("answer = 'changed'")
        term.type("print('seen:', answer, req.uri)")
        term.expect(rf"seen: changed {target}\n")
        term.type("continue")
        assert client.answer() == (200, "changed")
        # Once more: the debugger of the last request is gone.
        client = Client(term.port, target)
        term.type("continue")
        assert client.answer() == (200, "unchanged")


@pytest.mark.parametrize("target", ["/", "/forgiving"])
def test_quit_aborts_the_handler_with_an_error(public_path: Path, target: str) -> None:
    with terminal(public_path) as term:
        client = Client(term.port, target)
        term.type("next")
        term.type("quit")
        status, text = client.answer()
        assert status == 500
        assert "BdbQuit" in text
        term.expect("BdbQuit: the debugger was left with 'quit'")
        client = Client(term.port, "/off")
        assert client.answer() == (200, "plain")


def test_connection_handlers(public_path: Path) -> None:
    with terminal(public_path) as term:
        client = Client(term.wire, None)
        term.type("next")
        term.type("reply = b'changed'")
        term.type("continue")
        assert client.answer()[1] == "changed"
        client = Client(term.wire, None)
        term.type("quit")
        assert client.answer()[1] == ""
        term.expect("BdbQuit")


def test_two_requests_take_turns(public_path: Path) -> None:
    if os.environ.get("MOD_PYTHON_TEST_MPM") == "prefork":
        pytest.skip("one process of prefork serves one client at a time anyway")
    with terminal(public_path) as term:
        clients = [Client(term.port, "/?1"), Client(term.port, "/?2")]
        for number in range(2):
            term.type(f"print('turn {number}', req.args)")
            term.expect(rf"turn {number} [12]\n")
            term.type("continue")
        assert [client.answer() for client in clients] == [(200, "unchanged")] * 2


def test_without_a_terminal_the_handler_is_aborted(public_path: Path) -> None:
    with terminal(public_path, stdin=False) as term:
        status, text = Client(term.port, "/").answer()
        assert status == 500
        assert "BdbQuit" in text


def test_ignored_in_an_ordinary_server(httpd: Httpd) -> None:
    server = httpd("PythonEnablePdb On", handler=HANDLERS.partition("def connectionhandler")[0])
    assert server.get("/").text == "unchanged"
