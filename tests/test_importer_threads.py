"""The importer under many threads: one load, whole modules, no deadlock."""

from __future__ import annotations

import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.importer_site import Site, a_site, shared_module

# Long enough for a machine that is busy with other things; never waited for
# when all goes well.
TIMEOUT = 30.0


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with a_site(tmp_path, monkeypatch) as site:
        yield site


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    return shared_module(monkeypatch)


# -- threads -------------------------------------------------------------------------


def run_threads(functions: list[Callable[[], Any]]) -> list[Any]:
    """Run functions at once; return results or exceptions; fail on a deadlock."""
    results: list[Any] = [None] * len(functions)
    start = threading.Barrier(len(functions))

    def run(number: int) -> None:
        start.wait(TIMEOUT)
        try:
            results[number] = functions[number]()
        except BaseException as exc:
            results[number] = exc

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(len(functions))]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + TIMEOUT
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    assert not [thread for thread in threads if thread.is_alive()], "deadlock"
    return results


def test_forty_first_requests_execute_a_module_once_and_wholly(site: Site, shared: Any) -> None:
    shared.wait = lambda: time.sleep(0.02)  # let the other threads run into the load
    source = (
        "import shared_with_test, helper\nshared_with_test.events.append(__name__)\nshared_with_test.wait()\n"
        "done = True\n"
    )
    site.write("index.py", source)
    site.write("helper.py", source.replace(", helper", ""))

    def call() -> Any:
        module = site.load("index.py")
        assert module.done
        assert module.helper.done
        return module

    results = run_threads([call] * 40)
    assert results == [results[0]] * 40
    assert isinstance(results[0], types.ModuleType)
    assert len(shared.events) == 2
    # The same when it is loaded again.
    site.write("index.py", source + "new = True\n")
    site.write("helper.py", source.replace(", helper", "") + "new = True\n")
    results = run_threads([call] * 40)
    assert results == [results[0]] * 40
    assert results[0].new
    assert len(shared.events) == 4


def waits_for_import(ident: int) -> bool:
    """Whether a thread is blocked in the lock of a module that another one loads."""
    frame = sys._current_frames().get(ident)
    return frame is not None and frame.f_code.co_name == "acquire"


def test_those_who_wait_share_a_failure(site: Site, shared: Any) -> None:
    loading = threading.Event()
    idents: list[int] = []

    def wait() -> None:
        loading.set()
        deadline = time.monotonic() + TIMEOUT
        while not (len(idents) == 4 and all(map(waits_for_import, idents))) and time.monotonic() < deadline:
            time.sleep(0.001)

    shared.wait = wait
    site.write(
        "index.py",
        "import shared_with_test\nshared_with_test.events.append(1)\nshared_with_test.wait()\nraise ValueError('no')\n",
    )

    def first() -> Any:
        return site.load("index.py")

    def second() -> Any:
        assert loading.wait(TIMEOUT)
        idents.append(threading.get_ident())
        return site.load("index.py")

    results = run_threads([first, *[second] * 4])
    assert isinstance(results[0], ValueError)
    for result in results[1:]:
        assert isinstance(result, ImportError)
        assert "failed with ValueError: no" in str(result)
    assert shared.events == [1]


@pytest.mark.parametrize("statement", ["import {other}", "from {other} import done as other"])
def test_two_modules_that_import_each_other_from_two_threads(site: Site, shared: Any, statement: str) -> None:
    """Both threads are inside a load when they ask for the other's module."""
    inside = threading.Barrier(2)

    def enter() -> None:
        try:
            inside.wait(1.0)
        except threading.BrokenBarrierError:
            pass  # one of them is alone: the other module was loaded already

    shared.enter = enter
    for name, other in (("a", "b"), ("b", "a")):
        site.write(
            f"{name}.py",
            "import shared_with_test\nearly = 1\nshared_with_test.enter()\n"
            + statement.format(other=other)
            + "\ndone = True\ndef call():\n    import "
            + f"{other} as o\n    return o.done\n",
        )

    # With "from ... import" one order of loading works when alone: a name that
    # exists early enough.
    if statement.startswith("from"):
        for name in ("a", "b"):
            path = site.root / f"{name}.py"
            path.write_text(path.read_text().replace("early = 1", "done = True"))

    def call(name: str) -> Callable[[], Any]:
        return lambda: site.load(f"{name}.py").call()

    assert run_threads([call("a"), call("b")]) == [True, True]
    a, b = site.load("a.py"), site.load("b.py")
    assert site.load("a.py") is a
    assert site.load("b.py") is b


def test_half_loaded_names_are_waited_for(site: Site, shared: Any) -> None:
    """A thread that was given another's half-loaded module tries again once it is whole."""
    a_inside = threading.Event()
    b_inside = threading.Event()
    shared.a_inside, shared.b_inside, shared.timeout = a_inside, b_inside, TIMEOUT
    # b comes first or not at all: it needs a name that a defines after importing b.
    site.write(
        "a.py",
        "import shared_with_test as s\ns.a_inside.set()\ns.b_inside.wait(s.timeout)\nimport b\nname = 'whole'\n",
    )
    site.write(
        "b.py",
        "import shared_with_test as s\ns.b_inside.set()\ns.a_inside.wait(s.timeout)\nfrom a import name\n",
    )
    results = run_threads([lambda: site.load("a.py").name, lambda: site.load("b.py").name])
    # Which thread gets a half-loaded module, depends; b's own request never fails for it.
    assert results[1] == "whole"
    assert results[0] == "whole" or isinstance(results[0], ImportError)
    assert site.load("a.py").b is site.load("b.py")


def test_no_deadlock_with_the_locks_of_ordinary_imports(
    site: Site, shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ours imports ordinary while ordinary, in another thread, imports ours."""
    inside = threading.Barrier(2)

    def enter() -> None:
        try:
            inside.wait(1.0)
        except threading.BrokenBarrierError:
            pass

    shared.enter = enter
    ours = site.write(
        "ours.py", "import shared_with_test\nshared_with_test.enter()\nimport ordinary_in_circle\ndone = True\n"
    )
    site.write(
        "lib/ordinary_in_circle.py",
        "import shared_with_test\nshared_with_test.enter()\nfrom mod_python import apache\n"
        f"ours = apache.import_module({ours!r})\ndone = True\n",
    )
    monkeypatch.syspath_prepend(str(site.root / "lib"))

    def ordinary() -> Any:
        return __import__("ordinary_in_circle").done

    results = run_threads([lambda: site.load("ours.py").done, ordinary])
    assert results == [True, True]


def test_a_thread_started_while_loading_may_import(site: Site) -> None:
    site.write("helper.py", "value = 4\n")
    site.write(
        "index.py",
        "import threading\nresult = []\n"
        "def work():\n    import helper\n    result.append(helper.value)\n"
        f"t = threading.Thread(target=work, daemon=True)\nt.start()\nt.join({TIMEOUT})\n",
    )
    assert site.load("index.py").result == [4]
