"""Runs the handlers of a phase, of a connection, of a PythonImport.

One `Dispatcher` per interpreter; the core calls its methods and nothing else.
`request` and `connection` run for every request and connection, so they are
written out rather than divided into small functions: a warm handler costs
a comparison of settings, one look-up in its module and the call.
"""

from __future__ import annotations

import sys
from time import monotonic

from mod_python._constants import (
    APLOG_ERR,
    DECLINED,
    HTTP_FORBIDDEN,
    HTTP_INTERNAL_SERVER_ERROR,
    HTTP_OK,
    OK,
    Status,
)
from mod_python.errors import SERVER_RETURN

from . import cleanup, filtering, providers, report, resolve, scope, ssi
from .handler import Handler
from .hlist import mp_hlist
from .importer import Importer, default
from .lines import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

# phase -> (statuses after which the next handler runs, default name of the
# function).  None stands for every status.
_BOTH: tuple[int, ...] | None = (OK, DECLINED)
_ONLY: tuple[int, ...] | None = (DECLINED,)
_EVERY: tuple[int, ...] | None = None
PHASES: dict[str, tuple[tuple[int, ...] | None, str]] = {
    "PythonPostReadRequestHandler": (_BOTH, "postreadrequesthandler"),
    "PythonTransHandler": (_ONLY, "transhandler"),
    "PythonHeaderParserHandler": (_BOTH, "headerparserhandler"),
    "PythonInitHandler": (_BOTH, "inithandler"),
    "PythonAccessHandler": (_BOTH, "accesshandler"),
    "PythonAuthenHandler": (_ONLY, "authenhandler"),
    "PythonAuthzHandler": (_ONLY, "authzhandler"),
    "PythonTypeHandler": (_ONLY, "typehandler"),
    "PythonFixupHandler": (_BOTH, "fixuphandler"),
    "PythonHandler": (_BOTH, "handler"),
    "PythonLogHandler": (_BOTH, "loghandler"),
    "PythonCleanupHandler": (_EVERY, "cleanuphandler"),
    "PythonQuickHandler": (_ONLY, "quickhandler"),
    "PythonMapToStorageHandler": (_ONLY, "maptostoragehandler"),
}

# Statuses beyond these are no HTTP statuses; -1 is DECLINED, -2 DONE.
_LOWEST, _HIGHEST = -2, 599
# From here on httpd makes a page of its own.
HTTP_SPECIAL_RESPONSE = 300


def check_status(value: Any, handler: Handler, what: str) -> int:
    """Check what a handler returned.

    Args:
        value: the result.
        handler: the handler, for the message.
        what: ``returned``, or another verb for the message.

    Returns:
        the status.

    Raises:
        TypeError: it is no int.  A bool is none either: True would be taken for
            the status 1, which does not exist, and False for OK.
        ValueError: it is no status, or that of an interim response (1xx), which another
            must follow.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        hint = ""
        close = getattr(value, "close", None)
        if close is not None and hasattr(value, "cr_frame"):
            close()  # or Python would warn that it was never awaited
            hint = "; it is an 'async def' function, which cannot be a handler here"
        shown = repr(value) if value is None or isinstance(value, bool) else f"a {type(value).__name__}"
        raise plain(
            TypeError(
                f"handler '{handler.text}' {what} {shown}; it must return a status: apache.OK, "
                f"apache.DECLINED, apache.DONE or an HTTP status (int){hint}"
            )
        )
    if not _LOWEST <= value <= _HIGHEST or 0 < value < HTTP_OK:
        why = "is that of an interim response" if 100 <= value < HTTP_OK else "is no status"
        raise plain(
            ValueError(
                f"handler '{handler.text}' {what} {int(value)}, which {why}; use apache.OK, "
                "apache.DECLINED, apache.DONE or an HTTP status from 200 to 599"
            )
        )
    return value


def server_return(exc: SERVER_RETURN, req: Any, handler: Handler) -> int:
    """Return the status that a SERVER_RETURN carries; set ``req.status`` if it says so."""
    args = exc.args
    if not 1 <= len(args) <= 2:
        raise plain(TypeError(f"SERVER_RETURN takes (result) or (result, status), not {len(args)} arguments"))
    result = check_status(args[0], handler, "raised SERVER_RETURN with")
    if len(args) == 2 and args[1]:
        req.status = args[1]
    return result


class Dispatcher:
    """What the core calls when httpd has something for Python to do.

    Args:
        name: name of the interpreter.
        importer: the importer to use; the interpreter's own by default.
        one_process: httpd was started with ``-DONE_PROCESS``, so that handlers
            with PythonEnablePdb On run under pdb.
    """

    __slots__ = ("entry", "importer", "name", "one_process")

    entry: Any  # the core's; set by boot.start

    def __init__(self, name: str, importer: Importer | None = None, one_process: bool = False) -> None:
        self.name = name
        self.importer = default() if importer is None else importer
        self.one_process = one_process

    @scope.entry_point("req")
    def request(self, req: Any, phase: str, handlers: tuple[Handler, ...]) -> int:
        """Run the handlers of a phase.

        Args:
            req: the request.
            phase: directive name of the phase.
            handlers: the handlers, at least one.

        Returns:
            the status of the phase.
        """
        go_on, default_name = PHASES[phase]
        settings = req.settings
        entries = list(handlers)
        req._hlist = hlist = mp_hlist(entries)
        function: Any
        status: int = OK if go_on is None else DECLINED
        for handler in entries:  # a handler may append to its own phase's list
            try:
                name = handler.object_name or default_name
                warm = handler.settings == settings and (not settings[1] or monotonic() < handler.due)
                function = handler.namespace.get(name) if warm else None
                if function is None:
                    if not (warm and handler.skips):
                        function = resolve.find(handler, name, req, settings, self.importer)
                    if function is None:
                        hlist._index += 1
                        continue
                if settings[3] and self.one_process:
                    function = _debugged(function)
                try:
                    status = function(req)
                except SERVER_RETURN as exc:
                    status = server_return(exc, req, handler)
                if status.__class__ is not Status:
                    status = check_status(status, handler, "returned")
            except BaseException as exc:
                status = report.request(req, phase, handler, self.name, settings[0], exc)
                if go_on is None:
                    hlist._index += 1
                    continue
                return status
            hlist._index += 1
            if go_on is not None and status not in go_on:
                break
        if status >= HTTP_SPECIAL_RESPONSE and report.begun(req):
            return report.status_after_output(req, phase, handler, status)
        if status == OK and phase == "PythonAuthenHandler" and req.user is None:
            req.log_error(
                f"{phase}: the handlers returned OK without setting req.user; the request is refused",
                APLOG_ERR,
            )
            return HTTP_INTERNAL_SERVER_ERROR
        return status

    def absent_guards(self, handlers: tuple[Handler, ...]) -> int:
        """Tell for which phases of access control no handler of a list, which has just run, has a function.

        Args:
            handlers: the handlers, of a PythonHandlerModule.

        Returns:
            the sum of 1 for access, 2 for authentication and 4 for authorisation.
        """
        found = 0
        for bit, default_name in ((1, "accesshandler"), (2, "authenhandler"), (4, "authzhandler")):
            for handler in handlers:
                if not handler.skips or (handler.object_name or default_name) in handler.namespace:
                    break
            else:
                found |= bit
        return found

    def cleanup(self, req: Any, function: Callable[[Any], object], data: Any) -> None:
        """Call what was registered with `req.register_cleanup`; a failure is logged.

        Args:
            req: the request, which has ended.
            function: the callable.
            data: its argument.
        """
        try:
            function(data)
        except BaseException as exc:
            report.cleanup(req, function, self.name, exc)

    @scope.entry_point("conn")
    def connection(self, conn: Any, handler: Handler) -> int:
        """Run a connection handler.

        Args:
            conn: the connection.
            handler: the handler.

        Returns:
            the status of the connection, for httpd.
        """
        try:
            settings = conn.settings
            conn._hlist = mp_hlist([handler])
            name = handler.object_name or "connectionhandler"
            function: Any = None
            if handler.settings == settings and (not settings[1] or monotonic() < handler.due):
                function = handler.namespace.get(name)
            if function is None:
                function = resolve.find(handler, name, conn, settings, self.importer)
            if resolve.is_coroutine_function(function):
                from . import asynchronous

                return asynchronous.hand_over(self, conn, handler, function)
            if settings[3] and self.one_process:
                function = _debugged(function)
            status: int = function(conn)
            if status.__class__ is not Status:
                status = check_status(status, handler, "returned")
            if status == DECLINED and conn.tls is not None:
                raise plain(ValueError(f"handler '{handler.text}' returned apache.DECLINED after conn.start_tls()"))
            return status
        except BaseException as exc:
            return report.connection(conn, handler, self.name, exc)

    @scope.entry_point("conn")
    def pre_connection(self, conn: Any, handlers: tuple[Handler, ...]) -> int:
        """Show a new connection to its handlers.

        Args:
            conn: the connection.
            handlers: the handlers, at least one.

        Returns:
            OK, or the status of the handler that refused; an error refuses, too.
        """
        settings = conn.settings
        for handler in handlers:
            try:
                conn._hlist = mp_hlist([handler])
                name = handler.object_name or "preconnectionhandler"
                function: Any = resolve.find(handler, name, conn, settings, self.importer)
                status = check_status(function(conn), handler, "returned")
            except BaseException as exc:
                report.connection(conn, handler, self.name, exc)
                return HTTP_INTERNAL_SERVER_ERROR
            if status not in (OK, DECLINED):
                # DONE is no refusal for httpd.
                return status if status > 0 else HTTP_FORBIDDEN
        return OK

    @scope.entry_point("server")
    def child(self, server: Any, phase: str, handlers: tuple[Handler, ...]) -> None:
        """Run the handlers for the beginning of a child, or note those for its end.

        The latter are found now, so that a mistake shows when the server starts.

        Args:
            server: the server they are configured for.
            phase: PythonChildInitHandler or PythonChildExitHandler.
            handlers: the handlers, at least one.
        """
        settings = server.settings
        at_end = phase == "PythonChildExitHandler"
        for handler in reversed(handlers) if at_end else handlers:
            try:
                name = handler.object_name or ("childexithandler" if at_end else "childinithandler")
                function: Any = resolve.find(handler, name, server, settings, self.importer)
                if at_end:
                    cleanup.register(function, server, server)
                elif resolve.is_coroutine_function(function):
                    self.call_coroutine(function(server))
                else:
                    function(server)
            except BaseException as exc:
                report.python_import(server.log_error, handler.text, self.name, exc, phase)

    def element(self, req: Any, text: bytes, is_exec: bool) -> tuple[int, bytes]:
        """Run an element of a page of mod_include; see `ssi.run`."""
        return ssi.run(req, text, is_exec, self.name)

    def provider(
        self, req: Any, phase: str, handler: Handler, default_name: str, args: tuple[str, ...]
    ) -> bool | bytes | int | None:
        """Ask a provider function; see `providers.ask`."""
        return providers.ask(req, phase, handler, default_name, args, self.name, self.importer)

    @scope.entry_point("server")
    def import_(self, text: str) -> bool:
        """Carry out a PythonImport: import a module and call its function, if named.

        Args:
            text: ``module`` or ``module::function``.

        Returns:
            whether it succeeded; a failure is logged.
        """
        from mod_python import apache

        server = apache.main_server
        handler = Handler(text)
        try:
            settings = server.settings
            module = resolve.prepare(handler, server, settings, self.importer)
            if handler.object_name:
                function: Any = resolve.resolve_object(module, handler.object_name)
                if resolve.is_coroutine_function(function):
                    self.call_coroutine(function())
                else:
                    function()
            return True
        except BaseException as exc:
            report.python_import(lambda line, level: apache.log_error(line, level, server), text, self.name, exc)
            return False

    def filter(self, filt: Any, handler: Handler) -> int:
        """Call the function of a filter.

        Args:
            filt: the filter.
            handler: what names its function.

        Returns:
            what becomes of what it wrote; see `filtering`.
        """
        return filtering.run(self, filt, handler)

    def debugged(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return a function that runs another one under pdb."""
        return _debugged(function)

    def call_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine on the event loop of this interpreter, and wait for its end."""
        from . import asynchronous

        asynchronous.call(self, coroutine)

    def at_exit(self) -> None:
        """End what runs on the event loop; run what was registered with `apache.register_cleanup`."""
        asynchronous = sys.modules.get("mod_python._dispatch.asynchronous")
        if asynchronous is not None:
            asynchronous.end()
        cleanup.run()
        if asynchronous is not None:
            asynchronous.close()


def _debugged(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Wrap a handler so that it runs under pdb, on the terminal of httpd."""

    def run(arg: Any) -> Any:
        from . import debugger

        return debugger.call(function, arg)

    return run
