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
    from .modules import Entry

    F = TypeVar("F", bound=Callable[..., Any])

# id of a code object -> name of the local variable that holds the subject.  By
# id, because hashing a code object hashes all of its constants.
_entry_points: dict[int, str] = {}


# id of the code object of a handler that runs a module for the dispatcher.
_providers: set[int] = set()


def runs_module(function: F) -> F:
    """Mark a handler that obtains a module for the request, and runs what is in it.

    It must have the local variables `entry` (the importer's record, or None) and
    `module`. So code that it calls gets the same module throughout, at no cost to
    the requests in which nobody asks.
    """
    _providers.add(id(function.__code__))
    return function


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
        running: label and module of what a handler runs for it (`runs_module`), or None.
    """

    __slots__ = ("handler", "is_request", "running", "settings", "subject")

    def __init__(
        self,
        subject: Any,
        handler: Handler,
        settings: tuple[Any, ...],
        is_request: bool = False,
        running: tuple[str, ModuleType] | None = None,
    ) -> None:
        self.running = running
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
        if self.running is not None:
            seen.setdefault(*self.running)
        return seen


def current() -> Scope | None:
    """Return the innermost dispatcher call among the callers, or None."""
    frame: FrameType | None = sys._getframe(1)
    running = None
    while frame is not None:
        code = id(frame.f_code)
        if code in _providers:
            values = frame.f_locals
            entry, module = values.get("entry"), values.get("module")
            if entry is not None and module is not None and running is None:
                running = (entry.label, module)
        local = _entry_points.get(code)
        if local is not None:
            values = frame.f_locals
            handler = values.get("handler")
            settings = values.get("settings")
            if handler is not None and settings is not None:
                if local == "filt":
                    req = values[local].req
                    return Scope(req or values[local].connection, handler, settings, req is not None)
                return Scope(values[local], handler, settings, local == "req", running)
        frame = frame.f_back
    return None


def run_by(exc: BaseException) -> Entry | None:
    """Return the record of the module that a handler ran when an exception was raised, or None.

    Args:
        exc: the exception.
    """
    traceback = exc.__traceback__
    while traceback is not None:
        if id(traceback.tb_frame.f_code) in _providers:
            entry: Entry | None = traceback.tb_frame.f_locals.get("entry")
            return entry
        traceback = traceback.tb_next
    return None
