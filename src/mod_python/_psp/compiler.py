"""From generated code to a code object whose positions are those of the page.

Line numbers are corrected in the syntax tree.  Columns are dropped, since those of the
generated code would point at the wrong place of the page's line.

A code object has one file name, and a page may have many files.  So the lines of file n
(n > 0, an included one) are counted from n * MAX_LINES.  Functions that stand in one
file get its name and plain line numbers; for what is left `trace` corrects tracebacks.
"""

from __future__ import annotations

from .generate import ONLY_AST, reason
from .scanner import MAX_LINES, fail, lines_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

    from .generate import Generated
    from .scanner import Scanned


def compile_page(generated: Generated, scanned: Scanned) -> tuple[CodeType, frozenset[str]]:
    """Compile the code of a page.

    Args:
        generated: the code.
        scanned: the page it is from.

    Returns:
        the code object; the names that the page reads and does not have as local
        variables of a function.

    Raises:
        SyntaxError: with file, line and text of the page.
    """
    origins = generated.origins
    source_text = generated.source()
    if "\0" in source_text:  # in text it is escaped
        at = source_text[: source_text.index("\0")].count("\n")
        source, line = origins[at]
        fail("the code contains a NUL", scanned.files[source], line, scanned.texts[source])
    try:
        tree: Any = compile(source_text, scanned.files[0], "exec", ONLY_AST, dont_inherit=True)
        names = _relocate(tree, [source * MAX_LINES + line for source, line in origins])
        code: CodeType = compile(tree, scanned.files[0], "exec", dont_inherit=True)
    except SyntaxError as exc:
        raise _placed(exc, generated, scanned) from None
    except (ValueError, MemoryError, RecursionError) as exc:
        source, line = _place_of(exc, generated)
        fail(reason(exc), scanned.files[source], line, scanned.texts[source])
    if len(scanned.files) > 1:
        code = _name_files(code, scanned.files)
    return code, names & _globals_of(code)


def _relocate(tree: Any, numbers: list[int]) -> frozenset[str]:
    """Give the nodes of a syntax tree the lines of the page; return the names that are read."""
    names = set()
    stack = [tree]
    while stack:
        node = stack.pop()
        if "lineno" in node._attributes:
            # Of a construct over several lines only the beginning is kept: its end
            # may be in another file.
            node.lineno = node.end_lineno = numbers[min(node.lineno, len(numbers)) - 1]
            node.col_offset = node.end_col_offset = -1
        if type(node).__name__ == "Name" and type(node.ctx).__name__ == "Load":
            names.add(node.id)
        for field in node._fields:
            value = getattr(node, field, None)
            if isinstance(value, list):
                stack += [item for item in value if hasattr(item, "_fields")]
            elif hasattr(value, "_fields"):
                stack.append(value)
    return frozenset(names)


def _globals_of(code: CodeType) -> frozenset[str]:
    """The global names of a code object and all within it, attributes among them."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            names |= _globals_of(constant)
    return frozenset(names)


def _name_files(code: CodeType, files: list[str]) -> CodeType:
    """Give the functions that stand in included files the names and lines of these."""
    constants = []
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            source, line = divmod(constant.co_firstlineno, MAX_LINES)
            if source:
                # Its other lines are counted from the first one.
                constant = constant.replace(co_filename=files[source], co_firstlineno=line)
                constant = _rename(constant, files[source], source * MAX_LINES)
            else:
                constant = _name_files(constant, files)
        constants.append(constant)
    return code.replace(co_consts=tuple(constants))


def _rename(code: CodeType, file: str, base: int) -> CodeType:
    """The same for what stands within such a function."""
    constants = []
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            if constant.co_firstlineno > base:
                constant = constant.replace(co_filename=file, co_firstlineno=constant.co_firstlineno - base)
            constant = _rename(constant, file, base)
        constants.append(constant)
    return code.replace(co_consts=tuple(constants))


# -- errors --------------------------------------------------------------------------


def _placed(exc: SyntaxError, generated: Generated, scanned: Scanned) -> SyntaxError:
    """The same SyntaxError, with file, line and text of the page."""
    import re

    origins = generated.origins or [(0, 1)]

    def origin(number: int) -> tuple[int, int]:
        return origins[min(max(number, 1), len(origins)) - 1]

    source, line = origin(exc.lineno or 1)
    # Messages name lines too: "expected an indented block after 'if' statement on line 3".
    message = re.sub(r"\bline (\d+)", lambda found: f"line {origin(int(found[1]))[1]}", exc.msg)
    lines = lines_of(scanned.texts[source])
    text = lines[line - 1] if line <= len(lines) else None
    return type(exc)(message, (scanned.files[source], line, None, text))


def _place_of(exc: BaseException, generated: Generated) -> tuple[int, int]:
    """Where an exception that tells no line comes from."""
    if isinstance(exc, UnicodeEncodeError):
        for text, origin in zip(generated.lines, generated.origins, strict=True):
            if any("\ud800" <= char <= "\udfff" for char in text):
                return origin
    return generated.origins[0] if generated.origins else (0, 1)
