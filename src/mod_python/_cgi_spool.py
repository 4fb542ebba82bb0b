"""Input and output of a CGI script that never waits for a client.

One script runs at a time in a process, so its client must not decide how long that takes.  The body of the
request is read before the script runs, and its output is sent after it has ended.  Both are in memory up to
`MAX_MEMORY` bytes, and beyond that in a private temporary file without a name.
"""

from __future__ import annotations

import errno

from ._cgi import CGIStdin, CGIStdout, Output
from ._constants import APLOG_WARNING, HTTP_REQUEST_ENTITY_TOO_LARGE
from .errors import SERVER_RETURN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tempfile import SpooledTemporaryFile
    from typing import Any

    Spool = SpooledTemporaryFile[bytes]

__all__ = ["MAX_BODY", "MAX_OUTPUT", "SpooledStdin", "SpooledStdout", "read_body", "send"]

#: Bytes kept in memory, of each body and of each output. Most are smaller; those of 64 slow clients take
#: 32 MiB.
MAX_MEMORY = 256 * 1024

#: Bytes of a body, unless ``PythonOption mod_python.cgihandler.max_body`` says otherwise. As httpd's
#: LimitRequestBody since 2.4.54; before, httpd had no limit.
MAX_BODY = 1 << 30

#: Bytes of an output, unless ``PythonOption mod_python.cgihandler.max_output`` says otherwise: a script that
#: prints without end must not fill the disk.
MAX_OUTPUT = 1 << 30

# Bytes that are read or sent at a time.
_PIECE = 65536


def _new(directory: str | None) -> Spool:
    from tempfile import SpooledTemporaryFile

    return SpooledTemporaryFile(MAX_MEMORY, dir=directory)


def read_body(req: Any, limit: int, directory: str | None) -> tuple[Spool, int]:
    """Read the body of a request.

    A sub-request has none, unless httpd has kept that of its main request for it (``KeptBodySize``).

    Args:
        req: the request.
        limit: the largest body that is taken, in bytes; 0 for any.
        directory: where the temporary file is; None for the system's directory.

    Returns:
        (a file of bytes, at its beginning; number of bytes).

    Raises:
        SERVER_RETURN: 413 if the body is larger; or httpd refuses the body.
        OSError: the client has gone or took too long, or the file cannot be written.
    """
    announced = req.headers_in.get("Content-Length", "")
    spool: Spool = _new(directory)
    size = 0
    try:
        if req.main is None or announced:
            if limit and announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
                _refuse(req, limit)
            while data := req.read(_PIECE):
                size += len(data)
                if limit and size > limit:
                    _refuse(req, limit)
                spool.write(data)
        spool.seek(0)
    except BaseException:
        spool.close()
        raise
    return spool, size


def _refuse(req: Any, limit: int) -> None:
    req.log_error(
        f"mod_python.cgihandler: the body of the request is larger than {limit} bytes "
        "(PythonOption mod_python.cgihandler.max_body)",
        APLOG_WARNING,
    )
    raise SERVER_RETURN(HTTP_REQUEST_ENTITY_TOO_LARGE)


class SpooledStdin(CGIStdin):
    """The body of a request, already read, as text; `buffer` has its bytes.

    Args:
        body: what `read_body` has returned.
    """

    def __init__(self, body: Spool) -> None:
        raw: Any = body
        self._begin(raw)


class _Collected(Output):
    """Headers as they come, and a body that stays here.

    Args:
        req: the request.
        limit: the largest body, in bytes; 0 for any.
        directory: where the temporary file is; None for the system's directory.
    """

    def __init__(self, req: Any, limit: int, directory: str | None) -> None:
        super().__init__(req)
        self.body: Spool = _new(directory)
        self._limit = limit
        self._size = 0

    def _send(self, data: bytes | memoryview) -> None:
        if self._limit and self._size + len(data) > self._limit:
            raise OSError(
                errno.EFBIG,
                f"the output of the script is larger than {self._limit} bytes "
                "(PythonOption mod_python.cgihandler.max_output)",
            )
        if len(data) > MAX_MEMORY:
            self.body.rollover()
        self.body.write(data)
        self._size += len(data)

    def flush(self) -> None:
        """Do nothing: the output is sent when the script has ended."""


class SpooledStdout(CGIStdout):
    """The output of a script as text, collected; `buffer` takes bytes.

    Args:
        req: the request; headers are set at once.
        limit: the largest body, in bytes; 0 for any.
        directory: where the temporary file is; None for the system's directory.

    Attributes:
        body: what was written after the headers, a file of bytes.
    """

    def __init__(self, req: Any, limit: int, directory: str | None) -> None:
        collected = _Collected(req, limit, directory)
        self.body = collected.body
        self._begin(collected)


def send(req: Any, body: Spool) -> None:
    """Send the output of a script that has ended.

    Args:
        req: the request.
        body: the output.

    Raises:
        OSError: the client has gone, or the file cannot be read.
    """
    body.seek(0)
    pending = body.read(MAX_MEMORY)
    if len(pending) < MAX_MEMORY:
        # It leaves in one go when the handler has returned, and gets a length.
        req.write(pending, 0)
        return
    while pending:
        req.write(pending)
        pending = body.read(_PIECE)
