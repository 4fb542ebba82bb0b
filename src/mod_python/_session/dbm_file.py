"""`DbmSession`: sessions of all children in one dbm file."""

from __future__ import annotations

import os
import time

from mod_python import apache

from . import options as opt
from .base import BaseSession, locks_in
from .errors import SessionError, SessionUnavailable
from .private import check_file, check_own, directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from .serial import Serializer

    T = TypeVar("T")

_TIMEOUT = 30.0  # seconds to wait for the file; each operation takes a few milliseconds
_BATCH = 200  # sessions that a clean-up looks at while others wait for the file
_LIMIT = 2.0  # seconds for one clean-up
_SUFFIXES = ("", ".db", ".dat", ".dir", ".pag")  # of the files that the kinds of dbm make

# File -> the keys that clean-ups have still to look at, in this process.
_to_check: dict[str, list[bytes]] = {}


class DbmSession(BaseSession):
    """Sessions in a dbm file, for all children of a server; they survive restarts.

    The file is opened, used and closed for each operation, by one thread of one process at a time.

    Args:
        req, sid, secret, timeout, lock: as for `BaseSession`.
        dbm: the file; None for what the configuration says.
        dbmtype: module with a function ``open``, such as `dbm.gnu`; None for the kind that the file has, or that
            Python prefers.
    """

    LOCAL = True

    def __init__(
        self,
        req: Any,
        dbm: str | None = None,
        sid: str | int | None = 0,
        secret: str | bytes | None = None,
        dbmtype: Any = None,
        timeout: int = 0,
        lock: int = 1,
    ) -> None:
        options = req.get_options()
        path = dbm or opt.text(options, "mod_python.dbm_session.database_filename", "session_dbm")
        if path:
            path = os.path.abspath(path)
            check_file(path, "mod_python.dbm_session.database_filename")
        else:
            configured = opt.text(
                options,
                "mod_python.dbm_session.database_directory",
                "mod_python.session.database_directory",
                "session_directory",
            )
            path = os.path.join(directory(configured), "mp_sess.dbm")
            for suffix in _SUFFIXES:
                check_own(path + suffix)
        self._dbmfile = path
        self._dbmtype = dbmtype
        BaseSession.__init__(self, req, sid=sid, secret=secret, timeout=timeout, lock=lock)

    def _store_key(self) -> str:
        return f"dbm {self._dbmfile}"

    def _directory(self) -> str:
        return os.path.dirname(self._dbmfile)

    def _file(self) -> DbmFile:
        return DbmFile(self._dbmfile, self._dbmtype)

    def _use(self, function: Callable[[Any], T]) -> T:
        try:
            return self._file().use(function)
        except SessionUnavailable as exc:
            self._log_unavailable(exc)
            raise

    def do_load(self) -> dict[str, Any] | None:
        """Return what is stored, or None."""
        key = self._sid.encode()
        data = self._use(lambda db: db[key] if key in db else None)  # noqa: SIM401  (not all have get)
        return None if data is None else self._decoded(data)

    def do_save(self, dict: dict[str, Any]) -> None:  # noqa: A002
        """Store a dictionary."""
        key, data = self._sid.encode(), self._serializer().dumps(dict)

        def store(db: Any) -> None:
            db[key] = data

        self._use(store)

    def do_delete(self) -> None:
        """Remove what is stored."""
        key = self._sid.encode()

        def remove(db: Any) -> None:
            if key in db:
                del db[key]

        self._use(remove)

    def do_cleanup(self) -> None:
        """Have expired sessions removed after the request."""
        self._req.register_cleanup(cleanup, (self._file(), self._serializer(), self._req.server))


class DbmFile:
    """A dbm file, used by one at a time.

    Args:
        path: the file.
        kind: the module that opens it; None to let `dbm` choose.
    """

    def __init__(self, path: str, kind: Any) -> None:
        self.path = path
        self._kind = kind

    def use(self, function: Callable[[Any], T]) -> T:
        """Call a function with the open file.

        Raises:
            SessionUnavailable: others use it for too long.
            SessionError: it cannot be used.
        """
        kind = self._kind
        if kind is None:
            import dbm as kind
        name = os.path.basename(self.path)
        errors: tuple[type[Exception], ...] = (OSError, *_errors(kind))
        held = locks_in(os.path.dirname(self.path)).try_take(f"dbm {name}", _TIMEOUT)
        if held is None:
            raise SessionUnavailable(f"the file of sessions {self.path} was in use for more than {_TIMEOUT:g} s")
        try:
            db = kind.open(self.path, "c", 0o600)  # noqa: SIM115  (not all are context managers)
            try:
                return function(db)
            finally:
                db.close()
        except errors as exc:
            raise SessionError(f"the file of sessions {self.path}: {exc}") from None
        finally:
            held.release()


def cleanup(data: tuple[DbmFile, Serializer, Any]) -> None:
    """Remove expired and unreadable sessions, some hundreds at a time, for two seconds at most."""
    file, serializer, server = data
    end = time.monotonic() + _LIMIT
    try:
        keys = _to_check.pop(file.path, None)
        if not keys:
            keys = file.use(lambda db: [key if isinstance(key, bytes) else key.encode() for key in db.keys()])  # noqa: SIM118
        while keys and time.monotonic() < end:
            batch = keys[-_BATCH:]
            del keys[-_BATCH:]
            file.use(lambda db, batch=batch: _remove_expired(db, batch, serializer))  # type: ignore[misc]
        if keys:
            _to_check[file.path] = keys
    except SessionError as exc:
        apache.log_error(f"mod_python: clean-up of sessions: {exc}", apache.APLOG_WARNING, server)


def _remove_expired(db: Any, keys: list[bytes], serializer: Serializer) -> None:
    now = time.time()
    for key in keys:
        if key in db:
            stored = serializer.loads(db[key])
            if stored is None or now - stored["_accessed"] > stored["_timeout"]:
                del db[key]


def _errors(kind: Any) -> tuple[type[Exception], ...]:
    """The exceptions of a dbm module: one class, or for `dbm` itself a tuple of them."""
    error = getattr(kind, "error", ())
    return error if isinstance(error, tuple) else (error,)
