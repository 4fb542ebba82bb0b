"""The commands in the manual's pages, run as they stand there.

A page is worked through from top to bottom in a directory of its own. A block after
"`name`:" is written to that file. In a ``console`` block, ``$ mod_python serve`` is started in the
background (and the one before it stopped), other commands are run to their end, and the lines
that follow a command must be in its output, in this order, ``...`` standing for anything.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.conftest import ROOT
from tests.serving import COMMAND, TIMEOUT, Running, Serve, environment, free_port

pytestmark = pytest.mark.heavy


_BLOCK = re.compile(r"(?:`(?P<file>[\w./-]+)`:\n\n)?```(?P<language>\w*)\n(?P<text>.*?)```", re.DOTALL)


class Page:
    """One page that is being worked through."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._server: Running | None = None
        self._ports = {"7000": str(free_port()), "8000": str(free_port())}
        self.commands = 0

    def work_through(self, text: str) -> None:
        for block in _BLOCK.finditer(text):
            if block["file"]:
                self._serve.write(block["file"], block["text"])
            elif block["language"] == "console":
                for command, expected in _commands(block["text"]):
                    self._run(command, expected)
        self._stop()

    def _run(self, command: str, expected: list[str]) -> None:
        self.commands += 1
        background = command.startswith("mod_python serve ") and "|" not in command
        for documented, free in self._ports.items():
            command = command.replace(f":{documented}", f":{free}").replace(f" {documented}", f" {free}")
        if background:
            self._stop()
            assert not expected
            if "--tls-self-signed" in command:
                needs.program("openssl")
            listen = " ".join(f"127.0.0.1:{port}" for port in self._defaults(command))
            self._server = self._serve.start(*command.split()[2:], MOD_PYTHON_SERVE_LISTEN=listen)
            return
        for part in command.split(" | "):
            needs.program(part.split()[0], path=_path())
        env = {**environment(self._serve.tmp), "PATH": _path(), "PYTEST_ADDOPTS": "-p no:cacheprovider"}
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self._serve.directory,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=4 * TIMEOUT,
            check=False,
        )
        pattern = ".*".join(re.escape(line).replace(r"\.\.\.", ".*") for line in expected)
        assert re.search(pattern, done.stdout, re.DOTALL), f"{command}\n{done.stdout}{done.stderr}"
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    def _defaults(self, command: str) -> list[str]:
        """The free port that stands for the default address of a command."""
        return [self._ports["7000" if "echo" in command else "8000"]]

    def _stop(self) -> None:
        if self._server is not None:
            assert self._server.interrupt() == 0, self._server.output
            assert "Traceback" not in self._server.output
        self._server = None


def _commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Split a console block into commands, each with the lines of output that follow it."""
    command, output = "", list[str]()
    for line in text.splitlines():
        if line.startswith("$ "):
            if command:
                yield command, output
            command, output = line[2:], []
        else:
            output.append(line)
    if command:
        yield command, output


def _path() -> str:
    return f"{Path(COMMAND).parent}:{os.environ['PATH']}"


@pytest.mark.parametrize("page", ["serve.md", "testing.md"])
def test_a_page(serve: Serve, page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    worked = Page(serve)
    worked.work_through(text)
    assert worked.commands == text.count("\n$ ")


@pytest.mark.parametrize("name", ["create", "genconfig", "start", "stop", "restart", "graceful", "status"])
def test_the_options_of_a_command_are_in_the_manual(name: str) -> None:
    done = subprocess.run([COMMAND, name, "--help"], env=environment(), capture_output=True, text=True, check=True)
    documented = (ROOT / "docs" / "commands.md").read_text()
    options = set(re.findall(r"(?:^  |, )(--[\w-]+)", done.stdout, re.MULTILINE)) - {"--help"}
    assert options
    assert [option for option in options if f"`{option}" not in documented] == []


def test_all_commands_are_in_the_manual() -> None:
    done = subprocess.run([COMMAND, "--help"], env=environment(), capture_output=True, text=True, check=True)
    names = re.findall(r"^  ([\w-]+) ", done.stdout.partition("Commands:")[2], re.MULTILINE)
    documented = (ROOT / "docs" / "commands.md").read_text()
    assert len(names) > 10
    assert [name for name in names if f"`{name}`" not in documented] == []


def test_the_table_of_options_is_complete(serve: Serve) -> None:
    done = subprocess.run([COMMAND, "serve", "--help"], env=environment(), capture_output=True, text=True, check=True)
    documented = (ROOT / "docs" / "serve.md").read_text()
    options = set(re.findall(r"^  (--[\w-]+)", done.stdout, re.MULTILINE)) - {"--help"}
    assert len(options) > 10
    assert [option for option in options if f"`{option}" not in documented] == []
