# ruff: noqa: N999  (documented name)
"""Cookies: plain ones, signed ones, and signed ones that hold an object.

    from mod_python import Cookie

    def handler(req):
        seen = Cookie.get_cookie(req, "visits", Cookie.SignedCookie, secret=SECRET)
        number = int(seen.value) if type(seen) is Cookie.SignedCookie else 0
        Cookie.add_cookie(req, Cookie.SignedCookie("visits", number + 1, SECRET, httponly=True))

An object is one cookie, not a jar of them.  Nothing is quoted or encoded: a value that may contain ``;`` or
characters beyond Latin-1 has to be, for example with `urllib.parse.quote`.
"""

from __future__ import annotations

from ._cookies.plain import Cookie, CookieError
from ._cookies.signed import MarshalCookie, SignedCookie
from ._session.cookie import COOKIE, guard

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Cookie", "CookieError", "MarshalCookie", "SignedCookie", "add_cookie", "get_cookie", "get_cookies"]


def add_cookie(req: Any, cookie: Cookie | str, value: Any = "", **attributes: Any) -> None:
    """Add a cookie to the response.

    With the first one, ``Cache-Control: no-cache="set-cookie"`` is added too, and again when the response is sent if
    nothing says by then that shared caches must not keep the cookie.

    Args:
        req: the request.
        cookie: the cookie, or the name of one to make with `value` and `attributes`.

    Raises:
        CookieError: it is to be signed and has no secret.
        ValueError, AttributeError: as for `Cookie`.
    """
    if not isinstance(cookie, Cookie):
        cookie = Cookie(cookie, value, **attributes)
    text = str(cookie)
    headers = req.headers_out
    if "Set-Cookie" not in headers:
        headers.add("Cache-Control", 'no-cache="set-cookie"')
    headers.add("Set-Cookie", text)
    guard(req, COOKIE)


def get_cookies(req: Any, Class: type[Any] = Cookie, **kw: Any) -> dict[str, Any]:  # noqa: N803  (documented name)
    """Return the cookies that the client sent.

    Args:
        req: the request.
        Class: the class whose `parse` reads them.
        **kw: for `parse`: `names`; of signed cookies `secret`, `mismatch` and `accept_md5`.

    Returns:
        the cookies by name, none if the client sent none.
    """
    headers = req.headers_in
    if "Cookie" not in headers:
        return {}
    header = headers["Cookie"]
    if not isinstance(header, str):
        header = "; ".join(header)
    found: dict[str, Any] = Class.parse(header, **kw)
    return found


def get_cookie(req: Any, name: str, Class: type[Any] = Cookie, **kw: Any) -> Any:  # noqa: N803
    """Return one cookie that the client sent, or None.

    Args:
        req: the request.
        name: its name.
        Class, **kw: as for `get_cookies`.
    """
    kw.setdefault("names", (name,))
    return get_cookies(req, Class, **kw).get(name)
