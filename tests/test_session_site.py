"""Whose a session is: every store, every pair of places of two httpds that share it, and Host headers of any kind."""

from __future__ import annotations

import ast
import json
import os
import pickle
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mod_python.testing import Response, Server
from tests.session_site import STORES, TIMEOUT, redis_server, site, store_directory

HANDLERS = '''
import json

class OwnSession(Session.BaseSession):
    """A store as applications write them: it keeps what is documented and nothing else."""

    def __init__(self, req, sid=0, secret=None, timeout=0, lock=1):
        Session.BaseSession.__init__(self, req, sid=sid, secret=secret, timeout=timeout, lock=lock)

    def do_load(self):
        path = os.path.join(self._directory(), "own-" + self._sid)
        if not os.path.exists(path):
            return None
        with open(path) as file:
            data, created, accessed, timeout = json.load(file)
        return {"_data": data, "_created": created, "_accessed": accessed, "_timeout": timeout}

    def do_save(self, dict):
        with open(os.path.join(self._directory(), "own-" + self._sid), "w") as file:
            json.dump([dict["_data"], dict["_created"], dict["_accessed"], dict["_timeout"]], file)

    def do_delete(self):
        os.unlink(os.path.join(self._directory(), "own-" + self._sid))

    def do_cleanup(self):
        directory = self._directory()
        for name in os.listdir(directory):
            if name.startswith("own-"):
                with open(os.path.join(directory, name)) as file:
                    _, _, accessed, timeout = json.load(file)
                if time.time() - accessed > timeout:
                    os.unlink(os.path.join(directory, name))

def make(req, **arguments):
    if req.get_options().get("test.store") == "OwnSession":
        return OwnSession(req, **arguments)
    return Session.Session(req, **arguments)

def enter(req):
    session = make(req)
    session["user"] = "ann"
    session.save()
    req.write(session.id())

def look(req):
    session = make(req)
    new, user = session.is_new(), session.get("user")
    if new:
        session["user"] = "stranger"
        session.save()
    req.write(repr((new, user)))

def by_id(req):
    session = make(req, sid=req.args)
    req.write(repr((session.is_new(), session.get("user"))))

def leave_expired(req):
    session = make(req)
    session["user"] = "old"
    session.set_timeout(-1)
    session._accessed -= 1000
    session.save()
    path = os.path.join(session._directory(), session.id()[:2], session.id())
    if os.path.exists(path):
        os.utime(path, (1, 1))
    req.write(session.id())

def cleanup(req):
    make(req).cleanup()

def is_stored(req):
    session = make(req, lock=0)
    session._sid = req.args
    req.write(repr(session.do_load() is not None))
'''

#: All virtual hosts in one interpreter: with one for each, sessions in memory would be apart anyway.
CONFIG = """
PythonInterpreter one
PythonOption mod_python.file_session.cleanup_grace_period 0
PythonOption mod_python.file_session.enable_fast_cleanup no
<VirtualHost *:${PORT}>
    ServerName a.example
    ServerAlias www.a.example *.wild.example
</VirtualHost>
<VirtualHost *:${PORT}>
    ServerName b.example
</VirtualHost>
<VirtualHost *:${PORT}>
    ServerName c.example.org
    PythonOption mod_python.session.application_domain .example.org
</VirtualHost>
<VirtualHost *:${PORT}>
    ServerName d.example.org
    PythonOption mod_python.session.application_domain example.org
</VirtualHost>
<VirtualHost *:${PORT}>
    ServerName example.org
</VirtualHost>
<VirtualHost *:${PORT}>
    ServerName e.example
    PythonOption mod_python.session.site shop
</VirtualHost>
<VirtualHost *:${PORT}>
    ServerName f.example
    PythonOption mod_python.session.site shop
</VirtualHost>
<VirtualHost *:${PORT}>
    ServerName p.example
    PythonOption mod_python.session.application_path /
</VirtualHost>
<VirtualHost *:${PORT}>
    ServerName q.example
    PythonOption mod_python.session.application_path /
</VirtualHost>
<VirtualHost *:${PORT}>
    ServerName r.example
    PythonOption mod_python.session.server_root /srv/one
</VirtualHost>
<VirtualHost *:${PORT2}>
    ServerName https://A.example:8443
    UseCanonicalName Off
</VirtualHost>
"""


@dataclass(frozen=True)
class Place:
    """Where a request goes, and whose sessions are known there.

    Attributes:
        name: of the test.
        host: its Host header.
        site: which sessions it knows; places with the same name share.
        index: which port.
        httpd: which of the two httpds.
        everywhere: its site is the same in both httpds for local stores, too.
    """

    name: str
    host: str
    site: str
    index: int = 0
    httpd: int = 0
    everywhere: bool = False


PLACES = (
    Place("name", "a.example", "a"),
    Place("upper-case", "A.EXAMPLE", "a"),
    Place("with-port", "a.example:81", "a"),
    Place("with-dot", "a.example.", "a"),
    Place("alias", "www.a.example", "a"),
    Place("wildcard", "x.wild.example", "a"),
    Place("unknown-host", "whatever.invalid", "a"),
    Place("other-port", "a.example", "a", index=1),
    Place("other-port-host-of-another", "b.example", "a", index=1),
    Place("b", "b.example", "b"),
    Place("b-with-port", "b.example:8443", "b"),
    Place("domain-c", "c.example.org", "org"),
    Place("domain-d", "d.example.org", "org"),
    Place("name-of-the-domain", "example.org", "example.org"),
    Place("option-e", "e.example", "shop", everywhere=True),
    Place("option-f", "f.example", "shop", everywhere=True),
    Place("path-p", "p.example", "p"),
    Place("path-q", "q.example", "q"),
    Place("root-option", "r.example", "r", everywhere=True),
    Place("other-root-a", "a.example", "a", httpd=1),
    Place("other-root-b", "b.example", "b", httpd=1),
    Place("other-root-domain", "c.example.org", "org", httpd=1),
    Place("other-root-site", "f.example", "shop", httpd=1, everywhere=True),
    Place("other-root-root-option", "r.example", "r", httpd=1, everywhere=True),
)

LOCAL = ("MemorySession", "FileSession", "DbmSession", "SQLiteSession")


def is_shared(store: str, one: Place, other: Place) -> bool:
    """Whether a session of one place is known in another."""
    if one.site != other.site:
        return False
    if one.httpd == other.httpd:
        return True
    return store != "MemorySession" and (store not in LOCAL or (one.everywhere and other.everywhere))


@dataclass
class Httpds:
    """Two httpds with one store."""

    store: str
    servers: list[Server]

    def get(self, place: Place, target: str, sid: str | None = None) -> Response:
        headers = {"Host": place.host}
        if sid is not None:
            headers["Cookie"] = f"pysid={sid}"
        response = self.servers[place.httpd].get(target, headers, index=place.index, timeout=TIMEOUT)
        assert response.status == 200, (response.text, self.servers[place.httpd].error_log[-2000:])
        return response


@contextmanager
def httpds(store: str) -> Iterator[Httpds]:
    with ExitStack() as stack:
        directory: Path = stack.enter_context(store_directory())
        if store == "RedisSession":
            config = CONFIG + stack.enter_context(redis_server()).option
        elif store == "OwnSession":
            config = CONFIG + "PythonOption test.store OwnSession\n"
        else:
            config = CONFIG + f"PythonOption mod_python.session.session_type {store}\n"
        arguments: dict[str, Any] = {"listen": 2, "processes": 1 if store == "MemorySession" else 2}
        yield Httpds(store, [stack.enter_context(site(HANDLERS, config, directory, **arguments)) for _ in range(2)])


@pytest.fixture(scope="module", params=["MemorySession", *STORES, "OwnSession"])
def both(request: pytest.FixtureRequest) -> Iterator[Httpds]:
    with httpds(request.param) as found:
        yield found


@pytest.mark.parametrize("origin", PLACES, ids=lambda place: place.name)
def test_a_session_is_known_at_its_site_alone(both: Httpds, origin: Place) -> None:
    wrong = []
    for place in PLACES:
        sid = both.get(origin, "/enter").text
        new, user = ast.literal_eval(both.get(place, "/look", sid).text)
        expected = (0, "ann") if is_shared(both.store, origin, place) else (1, None)
        # What came of it elsewhere: a new session, and the old one is as it was.
        after = ast.literal_eval(both.get(origin, "/look", sid).text)
        if (new, user) != expected or after != (0, "ann"):
            wrong.append((place.name, (new, user), after))
    assert wrong == [], f"{len(wrong)} of {len(PLACES)} places are wrong"


def test_an_id_that_the_application_gives(both: Httpds) -> None:
    a, b = PLACES[0], next(place for place in PLACES if place.name == "b")
    sid = both.get(a, "/enter").text
    assert ast.literal_eval(both.get(a, f"/by_id?{sid}").text) == (0, "ann")
    assert ast.literal_eval(both.get(b, f"/by_id?{sid}").text) == (1, None)


def test_cleanup_is_for_all_sites(both: Httpds) -> None:
    a, b = PLACES[0], next(place for place in PLACES if place.name == "b")
    server = both.servers[0]
    expired = [both.get(place, "/leave_expired").text for place in (a, b)]
    kept = [both.get(place, "/enter").text for place in (a, b)]
    both.get(b, "/cleanup")

    def stored(sid: str) -> bool:
        return both.get(a, f"/is_stored?{sid}").text == "True"

    # Redis does it in its own time, a second at the earliest.
    server.wait_until(lambda: not any(map(stored, expired)), TIMEOUT, "expired sessions to be removed")
    assert all(map(stored, kept))


TAKE_OVER = "<Location /taken>\nPythonOption mod_python.session.take_over yes\n</Location>\n"


@pytest.mark.parametrize("kind", ["json", "pickle"])
def test_sessions_of_old_stores(kind: str) -> None:
    sid = "ab" * 16
    stored = {"_data": {"user": "ann"}, "_created": 1.0, "_accessed": time.time(), "_timeout": 1000.0}
    config = (
        CONFIG
        + TAKE_OVER
        + "PythonOption mod_python.session.session_type FileSession\n"
        + f"PythonOption mod_python.session.serializer {kind}\n"
    )
    with store_directory() as directory, site(HANDLERS, config, directory, listen=2) as server:
        both = Httpds("FileSession", [server])
        a, b = PLACES[0], next(place for place in PLACES if place.name == "b")
        # Makes the directories.
        both.get(a, "/enter")
        path = directory / "mp_sess" / sid[:2] / sid
        made = next((directory / "mp_sess").glob("??/*"))
        path.parent.mkdir(exist_ok=True, mode=0o700)
        path.write_bytes(json.dumps(stored).encode() if kind == "json" else pickle.dumps(stored))
        for found in (path.parent, path):
            os.chown(found, made.stat().st_uid, made.stat().st_gid)
        assert ast.literal_eval(both.get(a, "/look", sid).text) == (1, None)
        assert ast.literal_eval(both.get(a, "/taken/look", sid).text) == (0, "ann")
        # It belongs to the site that saves it first.
        both.get(a, "/taken/enter", sid)
        assert ast.literal_eval(both.get(a, "/look", sid).text) == (0, "ann")
        assert ast.literal_eval(both.get(b, "/taken/look", sid).text) == (1, None)


def test_a_refused_session_is_named_at_level_debug(both: Httpds) -> None:
    a, b = PLACES[0], next(place for place in PLACES if place.name == "b")
    sid = both.get(a, "/enter").text
    both.get(b, "/look", sid)
    both.servers[0].wait_for_log(
        rf"python:debug\].* session {sid[:4]}\.\.\. is unknown here, because it belongs to the site"
    )
