"""Running a private httpd in the foreground: check, start, wait, restart, stop.

httpd gets a session of its own. So a Ctrl-C on the terminal reaches only the
program that started it, which then decides; and whatever is left of it at the end,
children that hang included, is found by its session and ended.

It counts as started when it has written its process id: httpd does that after it has
bound its ports, so from then on a client's connection is accepted or waits in the
kernel's queue. Connecting, the usual probe, would run a connection handler.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

from mod_python.httpd.config import Address, Settings
from mod_python.httpd.errors import AddressInUseError, ConfigError, StartError
from mod_python.httpd.exposed import DUMP
from mod_python.httpd.find import Httpd

__all__ = [
    "HttpdProcess",
    "ask_httpd",
    "bind_failure",
    "check_addresses",
    "check_config",
    "children_of",
    "describe_status",
    "one_line",
    "process_fields",
    "session_members",
]

#: Seconds httpd may take to read its configuration and bind its ports.
START_TIMEOUT = 30.0

#: Seconds from the request to stop until what is left is killed. httpd itself gives its
#: children about this long before it kills them.
STOP_TIMEOUT = 10.0

#: Seconds ``httpd -t`` may take.
_CHECK_TIMEOUT = 30.0

#: Seconds that processes may take to go once they were killed.
_KILL_TIMEOUT = 5.0

#: Seconds between two looks at a condition that nothing announces.
_POLL = 0.01

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class HttpdProcess:
    """One httpd, from its start to its end.

    Args:
        settings: The settings its configuration was written from.
        one_process: Run parent and child as one process (``httpd -X``), for debuggers.
        stderr: Where its standard error goes: a file, or ``subprocess.PIPE``.
        die_with_parent: Have the kernel stop httpd if this process is killed (Linux; only
            when started from the main thread, since the death of a thread counts).
    """

    def __init__(
        self,
        settings: Settings,
        *,
        one_process: bool = False,
        stderr: int | IO[Any] | None = None,
        die_with_parent: bool = True,
    ) -> None:
        self.settings = settings
        self.one_process = one_process
        self._stderr = stderr
        self._die_with_parent = die_with_parent
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of httpd's parent process (0 before the start)."""
        return self._process.pid if self._process is not None else 0

    @property
    def stderr(self) -> IO[bytes] | None:
        """The reading end, if `stderr` was ``subprocess.PIPE``."""
        return self._process.stderr if self._process is not None else None

    @property
    def returncode(self) -> int | None:
        """Exit status, negative for a signal; None while it runs or before the start."""
        return self._process.poll() if self._process is not None else None

    @property
    def running(self) -> bool:
        """Whether httpd's parent process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start httpd; returns at once.

        Raises:
            StartError: The program could not be run.
        """
        settings = self.settings
        stdout: int | IO[Any] | None = self._stderr
        if stdout is subprocess.PIPE:
            # One process may stop in a debugger, which talks to the terminal.
            stdout = None if self.one_process else subprocess.DEVNULL
        settings.pid_file.unlink(missing_ok=True)
        command = _command(settings)
        command += ["-X"] if self.one_process else ["-DFOREGROUND"]
        try:
            self._process = subprocess.Popen(
                command,
                env=settings.httpd.environ(),
                cwd=settings.root,
                stdin=None if self.one_process else subprocess.DEVNULL,
                stdout=stdout,
                stderr=self._stderr,
                start_new_session=True,
                preexec_fn=_death_signal() if self._die_with_parent else None,
            )
        except OSError as error:
            raise StartError(f"{settings.httpd.binary}: cannot be run: {error.strerror}") from error

    def wait_ready(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until httpd has bound its ports.

        Args:
            timeout: Seconds.

        Raises:
            StartError: It ended instead, or did not get there in time. The caller
                knows where its messages went.
        """
        deadline = time.monotonic() + timeout
        while not self.ready():
            if not self.running:
                raise StartError(f"httpd ended at start with {describe_status(self.returncode)}")
            if time.monotonic() > deadline:
                raise StartError(f"httpd was not ready after {timeout:g} seconds")
            time.sleep(_POLL)

    def ready(self) -> bool:
        """Tell whether httpd has bound its ports (it has written its process id)."""
        try:
            return self.settings.pid_file.read_text().strip() == str(self.pid)
        except OSError:
            return False

    def graceful(self) -> None:
        """Ask for a graceful restart: connections being served are finished.

        The configuration is checked first, because httpd ends when it finds it broken.

        Raises:
            ConfigError: The configuration is broken; httpd goes on as it was.
            StartError: httpd is not running.
        """
        if not self.running:
            raise StartError("httpd is not running")
        check_config(self.settings)
        self.signal(signal.SIGUSR1)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to httpd's parent process, if it still runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self, timeout: float = STOP_TIMEOUT) -> list[int]:
        """Stop httpd and whatever belongs to it.

        Args:
            timeout: Seconds until what is left is killed.

        Returns:
            Process ids of children that had to be killed or outlived their parent; empty
            after a clean stop. The parent itself, if it had to be killed, is among them.
        """
        process = self._process
        if process is None:
            return []
        process.terminate()
        stuck: list[int] = []
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            stuck.append(process.pid)
        stuck += [pid for pid in session_members(process.pid) if pid not in stuck]
        self.kill()
        return stuck

    def kill(self) -> None:
        """End every process of this httpd at once, and wait for the parent."""
        if self._process is None:
            return
        for pid in session_members(self._process.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        # Only the parent is ours to wait for; the others take a moment to go.
        limit = time.monotonic() + _KILL_TIMEOUT
        while session_members(self._process.pid) and time.monotonic() < limit:
            time.sleep(0.005)

    def children(self) -> list[int]:
        """Return the process ids of httpd's children, oldest first."""
        return children_of(self.pid) if self.running else []


def check_config(settings: Settings) -> str:
    """Have httpd read the configuration (``httpd -t``).

    Returns:
        What it has said, with what it has read (`mod_python.httpd.exposed`).

    Raises:
        ConfigError: It is broken; the message is one line that names file and line.
    """
    return ask_httpd(settings.httpd, [*_command(settings), "-t", *DUMP], cwd=settings.root, errors="replace")


def ask_httpd(httpd: Httpd, command: list[str], *, cwd: Path | None = None, errors: str = "surrogateescape") -> str:
    """Have httpd read a configuration, and return what it says.

    Args:
        httpd: Which one.
        command: To run it, with ``-t``.
        cwd: Where.
        errors: How what is no UTF-8 in its answer is decoded.

    Raises:
        ConfigError: It failed; the message is one line that names file and line.
    """
    try:
        done = subprocess.run(
            command,
            env=httpd.environ(),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors=errors,
            timeout=_CHECK_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{httpd.binary} -t failed: {error}") from error
    if done.returncode != 0:
        raise ConfigError(one_line(done.stdout) or f"{httpd.binary} -t: {describe_status(done.returncode)}")
    return done.stdout


def check_addresses(addresses: Iterable[Address]) -> None:
    """Bind each address for a moment, as httpd will.

    Raises:
        AddressInUseError: Another program listens there.
        ConfigError: The address is not this machine's, or not allowed.
    """
    for address in addresses:
        try:
            found = socket.getaddrinfo(
                address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except OSError as error:
            raise ConfigError(f"cannot listen on {address}: {error.strerror}") from error
        family, kind, protocol, _, place = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(place)
                probe.listen(1)
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise AddressInUseError(
                        f"{address} is in use by another program; stop it, or choose another address "
                        "with --listen HOST:PORT"
                    ) from error
                raise ConfigError(f"cannot listen on {address}: {error.strerror}") from error


def session_members(session: int) -> list[int]:
    """Return the living processes of a session (Linux: all; elsewhere: the group's leader).

    Args:
        session: Process id of the session's leader, which may have ended.

    Returns:
        Process ids, ascending; processes that have ended but wait for their parent to
        notice (zombies) are left out.
    """
    members = []
    try:
        entries = os.listdir("/proc")
    except OSError:
        entries = []
    for entry in entries:
        if entry.isdecimal():
            fields = process_fields(int(entry))
            if fields and fields[3] == str(session) and fields[0] not in ("Z", "X"):
                members.append(int(entry))
    if not entries:
        with contextlib.suppress(OSError):
            os.killpg(session, 0)
            members.append(session)
    return sorted(members)


def describe_status(status: int | None) -> str:
    """Say an exit status in words."""
    if status is not None and status < 0:
        return f"signal {signal.Signals(-status).name}"
    return f"exit status {status}"


def bind_failure(lines: Iterable[str]) -> AddressInUseError | ConfigError | None:
    """Look in httpd's messages for an address that it could not listen on.

    Args:
        lines: The messages.

    Returns:
        The error for a person, without a remedy; or None if that was not the cause.
    """
    for line in lines:
        taken = re.search(r"could not bind to address (\S+)", line)
        if taken is not None:
            if "in use" in line or "(98)" in line:
                return AddressInUseError(f"{taken[1]}: cannot listen there: it is in use by another program")
            return ConfigError(f"{taken[1]}: cannot listen there: {line.strip()}")
    return None


def _command(settings: Settings) -> list[str]:
    return [
        str(settings.httpd.binary),
        *("-d", str(settings.root)),
        *("-f", str(settings.config_file)),
    ]


def children_of(parent: int) -> list[int]:
    """Return the living children of a process, oldest first."""
    try:
        entries = [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]
    except OSError:
        done = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False)
        return [int(pid) for pid in done.stdout.split()]
    found = []
    for pid in entries:
        fields = process_fields(pid)
        if fields and fields[1] == str(parent) and fields[0] not in ("Z", "X"):
            found.append((int(fields[19]), pid))
    return [pid for _, pid in sorted(found)]


def process_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat after the command: state, parent, group, session, …; [] if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _death_signal() -> Callable[[], None] | None:
    """Return what the new process calls to be stopped when this one dies.

    Code between fork and exec is unsafe if other threads hold locks it needs; this is
    one system call through a function that has been looked up before.
    """
    if not sys.platform.startswith("linux"):
        return None
    if threading.current_thread() is not threading.main_thread():
        return None
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is None:
        return None

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)

    return ask


def one_line(output: str) -> str:
    """Reduce httpd's complaint to one line: where and what.

    httpd writes "AH00526: Syntax error on line 3 of FILE:" and the reason on the
    next line, or nests several "Syntax error on line" of including files in one.
    """
    lines = [
        line
        for line in output.splitlines()
        if line.strip() and not re.match(r"\[.*:(warn|notice|info)\]|AH00112|AH00558", line)
    ]
    text = " ".join(line.strip() for line in lines)
    places = list(re.finditer(r"Syntax error on line (\d+) of (.+?):(?=\s|$)", text))
    if places:
        last = places[-1]
        return f"{last[2]} line {last[1]}: {text[last.end() :].strip()}"
    return re.sub(r"^AH\d+: ", "", text)
