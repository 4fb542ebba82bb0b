"""Text as httpd's error log can take it.

One call of httpd's logging functions makes one entry, which httpd escapes and
cuts off at MAX_STRING_LEN (8192 bytes).  So text is split at line ends, and
lines that would be cut are split further.  Each line becomes an entry with a
prefix of its own.  All but the first of a message, and all but the first part of
a line that is split, are indented, so that text from a client cannot pass for
another entry.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeVar

    E = TypeVar("E", bound=BaseException)

# Bytes per line as they stand in the log.  httpd's 8192 less room for the time,
# process, client and module that it writes before the message.
MAX_LINE = 7000

# Escaping makes at most 16 bytes of a character: four UTF-8 bytes, each
# written as \xNN.  A line this short needs no counting.
_SHORT = MAX_LINE // 16

_NUL = "\0"

INDENT = "    "


def plain(exc: E) -> E:
    """Mark an exception as one whose text says everything.

    A report of it leaves out the frames of the dispatcher that raised it.
    """
    exc._mp_plain = True  # type: ignore[attr-defined]
    return exc


def log_lines(text: str) -> Iterator[str]:
    r"""Split text into lines for the error log.

    Args:
        text: any text.

    Yields:
        lines without line ends, NUL replaced by ``\x00`` and lone surrogates by
        escapes, none longer than `MAX_LINE` bytes once httpd has escaped it. The
        second and later parts of a longer one are indented.
    """
    if _NUL in text:
        text = text.replace(_NUL, "\\x00")
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    for line in text.split("\n"):
        line = line.removesuffix("\r")
        if len(line) <= _SHORT or (
            len(line) <= MAX_LINE and line.isascii() and line.isprintable() and "\\" not in line
        ):
            yield line
        else:
            yield from _pieces(line)


def message_lines(text: str) -> Iterator[str]:
    """Split a message of an application, which may contain a client's line ends.

    Args:
        text: any text.

    Yields:
        lines as those of `log_lines`, all but the first indented.
    """
    return log_lines(text.replace("\n", f"\n{INDENT}") if "\n" in text else text)


def _pieces(line: str) -> Iterator[str]:
    """Split a line where its escaped form reaches `MAX_LINE` bytes."""
    start = size = 0
    indent = ""
    for i, char in enumerate(line):
        # ap_escape_errorlog_item(): printable ASCII as is, a backslash doubled,
        # every other byte as \xNN.
        if " " <= char <= "~":
            cost = 2 if char == "\\" else 1
        else:
            cost = 4 * len(char.encode("utf-8"))
        if size + cost > MAX_LINE:
            yield indent + line[start:i]
            start = i
            indent = INDENT
            size = len(indent)
        size += cost
    yield indent + line[start:]
