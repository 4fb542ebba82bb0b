"""``__auth__``, ``__access__`` and ``__auth_realm__`` inside functions, read from compiled code.

    def page(req):
        def __auth__(req, user, password):
            return password == "secret"
        __auth_realm__ = "Members"
        ...

The function is not run to find out.  Each name must be bound exactly once, in one
of two ways: by a nested ``def`` without decorators, defaults and variables of
the function around it, or by a constant.  Both are recognised by what stands
immediately before the instruction that binds the name, and by no jump leading
in between.  Whatever else mentions one of the names as a variable of its own is
an error: a page must not be open to all because its lock was not understood.
"""

from __future__ import annotations

from types import CodeType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dis import Instruction
    from typing import Any

NAMES = ("__auth__", "__access__", "__auth_realm__")

# Parts of a function that do not matter when it is called: annotations, as a
# tuple or (from 3.14) as a function.
_HARMLESS = 0x04 | 0x10
_NO_PLAIN_FUNCTION = 0x20 | 0x80 | 0x100 | 0x200  # generator, coroutine, both kinds of mixtures
_SKIPPED = ("EXTENDED_ARG", "NOP", "CACHE", "RESUME", "NOT_TAKEN")

_NOTHING: dict[str, Any] = {}


class NestedError(RuntimeError):
    """A function has one of the names in a form that cannot be evaluated."""


def find(code: CodeType, title: str) -> dict[str, Any]:
    """Return what a function binds to the names in its body.

    Args:
        code: the function's code; it is not run.
        title: the function's name, for messages.

    Returns:
        name -> constant, or code of a nested function, for those that occur.

    Raises:
        NestedError: one of them cannot be evaluated.
    """
    variables = code.co_varnames + code.co_cellvars
    mentioned = [name for name in NAMES if name in variables]
    if not mentioned and not any(name in code.co_names for name in NAMES):
        return _NOTHING
    found: dict[str, Any] = {}
    bound: dict[str, int] = dict.fromkeys(mentioned, 0)
    from dis import get_instructions

    where = f"{code.co_filename}, line {code.co_firstlineno}, in {title}()"
    instructions = [step for step in get_instructions(code) if step.opname not in _SKIPPED]
    for index, step in enumerate(instructions):
        for name, first in _bindings(step):
            bound[name] = bound.get(name, 0) + 1
            if bound[name] > 1:
                raise NestedError(f"{where}: {name} is bound more than once; bind it once")
            if not first:
                raise NestedError(f"{where}: {name} is bound in a way that cannot be evaluated{_ADVICE}")
            found[name] = _value(instructions, index, name, where)
    for name, times in bound.items():
        if not times:
            raise NestedError(f"{where}: {name} occurs there, but is not bound in its body{_ADVICE}")
    return found


_ADVICE = (
    "; write it as a nested def without decorators, defaults and outer variables, or as a constant, "
    "or use @publish(auth=..., access=...)"
)


def _bindings(step: Instruction) -> list[tuple[str, bool]]:
    """The names that an instruction binds, and whether it takes what was pushed last."""
    opname = step.opname
    if not opname.startswith(("STORE_", "DELETE_")) or opname.endswith("_ATTR"):
        return []
    value = step.argval
    if isinstance(value, str):
        return [(value, opname in ("STORE_FAST", "STORE_DEREF"))] if value in NAMES else []
    if isinstance(value, tuple):  # two instructions in one, since 3.13
        second = opname.count("STORE_") == 2
        pairs = [(value[0], True), (value[1], False)] if second else [(value[0], True)]
        return [(name, first) for name, first in pairs if name in NAMES]
    return []


def _value(instructions: list[Instruction], index: int, name: str, where: str) -> Any:
    """What is bound by the instruction at an index."""

    def unknown(why: str = "") -> NestedError:
        return NestedError(f"{where}: {name} cannot be evaluated{why}{_ADVICE}")

    if instructions[index].is_jump_target:
        raise unknown(" (it depends on a condition)")
    before = instructions[index - 1] if index else None
    flags = 0
    while before is not None and before.opname == "SET_FUNCTION_ATTRIBUTE":  # since 3.13
        if before.is_jump_target:
            raise unknown()
        flags |= before.arg or 0
        index -= 1
        before = instructions[index - 1]
    if before is None:
        raise unknown()
    if before.opname in ("LOAD_CONST", "LOAD_SMALL_INT", "LOAD_CONST_IMMORTAL") and not flags:
        if isinstance(before.argval, CodeType):
            raise unknown()
        return before.argval
    # Since 3.15: None, True, False, "" and -1; the others of this instruction are classes and functions.
    if before.opname == "LOAD_COMMON_CONSTANT" and not flags:
        value = before.argval
        if (value is None or isinstance(value, (bool, int, str))) and before.argrepr == repr(value):
            return value
        raise unknown()
    if before.opname != "MAKE_FUNCTION" or index < 2 or before.is_jump_target:
        raise unknown()
    flags |= before.arg or 0
    source = instructions[index - 2]
    code = source.argval
    if source.opname != "LOAD_CONST" or not isinstance(code, CodeType):
        raise unknown()
    if code.co_name != name:
        raise unknown(f" (it is the function {code.co_name})")
    if code.co_freevars:
        raise unknown(f" (it uses {', '.join(code.co_freevars)} of the function around it)")
    if flags & ~_HARMLESS:
        raise unknown(" (it has defaults)")
    if code.co_flags & _NO_PLAIN_FUNCTION:
        raise unknown(" (it is a generator or coroutine)")
    return code
