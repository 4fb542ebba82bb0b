"""From a handler to the function that is to be called.

The dispatcher's loop has a short way for a handler whose module is loaded and
was checked within the last second.  This is the long way: apply PythonPath,
find the module, load or reload it, look up the object, and leave in the
`Handler` what the short way needs.
"""

from __future__ import annotations

from . import paths
from .handler import _EMPTY
from .lines import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from .handler import Handler
    from .importer import Importer

_MISSING = object()


def file_of(module: ModuleType) -> str:
    """Return a module's file for messages; its name if it has none."""
    return getattr(module, "__file__", None) or module.__name__


def resolve_object(module: ModuleType, obj_str: str, arg: Any = None, silent: int = 0) -> Any:
    """Resolve a dotted object name in a module.

    The name is resolved from left to right.  A class on the way is instantiated
    with `arg`, and the next component is taken from the instance, so that
    ``Auth.check`` makes ``Auth(arg)`` and gives its bound method ``check``.

    Args:
        module: where the first component is looked up.
        obj_str: the dotted name.
        arg: argument for classes on the way: request, connection or filter.
        silent: true to get None for a missing name.

    Returns:
        the object, or None.

    Raises:
        AttributeError: a component is missing and `silent` is false.
    """
    found: Any = module
    done = ""
    for component in obj_str.split("."):
        if done and isinstance(found, type):
            found = found(arg)
        following = getattr(found, component, _MISSING)
        if following is _MISSING:
            if silent:
                return None
            where = f"module '{file_of(module)}'" if not done else f"'{done}' in module '{file_of(module)}'"
            raise plain(AttributeError(f"{where} contains no '{component}'"))
        found = following
        done = f"{done}.{component}" if done else component
    return found


def prepare(handler: Handler, subject: Any, settings: tuple[Any, ...], importer: Importer) -> ModuleType:
    """Load a handler's module, or load it again, as the settings demand.

    Args:
        handler: the handler; what is found is stored in it.
        subject: the request, connection or server it is for.
        settings: (debug, autoreload, python_path, pdb[, importer_path]) in force.
        importer: the interpreter's importer.

    Returns:
        the module.

    Raises:
        Exception: PythonPath cannot be evaluated; the module is not found, or
            cannot be loaded.
    """
    debug, autoreload, python_path = settings[:3]
    if python_path is not None:
        paths.apply(python_path)
    known = handler.module
    if known is not None and handler.entry is None and handler.settings == settings:
        return known  # an ordinary module: never loaded again
    if handler.entry is None or handler.settings is None or handler.settings[4:] != settings[4:]:
        entry, module = importer.locate_handler(handler, subject, settings)
    else:
        entry, module = handler.entry, None
    if entry is not None:
        entry.asked()
        module = importer.get(entry, bool(autoreload), bool(debug))
        handler.due = entry.checked + importer.interval
    else:
        handler.due = float("inf")
    assert module is not None
    handler.entry = entry
    handler.module = module
    # Order matters: other threads take the short way once settings match.
    handler.namespace = _EMPTY if "." in handler.object_name else module.__dict__
    handler.skips = handler.silent and bool(handler.namespace) and "__getattr__" not in handler.namespace
    handler.settings = settings
    return module


def find(
    handler: Handler, name: str, arg: Any, settings: tuple[Any, ...], importer: Importer
) -> Callable[[Any], Any] | None:
    """Return the function of a handler.

    Args:
        handler: the handler.
        name: name of the object, dots allowed.
        arg: request or connection, for classes on the way.
        settings: the settings in force.
        importer: the interpreter's importer.

    Returns:
        the function, or None if it does not exist and the handler is silent.

    Raises:
        ValueError: the handler string is empty.
        AttributeError: the object does not exist.
        TypeError: it is not callable.
        Exception: see `prepare`.
    """
    if handler.function is not None:
        return handler.function
    if not handler.module_name:
        raise plain(ValueError(f"the handler {handler.text!r} names no module; write module or module::object"))
    module = prepare(handler, arg, settings, importer)
    if handler.silent and resolve_object(module, name.partition(".")[0], arg, 1) is None:
        return None
    found = resolve_object(module, name, arg)
    if not callable(found):
        handler.settings = None  # the short way would call it
        raise plain(
            TypeError(
                f"'{name}' in module '{file_of(module)}' is not callable: "
                f"it is {'None' if found is None else 'of type ' + type(found).__name__}"
            )
        )
    return found  # type: ignore[no-any-return]


def is_coroutine_function(function: Any) -> bool:
    """Tell whether calling something gives a coroutine: `async def`, or what wraps one.

    For every connection, so without `inspect`.  Known are functions, methods,
    `functools.partial`, instances with such a `__call__`, and what
    `inspect.markcoroutinefunction` marked.
    """
    for _ in range(10):  # partials of partials
        code = getattr(function, "__code__", None)
        if code is not None:
            return bool(code.co_flags & 0x80) or hasattr(function, "_is_coroutine_mark")  # inspect.CO_COROUTINE
        inner = getattr(function, "func", None)
        if inner is None or isinstance(function, type):
            break
        function = inner
    code = getattr(getattr(type(function), "__call__", None), "__code__", None)  # noqa: B004
    return code is not None and bool(code.co_flags & 0x80)
