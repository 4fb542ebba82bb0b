"""Request framing: requests whose bodies look like requests, and a strict reader of what comes back.

A body that is left on a connection is read as the next request. So the bodies here contain one, for `SMUGGLED`, and
each probe is followed by ordinary requests for `NEXT` on the same connection: either all of them are answered, in
order and with nothing else, or the connection is closed.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass

from mod_python.testing import Server

#: What is asked for after a probe, and what must never be.
NEXT, SMUGGLED = "/next", "/smuggled"

_GET = f"GET {SMUGGLED} HTTP/1.1\r\nHost: smuggled\r\nX-Pad: "
#: A request of 100 bytes.
_INNER = (_GET + "x" * (96 - len(_GET)) + "\r\n\r\n").encode()


@dataclass(frozen=True)
class Body:
    """A kind of request body.

    Attributes:
        headers: Lines of the head.
        data: What follows the head.
        sound: It is a body that httpd accepts.
        method: The method.
    """

    headers: tuple[str, ...] = ()
    data: bytes = b""
    sound: bool = True
    method: str = "POST"


def chunks(data: bytes, size: int, end: bytes = b"0\r\n\r\n") -> bytes:
    """Return data in chunks of a size, and what ends them."""
    parts = (data[n : n + size] for n in range(0, len(data), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + end


def _length(n: int) -> str:
    return f"Content-Length: {n}"


_CHUNKED = "Transfer-Encoding: chunked"
_EXPECT = "Expect: 100-continue"
_FORM = "Content-Type: application/x-www-form-urlencoded"

BODIES = {
    "none": Body(method="GET"),
    "empty": Body((_length(0),)),
    "get": Body((_length(100),), _INNER, method="GET"),
    "length": Body((_length(100),), _INNER),
    "form": Body((_length(104), _FORM), b"a=1&" + _INNER),
    "some": Body((_length(20_000),), _INNER * 200),
    "much": Body((_length(300_000),), _INNER * 3_000),
    "chunked": Body((_CHUNKED,), chunks(_INNER * 20, 300)),
    "small chunks": Body((_CHUNKED,), chunks(_INNER, 1)),
    "extensions": Body((_CHUNKED,), b"64;a=b\r\n%b\r\n0;c\r\n\r\n" % _INNER),
    "trailers": Body((_CHUNKED,), chunks(_INNER, 40, b"0\r\nX-Trailer: one\r\nX-Other: two\r\n\r\n")),
    "expect": Body((_length(100), _EXPECT), _INNER),
    "expect chunked": Body((_CHUNKED, _EXPECT), chunks(_INNER, 50)),
    "junk": Body((_CHUNKED,), b"zz\r\n" + _INNER, sound=False),
    "junk later": Body((_CHUNKED,), chunks(_INNER, 50, b"") + b"zz\r\n" + _INNER, sound=False),
    "junk trailers": Body((_CHUNKED,), chunks(_INNER, 50, b"0\r\nno field\r\n\r\n"), sound=False),
    "too large": Body((_length(2_000_000),), _INNER * 10, sound=False),
}


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes


class FramingError(AssertionError):
    """What the server sent is not what it should send."""


class CutOffError(FramingError):
    """The connection was closed in the middle of a response."""


class Reader:
    """Reads responses from a socket, and takes nothing for what it is not."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._data = b""

    def _more(self) -> bool:
        try:
            data = self._sock.recv(65536)
        except ConnectionError:
            return False
        except TimeoutError:
            raise FramingError(f"nothing more comes after {self._data[-200:]!r}") from None
        self._data += data
        return bool(data)

    def _until(self, end: bytes) -> bytes:
        while end not in self._data:
            if not self._more():
                raise CutOffError(f"ended within {self._data[-200:]!r}")
        head, _, self._data = self._data.partition(end)
        return head

    def _exactly(self, n: int) -> bytes:
        while len(self._data) < n:
            if not self._more():
                raise CutOffError(f"a body of {n} bytes ended with {len(self._data)}")
        data, self._data = self._data[:n], self._data[n:]
        return data

    def _size(self) -> int:
        line = self._until(b"\r\n")
        try:
            return int(line, 16)
        except ValueError:
            raise FramingError(f"no size of a chunk: {line[:200]!r}") from None

    def _chunked(self) -> bytes:
        parts = []
        while size := self._size():
            parts.append(self._exactly(size))
            if self._exactly(2) != b"\r\n":
                raise FramingError("a chunk does not end where it should")
        while self._until(b"\r\n"):
            pass
        return b"".join(parts)

    def told_to_continue(self) -> bool:
        """Read an interim response, if there is one."""
        while len(self._data) < 12 and self._more():
            pass
        if not self._data.startswith(b"HTTP/1.1 100"):
            return False
        self._until(b"\r\n\r\n")
        return True

    def answer(self, *, without_body: bool = False) -> Answer | None:
        """Read a response, interim ones left out; None if the connection was closed.

        Args:
            without_body: It answers HEAD.
        """
        while True:
            if not self._data and not self._more():
                return None
            line, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
            if not line.startswith(("HTTP/1.1 ", "HTTP/1.0 ")):
                raise FramingError(f"no response: {line[:200]!r}")
            status = int(line.split()[1])
            headers = {}
            for name, value in (text.split(": ", 1) for text in lines):
                if name.lower() in headers and name.lower() in ("content-length", "transfer-encoding"):
                    raise FramingError(f"twice: {name}")
                headers[name.lower()] = value
            if status >= 200:
                break
        if without_body or status in (204, 304):
            body = b""
        elif "transfer-encoding" in headers:
            body = self._chunked()
        elif "content-length" in headers:
            body = self._exactly(int(headers["content-length"]))
        else:
            while self._more():
                pass
            body, self._data = self._data, b""
        return Answer(status, headers, body)


def in_step(
    server: Server,
    path: str,
    body: Body,
    *,
    index: int = 0,
    timing: str = "at once",
    version: str = "1.1",
    ends: bool = False,
) -> int:
    """Send a probe and two ordinary requests on one connection, and check what comes back.

    Args:
        server: The server.
        path: Path of the probe.
        body: Its body.
        index: Number of the port.
        timing: "at once"; "late body", a moment after the head; or "one by one", each request after the
            response to the one before.
        version: Version of HTTP.
        ends: The input may end anywhere, which is status 400 if it is in the head of a request.

    Returns:
        Number of responses, 1 to 3.

    Raises:
        FramingError: The connection is out of step.
    """
    keep = () if version == "1.1" else ("Connection: keep-alive",)
    head = "\r\n".join([f"{body.method} {path} HTTP/{version}", "Host: localhost", *keep, *body.headers, "", ""])
    nexts = [
        f"GET {NEXT}?{n} HTTP/{version}\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n".encode()
        for n, connection in enumerate(("keep-alive", "close"))
    ]
    with server.connect(index) as sock:
        reader = Reader(sock)
        if timing == "late body":
            # What is right does not depend on how long that takes.
            _send(sock, head.encode())
            time.sleep(0.01)
            _send(sock, body.data + b"".join(nexts))
        else:
            _send(sock, head.encode() + body.data + (b"" if timing == "one by one" else b"".join(nexts)))
        try:
            if reader.answer() is None:
                return 0
        except CutOffError:
            return 0  # that is how a response ends that cannot be finished
        for n in range(2):
            if timing == "one by one":
                _send(sock, nexts[n])
            answer = reader.answer()
            if answer is None:
                return n + 1
            if ends and answer.status == 400 and reader.answer() is None:
                return n + 1
            if (answer.status, answer.body) != (200, b"next %d" % n):
                raise FramingError(f"in place of response {n + 2}: {answer}")
        if reader.answer() is not None:
            raise FramingError("one response too many")
    return 3


def _send(sock: socket.socket, data: bytes) -> None:
    try:
        sock.sendall(data)
    except ConnectionError:
        pass  # closed: what has come says whether that is right
