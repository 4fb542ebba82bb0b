"""The parts of sessions by themselves: ids, options, the life of a session, clean-up."""

from __future__ import annotations

import gc
import os
import time
from pathlib import Path
from typing import Any

import pytest

from mod_python import Session, apache
from mod_python._session import base, dbm_file, memory, options, sqlite
from mod_python._session.base import BaseSession, locks_in, new_sid, valid_sid
from mod_python._session.errors import SessionError, SessionLockTimeout, SessionUnavailable
from mod_python._session.file_cleanup import Cleanup
from mod_python._session.serial import Serializer
from mod_python.errors import SERVER_RETURN
from tests.session_fakes import FakeRequest

SID = "0123456789abcdef" * 2


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.fixture(autouse=True)
def cleanup_never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "CLEANUP_CHANCE", 0)


@pytest.fixture(params=["MemorySession", "FileSession", "DbmSession", "SQLiteSession"])
def store(request: pytest.FixtureRequest) -> Any:
    memory._store.clear()
    memory._to_check.clear()
    return getattr(Session, request.param)


# ---- ids, options, errors


def test_ids() -> None:
    found = {new_sid() for _ in range(100)}
    assert len(found) == 100
    assert all(map(valid_sid, found))
    for wrong in ("", "0" * 31, "0" * 33, "A" * 32, "g" * 32, "0" * 31 + "\n", "\u0660" * 32, None, 5, b"0" * 32):
        assert not valid_sid(wrong)


def test_options() -> None:
    table = apache.table({"a": "Yes", "b": "FALSE", "c": "x", "d": "1.5", "e": "-1", "f": "nan", "old": "no"})
    assert options.switch(table, False, "a")
    assert not options.switch(table, True, "b")
    assert options.switch(table, True, "nothing")
    assert not options.switch(table, True, "new", "old")
    assert options.seconds(table, 3, "d") == 1.5
    assert options.seconds(table, 3, "nothing") == 3
    with pytest.raises(ValueError, match="c is 'x'; write yes or no"):
        options.switch(table, True, "c")
    for name in "cef":
        with pytest.raises(ValueError, match=f"PythonOption {name} is"):
            options.seconds(table, 3, name)


def test_unavailable_is_status_503() -> None:
    error = SessionLockTimeout("too long")
    assert isinstance(error, (SERVER_RETURN, SessionError))
    assert error.args == (503,)
    assert str(error) == "too long"
    assert issubclass(SessionLockTimeout, SessionUnavailable)


def test_serializers() -> None:
    stored = {"_data": {"x": (1,)}, "_created": 1.0, "_accessed": 2.0, "_timeout": 3}
    json, pickle = Serializer("json"), Serializer("pickle")
    assert json.loads(json.dumps(stored)) == stored
    assert pickle.loads(pickle.dumps(stored)) == stored
    assert pickle.loads(json.dumps(stored)) == stored
    assert json.loads(pickle.dumps(stored)) is None
    for data in (
        b"",
        b"{}",
        b"{",
        b"\x80",
        b"[]",
        b'{"_data":{}}',
        b'{"_data":1,"_created":1,"_accessed":1,"_timeout":1}',
    ):
        assert json.loads(data) is None
        assert pickle.loads(data) is None
    with pytest.raises(SessionError, match="at \\['_data'\\]\\['x'\\]"):
        json.dumps({**stored, "_data": {"x": object}})


def test_path_of_the_cookie(directory: Path) -> None:
    def path(handler_directory: str | None, uri: str, **found: str) -> Any:
        request: Any = FakeRequest(directory, **found)
        request.uri = uri
        if handler_directory is not None:
            request.hlist = type("hlist", (), {"directory": handler_directory})
        return Session.MemorySession(request).make_cookie().path

    assert path(None, "/x") == "/"
    assert path("/srv/app/", "/app/x") == "/app/"
    assert path("/srv/app/", "/other") == "/"
    assert path("/srv", "/x") == "/"
    assert path("/srv/", "/x") == "/"
    assert path("/elsewhere/", "/x") == "/"
    assert path("/place", "/place/x") == "/place"
    assert path("/srv/a;b/", "/a;b/x") == "/"
    assert path("/srv/app/", "/app/x", session__application_path="/given") == "/given"


# ---- the life of a session


def test_life(store: Any, directory: Path) -> None:
    request = FakeRequest(directory)
    session: Any = store(request, timeout=50)
    assert isinstance(session, BaseSession)
    assert session.is_new()
    session["a"] = (1, 2)
    session.save()
    request.end()
    assert request.headers_out["Set-Cookie"].startswith(f"pysid={session.id()}; path=/")

    again = store(FakeRequest(directory, session.id()))
    assert not again.is_new()
    assert dict(again) == {"a": (1, 2)}
    assert (again.timeout(), again.created()) == (50, session.created())
    again.set_timeout(70)
    again["b"] = 1
    again.unlock()
    assert dict(store(FakeRequest(directory, session.id()))) == {"a": (1, 2)}

    again.lock()
    del again["a"]
    again.save()
    again.clear()
    assert again.load() == 1
    assert dict(again) == {"b": 1}
    again.invalidate()
    again.unlock()
    assert dict(again) == {}
    again["c"] = 1
    again.save()
    again.unlock()
    assert again.load() == 0
    assert store(FakeRequest(directory, session.id())).is_new()


def test_locked_until_the_end_of_the_request(store: Any, directory: Path) -> None:
    request = FakeRequest(directory)
    session = store(request)
    session.save()
    other = FakeRequest(directory, session.id(), session__lock_timeout="0.05")
    with pytest.raises(SessionLockTimeout):
        store(other)
    assert "was in use" in other.lines[0]
    assert store(FakeRequest(directory, session.id()), lock=0).id() == session.id()
    request.end()
    assert not store(FakeRequest(directory, session.id())).is_new()


def test_an_object_that_goes_gives_the_lock_back(store: Any, directory: Path) -> None:
    request = FakeRequest(directory)
    session = store(request)
    session.save()
    sid = session.id()
    del session
    request.end()
    del request
    gc.collect()
    assert not store(FakeRequest(directory, sid)).is_new()


def test_cleanup(store: Any, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, expired = [], []
    found = {"file_session__cleanup_grace_period": "0"}
    now = time.time()
    for number in range(20):
        request = FakeRequest(directory)
        session = store(request, timeout=100)
        if number % 2:
            session._accessed = now - 200
            expired.append(session.id())
        else:
            kept.append(session.id())
        session.save()
        request.end()
        path = directory / "mp_sess" / session.id()[:2] / session.id()
        if number % 2 and path.exists():
            os.utime(path, (now - 200, now - 200))
    request = FakeRequest(directory, **found)
    monkeypatch.setattr(Session, "CLEANUP_CHANCE", 1)
    session = store(request, timeout=100)
    monkeypatch.setattr(Session, "CLEANUP_CHANCE", 0)
    count = len(request.cleanups)
    assert count == 2
    request.end()
    present = {sid for sid in kept + expired if _is_stored(store, directory, sid)}
    assert present == set(kept)


def _is_stored(store: Any, directory: Path, sid: str) -> bool:
    session = store(FakeRequest(directory), lock=0)
    session._sid = sid
    return session.do_load() is not None


def test_a_failing_cleanup_is_logged(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Fails(Session.MemorySession):
        def do_cleanup(self) -> None:
            raise ValueError("meant to fail")

    monkeypatch.setattr(Session, "CLEANUP_CHANCE", 1)
    request = FakeRequest(directory)
    Fails(request)
    assert request.lines == ["mod_python: clean-up of sessions: ValueError: meant to fail"]


# ---- clean-up of files


def files(directory: Path, count: int, age: float) -> list[Path]:
    made = []
    for number in range(count):
        sid = f"{number:02x}" + new_sid()[2:]
        path = directory / sid[:2] / sid
        path.parent.mkdir(exist_ok=True)
        then = time.time() - age
        path.write_bytes(Serializer("json").dumps({"_data": {}, "_created": then, "_accessed": then, "_timeout": 1000}))
        os.utime(path, (then, then))
        made.append(path)
    return made


def cleanup(directory: Path, **changed: Any) -> Cleanup:
    arguments = {"timeout": 1000, "fast": True, "verify": True, "grace": 240, "limit": 0, "server": None, **changed}
    found = Cleanup(str(directory), locks_in(str(directory)), Serializer("json"), **arguments)
    found.run()
    return found


def test_fast_and_verify(directory: Path) -> None:
    old = files(directory, 3, 2000)
    young = files(directory, 3, 100)
    in_grace = files(directory, 3, 1100)
    # By its own time-out it lives on.
    long = files(directory, 1, 2000)[0]
    stored = {"_data": {}, "_created": 1, "_accessed": time.time() - 2000, "_timeout": 9000}
    long.write_bytes(Serializer("json").dumps(stored))
    os.utime(long, (time.time() - 2000, time.time() - 2000))
    found = cleanup(directory)
    assert (found.total, found.expired) == (10, 3)
    assert [path.exists() for path in (*old, *young, *in_grace, long)] == [False] * 3 + [True] * 7
    # By the age of the file alone.
    assert cleanup(directory, verify=False).expired == 1
    # Not fast: the files are read whatever their age.
    os.utime(young[0])
    young[0].write_bytes(Serializer("json").dumps({**stored, "_timeout": 1}))
    assert cleanup(directory).expired == 0
    assert cleanup(directory, fast=False).expired == 1


def test_limit(directory: Path) -> None:
    files(directory, 10, 2000)
    seen = [cleanup(directory, limit=1e-9) for _ in range(3)]
    assert [found.expired for found in seen] == [1, 2, 3]
    words = (directory / "fs_status.txt").read_text().split()
    assert words[:4] == ["MPFS_3.2", "3", "3", "3"]
    assert cleanup(directory).expired == 10
    assert (directory / "fs_status.txt").read_text().split()[:4] == ["MPFS_3.2", "0", "0", "0"]
    for text in ("nonsense", "MPFS_3.2 900 0 0 0", "MPFS_3.2 x 0 0 0", ""):
        (directory / "fs_status.txt").write_text(text)
        cleanup(directory)


def test_one_at_a_time_and_not_what_is_in_use(directory: Path) -> None:
    (path,) = files(directory, 1, 2000)
    locks = locks_in(str(directory))
    held = locks.take("cleanup of files", 1)
    assert cleanup(directory).total == 0
    held.release()
    held = locks.take(path.name, 1)
    assert cleanup(directory).expired == 0
    held.release()
    assert cleanup(directory).expired == 1


def test_left_overs(directory: Path) -> None:
    (path,) = files(directory, 1, 10)
    new, old = path.with_name(path.name + ".1.new"), path.with_name(path.name + ".2.new")
    for left in (new, old):
        left.touch()
    os.utime(old, (1, 1))
    cleanup(directory)
    assert (new.exists(), old.exists(), path.exists()) == (True, False, True)


def test_a_file_that_cannot_be_written(directory: Path) -> None:
    request = FakeRequest(directory)
    session = Session.FileSession(request)
    session["x"] = 1
    session.save()
    path = directory / "mp_sess" / session.id()[:2] / session.id()
    before = path.read_bytes()
    session["x"] = object()
    with pytest.raises(SessionError):
        session.save()
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.iterdir()] == [session.id()]
    path.write_bytes(b"damaged")
    request.end()
    other = FakeRequest(directory, session.id())
    assert Session.FileSession(other).is_new()
    assert "damaged" in other.lines[0]


# ---- dbm


def test_dbm_file(directory: Path) -> None:
    import dbm.dumb

    path = directory / "own.dbm"
    request = FakeRequest(directory, dbm_session__database_filename=str(path))
    session = Session.DbmSession(request, dbmtype=dbm.dumb)
    session.save()
    request.end()
    assert (directory / "own.dbm.dat").exists()
    # The kind of a file that exists is found out.
    other = FakeRequest(directory, session.id())
    assert not Session.DbmSession(other, str(path)).is_new()
    other.end()
    (directory / "bad.dbm").write_bytes(b"nonsense")
    with pytest.raises(SessionError, match=r"the file of sessions .*bad\.dbm"):
        Session.DbmSession(FakeRequest(directory, session.id()), str(directory / "bad.dbm"))


def test_dbm_cleanup_goes_on(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = dbm_file.DbmFile(str(directory / "mp_sess.dbm"), None)
    sids = [new_sid().encode() for _ in range(10)]

    def fill(db: Any) -> None:
        for sid in sids:
            db[sid] = b"damaged"

    file.use(fill)
    monkeypatch.setattr(dbm_file, "_BATCH", 4)
    monkeypatch.setattr(dbm_file, "_LIMIT", 0)
    dbm_file.cleanup((file, Serializer("json"), None))
    assert len(dbm_file._to_check[file.path]) == 10
    monkeypatch.setattr(dbm_file, "_LIMIT", 60)
    dbm_file.cleanup((file, Serializer("json"), None))
    assert dbm_file._to_check.get(file.path) is None
    assert file.use(lambda db: list(db.keys())) == []


# ---- SQLite


def test_sqlite_file(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = directory / "own.sqlite"
    request = FakeRequest(directory, sqlite_session__database_filename=str(path))
    session = Session.SQLiteSession(request)
    session.save()
    request.end()
    assert path.exists()
    # Tidied up by somebody: one begins anew.
    for found in directory.glob("own.sqlite*"):
        found.unlink()
    again = Session.SQLiteSession(FakeRequest(directory, session.id(), sqlite_session__database_filename=str(path)))
    assert again.is_new()
    again.save()
    database = sqlite.database(str(path))
    database.close()
    database.close()
    path.write_bytes(b"nonsense" * 1000)
    with pytest.raises(SessionError, match=r"the database of sessions .*not a database"):
        Session.SQLiteSession(FakeRequest(directory, session.id(), sqlite_session__database_filename=str(path)))


def test_sqlite_busy(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_TIMEOUT", 0.05)
    request = FakeRequest(directory)
    session = Session.SQLiteSession(request)
    session.save()
    import sqlite3

    other = sqlite3.connect(directory / "mp_sess.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(SessionUnavailable, match="database is locked"):
        session.save()
    assert "database is locked" in request.lines[0]
    other.execute("ROLLBACK")
    other.close()
    session.save()


def test_the_index_is_used(directory: Path) -> None:
    database = sqlite.database(str(directory / "mp_sess.sqlite"))
    row, _ = database.run("EXPLAIN QUERY PLAN SELECT id FROM session WHERE expires < ? LIMIT ?", 1, 1)
    assert "session_expires" in row[-1]


def test_memory_batches(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory._store.clear()
    memory._to_check.clear()
    for _ in range(10):
        memory._store[new_sid()] = {"_data": {}, "_created": 0, "_accessed": 0, "_timeout": 1}
    monkeypatch.setattr(memory, "_BATCH", 4)
    left = []
    for _ in range(3):
        memory.cleanup()
        left.append(len(memory._store))
    assert left == [6, 2, 0]


def test_session_types(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MemorySession", "FileSession", "DbmSession", "SQLiteSession"):
        found = Session.Session(FakeRequest(directory, session__session_type=name))
        assert type(found) is getattr(Session, name)
    with pytest.raises(Exception, match="Unknown session type BaseSession"):
        Session.Session(FakeRequest(directory, session__session_type="BaseSession"))
    with pytest.raises(AttributeError):
        Session.NoSession  # noqa: B018
    assert "RedisSession" in dir(Session)
    monkeypatch.setattr(Session, "_alone", False)
    assert type(Session.Session(FakeRequest(directory))) is Session.SQLiteSession
    monkeypatch.setattr(Session, "_alone", True)
    assert type(Session.Session(FakeRequest(directory))) is Session.MemorySession
    assert base.LOCK_TIMEOUT == 30
