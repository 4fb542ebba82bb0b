"""No byte is lost or changed between the reading methods, in whatever order they are used.

Random streams, cut into random segments, are read with random sequences of calls, and
every result is compared with what a model says about the whole stream.
"""

from __future__ import annotations

import ast
import random
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.async_scripted import either
from tests.scripted import Scripted, TlsPeer, receive_all, wait_read

pytestmark = pytest.mark.heavy


#: Random conversations per transport. A failure names its number, which repeats it.
CONVERSATIONS = 40

#: Runs the calls, and notes results and exceptions.
BODY = """
results = []
for name, *arguments in {calls!r}:
    try:
        results.append(getattr(conn, name)(*arguments))
    except StopIteration:
        results.append("stop")
    except apache.LimitError:
        results.append("limit")
    except apache.IncompleteRead as error:
        results.append(("incomplete", error.partial))
    except apache.ConnectionClosed:
        results.append("closed")
return results
"""

Call = tuple[Any, ...]


class Model:
    """The stream as a whole, and how much of it was read."""

    def __init__(self, stream: bytes) -> None:
        self.rest = stream
        self.told = False

    def check(self, call: Call, result: object) -> None:
        """Check a result, and go on to the rest of the stream."""
        name, *arguments = call
        if name == "read" and arguments[0] >= 0 and self.rest:
            # How much is there at a moment is up to the network.
            assert isinstance(result, bytes)
            assert 1 <= len(result) <= (arguments[0] or len(self.rest))
            assert self.rest.startswith(result)
            self.rest = self.rest[len(result) :]
        else:
            assert result == getattr(self, name)(*arguments)

    def take(self, count: int) -> bytes:
        result, self.rest = self.rest[:count], self.rest[count:]
        return result

    def at_end(self) -> object:
        if self.told:
            return "closed"
        self.told = True
        return b""

    def line(self) -> int:
        return self.rest.find(b"\n") + 1 or len(self.rest)

    def readline(self, length: int = 0) -> object:
        if not self.rest:
            return self.at_end()
        return self.take(min(self.line(), length) if length > 0 else self.line())

    def __next__(self) -> object:
        if not self.rest:
            self.told = True
            return "stop"
        return self.take(self.line())

    def read(self, length: int) -> object:
        return self.take(len(self.rest)) if self.rest else self.at_end()

    def peek(self, length: int) -> bytes:
        return self.rest[:length]

    def incomplete(self) -> object:
        self.told = True
        return "incomplete", self.take(len(self.rest))

    def readexactly(self, length: int) -> object:
        return self.take(length) if len(self.rest) >= length else self.incomplete()

    def readuntil(self, separator: bytes, limit: int) -> object:
        found = self.rest.find(separator)
        if found >= 0:
            end = found + len(separator)
            return self.take(end) if end <= limit else "limit"
        return "limit" if len(self.rest) >= limit else self.incomplete()


def random_stream(chance: random.Random) -> bytes:
    """A stream with few different bytes, so that separators and their beginnings are frequent."""
    parts = []
    for _ in range(chance.randrange(1, 30)):
        length = chance.choice([1, 2, 3, 10, 100, 1000, 8000, 8192, 8193, 20000])
        if chance.random() < 0.5:
            parts.append(bytes(chance.choices(b"ab;\n\0\xff", k=length % 3000)))
        else:
            parts.append(bytes([chance.choice(b"ab;")]) * length)
    return b"".join(parts)


def random_calls(chance: random.Random) -> list[Call]:
    """Calls of reading methods, the last of which read to the end and beyond."""
    calls: list[Call] = []
    for _ in range(chance.randrange(60)):
        number = chance.choice([1, 2, 3, 5, 50, 500, 5000, 8191, 8192, 8193, 30000])
        calls.append(
            chance.choice(
                [
                    ("readline",),
                    ("readline", number),
                    ("__next__",),
                    ("read", number),
                    ("read", 0),
                    ("readexactly", number),
                    ("readexactly", 0),
                    ("peek", number),
                    ("readuntil", chance.choice([b";", b"ab", b";;a", b"a;b\n", b"\xff"]), number),
                ]
            )
        )
    return [*calls, ("peek", 1), ("read", -1), ("readline",), ("read", 5), ("read", -1), ("__next__",)]


def random_segments(chance: random.Random, stream: bytes) -> Iterator[bytes]:
    while stream:
        size = chance.choice([1, 2, 7, 100, 1000, 4000, 8192, 30000])
        yield stream[:size]
        stream = stream[size:]


kit = either()


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_random_conversations(kit: Scripted, tls: bool) -> None:
    for number in range(CONVERSATIONS):
        chance = random.Random(number)
        stream, calls = random_stream(chance), random_calls(chance)
        with TlsPeer(kit.server, 1) if tls else kit.server.connect() as peer:
            sock = peer.sock if isinstance(peer, TlsPeer) else peer
            peer.sendall(kit.script(BODY.format(calls=calls), value=True))
            waits = 8
            for segment in random_segments(chance, stream):
                if waits and chance.random() < 0.5:
                    waits -= 1
                    wait_read(sock)
                peer.sendall(segment)
            if isinstance(peer, TlsPeer):
                peer.end()
                answer = peer.receive_all()
            else:
                sock.shutdown(socket.SHUT_WR)
                answer = receive_all(sock)
        results = ast.literal_eval(answer.decode())
        assert len(results) == len(calls)
        model = Model(stream)
        for place, (call, result) in enumerate(zip(calls, results, strict=True)):
            try:
                model.check(call, result)
            except AssertionError as error:
                raise AssertionError(f"conversation {number}, call {place}: {call}: {error}") from error
        assert model.rest == b""
