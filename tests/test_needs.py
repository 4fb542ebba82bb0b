"""What becomes of a test whose program or package is not installed (tests/needs.py)."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests import needs
from tests.conftest import ROOT

pytest_plugins = ["pytester"]


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The variable is not set, whatever the caller has."""
    monkeypatch.delenv(needs.VARIABLE, raising=False)
    return monkeypatch


@pytest.fixture
def empty_path(tools: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A PATH of one directory without programs."""
    tools.setenv("PATH", str(tmp_path))
    return tmp_path


def install(directory: Path, name: str) -> str:
    """Put a program into a directory."""
    file = directory / name
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return str(file)


class TestProgram:
    def test_its_path_is_returned(self, empty_path: Path) -> None:
        file = install(empty_path, "redis-server")
        assert needs.program("redis-server") == file

    def test_another_name_is_found(self, empty_path: Path) -> None:
        file = install(empty_path, "google-chrome")
        assert needs.program("chromium", "google-chrome") == file

    def test_another_path_is_searched(self, empty_path: Path, public_path: Path) -> None:
        file = install(public_path, "nc")
        assert needs.program("nc", path=str(public_path)) == file

    @pytest.mark.parametrize(
        ("names", "reason"),
        [
            (["redis-server"], "needs redis-server, which is not installed (Debian: redis-server)"),
            (["redis-cli"], "needs redis-cli, which is not installed (Debian: redis-tools)"),
            (["chromium", "google-chrome"], "needs chromium, which is not installed (Debian: chromium)"),
        ],
    )
    @pytest.mark.usefixtures("empty_path")
    def test_test_is_skipped_without_it(self, names: list[str], reason: str) -> None:
        with pytest.raises(pytest.skip.Exception, match=f"^{re.escape(reason)}$"):
            needs.program(*names)

    @pytest.mark.usefixtures("empty_path")
    def test_test_fails_without_it_where_it_is_required(self, tools: pytest.MonkeyPatch) -> None:
        tools.setenv(needs.VARIABLE, "required")
        reason = r"^needs nc, which is not installed \(Debian: netcat-openbsd\); MOD_PYTHON_TEST_TOOLS requires it$"
        with pytest.raises(pytest.fail.Exception, match=reason):
            needs.program("nc")


class TestPackage:
    def test_it_is_imported(self) -> None:
        assert isinstance(needs.package("pytest"), ModuleType)

    def test_test_is_skipped_without_it(self) -> None:
        reason = "needs the Python package no_such_package, which is not installed (pip install no_such_package)"
        with pytest.raises(pytest.skip.Exception, match=re.escape(reason)):
            needs.package("no_such_package")

    def test_test_fails_without_it_where_it_is_required(self, tools: pytest.MonkeyPatch) -> None:
        tools.setenv(needs.VARIABLE, "required")
        with pytest.raises(pytest.fail.Exception, match="needs the Python package no_such_package"):
            needs.package("no_such_package")

    def test_broken_package_is_an_error(self, tools: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "broken_package.py").write_text("import no_such_package\n")
        tools.setattr(sys, "path", [str(tmp_path), *sys.path])
        with pytest.raises(ModuleNotFoundError, match="no_such_package"):
            needs.package("broken_package")


class TestCompiler:
    def test_words_of_its_command(self, tools: pytest.MonkeyPatch) -> None:
        tools.setenv("CC", "sh -std=c99")
        assert needs.compiler() == ["sh", "-std=c99"]

    @pytest.mark.usefixtures("empty_path")
    def test_test_is_skipped_without_it(self, tools: pytest.MonkeyPatch) -> None:
        tools.setenv("CC", "gcc-99 -O2")
        reason = "needs gcc-99, which is not installed (Debian: gcc)"
        with pytest.raises(pytest.skip.Exception, match=re.escape(reason)):
            needs.compiler()


@pytest.mark.parametrize(
    ("value", "nc", "chromium"),
    [
        ("", False, False),
        ("optional", False, False),
        ("required", True, True),
        ("required except chromium", True, False),
        ("required except chromium,chromedriver", True, False),
        ("required except chromedriver, chromium", True, False),
        ("required except chromium nc", False, False),
    ],
)
def test_values_of_the_variable(tools: pytest.MonkeyPatch, value: str, nc: bool, chromium: bool) -> None:
    tools.setenv(needs.VARIABLE, value)
    assert (needs.required("nc"), needs.required("chromium")) == (nc, chromium)


@pytest.mark.parametrize("value", ["yes", "require", "required except", "required, chromium", "except chromium"])
def test_value_that_is_not_valid(tools: pytest.MonkeyPatch, value: str) -> None:
    tools.setenv(needs.VARIABLE, value)
    with pytest.raises(ValueError, match=r'MOD_PYTHON_TEST_TOOLS=.* is not valid: write "optional"'):
        needs.required("nc")


def test_whole_file_is_skipped(pytester: pytest.Pytester, tools: pytest.MonkeyPatch) -> None:
    pytester.makepyfile("from tests import needs\nneeds.package('no_such_package')\ndef test_one(): assert False\n")
    tools.setenv("PYTHONPATH", str(ROOT))
    options = ("-p", "no:cacheprovider", "-p", "no:xdist")
    pytester.runpytest_subprocess(*options).assert_outcomes(skipped=1)
    tools.setenv(needs.VARIABLE, "required")
    pytester.runpytest_subprocess(*options).assert_outcomes(errors=1)


def test_no_test_has_another_way() -> None:
    """Tests that look for programs and packages themselves could be skipped where they must not be."""
    others = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if path.name not in ("needs.py", "test_needs.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"shutil\.which\(|importorskip|find_spec\(", line)
    ]
    assert others == []
