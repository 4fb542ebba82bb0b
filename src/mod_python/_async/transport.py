"""An asyncio transport over a connection of a coroutine handler.

For protocols that exist already in asyncio's form: `conn.streams()` gives a reader and
a writer, `conn.run_protocol()` runs an `asyncio.Protocol` (or a `BufferedProtocol`) until
the connection is lost.

    reading   a task, the pump, reads what has come and gives it to the protocol; while
              that has paused reading, nothing is read, and TCP slows the peer down
    writing   the connection's own buffer; above the high-water mark the protocol's
              pause_writing() is called, below the low one resume_writing()
    the end   connection_lost() is called once: after close() has sent what was
              written, after abort(), when the peer has gone, or when the handler ends

The handler's time-outs: the pump reads all the time, so `read_timeout` would end every
connection whose client is silent for a while, which no asyncio protocol expects.  It is
switched off; protocols have their own.  `write_timeout` counts.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any


__all__ = ["ConnectionTransport", "run_protocol", "streams"]

# Bytes that are read at once, and how many times in a row before others get their turn.
_CHUNK = 65536
_TURNS = 8

# Bytes above which a protocol is asked to pause writing, and up to which it may go on.
_HIGH = 65536
_LOW = _HIGH // 4


class ConnectionTransport(asyncio.Transport):
    """The transport of one connection.

    Args:
        conn: the connection.
        protocol: gets what arrives; its ``connection_made`` is called by `begin`.

    Raises:
        RuntimeError: the connection has a transport already.
    """

    # For loop.start_tls() of asyncio's own loop.
    _start_tls_compatible = True
    # An error that comes from here is the peer's; see `_dispatch.peers`.
    _mp_peer = True

    def __init__(self, conn: Any, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        if conn._transport is not None:
            raise RuntimeError("this connection has streams or a protocol already")
        self._conn = conn
        self._loop = asyncio.get_running_loop()
        self._high, self._low = _HIGH, _LOW
        self._resumed: asyncio.Future[None] | None = None  # the pump waits for it
        self._paused = False
        self._write_paused = False
        self._eof_written = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._pump_task: asyncio.Task[None] | None = None
        self._closing = False
        self._aborted = False
        self._lost = False
        self.failure: BaseException | None = None  # what the protocol raised
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.set_protocol(protocol)
        conn._transport = self

    def begin(self) -> None:
        """Tell the protocol, and start reading."""
        self._conn.read_timeout = None
        self._protocol.connection_made(self)
        if not self._closing:
            self._pump_task = self._spawn(self._pump())

    def _spawn(self, coroutine: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- facts -----------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection: peername, sockname, socket (None), ssl_object, ...

        With TLS of `conn.start_tls` also sslcontext, cipher, compression and peercert.
        ``connection`` is the handler's connection.
        """
        conn = self._conn
        if name == "connection":
            return conn
        if self._lost:
            return default
        if name == "peername":
            return conn.client_addr
        if name == "sockname":
            return conn.local_addr
        tls = conn.tls
        if tls is None:
            return default
        if name == "ssl_object":
            return tls
        if name == "sslcontext":
            return tls.context
        if name in ("cipher", "compression", "peercert"):
            value = tls.getpeercert() if name == "peercert" else getattr(tls, name)()
            return default if value is None else value
        return default

    def set_protocol(self, protocol: Any) -> None:
        """Give what arrives from now on to another protocol."""
        self._protocol = protocol
        with contextlib.suppress(AttributeError):  # it may have slots
            self._protocol._mp_peer = True  # see `_dispatch.peers`

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    # -- reading ---------------------------------------------------------------

    async def _pump(self) -> None:
        turns = 0
        while not self.is_closing():
            if not self.is_reading():
                await self._resuming()
                continue
            try:
                data = await self._conn.read(_CHUNK)
            except OSError as exc:
                self._lose(exc)
                return
            while not self.is_reading() and not self.is_closing():  # paused since we have been waiting
                await self._resuming()
            if self.is_closing() or not self._deliver(data):
                return
            turns += 1
            if turns % _TURNS == 0:
                await asyncio.sleep(0)

    async def _resuming(self) -> None:
        self._resumed = self._loop.create_future()
        await self._resumed

    def _deliver(self, data: bytes) -> bool:
        """Give the protocol what came; tell whether to go on."""
        try:
            if data:
                self._give(data)
            elif not self._protocol.eof_received():
                self.close()
        except Exception as exc:
            self._protocol_failed(exc)
            return False
        return bool(data)

    def _is_buffered(self) -> bool:
        return isinstance(self._protocol, asyncio.BufferedProtocol)

    def _give(self, data: bytes) -> None:
        if self._is_buffered():
            view = memoryview(data)
            while view:
                buffer = memoryview(self._protocol.get_buffer(len(view))).cast("B")
                count = min(len(buffer), len(view))
                if not count:
                    raise RuntimeError("get_buffer() returned an empty buffer")
                buffer[:count] = view[:count]
                view = view[count:]
                self._protocol.buffer_updated(count)
                if not self._is_buffered():  # another one was set
                    if view:
                        self._protocol.data_received(bytes(view))
                    break
        else:
            self._protocol.data_received(data)

    def is_reading(self) -> bool:
        """Whether the protocol gets what arrives."""
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        """Give nothing to the protocol until `resume_reading`."""
        self._paused = True

    def resume_reading(self) -> None:
        """Go on after `pause_reading`."""
        self._paused = False
        self._wake()

    def _wake(self) -> None:
        if self._resumed is not None and not self._resumed.done():
            self._resumed.set_result(None)

    # -- writing ---------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write; what cannot be sent at once is kept."""
        if self._eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._closing or self._lost:
            return
        try:
            self._conn.write(data)
        except (OSError, ValueError) as exc:  # ValueError: more is unsent than conn.limit allows
            self._lose(exc)
            return
        if not self._write_paused and self._conn.unsent_bytes > self._high:
            self._write_paused = True
            self._call(self._protocol.pause_writing)
            self._spawn(self._resume_writing())

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write several pieces."""
        self.write(b"".join(list_of_data))

    async def _resume_writing(self) -> None:
        try:
            self._conn.high_water = self._low
            await self._conn.drain()
        except OSError as exc:
            self._lose(exc)
            return
        self._write_paused = False
        if not self._lost:
            self._call(self._protocol.resume_writing)

    def _call(self, function: Callable[[], object]) -> None:
        try:
            function()
        except Exception as exc:
            self._protocol_failed(exc)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Choose the marks between which writing is paused, in bytes."""
        if high is None:
            high = _HIGH if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return (low, high)."""
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """Return how many bytes are unsent."""
        return 0 if self._lost else self._conn.unsent_bytes

    def can_write_eof(self) -> bool:
        """Whether the sending direction can be closed alone: not with TLS."""
        return not self._lost and self._conn.can_write_eof()

    def write_eof(self) -> None:
        """Close the sending direction once everything is sent."""
        if self._eof_written or self._closing:
            return
        if not self.can_write_eof():
            raise NotImplementedError("a TLS connection cannot be closed in one direction")
        self._eof_written = True
        self._spawn(self._send_eof())

    async def _send_eof(self) -> None:
        try:
            await self._conn.write_eof()
        except OSError as exc:
            self._lose(exc)

    # -- the end ---------------------------------------------------------------

    def is_closing(self) -> bool:
        """Whether the transport is closed, or will be once everything is sent."""
        return self._closing

    def close(self) -> None:
        """Send what was written, then end the connection."""
        if self._closing:
            return
        self._closing = True
        self._wake()
        self._spawn(self._flush())

    async def _flush(self) -> None:
        try:
            await self._conn.flush()
        except OSError as exc:
            self._lose(exc)
        else:
            self._lose(None)

    def abort(self) -> None:
        """End the connection at once; what is unsent is lost."""
        self._lose(None, at_once=True)

    def _force_close(self, exc: BaseException | None) -> None:
        """End at once; asyncio's TLS over a transport calls it."""
        self._lose(exc, at_once=True)

    def _protocol_failed(self, exc: BaseException) -> None:
        """The protocol raised: its handler raises that."""
        if self.failure is None:
            self.failure = exc
        self._lose(exc)

    def _lose(self, exc: BaseException | None, at_once: bool = False) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._aborted = at_once
        self._stop_tasks()
        if at_once:
            self._conn._abort()
        else:
            self._conn.close()
        self._loop.call_soon(self._tell, exc)

    def _stop_tasks(self) -> None:
        current = asyncio.current_task(self._loop)
        for task in list(self._tasks):
            if task is not current:
                task.cancel()

    def _tell(self, exc: BaseException | None) -> None:
        if self.ended.done():
            return
        self.ended.set_result(None)
        try:
            self._protocol.connection_lost(exc)
        except Exception as failure:
            if self.failure is None:
                self.failure = failure
            self._loop.call_exception_handler(
                {"message": "connection_lost() failed", "exception": failure, "protocol": self._protocol}
            )

    def finish(self) -> None:
        """The handler has ended: the dispatcher's.  What was written is sent by the connection."""
        self._lost = self._closing = True
        self._stop_tasks()
        self._tell(None)


def streams(conn: Any, limit: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Return a reader and a writer over a connection; see `conn.streams`."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport = ConnectionTransport(conn, protocol)
    transport.begin()
    reader._mp_peer = True  # type: ignore[attr-defined]
    return reader, _Writer(transport, protocol, reader, loop)


class _Writer(asyncio.StreamWriter):
    """The writer of a connection."""

    async def start_tls(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: what the reader holds would count as said inside TLS, and this would begin it as a client.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(
            "TLS cannot begin over streams: what the client has sent in plain text would stay in the reader; "
            "call await conn.start_tls(context) before conn.streams()"
        )


async def run_protocol(conn: Any, factory: Callable[[], asyncio.BaseProtocol]) -> asyncio.BaseProtocol:
    """Run a protocol until the connection is lost; see `conn.run_protocol`."""
    protocol = factory()
    transport = ConnectionTransport(conn, protocol)
    try:
        transport.begin()
        await asyncio.shield(transport.ended)
    finally:
        if not transport.ended.done():
            transport.finish()
    if transport.failure is not None:
        raise transport.failure
    return protocol
