# ruff: noqa: N999  (documented name)
"""Sessions: data that a client finds again with its next request.

    from mod_python import Session

    def handler(req):
        session = Session.Session(req)
        session["visits"] = session.get("visits", 0) + 1
        session.save()

The client keeps an id in a cookie; the data stay in the server.  `Session` makes an object of the class that the
configuration chooses.

Attributes:
    COOKIE_NAME: name of the cookie, unless an option says otherwise.
    DFT_TIMEOUT: seconds without an access after which a session ends.
    CLEANUP_CHANCE: one of so many requests removes expired sessions.
"""

from __future__ import annotations

from ._session.base import BaseSession
from ._session.errors import SessionError, SessionLockLost, SessionLockTimeout, SessionUnavailable
from ._session.memory import MemorySession

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._session.dbm_file import DbmSession
    from ._session.files import FileSession
    from ._session.redis_server import RedisSession
    from ._session.sqlite import SQLiteSession

__all__ = [
    "BaseSession",
    "DbmSession",
    "FileSession",
    "MemorySession",
    "RedisSession",
    "SQLiteSession",
    "Session",
    "SessionError",
    "SessionLockLost",
    "SessionLockTimeout",
    "SessionUnavailable",
]

COOKIE_NAME = "pysid"
DFT_TIMEOUT = 30 * 60
CLEANUP_CHANCE = 1000

# Loaded when they are used: most servers need one of them.
_STORES = {
    "DbmSession": "dbm_file",
    "FileSession": "files",
    "MemorySession": "memory",
    "RedisSession": "redis_server",
    "SQLiteSession": "sqlite",
}


def __getattr__(name: str) -> Any:
    module = _STORES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"mod_python._session.{module}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_STORES})


def Session(  # noqa: N802  (documented name)
    req: Any, sid: str | int | None = 0, secret: str | bytes | None = None, timeout: int = 0, lock: int = 1
) -> BaseSession:
    """Make a session of the class that ``PythonOption mod_python.session.session_type`` names.

    Without the option it is `MemorySession` if the server has one child process, else `SQLiteSession`.

    Args:
        req, sid, secret, timeout, lock: as for `BaseSession`.

    Raises:
        Exception: there is no such class.
    """
    options = req.get_options()
    name = options.get("mod_python.session.session_type") or options.get("session")
    if not name:
        name = "MemorySession" if _one_process() else "SQLiteSession"
    elif name not in _STORES:
        raise Exception(f"Unknown session type {name}: it can be {', '.join(sorted(_STORES))}")
    store: type[Any] = globals().get(name) or __getattr__(name)
    made: BaseSession = store(req, sid=sid, secret=secret, timeout=timeout, lock=lock)
    return made


def _one_process() -> bool:
    """Whether the server never has a second child beside the first."""
    global _alone
    if _alone is None:
        from mod_python import apache

        threaded = apache.mpm_query(apache.AP_MPMQ_IS_THREADED)
        _alone = bool(threaded) and (
            not apache.mpm_query(apache.AP_MPMQ_IS_FORKED) or apache.mpm_query(apache.AP_MPMQ_MAX_DAEMONS) <= 1
        )
    return _alone


_alone: bool | None = None
