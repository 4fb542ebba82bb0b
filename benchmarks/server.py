"""Starting and stopping one server: a private httpd on the loopback interface, or a Python program.

All httpds differ in nothing but the contestant: the same program, the same few modules, the same MPM settings, no
access log, connections kept alive without limit. This is why the configuration is written here and not by
``mod_python serve``, which would choose settings of its own.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import procfs
from benchmarks.tools import Tools, UnavailableError

#: Seconds until a server must listen. Prefork with fifty Python children on a busy machine needs several.
START_TIMEOUT = 30.0
#: Seconds that a stopping server gets before it is killed; a hung one must not hold up the run.
STOP_TIMEOUT = 10.0
#: The last lines of an error log that are shown when a server fails.
LOG_LINES = 8

#: The environment of every httpd, whoever calls the benchmark: the modules of Debian's packages find their Python
#: through PATH and would take that of an active virtual environment for theirs.
_HTTPD_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}

#: Users to try for the children when the benchmark runs as root.
CHILD_USERS = ("www-data", "apache", "daemon", "nobody")


@dataclass(frozen=True)
class Sizes:
    """How many workers the servers have.

    Attributes:
        threads: threads of the one child of event and worker. One child, so that several threads share one GIL and
            nothing is won by spreading over processes.
        processes: children of prefork, all started at once, one per connection and a few to spare
    """

    threads: int = 64
    processes: int = 54

    @classmethod
    def for_connections(cls, most: int) -> Sizes:
        """Workers enough for *most* simultaneous connections."""
        return cls(threads=max(64, most + 8), processes=most + 4)


@dataclass(frozen=True)
class HttpdConfig:
    """What distinguishes one contestant's httpd from the others.

    Attributes:
        mpm: ``event``, ``worker`` or ``prefork``
        modules: (name of the module record, path) to load, beside the MPM and what all have
        directives: the contestant's own part of the configuration
        files: contents by path relative to the server root, written before the start
        environment: variables for the httpd process
    """

    mpm: str
    modules: tuple[tuple[str, Path], ...] = ()
    directives: str = ""
    files: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


class Server:
    """A running server.

    Attributes:
        port: the port on 127.0.0.1
        root: its directory, with its log
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], port: int, root: Path, log: Path) -> None:
        self.name = name
        self.process = process
        self.port = port
        self.root = root
        self._log = log

    def log_tail(self) -> str:
        """The end of what the server wrote, for messages about failures."""
        try:
            lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError:
            return "no log"
        return "\n".join(lines[-LOG_LINES:]) or "empty log"

    def pids(self) -> list[int]:
        """All processes of the server, the first one first."""
        return procfs.descendants(self.process.pid)

    def workers(self) -> list[int]:
        """The processes that serve: httpd's children, or the only process."""
        pids = self.pids()
        return pids[1:] or pids

    def wait_until_listening(self) -> None:
        """Waits until the port accepts a connection.

        Raises:
            UnavailableError: the server ended, or does not listen within START_TIMEOUT.
        """
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            if (status := self.process.poll()) is not None:
                raise UnavailableError(f"{self.name} ended at its start with status {status}:\n{self.log_tail()}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            if time.monotonic() > deadline:
                raise UnavailableError(f"{self.name} does not listen after {START_TIMEOUT:.0f} s:\n{self.log_tail()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stops the server, with force if it does not end by itself."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_TIMEOUT)
        # The session was the server's own, so nobody else is in the group; children that hang are ended with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def free_port() -> int:
    """A port on the loopback interface that is free at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def child_user() -> str | None:
    """The user for httpd's children, or None when httpd does not start as root and cannot choose."""
    if os.geteuid() != 0:
        return None
    for name in CHILD_USERS:
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            return name
    raise UnavailableError(
        f"none of the users {', '.join(CHILD_USERS)} exists, and httpd's children must not run as root"
    )


def _mpm_directives(mpm: str, sizes: Sizes) -> list[str]:
    """The same workers for every contestant, all started at once and never replaced."""
    if mpm == "prefork":
        n = sizes.processes
        return [
            f"ServerLimit {n}",
            f"StartServers {n}",
            f"MaxRequestWorkers {n}",
            "MinSpareServers 1",
            f"MaxSpareServers {n}",
            "MaxConnectionsPerChild 0",
        ]
    n = sizes.threads
    return [
        "ServerLimit 1",
        "StartServers 1",
        f"ThreadLimit {n}",
        f"ThreadsPerChild {n}",
        f"MaxRequestWorkers {n}",
        "MinSpareThreads 1",
        f"MaxSpareThreads {n}",
        "MaxConnectionsPerChild 0",
    ]


def _configuration(tools: Tools, config: HttpdConfig, sizes: Sizes, port: int, root: Path) -> str:
    lines = [
        f'ServerRoot "{root}"',
        f'DefaultRuntimeDir "{root}/run"',
        f'PidFile "{root}/run/httpd.pid"',
        f'ErrorLog "{root}/error_log"',
        "LogLevel warn",
        "ServerName localhost",
        f"Listen 127.0.0.1:{port}",
    ]
    wanted = [(f"mpm_{config.mpm}_module", f"mod_mpm_{config.mpm}"), ("authz_core_module", "mod_authz_core")]
    wanted += [("unixd_module", "mod_unixd")]
    for record, name in wanted:
        # An httpd may have been built with some of these inside; the MPMs' sources have no "mod_".
        if not {f"{name}.c", f"{name.removeprefix('mod_mpm_')}.c"} & tools.static_modules:
            lines.append(f'LoadModule {record} "{tools.httpd_module(name)}"')
    lines += [f'LoadModule {record} "{path}"' for record, path in config.modules]
    if user := child_user():
        lines += [f"User {user}", f"Group #{pwd.getpwnam(user).pw_gid}"]
    lines += _mpm_directives(config.mpm, sizes)
    lines += [
        # As in the distributions' configurations: no search for .htaccess files, no check of each directory for links.
        "<Directory />",
        "    Options FollowSymLinks",
        "    AllowOverride None",
        "</Directory>",
        f'DocumentRoot "{root}/htdocs"',
        "KeepAlive On",
        "MaxKeepAliveRequests 0",
        "KeepAliveTimeout 60",
        "Timeout 60",
        "AcceptFilter http none",  # accept() at once in all of them, also where the client would have to speak first
        "GracefulShutdownTimeout 1",
        config.directives,
    ]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def httpd(tools: Tools, name: str, config: HttpdConfig, sizes: Sizes) -> Iterator[Server]:
    """Runs a private httpd while the context lasts.

    Args:
        tools: where httpd and its modules are
        name: for messages
        config: the contestant's part
        sizes: numbers of workers

    Yields:
        The server, listening.

    Raises:
        UnavailableError: it did not start; the message has the end of its log.
    """
    root = tools.directory(name)
    for directory in ("run", "htdocs", "htdocs/app"):
        (root / directory).mkdir(mode=0o755)
    for path, text in config.files.items():
        (root / path).write_text(text, encoding="utf-8")
        (root / path).chmod(0o644)
    port = free_port()
    config_file = root / "httpd.conf"
    config_file.write_text(_configuration(tools, config, sizes, port, root).replace("@ROOT@", str(root)))
    command = [str(tools.httpd), "-DFOREGROUND", "-d", str(root), "-f", str(config_file)]
    environment = {**_HTTPD_ENVIRONMENT, **config.environment}
    if library_path := os.environ.get("LD_LIBRARY_PATH"):
        environment["LD_LIBRARY_PATH"] = library_path
    with _process(name, command, environment, port, root, root / "error_log") as server:
        yield server


@contextlib.contextmanager
def program(tools: Tools, name: str, command: list[str]) -> Iterator[Server]:
    """Runs a Python server while the context lasts.

    Args:
        tools: for the working directory
        name: for messages
        command: the program; ``@PORT@`` stands for the port to listen on

    Yields:
        The server, listening.

    Raises:
        UnavailableError: it did not start; the message has the end of its output.
    """
    root = tools.directory(name)
    port = free_port()
    command = [part.replace("@PORT@", str(port)) for part in command]
    with _process(name, command, dict(os.environ), port, root, root / "output") as server:
        yield server


@contextlib.contextmanager
def _process(
    name: str, command: list[str], environment: dict[str, str], port: int, root: Path, log: Path
) -> Iterator[Server]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    server = Server(name, process, port, root, log)
    try:
        server.wait_until_listening()
        yield server
    finally:
        server.stop()
