"""Locks between httpds in a Redis server: `RedisLocks`.

A lock is a key with a random token, which Redis forgets after some seconds, so that a node that dies does not keep it.
Nodes that live renew what they hold, from a thread that exists while something is held.
"""

from __future__ import annotations

import threading
import time

from mod_python import apache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_PAUSE = 0.01  # seconds between looks at a lock that another node has


class RedisLocks:
    """Locks in a Redis server; see `locks.Outer`.

    Args:
        client: a `redis.Redis`.
        key: makes the name of a lock of what it is for.
        expiry: seconds until a lock that nobody renews is free.
        name: what to call the server in messages.
    """

    def __init__(self, client: Any, key: Callable[[str], str], expiry: float, name: str) -> None:
        self._client = client
        self._key = key
        self._expiry = expiry
        self.name = name
        self._renewer = _Renewer(expiry / 3)
        from redis.exceptions import TimeoutError as Hangs

        self.hangs: tuple[type[Exception], ...] = (Hangs,)

    pause = 2 * _PAUSE

    def acquire(self, key: str, deadline: float) -> Taken | None:
        """Take a lock; see `locks.Outer`.

        Raises:
            redis.RedisError: the server does not answer.
        """
        lock = self._client.lock(
            self._key(key),
            timeout=self._expiry,
            sleep=_PAUSE,
            thread_local=False,  # it is released in any thread
        )
        if not lock.acquire(blocking_timeout=max(deadline - time.monotonic(), 0.0)):
            return None
        taken = Taken(lock, self._renewer, self.name)
        self._renewer.add(taken)
        return taken


class Taken:
    """A lock that is held; calling it gives it back."""

    __slots__ = ("_lock", "_name", "_renewer", "abandoned", "due", "token")

    def __init__(self, lock: Any, renewer: _Renewer, name: str) -> None:
        self._lock = lock
        self._name = name
        self._renewer = renewer
        self.token: bytes = lock.local.token
        self.due = 0.0  # when to renew it
        self.abandoned = False  # the server hangs: leave it to expire

    def __call__(self) -> None:
        from redis.exceptions import LockError, RedisError

        self._renewer.discard(self)
        if self.abandoned:
            return
        try:
            self._lock.release()
        except LockError:
            pass  # it had expired; saving has told
        except RedisError as exc:
            apache.log_error(
                f"mod_python: the lock of a session stays until it expires, because the Redis server {self._name} "
                f"failed: {type(exc).__name__}: {exc}",
                apache.APLOG_WARNING,
            )

    def renew(self) -> None:
        """Hold it for the whole time again."""
        from redis.exceptions import RedisError

        try:
            self._lock.reacquire()
        except RedisError:
            pass  # the next time, or saving will tell


class _Renewer:
    """Renews the locks of this process.

    Args:
        interval: seconds between two renewals of a lock.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._taken: set[Taken] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopped = False
        apache.register_cleanup(self.stop)

    def add(self, taken: Taken) -> None:
        """Renew a lock from now on."""
        with self._changed:
            taken.due = time.monotonic() + self._interval
            self._taken.add(taken)
            if self._thread is None and not self._stopped:
                self._thread = threading.Thread(target=self._run, name="mod_python: locks of sessions")
                self._thread.start()

    def discard(self, taken: Taken) -> None:
        """Renew it no more."""
        with self._changed:
            self._taken.discard(taken)

    def stop(self, _: object = None) -> None:
        """End the thread, with the child process."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                # Short requests come and go meanwhile without a word to this thread.
                self._changed.wait(self._interval / 2)
                if self._stopped or not self._taken:
                    self._thread = None
                    return
                now = time.monotonic()
                due = [taken for taken in list(self._taken) if taken.due <= now]
                for taken in due:
                    taken.due = now + self._interval
            for taken in due:
                taken.renew()
