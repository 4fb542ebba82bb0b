"""One handler of the configuration, and the room to remember its function.

The core asks `intern()` for the object of each (text, directory, location, ...) it
meets and keeps it with the configuration.  The dispatcher stores in it what the
text was resolved to, so that a request costs one look-up in the module's
namespace rather than a search.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from .modules import Entry

# The location of a <LocationMatch> is the part of the URL that matched, so
# clients choose it: without a bound they could fill the memory.  Far more than
# any configuration has by itself; when it is reached the table starts afresh,
# and objects that the core holds on to stay valid.
MAX_INTERNED = 4096

_EMPTY: dict[str, Any] = {}


class Handler:
    """A handler string with the place in the configuration where it stands.

    Args:
        text: ``module`` or ``module::object``, as written.
        directory: handler directory, ending in "/", or None if not known.
        location: the location, inside <Location> sections, else None.
        is_location: whether the directive stands in a <Location> section.
        silent: whether a missing object is skipped (PythonHandlerModule).
        function: the callable itself, if one was given in place of a text.
        parent: the handler that added this one while a request was processed.

    Attributes:
        module_name: the part of the text before the first ``::``.
        object_name: the part after it, or "" for the phase's default name.
        namespace: where the function is found: the module's ``__dict__``, or an
            empty dict if each call has to be resolved (a dotted object).
        skips: whether a function that is not in the namespace is skipped without looking
            any further: most phases of a PythonHandlerModule have none.
        module: the module, once loaded.
        entry: the importer's record of the module's file, or None if the module
            is an ordinary one.
        settings: the settings for which the above was worked out.
        due: when to look for changed files next, in seconds of time.monotonic().
    """

    __slots__ = (
        "directory",
        "due",
        "entry",
        "function",
        "is_location",
        "location",
        "module",
        "module_name",
        "namespace",
        "object_name",
        "parent",
        "settings",
        "silent",
        "skips",
        "text",
    )

    def __init__(
        self,
        text: str,
        directory: str | None = None,
        location: str | None = None,
        is_location: bool = False,
        silent: bool = False,
        function: Callable[[Any], Any] | None = None,
        parent: Handler | None = None,
    ) -> None:
        self.text = text
        self.directory = directory
        self.location = location
        self.is_location = is_location
        self.silent = silent
        self.function = function
        self.parent = parent
        self.module_name, _, self.object_name = text.partition("::")
        self.namespace: dict[str, Any] = _EMPTY
        self.skips = False
        self.module: ModuleType | None = None
        self.entry: Entry | None = None
        self.settings: tuple[Any, ...] | None = None
        self.due = 0.0

    def root(self) -> str | None:
        """The directory of the first handler in the chain that added this one.

        Returns:
            the directory, or None if that handler has none.
        """
        first = self
        while first.parent is not None:
            first = first.parent
        return first.directory

    def __repr__(self) -> str:
        return f"<Handler {self.text!r} directory={self.directory!r}>"


_interned: dict[tuple[str, str | None, str | None, bool, bool], Handler] = {}


def intern(
    text: str,
    directory: str | None,
    location: str | None,
    is_location: bool,
    silent: bool,
) -> Handler:
    """Return the one `Handler` of this interpreter for these values.

    Two threads may both make one at first; `dict.setdefault` lets one win.

    Args:
        text, directory, location, is_location, silent: as for `Handler`.

    Returns:
        the handler object, the same for equal arguments.
    """
    key = (text, directory, location, bool(is_location), bool(silent))
    handler = _interned.get(key)
    if handler is None:
        if len(_interned) >= MAX_INTERNED:
            _interned.clear()
        handler = _interned.setdefault(key, Handler(*key))
    return handler
