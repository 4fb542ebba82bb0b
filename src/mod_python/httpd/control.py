"""An httpd that runs on its own, in the background: start it, stop it, tell how it is.

It is known by its configuration file.  Its process id is in the file that the configuration names
(`PidFile`), but that may be left from a run that crashed, and its number may have been given to another
process since; so a process counts only if it is an httpd, and one of this configuration.  Every local user can name a
process so that it looks like one.  So it has to be a process of root, of the user who asks or of the owner of the
configuration, and the program that it runs has to be an httpd; a pid file counts only if it belongs to one of them.

Signals are sent directly, not with ``httpd -k``, which would refuse to stop a server whose configuration
has become broken.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mod_python.httpd.errors import ConfigError, HttpdError, NotRunningError, StartError
from mod_python.httpd.exposed import DUMP, Exposed, exposed_sources
from mod_python.httpd.find import Httpd
from mod_python.httpd.process import (
    START_TIMEOUT,
    ask_httpd,
    bind_failure,
    children_of,
    describe_status,
    one_line,
    process_fields,
    session_members,
)

__all__ = ["Background", "Facts", "listening", "uptime"]

#: Seconds after which a graceful stop becomes a plain one.
GRACE = 15.0

# Seconds for a plain stop: httpd itself gives its children ten, and then kills them.
_TERM_TIMEOUT = 20.0
_KILL_TIMEOUT = 5.0

# Seconds after a restart in which the first new children certainly appear.
_SETTLED = 3.0

# Seconds between two looks.
_POLL = 0.02

# How much of the error log is looked at for the cause of a failure, in bytes.
_LOG_LIMIT = 256 * 1024

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h

_SERIOUS = re.compile(r"\[[\w-]*:(emerg|alert|crit|error)\]")
# Notices, which httpd logs at any LogLevel: of event and worker, of prefork, of both.
_RESTARTING = ("SIGUSR1 received", "Graceful restart requested", "SIGHUP received")
_RESUMED = "resuming normal operations"
_LOG_HEAD = re.compile(r"^(\[[^\]]*\] )+")


@dataclass(frozen=True, slots=True)
class Facts:
    """What httpd says about a configuration.

    Attributes:
        root: ``ServerRoot``.
        pid_file: ``PidFile``.
        error_log: The main ``ErrorLog``, or None if it is no file.
        user: Name of the children's user.
        exposed: Sources that can be downloaded.
    """

    root: Path
    pid_file: Path
    error_log: Path | None
    user: str
    exposed: tuple[Exposed, ...] = ()


class Background:
    """The httpd of one configuration file.

    Args:
        httpd: The program to run.
        config: The configuration file.
    """

    def __init__(self, httpd: Httpd, config: Path) -> None:
        self.httpd = httpd
        self.config = Path(os.path.abspath(config))

    @cached_property
    def facts(self) -> Facts:
        """What the configuration says; read once.

        Raises:
            ConfigError: It is broken; the message names file and line.
        """
        return self.check()

    def check(self) -> Facts:
        """Have httpd read the configuration now.

        Raises:
            ConfigError: It is broken; the message names file and line.
        """
        said = ask_httpd(self.httpd, [*self._command, "-t", "-D", "DUMP_RUN_CFG", *DUMP])
        root = Path(_value(said, "ServerRoot") or "/")
        log = _value(said, "Main ErrorLog")
        user = re.search(r'^User: name="([^"]*)"', said, re.MULTILINE)
        return Facts(
            root=root,
            pid_file=root / (_value(said, "PidFile") or "logs/httpd.pid"),
            error_log=root / log if log and not log.startswith(("|", "syslog")) else None,
            user=user[1] if user is not None else "",
            exposed=tuple(exposed_sources(said)),
        )

    @property
    def _command(self) -> list[str]:
        return [str(self.httpd.binary), "-f", str(self.config)]

    # ---- is it there?

    def pid(self) -> int | None:
        """Return the process id of the running httpd's parent process, or None.

        The configuration need not be in order for this, and the pid file need not be there, if the system
        tells about processes (Linux).
        """
        with contextlib.suppress(ConfigError):
            number = self.noted_pid()
            if number is not None and self._is_ours(number, named=False):
                return number
        ours = [pid for pid in _all_processes() if self._is_ours(pid, named=True)]
        for pid in ours:
            fields = process_fields(pid)
            if fields and int(fields[1]) not in ours:
                return pid
        return None

    def noted_pid(self) -> int | None:
        """Return what the pid file says, or None if there is none.

        Raises:
            ConfigError: The configuration, which names the file, is broken.
        """
        try:
            with self.facts.pid_file.open("rb") as file:
                if os.fstat(file.fileno()).st_uid not in self._trusted:
                    return None
                return int(file.read(64))
        except (OSError, ValueError):
            return None

    @property
    def _trusted(self) -> set[int]:
        """Whose processes and pid files count: nobody else could have started this httpd for us."""
        users = {0, os.geteuid()}
        with contextlib.suppress(OSError):
            users.add(self.config.stat().st_uid)
        return users

    def _is_ours(self, pid: int, named: bool) -> bool:
        """Tell whether a process is an httpd of this configuration; `named`: surely so, by its command line."""
        if pid <= 0:
            return False
        users = _users_of(pid)
        if users is not None and not users <= self._trusted:
            return False
        if users is not None and not self._runs_httpd(pid, named):
            return False
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="surrogateescape").split("\0")
        except OSError:
            return not named and not Path("/proc/self").exists() and _alive(pid)
        if os.path.basename(words[0]) not in (self.httpd.binary.name, "httpd", "apache2") or "-t" in words:
            return False
        if "-f" not in words[:-1]:
            # Started by other means. A number that was given away again is of a younger process.
            return not named and self._wrote_pid_file(pid)
        return os.path.realpath(words[words.index("-f") + 1]) == os.path.realpath(self.config)

    def _runs_httpd(self, pid: int, named: bool) -> bool:
        """Tell whether the program of a process is an httpd, whatever it calls itself."""
        link = f"/proc/{pid}/exe"
        try:
            program = os.readlink(link)
        except PermissionError:
            # Root's, and we are not root: we have to believe the pid file.
            return not named
        except OSError:
            return False
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(link), self.httpd.binary.stat()):
                return True
        # Another httpd than the one that would be started now, or one whose file was replaced.
        return os.path.basename(program.removesuffix(" (deleted)")) in (self.httpd.binary.name, "httpd", "apache2")

    def _wrote_pid_file(self, pid: int) -> bool:
        age = uptime(pid)
        with contextlib.suppress(OSError):
            return age is None or time.time() - age < self.facts.pid_file.stat().st_mtime + 1.0
        return False

    # ---- start

    def start(self, timeout: float = START_TIMEOUT) -> int:
        """Start it in the background, and wait until it listens.

        Args:
            timeout: Seconds.

        Returns:
            Its process id.

        Raises:
            AddressInUseError: Another program listens where it should.
            ConfigError: The configuration is broken.
            OSError: A pid file that was left from a crash cannot be removed.
            StartError: It ended, or did not come up in time.
        """
        log = _Log(self.facts.error_log)
        if self.pid() is None:
            # Left from a crash. httpd would take any process of that number for itself, and not start.
            with contextlib.suppress(FileNotFoundError):
                self.facts.pid_file.unlink()
        with _adoption() as adopting, tempfile.TemporaryFile() as output:
            before = children_of(os.getpid())
            try:
                done = subprocess.run(
                    [*self._command, "-k", "start"],
                    env=self.httpd.environ(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    timeout=timeout,
                    check=False,
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise StartError(f"{self.httpd.binary}: cannot be started: {error}") from error
            output.seek(0)
            said = output.read(_LOG_LIMIT).decode(errors="backslashreplace").splitlines()
            if done.returncode != 0:
                raise self._failure(said, log, describe_status(done.returncode))
            deadline = time.monotonic() + timeout
            while True:
                living = [pid for pid in children_of(os.getpid()) if pid not in before] if adopting else []
                pid = self.noted_pid()
                there = pid is not None and self._is_ours(pid, named=False)
                # It notes its number before it can take signals, and has children only afterwards.
                if pid is not None and there and (not adopting or (pid in living and children_of(pid))):
                    return pid
                if adopting and not living:
                    raise self._failure(said, log, "no message")
                if time.monotonic() > deadline:
                    raise StartError(f"httpd was not ready after {timeout:g} seconds; see the error log")
                time.sleep(_POLL)

    def _failure(self, said: list[str], log: _Log, otherwise: str) -> HttpdError:
        """Make one line of what httpd said at the terminal and in its log."""
        written = log.lines()
        taken = bind_failure([*said, *written])
        if taken is not None:
            return type(taken)(f"{taken}; stop that program, or change Listen in {self.config}")
        serious = [_LOG_HEAD.sub("", line) for line in written if _SERIOUS.search(line)]
        # Python's errors come first; that the configuration failed follows from them.
        cause = (serious or [one_line("\n".join(said)) or otherwise])[0]
        where = f"; see {log.path}" if serious else ""
        return StartError(f"httpd ended at start: {cause}{where}")

    # ---- restart

    def restart(self, now: bool = False, timeout: float = START_TIMEOUT) -> int:
        """Have it read its configuration again and replace its children, and wait until new ones are there.

        Args:
            now: End the connections being served; else they are finished by the old children.
            timeout: Seconds.

        Returns:
            Its process id.

        Raises:
            ConfigError: The configuration is broken; httpd goes on as it was.
            NotRunningError: It is not running.
            StartError: It ended, or no new child appeared.
        """
        pid = self.pid()
        if pid is None:
            raise NotRunningError(f"httpd is not running with {self.config}; start it: mod_python start {self.config}")
        birth = _birth(pid)
        log = _Log(self.check().error_log)
        old = set(children_of(pid))
        _signal(pid, signal.SIGHUP if now else signal.SIGUSR1, birth)

        def obeyed() -> bool:
            if not _alive(pid, birth):
                raise self._failure([], log, "no message")
            return log.has(*_RESTARTING)

        def renewed() -> bool:
            if not _alive(pid, birth):
                raise self._failure([], log, "no message")
            children = children_of(pid)
            if not children or not log.has(_RESUMED):
                return False
            return not old.issuperset(children) or time.monotonic() > settled

        deadline = time.monotonic() + timeout
        done = _wait(obeyed, timeout)
        if not now:
            # httpd takes notice within a second, and may have started children of the old kind until then.
            old.update(children_of(pid))
        # It may be another second without any children; clients wait in the kernel's queue meanwhile. That
        # new ones were there already when we looked is unlikely, but would have us wait for more in vain.
        settled = time.monotonic() + _SETTLED
        if not (done and _wait(renewed, deadline - time.monotonic())):
            raise StartError(f"no new child process appeared in {timeout:g} seconds; see the error log")
        return pid

    # ---- stop

    def stop(self, now: bool = False, grace: float = GRACE) -> str:
        """Stop it, and wait until all its processes are gone.

        Args:
            now: End the connections being served at once.
            grace: Seconds that they may take else.

        Returns:
            How it went: ``"stopped"``, ``"ended"`` (connections were cut off after `grace`) or ``"killed"``.

        Raises:
            NotRunningError: It is not running.
            HttpdError: It is not ours to stop, or cannot be ended.
        """
        pid = self.pid()
        if pid is None:
            raise NotRunningError(f"httpd is not running with {self.config}")
        birth = _birth(pid)

        def members() -> list[int]:
            # The number of a session is given away again only when nobody is left in it.
            return session_members(pid) if _birth(pid) in (birth, None) else []

        def gone() -> bool:
            return not _alive(pid, birth) and not members()

        if not now:
            _signal(pid, signal.SIGWINCH, birth)
            if _wait(gone, grace):
                return "stopped"
        _signal(pid, signal.SIGTERM, birth)
        if _wait(gone, _TERM_TIMEOUT):
            return "stopped" if now else "ended"
        births = {member: _birth(member) for member in members()}
        for member, member_birth in {pid: birth, **births}.items():
            _signal(member, signal.SIGKILL, member_birth)
        if _wait(gone, _KILL_TIMEOUT):
            return "killed"
        raise HttpdError(f"process {pid} cannot be ended")


def uptime(pid: int) -> float | None:
    """Return for how many seconds a process has been running, or None if that cannot be told."""
    birth = _birth(pid)
    return max(0.0, _since_boot() - birth) if birth is not None else None


def _birth(pid: int) -> float | None:
    """When a process began, in seconds since the machine was started; None if that cannot be told."""
    fields = process_fields(pid)
    return int(fields[19]) / os.sysconf("SC_CLK_TCK") if fields else None


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


def listening(pid: int) -> list[str]:
    """Return the TCP addresses on which a process listens, as ``HOST:PORT``; empty if that cannot be told."""
    inodes = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry.path))
                if found is not None:
                    inodes.add(found[1])
    addresses = []
    for name in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:  # TCP_LISTEN
                addresses.append(_address(fields[1]))
    return addresses


def _address(text: str) -> str:
    """Turn the kernel's ``0100007F:1F90`` into ``127.0.0.1:8080``."""
    import ipaddress

    host, port = text.split(":")
    words = [bytes.fromhex(host[start : start + 8]) for start in range(0, len(host), 8)]
    packed = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    address = ipaddress.ip_address(packed)
    shown = "*" if int(address) == 0 else f"[{address}]" if address.version == 6 else str(address)
    return f"{shown}:{int(port, 16)}"


class _Log:
    """What is added to the error log from now on."""

    def __init__(self, path: Path | None) -> None:
        if path is not None and (
            path.parts[:2] in (("/", "dev"), ("/", "proc")) or (path.exists() and not path.is_file())
        ):
            path = None  # a terminal or pipe, which has no past
        self.path = path
        self._start = self._looked = self._size()

    def _size(self) -> int:
        try:
            return self.path.stat().st_size if self.path is not None else 0
        except OSError:
            return 0

    def has(self, *texts: str) -> bool:
        """Tell whether one of some texts stands in it; also if there is no file to look into.

        Where it was found, the next search begins.
        """
        if self.path is None:
            return True
        wanted, rest = [text.encode() for text in texts], b""
        try:
            with self.path.open("rb") as file:
                file.seek(self._looked)
                while data := file.read(_LOG_LIMIT):
                    rest += data
                    places = [place for text in wanted if (place := rest.find(text)) >= 0]
                    if places:
                        self._looked = file.tell() - len(rest) + min(places)
                        return True
                    rest = rest[-max(map(len, wanted)) :]  # it may be cut in two just here
                self._looked = file.tell() - len(rest)
        except OSError:
            pass
        return False

    def lines(self) -> list[str]:
        """Return the lines."""
        if self.path is None:
            return []
        try:
            with self.path.open("rb") as file:
                file.seek(min(self._start, self._size()))
                return file.read(_LOG_LIMIT).decode(errors="backslashreplace").splitlines()
        except OSError:
            return []


def _value(text: str, name: str) -> str:
    found = re.search(rf'^{name}: "(.*)"$', text, re.MULTILINE)
    return found[1] if found is not None else ""


def _all_processes() -> list[int]:
    try:
        return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())
    except OSError:
        return []


def _users_of(pid: int) -> set[int] | None:
    """Return the users of a process, real and effective; None where the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return None if not Path("/proc/self").exists() else {-1}
    found = re.search(r"^Uid:\s+([\d\s]+)$", text, re.MULTILINE)
    return set(map(int, found[1].split())) if found is not None else {-1}


def _alive(pid: int, birth: float | None = None) -> bool:
    """Tell whether a process is there; and if it is told when it began, whether it is still the same one."""
    fields = process_fields(pid)
    if fields:
        return fields[0] not in ("Z", "X") and birth in (None, _birth(pid))
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _signal(pid: int, number: signal.Signals, birth: float | None) -> None:
    """Send a signal to the process that began then, and to no other that has its number now."""
    try:
        if birth is None or not hasattr(os, "pidfd_open"):
            os.kill(pid, number)
            return
        # Opened first: from then on it stands for one process, whichever.
        handle = os.pidfd_open(pid)
        try:
            if _birth(pid) == birth:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)
    except ProcessLookupError:
        pass
    except PermissionError as error:
        raise HttpdError(f"process {pid} belongs to another user; run this as that user, or with sudo") from error


def _wait(condition: Callable[[], bool], timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL)
    return True


@contextlib.contextmanager
def _adoption() -> Iterator[bool]:
    """Have processes that put themselves into the background become our children meanwhile.

    httpd does so before it has read its configuration for the second time, and its exit status has been
    given away by then; its end could not be told from a slow start otherwise.

    Yields:
        Whether that is so (Linux).
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform.startswith("linux") else None
    if prctl is None or prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        yield False
        return
    try:
        yield True
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
