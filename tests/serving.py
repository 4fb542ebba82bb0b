"""Running the command ``mod_python`` in tests."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

from mod_python.httpd.process import children_of, session_members
from mod_python.testing import client

COMMAND = str(Path(sys.executable).parent / "mod_python")

#: Seconds to wait for anything; far more than it takes.
TIMEOUT = 60.0


def environment(tmp: Path | None = None) -> dict[str, str]:
    """Return the environment for a command: this one's, less what would change its options."""
    ours = ("MOD_PYTHON_SERVE_", "MOD_PYTHON_CREATE_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    mpm = env.get("MOD_PYTHON_TEST_MPM")
    if mpm:
        env["MOD_PYTHON_SERVE_MPM"] = env["MOD_PYTHON_CREATE_MPM"] = mpm
    if tmp is not None:
        env["TMPDIR"] = str(tmp)
    return env


#: Ports that no client is given as its own: the kernel takes those from 32768 on, and what
#: it says is free now may be a client's a moment later.
_PORTS = range(20000, 32000)

#: UDP sockets on the ports that `free_port` has returned, the newest last: tests in other processes see by them
#: that a port is taken, also before anything listens there. No test outlives as many.
_reserved: deque[socket.socket] = deque()
_RESERVED = 100


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free, and that no other test has got, in whatever process it runs."""
    while True:
        port = random.SystemRandom().choice(_PORTS)
        reservation = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            reservation.bind(("127.0.0.1", port))
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        _reserved.append(reservation)
        while len(_reserved) > _RESERVED:
            _reserved.popleft().close()
        return port


class Running:
    """One running ``mod_python serve``."""

    def __init__(self, arguments: list[str], directory: Path, env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [COMMAND, "serve", *arguments],
            cwd=directory,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.append(line)

    @property
    def output(self) -> str:
        """Standard error so far."""
        return "".join(self._lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until standard error contains a pattern."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            ended = self.process.poll() is not None and not self._reader.is_alive()
            match = re.search(pattern, self.output, re.MULTILINE)
            if match is not None:
                return match
            if ended or time.monotonic() > deadline:
                raise AssertionError(f"{pattern!r} did not appear in:\n{self.output}")
            time.sleep(0.01)

    def wait_ready(self) -> None:
        """Wait for the end of the banner."""
        self.wait_for(r"^Ctrl-C stops")

    @property
    def httpd(self) -> int:
        """Process id of httpd's parent process."""
        pids = children_of(self.process.pid)
        assert len(pids) == 1, pids
        return pids[0]

    @property
    def children(self) -> list[int]:
        """Process ids of httpd's children."""
        return children_of(self.httpd)

    def wait(self) -> int:
        """Wait for the end; return the exit status."""
        status = self.process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        return status

    def interrupt(self) -> int:
        """Press Ctrl-C, and wait for the end; return the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()

    def end(self) -> None:
        """Make sure that nothing of it is left."""
        pids = children_of(self.process.pid) if self.process.poll() is None else []
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for session in pids:
            for pid in session_members(session):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._reader.join(TIMEOUT)


class Serve:
    """Starts ``mod_python serve`` in a directory of its own.

    Attributes:
        directory: The working directory; `write` puts files there.
        tmp: What the command takes as directory for temporary files.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "work"
        self.tmp = directory / "tmp"
        for path in (self.directory, self.tmp):
            path.mkdir()
        self._running: list[Running] = []

    def write(self, name: str, text: str) -> Path:
        """Write a file into the working directory, in one step."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(path.name + ".new")
        new.write_text(text)
        new.replace(path)
        return path

    def start(self, *arguments: str, ready: bool = True, **env: str) -> Running:
        """Start it, and wait until it is ready.

        Args:
            *arguments: Of ``serve``.
            ready: Whether to wait.
            **env: More variables for its environment.
        """
        running = Running(list(arguments), self.directory, {**environment(self.tmp), **env})
        self._running.append(running)
        if ready:
            running.wait_ready()
        return running

    def fail(self, *arguments: str) -> tuple[int, str]:
        """Run it where it must fail; return exit status and standard error."""
        done = command("serve", *arguments, directory=self.directory, env=environment(self.tmp))
        assert done.returncode != 0, done.stderr
        return done.returncode, done.stderr

    def end(self) -> None:
        """End whatever still runs."""
        for running in self._running:
            running.end()


def command(
    *arguments: str, directory: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``mod_python`` to its end."""
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=directory,
        env=env if env is not None else environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * TIMEOUT,
        check=False,
    )


def get(port: int, path: str = "/") -> client.Response:
    """Make one GET request."""
    return client.request(client.connect("127.0.0.1", port), "GET", path, ("127.0.0.1", port))


def echo(port: int, line: bytes = b"hi\n") -> bytes:
    """Send a line, and return the line that comes back."""
    with client.connect("127.0.0.1", port) as sock, sock.makefile("rb") as file:
        sock.sendall(line)
        return file.readline()


def alive(pid: int) -> bool:
    """Tell whether a process lives (and is no zombie)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
