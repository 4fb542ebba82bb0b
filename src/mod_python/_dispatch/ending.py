"""The end of an interpreter, as far as Python's own threads and atexit go.

An ordinary Python program joins its threads and runs its atexit functions when
the interpreter is finalised.  In a child process that step is not always
possible, for instance while a daemon thread still runs, so the shell asks for
both beforehand, in every interpreter.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

# Seconds that threads of one interpreter get to end after their owners were told.
# The whole end of the child has five seconds, then the process ends regardless.
JOIN_SECONDS = 1.0


def end() -> None:
    """End threads, run atexit functions, flush the standard streams."""
    threading = sys.modules.get("threading")
    if threading is not None:
        _end_threads(threading)
    import atexit

    # What finalisation itself calls; it forgets what has run, so nothing runs twice.
    # Exceptions go to sys.unraisablehook, and so to the error log.
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            pass


def _end_threads(threading: ModuleType) -> None:
    """Do what `threading` does at the end, but not without limit."""
    from time import monotonic

    # Thread pools (concurrent.futures) register here what makes their idle threads end.
    for function in reversed(getattr(threading, "_threading_atexits", ())):
        function()
    deadline = monotonic() + JOIN_SECONDS
    # The "main" thread is whichever of httpd's imported threading first.
    spared = (threading.current_thread(), threading.main_thread())
    left = []
    for thread in threading.enumerate():
        if thread.daemon or thread in spared:
            continue
        thread.join(max(0.0, deadline - monotonic()))
        if thread.is_alive():
            left.append(thread.name)
    if left:
        from mod_python import apache

        apache.log_error(
            f"mod_python: the child process ends while these threads of interpreter "
            f"'{apache.interpreter}' still run: {', '.join(left[:10])}; make them end in a function "
            "given to apache.register_cleanup(), or make them daemon threads",
            apache.APLOG_WARNING,
        )
