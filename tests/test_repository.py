"""The files around the code: workflows, the linters' configuration, the source distribution, the changelog."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mod_python.version import version
from tests import needs
from tests.conftest import ROOT
from tools import lint

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
YAML = [ROOT / ".pre-commit-config.yaml", *sorted((ROOT / ".github").rglob("*.yml"))]


@pytest.fixture(scope="module", autouse=True)
def extra_dev() -> None:
    """The linters and the build's packages are not in every environment that runs the tests."""
    try:
        importlib.metadata.version("pre-commit")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("this environment is without the extra dev")


def parsed(path: Path) -> Any:
    """Read a YAML file with the parser of pre-commit."""
    return needs.package("yaml").safe_load(path.read_text())


def steps(workflow: Path) -> Iterator[dict[str, Any]]:
    """The steps of all jobs."""
    for job in parsed(workflow)["jobs"].values():
        yield from job["steps"]


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_yaml_is_valid(path: Path) -> None:
    assert isinstance(parsed(path), dict)


def test_workflows_are_there() -> None:
    assert {path.name for path in WORKFLOWS} == {"matrix.yml", "test.yml"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
class TestWorkflow:
    def test_commands_exist(self, path: Path) -> None:
        phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert phony
        last = [step["run"] for step in steps(path) if "run" in step][-1]
        command, *arguments = shlex.split(last)
        if command == "make":
            assert arguments
            assert set(arguments) <= set(phony[1].split())
        else:
            assert not arguments
            assert os.access(ROOT / command, os.X_OK)

    def test_permissions_are_minimal(self, path: Path) -> None:
        assert parsed(path)["permissions"] == {"contents": "read"}
        assert not any("permissions" in job for job in parsed(path)["jobs"].values())

    def test_actions_are_pinned_to_a_commit(self, path: Path) -> None:
        used = re.findall(r"uses: (.*)", path.read_text())
        assert used
        for action in used:
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", action), action

    def test_jobs_have_a_timeout(self, path: Path) -> None:
        for job in parsed(path)["jobs"].values():
            assert 0 < job["timeout-minutes"] <= 120


def hooks() -> list[dict[str, Any]]:
    return [hook for repo in parsed(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]


def test_hooks_are_local() -> None:
    assert {repo["repo"] for repo in parsed(ROOT / ".pre-commit-config.yaml")["repos"]} == {"local"}
    assert {hook["language"] for hook in hooks()} == {"system"}


def test_programs_of_hooks_come_with_the_extra_dev() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    programs = {
        point.name: re.sub(r"\W", "-", name).lower()
        for name in (re.split(r"[^\w-]", requirement)[0] for requirement in extra)
        for point in importlib.metadata.distribution(name).entry_points
        if point.group == "console_scripts"
    } | {"ruff": "ruff"}  # a binary, without an entry point
    for hook in hooks():
        program = shlex.split(hook["entry"])[0]
        assert program in programs, hook["id"]
        assert needs.program(program, path=str(Path(sys.executable).parent))


def git_files() -> set[str]:
    """The files that git has: what else lies about is nobody's concern."""
    if not (ROOT / ".git").exists():
        pytest.skip("this tree is not a clone: there is no .git")
    # Said outright, so that git does not mind who owns the checkout.
    environ = {**os.environ, "GIT_DIR": str(ROOT / ".git"), "GIT_WORK_TREE": str(ROOT)}
    command = [needs.program("git"), "ls-files", "-z", "--cached"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split("\0") if name and (ROOT / name).exists()}


def test_source_distribution_has_all_files(tmp_path: Path) -> None:
    expected = git_files()
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [sources] = tmp_path.glob("*.egg-info/SOURCES.txt")
    listed = {line for line in sources.read_text().splitlines() if ".egg-info/" not in line}
    assert sorted(expected - listed) == []
    assert sorted(listed - expected) == []


class TestLint:
    """tools/lint.py, in a small tree that is not a clone."""

    @pytest.fixture(autouse=True)
    def tree(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        needs.program("git")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PRE_COMMIT_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(lint, "ROOT", tmp_path)
        monkeypatch.setattr(sys, "argv", ["lint", "trailing-whitespace"])
        (tmp_path / ".pre-commit-config.yaml").write_text((ROOT / ".pre-commit-config.yaml").read_text())
        (tmp_path / ".gitignore").write_text("/cache/\n/ignored.py\n")

    @pytest.mark.parametrize(
        ("name", "text", "status"),
        [
            ("good.py", "x = 1\n", 0),
            ("bad.py", "x = 1 \n", 1),
            ("page.md", "text  \n", 1),
            ("ignored.py", "x = 1 \n", 0),
        ],
    )
    def test_files_that_git_does_not_ignore_are_checked(self, name: str, text: str, status: int) -> None:
        Path(name).write_text(text)
        with pytest.raises(SystemExit) as end:
            lint.main()
        assert end.value.code == status
        assert not Path(".git").exists()

    def test_git_is_needed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nonexistent")
        with pytest.raises(SystemExit, match="the checks need git; install it first"):
            lint.main()


class TestChangelog:
    text = (ROOT / "CHANGELOG.md").read_text()

    def test_unreleased_comes_first_and_releases_follow(self) -> None:
        titles = re.findall(r"^## (.*)$", self.text, re.MULTILINE)
        assert titles[0] == "Unreleased"
        for title in titles[1:]:
            assert re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d{2}-\d{2}", title), title

    def test_version_that_is_out_has_its_section(self) -> None:
        if "dev" not in version:
            assert f"## {version} - " in self.text

    def test_kinds_of_changes(self) -> None:
        kinds = set(re.findall(r"^### (.*)$", self.text, re.MULTILINE))
        assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}

    def test_no_line_is_too_long(self) -> None:
        assert [line for line in self.text.splitlines() if len(line) > 120] == []
