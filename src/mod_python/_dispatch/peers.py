"""Whose fault an exception is: the peer's, or the application's.

Any client can close a connection early, send a line that is too long, or fall silent. If a
handler lets the exception of that pass, it is one line in the log, or clients could fill it with
tracebacks. Errors of our own reading methods say it by their type. Those of asyncio's streams
(`conn.streams()`, `conn.run_protocol()`) have types that an application uses for other
purposes, too: a database that hangs up raises the same `asyncio.IncompleteReadError`. So the
traceback is looked at: the exception counts as the peer's if it comes from within asyncio, and
from a stream over one of our connections.

Such streams, transports and protocols have an attribute `_mp_peer`, and so has a cancellation
that has met a read or write of a connection. Nothing of asyncio is imported here: ordinary
handlers need none of it.
"""

from __future__ import annotations

import os
import sys

from mod_python._constants import APLOG_DEBUG, APLOG_INFO
from mod_python.errors import ConnectionClosed, ConnectionTimeout, LimitError, TLSError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + "/"
_LIBRARY = os.path.dirname(os.__file__) + "/"
_WITHIN = (_PACKAGE, _LIBRARY + "asyncio/", _LIBRARY + "ssl.py")


def level_of(exc: BaseException) -> int | None:
    """Return the log level of an exception that the peer has caused.

    Args:
        exc: what ended a connection handler, or a task.

    Returns:
        ``APLOG_DEBUG`` if the peer has gone, ``APLOG_INFO`` for a time-out, too long a message or
        a failure of TLS; None if the application is to blame, or may be.
    """
    if isinstance(exc, ConnectionClosed):
        return APLOG_INFO if isinstance(exc, TLSError) else APLOG_DEBUG
    if isinstance(exc, (ConnectionTimeout, LimitError)):
        return APLOG_INFO
    if isinstance(exc, BaseExceptionGroup):
        # Of tasks that served one connection; its end is the end of all of them.
        levels = [level_of(part) for part in exc.exceptions]
        known = [level for level in levels if level is not None]
        return min(known) if len(known) == len(levels) else None
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    if type(exc) is TimeoutError:  # of asyncio.timeout() or asyncio.wait_for()
        cause = exc.__cause__ or exc.__context__
        waiting = isinstance(cause, asyncio.CancelledError) and (
            hasattr(cause, "_mp_peer") or _is_of_stream(cause) is not None
        )
        return APLOG_INFO if waiting else None
    if isinstance(exc, (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, OSError)):
        name = _is_of_stream(exc)
        # Other methods raise ValueError for arguments that are wrong.
        if name is None or (type(exc) is ValueError and name != "readline"):
            return None
        return APLOG_DEBUG if isinstance(exc, (EOFError, ConnectionError)) else APLOG_INFO
    return None


def text_of(exc: BaseException) -> str:
    """Return what an exception of a peer says, in one line."""
    while isinstance(exc, BaseExceptionGroup):
        exc = exc.exceptions[0]
    if isinstance(exc, TimeoutError) and not str(exc):
        return "time-out while waiting for the peer"
    text = str(exc) or type(exc).__name__
    return text if text.isprintable() else ascii(text)


def _is_of_stream(exc: BaseException) -> str | None:
    """Return the method of a stream over a connection that raised an exception; None if none did."""
    frames: list[FrameType] = []
    tb = exc.__traceback__
    while tb is not None:
        if tb.tb_frame.f_code.co_filename.startswith(_WITHIN):
            frames.append(tb.tb_frame)
        else:
            frames.clear()  # the application, or a library of its own
        tb = tb.tb_next
    for frame in reversed(frames):
        values = frame.f_locals
        if _is_peer(values.get("self")) or _is_peer(values.get("transport")):
            return frame.f_code.co_name
    return None


def _is_peer(thing: Any) -> bool:
    """Whether a stream, transport or protocol of asyncio is over a connection of ours."""
    for _ in range(4):  # reader, transport of TLS, protocol of TLS
        if thing is None:
            return False
        if hasattr(thing, "_mp_peer"):
            return True
        thing = getattr(thing, "_transport", None) or getattr(thing, "_ssl_protocol", None)
    return False
