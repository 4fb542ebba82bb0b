"""Publish functions and other objects of modules by URL.

    <Directory /srv/app>
        SetHandler mod_python
        PythonHandler mod_python.publisher
    </Directory>

``/shop/cart`` is then the object ``cart`` in ``/srv/app/shop.py``: a function is called
with the fields of the form that it has parameters for, and its result is sent;
anything else is sent as text.  ``docs/publisher.md`` of the distribution has the rules.

With ``PythonOption mod_python.publisher.marked_only On`` only what is marked with
the decorator `publish` can be reached.
"""

from __future__ import annotations

from time import monotonic
from types import CoroutineType, FunctionType, MethodType

from ._constants import (
    APLOG_NOTICE,
    APLOG_WARNING,
    HTTP_FORBIDDEN,
    HTTP_METHOD_NOT_ALLOWED,
    HTTP_NOT_FOUND,
    M_GET,
    M_POST,
    OK,
)
from ._dispatch import importer as _importer
from ._dispatch import scope as _scope
from ._dispatch.lines import plain
from ._forms.apply import _accepted
from ._publisher import checks, kinds, output, routes
from .errors import SERVER_RETURN
from .util import FieldStorage, apply_fs_data

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar, overload

    from ._publisher.routes import Route

    T = TypeVar("T")

__all__ = ["handler", "publish"]

MARKED_ONLY = "mod_python.publisher.marked_only"

# How often the result of a call may be called in turn.
_MOST_CALLS = 100

_MISSING: Any = object()
_METHODS = (M_GET, M_POST)
_SWITCHED = frozenset(("On", "on", "1", "yes", "Off", "off", "0", "no"))


# -- for applications ------------------------------------------------------------

if TYPE_CHECKING:

    @overload
    def publish(obj: T, /) -> T: ...
    @overload
    def publish(*, auth: Any = ..., access: Any = ..., realm: str = ...) -> Callable[[T], T]: ...
    @overload
    def publish(obj: T, /, *, auth: Any = ..., access: Any = ..., realm: str = ...) -> T: ...


def publish(obj: Any = _MISSING, /, *, auth: Any = _MISSING, access: Any = _MISSING, realm: Any = _MISSING) -> Any:
    """Mark a function, class or object as one that may be published, and say for whom.

    It is used as ``@publish`` or with arguments, ``@publish(auth=check)``; of a class it
    marks the instances.  The mark makes a difference where
    ``PythonOption mod_python.publisher.marked_only`` is On.

    Args:
        obj: a function, a class, or an object that takes attributes.
        auth: who may have it, by password: ``auth(req, user, password)``, a dictionary
            of passwords, or true or false.  It becomes the attribute ``__auth__``.
        access: which users may have it: ``access(req, user)``, a list of names, or true
            or false.  It becomes ``__access__``.
        realm: name of the protected area, which browsers show.  It becomes
            ``__auth_realm__``.

    Returns:
        the object itself.

    Raises:
        TypeError: the object takes no attributes.
    """
    if obj is _MISSING:
        return lambda target: publish(target, auth=auth, access=access, realm=realm)
    if isinstance(obj, (staticmethod, classmethod)):
        publish(obj.__func__, auth=auth, access=access, realm=realm)
        return obj
    try:
        for name, value in (("__auth__", auth), ("__access__", access), ("__auth_realm__", realm)):
            if value is not _MISSING:
                if isinstance(obj, type) and isinstance(value, FunctionType):
                    value = staticmethod(value)  # or it would be called with the instance
                setattr(obj, name, value)
        setattr(obj, kinds.MARK, True)
    except (AttributeError, TypeError):
        raise TypeError(f"publish: a {type(obj).__name__} takes no attributes, so it cannot be marked") from None
    return obj


# -- the handler -------------------------------------------------------------------


@_scope.runs_module
def handler(req: Any) -> int:
    """Publish the object that the URL of a request names.

    Args:
        req: the request.

    Returns:
        OK, or the status 404 or 405.

    Raises:
        SERVER_RETURN: 401, 403 or 400.
        Exception: what the module or the object raises.
    """
    # The short way, for a function that was published a moment ago, a request without a
    # form, and nothing that the long way would have to look at.
    filename = req.filename
    route = routes.known.get((filename, req.path_info))
    if route is not None and route.function is not None and monotonic() < route.due:
        entry = route.entry
        module: Any = entry.module
        function = route.function
        if (
            module is route.module
            and not entry.dirty
            and req.method_number == M_GET
            and not req.args
            and not req.__dict__
        ):
            names = module.__dict__
            own = function.__dict__
            marked_only = req._option(MARKED_ONLY)
            if (
                names.get(route.names[0]) is function
                and function.__code__ is route.code
                and "__auth__" not in names
                and "__access__" not in names
                and (marked_only is None if not own else len(own) == 1 and own.get(kinds.MARK) is True)
                and (marked_only is None or marked_only in _SWITCHED)
            ):
                if filename != entry.file:
                    req.filename = entry.file
                req._want_form()
                result = function(req=req) if route.takes_request else function()
                if result.__class__ is str:
                    output.send(req, result)
                else:
                    visitor = checks.Visitor(req)
                    _send(req, _resolved(req, result, route, visitor), route, bool(req.settings[0]))
                return OK

    if req.method_number not in _METHODS:
        req.allow_methods(["GET", "HEAD", "POST"], 1)
        return HTTP_METHOD_NOT_ALLOWED
    route = routes.find(req)
    if route is None:
        return HTTP_NOT_FOUND
    entry = route.entry
    settings = req.settings
    # A module that the request has obtained already stays the same.
    seen = req.__dict__.get("_mp_seen")
    module = None if seen is None else seen.get(entry.label)
    if module is None:
        module = _importer.default().get(entry, bool(settings[1]), bool(settings[0]))
    if req.filename != entry.file:
        req.filename = entry.file
    _publish(req, module, route, bool(settings[0]))
    return OK


def _publish(req: Any, module: Any, route: Route, debug: bool) -> None:
    visitor = checks.Visitor(req)
    marked_only = req._option(MARKED_ONLY)
    obj = _walk(req, module, route.names, visitor, marked_only is not None and _is_on(marked_only))
    if obj.__class__ is FunctionType and len(route.names) == 1 and checks.is_free(obj):
        accepted, _, _, more = _accepted(obj)
        route.takes_request = more or "req" in accepted
        route.code = obj.__code__
        route.module = module
        route.function = obj
    if callable(obj):
        obj = _resolved(req, _call(req, obj, visitor), route, visitor)
    _send(req, obj, route, debug)


def _send(req: Any, obj: Any, route: Route, debug: bool) -> None:
    if obj is not None:
        output.send(req, obj)
    elif debug and not req._bytes_queued and req.next is None:
        req.log_error(
            f"mod_python.publisher: nothing to publish: {'.'.join(route.names)} in {route.entry.file} "
            "gives None and has written nothing",
            APLOG_NOTICE,
        )


def _is_on(text: str) -> bool:
    """The value of an option that is On or Off."""
    value = text.lower()
    if value in ("on", "1", "yes", "true"):
        return True
    if value in ("off", "0", "no", "false"):
        return False
    raise plain(ValueError(f"PythonOption {MARKED_ONLY} must be On or Off, not {text!r}"))


def _walk(req: Any, module: Any, names: tuple[str, ...], visitor: checks.Visitor, marked_only: bool) -> Any:
    """Return the object of a path, if the client may have it."""
    visitor.enter(module)
    obj = module
    for name in names:
        if not name:
            raise SERVER_RETURN(HTTP_NOT_FOUND)
        if name.startswith("_"):
            raise _refusal(req, names, f"{name!r:.200} begins with an underscore")
        if obj is not module and not kinds.is_traversable(obj):
            raise _refusal(req, names, f"attributes of {_a(obj)} are not published")
        try:
            obj = getattr(obj, name)
        except AttributeError:
            raise SERVER_RETURN(HTTP_NOT_FOUND) from None
        visitor.enter(obj)
        if marked_only and not kinds.is_marked(obj):
            raise _refusal(req, names, f"{_a(obj)} is not marked with @publish")
    if not kinds.is_publishable(obj):
        raise _refusal(req, names, f"{_a(obj)} is not published")
    return obj


def _a(obj: Any) -> str:
    """What an object is, for a message."""
    kind = type(obj)
    return f"an object of type {kind.__module__}.{kind.__qualname__}"


def _refusal(req: Any, names: tuple[str, ...], why: str) -> SERVER_RETURN:
    req.log_error(f"mod_python.publisher: {'.'.join(names)!r:.200} in {req.filename}: {why}", APLOG_WARNING)
    return SERVER_RETURN(HTTP_FORBIDDEN)


def _call(req: Any, obj: Any, visitor: checks.Visitor) -> Any:
    """Call an object with the fields of the form that it has parameters for."""
    if not isinstance(obj, (FunctionType, MethodType)):
        visitor.call(obj)
    form = req.__dict__.get("form")
    if form is None:
        form = req.form = FieldStorage(req, keep_blank_values=1)
    return apply_fs_data(obj, form, req=req)


def _resolved(req: Any, obj: Any, route: Route, visitor: checks.Visitor) -> Any:
    """Return what is to be sent for the result of a call: of calling that in turn, if it can be called."""
    calls = 1
    while obj is not None and obj.__class__ is not str:
        if isinstance(obj, CoroutineType):
            obj.close()  # or Python would warn that it was never awaited
            raise plain(TypeError("an 'async def' function cannot be published"))
        if not kinds.is_publishable(obj):
            raise _refusal(req, route.names, f"the result, {_a(obj)}, is not published")
        if not callable(obj):
            break
        if calls >= _MOST_CALLS:
            raise plain(RuntimeError(f"the result of a call could be called {_MOST_CALLS} times in turn"))
        calls += 1
        visitor.enter(obj)
        obj = _call(req, obj, visitor)
    return obj
