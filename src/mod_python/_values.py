"""Python's plain values as JSON, and back as they were.

For sessions and for cookies that hold an object.  JSON itself would turn tuples into lists and the keys of
dictionaries into texts; here what it does not have is an object with the one key ``"!"`` whose value is a list of
the kind and the contents.  Reading makes nothing but the values listed at `dumps`, so that no text, whoever wrote
it, runs code.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MARK = "!"
_PLAIN = (str, int, bool, float, type(None))


def dumps(value: object) -> bytes:
    """Write a value.

    Args:
        value: None, bool, int, float, str, bytes, list, tuple, set, frozenset, dict (with keys of any of these that
            can be one), datetime, date, time, timedelta, Decimal or UUID, and these in one another.

    Returns:
        ASCII text.

    Raises:
        TypeError: a value of another type; the message says where.
        ValueError: values that contain themselves, or too deeply nested ones.
    """
    try:
        return json.dumps(_tagged(value, ""), separators=(",", ":")).encode("ascii")
    except RecursionError:
        raise ValueError("the value contains itself, or is nested too deeply") from None


def loads(data: bytes) -> Any:
    """Read what `dumps` has written.

    Raises:
        ValueError: it is something else.
    """
    try:
        return json.loads(data, object_hook=_untagged)
    except Exception as exc:  # the constructors raise what they like
        raise ValueError(f"this is no stored value: {exc}") from None


def _tagged(value: Any, where: str) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list:
        return [_tagged(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, dict):
        return _tagged_dict(value, where)
    if kind is tuple:
        return {_MARK: ["tuple", *(_tagged(item, f"{where}[{index}]") for index, item in enumerate(value))]}
    if kind in (set, frozenset):
        return {_MARK: [kind.__name__, *(_tagged(item, f"{where}{{}}") for item in value)]}
    if kind in (bytes, bytearray):
        import base64

        return {_MARK: ["bytes", base64.b64encode(value).decode("ascii")]}
    if kind.__module__ in ("datetime", "decimal", "uuid"):
        simple = _simple(value, kind.__name__)
        if simple is not None:
            return {_MARK: simple}
    # Subclasses, such as those of enum, and of frameworks, as what they are in the end.
    for base in (str, bool, int, float):
        if isinstance(value, base):
            return base(value)
    if isinstance(value, (list, tuple)):
        return _tagged((list if isinstance(value, list) else tuple)(value), where)
    raise TypeError(f"{kind.__module__}.{kind.__qualname__} cannot be stored" + (f" (at {where})" if where else ""))


def _tagged_dict(value: dict[Any, Any], where: str) -> Any:
    if all(type(key) is str for key in value) and _MARK not in value:
        return {key: _tagged(item, f"{where}[{key!r}]") for key, item in value.items()}
    items = [[_tagged(key, f"{where}{{}}"), _tagged(item, f"{where}[{key!r}]")] for key, item in value.items()]
    return {_MARK: ["dict", *items]}


def _simple(value: Any, kind: str) -> list[Any] | None:
    if kind == "timedelta":
        return [kind, value.days, value.seconds, value.microseconds]
    if kind in ("datetime", "date", "time"):
        return [kind, value.isoformat()]
    if kind in ("Decimal", "UUID"):
        return [kind, str(value)]
    return None


def _untagged(found: dict[str, Any]) -> Any:
    if len(found) != 1 or _MARK not in found:
        return found
    kind, *contents = found[_MARK]
    make = _MAKERS.get(kind)
    if make is None:
        raise ValueError(f"this is no stored value: nothing is called {kind!r}")
    return make(contents)


def _make_bytes(contents: list[Any]) -> bytes:
    import base64

    (text,) = contents
    return base64.b64decode(text, validate=True)


def _of_datetime(kind: str) -> Callable[[list[Any]], Any]:
    def make(contents: list[Any]) -> Any:
        import datetime

        made = getattr(datetime, kind)
        return made(*contents) if kind == "timedelta" else made.fromisoformat(*contents)

    return make


def _make_decimal(contents: list[Any]) -> Any:
    from decimal import Decimal

    return Decimal(*contents)


def _make_uuid(contents: list[Any]) -> Any:
    from uuid import UUID

    (text,) = contents
    return UUID(text)


_MAKERS: dict[str, Callable[[list[Any]], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "bytes": _make_bytes,
    "dict": dict,
    "datetime": _of_datetime("datetime"),
    "date": _of_datetime("date"),
    "time": _of_datetime("time"),
    "timedelta": _of_datetime("timedelta"),
    "Decimal": _make_decimal,
    "UUID": _make_uuid,
}
