"""Cookies with a signature: `SignedCookie` and `MarshalCookie`.

The format, signature and value in one, is that of the old mod_python, so that what applications do with it goes on
working; a library would have its own.  The code itself is HMAC-SHA-256 of the standard library.
"""

from __future__ import annotations

from .plain import Cookie, CookieError, _wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_LENGTH = 64  # of the signature, in characters
_OLD_LENGTH = 32  # of that with MD5


class SignedCookie(Cookie):
    """A cookie that the client cannot change, but can read.

    Sent is the hexadecimal HMAC of name and value, and then the value.

    Args:
        name, value, **attributes: as for `Cookie`.
        secret: the key, str (UTF-8) or bytes; needed to write the cookie.
    """

    def __init__(self, name: str, value: Any, secret: str | bytes | None = None, **attributes: Any) -> None:
        super().__init__(name, value, **attributes)
        self.__data__["secret"] = secret

    @classmethod
    def parse(  # type: ignore[override]  # as it has always been
        cls,
        string: str,
        secret: str | bytes,
        mismatch: int = Cookie.DOWNGRADE,
        names: str | Iterable[str] | None = None,
        accept_md5: bool = False,
    ) -> dict[str, Any]:
        """Read the cookies of a ``Cookie`` header and verify them.

        Args:
            string: value of the header.
            secret: the key.
            mismatch: what to do with cookies whose signature is wrong: ``Cookie.DOWNGRADE``: they are `Cookie`
                objects with the signature, if that is one, in the value; ``Cookie.IGNORE``: they are left out;
                ``Cookie.EXCEPTION``: `CookieError`.
            names: which cookies are wanted; None for all.
            accept_md5: accept the signatures of mod_python 3 as well.

        Returns:
            the cookies by name.  Look at the type of each: only those of this class are verified.
        """
        found: dict[str, Any] = {}
        for name, value in _wanted(string, names).items():
            cookie = cls(name, value)
            try:
                cookie.unsign(secret, accept_md5)
            except CookieError:
                if mismatch == Cookie.EXCEPTION:
                    raise
                if mismatch == Cookie.IGNORE:
                    continue
                found[name] = Cookie(name, value)
            else:
                found[name] = cookie
        return found

    def hexdigest(self, str: str) -> str:  # noqa: A002  (documented name)
        """Return the signature of a text as the value of this cookie.

        Raises:
            CookieError: there is no secret.
        """
        return _signature(self.__data__.get("secret"), self.name, str)

    def unsign(self, secret: str | bytes, accept_md5: bool = False) -> None:
        """Verify the signature in the value, and take it out.

        Args:
            secret: the key.
            accept_md5: accept the signatures of mod_python 3 as well.

        Raises:
            CookieError: it is not right; the cookie is as it was.
        """
        text = str(self.value)
        if _same(text[:_LENGTH], _signature(secret, self.name, text[_LENGTH:])):
            value = text[_LENGTH:]
        elif accept_md5 and _same(text[:_OLD_LENGTH], _old_signature(secret, self.name, text[_OLD_LENGTH:])):
            value = text[_OLD_LENGTH:]
        else:
            raise CookieError(f"the signature of the cookie {self.name!r} is not right")
        self._adopt(value)
        self.__data__["secret"] = secret

    def _adopt(self, value: str) -> None:
        """Take a value whose signature was right."""
        self.value = value

    def _plain(self) -> str:
        """What is signed."""
        return str(self.value)

    def _text(self) -> str:
        plain = self._plain()
        return self.hexdigest(plain) + plain


class MarshalCookie(SignedCookie):
    """A signed cookie whose value is an object.

    Sent are the signature and the base64 text of the value as JSON; `marshal`, after which the class is
    named, can crash on what it reads and is not used.  Values are those that sessions can have: None, numbers,
    str, bytes, lists, tuples, sets, dictionaries, dates and times.
    """

    def unmarshal(self, secret: str | bytes, accept_md5: bool = False) -> None:
        """Verify the signature in the value, and put the object in its place.

        Raises:
            CookieError: the signature is not right, or what it signs cannot be read.
        """
        self.unsign(secret, accept_md5)

    def _adopt(self, value: str) -> None:
        import base64

        from mod_python._values import loads

        try:
            data = base64.b64decode(value.encode("ascii"), validate=True)
            self.value = loads(data)
        except (ValueError, RecursionError):
            raise CookieError(f"the value of the cookie {self.name!r} cannot be read") from None

    def _plain(self) -> str:
        import base64

        from mod_python._values import dumps

        try:
            data = dumps(self.value)
        except (TypeError, ValueError) as exc:
            raise CookieError(f"the value of the cookie {self.name!r} cannot be written: {exc}") from None
        return base64.b64encode(data).decode("ascii")

    def __setattr__(self, name: str, value: Any) -> None:
        # The object may be a text with any characters: it is encoded.
        if name == "value":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)


def _signature(secret: str | bytes | None, name: str, value: str) -> str:
    import hmac

    # No name contains a NUL, so that no other name and value give the same text.
    text = f"{name}\0{value}".encode("utf-8", "surrogatepass")
    return hmac.digest(_key(secret, name), text, "sha256").hex()


def _old_signature(secret: str | bytes, name: str, value: str) -> str:
    """The signature of mod_python 3: MD5 over name and value without anything between them."""
    import hmac

    text = name + value
    try:
        data = text.encode("latin-1")
    except UnicodeEncodeError:
        data = text.encode("utf-8", "surrogatepass")
    try:
        return hmac.digest(_key(secret, name), data, "md5").hex()
    except ValueError:  # a system on which MD5 is forbidden
        return ""


def _key(secret: str | bytes | None, name: str) -> bytes:
    if not secret:
        raise CookieError(f"the cookie {name!r} cannot be signed without a secret")
    return secret.encode("utf-8", "surrogatepass") if isinstance(secret, str) else bytes(secret)


def _same(given: str, expected: str) -> bool:
    """Compare in a time that does not depend on where the texts differ."""
    import hmac

    return bool(expected) and hmac.compare_digest(given.encode("utf-8", "surrogatepass"), expected.encode())
