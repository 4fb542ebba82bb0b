"""Calling something with the fields of a form as its arguments."""

from __future__ import annotations

from types import BuiltinFunctionType, FunctionType, MethodType
from weakref import WeakKeyDictionary

from .bound import bindings, is_partial_method
from .fields import StringField

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .storage import FieldStorage

__all__ = ["apply_fs_data"]

_VAR_KEYWORDS = 0x08  # inspect.CO_VARKEYWORDS

# What a callable accepts: names that it has; names that it must not be given; names that a form must
# not give it, because its author has bound them; and whether it takes any others.
Accepted = tuple[tuple[str, ...], tuple[str, ...], frozenset[str], bool]

_NONE: frozenset[str] = frozenset()
_NOTHING: Accepted = ((), (), _NONE, False)

# For callables whose signature takes time to find; that of a function is in its code. The
# keys are not bound methods, which are made anew for each call: what is found for a function
# without and with its first argument are two things.
_found: tuple[WeakKeyDictionary[Any, Accepted], ...] = (WeakKeyDictionary(), WeakKeyDictionary())


def _of_code(code: Any, bound: int) -> Accepted:
    """What a function accepts, less the first `bound` arguments, which it has already."""
    bound = min(bound, code.co_argcount)
    first = max(bound, code.co_posonlyargcount)
    names = code.co_varnames[first : code.co_argcount + code.co_kwonlyargcount]
    # A positional-only name may be a keyword's, too.
    taken = code.co_varnames[code.co_posonlyargcount : bound]
    return names, taken, _NONE, bool(code.co_flags & _VAR_KEYWORDS)


def _inspected(object: Any) -> Accepted:  # noqa: A002
    """What `inspect` knows of a callable."""
    import inspect

    try:
        parameters = inspect.signature(object).parameters.values()
    except (TypeError, ValueError):
        return _NOTHING
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    taken, bound = bindings(object)
    names = [name for name in names if name not in taken]
    return tuple(names), tuple(taken), frozenset(bound), any(p.kind is p.VAR_KEYWORD for p in parameters)


def _cached(object: Any, function: Any, bound: int) -> Accepted:  # noqa: A002
    cache = _found[bound]
    try:
        found = cache.get(function)
        if found is None:
            found = cache[function] = _inspected(object)
    except TypeError:  # neither hashable nor weakly referable
        return _inspected(object)
    return found


def _accepted(object: Any) -> Accepted:  # noqa: A002
    """Find out what a callable accepts."""
    function: Any
    bound = 1
    if isinstance(object, FunctionType):
        function = object
        bound = 0
    elif isinstance(object, MethodType):
        function = object.__func__
    elif isinstance(object, BuiltinFunctionType):
        return _NOTHING
    elif isinstance(object, type):
        function = object.__init__  # type: ignore[misc]
    else:
        function = type(object).__call__
    if not isinstance(function, FunctionType):
        return _cached(object, object, 0)
    found = _of_code(function.__code__, bound)
    if found[3] and (hasattr(function, "__wrapped__") or is_partial_method(function)):
        # A function that passes on what it gets: what counts is the function behind it.
        names, taken, refused, more = _cached(object, function, bound)
        return found[0] + names, found[1] + taken, refused, more
    return found


def apply_fs_data(object: Any, fs: FieldStorage, **args: Any) -> Any:  # noqa: A002  (documented names)
    """Call something with the fields of a form as keyword arguments.

    An upload is passed as its `Field`, any other field as its value, several fields of a
    name as a list. What the callable does not accept is left out. The caller's arguments
    go before fields of the same name, and so do arguments that were bound with
    `functools.partial` or `functools.partialmethod`: no field can replace them.

    Args:
        object: A function, a method, a class, an instance with ``__call__``. A built-in
            function is called without arguments.
        fs: The form.
        **args: More arguments; those that the callable does not accept are left out.

    Returns:
        What the call returns.

    Raises:
        TypeError: From the callable itself, if an argument is missing.
    """
    names, taken, bound, more = _accepted(object)
    arguments: dict[str, Any] = {}
    if names or more:
        for name, fields in fs.list.table().items() if fs.list else ():
            if name is None or name in args or name in bound:
                continue
            if name in names or (more and name not in taken):
                values = [field.value if isinstance(field, StringField) else field for field in fields]
                arguments[name] = values[0] if len(values) == 1 else values
        for name in args:
            if name in names or (more and name not in taken):
                arguments[name] = args[name]
    return object(**arguments)
