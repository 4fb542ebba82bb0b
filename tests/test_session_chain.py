"""One request and what it leads to has one session: every way to a second session object, in every store."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any

import pytest

from mod_python.testing import Response, Server
from tests.processes import PREFORK
from tests.session_site import STORES, TIMEOUT, redis_server, site

HANDLERS = """
from mod_python import psp

def put(req, name):
    '''A session object of this request's own, which adds an item.'''
    session = Session.Session(req)
    session[name] = 1
    session.save()
    return session

def second(req):
    '''What is redirected to, or included.'''
    put(req, "second")
    req.write("second")

def look(req):
    session = Session.Session(req)
    req.write(repr((session.is_new(), dict(session))))

def plain(req):
    first, other = Session.Session(req), Session.Session(req)
    first["first"] = 1
    other["second"] = 1
    other.save()
    first.save()

def saved_by_the_first(req):
    first, other = Session.Session(req), Session.Session(req)
    first["first"] = 1
    other["second"] = 1
    first.save()

def dropped(req):
    put(req, "first")
    put(req, "second")

def without_locks(req):
    first, other = Session.Session(req, lock=0), Session.Session(req, lock=0)
    first["first"] = 1
    first.save()
    other["second"] = 1
    other.save()

def one_without_a_lock(req):
    first = Session.Session(req, lock=0)
    first["first"] = 1
    other = Session.Session(req)
    other["second"] = 1
    other.save()

def unlocked(req):
    first = put(req, "first")
    first.unlock()
    other = put(req, "second")
    other.unlock()
    first.save()

def by_id(req):
    first = put(req, "first")
    other = Session.Session(req, sid=first.id())
    other["second"] = 1
    other.save()
    first.save()

def subclass(req):
    class Mine(type(Session.Session(req))):
        pass
    first = Mine(req)
    first["first"] = 1
    other = Session.Session(req)
    other["second"] = 1
    other.save()
    first.save()

def page(req):
    first = Session.Session(req)
    first["first"] = 1
    psp.PSP(req, "page.psp").run()
    first.save()

def page_with_attribute(req):
    req.session = Session.Session(req)
    req.session["first"] = 1
    psp.PSP(req, "page.psp").run()

def two_pages(req):
    put(req, "first")
    psp.PSP(req, "page.psp").run()
    psp.PSP(req, "page.psp").run()

def error_page(req):
    put(req, "first")
    psp.PSP(req, "failing.psp").run()

def redirect(req):
    req.session = put(req, "first")
    req.internal_redirect("/second")

def redirect_to_page(req):
    put(req, "first")
    req.internal_redirect("/page.psp")

def redirect_twice(req):
    put(req, "first")
    req.internal_redirect("/redirect_again")

def redirect_again(req):
    req.internal_redirect("/second")

def redirect_to_file(req):
    put(req, "first")
    put(req, "second")
    req.internal_redirect("/file.txt")

def redirect_to_other_interpreter(req):
    put(req, "first")
    req.internal_redirect("/other/second")

def redirect_to_other_path(req):
    put(req, "first")
    req.internal_redirect("/path/second")

def failing(req):
    put(req, "first")
    return apache.HTTP_NOT_FOUND

def failing_page(req):
    put(req, "first")
    return apache.HTTP_FORBIDDEN

def failing_alone(req):
    put(req, "first")
    put(req, "second")
    return apache.HTTP_CONFLICT

def unsaved(req):
    Session.Session(req)
    return apache.HTTP_CONFLICT

def unsaved_for_page(req):
    Session.Session(req)
    return apache.HTTP_NOT_FOUND

def moved(req):
    put(req, "first")
    put(req, "second")
    req.headers_out["Location"] = "/elsewhere"
    return apache.HTTP_MOVED_TEMPORARILY

def crash(req):
    put(req, "first")
    put(req, "second")
    raise ValueError("meant to fail")

def parts(req):
    put(req, "first")
    req.content_type = "text/html"
    req.write('a <!--#include virtual="/second" --> b <!--#include virtual="/second" --> c')

def other_parts(req):
    put(req, "first")
    req.content_type = "text/html"
    req.write('a <!--#include virtual="/other/second" --> b')

def fixup(req):
    put(req, "first")
    return apache.OK

def fixed(req):
    put(req, "second")

def index(req):
    put(req, "second")
    return apache.OK

def filtered(req):
    put(req, "first")
    req.content_type = "text/html"
    req.write("text")

def output(filter):
    if not getattr(filter.req, "seen", 0):
        filter.req.seen = 1
        put(filter.req, "second")
    filter.pass_on()

def login(req):
    Session.Session(req).invalidate()
    session = Session.Session(req)
    session["user"] = "ann"
    session["first"] = session["second"] = 1
    session.save()
    psp.PSP(req, "hello.psp").run()

def deleted(req):
    Session.Session(req).delete()
    put(req, "first")
    put(req, "second")

def deleted_and_saved(req):
    session = put(req, "first")
    session.delete()
    session["first"] = 1
    session.save()
    put(req, "second")

def login_and_redirect(req):
    old = put(req, "old")
    old.invalidate()
    put(req, "first")
    old["old"] = 1
    old.save()
    old.invalidate()
    req.internal_redirect("/second")

def logout(req):
    first, other = put(req, "first"), put(req, "second")
    first.invalidate()
    other["more"] = 1
    other.save()
    req.write(repr((dict(first), dict(other))))

def kick(req):
    session = put(req, "first")
    Session.Session(req, sid=req.args).invalidate()
    put(req, "second")

def kick_first(req):
    Session.Session(req, sid=req.args).invalidate()
    put(req, "first")
    put(req, "second")

def times(req):
    first, other = Session.Session(req, timeout=70), Session.Session(req)
    other.set_timeout(90)
    first.save()
    req.write(repr((first.timeout(), other.timeout(), first.created() == other.created())))

def changes(req):
    a, b = Session.Session(req), Session.Session(req)
    a.update({"x": 1, "y": 2}, z=3)
    b |= {"v": 4}
    seen = [dict(b)]
    del b["x"]
    b.pop("y")
    seen.append(dict(a))
    a.setdefault("list", []).append(1)
    b.setdefault("list", []).append(2)
    seen.append(dict(b))
    a.popitem()
    seen.append(dict(b))
    a.save()
    a["unsaved"] = 1
    a.load()
    seen.append(dict(b))
    b.clear()
    seen.append(dict(a))
    req.write(repr(seen))

def take_turns(req):
    '''Others may change the session between two objects of this request.'''
    session = put(req, "first")
    session.unlock()
    req.write("free\\n")
    req.flush()
    req.readline()
    again = Session.Session(req)
    req.write(repr((sorted(again), sorted(session))))

def objects(req):
    '''The lock is given back with the last one.'''
    first = Session.Session(req)
    first.save()
    other = Session.Session(req)
    first.unlock()
    try:
        free = other._locks().try_take(other.id()) is not None
    finally:
        other.unlock()
    taken = other._locks().try_take(other.id())
    if taken is not None:
        taken.release()
    req.write(repr((free, taken is not None)))
"""

WSGI = """
from mod_python import Session

def application(environ, start_response):
    req = environ["wsgi.input"]
    for name in ("first", "second"):
        session = Session.Session(req)
        session[name] = 1
        session.save()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]
"""

PUBLISHED = """
from mod_python import Session, psp

def index(req):
    session = Session.Session(req)
    session["first"] = 1
    session.save()
    psp.PSP(req, "page.psp").run()
    return ""
"""

PAGE = "<% session['second'] = 1 %>page"

FILES = {
    "page.psp": PAGE,
    "hello.psp": "hello <%= session.get('user') %>",
    "failing.psp": "<% psp.set_error_page('/page.psp') %><% raise ValueError('for the error page') %>",
    "file.txt": "a file",
    "published.py": PUBLISHED,
    "application.py": WSGI,
    "inner/index.txt": "",
    "page.shtml": '<!--#include virtual="/second" --><!--#include virtual="/second" -->',
}

CONFIG = """
DocumentRoot ${SITE}
PythonPath "['${SITE}']+sys.path"
PythonOption mod_python.session.application_path /
ErrorDocument 404 /second
ErrorDocument 403 /page.psp
<FilesMatch "\\.psp$">
    PythonHandler mod_python.psp
</FilesMatch>
<FilesMatch "\\.txt$">
    SetHandler None
</FilesMatch>
<Files "page.shtml">
    SetHandler None
    Options +Includes
    SetOutputFilter INCLUDES
</Files>
<Location "/published.py">
    PythonHandler mod_python.publisher
</Location>
<Location "/wsgi">
    PythonHandler mod_python.wsgi
    PythonOption mod_python.wsgi.application application
</Location>
<Location "/other">
    PythonInterpreter other
</Location>
<Location "/path">
    PythonOption mod_python.session.application_path /path
</Location>
<LocationMatch "^/(parts|other_parts)$">
    Options +Includes
    SetOutputFilter INCLUDES
</LocationMatch>
<Location "/fixed">
    PythonFixupHandler ${SITE}/handlers.py::fixup
</Location>
<Directory ${SITE}/inner>
    DirectoryIndex index.txt
    <Files "index.txt">
        SetHandler mod_python
        PythonHandler ${SITE}/handlers.py::index
        PythonFixupHandler ${SITE}/handlers.py::fixup
    </Files>
</Directory>
PythonOutputFilter ${SITE}/handlers.py::output sessions
<Location "/filtered">
    SetOutputFilter sessions
</Location>
"""


@dataclass(frozen=True)
class Way:
    """A way to a second object of a session.

    Attributes:
        target: what the client asks for.
        status: of the response.
        renews: whether a new session begins in any case.
    """

    target: str
    status: int = 200
    renews: bool = False


WAYS = (
    *map(
        Way,
        [
            "/plain",
            "/saved_by_the_first",
            "/dropped",
            "/without_locks",
            "/one_without_a_lock",
            "/unlocked",
            "/by_id",
            "/subclass",
            "/page",
            "/page_with_attribute",
            "/two_pages",
            "/error_page",
            "/redirect",
            "/redirect_to_page",
            "/redirect_twice",
            "/redirect_to_file",
            "/redirect_to_other_interpreter",
            "/redirect_to_other_path",
            "/parts",
            "/other_parts",
            "/fixed",
            "/inner/",
            "/filtered",
            "/published.py",
            "/wsgi",
        ],
    ),
    Way("/failing", 404),
    Way("/failing_page", 403),
    Way("/failing_alone", 409),
    Way("/moved", 302),
    Way("/crash", 500),
    Way("/login", renews=True),
    Way("/deleted", renews=True),
    Way("/deleted_and_saved"),
    Way("/login_and_redirect", renews=True),
)

KEYS = {"first", "second"}


@pytest.fixture(scope="module", params=["MemorySession", *STORES])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    store = request.param
    arguments: dict[str, Any] = {"processes": 1} if store == "MemorySession" else {"processes": 4 if PREFORK else 2}
    config = CONFIG + f"PythonOption mod_python.session.session_type {store}\n"
    # A request that waits for itself fails, and does not take the time that a test has.
    config += "PythonOption mod_python.session.lock_timeout 3\n"
    arguments |= {"files": FILES, "modules": ["mod_include", "mod_dir"]}
    if store == "RedisSession":
        with redis_server() as redis, site(HANDLERS, config + redis.option, **arguments) as found:
            yield found
    else:
        with site(HANDLERS, config, **arguments) as found:
            yield found


def cookies(response: Response) -> list[str]:
    """The ids that a response sets; empty for one that is to be forgotten."""
    found = []
    for text in response.headers.get_all("Set-Cookie") or []:
        for name, morsel in SimpleCookie(text).items():
            if name == "pysid":
                found.append("" if morsel["max-age"] == "0" else morsel.value)
    return found


def get(server: Server, target: str, sid: str = "", status: int = 200) -> Response:
    response = server.get(target, {"Cookie": f"pysid={sid}"} if sid else {}, timeout=TIMEOUT)
    assert response.status == status, (response.status, response.text, server.error_log[-3000:])
    return response


def begin(server: Server) -> str:
    """Begin a session; return its id."""
    (sid,) = cookies(get(server, "/look"))
    # Only what is saved is there.
    (sid,) = cookies(get(server, "/second"))
    return sid


def items(server: Server, sid: str, prefix: str = "") -> tuple[int, dict[str, Any]]:
    new, data = ast.literal_eval(get(server, prefix + "/look", sid).text)
    return new, data


@pytest.mark.parametrize("had", ["none", "unknown", "wrong", "valid"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.target.strip("/"))
def test_one_session_and_one_cookie(server: Server, way: Way, had: str) -> None:
    server.allow("meant to fail")
    server.allow("for the error page")
    old = {"none": "", "unknown": "ab" * 16, "wrong": "A" * 32, "valid": ""}[had]
    if had == "valid":
        old = begin(server)
    response = get(server, way.target, old, way.status)
    sent = cookies(response)
    if had == "valid" and not way.renews:
        assert sent == []
        sid = old
    else:
        assert len(sent) == 1, sent
        (sid,) = sent
        assert sid not in ("", old)
    new, data = items(server, sid)
    assert new == 0
    if way.target in ("/redirect_to_other_interpreter", "/other_parts"):
        # Each interpreter has a memory of its own; the id is the same.
        other_new, other = items(server, sid, "/other")
        assert (other_new, set(data) | set(other)) == (0, KEYS)
    else:
        assert set(data) - {"user"} == KEYS
    if had == "valid" and way.renews:
        assert items(server, old)[0] == 1


def test_login(server: Server) -> None:
    for old in ("", begin(server)):
        response = get(server, "/login", old)
        assert response.text == "hello ann"
        (sid,) = cookies(response)
        assert items(server, sid)[1]["user"] == "ann"


def test_logout(server: Server) -> None:
    for old in ("", begin(server)):
        response = get(server, "/logout", old)
        assert response.text == "({'more': 1}, {'more': 1})"
        assert cookies(response) == [""]
        if old:
            assert items(server, old)[0] == 1


@pytest.mark.parametrize("target", ["/kick", "/kick_first"])
def test_another_session_that_is_ended_leaves_the_own_one(server: Server, target: str) -> None:
    own, other = begin(server), begin(server)
    assert cookies(get(server, f"{target}?{other}", own)) == []
    assert items(server, other)[0] == 1
    assert items(server, own) == (0, {"first": 1, "second": 1})


def test_an_error_page_has_no_cookie_of_a_session_that_was_not_saved(server: Server) -> None:
    assert cookies(get(server, "/unsaved", status=409)) == []
    assert len(cookies(get(server, "/unsaved_for_page", status=404))) == 1


def test_times(server: Server) -> None:
    assert get(server, "/times").text == "(90, 90, True)"


def test_changes_of_either_are_those_of_both(server: Server) -> None:
    seen = ast.literal_eval(get(server, "/changes").text)
    assert seen == [
        {"x": 1, "y": 2, "z": 3, "v": 4},
        {"z": 3, "v": 4},
        {"z": 3, "v": 4, "list": [1, 2]},
        {"z": 3, "v": 4},
        {"z": 3, "v": 4},
        {},
    ]


def test_the_lock_goes_with_the_last_object(server: Server) -> None:
    assert get(server, "/objects").text == "(False, True)"


def test_what_others_have_changed_meanwhile_is_read(server: Server, request: pytest.FixtureRequest) -> None:
    if PREFORK and "MemorySession" in request.node.name:
        pytest.skip("a process of prefork has one request at a time")
    sid = begin(server)
    with server.connect() as sock:
        sock.sendall(
            f"POST /take_turns HTTP/1.1\r\nHost: x\r\nCookie: pysid={sid}\r\nContent-Length: 2\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        answer = sock.makefile("rb")
        while b"free" not in answer.readline():
            pass
        get(server, "/redirect_to_file", sid)
        sock.sendall(b"x\n")
        assert b"(['first', 'second'], ['first', 'second'])" in answer.read()


def test_parts_of_a_static_page_share_a_session(server: Server) -> None:
    """They begin when the head has left, at the latest with the second one."""
    response = get(server, "/page.shtml")
    assert len(set(cookies(response))) <= 1
