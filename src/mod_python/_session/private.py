"""Directories and files that nobody else may write.

Who can write into a store decides what the sessions say, and with pickle what the server does.  So a store is made
private, and one that somebody else owns or may write is refused.  That is checked each time: a directory may be
removed while the server runs, and another user may make one of the same name.  All children of a server run as one
user, and share what that user has.
"""

from __future__ import annotations

import os
import stat

from .errors import SessionError

_OPTION = "mod_python.session.database_directory"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_checked: dict[str, str] = {}


def directory(configured: str | None) -> str:
    """Return the private directory of the stores, which exists then.

    Args:
        configured: what the configuration names; None for the default, a directory of this user's own below the
            system's for temporary files that outlive a restart of the machine (``TMPDIR``, else ``/var/tmp``).

    Returns:
        The configured directory if it belongs to this process' user and nobody else may write it.  If it is
        one that several users write, such as ``/tmp``, a directory of this user's own in it.

    Raises:
        SessionError: it cannot be made, or is not private.
    """
    key = configured or ""
    known = _checked.get(key)
    if known is not None and _is_private(known):
        return known
    path = os.path.abspath(configured) if configured else _temporary()
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as exc:
        raise SessionError(
            f"the directory for sessions {path} cannot be made ({exc.strerror}); make one that belongs to the "
            f"user of httpd's children ({_user()}) and name it with PythonOption {_OPTION}"
        ) from None
    try:
        found = os.stat(path)
    except OSError as exc:
        raise SessionError(f"the directory for sessions {path} cannot be used: {exc.strerror}; {_remedy()}") from None
    if os.path.islink(path) and os.lstat(path).st_uid not in (0, os.geteuid()):
        raise SessionError(
            f"the directory for sessions {path} is not used, because it is a link that user "
            f"{os.lstat(path).st_uid} has made; {_remedy()}"
        )
    if not stat.S_ISDIR(found.st_mode):
        raise SessionError(f"{path} is not used for sessions, because it is no directory; {_remedy()}")
    if found.st_uid != os.geteuid() or found.st_mode & _OTHERS_WRITE:
        path = _own(path, found)
    _checked[key] = path
    return path


def own_subdirectory(parent: str, name: str) -> str:
    """Return a private directory in a private one, which exists then.

    Raises:
        SessionError: it cannot be made, or is not private.
    """
    path = os.path.join(parent, name)
    if _checked.get(path) is not None and _is_private(path):
        return path
    _make(path)
    _checked[path] = path
    return path


def check_file(path: str, option: str = _OPTION) -> None:
    """Refuse a file, named by the configuration, that somebody else could change or replace.

    It need not exist.

    Args:
        path: the file.
        option: the option that has named it, or its directory.

    Raises:
        SessionError: it, or its directory, belongs to another user than this process' or root, or others may write it.
    """
    parent = os.path.dirname(os.path.abspath(path))
    for name, needed in ((parent, True), (path, False)):
        try:
            found = os.stat(name)
        except FileNotFoundError:
            if not needed:
                continue
            raise SessionError(f"the directory {name} for sessions does not exist; {_remedy(option)}") from None
        except OSError as exc:
            raise SessionError(f"{name} cannot be used for sessions: {exc.strerror}; {_remedy(option)}") from None
        if found.st_uid not in (0, os.geteuid()):
            raise SessionError(
                f"{name} is not used for sessions, because it belongs to user {found.st_uid}; {_remedy(option)}"
            )
        if found.st_mode & _OTHERS_WRITE:
            raise SessionError(f"{name} is not used for sessions, because others may write it; {_remedy(option)}")


def open_own(path: str) -> int:
    """Open a file of our own in a private directory, and make it if it is not there.

    Returns:
        its descriptor; the caller closes it.

    Raises:
        SessionError: it belongs to somebody else, or cannot be opened.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise SessionError(f"{path} cannot be opened: {exc.strerror}; {_remedy()}") from None
    if os.fstat(fd).st_uid != os.geteuid():
        os.close(fd)
        raise SessionError(f"{path} is not used, because it belongs to somebody else; {_remedy()}")
    return fd


def create_own(path: str) -> None:
    """Make a file of our own in a private directory, if it is not there.

    A file that is there is not opened: closing it would give up the locks that this process has on it (POSIX).

    Raises:
        SessionError: it belongs to somebody else, is no file, or cannot be made.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        return
    except FileExistsError:
        pass
    except OSError as exc:
        raise SessionError(f"{path} cannot be made: {exc.strerror}; {_remedy()}") from None
    check_own(path)


def check_own(path: str) -> None:
    """Refuse what has the name of a file in a private directory, and was there before the directory was private.

    Raises:
        SessionError: it belongs to somebody else, or is no file.
    """
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & _OTHERS_WRITE:
        raise SessionError(f"{path} is not used, because it is no file of this user's alone; {_remedy()}")


def _own(path: str, found: os.stat_result) -> str:
    """Return our directory in one that is not ours alone."""
    # The owner of a directory can replace what is in it.
    if not found.st_mode & _OTHERS_WRITE or found.st_uid not in (0, os.geteuid()):
        raise SessionError(f"the directory for sessions {path} belongs to user {found.st_uid}; {_remedy()}")
    own = os.path.join(path, f"mod_python-{os.geteuid()}")
    _make(own)
    return own


def _is_private(path: str) -> bool:
    """Whether a directory that was private is there and still is; not if it is a link."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & _OTHERS_WRITE


def _make(path: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as exc:
        raise SessionError(f"the directory for sessions {path} cannot be made: {exc.strerror}; {_remedy()}") from None
    # Not stat(): a link would lead where somebody else wants.
    found = os.lstat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise SessionError(f"{path} is not used for sessions, because it is no directory; {_remedy()}")
    if found.st_uid != os.geteuid():
        raise SessionError(f"{path} is not used for sessions, because it belongs to user {found.st_uid}; {_remedy()}")
    if found.st_mode & _OTHERS_WRITE:
        raise SessionError(f"{path} is not used for sessions, because others may write it; {_remedy()}")


def _temporary() -> str:
    for candidate in (os.environ.get("TMPDIR"), "/var/tmp"):
        if candidate and os.path.isdir(candidate) and os.access(candidate, os.W_OK | os.X_OK):
            return candidate
    import tempfile

    return tempfile.gettempdir()


def _user() -> str:
    try:
        import pwd

        return pwd.getpwuid(os.geteuid()).pw_name
    except (ImportError, KeyError):
        return f"uid {os.geteuid()}"


def _remedy(option: str = _OPTION) -> str:
    return f"use a directory that belongs to {_user()} and that nobody else may write (PythonOption {option})"
