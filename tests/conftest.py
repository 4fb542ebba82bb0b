"""What all tests share.

Tests start httpds of their own through the fixture `httpd` of `mod_python.testing`. The
environment chooses which: MOD_PYTHON_HTTPD and MOD_PYTHON_TEST_MPM (see docs/testing.md).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests import needs
from tests.serving import Serve

ROOT = Path(__file__).resolve().parent.parent

# Files that httpd's children are to read must be readable for their user.
os.umask(0o022)


_TEMPORARY = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Give the programs that tests start a directory for temporary files, the default one for sessions, of their own.

    So runs at the same time, and the workers of one run, do not meet there. This process keeps its own.
    """
    tempfile.gettempdir()  # remembered
    path = config.stash[_TEMPORARY] = Path(tempfile.mkdtemp(prefix="mod_python-tests-")).resolve()
    path.chmod(0o1777)
    os.environ["TMPDIR"] = str(path)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove that directory."""
    shutil.rmtree(config.stash[_TEMPORARY], ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def certificates() -> Iterator[None]:
    """Tests with TLS, and no others, need the command that makes certificates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mod_python.httpd.tls.shutil", SimpleNamespace(which=needs.program))
        yield


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A temporary directory that httpd's children can read, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="mod_python-tests-")).resolve()
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def serve(public_path: Path) -> Iterator[Serve]:
    """Run ``mod_python serve`` in `public_path`; every run is ended with the test."""
    runner = Serve(public_path)
    yield runner
    runner.end()


@pytest.fixture
def examples() -> Path:
    """The examples' directory."""
    return ROOT / "examples"
