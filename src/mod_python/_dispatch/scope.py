"""Which request, connection or import the running code belongs to.

Code that is called from a handler (`apache.import_module`, an import statement)
needs to know the settings in force without being given the request.  Keeping a
thread-local variable would cost every request; looking for the dispatcher's
frame among the callers costs only those who ask.

Threads that an application starts have no dispatcher among their callers, and
so belong to nothing.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, ModuleType
    from typing import Any, TypeVar

    from .handler import Handler

    F = TypeVar("F", bound=Callable[..., Any])

# id of a code object -> name of the local variable that holds the subject.  By
# id, because hashing a code object hashes all of its constants.
_entry_points: dict[int, str] = {}


def entry_point(local: str) -> Callable[[F], F]:
    """Mark a function of the dispatcher as one that `current()` stops at.

    It must have the local variables `handler` and `settings`.

    Args:
        local: name of its variable that holds the request, connection or server;
            "req" for a request, "filt" for a filter.
    """

    def mark(function: F) -> F:
        _entry_points[id(function.__code__)] = local
        return function

    return mark


class Scope:
    """A running call of the dispatcher.

    Attributes:
        subject: the request, connection or, for PythonImport, the main server.
        handler: the handler that runs.
        settings: (debug, autoreload, python_path, pdb), all merged.
        is_request: whether the subject is a request.
    """

    __slots__ = ("handler", "is_request", "settings", "subject")

    def __init__(self, subject: Any, handler: Handler, settings: tuple[Any, ...], is_request: bool = False) -> None:
        self.subject = subject
        self.handler = handler
        self.settings = settings
        self.is_request = is_request

    def root(self) -> str | None:
        """The handler root: the directory of the first handler in the chain that led
        to this one, else the document root."""
        directory = self.handler.root()
        if directory is not None:
            return directory
        subject = getattr(self.subject, "req", None) or self.subject  # of a filter: its request
        document_root = getattr(subject, "document_root", None)
        return None if document_root is None else document_root()

    def seen(self) -> dict[str, ModuleType]:
        """The modules that this request has obtained so far, by label.

        Only a request takes attributes and ends soon; others get a fresh dict.
        """
        seen: dict[str, ModuleType] | None = getattr(self.subject, "_mp_seen", None) if self.is_request else None
        if seen is None:
            seen = {}
            if self.is_request:
                self.subject._mp_seen = seen
        return seen


def current() -> Scope | None:
    """Return the innermost dispatcher call among the callers, or None."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        local = _entry_points.get(id(frame.f_code))
        if local is not None:
            values = frame.f_locals
            handler = values.get("handler")
            settings = values.get("settings")
            if handler is not None and settings is not None:
                if local == "filt":
                    req = values[local].req
                    return Scope(req or values[local].connection, handler, settings, req is not None)
                return Scope(values[local], handler, settings, local == "req")
        frame = frame.f_back
    return None
