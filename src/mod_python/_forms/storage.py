"""All form data of a request."""

from __future__ import annotations

from mod_python._constants import (
    HTTP_BAD_REQUEST,
    HTTP_LENGTH_REQUIRED,
    HTTP_NOT_IMPLEMENTED,
    HTTP_REQUEST_ENTITY_TOO_LARGE,
)
from mod_python.errors import ConnectionClosed

from .fields import AnyField, Field, FieldList, StringField
from .limits import Limits, refuse
from .query import decode, parse_qsl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

__all__ = ["FieldStorage"]


def _string_field(name: str | None, value: str) -> StringField:
    field = StringField(value)
    field.name = name
    return field


class FieldStorage:
    """The form of a request: the query string, and the body of a POST.

    The body can be read only once, so there is one of these for a request. Handlers keep
    it as ``req.form``, and use the one they find there.

    Ordinary values are `StringField`, text in UTF-8; uploaded files are `Field`, and their
    content bytes.

    Attributes:
        list: The fields in their order, a `FieldList`. It may be changed.

    Args:
        req: The request.
        keep_blank_values: True to keep fields without a value that come from the query
            string or a URL-encoded body. Those of a multipart body are always kept.
        strict_parsing: Has no effect.
        file_callback: Called with the file name of an upload; returns the binary file to
            write to, with ``write``, ``read``, ``seek`` and ``close``. Else it is a
            temporary file without a name.
        field_callback: The same for other parts of a multipart body, called without
            arguments. Else they are kept in memory.
        max_fields: How many fields there may be.
        max_files: How many uploads there may be.
        max_memory: Bytes that may be kept in memory.
        max_header_size: Bytes that one header of a part may have.
        max_headers: How many headers a part may have.
        max_size: Bytes that the body may have.

    A limit that is None is that of ``PythonOption mod_python.util.NAME``, or else the default
    (`mod_python._forms.limits`).

    Raises:
        SERVER_RETURN: 411 if a body has no length, 501 if it is of another type, 400 if it is
            broken, 413 if it exceeds a limit. Other statuses come from httpd.
        ConnectionTimeout: The client took too long.
        TypeError: A limit is no int, a callback returned something else.
        ValueError: An option is no number.
    """

    def __init__(
        self,
        req: Any,
        keep_blank_values: object = 0,
        strict_parsing: object = 0,
        file_callback: Callable[[str], Any] | None = None,
        field_callback: Callable[[], Any] | None = None,
        **limits: int | None,
    ) -> None:
        self._list = FieldList()
        args = req.args
        posted = req.method == "POST"
        if not args and not posted and not limits:
            return
        limit = Limits(req, limits)
        if args:
            self._parse(req, args, keep_blank_values, limit)
        if posted:
            self._read(req, keep_blank_values, file_callback, field_callback, limit)

    def _parse(self, req: Any, text: str, keep_blank_values: object, limits: Limits) -> None:
        """Add the fields of a query string."""
        # Counted before they are made: a megabyte of separators makes a million of pairs.
        count = len(self._list) + text.count("&") + text.count(";") + 1
        if count > (limit := limits.get("max_fields")):
            refuse(req, HTTP_REQUEST_ENTITY_TOO_LARGE, f"the form has more than {limit} fields (max_fields)")
        self._list.extend([_string_field(name, value) for name, value in parse_qsl(text, keep_blank_values)])

    def _read(
        self, req: Any, keep_blank_values: object, file_callback: Any, field_callback: Any, limits: Limits
    ) -> None:
        """Add the fields of the body."""
        text = req.headers_in.get("Content-Length")
        if text is None or not (text.isascii() and text.isdigit()):
            refuse(req, HTTP_LENGTH_REQUIRED, "the body has no Content-Length")
        if len(text) > 18 or int(text) > limits.get("max_size"):
            refuse(
                req,
                HTTP_REQUEST_ENTITY_TOO_LARGE,
                f"the body has more than {limits.get('max_size')} bytes (max_size)",
            )
        kind = req.headers_in.get("Content-Type")
        main = "" if kind is None else kind.strip().lower()
        try:
            if not main or main.startswith("application/x-www-form-urlencoded"):
                limit = limits.get("max_memory")
                body = req.read(limit + 1) if int(text) <= limit else None
                if body is None or len(body) > limit:
                    refuse(
                        req,
                        HTTP_REQUEST_ENTITY_TOO_LARGE,
                        f"the body has more than {limit} bytes (max_memory)",
                    )
                if body:
                    self._parse(req, decode(body), keep_blank_values, limits)
            elif main.startswith("multipart/"):
                # Later: it is large, and most forms are not of this kind.
                from .parts import Parts

                Parts(req, self._list, limits, file_callback, field_callback).read(kind)
            else:
                refuse(req, HTTP_NOT_IMPLEMENTED, f"a body of type {kind!r} is no form")
        except ConnectionClosed as exc:
            refuse(req, HTTP_BAD_REQUEST, f"the body is shorter than its Content-Length: {exc}")

    # ---- the fields

    @property
    def list(self) -> FieldList:
        """The fields in their order."""
        return self._list

    @list.setter  # noqa: A003  (documented name)
    def list(self, fields: Iterable[AnyField]) -> None:
        self._list = fields if isinstance(fields, FieldList) else FieldList(fields)

    def __repr__(self) -> str:
        return f"FieldStorage({list.__repr__(self._list)})"

    def __getitem__(self, name: str | None) -> Any:
        """Return the field of a name, or the list of them if there are several.

        Raises:
            KeyError: There is none.
        """
        found = self._list.table()[name]
        return found[0] if len(found) == 1 else found[:]

    def __setitem__(self, name: str, value: str | bytes | Field) -> None:
        """Put one field in the place of all fields of a name; it becomes the last one."""
        field = self._made(name, value)
        self._list[:] = [other for other in self._list if other.name != name]
        self._list.append(field)

    def __delitem__(self, name: str | None) -> None:
        """Remove all fields of a name.

        Raises:
            KeyError: There is none.
        """
        if name not in self._list.table():
            raise KeyError(name)
        self._list[:] = [field for field in self._list if field.name != name]

    def __contains__(self, name: object) -> bool:
        return name in self._list.table()

    def has_key(self, name: str | None) -> bool:
        """Whether there is a field of a name."""
        return name in self._list.table()

    def __len__(self) -> int:
        """Return the number of different names."""
        return len(self._list.table())

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the different names, in the order in which they first appear."""
        return iter(self.keys())

    def keys(self) -> Any:
        """Return a list of the different names, in the order in which they first appear."""
        return [*self._list.table()]

    def items(self) -> Any:
        """Return a list of ``(name, field)``, one for each field, in their order."""
        return [(field.name, field) for field in self._list]

    def get(self, name: str | None, default: Any = None) -> Any:
        """Return the field of a name, or the list of them if there are several, or the default."""
        return self[name] if name in self._list.table() else default

    def getfirst(self, name: str | None, default: Any = None) -> Any:
        """Return the first field of a name, or the default."""
        found = self._list.table().get(name)
        return found[0] if found else default

    def getlist(self, name: str | None) -> Any:
        """Return a list of the fields of a name; it may be empty."""
        return self._list.table().get(name, [])[:]

    def add_field(self, name: str, value: str | bytes) -> None:
        """Append an ordinary value.

        Args:
            name: Name of the field.
            value: str; or bytes, which are decoded as UTF-8.

        Raises:
            TypeError: The value is neither.
        """
        self._list.append(self._made(name, value))

    def clear(self) -> None:
        """Remove all fields."""
        self._list.clear()

    @staticmethod
    def _made(name: str, value: str | bytes | Field) -> AnyField:
        if isinstance(value, (Field, StringField)):
            value.name = name
            return value
        if isinstance(value, bytes):
            value = decode(value)
        if not isinstance(value, str):
            raise TypeError(f"the value of a field must be str, bytes or a Field, not {type(value).__name__}")
        return _string_field(name, value)
