"""Requests with forms, made up for tests outside httpd; multipart bodies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import BytesIO

import hypothesis

from mod_python import apache
from tests.policy_fakes import FakeLog

__all__ = ["BOUNDARY", "MULTIPART", "FormRequest", "multipart_body", "part", "steady"]

BOUNDARY = b"----x27"
MULTIPART = "multipart/form-data; boundary=----x27"
URLENCODED = "application/x-www-form-urlencoded"


#: For tests with random data: always the same, and as slow as the machine is.
steady = hypothesis.settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)


class FormRequest(FakeLog):
    """A request as `FieldStorage` uses it.

    Args:
        args: The query string, or None.
        body: The body of a POST; None for a GET.
        content_type: Its type, or None.
        length: Its Content-Length; that of the body if left out, missing if None.
        options: PythonOptions.
    """

    def __init__(
        self,
        args: str | None = None,
        body: bytes | None = None,
        content_type: str | None = None,
        length: str | None = "",
        options: Mapping[str, str] | None = None,
        method: str | None = None,
    ) -> None:
        super().__init__()
        self.method = method or ("GET" if body is None else "POST")
        self.args = args
        self.options = apache.table(dict(options or {}))
        self.headers_in = apache.table()
        if body is not None and length is not None:
            self.headers_in["Content-Length"] = length or str(len(body))
        if content_type is not None:
            self.headers_in["Content-Type"] = content_type
        self.body = BytesIO(body or b"")
        self.reads: list[int] = []

    def read(self, size: int = -1) -> bytes:
        self.reads.append(size)
        return self.body.read(size)

    def get_options(self) -> apache.table:
        return self.options


def part(content: bytes = b"", *headers: bytes, name: bytes | None = None, filename: bytes | None = None) -> bytes:
    """Return a part: its headers, those of `name` and `filename` first, an empty line, its content."""
    lines = list(headers)
    if name is not None:
        disposition = b'Content-Disposition: form-data; name="%b"' % name
        if filename is not None:
            disposition += b'; filename="%b"' % filename
        lines.insert(0, disposition)
    return b"".join([line + b"\r\n" for line in lines]) + b"\r\n" + content


def multipart_body(parts: Iterable[bytes], boundary: bytes = BOUNDARY) -> bytes:
    """Return parts with the boundary between them and after them."""
    return b"".join([b"--%b\r\n%b\r\n" % (boundary, one) for one in parts]) + b"--%b--\r\n" % boundary
