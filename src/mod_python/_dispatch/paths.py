"""PythonPath: expressions that replace `sys.path`.

Each expression text is evaluated once per interpreter, just before the first
handler to which it applies is loaded.  Several texts in one interpreter are
applied in the order in which they are met, and code that changes `sys.path`
later is not undone.  This is convenience, not a security boundary.
"""

from __future__ import annotations

import sys
from _thread import RLock

# RLock: an expression may import a module that applies another expression.
_lock = RLock()
_applied: set[str] = set()

# Directories that were put on `sys.path` here, which who restores it has to leave there.
placed: set[str] = set()


def apply(expression: str) -> None:
    """Evaluate a PythonPath expression and make the result `sys.path`.

    The names available are those of `mod_python.apache`, `sys` and `os` among
    them.  `sys.path` is changed in place.  An expression that was applied before
    is not evaluated again; one that failed is.

    Args:
        expression: the text of the directive, for example
            ``sys.path + ['/srv/lib']``.

    Raises:
        TypeError: the result is not a list of str.
        Exception: whatever the expression raises.
    """
    if expression in _applied:
        return
    with _lock:
        if expression in _applied:
            return
        from mod_python import apache

        result = eval(expression.strip(), dict(vars(apache)))
        if not isinstance(result, list) or not all(isinstance(item, str) for item in result):
            raise TypeError(
                f"PythonPath must be an expression that gives a list of directories (str); "
                f"{expression!r} gives {result!r:.200}"
            )
        placed.update(result)
        sys.path[:] = result
        _applied.add(expression)


def same_directory(one: str, other: str) -> bool:
    """Whether two directory names are equal but for trailing slashes."""
    return (one.rstrip("/") or "/") == (other.rstrip("/") or "/")


def contains(directory: str) -> bool:
    """Whether `sys.path` contains a directory, with or without trailing slash."""
    return any(same_directory(item, directory) for item in list(sys.path))


def add(directory: str, first: bool) -> None:
    """Put a directory on `sys.path` unless it is there already.

    Args:
        directory: the directory.
        first: True to put it at the front, False at the end.
    """
    with _lock:
        if not contains(directory):
            name = directory.rstrip("/") or "/"
            placed.add(name)
            if first:
                sys.path.insert(0, name)
            else:
                sys.path.append(name)
