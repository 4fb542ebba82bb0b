"""A page that shows whether mod_python works, and with which settings.

    <Location "/test">
        SetHandler mod_python
        PythonHandler mod_python.testhandler
    </Location>

It tells much about the server, so only clients on the same machine get it.

    PythonOption mod_python.testhandler.allow "127.0.0.1 ::1 10.0.0.0/8"
    PythonOption mod_python.testhandler.view_log On
    PythonOption mod_python.testhandler.config_tree On

The first names the addresses and networks that may have the page, the others add the
end of the error log, for ``?view_log=1``, and the whole configuration.
"""

from __future__ import annotations

import os
import sys

from . import _html, _secrets, apache, version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = ["handler"]

_PREFIX = "mod_python.testhandler."

#: Who may have the page, if no option says.
LOOPBACK = "127.0.0.0/8 ::1"

#: Lines of the error log that are shown.
LOG_LINES = 100

# Bytes read from the end of the log for them: lines may be long, but not all of them.
_LOG_SIZE = 256 * 1024

# A proxy in front adds one of these; then every request comes from the proxy's address.
_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")


def handler(req: Any) -> int:
    """Show the page.

    Args:
        req: the request.

    Returns:
        OK, or the status 403 or 405.

    Raises:
        ValueError: an option cannot be read.
    """
    if req.method_number != apache.M_GET:
        req.allow_methods(["GET", "HEAD"], 1)
        return apache.HTTP_METHOD_NOT_ALLOWED
    options = req.get_options()
    if not _is_allowed(req, options.get(_PREFIX + "allow")):
        return apache.HTTP_FORBIDDEN
    parts = [
        '<p class="kind">Test page</p>\n<h1>mod_python works</h1>\n',
        *_facts(req),
        _html.table("Request headers", _sorted(req.headers_in)),
        _html.table("Environment", _sorted(_environment(req))),
        _html.table("Configuration of this request", _sorted(req.get_config())),
        _html.table("Options of this request", _sorted(options)),
        _html.table("Notes", _sorted(req.notes)),
        _html.table("Configuration of the server", _sorted(req.server.get_config())),
        _html.table("Options of the server", _sorted(req.server.get_options())),
    ]
    if _is_on(options, "config_tree"):
        parts.append(_pre("Configuration tree", "\n".join(_tree(apache.config_tree(), 0))))
    log_on = _is_on(options, "view_log")
    if log_on and "view_log=1" in (req.args or "").split("&"):
        parts.append(_pre(f"Last {LOG_LINES} lines of the error log", _log(req)))
    parts.append(f"<footer>{_footer(log_on)}</footer>\n")
    req.content_type = _html.CONTENT_TYPE
    for name, value in _html.HEADERS:
        req.headers_out[name] = value
    req.write(_html.document("mod_python test page", "".join(parts)), 0)
    return apache.OK


# -- who may see it ------------------------------------------------------------------


def _is_allowed(req: Any, networks: str | None) -> bool:
    """Whether the client's address is among those that may have the page."""
    from ipaddress import ip_address, ip_network

    try:
        allowed = [ip_network(text, strict=False) for text in (networks or LOOPBACK).replace(",", " ").split()]
    except ValueError as exc:
        raise ValueError(
            f"PythonOption {_PREFIX}allow takes addresses and networks, such as 127.0.0.1 10.0.0.0/8: {exc}"
        ) from None
    try:
        address = ip_address(req.useragent_ip.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    found = any(address in network for network in allowed if network.version == address.version)
    if found and networks is None and any(name in req.headers_in for name in _FORWARDED):
        req.log_error(
            "mod_python.testhandler: the request came through a proxy, so that it comes from this machine "
            f"says nothing about the client; see PythonOption {_PREFIX}allow",
            apache.APLOG_WARNING,
        )
        return False
    if not found:
        req.log_error(
            f"mod_python.testhandler: {req.useragent_ip} is not among the addresses of PythonOption {_PREFIX}allow",
            apache.APLOG_WARNING,
        )
    return found


def _is_on(options: Any, name: str) -> bool:
    """The value of an option that is On or Off."""
    text = options.get(_PREFIX + name)
    value = "off" if text is None else text.lower()
    if value in ("on", "1", "yes", "true"):
        return True
    if value in ("off", "0", "no", "false"):
        return False
    raise ValueError(f"PythonOption {_PREFIX}{name} must be On or Off, not {text!r}")


# -- what it shows -------------------------------------------------------------------


def _facts(req: Any) -> list[str]:
    server = req.server
    main = apache.main_server
    return [
        _html.table(
            "Server",
            [
                ("program", os.path.realpath("/proc/self/exe") if os.path.exists("/proc/self/exe") else version.HTTPD),
                ("built for httpd", version.HTTPD_VERSION),
                ("mod_python", version.version),
                ("server name", server.server_hostname),
                ("server root", apache.server_root()),
                ("document root", req.document_root()),
                ("error log", server.error_fname),
                ("main error log", main.error_fname),
                ("process", f"{os.getpid()}, user {os.geteuid()}"),
                ("MPM", _mpm()),
            ],
        ),
        _html.table(
            "Python",
            [
                ("version", sys.version.replace("\n", " ")),
                ("interpreter", req.interpreter),
                ("prefix", sys.prefix),
                ("sys.path", "\n".join(sys.path)),
                *[(f"mod_python.{name}", _imports(f"mod_python.{name}")) for name in ("publisher", "psp")],
            ],
        ),
    ]


def _mpm() -> str:
    """What the MPM is, in words."""
    ask = apache.mpm_query
    processes = ask(apache.AP_MPMQ_MAX_DAEMONS)
    threads = ask(apache.AP_MPMQ_MAX_THREADS)
    if not ask(apache.AP_MPMQ_IS_THREADED):
        return f"up to {processes} processes, without threads"
    return f"up to {processes} {'process' if processes == 1 else 'processes'} of {threads} threads"


def _imports(name: str) -> str:
    """Whether a module can be imported."""
    try:
        __import__(name)
    except Exception as exc:
        return f"cannot be imported: {type(exc).__name__}: {exc}"
    return "can be imported"


def _environment(req: Any) -> Any:
    req.add_common_vars()
    return req.subprocess_env


def _sorted(table: Any) -> Iterable[tuple[str, str | None]]:
    """The entries of a table by name, without the secrets."""
    return sorted(
        [(name, _secrets.hide(name, value)) for name, value in table.items()], key=lambda entry: entry[0].lower()
    )


def _pre(title: str, text: str) -> str:
    return f"<section>\n<h2>{_html.escape(title)}</h2>\n<pre>\n{_html.escape(text)}\n</pre>\n</section>\n"


def _tree(nodes: list[Any], depth: int) -> Iterable[str]:
    """The lines of a configuration tree."""
    for node in nodes:
        if isinstance(node, list):
            yield from _tree(node, depth + 1)
        else:
            name, arguments = node
            yield "    " * depth + f"{name} {_argument(name, arguments)}".rstrip()


def _argument(name: str, arguments: str) -> str:
    """The arguments of a directive; one of them may be the name of what follows, as in PythonOption."""
    words = (name, *arguments.split())
    return _secrets.HIDDEN if any(map(_secrets.is_secret, words)) else _secrets.hide_in(arguments)


def _log(req: Any) -> str:
    """The end of the error log."""
    name = req.server.error_fname
    if not name or name.startswith(("|", "syslog")):
        return f"The error log goes to {name}, not to a file."
    try:
        with open(os.path.join(apache.server_root(), name), "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LOG_SIZE))
            data = file.read(_LOG_SIZE)
    except OSError as exc:
        return f"{name} cannot be read: {exc.strerror}"
    return _secrets.hide_in("\n".join(data.decode("utf-8", "replace").splitlines()[-LOG_LINES:]))


def _footer(log_on: bool) -> str:
    text = "Values that look like secrets, or have names like those, are not shown."
    return text + ' <a href="?view_log=1">Error log</a>' if log_on else text
