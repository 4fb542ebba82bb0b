"""The Python code of a page.

Text becomes ``req.write('…', 0)``, an expression ``req.write(str(…), 0)``, code stays as it is.
Each generated line remembers the line of the page it comes from.  As long as nothing is
included the two have the same number, so a page and its code can be read side by side;
only where code and text that cannot share a line do so in the page, one more is needed.

Indentation.  What follows a block of code of several lines is indented like the last
line of that block, and so belongs to the same Python block.  If that line ends with a
colon, what follows is inside it.  A block on one line changes nothing.
"""

from __future__ import annotations

from .scanner import CODE, TEXT, fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .scanner import Piece, Scanned

# PyCF_ONLY_AST: compile() stops after the syntax.
ONLY_AST = 0x400

# The function in a page's globals that escapes values, with autoescape.
ESCAPE = "_psp_escape"

# One more level of indentation, where the page itself does not tell.
_LEVEL = "    "

# Statements that can stand behind another one, after a semicolon.
_SIMPLE = frozenset(
    (
        "AnnAssign",
        "Assert",
        "Assign",
        "AugAssign",
        "Delete",
        "Expr",
        "Global",
        "Import",
        "ImportFrom",
        "Nonlocal",
        "Pass",
        "Raise",
    )
)


class Generated:
    """The code of a page.

    Attributes:
        lines: its lines.
        origins: for each, the file (an index) and the line of the page it is from.
    """

    __slots__ = ("lines", "origins")

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.origins: list[tuple[int, int]] = []

    def source(self) -> str:
        """The code as text; "" for an empty page."""
        return "\n".join(self.lines) + "\n" if self.lines else ""


def generate(scanned: Scanned, autoescape: bool = False) -> Generated:
    """Make the code of a page.

    Args:
        scanned: the page.
        autoescape: values of expressions are escaped for HTML.

    Raises:
        SyntaxError: an expression is none; other mistakes show when the code is compiled.
    """
    generator = _Generator(scanned, ESCAPE if autoescape else "str")
    for index, piece in enumerate(scanned.pieces):
        if piece.kind == TEXT:
            generator.text(piece)
        elif piece.kind == CODE:
            generator.code(piece, index)
        else:
            generator.expression(piece)
    generator.fill()
    return generator.result


class _Generator:
    __slots__ = ("convert", "hollow", "indent", "joinable", "lines", "origins", "result", "scanned")

    def __init__(self, scanned: Scanned, convert: str) -> None:
        self.scanned = scanned
        self.convert = convert
        self.result = Generated()
        self.lines = self.result.lines
        self.origins = self.result.origins
        self.indent = ""
        self.joinable = False
        self.hollow = False  # a block was opened, and nothing put into it yet

    # -- pieces ------------------------------------------------------------------

    def text(self, piece: Piece) -> None:
        """Text is written as it is."""
        try:
            piece.text.encode()
            literal = repr(piece.text)
        except UnicodeEncodeError:  # no UTF-8: sent as the bytes it is
            literal = repr(piece.text.encode("utf-8", "surrogateescape"))
        self.statement(f"req.write({literal}, 0)", piece.source, piece.line)

    def expression(self, piece: Piece) -> None:
        """The value of an expression is written."""
        text = piece.text
        expression = text.strip(" \t\f\n")
        line = piece.line + text[: len(text) - len(text.lstrip(" \t\f\n"))].count("\n")
        if not expression:
            self.fail("an expression is missing in <%= %>", piece.source, piece.line)
        # Looked at by itself, so that a parenthesis too many does not pass; over several
        # lines it needs parentheses of its own.
        several = "\n" in expression
        checked = f"({expression}\n)" if several else expression
        try:
            tree: Any = compile(checked, "<expression>", "eval", ONLY_AST, dont_inherit=True)
        except SyntaxError as exc:
            within = min((exc.lineno or 1) - 1, expression.count("\n"))
            self.fail(f"{exc.msg}, in <%= %>", piece.source, line + within)
        except (ValueError, MemoryError, RecursionError) as exc:
            self.fail(reason(exc), piece.source, line)
        if "#" in expression:
            expression += "\n"  # or a comment would swallow the rest
        if several or type(tree.body).__name__ == "Tuple":
            expression = f"({expression})"
        first, *rest = f"req.write({self.convert}({expression}), 0)".split("\n")
        self.statement(first, piece.source, line)
        last = line + text.strip(" \t\f\n").count("\n")
        for number, following in enumerate(rest, line + 1):
            self.append(following, piece.source, min(number, last))
        self.joinable = True

    def code(self, piece: Piece, index: int) -> None:
        """Code stays as it is; its last line tells where the following belongs."""
        first, *rest = piece.text.split("\n")
        statement = first.strip(" \t\f")
        if not rest:
            if statement and not statement.startswith("#"):
                joinable = _is_simple(statement)
                if joinable:
                    statement = statement.rstrip(" \t\f;")
                self.statement(statement, piece.source, piece.line, joinable)
                self.joinable = joinable
            return
        if not statement:
            self.fill()
        else:
            self.statement(first.lstrip(" \t\f"), piece.source, piece.line, False)
        self.joinable = False  # what follows may be indented otherwise
        last = rest[-1]
        if not last.strip(" \t\f"):
            del rest[-1]
        for number, line in enumerate(rest, piece.line + 1):
            self.append(line, piece.source, number)
        # From here on: what the following is indented with.
        content, opens, self.hollow = _last_line([self.indent + statement if statement else "", *rest])
        indent = _indentation(content)
        # Blanks before the end of the block are its last line.
        blank = bool(last) and not last.strip(" \t\f")
        if blank and (not opens or (last.startswith(indent) and len(last) > len(indent))):
            indent, opens = last, False
        self.indent = self.inner(indent, index) if opens else indent

    def inner(self, indent: str, index: int) -> str:
        """One more level of indentation: that of the next block of code, if it is deeper."""
        for piece in self.scanned.pieces[index + 1 :]:
            if piece.kind == CODE and "\n" in piece.text:
                for line in piece.text.split("\n")[1:]:
                    if line.strip(" \t\f"):
                        deeper = _indentation(line)
                        if deeper.startswith(indent) and len(deeper) > len(indent):
                            return deeper
                        break
                break
        return indent + ("\t" if indent.endswith("\t") else _LEVEL)

    # -- lines ---------------------------------------------------------------------

    def statement(self, statement: str, source: int, line: int, join: bool = True) -> None:
        """Add a statement at the present indentation: to the last line, if that is possible."""
        if join and self.joinable and self.origins[-1] == (source, line):
            self.lines[-1] += "; " + statement
        else:
            self.append(self.indent + statement, source, line)
        self.joinable = join
        self.hollow = False

    def fill(self) -> None:
        """Put something into a Python block that has nothing in it."""
        if self.hollow:
            self.append(f"{self.indent}pass", *self.origins[-1])
            self.hollow = False

    def append(self, text: str, source: int, line: int) -> None:
        """Add a line; after empty ones, so that it has the number of its origin."""
        before = self.origins[-1] if self.origins else (0, 0)
        if before[0] == source:
            for number in range(before[1] + 1, line):
                self.lines.append("")
                self.origins.append((source, number))
        self.lines.append(text)
        self.origins.append((source, line))
        self.joinable = False

    def fail(self, message: str, source: int, line: int) -> None:
        fail(message, self.scanned.files[source], line, self.scanned.texts[source])


def _is_simple(statement: str) -> bool:
    """Whether code of one line can share its line with other statements."""
    if "#" in statement or statement.endswith("\\"):
        return False
    try:
        tree: Any = compile(statement, "<statement>", "exec", ONLY_AST, dont_inherit=True)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False  # reported when the whole is compiled
    return bool(tree.body) and all(type(node).__name__ in _SIMPLE for node in tree.body)


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t\f"))]


def _last_line(lines: list[str]) -> tuple[str, bool, bool]:
    """Find the last line of Python code, where several lines in brackets and the like are one.

    Returns:
        its first part, "" if there is none; whether it ends with a colon, but for blanks
        and a comment; the same for the last line that is no comment.
    """
    found, colon, opened = "", False, False
    depth, quote, continued = 0, "", False
    for line in lines:
        if not depth and not quote and not continued:
            if not line.strip(" \t\f"):
                continue
            found, colon = line, False
        continued = False
        position = 0
        while position < len(line):
            char = line[position]
            width = 1
            if char == "\\":
                width = 2
                continued = position == len(line) - 1
            elif quote:
                if line.startswith(quote, position):
                    width = len(quote)
                    quote = ""
            elif char in "'\"":
                quote = char * 3 if line.startswith(char * 3, position) else char
                width = len(quote)
                opened = colon = False
            elif char == "#":
                break
            elif char not in " \t\f":
                depth = max(0, depth + (char in "([{") - (char in ")]}"))
                opened = colon = char == ":" and not depth
            position += width
        if len(quote) == 1 and not continued:
            quote = ""  # never closed: reported when the whole is compiled
    return found, colon, opened


def reason(exc: BaseException) -> str:
    """What a compiler's exception that is no SyntaxError says."""
    if isinstance(exc, UnicodeEncodeError):
        return "the code contains bytes that are not valid UTF-8"
    if isinstance(exc, (MemoryError, RecursionError)):
        return "the code is nested too deeply"
    return str(exc)
