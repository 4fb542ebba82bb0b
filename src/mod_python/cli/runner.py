"""The foreground loop of ``mod_python serve``: pass the log on, obey signals, end cleanly.

httpd runs in a session of its own, so signals from the terminal come here first:

- SIGINT (Ctrl-C), SIGTERM, SIGHUP: stop; a second one kills what is left at once;
- SIGUSR1: graceful restart, if the configuration still reads.

httpd's error log comes through a pipe. Reading it never stops while httpd lives, since a
child that cannot write to its log stands still.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO

import click

from mod_python.httpd.errors import ConfigError, StartError
from mod_python.httpd.process import START_TIMEOUT, HttpdProcess, bind_failure, describe_status, session_members

__all__ = ["LOG_FORMAT", "run"]

#: ``ErrorLogFormat`` of a served httpd: time, module and level, process, message, client.
LOG_FORMAT = "%{c}t %-m:%l %P %E: %M% ,\\ client\\ %a"

# Seconds between SIGTERM and SIGKILL. Someone who presses Ctrl-C wants the prompt back;
# handlers that want more can be stopped with apachectl in a real installation.
_STOP_GRACE = 3.0

# Seconds between two looks at the configuration file (with --reload) and at httpd.
_TICK = 0.5

# A log line longer than this is passed on in pieces: httpd's own limit is 8 KiB.
_LINE_LIMIT = 64 * 1024

_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_LINE = re.compile(r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?P<module>[\w-]*):(?P<level>\w+) ")

# Levels of messages that may say why it did not start.
_SERIOUS = ("emerg", "alert", "crit", "error")

# httpd logs its notices at any LogLevel. The banner has said it all: started, stopped, and
# the command line of a program nobody typed.
_CHATTER = re.compile(r"\bAH0(0489|0292|0163|0094|0491|0295|0169|0493|0297|0171): ")

_COLOURS = {
    **dict.fromkeys(("emerg", "alert", "crit", "error"), "red"),
    "warn": "yellow",
    **dict.fromkeys(("debug", *(f"trace{n}" for n in range(1, 9))), "bright_black"),
}


def run(process: HttpdProcess, banner: Callable[[], None], watch: Path | None = None) -> int:
    """Start httpd, pass its log to standard error, and return when it has ended.

    Args:
        process: The httpd, not yet started, with its standard error a pipe.
        banner: Called once when httpd accepts connections.
        watch: A configuration file whose change means a graceful restart, or None.

    Returns:
        Exit status for this program: 0 if it was told to stop.

    Raises:
        AddressInUseError: Another program took the address.
        ConfigError: The configuration cannot work.
        StartError: httpd did not come up.
    """
    with _signals() as signals:
        process.start()
        try:
            return _Loop(process, signals, banner, watch).run()
        finally:
            process.kill()


class _Loop:
    def __init__(
        self,
        process: HttpdProcess,
        signals: socket.socket,
        banner: Callable[[], None],
        watch: Path | None,
    ) -> None:
        self._process = process
        self._signals = signals
        self._banner = banner
        self._watch = watch
        self._seen = _stamp(watch)
        self._log = _Log(process.stderr, everything=process.one_process)
        self._ready = False
        self._stopping: float | None = None  # when to kill
        self._deadline = time.monotonic() + START_TIMEOUT

    def run(self) -> int:
        with selectors.DefaultSelector() as selector:
            selector.register(self._signals, selectors.EVENT_READ)
            if self._log.fd is not None:
                selector.register(self._log.fd, selectors.EVENT_READ)
            while self._process.running:
                for key, _ in selector.select(_TICK if self._ready else 0.02):
                    if key.fileobj is self._signals:
                        self._obey(self._signals.recv(64))
                    elif not self._log.read(show=self._ready):
                        selector.unregister(key.fileobj)
                self._look()
        self._log.read(show=self._ready or self._stopping is not None)
        if self._stopping is not None:
            return 0
        if not self._ready:
            raise self._failure()
        status = describe_status(self._process.returncode)
        click.echo(f"mod_python: httpd ended by itself with {status}", err=True)
        return 1

    def _look(self) -> None:
        """What has to be done from time to time."""
        now = time.monotonic()
        if self._stopping is not None:
            if now > self._stopping:
                left = session_members(self._process.pid)
                _say(f"{len(left)} processes did not stop in {_STOP_GRACE:g} s; killing them")
                self._process.kill()
        elif not self._ready:
            if self._process.ready():
                self._ready = True
                self._banner()
                self._log.show_held()
            elif now > self._deadline:
                raise StartError(f"httpd was not ready after {START_TIMEOUT:g} seconds")
        elif self._watch is not None:
            stamp = _stamp(self._watch)
            if stamp not in (self._seen, None):
                self._seen = stamp
                self._restart(f"{self._watch} has changed")

    def _obey(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGUSR1:
                self._restart("SIGUSR1")
            elif number in _STOP:
                if self._stopping is None:
                    self._stopping = time.monotonic() + _STOP_GRACE
                    self._process.signal(signal.SIGTERM)
                else:
                    self._process.kill()

    def _restart(self, why: str) -> None:
        if not self._ready or self._stopping is not None:
            return
        if self._process.one_process:
            _say(f"{why}: with --debug there is no graceful restart; press Ctrl-C and start again")
            return
        try:
            self._process.graceful()
        except ConfigError as error:
            _say(f"{why}: not restarted: {error}")
        else:
            _say(f"{why}: restarting gracefully")

    def _failure(self) -> Exception:
        """Make one line of what httpd said before it gave up."""
        lines = [_LINE.sub("", line) for line in self._log.held]
        taken = bind_failure(lines)
        if taken is not None:
            return taken
        # The cause comes first; what follows ("Configuration Failed", "Unable to
        # open logs") are consequences.
        # What httpd says before it has a log has no time; its warnings have one, and are no cause.
        causes = [
            line
            for line in self._log.held
            if ((head := _LINE.match(line)) is None and re.match(r"\w", line))
            or (head is not None and head["level"] in _SERIOUS)
        ]
        status = describe_status(self._process.returncode)
        # Without time, level and process.
        text = re.sub(rf"^{_LINE.pattern}(\d+ )?", "", causes[0]) if causes else "no message"
        return StartError(f"httpd ended at start with {status}: {text}")


class _Log:
    """httpd's standard error: split into lines, held back until the start is decided."""

    def __init__(self, pipe: IO[bytes] | None, everything: bool) -> None:
        self._everything = everything
        self.fd = pipe.fileno() if pipe is not None else None
        if self.fd is not None:
            os.set_blocking(self.fd, False)
        self.held: list[str] = []
        self._rest = b""
        self._colour = sys.stderr.isatty()

    def read(self, show: bool) -> bool:
        """Take what is there; return False at the end of the file."""
        if self.fd is None:
            return False
        alive = True
        while True:
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                break
            if not data:
                alive = False
                break
            *lines, self._rest = (self._rest + data).split(b"\n")
            if len(self._rest) > _LINE_LIMIT:
                lines.append(self._rest)
                self._rest = b""
            self.held += [line.decode("utf-8", "backslashreplace") for line in lines]
        if show:
            self.show_held()
        return alive

    def show_held(self) -> None:
        for line in self.held:
            if not self._everything and _CHATTER.search(line):
                continue
            match = _LINE.match(line)
            colour = _COLOURS.get(match["level"]) if match and self._colour else None
            click.secho(line, fg=colour, err=True)
        self.held.clear()


def _say(text: str) -> None:
    click.echo(f"mod_python: {text}", err=True)


def _stamp(path: Path | None) -> tuple[int, int] | None:
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:  # being replaced by an editor
        return None
    return status.st_mtime_ns, status.st_size


@contextlib.contextmanager
def _signals() -> Iterator[socket.socket]:
    """Give a socket from which the numbers of arriving signals can be read."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)

    def nothing(number: int, frame: FrameType | None) -> None:
        """The number arrives through the wake-up socket."""

    numbers = (*_STOP, signal.SIGUSR1)
    old_handlers = {number: signal.signal(number, nothing) for number in numbers}
    old_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(old_fd)
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
        reader.close()
        writer.close()
