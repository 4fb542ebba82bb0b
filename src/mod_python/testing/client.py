"""What a test uses to talk to its server: sockets, plain or TLS, and one-shot requests."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

__all__ = ["Response", "connect", "request", "tls_context"]


@dataclass(frozen=True, slots=True)
class Response:
    """A whole HTTP response.

    Attributes:
        status: Status code.
        reason: Reason phrase.
        headers: Header fields; look-up ignores case, ``get_all`` gives repeated ones.
        body: The content.
    """

    status: int
    reason: str
    headers: Message
    body: bytes

    @property
    def text(self) -> str:
        """The content as text, in the charset of the response (UTF-8 if it names none)."""
        return self.body.decode(self.headers.get_content_charset("utf-8"))


def tls_context(certificate: Path) -> ssl.SSLContext:
    """Return a client context that trusts one self-signed certificate, and no other."""
    return ssl.create_default_context(cafile=str(certificate))


def connect(host: str, port: int, context: ssl.SSLContext | None = None, timeout: float = 60.0) -> socket.socket:
    """Open a connection.

    Args:
        host: Host to connect to.
        port: Port.
        context: TLS context, or None for a plain connection.
        timeout: Seconds for this and every later operation on the socket, so that a
            server that does not answer fails the test instead of hanging it.

    Returns:
        The connected socket, Nagle's algorithm off.

    Raises:
        OSError: It cannot be opened.
    """
    plain = socket.create_connection((host, port), timeout)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is None:
        return plain
    try:
        return context.wrap_socket(plain, server_hostname="localhost")
    except BaseException:
        plain.close()
        raise


class _Connection(http.client.HTTPConnection):
    """An HTTP connection over a socket that is already there."""

    def __init__(self, sock: socket.socket, host: str, port: int) -> None:
        super().__init__(host, port)
        self.sock = sock


def request(
    sock: socket.socket,
    method: str,
    target: str,
    host: tuple[str, int],
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Make one HTTP request on a connected socket and close it.

    Args:
        sock: The connected socket.
        method: Request method.
        target: Request target, such as ``"/path?query"``.
        host: Host and port for the ``Host`` field.
        body: Content to send.
        headers: More header fields.

    Returns:
        The response.

    Raises:
        OSError: The connection broke.
        http.client.HTTPException: The answer is not HTTP.
    """
    connection = _Connection(sock, *host)
    try:
        fields = {"Connection": "close", **(headers or {})}
        connection.request(method, target, body=body, headers=fields)
        answer = connection.getresponse()
        return Response(answer.status, answer.reason, answer.headers, answer.read())
    finally:
        connection.close()
        sock.close()
