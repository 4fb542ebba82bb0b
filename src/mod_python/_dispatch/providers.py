"""What httpd's authentication and authorisation ask of the provider ``python``.

The functions have the names that httpd's providers have in C, and the results
that mod_wsgi's have: ``check_password`` answers True, False or None for a user
that is not known, so that one module can serve both.
"""

from __future__ import annotations

from mod_python.errors import SERVER_RETURN

from . import report, resolve, scope
from .hlist import mp_hlist
from .lines import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .handler import Handler
    from .importer import Importer

_FAILED = -1


def _checked(name: str, answer: Any) -> bool | bytes | None:
    """Check an answer.

    Raises:
        TypeError: it is not one that the function may give.
    """
    if name == "get_realm_hash":
        if answer is None:
            return None
        if isinstance(answer, str):
            answer = answer.encode("ascii")
        if isinstance(answer, bytes) and b"\0" not in answer:
            return answer
        expected = "a str, the MD5 of 'user:realm:password' in hexadecimal, or None for an unknown user"
    elif answer is True or answer is False:
        return answer
    elif name == "check_password":
        if answer is None:
            return None
        expected = "True, False, or None for an unknown user"
    else:
        expected = "True or False"
    raise plain(TypeError(f"{name} returned a {type(answer).__name__}; it must return {expected}"))


@scope.entry_point("req")
def ask(
    req: Any,
    phase: str,
    handler: Handler,
    default_name: str,
    args: tuple[str, ...],
    interpreter: str,
    importer: Importer,
) -> bool | bytes | int | None:
    """Ask a provider function.

    Args:
        req: the request.
        phase: what is shown as its phase.
        handler: the module, and the function if one is named.
        default_name: the function otherwise.  ``get_realm_hash`` always has this
            name, because the function that is named answers for passwords.
        args: the arguments after the request.
        interpreter: name of the interpreter, for reports.
        importer: the interpreter's importer.

    Returns:
        the answer; -1, which is none, after a failure.
    """
    settings = req.settings
    req._hlist = mp_hlist([handler])
    try:
        name = default_name if default_name == "get_realm_hash" else handler.object_name or default_name
        function: Any = resolve.find(handler, name, req, settings, importer)
        return _checked(default_name, function(req, *args))
    except SERVER_RETURN as exc:
        failure: BaseException = plain(TypeError(f"{default_name} raised {exc!r}; a provider has no status to return"))
    except BaseException as exc:
        failure = exc
    report.request(req, phase, handler, interpreter, False, failure)
    return _FAILED
