"""Splitting the value of a ``Cookie`` header into names and values.

Browsers send what servers and scripts have set, in no strict form, so nothing here is an error: what cannot be a
cookie is passed over.  The rules are those of the old mod_python; where the cookies of RFC 6265 are concerned, the
result is the same.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_BLANKS = " \t"
_SKIPPED = " \t,"
_NAME_ENDS = "; \t="


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """Split the value of a ``Cookie`` or ``Set-Cookie`` header.

    Args:
        text: the value; those of several headers are joined with ``"; "`` before.

    Yields:
        name and value of each cookie, in order.  A quoted value keeps its quotes.  Names that begin with ``$``
        (attributes of RFC 2965), empty names, and what contains control characters are left out.
    """
    here, end = 0, len(text)
    while here < end:
        if text[here] in _SKIPPED or text[here] == ";":
            here += 1
            continue
        begin = here
        while here < end and text[here] not in _NAME_ENDS:
            here += 1
        name, value = text[begin:here], ""
        after = _past_blanks(text, here)
        if after < end and text[after] == "=":
            value, here = _value(text, _past_blanks(text, after + 1))
        else:
            # A name alone; what follows a blank is the next one.
            here = after
        if name and name[0] != "$" and not has_controls(name) and not has_controls(value):
            yield name, value


def has_controls(text: str) -> bool:
    """Whether a text contains control characters other than tabs."""
    if text.isascii() and text.isprintable():
        return False
    return any((character < " " and character != "\t") or character == "\x7f" for character in text)


def is_quoted(text: str) -> bool:
    """Whether a text is one double-quoted string."""
    return len(text) > 1 and text[0] == '"' and _closing_quote(text, 0) == len(text) - 1


def _value(text: str, begin: int) -> tuple[str, int]:
    """Return the value that begins at an index, and where it ends."""
    if text[begin : begin + 1] == '"':
        quote = _closing_quote(text, begin)
        if quote > 0:
            after = _past_blanks(text, quote + 1)
            if after == len(text) or text[after] == ";":
                return text[begin : quote + 1], after
    end = text.find(";", begin)
    if end < 0:
        end = len(text)
    return text[begin:end], end


def _closing_quote(text: str, opening: int) -> int:
    """Return the index of the quote that closes a string, or -1."""
    here = opening + 1
    while True:
        quote = text.find('"', here)
        if quote < 0:
            return -1
        backslashes = quote
        while text[backslashes - 1] == "\\":
            backslashes -= 1
        if (quote - backslashes) % 2 == 0:
            return quote
        here = quote + 1


def _past_blanks(text: str, here: int) -> int:
    while here < len(text) and text[here] in _BLANKS:
        here += 1
    return here
