"""The class `Cookie`: a name, a value, and attributes that are checked when they are set."""

from __future__ import annotations

from .dates import cookie_date, is_cookie_date
from .parsing import has_controls, is_quoted, pairs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, ClassVar


class CookieError(Exception):
    """A cookie cannot be signed or verified."""


# Attribute -> what is written, in the order in which they are written.
_ATTRIBUTES = {
    "version": "version",
    "path": "path",
    "domain": "domain",
    "secure": "secure",
    "comment": "comment",
    "expires": "expires",
    "max_age": "Max-Age",
    "samesite": "samesite",
    "commentURL": "commentURL",
    "discard": "discard",
    "port": "port",
    "httponly": "httponly",
    "partitioned": "partitioned",
}
_BARE = frozenset(("secure", "discard", "httponly", "partitioned"))
_BY_LOWER = {name.lower(): name for name in _ATTRIBUTES}
_SAMESITE = {"strict": "Strict", "lax": "Lax", "none": "None"}


class Cookie:
    """One cookie: name, value, attributes.

    Attributes that are not set do not exist.  ``str()`` gives the value of a ``Set-Cookie`` header.

    Args:
        name: its name; no blank, ``=``, ``;`` or control character.
        value: its value; anything whose `str` has no ``;`` and no control character.
        **attributes: ``version``, ``path``, ``domain``, ``comment``, ``commentURL``, ``port``: texts.
            ``expires``: seconds since the epoch, or a text like ``Sun, 06-Nov-1994 08:49:37 GMT``.
            ``max_age``: seconds.  ``samesite``: ``Strict``, ``Lax`` or ``None``.
            ``secure``, ``httponly``, ``partitioned``, ``discard``: whether to write the word.

    Raises:
        AttributeError: there is no such attribute.
        ValueError: a value that cannot be written.
        TypeError: the name is no str.
    """

    DOWNGRADE: ClassVar[int] = 0
    IGNORE: ClassVar[int] = 1
    EXCEPTION: ClassVar[int] = 3

    if TYPE_CHECKING:
        name: str
        value: Any
        __data__: dict[str, Any]

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, name: str, value: Any, **attributes: Any) -> None:
        self.__data__ = {}
        self.name = name
        self.value = value
        for key, attribute in attributes.items():
            setattr(self, _BY_LOWER.get(key.lower(), key), attribute)

    @classmethod
    def parse(cls, string: str, names: str | Iterable[str] | None = None) -> dict[str, Any]:
        """Read the cookies of a ``Cookie`` header.

        What a browser sends has no attributes: a ``path`` there is a cookie like the others.

        Args:
            string: value of the header.
            names: which cookies are wanted; None for all.

        Returns:
            the cookies by name; of several of one name the last.
        """
        return {name: cls(name, value) for name, value in _wanted(string, names).items()}

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _ATTRIBUTES:
            value = _checked(name, value)
        elif name == "value":
            if isinstance(value, str):
                _check_text("value", value, is_quoted(value))
        elif name == "name":
            _check_name(value)
        elif name != "__data__" and not hasattr(getattr(type(self), name, None), "__set__"):
            raise AttributeError(f"a cookie has no attribute {name!r}")
        object.__setattr__(self, name, value)

    def __str__(self) -> str:
        return self._written(_check_text("value", self._text()))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._written(self.value)}>"

    def _written(self, text: Any) -> str:
        parts = [f"{self.name}={text}"]
        present = vars(self)
        for attribute, written in _ATTRIBUTES.items():
            if attribute in present:
                value = present[attribute]
                if attribute not in _BARE:
                    parts.append(f"{written}={value}")
                elif value:
                    parts.append(written)
        return "; ".join(parts)

    def _text(self) -> str:
        """The value as it is sent."""
        return str(self.value)


def _wanted(string: str, names: str | Iterable[str] | None) -> dict[str, str]:
    found = dict(pairs(string))
    if names is None:
        return found
    names = (names,) if isinstance(names, str) else set(names)
    return {name: value for name, value in found.items() if name in names}


def _checked(name: str, value: Any) -> Any:
    """Return an attribute's value as it is kept."""
    if name in _BARE:
        return value
    if name == "expires" and not isinstance(value, str):
        return cookie_date(value)
    text = str(value)
    if name == "expires":
        if not is_cookie_date(text):
            raise ValueError(
                f"expires is {text!r}; give seconds since the epoch, or a text like Sun, 06-Nov-1994 08:49:37 GMT"
            )
    elif name == "max_age":
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()):
            raise ValueError(f"max_age is {text!r}; give whole seconds")
    elif name == "samesite":
        if text.lower() not in _SAMESITE:
            raise ValueError(f"samesite is {text!r}; it can be Strict, Lax or None")
        return _SAMESITE[text.lower()]
    _check_text(name, text)
    return value


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"the name of a cookie is a str, not {type(name).__name__}")
    _check_text("name", name)
    if not name or any(character in "= \t" for character in name):
        raise ValueError(f"a cookie cannot be called {name!r}: a blank or '=' ends a name")


def _check_text(what: str, text: str, quoted: bool = False) -> str:
    """Refuse what would end the attribute or the header."""
    if has_controls(text):
        raise ValueError(f"the {what} of a cookie contains a control character: {text!r}")
    if ";" in text and not quoted:
        raise ValueError(f"the {what} of a cookie contains ';', where browsers cut it off: {text!r}; encode it")
    return text
