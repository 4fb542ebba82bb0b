"""What caches keep of pages with sessions and cookies: mod_cache, and others by the head that they get."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from mod_python.testing import Response, Server
from tests.session_site import TIMEOUT, site, store_directory

HANDLERS = '''
from email.utils import formatdate

def say(req, what):
    """What an application says to caches."""
    if what == "expires":
        req.headers_out["Expires"] = formatdate(time.time() + 1000, usegmt=True)
    elif what == "last-modified":
        req.headers_out["Last-Modified"] = formatdate(time.time() - 100000, usegmt=True)
    elif what == "set":
        req.headers_out["Cache-Control"] = "max-age=100"
    elif what == "added":
        req.headers_out.add("Cache-Control", "max-age=100")
    elif what == "err":
        req.err_headers_out["Cache-Control"] = "max-age=100"
    elif what == "quoted":
        req.headers_out["Cache-Control"] = 'max-age=100, ext="private, no-store"'
    elif what == "fields":
        req.headers_out["Cache-Control"] = 'max-age=100, private="X-Field", no-cache="X-Field"'
    elif what == "public":
        req.headers_out["Cache-Control"] = "public, max-age=100"
    elif what == "shared":
        req.headers_out["Cache-Control"] = "S-MaxAge=100"
    elif what == "private":
        req.headers_out["Cache-Control"] = "private, max-age=100"
    elif what == "no-store":
        req.headers_out["Cache-Control"] = "no-store"

def use(req, kind):
    if kind == "session":
        session = Session.Session(req)
        session["n"] = 1
        session.save()
    elif kind == "cookie":
        Cookie.add_cookie(req, "visitor", os.urandom(8).hex())

def page(req):
    kind, what, order = req.uri.split("/")[2:5]
    if order == "before":
        say(req, what)
    use(req, kind)
    if order == "after":
        say(req, what)
    req.write(os.urandom(8).hex())
    return apache.OK

def redirected(req):
    """The session is that of the request before."""
    kind, what, order = req.uri.split("/")[2:5]
    use(req, kind)
    req.internal_redirect(req.uri.replace("/redirected", "/page").replace(f"/{kind}/", "/none/"))
    return apache.OK
'''

CONFIG = """
CacheRoot "${SESSIONS}/cache"
CacheEnable disk /
CacheHeader On
CacheIgnoreNoLastMod On
CacheDefaultExpire 1000
PythonOption mod_python.session.session_type FileSession
PythonOption mod_python.session.database_directory "${SESSIONS}/sessions"
Alias "/with-parts" "${SITE}/docs"
<Directory "${SITE}/docs">
    SetHandler None
    Options +Includes
    SetOutputFilter INCLUDES
</Directory>
<LocationMatch "/headers/">
    Header set Cache-Control "max-age=100"
</LocationMatch>
<LocationMatch "/headers-always/">
    Header always set Cache-Control "public, max-age=100"
</LocationMatch>
<LocationMatch "/expires-module/">
    ExpiresActive On
    ExpiresDefault "access plus 1000 seconds"
</LocationMatch>
"""

MODULES = ("mod_cache", "mod_cache_disk", "mod_headers", "mod_expires", "mod_include", "mod_alias")

#: A page of mod_include, whose head has left when a part begins.
PARTS = {
    f"docs/{kind}.txt": f'some text <!--#include virtual="/0/{kind}/nothing/after/page" --> and more'
    for kind in ("none", "session")
}

SAID = (
    *("nothing", "expires", "last-modified", "set", "added", "err", "quoted", "fields", "public", "shared"),
    *("private", "no-store", "headers", "headers-always", "expires-module"),
)

#: The numbers of pages: each is asked for once and once again.
NUMBERS = itertools.count()


def target(kind: str, said: str, order: str = "after", function: str = "page") -> str:
    """A page that nobody has asked for."""
    return f"/{next(NUMBERS)}/{kind}/{said}/{order}/{function}"


@pytest.fixture(scope="module", params=["quick", "not-quick"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with store_directory() as directory:
        for name in ("cache", "sessions"):
            path = directory / name
            path.mkdir(mode=0o700)
            os.chown(path, directory.stat().st_uid, directory.stat().st_gid)
        quick = f"CacheQuickHandler {'On' if request.param == 'quick' else 'Off'}\n"
        with site(HANDLERS, CONFIG + quick, directory, modules=MODULES, files=PARTS) as found:
            yield found


@dataclass(frozen=True)
class Case:
    """A page.

    Attributes:
        kind: what it uses: a session, a cookie of the application's own, or nothing.
        known: whether the first visitor has a session already.
        said: what the application says to caches.
        order: before or after it uses the session.
        redirected: whether the session is used by a request that is redirected to the page.
    """

    kind: str
    known: bool
    said: str
    order: str
    redirected: bool

    def __str__(self) -> str:
        kind = "known" if self.known else self.kind
        return f"{kind}-{self.said}-{self.order}{'-redirected' if self.redirected else ''}"


CASES = [
    Case(kind, known, said, order, redirected)
    for kind, known in (("session", False), ("session", True), ("cookie", False))
    for said in SAID
    for order in ("before", "after")
    for redirected in (False, True)
]


def visit(server: Server, target: str, cookie: str = "") -> Response:
    response = server.get(target, {"Cookie": cookie} if cookie else {}, timeout=TIMEOUT)
    assert response.status == 200, (response.text, server.error_log[-2000:])
    return response


def control(response: Response) -> str:
    return ", ".join(response.headers.get_all("Cache-Control") or [])


def lines(response: Response) -> list[str]:
    return response.headers.get_all("Set-Cookie") or []


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_next_visitor_gets_neither_page_nor_cookie(server: Server, case: Case) -> None:
    place = target(case.kind, case.said, case.order, "redirected" if case.redirected else "page")
    cookie = ""
    if case.known:
        cookie = lines(visit(server, target("session", "no-store")))[0].partition(";")[0]
    first = visit(server, place, cookie)
    second = visit(server, place)
    assert bool(lines(first)) == (case.kind != "session" or not case.known) or case.redirected
    # A cookie is not given to a second one.
    assert not set(lines(first)) & set(lines(second))
    if case.kind == "session":
        public = case.known and case.said in ("public", "shared", "headers-always")
        assert (first.text == second.text) <= public
        if not case.known:
            assert len(lines(first)) == 1
            assert "public" not in control(first)
            assert "s-maxage" not in control(first).lower()
        if not public:
            found = [word.strip() for word in control(first).split(",")]
            assert "private" in found or "no-store" in found


@pytest.mark.parametrize("said", ["set", "public", "last-modified", "headers", "expires-module"])
def test_a_page_without_either_is_kept(server: Server, said: str) -> None:
    place = target("none", said)
    first, second = visit(server, place), visit(server, place)
    assert first.text == second.text
    assert "HIT" in second.headers["X-Cache"]
    assert "private" not in control(first)


def test_a_page_with_a_session_in_a_part_is_not_kept(server: Server) -> None:
    first, second = (visit(server, "/with-parts/none.txt") for _ in range(2))
    assert first.text == second.text
    first, second = (visit(server, "/with-parts/session.txt") for _ in range(2))
    assert first.text.startswith("some text ")
    assert first.text != second.text


def test_a_page_with_a_cookie_is_kept_without_it(server: Server) -> None:
    place = target("cookie", "set")
    first, second = visit(server, place), visit(server, place)
    assert first.text == second.text
    assert len(lines(first)) == 1
    assert lines(second) == []
    assert control(first) == 'max-age=100,no-cache="set-cookie"'


def test_what_the_application_says_is_kept(server: Server) -> None:
    def of(kind: str, said: str, cookie: str = "") -> str:
        return control(visit(server, target(kind, said), cookie))

    cookie = lines(visit(server, target("session", "no-store")))[0].partition(";")[0]
    assert of("session", "nothing") == "private"
    assert of("session", "nothing", cookie) == "private"
    assert of("session", "set", cookie) == "max-age=100,private"
    assert of("session", "public", cookie) == "public, max-age=100"
    assert of("session", "public") == "max-age=100,private"
    assert of("session", "private") == "private, max-age=100"
    assert of("session", "no-store") == "no-store"
    assert of("none", "nothing") == ""
