"""Checks of a table class: plain functions that assert.

`apache.table` is a class of the core inside httpd and a pure Python class outside. The same
checks run on both: test_tables.py calls them directly, and has a handler call them in httpd.
So this file may use nothing but Python.
"""

from __future__ import annotations

from typing import Any


def raises(kind: type[BaseException], function: Any, *args: Any) -> BaseException:
    """Call a function that must raise; return the exception."""
    try:
        function(*args)
    except kind as exc:
        return exc
    raise AssertionError(f"no {kind.__name__} from {function!r}{args!r}")


def check_type_name(table: Any) -> None:
    assert table.__name__ == "mp_table"


def check_empty(table: Any) -> None:
    t = table()
    assert t.keys() == t.values() == t.items() == []
    assert len(t) == 0
    assert not t
    assert "k" not in t
    assert t == table()
    assert repr(t) == str(t) == "{}"
    t["k"] = "v"
    assert t
    t.clear()
    assert t == table()
    assert len(t) == 0


def check_constructor_mapping(table: Any) -> None:
    assert table({"a": 1, "b": None}).items() == [("a", "1"), ("b", "None")]
    assert table(items={"x": "y"}).items() == [("x", "y")]
    assert table(None).items() == []


def check_constructor_pairs(table: Any) -> None:
    assert table([("a", "1"), ["b", 2], "cd"]).items() == [("a", "1"), ("b", "2"), ("c", "d")]
    assert table(iter([("a", "1"), ("A", "2")])).values() == ["2"]
    raises(TypeError, table, [1])
    raises(ValueError, table, [("a",)])
    raises(ValueError, table, [("a", "b", "c")])
    raises(TypeError, table, 7)


def check_constructor_bytes(table: Any) -> None:
    assert table({b"a": b"\xe9"}).items() == [("a", "\xe9")]


def check_constructor_keeps_duplicates_of_a_table(table: Any) -> None:
    t = table()
    t.add("a", "1")
    t.add("A", "2")
    assert table(t).items() == [("a", "1"), ("A", "2")]


def check_get_item(table: Any) -> None:
    t = table({"Host": "h"})
    assert t["Host"] == t["HOST"] == t[b"host"] == "h"
    assert raises(KeyError, lambda: t["none"]).args == ("none",)


def check_lookup_compares_exactly(table: Any) -> None:
    t = table({"a01": "x", "b c": "y"})
    for other in ("a1", "bc", "a01 ", ""):
        raises(KeyError, lambda key=other: t[key])
        assert other not in t
        assert t.get(other) is None


def check_only_ascii_letters_fold(table: Any) -> None:
    t = table({"\xe9": "small"})
    assert "\xc9" not in t
    t["\xc9"] = "capital"
    assert len(t) == 2
    assert t != table({"\xe9": "capital"})
    assert t == {"\xc9": "capital", "\xe9": "small"}


def check_duplicates(table: Any) -> None:
    t = table()
    t.add("a", "1")
    t.add("b", "2")
    t.add("A", "3")
    assert t["a"] == ["1", "3"]
    assert t.get("a") == "1"
    assert len(t) == 3
    assert t.keys() == ["a", "b", "A"]
    assert t.values() == ["1", "2", "3"]
    assert t.items() == [("a", "1"), ("b", "2"), ("A", "3")]
    t["a"] = "9"
    assert t["a"] == "9"
    assert len(t) == 2
    t.add("A", "8")
    del t["a"]
    assert t.items() == [("b", "2")]


def check_delete(table: Any) -> None:
    t = table({"a": "1"})
    del t["none"]
    del t["A"]
    assert t.items() == []


def check_has_key(table: Any) -> None:
    t = table({"a": "1"})
    assert (t.has_key("A"), t.has_key("b")) == (1, 0)
    assert type(t.has_key("a")) is int


def check_get(table: Any) -> None:
    t = table({"a": "1"})
    assert t.get("a") == "1"
    assert t.get("a", "x") == "1"
    assert t.get("b") is None
    assert t.get("b", "x") == "x"
    assert t.get("b", default=3) == 3


def check_setdefault(table: Any) -> None:
    t = table()
    assert t.setdefault("a") == ""
    assert t["a"] == ""
    assert t.setdefault("b", "1") == "1"
    assert t.setdefault("B", "2") == "1"
    assert t["b"] == "1"
    t.add("b", "3")
    assert t.setdefault("b", "4") == "1"


def check_iteration(table: Any) -> None:
    t = table([("a", "1"), ("b", "2")])
    assert list(t) == list(t.iterkeys()) == ["a", "b"]
    assert list(t.itervalues()) == ["1", "2"]
    assert list(t.iteritems()) == [("a", "1"), ("b", "2")]
    for made in (iter(t), t.iterkeys(), t.itervalues(), t.iteritems()):
        assert iter(made) is made


def check_change_during_iteration(table: Any) -> None:
    changes: list[Any] = [lambda t: t.add("x", "y"), lambda t: t.clear(), lambda t: t.popitem()]
    for change in changes:
        t = table([("a", "1"), ("b", "2")])
        steps = iter(t)
        next(steps)
        change(t)
        raises(RuntimeError, next, steps)
    t = table([("a", "1"), ("b", "2")])
    for key in t:  # the number of entries stays
        t[key] = "9"
    assert t.values() == ["9", "9"]


def check_popitem(table: Any) -> None:
    for size in (1, 2, 3, 7, 64, 500, 2048):
        pairs = [(f"key{n}", f"value{n}") for n in range(size)]
        first, second = table(pairs), table(pairs)
        got = []
        while first:
            key, value = first.popitem()
            assert value == "value" + key[3:]
            got.append((key, value))
            assert second.popitem() == (key, value)
        assert sorted(got) == sorted(pairs)
        assert len(first) == 0
        raises(KeyError, first.popitem)


def check_popitem_of_duplicates(table: Any) -> None:
    t = table()
    for pair in [("a", "1"), ("b", "2"), ("A", "3"), ("c", ""), ("a", "4")]:
        t.add(*pair)
    assert t.popitem() == ("a", "4")
    assert t.items() == [("a", "1"), ("b", "2"), ("A", "3"), ("c", "")]
    assert t["a"] == ["1", "3"]
    assert t.popitem() == ("c", "")
    assert t.popitem() == ("A", "3")
    assert t.items() == [("a", "1"), ("b", "2")]


def check_update(table: Any) -> None:
    t = table()
    t.update({"a": "1", "b": "2"})
    t.update({"B": "3", "c": "4"})
    t.update({})
    assert t == {"a": "1", "b": "3", "c": "4"}
    raises(AttributeError, t.update, None)
    raises(AttributeError, t.update, [("a", "b")])
    t.update({1: 2, None: 3.5})
    assert t["1"] == "2"
    assert t["None"] == "3.5"


def check_update_from_any_mapping(table: Any) -> None:
    class Squares:
        def keys(self) -> list[int]:
            return [1, 2, 3]

        def __getitem__(self, key: int) -> int:
            return key * key

    t = table()
    t.update(Squares())
    assert t == table({1: 1, 2: 4, 3: 9})
    assert t["3"] == "9"


def check_update_passes_exceptions_on(table: Any) -> None:
    class FailureError(Exception):
        pass

    class Keys:
        def keys(self) -> Any:
            raise FailureError

    class Iter:
        def keys(self) -> Any:
            class Bad:
                def __iter__(self) -> Any:
                    raise FailureError

            return Bad()

    class Next:
        def keys(self) -> Any:
            class Bad:
                def __iter__(self) -> Any:
                    return self

                def __next__(self) -> Any:
                    raise FailureError

            return Bad()

    class Item:
        def keys(self) -> Any:
            return ["a"]

        def __getitem__(self, key: str) -> Any:
            raise FailureError

    for kind in (Keys, Iter, Next, Item):
        raises(FailureError, table().update, kind())


def check_update_from_a_table(table: Any) -> None:
    t = table({"a": "old", "keep": "1"})
    other = table()
    other.add("A", "1")
    other.add("a", "2")
    t.update(other)
    assert t["a"] == ["1", "2"]
    assert t["keep"] == "1"
    t.update(t)
    assert t["a"] == ["1", "2"]
    assert t["keep"] == "1"
    assert len(t) == 3


def check_copy(table: Any) -> None:
    assert table().copy() == table()
    t = table({"a": "1", "b": "2"})
    t.add("a", "3")
    copied = t.copy()
    assert copied == t
    assert copied.items() == t.items()
    copied["a"] = "9"
    copied.add("new", "1")
    assert t["a"] == ["1", "3"]
    assert "new" not in t


def check_equality(table: Any) -> None:
    t = table({"a": "1", "B": "2"})
    assert t == table({"b": "2", "A": "1"})
    assert t == {"A": "1", "b": "2"}
    assert t == {"a": "1", "B": "2"}
    assert (t != {"a": "1", "B": "2"}) is False
    assert t != {"a": "1"}
    assert t != {"a": "1", "b": "3"}
    assert t != {1: "1", "b": "2"}
    for other in (None, 1, "a", [("a", "1")], object()):
        assert t != other
        assert (t == other) is False
    t.add("a", "3")
    assert t == {"a": ["1", "3"], "b": "2"}


def check_order_of_duplicates_matters(table: Any) -> None:
    one, other = table(), table()
    for value in ("1", "2"):
        one.add("a", value)
    for value in ("2", "1"):
        other.add("a", value)
    assert one != other


def check_hash(table: Any) -> None:
    raises(TypeError, hash, table())


def check_repr(table: Any) -> None:
    t = table([("a", "1"), ("b", "'")])
    t.add("A", "\xe9")
    assert repr(t) == str(t) == """{'a': '1', 'b': "'", 'A': '\xe9'}"""


def check_types(table: Any) -> None:
    t = table({"a": "1"})
    for bad in (1, None, 1.5, ["x"], bytearray(b"x")):
        raises(TypeError, lambda value=bad: t[value])
        raises(TypeError, t.__setitem__, bad, "v")
        raises(TypeError, t.__setitem__, "k", bad)
        raises(TypeError, t.__delitem__, bad)
        raises(TypeError, t.add, bad, "v")
        raises(TypeError, t.add, "k", bad)
        raises(TypeError, t.get, bad)
        raises(TypeError, t.has_key, bad)
        raises(TypeError, t.__contains__, bad)
        raises(TypeError, t.setdefault, bad, "v")
        raises(TypeError, t.setdefault, "new", bad)
    assert t.items() == [("a", "1")]


def check_text_outside_latin_1(table: Any) -> None:
    t = table()
    raises(TypeError, t.__setitem__, "k", "\u20ac")
    raises(TypeError, t.add, "\u20ac", "v")
    raises(TypeError, table, {"k": "\u20ac"})
    raises(TypeError, t.update, {"k": "\u20ac"})
    assert not t


def check_nul(table: Any) -> None:
    t = table()
    for bad in ("a\0b", b"a\0b"):
        raises(ValueError, t.__setitem__, "k", bad)
        raises(ValueError, t.__setitem__, bad, "v")
        raises(ValueError, t.add, "k", bad)
        raises(ValueError, t.update, {"k": bad})
        raises(ValueError, t.get, bad)
    assert not t


def check_every_byte(table: Any) -> None:
    text = "".join(map(chr, range(1, 256)))
    t = table()
    t["k"] = text
    t.add("b", text.encode("latin-1"))
    assert t["k"] == t.get("b") == text
    assert t.values() == [text, text]
    assert list(t.iteritems()) == [("k", text), ("b", text)]
    assert text in repr(t) or repr(text) in repr(t)
    assert t.copy() == t
    assert t.popitem() == ("b", text)


def check_subclass(table: Any) -> None:
    class Mine(table):  # type: ignore[misc]
        def shout(self) -> str:
            return "".join(self.keys()).upper()

    t = Mine({"a": "1", "b": "2"})
    assert t.shout() == "AB"
    assert t == table({"a": "1", "b": "2"})
    t.own = 1
    assert t.own == 1

    class Other(table):  # type: ignore[misc]
        def __init__(self, first: str) -> None:
            super().__init__({"first": first})

    assert Other("x")["FIRST"] == "x"


def check_init_again(table: Any) -> None:
    t = table({"a": "1"})
    t.__init__({"b": "2"})
    assert t.items() == [("b", "2")]


def check_many_entries(table: Any) -> None:
    t = table()
    for number in range(5000):
        t.add(f"k{number % 50}", str(number))
    assert len(t) == 5000
    assert t["k7"] == [str(number) for number in range(7, 5000, 50)]
    del t["K7"]
    assert len(t) == 4900
    assert "k7" not in t
    assert t.items()[7] == ("k8", "8")


def check_set_keeps_the_place(table: Any) -> None:
    t = table([("a", "1"), ("b", "2"), ("c", "3")])
    t["B"] = "x"
    assert t.values() == ["1", "x", "3"]


CHECKS = sorted(name for name in globals() if name.startswith("check_"))
