"""`apache.table` outside httpd: the same behaviour in pure Python.

Inside httpd `apache.table` wraps APR tables.  Unit tests of handlers, and the fake
objects of the test kit, use this class in its place.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_FOLD = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def _text(value: object) -> str:
    """Check a key or value: str within Latin-1, or bytes, without NUL."""
    if isinstance(value, bytes):
        text = value.decode("latin-1")
    elif isinstance(value, str):
        text = value
        try:
            text.encode("latin-1")
        except UnicodeEncodeError:
            raise TypeError(f"not an ISO-8859-1 string: {text!r:.60}") from None
    else:
        raise TypeError(f"table keys and values must be str or bytes, not {type(value).__name__}")
    if "\0" in text:
        raise ValueError("table keys and values must not contain NUL")
    return text


def _convert(value: object) -> str:
    """Make a key or value of anything, for the constructor and `update`."""
    return _text(value if isinstance(value, (str, bytes)) else str(value))


def _fold(key: str) -> str:
    """Fold ASCII letters only, as httpd does."""
    return key.translate(_FOLD)


class mp_table:  # noqa: N801  (type name that applications print)
    """An ordered, case-insensitive map from str to str; keys may occur repeatedly.

    Args:
        items: a mapping, or a sequence of (key, value) pairs of which later ones
            replace earlier ones; what is no str or bytes is converted with str().

    Raises:
        TypeError: an element of the sequence is no sequence; or text is outside
            Latin-1.
        ValueError: such an element does not have two members; or text contains NUL.
    """

    __slots__ = ("__dict__", "_entries")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, items: Any = None) -> None:
        self._entries: list[tuple[str, str, str | None]] = []  # folded key, key, value
        if items is None:
            return
        if hasattr(items, "keys"):
            self.update(items)
            return
        for number, pair in enumerate(items):
            try:
                pair = tuple(pair)
            except TypeError:
                raise TypeError(f"cannot convert table update sequence element #{number} to a sequence") from None
            if len(pair) != 2:
                raise ValueError(f"table update sequence element #{number} has length {len(pair)}; 2 is required")
            self[_convert(pair[0])] = _convert(pair[1])

    def _all(self, folded: str) -> list[str | None]:
        return [value for entry, _, value in self._entries if entry == folded]

    def __getitem__(self, key: str | bytes) -> str | list[str | None] | None:
        """Return the value; a list of all of them if the key occurs repeatedly."""
        values = self._all(_fold(_text(key)))
        if not values:
            raise KeyError(key)
        return values[0] if len(values) == 1 else values

    def __setitem__(self, key: str | bytes, value: str | bytes) -> None:
        """Replace all entries of the key by one, in the place of the first."""
        name = _text(key)
        folded = _fold(name)
        new = (folded, name, _text(value))
        entries = self._entries
        for index, entry in enumerate(entries):
            if entry[0] == folded:
                rest = [later for later in entries[index + 1 :] if later[0] != folded]
                entries[index:] = [(folded, entry[1], new[2]), *rest]
                return
        entries.append(new)

    def __delitem__(self, key: str | bytes) -> None:
        """Remove all entries of the key; no error if there is none."""
        folded = _fold(_text(key))
        self._entries[:] = [entry for entry in self._entries if entry[0] != folded]

    def add(self, key: str | bytes, value: str | bytes) -> None:
        """Append an entry, keeping those that the key already has."""
        name = _text(key)
        self._entries.append((_fold(name), name, _text(value)))

    def __contains__(self, key: object) -> bool:
        folded = _fold(_text(key))
        return any(entry[0] == folded for entry in self._entries)

    def has_key(self, key: str | bytes) -> int:
        """Return 1 if the key occurs, else 0."""
        return int(key in self)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str | bytes, default: Any = None) -> Any:
        """Return the first value of the key, or `default`."""
        folded = _fold(_text(key))
        for entry in self._entries:
            if entry[0] == folded:
                return entry[2]
        return default

    def setdefault(self, key: str | bytes, value: str | bytes = "") -> str | None:
        """Return the first value of the key; if it is missing, store `value`."""
        folded = _fold(_text(key))
        for entry in self._entries:
            if entry[0] == folded:
                return entry[2]
        self[key] = value
        return _text(value)

    def keys(self) -> list[str]:
        """Return the keys, one for each entry, in order."""
        return [key for _, key, _ in self._entries]

    def values(self) -> list[str | None]:
        """Return the values, one for each entry, in order."""
        return [value for _, _, value in self._entries]

    def items(self) -> list[tuple[str, str | None]]:
        """Return (key, value) of each entry, in order."""
        return [(key, value) for _, key, value in self._entries]

    def iteritems(self) -> Iterator[tuple[str, str | None]]:
        """Iterate over (key, value).

        Raises:
            RuntimeError: the number of entries changes meanwhile.
        """
        return self._steps(len(self._entries))

    def _steps(self, size: int) -> Iterator[tuple[str, str | None]]:
        entries = self._entries
        for index in range(size):
            if len(entries) != size:
                raise RuntimeError("table changed size during iteration")
            _, key, value = entries[index]
            yield key, value
        if len(entries) != size:
            raise RuntimeError("table changed size during iteration")

    def iterkeys(self) -> Iterator[str]:
        """Iterate over the keys; see `iteritems`."""
        return (key for key, _ in self.iteritems())

    def itervalues(self) -> Iterator[str | None]:
        """Iterate over the values; see `iteritems`."""
        return (value for _, value in self.iteritems())

    __iter__ = iterkeys

    def popitem(self) -> tuple[str, str | None]:
        """Remove the last entry and return its (key, value).

        Raises:
            KeyError: the table is empty.
        """
        if not self._entries:
            raise KeyError("popitem(): table is empty")
        _, key, value = self._entries.pop()
        return key, value

    def update(self, mapping: Any) -> None:
        """Set every key of a mapping; what is no str or bytes is converted with str().

        Keys that occur repeatedly in another table keep all their values.

        Raises:
            AttributeError: the argument has no ``keys``.
        """
        if mapping is self:
            return
        if isinstance(mapping, mp_table):
            for key in mapping:
                del self[key]
            self._entries += list(mapping._entries)
            return
        for key in mapping.keys():  # noqa: SIM118  (anything that has keys())
            self[_convert(key)] = _convert(mapping[key])

    def clear(self) -> None:
        """Remove everything."""
        self._entries.clear()

    def copy(self) -> mp_table:
        """Return an independent table with the same entries."""
        copied = mp_table()
        copied._entries = list(self._entries)
        return copied

    def _as_dict(self) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for folded, _, _ in self._entries:
            if folded not in result:
                values = self._all(folded)
                result[folded] = values[0] if len(values) == 1 else values
        return result

    def __eq__(self, other: object) -> bool:
        """Compare like the dictionaries {key: self[key]}; case of keys does not matter."""
        if isinstance(other, mp_table):
            return self._as_dict() == other._as_dict()
        keys = getattr(other, "keys", None)
        if keys is None or not hasattr(other, "__getitem__"):
            return NotImplemented
        theirs = {_fold(key) if isinstance(key, str) else key: other[key] for key in keys()}
        return self._as_dict() == theirs

    def __repr__(self) -> str:
        inside = ", ".join([f"{key!r}: {value!r}" for key, value in self.items()])
        return "{" + inside + "}"
