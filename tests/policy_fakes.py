"""Small stand-ins for the core's objects, for tests of the dispatch policy."""

from __future__ import annotations

from typing import Any

from mod_python import apache

Settings = tuple[Any, ...]


class FakeLog:
    """Anything with a ``log_error``."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str]] = []

    def log_error(self, message: str, level: int = apache.APLOG_ERR) -> None:
        assert "\n" not in message
        assert "\0" not in message
        self.lines.append((level, message))

    def text(self, level: int = apache.APLOG_ERR) -> str:
        """The lines of one level."""
        return "\n".join([line for found, line in self.lines if found == level])


class FakeServer(FakeLog):
    """A server with settings."""

    server_hostname = "www.example.com"

    def __init__(self, settings: Settings = (False, True, None, False)) -> None:
        super().__init__()
        self.settings = settings


class FakeRequest(FakeLog):
    """A request as the dispatcher and the report use it."""

    def __init__(self, debug: bool = False, autoreload: bool = True, path: str | None = None) -> None:
        super().__init__()
        self.settings: Settings = (debug, autoreload, path, False)
        self.server = FakeServer()
        self.uri = "/app/page"
        self.filename: str | None = "/srv/app/page"
        self.path_info: str | None = ""
        self.user: str | None = None
        self.status = 200
        self.content_type: str | None = None
        self.headers_out = apache.table({"Content-Length": "3"})
        self.bytes_sent = 0
        self.sent_bodyct = 0
        self.body = b""
        self.calls: list[Any] = []
        self._hlist: Any = None

    @property
    def hlist(self) -> Any:
        return self._hlist

    def document_root(self) -> str:
        return "/srv"

    def write(self, data: bytes) -> None:
        self.body += data


class FakeConnection(FakeLog):
    """A connection as the dispatcher uses it."""

    __slots__ = ("_hlist", "calls", "settings", "tls")

    def __init__(self, settings: Settings = (False, True, None, False)) -> None:
        super().__init__()
        self.settings = settings
        self.calls: list[Any] = []
        self.tls: Any = None
        self._hlist: Any = None

    @property
    def hlist(self) -> Any:
        return self._hlist
