"""Arguments that the author of a callable has bound: with `functools.partial`, on any level of it.

Loaded with forms, but without `functools` and `inspect`: a partial can only be met where somebody has
imported the former.
"""

from __future__ import annotations

import sys
from types import FunctionType, MethodType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["bindings", "is_partial_method"]

# Levels that are looked through. Nobody nests so many, and chains may be circular.
_MAX_LEVELS = 100


def is_partial_method(function: object) -> bool:
    """Whether a function is what `functools.partialmethod` gives for a callable without ``__get__``."""
    return _partial_method(function) is not None


def _partial_method(function: object) -> Any:
    for name in ("__partialmethod__", "_partialmethod"):  # from Python 3.13 on, and before
        found = getattr(function, name, None)
        if found is not None and not isinstance(function, type):
            return found
    return None


def bindings(callee: Any) -> tuple[set[str], set[str]]:
    """Find the arguments that are bound already, whatever passes them on.

    Looked through are `functools.partial` and ``partialmethod``, methods, classes, objects with ``__call__``
    and what `functools.wraps` has marked.

    Args:
        callee: any callable.

    Returns:
        (names of parameters that have a bound positional argument, names of bound keyword arguments).
    """
    functools: Any = sys.modules.get("functools")
    positional: set[str] = set()
    keywords: set[str] = set()
    if functools is None:
        return positional, keywords
    for level, bound in _levels(callee, (functools.partial, functools.partialmethod)):
        if isinstance(level, (functools.partial, functools.partialmethod)):
            keywords.update(level.keywords)
            # Those of Python 3.14 that are left open.
            given = [value for value in level.args if value is not getattr(functools, "Placeholder", level)]
            positional.update(_first_names(level.func, bound, len(given)))
    return positional, keywords


def _levels(callee: Any, partials: tuple[type, type]) -> Iterator[tuple[Any, int]]:
    """Yield a callable and all that it passes its arguments on to, each with whether it has its `self` before them."""
    waiting = [(callee, 0)]
    for _ in range(_MAX_LEVELS):
        if not waiting:
            return
        level, bound = waiting.pop()
        yield level, bound
        method = _partial_method(level)
        if method is not None:
            waiting.append((method, 1))
        wrapped = getattr(level, "__wrapped__", None)
        if wrapped is not None:
            waiting.append((wrapped, bound))
        if isinstance(level, partials):
            waiting.append((level.func, bound))  # type: ignore[attr-defined]
        elif isinstance(level, MethodType):
            waiting.append((level.__func__, 1))
        elif isinstance(level, type):
            # As they are in the class: what is made of them on access hides the rest.
            waiting += [(found, 1) for name in ("__init__", "__new__") if (found := _in_class(level, name))]
            if type(level) is not type and (found := _in_class(type(level), "__call__")):
                waiting.append((found, 1))
        elif not isinstance(level, FunctionType) and (found := _in_class(type(level), "__call__")):
            waiting.append((found, 1))


def _in_class(kind: type, name: str) -> Any:
    """A method of a class that is written in Python, without what access makes of it."""
    for base in kind.__mro__:
        found = base.__dict__.get(name)
        if found is not None:
            return found if isinstance(found, FunctionType) or hasattr(found, "func") else None
    return None


def _first_names(function: Any, bound: int, count: int) -> list[str]:
    """Names of the first positional parameters, as far as they can be given by name."""
    if not count:
        return []
    import inspect

    if isinstance(function, (staticmethod, classmethod)):
        bound = int(isinstance(function, classmethod))
        function = function.__func__
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p for p in parameters if p.kind in kinds][bound : bound + count]
    return [p.name for p in names if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
