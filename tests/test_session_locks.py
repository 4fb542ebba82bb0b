"""The locks of sessions, and the directories that are private enough for them."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mod_python._session import filelock, private
from mod_python._session.errors import SessionError, SessionLockTimeout
from mod_python._session.filelock import FileLocks
from mod_python._session.locks import Locks
from tests.processes import at_once

SID = "0123456789abcdef" * 2


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


# ---- locks


def test_one_thread_at_a_time(directory: Path) -> None:
    locks = Locks(FileLocks(str(directory / "locks")))
    inside: list[int] = []

    def run(number: int, together: object) -> None:
        for _ in range(20):
            held = locks.take(SID, 30)
            inside.append(number)
            assert inside == [number]
            inside.clear()
            held.release()
            held.release()

    at_once(8, run)
    assert locks._places == {}


#: New processes, not forks of this one, which has threads.
SPAWN = multiprocessing.get_context("spawn")


def _add(path: str, count: int, bytes_of_files: bool) -> None:
    if not bytes_of_files:
        filelock._SETLK = None
    locks = Locks(FileLocks(path + ".locks"))
    for _ in range(count):
        held = locks.take(SID, 60)
        number = int(Path(path).read_text())
        Path(path).write_text(str(number + 1))
        held.release()


@pytest.mark.parametrize("bytes_of_files", [True, False], ids=["bytes", "whole-files"])
def test_one_process_at_a_time(directory: Path, bytes_of_files: bool) -> None:
    path = directory / "number"
    path.write_text("0")
    processes = [SPAWN.Process(target=_add, args=(str(path), 50, bytes_of_files)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert path.read_text() == "200"


def test_other_keys_are_free(directory: Path) -> None:
    outer = FileLocks(str(directory / "locks"))
    one, other = Locks(outer), Locks(outer)
    held = one.take(SID, 1)
    assert other.try_take(SID) is None
    for key in (SID[::-1], "1" + SID[1:], SID[:14] + "0" + SID[15:], "cleanup"):
        found = other.try_take(key)
        assert found is not None
        found.release()
    held.release()
    assert other.try_take(SID) is not None


def test_time_outs(directory: Path) -> None:
    outer = FileLocks(str(directory / "locks"))
    locks, others = Locks(outer), Locks(outer)
    held = locks.take(SID, 1)
    with pytest.raises(SessionLockTimeout, match=r"session 0123\.\.\. was in use .* for more than 0.05 s"):
        locks.take(SID, 0.05)
    with pytest.raises(SessionLockTimeout):
        others.take(SID, 0.05)
    held.release()
    locks.take(SID, 1).release()
    assert locks._places == {}
    assert others._places == {}


def test_who_waits_gets_it(directory: Path) -> None:
    """A process with many requests does not keep the lock to itself."""
    outer = FileLocks(str(directory / "locks"))
    many, one = Locks(outer), Locks(outer)
    done = threading.Event()

    def run(number: int, together: Callable[[], object]) -> None:
        together()
        if number:
            while not done.is_set():
                held = many.take(SID, 30)
                time.sleep(0.001)
                held.release()
            return
        try:
            for _ in range(5):
                one.take(SID, 30).release()
        finally:
            done.set()

    at_once(5, run)


def test_who_looks_now_and_then_gets_it() -> None:
    class Polled:
        """As a lock in a Redis server."""

        pause = 0.02

        def __init__(self) -> None:
            self.lock = threading.Lock()

        def acquire(self, key: str, deadline: float) -> Callable[[], None] | None:
            while not self.lock.acquire(blocking=False):
                if time.monotonic() > deadline:
                    return None
                time.sleep(0.01)
            return self.lock.release

    outer = Polled()
    many, one = Locks(outer), Locks(outer)
    done = threading.Event()

    def run(number: int, together: Callable[[], object]) -> None:
        together()
        if number:
            while not done.is_set():
                many.take(SID, 30).release()
            return
        try:
            for _ in range(5):
                one.take(SID, 30).release()
        finally:
            done.set()

    at_once(5, run)


def test_shared_within_a_request(directory: Path) -> None:
    locks = Locks(FileLocks(str(directory / "locks")))
    owner = object()
    first = locks.take(SID, 1, owner)
    second = locks.take(SID, 1, owner)
    assert locks.try_take(SID, 0, object()) is None
    first.release()
    assert locks.try_take(SID, 0, object()) is None
    assert locks.try_take(SID) is None
    second.release()
    assert locks.try_take(SID) is not None


def test_released_with_its_object(directory: Path) -> None:
    locks = Locks(FileLocks(str(directory / "locks")))
    held: Any = locks.take(SID, 1)
    del held
    gc.collect()
    locks.take(SID, 0.01).release()


def test_a_lock_file_that_is_removed(directory: Path) -> None:
    path = directory / "locks"
    locks = Locks(FileLocks(str(path)))
    locks.take(SID, 1).release()
    path.unlink()
    held = locks.take(SID, 1)
    assert Locks(FileLocks(str(path))).try_take(SID) is None
    held.release()


def test_a_failing_outer_lock_leaves_nothing() -> None:
    class Fails:
        pause = 0.0

        def acquire(self, key: str, deadline: float) -> None:
            raise OSError("no")

    locks = Locks(Fails())
    for _ in range(2):
        with pytest.raises(OSError, match="no"):
            locks.take(SID, 0.1)
    assert locks._places == {}


def _take_and_die(path: str) -> None:
    held = Locks(FileLocks(path)).take(SID, 1)
    assert held
    os._exit(5)


def test_a_process_that_dies_gives_its_locks_back(directory: Path) -> None:
    path = str(directory / "locks")
    process = SPAWN.Process(target=_take_and_die, args=(path,))
    process.start()
    process.join(60)
    assert process.exitcode == 5
    Locks(FileLocks(path)).take(SID, 1).release()


# ---- private directories


def test_a_directory_that_is_ours(directory: Path) -> None:
    assert private.directory(str(directory)) == str(directory)
    new = directory / "new"
    assert private.directory(str(new)) == str(new)
    assert new.stat().st_mode & 0o777 == 0o700


def test_a_shared_directory_gets_one_of_our_own(directory: Path) -> None:
    for mode in (0o1777, 0o777, 0o770):
        shared = directory / oct(mode)
        shared.mkdir()
        shared.chmod(mode)
        own = private.directory(str(shared))
        assert own == f"{shared}/mod_python-{os.geteuid()}"
        assert os.stat(own).st_mode & 0o777 == 0o700


def test_directories_that_are_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = directory / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    own = shared / f"mod_python-{os.geteuid()}"

    own.symlink_to(directory)
    with pytest.raises(SessionError, match="is no directory"):
        private.directory(str(shared))
    own.unlink()
    own.mkdir()
    own.chmod(0o777)
    with pytest.raises(SessionError, match="others may write it"):
        private.directory(str(shared))
    own.chmod(0o700)
    real = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: real + 1)
    (shared / f"mod_python-{real + 1}").mkdir(0o700)
    with pytest.raises(SessionError, match=f"belongs to user {real}"):
        private.directory(str(shared))
    private._checked.clear()
    with pytest.raises(SessionError, match=f"belongs to user {real}"):
        private.directory(str(own))
    with pytest.raises(SessionError, match="database_directory"):
        private.directory("/proc/nonexistent")


def prepared(shared: Path, kind: str, target: Path) -> None:
    """Make what another user could have made before us in a directory that all may write."""
    own = shared / f"mod_python-{os.geteuid()}"
    if kind == "link":
        own.symlink_to(target)
    elif kind == "dangling link":
        own.symlink_to(target / "nothing")
    elif kind == "file":
        own.touch(0o600)
    else:
        own.mkdir(0o700)
        own.chmod(0o777 if kind == "open" else 0o770)


@pytest.mark.parametrize("kind", ["link", "dangling link", "file", "open", "group"])
@pytest.mark.parametrize("used", [False, True], ids=["before", "meanwhile"])
def test_what_is_prepared_in_a_shared_directory_is_refused(directory: Path, kind: str, used: bool) -> None:
    shared = directory / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    if used:
        # Those who tidy up may remove a directory while the server runs.
        os.rmdir(private.directory(str(shared)))
    prepared(shared, kind, directory)
    for _ in range(2):
        with pytest.raises(SessionError, match=r"PythonOption mod_python\.session\.database_directory"):
            private.directory(str(shared))


def test_a_subdirectory_that_is_replaced_is_refused(directory: Path) -> None:
    own = private.own_subdirectory(str(directory), "mp_sess")
    os.rmdir(own)
    os.mkdir(own)
    os.chmod(own, 0o777)
    with pytest.raises(SessionError, match="others may write it"):
        private.own_subdirectory(str(directory), "mp_sess")


def owned_by_another(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Have a path belong to another user than this process; return which."""
    real = os.geteuid()
    if real == 0:
        os.chown(path, 12345, -1, follow_symlinks=False)
        return 12345
    monkeypatch.setattr(os, "geteuid", lambda: real + 1)
    return real


def test_a_link_of_another_user_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = directory / "mine"
    mine.mkdir(0o700)
    link = directory / "link"
    link.symlink_to(mine)
    assert private.directory(str(link)) == str(link)
    other = owned_by_another(link, monkeypatch)
    with pytest.raises(SessionError, match=f"a link that user {other} has made; .*database_directory"):
        private.directory(str(link))


def test_a_shared_directory_of_another_user_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner can replace what is in it."""
    shared = directory / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    other = owned_by_another(shared, monkeypatch)
    with pytest.raises(SessionError, match=f"belongs to user {other}; .*database_directory"):
        private.directory(str(shared))


def test_files_that_were_there_before_the_directory_was_private(directory: Path) -> None:
    path = directory / "mp_sess.dbm"
    private.check_own(str(path))
    path.touch(0o600)
    private.check_own(str(path))
    path.chmod(0o666)
    with pytest.raises(SessionError, match=r"no file of this user's alone; .*database_directory"):
        private.check_own(str(path))


def test_files_that_are_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = directory / "db"
    private.check_file(str(path))
    path.touch(0o600)
    private.check_file(str(path))
    path.chmod(0o666)
    with pytest.raises(SessionError, match="others may write it"):
        private.check_file(str(path))
    with pytest.raises(SessionError, match="does not exist"):
        private.check_file(str(directory / "no" / "db"))
    path.chmod(0o600)
    directory.chmod(0o777)
    with pytest.raises(SessionError, match="others may write it"):
        private.check_file(str(path))
    directory.chmod(0o700)
    link = directory / "link"
    link.symlink_to(path)
    with pytest.raises(SessionError, match="cannot be opened"):
        private.open_own(str(link))
    os.close(private.open_own(str(path)))
    real = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: real + 1)
    with pytest.raises(SessionError, match="belongs to somebody else"):
        private.open_own(str(path))


def test_default_directory_is_per_user(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.chmod(0o1777)
    monkeypatch.setenv("TMPDIR", str(directory))
    monkeypatch.setattr(private, "_checked", {})
    assert private.directory(None) == f"{directory}/mod_python-{os.geteuid()}"
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    assert private._temporary() in ("/var/tmp", "/tmp")
