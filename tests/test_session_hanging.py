"""A Redis server that hangs: nobody waits for it twice, or behind others that wait for it."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mod_python import Session
from mod_python._session.errors import SessionUnavailable
from mod_python._session.locks import Locks
from tests import needs
from tests.processes import at_once
from tests.session_fakes import FakeRequest

TIMEOUT = "0.3"


class HangingRedis:
    """Answers commands, up to one that it does not answer.

    Args:
        hangs_at: the command; "" for the first of a connection.
    """

    def __init__(self, hangs_at: str) -> None:
        self.hangs_at = hangs_at
        self.commands: list[str] = []
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            lines = connection.makefile("rb")
            while head := lines.readline():
                words = [lines.read(int(lines.readline()[1:]) + 2)[:-2].decode() for _ in range(int(head[1:]))]
                if not self.hangs_at:
                    continue
                self.commands.append(words[0])
                if words[0] == self.hangs_at:
                    continue
                connection.sendall(b"%1\r\n+proto\r\n:3\r\n" if words[0] == "HELLO" else b"+OK\r\n")
        except (OSError, ValueError):
            return

    def close(self) -> None:
        """End all threads."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._threads[0].join()
        for connection in self._open:
            connection.close() if connection.fileno() < 0 else connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for connection in self._open:
            connection.close()


@pytest.fixture
def hanging(request: pytest.FixtureRequest) -> Iterator[HangingRedis]:
    needs.package("redis")
    server = HangingRedis(request.param)
    yield server
    server.close()


@pytest.fixture(autouse=True)
def cleanup_never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "CLEANUP_CHANCE", 0)


def request_to(server: HangingRedis, directory: Path) -> FakeRequest:
    return FakeRequest(
        directory,
        "ab" * 16,
        redis_session__url=f"redis://127.0.0.1:{server.port}/0",
        redis_session__timeout=TIMEOUT,
    )


@pytest.mark.parametrize("hanging", [""], indirect=True)
def test_connecting_is_tried_once(hanging: HangingRedis, tmp_path: Path) -> None:
    request = request_to(hanging, tmp_path)
    with pytest.raises(SessionUnavailable, match="TimeoutError"):
        Session.RedisSession(request)
    assert hanging.connections == 1
    # Nor by what the request leads to, such as an error page.
    with pytest.raises(SessionUnavailable, match="TimeoutError"):
        Session.RedisSession(request)
    page = request_to(hanging, tmp_path)
    page.prev = request
    with pytest.raises(SessionUnavailable, match="TimeoutError"):
        Session.RedisSession(page)
    request.end()
    gc.collect()
    assert hanging.connections == 1
    assert len(request.lines) == 1
    assert page.lines == []
    # The next request tries again.
    with pytest.raises(SessionUnavailable, match="TimeoutError"):
        Session.RedisSession(request_to(hanging, tmp_path))
    assert hanging.connections == 2


@pytest.mark.parametrize("hanging", ["SET", "GET"], indirect=True)
def test_a_command_is_tried_once_and_the_lock_left_to_expire(hanging: HangingRedis, tmp_path: Path) -> None:
    request = request_to(hanging, tmp_path)
    with pytest.raises(SessionUnavailable, match="TimeoutError"):
        Session.RedisSession(request)
    request.end()
    gc.collect()
    expected = ["SET"] if hanging.hangs_at == "SET" else ["SET", "GET"]
    assert [command for command in hanging.commands if command not in ("HELLO", "CLIENT", "SELECT")] == expected
    assert len(request.lines) == 1


class HangsError(Exception):
    """What a server that hangs gives."""


class Outer:
    """The locks of a server that hangs until others wait."""

    pause = 0.0
    hangs = (HangsError,)

    def __init__(self) -> None:
        self.asked = 0
        self.goes_on = threading.Event()

    def acquire(self, key: str, deadline: float) -> Callable[[], object] | None:
        self.asked += 1
        assert self.goes_on.wait(60)
        raise HangsError("no answer")


def wait_for_users(locks: Locks, count: int) -> None:
    done = threading.Event()
    while not any(place.users == count for place in list(locks._places.values())):
        done.wait(0.001)


def test_those_that_wait_fail_with_the_first() -> None:
    outer = Outer()
    locks = Locks(outer)

    def run(number: int, together: object) -> str:
        if number == 4:
            wait_for_users(locks, 4)
            outer.goes_on.set()
            return "no answer"
        try:
            locks.take("key", 60)
        except HangsError as exc:
            return str(exc)
        return "taken"

    assert at_once(5, run) == ["no answer"] * 5
    assert outer.asked == 1
    # Whoever comes later asks.
    with pytest.raises(HangsError):
        locks.take("key", 60)
    assert outer.asked == 2
    assert locks._places == {}


def test_those_that_wait_fail_with_a_holder_whose_server_hangs() -> None:
    class Free(Outer):
        def acquire(self, key: str, deadline: float) -> Any:
            self.asked += 1
            return lambda: None

    outer = Free()
    locks = Locks(outer)
    held = locks.take("key", 60)

    def run(number: int, together: object) -> str:
        if number == 3:
            wait_for_users(locks, 4)
            held.fail(HangsError("no answer"))
            held.release()
            return "no answer"
        try:
            locks.take("key", 60)
        except HangsError as exc:
            return str(exc)
        return "taken"

    assert at_once(4, run) == ["no answer"] * 4
    assert outer.asked == 1
    locks.take("key", 60).release()
    assert outer.asked == 2
