"""The module ``_apache``: services behind the package, under their old names.

Parts of the package use it, and so do some applications.  It exists inside
httpd only: `boot` puts a module that is filled on first use into `sys.modules`.
"""

from __future__ import annotations

from zlib import crc32

from mod_python import _core, apache
from mod_python._core import MODULE_MAGIC_NUMBER_MAJOR as MODULE_MAGIC_NUMBER_MAJOR
from mod_python._core import MODULE_MAGIC_NUMBER_MINOR as MODULE_MAGIC_NUMBER_MINOR
from mod_python._core import Server
from mod_python._core import Table as table  # noqa: F401, N813

from . import cleanup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# The same objects as in `apache`.
_FROM_APACHE = (
    "SERVER_RETURN",
    "config_tree",
    "exists_config_define",
    "log_error",
    "mpm_query",
    "server_root",
    "stat",
)
_FROM_UTIL = ("parse_qs", "parse_qsl")
_OWN = (
    "MODULE_MAGIC_NUMBER_MAJOR",
    "MODULE_MAGIC_NUMBER_MINOR",
    "_global_lock",
    "_global_trylock",
    "_global_unlock",
    "register_cleanup",
    "table",
)
_CONSTANTS = tuple([name for name in vars(apache) if name.startswith(("AP_CONN_", "APR_"))])

__all__ = [*_OWN, *_FROM_APACHE, *_FROM_UTIL, *_CONSTANTS]

for _name in _CONSTANTS:
    globals()[_name] = getattr(apache, _name)
del _name


def __getattr__(name: str) -> Any:
    if name in _FROM_APACHE:
        return getattr(apache, name)
    if name in _FROM_UTIL:
        from mod_python import util

        return getattr(util, name)
    raise AttributeError(f"module '_apache' has no attribute {name!r}")


def register_cleanup(
    interpreter: str,
    server: Server,
    callable: Callable[[Any], object],  # noqa: A002  (documented name)
    data: Any = None,
) -> None:
    """Have ``callable(data)`` called when this child process ends.

    Args:
        interpreter: name of this interpreter; a clean-up cannot go to another one.
        server: the server whose log reports a failure.
        callable: the function.
        data: its argument.

    Raises:
        ValueError: an argument has the wrong type, or the interpreter is another one.
    """
    if not isinstance(interpreter, str):
        raise ValueError(f"register_cleanup: the interpreter must be a name, not {type(interpreter).__name__}")
    if interpreter != apache.interpreter:
        raise ValueError(
            f"register_cleanup: this is interpreter {apache.interpreter!r}; a clean-up cannot be "
            f"registered for {interpreter!r} from here"
        )
    if not isinstance(server, Server):
        raise ValueError(f"register_cleanup: second argument must be a server, not {type(server).__name__}")
    cleanup.register(callable, data, server)


def _number(server: Server, key: object, index: int) -> int:
    """The number of the lock that a key or an index means."""
    if not isinstance(server, Server):
        raise TypeError(f"first argument must be a server, not {type(server).__name__}")
    if not isinstance(index, int):
        raise TypeError(f"index must be int, not {type(index).__name__}")
    count = _core.lock_count()
    if not count:
        raise ValueError("there are no locks in this process; the error log says why")
    if index >= 0:
        if index >= count:
            message = f"there is no lock {index}: there are {count}, numbered from 0 (mod_python.mutex_locks)"
            server.log_error(f"mod_python: {message}", apache.APLOG_WARNING)
            raise ValueError(message)
        return index
    if index != -1:
        message = f"there is no lock {index}; -1 chooses one by the key"
        server.log_error(f"mod_python: {message}", apache.APLOG_WARNING)
        raise ValueError(message)
    # Not hash(): that of a str differs from process to process.
    if isinstance(key, str):
        text = key.encode("utf-8", "surrogatepass")
    elif isinstance(key, bytes):
        text = key
    elif isinstance(key, int):
        text = b"%d" % key
    elif key is None:
        raise ValueError("without an index a key is needed to choose the lock")
    else:
        raise TypeError(f"key must be str, bytes or int, not {type(key).__name__}")
    # 0 is kept for dbm files, which are locked for a moment while a session is.
    return 1 + crc32(text) % (count - 1)


def _global_lock(server: Server, key: object, index: int = -1) -> None:
    """Wait for a lock and take it.

    A key means the same lock in every process and interpreter; several keys may
    share one.  The locks are not recursive: taking one twice waits for ever.

    Args:
        server: any server.
        key: str, bytes or int; may be None if `index` is given.
        index: number of the lock; -1 for one that is chosen by the key.

    Raises:
        TypeError: `server` is no server; `key` has no text.
        ValueError: there is no such lock, or it could not be taken.
    """
    number = _number(server, key, index)
    try:
        _core.lock_take(number)
    except OSError as exc:
        raise ValueError(f"lock {number} could not be taken: {exc.strerror}") from None


def _global_trylock(server: Server, key: object, index: int = -1) -> bool:
    """Take a lock if it is free; see `_global_lock`.

    Returns:
        whether it was taken.
    """
    number = _number(server, key, index)
    try:
        return _core.lock_take(number, False)
    except OSError as exc:
        raise ValueError(f"lock {number} could not be taken: {exc.strerror}") from None


def _global_unlock(server: Server, key: object, index: int = -1) -> None:
    """Release a lock; any thread of the process that took it may do so.

    Args:
        server, key, index: as they were given to `_global_lock`.

    Raises:
        TypeError: as for `_global_lock`.
        ValueError: this process does not have the lock, or it could not be released.
    """
    number = _number(server, key, index)
    try:
        _core.lock_release(number)
    except OSError as exc:
        from errno import EINVAL

        why = "this process has not taken it" if exc.errno == EINVAL else exc.strerror
        raise ValueError(f"lock {number} could not be released: {why}") from None
