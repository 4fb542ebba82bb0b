"""The same scripts as in `tests.scripted`, in connection handlers that are coroutine functions.

A test that is written for ordinary handlers is run a second time, with ``await`` where a
coroutine function needs it. So both kinds of handlers are held to the same rules.
"""

from __future__ import annotations

import ast
import contextlib
import os
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest

from tests.scripted import Scripted, running

#: Runs what the first line says. ``kept`` outlives the connection.
HANDLER = """
import asyncio, os, time
from mod_python import apache

kept = {}

async def settle(result):
    return await result if hasattr(result, "__await__") else result

async def connectionhandler(conn):
    source = bytes.fromhex((await conn.readline()).decode()).decode()
    scope = {"apache": apache, "kept": kept, "os": os, "asyncio": asyncio, "time": time, "settle": settle}
    exec(compile(source, "<test>", "exec"), scope)
    return await scope["handler"](conn)
"""

#: Options for tests in which nothing may be logged: that a busy machine keeps the loop waiting is no news.
SLOW_MACHINE = {"mod_python.async.slow_callback": "60"}

#: Methods of a connection that are awaited.
AWAITED = frozenset({"read", "readline", "readexactly", "readuntil", "peek", "flush", "write_eof", "__anext__"})


class _Awaiting(ast.NodeTransformer):
    """Put ``await`` before what an ordinary handler just calls.

    What a lambda or an inner function returns is awaited where it is called, if it is called
    ``read``, or ``call`` if it is not known whether there is anything to await.
    """

    def __init__(self) -> None:
        self.loops = 0

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        function, args = node.func, node.args
        if isinstance(function, ast.Attribute) and _is_conn(function.value) and function.attr in AWAITED:
            return ast.Await(node)
        if isinstance(function, ast.Name) and function.id == "read":
            return ast.Await(node)
        if isinstance(function, ast.Name) and function.id == "call":
            return ast.Await(ast.Call(ast.Name("settle", ast.Load()), [node], []))
        if isinstance(function, ast.Call) and isinstance(function.func, ast.Name) and function.func.id == "getattr":
            return ast.Await(node)
        if isinstance(function, ast.Name) and len(args) == 1 and _is_conn(args[0]):
            if function.id == "next":
                return ast.Await(ast.Call(ast.Name("anext", ast.Load()), args, []))
            if function.id == "iter":
                return ast.Call(ast.Name("aiter", ast.Load()), args, [])
            if function.id == "list":
                return ast.parse("[line async for line in conn]", mode="eval").body
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if node.attr == "__next__":
            node.attr = "__anext__"
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("__anext__") if node.value == "__next__" else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name("StopAsyncIteration", node.ctx) if node.id == "StopIteration" else node

    def visit_While(self, node: ast.While) -> ast.AST:
        self.loops += 1
        self.generic_visit(node)
        self.loops -= 1
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        self.loops += 1
        self.generic_visit(node)
        self.loops -= 1
        if _is_conn(node.iter):
            return ast.AsyncFor(node.target, node.iter, node.body, node.orelse)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        call = node.value
        # Nothing waits for the peer in write() itself.
        if not self.loops or not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
            return node
        if _is_conn(call.func.value) and call.func.attr == "write":
            return [node, *ast.parse("await conn.drain()").body]
        return node


def _is_conn(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id in ("conn", "gone")


def awaiting(body: str) -> str:
    """Return the body of an ordinary function as that of a coroutine function."""
    tree = ast.parse("def function():\n" + textwrap.indent(textwrap.dedent(body), "    "))
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    transformer = _Awaiting()
    statements: list[ast.stmt] = []
    for statement in function.body:
        made: Any = transformer.visit(statement)
        statements += made if isinstance(made, list) else [made]
    module = ast.fix_missing_locations(ast.Module(statements, []))
    return ast.unparse(module)


class AsyncScripted(Scripted):
    """A server whose scripts are coroutine functions.

    A body that contains ``await`` or ``async`` is taken as it is, any other one is turned into
    one that awaits.
    """

    @staticmethod
    def script(body: str, *, value: bool = False) -> bytes:
        body = textwrap.dedent(body)
        if "await " not in body and "async " not in body:
            body = awaiting(body)
        name = "function" if value else "handler"
        source = f"async def {name}(conn):\n" + textwrap.indent(body, "    ")
        if value:
            source += "\nasync def handler(conn):\n    conn.write(ascii(await function(conn)).encode())"
        return (source + "\n    return apache.OK\n").encode().hex().encode() + b"\n"


@contextlib.contextmanager
def async_scripted(config: str = "", **arguments: Any) -> Iterator[AsyncScripted]:
    """Run such a server.

    With prefork there are several processes, for one that is kept busy serves nobody else: what
    a handler keeps is found by another connection only where there is one child.
    """
    arguments = {"handler": HANDLER, "listen": 2, "tls": [1], "processes": 1, **arguments}
    arguments["options"] = {**SLOW_MACHINE, **arguments.get("options", {})}
    with running(config, **arguments) as server:
        kit = AsyncScripted(server)
        server.wait_for_log("AH00094")
        assert kit.value("return 1") == 1  # the loop has started
        yield kit


def either(config: str = "") -> Any:
    """Return a fixture: the server with ordinary handlers, and the one with coroutine functions."""
    from tests.scripted import scripted

    @pytest.fixture(scope="module", params=["sync", "async"])
    def kit(request: pytest.FixtureRequest) -> Iterator[Scripted]:
        with (async_scripted if request.param == "async" else scripted)(config) as kit:
            yield kit

    return kit


def ordinary_only(kit: Scripted) -> None:
    """Skip a test of what only ordinary handlers do."""
    if isinstance(kit, AsyncScripted):
        pytest.skip("only ordinary handlers do this, not coroutine functions")


def is_prefork() -> bool:
    """Whether a process serves one connection at a time."""
    return os.environ.get("MOD_PYTHON_TEST_MPM") == "prefork"
