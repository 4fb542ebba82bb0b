"""What becomes of an exception that a handler did not catch.

It always goes to the error log, whole: a first line that says which handler of
which interpreter failed, the facts about the request, and the traceback without
the frames of the dispatcher.  With PythonDebug On the same is sent to the
client, if nothing has been sent yet; passwords in it are not shown there.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock

from mod_python._constants import (
    APLOG_DEBUG,
    APLOG_ERR,
    APLOG_INFO,
    DONE,
    HTTP_INTERNAL_SERVER_ERROR,
    HTTP_REQUEST_TIME_OUT,
)
from mod_python.errors import ConnectionClosed, ConnectionTimeout

from . import peers
from .lines import INDENT, log_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from traceback import StackSummary, TracebackException
    from typing import Any

    from .handler import Handler

# A report longer than this, in characters, is cut in the middle.  A traceback of
# the default 1000 frames fits; the text of an exception that holds a whole
# upload does not, and must not fill the disk of the error log.
MAX_REPORT = 256 * 1024

# Line ends in the text of an exception may be a client's, who must not be able to write
# what looks like a line of a report, nor a hundred thousand of them.
MAX_MESSAGE_LINES = 100
_INDENT = f"\n{INDENT}"

# Seconds to wait for another thread to finish its report, so that the lines of
# two reports do not mix.  If the log is stuck for longer, they may.
PATIENCE = 1.0

MAIN_INTERPRETER = "main_interpreter"

# What extension modules say that can be used in one interpreter only: CPython's
# own check, Cython, NumPy, PyO3, pybind11.
_REFUSALS = (
    "subinterpreter",
    "sub-interpreter",
    "interpreter change detected",
    "more than once per process",
    "only be initialized once per",
    "one interpreter per process",
    "cpu dispatcher tracer already",
)

# Phases in which the response is over: nothing can be sent any more.
_AFTER_RESPONSE = ("PythonLogHandler", "PythonCleanupHandler")

# Headers that describe the response that failed, and not the page in its place.
ENTITY_HEADERS = ("Content-Length", "Content-Encoding", "Content-Range", "ETag", "Last-Modified")

_OWN = os.path.dirname(__file__) + "/"
_PACKAGE = os.path.dirname(os.path.dirname(__file__)) + "/"
_APPLY = _PACKAGE + "_forms/apply.py"
# What stands between the dispatcher and an application's code.
_BETWEEN = (_OWN, _PACKAGE + "publisher.py", _PACKAGE + "_publisher/", _APPLY, "<frozen importlib")
_CALLERS = (_OWN + "dispatcher.py", _OWN + "filtering.py", _OWN + "resolve.py", _OWN + "paths.py", _APPLY)

_lock = allocate_lock()


# -- the traceback ---------------------------------------------------------------


def is_own(filename: str) -> bool:
    """Tell whether a file is part of the way from httpd to a handler."""
    return filename.startswith(_BETWEEN)


def _strip(stack: StackSummary, exc: BaseException | None) -> None:
    """Take the dispatcher's and importer's frames out of a traceback.

    Innermost frames stay if they may show a fault of our own.
    """
    end = len(stack)
    while end and is_own(stack[end - 1].filename):
        end -= 1
    tail = stack[end:]
    if tail and (
        getattr(exc, "_mp_plain", False) or isinstance(exc, (ImportError, SyntaxError)) or tail[-1].filename in _CALLERS
    ):
        tail = []
    stack[:] = [frame for frame in stack[:end] if not is_own(frame.filename)] + tail


def _contained(message: str) -> str:
    """Indent all lines of a message but the first, and leave out those beyond the limit."""
    lines = message.split("\n")
    left_out = len(lines) - MAX_MESSAGE_LINES
    if left_out > 0:
        lines[MAX_MESSAGE_LINES:] = [f"... {left_out} lines left out ..."]
    return _INDENT.join(lines)


def _strip_all(report: TracebackException, exc: BaseException | None, seen: set[int]) -> None:
    if id(report) in seen:
        return
    seen.add(id(report))
    _strip(report.stack, exc)
    message = getattr(report, "_str", None)
    if isinstance(message, str) and "\n" in message:
        report._str = _contained(message)  # type: ignore[attr-defined]
    notes = getattr(report, "__notes__", None)
    if isinstance(notes, (list, tuple)):
        report.__notes__ = [_contained(note) if isinstance(note, str) else note for note in notes]
    if report.__cause__ is not None:
        _strip_all(report.__cause__, getattr(exc, "__cause__", None), seen)
    if report.__context__ is not None:
        _strip_all(report.__context__, getattr(exc, "__context__", None), seen)
    members = getattr(exc, "exceptions", ())
    for i, part in enumerate(report.exceptions or ()):
        _strip_all(part, members[i] if i < len(members) else None, seen)


def traceback_text(exc: BaseException) -> str:
    """Return the traceback of an exception, with all that it is chained to.

    Frames of the dispatcher are left out, and a text over `MAX_REPORT` characters is
    cut in the middle.
    """
    from traceback import TracebackException

    report = TracebackException(type(exc), exc, exc.__traceback__, compact=True)
    _strip_all(report, exc, set())
    text = "".join(report.format()).rstrip("\n")
    if len(text) > MAX_REPORT:
        half = MAX_REPORT // 2
        left_out = len(text) - 2 * half
        text = f"{text[:half]}\n... {left_out} characters left out ...\n{text[-half:]}"
    return text


def hint_for(exc: BaseException, interpreter: str) -> str | None:
    """Return the remedy if a module failed because of the interpreter it is in.

    Args:
        exc: the exception; what it is chained to is looked at too.
        interpreter: name of the interpreter.
    """
    if interpreter == MAIN_INTERPRETER:
        return None
    current: BaseException | None = exc
    for _ in range(20):  # chains can be circular
        if current is None:
            break
        if isinstance(current, (ImportError, RuntimeError)):
            text = str(current).lower()
            if any(refusal in text for refusal in _REFUSALS):
                return (
                    "An extension module works only in the main interpreter of a process, and this "
                    f"handler runs in '{interpreter}'. Put 'PythonInterpreter {MAIN_INTERPRETER}' "
                    "where the handler is configured."
                )
        current = current.__cause__ or current.__context__
    return None


# -- the log -----------------------------------------------------------------------


def emit(log: Callable[[str, int], object], lines: Iterable[str], level: int) -> None:
    """Write the lines of one report, not mixed with those of other threads.

    Args:
        log: writes one line with a level; the ``log_error`` of an object.
        lines: the lines; each may still need splitting.
        level: ``APLOG_*``.
    """
    locked = _lock.acquire(timeout=PATIENCE)
    try:
        for text in lines:
            for line in log_lines(text):
                log(line, level)
    finally:
        if locked:
            _lock.release()


def _title(interpreter: str, phase: str, handler: str) -> str:
    return (
        f"mod_python (pid={os.getpid()}, interpreter={interpreter!r}, "
        f"phase={phase!r}, handler={handler!r}): Application error"
    )


def _value(get: Callable[[], Any]) -> Any:
    """A value for the report; what cannot be had must not spoil the rest."""
    try:
        return get()
    except Exception:
        return None


def _facts(req: Any, handler: Handler) -> list[str]:
    """The lines about a request that precede the traceback."""
    values = (
        ("ServerName", _value(lambda: req.server.server_hostname)),
        ("DocumentRoot", _value(lambda: req.document_root())),
        ("URI", _value(lambda: req.uri)),
        ("Location", handler.location),
        ("Directory", handler.directory),
        ("Filename", _value(lambda: req.filename)),
        ("PathInfo", _value(lambda: req.path_info)),
    )
    return [f"{name}: {value!r}" if value is not None else f"{name}: None" for name, value in values]


def _lines(title: str, facts: list[str], exc: BaseException, interpreter: str) -> list[str]:
    lines = [title, *facts, traceback_text(exc)]
    hint = hint_for(exc, interpreter)
    if hint is not None:
        lines.append(f"Hint: {hint}")
    return lines


def lines_of(interpreter: str, phase: str, handler: Handler, req: Any, exc: BaseException) -> list[str]:
    """Return the lines of a report.

    Args:
        interpreter: name of the interpreter.
        phase: what was running: a directive, or the name of a filter.
        handler: the handler that failed.
        req: the request, or None if there is none.
        exc: the exception.
    """
    facts = [] if req is None else _facts(req, handler)
    return _lines(_title(interpreter, phase, handler.text), facts, exc, interpreter)


def last_resort(exc: BaseException, during: BaseException | None = None) -> None:
    """Print an exception to stderr, when reporting it has failed.

    Args:
        exc: the failure of reporting.
        during: the exception that was to be reported.
    """
    try:
        from traceback import print_exception

        if during is not None:
            print_exception(during, file=sys.stderr)
        print_exception(exc, file=sys.stderr)
        sys.stderr.flush()
    except BaseException:  # out of memory, stderr closed: nothing is left to try
        pass


# -- requests ------------------------------------------------------------------------


def client_gone(exc: BaseException) -> bool:
    """Whether an exception says that the client has closed the connection."""
    if isinstance(exc, ConnectionClosed):
        return True
    return isinstance(exc, OSError) and str(exc).startswith(("Write failed", "Flush failed"))


def request(
    req: Any,
    phase: str,
    handler: Handler,
    interpreter: str,
    debug: bool,
    exc: BaseException,
) -> int:
    """Report an exception of a request handler.

    Args:
        req: the request.
        phase: directive name of the phase.
        handler: the handler that failed.
        interpreter: name of the interpreter.
        debug: whether PythonDebug is on.
        exc: the exception.

    Returns:
        the status of the phase: 500; DONE if a page was sent, the response had
        begun, or the client has gone; 408 if the client took too long and no
        page was sent.
    """
    try:
        if client_gone(exc):
            emit(
                req.log_error,
                [f"{phase} {handler.text}: the client closed the connection: {exc}"],
                APLOG_DEBUG,
            )
            return DONE
        if isinstance(exc, ConnectionTimeout):
            emit(req.log_error, [f"{phase} {handler.text}: {exc}"], APLOG_INFO)
            if debug and phase not in _AFTER_RESPONSE and not begun(req):
                lines = _lines(_title(interpreter, phase, handler.text), _facts(req, handler), exc, interpreter)
                return _send_page(req, [*lines, "(an OSError: the client took longer than httpd's Timeout)"])
            return HTTP_REQUEST_TIME_OUT
        lines = _lines(_title(interpreter, phase, handler.text), _facts(req, handler), exc, interpreter)
        emit(req.log_error, lines, APLOG_ERR)
        if phase not in _AFTER_RESPONSE:
            _keep_from_caches(req)
            if begun(req):
                return DONE if debug and _append(req, lines) else _cut_off(req)
            if debug:
                return _send_page(req, [*lines, *_modules(req, handler, exc)])
    except BaseException as failure:
        last_resort(failure, exc)
    return HTTP_INTERNAL_SERVER_ERROR


def status_after_output(req: Any, phase: str, handler: Handler, status: int) -> int:
    """End a response of which a part was sent, when its handler returns an error or a redirect.

    Args:
        req: the request.
        phase: directive name of the phase.
        handler: the handler that returned it.
        status: 300 or more.

    Returns:
        the status of the phase: DONE, or in the phases after the response the status as it is.
    """
    if phase in _AFTER_RESPONSE:
        return status
    what = "it is cut off there" if req.main is None else "no cache stores it"
    text = f"{phase} {handler.text}: returned {int(status)} after a part of the response was sent; {what}"
    emit(req.log_error, [text], APLOG_ERR)
    _keep_from_caches(req)
    return status if req.main is not None else _cut_off(req)


def begun(req: Any) -> bool:
    """Whether a part of the response was sent, perhaps by a request that it was redirected to."""
    if req.bytes_sent or req.sent_bodyct or getattr(req, "next", None) is not None:
        return True
    # What a sub-request has sent is part of another response, which counts it.
    return getattr(req, "main", None) is not None and bool(req._has_passed_output())


def _cut_off(req: Any) -> int:
    """End a response of which a part was sent, so that the client sees it is incomplete.

    httpd would append its error page to that part and finish it like a good one.
    """
    cut_off = getattr(req, "_cut_off", None)  # requests made up by tests have none
    if cut_off is None or req.main is not None:
        # Whoever has made a sub-request says in its own response that it failed.
        return HTTP_INTERNAL_SERVER_ERROR
    cut_off()
    return DONE


def _keep_from_caches(req: Any) -> None:
    keep_from_caches = getattr(req, "_keep_from_caches", None)
    if keep_from_caches is not None:
        keep_from_caches()


def _append(req: Any, lines: list[str]) -> bool:
    """Add a report to a page of which a part was sent (PythonDebug).

    Args:
        req: the request.
        lines: the lines of the report.

    Returns:
        False if that cannot be: it would not be read there, or the length of the page is fixed.
    """
    from mod_python import _html

    kind = (req.content_type or "text/plain").partition(";")[0].strip().lower()
    fixed = any(req.headers_out.get(name) is not None for name in ("Content-Length", "Content-Encoding"))
    if fixed or not kind.startswith("text/"):
        return False
    lines = shown(lines)
    try:
        req.write(_html.fragment(lines) if kind == "text/html" else b"\n" + _html.text_page(lines))
    except OSError as exc:
        emit(req.log_error, [f"the report could not be sent: {exc}"], APLOG_DEBUG)
    except RuntimeError:  # the response is complete, or another thread is writing
        return False
    return True


def _modules(req: Any, handler: Handler, exc: BaseException) -> list[str]:
    """What is said about the modules of a request, for the client only."""
    from . import graph, importer, scope

    # Without it the handler's module is an ordinary one (the publisher, say), or could not be found.
    first = handler.entry
    labels = importer.default().labels if first is None else first.importer.labels
    seen = [labels[label] for label in getattr(req, "_mp_seen", None) or () if label in labels]
    if first is None:
        first = scope.run_by(exc)
    if first is not None:
        seen.insert(0, first)
    return ["", "Modules of this request:", *graph.listing(seen)] if seen else []


def _send_page(req: Any, lines: list[str]) -> int:
    """Send a report to the client as status 500 (PythonDebug)."""
    drop_queued = getattr(req, "_drop_queued", None)
    if drop_queued is not None:
        drop_queued()  # the beginning of the response that failed
    body = page(req, lines)
    try:
        req.write(body)
    except OSError as exc:
        emit(req.log_error, [f"the report could not be sent: {exc}"], APLOG_DEBUG)
    return DONE


def shown(lines: list[str]) -> list[str]:
    """Return the lines of a report as a client may see them: without what looks like passwords."""
    from mod_python._secrets import hide_in_traceback

    return [hide_in_traceback(line) for line in lines]


def page(req: Any, lines: list[str]) -> bytes:
    """Make the PythonDebug page of a report, and set status and headers of the response.

    Args:
        req: the request.
        lines: the lines of the report.

    Returns:
        HTML, or plain text if the client takes no HTML; UTF-8.  What looks like passwords is not
        shown; the error log has it.
    """
    from mod_python import _html

    lines = shown(lines)
    req.status = int(HTTP_INTERNAL_SERVER_ERROR)
    for name in ENTITY_HEADERS:
        del req.headers_out[name]
    for name, value in _html.HEADERS:
        req.headers_out[name] = value
    if _html.accepts_html(_value(lambda: req.headers_in.get("Accept"))):
        req.content_type = _html.CONTENT_TYPE
        return _html.error_page(lines)
    req.content_type = "text/plain; charset=utf-8"
    return _html.text_page(lines)


# -- connections and imports ---------------------------------------------------------


def connection(conn: Any, handler: Handler, interpreter: str, exc: BaseException) -> int:
    """Report an exception of a connection handler.

    What any client can cause is one line, so that clients cannot fill the log with
    tracebacks: that the peer has gone at level debug, a time-out, a message beyond a limit or
    TLS that fails at level info. Anything else is an error.

    Args:
        conn: the connection.
        handler: the handler.
        interpreter: name of the interpreter.
        exc: the exception.

    Returns:
        0 (OK) if the client ended it in one of these ways, else 500; either ends
        the connection.
    """
    phase = "PythonConnectionHandler"
    try:
        level = peers.level_of(exc)
        if level is not None:
            emit(conn.log_error, [f"{phase} {handler.text}: connection ended: {peers.text_of(exc)}"], level)
            return 0
        title = _title(interpreter, phase, handler.text)
        emit(conn.log_error, _lines(title, [], exc, interpreter), APLOG_ERR)
    except BaseException as failure:
        last_resort(failure, exc)
    return HTTP_INTERNAL_SERVER_ERROR


def cleanup(req: Any, function: object, interpreter: str, exc: BaseException, phase: str = "register_cleanup") -> None:
    """Report an exception of a callable that ran at the end of a request.

    Args:
        req: the request.
        function: the callable.
        interpreter: name of the interpreter.
        exc: the exception.
        phase: what called it.
    """
    try:
        title = _title(interpreter, phase, repr(function))
        emit(req.log_error, _lines(title, [], exc, interpreter), APLOG_ERR)
    except BaseException as failure:
        last_resort(failure, exc)


def python_import(
    log: Callable[[str, int], object],
    text: str,
    interpreter: str,
    exc: BaseException,
    phase: str = "PythonImport",
) -> None:
    """Report an exception of a PythonImport, or of a handler for a child's beginning or end.

    Args:
        log: writes one line with a level.
        text: ``module`` or ``module::function``.
        interpreter: name of the interpreter.
        exc: the exception.
        phase: the directive.
    """
    try:
        title = _title(interpreter, phase, text)
        emit(log, _lines(title, [], exc, interpreter), APLOG_ERR)
    except BaseException as failure:
        last_resort(failure, exc)
