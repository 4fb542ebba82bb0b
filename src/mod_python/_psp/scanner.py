"""Reading a page: text, code, expressions; comments and included files.

A page is cut at ``<%`` and ``%>`` and nowhere else: these end a piece also when they
stand in a string of the Python code.  Included files are put in place here, so what
follows sees one list of pieces, each of which knows its file and line.

Text is decoded as UTF-8 with ``surrogateescape``.  A page in another encoding so keeps
its bytes; only in code they are an error.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NoReturn

    from mod_python._dispatch.modules import Stamp

    Reader = Callable[[str], tuple[bytes, Stamp]]

TEXT = "text"
CODE = "code"
EXPRESSION = "expression"
_DIRECTIVE = "directive"

# Files that one page may include, counting each time.  Without a bound two files
# that include each other, or ten that include the next one twice, fill the memory.
MAX_INCLUDES = 1000

# Line numbers above this are used to tell the files of a page apart.
MAX_LINES = 1 << 20


class Piece:
    """A part of a page.

    Attributes:
        kind: `TEXT`, `CODE` or `EXPRESSION`.
        source: index of its file in `Scanned.files`.
        line: number of the line it begins on, from 1.
        text: its content, with LF for every line end.
    """

    __slots__ = ("kind", "line", "source", "text")

    def __init__(self, kind: str, source: int, line: int, text: str) -> None:
        self.kind = kind
        self.source = source
        self.line = line
        self.text = text

    def __repr__(self) -> str:
        return f"Piece({self.kind}, {self.source}, {self.line}, {self.text!r})"


class Scanned:
    """A page that was read.

    Attributes:
        pieces: its pieces, in order, those of included files among them.
        files: names of the page itself and of what it includes.
        texts: their texts.
        stamps: what tells the version of each file that was read; not of a page
            that is no file.
    """

    __slots__ = ("files", "pieces", "stamps", "texts")

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.files: list[str] = []
        self.texts: list[str] = []
        self.stamps: dict[str, Stamp] = {}


def decode(text: str | bytes) -> str:
    """Return a page as str."""
    return text if isinstance(text, str) else bytes(text).decode("utf-8", "surrogateescape")


def lines_of(text: str) -> list[str]:
    """Split a text into its lines, as editors and `linecache` count them."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def fail(message: str, file: str, line: int, text: str | None = None) -> NoReturn:
    """Raise a SyntaxError at a line of a page.

    Args:
        message: what is wrong.
        file: the page.
        line: number of the line.
        text: the page's text, to show the line.
    """
    lines = lines_of(text) if text is not None else []
    shown = lines[line - 1] if 0 < line <= len(lines) else None
    raise SyntaxError(message, (file, line, None, shown))


def scan(text: str | bytes, name: str, directory: str, read: Reader, stamp: Stamp | None = None) -> Scanned:
    """Cut a page into pieces.

    Args:
        text: the page.
        name: its file, or what stands for one in messages.
        directory: what the names of included files are relative to.
        read: returns content and stamp of an included file.
        stamp: that of the page itself, if it is a file.

    Raises:
        SyntaxError: something is not closed or cannot be understood, or too much
            is included.
        OSError: an included file cannot be read.
    """
    result = Scanned()
    if stamp is not None:
        result.stamps[name] = stamp
    _Scanner(result, directory, read).file(decode(text), name, ())
    return result


class _Scanner:
    __slots__ = ("directory", "included", "read", "result")

    def __init__(self, result: Scanned, directory: str, read: Reader) -> None:
        self.result = result
        self.directory = directory
        self.read = read
        self.included = 0

    def file(self, text: str, name: str, within: tuple[str, ...]) -> None:
        """Add the pieces of one file."""
        result = self.result
        if name in result.files:
            source = result.files.index(name)
        else:
            source = len(result.files)
            result.files.append(name)
            result.texts.append(text)
        within = (*within, name)
        for kind, line, content in _cut(text, name):
            if line >= MAX_LINES:
                fail(f"a page may have at most {MAX_LINES} lines", name, line, text)
            if kind == _DIRECTIVE:
                included = _included(content, name, line, text)
                if included is not None:
                    self.include(included, name, line, text, within)
            else:
                result.pieces.append(Piece(kind, source, line, content))

    def include(self, included: str, name: str, line: int, text: str, within: tuple[str, ...]) -> None:
        """Add the pieces of an included file."""
        file = os.path.normpath(os.path.join(self.directory, included))
        if file in within:
            fail(f"the page includes itself: {' includes '.join((*within, file))}", name, line, text)
        self.included += 1
        if self.included > MAX_INCLUDES:
            fail(f"the page includes more than {MAX_INCLUDES} files", name, line, text)
        try:
            data, stamp = self.read(file)
        except OSError as exc:
            exc.add_note(f"included by {name}, line {line}")
            raise
        self.result.stamps[file] = stamp
        self.file(decode(data), file, within)


def _cut(text: str, name: str) -> Iterator[tuple[str, int, str]]:
    """Cut the text of one file.

    Yields:
        (kind, line, content)
    """
    position, line = 0, 1
    while True:
        start = text.find("<%", position)
        literal = text[position:] if start < 0 else text[position:start]
        if literal:
            yield TEXT, line, literal.replace("\r\n", "\n")
            line += _count(literal)
        if start < 0:
            return
        sign = text[start + 2 : start + 3]
        if text.startswith("--", start + 2):
            begin, close, kind = start + 4, "--%>", ""
        elif sign == "=":
            begin, close, kind = start + 3, "%>", EXPRESSION
        elif sign == "@":
            begin, close, kind = start + 3, "%>", _DIRECTIVE
        else:
            begin, close, kind = start + 2, "%>", CODE
        end = text.find(close, begin)
        if end < 0:
            fail(f"{text[start:begin]!r} is never closed with {close!r}", name, line, text)
        content = text[begin:end]
        if kind:
            yield kind, line, content.replace("\r\n", "\n").replace("\r", "\n")
        line += _count(content)
        position = end + len(close)


def _count(text: str) -> int:
    """Number of line ends."""
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def _included(directive: str, name: str, line: int, text: str) -> str | None:
    """Return the file that a directive names; None if it is another directive."""
    words = directive.split(None, 1)
    if not words or words[0] != "include":
        return None
    key, equals, value = (words[1] if len(words) > 1 else "").partition("=")
    value = value.strip()
    quote = value[:1]
    closed = quote in ("'", '"') and len(value) > 2 and value.find(quote, 1) == len(value) - 1
    if key.strip() != "file" or not equals or not closed or "\0" in value:
        fail('this must be <%@ include file="name" %>', name, line, text)
    return value[1:-1]
