"""pytest plugin: the fixture ``httpd``.

    def test_hello(httpd):
        server = httpd(handler="def handler(req): req.write('hi'); return 0")
        assert server.get("/").body == b"hi"

The servers a test made are stopped when it ends, also when it fails. A crash, an
unexpected traceback in an error log, or a process that did not end by itself fails the
test; `Server.allow` names what is expected.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mod_python.testing.server import Server

__all__ = ["Factory", "httpd"]


class Factory:
    """Starts servers for one test; calling it takes the arguments of `Server`."""

    def __init__(self) -> None:
        self.servers: list[Server] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Server:
        """Start a server.

        Args:
            *args: As for `Server`.
            **kwargs: As for `Server`.

        Returns:
            The running server.
        """
        # Imported here: pytest loads this plugin in every project of the environment.
        from mod_python.testing.server import Server

        server = Server(*args, **kwargs)
        self.servers.append(server)
        server.start()
        return server

    def finish(self) -> list[str]:
        """Stop all servers and return their problems."""
        for server in self.servers:
            server.stop()
        return [problem for server in self.servers for problem in server.problems()]


@pytest.fixture
def httpd() -> Iterator[Factory]:
    """Start private httpds: ``httpd(handler=...)`` gives a running `Server`."""
    factory = Factory()
    yield factory
    problems = factory.finish()
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of the error logs to the report of a failed test."""
    report = yield
    factory = getattr(item, "funcargs", {}).get("httpd")
    if report.failed and isinstance(factory, Factory):
        for number, server in enumerate(factory.servers, 1):
            lines = server.error_log.splitlines()[-60:]
            if lines:
                report.sections.append((f"httpd {number} error log", "\n".join(lines)))
    return report
