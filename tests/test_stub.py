"""The stub of the core, `_core.pyi`, names what the extension has, and nothing else."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

import mod_python
from tests.servers import running

HANDLER = """
import json
from mod_python import _core, apache

def handler(req):
    found = {}
    functions = {}
    for name, value in vars(_core).items():
        if name.startswith("_"):
            continue
        if isinstance(value, type) and value.__module__ in ("builtins", "mod_python._core"):
            members = found[name] = {}
            inherited = {k: v for base in reversed(value.__mro__[:-1]) for k, v in vars(base).items()}
            for member, what in inherited.items():
                kind = type(what).__name__
                if kind in ("method_descriptor", "getset_descriptor", "member_descriptor", "wrapper_descriptor"):
                    text = what.__doc__ if kind == "method_descriptor" else None
                    members[member] = [kind, text.partition("\\n")[0] if text else None]
        elif type(value).__name__ == "builtin_function_or_method" and value.__module__ == "mod_python._core":
            functions[name] = value.__doc__.partition("\\n")[0]
    req.write(json.dumps([found, functions]))
    return apache.OK
"""

STUB = Path(mod_python.__file__).parent / "_core.pyi"


@pytest.fixture(scope="module")
def extension() -> Any:
    with running(handler=HANDLER) as server:
        response = server.get("/")
        assert response.status == 200
        return json.loads(response.body)


def arguments(node: ast.FunctionDef) -> list[str]:
    """Names of the arguments of a function in the stub, those with a default marked."""
    names = [argument.arg for argument in node.args.args]
    defaults = len(node.args.defaults)
    found = [name + ("=" if number >= len(names) - defaults else "") for number, name in enumerate(names)]
    if node.args.kwonlyargs:
        found.append("*")
        for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
            found.append(argument.arg + ("=" if default is not None else ""))
    return found


def embedded(signature: str) -> list[str]:
    """The same from the signature that Cython puts into the docstring."""
    inside = signature.partition("(")[2].rpartition(")")[0]
    result = []
    for part in filter(None, inside.split(", ")):
        name, equals, _ = part.partition("=")
        result.append(name.partition(":")[0].strip() + equals)
    return result


def is_property(node: ast.FunctionDef) -> bool:
    return any(isinstance(item, ast.Name) and item.id == "property" for item in node.decorator_list)


def read_stub() -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """Classes with their members (None for an attribute, else arguments), and functions."""
    classes: dict[str, dict[str, Any]] = {}
    functions: dict[str, list[str]] = {}
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            functions[node.name] = arguments(node)
        elif isinstance(node, ast.ClassDef):
            bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
            members = classes[node.name] = {
                name: what for base in bases for name, what in classes.get(base, {}).items()
            }
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                    members[item.target.id] = None
                elif isinstance(item, ast.FunctionDef):
                    if is_property(item):
                        members[item.name] = None
                    elif not item.decorator_list:
                        members[item.name] = arguments(item)
    return classes, functions


def public(name: str) -> bool:
    return not name.startswith("__")


def test_classes(extension: Any) -> None:
    assert set(extension[0]) == set(read_stub()[0])


def test_functions(extension: Any) -> None:
    stub = read_stub()[1]
    assert {name: embedded(text) for name, text in extension[1].items()} == stub


@pytest.mark.parametrize("name", sorted(read_stub()[0]))
def test_members(extension: Any, name: str) -> None:
    found = {member: what for member, what in extension[0][name].items() if public(member)}
    stub = {member: what for member, what in read_stub()[0][name].items() if public(member)}
    assert sorted(found) == sorted(stub)
    for member, (kind, signature) in found.items():
        if kind == "method_descriptor":
            assert embedded(signature) == stub[member], member
        else:
            assert stub[member] is None, member


@pytest.mark.parametrize("name", sorted(read_stub()[0]))
def test_special_methods_of_the_stub_exist(extension: Any, name: str) -> None:
    special = {member for member in read_stub()[0][name] if not public(member)}
    # Attributes of their own come with an instance dictionary, not with these methods.
    special -= {"__init__", "__hash__", "__getattr__", "__setattr__"}
    assert special <= set(extension[0][name])
