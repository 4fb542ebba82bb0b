"""Do what a newcomer does after cloning: `make run`, a line to its port, Ctrl-C.

    python3 -m tools.check_run

Fails if the server does not answer with the same line, does not end, ends with
an error, or leaves a process behind.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from .pythons import ROOT
from .system import fail, say

SETUP_TIMEOUT = 1200  # seconds: `make run` may have to compile an httpd first
STOP_TIMEOUT = 30
LINE = b"hi\n"


def free_port() -> int:
    """Find a port on loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until something is so.

    Args:
        condition: what to wait for.
        seconds: how long at most.

    Returns:
        Whether it came about.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def answers(port: int) -> bool:
    """Tell whether the server listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def talk(port: int) -> bytes:
    """Send a line and end of file, as `printf 'hi\\n' | nc` does; return the answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(LINE)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
    return answer


def group_is_gone(group: int) -> bool:
    """Tell whether no process of a process group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def check(command: list[str], port: int, accepted: tuple[int, ...]) -> None:
    """Start a server, talk to it, stop it as Ctrl-C does.

    Args:
        command: what to type.
        port: where it will listen.
        accepted: the exit statuses that are right.

    Raises:
        SystemExit: something was not as it should be.
    """
    say(" ".join(command))
    # A session of its own: the signal reaches everything the terminal's Ctrl-C would reach.
    start = time.monotonic()
    server = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        if not wait_for(lambda: server.poll() is not None or answers(port), SETUP_TIMEOUT):
            fail(f"nothing listens on port {port} after {SETUP_TIMEOUT} seconds")
        if server.poll() is not None:
            fail(f"it ended by itself with status {server.returncode}")
        answer = talk(port)
        if answer != LINE:
            fail(f"sent {LINE!r} and got {answer!r}")
        seconds = time.monotonic() - start
        os.killpg(server.pid, signal.SIGINT)
        try:
            status = server.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            fail(f"it still runs {STOP_TIMEOUT} seconds after SIGINT")
        if status not in accepted:
            fail(f"after SIGINT it ended with status {status}")
        if not wait_for(lambda: group_is_gone(server.pid), STOP_TIMEOUT):
            fail("it ended, but left processes behind")
        if answers(port):
            fail(f"it ended, but something still listens on port {port}")
    finally:
        if not group_is_gone(server.pid):
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    say(f"answered {answer!r} after {seconds:.0f} s, and ended with status {status}")


def main() -> int:
    """Check the newcomer's command, then the program alone."""
    port = free_port()
    # make reports a child's interruption in its own way: as its own death by the signal, or as status 2 or 130.
    check(["make", "run", f"LISTEN=127.0.0.1:{port}"], port, (0, 2, 130, -signal.SIGINT))
    port = free_port()
    serve = [str(ROOT / ".venv/bin/mod_python"), "serve", "examples/echo/echo.py", "--listen", f"127.0.0.1:{port}"]
    check(serve, port, (0,))
    return 0


if __name__ == "__main__":
    sys.exit(main())
