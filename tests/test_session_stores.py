"""Sessions in each store, on a real httpd: what they keep, and that nothing is lost when many requests come at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

import pytest

from mod_python.testing import Server
from tests.processes import PREFORK, at_once
from tests.session_site import STORES, TIMEOUT, Browser, Redis, redis_server, site

pytestmark = pytest.mark.heavy


HANDLERS = '''
def count(req):
    """One more; the other requests must not come between."""
    session = Session.Session(req)
    number = session.get("number", 0)
    time.sleep(0.0005)
    session["number"] = number + 1
    session["seen"] = sorted({*session.get("seen", ()), os.getpid()})
    session.save()
    req.headers_out["X-Node"] = str(req.connection.local_addr[1])
    req.write(repr(session["number"]))

def show(req):
    session = Session.Session(req)
    req.write(repr((session.is_new(), type(session).__name__, dict(session))))

def keep(req):
    session = Session.Session(req, timeout=77)
    session["values"] = [1, ("a", b"b"), {3: {4}}, None, "\\u20ac"]
    session.save()
    req.write(repr((session.id(), session.created(), session.timeout())))

def kept(req):
    session = Session.Session(req)
    req.write(repr((session.id(), session.created(), session.timeout(), session["values"], session.is_new())))

def forget(req):
    session = Session.Session(req)
    session.delete()
    req.write(repr(dict(session)))

def invalidate(req):
    session = Session.Session(req)
    session.invalidate()
    session["x"] = 1
    session.save()

def expired(req):
    session = Session.Session(req)
    session.set_timeout(-1)
    session["x"] = 1
    session.save()

def cleanup(req):
    Session.Session(req).cleanup()

def unstorable(req):
    session = Session.Session(req)
    session["list"] = [1, {"x": object()}]
    try:
        session.save()
    except Session.SessionError as exc:
        req.write(str(exc))

def held_twice(req):
    first = Session.Session(req)
    first["x"] = 1
    first.save()
    second = Session.Session(req, sid=first.id())
    req.write(repr((second.is_new(), second["x"])))

def fails(req):
    Session.Session(req)
    raise ValueError("meant to fail")
'''


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with redis_server() as server:
        yield server


def configured(store: str, request: pytest.FixtureRequest) -> str:
    other = f"PythonOption mod_python.session.lock_timeout {TIMEOUT:g}\n"
    other += '<Location "/other">\nPythonInterpreter other\n</Location>\n'
    if store == "RedisSession":
        redis: Redis = request.getfixturevalue("redis")  # the other stores are tested without a Redis server, too
        return redis.option + other
    return f"PythonOption mod_python.session.session_type {store}\n" + other


@pytest.fixture(scope="module", params=STORES)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    arguments: dict[str, Any] = {"processes": 12} if PREFORK else {"processes": 8, "threads": 8}
    with site(HANDLERS, configured(request.param, request), **arguments) as server:
        yield server


def test_values_come_back(server: Server) -> None:
    browser = Browser(server)
    sid, created, timeout = ast.literal_eval(browser.get("/keep"))
    values = [1, ("a", b"b"), {3: {4}}, None, "\u20ac"]
    assert ast.literal_eval(browser.get("/kept")) == (sid, created, timeout, values, 0)
    assert timeout == 77
    assert browser.set_cookies() == []


def test_no_increment_is_lost(server: Server) -> None:
    """Sixty-four clients at once, in two interpreters of eight processes and more, with eight threads each or one."""
    browser = Browser(server)
    assert browser.get("/count") == "1"
    last = 1

    def run(number: int, together: object) -> list[int]:
        mine = Browser(server, dict(browser.cookies))
        return [int(mine.get(target)) for target in 3 * ("/count", "/other/count")]

    def all_processes() -> bool:
        nonlocal last
        numbers = [number for found in at_once(64, run) for number in found]
        assert sorted(numbers) == list(range(last + 1, last + 64 * 6 + 1))
        last = max(numbers)
        _, _, data = ast.literal_eval(browser.get("/show"))
        assert data["number"] == last
        return len(data["seen"]) >= 8

    # Once is enough, unless the system gave nothing to one of the processes.
    server.wait_until(all_processes, 4 * TIMEOUT, "requests in every process")


def test_delete(server: Server) -> None:
    browser = Browser(server)
    browser.get("/count")
    assert browser.get("/forget") == "{}"
    assert ast.literal_eval(browser.get("/show"))[0] == 1


def test_invalidate(server: Server) -> None:
    browser = Browser(server)
    browser.get("/count")
    before = dict(browser.cookies)
    browser.get("/invalidate")
    (cookie,) = browser.set_cookies()
    assert "expires=Thu, 01-Jan-1970 00:00:00 GMT; Max-Age=0" in cookie
    browser.cookies = before
    assert ast.literal_eval(browser.get("/show"))[0] == 1


def test_an_expired_session_is_new(server: Server) -> None:
    browser = Browser(server)
    browser.get("/expired")
    before = dict(browser.cookies)
    new, _, data = ast.literal_eval(browser.get("/show"))
    assert (new, data) == (1, {})
    assert browser.cookies != before
    browser.get("/cleanup")


def test_what_cannot_be_stored(server: Server) -> None:
    text = Browser(server).get("/unstorable")
    assert "builtins.object cannot be stored (at ['_data']['list'][1]['x'])" in text
    assert "mod_python.session.serializer pickle" in text


def test_a_second_object_of_one_request(server: Server) -> None:
    assert Browser(server).get("/held_twice") == "(0, 1)"


def test_a_handler_that_fails_keeps_no_lock(server: Server) -> None:
    server.allow("meant to fail")
    browser = Browser(server)
    browser.get("/count")
    for _ in range(3):
        browser.get("/fails", status=500)
    assert browser.get("/count") == "2"
