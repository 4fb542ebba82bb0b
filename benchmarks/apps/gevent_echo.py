# mypy: disable-error-code="import-untyped,import-not-found"
"""The echo server with gevent: a file object for the lines, sendall for the answers.

Usage: python gevent_echo.py PORT
"""

from __future__ import annotations

import socket
import sys

from gevent.server import StreamServer


def echo(client: socket.socket, address: tuple[str, int]) -> None:
    """Echoes lines until the peer closes."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with client, client.makefile("rb") as lines:
        try:
            while line := lines.readline():
                client.sendall(line)
        except ConnectionError:
            pass


if __name__ == "__main__":
    StreamServer(("127.0.0.1", int(sys.argv[1])), echo, backlog=511).serve_forever()
