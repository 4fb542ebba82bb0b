"""Whom httpd's children run as, and what that user can read.

httpd's parent may be root, to bind low ports; its children, which run the user's
code, never are. A path that is readable for root only (a virtual environment under
``/root``, say) would then fail late and obscurely, in a child, so it is looked for
beforehand: by a shell that runs as that user, because only the
kernel knows all the rules (groups, access lists, mount options).
"""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mod_python.httpd.errors import ConfigError

__all__ = ["User", "check_readable", "find_user", "first_unreadable", "runtime_paths"]

#: Users for httpd's children, the first that exists: Debian's, httpd's own default
#: since the eighties, and the one of Fedora, Alpine and others.
DEFAULT_USERS = ("www-data", "nobody", "apache")

# A program of its own: a process that may have threads cannot go on safely after a fork.
# Arguments: "x" and a directory to be searched, or "r" and a file or directory to be read.
_CHECK = """
for word do
    path=${word#?}
    case $word in
    x*) [ -x "$path" ];;
    *) [ -r "$path" ] && { [ ! -d "$path" ] || [ -x "$path" ]; };;
    esac || { printf %s "$path"; exit; }
done
"""


@dataclass(frozen=True, slots=True)
class User:
    """An unprivileged user: name, user id and primary group id."""

    name: str
    uid: int
    gid: int


def find_user(name: str | None = None) -> User | None:
    """Decide whom the children run as.

    Args:
        name: The name asked for, or None for the first of `DEFAULT_USERS`.

    Returns:
        The user, or None when this process is not root: then it stays who it is.

    Raises:
        ConfigError: The user does not exist, is root, or was named by a process that
            cannot change its user.
    """
    if os.geteuid() != 0:
        if name is not None and _lookup(name) != os.geteuid():
            raise ConfigError("--user needs root: another user's process cannot become someone else")
        return None
    for candidate in (name,) if name is not None else DEFAULT_USERS:
        try:
            entry = pwd.getpwnam(candidate)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            raise ConfigError(f"--user {candidate}: Python code is never run as root; name another user")
        return User(entry.pw_name, entry.pw_uid, entry.pw_gid)
    if name is not None:
        raise ConfigError(f"--user {name}: there is no such user")
    raise ConfigError(f"none of the users {', '.join(DEFAULT_USERS)} exists; name one with --user")


def first_unreadable(paths: Iterable[Path], user: User) -> Path | None:
    """Find what the user cannot read.

    A directory must be searchable and listable, a file readable; so must be, for
    search, every directory above it, also above what a link leads to. A path that does not
    exist is not a matter of permission, and is passed over.

    Args:
        paths: Files and directories, absolute.
        user: Whose eyes to look with. This process must be root.

    Returns:
        The topmost directory or the file that stands in the way, or None.
    """
    words: dict[str, None] = {}  # in order, each once
    for path in paths:
        for step in dict.fromkeys((Path(os.path.realpath(path)), path)):
            words.update(dict.fromkeys(f"x{parent}" for parent in reversed(step.parents)))
        if path.exists():
            words[f"r{path}"] = None
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", _CHECK, "sh", *words],
            user=user.uid,
            group=user.gid,
            extra_groups=os.getgrouplist(user.name, user.gid),
            cwd="/",
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigError(f"cannot become the user {user.name} to check what it can read: {error}") from None
    return Path(os.fsdecode(done.stdout)) if done.stdout else None


def check_readable(paths: Iterable[Path], user: User | None) -> None:
    """Refuse what the children's user could not read.

    Args:
        paths: Files and directories that the children need.
        user: The children's user, or None when it is this process's own.

    Raises:
        ConfigError: One cannot be read; the message names it and the remedies.
    """
    if user is None:
        return
    found = first_unreadable([Path(os.path.abspath(path)) for path in paths], user)
    if found is not None:
        raise ConfigError(
            f"{found}: the user {user.name}, as whom httpd's children run, cannot read it; move what "
            f"is needed elsewhere, open it (chmod o+rX {found}), or choose another user with --user"
        )


def runtime_paths() -> list[Path]:
    """Return what every child reads: this package, Python's library, the environment."""
    import mod_python

    return [
        Path(mod_python.__file__).resolve().parent,
        Path(os.__file__).resolve().parent,
        *dict.fromkeys(Path(prefix) for prefix in _prefixes()),
    ]


def _prefixes() -> list[str]:
    import sys

    return [sys.base_prefix, sys.prefix, sys.base_exec_prefix, sys.exec_prefix]


def _lookup(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def group_name(user: User) -> str:
    """Return the name of the user's primary group, or its number."""
    try:
        return grp.getgrgid(user.gid).gr_name
    except KeyError:
        return str(user.gid)
