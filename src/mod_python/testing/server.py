"""A private httpd for one test.

It runs on free ports of 127.0.0.1, in a server root of its own that is removed at the
end. The configuration, the handlers and other files come as text with the test.
As root, httpd's children run as an unprivileged user, as in production, so the server
root belongs to that user's group.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from types import TracebackType
from typing import Self

from mod_python.httpd.config import Address, Settings, write_config
from mod_python.httpd.errors import AddressInUseError, StartError
from mod_python.httpd.find import Httpd, find_httpd
from mod_python.httpd.process import START_TIMEOUT, HttpdProcess, check_config
from mod_python.httpd.target import Kind, Target, connection_or_request
from mod_python.httpd.tls import Certificate, make_self_signed
from mod_python.httpd.users import User, check_readable, find_user, runtime_paths
from mod_python.testing import client, errorlog
from mod_python.testing.client import Response
from mod_python.testing.errorlog import LogRecord

__all__ = ["Server"]

#: How often a start is tried anew with other ports when one was taken meanwhile.
_PORT_TRIES = 5

#: Children of prefork in a test: enough for a few clients, quick to start.
_PREFORK_PROCESSES = 4

#: Seconds to wait for something to happen, unless told otherwise.
WAIT_TIMEOUT = 60.0

#: Seconds until a server that does not stop is killed. httpd kills children that do not end after about ten.
_STOP_TIMEOUT = 30.0

_HOST = "127.0.0.1"
# Seconds without a change, and to wait for that at most: httpd closes a connection in well under a millisecond.
_SETTLED, _SETTLE_LIMIT = 0.03, 0.5
# Seconds to wait for connections that have ended on one side, which a busy machine may keep httpd from noticing.
_CLOSING_LIMIT = 2.0
_CLOSING = {"04", "05", "08", "09", "0B"}  # states of TCP in /proc/net/tcp: FIN-WAIT, CLOSE-WAIT, LAST-ACK, CLOSING
_RESUMING = "resuming normal operations"  # AH00163, AH00292, AH00489: one per generation
_IN_USE = re.compile(r"AH00072|Address already in use|could not bind to address")


class Server:
    """A private httpd; a context manager that starts and stops it.

    In the configuration text, ``${SITE}`` is the directory of `files`, ``${PORT}`` the
    first port, ``${PORT2}``, ``${PORT3}`` … the others, ``${TLS_CERT}`` and ``${TLS_KEY}``
    the certificate.

    Args:
        config: Configuration lines to add.
        handler: Python source that defines ``handler(req)`` or ``connectionhandler(conn)``; it
            is served from ``${SITE}/handler.py``, requests for every location.
        handler_file: The same, from a file that exists.
        files: Files to put into ``${SITE}``: relative path → content.
        mpm: The MPM; None for the environment variable ``MOD_PYTHON_TEST_MPM``, else the
            build's best.
        processes: Child processes; None for 1 (prefork: 4).
        threads: Threads per child of a threaded MPM; None for 64.
        listen: How many ports to listen on.
        tls: True for TLS on all ports; or the numbers of the ports with TLS, counted
            from 0, such as ``[1]``.
        options: Values for ``PythonOption``.
        flags: ``Python*`` settings for the whole server, such as ``{"PythonDebug": "On"}``;
            ``{"PythonInterpreter": None}`` for httpd's default, one per virtual host.
        defines: More names for ``Define``.
        modules: More modules to load, such as ``"mod_rewrite"``.
        log_level: Value of ``LogLevel``; not above ``notice``.
        python: Load mod_python; False to test plain httpd.
        one_process: Run with ``httpd -X``.
        httpd: Path of the httpd binary; None to search (see `find_httpd`).
        user: Whom children run as when this process is root.
    """

    def __init__(
        self,
        config: str = "",
        *,
        handler: str | None = None,
        handler_file: str | os.PathLike[str] | None = None,
        files: Mapping[str, str | bytes] | None = None,
        mpm: str | None = None,
        processes: int | None = None,
        threads: int | None = None,
        listen: int = 1,
        tls: bool | Sequence[int] = False,
        options: Mapping[str, str] | None = None,
        flags: Mapping[str, str | None] | None = None,
        defines: Mapping[str, str] | None = None,
        modules: Sequence[str] = (),
        log_level: str = "debug",
        python: bool = True,
        one_process: bool = False,
        httpd: str | os.PathLike[str] | None = None,
        user: str | None = None,
    ) -> None:
        if handler is not None and handler_file is not None:
            raise ValueError("give handler or handler_file, not both")
        self._config = textwrap.dedent(config)
        self._handler = textwrap.dedent(handler) if handler is not None else None
        self._handler_file = Path(handler_file).absolute() if handler_file is not None else None
        self._files = dict(files or {})
        self._mpm = mpm or os.environ.get("MOD_PYTHON_TEST_MPM") or None
        self._processes, self._threads = processes, threads
        self._listen, self._tls_wanted = listen, tls
        self._options, self._flags = dict(options or {}), dict(flags or {})
        self._defines = dict(defines or {})
        self._modules = tuple(modules)
        self._log_level = log_level
        self._python = python
        self._one_process = one_process
        self._httpd_path, self._user_name = httpd, user
        self._root: Path | None = None
        self._user: User | None = None
        self._process: HttpdProcess | None = None
        self._settings: Settings | None = None
        self._certificate: Certificate | None = None
        self._allowed: list[re.Pattern[str]] = []
        self._stuck: list[int] = []
        self._final_log: str | None = None
        self.ports: list[int] = []

    # ---- life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start httpd and wait until it accepts connections.

        Raises:
            ConfigError: The configuration is broken.
            StartError: httpd did not come up; the message has the end of the error log.
            HttpdError: There is no usable httpd.
        """
        if self._process is not None:
            raise StartError("this server was started before; make a new one")
        try:
            self._prepare()
            self._start_on_free_ports()
            if not self._one_process:
                # It listens already; the children come a moment later, as many as wanted
                # unless the configuration of the test says otherwise.
                wanted = self.settings.process_count
                self.wait_until(
                    lambda: len(self.children()) >= wanted or _RESUMING in self.error_log, what="httpd's children"
                )
        except BaseException:
            self.stop()
            raise

    def stop(self, timeout: float = _STOP_TIMEOUT) -> None:
        """Stop httpd, kill what is left of it, and remove the server root.

        The error log stays readable through this object. May be called again.

        Args:
            timeout: Seconds until what is left is killed.
        """
        try:
            if self._process is not None:
                self._settle()
                self._stuck += self._process.stop(timeout)
        finally:
            if self._process is not None:
                self._process.kill()
            if self._root is not None:
                if self._final_log is None:
                    self._final_log = self._read_log()
                shutil.rmtree(self._root, ignore_errors=True)

    def graceful(self, timeout: float = WAIT_TIMEOUT) -> None:
        """Restart gracefully and wait until the new generation has begun.

        Args:
            timeout: Seconds.

        Raises:
            ConfigError: The configuration has become broken; httpd goes on as it was.
            TimeoutError: The new generation did not begin in time.
        """
        process = self._running()
        # A server that has just been started says so after its children have begun to serve.
        self.wait_until(lambda: _RESUMING in self.error_log, timeout, "the end of the start")
        before = self.error_log.count(_RESUMING)
        process.graceful()
        self.wait_until(lambda: self.error_log.count(_RESUMING) > before, timeout, "the graceful restart")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to httpd's parent process."""
        self._running().signal(number)

    # ---- where things are

    @property
    def root(self) -> Path:
        """The server root."""
        if self._root is None:
            raise StartError("the server has not been started")
        return self._root

    @property
    def site(self) -> Path:
        """The directory of the test's files, ``${SITE}``; the children can read it."""
        return self.root / "site"

    @property
    def host(self) -> str:
        """The host it listens on."""
        return _HOST

    @property
    def port(self) -> int:
        """The first port."""
        return self.ports[0]

    @property
    def url(self) -> str:
        """URL of the first port, without a slash at the end."""
        return self.url_of(0)

    def url_of(self, index: int) -> str:
        """Return the URL of a port, counted from 0."""
        scheme = "https" if self._is_tls(index) else "http"
        return f"{scheme}://{'localhost' if scheme == 'https' else _HOST}:{self.ports[index]}"

    @property
    def certificate(self) -> Certificate:
        """The certificate, if the server has TLS."""
        if self._certificate is None:
            raise StartError("this server has no TLS")
        return self._certificate

    @property
    def settings(self) -> Settings:
        """The settings the configuration was written from."""
        if self._settings is None:
            raise StartError("the server has not been started")
        return self._settings

    @property
    def httpd(self) -> Httpd:
        """The httpd in use."""
        return self.settings.httpd

    @property
    def mpm(self) -> str:
        """The MPM in use."""
        return self.settings.mpm_name

    @property
    def pid(self) -> int:
        """Process id of httpd's parent process."""
        return self._running().pid

    @property
    def running(self) -> bool:
        """Whether httpd's parent process is alive."""
        return self._process is not None and self._process.running

    def children(self) -> list[int]:
        """Return the process ids of the children, oldest first."""
        return self._running().children()

    def write_file(self, name: str, content: str | bytes) -> Path:
        """Write a file below ``${SITE}``, replacing it in one step.

        Args:
            name: Relative path; missing directories are made.
            content: Text (UTF-8) or bytes.

        Returns:
            The file's path.
        """
        path = self.site / name
        for parent in reversed(path.relative_to(self.site).parents):
            directory = self.site / parent
            directory.mkdir(exist_ok=True)
            directory.chmod(0o755)
        data = content.encode() if isinstance(content, str) else content
        new = path.with_name(path.name + ".new")
        new.write_bytes(data)
        new.chmod(0o644)
        new.replace(path)
        return path

    def write_handler(self, source: str) -> Path:
        """Replace the handler's source, for tests of reloading."""
        return self.write_file("handler.py", textwrap.dedent(source))

    # ---- talking to it

    def connect(self, index: int = 0, *, timeout: float = WAIT_TIMEOUT) -> socket.socket:
        """Open a connection, with TLS if the port has it.

        Args:
            index: Which port, counted from 0.
            timeout: Seconds for every operation on the socket.

        Returns:
            The connected socket.
        """
        context = client.tls_context(self.certificate.certificate) if self._is_tls(index) else None
        return client.connect(_HOST, self.ports[index], context, timeout)

    def connect_plain(self, index: int = 0, *, timeout: float = WAIT_TIMEOUT) -> socket.socket:
        """Open a connection without TLS, whatever the port speaks."""
        return client.connect(_HOST, self.ports[index], None, timeout)

    def request(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        index: int = 0,
        timeout: float = WAIT_TIMEOUT,
    ) -> Response:
        """Make one HTTP request on a connection of its own.

        Args:
            method: Request method.
            target: Request target, such as ``"/path?query"``.
            body: Content to send.
            headers: More header fields.
            index: Which port, counted from 0.
            timeout: Seconds for every operation on the socket.

        Returns:
            The response.
        """
        sock = self.connect(index, timeout=timeout)
        return client.request(sock, method, target, (_HOST, self.ports[index]), body, headers)

    def get(
        self,
        target: str = "/",
        headers: Mapping[str, str] | None = None,
        *,
        index: int = 0,
        timeout: float = WAIT_TIMEOUT,
    ) -> Response:
        """Make one GET request; see `request`."""
        return self.request("GET", target, None, headers, index=index, timeout=timeout)

    # ---- the error log

    @property
    def error_log(self) -> str:
        """The error log so far."""
        return self._final_log if self._final_log is not None else self._read_log()

    def log_records(self, level: str = "trace8") -> list[LogRecord]:
        """Return the error log's lines, those at least as severe as `level`."""
        return [record for record in errorlog.parse(self.error_log) if record.at_least(level)]

    def wait_for_log(self, pattern: str, timeout: float = WAIT_TIMEOUT) -> re.Match[str]:
        """Wait until something is in the error log.

        Args:
            pattern: Regular expression, searched in the whole log; ``^`` and ``$`` match at
                line ends.
            timeout: Seconds.

        Returns:
            The first match.

        Raises:
            TimeoutError: It did not appear; the message has the end of the log.
        """
        regex = re.compile(pattern, re.MULTILINE)
        found: list[re.Match[str]] = []

        def look() -> bool:
            match = regex.search(self.error_log)
            if match is not None:
                found.append(match)
            return match is not None

        self.wait_until(look, timeout, f"{pattern!r} in the error log")
        return found[0]

    def wait_until(
        self,
        condition: Callable[[], object],
        timeout: float = WAIT_TIMEOUT,
        what: str = "condition",
    ) -> None:
        """Wait until a condition is true.

        Args:
            condition: Called again and again.
            timeout: Seconds.
            what: What is waited for, for the message.

        Raises:
            TimeoutError: It did not become true; the message has the end of the log.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {timeout:g} s for {what}; error log:\n{self._tail()}")
            time.sleep(0.01)

    def allow(self, pattern: str) -> None:
        """Expect a traceback or another problem: one that matches is not reported.

        Args:
            pattern: Regular expression, searched in the text of the problem.
        """
        self._allowed.append(re.compile(pattern))

    def problems(self) -> list[str]:
        """Return what went wrong and was not allowed.

        Crashes and unexpected tracebacks in the error log; after `stop`, also processes
        that did not end by themselves.
        """
        records = errorlog.parse(self.error_log)
        found = [f"crash: {line}" for line in errorlog.crashes(records)]
        found += [f"unexpected traceback:\n{text}" for text in errorlog.tracebacks(records)]
        if self._stuck:
            found.append(f"processes that did not end and were killed: {self._stuck}")
        return [text for text in found if not any(pattern.search(text) for pattern in self._allowed)]

    # ---- inside

    def _running(self) -> HttpdProcess:
        if self._process is None:
            raise StartError("the server has not been started")
        return self._process

    def _is_tls(self, index: int) -> bool:
        if isinstance(self._tls_wanted, bool):
            return self._tls_wanted
        return index in self._tls_wanted

    @property
    def _has_tls(self) -> bool:
        return self._tls_wanted is True or bool(self._tls_wanted)

    def _prepare(self) -> None:
        """Make the server root, with all that does not depend on the ports."""
        user = find_user(self._user_name)
        root = Path(tempfile.mkdtemp(prefix="mod_python-test-")).resolve()
        self._root = root
        if user is not None:
            os.chown(root, 0, user.gid)
            root.chmod(0o750)
            paths = [root, *([self._handler_file] if self._handler_file else [])]
            check_readable([*paths, *(runtime_paths() if self._python else [])], user)
        self.site.mkdir()
        self.site.chmod(0o755)
        for name, content in self._files.items():
            self.write_file(name, content)
        if self._handler is not None:
            self.write_handler(self._handler)
        if self._has_tls:
            self._certificate = make_self_signed(root)
        self._user = user

    def _start_on_free_ports(self) -> None:
        for attempt in range(1, _PORT_TRIES + 1):
            self.ports = _free_ports(self._listen)
            self._settings = settings = self._make_settings()
            write_config(settings)
            log = settings.root / "logs" / "error_log"
            log.unlink(missing_ok=True)
            check_config(settings)
            with open(settings.root / "logs" / "stderr", "wb") as stderr:
                self._process = HttpdProcess(settings, one_process=self._one_process, stderr=stderr)
                self._process.start()
            try:
                self._process.wait_ready(START_TIMEOUT)
            except StartError as error:
                if _IN_USE.search(self.error_log):
                    self._process.kill()
                    if attempt < _PORT_TRIES:
                        continue
                    raise AddressInUseError(f"no free ports in {attempt} tries") from error
                raise StartError(f"{error}; error log:\n{self._tail()}") from error
            return

    def _make_settings(self) -> Settings:
        httpd = find_httpd(self._httpd_path)
        defines = {"SITE": str(self.site), "PORT": str(self.ports[0] if self.ports else 0)}
        for number, port in enumerate(self.ports[1:], 2):
            defines[f"PORT{number}"] = str(port)
        if self._certificate is not None:
            defines["TLS_CERT"] = str(self._certificate.certificate)
            defines["TLS_KEY"] = str(self._certificate.key)
        tls_ports = None
        if self._has_tls and not isinstance(self._tls_wanted, bool):
            tls_ports = frozenset(self.ports[index] for index in self._tls_wanted)
        processes = self._processes
        if processes is None and self._mpm == "prefork":
            processes = _PREFORK_PROCESSES
        return Settings(
            httpd=httpd,
            root=self.root,
            listen=[Address(_HOST, port) for port in self.ports],
            mpm=self._mpm,
            processes=processes,
            threads=None if self._mpm == "prefork" else self._threads,
            user=self._user,
            tls=self._certificate,
            tls_ports=tls_ports,
            python=self._python,
            modules=self._modules,
            defines={**defines, **self._defines},
            options=self._options,
            flags=self._flags,
            log_level=self._log_level,
            body=[*self._config.splitlines(), *self._handler_lines()],
        )

    def _handler_lines(self) -> list[str]:
        path, source = self._handler_file, self._handler
        if path is not None:
            source = path.read_text(encoding="utf-8")
        elif source is not None:
            path = self.site / "handler.py"
        if path is None or source is None:
            return []
        kind: Kind = connection_or_request(source, str(path))
        return Target(kind, str(path), path).directives()

    def _read_log(self) -> str:
        if self._root is None:
            return ""
        texts = []
        for name in ("stderr", "error_log"):
            with contextlib.suppress(OSError):
                data = (self._root / "logs" / name).read_bytes()
                if name == "error_log" and self.running:
                    data = data[: data.rfind(b"\n") + 1]  # a line that is just being written does not count yet
                texts.append(data.decode("utf-8", "backslashreplace"))
        return "".join(texts)

    def _settle(self) -> None:
        """Wait, not for long, until no connection comes or goes.

        A client sees the end of its connection before httpd is done with it, and an event MPM that is stopped in this
        very moment may look at a socket whose memory is free already (``close_worker_sockets`` in event.c), and crash.
        """
        if not self.running:
            return
        begin = time.monotonic()
        children = self.children()
        listening = _sockets_of(self.pid)
        last, since = None, 0.0
        while self.running and (now := time.monotonic()) < begin + _CLOSING_LIMIT:
            current = [_sockets_of(pid) for pid in children]
            if current != last:
                last, since = current, now
            if now - since >= _SETTLED or now >= begin + _SETTLE_LIMIT:
                connections = set().union(*current) - listening
                if not connections or not _are_closing(connections):
                    return
            time.sleep(0.005)

    def _tail(self) -> str:
        return errorlog.tail(errorlog.parse(self.error_log))


@contextlib.contextmanager
def _bound(count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.socket()) for _ in range(count)]


def _free_ports(count: int) -> list[int]:
    """Find ports that are free now; httpd may still find one taken, and is tried again."""
    with _bound(count) as sockets:
        for sock in sockets:
            sock.bind((_HOST, 0))
        return [sock.getsockname()[1] for sock in sockets]


def _sockets_of(pid: int) -> frozenset[str]:
    """Return what names the open sockets of a process; nothing where /proc does not tell."""
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(entry.path))
    return frozenset(name for name in found if name.startswith("socket:"))


def _are_closing(names: Set[str]) -> bool:
    """Tell whether one of these sockets is a TCP connection that one side has ended; not where /proc does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] in _CLOSING and f"socket:[{fields[9]}]" in names:
                return True
    return False
