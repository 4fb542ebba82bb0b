"""`MemorySession`: sessions in one process."""

from __future__ import annotations

import time
from collections import deque

from .base import BaseSession
from .locks import Locks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# How many sessions a clean-up looks at; the next one goes on with the others.
_BATCH = 10_000

_store: dict[str, dict[str, Any]] = {}
_locks = Locks()
_to_check: deque[str] = deque()


class MemorySession(BaseSession):
    """Sessions in the memory of one process and interpreter; they end with it.

    Values can be of any type.  Args: as for `BaseSession`.
    """

    LOCAL = True

    def __init__(
        self, req: Any, sid: str | int | None = 0, secret: str | bytes | None = None, timeout: int = 0, lock: int = 1
    ) -> None:
        BaseSession.__init__(self, req, sid=sid, secret=secret, timeout=timeout, lock=lock)

    def _store_key(self) -> str:
        return "memory"

    def _locks(self) -> Locks:
        return _locks

    def do_cleanup(self) -> None:
        """Have expired sessions removed after the request."""
        self._req.register_cleanup(cleanup)

    def do_load(self) -> dict[str, Any] | None:
        """Return what is stored, or None."""
        stored = _store.get(self._sid)
        return None if stored is None else dict(stored)

    def do_save(self, dict: dict[str, Any]) -> None:  # noqa: A002
        """Store a dictionary."""
        _store[self._sid] = dict

    def do_delete(self) -> None:
        """Remove what is stored."""
        _store.pop(self._sid, None)


def cleanup(_: object = None) -> None:
    """Remove expired sessions, or those among the next ten thousand."""
    now = time.time()
    if not _to_check:
        _to_check.extend(list(_store))
    for _number in range(_BATCH):
        try:
            sid = _to_check.popleft()
        except IndexError:
            return
        stored = _store.get(sid)
        if stored is not None and now - stored["_accessed"] > stored["_timeout"]:
            held = _locks.try_take(sid)
            if held is not None:
                try:
                    if _store.get(sid) is stored:
                        _store.pop(sid, None)
                finally:
                    held.release()
