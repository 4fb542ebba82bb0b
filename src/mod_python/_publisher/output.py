"""Sending an object: its text, with the content type that fits."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# How much of the end of a text is looked at for "</html>", and of its beginning for what
# a page begins with, in characters.
_END = 100
_BEGIN = 1000

_BOM = "\xef\xbb\xbf"  # of UTF-8, read as Latin-1

HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"


def send(req: Any, value: Any) -> None:
    """Send a value as the response, or as the rest of it.

    Bytes are sent as they are; of anything else the ``str()``, encoded as the content
    type says, in UTF-8 if it does not.

    Args:
        req: the request.
        value: what to send; not None.

    Raises:
        LookupError: the content type names a charset that Python does not know.
        UnicodeEncodeError: the text cannot be written in it.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        if not req._content_type_set:
            begin, end = (bytes(part).decode("latin-1") for part in (value[:_BEGIN], value[-_END:]))
            req.content_type = "text/html" if _is_page(begin.removeprefix(_BOM), end) else "text/plain"
        req.write(value, 0)
        return
    text = value if value.__class__ is str else str(value)
    if not req._content_type_set:
        req.content_type = HTML if _is_page(text, text[-_END:]) else TEXT
        data = _utf8(text)
    else:
        data = _encode(req, text)
    if data:
        req.write(data, 0)


def _is_page(begin: str, end: str) -> bool:
    """Whether a text is a page of HTML, of which a client may have made the end, but not the beginning too."""
    return end.rstrip().lower().endswith("</html>") and begin[:_BEGIN].removeprefix("\ufeff").lstrip().startswith("<")


def _utf8(text: str) -> bytes:
    # A client that sends what is no UTF-8 gets question marks in its place.
    return text.encode("utf-8", "replace")


# Content type -> (charset, content type that names it), for those that were set.
_types: dict[str, tuple[str, str]] = {}
_MOST_TYPES = 256


def _encode(req: Any, text: str) -> bytes:
    """Encode a text as the content type demands that the application has set."""
    content_type = req.content_type
    if content_type is None:
        return _utf8(text)
    found = _types.get(content_type)
    if found is None:
        charset = charset_of(content_type)
        found = (charset.lower(), content_type) if charset else ("utf-8", f"{content_type}; charset=utf-8")
        if len(_types) >= _MOST_TYPES:
            _types.clear()
        _types[content_type] = found
    charset, named = found
    if named is not content_type and named != content_type and not req.bytes_sent:
        req.content_type = named
    return _utf8(text) if charset in ("utf-8", "utf8") else text.encode(charset)


def charset_of(content_type: str) -> str | None:
    """Return the charset that a content type names, or None.

    Args:
        content_type: such as ``text/html; charset=utf-8``.
    """
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip("\"'") or None
    return None
