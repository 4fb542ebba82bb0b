"""Which site a session belongs to.

Stores hold the sessions of several virtual hosts, and local ones those of several httpds, since by default all of a
Unix user are in one directory.  So a session has the name of its site, and is unknown elsewhere.  The name is made of
the configuration alone: a client chooses the Host header, and with it among virtual hosts, but not their names.
"""

from __future__ import annotations

from mod_python import apache

from . import options as opt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: The item of stored sessions that has the name of the site.  Among the items, since a store of an application's own
#: may keep nothing else that it does not know.
KEY = "_mod_python_site"


def site(req: Any, options: Any) -> str:
    """Return the site that the configuration of a request says.

    Returns:
        ``PythonOption mod_python.session.site``; else the domain of the cookie, with a dot before it, if the
        configuration sets one; else the virtual host's ``ServerName`` without its port.
    """
    found = opt.text(options, "mod_python.session.site")
    if found is None:
        domain = opt.text(options, "mod_python.session.application_domain")
        if domain is not None:
            found = "." + domain.lower().strip(".")
        else:
            name = getattr(getattr(req, "server", None), "server_hostname", None) or ""
            found = name.lower().rstrip(".")
    return _ascii(found)


def local_site(options: Any, name: str) -> str:
    """Return the site in a store that httpds of one machine share: with the ``ServerRoot``, unless named by option."""
    if opt.text(options, "mod_python.session.site") is not None:
        return name
    root = opt.text(options, "mod_python.session.server_root")
    if root is None:
        root = _server_root()
    return f"{name} {_ascii(root)}"


def _server_root() -> str:
    try:
        return apache.server_root()
    except RuntimeError:  # in unit tests, outside httpd
        return ""


def _ascii(text: str) -> str:
    """Each store keeps that."""
    return text if text.isascii() else text.encode("ascii", "backslashreplace").decode()
