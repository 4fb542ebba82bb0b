"""What both fake connections have: the facts, the peer's side, and how reads are cut out of what came.

`mod_python.testing.fakes` and `mod_python.testing.fakes_async` add how they wait.
"""

from __future__ import annotations

import errno
import ssl
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING

from mod_python._table import mp_table as table
from mod_python.errors import ConnectionClosed, ConnectionTimeout, IncompleteRead, LimitError, TLSError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from typing_extensions import Buffer

__all__ = ["ALL", "EXACTLY", "LINE", "PEEK", "SOME", "UNTIL", "Facts", "FakeServer", "Mark", "Wanted"]

#: As in the core: bytes of the longest message by default, and unsent bytes from which drain() waits.
DEFAULT_LIMIT = 128 * 1024 * 1024
HIGH_WATER = 65536

#: httpd's default Timeout.
TIMEOUT = 60.0

LINE, SOME, ALL, EXACTLY, UNTIL, PEEK = range(6)


class Mark(Enum):
    """What can come from the peer besides bytes."""

    END = "end"
    TIMEOUT = "time-out"
    RESET = "reset"


class Wanted:
    """What a reading method is after."""

    __slots__ = ("kind", "length", "most", "separator")

    def __init__(self, kind: int, length: int, most: int, separator: bytes = b"\n") -> None:
        self.kind, self.length, self.most, self.separator = kind, length, most, separator


class FakeServer:
    """``conn.base_server``: attributes can be set freely; options and log are the connection's.

    Args:
        conn: Whose server it is.
    """

    server_hostname = "localhost"
    port = 7000
    is_virtual = 0
    timeout = TIMEOUT

    def __init__(self, conn: Facts) -> None:
        self._conn = conn

    def get_options(self) -> table:
        """Return the table of the PythonOptions."""
        return self._conn.options

    def get_config(self) -> table:
        """Return an empty table."""
        return table()

    def log_error(self, message: object, level: int = 3) -> None:
        """Append to ``conn.log``."""
        self._conn.log_error(message, level)


class FakeTls:
    """What stands for ``conn.tls`` after `start_tls`; no handshake takes place.

    Args:
        context: The argument of `start_tls`.
    """

    server_side = True
    server_hostname: str | None = None

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context

    def version(self) -> str:
        """The protocol."""
        return "TLSv1.3"

    def cipher(self) -> tuple[str, str, int]:
        """The cipher."""
        return "TLS_AES_256_GCM_SHA384", "TLSv1.3", 256

    def getpeercert(self, binary_form: bool = False) -> None:
        """The peer has no certificate."""

    def selected_alpn_protocol(self) -> None:
        """None was chosen."""


class Facts:
    """State of a fake connection; see `mod_python.testing.FakeConnection`."""

    def __init__(
        self,
        *pieces: Buffer,
        end: bool = True,
        options: Mapping[str, str] | None = None,
        tls: Mapping[str, str] | bool = False,
        client_addr: tuple[str, int] = ("127.0.0.1", 50000),
        local_addr: tuple[str, int] = ("127.0.0.1", 7000),
    ) -> None:
        self._coming: deque[bytes | Mark] = deque()
        self._inp = bytearray()
        self._out = bytearray()  # all that was written
        self._taken = 0
        self._sent = 0
        self._held = False
        self._ended = self._end_told = self._reset = False
        self._closed = self._peer_ended = False
        self._eof_written = False
        self._reading = False
        self._limit = DEFAULT_LIMIT
        self._read_timeout: float | None = TIMEOUT
        self._write_timeout: float | None = TIMEOUT
        self._hlist: Any = None
        self._tls: dict[str, str] | None = None
        if tls:
            self._tls = {"HTTPS": "on", "SSL_PROTOCOL": "TLSv1.3", **({} if tls is True else tls)}
        #: What `start_tls` has made; can be set to something with more facts.
        self.tls: Any = None
        #: PythonOptions.
        self.options = table(dict(options or {}))
        #: What was logged: (level, message).
        self.log: list[tuple[int, str]] = []
        #: The exception that ended the handler normally, if one did; see `run`.
        self.ended_by: Exception | None = None
        self.client_addr = client_addr
        self.local_addr = local_addr
        self.remote_host: str | None = None
        self.remote_logname: str | None = None
        self.local_host: str | None = None
        self.keepalive = 0
        self.keepalives = 0
        self.double_reverse = 0
        self.id = 1
        self.notes = table()
        self.interpreter = "main_interpreter"
        self.settings: Any = (False, True, None, False, None)
        self.base_server: Any = FakeServer(self)
        for piece in pieces:
            self.feed(piece)
        if end and pieces:
            self.feed_eof()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} from {self.client_addr[0]}:{self.client_addr[1]}>"

    # ---- the peer's side

    def feed(self, data: Buffer) -> None:
        """Have the peer send bytes, which arrive in one piece.

        Args:
            data: The bytes.
        """
        if self._peer_ended:
            raise ValueError("the peer has ended already: nothing can come after its end")
        if len(memoryview(data)):
            self._put(bytes(data))

    def feed_eof(self) -> None:
        """Have the peer close its sending direction."""
        self._put(Mark.END)

    def feed_timeout(self) -> None:
        """Have nothing come for so long that the read which waits then raises ConnectionTimeout."""
        self._put(Mark.TIMEOUT)

    def feed_reset(self) -> None:
        """Have the connection break once what was fed before has been read."""
        self._put(Mark.RESET)

    @property
    def written(self) -> bytes:
        """Everything that the handler has written, sent or not."""
        return bytes(self._out)

    @property
    def eof_written(self) -> bool:
        """Whether the handler has closed its sending direction."""
        return self._eof_written

    def take(self) -> bytes:
        """Return what was written since the last call."""
        data = bytes(self._out[self._taken :])
        self._taken = len(self._out)
        return data

    def _put(self, what: bytes | Mark) -> None:
        self._peer_ended |= what in (Mark.END, Mark.RESET)
        self._coming.append(what)
        self._wake()

    def _wake(self) -> None:
        """Something has changed that somebody may wait for."""

    # ---- reading

    def _begin_read(self, wanted: Wanted) -> None:
        """Refuse what no read can satisfy."""
        self._check(wanted)
        if self._closed:
            raise ConnectionClosed("cannot read: this connection was closed")
        if self._reading:
            raise RuntimeError("another task or thread is reading from this connection")
        self._reading = True

    def _check(self, wanted: Wanted) -> None:
        if wanted.kind == EXACTLY and wanted.length < 0:
            raise ValueError("readexactly() takes a length of 0 or more")
        if wanted.kind == PEEK and wanted.length < 1:
            raise ValueError("peek() takes a length of at least 1")
        if wanted.kind == UNTIL and not wanted.separator:
            raise ValueError("readuntil() needs a separator of at least one byte")
        if wanted.kind in (EXACTLY, PEEK) and wanted.length > self._limit:
            raise LimitError(f"{wanted.length} bytes asked for, but conn.limit is {self._limit}")

    def _until(self, separator: Buffer, limit: int | None) -> Wanted:
        if limit is not None and limit < 1:
            raise ValueError("readuntil() takes a limit of at least 1")
        return Wanted(UNTIL, 0, self._limit if limit is None else limit, bytes(memoryview(separator)))

    def _some(self, length: int) -> Wanted:
        return Wanted(ALL if length < 0 else SOME, length, self._limit)

    def _cut(self, count: int) -> bytes:
        data = bytes(self._inp[:count])
        del self._inp[:count]
        return data

    def _attempt(self, wanted: Wanted) -> bytes | None:
        """Return the result of a read if it can be had without waiting.

        Raises:
            ConnectionClosed, ConnectionTimeout, LimitError: as for the read.
        """
        while True:
            result = self._from_buffer(wanted)
            if result is not None:
                return result
            if len(self._inp) > wanted.most:
                raise _over(wanted.most)
            if self._ended:
                return self._at_end(wanted)
            if self._closed:
                raise ConnectionClosed("this connection was closed while waiting for input")
            if not self._coming:
                return None
            self._arrive(self._coming.popleft())

    def _arrive(self, what: bytes | Mark) -> None:
        if isinstance(what, bytes):
            self._inp += what
        elif what is Mark.END:
            self._ended = True
        elif what is Mark.TIMEOUT:
            raise self._late("reading", self._read_timeout)
        else:
            self._ended = self._end_told = self._reset = True
            self._wake()
            raise ConnectionClosed(errno.ECONNRESET, "the peer has gone: reading failed: Connection reset by peer")

    def _late(self, doing: str, seconds: float | None) -> ConnectionTimeout:
        what = "came" if doing == "reading" else "could be sent"
        return ConnectionTimeout(f"time-out while {doing}: nothing {what} for {seconds or 0:g} seconds")

    def _from_buffer(self, wanted: Wanted) -> bytes | None:
        have, length = len(self._inp), wanted.length
        if wanted.kind == LINE:
            count = self._inp.find(b"\n") + 1
            if 0 < length <= have and (not count or count > length):
                count = length
            if count > wanted.most:
                raise _over(wanted.most)
            return self._cut(count) if count else None
        if wanted.kind == SOME:
            return self._cut(min(length, have) if length > 0 else have) if have else None
        if wanted.kind == EXACTLY:
            return self._cut(length) if have >= length else None
        if wanted.kind == PEEK:
            return bytes(self._inp[:length]) if have >= length else None
        if wanted.kind == UNTIL:
            found = self._inp.find(wanted.separator)
            if found >= 0:
                if found + len(wanted.separator) > wanted.most:
                    raise LimitError(f"separator found only after more than {wanted.most} bytes")
                return self._cut(found + len(wanted.separator))
            if have >= wanted.most:
                raise LimitError(f"no separator within {wanted.most} bytes")
        return None

    def _at_end(self, wanted: Wanted) -> bytes:
        if wanted.kind == PEEK:
            return bytes(self._inp)
        if wanted.kind in (EXACTLY, UNTIL):
            self._end_told = True
            raise IncompleteRead(self._cut(len(self._inp)), wanted.length if wanted.kind == EXACTLY else None)
        if self._inp:
            return self._cut(len(self._inp))
        if self._end_told:
            raise ConnectionClosed("reading beyond the end of the connection's input")
        self._end_told = True
        return b""

    # ---- writing

    def write(self, data: Buffer | Sequence[Buffer]) -> None:
        """Write bytes, or a list of them."""
        parts: Sequence[Any] = data if isinstance(data, (list, tuple)) else [data]
        for part in parts:
            if isinstance(part, str):
                raise TypeError("a connection carries bytes, not str: encode the text first")
            try:
                view = memoryview(part)
            except TypeError:
                raise TypeError(f"a bytes-like object is required, not '{type(part).__name__}'") from None
            self._write(bytes(view))

    def _write(self, data: bytes) -> None:
        self._check_write("write")
        self._out += data
        if not self._held:
            self._sent = len(self._out)
        self._wake()

    def _check_write(self, doing: str) -> None:
        if self._closed:
            raise ConnectionClosed(f"cannot {doing}: this connection was closed")
        if self._eof_written and doing == "write":
            raise ConnectionClosed(errno.EPIPE, "the peer has gone: writing failed: Broken pipe")
        if self._reset:
            raise ConnectionClosed(errno.ECONNRESET, "the peer has gone: writing failed: Connection reset by peer")

    def can_write_eof(self) -> bool:
        """Whether it has no TLS."""
        return self._tls is None and self.tls is None

    def _check_eof(self) -> None:
        self._check_write("close")
        if not self.can_write_eof():
            raise OSError("a TLS connection cannot be closed in one direction")

    def _start_tls(self, context: ssl.SSLContext, discard: bool) -> None:
        """As in the core: what was read before the handshake is refused, or dropped."""
        if self._closed:
            raise ConnectionClosed("cannot start TLS: this connection was closed")
        if not isinstance(context, ssl.SSLContext):
            raise TypeError(f"start_tls() takes an ssl.SSLContext, not {type(context).__name__}")
        if self.is_https():
            raise RuntimeError("this connection uses TLS already")
        if self._reading:
            raise RuntimeError("another task or thread is reading from this connection")
        if self._inp and not discard:
            self.close()
            raise TLSError(f"no TLS: {len(self._inp)} bytes came after the request for TLS and before its handshake")
        self._inp.clear()
        self.tls = FakeTls(context)

    def close(self) -> None:
        """End the connection."""
        self._closed = True
        self._wake()

    @property
    def closed(self) -> bool:
        """Whether it was closed, or broke."""
        return self._closed or self._reset

    # ---- settings of the I/O

    @property
    def limit(self) -> int:
        """Longest message that a reading method collects."""
        return self._limit

    @limit.setter
    def limit(self, value: int) -> None:
        if value < 1:
            raise ValueError("limit must be at least 1 byte")
        self._limit = value

    @property
    def read_timeout(self) -> float | None:
        """Seconds a read may wait, or None."""
        return self._read_timeout

    @read_timeout.setter
    def read_timeout(self, value: float | None) -> None:
        self._read_timeout = _seconds(value)

    @property
    def write_timeout(self) -> float | None:
        """Seconds a write may wait, or None."""
        return self._write_timeout

    @write_timeout.setter
    def write_timeout(self, value: float | None) -> None:
        self._write_timeout = _seconds(value)

    @property
    def timeout(self) -> float | None:
        """Both time-outs; reading gives read_timeout."""
        return self._read_timeout

    @timeout.setter
    def timeout(self, value: float | None) -> None:
        self.read_timeout = value
        self.write_timeout = value

    # ---- facts

    @property
    def client_ip(self) -> str:
        """Address of the client."""
        return self.client_addr[0]

    @property
    def useragent_addr(self) -> tuple[str, int]:
        """(address, port) of the client, which is the peer: there is no proxy."""
        return self.client_addr

    @property
    def useragent_ip(self) -> str:
        """Address of the client, which is the peer."""
        return self.client_addr[0]

    @property
    def remote_addr(self) -> tuple[str, int]:
        """Old name of client_addr."""
        return self.client_addr

    @property
    def remote_ip(self) -> str:
        """Old name of client_ip."""
        return self.client_addr[0]

    @property
    def local_ip(self) -> str:
        """Address of this end."""
        return self.local_addr[0]

    @property
    def aborted(self) -> int:
        """Whether it broke."""
        return int(self._reset)

    @property
    def hlist(self) -> Any:
        """The handler's entry of the configuration: there is none."""
        return self._hlist

    def is_https(self) -> int:
        """1 with TLS, else 0."""
        return int(self._tls is not None or self.tls is not None)

    def ssl_var_lookup(self, name: str) -> str | None:
        """A variable of mod_ssl, from the argument ``tls``."""
        return (self._tls or {}).get(name)

    def get_config(self) -> Any:
        """Table of the Python settings of the server."""
        return self.base_server.get_config()

    def get_options(self) -> Any:
        """Table of the PythonOptions of the server."""
        return self.base_server.get_options()

    def log_error(self, message: object, level: int = 3) -> None:
        """Append to ``log``."""
        if message is not None:
            self.log.append((level, str(message)))


def _over(most: int) -> LimitError:
    return LimitError(
        f"more than {most} bytes without the end of a message; raise conn.limit if the protocol allows such messages"
    )


def _seconds(value: float | None) -> float | None:
    if value is not None and not value > 0:
        raise ValueError("a time-out must be more than 0 seconds, or None")
    return None if value is None else float(value)
