"""A server for the tests of content handlers: handlers chosen by the last part of the path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mod_python.testing import Server
from mod_python.testing.errorlog import tracebacks
from tests.servers import running

HEAD = """
import threading
from mod_python import apache

kept = {}

def declined(req):
    return apache.DECLINED

def declined_after_output(req):
    req.write("[before]", 0)
    return apache.DECLINED
"""

TAIL = """
def handler(req):
    return globals()[req.uri.rpartition("/")[2]](req)
"""

CONFIG = """
DocumentRoot ${SITE}/docs
<Directory ${SITE}/docs>
    Require all granted
</Directory>
<Directory />
    SetHandler mod_python
    PythonHandler ${SITE}/handlers.py
</Directory>
<Location /debug>
    PythonDebug On
</Location>
<Location /coroutine>
    PythonHandler ${SITE}/handlers.py::coroutine
</Location>
<Location /files>
    PythonHandler ${SITE}/handlers.py::declined
</Location>
<Location /appended>
    PythonHandler ${SITE}/handlers.py::declined_after_output
</Location>
"""


@contextmanager
def site(
    handlers: str, config: str = "", files: Mapping[str, str | bytes] | None = None, **arguments: Any
) -> Iterator[Server]:
    """Run a server whose handlers are the functions of a source text.

    Args:
        handlers: The functions; `HEAD` goes before them.
        config: More configuration, before the handlers'.
        files: More files.
        **arguments: As for `Server`.
    """
    contents = {
        "handlers.py": HEAD + handlers + TAIL,
        "docs/index.html": "index",
        "docs/files/page.txt": "the file",
        "docs/appended/page.txt": "the file",
        **(files or {}),
    }
    with running(config + CONFIG, files=contents, **arguments) as server:
        yield server


def exchange(server: Server, data: bytes) -> bytes:
    """Send bytes, and return all that comes until the server closes."""
    with server.connect() as sock:
        sock.sendall(data)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def get(path: str, *lines: str, method: str = "GET", close: bool = True) -> bytes:
    """Return the head of a request."""
    head = [f"{method} {path} HTTP/1.1", "Host: localhost", *lines, *(["Connection: close"] if close else [])]
    return "\r\n".join([*head, "", ""]).encode("latin-1")


def lines_of(server: Server, text: str) -> list[str]:
    """Return the messages in the error log that contain a text."""
    return [record.message for record in server.log_records() if text in record.message]


def reported(server: Server, marker: str) -> str:
    """Expect one traceback with this text; return it."""
    server.allow(marker)
    server.wait_for_log(marker)
    found = [text for text in tracebacks(server.log_records()) if marker in text]
    assert len(found) == 1, found
    return found[0]
