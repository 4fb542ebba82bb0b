"""One at a time, for each session.

A lock is taken in two steps.  In the process, threads that want the same key wait in a row; the first of them then
takes the lock that holds between processes (`Outer`), so that no more than one thread of a process asks for it.
Waiting in either step is without the GIL and ends at a time-out.

A server that holds the outer locks may hang.  Then all that wait in the row fail with the first, and do not ask one
after the other.

Locks belong to an owner, not to a thread: what a request holds is given back when its memory goes, which may happen
in another thread, and a second session object of the same owner shares what the first one holds.
"""

from __future__ import annotations

import _thread
from time import monotonic, sleep

from .errors import SessionLockTimeout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Outer(Protocol):
        """A lock between processes."""

        def acquire(self, key: str, deadline: float) -> Callable[[], object] | None:
            """Take it.  An attribute ``hangs`` has what that raises if a server hangs; it may be missing.

            Args:
                key: of what.
                deadline: `time.monotonic` until which to wait.

            Returns:
                what gives it back; None if the time is over.
            """

        @property
        def pause(self) -> float:
            """Seconds until other processes have seen that a lock is free; 0 if those that wait get turns."""


# How many threads of a process may have a lock in a row while others wait.
_TURNS = 8


class _Place:
    """The threads of a process that want one key."""

    __slots__ = ("depth", "failed", "failure", "free", "lock", "owner", "row", "users")

    def __init__(self) -> None:
        self.lock = _thread.allocate_lock()
        self.users = 0  # who holds it and who waits
        self.owner: Any = None
        self.depth = 0  # how often the owner has taken it
        self.row = 0  # how many of this process have had it one after the other
        self.free: Callable[[], object] | None = None
        self.failure: Exception | None = None  # of the server, and when
        self.failed = 0.0


class Held:
    """A lock that was taken; `release` may be called again."""

    __slots__ = ("_key", "_locks", "_place", "outer")

    def __init__(self, locks: Locks, key: str, place: _Place) -> None:
        self._locks: Locks | None = locks
        self._key = key
        self._place = place
        self.outer = place.free

    def release(self, _: object = None) -> None:
        """Give the lock back."""
        locks, self._locks = self._locks, None
        if locks is not None:
            locks._release(self._key, self._place)

    def fail(self, exc: Exception) -> None:
        """Have those fail that wait for this lock now: the server hangs."""
        self._place.failure, self._place.failed = exc, monotonic()

    def __del__(self) -> None:
        self.release()


class Locks:
    """The locks of a store.

    Args:
        outer: what holds between processes; None if the store is in one process only.
    """

    def __init__(self, outer: Outer | None = None) -> None:
        self._outer = outer
        # Reentrant: the garbage collector may release a lock anywhere.
        self._guard = _thread.RLock()
        self._places: dict[str, _Place] = {}

    def take(self, key: str, timeout: float, owner: object = None) -> Held:
        """Wait for a lock and take it.

        Args:
            key: of what.
            timeout: seconds.
            owner: who takes it; what it has already, it gets again.

        Raises:
            SessionLockTimeout: it was not free in time.
            Exception: what a holder has given to `Held.fail` in the meantime.
        """
        held = self.try_take(key, timeout, owner)
        if held is None:
            raise SessionLockTimeout(f"session {key[:4]}... was in use by another request for more than {timeout:g} s")
        return held

    def try_take(self, key: str, timeout: float = 0.0, owner: object = None) -> Held | None:
        """Take a lock if it becomes free in time; see `take`."""
        begin = monotonic()
        deadline = begin + timeout
        place = self._enter(key, owner)
        if place.owner is owner and owner is not None and place.depth:
            with self._guard:
                if place.owner is owner and place.depth:
                    place.depth += 1
                    return Held(self, key, place)
        if not (place.lock.acquire(timeout=timeout) if timeout > 0 else place.lock.acquire(False)):
            self._leave(key, place)
            return None
        free: Callable[[], object] | None = None
        try:
            if place.failure is not None and place.failed >= begin:
                raise type(place.failure)(*place.failure.args)
            if self._outer is not None:
                place.row += 1
                if place.row % _TURNS == 0 and self._outer.pause:
                    # Others, who look now and then, would never find it free.
                    sleep(self._outer.pause)
                free = self._acquire(key, deadline, place)
        except BaseException:
            place.lock.release()
            self._leave(key, place)
            raise
        if free is None and self._outer is not None:
            place.lock.release()
            self._leave(key, place)
            return None
        with self._guard:
            place.owner, place.depth, place.free = owner, 1, free
        return Held(self, key, place)

    def _acquire(self, key: str, deadline: float, place: _Place) -> Callable[[], object] | None:
        assert self._outer is not None
        try:
            return self._outer.acquire(key, deadline)
        except getattr(self._outer, "hangs", ()) as exc:
            place.failure, place.failed = exc, monotonic()
            raise

    def _enter(self, key: str, owner: object) -> _Place:
        new = _Place()
        with self._guard:
            while True:
                place = self._places.setdefault(key, new)
                place.users += 1
                # A release by the garbage collector may have come between.
                if self._places.get(key) is place:
                    return place
                place.users -= 1

    def _leave(self, key: str, place: _Place) -> None:
        with self._guard:
            place.users -= 1
            if not place.users and self._places.get(key) is place:
                del self._places[key]

    def _release(self, key: str, place: _Place) -> None:
        with self._guard:
            place.depth -= 1
            last = place.depth == 0
            if last:
                free, place.free, place.owner = place.free, None, None
        if last:
            try:
                if free is not None:
                    free()
            finally:
                place.lock.release()
        self._leave(key, place)
