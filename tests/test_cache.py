"""The caches of `mod_python.cache`, also with many threads."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mod_python.cache import (
    NOT_INITIALIZED,
    Cache,
    Entry,
    FileCache,
    FunctionCache,
    ModuleCache,
    WeakCache,
)

TIMEOUT = 30.0


class Counting(Cache):
    """Makes a value from the name and the number of times that one was made."""

    def __init__(self, max_size: int = 0) -> None:
        super().__init__(max_size)
        self.built: list[Any] = []
        self.commits = 0
        self.stale: set[Any] = set()

    def check(self, key: Any, name: Any, entry: Entry) -> Any:
        return "opened" if name in self.stale else None

    def build(self, key: Any, name: Any, opened: Any, entry: Entry) -> Any:
        self.built.append((key, name, opened))
        return f"{name} {len(self.built)}"

    def commit(self) -> None:
        self.commits += 1


def together(count: int, function: Callable[[int], object]) -> None:
    """Run a function in several threads that begin at the same time; raise what they raise."""
    barrier = threading.Barrier(count)
    problems: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait(TIMEOUT)
            function(number)
        except BaseException as exc:
            problems.append(exc)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    if problems:
        raise problems[0]


class TestCache:
    def test_values_are_made_once(self) -> None:
        cache = Counting()
        assert cache["a"] == cache["a"] == "a 1"
        assert cache["b"] == "b 2"
        assert cache.built == [("a", "a", None), ("b", "b", None)]

    def test_stale_ones_are_made_again(self) -> None:
        cache = Counting()
        assert cache["a"] == "a 1"
        cache.stale.add("a")
        assert cache["a"] == "a 2"
        assert cache.built[1] == ("a", "a", "opened")
        cache.stale.clear()
        assert cache["a"] == "a 2"

    def test_the_marker_stands_in_an_entry_at_first(self) -> None:
        seen = []

        class Looking(Counting):
            def check(self, key: Any, name: Any, entry: Entry) -> Any:
                seen.append(entry._value)
                return super().check(key, name, entry)

        cache = Looking()
        assert cache["a"] == cache["a"]
        assert seen == [NOT_INITIALIZED, "a 1"]
        assert repr(NOT_INITIALIZED) == "NOT_INITIALIZED"
        assert not NOT_INITIALIZED

    def test_without_build(self) -> None:
        with pytest.raises(NotImplementedError, match="'a'"):
            Cache()["a"]

    def test_like_a_dictionary(self) -> None:
        cache = Counting()
        assert not cache
        cache["a"] = 1
        assert "a" in cache
        assert "b" not in cache
        assert (cache["a"], len(cache), list(cache), cache.keys()) == (1, 1, ["a"], ["a"])
        assert cache.get("b") == "b 1"
        assert len(cache) == 2
        del cache["a"]
        assert "a" not in cache
        with pytest.raises(KeyError, match="'a'"):
            del cache["a"]
        cache.clear()
        assert len(cache) == 0
        assert cache.mru() is None
        assert cache.lru() is None

    def test_get_gives_a_default_for_what_does_not_exist(self) -> None:
        class Known(Cache):
            def build(self, key: Any, name: Any, opened: Any, entry: Entry) -> Any:
                return {"a": 1}[name]

        cache = Known()
        assert cache.get("a") == 1
        assert cache.get("b") is None
        assert cache.get("b", 2) == 2
        assert len(cache) == 1

    def test_none_is_a_value(self) -> None:
        cache = Counting()
        cache["a"] = None
        assert cache["a"] is None
        assert "a" in cache

    def test_key(self) -> None:
        class Caseless(Counting):
            def key(self, name: Any) -> Any:
                return name.lower()

        cache = Caseless()
        assert cache["A"] == cache["a"] == "A 1"
        assert "a" in cache
        assert cache.keys() == ["a"]
        cache["B"] = 2
        del cache["b"]
        assert cache.built == [("a", "A", None)]

    def test_commit_follows_every_change(self) -> None:
        cache = Counting()
        counts = []
        for change in (
            lambda: cache["a"],
            lambda: cache["a"],
            lambda: cache.__setitem__("b", 1),
            lambda: cache.__delitem__("b"),
            cache.clear,
        ):
            change()
            counts.append(cache.commits)
        assert counts == [1, 1, 2, 3, 4]

    def test_a_bound(self) -> None:
        cache = Counting(max_size=3)
        for name in "abc":
            cache[name]
        cache["a"]
        assert (cache.mru(), cache.lru()) == ("a", "b")
        cache["d"]
        assert cache.keys() == ["c", "a", "d"]
        cache["e"] = 1
        assert cache.keys() == ["a", "d", "e"]
        cache["a"] = 2
        assert cache.keys() == ["d", "e", "a"]
        assert len(cache.built) == 4
        with pytest.raises(ValueError, match="max_size"):
            Cache(-1)

    def test_what_fails_is_not_kept(self) -> None:
        class Failing(Counting):
            fail = True

            def build(self, key: Any, name: Any, opened: Any, entry: Entry) -> Any:
                if self.fail:
                    raise OSError("not now")
                return super().build(key, name, opened, entry)

        cache = Failing()
        with pytest.raises(OSError, match="not now"):
            cache["a"]
        assert not cache._entries
        cache.fail = False
        assert cache["a"] == "a 1"
        cache.fail = True
        cache.stale.add("a")
        with pytest.raises(OSError, match="not now"):
            cache["a"]
        cache.stale.clear()
        assert cache["a"] == "a 1"


class TestThreads:
    def test_one_key_is_made_once(self) -> None:
        class Slow(Counting):
            def build(self, key: Any, name: Any, opened: Any, entry: Entry) -> Any:
                with pytest.raises(threading.BrokenBarrierError):
                    # Would pass if a second thread were here.
                    meeting.wait(0.05)
                return super().build(key, name, opened, entry)

        meeting = threading.Barrier(2)
        cache = Slow()
        answers: list[str] = []
        together(8, lambda number: answers.append(cache["a"]))
        assert answers == 8 * ["a 1"]

    def test_different_keys_are_made_at_the_same_time(self) -> None:
        class Meeting(Cache):
            def build(self, key: Any, name: Any, opened: Any, entry: Entry) -> Any:
                meeting.wait(TIMEOUT)
                return name

        meeting = threading.Barrier(4)
        cache = Meeting()
        together(4, lambda number: cache[number])
        assert sorted(cache) == [0, 1, 2, 3]

    def test_those_who_wait_for_a_failure_try_themselves(self) -> None:
        class Failing(Counting):
            def build(self, key: Any, name: Any, opened: Any, entry: Entry) -> Any:
                value = super().build(key, name, opened, entry)
                if len(self.built) < 4:
                    raise OSError(value)
                return value

        cache = Failing()
        answers: list[str] = []

        def ask(number: int) -> None:
            try:
                answers.append(cache["a"])
            except OSError:
                answers.append("failed")

        together(8, ask)
        assert sorted(answers) == 5 * ["a 4"] + 3 * ["failed"]
        assert len(cache.built) == 4

    def test_a_value_that_is_set_while_one_is_made_stays(self) -> None:
        class Slow(Counting):
            def build(self, key: Any, name: Any, opened: Any, entry: Entry) -> Any:
                begun.set()
                assert go_on.wait(TIMEOUT)
                return "made"

        begun, go_on = threading.Event(), threading.Event()
        cache = Slow()
        answers: list[str] = []
        thread = threading.Thread(target=lambda: answers.append(cache["a"]))
        thread.start()
        assert begun.wait(TIMEOUT)
        cache["a"] = "set"
        assert cache["a"] == "set"
        go_on.set()
        thread.join(TIMEOUT)
        assert answers == ["made"]
        assert cache["a"] == "set"

    def test_a_small_cache_under_load(self) -> None:
        cache = Counting(max_size=5)

        def use(number: int) -> None:
            for turn in range(300):
                name = (number * 7 + turn * 3) % 11
                assert cache[name].startswith(f"{name} ")
                if turn % 5 == 0:
                    cache[name] = f"{name} set"
                if turn % 17 == 0:
                    cache.clear()
                cache.keys()

        together(8, use)
        assert len(cache) <= 5
        assert len(cache._entries) <= 5


class Value:
    """Something that can be referred to weakly."""

    def __init__(self, name: object) -> None:
        self.name = name


class TestWeakCache:
    class Values(WeakCache):
        count = 0

        def build(self, key: Any, name: Any, opened: Any, entry: Entry) -> Any:
            self.count += 1
            return Value(name)

    def test_values_live_as_long_as_they_are_used(self) -> None:
        cache = self.Values()
        first = cache["a"]
        assert cache["a"] is first
        assert len(cache) == 1
        del first
        gc.collect()
        assert len(cache) == 0
        assert "a" not in cache
        kept = cache["a"]
        assert (kept.name, cache.count) == ("a", 2)
        for name in range(100):
            cache[name]
        gc.collect()
        last = cache["last"]
        assert len(cache._entries) <= 3
        assert cache["last"] is last
        assert cache["a"] is kept

    def test_a_value_can_be_set(self) -> None:
        cache = self.Values(max_size=1)
        value, other = Value(1), Value(2)
        cache["a"] = value
        assert cache["a"] is value
        cache["b"] = other
        assert cache.keys() == ["b"]

    def test_other_kinds_are_refused(self) -> None:
        class Texts(WeakCache):
            def build(self, key: Any, name: Any, opened: Any, entry: Entry) -> Any:
                return "text"

        cache = Texts()
        with pytest.raises(TypeError, match="weak reference"):
            cache["a"]
        assert not cache._entries

    def test_under_load(self) -> None:
        cache = self.Values()

        def use(number: int) -> None:
            for turn in range(300):
                name = (number + turn) % 7
                assert cache[name].name == name
                cache.keys()

        together(8, use)


class TestFileCache:
    def test_files_are_read_again_when_they_change(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_bytes(b"one\r\n")
        cache = FileCache()
        assert cache[str(file)] == b"one\r\n"
        first = cache[str(file)]
        assert cache[str(file)] is first
        file.write_bytes(b"two")
        os.utime(file, ns=(0, 0))  # an older time is a change, too
        assert cache[str(file)] == b"two"

    def test_text(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_bytes("caf\u00e9\r\n".encode())
        assert FileCache(10, "r")[file] == "caf\u00e9\n"

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        cache = FileCache(max_size=1)
        with pytest.raises(FileNotFoundError):
            cache[tmp_path / "none"]
        assert not cache._entries


class TestModuleCache:
    def test_modules(self, tmp_path: Path) -> None:
        file = tmp_path / "mod-ule.py"
        file.write_text("VALUE = __file__\n")
        cache = ModuleCache()
        module = cache[str(file)]
        assert module.VALUE == module.__file__ == str(file)
        assert module.__name__.endswith("mod_ule_py")
        assert cache[str(file)] is module
        file.write_text("VALUE = 'another'\n")
        assert cache[str(file)].VALUE == "another"

    def test_a_broken_one_is_tried_again(self, tmp_path: Path) -> None:
        file = tmp_path / "module.py"
        file.write_text("VALUE = 1\n")
        cache = ModuleCache(max_size=2)
        cache[str(file)]
        file.write_text("VALUE = 1 / 0\n")
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                cache[str(file)]
        file.write_text("VALUE = 20000\n")
        assert cache[str(file)].VALUE == 20000


class TestFunctionCache:
    def test_results_by_arguments(self) -> None:
        calls = []

        @FunctionCache
        def add(a: int, b: int = 0, **more: int) -> int:
            """Adds."""
            calls.append((a, b, more))
            return a + b + sum(more.values())

        assert [add(1), add(1), add(1, 2), add(1, b=2), add(b=2, a=1), add(a=1, b=2)] == [1, 1, 3, 3, 3, 3]
        assert calls == [(1, 0, {}), (1, 2, {}), (1, 2, {}), (1, 2, {})]
        assert add(1, x=2, y=3) == add(1, y=3, x=2) == 6
        assert add.__doc__ == "Adds."
        assert add.__name__ == "add"
        add.clear()
        add(1)
        assert len(calls) == 6

    def test_a_bound(self) -> None:
        cache = FunctionCache(str, max_size=2)
        assert [cache(n) for n in (1, 2, 3)] == ["1", "2", "3"]
        assert len(cache) == 2

    def test_arguments_must_be_hashable(self) -> None:
        with pytest.raises(TypeError, match="unhashable"):
            FunctionCache(len)([1])

    def test_failures_are_not_kept(self) -> None:
        cache = FunctionCache(int)
        for _ in range(2):
            with pytest.raises(ValueError, match="'x'"):
                cache("x")
        assert len(cache) == 0
