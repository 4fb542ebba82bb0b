"""Projects that `mod_python create` makes, and the servers that are started in them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mod_python.httpd.control import Background
from mod_python.httpd.find import find_httpd
from mod_python.httpd.process import session_members
from mod_python.testing.client import Response
from tests.serving import COMMAND, TIMEOUT, command, environment, free_port, get

Done = subprocess.CompletedProcess[str]


class Project:
    """One project directory.

    Attributes:
        root: The directory.
        port: The port on which it listens.
    """

    def __init__(self, directory: Path, name: str = "site") -> None:
        self.directory = directory
        self.root = directory / name
        self.port = free_port()

    @property
    def config(self) -> Path:
        """httpd's configuration."""
        return self.root / "conf" / "httpd.conf"

    @property
    def program(self) -> Path:
        """The program that prints it."""
        return self.root / "conf" / "httpd_conf.py"

    @property
    def server(self) -> Background:
        """The server, for looking at it from outside."""
        return Background(find_httpd(), self.config)

    @property
    def log(self) -> str:
        """The error log."""
        return (self.root / "logs" / "error_log").read_text()

    def run(self, *arguments: str, status: int = 0, user: int | None = None) -> Done:
        """Run a command in `directory`; it must end with `status`. `user`: as that user (for root)."""
        done = (
            command(*arguments, directory=self.directory)
            if user is None
            else subprocess.run(
                [COMMAND, *arguments],
                cwd=self.directory,
                # A Python's library may lie where only root finds it by itself.
                env={**environment(), "LD_LIBRARY_PATH": str(Path(sys.base_prefix) / "lib")},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=2 * TIMEOUT,
                check=False,
                user=user,
                group=user,
                extra_groups=[],
            )
        )
        assert done.returncode == status, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def create(self, handler: str, *arguments: str, user: int | None = None) -> Done:
        """Make it."""
        where = ("--listen", f"127.0.0.1:{self.port}")
        return self.run("create", str(self.root), f"--pythonhandler={handler}", *where, *arguments, user=user)

    def start(self) -> int:
        """Start it; return the process id."""
        found = re.match(
            r"httpd started: process (\d+), listening on (\S+)\n$", self.run("start", str(self.config)).stdout
        )
        assert found is not None
        assert found[2] == f"127.0.0.1:{self.port}"
        return int(found[1])

    def get(self, path: str = "/") -> Response:
        """Ask it."""
        return get(self.port, path)

    def end(self) -> None:
        """See that nothing is left, and that nothing went wrong."""
        pid = self.server.pid() if self.config.exists() else None
        if pid is not None:
            for member in session_members(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)


@pytest.fixture
def project(public_path: Path) -> Iterator[Project]:
    """A project that is yet to be created."""
    made = Project(public_path)
    yield made
    made.end()


__all__ = ["Done", "Project", "project"]
