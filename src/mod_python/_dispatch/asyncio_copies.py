"""asyncio in more than one interpreter of a process, up to Python 3.11.

There asyncio's module in C, `_asyncio`, keeps which loop is running in variables that all
interpreters share, and tells their threads apart by numbers that are given out anew in each
interpreter.  So a loop may refuse to run because another interpreter's is running.  The first
interpreter that imports it gets it; in the others asyncio uses its own code in Python, which is
slower and the same otherwise.  From Python 3.12 on each interpreter has a state of its own.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Finder:
    """Refuses `_asyncio` to all interpreters but one; an entry of `sys.meta_path`."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        """Raise ModuleNotFoundError for what this interpreter may not have."""
        if name != "_asyncio":
            return
        from mod_python import _core

        if not _core.claim_asyncio():
            raise ModuleNotFoundError("_asyncio: another interpreter of this process uses it", name=name)


def install() -> None:
    """Decide at the first import whether this interpreter gets the module."""
    if sys.version_info < (3, 12):
        sys.meta_path.insert(0, _Finder)
