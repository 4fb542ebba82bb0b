"""Reading ``PythonOption``s: old names, switches, numbers."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TRUE = ("yes", "true", "1", "on")
_FALSE = ("no", "false", "0", "off")


def text(options: Any, *names: str) -> str | None:
    """Return the value of the first of these options that is set, else None."""
    for name in names:
        value = options.get(name)
        if value:
            return str(value)
    return None


def switch(options: Any, default: bool, *names: str) -> bool:
    """Return a switch.

    Raises:
        ValueError: it is neither on nor off.
    """
    value = text(options, *names)
    return default if value is None else as_switch(value, names[0])


def as_switch(value: object, name: str) -> bool:
    """Return whether a value means yes.

    Raises:
        ValueError: it means neither yes nor no.
    """
    word = str(value).lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(f"{name} is {value!r}; write yes or no")


def seconds(options: Any, default: float, *names: str) -> float:
    """Return a number of seconds, 0 or more.

    Raises:
        ValueError: it is none.
    """
    value = text(options, *names)
    if value is None:
        return default
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0.0 <= number < 1e9:
        raise ValueError(f"PythonOption {names[0]} is {value!r}; write a number of seconds")
    return number
