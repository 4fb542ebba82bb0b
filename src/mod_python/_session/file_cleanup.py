"""Removing the expired files of `FileSession`, after a request and not for long."""

from __future__ import annotations

import os
import time

from mod_python import apache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .locks import Locks
    from .serial import Serializer

_STATUS = "fs_status.txt"
_VERSION = "MPFS_3.2"
_KEY = "cleanup of files"
_DIRECTORIES = 256
_LEFT_OVER = 3600.0  # seconds after which a file that was not written to its end is removed


class Cleanup:
    """One clean-up.

    It goes through the 256 directories from where the last one stopped, and stops after the directory in which its
    time is over.  There is one at a time, in all processes.

    Args:
        sessdir: the directory ``mp_sess``.
        locks: of the sessions.
        serializer: of the sessions.
        server: whose log to write to.
        timeout: seconds; of the session that cleans up.
        fast: look only into files older than `timeout` and `grace`.
        verify: decide by what the file says; otherwise by its age.
        grace: seconds that an expired session is kept.
        limit: seconds; 0 for none.
    """

    def __init__(
        self,
        sessdir: str,
        locks: Locks,
        serializer: Serializer,
        *,
        server: Any,
        timeout: float,
        fast: bool,
        verify: bool,
        grace: float,
        limit: float,
    ) -> None:
        self._sessdir, self._locks, self._serializer, self._server = sessdir, locks, serializer, server
        self._timeout, self._fast, self._verify, self._grace, self._limit = timeout, fast, verify, grace, limit
        self.total = self.expired = 0

    def run(self, _: object = None) -> None:
        """Clean up, unless another one is at it."""
        held = self._locks.try_take(_KEY)
        if held is None:
            self._log("another clean-up of the files of sessions is under way")
            return
        try:
            self._run()
        finally:
            held.release()

    def _run(self) -> None:
        index, self.expired, self.total, spent = self._read_status()
        begin = time.monotonic()
        self._log(f"clean-up of the files of sessions begins at directory {index:02x}")
        done = False
        while not done:
            self._directory(f"{self._sessdir}/{index:02x}")
            index += 1
            done = index == _DIRECTORIES or (0 < self._limit < time.monotonic() - begin)
        spent += time.monotonic() - begin
        result = f"{self.expired} of {self.total} files of sessions removed in {spent:.3f} s"
        if index == _DIRECTORIES:
            self._log(result)
            self._write_status(0, 0, 0, 0.0)
        else:
            self._log(f"{result}; goes on at directory {index:02x} next time")
            self._write_status(index, self.expired, self.total, spent)

    def _directory(self, path: str) -> None:
        try:
            names = os.listdir(path)
        except OSError:
            return
        for name in names:
            self._file(f"{path}/{name}", name)

    def _file(self, path: str, name: str) -> None:
        try:
            age = time.time() - os.stat(path).st_mtime
        except OSError:
            return  # gone meanwhile
        if len(name) != 32:
            if name.endswith(".new") and age > _LEFT_OVER:
                self._remove(path)
            return
        self.total += 1
        if self._fast and age <= self._timeout + self._grace:
            return
        # Not between another request's loading and saving.
        held = self._locks.try_take(name)
        if held is None:
            return
        try:
            if self._is_expired(path):
                self._remove(path)
                self.expired += 1
        finally:
            held.release()

    def _is_expired(self, path: str) -> bool:
        try:
            age = time.time() - os.stat(path).st_mtime
            stored = None
            if self._verify:
                with open(path, "rb") as file:
                    stored = self._serializer.loads(file.read())
        except OSError:
            return False
        if stored is None:
            # Without a look into it, or unreadable.
            return age > self._timeout + self._grace
        return bool(time.time() - stored["_accessed"] > stored["_timeout"] + self._grace)

    def _remove(self, path: str) -> None:
        try:
            os.unlink(path)
        except OSError:
            pass

    def _read_status(self) -> tuple[int, int, int, float]:
        try:
            with open(os.path.join(self._sessdir, _STATUS), encoding="ascii") as file:
                version, index, expired, total, spent = file.read(200).split()
            if version == _VERSION and 0 < int(index) < _DIRECTORIES:
                return int(index), int(expired), int(total), float(spent)
        except (OSError, ValueError):
            pass
        return 0, 0, 0, 0.0

    def _write_status(self, index: int, expired: int, total: int, spent: float) -> None:
        path = os.path.join(self._sessdir, _STATUS)
        fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="ascii") as file:
            file.write(f"{_VERSION} {index} {expired} {total} {spent:.3f}\n")
        os.replace(path + ".new", path)

    def _log(self, message: str) -> None:
        apache.log_error(f"mod_python: {message}", apache.APLOG_NOTICE, self._server)
