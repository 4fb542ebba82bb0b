"""Asking ``__auth__`` and ``__access__``.

Where they may stand: in a module, in an object or its class, in a function as
attribute, and nested in a function.  All that are found on the way to an
object, and in it, have to agree.
"""

from __future__ import annotations

from _operator import _compare_digest as compare_digest
from functools import partial, partialmethod
from types import (
    AsyncGeneratorType,
    CodeType,
    CoroutineType,
    FunctionType,
    GeneratorType,
    MethodType,
    ModuleType,
)

from mod_python._constants import HTTP_BAD_REQUEST, HTTP_FORBIDDEN, HTTP_UNAUTHORIZED
from mod_python._dispatch.lines import plain
from mod_python.errors import SERVER_RETURN

from . import nested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_REALM = "unknown"

_MISSING: Any = object()
_AUTH, _ACCESS, _REALM = nested.NAMES

# id of a code object -> (the code object, what it binds, or what is wrong).  By id,
# because hashing a code object hashes all of its constants; holding it keeps the
# id from meaning another one.
_MOST_KNOWN = 4096
_known: dict[int, tuple[CodeType, dict[str, Any] | str]] = {}

# How many functions may be wrapped in one another.
_MOST_WRAPPED = 100


class Visitor:
    """A client on its way to an object.

    Args:
        req: the request.

    Attributes:
        realm: the realm that was named last.
        user: name of the user whose password was checked, by httpd or by an
            ``__auth__`` on the way; None if nobody did.
    """

    __slots__ = ("_credentials", "realm", "req", "user")

    def __init__(self, req: Any) -> None:
        self.req = req
        self.realm: Any = DEFAULT_REALM
        self.user: str | None = _MISSING
        self._credentials: tuple[str, str] | None = _MISSING

    def enter(self, obj: Any) -> None:
        """Apply the rules of an object.

        Raises:
            SERVER_RETURN: 401 or 403: the client may not go on; 400: its credentials
                cannot be read.
            NestedError: the rules cannot be evaluated.
        """
        if obj.__class__ is FunctionType:
            self._enter_function(obj)
            return
        if isinstance(obj, ModuleType):
            names = obj.__dict__
            if _AUTH not in names and _ACCESS not in names and _REALM not in names:
                return
        elif isinstance(obj, (FunctionType, MethodType)):
            self._enter_function(obj)
            return
        elif isinstance(obj, _PLAIN):
            return
        auth = getattr(obj, _AUTH, _MISSING)
        access = getattr(obj, _ACCESS, _MISSING)
        realm = getattr(obj, _REALM, _MISSING)
        if auth is not _MISSING or access is not _MISSING or realm is not _MISSING:
            self._apply(auth, access, realm)
        self._enter_wrapped(obj)

    def call(self, obj: Any) -> None:
        """Apply the rules inside of ``__call__`` of an instance that is about to be called."""
        for kind in type(obj).__mro__:
            method = kind.__dict__.get("__call__")
            if method is not None:
                if isinstance(method, FunctionType):
                    self._enter_function(method)
                return

    def _enter_function(self, obj: Any) -> None:
        function = obj.__func__ if isinstance(obj, MethodType) else obj
        if not isinstance(function, FunctionType):
            self._enter_wrapped(function)
            return
        own = function.__dict__
        if own:
            auth = own.get(_AUTH, _MISSING)
            access = own.get(_ACCESS, _MISSING)
            realm = own.get(_REALM, _MISSING)
            if auth is not _MISSING or access is not _MISSING or realm is not _MISSING:
                self._apply(auth, access, realm)
        known = _known.get(id(function.__code__))
        if known is None or known[1]:
            self._apply_nested(function)
        if own:
            self._enter_wrapped(function)

    def _enter_wrapped(self, obj: Any) -> None:
        """Apply what stands nested in functions that this one stands for.

        A decorator must not take off the lock of what it decorates.  Attributes
        are not looked at there, as decorators copy them; `partial` does not.
        """
        for _ in range(_MOST_WRAPPED):
            copies = not isinstance(obj, (partial, partialmethod))
            obj = _inner(obj)
            if obj is None:
                return
            if not copies:
                rules = [getattr(obj, name, _MISSING) for name in nested.NAMES]
                if any(rule is not _MISSING for rule in rules):
                    self._apply(*rules)
            if isinstance(obj, FunctionType):
                self._apply_nested(obj)
            elif not copies:
                self.call(obj)
        raise plain(RuntimeError(f"more than {_MOST_WRAPPED} functions are wrapped in one another"))

    def _apply_nested(self, function: FunctionType) -> None:
        rules = _rules(function)
        if rules:
            self._apply(*[rules.get(name, _MISSING) for name in nested.NAMES])

    # -- the rules ---------------------------------------------------------------

    def _apply(self, auth: Any, access: Any, realm: Any) -> None:
        if realm is not _MISSING:
            self.realm = realm
        if auth is not _MISSING:
            self._authenticate(auth)
        if access is not _MISSING and not _admits(access, self.req, self._name()):
            raise SERVER_RETURN(HTTP_FORBIDDEN)

    def _name(self) -> str | None:
        if self.user is _MISSING:
            self.user = self.req.user
        return self.user

    def _authenticate(self, auth: Any) -> None:
        credentials = self._credentials
        if credentials is _MISSING:
            credentials = self._credentials = read_credentials(self.req)
        if credentials is None or not _agrees(auth, self.req, *credentials):
            realm = str(self.realm).replace("\\", "\\\\").replace('"', '\\"')
            # Header fields are bytes; this is their Latin-1 form.
            realm = realm.encode("utf-8", "surrogateescape").decode("latin-1")
            self.req.err_headers_out["WWW-Authenticate"] = f'Basic realm="{realm}"'
            raise SERVER_RETURN(HTTP_UNAUTHORIZED)
        self.user = credentials[0]
        if self.req.user is None:  # for the access log, and for the object
            self.req.user = credentials[0]
            self.req.ap_auth_type = "Basic"


# Nothing can be set on these, and most of what is published is one of them.
_PLAIN = (str, bytes, int, float, list, tuple, dict, set, frozenset, type(None))


def is_free(function: FunctionType) -> bool:
    """Whether a function that was entered has no rules nested in it.

    Args:
        function: the function.
    """
    known = _known.get(id(function.__code__))
    return known is not None and not known[1]


def _inner(obj: Any) -> Any:
    """What an object stands for: the function that was decorated, or that gets more arguments."""
    if isinstance(obj, (partial, partialmethod)):
        obj = obj.func
    else:
        # Not by getattr(): some objects have every attribute.
        own = getattr(obj, "__dict__", None)
        obj = own.get("__wrapped__") if isinstance(own, dict) else None
    return obj.__func__ if isinstance(obj, MethodType) else obj


def _rules(function: FunctionType) -> dict[str, Any]:
    """What a function has nested in it, worked out once for each code object."""
    code = function.__code__
    known = _known.get(id(code))
    if known is None:
        rules: dict[str, Any] | str
        try:
            rules = nested.find(code, function.__qualname__)
        except nested.NestedError as exc:
            rules = str(exc)
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        known = _known[id(code)] = (code, rules)
    rules = known[1]
    if isinstance(rules, str):
        raise plain(nested.NestedError(rules))
    return {
        name: FunctionType(value, function.__globals__, name) if isinstance(value, CodeType) else value
        for name, value in rules.items()
    }


def read_credentials(req: Any) -> tuple[str, str] | None:
    """Return user and password of a request with Basic credentials (RFC 7617).

    Args:
        req: the request.

    Returns:
        both as text: UTF-8, or Latin-1 if they are not; None if the client sent no
        credentials, or those of another scheme.

    Raises:
        SERVER_RETURN: 400, if they cannot be decoded.
    """
    value = req.headers_in.get("Authorization")
    if value is None:
        return None
    scheme, _, coded = value.strip().partition(" ")
    if scheme.lower() != "basic":
        return None
    from binascii import Error, a2b_base64

    try:
        data = a2b_base64(coded.strip().encode("ascii"), strict_mode=True)
    except (Error, UnicodeEncodeError):
        raise SERVER_RETURN(HTTP_BAD_REQUEST) from None
    user, colon, password = data.partition(b":")
    if not colon or b"\0" in data:
        raise SERVER_RETURN(HTTP_BAD_REQUEST)
    try:
        return user.decode("utf-8"), password.decode("utf-8")
    except UnicodeDecodeError:
        return user.decode("latin-1"), password.decode("latin-1")


def _certain(result: Any, name: str) -> bool:
    """The truth of what a check returned; a coroutine or generator is true, and no answer."""
    if isinstance(result, (CoroutineType, GeneratorType, AsyncGeneratorType)) or hasattr(type(result), "__await__"):
        if isinstance(result, CoroutineType):
            result.close()  # or Python would warn that it was never awaited
        raise plain(TypeError(f"{name} must be an ordinary function that returns true or false; it is asynchronous"))
    return bool(result)


def _agrees(auth: Any, req: Any, user: str, password: str) -> bool:
    """Whether an ``__auth__`` accepts a user and password."""
    if callable(auth):
        return _certain(auth(req, user, password), _AUTH)
    if isinstance(auth, dict):
        known = auth.get(user, _MISSING)
        # As much work for an unknown user, so that the time does not tell names.
        same = _same(password if known is _MISSING else known, password)
        return same and known is not _MISSING
    if isinstance(auth, _NO_PASSWORDS):
        raise plain(
            TypeError(
                f"{_AUTH} must be a function, a dictionary of passwords, or true or false; "
                f"it is a {type(auth).__name__}"
            )
        )
    return bool(auth)


_NO_PASSWORDS = (str, bytes, list, tuple, set, frozenset)


def _same(stored: Any, given: str) -> bool:
    """Compare a stored password with a given one, in a time that does not tell where they differ."""
    if isinstance(stored, str):
        stored = stored.encode("utf-8", "surrogatepass")
    if isinstance(stored, (bytes, bytearray)):
        return compare_digest(stored, given.encode("utf-8", "surrogatepass"))
    return bool(stored == given)  # an object that does the comparison itself


def _admits(access: Any, req: Any, user: str | None) -> bool:
    """Whether an ``__access__`` accepts a user."""
    if callable(access):
        return _certain(access(req, user), _ACCESS)
    if isinstance(access, (list, tuple, set, frozenset, dict)):
        return user is not None and user in access
    if isinstance(access, (str, bytes)):
        raise plain(
            TypeError(f"{_ACCESS} must be a function, a list of users, or true or false; it is the text {access!r:.60}")
        )
    return bool(access)
