"""What the importer knows about a module, and how it executes one."""

from __future__ import annotations

import os
from _thread import get_ident
from time import time

from .lines import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container
    from importlib.machinery import ModuleSpec
    from types import CodeType, ModuleType

    from .importer import Importer

    # Modification time in nanoseconds, size in bytes, inode, device.
    Stamp = tuple[int, int, int, int]


def stamp_of(result: os.stat_result) -> Stamp:
    """Return what tells one version of a file from another.

    The modification time alone is not enough: restoring an older file, or two
    quick changes on a file system with coarse times, would go unnoticed.
    """
    return (result.st_mtime_ns, result.st_size, result.st_ino, result.st_dev)


def label_of(file: str, taken: Container[str]) -> str:
    """Make a label, the ``__name__`` of a module, from its path.

    It contains a hash of the path (64-bit FNV-1a), the same in every child
    process and every run, so that what one child pickles another can load.

    Args:
        file: absolute, normalised path.
        taken: labels that other files have.
    """
    value = 0xCBF29CE484222325
    for byte in os.fsencode(file):
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    stem = file.rpartition("/")[2].partition(".")[0]
    stem = "".join([char if char.isascii() and char.isalnum() else "_" for char in stem])
    label = base = f"_mp_{value:016x}_{stem}"
    number = 2
    while label in taken:
        label = f"{base}_{number}"
        number += 1
    return label


class Entry:
    """The record of one file.

    Attributes:
        label: ``__name__`` of its module.
        file: absolute, normalised path.
        directory: the directory of the file.
        path: initial ``__mp_path__``.
        module: the module last loaded completely, or None.
        stamp: what the file was when `module` was loaded.
        mtime: modification time of what was loaded, seconds since the epoch.
        ctime: when the module was loaded, seconds since the epoch.
        instance: how many times it was loaded.
        generation: the importer's count of loads when it was loaded.
        children: record -> module object it got, for what it imported while it
            was loaded.
        names: what import statements of the module mean: name -> (file or None,
            time at which to look again).
        checked: when the files were last looked at (the importer's clock).
        dirty: it must be loaded again.
        failed: text of the exception that the last load ended with, or "".
        failures: how many loads have failed for good.
        owner: identifier of the thread that executes it now, or 0.
        loading: the module object it is executing, or None.
        pending: `children` of the load in progress.
        missing: a warning was logged that the file has gone.
        atime: when the importer was last asked for the module, seconds since the
            epoch; 0.0 for never.
        direct: how often handlers and `import_module` asked for it.
        indirect: how often other modules did while they were loaded.
        log: whether the next load is logged.
    """

    __slots__ = (
        "__weakref__",
        "atime",
        "checked",
        "children",
        "ctime",
        "direct",
        "directory",
        "dirty",
        "failed",
        "failures",
        "file",
        "generation",
        "importer",
        "indirect",
        "instance",
        "label",
        "loading",
        "log",
        "missing",
        "module",
        "mtime",
        "names",
        "owner",
        "path",
        "pending",
        "stamp",
    )

    def __init__(self, label: str, file: str, path: list[str], importer: Importer) -> None:
        self.label = label
        self.file = file
        self.directory = file.rpartition("/")[0] or "/"
        self.path = path
        self.importer = importer
        self.module: ModuleType | None = None
        self.stamp: Stamp | None = None
        self.mtime = self.ctime = self.atime = 0.0
        self.instance = self.generation = 0
        self.direct = self.indirect = 0
        self.children: dict[Entry, ModuleType] = {}
        self.names: dict[str, tuple[str | None, float]] = {}
        self.checked = 0.0
        self.dirty = False
        self.failed = ""
        self.failures = 0
        self.owner = 0
        self.loading: ModuleType | None = None
        self.pending: dict[Entry, ModuleType] = {}
        self.missing = False
        self.log = False

    @property
    def reload(self) -> bool:
        """Whether the module is loaded again when it is next asked for."""
        return self.dirty

    def asked(self, indirect: bool = False) -> None:
        """Count that somebody asked for the module."""
        self.atime = time()
        if indirect:
            self.indirect += 1
        else:
            self.direct += 1

    def __repr__(self) -> str:
        return f"<Entry {self.file!r}>"


class ModuleInfo:
    """A loaded module's ``__mp_info__``.

    Attributes:
        entry: the importer's record.
        label: ``__name__`` of the module.
        file: its file.
        cache: the importer.
    """

    __slots__ = ("cache", "entry", "file", "label")

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.label = entry.label
        self.file = entry.file
        self.cache = entry.importer

    @property
    def children(self) -> list[str]:
        """Labels of the modules that it imported while it was loaded."""
        entry = self.entry
        return [child.label for child in (entry.pending or entry.children)]


class Loader:
    """Executes modules for the importer (`importlib.abc.Loader`)."""

    __slots__ = ("importer",)

    def __init__(self, importer: Importer) -> None:
        self.importer = importer

    def create_module(self, spec: ModuleSpec) -> None:
        """Let the import system make the module object."""

    def exec_module(self, module: ModuleType) -> None:
        """Execute a module's file in a new module object."""
        entry = self.importer.labels[module.__name__]
        if entry.log:
            self.importer.warn_about(entry)
        namespace = module.__dict__
        namespace["__builtins__"] = self.importer.namespace_builtins()
        namespace["__mp_info__"] = ModuleInfo(entry)
        namespace["__mp_path__"] = list(entry.path)
        entry.failed = ""
        entry.pending = {}
        entry.names = {}
        entry.loading = module
        entry.owner = get_ident()
        try:
            try:
                # Opened before its times are read: if it is replaced or written
                # to meanwhile, the stamp is the older one, and the change is seen.
                with open(entry.file, "rb") as file:
                    stat = os.fstat(file.fileno())
                    source = file.read()
            except OSError as exc:
                raise plain(unreadable(entry.file, exc)) from None
            # From bytes, so that the source's own encoding declaration counts.
            code = compile(source, entry.file, "exec", dont_inherit=True)
            del source
            if entry.module is not None:
                self._hand_over(entry, entry.module, module)
            exec(code, namespace)
        except BaseException as exc:
            with self.importer.lock:
                entry.dirty = entry.module is not None
                entry.failed = _describe(exc)
                # After being given a half-loaded module another attempt may succeed,
                # so those who wait are to try for themselves.
                if entry.owner not in self.importer.partial:
                    entry.failures += 1
            raise
        else:
            importer = self.importer
            importer.namespace_builtins()
            with importer.lock:
                importer.loads += 1
                entry.stamp = stamp_of(stat)
                entry.mtime = stat.st_mtime
                entry.ctime = time()
                entry.instance += 1
                entry.generation = importer.loads
                entry.children = entry.pending
                entry.checked = importer.clock()
                entry.missing = False
                entry.dirty = False
                # From here on other threads take the module.
                entry.module = module
        finally:
            entry.pending = {}
            entry.loading = None
            entry.owner = 0

    def _hand_over(self, entry: Entry, old: ModuleType, new: ModuleType) -> None:
        """Let the old module hand its state to the new one, if it wants to."""
        clone = old.__dict__.get("__mp_clone__")
        if clone is None:
            return
        try:
            clone(new)
            return
        except Exception as exc:
            self._log_failure(entry, "__mp_clone__", exc)
        purge = old.__dict__.get("__mp_purge__")
        if purge is not None:
            try:
                purge()
            except Exception as exc:
                self._log_failure(entry, "__mp_purge__", exc)

    def _log_failure(self, entry: Entry, name: str, exc: Exception) -> None:
        from .report import traceback_text

        self.importer.log(
            f"mod_python: {name} of {entry.file} failed; the module is loaded without the "
            f"state of the old one\n{traceback_text(exc)}",
            3,
        )

    # -- for linecache, inspect and pkgutil --------------------------------------

    def is_package(self, name: str) -> bool:
        """False: a module with a label is never a package."""
        return False

    def get_filename(self, name: str) -> str:
        """Return the file of a label."""
        return self._entry(name).file

    def get_data(self, path: str) -> bytes:
        """Return the content of a file."""
        with open(path, "rb") as file:
            return file.read()

    def get_code(self, name: str) -> CodeType:
        """Compile the module's file as it is now."""
        file = self.get_filename(name)
        return compile(self.get_data(file), file, "exec", dont_inherit=True)

    def get_source(self, name: str) -> str:
        """Return the text of the module's file as it is now."""
        from importlib.util import decode_source

        return decode_source(self.get_data(self.get_filename(name)))

    def _entry(self, name: str) -> Entry:
        try:
            return self.importer.labels[name]
        except KeyError:
            raise ImportError(f"{name} is no module of this importer", name=name) from None


def unreadable(file: str, exc: OSError | ValueError) -> ImportError:
    """Make the exception for a module file that cannot be read."""
    return ImportError(f"cannot read the module file {file}: {getattr(exc, 'strerror', None) or exc}", path=file)


def _describe(exc: BaseException) -> str:
    """One line about an exception, also if its text cannot be made."""
    try:
        return f"{type(exc).__name__}: {exc}"
    except Exception:
        return type(exc).__name__
