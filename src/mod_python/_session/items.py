"""`Items`: dictionaries that can have their items in common.

A request may come by several objects of one session: a page makes its own, and so does a handler after an internal
redirect.  What one of them changes, the others have.
"""

from __future__ import annotations

import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


class Group:
    """Dictionaries that have their items in common.

    Attributes:
        changed: whether an item was set or removed since all were read or stored.
        stored: whether the store has them.
    """

    __slots__ = ("_members", "changed", "stored")

    def __init__(self) -> None:
        self._members: list[weakref.ref[Items]] = []
        self.changed = False
        self.stored = False

    def __iter__(self) -> Iterator[Any]:
        """All members."""
        for reference in tuple(self._members):
            member = reference()
            if member is not None:
                yield member

    def add(self, member: Items) -> None:
        """Have one more."""
        self._members = [reference for reference in self._members if reference() is not None]
        self._members.append(weakref.ref(member))
        member._group = self


class Items(dict):  # type: ignore[type-arg]
    """A dictionary that passes on its changes to the others of its group.

    Each has all items itself, so that reading is that of any dictionary.
    """

    _group: Group | None = None

    def _others(self) -> Iterator[dict[Any, Any]]:
        group = self._group
        if group is not None:
            group.changed = True
            for member in group:
                if member is not self:
                    yield member

    def __setitem__(self, key: Any, value: Any) -> None:
        dict.__setitem__(self, key, value)
        for other in self._others():
            dict.__setitem__(other, key, value)

    def __delitem__(self, key: Any) -> None:
        dict.__delitem__(self, key)
        for other in self._others():
            dict.pop(other, key, None)

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]
        self.update(other)
        return self

    def clear(self) -> None:
        """Remove all items."""
        dict.clear(self)
        for other in self._others():
            dict.clear(other)

    def pop(self, key: Any, *default: Any) -> Any:
        """Remove an item and return its value."""
        value = dict.pop(self, key, *default)
        for other in self._others():
            dict.pop(other, key, None)
        return value

    def popitem(self) -> tuple[Any, Any]:
        """Remove the item that was set last and return key and value."""
        key, value = dict.popitem(self)
        for other in self._others():
            dict.pop(other, key, None)
        return key, value

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """Return the value of an item, which is set if there is none."""
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set items, as those of a dictionary are."""
        new = dict(*args, **kwargs)
        dict.update(self, new)
        for other in self._others():
            dict.update(other, new)
