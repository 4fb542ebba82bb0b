"""The cookie of a session, in the response that the client gets.

An internal redirect begins a response without the headers of the former one, an error page drops them, and those of
a sub-request are not sent.  So a cookie is put among the headers of the main request, and its line is noted there: the
shell sends noted lines that were left behind (``head.c``).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mod_python import Cookie

COOKIE, SESSION, STORED = 1, 2, 4  # MP_HEAD_* of the shell
_NOTE = "mod_python.session.cookie:"  # MP_COOKIE_NOTE of the shell


def guard(req: Any, what: int) -> None:
    """Keep a response from shared caches, or its cookie.

    Args:
        req: the request.
        what: `COOKIE` for a response that sets a cookie, `SESSION` for one that depends on a session; `STORED` if that
            was stored, or has ended: only then its cookie is part of an error response.
    """
    found = getattr(req, "_guard_head", None)  # not that of a stand-in for unit tests
    if found is not None:
        found(what)


def carrier(req: Any) -> Any:
    """Return the request whose headers are sent: that or its main request."""
    while True:
        main = getattr(req, "main", None)
        if main is None:
            return req
        req = main


def send(req: Any, cookie: Cookie.Cookie) -> None:
    """Have a cookie sent, in place of one with the same name and scope that a session has had sent before."""
    req = carrier(req)
    attributes = vars(cookie)
    note = f"{_NOTE}{cookie.name};{attributes.get('domain', '')};{attributes.get('path', '')}"
    line = str(cookie)
    headers = req.headers_out
    at = req
    while at is not None:
        notes = getattr(at, "notes", None)
        before = notes.get(note) if notes is not None else None
        if notes is not None and before is not None:
            del notes[note]
            if at is req:
                _remove(headers, before)
        at = getattr(at, "prev", None)
    headers.add("Set-Cookie", line)
    if getattr(req, "notes", None) is not None:
        req.notes[note] = line


def _remove(headers: Any, line: str) -> None:
    lines = headers.get("Set-Cookie", ())
    if isinstance(lines, str):
        lines = (lines,)
    if line not in lines:
        return
    del headers["Set-Cookie"]
    for other in lines:
        if other != line:
            headers.add("Set-Cookie", other)
