"""What a Python file serves: decided by reading it, never by running it.

`mod_python serve FILE.py` may be typed by root, and importing a file runs it. So the
source is parsed, and the names it defines at its top level decide: ``connectionhandler``
owns whole connections, ``handler`` answers requests.
"""

from __future__ import annotations

import ast
import importlib.machinery
import os
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mod_python.httpd.config import quote, raw
from mod_python.httpd.errors import ConfigError

__all__ = ["Kind", "Target", "connection_or_request", "find_target"]

Kind = Literal["connection", "request"]

# Default function names of the two kinds (PythonConnectionHandler, PythonHandler).
_FUNCTIONS: dict[Kind, str] = {"connection": "connectionhandler", "request": "handler"}

# What a function with another name is, by its first parameter.
_PARAMETERS: dict[str, Kind] = {
    "conn": "connection",
    "connection": "connection",
    "req": "request",
    "request": "request",
}


@dataclass(frozen=True, slots=True)
class Target:
    """A handler to serve.

    Attributes:
        kind: ``"connection"`` or ``"request"``.
        text: The handler as a directive takes it: ``module::function``, or the
            absolute path of a file, followed by ``::function`` unless that is the default.
        source: The file that defines the function.
        search_path: Directory to put on ``sys.path``, or None if none is needed.
    """

    kind: Kind
    text: str
    source: Path
    search_path: Path | None = None

    def directives(self) -> list[str]:
        """Return the configuration lines that serve this handler.

        A request handler is set for all locations, so httpd maps no request to a file
        and reads no ``.htaccess``.
        """
        lines = []
        if self.search_path is not None:
            lines.append(f"PythonPath {quote(f'[{str(self.search_path)!r}] + sys.path')}")
        if self.kind == "connection":
            return [*lines, f"PythonConnectionHandler {self.text}"]
        return [
            *lines,
            '<Location "/">',
            "    SetHandler mod_python",
            f"    PythonHandler {self.text}",
            "</Location>",
        ]


def find_target(text: str, kind: Kind | None = None, directory: Path | None = None) -> Target:
    """Understand ``FILE.py``, ``FILE.py:function`` or ``package.module:function``.

    Args:
        text: What the user wrote.
        kind: The kind, when the user said it; else the function decides.
        directory: Where relative paths and modules are looked for first; None for the
            working directory.

    Returns:
        The handler.

    Raises:
        ConfigError: The file or module does not exist or cannot be parsed, or
            nothing in it tells what it serves.
    """
    directory = directory if directory is not None else Path.cwd()
    match = re.fullmatch(r"(?P<file>.+\.py)(?::(?P<function>[\w.]+))?", text, re.DOTALL)
    if match is not None:
        path = Path(os.path.abspath(directory / match["file"]))
        found, function = _decide(path, match["function"], kind)
        suffix = f"::{function}" if function != _FUNCTIONS[found] else ""
        return Target(found, raw(str(path), "the path") + suffix, path)
    match = re.fullmatch(r"(?P<module>\w+(?:\.\w+)*):(?P<function>\w+(?:\.\w+)*)", text)
    if match is None:
        raise ConfigError(f"{text}: there is no such file, and it is not package.module:function either")
    source, search_path = _find_module(match["module"], directory)
    found, function = _decide(source, match["function"], kind)
    return Target(found, f"{match['module']}::{function}", source, search_path)


def connection_or_request(source: str, name: str = "handler.py") -> Kind:
    """Tell which kind of handler a program defines.

    Args:
        source: Python source text.
        name: What to call it in messages.

    Returns:
        The kind.

    Raises:
        ConfigError: It cannot be parsed, or defines neither or both.
    """
    return _by_default_names(dict(_top_level(_parse(source, name))), name)


def _decide(path: Path, function: str | None, kind: Kind | None) -> tuple[Kind, str]:
    """Return the kind and the function's name."""
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    names = dict(_top_level(_parse(source, str(path))))
    if function is None:
        decided = kind if kind is not None else _by_default_names(names, str(path))
        function = _FUNCTIONS[decided]
        _must_define(names, function, path)
        return decided, function
    first = function.partition(".")[0]
    _must_define(names, first, path)
    if kind is not None:
        return kind, function
    for known, default in _FUNCTIONS.items():
        if function == default:
            return known, function
    found = _by_parameter(names[first]) if first == function else None
    if found is None:
        raise ConfigError(
            f"{path}: {function} could be a connection handler or a request handler; say which with "
            "--kind connection or --kind request (or name its parameter conn or req)"
        )
    return found, function


def _must_define(names: dict[str, ast.AST], function: str, path: Path) -> None:
    if function not in names and "*" not in names:
        raise ConfigError(f"{path}: defines no {function} at its top level")


def _by_default_names(names: dict[str, ast.AST], name: str) -> Kind:
    found: list[Kind] = [kind for kind, function in _FUNCTIONS.items() if function in names]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(
            f"{name}: defines both connectionhandler and handler; say which to serve with "
            "--kind connection or --kind request"
        )
    raise ConfigError(
        f"{name}: defines neither connectionhandler(conn) nor handler(req); name the function to "
        f"serve, as in {name}:FUNCTION"
    )


def _by_parameter(node: ast.AST) -> Kind | None:
    """Guess from the first parameter's name, else from its annotation."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return None
    parameters = [*node.args.posonlyargs, *node.args.args]
    if not parameters:
        return None
    first = parameters[0]
    if first.arg in _PARAMETERS:
        return _PARAMETERS[first.arg]
    hint = ast.unparse(first.annotation).rpartition(".")[2].strip("'\"") if first.annotation else ""
    return {"Connection": "connection", "Request": "request"}.get(hint)  # type: ignore[return-value]


def _parse(source: str | bytes, name: str) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the handler's own business, shown when it is run
            return ast.parse(source, name)
    except SyntaxError as error:
        raise ConfigError(f"{name} line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:  # NUL bytes, absurd nesting
        raise ConfigError(f"{name}: cannot be parsed: {error}") from error


def _top_level(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Yield the names bound at the top level, inside ``if`` and ``try`` included."""
    yield from _bound(tree.body)


def _bound(statements: Iterable[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    for node in statements:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node
            case ast.Import() | ast.ImportFrom():
                for alias in node.names:
                    yield alias.asname or alias.name.partition(".")[0], node
            case ast.Assign():
                for target in node.targets:
                    for part in ast.walk(target):
                        if isinstance(part, ast.Name):
                            yield part.id, node
            case ast.AnnAssign(target=ast.Name() as name):
                yield name.id, node
            case ast.If() | ast.For() | ast.While():
                yield from _bound([*node.body, *node.orelse])
            case ast.With():
                yield from _bound(node.body)
            case ast.Try() | ast.TryStar():
                yield from _bound([*node.body, *node.orelse, *node.finalbody])
                for handler in node.handlers:
                    yield from _bound(handler.body)
            case _:
                pass


def _find_module(module: str, directory: Path) -> tuple[Path, Path | None]:
    """Find a module's source without importing it or its packages.

    `importlib.util.find_spec` would import the parent packages; asking the finders
    level by level does not.

    Returns:
        The source file, and `directory` if the module was found there, so that it has to
        be put on the path; else None.
    """
    unusable = None
    for search in ([str(directory)], None):
        spec = _find_spec(module, search)
        if spec is None:
            continue
        if spec.origin is not None and spec.origin.endswith(".py"):
            return Path(spec.origin), directory if search is not None else None
        unusable = spec.origin or "a directory without __init__.py"
    if unusable is not None:
        raise ConfigError(f"module {module} has no Python source ({unusable}); name another module")
    raise ConfigError(
        f"there is no module {module} in {directory} or on this Python's path; check the name, or "
        "change to the directory that holds it"
    )


def _find_spec(module: str, search: list[str] | None) -> importlib.machinery.ModuleSpec | None:
    parts = module.split(".")
    path: Iterable[str] | None = search
    spec = None
    for number in range(1, len(parts) + 1):
        name = ".".join(parts[:number])
        spec = _ask_finders(name, list(path) if path is not None else None, top=number == 1)
        if spec is None:
            return None
        path = spec.submodule_search_locations
        if path is None and number < len(parts):
            return None
    return spec


def _ask_finders(name: str, path: list[str] | None, top: bool) -> importlib.machinery.ModuleSpec | None:
    if path is not None:
        return importlib.machinery.PathFinder.find_spec(name, path)
    if not top:
        return None
    # The program's own directory and the working directory, which Python puts first on a
    # command's path, are not on the path of an interpreter inside httpd.
    own = {"", os.getcwd(), os.path.dirname(os.path.abspath(sys.argv[0]))}
    entries = [entry for entry in sys.path if entry not in own]
    for finder in sys.meta_path:
        if finder is importlib.machinery.PathFinder:
            spec = importlib.machinery.PathFinder.find_spec(name, entries)
        else:
            spec = finder.find_spec(name, None)
        if spec is not None:
            return spec
    return None
