"""Which module file, and which names in it, a URL means.

httpd has split the URL into a file name, of which the last part need not exist,
and the rest.  What that comes to depends on which files there are, so it is
kept for a moment only: as long as the importer takes a module for unchanged.
"""

from __future__ import annotations

import os
from time import monotonic

from mod_python._dispatch import importer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType, FunctionType, ModuleType
    from typing import Any

    from mod_python._dispatch.modules import Entry

# Clients choose URLs: when so many are kept, all are forgotten.  Far more than
# a site has pages that are asked for within the interval.
MOST = 2048


class Route:
    """Where a URL leads.

    Attributes:
        entry: the importer's record of the module's file.
        names: what to look up, one after the other; at least one.
        due: when to work it out again, in seconds of `time.monotonic`.
        function: what was found, if it is a function of the module that nothing but
            what it may change meanwhile stands in the way of; else None.
        code: its code.
        module: the module it was found in.
        takes_request: whether it has a parameter for the request.
    """

    __slots__ = ("code", "due", "entry", "function", "module", "names", "takes_request")

    def __init__(self, entry: Entry, names: tuple[str, ...], due: float) -> None:
        self.entry = entry
        self.names = names
        self.due = due
        self.function: FunctionType | None = None
        self.code: CodeType | None = None
        self.module: ModuleType | None = None
        self.takes_request = False


#: The routes, by file name and path info of the request.
known: dict[tuple[str | None, str | None], Route] = {}
# Extensions of AddHandler, by server.
_extensions: dict[Any, list[str]] = {}


def find(req: Any) -> Route | None:
    """Return where the URL of a request leads.

    Args:
        req: the request.

    Returns:
        the route, or None if there is no module for it.
    """
    key = (req.filename, req.path_info)
    route = known.get(key)
    if route is not None and monotonic() < route.due:
        return route
    return _work_out(req, *key)


def _work_out(req: Any, filename: str | None, path_info: str | None) -> Route | None:
    if not filename or not filename.startswith("/"):
        return None
    directory, _, last = filename.rpartition("/")
    # What an extension means depends on more than the name, so that is not kept.
    keep = "." not in last or last.endswith(".py")
    name = _without_extension(req, last) or "index"
    path = path_info or ""
    if path.startswith("/"):
        path = path[1:]
    if path.endswith("/"):
        path = path[:-1]
    file = _file(directory, name)
    if file is None:
        path = f"{name}/{path}" if path else name
        file = _file(directory, "index")
        if file is None:
            return None
    names = tuple((path or "index").replace("/", ".").split("."))
    found = importer.default()
    entry = found.entry(file)
    entry.asked()
    route = Route(entry, names, monotonic() + found.interval)
    if keep:
        if len(known) >= MOST:
            known.clear()
        known[filename, path_info] = route
    return route


def _without_extension(req: Any, last: str) -> str:
    """Take off one extension, if it is one that leads to us."""
    if "." not in last:
        return last
    for extension in (".py", *_configured(req), req.extension):
        if extension and last.endswith(extension) and last != extension:
            return last[: -len(extension)]
    return last


def _configured(req: Any) -> list[str]:
    """The extensions that AddHandler gives to mod_python, with their dots."""
    server = req.server
    found = _extensions.get(server)
    if found is None:
        found = _extensions[server] = ["." + name for name in req.get_addhandler_exts().split()]
    return found


def _file(directory: str, name: str) -> str | None:
    """Return the normalised path of a module's file, or None.

    A module whose name begins with an underscore is private, like such an object.
    """
    if name.startswith("_"):
        return None
    file = os.path.normpath(f"{directory}/{name}.py")
    return file if os.path.isfile(file) else None
