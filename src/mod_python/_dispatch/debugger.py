"""Runs a handler under pdb (PythonEnablePdb), on the terminal of httpd.

Only when httpd is one process (``httpd -X``, ``mod_python serve --debug``): then
standard input and output are the terminal that it was started from.
"""

from __future__ import annotations

import sys
from _thread import RLock
from bdb import BdbQuit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _WithoutReadline:
    """While this is entered, ``import readline`` fails.

    The C library readline crashes in a sub-interpreter.  pdb does without it and
    then reads lines from the stream that it is given.
    """

    def __enter__(self) -> None:
        self.hidden = "readline" not in sys.modules
        if self.hidden:
            sys.modules["readline"] = None  # type: ignore[assignment]

    def __exit__(self, *error: object) -> None:
        if self.hidden:
            sys.modules.pop("readline", None)


with _WithoutReadline():
    import pdb

# There is one terminal: who comes second waits.  Recursive, because a handler
# that is debugged may call for another one (an internal redirect, a filter).
_terminal = RLock()


class Debugger(pdb.Pdb):
    """A pdb that says whether it was left with ``quit`` (or the end of its input)."""

    was_quit = False

    def __init__(self) -> None:
        with _WithoutReadline():
            # Signals are httpd's, and the files of whoever started httpd, perhaps
            # root, are not to be executed here.
            super().__init__(stdin=sys.stdin, stdout=sys.stdout, nosigint=True, readrc=False)
        self.use_rawinput = False

    def set_quit(self) -> None:
        """Called for ``quit`` and at the end of the input."""
        self.was_quit = True
        super().set_quit()


def call(function: Callable[[Any], Any], arg: Any) -> Any:
    """Call ``function(arg)`` under pdb; it stops at the first line.

    Args:
        function: the handler, or a filter's function.
        arg: its argument.

    Returns:
        what it returns.

    Raises:
        bdb.BdbQuit: the debugger was left with ``quit``.
        Exception: what the function raises.
    """
    with _terminal:
        debugger = Debugger()
        try:
            result = debugger.runcall(function, arg)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
        # runcall() keeps the exception to itself and returns None.
        if debugger.was_quit:
            raise BdbQuit("the debugger was left with 'quit'; the handler was not run to its end")
        return result
