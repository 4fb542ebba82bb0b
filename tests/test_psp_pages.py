"""The cache of compiled PSP pages, outside httpd."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from mod_python._psp import compiler, pages
from mod_python._psp.pages import Page, Pages


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def run(page: Page) -> bytes:
    """What a page without variables sends."""

    class Request:
        sent = b""

        def write(self, data: str, flush: int = 1) -> None:
            self.sent += data.encode()

    req = Request()
    exec(page.code, {**page.namespace, "req": req})
    return req.sent


def counting(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the names of the pages that are compiled from now on."""
    compiled: list[str] = []
    real = compiler.compile_page

    def compile_page(generated: Any, scanned: Any) -> Any:
        compiled.append(Path(scanned.files[0]).name)
        return real(generated, scanned)

    monkeypatch.setattr(pages, "compile_page", compile_page)
    return compiled


def test_a_file_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = counting(monkeypatch)
    file = tmp_path / "a.psp"
    file.write_text("a")
    cache = Pages(clock=Clock())
    first = cache.file(str(file))
    assert cache.file(str(file)) is first
    assert cache.file(str(file), autoescape=True) is not first
    assert compiled == ["a.psp", "a.psp"]


def test_files_are_looked_at_once_per_interval(tmp_path: Path) -> None:
    clock = Clock()
    cache = Pages(interval=1.0, clock=clock)
    page, part = tmp_path / "page.psp", tmp_path / "part.inc"
    page.write_text('page <%@ include file="part.inc" %>')
    part.write_text("one")
    first = cache.file(str(page))
    assert run(first) == b"page one"
    part.write_text("two!")
    clock.now += 0.9
    assert cache.file(str(page)) is first
    clock.now += 0.2
    assert cache.file(str(page), reload=False) is first
    second = cache.file(str(page))
    assert run(second) == b"page two!"
    clock.now += 2
    assert cache.file(str(page)) is second
    page.write_text("alone")
    clock.now += 2
    assert run(cache.file(str(page))) == b"alone"


def test_what_goes_or_breaks_is_forgotten(tmp_path: Path) -> None:
    clock = Clock()
    cache = Pages(clock=clock)
    page, part = tmp_path / "page.psp", tmp_path / "part.inc"
    page.write_text('<%@ include file="part.inc" %>')
    part.write_text("one")
    cache.file(str(page))
    part.write_text("<% x = %>")
    clock.now += 2
    for _ in range(2):
        with pytest.raises(SyntaxError):
            cache.file(str(page))
    part.unlink()
    with pytest.raises(FileNotFoundError):
        cache.file(str(page))
    assert len(cache) == 0
    part.write_text("again")
    assert run(cache.file(str(page))) == b"again"


def test_strings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = counting(monkeypatch)
    clock = Clock()
    cache = Pages(clock=clock)
    (tmp_path / "part.inc").write_text("one")
    text = 'x<%@ include file="part.inc" %>'
    assert run(cache.string(text, str(tmp_path))) == b"xone"
    cache.string(text, str(tmp_path))
    assert len(compiled) == 1
    (tmp_path / "part.inc").write_text("another")
    clock.now += 2
    assert run(cache.string(text, str(tmp_path))) == b"xanother"
    with pytest.raises(FileNotFoundError):
        cache.string(text, "/none")


def test_the_least_used_quarter_goes() -> None:
    cache = Pages(limit=8)
    for number in range(8):
        for _ in range(10 - number):
            cache.string(f"page {number}", "/")
    assert len(cache) == 8
    cache.string("new", "/")
    assert len(cache) == 7
    kept = {key[0] for key in cache._pages}
    assert kept == {"new", *(f"page {number}" for number in range(6))}
    # The past counts for half: who was used much long ago does not stay for ever.
    assert cache._pages["page 0", "/", False].hits == 5


def test_many_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = counting(monkeypatch)
    names = [f"{number}.psp" for number in range(6)]
    for name in names:
        (tmp_path / name).write_text(name)
    cache = Pages(interval=0.0)
    barrier = threading.Barrier(8)
    problems: list[BaseException] = []

    def use() -> None:
        try:
            barrier.wait(30)
            for turn in range(200):
                name = names[turn % 6]
                assert run(cache.file(str(tmp_path / name))) == name.encode()
        except BaseException as exc:
            problems.append(exc)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not problems
    assert sorted(compiled) == names


def test_a_small_cache_with_many_threads() -> None:
    cache = Pages(limit=4)
    problems: list[BaseException] = []

    def use(number: int) -> None:
        try:
            for turn in range(200):
                text = str((number + turn * 3) % 9)
                assert run(cache.string(text, "/")) == text.encode()
        except BaseException as exc:
            problems.append(exc)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not problems
    assert len(cache) <= 4
