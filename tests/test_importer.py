"""The importer: modules by file, sibling imports, reload, import_module."""

from __future__ import annotations

import builtins
import gc
import inspect
import os
import pickle
import sys
import traceback
import types
import typing
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mod_python import apache
from mod_python._dispatch import scope
from mod_python._dispatch.handler import Handler
from mod_python._dispatch.importer import Importer
from mod_python._dispatch.modules import label_of
from tests.importer_site import Site, a_site, shared_module


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with a_site(tmp_path, monkeypatch) as site:
        yield site


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    return shared_module(monkeypatch)


class Request:
    """Enough of a request for `scope`."""

    def __init__(self, settings: tuple[Any, ...] = (False, True, None, False), root: str = "") -> None:
        self.settings = settings
        self._root = root

    def document_root(self) -> str:
        return self._root


@scope.entry_point("req")
def within(req: Request, handler: Handler, call: Callable[[], Any]) -> Any:
    """Call something as the dispatcher would, on behalf of a request."""
    settings = req.settings  # noqa: F841  (read from this frame)
    return call()


# -- identity -------------------------------------------------------------------


def test_same_name_in_two_directories(site: Site) -> None:
    site.write("one/index.py", "import helper\nwho = helper.who\n")
    site.write("one/helper.py", "who = 'one'\n")
    site.write("two/index.py", "import helper\nwho = helper.who\n")
    site.write("two/helper.py", "who = 'two'\n")
    assert site.load("one/index.py").who == "one"
    assert site.load("two/index.py").who == "two"
    assert "helper" not in sys.modules
    assert "index" not in sys.modules


def test_module_attributes(site: Site) -> None:
    file = site.write("index.py", "import helper\n")
    site.write("helper.py", "")
    module = site.load("index.py")
    assert module.__file__ == file
    assert module.__name__.isidentifier()
    assert sys.modules[module.__name__] is module
    assert module.__mp_path__ == []
    info = module.__mp_info__
    assert (info.label, info.file, info.cache) == (module.__name__, file, site.importer)
    assert info.children == [module.helper.__name__]
    entry = apache.module_info(module.__name__)
    assert entry.module is module
    assert (entry.instance, entry.mtime) == (1, os.stat(file).st_mtime)


def test_labels_are_the_same_in_every_process_and_never_shared() -> None:
    # A test vector of the hash, FNV-1a of 64 bits: it must never change.
    assert label_of("a", ()) == "_mp_af63dc4c8601ec8c_a"
    label = label_of("/srv/www/index.py", ())
    assert label.endswith("_index")
    assert label_of("/srv/other/index.py", ()) != label
    assert label_of("/srv/www/index.py", {label}) == label + "_2"


def test_loaded_once(site: Site) -> None:
    site.write("index.py", "import helper\n")
    site.write("helper.py", "")
    module = site.load("index.py")
    assert site.load("index.py") is module
    assert site.load("helper.py") is module.helper


# -- statements -----------------------------------------------------------------


def test_forms_of_the_import_statement(site: Site) -> None:
    site.write("helper.py", "__all__ = ['value']\nvalue = 1\nhidden = 2\n")
    site.write(
        "index.py",
        "import helper\nimport helper as other\nfrom helper import value\nfrom helper import value as renamed\n"
        "from helper import *\n"
        "def inside():\n    import helper as h\n    from helper import hidden\n    return h, hidden\n"
        "class Body:\n    import helper\n"
        "dynamic = __import__('helper')\n",
    )
    module = site.load("index.py")
    helper = site.load("helper.py")
    assert module.helper is module.other is module.Body.helper is module.dynamic is helper
    assert (module.value, module.renamed) == (1, 1)
    assert module.inside() == (helper, 2)


def test_import_of_a_missing_name_is_the_usual_error(site: Site) -> None:
    site.write("helper.py", "")
    site.write("index.py", "from helper import nothing\n")
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        site.load("index.py")
    site.write("index.py", "import no_such_module_anywhere\n")
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_module_anywhere'"):
        site.load("index.py")
    site.write("index.py", "from . import helper\n")
    with pytest.raises(ImportError, match="relative import"):
        site.load("index.py")


def test_ordinary_imports_still_work(site: Site) -> None:
    site.write("index.py", "import os.path\nimport collections.abc as c\nfrom os import sep\nimport json\n")
    module = site.load("index.py")
    import collections.abc
    import json

    assert module.os is os
    assert module.c is collections.abc
    assert module.json is json


def test_future_statement(site: Site) -> None:
    site.write("index.py", "from __future__ import annotations\ndef f(x: NotDefined) -> Neither: ...\n")
    assert site.load("index.py").f.__annotations__ == {"x": "NotDefined", "return": "Neither"}
    # And ours does not leak into theirs.
    site.write("plain.py", "def f(x: int): ...\n")
    assert site.load("plain.py").f.__annotations__ == {"x": int}


def test_sibling_hides_a_standard_module_only_for_its_directory(site: Site) -> None:
    site.write("colorsys.py", "mine = True\n")
    site.write("index.py", "import colorsys\n")
    site.write("elsewhere/index.py", "import colorsys\n")
    assert site.load("index.py").colorsys.mine
    assert not hasattr(site.load("elsewhere/index.py").colorsys, "mine")


def test_imports_of_other_modules_are_not_affected(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write("lib/ordinary_for_test.py", "def get():\n    import helper\n    return helper\n")
    site.write("web/helper.py", "")
    site.write("web/index.py", "import ordinary_for_test\ndef call():\n    return ordinary_for_test.get()\n")
    monkeypatch.syspath_prepend(str(site.root / "lib"))
    module = site.load("web/index.py")
    with pytest.raises(ModuleNotFoundError):
        module.call()


def test_imports_by_c_code_are_not_the_modules_imports(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """time.strptime() imports _strptime with the globals of its caller."""
    site.write("_strptime.py", "raise RuntimeError('sibling')\n")
    site.write("index.py", "import time\ndef call():\n    return time.strptime('2026', '%Y').tm_year\n")
    monkeypatch.delitem(sys.modules, "_strptime", raising=False)
    assert site.load("index.py").call() == 2026


def test_mp_path_extends_the_search(site: Site) -> None:
    lib = site.root / "lib"
    site.write("lib/helper.py", "value = 7\n")
    site.write("index.py", f"__mp_path__.append({str(lib)!r})\nimport helper\nvalue = helper.value\n")
    assert site.load("index.py").value == 7


def test_package_beside_the_module(site: Site) -> None:
    """A real package is an ordinary import; its directory is added to sys.path."""
    site.write("package_for_test/__init__.py", "")
    site.write("package_for_test/part.py", "value = 5\n")
    site.write("index.py", "from package_for_test import part\nimport package_for_test.part as again\n")
    module = site.load("index.py")
    assert module.part.value == 5
    assert module.again is sys.modules["package_for_test.part"]
    assert sys.path[-1] == str(site.root)


def test_names_added_to_builtins_are_seen(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write("helper.py", "")
    site.write("index.py", "import builtins\nbuiltins._mp_test_ = lambda: 3\ndef call():\n    return _mp_test_()\n")
    monkeypatch.setattr(builtins, "_mp_test_", None, raising=False)
    assert site.load("index.py").call() == 3
    monkeypatch.setattr(builtins, "_mp_test_", lambda: 4)
    site.load("index.py")  # looks for changes
    assert site.load("index.py").call() == 4


def test_code_executed_by_a_module_keeps_working(site: Site) -> None:
    site.write("helper.py", "value = 9\n")
    site.write(
        "index.py",
        "namespace = {}\nexec('import json', namespace)\nmine = dict(globals())\n"
        "exec('import helper', mine)\nnumber = eval('len([1, 2])')\n",
    )
    module = site.load("index.py")
    assert module.namespace["json"].__name__ == "json"
    assert module.mine["helper"].value == 9
    assert module.number == 2


# -- what the rest of Python expects of a module ------------------------------------


def test_dataclasses_pickle_typing_and_inspect(site: Site) -> None:
    site.write(
        "model.py",
        "from __future__ import annotations\n"
        "import dataclasses\nimport enum\nimport typing\n"
        "@dataclasses.dataclass\nclass Point:\n    x: int\n    y: list[Point]\n    kind: typing.ClassVar[int] = 1\n"
        "class Colour(enum.Enum):\n    RED = 1\n"
        "class Pair(typing.NamedTuple):\n    a: int\n",
    )
    model = site.load("model.py")
    point = model.Point(1, [model.Point(2, [])])
    assert [field.name for field in model.dataclasses.fields(point)] == ["x", "y"]
    assert pickle.loads(pickle.dumps([point, model.Colour.RED, model.Pair(3)])) == [
        point,
        model.Colour.RED,
        model.Pair(3),
    ]
    assert typing.get_type_hints(model.Point)["y"] == types.GenericAlias(list, model.Point)
    module: Any = inspect.getmodule(model.Point)
    assert module is model
    assert inspect.getsource(model.Point).startswith("@dataclasses.dataclass\nclass Point:")
    assert module.__loader__.get_source(module.__name__) == inspect.getsource(module)


def test_unpickling_loads_the_module_again(site: Site) -> None:
    site.write("model.py", "class Thing:\n    pass\n")
    module = site.load("model.py")
    data = pickle.dumps(module.Thing())
    site.write("model.py", "class Thing:\n    new = True\n")
    assert site.load("model.py") is not module
    assert pickle.loads(data).new


def test_source_encoding_and_line_ends(site: Site) -> None:
    site.write("latin.py", "# -*- coding: latin-1 -*-\nword = 'gr\u00fcn'\n".encode("latin-1"))
    site.write("bom.py", b"\xef\xbb\xbfword = 'gr\xc3\xbcn'\r\nother = 1\r\n")
    assert site.load("latin.py").word == "gr\u00fcn"
    assert site.load("bom.py").word == "gr\u00fcn"
    assert site.load("latin.py").__loader__.get_source(site.load("latin.py").__name__).endswith("'gr\u00fcn'\n")


def test_traceback_shows_source_lines(site: Site) -> None:
    file = site.write("index.py", "import helper\ndef call():\n    return helper.fail()\n")
    site.write("helper.py", "def fail():\n    return 1 / 0  # here\n")
    module = site.load("index.py")
    with pytest.raises(ZeroDivisionError) as info:
        module.call()
    text = "".join(traceback.format_exception(info.value))
    assert f'File "{file}", line 3, in call' in text
    assert "return 1 / 0  # here" in text


# -- reload ---------------------------------------------------------------------


def test_changed_file_gives_a_new_module(site: Site) -> None:
    site.write("index.py", "value = 1\n")
    old = site.load("index.py")
    site.write("index.py", "value = 2\n")
    assert site.load("index.py", autoreload=False) is old
    new = site.load("index.py")
    assert new is not old
    assert (old.value, new.value) == (1, 2)
    assert new.__name__ == old.__name__
    assert sys.modules[new.__name__] is new
    assert site.load("index.py") is new


def test_an_older_modification_time_counts_too(site: Site) -> None:
    file = site.write("index.py", "value = 1\n")
    old = site.load("index.py")
    Path(file).write_text("value = 2\n")
    os.utime(file, ns=(0, 1_000))
    assert site.load("index.py") is not old


def test_a_replaced_file_of_the_same_time_and_size_counts(site: Site) -> None:
    file = site.write("index.py", "value = 1\n")
    stat = os.stat(file)
    old = site.load("index.py")
    site.write("new.py", "value = 2\n")
    os.utime(site.root / "new.py", ns=(0, stat.st_mtime_ns))
    os.replace(site.root / "new.py", file)
    assert os.stat(file).st_mtime_ns == stat.st_mtime_ns
    assert site.load("index.py") is not old


def test_reload_follows_dependencies(site: Site) -> None:
    site.write("index.py", "import middle\nimport apart\nvalue = middle.value\n")
    site.write("middle.py", "from bottom import value\n")
    site.write("bottom.py", "value = 1\n")
    site.write("apart.py", "")
    old = site.load("index.py")
    site.write("bottom.py", "value = 2\n")
    new = site.load("index.py")
    assert (old.value, new.value) == (1, 2)
    assert new.middle is not old.middle
    assert new.apart is old.apart


def test_a_dependency_that_was_loaded_again_by_others_counts(site: Site) -> None:
    site.write("index.py", "import bottom\n")
    site.write("bottom.py", "value = 1\n")
    old = site.load("index.py")
    site.write("bottom.py", "value = 2\n")
    bottom = site.load("bottom.py")
    assert old.bottom is not bottom
    assert site.load("index.py").bottom is bottom


def test_imports_after_loading_are_no_dependencies_but_are_followed(site: Site) -> None:
    site.write("index.py", "def call():\n    import helper\n    return helper.value\n")
    site.write("helper.py", "value = 1\n")
    module = site.load("index.py")
    assert module.call() == 1
    site.write("helper.py", "value = 2\n")
    assert site.load("index.py") is module
    assert module.call() == 2


def test_a_module_that_appears_later_is_found(site: Site) -> None:
    site.write("index.py", "def call():\n    import appears_later\n    return appears_later\n")
    module = site.load("index.py")
    with pytest.raises(ModuleNotFoundError):
        module.call()
    site.write("appears_later.py", "value = 1\n")
    assert module.call().value == 1


def test_frozen(site: Site) -> None:
    site.write("index.py", "value = 1\n")
    old = site.load("index.py")
    apache.freeze_modules()
    site.write("index.py", "value = 2\n")
    assert site.load("index.py") is old


def test_files_are_looked_at_once_per_interval(tmp_path: Path) -> None:
    now = [100.0]
    importer = Importer(interval=1.0, clock=lambda: now[0])
    try:
        file = tmp_path / "index.py"
        file.write_text("value = 1\n")
        entry = importer.entry(str(file))
        old = importer.get(entry, True)
        file.write_text("value = 22\n")
        now[0] += 0.9
        assert importer.get(entry, True) is old
        now[0] += 0.2
        assert importer.get(entry, True).value == 22
    finally:
        importer.close()


def test_a_loading_module_gets_its_dependencies_up_to_date(tmp_path: Path) -> None:
    """A change of two files together is never half seen."""
    now = [100.0]
    importer = Importer(interval=1.0, clock=lambda: now[0])
    try:
        (tmp_path / "index.py").write_text("import helper\nvalue = helper.value\n")
        (tmp_path / "helper.py").write_text("value = 1\n")
        index = importer.entry(str(tmp_path / "index.py"))
        helper = importer.entry(str(tmp_path / "helper.py"))
        importer.get(index, True)
        now[0] += 1.1
        importer.get(helper, True)  # looked at just now
        (tmp_path / "index.py").write_text("import helper\nvalue = helper.both\n")
        (tmp_path / "helper.py").write_text("both = 22\n")
        assert importer.get(index, True).value == 22
    finally:
        importer.close()


def test_vanished_file_keeps_the_module_and_warns_once(site: Site) -> None:
    file = site.write("index.py", "value = 1\n")
    old = site.load("index.py")
    os.unlink(file)
    assert site.load("index.py") is old
    assert site.load("index.py") is old
    assert [(file in text, level) for text, level in site.messages] == [(True, apache.APLOG_WARNING)]
    site.write("index.py", "value = 2\n")
    assert site.load("index.py").value == 2


def test_failed_first_load_leaves_nothing(site: Site) -> None:
    site.write("index.py", "raise ValueError('broken')\n")
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            site.load("index.py")
    assert not [name for name in sys.modules if name.endswith("_index") and name.startswith("_mp_")]
    site.write("index.py", "value = 1\n")
    assert site.load("index.py", autoreload=False).value == 1


def test_failed_reload_is_tried_again(site: Site) -> None:
    site.write("index.py", "value = 1\n")
    old = site.load("index.py")
    site.write("index.py", "value = (\n")
    for _ in range(2):
        with pytest.raises(SyntaxError):
            site.load("index.py")
    assert sys.modules[old.__name__] is old
    site.write("index.py", "value = 2\n")
    assert site.load("index.py").value == 2


def test_failed_dependency_is_tried_again(site: Site) -> None:
    site.write("index.py", "import helper\nvalue = helper.value\n")
    site.write("helper.py", "value = 1\n")
    site.load("index.py")
    site.write("helper.py", "raise ValueError\n")
    with pytest.raises(ValueError, match=r"^$"):
        site.load("index.py")
    site.write("helper.py", "value = 3\n")
    assert site.load("index.py").value == 3


def test_missing_file_is_a_clear_import_error(site: Site) -> None:
    with pytest.raises(ImportError, match=r"cannot read the module file .*/nothing\.py: No such file"):
        site.load("nothing.py")


def test_system_exit_passes_through_and_is_tried_again(site: Site) -> None:
    site.write("index.py", "raise SystemExit(3)\n")
    with pytest.raises(SystemExit):
        site.load("index.py")
    site.write("index.py", "value = 1\n")
    assert site.load("index.py").value == 1


def test_old_modules_are_freed(site: Site) -> None:
    site.write("index.py", "class Big:\n    pass\n")
    reference = weakref.ref(site.load("index.py").Big)
    for number in range(3):
        site.write("index.py", f"class Big:\n    number = {number}\n")
        site.load("index.py")
    gc.collect()
    assert reference() is None


# -- handing over state ------------------------------------------------------------


def test_clone_hands_state_over(site: Site) -> None:
    source = (
        "try:\n    cache\nexcept NameError:\n    cache = {}\n"
        "def __mp_clone__(module):\n    module.cache = cache\n    module.seen = sorted(vars(module))\n"
    )
    site.write("index.py", source)
    old = site.load("index.py")
    old.cache["key"] = 1
    site.write("index.py", source + "# changed\n")
    new = site.load("index.py")
    assert new is not old
    assert new.cache is old.cache
    assert not [name for name in new.seen if not name.startswith("__") and name != "cache"]


def test_failing_clone_purges_and_goes_on(site: Site, shared: Any) -> None:
    site.write(
        "index.py",
        "import shared_with_test\nvalue = 1\n"
        "def __mp_clone__(module):\n    module.value = 2\n    raise ValueError('clone')\n"
        "def __mp_purge__():\n    shared_with_test.events.append('purged')\n    raise KeyError('purge')\n",
    )
    site.load("index.py")
    site.write("index.py", "value = 3\n")
    assert site.load("index.py").value == 3
    assert shared.events == ["purged"]
    texts = [text for text, level in site.messages if level == apache.APLOG_ERR]
    assert len(texts) == 2
    assert "ValueError: clone" in texts[0]
    assert "KeyError: 'purge'" in texts[1]


# -- cycles -------------------------------------------------------------------------


def test_a_module_cannot_import_itself(site: Site) -> None:
    site.write("index.py", "import index\n")
    with pytest.raises(ImportError, match="Import cycle"):
        site.load("index.py")


def test_a_cycle_loads_and_settles(site: Site, shared: Any) -> None:
    site.write("a.py", "import shared_with_test\nshared_with_test.events.append('a')\nimport b\nvalue = 1\n")
    site.write("b.py", "import shared_with_test\nshared_with_test.events.append('b')\nimport a\n")
    a = site.load("a.py")
    assert a.b.a is a
    assert site.load("a.py") is a
    assert site.load("b.py") is a.b
    assert shared.events == ["a", "b"]
    site.write("b.py", "import a\nnew = True\n")
    again = site.load("a.py")
    assert again.b.new
    assert again.b.a is again
    assert site.load("a.py") is again
    assert site.load("b.py") is again.b


def test_a_cycle_is_loaded_anew_whichever_part_has_changed(site: Site) -> None:
    site.write("a.py", "import b\nvalue = 1\n")
    site.write("b.py", "import c\n")
    site.write("c.py", "import a\n")
    first = site.load("a.py")
    site.write("a.py", "import b\nvalue = 2\n")
    second = site.load("a.py")
    assert second.b.c.a is second
    assert first.b.c.a is first
    assert site.load("c.py").a is second


# -- import_module -------------------------------------------------------------------


def test_import_module_by_path(site: Site) -> None:
    file = site.write("other/page.txt", "value = __mp_path__\n")
    assert apache.import_module(file, path=["/somewhere"]).value == ["/somewhere"]
    assert apache.import_module(str(site.root / "other" / ".." / "other" / "page.txt")) is apache.import_module(file)


def test_import_module_relative_to_the_caller(site: Site) -> None:
    site.write(
        "web/index.py",
        "from mod_python import apache\n"
        "near = apache.import_module('./near.py')\nup = apache.import_module('../up.py')\n"
        "name = apache.import_module('near')\npseudo = apache.import_module('sub/part')\n",
    )
    site.write("web/near.py", "")
    site.write("web/sub/part.py", "value = 1\n")
    site.write("up.py", "")
    module = site.load("web/index.py")
    assert module.near is module.name is site.load("web/near.py")
    assert module.up is site.load("up.py")
    assert module.pseudo.value == 1
    site.write("up.py", "# changed\n")
    assert site.load("web/index.py") is not module  # a dependency like any other


def test_import_module_searches_path_first(site: Site) -> None:
    site.write(
        "index.py", "from mod_python import apache\ndef get(**kw):\n    return apache.import_module('part', **kw)\n"
    )
    site.write("part.py", "where = 'here'\n")
    site.write("lib/part.py", "where = 'lib'\n")
    module = site.load("index.py")
    assert module.get().where == "here"
    assert module.get(path=[str(site.root / "lib")]).where == "lib"


def test_import_module_of_ordinary_modules() -> None:
    import os.path

    assert apache.import_module("os.path") is os.path
    assert apache.import_module("json") is sys.modules["json"]
    with pytest.raises(ModuleNotFoundError):
        apache.import_module("no_such_module_anywhere")
    with pytest.raises(TypeError, match="list of directories"):
        apache.import_module("json", path="/srv")  # a str is no list of directories


def test_import_module_relative_to_the_handler_root(site: Site) -> None:
    site.write("web/lib/part.py", "value = 1\n")
    handler = Handler("index", str(site.root / "web") + "/")
    module = within(Request(), handler, lambda: apache.import_module("~/lib/part.py"))
    assert module.value == 1
    assert within(Request(), handler, lambda: apache.import_module("part", path=["~/lib"])) is module
    assert within(Request(), handler, apache.get_handler_root) == str(site.root / "web") + "/"
    # A handler without a directory: the document root.
    nowhere = Handler("index")
    request = Request(root=str(site.root))
    assert within(request, nowhere, lambda: apache.import_module("~/web/lib/part.py")) is module
    # Outside of any request there is no such root.
    assert apache.get_handler_root() is None
    with pytest.raises(ModuleNotFoundError):
        apache.import_module("~/web/lib/part.py")


def test_importer_path_option(site: Site) -> None:
    site.write("shared/common.py", "value = 1\n")
    site.write("index.py", "def call():\n    import common\n    return common\n")
    option = repr([str(site.root / "shared")])
    settings = (False, True, None, False, option)
    request = Request(settings)
    handler = Handler("index", str(site.root) + "/")
    module = site.load("index.py")
    common = within(request, handler, module.call)
    assert common.value == 1
    assert within(request, handler, lambda: apache.import_module("common")) is common
    with pytest.raises(TypeError, match=r"mod_python\.importer\.path must be"):
        within(Request((*settings[:4], "1")), handler, lambda: apache.import_module("common"))


def test_one_request_sees_one_module(site: Site) -> None:
    file = site.write("part.py", "value = 1\n")
    handler = Handler("index", str(site.root) + "/")
    request = Request()
    old = within(request, handler, lambda: apache.import_module(file))
    site.write("part.py", "value = 2\n")
    assert within(request, handler, lambda: apache.import_module(file)) is old
    new = within(Request(), handler, lambda: apache.import_module(file))
    assert new.value == 2


def test_a_request_sees_what_its_handler_module_has_imported(site: Site) -> None:
    site.write("index.py", "import part\ndef call():\n    import part as now\n    return now\n")
    site.write("part.py", "value = 1\n")
    handler = Handler("index", str(site.root) + "/")
    index = site.load("index.py")
    handler.entry = index.__mp_info__.entry
    site.write("part.py", "value = 2\n")
    assert within(Request(), handler, index.call) is index.part


def test_settings_of_the_request_decide(site: Site) -> None:
    file = site.write("part.py", "value = 1\n")
    handler = Handler("index", str(site.root) + "/")
    off = (False, False, None, False)
    old = within(Request(off), handler, lambda: apache.import_module(file))
    site.write("part.py", "value = 2\n")
    assert within(Request(off), handler, lambda: apache.import_module(file)) is old
    assert site.messages == []
    debug = (True, True, None, False)
    assert within(Request(debug), handler, lambda: apache.import_module(file)) is not old
    assert site.messages == [(f"mod_python: reloading {file}", apache.APLOG_NOTICE)]


def test_a_directory_on_sys_path_is_warned_about_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(site.root) + "/"])
    for name in ("one", "two"):
        site.importer.get(site.importer.entry(site.write(f"{name}.py", "")), True, log=True)
    warnings = [text for text, level in site.messages if level == apache.APLOG_WARNING]
    assert len(warnings) == 1
    assert "is also in sys.path" in warnings[0]


def test_a_file_already_imported_by_name_is_not_loaded_twice(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write("state_for_test.py", "state = []\n")
    monkeypatch.setattr(sys, "path", [str(site.root), *sys.path])
    ordinary = apache.import_module("state_for_test")
    assert sys.modules["state_for_test"] is ordinary
    assert apache.import_module("state_for_test", path=[str(site.root)]) is ordinary
