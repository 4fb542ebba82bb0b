"""Setting up a machine: which Pythons may be used, what may be read by whom, what is made anew."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import bootstrap, environments, pythons, system
from tools.environments import Environment


@pytest.fixture
def open_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that counts as open to others, whatever is above it."""
    directory = tmp_path / "open"
    directory.mkdir(mode=0o755)
    real = Path.stat

    class Open:
        st_mode = 0o40755

    def stat(self: Path, **keywords: bool) -> object:
        return Open() if self in directory.parents else real(self, **keywords)

    monkeypatch.setattr(Path, "stat", stat)
    return directory


class TestClosedToOthers:
    def test_an_open_path(self, open_path: Path) -> None:
        file = open_path / "file"
        file.touch(mode=0o644)
        file.chmod(0o644)
        assert pythons.closed_to_others(file) is None
        assert pythons.closed_to_others(open_path) is None

    def test_a_closed_directory_is_named(self, open_path: Path) -> None:
        closed = open_path / "closed"
        (closed / "below").mkdir(parents=True)
        closed.chmod(0o700)
        assert pythons.closed_to_others(closed / "below") == closed

    def test_a_closed_file_is_named(self, open_path: Path) -> None:
        file = open_path / "file"
        file.touch()
        file.chmod(0o600)
        assert pythons.closed_to_others(file) == file

    def test_what_a_link_leads_to_counts(self, open_path: Path) -> None:
        closed = open_path / "closed"
        closed.mkdir()
        (closed / "python").touch()
        closed.chmod(0o700)
        link = open_path / "python"
        link.symlink_to(closed / "python")
        assert pythons.closed_to_others(link) is not None

    def test_what_is_not_there_is_named(self, open_path: Path) -> None:
        assert pythons.closed_to_others(open_path / "none") == open_path / "none"


class TestLookAt:
    def test_this_python(self) -> None:
        found = pythons.look_at(sys.executable, for_others=False)
        assert found.problem == ""
        assert found.version == tuple(sys.version_info[:3])
        assert found.base == sys.base_prefix

    def test_no_such_program(self) -> None:
        assert pythons.look_at("/nowhere/python3", for_others=False).problem == "there is no such program"

    def test_a_program_that_is_no_python(self) -> None:
        assert pythons.look_at("/bin/false", for_others=False).problem == "it does not run"

    def test_an_old_python(self, tmp_path: Path) -> None:
        old = tmp_path / "python3"
        old.write_text("""#!/bin/sh\necho '{"version": [3, 8, 18], "problem": "", "files": []}'\n""")
        old.chmod(0o755)
        assert pythons.look_at(str(old), for_others=True).problem == "it is older than 3.11"

    def test_a_python_that_others_cannot_read(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        home.mkdir(mode=0o700)
        private = home / "python3"
        private.write_text(f"""#!/bin/sh\necho '{{"version": [3, 12, 1], "problem": "", "files": ["{private}"]}}'\n""")
        private.chmod(0o755)
        assert pythons.look_at(str(private), for_others=False).problem == ""
        assert (
            "httpd's children, who are not root, cannot read" in pythons.look_at(str(private), for_others=True).problem
        )

    def test_only_the_python_that_was_asked_for_is_looked_at(self) -> None:
        chosen, passed = pythons.choose("/bin/false", for_others=False)
        assert chosen is None
        assert [python.problem for python in passed] == ["it does not run"]


def test_a_checkout_in_a_private_directory_is_refused_to_root(open_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = open_path / "checkout" / "src" / "mod_python"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr(system, "is_root", lambda: True)
    system.check_checkout(open_path / "checkout")
    (open_path / "checkout").chmod(0o700)
    with pytest.raises(SystemExit) as caught:
        system.check_checkout(open_path / "checkout")
    assert f"{open_path / 'checkout'} is closed to other users" in str(caught.value)
    monkeypatch.setattr(system, "is_root", lambda: False)
    system.check_checkout(open_path / "checkout")


def test_a_digest_follows_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    source = tmp_path / "src" / "one.pyx"
    source.parent.mkdir()
    source.write_text("x = 1\n")
    first = environments.digest(["src"], "word")
    assert environments.digest(["src"], "word") == first
    (tmp_path / "src" / "made.so").touch()  # a result, not a source
    (tmp_path / "src" / "_build.py").touch()
    assert environments.digest(["src"], "word") == first
    assert environments.digest(["src"], "other") != first
    source.write_text("x = 2\n")
    assert environments.digest(["src"], "word") != first


def test_nothing_to_install_needs_no_privileges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "privileges", lambda: None)
    assert system.install([])
    assert not system.install(["gcc"])


class TestStages:
    """.venv has what a server needs; what tests and linters need is added when they are to run."""

    @pytest.fixture
    def installed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The steps that were taken, in a checkout of which nothing is real."""
        steps: list[str] = []
        monkeypatch.setattr(environments, "ROOT", tmp_path)
        monkeypatch.setattr(environments, "_no_httpd", lambda environment: False)
        monkeypatch.setattr(
            "tools.environments.subprocess.run", lambda command, **_: steps.append(f"venv {command[-1]}")
        )
        monkeypatch.setattr(Environment, "ask", lambda *words: "setuptools")
        monkeypatch.setattr(Environment, "pip", lambda self, *words: steps.append(f"pip {words[-1]}"))
        monkeypatch.setattr(Environment, "run", lambda self, *words: steps.append(words[0]))
        (tmp_path / ".venv").mkdir(mode=0o755)
        (tmp_path / ".venv" / environments.NOTE).write_text(f"{tmp_path}\n/usr\n(3, 11, 2)\nanother digest")
        return steps

    def test_a_server_needs_no_test_tools(self, installed: list[str]) -> None:
        python = pythons.Python("python3", (3, 11, 2), "/usr/bin/python3", "/usr", "")
        environments.development(python, tests=False)
        assert installed == ["pip setuptools", "pip ."]

    def test_what_tests_need_is_added_once_and_stays(self, installed: list[str]) -> None:
        python = pythons.Python("python3", (3, 11, 2), "/usr/bin/python3", "/usr", "")
        environments.development(python, tests=False)
        environments.development(python, tests=True)
        assert installed == ["pip setuptools", "pip .", "pip .[dev]"]
        environments.development(python, tests=True)
        environments.development(python, tests=False)
        assert installed[3:] == ["setup.py", "setup.py"]

    def test_an_environment_for_another_python_is_made_anew(self, installed: list[str]) -> None:
        python = pythons.Python("python3", (3, 12, 1), "/usr/bin/python3", "/usr", "")
        with pytest.raises(OSError, match=r"\.venv"):  # venv itself is not real here
            environments.development(python, tests=True)
        assert [step.partition(" ")[0] for step in installed] == ["venv"]


def test_programs_of_tests_are_installed_for_tests_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "has_compiler", lambda: True)
    monkeypatch.setattr(system, "has_httpd", lambda: True)
    monkeypatch.setattr("tools.system.shutil.which", lambda program: None)
    assert set(system.missing()) == set(system.TOOLS.values())
    assert set(system.missing_for_tests()) == set(system.TEST_TOOLS.values())


def test_one_package_that_is_not_to_be_had_does_not_keep_the_others_away(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def install(packages: list[str]) -> bool:
        asked.append(packages)
        return "chromium" not in packages

    monkeypatch.setattr(system, "install", install)
    monkeypatch.setattr(system, "privileges", list)
    monkeypatch.setattr("tools.system.shutil.which", lambda program: f"/usr/bin/{program}")
    assert system.install_separately(["curl", "chromium", "git"]) == ["chromium"]
    assert asked == [["curl", "chromium", "git"], ["curl"], ["chromium"], ["git"]]


@pytest.mark.parametrize("there", [True, False])
def test_a_python_is_installed_with_the_other_packages(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    python = pythons.Python("python3", (3, 11, 2), "/usr/bin/python3", "/usr", "") if there else None
    monkeypatch.setattr("tools.bootstrap.environments.existing", lambda: None)
    monkeypatch.setattr("tools.bootstrap.pythons.choose", lambda given, *, for_others: (python, []))
    monkeypatch.setattr("tools.bootstrap.system.missing", lambda: ["gcc"])
    assert bootstrap.packages(None) == (["gcc"] if there else ["gcc", *system.PYTHON_PACKAGES])
    assert bootstrap.packages("python3.12") == ["gcc"]
