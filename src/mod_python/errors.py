"""The exceptions of mod_python.

They live in a module of their own, free of any dependency, because every other
part raises or catches them: the core, the dispatcher, the library, the fake
objects of the test kit.  Applications find them in `mod_python.apache`.

Each derives from the built-in exception that code without knowledge of
mod_python would expect: a peer that has gone is a `ConnectionError`, a
time-out a `TimeoutError`, and both are therefore `OSError`.
"""

from __future__ import annotations

__all__ = [
    "SERVER_RETURN",
    "ConnectionClosed",
    "ConnectionTimeout",
    "DetachedError",
    "IncompleteRead",
    "LimitError",
    "TLSError",
]


class DetachedError(RuntimeError):
    """An object was used after what it stands for had ended.

    Connection, request and server objects, and the tables and other views taken
    from them, are windows onto structures of httpd.  When httpd frees such a
    structure (the request is over, the connection closed, the child exits), the
    object is detached, and every later access raises this exception.

    Copy what must outlive a request, for example ``dict(req.headers_in.items())``.
    """


class ConnectionClosed(ConnectionError):  # noqa: N818  (an everyday event, no error)
    """The peer has closed the connection, or it broke.

    Raised when a handler goes on reading after the end of the stream was
    reported once with ``b""``, and when it writes to a peer that has gone.  A
    connection handler need not catch it: the dispatcher takes it for the normal
    end of the connection and writes one log line at level debug.
    """


class TLSError(ConnectionClosed):
    """TLS that a handler has started (`conn.start_tls`) failed, and the connection with it.

    The handshake failed, a record was broken, or something other than a handshake
    came where one was due.  ``__cause__`` is the exception of `ssl`, where there is
    one.  If it ends a connection handler, the dispatcher writes one log line at level
    info.
    """


class IncompleteRead(ConnectionClosed):
    """The peer closed the connection before a read got all it was asked for.

    Args:
        partial: the bytes that did arrive before the end.
        expected: how many bytes were asked for, or None if the read waited for
            a separator rather than a number of bytes.
    """

    def __init__(self, partial: bytes, expected: int | None = None) -> None:
        self.partial = partial
        self.expected = expected
        wanted = "the separator" if expected is None else f"{expected} bytes"
        super().__init__(f"the peer closed the connection after {len(partial)} bytes, before {wanted} arrived")

    def __reduce__(self) -> tuple[type[IncompleteRead], tuple[bytes, int | None]]:
        return type(self), (self.partial, self.expected)


class ConnectionTimeout(TimeoutError):  # noqa: N818
    """A read or write did not finish within the connection's time-out.

    The time-outs are those of the connection object, by default httpd's
    ``Timeout``.  If it ends a connection handler, the dispatcher writes one log
    line at level info and closes the connection.
    """


class LimitError(ValueError):
    """The peer sent more than a limit allows.

    For example a line longer than the limit of ``readline()``.  What was
    received stays in the buffer; raising the limit and reading again is
    possible.  If it ends a connection handler, the dispatcher writes one log line
    at level info and closes the connection.
    """


class SERVER_RETURN(Exception):  # noqa: N801, N818  (name fixed by applications)
    """Raised by a handler, or by anything it calls, to end the handler at once.

    Args:
        *args: ``(result,)`` or ``(result, status)``.  ``result`` is the status
            of the handler, as if it had been returned: `apache.OK`,
            `apache.DECLINED`, `apache.DONE` or an HTTP status.  A true
            ``status`` is assigned to ``req.status``.

    It counts like a returned status: after ``SERVER_RETURN(apache.OK)`` the next
    handler of a stacked phase still runs.  In a connection handler it is an
    error like any other exception.
    """
