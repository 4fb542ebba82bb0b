"""The handler list that a running handler sees as ``req.hlist``.

It shows the current entry of the phase's list and moves on after each handler.
The list is shared with the dispatcher's loop, so a handler that is appended
while the phase runs is seen by both.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .handler import Handler


class mp_hlist:  # noqa: N801  (type name that applications print)
    """The current handler of a phase (``req.hlist``, ``conn.hlist``).

    Past the end of the list every attribute is None.
    """

    __slots__ = ("_entries", "_index")

    def __init__(self, entries: list[Handler]) -> None:
        self._entries = entries
        self._index = 0

    def _current(self) -> Handler | None:
        index = self._index
        return self._entries[index] if index < len(self._entries) else None

    @property
    def handler(self) -> str | Callable[[Any], Any] | None:
        """The handler string, ``module`` or ``module::object``, or the callable."""
        current = self._current()
        if current is None:
            return None
        return current.text if current.function is None else current.function

    @property
    def directory(self) -> str | None:
        """The handler directory, ending in "/"; in a location, the location."""
        current = self._current()
        if current is None:
            return None
        if current.directory is None and current.is_location:
            return current.location
        return current.directory

    @property
    def location(self) -> str | None:
        """The location, if the directive stands in a <Location> section."""
        current = self._current()
        return None if current is None else current.location

    @property
    def is_location(self) -> int | None:
        """1 if the directive stands in a <Location> section, else 0."""
        current = self._current()
        return None if current is None else int(current.is_location)

    @property
    def silent(self) -> int | None:
        """1 if the handler comes from PythonHandlerModule, else 0."""
        current = self._current()
        return None if current is None else int(current.silent)

    @property
    def parent(self) -> mp_hlist | None:
        """The entry of the handler that added this one, or None."""
        current = self._current()
        return None if current is None or current.parent is None else mp_hlist([current.parent])

    def next(self) -> None:
        """Move to the following entry; does nothing past the end."""
        if self._index < len(self._entries):
            self._index += 1

    def __repr__(self) -> str:
        names = ("handler", "directory", "location", "is_location", "parent", "silent")
        return repr({name: getattr(self, name) for name in names})
