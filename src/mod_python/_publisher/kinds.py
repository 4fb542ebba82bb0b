"""What may be walked through on the way to an object, and what may be published.

A module is full of things that its author never meant to publish: what it
imported.  So modules, classes and built-in functions are refused, and so are
functions of the standard library and of mod_python; everything whose class is
built-in or from the standard library is the end of the way, so that nobody
reaches the methods of a dictionary, a logger or a path.
"""

from __future__ import annotations

import os
import sys
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    ModuleType,
    WrapperDescriptorType,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Name of the attribute that `publish` sets.
MARK = "__published__"

REFUSED: tuple[type, ...] = (
    ModuleType,
    type,
    BuiltinFunctionType,
    WrapperDescriptorType,
    MethodWrapperType,
    MethodDescriptorType,
    ClassMethodDescriptorType,
    GetSetDescriptorType,
    MemberDescriptorType,
    type(os.environ),  # imported everywhere, and full of secrets
)

_STDLIB = os.path.dirname(os.__file__) + "/"
_SITE = (_STDLIB + "site-packages/", _STDLIB + "dist-packages/")


# Names of modules that are neither, as far as they are known; a program has no more
# modules than that, unless it makes up names.
_plain_modules: set[str] = set()
_MOST_MODULES = 4096


def _is_stdlib(name: object) -> bool:
    return isinstance(name, str) and name.partition(".")[0] in sys.stdlib_module_names


def is_foreign(function: FunctionType) -> bool:
    """Whether a function belongs to the standard library or to mod_python.

    A function that a decorator of the standard library has made for somebody
    else's has the name of that one's module.

    Args:
        function: a Python function.
    """
    module: object = function.__module__  # decorators assign what they like
    if not isinstance(module, str) or module in _plain_modules:
        return False
    if module.partition(".")[0] == "mod_python":
        return True
    if not _is_stdlib(module):
        if len(_plain_modules) < _MOST_MODULES:
            _plain_modules.add(module)
        return False
    # A program's own code.py or test.py is no part of the library.
    file = function.__code__.co_filename
    return file.startswith("<frozen ") or (file.startswith(_STDLIB) and not file.startswith(_SITE))


def is_traversable(obj: Any) -> bool:
    """Whether attributes of an object may be reached by URL.

    Args:
        obj: the object.
    """
    if isinstance(obj, (FunctionType, MethodType, *REFUSED)):
        return False
    for kind in type(obj).__mro__:
        # Subclasses of what is built in count as built in; `object` does not.
        if kind is not object and kind.__flags__ & _HEAP_TYPE == 0:
            return False
    return not _is_stdlib(type(obj).__module__)


_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement, or by a newer extension


def is_publishable(obj: Any) -> bool:
    """Whether an object may be sent or called.

    Args:
        obj: the object.
    """
    if obj.__class__ is FunctionType:
        return not is_foreign(obj) or is_marked(obj)
    if isinstance(obj, REFUSED):
        return False
    function = obj.__func__ if isinstance(obj, MethodType) else obj
    if isinstance(function, FunctionType):
        return not is_foreign(function) or is_marked(obj)
    # A method of a built-in object, or of what an extension module makes.
    return not isinstance(obj, MethodType) or is_marked(obj)


def is_marked(obj: Any) -> bool:
    """Whether an object, or its class, was marked with `publish`.

    No code of the object is run: one that has every attribute is not marked.

    Args:
        obj: the object.
    """
    if isinstance(obj, MethodType):
        obj = obj.__func__
    try:
        own = object.__getattribute__(obj, "__dict__")
    except AttributeError:
        own = None
    if isinstance(own, dict) and own.get(MARK) is True:
        return True
    return any(kind.__dict__.get(MARK) is True for kind in type(obj).__mro__)
