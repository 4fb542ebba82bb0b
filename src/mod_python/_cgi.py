"""CGI scripts in the server's process: their environment and standard streams.

`mod_python.apache` offers what is here.  It is loaded on first use, because
few servers need it.

The environment and ``sys.stdin`` and ``sys.stdout`` belong to a process and an
interpreter, not to a request.  Who runs scripts has to see that one runs at a time.
"""

from __future__ import annotations

import io
import os
import sys

from ._constants import HTTP_MOVED_TEMPORARILY, HTTP_OK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from ._core import Table

    Environment = dict[str, str]

__all__ = ["CGIStdin", "CGIStdout", "NullIO", "build_cgi_env", "is_cgi_name", "restore_nocgi", "setup_cgi"]

# Output that is queued before some is sent.  Below it, a page gets a length.
MAX_QUEUED = 65536

# Headers of a script, bytes.  More means that the empty line after them is
# missing, and all of the output would be collected.
MAX_HEADERS = 65536

# Names that CGI, httpd and mod_ssl give to what a request is: its variables, and nothing else, have them.
_NAMES = frozenset(
    (
        *("AUTH_TYPE", "DOCUMENT_ARGS", "DOCUMENT_NAME", "DOCUMENT_PATH_INFO", "DOCUMENT_ROOT", "DOCUMENT_URI"),
        *("GATEWAY_INTERFACE", "HTTP2", "HTTPS", "PATH_INFO", "PATH_TRANSLATED", "QUERY_STRING"),
        *("QUERY_STRING_UNESCAPED", "UNIQUE_ID"),
    )
)
_PREFIXES = (
    *("CONTENT_", "CONTEXT_", "H2_", "HTTP_", "REDIRECT_", "REMOTE_", "REQUEST_", "SCRIPT_", "SERVER_", "SSL_"),
)
# What OpenSSL itself reads in programs that make connections.
_OPENSSL = frozenset(("SSL_CERT_DIR", "SSL_CERT_FILE"))


def is_cgi_name(name: str) -> bool:
    """Whether a variable of this name says something about a request.

    The environment that httpd was started with may have such variables, too. They say nothing about
    the request, and ``REMOTE_USER``, ``HTTPS`` or ``HTTP_PROXY`` would be taken for what they are not.

    Args:
        name: name of a variable.
    """
    return name in _NAMES or (name.startswith(_PREFIXES) and name not in _OPENSSL)


def build_cgi_env(req: Any) -> Table:
    """Return the CGI variables of a request.

    Args:
        req: the request; its `subprocess_env` is filled (``req.add_cgi_vars()``).

    Returns:
        a copy of ``req.subprocess_env`` with ``GATEWAY_INTERFACE`` ``Python-CGI/1.1``,
        ``SCRIPT_NAME``, and ``HTTP_AUTHORIZATION`` if the client sent that header.
    """
    req.add_cgi_vars()
    env: Table = req.subprocess_env.copy()
    name, rest = req.uri, req.path_info
    if rest and name.endswith(rest):
        name = name[: -len(rest)]
    env["GATEWAY_INTERFACE"] = "Python-CGI/1.1"
    # Tables are Latin-1, the URI is UTF-8: the same bytes.
    env["SCRIPT_NAME"] = name.encode("utf-8", "surrogateescape")
    authorization = req.headers_in.get("authorization")
    if authorization is not None:
        env["HTTP_AUTHORIZATION"] = authorization
    if "Proxy" in req.headers_in:
        # Programs take it for the proxy of their own requests; httpd itself leaves it out since 2.4.24.
        del env["HTTP_PROXY"]
    return env


def setup_cgi(req: Any) -> tuple[Environment, Any, Any]:
    """Make this process look like that of a CGI script.

    The request's variables go into `os.environ`, in place of all that have names of
    CGI (`is_cgi_name`).  ``sys.stdin`` and ``sys.stdout``
    read and write the request, ``sys.argv`` is empty.

    Args:
        req: the request.

    Returns:
        (environment, stdin, stdout) as they were, for `restore_nocgi`.
    """
    saved = (dict(os.environ), sys.stdin, sys.stdout)
    for key in saved[0]:
        if is_cgi_name(key):
            del os.environ[key]
    for key, value in build_cgi_env(req).items():
        if value is not None:
            os.environ[os.fsdecode(key.encode("latin-1"))] = os.fsdecode(value.encode("latin-1"))
    sys.stdin = CGIStdin(req)
    sys.stdout = CGIStdout(req)
    sys.argv = []
    return saved


def restore_nocgi(env: Mapping[str, str], stdin: Any, stdout: Any) -> None:
    """Undo `setup_cgi`.

    Args:
        env: the environment as it was.
        stdin: ``sys.stdin`` as it was.
        stdout: ``sys.stdout`` as it was.
    """
    ours = sys.stdout
    sys.stdin = stdin
    sys.stdout = stdout
    sys.argv = ["mod_python"]
    for key in set(os.environ) - set(env):
        del os.environ[key]
    for key, value in env.items():
        if os.environ.get(key) != value:
            os.environ[key] = value
    if isinstance(ours, CGIStdout):
        ours.finish()


class NullIO:
    """A file that is always empty and takes everything."""

    def tell(self) -> int:
        """Return 0."""
        return 0

    def read(self, n: int | None = -1, /) -> str:
        """Return ""."""
        return ""

    def readline(self, n: int = -1, /) -> str:
        """Return ""."""
        return ""

    def readlines(self, hint: int = -1, /) -> list[str]:
        """Return []."""
        return []

    def write(self, s: str, /) -> int:
        """Do nothing; return the number of characters."""
        return len(s)

    def writelines(self, lines: Iterable[str], /) -> None:
        """Do nothing."""

    def isatty(self) -> bool:
        """Return False."""
        return False

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def detach(self) -> Any:
        """Do nothing."""

    def seek(self, cookie: int, whence: int = 0, /) -> int:
        """Do nothing; return 0."""
        return 0


class _Body(io.RawIOBase):
    """The request's body as bytes."""

    def __init__(self, req: Any) -> None:
        self._req = req

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        data = self._req.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


# NullIO comes last: it only says what these are to `isinstance`.
class CGIStdin(io.TextIOWrapper, NullIO):
    """The body of a request as text (UTF-8); `buffer` has its bytes.

    Args:
        req: the request.
    """

    def __init__(self, req: Any) -> None:
        self._begin(_Body(req))

    def _begin(self, body: io.RawIOBase) -> None:
        super().__init__(io.BufferedReader(body), "utf-8", "surrogateescape", newline="\n")

    def tell(self) -> int:
        """Return 0: a body has no positions."""
        return 0

    def seek(self, cookie: int, whence: int = 0, /) -> int:
        """Do nothing: a body is read once."""
        return 0


class Output(io.BufferedIOBase):
    """The output of a script as bytes: headers, an empty line, the body."""

    def __init__(self, req: Any) -> None:
        self._req = req
        self._head: bytearray | None = bytearray()
        self._queued = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        if self._req is None:
            raise ValueError("the request that this stream belonged to is over")
        with memoryview(data).cast("B") as view:
            size = view.nbytes
            if self._head is None:
                self._send(view)
                return size
            # An end that came in two pieces begins up to 3 bytes before this piece.
            start = max(0, len(self._head) - 3)
            self._head += view
        found = min(
            (
                (at, at + len(mark))
                for mark in (b"\r\n\r\n", b"\n\n", b"\n\r\n")
                if (at := self._head.find(mark, start)) >= 0
            ),
            default=None,
        )
        if found is None and self._head[:1] == b"\n":
            found = (0, 1)  # no headers at all
        elif found is None and self._head[:2] == b"\r\n":
            found = (0, 2)
        if found is not None:
            head, body = bytes(self._head[: found[0]]), bytes(self._head[found[1] :])
            self._head = None
            self._set_headers(head)
            self._send(body)
        elif len(self._head) > MAX_HEADERS:
            raise ValueError(
                f"the script has written {len(self._head)} bytes without the empty line that ends "
                "the headers; print headers, an empty line, and then the page"
            )
        return size

    def _send(self, data: bytes | memoryview) -> None:
        self._queued += len(data)
        flush = self._queued >= MAX_QUEUED
        self._req.write(data, int(flush))
        if flush:
            self._queued = 0

    def _set_headers(self, head: bytes) -> None:
        req = self._req
        redirect = False
        for line in head.decode("latin-1").split("\n"):
            line = line.rstrip("\r")
            if not line:
                continue
            name, colon, value = line.partition(":")
            name, value = name.rstrip(), value.strip()
            if not colon or not name:
                raise ValueError(f"the script's output begins with {line!r:.80}, which is no header")
            if name.lower() == "status":
                number = value.partition(" ")[0]
                if not (number.isascii() and number.isdigit() and len(number) == 3):
                    raise ValueError(f"the script's header Status is {value!r:.80}; it must begin with a number")
                req.status = int(number)
                redirect = False
            elif name.lower() == "content-type":
                req.content_type = value
                req.headers_out["Content-Type"] = value
            else:
                req.headers_out.add(name, value)
                redirect = redirect or (name.lower() == "location" and req.status == HTTP_OK)
        if redirect:  # RFC 3875, 6.2.3
            req.status = HTTP_MOVED_TEMPORARILY

    def flush(self) -> None:
        if self._req is not None and self._head is None:
            self._queued = 0
            self._req.flush()

    def finish(self) -> None:
        """The script has ended: let go of the request."""
        req, self._req = self._req, None
        if req is not None and self._head:
            req.log_error(
                "mod_python: the script ended before the empty line that ends its headers; "
                f"its output was {bytes(self._head[:200])!r}"
            )


class CGIStdout(io.TextIOWrapper, NullIO):
    """The output of a script as text (UTF-8); `buffer` takes bytes.

    What is written up to an empty line are headers: ``Status: NNN ...`` becomes
    ``req.status``, ``Content-Type`` becomes ``req.content_type``, others are added to
    ``req.headers_out``; ``Location`` without ``Status`` makes the status 302.  The rest is the body.

    Args:
        req: the request.
    """

    def __init__(self, req: Any) -> None:
        self._begin(Output(req))

    def _begin(self, collected: Output) -> None:
        self._output = collected
        self._written = 0
        # Written through, so that text and what goes to `buffer` stay in order.
        output: Any = collected
        super().__init__(output, "utf-8", "surrogateescape", newline="\n", write_through=True)

    def write(self, s: str, /) -> int:
        """Write text; return the number of characters.

        Raises:
            ValueError: it begins with something else than headers.
            OSError: the client has gone.
        """
        written = super().write(s)
        self._written += written
        return written

    def tell(self) -> int:
        """Return the number of characters written."""
        return self._written

    def seek(self, cookie: int, whence: int = 0, /) -> int:
        """Do nothing: output cannot be taken back."""
        return 0

    def finish(self) -> None:
        """The script has ended: let go of the request."""
        self._output.finish()
