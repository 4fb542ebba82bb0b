"""What a form consists of: ordinary values, uploaded files, and the list of them."""

from __future__ import annotations

from io import BytesIO

from .query import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Self, SupportsIndex

    from mod_python._core import Table

    # Of a part; of a field that was no part, a dictionary.
    Headers = Table | dict[str, str]


__all__ = ["Field", "FieldList", "StringField"]


def part_headers(pairs: Iterable[tuple[str, str]]) -> Table:
    """Return the table of a part's headers, str through Latin-1 as all tables."""
    # Later: it is made by the interpreter's start, or not needed at all.
    from mod_python import apache

    table = apache.table()
    for name, value in pairs:
        table.add(name, value)
    return table


class Field:
    """An uploaded file.

    Attributes:
        name: Name of the field, or None.
        filename: The name that the client gave, None if it gave none. Not to be used as a
            path: a client sends what it likes.
        file: Binary file with the content, at its beginning. It is closed when the field
            is destroyed.
        type: Type that the client gave, in lower case, as ``image/png``; ``text/plain`` if it gave none.
        type_options: Parameters of the type: a dictionary of str.
        disposition: ``form-data``, as a rule.
        disposition_options: Parameters of the disposition: a dictionary of str.
        headers: Table of the headers of the part.

    Args:
        name: Name of the field.
        file: Binary file with the content.
        ctype: Type of the content.
        type_options: Parameters of the type.
        disp: The disposition.
        disp_options: Its parameters; ``filename`` becomes the field's.
        headers: Headers of the part.
    """

    def __init__(
        self,
        name: str | None,
        file: Any = None,
        ctype: str = "text/plain",
        type_options: dict[str, str] | None = None,
        disp: str | None = None,
        disp_options: dict[str, str] | None = None,
        headers: Headers | None = None,
    ) -> None:
        self.name = name
        self.file = file
        self.type = ctype
        self.type_options: dict[str, str] = {} if type_options is None else type_options
        self.disposition = disp
        self.disposition_options: dict[str, str] = {} if disp_options is None else disp_options
        self.filename: str | None = self.disposition_options.get("filename")
        self.headers: Headers = {} if headers is None else headers

    @property
    def value(self) -> bytes:
        """The whole content; it has to fit into memory. The file is left at its beginning."""
        if self.file is None:
            return b""
        self.file.seek(0)
        content: bytes = self.file.read()
        self.file.seek(0)
        return content

    @property
    def ctype(self) -> str:
        """The same as ``type``."""
        return self.type

    @property
    def disp_options(self) -> dict[str, str]:
        """The same as ``disposition_options``."""
        return self.disposition_options

    def __del__(self) -> None:
        file = getattr(self, "file", None)
        if file is not None:
            try:
                file.close()
            except Exception:
                pass  # there is nobody to tell

    def __repr__(self) -> str:
        return f"Field({self.name!r}, {self.value!r})"


class StringField(str):
    """An ordinary value: a str that knows its name.

    It is text in UTF-8; bytes that are none are surrogates (``surrogateescape``).

    Attributes:
        name: Name of the field; None if a part of a multipart form had none.
        filename: None.
        type, type_options, disposition, disposition_options: As of `Field`; for a form that
            is not multipart ``text/plain``, ``{}``, None and None.
    """

    name: str | None = None
    filename: str | None = None
    type: str = "text/plain"
    disposition: str | None = None
    disposition_options: dict[str, str] | None = None

    # Made when asked for, since most fields are never asked.
    _pairs: tuple[tuple[str, str], ...] = ()
    _headers: Headers | None = None
    _type_options: dict[str, str] | None = None
    _file: Any = None

    @property
    def value(self) -> str:
        """The value as a plain str."""
        return str(self)

    @property
    def file(self) -> Any:
        """A binary file with the bytes of the value."""
        if self._file is None:
            self._file = BytesIO(encode(self))
        return self._file

    @file.setter
    def file(self, file: Any) -> None:
        self._file = file

    @property
    def headers(self) -> Headers:
        """Table of the headers of the part; ``{}`` for a form that is not multipart."""
        if self._headers is None:
            self._headers = part_headers(self._pairs) if self._pairs else {}
        return self._headers

    @headers.setter
    def headers(self, headers: Headers) -> None:
        self._headers = headers

    @property
    def type_options(self) -> dict[str, str]:
        """Parameters of the type."""
        if self._type_options is None:
            self._type_options = {}
        return self._type_options

    @type_options.setter
    def type_options(self, options: dict[str, str]) -> None:
        self._type_options = options

    @property
    def ctype(self) -> str:
        """The same as ``type``."""
        return self.type

    @property
    def disp_options(self) -> dict[str, str] | None:
        """The same as ``disposition_options``."""
        return self.disposition_options

    def __repr__(self) -> str:
        return f"Field({self.name!r}, {str(self)!r})"


AnyField = Field | StringField


class FieldList(list[AnyField]):
    """The fields of a form in their order, with an index of their names.

    It is an ordinary list. The index is made when it is needed, and again after a change.
    """

    _table: dict[str | None, list[AnyField]] | None = None

    def table(self) -> dict[str | None, list[AnyField]]:
        """Return the names, in the order in which they first appear, with their fields."""
        if self._table is None:
            table: dict[str | None, list[AnyField]] = {}
            for field in self:
                table.setdefault(field.name, []).append(field)
            self._table = table
        return self._table

    def append(self, field: AnyField, /) -> None:
        self._table = None
        super().append(field)

    def extend(self, fields: Iterable[AnyField], /) -> None:
        super().extend(fields)
        self._table = None

    def insert(self, index: SupportsIndex, field: AnyField, /) -> None:
        self._table = None
        super().insert(index, field)

    def pop(self, index: SupportsIndex = -1, /) -> AnyField:
        self._table = None
        return super().pop(index)

    def remove(self, field: AnyField, /) -> None:
        super().remove(field)
        self._table = None

    def clear(self) -> None:
        self._table = None
        super().clear()

    def reverse(self) -> None:
        self._table = None
        super().reverse()

    def sort(self, **how: Any) -> None:
        super().sort(**how)
        self._table = None

    def __setitem__(self, index: Any, value: Any, /) -> None:
        super().__setitem__(index, value)
        self._table = None

    def __delitem__(self, index: SupportsIndex | slice, /) -> None:
        self._table = None
        super().__delitem__(index)

    def __iadd__(self, fields: Iterable[AnyField], /) -> Self:  # type: ignore[override, misc]
        super().__iadd__(fields)
        self._table = None
        return self

    def __imul__(self, count: SupportsIndex, /) -> Self:
        super().__imul__(count)
        self._table = None
        return self
