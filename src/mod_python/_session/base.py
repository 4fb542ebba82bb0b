"""`BaseSession`: ids, cookies, locks, and the life of a session, without a store."""

from __future__ import annotations

import os
import time

from mod_python import Cookie, apache

from . import cookie as session_cookie
from . import options as opt
from . import site as sites
from .chain import ClientId, Taken, chain_of, first, is_taken_elsewhere
from .errors import SessionUnavailable
from .filelock import FileLocks
from .items import Items
from .locks import Locks
from .private import directory
from .serial import Serializer, serializer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOCK_TIMEOUT = 30.0  # seconds to wait for a session that another request has
_HEX = frozenset("0123456789abcdef")
_file_locks: dict[str, Locks] = {}


class BaseSession(Items):
    """A session: a dictionary whose items outlive the request.  A class for stores to derive from.

    A store defines ``do_load()``, which returns what ``do_save`` was given or None; ``do_save(dict)``;
    ``do_delete()``; and ``do_cleanup()``, which removes what has expired.  The dictionary has the keys ``_data``,
    ``_created``, ``_accessed`` and ``_timeout``.

    Objects of one session in one request, or in requests that it leads to, have their items and times in common.

    Attributes:
        LOCAL: whether the store is on this machine, so that it holds the sessions of several httpds only if they
            run as one user; then a session belongs to a site of one httpd.

    Args:
        req: the request.
        sid: the session's id; None or 0 for that of the client's cookie.
        secret: key of the cookie's signature; None for no signature.
        lock: keep other requests from the same session until this one ends.
        timeout: seconds without an access until a new session ends; 0 for `Session.DFT_TIMEOUT`.

    Raises:
        ValueError: `sid` is not 32 hexadecimal digits; an option has no sense.
        SessionUnavailable: the session is in use for too long, or its store does not answer: status 503.
        SessionError: the store is not in order.
    """

    LOCAL = False

    def __init__(
        self, req: Any, sid: str | int | None = None, secret: str | bytes | None = None, lock: int = 1, timeout: int = 0
    ) -> None:
        dict.__init__(self)
        self._req: Any = req
        self._sid: Any = sid or None
        self._secret = secret
        self._lock: int = lock
        self._new: int = 1
        self._created: float = 0
        self._accessed: float = 0
        self._timeout: float = 0
        self._locked: int = 0
        self._invalid: int = 0
        self._refused = False
        self._ended = False
        self._held: Taken | None = None
        options = req.get_options()
        self._options: Any = options
        self._cookie_name: str = (
            opt.text(options, "mod_python.session.cookie_name", "session_cookie_name") or _public().COOKIE_NAME
        )
        if self._sid is not None and not valid_sid(self._sid):
            raise ValueError(f"sid must be 32 characters of 0-9 and a-f, not {self._sid!r}")
        site = sites.site(req, options)
        self._site = sites.local_site(options, site) if self.LOCAL else site
        self._first: Any = first(req)
        self._chain = chain_of(self._first)
        self._client = ClientId(self._first, self._chain, self._cookie_name, site)
        self._store_name = self._store_key()
        session_cookie.guard(req, session_cookie.SESSION)
        self.init_lock()
        try:
            self._begin(timeout)
        except BaseException:
            self.unlock()
            raise

    def _from_cookie(self) -> str | None:
        """Return the id that the client sent, if it is one."""
        if self._secret:
            cookie = Cookie.get_cookie(
                self._req, self._cookie_name, Cookie.SignedCookie, secret=self._secret, mismatch=Cookie.Cookie.IGNORE
            )
        else:
            cookie = Cookie.get_cookie(self._req, self._cookie_name)
        return cookie.value if cookie is not None and valid_sid(cookie.value) else None

    def _begin(self, timeout: int) -> None:
        if not self._resume():
            # What the client made up is never adopted.
            self.unlock()
            self._sid = new_sid()
            self.lock()
            session_cookie.send(self._req, self.make_cookie())
            self._client.set(self._sid, made=True)
        group = self._chain.group(self._store_name, self._sid)
        if group is None:
            self._chain.join(self._store_name, self._sid, self).stored = not self._new
        if self._new:
            if group is None:
                self._created = time.time()
            if timeout or group is None:
                self.set_timeout(timeout or _public().DFT_TIMEOUT)
        self._accessed = time.time()
        chance = _public().CLEANUP_CHANCE
        if chance > 0 and int.from_bytes(os.urandom(4), "big") % int(chance) == 0:
            self._cleanup_quietly()

    def _resume(self) -> bool:
        """Go on with a session that there is, or whose id this request has made; else return false."""
        known, made = self._client.get()
        is_clients = self._sid is None
        if self._sid is None:
            self._sid = self._from_cookie() if known is None else known
        if not self._sid:
            return False
        self.lock()
        group = self._chain.group(self._store_name, self._sid)
        if group is not None and self._join(group):
            return True
        if self.load():
            self._new = 0
            if is_clients and known is None:
                self._client.set(self._sid, made=False)
            return True
        # An id that this chain has made, or found in another store, is good for this store, too.
        return (
            self._sid == known and not self._refused and (made or not self._chain.has_seen(self._store_name, self._sid))
        )

    def _join(self, group: Any) -> bool:
        """Have the items and times of the other objects; false if the session has ended meanwhile."""
        others = list(group)
        if not others:
            return False
        one = others[0]
        # If nobody holds the lock, other requests may have changed the session.
        if group.stored and not group.changed and not any(other._locked for other in others):
            if not self.load():
                self._chain.forget(self._store_name, self._sid)
                return False
            for other in others:
                dict.clear(other)
                dict.update(other, self)
                other._created, other._accessed, other._timeout = self._created, self._accessed, self._timeout
        else:
            dict.update(self, one)
            self._created, self._accessed, self._timeout = one._created, one._accessed, one._timeout
        group.add(self)
        self._new = 0 if group.stored else 1
        return True

    def _cleanup_quietly(self) -> None:
        """Clean up for others: this request goes on whatever comes of it."""
        try:
            self.cleanup()
        except Exception as exc:
            self._req.log_error(f"mod_python: clean-up of sessions: {type(exc).__name__}: {exc}", apache.APLOG_ERR)

    # -- the cookie

    def make_cookie(self) -> Cookie.Cookie:
        """Return the cookie that carries the id."""
        options = self._options
        if self._secret:
            cookie: Cookie.Cookie = Cookie.SignedCookie(self._cookie_name, self._sid, self._secret)
        else:
            cookie = Cookie.Cookie(self._cookie_name, self._sid)
        cookie.path = self._path()
        domain = opt.text(options, "mod_python.session.application_domain")
        if domain:
            cookie.domain = domain
        if opt.switch(options, True, "mod_python.session.cookie_httponly"):
            cookie.httponly = True
        samesite = opt.text(options, "mod_python.session.cookie_samesite") or "Lax"
        if samesite.lower() != "off":
            cookie.samesite = samesite
        secure = opt.text(options, "mod_python.session.cookie_secure") or "auto"
        if secure.lower() != "auto":
            cookie.secure = opt.as_switch(secure, "PythonOption mod_python.session.cookie_secure")
        elif self._req.is_https():
            cookie.secure = True
        return cookie

    def _path(self) -> str:
        req = self._req
        path = opt.text(self._options, "mod_python.session.application_path", "ApplicationPath")
        if path:
            return path
        hlist = req.hlist
        found: str | None = hlist.directory if hlist is not None else None
        if not found:
            return "/"
        root = req.document_root()
        if root and found.startswith(root):
            found = found[len(root) :]
        # A ';' would end the attribute.
        if not found.startswith("/") or ";" in found or not (req.uri or "").startswith(found):
            return "/"
        return found

    # -- what applications call

    def is_new(self) -> int:
        """1 if the session begins with this request."""
        return self._new

    def id(self) -> str:
        """Return the id, 32 hexadecimal digits."""
        return self._sid  # type: ignore[no-any-return]

    def created(self) -> float:
        """Return when the session began, in seconds since the epoch."""
        return self._created

    def last_accessed(self) -> float:
        """Return when the session was last used, in seconds since the epoch."""
        return self._accessed

    def timeout(self) -> float:
        """Return after how many seconds without an access the session ends."""
        return self._timeout

    def set_timeout(self, secs: float) -> None:
        """Set after how many seconds without an access the session ends."""
        for session in self._together():
            session._timeout = secs

    def load(self) -> int:
        """Take the items, times and time-out from the store.

        Returns:
            1, or 0 if there is no such session, or no longer.
        """
        stored = self.do_load()
        if stored is None:
            return 0
        try:
            accessed, timeout = stored["_accessed"], stored["_timeout"]
            created, data = stored["_created"], dict(stored["_data"])
        except (KeyError, TypeError, ValueError):
            self._req.log_error("mod_python: what was stored for a session is none", apache.APLOG_WARNING)
            return 0
        if time.time() - accessed > timeout:
            return 0
        if not self._is_of_this_site(data):
            self._refused = True
            return 0
        for session in self._together():
            session._created, session._accessed, session._timeout = created, accessed, timeout
        self.clear()
        self.update(data)
        self.pop(sites.KEY, None)
        if self._group is not None:
            self._group.changed = False
            self._group.stored = True
        return 1

    def _together(self) -> list[BaseSession]:
        """This object and the others of the session."""
        return list(self._group) if self._group is not None else [self]

    def _is_of_this_site(self, data: dict[str, Any]) -> bool:
        found = data.get(sites.KEY)
        if found == self._site:
            return True
        if found is None and opt.switch(self._options, False, "mod_python.session.take_over"):
            return True
        self._req.log_error(
            f"mod_python: session {self._sid[:4]}... is unknown here, because it belongs to "
            f"{'no site' if found is None else f'the site {found!r}'}, not to {self._site!r}",
            apache.APLOG_DEBUG,
        )
        return False

    def save(self) -> None:
        """Put the items, times and time-out into the store.  What is not saved is lost.

        Raises:
            SessionUnavailable: the store does not answer, or another request has taken the session: status 503.
            SessionError: a value cannot be stored.
            OSError: the store cannot be written.
        """
        if self._invalid:
            return
        data = self.copy()
        data[sites.KEY] = self._site
        self.do_save({"_data": data, "_created": self._created, "_accessed": self._accessed, "_timeout": self._timeout})
        session_cookie.guard(self._req, session_cookie.STORED)
        if self._group is not None:
            self._group.changed = False
            self._group.stored = True
        if self._client.get()[0] == "" and self._ended:
            self._client.set(self._sid, made=False)

    def delete(self) -> None:
        """Remove the session from the store, and all items from the dictionary."""
        self.do_delete()
        self.clear()
        if self._group is not None:
            self._group.changed = False
            self._group.stored = False
        if self._is_the_clients():
            self._client.end()
            self._ended = True

    def invalidate(self) -> None:
        """End the session: delete it, have the client forget its cookie, and make `save` do nothing."""
        if self._is_the_clients():
            cookie = self.make_cookie()
            cookie.expires = 0
            cookie.max_age = 0
            session_cookie.send(self._req, cookie)
            session_cookie.guard(self._req, session_cookie.STORED)
        self.delete()
        for session in self._together():
            session._invalid = 1
        self._chain.forget(self._store_name, self._sid)

    def _is_the_clients(self) -> bool:
        """Whether the client has no other session: one that has begun meanwhile, or one beside that of `sid`."""
        known, _ = self._client.get()
        if known is None:
            known = self._from_cookie()
        return known is None or known == self._sid

    def cleanup(self) -> None:
        """Remove expired sessions from the store, now or after the request."""
        self.do_cleanup()

    # -- locks

    def init_lock(self) -> None:
        """Prepare the lock; for stores that have their own."""

    def lock(self) -> None:
        """Keep other requests from this session, unless the object was made with ``lock=0``.

        Until `unlock`, the end of the request, or that of this object.

        Raises:
            SessionUnavailable: another request has had the session for the whole of
                ``PythonOption mod_python.session.lock_timeout``, 30 seconds by default: status 503.
        """
        if not self._lock or self._locked:
            return
        key = f"{self._store_name} {self._sid}"
        if is_taken_elsewhere(self._first, key):
            self._locked = 1
            return
        timeout = opt.seconds(self._options, LOCK_TIMEOUT, "mod_python.session.lock_timeout")
        try:
            held = self._locks().take(self._sid, timeout, self._owner())
        except SessionUnavailable as exc:
            self._log_unavailable(exc)
            raise
        self._held = Taken(self._first, self._chain, key, held)
        self._locked = 1
        self._req.register_cleanup(self._held.release)

    def unlock(self) -> None:
        """Let other requests have the session."""
        held, self._held = self._held, None
        self._locked = 0
        if held is not None:
            held.release()

    def _locks(self) -> Locks:
        """The locks of the store; those on a file in the directory for sessions unless the store says otherwise."""
        return locks_in(self._directory())

    def _directory(self) -> str:
        """The private directory of the store."""
        return directory(opt.text(self._options, "mod_python.session.database_directory", "session_directory"))

    def _store_key(self) -> str:
        """Name the store: objects of one name and one session have their items in common."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    def _owner(self) -> object:
        """Return whose the lock is: the connection, on which one request comes after the other.

        Not the request: it may have redirected, or be over but not gone, since httpd may keep the end of a response
        while it has the next request of the connection already.
        """
        found = getattr(self._req, "connection", None)
        return self._first if found is None else found

    def _serializer(self) -> Serializer:
        return serializer(self._options)

    def _decoded(self, data: bytes) -> dict[str, Any] | None:
        """Return the dictionary in what the store has, or None if it has none that may be read."""
        stored = self._serializer().loads(data)
        if stored is None:
            self._req.log_error(
                "mod_python: what is stored for a session is damaged, or a pickle, which is read with "
                "PythonOption mod_python.session.serializer pickle only; a new session begins",
                apache.APLOG_WARNING,
            )
        return stored

    def _log_unavailable(self, exc: SessionUnavailable) -> None:
        self._req.log_error(f"mod_python: {exc}", apache.APLOG_ERR)

    def __del__(self) -> None:
        # Not unlock(), which may be a subclass' own.
        held = getattr(self, "_held", None)
        if held is not None:
            held.release()

    # -- what stores define

    def do_load(self) -> dict[str, Any] | None:
        """Return what `do_save` was given for this id, or None."""
        raise NotImplementedError

    def do_save(self, dict: dict[str, Any]) -> None:  # noqa: A002  (documented name)
        """Store a dictionary for this id."""
        raise NotImplementedError

    def do_delete(self) -> None:
        """Remove what is stored for this id."""
        raise NotImplementedError

    def do_cleanup(self) -> None:
        """Remove what has expired."""
        raise NotImplementedError


def valid_sid(sid: object) -> bool:
    """Whether something is a session id; only then may it become the name of a file or key."""
    return isinstance(sid, str) and len(sid) == 32 and _HEX.issuperset(sid)


def new_sid() -> str:
    """Return a new id: 128 bits of the system's random numbers."""
    import secrets

    return secrets.token_hex(16)


def locks_in(path: str) -> Locks:
    """Return the locks on a file in a private directory."""
    found = _file_locks.get(path)
    if found is None:
        found = _file_locks.setdefault(path, Locks(FileLocks(os.path.join(path, "mp_sess.locks"))))
    return found


def _public() -> Any:
    """The module whose settings applications change."""
    from mod_python import Session

    return Session
