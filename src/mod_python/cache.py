"""Caches that make missing values themselves, for use from many threads.

    from mod_python import cache

    pages = cache.FileCache(max_size=100)
    text = pages["/srv/app/page.html"]          # read now, and again when it has changed

    @cache.FunctionCache
    def square(x):
        return x * x

To make a cache of your own, derive from `Cache` and write `build`, and `check` if values
can become stale.  A value is made under a lock of its own: several threads that ask for
the same one wait for the first, those that ask for others do not.

Attributes:
    NOT_INITIALIZED: what stands in an entry until its value has been made.
"""

from __future__ import annotations

import os
from _thread import RLock
from weakref import ref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections import OrderedDict
    from collections.abc import Callable, Iterator
    from typing import IO, Any
else:
    from _collections import OrderedDict

__all__ = ["NOT_INITIALIZED", "Cache", "FileCache", "FunctionCache", "ModuleCache", "WeakCache"]


class _NotInitialized:
    __slots__ = ()

    def __repr__(self) -> str:
        return "NOT_INITIALIZED"

    def __bool__(self) -> bool:
        return False


NOT_INITIALIZED = _NotInitialized()


class Entry:
    """What a cache keeps for a key.

    `check` and `build` may store attributes of their own in it.
    """

    def __init__(self, key: Any) -> None:
        self._key = key
        self._value: Any = NOT_INITIALIZED
        self._lock = RLock()


class Cache:
    """A cache with the interface of a dictionary.

    Names are what the user of the cache writes, keys what it keeps values under; they
    are the same unless `key` is overridden.

    Args:
        max_size: how many values to keep; the least recently used one is dropped when
            there are more.  0 for no bound: then the keys must be bounded otherwise.
    """

    def __init__(self, max_size: int = 0) -> None:
        if max_size < 0:
            raise ValueError(f"max_size must be 0 (no bound) or more, not {max_size}")
        self.max_size = max_size
        self._entries: OrderedDict[Any, Entry] = OrderedDict()
        # Held for a few assignments, and while commit() runs.
        self._cache_lock = RLock()

    # -- to be overridden ----------------------------------------------------------

    def key(self, name: Any) -> Any:
        """Return the key for a name, which must be hashable; by default the name."""
        return name

    def check(self, key: Any, name: Any, entry: Entry) -> Any:
        """Tell whether a value is stale; by default it never is.

        Called each time a value is asked for, also before it is made for the first time
        (`entry._value` is `NOT_INITIALIZED` then), with the entry locked.

        Returns:
            None if it is fresh; otherwise anything `build` needs, such as an open file.
        """
        return None

    def build(self, key: Any, name: Any, opened: Any, entry: Entry) -> Any:
        """Make a value.

        Called with the entry locked.  It may ask the cache for other values, but two that
        need each other wait for ever.

        Args:
            key: the key.
            name: what was asked for.
            opened: what `check` returned.
            entry: the entry.

        Returns:
            the value.

        Raises:
            Exception: whoever asked gets it; nothing is kept but what was there before.
        """
        raise NotImplementedError(f"{type(self).__name__} has no build(): it cannot make a value for {name!r}")

    def commit(self) -> None:
        """Called after every change, with the cache locked; does nothing by default.

        It must not ask the cache for values.
        """

    # -- values --------------------------------------------------------------------

    def _load(self, entry: Entry) -> Any:
        """The value of an entry, or NOT_INITIALIZED."""
        return entry._value

    def _store(self, entry: Entry, value: Any) -> None:
        entry._value = value

    def __getitem__(self, name: Any) -> Any:
        key = self.key(name)
        while True:
            with self._cache_lock:
                entry = self._entries.get(key)
                if entry is None:
                    entry = self._entries[key] = Entry(key)
                elif self.max_size:
                    self._entries.move_to_end(key)
            with entry._lock:
                value = self._load(entry)
                if value is NOT_INITIALIZED and self._entries.get(key) is not entry:
                    continue  # another thread could not make it, or it was removed meanwhile
                try:
                    opened = self.check(key, name, entry)
                    if opened is None and value is not NOT_INITIALIZED:
                        return value
                    value = self.build(key, name, opened, entry)
                    self._store(entry, value)
                except BaseException:
                    self._forget(key, entry)
                    raise
            with self._cache_lock:
                self._make_room()
                self.commit()
            return value

    def _forget(self, key: Any, entry: Entry) -> None:
        """Remove an entry that got no value."""
        with self._cache_lock:
            if self._load(entry) is NOT_INITIALIZED and self._entries.get(key) is entry:
                del self._entries[key]

    def _make_room(self) -> None:
        """Drop what was not used for longest; what is being made stays."""
        excess = len(self._entries) - self.max_size if self.max_size else 0
        if excess <= 0:
            return
        for key, entry in list(self._entries.items()):
            if self._load(entry) is not NOT_INITIALIZED:
                del self._entries[key]
                excess -= 1
                if excess == 0:
                    return

    def __setitem__(self, name: Any, value: Any) -> None:
        key = self.key(name)
        # A new entry: if the old one is just being made, that must not replace this value.
        entry = Entry(key)
        self._store(entry, value)
        with self._cache_lock:
            self._entries[key] = entry
            if self.max_size:
                self._entries.move_to_end(key)
            self._make_room()
            self.commit()

    def __delitem__(self, name: Any) -> None:
        key = self.key(name)
        with self._cache_lock:
            if key not in self._entries:
                raise KeyError(name)
            del self._entries[key]
            self.commit()

    def clear(self) -> None:
        """Remove all values."""
        with self._cache_lock:
            self._entries.clear()
            self.commit()

    def get(self, name: Any, default: Any = None) -> Any:
        """Return the value for a name, made if need be; `default` if that raises KeyError."""
        try:
            return self[name]
        except KeyError:
            return default

    # -- looking, without making anything --------------------------------------------

    def __contains__(self, name: object) -> bool:
        entry = self._entries.get(self.key(name))
        return entry is not None and self._load(entry) is not NOT_INITIALIZED

    def keys(self) -> list[Any]:
        """Return the keys of all values; with a bound, the least recently used first."""
        with self._cache_lock:
            return [key for key, entry in self._entries.items() if self._load(entry) is not NOT_INITIALIZED]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def mru(self) -> Any:
        """Return the most recently used key; None without a bound or values."""
        keys = self.keys() if self.max_size else ()
        return keys[-1] if keys else None

    def lru(self) -> Any:
        """Return the least recently used key; None without a bound or values."""
        keys = self.keys() if self.max_size else ()
        return keys[0] if keys else None


class WeakCache(Cache):
    """A cache that keeps a value as long as somebody else uses it.

    Values must be of a kind that can be referred to weakly; a `str`, a number or a tuple
    is not (TypeError).
    """

    def __init__(self, max_size: int = 0) -> None:
        super().__init__(max_size)
        # References whose values have gone.  The garbage collector may say so while this
        # very thread looks through the entries, so they are removed later.
        self._gone: list[_Reference] = []

    def _load(self, entry: Entry) -> Any:
        value = entry._value
        if value is NOT_INITIALIZED:
            return value
        value = value()
        return NOT_INITIALIZED if value is None else value

    def _store(self, entry: Entry, value: Any) -> None:
        reference = _Reference(value, self._gone.append)
        reference.key = entry._key
        entry._value = reference

    def _make_room(self) -> None:
        for _ in range(len(self._gone)):
            reference = self._gone.pop()
            entry = self._entries.get(reference.key)
            # One that is locked is just being made anew.
            if entry is not None and entry._value is reference and entry._lock.acquire(blocking=False):
                try:
                    if entry._value is reference:
                        del self._entries[reference.key]
                finally:
                    entry._lock.release()
        super()._make_room()


class _Reference(ref):  # type: ignore[type-arg]
    __slots__ = ("key",)
    key: Any


class FileCache(Cache):
    """Contents of files, read again when the modification time or the size differs.

    Args:
        max_size: as for `Cache`.
        mode: ``"rb"`` for bytes; ``"r"`` for text in UTF-8.
    """

    def __init__(self, max_size: int = 0, mode: str = "rb") -> None:
        super().__init__(max_size)
        self.mode = mode

    def check(self, key: Any, name: Any, entry: Entry) -> IO[Any] | None:
        """Return the file, opened, if its content must be read."""
        if entry._value is not NOT_INITIALIZED and getattr(entry, "_timestamp", None) == _timestamp(os.stat(key)):
            return None
        return open(key, self.mode, encoding=None if "b" in self.mode else "utf-8")  # closed by build

    def build(self, key: Any, name: Any, opened: IO[Any], entry: Entry) -> Any:
        """Read the file."""
        with opened:
            # Before it is read: if it is written to meanwhile, it is read again.
            timestamp = _timestamp(os.fstat(opened.fileno()))
            value = self.make(key, name, opened.read())
        entry._timestamp = timestamp  # type: ignore[attr-defined]
        return value

    def make(self, key: Any, name: Any, content: Any) -> Any:
        """Make the value from the content of the file; by default, that itself."""
        return content


def _timestamp(result: os.stat_result) -> tuple[int, int]:
    return result.st_mtime_ns, result.st_size


class ModuleCache(FileCache):
    """Modules made by executing files, anew when a file has changed.

    The modules are not in `sys.modules`.  `apache.import_module` can do more: it also
    looks at what a module imports.

    Args:
        max_size: as for `Cache`.
    """

    def __init__(self, max_size: int = 0) -> None:
        super().__init__(max_size, "rb")

    def make(self, key: Any, name: Any, content: Any) -> Any:
        """Execute the source."""
        file = os.fspath(key)
        label = "".join([char if char.isalnum() else "_" for char in os.fsdecode(file)])
        module = type(os)(label)
        module.__file__ = file
        exec(compile(content, file, "exec", dont_inherit=True), module.__dict__)
        return module


class FunctionCache(Cache):
    """Results of a function, by its arguments, which must be hashable.

    Args:
        function: the function.
        max_size: as for `Cache`.

    Attributes:
        function: the function.
    """

    def __init__(self, function: Callable[..., Any], max_size: int = 0) -> None:
        super().__init__(max_size)
        self.function = function
        self.__wrapped__ = function
        self.__doc__ = function.__doc__
        self.__name__ = getattr(function, "__name__", type(function).__name__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return ``function(*args, **kwargs)``, perhaps from an earlier call."""
        return self[args, kwargs]

    def key(self, name: Any) -> Any:
        """A name is the pair of positional and keyword arguments."""
        args, kwargs = name
        return (args, tuple(sorted(kwargs.items()))) if kwargs else (args, ())

    def build(self, key: Any, name: Any, opened: Any, entry: Entry) -> Any:
        """Call the function."""
        args, kwargs = name
        return self.function(*args, **kwargs)
