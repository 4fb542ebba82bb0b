"""A directory of modules with an importer of its own, for tests of the importer."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mod_python._dispatch import importer as importer_module
from mod_python._dispatch.importer import Importer


class Site:
    """A directory of modules, and an importer that looks at files every time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.messages: list[tuple[str, int]] = []
        self.importer = Importer(interval=0.0, log=lambda text, level: self.messages.append((text, level)))
        self.clock = 0

    def write(self, name: str, source: str | bytes) -> str:
        """Write a module; every version has a modification time of its own."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.encode() if isinstance(source, str) else source)
        self.clock += 1
        os.utime(path, ns=(0, 1_700_000_000_000_000_000 + self.clock))
        return str(path)

    def load(self, name: str, autoreload: bool = True) -> Any:
        """Return the module of a file, as the dispatcher obtains it."""
        return self.importer.get(self.importer.entry(str(self.root / name)), autoreload)


@contextmanager
def a_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Make a site whose importer is the interpreter's, and clear up after it."""
    site = Site(tmp_path)
    monkeypatch.setattr(importer_module, "_default", site.importer)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield site
    site.importer.close()
    for name in set(sys.modules) - before:
        module = sys.modules[name]
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def shared_module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """An ordinary module that modules under test can import to report to the test."""
    module = types.ModuleType("shared_with_test")
    module.events = []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shared_with_test", module)
    return module
