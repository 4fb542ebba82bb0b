"""`RedisSession`: sessions in a Redis server, for several httpds."""

from __future__ import annotations

from mod_python import apache

from . import options as opt
from .base import BaseSession
from .errors import SessionError, SessionLockLost, SessionUnavailable
from .locks import Locks
from .redis_lock import RedisLocks, Taken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

DEFAULT_URL = "redis://127.0.0.1:6379/0"
DEFAULT_PREFIX = "mod_python:session:"
_TIMEOUT = 5.0  # seconds for an answer
_LOCK_EXPIRY = 10.0  # seconds until the lock of a node that died is free
_LONGEST = 10 * 365 * 86400  # seconds that Redis keeps a session

# Whoever lost the lock, because its node stood still for longer than the lock lasts, must not
# overwrite what others have saved since.
_SAVE = """
if ARGV[1] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[1] then
    return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""


class Store:
    """A Redis server as seen by this interpreter of this process: a pool of connections, made when it is first used.

    Args:
        url: the server.
        prefix: of all keys.
        timeout: seconds for connecting and for each answer; there is no second try.
        expiry: seconds that a lock outlives its node.

    Raises:
        SessionError: the package `redis` is not there, or does not understand the URL.
    """

    def __init__(self, url: str, prefix: str, timeout: float, expiry: float) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as exc:
            raise SessionError(
                f"RedisSession needs the Python package redis ({exc}); install it with: pip install 'mod_python[redis]'"
            ) from None
        self.failure = redis.RedisError
        self.hangs = redis.TimeoutError
        try:
            self.client: Any = redis.Redis.from_url(
                url,
                socket_timeout=timeout,
                socket_connect_timeout=timeout,
                max_connections=1 << 16,  # there are never more than threads
                # Once: a connection that was idle may have been closed by the server.  Not if it hangs.
                retry=Retry(NoBackoff(), 1, (redis.ConnectionError,)),
            )
        except ValueError as exc:
            raise SessionError(f"PythonOption mod_python.redis_session.url: {exc}") from None
        self.name = _name(self.client)
        self.prefix = prefix
        self.locks = Locks(RedisLocks(self.client, self.lock_key, expiry, self.name))
        self._save = self.client.register_script(_SAVE)
        apache.register_cleanup(self.close)

    def key(self, sid: str) -> str:
        """The key of a session; in braces what a cluster chooses the node by."""
        return f"{self.prefix}{{{sid}}}"

    def lock_key(self, sid: str) -> str:
        """The key of a session's lock."""
        return f"{self.prefix}{{{sid}}}:lock"

    def load(self, sid: str) -> bytes | None:
        """Return what is stored, or None."""
        found: bytes | None = self.client.get(self.key(sid))
        return found

    def save(self, sid: str, data: bytes, timeout: float, token: bytes) -> bool:
        """Store a session for a time, unless the lock has gone to somebody else.

        Args:
            sid: its id.
            data: it.
            timeout: seconds.
            token: what the lock was taken with; b"" to store without one.

        Returns:
            whether it was stored.
        """
        milliseconds = int(min(max(timeout, 1.0), _LONGEST) * 1000)
        return bool(self._save(keys=[self.key(sid), self.lock_key(sid)], args=[token, data, milliseconds]))

    def delete(self, sid: str) -> None:
        """Remove what is stored."""
        self.client.delete(self.key(sid))

    def close(self, _: object = None) -> None:
        """Close the connections."""
        self.client.close()


_stores: dict[tuple[str, str, float, float], Store] = {}


def store(options: Any) -> Store:
    """Return the server that the configuration names, one object for all in this interpreter.

    Raises:
        SessionError, ValueError: the configuration has a mistake.
    """
    key = (
        opt.text(options, "mod_python.redis_session.url") or DEFAULT_URL,
        opt.text(options, "mod_python.redis_session.prefix") or DEFAULT_PREFIX,
        opt.seconds(options, _TIMEOUT, "mod_python.redis_session.timeout") or _TIMEOUT,
        opt.seconds(options, _LOCK_EXPIRY, "mod_python.redis_session.lock_expiry") or _LOCK_EXPIRY,
    )
    found = _stores.get(key)
    if found is None:
        found = _stores.setdefault(key, Store(*key))
    return found


class RedisSession(BaseSession):
    """Sessions in a Redis server, for all children of all httpds that name it.

    Redis forgets a session when it expires; there is no clean-up.  Args: as for `BaseSession`.
    """

    def __init__(
        self, req: Any, sid: str | int | None = 0, secret: str | bytes | None = None, timeout: int = 0, lock: int = 1
    ) -> None:
        self._store = store(req.get_options())
        BaseSession.__init__(self, req, sid=sid, secret=secret, timeout=timeout, lock=lock)

    def _locks(self) -> Locks:
        return self._store.locks

    def _store_key(self) -> str:
        return f"redis {self._store.name} {self._store.prefix}"

    def lock(self) -> None:
        """Keep other requests from this session; see `BaseSession.lock`."""
        self._check()
        try:
            BaseSession.lock(self)
        except self._store.failure as exc:
            self._fail(exc)

    def do_load(self) -> dict[str, Any] | None:
        """Return what is stored, or None."""
        self._check()
        try:
            data = self._store.load(self._sid)
        except self._store.failure as exc:
            self._fail(exc)
        return None if data is None else self._decoded(data)

    def do_save(self, dict: dict[str, Any]) -> None:  # noqa: A002
        """Store a dictionary."""
        data = self._serializer().dumps(dict)
        token: bytes = getattr(self._held.held.outer, "token", b"") if self._held is not None else b""
        self._check()
        try:
            saved = self._store.save(self._sid, data, dict["_timeout"], token)
        except self._store.failure as exc:
            self._fail(exc)
        if not saved:
            lost = SessionLockLost(
                "the session was not saved: this process stood still, or Redis did not answer, for so long that the "
                "lock of the session expired (PythonOption mod_python.redis_session.lock_expiry)"
            )
            self._log_unavailable(lost)
            raise lost

    def do_delete(self) -> None:
        """Remove what is stored."""
        self._check()
        try:
            self._store.delete(self._sid)
        except self._store.failure as exc:
            self._fail(exc)

    def do_cleanup(self) -> None:
        """Do nothing: Redis does it."""

    def _check(self) -> None:
        """Do not wait again for a server that has not answered this request, or one that has led to it."""
        message = self._chain.unavailable.get(self._store)
        if message is not None:
            raise SessionUnavailable(message)

    def _fail(self, exc: Exception) -> NoReturn:
        """Report that Redis does not do what it should."""
        unavailable = SessionUnavailable(
            f"sessions cannot be had from the Redis server {self._store.name}: {type(exc).__name__}: {exc}"
        )
        self._log_unavailable(unavailable)
        if isinstance(exc, self._store.hangs):
            self._chain.unavailable[self._store] = unavailable.message
            for session in self._together():
                if session._held is not None:
                    session._held.held.fail(exc)
                    if isinstance(session._held.held.outer, Taken):
                        session._held.held.outer.abandoned = True
        raise unavailable from None


def _name(client: Any) -> str:
    """What to call a server in messages: without its password."""
    found = client.connection_pool.connection_kwargs
    place = found.get("path") or f"{found.get('host', 'localhost')}:{found.get('port', 6379)}"
    return f"{place} (database {found.get('db', 0)})"
