"""The handler that runs WSGI applications (PEP 3333).

    <Location /app>
        SetHandler mod_python
        PythonHandler mod_python.wsgi
        PythonPath "sys.path+['/srv/app']"
        PythonOption mod_python.wsgi.application shop.wsgi::application
    </Location>

The environment and ``start_response`` are members of the request,
``req.build_wsgi_env()`` and ``req.wsgi_start_response()``.
"""

from __future__ import annotations

import os
from io import BufferedRandom, BufferedReader, FileIO
from stat import S_ISREG
from time import monotonic

from ._constants import APLOG_WARNING, DECLINED, OK
from ._dispatch import report, resolve
from ._dispatch.handler import intern
from ._dispatch.importer import default as default_importer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ._dispatch.handler import Handler

    Application = Callable[[dict[str, Any], Callable[..., Any]], Any]

__all__ = ["FileWrapper", "handler"]

OPTION = "mod_python.wsgi.application"

# The name of the application in its module, unless the option gives one.
DEFAULT_NAME = "application"


def handler(req: Any) -> int:
    """Run the application that ``PythonOption mod_python.wsgi.application`` names.

    Args:
        req: the request.

    Returns:
        OK; DECLINED, with a warning in the log, if there is no such application or
        the URI is not below its base.

    Raises:
        Exception: what the application or the import of its module raises, and
            faults in what it gives.
    """
    application = _application(req)
    if application is None:
        return DECLINED
    environ = req.build_wsgi_env()
    if environ is None:
        return DECLINED
    result = application(environ, req.wsgi_start_response)
    if result.__class__ is list or result.__class__ is tuple:
        req._wsgi_send_all(result)
        req._wsgi_end()
        return OK
    try:
        if not (result.__class__ is FileWrapper and result.send(req)):
            send = req._wsgi_send
            for part in result:
                if not send(part):
                    break
        req._wsgi_end()
    except BaseException:
        close = getattr(result, "close", None)
        if close is not None:
            close()
        raise
    close = getattr(result, "close", None)
    if close is not None:
        try:
            close()
        except Exception as exc:
            # The response is whole, and part of it may have left: it stays good.
            report.cleanup(req, close, req.interpreter, exc, "close() of a WSGI result")
    return OK


# -- the application -------------------------------------------------------------


def _application(req: Any) -> Application | None:
    """Return the application, loaded or reloaded if need be; None if there is none."""
    text = req._option(OPTION)
    hlist = req.hlist
    if not text:
        return _missing(req, f"PythonOption {OPTION} is not set; it names the application, as 'module::callable'")
    # The same object each time, so what was found last time is known.
    in_location = hlist.is_location == 1
    known = intern(text, None if in_location else hlist.directory, None, in_location, False)
    settings = req.settings
    name = known.object_name or DEFAULT_NAME
    if known.settings == settings and (not settings[1] or monotonic() < known.due):
        application = known.namespace.get(name)
        if application is not None:
            return application  # type: ignore[no-any-return]
    return _load(req, known, name, settings)


def _load(req: Any, known: Handler, name: str, settings: tuple[Any, ...]) -> Application | None:
    if not known.module_name:
        return _missing(req, f"PythonOption {OPTION} is {known.text!r}, which names no module")
    try:
        module = resolve.prepare(known, req, settings, default_importer())
    except ImportError as exc:
        if not _is_missing(known, exc):
            raise
        return _missing(req, f"there is no module for PythonOption {OPTION} {known.text}: {exc}")
    application: Any = module
    for part in name.split("."):
        application = getattr(application, part, None)
    if application is None:
        return _missing(
            req, f"module '{resolve.file_of(module)}' contains no {name!r}, for PythonOption {OPTION} {known.text}"
        )
    if not callable(application):
        known.settings = None  # the short way would call it
        raise TypeError(
            f"{name!r} in module '{resolve.file_of(module)}' is no WSGI application: "
            f"it is of type {type(application).__name__}, which cannot be called"
        )
    return application  # type: ignore[no-any-return]


def _is_missing(known: Handler, exc: ImportError) -> bool:
    """Whether the module itself was not found, rather than something that it imports."""
    name = known.module_name
    if name.startswith(("/", "~/", "./", "../")):
        return exc.path is not None and not os.path.exists(exc.path)
    return isinstance(exc, ModuleNotFoundError) and exc.name is not None and f"{name}.".startswith(f"{exc.name}.")


def _missing(req: Any, why: str) -> Application | None:
    req.log_error(f"mod_python.wsgi: {why}; the request is declined", APLOG_WARNING)
    return None


# -- files -------------------------------------------------------------------------


class FileWrapper:
    """``wsgi.file_wrapper``: an iterable over a file, which httpd sends by itself if it can.

    Args:
        filelike: anything with ``read(size)``.
        block_size: bytes that an iteration gives at most.
    """

    def __init__(self, filelike: Any, block_size: int = 8192) -> None:
        self.filelike = filelike
        self.block_size = block_size
        close = getattr(filelike, "close", None)
        if close is not None:
            self.close = close

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> Any:
        data = self.filelike.read(self.block_size)
        if not data:
            raise StopIteration
        return data

    def send(self, req: Any) -> bool:
        """Have httpd send the rest of the file, if it is one on disk.

        Args:
            req: the request; its Content-Length is set if the application has not done it.

        Returns:
            whether it was one.
        """
        file = self.filelike
        if file.__class__.__name__ == "_TemporaryFileWrapper" and file.__class__.__module__ == "tempfile":
            file = file.file
        # Others may have a file descriptor, too, and something else to say (gzip).
        raw = file.raw if file.__class__ is BufferedReader or file.__class__ is BufferedRandom else file
        if raw.__class__ is not FileIO:
            return False
        if file.__class__ is BufferedRandom:
            file.flush()
        number = file.fileno()
        info = os.fstat(number)
        path = _path_of(raw, number, info)
        if not S_ISREG(info.st_mode) or path is None:
            return False
        offset = file.tell()
        req._wsgi_send_file(path, offset, max(0, info.st_size - offset))
        return True


def _path_of(raw: FileIO, number: int, info: os.stat_result) -> str | None:
    """A name under which an open file can be opened again, or None."""
    # The name of the very file, also if another took its place meanwhile.
    for path in (f"/proc/self/fd/{number}", raw.name):
        if isinstance(path, str) and path.startswith("/"):
            try:
                if os.path.samestat(os.stat(path), info) and os.access(path, os.R_OK):
                    return path
            except OSError:
                pass
    return None
