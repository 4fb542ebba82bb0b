"""How much of a form is taken: limits, their defaults, and where they are set."""

from __future__ import annotations

from mod_python._constants import APLOG_WARNING
from mod_python.errors import SERVER_RETURN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = ["DEFAULTS", "Limits", "refuse"]

#: The limits, which are keyword arguments of `FieldStorage` and, with ``mod_python.util.``
#: before them, keys of ``PythonOption``.
DEFAULTS = {
    # Fields in the query string and the body together. A field costs half a kilobyte beside its
    # content, and applications loop over them; forms made for people have some hundreds at most.
    "max_fields": 1000,
    # Uploads. Each takes a file descriptor, of which a child often has 1024 for all its threads.
    "max_files": 100,
    # Bytes of what is kept in memory: URL-encoded bodies as they come, ordinary fields
    # and the headers of all parts. Text that people write is far smaller, and a child with 25
    # threads stays below a gigabyte, decoded copies included.
    "max_memory": 8 << 20,
    # Bytes of one header of a part. As httpd allows for headers of a request.
    "max_header_size": 8190,
    # Headers of one part. Three of them have a meaning in forms.
    "max_headers": 16,
    # Bytes of a body, uploads included. As httpd's LimitRequestBody since 2.4.54; before,
    # httpd had no limit.
    "max_size": 1 << 30,
}

_PREFIX = "mod_python.util."


def refuse(req: Any, status: int, why: str) -> NoReturn:
    """Log why a form is not taken, and end the handler with a status.

    Raises:
        SERVER_RETURN: Always.
    """
    req.log_error(f"FieldStorage: {why}", APLOG_WARNING)
    raise SERVER_RETURN(status)


class Limits:
    """The limits for one request.

    Args:
        req: The request.
        given: Limits that the program gave; None for one that it did not.

    Raises:
        TypeError: There is no such limit, or one is no int.
    """

    __slots__ = ("_given", "_options", "_req")

    def __init__(self, req: Any, given: dict[str, int | None]) -> None:
        for name, value in given.items():
            if name not in DEFAULTS:
                raise TypeError(f"FieldStorage() got an unexpected keyword argument {name!r}")
            if value is not None and (not isinstance(value, int) or value < 0):
                raise TypeError(f"FieldStorage: {name} must be an int of 0 or more, not {value!r}")
        self._req = req
        self._given = given
        self._options: Any = None

    def option(self, name: str) -> str | None:
        """Return the value of ``PythonOption mod_python.util.NAME``, or None."""
        if self._options is None:
            self._options = self._req.get_options()
        value: str | None = self._options.get(_PREFIX + name)
        return value

    def get(self, name: str) -> int:
        """Return a limit.

        Raises:
            ValueError: An option is no number.
        """
        value = self._given.get(name)
        if value is not None:
            return value
        text = self.option(name)
        if text is None:
            return DEFAULTS[name]
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f"PythonOption {_PREFIX}{name} must be a number, not {text!r}")
        return int(text)
