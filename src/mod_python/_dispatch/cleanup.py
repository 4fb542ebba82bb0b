"""Callables that run when the child process ends (`apache.register_cleanup`).

They belong to the interpreter in which they were registered.  The last one
registered runs first, so that a callable can rely on what was set up before it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mod_python._core import Server

# Meant for a handful of calls while modules load.  So many of them mean that a
# handler registers one per request, which is a leak worth a line in the log.
MANY = 10_000

_registered: list[tuple[Callable[[Any], object], Any, Server | None]] = []


def register(function: Callable[[Any], object], data: Any = None, server: Server | None = None) -> None:
    """Have ``function(data)`` called when this child process ends.

    Args:
        function: the callable.
        data: its argument; must not lead to a request or connection.
        server: the server whose log reports a failure; None for the main one.

    Raises:
        ValueError: `function` is not callable.
    """
    if not callable(function):
        raise ValueError(f"register_cleanup: first argument must be callable, not {type(function).__name__}")
    _registered.append((function, data, server))
    if len(_registered) == MANY:
        from mod_python import apache

        apache.log_error(
            f"mod_python: {MANY} clean-ups are registered for the end of the child process; the "
            f"last one is {function!r}. Use req.register_cleanup() for the end of a request.",
            apache.APLOG_WARNING,
            server,
        )


def run() -> None:
    """Run what is registered, last first, and log what fails.  Runs each once."""
    from mod_python import apache

    while _registered:
        function, data, server = _registered.pop()
        try:
            result = function(data)
            if hasattr(result, "cr_frame"):
                from . import asynchronous

                loop = asynchronous.running()
                if loop is None:
                    result.close()  # type: ignore[attr-defined]
                    raise RuntimeError("a coroutine function can be a clean-up only where an event loop runs")
                loop.submit(result, asynchronous.CLEANUP_SECONDS)  # type: ignore[arg-type]
        except BaseException as exc:  # not even SystemExit may keep the rest from running
            try:
                for line in (
                    f"mod_python: clean-up {function!r} failed at the end of the child process",
                    f"    {type(exc).__name__}: {exc}",
                ):
                    apache.log_error(line, apache.APLOG_ERR, server)
            except BaseException as failure:  # a repr or str of the application's
                from .report import last_resort

                last_resort(failure)
