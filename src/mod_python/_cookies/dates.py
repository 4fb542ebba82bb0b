"""The date of the attribute ``expires``: ``Wdy, DD-Mon-YYYY HH:MM:SS GMT``.

Not with `time.strftime`, whose names of days and months follow the process' locale.
"""

from __future__ import annotations

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TEMPLATE = "Wdy, 00-Mon-0000 00:00:00 GMT"


def cookie_date(seconds: float) -> str:
    """Write a time as cookies have it.

    Args:
        seconds: since the epoch.

    Raises:
        ValueError: no calendar has that time.
    """
    import time

    try:
        year, month, day, hour, minute, second, weekday, *_ = time.gmtime(seconds)
    except (OverflowError, OSError, ValueError):
        raise ValueError(f"expires: {seconds!r} is no time that a cookie could have") from None
    if not 0 < year < 10000:
        raise ValueError(f"expires: {seconds!r} is no time that a cookie could have")
    return f"{_DAYS[weekday]}, {day:02d}-{_MONTHS[month - 1]}-{year:04d} {hour:02d}:{minute:02d}:{second:02d} GMT"


def is_cookie_date(text: str) -> bool:
    """Whether a text has exactly that form."""
    if len(text) != len(_TEMPLATE) or text[:3] not in _DAYS or text[8:11] not in _MONTHS:
        return False
    for expected, actual in zip(_TEMPLATE, text, strict=True):
        if expected == "0":
            if actual not in "0123456789":
                return False
        elif not expected.isalpha() and actual != expected:
            return False
    return (
        text.endswith(" GMT")
        and 1 <= int(text[5:7]) <= 31
        and int(text[17:19]) < 24
        and int(text[20:22]) < 60
        and int(text[23:25]) <= 60
    )
