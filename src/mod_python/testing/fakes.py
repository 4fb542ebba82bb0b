"""`FakeConnection`: runs connection handlers that are ordinary functions, without httpd."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING

from mod_python.errors import ConnectionClosed, ConnectionTimeout, LimitError
from mod_python.testing._fake_facts import EXACTLY, LINE, PEEK, Facts, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from ssl import SSLContext
    from typing import Any

    from typing_extensions import Buffer

__all__ = ["FakeConnection"]

#: Seconds to wait for what somebody else has to do, before the test is taken for wrong.
PATIENCE = 10.0


class FakeConnection(Facts):
    r"""A connection for unit tests of ordinary connection handlers.

        conn = FakeConnection(b"one\ntw", b"o\n")
        conn.run(connectionhandler)
        assert conn.written == b"one\ntwo\n"

    It has the methods and attributes of the connection that handlers get, and raises the same
    exceptions. Facts such as ``client_addr`` and ``remote_host`` can be set.

    Args:
        *pieces: What the peer sends, each in a piece of its own, and then closes.
        end: Whether it closes; else, or without pieces, `feed` and `feed_eof` say what comes.
        options: PythonOptions.
        tls: True for a connection with TLS, or variables of mod_ssl.
        client_addr: (address, port) of the client.
        local_addr: (address, port) of this end.

    A read that finds nothing waits until another thread feeds something. After ``read_timeout``
    it raises ``ConnectionTimeout``; after 10 seconds an ``AssertionError``.
    """

    def __init__(self, *pieces: Buffer, **settings: Any) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._waits = False
        super().__init__(*pieces, **settings)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _put(self, what: Any) -> None:
        with self._changed:
            self._waits = False
            super()._put(what)

    def _write(self, data: bytes) -> None:
        with self._changed:
            super()._write(data)

    # ---- the test's side

    def run(self, handler: Callable[[Any], Any]) -> Any:
        """Call a handler and end the connection, as the server does.

        Args:
            handler: The handler.

        Returns:
            its status; None if ConnectionClosed, ConnectionTimeout or LimitError ended it, which
            is then in ``ended_by``. Other exceptions pass.
        """
        try:
            return handler(self)
        except (ConnectionClosed, ConnectionTimeout, LimitError) as exc:
            self.ended_by = exc
            return None
        finally:
            self.close()

    def wait_idle(self, seconds: float = PATIENCE) -> None:
        """Wait until the handler, in another thread, waits for input or has ended the connection.

        Args:
            seconds: How long at most.

        Raises:
            AssertionError: it did not come to that.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._waits or self.closed, seconds):
                raise AssertionError(f"the handler has not asked for more input within {seconds:g} seconds")

    # ---- reading

    def _read(self, wanted: Wanted) -> bytes:
        with self._changed:
            self._begin_read(wanted)
            begin = monotonic()
            try:
                while True:
                    result = self._attempt(wanted)
                    if result is not None:
                        return result
                    self._wait(begin)
            finally:
                self._reading = self._waits = False

    def _wait(self, begin: float) -> None:
        limit = self._read_timeout
        left = (PATIENCE if limit is None else min(limit, PATIENCE)) - (monotonic() - begin)
        self._waits = True
        self._changed.notify_all()
        if left <= 0 or not self._changed.wait_for(lambda: self._coming or self._closed, left):
            if limit is not None and limit <= PATIENCE:
                raise self._late("reading", limit)
            raise AssertionError(
                f"the handler has waited {PATIENCE:g} seconds for input; feed it, or say feed_eof() or feed_timeout()"
            )

    def readline(self, length: int = 0) -> bytes:
        """Read one line."""
        return self._read(Wanted(LINE, length, self._limit))

    def read(self, length: int = 0) -> bytes:
        """Read bytes, at least one."""
        return self._read(self._some(length))

    def readexactly(self, length: int) -> bytes:
        """Read exactly so many bytes."""
        return self._read(Wanted(EXACTLY, length, self._limit))

    def readuntil(self, separator: Buffer = b"\n", limit: int | None = None) -> bytes:
        """Read up to and including a separator."""
        return self._read(self._until(separator, limit))

    def peek(self, length: int = 1) -> bytes:
        """Look at the next bytes."""
        return self._read(Wanted(PEEK, length, self._limit))

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = b"" if self._end_told else self.readline()
        if not line:
            raise StopIteration
        return line

    # ---- writing

    def flush(self) -> None:
        """Send what was written."""
        self._check_write("flush")

    def write_eof(self) -> None:
        """Close the sending direction."""
        self._check_eof()
        self._eof_written = True

    def start_tls(
        self,
        context: SSLContext,
        *,
        server_side: bool = True,
        server_hostname: str | None = None,
        discard: bool = False,
        suppress_ragged_eofs: bool = True,
    ) -> None:
        """Go on as if TLS had begun: what is fed and written remains plain."""
        self._start_tls(context, discard)
