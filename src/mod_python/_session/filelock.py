"""Locks between processes on a file: `FileLocks`.

Each key has two bytes of one file, which need not exist in it: one for its lock, one for the turn of whoever waits
for it.  Without turns a process with many requests would take the lock again before others look.  The locks belong to
the open file (Linux's "open file description" locks), so they hold between threads and interpreters too, and end with
their process, however it ends.  Where the system has none, whole files are locked, and keys share them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
import zlib
from time import monotonic, sleep

from .private import open_own

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# The structure is that of 64-bit Linux.
_SETLK: int | None = getattr(fcntl, "F_OFD_SETLK", None) if sys.platform == "linux" and sys.maxsize > 2**32 else None
_FILES = 64  # without locks on bytes
_BUSY = (errno.EAGAIN, errno.EACCES)
# Nothing tells a waiting process that a lock is free, short of waiting without a limit.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.01  # seconds


class FileLocks:
    """Locks on a file.

    Args:
        path: the file, in a private directory; it is made when it is needed.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    pause = 0.0
    hangs: tuple[type[Exception], ...] = ()

    def acquire(self, key: str, deadline: float) -> Callable[[], object] | None:
        """Take the lock of a key; see `locks.Outer`."""
        number = _number(key)
        while True:
            fd = -1
            path = self._path if _SETLK is not None else f"{self._path}-{number % _FILES}"
            try:
                fd = open_own(path)
                if not _wait(fd, 2 * number + 1, deadline) or not _wait(fd, 2 * number, deadline):
                    return None
                _unlock(fd, 2 * number + 1)
                if _is_still(fd, path):
                    taken, fd = fd, -1
                    return _Closer(taken)
            finally:
                if fd >= 0:
                    os.close(fd)


class _Closer:
    """Closes a descriptor, and so gives up its locks."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __call__(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _number(key: str) -> int:
    """The number of a key, the same in every process; below 2**61."""
    if len(key) == 32:
        try:
            return int(key[:15], 16)
        except ValueError:
            pass
    return (1 << 60) + zlib.crc32(key.encode("utf-8", "surrogatepass"))


def _wait(fd: int, byte: int, deadline: float) -> bool:
    pause = _FIRST_PAUSE
    while not _lock(fd, byte):
        left = deadline - monotonic()
        if left <= 0:
            return False
        sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    return True


def _lock(fd: int, byte: int) -> bool:
    try:
        if _SETLK is not None:
            fcntl.fcntl(fd, _SETLK, _flock(fcntl.F_WRLCK, byte))
        elif byte % 2 == 0:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno in _BUSY:
            return False
        raise
    return True


def _unlock(fd: int, byte: int) -> None:
    if _SETLK is not None:
        fcntl.fcntl(fd, _SETLK, _flock(fcntl.F_UNLCK, byte))


def _flock(kind: int, byte: int) -> bytes:
    # struct flock: l_type, l_whence, l_start, l_len, l_pid.
    return struct.pack("hhqqi0q", kind, os.SEEK_SET, byte, 1, 0)


def _is_still(fd: int, path: str) -> bool:
    """Whether the file is the one that others find: those who tidy up may have removed it."""
    try:
        there = os.stat(path)
    except FileNotFoundError:
        return False
    ours = os.fstat(fd)
    return (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev)
