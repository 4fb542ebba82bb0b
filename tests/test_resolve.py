"""From handler strings to functions."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mod_python import apache
from mod_python._dispatch.handler import Handler
from mod_python._dispatch.importer import Importer
from mod_python._dispatch.resolve import find, resolve_object
from tests.policy_fakes import FakeRequest

SETTINGS = (False, True, None, False)


@pytest.fixture
def importer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Importer]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    importer = Importer(interval=0.0, log=lambda text, level: None)
    before = set(sys.modules)
    yield importer
    importer.close()
    for name in set(sys.modules) - before:
        if "for_test" in name:
            del sys.modules[name]


@pytest.fixture
def module() -> types.ModuleType:
    module = types.ModuleType("example")
    module.__file__ = "/srv/example.py"
    exec(
        "class Auth:\n    def __init__(self, arg):\n        self.arg = arg\n    def check(self, req):\n"
        "        return self.arg\n    class Inner:\n        def __init__(self, arg):\n            self.got = arg\n"
        "        def deep(self): return self.got\nvalue = Auth(1)\nnone = None\n",
        module.__dict__,
    )
    return module


# -- resolve_object ---------------------------------------------------------------------


def test_names_are_resolved_from_left_to_right(module: Any) -> None:
    assert apache.resolve_object is resolve_object
    assert resolve_object(module, "Auth") is module.Auth
    assert resolve_object(module, "value.check")(None) == 1
    assert resolve_object(module, "none") is None


def test_classes_on_the_way_are_instantiated(module: Any) -> None:
    assert resolve_object(module, "Auth.check", "request")(None) == "request"
    assert resolve_object(module, "Auth.Inner.deep", "request")() == "request"


def test_missing_names(module: Any) -> None:
    with pytest.raises(AttributeError, match=r"^module '/srv/example\.py' contains no 'nothing'$"):
        resolve_object(module, "nothing")
    with pytest.raises(AttributeError, match=r"'Auth' in module '/srv/example\.py' contains no 'nothing'"):
        resolve_object(module, "Auth.nothing", 1)
    assert resolve_object(module, "nothing", silent=1) is None
    assert resolve_object(module, "Auth.nothing", 1, True) is None


# -- handler strings ----------------------------------------------------------------------


def call(importer: Importer, handler: Handler, name: str = "", settings: tuple[Any, ...] = SETTINGS) -> Any:
    function = find(handler, handler.object_name or name or "handler", FakeRequest(), settings, importer)
    assert function is not None
    return function(None)


def test_forms_of_the_module(importer: Importer, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "index.py").write_text("def handler(req): return 'index'\ndef other(req): return 'other'\n")
    (tmp_path / "sub" / "page.wsgi").write_text("def handler(req): return 'page'\n")
    directory = f"{tmp_path}/"
    below = f"{tmp_path}/sub/"
    assert call(importer, Handler("index", directory)) == "index"
    assert call(importer, Handler("index::other", directory)) == "other"
    assert call(importer, Handler(f"{tmp_path}/index.py")) == "index"
    assert call(importer, Handler(f"{tmp_path}/sub/page.wsgi::handler")) == "page"
    assert call(importer, Handler("./page.wsgi", below)) == "page"
    assert call(importer, Handler("../index.py::other", below)) == "other"
    assert call(importer, Handler("~/sub/page.wsgi", directory)) == "page"
    # Without a handler directory ~ is the document root, /srv of the fake.
    with pytest.raises(ImportError, match=r"/srv/nothing_for_test\.py"):
        call(importer, Handler("~/nothing_for_test.py"))
    with pytest.raises(ValueError, match="relative to a directory"):
        call(importer, Handler("./index.py"))


def test_an_ordinary_module(importer: Importer, tmp_path: Path) -> None:
    before = list(sys.path)
    handler = Handler("os.path::basename", f"{tmp_path}/")
    function = find(handler, "basename", None, SETTINGS, importer)
    assert function is not None
    assert function("/a/b") == "b"
    assert handler.entry is None
    assert sys.path == before


def test_a_package_in_the_handler_directory(importer: Importer, tmp_path: Path) -> None:
    package = tmp_path / "site_for_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "pages.py").write_text("def handler(req): return __name__\n")
    handler = Handler("site_for_test.pages", f"{tmp_path}/")
    assert call(importer, handler) == "site_for_test.pages"
    assert sys.path[0] == str(tmp_path)
    assert call(importer, Handler("site_for_test.pages", f"{tmp_path}/")) == "site_for_test.pages"
    assert sys.path.count(str(tmp_path)) == 1


def test_the_directory_is_not_added_when_python_path_is_in_force(importer: Importer, tmp_path: Path) -> None:
    (tmp_path / "other_for_test").mkdir()
    (tmp_path / "other_for_test" / "__init__.py").write_text("")
    with pytest.raises(ModuleNotFoundError):
        call(importer, Handler("other_for_test", f"{tmp_path}/"), settings=(False, True, "sys.path", False))


def test_a_package_of_that_name_loaded_from_elsewhere_is_warned_about(tmp_path: Path) -> None:
    messages: list[str] = []
    importer = Importer(log=lambda text, level: messages.append(text))
    try:
        (tmp_path / "email").mkdir()
        (tmp_path / "email" / "__init__.py").write_text("def handler(req): return 1\n")
        import email

        handler = Handler("email", f"{tmp_path}/")
        with pytest.raises(AttributeError, match="contains no 'handler'"):
            call(importer, handler)
        assert sys.modules["email"] is email
        assert len(messages) == 1
        assert "'email'" in messages[0]
    finally:
        importer.close()
        sys.path.remove(str(tmp_path))


def test_two_hosts_with_different_importer_paths(importer: Importer, tmp_path: Path) -> None:
    """The same handler string without a directory, in two virtual hosts."""
    handler = Handler("index")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.py").write_text(f"def handler(req): return {name!r}\n")
    settings = [(*SETTINGS, repr([str(tmp_path / name)])) for name in ("one", "two")]
    assert [call(importer, handler, settings=settings[i]) for i in (0, 1, 0)] == ["one", "two", "one"]


@pytest.mark.parametrize("text", ["", "::handler"])
def test_an_empty_handler(importer: Importer, text: str) -> None:
    with pytest.raises(ValueError, match="names no module"):
        call(importer, Handler(text))


@pytest.mark.parametrize(("value", "kind"), [("None", "it is None"), ("3", "it is of type int")])
def test_an_object_that_cannot_be_called(importer: Importer, tmp_path: Path, value: str, kind: str) -> None:
    (tmp_path / "index.py").write_text(f"handler = {value}\n")
    with pytest.raises(TypeError, match=f"'handler' in module .* is not callable: {kind}"):
        call(importer, Handler("index", f"{tmp_path}/"))


def test_a_module_may_make_its_names_up(importer: Importer, tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text("def __getattr__(name):\n    return lambda req: name\n")
    assert call(importer, Handler("index::anything", f"{tmp_path}/")) == "anything"


def test_a_silent_handler(importer: Importer, tmp_path: Path) -> None:
    (tmp_path / "index.py").write_text("def handler(req): return 1\nnone = None\n")
    silent = Handler("index", f"{tmp_path}/", silent=True)
    assert find(silent, "loghandler", None, SETTINGS, importer) is None
    assert find(silent, "handler", None, SETTINGS, importer) is not None
