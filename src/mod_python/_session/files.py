"""`FileSession`: a file for each session."""

from __future__ import annotations

import os

from mod_python import apache

from . import options as opt
from .base import BaseSession
from .private import directory, own_subdirectory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GRACE = 240.0  # seconds
LIMIT = 2.0  # seconds


class FileSession(BaseSession):
    """Sessions in files, for all children of a server; they survive restarts.

    Args:
        req, sid, secret, timeout, lock: as for `BaseSession`.
        fast_cleanup: look only into files that have not been used for the time-out of this session; -1 for
            ``PythonOption mod_python.file_session.enable_fast_cleanup``, by default yes.
        verify_cleanup: remove what is expired by its own time-out; -1 for
            ``PythonOption mod_python.file_session.verify_session_timeout``, by default yes.
    """

    LOCAL = True

    def __init__(
        self,
        req: Any,
        sid: str | int | None = 0,
        secret: str | bytes | None = None,
        timeout: int = 0,
        lock: int = 1,
        fast_cleanup: int = -1,
        verify_cleanup: int = -1,
    ) -> None:
        options = req.get_options()
        configured = opt.text(
            options,
            "mod_python.file_session.database_directory",
            "mod_python.session.database_directory",
            "session_directory",
        )
        self._sessdir = own_subdirectory(directory(configured), "mp_sess")
        self._fast_cleanup = _chosen(
            fast_cleanup, options, "mod_python.file_session.enable_fast_cleanup", "session_fast_cleanup"
        )
        self._verify_cleanup = _chosen(
            verify_cleanup, options, "mod_python.file_session.verify_session_timeout", "session_verify_cleanup"
        )
        self._grace_period = opt.seconds(
            options, GRACE, "mod_python.file_session.cleanup_grace_period", "session_grace_period"
        )
        self._cleanup_time_limit = opt.seconds(
            options, LIMIT, "mod_python.file_session.cleanup_time_limit", "session_cleanup_time_limit"
        )
        BaseSession.__init__(self, req, sid=sid, secret=secret, timeout=timeout, lock=lock)

    def _store_key(self) -> str:
        return f"files {self._sessdir}"

    def _directory(self) -> str:
        return self._sessdir

    def do_load(self) -> dict[str, Any] | None:
        """Return what is stored, or None.  A file that cannot be read is logged and counts as none."""
        path = session_file(self._sessdir, self._sid)
        try:
            with open(path, "rb") as file:
                data = file.read()
            os.utime(path)  # it is in use: clean-up spares it
        except FileNotFoundError:
            return None
        except OSError as exc:
            self._req.log_error(f"mod_python: {path} cannot be read: {exc.strerror}", apache.APLOG_ERR)
            return None
        return self._decoded(data)

    def do_save(self, dict: dict[str, Any]) -> None:  # noqa: A002
        """Store a dictionary.

        Raises:
            OSError: the file cannot be written; the former one is still there.
        """
        data = self._serializer().dumps(dict)
        path = session_file(self._sessdir, self._sid)
        new = f"{path}.{os.urandom(8).hex()}.new"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            fd = os.open(new, flags, 0o600)
        except FileNotFoundError:
            own_subdirectory(own_subdirectory(os.path.dirname(self._sessdir), "mp_sess"), self._sid[:2])
            fd = os.open(new, flags, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(data)
            os.replace(new, path)
        except BaseException:
            os.unlink(new)
            raise

    def do_delete(self) -> None:
        """Remove what is stored."""
        try:
            os.unlink(session_file(self._sessdir, self._sid))
        except FileNotFoundError:
            pass

    def do_cleanup(self) -> None:
        """Have expired sessions removed after the request."""
        from .file_cleanup import Cleanup

        job = Cleanup(
            self._sessdir,
            self._locks(),
            self._serializer(),
            server=self._req.server,
            timeout=self._timeout,
            fast=self._fast_cleanup,
            verify=self._verify_cleanup or not self._fast_cleanup,
            grace=self._grace_period,
            limit=self._cleanup_time_limit,
        )
        self._req.register_cleanup(job.run)


def session_file(sessdir: str, sid: str) -> str:
    """Return the path of a session's file."""
    return f"{sessdir}/{sid[:2]}/{sid}"


def _chosen(argument: int, options: Any, *names: str) -> bool:
    """What an argument says, or else an option, or else yes."""
    return opt.switch(options, True, *names) if argument == -1 else bool(argument)
