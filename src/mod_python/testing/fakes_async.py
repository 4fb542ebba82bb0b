"""`FakeAsyncConnection`: runs connection handlers that are coroutine functions, without httpd."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mod_python._async.transport import run_protocol, streams
from mod_python.errors import ConnectionClosed, ConnectionTimeout, LimitError
from mod_python.testing._fake_facts import EXACTLY, HIGH_WATER, LINE, PEEK, Facts, Wanted

if TYPE_CHECKING:
    from asyncio import BaseProtocol, StreamReader, StreamWriter
    from collections.abc import AsyncIterator, Awaitable, Callable
    from ssl import SSLContext
    from typing import Any

    from typing_extensions import Buffer

__all__ = ["FakeAsyncConnection"]

#: Seconds to wait for what somebody else has to do, before the test is taken for wrong.
PATIENCE = 10.0


class FakeAsyncConnection(Facts):
    r"""A connection for unit tests of connection handlers that are coroutine functions.

        async def test():
            conn = FakeAsyncConnection(b"one\ntw", b"o\n")
            await conn.run(connectionhandler)
            assert conn.written == b"one\ntwo\n"

    It has the methods and attributes of the connection that such handlers get, and raises the
    same exceptions. Facts such as ``client_addr`` can be set; ``conn.closing.set()`` tells the
    handler that the server ends. All of it is used on the thread of one event loop.

    Args:
        *pieces: What the peer sends, each in a piece of its own, and then closes.
        end: Whether it closes; else, or without pieces, `feed` and `feed_eof` say what comes.
        options: PythonOptions.
        tls: True for a connection with TLS, or variables of mod_ssl.
        client_addr: (address, port) of the client.
        local_addr: (address, port) of this end.
    """

    def __init__(self, *pieces: Buffer, **settings: Any) -> None:
        self._changed: list[asyncio.Future[None]] = []
        self._waits = False
        self._high_water = HIGH_WATER
        self._transport: Any = None
        #: Set when the server ends.
        self.closing = asyncio.Event()
        super().__init__(*pieces, **settings)

    def _wake(self) -> None:
        waiting, self._changed = self._changed, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _put(self, what: Any) -> None:
        self._waits = False
        super()._put(what)

    async def _change(self, seconds: float | None) -> bool:
        """Wait until something changes; False if it has not after so many seconds."""
        future = asyncio.get_running_loop().create_future()
        self._changed.append(future)
        done, _ = await asyncio.wait([future], timeout=seconds)
        return bool(done)

    # ---- the test's side

    async def run(self, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Await a handler and end the connection, as the server does.

        Args:
            handler: The handler.

        Returns:
            its status; None if ConnectionClosed, ConnectionTimeout or LimitError ended it, which
            is then in ``ended_by``. Other exceptions pass.
        """
        try:
            return await handler(self)
        except (ConnectionClosed, ConnectionTimeout, LimitError) as exc:
            self.ended_by = exc
            return None
        finally:
            if self._transport is not None:
                self._transport.finish()
            self.close()

    async def idle(self, seconds: float = PATIENCE) -> None:
        """Wait until the handler waits for input or has ended the connection.

        Args:
            seconds: How long at most.

        Raises:
            AssertionError: it did not come to that.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while not self._waits and not self.closed:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0 or not await self._change(left):
                raise AssertionError(f"the handler has not asked for more input within {seconds:g} seconds")

    def hold(self) -> None:
        """Have the peer read nothing from now on, so that what is written remains unsent."""
        self._held = True

    def release(self) -> None:
        """Have the peer read everything again."""
        self._held = False
        self._sent = len(self._out)
        self._wake()

    # ---- reading

    async def _read(self, wanted: Wanted) -> bytes:
        self._begin_read(wanted)
        try:
            while True:
                result = self._attempt(wanted)
                if result is not None:
                    return result
                self._waits = True
                waiting, self._changed = self._changed, []
                for future in waiting:
                    if not future.done():
                        future.set_result(None)
                if not await self._input(self._read_timeout):
                    raise self._late("reading", self._read_timeout)
        finally:
            self._reading = self._waits = False

    async def _input(self, seconds: float | None) -> bool:
        loop = asyncio.get_running_loop()
        deadline = None if seconds is None else loop.time() + seconds
        while not self._coming and not self._closed:
            left = None if deadline is None else deadline - loop.time()
            if (left is not None and left <= 0) or not await self._change(left):
                return False
        return True

    def readline(self, length: int = 0) -> Awaitable[bytes]:
        """Await one line."""
        return self._read(Wanted(LINE, length, self._limit))

    def read(self, length: int = 0) -> Awaitable[bytes]:
        """Await bytes, at least one."""
        return self._read(self._some(length))

    def readexactly(self, length: int) -> Awaitable[bytes]:
        """Await exactly so many bytes."""
        return self._read(Wanted(EXACTLY, length, self._limit))

    def readuntil(self, separator: Buffer = b"\n", limit: int | None = None) -> Awaitable[bytes]:
        """Await what comes up to and including a separator."""
        return self._read(self._until(separator, limit))

    def peek(self, length: int = 1) -> Awaitable[bytes]:
        """Await the next bytes and leave them where they are."""
        return self._read(Wanted(PEEK, length, self._limit))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        line = b"" if self._end_told else await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    # ---- writing

    @property
    def high_water(self) -> int:
        """Unsent bytes above which drain() waits."""
        return self._high_water

    @high_water.setter
    def high_water(self, value: int) -> None:
        if value < 0:
            raise ValueError("high_water must be at least 0 bytes")
        self._high_water = value

    @property
    def unsent_bytes(self) -> int:
        """Bytes that were written and not sent: only after `hold`."""
        return len(self._out) - self._sent

    def _write(self, data: bytes) -> None:
        self._check_write("write")
        unsent = self.unsent_bytes
        if unsent and data and unsent + len(data) > self._limit:
            raise LimitError(
                f"{unsent} bytes are unsent already, and conn.limit is {self._limit}: await conn.drain() after writing"
            )
        super()._write(data)

    async def _drained(self, most: int) -> None:
        loop = asyncio.get_running_loop()
        deadline = None if self._write_timeout is None else loop.time() + self._write_timeout
        self._check_write("flush")
        while self.unsent_bytes > most:
            left = None if deadline is None else deadline - loop.time()
            if (left is not None and left <= 0) or not await self._change(left):
                self._reset = True
                raise self._late("writing", self._write_timeout)
            self._check_write("flush")

    def drain(self) -> Awaitable[None]:
        """Wait while more than ``high_water`` bytes are unsent."""
        return self._drained(self._high_water)

    def flush(self) -> Awaitable[None]:
        """Wait until everything is sent."""
        return self._drained(0)

    def write_eof(self) -> Awaitable[None]:
        """Await that everything is sent and the sending direction closed."""
        self._check_eof()
        return self._half_close()

    async def _half_close(self) -> None:
        await self._drained(0)
        self._eof_written = True

    def start_tls(
        self,
        context: SSLContext,
        *,
        server_side: bool = True,
        server_hostname: str | None = None,
        discard: bool = False,
        suppress_ragged_eofs: bool = True,
    ) -> Awaitable[None]:
        """Await that one goes on as if TLS had begun: what is fed and written remains plain."""
        return self._begin_tls(context, discard)

    async def _begin_tls(self, context: SSLContext, discard: bool) -> None:
        await self._drained(0)
        self._start_tls(context, discard)

    # ---- asyncio's own forms: the server's own transport, over this connection

    def streams(self, *, limit: int = 65536) -> tuple[StreamReader, StreamWriter]:
        """Return an asyncio.StreamReader and StreamWriter over this connection."""
        if limit < 1:
            raise ValueError("limit must be at least 1 byte")
        return streams(self, limit)

    def run_protocol(self, factory: Callable[[], BaseProtocol]) -> Awaitable[BaseProtocol]:
        """Await that an asyncio protocol has served this connection."""
        return run_protocol(self, factory)
