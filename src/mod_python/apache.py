"""The interface between httpd and handlers: constants, functions, exceptions.

    from mod_python import apache

    def handler(req):
        req.content_type = "text/plain"
        req.write("Hello")
        return apache.OK

Inside httpd the functions ask the running server.  The module can also be
imported outside, so that handlers can be tested: there `log_error` writes to
stderr, `table` is a pure Python class of the same behaviour, and functions that
need a server raise `RuntimeError`.

Attributes:
    interpreter: name of the interpreter this copy of the module lives in; ""
        outside httpd.
    main_server: the main server; None outside httpd.
    table: the class of httpd's tables (headers, notes, options).
    make_table: an older name of `table`.

What few programs need is not listed below: `CGIStdin`, `CGIStdout` and `NullIO`
(the streams of `setup_cgi`), `CallBack` (the dispatcher), and `Status` (the class of
``OK`` and ``HTTP_*``: an int whose repr is its name).
"""

from __future__ import annotations

import os
import sys

from ._constants import *  # noqa: F403
from ._constants import APLOG_ERR
from ._dispatch import cleanup as _cleanup
from ._dispatch import importer as _importer
from ._dispatch import scope as _scope
from ._dispatch.resolve import resolve_object as resolve_object
from .errors import SERVER_RETURN as SERVER_RETURN
from .errors import ConnectionClosed as ConnectionClosed
from .errors import ConnectionTimeout as ConnectionTimeout
from .errors import DetachedError as DetachedError
from .errors import IncompleteRead as IncompleteRead
from .errors import LimitError as LimitError
from .errors import TLSError as TLSError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType
    from typing import Any

    from . import _core
    from ._cgi import CGIStdin as CGIStdin
    from ._cgi import CGIStdout as CGIStdout
    from ._cgi import NullIO as NullIO
    from ._core import MODULE_MAGIC_NUMBER_MAJOR as MODULE_MAGIC_NUMBER_MAJOR
    from ._core import MODULE_MAGIC_NUMBER_MINOR as MODULE_MAGIC_NUMBER_MINOR
    from ._core import Finfo, Server
    from ._dispatch.callback import CallBack as CallBack
    from ._dispatch.modules import Entry

    table = _core.Table
    _inside: bool
else:
    try:
        from . import _core
        from ._core import MODULE_MAGIC_NUMBER_MAJOR as MODULE_MAGIC_NUMBER_MAJOR
        from ._core import MODULE_MAGIC_NUMBER_MINOR as MODULE_MAGIC_NUMBER_MINOR
        from ._core import Table as table  # noqa: N813

        _inside = True
    except ImportError:
        # Outside httpd: the extension needs symbols of the httpd program.
        from ._table import mp_table as table

        _inside = False

    # What few servers need is loaded when it is first asked for.
    _LAZY = dict.fromkeys(("CGIStdin", "CGIStdout", "NullIO"), "_cgi")
    _LAZY["CallBack"] = "_dispatch.callback"

    def __getattr__(name):
        module = _LAZY.get(name)
        if module is None:
            hint = "; it exists inside httpd only" if name.startswith("MODULE_MAGIC_NUMBER_") else ""
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
        __import__(f"mod_python.{module}")
        value = globals()[name] = getattr(sys.modules[f"mod_python.{module}"], name)
        return value

    def __dir__():
        return sorted({*globals(), *_LAZY})


make_table = table

interpreter: str = ""
main_server: Server = None  # type: ignore[assignment]  # set before any handler runs


def _server(what: str) -> None:
    """Raise a clear RuntimeError when there is no server to ask."""
    if not _inside:
        raise RuntimeError(
            f"apache.{what} works only in a handler that runs inside httpd: "
            "here mod_python.apache was imported by an ordinary Python program"
        )


def log_error(message: object, level: int = APLOG_ERR, server: Server | None = None) -> None:
    """Write to the error log.

    Text of several lines makes several log entries, and a very long line is
    split, because httpd cuts an entry off at 8 KiB.  All but the first are indented.

    Args:
        message: what to log; None logs nothing, and what is no str is converted.
        level: one of the ``APLOG_*`` constants.
        server: the server whose log and LogLevel apply; None for the main server.

    Raises:
        TypeError: `server` is neither None nor a server.
    """
    if message is None:
        return
    from ._dispatch.lines import message_lines

    for line in message_lines(str(message)):
        if _inside:
            _core.log_error(line, level, server)
        else:
            print(line, file=sys.stderr)


def exists_config_define(name: str) -> bool:
    """Whether httpd was started with ``-D name``.

    Raises:
        RuntimeError: outside httpd.
    """
    _server("exists_config_define()")
    return _core.exists_config_define(name)


def server_root() -> str:
    """Return the value of ``ServerRoot``.

    Raises:
        RuntimeError: outside httpd.
    """
    _server("server_root()")
    return _core.server_root()


def mpm_query(code: int) -> int:
    """Ask the MPM (httpd's ``ap_mpm_query``).

    Args:
        code: one of the questions ``AP_MPMQ_*``.

    Returns:
        a number, or ``AP_MPMQ_NOT_SUPPORTED``, ``AP_MPMQ_STATIC`` or
        ``AP_MPMQ_DYNAMIC`` for questions about capabilities.

    Raises:
        TypeError: `code` is not an int.
        RuntimeError: outside httpd.
    """
    if not isinstance(code, int):
        raise TypeError(f"mpm_query() needs an int (AP_MPMQ_*), not {type(code).__name__}")
    _server("mpm_query()")
    return _core.mpm_query(code)


def config_tree() -> list[Any]:
    """Return a copy of the configuration as read at start, without ``.htaccess``.

    Returns:
        a list of ``(directive, arguments)`` tuples; a section is such a tuple
        followed by a list of the same form with what the section contains.

    Raises:
        RuntimeError: outside httpd.
    """
    _server("config_tree()")
    return _core.config_tree()


def stat(fname: str | bytes | os.PathLike[str], wanted: int) -> Finfo:
    """Return information on a file, as httpd sees it; it can be assigned to ``req.finfo``.

    Args:
        fname: name of the file.
        wanted: which fields, ``APR_FINFO_*`` or-ed.  Without ``APR_FINFO_LINK`` a
            symbolic link is followed.

    Returns:
        the information; of a file that does not exist, with `filetype` `APR_NOFILE`.

    Raises:
        OSError: any other failure.
        RuntimeError: outside httpd.
    """
    _server("stat()")
    return _core.stat(fname, wanted)


def register_cleanup(
    callable: Callable[[Any], object],  # noqa: A002  (documented name)
    data: Any = None,
) -> None:
    """Have ``callable(data)`` called when this child process ends.

    It is called in this interpreter; the last one registered first.  Outside
    httpd it is remembered and never called.

    Args:
        callable: the function; an exception it raises is logged.
        data: its argument; must not be, or lead to, a request or connection.

    Raises:
        ValueError: `callable` is not callable.
    """
    _cleanup.register(callable, data)


def import_module(
    module_name: str,
    autoreload: bool | None = None,
    log: bool | None = None,
    path: Iterable[str] | None = None,
) -> ModuleType:
    """Import a module by file or name, and load it again when it has changed.

    A module is identified by its file, so that directories may hold modules of
    the same name.  `module_name` is an absolute path; a path relative to the
    handler root (``~/…``) or to the calling module (``./…``, ``../…``); or a name
    that is looked for as ``name.py`` in `path`, in the directory of the calling
    module, in its ``__mp_path__`` and in the directories of ``PythonOption
    mod_python.importer.path``.  If no file is found, it is an ordinary import.

    Args:
        module_name: path or name.
        autoreload: whether to look for changes (at most once per second); None
            for the ``PythonAutoReload`` in force.
        log: whether to log loads; None for the ``PythonDebug`` in force.
        path: directories to search first; for a path, the initial
            ``__mp_path__`` of the module.

    Returns:
        the module; the same object throughout one request.

    Raises:
        ImportError: there is no such module.
        Exception: what the module raises while it is executed.
    """
    return _importer.default().import_module(module_name, sys._getframe(1).f_globals, autoreload, log, path)


def freeze_modules() -> None:
    """No module is loaded again from now on, in this interpreter and process.

    Usable from the configuration: ``PythonImport mod_python.apache::freeze_modules
    interpreter``.
    """
    _importer.default().frozen = True


def module_info(label: str) -> Entry:
    """Return the importer's record of a module.

    Args:
        label: the ``__name__`` of a module that the importer has loaded.

    Raises:
        KeyError: there is no such module.
    """
    return _importer.default().labels[label]


def modules_graph(verbose: int = 0) -> str:
    """Return all modules of the importer, and what they import, as a graph.

    Args:
        verbose: true for times, generations and counters.

    Returns:
        text in the language ``dot`` of Graphviz.
    """
    from ._dispatch import graph

    return graph.render(list(_importer.default().labels.values()), bool(verbose))


def request_modules_graph(verbose: int = 0) -> str:
    """Return the modules of the running request, and what they import, as a graph.

    Args:
        verbose: true for times, generations and counters.

    Returns:
        text in the language ``dot`` of Graphviz; outside a request, an empty graph.
    """
    from ._dispatch import graph

    current = _scope.current()
    entries = []
    if current is not None:
        labels = _importer.default().labels
        entries = [labels[label] for label in current.seen()]
        if current.handler.entry is not None:
            entries.append(current.handler.entry)
    return graph.render(entries, bool(verbose))


def get_handler_root() -> str | None:
    """Return the directory that ``~/`` stands for, or None if there is none.

    It is the directory of the running handler; for a handler without one, the
    document root.
    """
    current = _scope.current()
    return None if current is None else current.root()


def get_current_config() -> table:
    """Return the configuration table of the running request, else the main server's.

    Raises:
        RuntimeError: outside httpd.
    """
    current = _scope.current()
    if current is None:
        _server("get_current_config()")
        return main_server.get_config()
    return current.subject.get_config()  # type: ignore[no-any-return]


def get_current_options() -> table:
    """Return the PythonOption table of the running request, else the main server's.

    Raises:
        RuntimeError: outside httpd.
    """
    current = _scope.current()
    if current is None:
        _server("get_current_options()")
        return main_server.get_options()
    return current.subject.get_options()  # type: ignore[no-any-return]


def build_cgi_env(req: Any) -> table:
    """Return the CGI variables of a request.

    Args:
        req: the request; its `subprocess_env` is filled.

    Returns:
        a copy of ``req.subprocess_env`` with ``GATEWAY_INTERFACE`` ``Python-CGI/1.1``,
        ``SCRIPT_NAME``, and ``HTTP_AUTHORIZATION`` if the client sent that header.
    """
    from . import _cgi

    return _cgi.build_cgi_env(req)


def setup_cgi(req: Any) -> tuple[dict[str, str], Any, Any]:
    """Make this process look like that of a CGI script.

    The variables of the request go into `os.environ`, ``sys.stdin`` and
    ``sys.stdout`` become a `CGIStdin` and a `CGIStdout`, ``sys.argv`` is emptied.  All of
    these belong to the process or the interpreter, so one request at a time.

    Args:
        req: the request.

    Returns:
        (environment, stdin, stdout) as they were, for `restore_nocgi`.
    """
    from . import _cgi

    return _cgi.setup_cgi(req)


def restore_nocgi(env: Mapping[str, str], stdin: Any, stdout: Any) -> None:
    """Undo `setup_cgi`.

    Args:
        env, stdin, stdout: what `setup_cgi` returned.
    """
    from . import _cgi

    _cgi.restore_nocgi(env, stdin, stdout)


def init(name: str, server: Server) -> CallBack:
    """Set up this module for an interpreter.  Not for applications.

    Args:
        name: name of the interpreter.
        server: the main server.

    Returns:
        a `CallBack`.
    """
    global interpreter, main_server
    interpreter = name
    main_server = server
    sys.argv = ["mod_python"]
    from ._dispatch.callback import CallBack

    return CallBack()


if not TYPE_CHECKING:
    # For help() and ``from mod_python.apache import *``.
    __all__ = [
        name
        for name, value in globals().items()
        if not name.startswith("_")
        and name not in ("Status", "TYPE_CHECKING", "annotations", "init")
        and type(value) is not type(sys)
    ]
