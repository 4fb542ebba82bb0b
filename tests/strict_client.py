"""A client that takes the bytes of a connection apart by the letter of RFC 9112, and nothing else.

What browsers and libraries forgive (two lengths, a length beside an encoding) it refuses: one
of them would find the end of the response somewhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field


class WrongFramingError(AssertionError):
    """The bytes are no sequence of responses that all clients read alike."""


@dataclass
class Response:
    """One response.

    Attributes:
        status: the number.
        headers: name in lower case → its values.
        body: what came of it.
        complete: whether its end was there; False if the connection ended before.
        closes: whether the connection ends with it.
    """

    status: int
    headers: dict[str, list[str]] = field(default_factory=dict)
    body: bytes = b""
    complete: bool = True
    closes: bool = False

    def header(self, name: str) -> str | None:
        """Return the only value of a header."""
        values = self.headers.get(name, [])
        if len(values) > 1:
            raise WrongFramingError(f"{name} is there {len(values)} times: {values}")
        return values[0] if values else None


def responses(data: bytes, methods: list[str]) -> list[Response]:
    """Take apart what a server has sent until it closed the connection.

    Args:
        data: all of it.
        methods: those of the requests, in their order.

    Returns:
        the responses, at most one for each request. The last may be incomplete.

    Raises:
        WrongFramingError: not a sequence of responses, or bytes that belong to none.
    """
    found: list[Response] = []
    for method in methods:
        if not data or (found and (found[-1].closes or not found[-1].complete)):
            break
        response, data = _response(data, method)
        found.append(response)
    if data:
        raise WrongFramingError(f"bytes that belong to no response: {data[:200]!r}")
    return found


def _response(data: bytes, method: str) -> tuple[Response, bytes]:
    head, separator, rest = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    match = re.fullmatch(r"HTTP/1\.1 ([2-5]\d\d) [^\r\n]*", lines[0])
    if not separator or match is None:
        raise WrongFramingError(f"no head of a final response: {data[:200]!r}")
    response = Response(int(match[1]))
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise WrongFramingError(f"no header: {line!r}")
        response.headers.setdefault(name.lower(), []).append(value.strip(" \t"))
    length, encoding = response.header("content-length"), response.header("transfer-encoding")
    response.closes = "close" in (response.header("connection") or "").lower()
    if length is not None and encoding is not None:
        raise WrongFramingError("a length and an encoding")
    if length is not None and not re.fullmatch(r"\d+", length):
        raise WrongFramingError(f"no length: {length!r}")
    if method == "HEAD" or response.status in (204, 304):
        if response.status == 204 and length is not None:
            raise WrongFramingError("a 204 with a length")
        return response, rest
    if encoding is not None:
        if encoding.lower() != "chunked":
            raise WrongFramingError(f"encoding {encoding!r}")
        return response, _chunks(response, rest)
    if length is not None:
        response.body, rest = rest[: int(length)], rest[int(length) :]
        response.complete = len(response.body) == int(length)
        return response, rest
    response.body, response.closes = rest, True
    return response, b""


def _chunks(response: Response, rest: bytes) -> bytes:
    """Read a body of chunks, without trailers; return what follows."""
    while rest:
        match = re.match(rb"([0-9A-Fa-f]+)\r\n", rest)
        if match is None:
            raise WrongFramingError(f"no chunk: {rest[:100]!r}")
        size, rest = int(match[1], 16), rest[match.end() :]
        if len(rest) < size + 2:
            response.body += rest[:size]
            break
        if rest[size : size + 2] != b"\r\n":
            raise WrongFramingError(f"a chunk of {size} bytes does not end: {rest[size : size + 20]!r}")
        response.body += rest[:size]
        rest = rest[size + 2 :]
        if size == 0:
            return rest
    response.complete = False
    return b""
