"""Compiled pages, and their cache.

A page is compiled when it is first asked for, once also if several threads ask.  At most once
per second its file, and those that it includes, are looked at; if one has changed, the
page is compiled anew.  That is the rule for modules too, and PythonAutoReload governs both.
"""

from __future__ import annotations

import os
from _thread import allocate_lock
from time import monotonic

from mod_python._dispatch import importer
from mod_python._dispatch.modules import Entry, ModuleInfo, stamp_of

from . import scanner
from .compiler import compile_page
from .generate import ESCAPE, generate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from mod_python._dispatch.modules import Stamp

# Pages that are kept, of files and of strings each.  The number of the old mod_python: far more
# than most sites have, and few enough for every child to hold.
LIMIT = 512

# Locks for compiling.  Which one is used depends on the page, so that a page is compiled
# once and several pages at a time.
_STRIPES = 16


class Page:
    """A compiled page.

    Attributes:
        code: its code object.
        names: the global names that it reads.
        files: its name and those of the files that it includes.
        namespace: the globals that are the same in every run.
        text: the page itself if it is a string, else None.
        due: when to look at the files next, by the cache's clock.
        hits: how often it was asked for, since the cache was last full about half.
    """

    __slots__ = ("code", "due", "files", "hits", "names", "namespace", "stamps", "text", "uses_form", "uses_session")

    def __init__(self, scanned: scanner.Scanned, directory: str, autoescape: bool, is_file: bool) -> None:
        self.code, self.names = compile_page(generate(scanned, autoescape), scanned)
        self.files = tuple(scanned.files)
        self.stamps = scanned.stamps
        self.text = None if is_file else scanned.texts[0]
        self.due = 0.0
        self.hits = 0
        self.uses_form = "form" in self.names
        self.uses_session = "session" in self.names
        self.namespace = _namespace(self, directory, is_file)
        if autoescape:
            self.namespace[ESCAPE] = escape

    def is_current(self) -> bool:
        """Whether the files are still what was compiled."""
        for file, stamp in self.stamps.items():
            try:
                if stamp_of(os.stat(file)) != stamp:
                    return False
            except OSError:
                return False
        return True


def _namespace(page: Page, directory: str, is_file: bool) -> dict[str, Any]:
    """The globals of a page that are the same in every run."""
    from mod_python import apache, util

    own = importer.default()
    file = page.files[0] if is_file else None
    namespace: dict[str, Any] = {
        "__builtins__": own.namespace_builtins(),
        "__name__": "psp_page",
        "__file__": file,
        # Imports in the page look in its directory first.
        "__mp_info__": ModuleInfo(Entry("psp_page", file or f"{directory.rstrip('/')}/<string>", [], own)),
        "apache": apache,
        "util": util,
    }
    # Few pages use these, and not each child has to load them.
    if "Session" in page.names:
        from mod_python import Session

        namespace["Session"] = Session
    if "Cookie" in page.names:
        from mod_python import Cookie

        namespace["Cookie"] = Cookie
    return namespace


def escape(value: Any) -> Any:
    """Return a value as text for HTML.

    What has a method ``__html__`` is HTML already, and gives it itself.
    """
    if value.__class__ is not str:
        html = getattr(value, "__html__", None)
        if html is not None:
            return html()
        value = str(value)
    if "&" in value:
        value = value.replace("&", "&amp;")
    return value.replace("<", "&lt;").replace(">", "&gt;").replace('"', "&#34;").replace("'", "&#39;")


def read_file(name: str) -> tuple[bytes, Stamp]:
    """Return content and stamp of a file.

    Raises:
        OSError: it cannot be read.
    """
    # Opened before its times are read: if it is written to meanwhile, the stamp is
    # the older one, and the change is seen.
    with open(name, "rb") as file:
        stamp = stamp_of(os.fstat(file.fileno()))
        return file.read(), stamp


class Pages:
    """A cache of compiled pages.

    Args:
        limit: how many to keep.
        interval: seconds between two looks at the files of a page.
        clock: a monotonic clock in seconds.
    """

    def __init__(
        self, limit: int = LIMIT, interval: float = importer.INTERVAL, clock: Callable[[], float] = monotonic
    ) -> None:
        self.limit = limit
        self.interval = interval
        self.clock = clock
        self._pages: dict[tuple[str, str | None, bool], Page] = {}
        self._lock = allocate_lock()
        self._compiling = [allocate_lock() for _ in range(_STRIPES)]

    def __len__(self) -> int:
        return len(self._pages)

    def file(self, name: str, autoescape: bool = False, reload: bool = True) -> Page:
        """Return the page of a file.

        Args:
            name: absolute name of the file.
            autoescape: values of expressions are escaped for HTML.
            reload: whether to look for changes.

        Raises:
            OSError: the file, or one that it includes, cannot be read.
            SyntaxError: it is no correct page.
        """
        return self._get((name, None, autoescape), reload)

    def string(self, text: str, directory: str, autoescape: bool = False, reload: bool = True) -> Page:
        """Return the page of a string.

        Args:
            text: the page.
            directory: what its names of files are relative to.
            autoescape, reload: as for `file`.

        Raises:
            OSError: a file that it includes cannot be read.
            SyntaxError: it is no correct page.
        """
        return self._get((text, directory, autoescape), reload)

    def _get(self, key: tuple[str, str | None, bool], reload: bool) -> Page:
        page = self._pages.get(key)
        if page is None or (reload and self.clock() >= page.due):
            with self._compiling[hash(key) % _STRIPES]:
                page = self._look(key, reload)
        page.hits += 1
        return page

    def _look(self, key: tuple[str, str | None, bool], reload: bool) -> Page:
        """Return a page that is current, compiled if need be."""
        old = self._pages.get(key)
        if old is not None:
            if not reload or self.clock() < old.due:
                return old  # another thread has looked meanwhile
            if old.is_current():
                old.due = self.clock() + self.interval
                return old
        try:
            page = self._compile(*key)
        except BaseException:
            with self._lock:
                self._pages.pop(key, None)
            raise
        page.due = self.clock() + self.interval
        if old is not None:
            page.hits = old.hits
        with self._lock:
            if len(self._pages) >= self.limit and key not in self._pages:
                self._make_room()
            self._pages[key] = page
        return page

    def _compile(self, text: str, directory: str | None, autoescape: bool) -> Page:
        if directory is None:
            directory = os.path.dirname(text)
            content, stamp = read_file(text)
            return Page(scanner.scan(content, text, directory, read_file, stamp), directory, autoescape, True)
        name = f"<psp {hash(text) & 0xFFFFFFFFFFFFFFFF:016x}>"
        return Page(scanner.scan(text, name, directory, read_file), directory, autoescape, False)

    def _make_room(self) -> None:
        """Drop the quarter that was used least, and let the past count for less."""
        order = sorted(self._pages, key=lambda key: self._pages[key].hits)
        for key in order[: max(1, self.limit // 4)]:
            del self._pages[key]
        for page in self._pages.values():
            page.hits //= 2
