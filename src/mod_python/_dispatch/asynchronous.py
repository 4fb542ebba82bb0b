"""The event loop of an interpreter, and the handlers that are coroutine functions.

One loop per interpreter and child, on a thread of its own, started for the first
coroutine function that has to run.  The core's `Hub` leads httpd's connections to
it; here it is decided which loop it is, what becomes of a handler's result, and how
all of it ends:

    start()      makes loop and thread; uvloop if it is installed
    hand_over()  a connection whose handler is a coroutine function
    call()       any coroutine function's result, from another thread
    end()        tasks are cancelled and run their `finally`; see ending.py
    close()      the loop and its thread end

Settings, in the server's configuration (PythonOption):

    mod_python.async.loop            auto (the default), uvloop or asyncio
    mod_python.async.connections     how many connections a child is to hold; if it
                                     cannot, the server says so when it starts
    mod_python.async.slow_callback   seconds after which a handler that blocks the
                                     loop is reported; 0 for never; 1 by default
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from time import monotonic
from weakref import WeakSet

from mod_python._constants import APLOG_DEBUG, APLOG_ERR, APLOG_INFO, APLOG_WARNING, DECLINED, OK
from mod_python.errors import ConnectionClosed, DetachedError

from . import peers, report, scope
from .lines import plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from mod_python import _core

    from .dispatcher import Dispatcher
    from .handler import Handler

# Seconds that tasks get for their `finally` once they were cancelled, at the end of a
# child.  All of its end has five seconds.
END_SECONDS = 3.0

# How long before that they are cancelled once more.
AGAIN_SECONDS = 1.0

# Seconds that clean-ups which are coroutine functions get, one after the other.
CLEANUP_SECONDS = 2.0

# Seconds between two looks at the loop.
WATCH_EVERY = 1.0

_loop: Loop | None = None
_starting = threading.Lock()


class Loop:
    """An event loop, its thread, and what leads connections to it.

    Args:
        dispatcher: of this interpreter.

    Raises:
        OSError: there are no descriptors left for it, or the platform has no epoll.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        from mod_python import _core, apache

        self.name = dispatcher.name
        self.process = os.getpid()
        options = apache.main_server.get_options()
        self.kind, self.loop = _new_loop(options.get("mod_python.async.loop", "auto"))
        self.threshold = _seconds(options.get("mod_python.async.slow_callback", "1"))
        self.closing = asyncio.Event()
        self.hub = _core.Hub(dispatcher.entry, self.loop, self._begin, self._on_stop, self.closing)
        self.loop.set_exception_handler(self._failed)
        self.ended = threading.Event()
        self.ready = threading.Event()
        self.stopping = 0
        self.ending = False
        self.cancelled: WeakSet[asyncio.Task[Any]] = WeakSet()
        self.job: tuple[Any, ...] = (None, None, dispatcher)
        self.thread = threading.Thread(target=self._run, name="mod_python loop", daemon=True)
        self.thread.start()
        self.ready.wait()
        apache.log_error(
            f"mod_python: interpreter '{self.name}' serves coroutine handlers with {self.kind}'s event loop; "
            f"this child can hold {self.hub.most or 'any number of'} connections (AsyncRequestWorkerFactor)",
            APLOG_INFO,
        )
        if self.threshold:
            threading.Thread(target=self._watch, name="mod_python watch", daemon=True).start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.hub.attach()
            self.loop.call_soon(self.ready.set)
            self.loop.run_forever()
            self.hub.detach()
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        finally:
            self.ready.set()
            self.ended.set()
            asyncio.set_event_loop(None)
            self.loop.close()

    # -- connections -----------------------------------------------------------

    def _begin(self, conn: Any) -> None:
        """Called by the hub: a connection has arrived."""
        if self.stopping > 1:
            conn._end(True)
            return
        conn._task = self.loop.create_task(_serve(conn), name=conn._job[1].text)

    def _on_stop(self, kind: int) -> None:
        """Called by the hub: the child ends; gracefully (1), or at once (2)."""
        self.stopping = kind
        self.closing.set()
        if kind > 1:
            # Not at once: a task that is cancelled before it began does not run its `finally`.
            self.loop.call_soon(self._stop_now)

    def _stop_now(self) -> None:
        if not self.ending:  # or it would cancel end(), which cancels the others itself
            self._cancel_all()

    def _cancel_all(self) -> set[asyncio.Task[Any]]:
        """Cancel every task that was not cancelled here before: it may be in its `finally`.

        Returns:
            All tasks, but for the one that asks.
        """
        tasks = asyncio.all_tasks(self.loop)
        current = asyncio.current_task(self.loop)
        if current is not None:
            tasks.discard(current)
        for task in tasks.difference(self.cancelled):
            self.cancelled.add(task)
            task.cancel()
        return tasks

    # -- the end ------------------------------------------------------------------

    async def end(self) -> list[str]:
        """Cancel all tasks and let them run their `finally`.

        Returns:
            Names of those that have not ended in time.
        """
        self.stopping = 2
        self.closing.set()
        deadline = monotonic() + END_SECONDS
        await asyncio.sleep(0)  # let begin what is about to
        again = False
        while True:
            tasks = self._cancel_all()
            left = deadline - monotonic()
            if not tasks or left <= 0:
                return sorted(task.get_name() for task in tasks)
            if left <= AGAIN_SECONDS and not again:
                again = True
                self.cancelled.clear()  # whoever caught it, or takes long in its `finally`
                continue
            # Not for longer than that: a task may start others.
            await asyncio.wait(tasks, timeout=min(1.0, left if again else left - AGAIN_SECONDS))

    def submit(self, coroutine: Coroutine[Any, Any, Any], seconds: float | None = None) -> Any:
        """Run a coroutine on the loop and wait for its end.

        Args:
            coroutine: what to run.
            seconds: how long it may take; None for no limit.

        Returns:
            its result.

        Raises:
            TimeoutError: it took too long, and was cancelled.
            Exception: what it raised.
        """
        if threading.get_ident() == self.thread.ident:
            coroutine.close()
            raise RuntimeError("the event loop cannot wait for itself: await the coroutine instead")
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            error = future.exception(seconds)
        except TimeoutError:
            if not future.done():
                future.cancel()
            raise
        if error is not None:
            raise error  # here, or the traceback would tell of the future's own functions
        return future.result()

    # -- what goes wrong ------------------------------------------------------------

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """asyncio has an exception that nobody waits for."""
        from mod_python import apache

        exc = context.get("exception")
        if exc is not None and peers.level_of(exc) is not None:
            text = f"mod_python: event loop of interpreter '{self.name}': a task ended: {peers.text_of(exc)}"
            report.emit(lambda line, level: apache.log_error(line, level), [text], APLOG_DEBUG)
            return
        lines = [f"mod_python: event loop of interpreter '{self.name}': {context.get('message', 'error')}"]
        lines += [f"    {key}: {context[key]!r}" for key in ("task", "future", "handle") if key in context]
        if exc is not None:
            lines += report.traceback_text(exc).splitlines()
        report.emit(lambda line, level: apache.log_error(line, level), lines, APLOG_ERR)

    def _watch(self) -> None:
        """On a thread of its own: report whoever does not let the loop go on."""
        while not self.ended.wait(WATCH_EVERY):
            if not self.hub.count:
                continue
            alive = threading.Event()
            since = monotonic()
            try:
                self.loop.call_soon_threadsafe(alive.set)
            except RuntimeError:
                return  # the loop is closed
            if alive.wait(self.threshold) or self.ended.is_set():
                continue
            self._report_block(since)
            while not alive.wait(WATCH_EVERY):
                if self.ended.is_set():
                    return

    def _report_block(self, since: float) -> None:
        from traceback import format_list, walk_stack

        from mod_python import apache

        frame = sys._current_frames().get(self.thread.ident or 0)
        text = (
            f"mod_python: the event loop of interpreter '{self.name}' has been blocked for "
            f"{monotonic() - since:.1f} seconds, and {self.hub.count} connection(s) with it; a coroutine has to "
            "await what takes long, or give it to a thread (asyncio.to_thread). It is here:"
        )
        lines = [text]
        if frame is not None:
            from traceback import StackSummary

            stack = StackSummary.extract(walk_stack(frame))
            stack.reverse()
            own = [entry for entry in stack if "/asyncio/" not in entry.filename and not report.is_own(entry.filename)]
            for entry in format_list(own or stack):
                lines += entry.rstrip("\n").splitlines()
        report.emit(lambda line, level: apache.log_error(line, level), lines, APLOG_WARNING)


def _new_loop(kind: str) -> tuple[str, asyncio.AbstractEventLoop]:
    """Make the loop that the configuration asks for."""
    if kind not in ("auto", "uvloop", "asyncio"):
        raise ValueError(f"PythonOption mod_python.async.loop is {kind!r}; it must be auto, uvloop or asyncio")
    if kind != "asyncio":
        try:
            import uvloop

            return "uvloop", uvloop.new_event_loop()
        except ImportError as exc:
            if kind == "uvloop":
                raise
            from mod_python import apache

            # Not installed, or not made for interpreters besides the main one.
            apache.log_error(f"mod_python: asyncio's own event loop is used, for want of uvloop: {exc}", APLOG_DEBUG)
    return "asyncio", asyncio.SelectorEventLoop()


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise ValueError(f"PythonOption mod_python.async.slow_callback is {text!r}; it must be seconds, or 0 for never")
    return value


def start(dispatcher: Dispatcher) -> Loop:
    """Return the loop of this interpreter, made if need be."""
    global _loop
    if _loop is None:
        with _starting:
            if _loop is None:
                _loop = Loop(dispatcher)
    return _loop


def running() -> Loop | None:
    """Return the loop of this interpreter if there is one."""
    return _loop


def hand_over(dispatcher: Dispatcher, conn: _core.Connection, handler: Handler, function: Callable[[Any], Any]) -> int:
    """Have a connection served by its coroutine function.

    Args:
        dispatcher: of this interpreter.
        conn: the connection.
        handler: its handler.
        function: the handler's function.

    Returns:
        the status for httpd; on an MPM that cannot suspend, once the handler has ended.
    """
    from mod_python import _core

    if conn.aborted:
        # Such as in the TLS handshake: the MPM closes it itself, and does not let go of it.
        raise ConnectionClosed("the peer had gone before the handler began")
    loop = start(dispatcher)
    job = loop.job  # nearly always that of the connection before: thousands need not have one each
    if job[0] is not function or job[1] is not handler:
        job = loop.job = (function, handler, dispatcher)
    made, suspended = _core.hand_over(conn, loop.hub, job)
    if not suspended and not made._wait(END_SECONDS):
        made.log_error(
            f"PythonConnectionHandler {handler.text}: the child ends, and the handler has not ended "
            f"{END_SECONDS:g} seconds after it was cancelled",
            APLOG_WARNING,
        )
        made._abandon()
    return OK


@scope.entry_point("conn")
async def _serve(conn: Any) -> None:
    """The task of one connection."""
    function, handler, dispatcher = conn._job
    settings = conn.settings
    loop = _loop
    assert loop is not None
    try:
        try:
            status = await function(conn)
            if status is not None:
                check(status, handler)
        except asyncio.CancelledError:
            if not _is_gone(conn):
                conn.log_error(f"PythonConnectionHandler {handler.text}: cancelled", APLOG_DEBUG)
        except GeneratorExit:
            raise  # nobody goes on with this coroutine: the child ends, and it did not want to
        except BaseException as exc:
            if not isinstance(exc, ConnectionClosed) or not _is_gone(conn):
                report.connection(conn, handler, dispatcher.name, exc)
        if os.getpid() != loop.process:
            # A copy of this child with all of its connections, which must not go on as one; see `detach` of the shell.
            conn.log_error(
                "mod_python: a process that a handler has forked came back from it, and is ended; "
                "end it with os._exit(), or start a program with subprocess"
            )
            os._exit(1)
        if conn._transport is not None:
            conn._transport.finish()
        # httpd's Timeout bounds this, or the connection's write_timeout.
        waiter = conn._flushed()
        while waiter is not None:
            await waiter
            waiter = conn._flushed()
    except asyncio.CancelledError:
        pass
    finally:
        conn._end(loop.stopping > 1)
    del settings


def _is_gone(conn: Any) -> bool:
    """Whether httpd has taken a connection away, at the end of a child; it cannot log either."""
    try:
        conn.id  # noqa: B018
    except DetachedError:
        return True
    return False


def check(status: Any, handler: Handler) -> None:
    """Check what a coroutine handler returned.

    Raises:
        TypeError: it is no status.
        ValueError: it is none, or is DECLINED, which comes too late.
    """
    from .dispatcher import check_status

    if check_status(status, handler, "returned") == DECLINED:
        raise plain(
            ValueError(
                f"handler '{handler.text}' returned apache.DECLINED: httpd takes no connection back from a coroutine "
                "function; use an ordinary function to decline"
            )
        )


def call(dispatcher: Dispatcher, coroutine: Coroutine[Any, Any, Any], seconds: float | None = None) -> Any:
    """Run a coroutine on this interpreter's loop; see `Loop.submit`."""
    return start(dispatcher).submit(coroutine, seconds)


def end() -> None:
    """The child ends: cancel what runs and wait for it, but not without limit."""
    loop = _loop
    if loop is None or loop.ended.is_set():
        return
    from mod_python import apache

    loop.ending = True
    try:
        late = loop.submit(loop.end(), END_SECONDS + 0.5)
    except TimeoutError:
        late = ["(the loop itself is blocked)"]
    if late:
        apache.log_error(
            f"mod_python: the child process ends while tasks of interpreter '{loop.name}' have not ended "
            f"{END_SECONDS:g} seconds after they were cancelled: {', '.join(late[:10])}",
            APLOG_WARNING,
        )


def close() -> None:
    """End the loop and its thread."""
    loop = _loop
    if loop is None or loop.ended.is_set():
        return
    loop.loop.call_soon_threadsafe(loop.loop.stop)
    loop.thread.join(1.0)
