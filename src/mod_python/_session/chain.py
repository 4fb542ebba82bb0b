"""What a request and those that it leads to have of sessions: `Chain`.

Internal redirects, error pages, sub-requests and the pages of templates belong to what the client has asked for once,
so they have one session.  Its id is in the notes of the first request, which all interpreters see.  What can be shared
in one interpreter only is an attribute of it.
"""

from __future__ import annotations

import _thread

from .items import Group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .items import Items
    from .locks import Held

_ID = "mod_python.session.id:"
_LOCK = "mod_python.session.lock:"
_ENDED = "-"
_MADE = "+"
_ATTRIBUTE = "_mod_python_sessions"


class Chain:
    """The sessions of a chain of requests, in one interpreter.

    Attributes:
        unavailable: servers that did not answer in time -> the message.
    """

    __slots__ = ("_groups", "_seen", "_taken", "notes", "unavailable")

    def __init__(self) -> None:
        # Weak, by way of the groups: an object that nobody has any more gives its lock back.
        self._groups: dict[tuple[str, str], Group] = {}
        self._seen: set[tuple[str, str]] = set()
        self._taken: dict[str, int] = {}
        # In place of the first request's, if it is a stand-in that has none.
        self.notes: dict[str, str] = {}
        self.unavailable: dict[Any, str] = {}

    def group(self, store: str, sid: str) -> Group | None:
        """Return the objects there are of a session, if there are any."""
        found = self._groups.get((store, sid))
        return found if found is not None and any(True for _ in found) else None

    def join(self, store: str, sid: str, member: Items) -> Group:
        """Note an object of a session."""
        found = self.group(store, sid)
        if found is None:
            found = self._groups[store, sid] = Group()
        found.add(member)
        self._seen.add((store, sid))
        return found

    def forget(self, store: str, sid: str) -> None:
        """Have objects that are made from now on share nothing with those there are."""
        self._groups.pop((store, sid), None)

    def has_seen(self, store: str, sid: str) -> bool:
        """Whether this store has had a session of that id in this chain."""
        return (store, sid) in self._seen


def first(req: Any) -> Any:
    """Return the request that the client has made."""
    while True:
        before = getattr(req, "main", None)
        if before is None:
            before = getattr(req, "prev", None)
        if before is None:
            return req
        req = before


def chain_of(root: Any) -> Chain:
    """Return the chain that begins with a request."""
    found = getattr(root, _ATTRIBUTE, None)
    if found is None:
        found = Chain()
        try:
            setattr(root, _ATTRIBUTE, found)
        except AttributeError:  # a stand-in for unit tests
            pass
    return found


class ClientId:
    """The id that the client has, or gets, for one cookie and site.

    Args:
        root: the request that begins the chain.
        chain: the chain.
        cookie: the name of the cookie.
        site: the site.
    """

    __slots__ = ("_key", "_notes")

    def __init__(self, root: Any, chain: Chain, cookie: str, site: str) -> None:
        self._notes: Any = getattr(root, "notes", None)
        if self._notes is None:
            self._notes = chain.notes
        self._key = f"{_ID}{cookie} {site}"

    def get(self) -> tuple[str | None, bool]:
        """Return the id, and whether it was made in this chain.

        The id is None if nothing was decided yet: then that of the client's cookie counts.  It is empty if the session
        has ended in this chain: then that of the cookie does not count either.
        """
        found = self._notes.get(self._key)
        if found is None:
            return None, False
        if found == _ENDED:
            return "", False
        return found.removeprefix(_MADE), found.startswith(_MADE)

    def set(self, sid: str, made: bool) -> None:
        """Note the id."""
        self._notes[self._key] = _MADE + sid if made else sid

    def end(self) -> None:
        """Note that the client's session has ended."""
        self._notes[self._key] = _ENDED


class Taken:
    """The lock of a session, held for a chain of requests; `release` may be called again.

    As long as it is held, the other interpreters of the chain need not wait for it.
    """

    __slots__ = ("_chain", "_key", "_root", "_thread", "held")

    def __init__(self, root: Any, chain: Chain, key: str, held: Held) -> None:
        self._thread = _thread.get_ident()
        self._root = root
        self._chain = chain
        self._key: str | None = key
        self.held = held
        chain._taken[key] = chain._taken.get(key, 0) + 1
        notes = getattr(root, "notes", None)
        if notes is not None:
            notes[_LOCK + key] = getattr(root, "interpreter", "")

    def release(self, _: object = None) -> None:
        """Give the lock back."""
        key, self._key = self._key, None
        if key is None:
            return
        left = self._chain._taken[key] = self._chain._taken[key] - 1
        root, self._root = self._root, None
        try:
            # The garbage collector may call from a thread of another request, while httpd reads the notes.
            notes = getattr(root, "notes", None) if self._thread == _thread.get_ident() else None
            if not left and notes is not None and _LOCK + key in notes:
                del notes[_LOCK + key]
        except Exception:  # the request is over, and its notes with it
            pass
        finally:
            self.held.release()

    def __del__(self) -> None:
        self.release()


def is_taken_elsewhere(root: Any, key: str) -> bool:
    """Whether another interpreter holds a lock for this chain."""
    notes = getattr(root, "notes", None)
    found = notes.get(_LOCK + key) if notes is not None else None
    return found is not None and found != getattr(root, "interpreter", "")
