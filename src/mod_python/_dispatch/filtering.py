"""Runs the function of a filter, and decides what an exception of it means.

A filter's result is ignored.  When its function raises, the failure is logged and
the filter disabled: for the rest of the stream data passes through as it is. The
stream of a connection ends instead if the function has read data and written none.
"""

from __future__ import annotations

import os
from time import monotonic

from mod_python._constants import APLOG_DEBUG, APLOG_ERR, APLOG_INFO
from mod_python.errors import SERVER_RETURN, ConnectionTimeout

from . import report, resolve, scope
from .handler import Handler
from .lines import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .dispatcher import Dispatcher

# What the shell does with what the function has written (MP_FILTER_* in filters.h).
DONE = 0  # pass it on
HOLD = 1  # it may wait for the next call


def handler_for(handler: str | Callable[[Any], Any], directory: str | None) -> Handler:
    """Make the handler of a filter that is registered on a request.

    Args:
        handler: ``module[::object]``, or a callable.
        directory: handler directory; None for that of the handler or filter that
            registers it.  A relative one is relative to that directory.

    Raises:
        TypeError: `handler` is neither.
    """
    current = scope.current()
    parent = None if current is None else current.handler
    inherited = None if parent is None else parent.directory
    if directory is None:
        directory = inherited
    else:
        directory = os.path.normpath(os.path.join(inherited or "/", directory)).rstrip("/") + "/"
    if isinstance(handler, str):
        return Handler(handler, directory, parent=parent)
    if not callable(handler):
        raise TypeError(
            f"a filter is given as 'module', 'module::object' or a callable, not as {type(handler).__name__}"
        )
    text = getattr(handler, "__qualname__", None) or type(handler).__qualname__
    return Handler(text, directory, function=handler, parent=parent)


@scope.entry_point("filt")
def run(dispatcher: Dispatcher, filt: Any, handler: Handler) -> int:
    """Call the function of a filter.

    Args:
        dispatcher: of the interpreter.
        filt: the filter.
        handler: what names its function.

    Returns:
        `DONE` or `HOLD`.
    """
    debug = False
    try:
        settings = filt.settings
        debug = settings[0]
        name = handler.object_name or ("inputfilter" if filt.is_input else "outputfilter")
        function: Any = None
        if handler.settings == settings and (not settings[1] or monotonic() < handler.due):
            function = handler.namespace.get(name)
        if function is None:
            function = resolve.find(handler, name, filt, settings, dispatcher.importer)
        if settings[3] and dispatcher.one_process:
            function = dispatcher.debugged(function)
        try:
            result = function(filt)
        except SERVER_RETURN as exc:
            _server_return(filt, exc)
            return HOLD
        if result is not None and hasattr(result, "cr_frame"):
            result.close()  # or Python would warn that it was never awaited
            raise plain(TypeError(f"'{handler.text}' is an 'async def' function, which cannot be a filter"))
    except BaseException as exc:
        _failed(dispatcher, filt, handler, debug, exc)
    return DONE


def _server_return(filt: Any, exc: SERVER_RETURN) -> None:
    """End the call as SERVER_RETURN asks; the result has no meaning in a filter."""
    args = exc.args
    if not 1 <= len(args) <= 2 or not isinstance(args[0], int):
        _log(filt)(f"filter '{filt.name}': SERVER_RETURN takes (result) or (result, status), not {args!r}", APLOG_ERR)
    elif len(args) == 2 and args[1] and filt.req is not None:
        filt.req.status = args[1]


def _log(filt: Any) -> Callable[[str, int], object]:
    log: Callable[[str, int], object] = (filt.req or filt.connection).log_error
    return log


def _failed(dispatcher: Dispatcher, filt: Any, handler: Handler, debug: bool, exc: BaseException) -> None:
    """Report an exception, and disable the filter unless it only found that reading had failed."""
    try:
        if filt._failed and (report.client_gone(exc) or isinstance(exc, ConnectionTimeout)):
            # The client has gone, or what it sent is no message: httpd is told by the
            # status that reading or passing on has, and logs it as it does without us.
            level = APLOG_INFO if isinstance(exc, ConnectionTimeout) else APLOG_DEBUG
            report.emit(_log(filt), [f"filter '{filt.name}' {handler.text}: {exc}"], level)
            return
        filt.disable()
        req = filt.req
        if req is not None:
            req._keep_from_caches()
        if req is None and filt._lost:
            # Of a connection's bytes none may be missing: what follows would be taken
            # for something else.
            filt.close()
        lines = report.lines_of(dispatcher.name, filt.name, handler, req, exc)
        report.emit(_log(filt), lines, APLOG_ERR)
        if debug and req is not None and _can_answer(filt, req):
            _send_page(filt, req, lines)
    except BaseException as failure:
        report.last_resort(failure, exc)


def _can_answer(filt: Any, req: Any) -> bool:
    """Whether nothing was sent yet, so that a page can take the place of the response."""
    return not (filt.is_input or filt.closed or filt._passed or req.bytes_sent or req.sent_bodyct or req.main)


def _send_page(filt: Any, req: Any, lines: list[str]) -> None:
    """Send a report to the client as status 500 in place of the response (PythonDebug)."""
    filt._drop_queued()
    filt.write(report.page(req, lines))
    filt.close()
