"""The handler that runs CGI scripts written in Python inside the server.

    SetHandler mod_python
    PythonHandler mod_python.cgihandler

It helps to move old scripts; new work is better off with a handler or a WSGI application.
A script believes that it is alone in its process, so one runs at a time in a process.  Nobody's turn depends
on a client: the body of a request is read before the script runs, and its output is sent after its end.

    PythonOption mod_python.cgihandler.lock_timeout 60
    PythonOption mod_python.cgihandler.max_body 1073741824
    PythonOption mod_python.cgihandler.max_output 1073741824

The first is how many seconds a request waits until the scripts before it have ended; then it is answered
with 503.  The others are numbers of bytes, 0 for any number.

What a script sees is made for its thread alone where that is possible: `os.environ`, ``sys.stdin`` and
``sys.stdout`` are as before for all other threads, and for those that the script starts.  The working
directory, ``sys.argv``, ``sys.path`` and ``sys.modules`` have no such way; threads of other
handlers see the script's while it runs.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident

from ._cgi import build_cgi_env, is_cgi_name
from ._cgi_spool import MAX_BODY, MAX_OUTPUT, SpooledStdin, SpooledStdout, read_body, send
from ._constants import DONE, HTTP_FORBIDDEN, HTTP_NOT_FOUND, HTTP_SERVICE_UNAVAILABLE, OK
from ._dispatch import paths
from .errors import SERVER_RETURN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import CodeType, ModuleType
    from typing import Any

    Stamp = tuple[int, int, int]
    cgi_lock: Callable[[float], bool]
    cgi_unlock: Callable[[], object]
else:
    try:
        from ._core import cgi_lock, cgi_unlock
    except ImportError:  # outside httpd
        from _thread import RLock

        _lock = RLock()
        cgi_unlock = _lock.release

        def cgi_lock(seconds: float) -> bool:
            return _lock.acquire(timeout=seconds)


__all__ = ["handler"]

# Compiled scripts that are kept.  When there are more, all are forgotten: no site has so many.
MAX_COMPILED = 256

_compiled: dict[str, tuple[Stamp, CodeType]] = {}

#: Seconds that a request waits for the scripts before it, if no option says. As httpd's Timeout: longer, few
#: clients wait either, and each that does takes a thread.
LOCK_TIMEOUT = 60.0

_PREFIX = "mod_python.cgihandler."

# Modules that scripts have imported and that do not stay.
_imported: set[str] = set()


def handler(req: Any) -> int:
    """Run the script that the request is for.

    It is ``SCRIPT_FILENAME`` of ``req.subprocess_env``, else ``req.filename``, and runs as
    ``__main__`` in its directory.  `SystemExit` ends it normally.

    Args:
        req: the request.

    Returns:
        OK; 404 if there is no such file, or it is a link that leads out of its
        directory; 403 if it cannot be read; 503 if other scripts took too long.

    Raises:
        SERVER_RETURN: the body of the request is too large, or httpd refuses it.
        ValueError: an option cannot be read.
        Exception: what the script raises.  Nothing of its output is sent then.
    """
    variables = build_cgi_env(req)
    name = variables.get("SCRIPT_FILENAME")
    path = os.fsdecode(name.encode("latin-1")) if name else req.filename
    if not path:
        req.log_error(
            "mod_python.cgihandler: this request has no file; configure the handler in a <Directory> or "
            "<Files> section, since httpd looks for no file where a <Location> section has a Python handler"
        )
        return HTTP_NOT_FOUND
    if not is_inside(path):
        return HTTP_NOT_FOUND
    try:
        code = compiled(path)
    except PermissionError as exc:
        req.log_error(f"mod_python.cgihandler: {path}: {exc.strerror}")
        return HTTP_FORBIDDEN
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return HTTP_NOT_FOUND
    options = req.get_options()
    patience = _number(options, "lock_timeout", LOCK_TIMEOUT)
    max_output = int(_number(options, "max_output", MAX_OUTPUT))
    directory = options.get("mod_python.util.temp_directory")
    body, size = read_body(req, int(_number(options, "max_body", MAX_BODY)), directory)
    if size:
        # Also of a body that came in chunks, or that an input filter has changed.
        variables["CONTENT_LENGTH"] = str(size)
    environ = {
        os.fsdecode(key.encode("latin-1")): os.fsdecode(value.encode("latin-1"))
        for key, value in variables.items()
        if value is not None
    }
    stdout = SpooledStdout(req, max_output, directory)
    with body, stdout.body:
        # From here to cgi_unlock() nothing is read from a client or sent to one.
        if not cgi_lock(patience):
            req.log_error(
                f"mod_python.cgihandler: {path}: other scripts of this process took more than {patience:g} seconds, "
                f"and one runs at a time; the answer is 503 (PythonOption {_PREFIX}lock_timeout)"
            )
            return HTTP_SERVICE_UNAVAILABLE
        try:
            with _Disguise(path, environ, SpooledStdin(body), stdout) as module:
                run(code, module)
        except SERVER_RETURN as exc:
            if exc.args[:1] not in ((OK,), (DONE,)):
                raise
            ended: SERVER_RETURN | None = exc
        else:
            ended = None
        finally:
            cgi_unlock()
            stdout.finish()
        send(req, stdout.body)
    if ended is not None:
        raise ended
    return OK


def _number(options: Any, name: str, default: float) -> float:
    """The value of an option that is a number, 0 or more."""
    text = options.get(_PREFIX + name)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number < 1e18:
        raise ValueError(f"PythonOption {_PREFIX}{name} must be a number of 0 or more, not {text!r}")
    return number


def is_inside(path: str) -> bool:
    """Whether a script's file, links followed, lies in or below its directory.

    Args:
        path: the script, absolute; a relative one is refused.
    """
    if not path.startswith("/") or path.endswith("/"):
        return False
    directory = os.path.realpath(os.path.dirname(path))
    return os.path.commonpath([directory, os.path.realpath(path)]) == directory


def compiled(path: str) -> CodeType:
    """Return the code of a script, compiled anew if its file has changed.

    Args:
        path: the script.

    Raises:
        OSError: it cannot be read.
        SyntaxError, ValueError: it is no Python.
    """
    with open(path, "rb") as file:
        info = os.fstat(file.fileno())
        stamp = (info.st_mtime_ns, info.st_size, info.st_ino)
        known = _compiled.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        source = file.read()
    code: CodeType = compile(source, path, "exec", dont_inherit=True)
    if len(_compiled) >= MAX_COMPILED:
        _compiled.clear()
    _compiled[path] = (stamp, code)
    return code


def run(code: CodeType, module: ModuleType) -> None:
    """Execute a script in its module, and see that all of its output is out.

    A process that the script has forked ends here, as it would with a script that is a program: only the first
    one answers the request.

    Args:
        code: the script.
        module: its ``__main__``.
    """
    namespace = module.__dict__
    process = os.getpid()
    status = 0
    try:
        exec(code, namespace)
    except SystemExit as exc:
        if exc.code is not None and not isinstance(exc.code, int):
            print(exc.code, file=sys.stderr, flush=True)
        status = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except BaseException as exc:
        if os.getpid() == process:
            raise
        sys.excepthook(type(exc), exc, exc.__traceback__)
        status = 1
    if os.getpid() != process:
        os._exit(status & 0xFF)
    # A stream that the script has put around ours may hold something, until it goes.
    if sys.stdout is not None and sys.stdout.__class__ is not _Stream:
        sys.stdout.flush()
    namespace.clear()


class _Disguise:
    """The surroundings of a script, for the time that it runs.

    Args:
        path: the script.
        environ: its CGI variables.
        stdin: its input.
        stdout: its output.
    """

    def __init__(self, path: str, environ: Mapping[str, str], stdin: SpooledStdin, stdout: SpooledStdout) -> None:
        self._path = path
        self._directory = os.path.dirname(path)
        self._variables = environ
        self._streams = (stdin, stdout)
        self._undo: list[Callable[[], object]] = []

    def __enter__(self) -> ModuleType:
        """Put them in place.

        Returns:
            the module ``__main__``.
        """
        try:
            return self._enter()
        except BaseException:
            self._leave()
            raise

    def __exit__(self, *exc: object) -> None:
        self._leave()

    def _enter(self) -> ModuleType:
        me = get_ident()
        _forget_modules()
        self._change_directory()
        self._replace_environment(me)
        stdin, stdout = self._streams
        self._set(sys, "stdin", _Stream(me, stdin, sys.stdin))
        self._set(sys, "stdout", _Stream(me, stdout, sys.stdout))
        self._set(sys, "argv", [self._path])
        self._extend_path()
        finder: Any = _Watch(me)
        sys.meta_path.insert(0, finder)
        self._undo.append(lambda: sys.meta_path.remove(finder))
        # What the directory held when it was last looked at.
        sys.path_importer_cache.pop(self._directory, None)
        module = type(sys)("__main__")
        module.__file__ = self._path
        module.__builtins__ = __builtins__  # type: ignore[attr-defined]
        main = sys.modules.get("__main__")
        sys.modules["__main__"] = module
        self._undo.append(lambda: _put_module("__main__", main))
        return module

    def _leave(self) -> None:
        while self._undo:
            self._undo.pop()()

    def _set(self, where: Any, name: str, value: Any) -> None:
        before = getattr(where, name)
        self._undo.append(lambda: setattr(where, name, before))
        setattr(where, name, value)

    def _change_directory(self) -> None:
        try:
            before = os.getcwd()
        except OSError:  # it was removed
            before = "/"
        self._undo.append(lambda: os.chdir(before))
        os.chdir(self._directory)

    def _extend_path(self) -> None:
        """Put the script's directory on `sys.path`, and take off later what the script has put there.

        The list stays, and so does what PythonPath adds for other handlers meanwhile.
        """
        path, before = sys.path, set(sys.path)
        path.insert(0, self._directory)

        def restore() -> None:
            kept = [item for item in path if item in before or (item in paths.placed and item != self._directory)]
            path[:] = dict.fromkeys(kept)
            sys.path = path

        self._undo.append(restore)

    def _replace_environment(self, me: int) -> None:
        """Give this thread a copy of the environment, with the variables of CGI.

        The process's own is left alone (putenv): other threads may be reading it, in C
        and without a lock.
        """
        real = os.environ
        copied = {name: value for name, value in real.items() if not is_cgi_name(name)}
        copied.update(self._variables)
        if real.__class__ is not os._Environ:  # somebody else has replaced it
            self._set(os, "environ", copied)
            return
        own = {real.encodekey(key): real.encodevalue(value) for key, value in copied.items()}
        # The object stays, since other modules hold it: `from os import environ`.
        kind = type("_Environ", (_Environ,), {"mp_thread": me, "mp_own": own})
        for mapping in (real, os.environb):
            self._undo.append(lambda mapping=mapping: setattr(mapping, "__class__", os._Environ))  # type: ignore[misc]
            mapping.__class__ = kind


class _Environ(os._Environ):  # type: ignore[type-arg]
    """The class of `os.environ` while a script runs: one thread has its own variables."""

    mp_thread = 0
    mp_own: dict[bytes, bytes]

    @property
    def _data(self) -> Any:
        return self.mp_own if get_ident() == self.mp_thread else self.__dict__["_data"]

    def __setitem__(self, key: Any, value: Any) -> None:
        if get_ident() == self.mp_thread:
            self.mp_own[self.encodekey(key)] = self.encodevalue(value)
        else:
            super().__setitem__(key, value)

    def __delitem__(self, key: Any) -> None:
        if get_ident() != self.mp_thread:
            super().__delitem__(key)
            return
        try:
            del self.mp_own[self.encodekey(key)]
        except KeyError:
            raise KeyError(key) from None


class _Stream:
    """A standard stream that is another one for one thread.

    Args:
        thread: identifier of the thread.
        own: its stream.
        others: that of all other threads.
    """

    def __init__(self, thread: int, own: Any, others: Any) -> None:
        self.__dict__.update(_thread=thread, _own=own, _others=others)

    def _stream(self) -> Any:
        return self._own if get_ident() == self._thread else self._others

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._stream(), name, value)

    # Operators are looked for on the class.
    def __iter__(self) -> Any:
        return iter(self._stream())

    def __next__(self) -> Any:
        return next(self._stream())

    def __enter__(self) -> Any:
        return self._stream().__enter__()

    def __exit__(self, *exc: object) -> None:
        self._stream().__exit__(*exc)


# -- modules -----------------------------------------------------------------------


class _Watch:
    """A finder that finds nothing and notes what one thread looks for (`sys.meta_path`)."""

    def __init__(self, thread: int) -> None:
        self._thread = thread

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """Note a module; it is not loaded yet."""
        # Not our own: a checkout is no installed package.  Nor what apache.import_module loads.
        if get_ident() == self._thread and not name.startswith(("mod_python.", "_mp_")):
            _imported.add(name)


def _forget_modules() -> None:
    """Have the modules that scripts have imported loaded again, so that changes of them are seen.

    Those of the standard library and of installed packages stay.
    """
    for name in _imported:
        module = sys.modules.get(name)
        if module is not None and not is_installed(module):
            del sys.modules[name]
    _imported.clear()


def is_installed(module: ModuleType) -> bool:
    """Whether a module is part of Python or of an installed package.

    Args:
        module: the module; one without a file counts as part of Python, unless it is a
            package without ``__init__.py``, which is where its directories are.
    """
    file = getattr(module, "__file__", None)
    places: Iterable[str] = getattr(module, "__path__", ()) if file is None else (file,)
    return all(_is_installed_file(place) for place in places)


def _is_installed_file(file: str) -> bool:
    parts = file.split("/")
    if "site-packages" in parts or "dist-packages" in parts:
        return True
    library = os.path.dirname(os.__file__).split("/")
    return parts[: len(library)] == library


def _put_module(name: str, module: ModuleType | None) -> None:
    if module is None:
        sys.modules.pop(name, None)
    else:
        sys.modules[name] = module
