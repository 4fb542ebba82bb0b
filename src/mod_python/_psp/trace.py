"""Tracebacks of pages that include others.

The statements of an included file are compiled with those of the page, under the page's
name; their line numbers tell which file they are from (see `compiler`).  When an exception
leaves the page, the frames concerned are replaced by ones with the right name and line.
"""

from __future__ import annotations

from types import TracebackType

from .generate import ONLY_AST
from .scanner import MAX_LINES, lines_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Pages that are strings and whose lines are kept, for tracebacks that are shown later.
MAX_STRINGS = 64


def relocate(exc: BaseException, files: tuple[str, ...]) -> None:
    """Correct the traceback of an exception that was raised in a page.

    Args:
        exc: the exception.
        files: the page's name and those of what it includes.
    """
    frames = []
    tb = exc.__traceback__
    while tb is not None:
        frames.append(tb)
        tb = tb.tb_next
    following: TracebackType | None = None
    for tb in reversed(frames):
        source, line = divmod(tb.tb_lineno or 0, MAX_LINES)
        code = tb.tb_frame.f_code
        if 0 < source < len(files) and code.co_filename in files:
            fake = _fake(files[source], line, code.co_name)
            following = TracebackType(following, fake.tb_frame, fake.tb_lasti, fake.tb_lineno)
        else:
            following = TracebackType(following, tb.tb_frame, tb.tb_lasti, tb.tb_lineno)
    exc.__traceback__ = following


def _fake(file: str, line: int, name: str) -> TracebackType:
    """A traceback of one frame, at a line of a file."""
    tree: Any = compile("raise Exception", file, "exec", ONLY_AST, dont_inherit=True)
    for node in (tree.body[0], tree.body[0].exc):
        node.lineno = node.end_lineno = 1
        node.col_offset = node.end_col_offset = -1
    code = compile(tree, file, "exec", dont_inherit=True)
    code = code.replace(co_firstlineno=line, co_name=name, co_qualname=name)
    try:
        exec(code, {})
    except Exception as exc:
        tb = exc.__traceback__
        if tb is not None and tb.tb_next is not None:
            return tb.tb_next
    raise AssertionError("unreachable")


def remember(name: str, text: str) -> None:
    """Let tracebacks show the lines of a page that is a string."""
    import linecache

    lines = [line + "\n" for line in lines_of(text)]
    known = [key for key in list(linecache.cache) if isinstance(key, str) and key.startswith("<psp ")]
    for key in known[: max(0, len(known) - MAX_STRINGS + 1)]:
        linecache.cache.pop(key, None)
    linecache.cache[name] = (len(text), None, lines, name)
