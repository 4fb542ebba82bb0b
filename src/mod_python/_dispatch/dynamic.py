"""Handlers that are added while a request is processed (`req.add_handler`).

They live as long as the request.  A text is resolved in the same way as one of
the configuration, so its `Handler` is kept and found again by the next request.
"""

from __future__ import annotations

import os

from .dispatcher import PHASES
from .handler import MAX_INTERNED, Handler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_kept: dict[tuple[str, str | None, Handler | None], Handler] = {}


def canonical(directory: str) -> str:
    """Return a directory as handlers have it: absolute, normal, with a slash at its end."""
    path = os.path.abspath(os.fspath(directory))
    return path if path.endswith("/") else path + "/"


def make(handler: str | Callable[[Any], Any], directory: str | None, parent: Handler | None, method: str) -> Handler:
    """Return a handler that Python code names.

    Args:
        handler: ``module`` or ``module::object``, or a callable.
        directory: where the module is found; None for the parent's directory.
        parent: the handler that runs, or None.
        method: name of the calling method, for messages.

    Returns:
        the handler.

    Raises:
        TypeError: `handler` is neither text nor callable.
    """
    if directory is not None:
        directory = canonical(directory)
    elif parent is not None:
        directory = parent.directory
    if not isinstance(handler, str):
        if not callable(handler):
            raise TypeError(f"{method}: the handler must be a str or a callable, not {type(handler).__name__}")
        name = getattr(handler, "__qualname__", type(handler).__qualname__)
        text = f"{getattr(handler, '__module__', None) or '?'}::{name}"
        return Handler(text, directory, function=handler, parent=parent)
    key = (handler, directory, parent)
    found = _kept.get(key)
    if found is None:
        if len(_kept) >= MAX_INTERNED:  # texts made up per request
            _kept.clear()
        found = _kept.setdefault(key, Handler(handler, directory, parent=parent))
    return found


def running(req: Any) -> Handler | None:
    """Return the handler of the request that runs, or None."""
    hlist = req.hlist
    return None if hlist is None else hlist._current()


def add_handler(req: Any, phase: str, handler: str | Callable[[Any], Any], directory: str | None) -> None:
    """Add a handler to a phase of a request; see `Request.add_handler`.

    Raises:
        IndexError: there is no such phase, or nothing can be added to it.
        TypeError: `handler` is neither text nor callable.
    """
    if phase not in PHASES or phase == "PythonCleanupHandler":
        raise IndexError(
            f"add_handler: {phase!r} is not a phase that handlers can be added to; "
            "name a directive such as 'PythonHandler'"
        )
    added = make(handler, directory, running(req), "add_handler")
    if phase == req.phase:
        req.hlist._entries.append(added)
    else:
        req._add_handler(phase, added)
