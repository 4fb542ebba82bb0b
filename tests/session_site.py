"""Servers for the tests of sessions: a directory for the stores, a Redis server, and a browser's memory for cookies."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

from mod_python.httpd.users import find_user
from mod_python.testing import Response, Server
from tests.servers import running
from tests.serving import free_port

#: Seconds to wait for anything; far more than it takes.
TIMEOUT = 60.0

HEAD = """
import os, sys, threading, time
from mod_python import Cookie, Session, apache
"""

TAIL = """
def handler(req):
    return globals()[req.uri.rpartition("/")[2]](req) or apache.OK
"""

CONFIG = """
SetHandler mod_python
PythonHandler ${SITE}/handlers.py
PythonOption mod_python.session.database_directory "${SESSIONS}"
"""

STORES = ("DbmSession", "FileSession", "SQLiteSession", "RedisSession")


@contextmanager
def store_directory() -> Iterator[Path]:
    """Make a directory that belongs to the user of httpd's children."""
    path = Path(tempfile.mkdtemp(prefix="mod_python-sessions-")).resolve()
    user = find_user()
    if user is not None:
        os.chown(path, user.uid, user.gid)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def site(handlers: str, config: str = "", directory: Path | None = None, **arguments: Any) -> Iterator[Server]:
    """Run a server whose handlers are the functions of a source text; the last part of the path chooses.

    Args:
        handlers: The functions; `HEAD` goes before them.
        config: More configuration.
        directory: Where the stores are; None for a new directory.
        **arguments: As for `Server`.
    """
    files = {"handlers.py": HEAD + handlers + TAIL, **arguments.pop("files", {})}
    if directory is not None:
        with running(CONFIG + config, files=files, defines={"SESSIONS": str(directory)}, **arguments) as server:
            yield server
        return
    with store_directory() as path, site(handlers, config, path, **arguments, files=files) as server:
        yield server


class Redis:
    """A Redis server of one's own."""

    def __init__(self) -> None:
        self.port = free_port()
        self._directory = tempfile.mkdtemp(prefix="mod_python-redis-")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """How clients name it."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def option(self) -> str:
        """The lines of a configuration that name it."""
        return (
            "PythonOption mod_python.session.session_type RedisSession\n"
            f"PythonOption mod_python.redis_session.url {self.url}\n"
        )

    def start(self) -> None:
        """Start it, again if need be, and wait until it answers."""
        self._process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._directory, "--save", ""],
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + TIMEOUT
        while self.ask(b"PING\r\n") != b"+PONG\r\n":
            assert self._process.poll() is None, "redis-server has ended"
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.01)

    def ask(self, command: bytes) -> bytes:
        """Send a command and return the first bytes of the answer; nothing if there is no server."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), TIMEOUT) as sock:
                sock.sendall(command)
                return sock.recv(65536)
        except OSError:
            return b""

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """Stop it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def remove(self) -> None:
        """Stop it and remove its directory."""
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)


@contextmanager
def redis_server() -> Iterator[Redis]:
    """Run a Redis server on a free port."""
    server = Redis()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@dataclass
class Browser:
    """A client that sends back the cookies it got.

    Attributes:
        server: The server.
        cookies: Name → value.
        last: The response of the last request.
    """

    server: Server
    cookies: dict[str, str] = field(default_factory=dict)
    last: Response | None = None

    def get(self, target: str, headers: dict[str, str] | None = None, status: int = 200, index: int = 0) -> str:
        """Make a request; return the text of the response."""
        sent = {**(headers or {})}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        self.last = response = self.server.get(target, sent, index=index)
        assert response.status == status, (response.status, response.text, self.server.error_log[-2000:])
        for text in response.headers.get_all("Set-Cookie") or ():
            for name, morsel in SimpleCookie(text).items():
                self.cookies[name] = morsel.value
        return response.text

    def set_cookies(self) -> Sequence[str]:
        """The ``Set-Cookie`` fields of the last response."""
        assert self.last is not None
        return self.last.headers.get_all("Set-Cookie") or []
