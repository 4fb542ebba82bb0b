"""`SQLiteSession`: sessions of all children in one SQLite database."""

from __future__ import annotations

import os
import time

from mod_python import apache

from . import options as opt
from .base import BaseSession, locks_in
from .errors import SessionError, SessionUnavailable
from .locks import Locks
from .private import check_file, create_own, directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from typing import Any

_TIMEOUT = 10.0  # seconds to wait for another process' write; each takes a millisecond or so
_BATCH = 500  # sessions that are removed in one transaction
_LIMIT = 2.0  # seconds for one clean-up

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS session (id TEXT PRIMARY KEY, expires REAL NOT NULL, data BLOB NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS session_expires ON session (expires)",
)
_SAVE = """
    INSERT INTO session VALUES (?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET expires = excluded.expires, data = excluded.data
"""
_CLEAN = "DELETE FROM session WHERE id IN (SELECT id FROM session WHERE expires < ? LIMIT ?)"


class Database:
    """A database of sessions, and the connections of this process to it.

    A connection serves one operation at a time, so there are never more than threads that use one at once.

    Args:
        path: its file; it and its directory are ours.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        # Each with the number of the file that it has open.
        self._idle: list[tuple[sqlite3.Connection, int]] = []
        self._pid = os.getpid()

    def run(self, statement: str, *arguments: object) -> tuple[list[Any], int]:
        """Execute a statement as a transaction of its own.

        Returns:
            the first row, or [] if there is none; how many rows were changed.

        Raises:
            SessionUnavailable: others write for too long.
            SessionError: the database cannot be used.
        """
        import sqlite3

        connection = None
        try:
            connection, inode = self._take()
            cursor = connection.execute(statement, arguments)
            row = cursor.fetchone()
            found = [] if row is None else list(row), cursor.rowcount
            cursor.close()
            self._idle.append((connection, inode))
        except sqlite3.Error as exc:
            if connection is not None:
                connection.close()
            message = f"the database of sessions {self.path}: {exc}"
            if isinstance(exc, sqlite3.OperationalError) and "locked" in str(exc):
                raise SessionUnavailable(message) from None
            raise SessionError(message) from None
        return found

    def _take(self) -> tuple[sqlite3.Connection, int]:
        if self._pid != os.getpid():  # connections do not outlive a fork
            self._idle, self._pid = [], os.getpid()
        while True:
            try:
                connection, inode = self._idle.pop()
            except IndexError:
                connection = self._open()
                return connection, self._inode()
            if inode == self._inode():
                return connection, inode
            # Somebody has tidied up; go on with the file that others find.
            connection.close()

    def _inode(self) -> int:
        """The number of the file that has the name now; 0 if there is none."""
        try:
            return os.stat(self.path).st_ino
        except FileNotFoundError:
            return 0

    def _open(self) -> sqlite3.Connection:
        import sqlite3

        # SQLite would make it readable for everybody.
        create_own(self.path)
        connection = sqlite3.connect(self.path, timeout=_TIMEOUT, isolation_level=None, check_same_thread=False)
        # One at a time: who changes the mode of a new database does not wait for others who do.
        held = locks_in(os.path.dirname(self.path)).take("opening of a database", _TIMEOUT)
        try:
            # Readers do not wait for a writer; what is saved survives the end of a process,
            # though a power failure may take the last moments.
            connection.execute("PRAGMA journal_mode = WAL").close()
            connection.execute("PRAGMA synchronous = NORMAL").close()
            for statement in _SCHEMA:
                connection.execute(statement).close()
        except BaseException:
            connection.close()
            raise
        finally:
            held.release()
        return connection

    def close(self, _: object = None) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            try:
                self._idle.pop()[0].close()
            except IndexError:
                return


_databases: dict[str, Database] = {}


def database(path: str) -> Database:
    """Return the database in a file, one object for all in this interpreter."""
    found = _databases.get(path)
    if found is None:
        new = Database(path)
        found = _databases.setdefault(path, new)
        if found is new:
            apache.register_cleanup(new.close)
    return found


class SQLiteSession(BaseSession):
    """Sessions in a SQLite database, for all children of a server; they survive restarts.

    Args: as for `BaseSession`.
    """

    LOCAL = True

    def __init__(
        self, req: Any, sid: str | int | None = 0, secret: str | bytes | None = None, timeout: int = 0, lock: int = 1
    ) -> None:
        options = req.get_options()
        path = opt.text(options, "mod_python.sqlite_session.database_filename")
        if path:
            check_file(path, "mod_python.sqlite_session.database_filename")
        else:
            configured = opt.text(
                options,
                "mod_python.sqlite_session.database_directory",
                "mod_python.session.database_directory",
                "session_directory",
            )
            path = os.path.join(directory(configured), "mp_sess.sqlite")
        self._database = database(path)
        BaseSession.__init__(self, req, sid=sid, secret=secret, timeout=timeout, lock=lock)

    def _store_key(self) -> str:
        return f"sqlite {self._database.path}"

    def _directory(self) -> str:
        return os.path.dirname(self._database.path)

    def _locks(self) -> Locks:
        return locks_in(self._directory())

    def _run(self, statement: str, *arguments: object) -> list[Any]:
        try:
            return self._database.run(statement, *arguments)[0]
        except SessionUnavailable as exc:
            self._log_unavailable(exc)
            raise

    def do_load(self) -> dict[str, Any] | None:
        """Return what is stored, or None."""
        row = self._run("SELECT data FROM session WHERE id = ?", self._sid)
        return self._decoded(row[0]) if row else None

    def do_save(self, dict: dict[str, Any]) -> None:  # noqa: A002
        """Store a dictionary."""
        data = self._serializer().dumps(dict)
        self._run(_SAVE, self._sid, dict["_accessed"] + dict["_timeout"], data)

    def do_delete(self) -> None:
        """Remove what is stored."""
        self._run("DELETE FROM session WHERE id = ?", self._sid)

    def do_cleanup(self) -> None:
        """Have expired sessions removed after the request."""
        self._req.register_cleanup(cleanup, (self._database, self._req.server))


def cleanup(data: tuple[Database, Any]) -> None:
    """Remove expired sessions, some hundreds at a time, for two seconds at most."""
    store, server = data
    end = time.monotonic() + _LIMIT
    try:
        while store.run(_CLEAN, time.time(), _BATCH)[1] == _BATCH and time.monotonic() < end:
            pass
    except SessionError as exc:
        apache.log_error(f"mod_python: clean-up of sessions: {exc}", apache.APLOG_WARNING, server)
