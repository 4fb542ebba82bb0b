"""`apache.CallBack`: the dispatcher under the names it has always had.

httpd's hooks do not come this way; this is for code that calls them by hand, and
loaded on first use.
"""

from __future__ import annotations

from . import report, resolve
from .dispatcher import Dispatcher
from .handler import Handler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class CallBack:
    """Runs handlers.  Not for applications.

    `apache.init` makes one.
    """

    def __init__(self) -> None:
        from mod_python import apache

        one_process = apache.exists_config_define("ONE_PROCESS") or apache.exists_config_define("DEBUG")
        self._dispatcher = Dispatcher(apache.interpreter, one_process=one_process)

    def HandlerDispatch(self, req: Any) -> int:  # noqa: N802  (documented name)
        """Run what is left of the running phase's list of handlers; return its status."""
        hlist = req.hlist
        handlers = tuple(hlist._entries[hlist._index :])
        try:
            return int(self._dispatcher.request(req, req.phase, handlers))
        finally:
            req._hlist = hlist

    def ConnectionDispatch(self, conn: Any) -> int:  # noqa: N802
        """Run the connection's handler; return its status."""
        hlist = conn.hlist
        try:
            return int(self._dispatcher.connection(conn, hlist._entries[hlist._index]))
        finally:
            conn._hlist = hlist

    def FilterDispatch(self, filter: Any) -> int:  # noqa: A002, N802
        """Run a filter's function and flush the filter; always OK."""
        req = filter.req
        handler = Handler(filter.handler, filter.dir)
        name = handler.object_name or ("inputfilter" if filter.is_input else "outputfilter")
        function = resolve.find(handler, name, filter, req.settings, self._dispatcher.importer)
        if function is not None:
            function(filter)
        if not filter.closed:
            filter.flush()
        return 0

    def IncludeDispatch(self, filter: Any, tag: str, code: str | bytes) -> int:  # noqa: A002, N802
        """Run an element of a page: ``eval`` or ``exec``; its output goes to the filter."""
        text = code.encode() if isinstance(code, str) else code
        status, output = self._dispatcher.element(filter.req, text, tag == "exec")
        filter.write(output)
        return status

    def ImportDispatch(self, name: str) -> None:  # noqa: N802
        """Carry out a PythonImport of ``module`` or ``module::function``."""
        self._dispatcher.import_(name)

    def ReportError(  # noqa: N802
        self,
        exc: BaseException,
        req: Any,
        phase: str | None = None,
        handler: Handler | str = "",
        debug: bool = False,
    ) -> int:
        """Report an exception as that of a handler; return the status.

        Args:
            exc: the exception.
            req: the request.
            phase: directive name of the phase; None for the running one.
            handler: the handler, or its text.
            debug: send it to the client, too.
        """
        if isinstance(handler, str):
            handler = Handler(handler)
        name = self._dispatcher.name
        return int(report.request(req, phase or req.phase or "PythonHandler", handler, name, debug, exc))
