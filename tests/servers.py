"""Servers that several tests of a module share.

A server takes a good part of a second to start, so tests that only ask share one. Each test
names what it expects to go wrong with `Server.allow`; what else went wrong is found at
the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mod_python.testing import Server


@contextmanager
def running(*args: Any, **kwargs: Any) -> Iterator[Server]:
    """Run a server; fail at the end if it crashed, logged a traceback or did not stop.

    Args:
        *args, **kwargs: As for `Server`.

    Yields:
        The running server.
    """
    with Server(*args, **kwargs) as server:
        yield server
    problems = server.problems()
    assert not problems, "\n".join(problems)
