"""``__auth__`` and its like inside functions: what is read from compiled code, and what is refused."""

from __future__ import annotations

import textwrap
from types import CodeType, FunctionType
from typing import Any

import pytest

from mod_python._publisher import nested

MANY = "\n".join(f"    v{number} = {number}.5" for number in range(300))


def found(source: str) -> dict[str, Any]:
    """What is found in the function ``page`` of a source text."""
    scope: dict[str, Any] = {"deco": lambda function: function, "other": 1}
    exec(compile(textwrap.dedent(source), "<page>", "exec"), scope)
    page: FunctionType = scope["page"]
    result = nested.find(page.__code__, "page")
    return {
        name: FunctionType(value, scope) if isinstance(value, CodeType) else value for name, value in result.items()
    }


@pytest.mark.parametrize(
    "source",
    [
        "def page(req): return 1",
        "def page(req):\n    return __auth__",  # a global, which the module's own rule is
        "def page(req):\n    req.__auth__ = 1\n    return req.__access__",
        "def page(req):\n    return '__auth__'",
        "def page(req):\n    def inner():\n        __auth__ = 1\n    return inner",
    ],
)
def test_nothing(source: str) -> None:
    assert found(source) == {}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("__auth__ = 1", {"__auth__": 1}),
        ("__auth__ = True", {"__auth__": True}),
        ("__auth__ = False", {"__auth__": False}),
        ("__auth_realm__ = ''", {"__auth_realm__": ""}),
        ("__access__ = 0", {"__access__": 0}),
        ("__access__ = None", {"__access__": None}),
        ("__access__ = -1", {"__access__": -1}),
        ("__access__ = 1000000", {"__access__": 1000000}),
        ("__access__ = ('ann', 'bob')", {"__access__": ("ann", "bob")}),
        ("__access__ = ()", {"__access__": ()}),
        ("__auth_realm__ = 'Members'", {"__auth_realm__": "Members"}),
        ("__auth__ = 1\nx = req", {"__auth__": 1}),
        ("__auth__ = 1\n__access__ = ('ann',)\nreturn req", {"__auth__": 1, "__access__": ("ann",)}),
        ("x = 5\n__auth__ = 1\nreturn x", {"__auth__": 1}),
        ("if req:\n    __access__ = 0", {"__access__": 0}),  # not whether, but what: it restricts at most
        (f"{textwrap.dedent(MANY)}\n__access__ = ('ann',)", {"__access__": ("ann",)}),
        ("__auth__ = 1\ndef inner():\n    return __auth__\nreturn inner", {"__auth__": 1}),
    ],
)
def test_constants(body: str, expected: dict[str, Any]) -> None:
    assert found("def page(req):\n" + textwrap.indent(body, "    ")) == expected


@pytest.mark.parametrize(
    "definition",
    [
        "def __auth__(req, user, password): return (other, user, password)",
        "def __auth__(req: object, user: str, password: 'str') -> bool: return (other, user, password)",
        "__auth__ = None if 0 else 1\ndef __access__(req, user): return user",
    ],
)
def test_functions(definition: str) -> None:
    result = found("def page(req):\n" + textwrap.indent(definition, "    "))
    if "__access__" in result:
        assert result["__access__"](None, "ann") == "ann"
    else:
        assert result["__auth__"](None, "ann", "pw") == (1, "ann", "pw")


def test_functions_in_a_large_function() -> None:
    result = found(f"def page(req):\n{MANY}\n    def __access__(req, user):\n        return user\n    return v1")
    assert result["__access__"](None, "ann") == "ann"


def test_a_method() -> None:
    scope: dict[str, Any] = {}
    exec("class C:\n    def page(self, req):\n        def __auth__(req, u, p): return p\n        return 1", scope)
    assert set(nested.find(scope["C"].page.__code__, "page")) == {"__auth__"}


@pytest.mark.parametrize(
    "body",
    [
        "__auth__ = {'ann': 'pw'}",
        "__auth__ = {}",
        "__auth__ = other",
        "__auth__ = [1]",
        "__access__ = ['ann', 'bob', 'eve']",
        "__access__ = [req]",
        "__auth__ = other or 1",
        "__auth__ = 0 if req else 1",
        "__auth__ = 1 if req else 0",
        "__auth__ = x = 1",
        "x = __auth__ = 1",
        "__auth__ = 1\n__auth__ = 0",
        "if req:\n    __auth__ = 1\nelse:\n    __auth__ = 0",
        "__auth__, __access__ = req",
        "__auth__, x = req, 1",
        "x, __auth__ = 1, req",
        "(__auth__ := 1)",
        "__auth__ += 1",
        "for __auth__ in req: pass",
        "with req as __auth__: pass",
        "try:\n    req()\nexcept Exception as __auth__:\n    pass",
        "import sys as __auth__",
        "from sys import path as __access__",
        "class __auth__: pass",
        "del __auth__",
        "__auth__ = 1\ndel __auth__",
        "global __auth__\n__auth__ = 1",
        "if 0:\n    __auth__ = 1",
        "__auth__ = lambda req, user, password: True",
        "def check(req, user, password): return False\n__auth__ = check",
        "@deco\ndef __auth__(req, user, password): return False",
        "def __auth__(req, user, password, more=1): return False",
        "def __auth__(req, user, password, *, more=1): return False",
        "secret = req\ndef __auth__(req, user, password): return secret",
        "async def __auth__(req, user, password): return False",
        "def __auth__(req, user, password): yield False",
        "def __auth__(req, user, password): return False\n__auth__ = 1",
        "match req:\n    case __auth__: pass",
    ],
)
def test_refused(body: str) -> None:
    with pytest.raises(nested.NestedError) as error:
        found("def page(req):\n" + textwrap.indent(body, "    "))
    assert "<page>, line 1, in page(): __a" in str(error.value)


def test_a_parameter_of_the_name_is_refused() -> None:
    with pytest.raises(nested.NestedError, match="not bound"):
        found("def page(req, __access__=None): return 1")
