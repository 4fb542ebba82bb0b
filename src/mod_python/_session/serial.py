"""Sessions as bytes: JSON, or pickle if the configuration says so.

Either is read where pickle is allowed; with JSON a pickle is not touched.
"""

from __future__ import annotations

from mod_python import _values

from .errors import SessionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OPTION = "mod_python.session.serializer"


class Serializer:
    """Writes and reads the dictionaries of `do_save` and `do_load`.

    Args:
        name: ``json`` or ``pickle``.

    Raises:
        ValueError: it is neither.
    """

    def __init__(self, name: str) -> None:
        if name not in ("json", "pickle"):
            raise ValueError(f"PythonOption {OPTION} is {name!r}; it can be json or pickle")
        self.pickles = name == "pickle"

    def dumps(self, stored: dict[str, Any]) -> bytes:
        """Write a session.

        Raises:
            SessionError: JSON cannot express one of its values.
        """
        if self.pickles:
            import pickle

            return pickle.dumps(stored, 4)
        try:
            return _values.dumps(stored)
        except (TypeError, ValueError) as exc:
            raise SessionError(
                f"the session cannot be saved: {exc}; store plain values, or trust the store and set PythonOption "
                f"{OPTION} pickle"
            ) from None

    def loads(self, data: bytes) -> dict[str, Any] | None:
        """Read a session.

        Returns:
            the dictionary, or None if the bytes are not one, or a pickle that is not allowed.
        """
        try:
            if data[:1] == b"{":
                found = _values.loads(data)
            elif self.pickles:
                import pickle

                found = pickle.loads(data)
            else:
                return None
        except Exception:  # a pickle raises what it likes
            return None
        if not isinstance(found, dict) or not isinstance(found.get("_data"), dict):
            return None
        for key in ("_created", "_accessed", "_timeout"):
            if not isinstance(found.get(key), (int, float)):
                return None
        return found


_known: dict[str, Serializer] = {}


def serializer(options: Any) -> Serializer:
    """Return the one that the configuration asks for.

    Raises:
        ValueError: it asks for an unknown one.
    """
    name = (options.get(OPTION) or "json").lower()
    found = _known.get(name)
    if found is None:
        found = _known.setdefault(name, Serializer(name))
    return found
