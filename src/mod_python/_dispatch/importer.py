"""Modules identified by their file, loaded again when they have changed.

Handler modules live in document directories, and two directories may each have
an ``index.py``.  So a module found in a directory is not known by its name but
by its file: its ``__name__`` is a label made from the path.  `sys.modules` holds
it under that label, which is what `pickle`, `dataclasses`, `typing` and `inspect`
need to find the module of a class or function.

How it works, on top of the standard import system:

* **Labels.**  `Importer` is a finder on `sys.meta_path` for its own labels only;
  it gives up for every other name.  Loading is ``__import__(label)``, so the
  standard per-module locks apply: one thread executes the module, the others
  wait for it, and two modules that import each other from two threads do not
  deadlock, also when ordinary modules are part of the circle.
* **Import statements.**  Modules loaded here have a ``__builtins__`` of their own,
  a copy of the real one but for ``__import__``.  It gets the globals of the
  importing module and so knows whose statement it is: ``import x`` first looks for
  a sibling ``x.py``.  No other module's statements are affected.
* **Reload.**  While a module is executed, the modules it imports this way are noted
  as its children.  It is stale when its file differs from what was loaded
  (modification time, size, inode), or a child is stale or was loaded again.
  A reload executes the file in a new module object; the old one is untouched.
"""

from __future__ import annotations

import builtins
import os
import sys
from _thread import allocate_lock, get_ident
from time import monotonic, sleep

from . import paths, scope
from .lines import plain
from .modules import Entry, Loader, ModuleInfo, label_of, stamp_of, unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from importlib.machinery import ModuleSpec, PathFinder
    from types import ModuleType
    from typing import Any

    from .handler import Handler
else:
    from _frozen_importlib import ModuleSpec
    from _frozen_importlib_external import PathFinder

# How often a module is looked at for changes, in seconds: often enough for
# somebody who edits and presses reload, seldom enough not to matter under load.
INTERVAL = 1.0

_MISSING = object()


class Importer:
    """Finds, loads and reloads modules by file.  One per interpreter.

    Args:
        interval: seconds between two looks at a module's files.
        log: called with (message, level) for notices and warnings.
        clock: a monotonic clock in seconds.

    Attributes:
        frozen: when true, nothing is loaded again.
        autoreload: what applies to code that belongs to no request.
        lock: guards the records; held for a few assignments only.
        files: record of each file, by path.
        labels: the same by label.
        partial: for threads in the middle of a load, the modules they were given
            half loaded because to wait for them would have been a deadlock.
    """

    def __init__(
        self,
        interval: float = INTERVAL,
        log: Callable[[str, int], None] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.interval = interval
        self.clock = clock
        self.frozen = False
        self.autoreload = True
        self.files: dict[str, Entry] = {}
        self.labels: dict[str, Entry] = {}
        self.loads = 0
        self._log = log if log is not None else _log
        self.lock = allocate_lock()
        self._loader = Loader(self)
        self._depth: dict[int, int] = {}  # threads in the middle of a load: how deep
        # (thread, label) -> failures of the module when the thread began to load it
        self._attempts: dict[tuple[int, str], int] = {}
        self.partial: dict[int, list[Entry]] = {}
        self._warned: set[str] = set()
        self._builtins: dict[str, Any] = {}
        self.namespace_builtins()
        sys.meta_path.insert(0, self)

    def close(self) -> None:
        """Take the finder off `sys.meta_path` and the modules out of `sys.modules`."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for label in self.labels:
            sys.modules.pop(label, None)

    # -- the finder ------------------------------------------------------------

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module by label (`importlib.abc.MetaPathFinder`)."""
        entry = self.labels.get(name)
        if entry is None:
            return None
        # In Python 3.15, and in 3.14 since some 3.14.x, a thread that waited for a load that
        # failed executes the module itself, and then so does each thread that waits behind it.
        if self._attempts.get((get_ident(), name), entry.failures) != entry.failures:
            raise _shared_failure(entry)
        spec = ModuleSpec(name, self._loader, origin=entry.file)  # type: ignore[arg-type]
        spec.has_location = True
        return spec

    def invalidate_caches(self) -> None:
        """Forget nothing: files are looked at afresh anyway."""

    # -- the import statement --------------------------------------------------

    def namespace_builtins(self) -> dict[str, Any]:
        """Return the ``__builtins__`` of loaded modules, in step with the real ones.

        It is a copy, so a name that is put into `builtins` later (gettext's ``_``)
        is copied when the next module is loaded or looked at.
        """
        own = self._builtins
        for name, value in builtins.__dict__.items():
            if own.get(name, _MISSING) is not value and name != "__import__":
                own[name] = value
        if "__import__" not in own:
            own["__import__"] = self._import
        return own

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002  (the names of __import__)
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """Stand in for ``__import__`` in loaded modules.

        The C function PyImport_Import() calls it too, on behalf of C code that a
        loaded module has called (`time.strptime` imports ``_strptime``).  Its
        fromlist is a list, never what a statement gives; those imports are not
        the module's and go straight on.
        """
        if level == 0 and fromlist.__class__ is not list:
            importing = sys._getframe(1).f_globals if globals is None else globals
            info = importing.get("__mp_info__")
            if info.__class__ is ModuleInfo:
                parent = info.entry
                if "." not in name:
                    if len(builtins.__dict__) != len(self._builtins):
                        self.namespace_builtins()
                    module = self._sibling(parent, name, importing)
                    if module is not None:
                        return module
                try:
                    return builtins.__import__(name, globals, locals, fromlist or (), 0)
                except ModuleNotFoundError as exc:
                    top = name.partition(".")[0]
                    if exc.name != top or not _has_top(parent.directory, top):
                        raise
                # A package or extension module beside the importing module.
                paths.add(parent.directory, first=False)
        return builtins.__import__(name, globals, locals, fromlist or (), level)

    def _sibling(self, parent: Entry, name: str, importing: Mapping[str, Any]) -> ModuleType | None:
        """Return the module ``name.py`` that an import statement means, or None."""
        now = self.clock()
        found = parent.names.get(name)
        # While the parent loads, and once per interval, look again.
        if found is None or parent.owner or now >= found[1]:
            directories = [parent.directory, *_strings(importing.get("__mp_path__"))]
            file = _search(name, directories)
            if file is None:
                current = scope.current()
                if current is not None and len(current.settings) > 4 and current.settings[4]:
                    file = _search(name, _option_path(current))
            found = parent.names[name] = (file, now + self.interval)
        file = found[0]
        if file is None or _is_ordinary(name, file):
            return None
        return self._obtain(self.entry(file), importing, None, None)

    # -- import_module() -------------------------------------------------------

    def import_module(
        self,
        name: str,
        caller: Mapping[str, Any],
        autoreload: bool | None = None,
        log: bool | None = None,
        path: Iterable[str] | None = None,
    ) -> ModuleType:
        """Do the work of `apache.import_module`, called from code with globals `caller`."""
        if not isinstance(name, str):
            raise TypeError(f"module name must be str, not {type(name).__name__}")
        if isinstance(path, (str, bytes)):
            raise TypeError(f"path must be a list of directories, not {path!r}")
        info = caller.get("__mp_info__")
        parent = info.entry if info.__class__ is ModuleInfo else None
        current = scope.current()
        directories = [] if path is None else list(path)
        file = None
        root = None
        if name.startswith("/"):
            file = os.path.normpath(name)
        elif name.startswith("~/"):
            root = None if current is None else current.root()
            if root is not None:
                file = os.path.normpath(root + "/" + name[2:])
        elif name.startswith(("./", "../")) and parent is not None:
            file = os.path.normpath(parent.directory + "/" + name)
        if file is not None:
            return self._obtain(self.entry(file, directories), caller, autoreload, log, current)
        if "." not in name:
            search = _under_root(directories, current)
            if parent is not None:
                search += [parent.directory, *_strings(caller.get("__mp_path__"))]
            if current is not None:
                search += _option_path(current)
            file = _search(name, search)
            if file is not None and not _is_ordinary(name, file):
                return self._obtain(self.entry(file), caller, autoreload, log, current)
        return _ordinary(name)

    def locate_handler(
        self, handler: Handler, subject: Any, settings: tuple[Any, ...]
    ) -> tuple[Entry | None, ModuleType | None]:
        """Find the module that a handler string names.

        Args:
            handler: the handler.
            subject: the request, connection or server it is for.
            settings: the settings in force.

        Returns:
            the record of its file and None, or None and an ordinary module.

        Raises:
            ImportError: there is no such module.
            ValueError: a relative path where there is no directory.
        """
        name = handler.module_name
        current = scope.Scope(subject, handler, settings)
        if name.startswith("/"):
            return self.entry(os.path.normpath(name)), None
        if name.startswith(("~/", "./", "../")):
            base = current.root() if name[0] == "~" else handler.directory
            if base is None:
                raise plain(
                    ValueError(
                        f"the handler {handler.text!r} is relative to a directory, but where it is "
                        "configured there is none; use an absolute path"
                    )
                )
            return self.entry(os.path.normpath(base + "/" + name.removeprefix("~/"))), None
        if "." not in name:
            directories = [] if handler.directory is None else [handler.directory]
            file = _search(name, directories + _option_path(current))
            if file is not None and not _is_ordinary(name, file):
                return self.entry(file), None
        directory = handler.directory
        top = name.partition(".")[0]
        if directory is None or settings[2] is not None or not _has_top(directory, top):
            return None, _ordinary(name)
        # A package in the handler directory, which earlier generations found
        # because they put every such directory on sys.path.
        paths.add(directory, first=True)
        module = _ordinary(name)
        if directory not in self._warned and not _inside(sys.modules[top], directory):
            self._warned.add(directory)
            self._log(
                f"mod_python: handler {handler.text!r}: '{top}' in {directory} is not used, because "
                f"this interpreter already has a package of that name, "
                f"{getattr(sys.modules[top], '__file__', None)}; use another name or interpreter",
                4,
            )
        return None, module

    # -- records ---------------------------------------------------------------

    def entry(self, file: str, path: Iterable[str] = ()) -> Entry:
        """Return the record of a file, made if need be.

        Args:
            file: absolute, normalised path.
            path: initial ``__mp_path__`` of the module, if it is not loaded yet.

        Raises:
            ImportError: there is no such file.
        """
        entry = self.files.get(file)
        if entry is None:
            # Clients may choose directories (<DirectoryMatch>) and names; records stay.
            try:
                os.stat(file)
            except (OSError, ValueError) as exc:
                raise plain(unreadable(file, exc)) from None
            with self.lock:
                entry = self.files.get(file)
                if entry is None:
                    entry = Entry(label_of(file, self.labels), file, list(path), self)
                    self.labels[entry.label] = entry
                    self.files[file] = entry
        return entry

    def _obtain(
        self,
        entry: Entry,
        importing: Mapping[str, Any],
        autoreload: bool | None,
        log: bool | None,
        current: scope.Scope | None = None,
    ) -> ModuleType:
        """Return a module for code that imports it, and note the dependency."""
        info = importing.get("__mp_info__")
        parent = info.entry if info.__class__ is ModuleInfo else None
        loading = parent is not None and parent.owner == get_ident()
        if parent is entry:
            raise plain(ImportError(f"Import cycle: {entry.file} imports itself", path=entry.file))
        entry.asked(loading)
        if current is None:
            current = scope.current()
        if autoreload is None:
            autoreload = self.autoreload if current is None else bool(current.settings[1])
        if log is None:
            log = current is not None and bool(current.settings[0])
        seen = None
        if autoreload and current is not None and not self.frozen:
            seen = current.seen()
            module = seen.get(entry.label)
            if module is None and entry.module is not None and not loading:
                # What the running handler's module has imported is obtained too, and
                # what those that were obtained have.
                module = _within([current.handler.entry, *[self.labels.get(label) for label in seen]], entry)
        else:
            module = None
        if module is None:
            module = self.get(entry, autoreload, log, loading)
            if seen is not None and module is entry.module:
                seen[entry.label] = module
        if loading and parent is not None:
            parent.pending[entry] = module
        return module

    # -- loading ---------------------------------------------------------------

    def get(self, entry: Entry, autoreload: bool, log: bool = False, now: bool = False) -> ModuleType:
        """Return the module of a record, loaded or reloaded if need be.

        Args:
            entry: the record.
            autoreload: whether to look for changes.
            log: whether to log loads at level notice.
            now: look for changes even if that was done within the last interval.

        Raises:
            ImportError: there is no such file, or another thread failed to load it.
            Exception: what executing the module raises.
        """
        module = entry.module
        if module is not None and not entry.dirty:
            if not autoreload or self.frozen or not self._stale(entry, now):
                return module
        elif module is not None and self.frozen and not entry.failed:
            return module
        me = get_ident()
        outermost = me not in self._depth
        self._depth[me] = self._depth.get(me, 0) + 1
        try:
            try:
                module = self._load(entry, log)
            except Exception:
                if not outermost or not self._settle(me):
                    raise
                # It failed after being given a module that another thread had only
                # half loaded; that one is whole now.
                module = self._load(entry, log)
            if outermost:
                self._settle(me)
            return module
        finally:
            if outermost:
                del self._depth[me]
                self.partial.pop(me, None)
            else:
                self._depth[me] -= 1

    def _load(self, entry: Entry, log: bool) -> ModuleType:
        label = entry.label
        me = get_ident()
        while True:
            with self.lock:
                old = entry.module
                if old is not None and not entry.dirty:
                    return old
                failures = self._attempts[me, label] = entry.failures
                if old is not None and sys.modules.get(label) is old:
                    del sys.modules[label]
                entry.log = log
            try:
                module = builtins.__import__(label)
            except RuntimeError as exc:
                if type(exc).__name__ != "_DeadlockError":
                    self._restore(entry)
                    raise
                # Another thread that waits for us is just beginning the load.
                sleep(0.001)
                continue
            except BaseException:
                self._restore(entry)
                raise
            finally:
                self._attempts.pop((me, label), None)
            if entry.module is module:
                return module
            if entry.owner == me:
                if log:
                    self._log(f"mod_python: import cycle: {entry.file} is being loaded", 5)
                return module
            if entry.owner and sys.modules.get(label) is module:
                self.partial.setdefault(me, []).append(entry)
                return module
            if entry.failures != failures:
                raise _shared_failure(entry)

    def _restore(self, entry: Entry) -> None:
        """After a failed reload, let the label stand for the old module again."""
        with self.lock:
            if entry.module is not None and not entry.owner:
                sys.modules.setdefault(entry.label, entry.module)

    def _settle(self, me: int) -> bool:
        """Wait for the modules that this thread was given half loaded.

        Returns:
            whether there were any.
        """
        waiting = self.partial.pop(me, None)
        if not waiting:
            return False
        for entry in waiting:
            if entry.owner:
                try:
                    builtins.__import__(entry.label)
                except Exception:  # reported by the thread that loads it
                    pass
        return True

    # -- changes ---------------------------------------------------------------

    def _stale(self, entry: Entry, now: bool) -> bool:
        """Whether a loaded module must be loaded again; looks once per interval."""
        if not now and self.clock() < entry.checked + self.interval:
            return False
        self.namespace_builtins()
        stale = self._changed(entry, set())
        entry.checked = self.clock()
        return stale

    def _changed(self, entry: Entry, visited: set[Entry]) -> bool:
        if entry in visited:
            return False
        visited.add(entry)
        if entry.dirty:
            return True
        if entry.owner:
            return False
        instance = entry.instance
        try:
            stamp = stamp_of(os.stat(entry.file))
        except OSError as exc:
            if not entry.missing:
                entry.missing = True
                self._log(
                    f"mod_python: {entry.file} cannot be examined any more "
                    f"({exc.strerror}); the module loaded from it stays in use",
                    4,
                )
        else:
            entry.missing = False
            if stamp != entry.stamp:
                return self._mark(entry, instance)
        for child, module in list(entry.children.items()):
            same = child.module is module or child.loading is module
            if not same or self._changed(child, visited):
                return self._mark(entry, instance)
        return False

    def _mark(self, entry: Entry, instance: int) -> bool:
        """Mark a module as stale, unless another thread has just loaded it again."""
        with self.lock:
            if entry.instance == instance:
                entry.dirty = True
            return entry.dirty

    def warn_about(self, entry: Entry) -> None:
        """Log the load of a module, and once that its directory is on `sys.path`."""
        verb = "loading" if entry.module is None else "reloading"
        self._log(f"mod_python: {verb} {entry.file}", 5)
        if entry.directory not in self._warned and paths.contains(entry.directory):
            self._warned.add(entry.directory)
            self._log(
                f"mod_python: {entry.directory} is also in sys.path: a module there may be "
                "loaded twice, once by file and once as an ordinary import",
                4,
            )

    def log(self, message: str, level: int) -> None:
        """Write to the log, with a level APLOG_*."""
        self._log(message, level)


# -- searching -----------------------------------------------------------------


def _search(name: str, directories: Iterable[str]) -> str | None:
    """Return the first ``<directory>/<name>.py`` that is a file, normalised."""
    for directory in directories:
        file = os.path.normpath(f"{directory}/{name}.py")
        if file.startswith("/") and os.path.isfile(file):
            return file
    return None


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _under_root(directories: Iterable[str], current: scope.Scope | None) -> list[str]:
    """Replace ``~`` and a leading ``~/`` by the handler root; without one, drop them."""
    result = []
    for directory in directories:
        if directory == "~" or directory.startswith("~/"):
            root = None if current is None else current.root()
            if root is None:
                continue
            directory = root + "/" + directory[2:]
        result.append(directory)
    return result


def _option_path(current: scope.Scope) -> list[str]:
    """Directories of ``PythonOption mod_python.importer.path``, a list expression."""
    settings = current.settings
    text = settings[4] if len(settings) > 4 else None
    if not text:
        return []
    value = eval(text, {"os": os})
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(
            "PythonOption mod_python.importer.path must be an expression that gives a list of "
            f"directories (str); {text!r} gives {value!r:.200}"
        )
    return _under_root(value, current)


def _is_ordinary(name: str, file: str) -> bool:
    """Whether an ordinary import has already loaded this very file under this name.

    PythonImport with a name on PythonPath does that; loading the file a second
    time would give the handler a copy without the state that was set up.
    """
    module = sys.modules.get(name)
    return module is not None and getattr(module, "__file__", None) == file


def _ordinary(name: str) -> ModuleType:
    """Import a module, dots allowed, with the standard import system."""
    __import__(name)
    return sys.modules[name]


def _shared_failure(entry: Entry) -> ImportError:
    """Make the exception for threads that waited for a load that failed."""
    return plain(
        ImportError(
            f"{entry.file} could not be loaded; the request that tried a moment ago failed with {entry.failed}",
            path=entry.file,
        )
    )


def _has_top(directory: str, name: str) -> bool:
    """Whether a directory holds a package or module that an import would find.

    A plain directory (a namespace package) counts only if nothing else has the name.
    """
    # The import system remembers each directory that it was asked about.
    if not os.path.isdir(directory):
        return False
    spec = PathFinder.find_spec(name, [directory])
    if spec is None:
        return False
    return spec.loader is not None or PathFinder.find_spec(name) is None


def _inside(module: ModuleType, directory: str) -> bool:
    file = getattr(module, "__file__", None)
    return file is None or file.startswith(directory.rstrip("/") + "/")


def _within(roots: Iterable[Entry | None], wanted: Entry) -> ModuleType | None:
    """The module that one of `roots`, or what it imports at any depth, has for `wanted`."""
    queue = [root for root in roots if root is not None]
    if wanted in queue:
        return wanted.module
    visited = set(queue)
    while queue:
        for child, module in list(queue.pop().children.items()):
            if child is wanted:
                return module
            if child not in visited:
                visited.add(child)
                queue.append(child)
    return None


def _log(message: str, level: int) -> None:
    from mod_python import apache

    apache.log_error(message, level, apache.main_server)


_default: Importer | None = None
_default_lock = allocate_lock()


def default() -> Importer:
    """Return the importer of this interpreter."""
    global _default
    if _default is None:
        with _default_lock:
            if _default is None:
                _default = Importer()
    return _default
