"""A client of the chat examples."""

from __future__ import annotations

from typing import IO

from mod_python.testing import Server


class Member:
    """Someone in the chat, who has given a name."""

    def __init__(self, server: Server, name: bytes, port: int = 0) -> None:
        self.socket = server.connect(port)
        self.lines: IO[bytes] = self.socket.makefile("rb")
        assert self.lines.read(11) == b"Your name? "
        self.say(name)
        assert self.hear().startswith(b"Welcome, others here: ")

    def say(self, text: bytes) -> None:
        self.socket.sendall(text + b"\n")

    def hear(self) -> bytes:
        return self.lines.readline()

    def leave(self) -> None:
        self.lines.close()
        self.socket.close()
