"""A stand-in for requests, for tests of sessions without a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mod_python import apache


class FakeServer:
    """Where clean-ups log to."""


class FakeRequest:
    """What sessions need of a request."""

    def __init__(self, directory: Path, sid: str = "", **found: str) -> None:
        self.headers_in = apache.table({"Cookie": f"pysid={sid}"} if sid else {})
        self.headers_out = apache.table()
        self.server = FakeServer()
        self.main: FakeRequest | None = None
        self.prev: FakeRequest | None = None
        self.hlist = None
        self.uri = "/"
        self.cleanups: list[tuple[Callable[[Any], object], Any]] = []
        self.lines: list[str] = []
        self._options = apache.table({"mod_python.session.database_directory": str(directory)})
        for name, value in found.items():
            self._options["mod_python." + name.replace("__", ".")] = value

    def get_options(self) -> Any:
        return self._options

    def document_root(self) -> str:
        return "/srv"

    def is_https(self) -> int:
        return 0

    def log_error(self, message: str, level: int = 3) -> None:
        self.lines.append(message)

    def register_cleanup(self, function: Callable[[Any], object], data: Any = None) -> None:
        self.cleanups.append((function, data))

    def end(self) -> None:
        while self.cleanups:
            function, data = self.cleanups.pop()
            function(data)
