"""What is said once per interpreter and process, such as that a name is old."""

from __future__ import annotations

_told: set[str] = set()


def first_time(what: str) -> bool:
    """Whether this has not been asked before of the same text."""
    if what in _told:
        return False
    _told.add(what)
    return True
