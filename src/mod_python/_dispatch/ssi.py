"""Python in the pages of mod_include: ``<!--#python eval="…" -->`` and ``exec="…"``.

All elements of a page share one dictionary of globals, ``req.ssi_globals``, which a
handler of an earlier phase may prepare.
"""

from __future__ import annotations

from mod_python._constants import APLOG_ERR, HTTP_INTERNAL_SERVER_ERROR, OK

from . import paths, report, scope
from .handler import Handler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

# Compiled elements by (file, code, mode).  A page is parsed for each request, its
# elements stay the same until it is edited.
MAX_COMPILED = 1024
_compiled: dict[tuple[str, bytes, str], CodeType] = {}


class IncludeFilter:
    """What elements know as ``filter``: a file to write to, and the request.

    Attributes:
        req: the request of the page.
        name: ``includes``.
        closed: 1 once the element is over.
    """

    handler = None
    dir = None
    parent = None
    is_input = 0

    def __init__(self, req: Any) -> None:
        self.req = req
        self.name = "includes"
        self.softspace = 0
        self.closed = 0
        self._parts: list[bytes] = []

    def write(self, data: str | bytes | bytearray | memoryview) -> None:
        """Put text into the page, in place of the element.

        Args:
            data: bytes-like, or str, which is encoded as UTF-8.

        Raises:
            ValueError: the element is over.
        """
        if self.closed:
            raise ValueError("I/O operation on closed filter")
        self._parts.append(data.encode() if isinstance(data, str) else bytes(data))

    def flush(self) -> None:
        """Does nothing: the page goes on when the element is over."""

    def _take(self) -> bytes:
        self.closed = 1
        return b"".join(self._parts)


def _code(filename: str, text: bytes, mode: str) -> CodeType:
    """Compile an element, or find it compiled."""
    key = (filename, text, mode)
    code = _compiled.get(key)
    if code is None:
        source = text.replace(b"\r\n", b"\n").rstrip()
        if mode == "eval":
            source = source.strip()
        code = compile(source + b"\n", filename, mode, dont_inherit=True)
        if len(_compiled) >= MAX_COMPILED:
            _compiled.clear()
        _compiled[key] = code
    return code


@scope.entry_point("req")
def run(req: Any, text: bytes, is_exec: bool, interpreter: str) -> tuple[int, bytes]:
    """Run one element.

    Args:
        req: the request of the page.
        text: the attribute's value.
        is_exec: statements; else an expression.
        interpreter: name of the interpreter.

    Returns:
        the status, OK if it did not fail, and what is to stand in its place.
    """
    settings = req.settings
    filename = req.filename or req.uri
    handler = Handler(filename)
    output = IncludeFilter(req)
    variables: dict[str, Any] | None = None
    status: int = OK
    try:
        if settings[2] is not None:
            paths.apply(settings[2])
        variables = getattr(req, "ssi_globals", None)
        if variables is None:
            variables = req.ssi_globals = {}
        variables["filter"] = output
        variables["__file__"] = filename
        code = _code(filename, text, "exec" if is_exec else "eval")
        if is_exec:
            exec(code, variables)
        else:
            value = eval(code, variables)
            if value is not None:
                output.write(str(value))
    except BaseException as exc:
        status = HTTP_INTERNAL_SERVER_ERROR
        _report(req, handler, interpreter, output, bool(settings[0]), exc)
    finally:
        if variables is not None:
            variables["filter"] = None
    return status, output._take()


def _report(
    req: Any, handler: Handler, interpreter: str, output: IncludeFilter, debug: bool, exc: BaseException
) -> None:
    """Log a failure; with PythonDebug show it in the page."""
    try:
        lines = report.lines_of(interpreter, "INCLUDES", handler, req, exc)
        report.emit(req.log_error, lines, APLOG_ERR)
        if debug:
            from mod_python._html import escape

            output.write("<pre>\n" + escape("\n".join(report.shown(lines))) + "\n</pre>\n")
    except BaseException as failure:
        report.last_resort(failure, exc)
