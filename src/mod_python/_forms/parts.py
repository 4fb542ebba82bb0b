"""Reading a multipart body, part by part, in blocks.

The splitting is done by the package ``multipart``. Here is what a form's parts become, and what
a request may cost.
"""

from __future__ import annotations

import multipart  # type: ignore[import-untyped]

from mod_python._constants import HTTP_BAD_REQUEST, HTTP_REQUEST_ENTITY_TOO_LARGE

from .fields import Field, FieldList, StringField, part_headers
from .limits import Limits, refuse
from .query import decode, parse_header, unquote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

__all__ = ["Parts"]

# Characters that no client has a reason to put into a header, and that tables and logs do
# without.
_NO_TEXT = ("\0", "\r", "\n")


def _extended(value: str) -> str | None:
    """Return the parameter ``filename*`` of a disposition, decoded (RFC 8187), or None.

    It has no place in forms (RFC 7578, section 4.2), but some clients send nothing else
    if the name is not ASCII.
    """
    charset, _, rest = parse_header(value)[1].get("filename*", "").partition("'")
    data = unquote(rest.partition("'")[2].encode("utf-8", "surrogateescape"))
    return (data.decode("latin-1") if charset.lower() == "iso-8859-1" else decode(data)) or None


class _Part:
    """The head of a part.

    Attributes:
        headers: Its headers in their order, str through Latin-1.
        size: Bytes of them.
        name: Parameter ``name`` of the disposition, or None.
        filename: Parameter ``filename``, None if there is none or it is empty.
        complete: Whether the end of the part has been seen. Kept by the parser.
        bytes_received: Bytes of content so far. Kept by the parser.
    """

    __slots__ = (
        "bytes_received",
        "complete",
        "disposition",
        "filename",
        "headers",
        "name",
        "options",
        "size",
        "type",
        "type_options",
    )

    def __init__(self, headers: list[tuple[str, str]]) -> None:
        self.bytes_received = 0
        self.complete = False
        self.headers = tuple(headers)
        self.size = 0
        self.disposition: str | None = None
        self.options: dict[str, str] = {}
        self.type = "text/plain"
        self.type_options: dict[str, str] = {}
        for name, value in headers:
            self.size += len(name) + len(value)
            for character in _NO_TEXT:
                if character in value:
                    raise multipart.ParserError(f"Header of a part with {character!r}")
            if name == "Content-Disposition":
                text = decode(value.encode("latin-1"))
                self.disposition, self.options = multipart.parse_options_header(
                    text, unquote=multipart.content_disposition_unquote
                )
                if "*" in text and "filename" not in self.options and (filename := _extended(text)):
                    self.options["filename"] = filename
            elif name == "Content-Type":
                self.type, self.type_options = multipart.parse_options_header(decode(value.encode("latin-1")))
                if "/" not in self.type:
                    self.type = "application/octet-stream"
        self.name = self.options.get("name")
        self.filename = self.options.get("filename") or None


class _Parser(multipart.PushMultipartParser):  # type: ignore[misc]
    """The parser, less its demands on the headers of parts: here a part may go without a name.

    The method is one that subclasses may override, says the package since version 2.
    """

    def _create_segment(self, headerlist: list[tuple[str, str]]) -> _Part:
        return _Part(headerlist)


class Parts:
    """The parts of a body on their way to the fields of a form.

    Args:
        req: The request.
        fields: Where to put the fields.
        limits: What the request may cost.
        file_callback, field_callback: As for `FieldStorage`.
    """

    def __init__(
        self,
        req: Any,
        fields: FieldList,
        limits: Limits,
        file_callback: Callable[[str], Any] | None,
        field_callback: Callable[[], Any] | None,
    ) -> None:
        self._req = req
        self._fields = fields
        self._limits = limits
        self._file_callback = file_callback if callable(file_callback) else None
        self._field_callback = field_callback if callable(field_callback) else None
        self._max_fields = limits.get("max_fields")
        self._max_files = limits.get("max_files")
        self._max_memory = limits.get("max_memory")
        self._files = 0
        self._memory = 0
        # Of the part that is being read: its head; where its content goes, a file or
        # memory.
        self._part: _Part | None = None
        self._file: Any = None
        self._content = bytearray()
        # The first bytes of the content, as many as `_delimiter` has.
        self._delimiter = b""
        self._head = b""

    def read(self, content_type: str) -> None:
        """Read the body to its end.

        Args:
            content_type: The type of the body, with its parameters.

        Raises:
            SERVER_RETURN: The body is broken or exceeds a limit.
            OSError: The body cannot be read, or a file not be written.
            TypeError: A callback returned something else than a file.
        """
        boundary = parse_header(content_type)[1].get("boundary")
        if not boundary:
            refuse(self._req, HTTP_BAD_REQUEST, "the type of the multipart body has no boundary")
        try:
            self._read(boundary.encode("latin-1"))
        except BaseException as exc:
            self._close()
            if isinstance(exc, multipart.ParserLimitReached):
                self._exceeds(str(exc))
            if isinstance(exc, multipart.ParserError):
                refuse(self._req, HTTP_BAD_REQUEST, f"the multipart body is broken: {exc}")
            raise

    def _close(self) -> None:
        """Close the files at once, not when the last traceback has gone."""
        files = [field.file for field in self._fields if isinstance(field, Field)]
        for file in [*files, self._file]:
            if file is not None:
                try:
                    file.close()
                except OSError:
                    pass  # a full disk, and what is raised already says so

    def _read(self, boundary: bytes) -> None:
        from mod_python import util

        size = util.readBlockSize
        limit = left = self._limits.get("max_size")
        read = self._req.read
        self._delimiter = b"--" + boundary
        parser = _Parser(
            boundary,
            max_header_size=self._limits.get("max_header_size"),
            max_header_count=self._limits.get("max_headers"),
            # Their names and file names may be in any encoding.
            header_charset="latin-1",
        )
        while block := read(size):
            left -= len(block)
            if left < 0:
                self._exceeds(f"the body has more than {limit} bytes (max_size)")
            for event in parser.parse(block):
                if event is None:
                    self._end()
                elif isinstance(event, _Part):
                    self._begin(event)
                else:
                    self._add(event)
        parser.close()

    def _exceeds(self, why: str) -> NoReturn:
        refuse(self._req, HTTP_REQUEST_ENTITY_TOO_LARGE, why)

    def _take(self, size: int) -> None:
        self._memory += size
        if self._memory > self._max_memory:
            self._exceeds(f"values and headers take more than {self._max_memory} bytes (max_memory)")

    def _begin(self, part: _Part) -> None:
        """Find a place for the content of a part."""
        if len(self._fields) >= self._max_fields:
            self._exceeds(f"the form has more than {self._max_fields} fields (max_fields)")
        self._take(part.size)
        self._part = part
        self._head = b""
        if part.filename is not None:
            self._files += 1
            if self._files > self._max_files:
                self._exceeds(f"the form has more than {self._max_files} uploads (max_files)")
            if self._file_callback is not None:
                self._file = self._checked("file_callback", self._file_callback(part.filename))
            else:
                from tempfile import TemporaryFile

                self._file = TemporaryFile("w+b", dir=self._limits.option("temp_directory"))  # noqa: SIM115
        elif self._field_callback is not None:
            self._file = self._checked("field_callback", self._field_callback())

    @staticmethod
    def _checked(callback: str, file: Any) -> Any:
        for name in ("write", "read", "seek", "close"):
            if not callable(getattr(file, name, None)):
                raise TypeError(f"{callback} returned {type(file).__name__}, which has no {name}()")
        return file

    def _add(self, data: bytes) -> None:
        """Take a piece of the content."""
        missing = len(self._delimiter) - len(self._head)
        if missing:
            self._head += data[:missing]
            # The parser takes it for content, since a line end belongs to a boundary. Others
            # take it for one, and see other fields.
            if self._head == self._delimiter:
                raise multipart.ParserError("Boundary directly after the headers of a part")
        if self._file is not None:
            self._file.write(data)
        else:
            self._take(len(data))
            self._content += data

    def _end(self) -> None:
        """Make a field of what has come."""
        part, file = self._part, self._file
        assert part is not None
        self._part = None
        if file is not None:
            file.seek(0)
        if part.filename is not None:
            field = Field(
                part.name,
                file,
                part.type,
                part.type_options,
                part.disposition,
                part.options,
                part_headers(part.headers),
            )
            self._file = None
            self._fields.append(field)
            return
        if file is not None:
            content = file.read(self._max_memory + 1)
            self._take(len(content))
            file.seek(0)
        else:
            content = bytes(self._content)
            self._content.clear()
        value = StringField(decode(content))
        value.name = part.name
        value.type = part.type
        value.type_options = part.type_options
        value.disposition = part.disposition
        value.disposition_options = part.options
        value._pairs = part.headers
        if file is not None:
            value.file = file
            self._file = None
        self._fields.append(value)
