"""The dispatcher: stacked handlers, statuses, connections, PythonImport, clean-ups."""

from __future__ import annotations

import http
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mod_python import apache
from mod_python._dispatch import cleanup, importer, paths, resolve
from mod_python._dispatch.dispatcher import PHASES, Dispatcher, check_status
from mod_python._dispatch.handler import MAX_INTERNED, Handler, intern
from mod_python._dispatch.hlist import mp_hlist
from tests.policy_fakes import FakeConnection, FakeRequest, FakeServer

STATUS = {"OK": apache.OK, "DECLINED": apache.DECLINED, "DONE": apache.DONE, "403": apache.HTTP_FORBIDDEN}


class Bench:
    """A dispatcher with an importer of its own, and a directory of handlers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.directory = f"{root}/"
        self.importer = importer.Importer(interval=0.0, log=lambda text, level: None)
        self.dispatcher = Dispatcher("test.example.com", self.importer)

    def write(self, name: str, source: str) -> None:
        (self.root / name).write_text(source)

    def handler(self, text: str, **more: Any) -> Handler:
        return Handler(text, self.directory, **more)

    def request(self, req: FakeRequest, *texts: str, phase: str = "PythonHandler", **more: Any) -> int:
        handlers = tuple([self.handler(text, **more) for text in texts])
        return self.dispatcher.request(req, phase, handlers)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    monkeypatch.setattr(importer, "_default", bench.importer)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(paths, "_applied", set())
    yield bench
    bench.importer.close()


STACK = """
from mod_python import apache

def make(status):
    def function(req):
        req.calls.append(req.hlist.handler)
        return status
    return function

ok = make(apache.OK)
declined = make(apache.DECLINED)
done = make(apache.DONE)
forbidden = make(apache.HTTP_FORBIDDEN)

def returns(req):
    req.calls.append(req.hlist.handler)
    raise apache.SERVER_RETURN(apache.OK)

def fails(req):
    req.calls.append(req.hlist.handler)
    raise ValueError("broken on purpose")

def sets_user(req):
    req.user = "somebody"
    return apache.OK
"""


# -- which handler runs next -------------------------------------------------------


@pytest.mark.parametrize("phase", sorted(PHASES))
@pytest.mark.parametrize("first", ["ok", "declined", "done", "forbidden"])
def test_stacking(bench: Bench, phase: str, first: str) -> None:
    bench.write("stack.py", STACK)
    only_declined = (
        "PythonTransHandler",
        "PythonAuthenHandler",
        "PythonAuthzHandler",
        "PythonTypeHandler",
        "PythonQuickHandler",
        "PythonMapToStorageHandler",
    )
    if phase == "PythonCleanupHandler":
        goes_on = True
    elif phase in only_declined:
        goes_on = first == "declined"
    else:
        goes_on = first in ("ok", "declined")
    req = FakeRequest()
    req.user = "somebody"
    status = bench.request(req, f"stack::{first}", "stack::ok", phase=phase)
    assert req.calls == [f"stack::{first}"] + ["stack::ok"] * goes_on
    expected = {"ok": 0, "declined": -1, "done": -2, "forbidden": 403}
    assert status == (0 if goes_on else expected[first])


def test_server_return_counts_like_a_returned_status(bench: Bench) -> None:
    bench.write("stack.py", STACK)
    req = FakeRequest()
    assert bench.request(req, "stack::returns", "stack::ok") == apache.OK
    assert req.calls == ["stack::returns", "stack::ok"]


def test_server_return_sets_the_status(bench: Bench) -> None:
    bench.write(
        "index.py",
        "from mod_python import apache\ndef handler(req):\n    raise apache.SERVER_RETURN(apache.DONE, 418)\n",
    )
    req = FakeRequest()
    assert bench.request(req, "index") == apache.DONE
    assert req.status == 418
    assert req.lines == []


@pytest.mark.parametrize("arguments", ["", "'text'", "1, 2, 3", "True", "None"])
def test_a_wrong_server_return_is_an_error(bench: Bench, arguments: str) -> None:
    bench.write(
        "index.py",
        f"from mod_python import apache\ndef handler(req):\n    raise apache.SERVER_RETURN({arguments})\n",
    )
    req = FakeRequest()
    assert bench.request(req, "index") == 500
    assert "SERVER_RETURN" in req.text().splitlines()[-1]


def test_an_exception_ends_the_phase(bench: Bench) -> None:
    bench.write("stack.py", STACK)
    req = FakeRequest()
    assert bench.request(req, "stack::fails", "stack::ok") == 500
    assert req.calls == ["stack::fails"]


def test_an_exception_does_not_end_the_cleanup_phase(bench: Bench) -> None:
    bench.write("stack.py", STACK)
    req = FakeRequest(debug=True)
    bench.request(req, "stack::fails", "stack::ok", phase="PythonCleanupHandler")
    assert req.calls == ["stack::fails", "stack::ok"]
    assert "broken on purpose" in req.text()
    assert req.body == b""  # logged only, also with PythonDebug


@pytest.mark.parametrize("phase", sorted(PHASES))
def test_default_name(bench: Bench, phase: str) -> None:
    name = phase.lower().removeprefix("python")
    bench.write(
        "index.py",
        f"from mod_python import apache\ndef {name}(req):\n    req.calls.append(1)\n    return apache.OK\n",
    )
    req = FakeRequest()
    req.user = "somebody"
    assert bench.request(req, "index", phase=phase) == apache.OK
    assert req.calls == [1]


def test_silent_handlers_are_skipped(bench: Bench) -> None:
    bench.write("stack.py", STACK)
    req = FakeRequest()
    assert bench.request(req, "stack", "stack", silent=True) == apache.DECLINED
    assert bench.request(req, "stack", phase="PythonCleanupHandler", silent=True) == apache.OK
    handlers = (bench.handler("stack", silent=True), bench.handler("stack::ok"), bench.handler("stack", silent=True))
    for _ in range(2):  # cold and warm
        assert bench.dispatcher.request(req, "PythonHandler", handlers) == apache.OK
    assert req.calls == ["stack::ok", "stack::ok"]
    assert req.lines == []
    # That the module cannot be imported is an error all the same.
    assert bench.request(req, "no_such_module", silent=True) == 500


def test_a_handler_may_append_to_its_own_phase(bench: Bench) -> None:
    bench.write(
        "index.py",
        "from mod_python import apache\n"
        "def handler(req):\n    req.hlist._entries.append(req.more)\n    return apache.OK\n"
        "def more(req):\n    req.calls.append(req.hlist.handler)\n    return apache.DONE\n",
    )
    req: Any = FakeRequest()
    req.more = bench.handler("index::more")
    assert bench.request(req, "index") == apache.DONE
    assert req.calls == ["index::more"]


def test_hlist_shows_the_running_handler(bench: Bench) -> None:
    bench.write("stack.py", STACK + "def handler(req):\n    req.calls.append(eval(repr(req.hlist)))\n    return 0\n")
    req = FakeRequest()
    bench.request(req, "stack::ok", "stack")
    assert req.calls[1] == {
        "handler": "stack",
        "directory": bench.directory,
        "location": None,
        "is_location": 0,
        "parent": None,
        "silent": 0,
    }
    assert req.hlist.handler is None
    req.hlist.next()
    assert req.hlist.directory is None
    in_location = mp_hlist([Handler("index", None, "/app", True)])
    assert (in_location.directory, in_location.location, in_location.is_location) == ("/app", "/app", 1)


# -- statuses ------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["None", "'0'", "0.0", "True", "False", "b''", "req"])
def test_a_status_that_is_no_int(bench: Bench, value: str) -> None:
    bench.write("index.py", f"def handler(req):\n    return {value}\n")
    req = FakeRequest()
    for _ in range(2):
        assert bench.request(req, "index") == 500
    last = req.text().splitlines()[-1]
    assert last.startswith("TypeError: handler 'index' returned ")
    assert "must return a status" in last


@pytest.mark.parametrize("value", [1, 99, 600, -3, 10**30])
def test_an_int_that_is_no_status(bench: Bench, value: int) -> None:
    bench.write("index.py", f"def handler(req):\n    return {value}\n")
    req = FakeRequest()
    assert bench.request(req, "index") == 500
    assert req.text().splitlines()[-1].startswith(f"ValueError: handler 'index' returned {value}, which is no status")


def test_int_subclasses_are_statuses() -> None:
    handler = Handler("index")
    assert check_status(http.HTTPStatus.NOT_FOUND, handler, "returned") == 404
    assert check_status(apache.DECLINED, handler, "returned") == -1


def test_an_async_function_is_refused_without_a_warning(bench: Bench, recwarn: pytest.WarningsRecorder) -> None:
    bench.write("index.py", "async def handler(req):\n    return 0\n")
    req = FakeRequest()
    assert bench.request(req, "index") == 500
    assert "async def" in req.text()
    assert [str(warning.message) for warning in recwarn] == []


def test_authentication_without_a_user_is_refused(bench: Bench) -> None:
    bench.write("stack.py", STACK)
    req = FakeRequest()
    assert bench.request(req, "stack::ok", phase="PythonAuthenHandler") == 500
    assert "without setting req.user" in req.text()
    req = FakeRequest()
    assert bench.request(req, "stack::declined", "stack::sets_user", phase="PythonAuthenHandler") == apache.OK
    assert bench.request(FakeRequest(), "stack::declined", phase="PythonAuthenHandler") == apache.DECLINED


# -- finding the function ---------------------------------------------------------------


def test_a_warm_handler_sees_a_name_that_was_bound_anew(bench: Bench) -> None:
    bench.write(
        "index.py",
        "def handler(req):\n    global handler\n    handler = lambda req: 403\n    return 0\n",
    )
    handlers = (bench.handler("index"),)
    req = FakeRequest(autoreload=False)
    assert [bench.dispatcher.request(req, "PythonHandler", handlers) for _ in range(3)] == [0, 403, 403]


def test_a_class_is_made_for_each_request(bench: Bench) -> None:
    bench.write(
        "index.py",
        "class Front:\n    def __init__(self, req):\n        self.req = req\n"
        "    def dispatch(self, req):\n        req.calls.append(self)\n"
        "        assert self.req is req\n        return 0\n",
    )
    handlers = (bench.handler("index::Front.dispatch"),)
    req = FakeRequest()
    for _ in range(2):
        assert bench.dispatcher.request(req, "PythonHandler", handlers) == 0
    assert req.calls[0] is not req.calls[1]


def test_autoreload(bench: Bench) -> None:
    bench.write("index.py", "def handler(req):\n    return 0\n")
    handlers = (bench.handler("index"),)
    on, off = FakeRequest(), FakeRequest(autoreload=False)
    assert bench.dispatcher.request(on, "PythonHandler", handlers) == 0
    bench.write("index.py", "def handler(req):\n    return 403\n")
    assert bench.dispatcher.request(off, "PythonHandler", handlers) == 0
    assert bench.dispatcher.request(on, "PythonHandler", handlers) == 403
    bench.write("index.py", "def handler(req:\n    return 200\n")
    assert bench.dispatcher.request(on, "PythonHandler", handlers) == 500
    assert "SyntaxError" in on.text()
    bench.write("index.py", "def handler(req):\n    return 404\n")
    assert bench.dispatcher.request(on, "PythonHandler", handlers) == 404


def test_a_warm_request_does_not_look_at_files(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.importer.interval = 3600.0
    bench.write("index.py", "def handler(req):\n    return 0\n")
    handlers = (bench.handler("index"),)
    req = FakeRequest()
    assert bench.dispatcher.request(req, "PythonHandler", handlers) == 0

    def forbidden(*args: Any) -> Any:
        raise AssertionError(f"looked at {args}")

    monkeypatch.setattr(os, "stat", forbidden)
    monkeypatch.setattr(resolve, "find", forbidden)
    assert bench.dispatcher.request(req, "PythonHandler", handlers) == 0


def test_python_path(bench: Bench, tmp_path: Path) -> None:
    lib = tmp_path / "lib"
    lib.mkdir()
    (lib / "lib_for_test.py").write_text("def handler(req):\n    return 0\n")
    expression = f"[r'{lib}'] + sys.path"
    handler = Handler("lib_for_test")
    req = FakeRequest(path=expression)
    try:
        for _ in range(2):
            assert bench.dispatcher.request(req, "PythonHandler", (handler,)) == 0
        assert sys.path.count(str(lib)) == 1
        # What code does to sys.path later is not undone.
        sys.path.remove(str(lib))
        assert bench.dispatcher.request(req, "PythonHandler", (handler,)) == 0
        assert str(lib) not in sys.path
    finally:
        sys.modules.pop("lib_for_test", None)


@pytest.mark.parametrize(
    ("expression", "message"),
    [("['/a'", "SyntaxError"), ("undefined", "NameError"), ("'/a'", "TypeError: PythonPath must be"), ("[1]", "list")],
)
def test_a_wrong_python_path_fails_each_request(bench: Bench, expression: str, message: str) -> None:
    before = list(sys.path)
    bench.write("index.py", "def handler(req):\n    return 0\n")
    handlers = (bench.handler("index"),)
    for _ in range(2):
        req = FakeRequest(path=expression)
        assert bench.dispatcher.request(req, "PythonHandler", handlers) == 500
        assert message in req.text()
    assert sys.path == before
    # And is no concern of others.
    assert bench.dispatcher.request(FakeRequest(), "PythonHandler", handlers) == 0


def test_pdb_only_in_one_process(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from mod_python._dispatch import debugger

    runs: list[Any] = []

    def call(function: Callable[[Any], Any], arg: Any) -> Any:
        runs.append(arg)
        return function(arg)

    monkeypatch.setattr(debugger, "call", call)
    bench.write("index.py", "def handler(req):\n    return 0\n")
    req = FakeRequest()
    req.settings = (False, True, None, True)
    assert bench.request(req, "index") == 0
    assert runs == []
    bench.dispatcher.one_process = True
    assert bench.request(req, "index") == 0
    assert runs == [req]


# -- handlers -------------------------------------------------------------------------


def test_interned_handlers() -> None:
    one = intern("index", "/srv/", None, False, False)
    assert intern("index", "/srv/", None, False, False) is one
    assert intern("index", "/srv/", None, False, True) is not one
    assert (one.module_name, one.object_name) == ("index", "")
    dotted = intern("a.b::C.d::e", None, "/x", True, False)
    assert (dotted.module_name, dotted.object_name) == ("a.b", "C.d::e")


def test_clients_cannot_fill_the_memory_with_locations() -> None:
    from mod_python._dispatch import handler

    for number in range(MAX_INTERNED + 10):
        intern("index", None, f"/location/{number}", True, False)
    assert len(handler._interned) <= MAX_INTERNED


# -- connections ------------------------------------------------------------------------


def connect(bench: Bench, body: str, settings: tuple[Any, ...] = (False, True, None, False)) -> tuple[int, Any]:
    bench.write("echo.py", f"from mod_python import apache\ndef connectionhandler(conn):\n    {body}\n")
    conn = FakeConnection(settings)
    return bench.dispatcher.connection(conn, bench.handler("echo")), conn


def test_connection_status(bench: Bench) -> None:
    assert connect(bench, "conn.calls.append(conn.hlist.handler); return apache.OK")[0] == apache.OK
    assert connect(bench, "return apache.DECLINED")[0] == apache.DECLINED


@pytest.mark.parametrize("raised", ["apache.ConnectionClosed('gone')", "apache.IncompleteRead(b'ab', 4)"])
def test_the_peer_closing_is_a_normal_end(bench: Bench, raised: str) -> None:
    status, conn = connect(bench, f"raise {raised}")
    assert status == apache.OK
    assert [level for level, _ in conn.lines] == [apache.APLOG_DEBUG]
    assert "Traceback" not in conn.lines[0][1]


def test_a_time_out_is_one_line_at_info(bench: Bench) -> None:
    status, conn = connect(bench, "raise apache.ConnectionTimeout('no data for 60 s')")
    assert status == apache.OK
    assert conn.lines == [
        (apache.APLOG_INFO, "PythonConnectionHandler echo: connection ended: no data for 60 s"),
    ]


@pytest.mark.parametrize(
    "raised",
    ["ValueError", "ConnectionResetError", "apache.SERVER_RETURN(apache.OK)", "SystemExit", "KeyboardInterrupt"],
)
def test_other_exceptions_of_a_connection_are_errors(bench: Bench, raised: str) -> None:
    """An OSError of some other connection of the handler's is an error too."""
    status, conn = connect(bench, f"raise {raised}", settings=(True, True, None, False))
    assert status == 500
    text = conn.text()
    assert text.startswith("mod_python (pid=")
    assert text.count("Traceback (most recent call last)") == 1
    assert f"raise {raised}" in text
    assert "/_dispatch/" not in text


@pytest.mark.parametrize("value", ["None", "True", "'x'"])
def test_a_connection_handler_must_return_a_status(bench: Bench, value: str) -> None:
    status, conn = connect(bench, f"return {value}")
    assert status == 500
    assert "TypeError: handler 'echo' returned" in conn.text()


def test_a_missing_connection_handler(bench: Bench) -> None:
    bench.write("echo.py", "")
    conn = FakeConnection()
    assert bench.dispatcher.connection(conn, bench.handler("echo")) == 500
    assert f"AttributeError: module '{bench.root}/echo.py' contains no 'connectionhandler'" in conn.text()


# -- PythonImport and the end of the child --------------------------------------------------


@pytest.fixture
def main_server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    main = FakeServer()

    def log_error(text: str, level: int = apache.APLOG_ERR, server: FakeServer | None = None) -> None:
        (server or main).log_error(text, level)

    monkeypatch.setattr(apache, "main_server", main)
    monkeypatch.setattr(apache, "log_error", log_error)
    return main


def test_python_import(bench: Bench, main_server: FakeServer) -> None:
    bench.write(
        "warm.py", "done = []\ndef start():\n    done.append(1)\nclass A:\n    @staticmethod\n    def b(): 1/0\n"
    )
    path = f"{bench.root}/warm.py"
    assert bench.dispatcher.import_(path) is True
    assert bench.dispatcher.import_(f"{path}::start") is True
    assert apache.import_module(path).done == [1]
    assert main_server.lines == []


def test_python_import_of_an_ordinary_module(bench: Bench, main_server: FakeServer) -> None:
    assert bench.dispatcher.import_("mod_python.apache::freeze_modules") is True
    assert bench.importer.frozen


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("{}/warm.py::nothing", "contains no 'nothing'"),
        ("{}/warm.py::fails", "ZeroDivisionError"),
        ("{}/broken.py", "SyntaxError"),
        ("./warm.py", "is relative to a directory"),
        ("", "ValueError"),
    ],
)
def test_a_failing_python_import_names_the_module(
    bench: Bench, main_server: FakeServer, text: str, message: str
) -> None:
    bench.write("warm.py", "def fails():\n    return 1 / 0\n")
    bench.write("broken.py", "def (\n")
    text = text.format(bench.root)
    assert bench.dispatcher.import_(text) is False
    assert message in main_server.text()
    assert f"handler={text!r}" in main_server.text()


def test_cleanups_run_last_first_and_once(
    bench: Bench, main_server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "_registered", [])
    calls: list[Any] = []

    def fails(data: Any) -> None:
        raise SystemExit(f"no {data}")

    apache.register_cleanup(calls.append, 1)
    apache.register_cleanup(fails, "luck")
    apache.register_cleanup(calls.append)
    with pytest.raises(ValueError, match="must be callable, not int"):
        apache.register_cleanup(3)  # type: ignore[arg-type]
    bench.dispatcher.at_exit()
    bench.dispatcher.at_exit()
    assert calls == [None, 1]
    assert len(main_server.lines) == 2
    assert "fails" in main_server.lines[0][1]
    assert main_server.lines[1][1].strip() == "SystemExit: no luck"
