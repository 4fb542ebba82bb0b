"""Sessions on a real httpd: cookies, ids, options, locks, and what happens when something is wrong."""

from __future__ import annotations

import ast
import json
import pickle
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mod_python import Cookie, Session
from mod_python.testing import Server
from tests.processes import PREFORK, THREADED, at_same_time
from tests.session_site import Browser, site, store_directory

HANDLERS = '''
def plain(req):
    session = Session.Session(req)
    session.save()
    req.write(repr((session.is_new(), session.id(), type(session).__name__)))

def signed(req):
    session = Session.Session(req, secret="s3cr3t")
    session["n"] = session.get("n", 0) + 1
    session.save()
    req.write(repr((session.is_new(), session["n"])))

def by_id(req):
    try:
        session = Session.Session(req, sid=req.args)
    except ValueError as exc:
        req.write(str(exc))
    else:
        req.write(repr((session.is_new(), session.id() == req.args)))

def note(req, name):
    """Leave a file with a name of this request."""
    with open(os.path.join(req.get_options()["test.meeting"], f"{req.args}-{name}"), "w"):
        pass

def noted(req, name):
    """Whether both requests of a test have left a file."""
    test = req.args[:-1]
    return all(os.path.exists(os.path.join(req.get_options()["test.meeting"], f"{test}{n}-{name}")) for n in "12")

def wait_for_both(req, name):
    note(req, name)
    deadline = time.monotonic() + 60
    while not noted(req, name):
        assert time.monotonic() < deadline, f"only one request is {name}"
        time.sleep(0.005)

def apart(req):
    """Hold the session while another request asks for it."""
    wait_for_both(req, "there")
    session = Session.Session(req)
    begin = time.monotonic()
    note(req, "inside")
    for _ in range(20):
        met = noted(req, "inside")
        if met:
            break
        time.sleep(0.005)
    os.unlink(os.path.join(req.get_options()["test.meeting"], f"{req.args}-inside"))
    req.write(repr((met, begin, time.monotonic())))

def together(req):
    """Hold the session until a request of another session is there as well."""
    session = Session.Session(req)
    wait_for_both(req, "inside")
    req.write("met")

def hold(req):
    """Keep a session until the client has gone on."""
    session = Session.Session(req)
    session.save()
    req.write("held\\n")
    req.flush()
    req.readline()

def grab(req):
    Session.Session(req)
    req.write("got it")

def unlocked(req):
    session = Session.Session(req, lock=0)
    session["x"] = 1
    session.save()
    req.write("free")

def gives_back(req):
    session = Session.Session(req)
    session.save()
    session.unlock()
    again = Session.Session(req, sid=session.id())
    req.write(repr(again.is_new()))

class Mine(Session.BaseSession):
    """A store as applications write them."""

    kept = {}

    def __init__(self, req, sid=0, secret=None, timeout=0, lock=1):
        self.log = []
        Session.BaseSession.__init__(self, req, sid=sid, secret=secret, timeout=timeout, lock=lock)

    def do_load(self):
        self.log.append("load")
        return self.kept.get(self._sid)

    def do_save(self, dict):
        self.log.append("save")
        self.kept[self._sid] = dict

    def do_delete(self):
        self.log.append("delete")
        self.kept.pop(self._sid, None)

    def do_cleanup(self):
        self.log.append("cleanup")

def mine(req):
    session = Mine(req)
    session["n"] = session.get("n", 0) + 1
    session.save()
    session.cleanup()
    req.write(repr((session["n"], session.log, sorted(Mine.kept[session.id()]), session._new, session._lock)))

def broken(req):
    class Broken(Mine):
        def do_load(self):
            raise ValueError("meant to fail")
    try:
        Broken(req)
    except ValueError as exc:
        req.write(str(exc))

def bare(req):
    try:
        Session.BaseSession(req, "0" * 32)
    except NotImplementedError:
        req.write("stores nothing")

def names(req):
    req.write(repr((Session.COOKIE_NAME, Session.DFT_TIMEOUT, sorted(Session.__all__))))

def times(req):
    session = Session.Session(req)
    req.write(repr((session.created(), session.last_accessed(), session.timeout())))
    session.save()

def value(req):
    session = Session.Session(req)
    session["x"] = {"a", 1}
    session.save()
    req.write(session.id())

def look(req):
    session = Session.Session(req)
    req.write(repr((session.is_new(), dict(session))))

def redirected(req):
    session = Session.Session(req)
    session["from"] = "redirected"
    session.save()
    req.internal_redirect("/look?" + session.id())

def kept_on_request(req):
    req.session = Session.Session(req)
    req.session["n"] = req.session.get("n", 0) + 1
    req.session.save()
    req.headers_out["X-Count"] = str(req.session["n"])

def tell(req):
    class Told(Exception):
        pass
    try:
        Session.Session(req)
    except Exception as exc:
        req.write(f"{type(exc).__name__}: {exc}")
    else:
        req.write("fine")
'''

CONFIG = """
PythonOption test.meeting ${SESSIONS}/meeting
<Location "/options">
    PythonOption mod_python.session.application_path /some/path
    PythonOption mod_python.session.application_domain .example.com
    PythonOption mod_python.session.cookie_name other
</Location>
<Location "/old">
    PythonOption ApplicationPath /old/path
    PythonOption session_cookie_name older
    PythonOption session FileSession
</Location>
<Location "/flags">
    PythonOption mod_python.session.cookie_httponly no
    PythonOption mod_python.session.cookie_samesite Strict
    PythonOption mod_python.session.cookie_secure yes
</Location>
<Location "/no-flags">
    PythonOption mod_python.session.cookie_samesite off
    PythonOption mod_python.session.cookie_secure no
</Location>
<Location "/no-locks">
    PythonOption mod_python.mutex_directory ""
</Location>
<Location "/impatient">
    PythonOption mod_python.session.lock_timeout 0.2
</Location>
<Location "/wrong-type">
    PythonOption mod_python.session.session_type NoSession
</Location>
<Location "/wrong-switch">
    PythonOption mod_python.session.cookie_httponly perhaps
</Location>
<Location "/wrong-serializer">
    PythonOption mod_python.session.serializer marshal
</Location>
<Location "/nowhere">
    PythonOption mod_python.session.database_directory /nonexistent/directory
</Location>
<Location "/not-ours">
    PythonOption mod_python.session.database_directory /usr
</Location>
<Location "/pickle">
    PythonOption mod_python.session.serializer pickle
</Location>
<Location "/file">
    PythonOption mod_python.session.session_type FileSession
</Location>
<Location "/memory">
    PythonOption mod_python.session.session_type MemorySession
</Location>
<Directory ${SITE}/docs/app>
    PythonHandler ${SITE}/handlers.py
</Directory>
DocumentRoot ${SITE}/docs
"""


@pytest.fixture(scope="module")
def directory() -> Iterator[Path]:
    with store_directory() as path:
        (path / "meeting").mkdir()
        (path / "meeting").chmod(0o777)
        yield path


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[Server]:
    arguments = {"processes": 8} if PREFORK else {"processes": 2, "threads": 8}
    with site(HANDLERS, CONFIG, directory, files={"docs/app/page": ""}, tls=[1], listen=2, **arguments) as server:
        yield server


def attributes(cookie: str) -> dict[str, str]:
    """Split a ``Set-Cookie`` field, without name and value."""
    return {name: value for name, _, value in (part.partition("=") for part in cookie.split("; ")[1:])}


def test_row_12_3_first_request(server: Server) -> None:
    browser = Browser(server)
    new, sid, kind = ast.literal_eval(browser.get("/options/plain"))
    assert (new, kind) == (1, "SQLiteSession")
    assert re.fullmatch("[0-9a-f]{32}", sid)
    (cookie,) = browser.set_cookies()
    assert cookie.startswith(f"other={sid}; ")
    assert attributes(cookie) == {"path": "/some/path", "domain": ".example.com", "samesite": "Lax", "httponly": ""}
    assert browser.last is not None
    assert browser.last.headers.get_all("Cache-Control") == ["private"]


def test_row_12_4_second_request(server: Server) -> None:
    browser = Browser(server)
    browser.get("/options/plain")
    # As it came, attributes and all.
    (cookie,) = browser.set_cookies()
    response = server.get("/options/plain", {"Cookie": cookie})
    new, sid, _ = ast.literal_eval(response.text)
    assert (new, sid) == (0, browser.cookies["other"])
    assert response.headers["Set-Cookie"] is None


@pytest.mark.parametrize(
    "sid",
    [
        "../../../../etc/passwd",
        "a/" * 16,
        "/" * 32,
        "a" * 384,
        "A" * 32,
        "g" * 32,
        "",
        "a" * 31,
        "a" * 33,
        "\u00e4" * 32,
    ],
    ids=["path", "slashes", "all-slashes", "long", "upper", "no-digits", "empty", "31", "33", "latin"],
)
@pytest.mark.parametrize("store", ["", "/file", "/memory"], ids=["sqlite", "file", "memory"])
def test_row_12_5_ids_that_are_none(server: Server, directory: Path, sid: str, store: str) -> None:
    # The first request of a store makes its files.
    server.get(f"{store}/look")
    before = sorted(directory.rglob("*"))
    browser = Browser(server, {"pysid": sid})
    new, _ = ast.literal_eval(browser.get(f"{store}/look"))
    assert new == 1
    assert re.fullmatch("[0-9a-f]{32}", browser.cookies["pysid"])
    assert [path for path in sorted(directory.rglob("*")) if path not in before and "-" not in path.name] == []


def test_row_12_6_lock_directory_only_counts_in_the_server_config(server: Server) -> None:
    browser = Browser(server)
    assert ast.literal_eval(browser.get("/no-locks/plain"))[0] == 1
    assert ast.literal_eval(browser.get("/no-locks/plain"))[0] == 0


def test_row_12_7_one_after_the_other(server: Server) -> None:
    one, other = Browser(server), Browser(server)
    one.get("/plain")
    other.get("/plain")
    # Two of one session never meet, and one waits for the other.
    results = at_same_time(
        lambda: Browser(server, dict(one.cookies)).get("/apart?same1"),
        lambda: Browser(server, dict(one.cookies)).get("/apart?same2"),
    )
    (met1, begin1, end1), (met2, begin2, end2) = sorted(map(ast.literal_eval, results), key=lambda found: found[1])
    assert (met1, met2) == (False, False)
    assert begin1 < end1 <= begin2 < end2
    # Two of different sessions do.
    results = at_same_time(lambda: one.get("/together?other1"), lambda: other.get("/together?other2"))
    assert results == ["met", "met"]


def test_an_unknown_id_is_never_adopted(server: Server) -> None:
    sid = "0123456789abcdef" * 2
    browser = Browser(server, {"pysid": sid})
    new, found, _ = ast.literal_eval(browser.get("/plain"))
    assert new == 1
    assert found != sid


def test_ids_as_arguments(server: Server) -> None:
    browser = Browser(server)
    sid = ast.literal_eval(browser.get("/plain"))[1]
    assert ast.literal_eval(server.get(f"/by_id?{sid}").text) == (0, True)
    assert ast.literal_eval(server.get(f"/by_id?{'0' * 32}").text) == (1, False)
    for wrong in ("../x", "a" * 31, "A" * 32):
        assert "32 characters" in server.get(f"/by_id?{wrong}").text


def test_flags(server: Server) -> None:
    browser = Browser(server)

    def flags(target: str, index: int = 0) -> dict[str, str]:
        browser.cookies.clear()
        browser.get(target, index=index)
        (cookie,) = browser.set_cookies()
        return attributes(cookie)

    assert flags("/plain") == {"path": "/", "samesite": "Lax", "httponly": ""}
    assert flags("/plain", 1) == {"path": "/", "samesite": "Lax", "httponly": "", "secure": ""}
    assert flags("/flags/plain") == {"path": "/", "samesite": "Strict", "secure": ""}
    assert flags("/no-flags/plain", 1) == {"path": "/", "httponly": ""}
    assert flags("/old/plain")["path"] == "/old/path"
    assert list(browser.cookies) == ["older"]
    assert flags("/app/plain")["path"] == "/app/"


def test_signed(server: Server) -> None:
    browser = Browser(server)
    assert browser.get("/signed") == "(1, 1)"
    assert browser.get("/signed") == "(0, 2)"
    signed = browser.cookies["pysid"]
    assert len(signed) == 96
    # Without its signature, or with another one, it is nobody's.
    for value in (signed[64:], "0" * 64 + signed[64:], signed[:95] + "z"):
        assert Browser(server, {"pysid": value}).get("/signed") == "(1, 1)"
    other = str(Cookie.SignedCookie("pysid", signed[64:], "other")).removeprefix("pysid=")
    assert Browser(server, {"pysid": other}).get("/signed") == "(1, 1)"
    assert browser.get("/signed") == "(0, 3)"


def test_times(server: Server) -> None:
    browser = Browser(server)
    before = time.time()
    created, accessed, timeout = ast.literal_eval(browser.get("/times"))
    assert before <= created <= accessed <= time.time()
    assert timeout == 1800
    later = ast.literal_eval(browser.get("/times"))
    assert later[0] == created
    assert later[1] > accessed


def test_names(server: Server) -> None:
    name, timeout, names = ast.literal_eval(server.get("/names").text)
    assert (name, timeout) == ("pysid", 1800)
    # On the server the tests have set it to 0.
    assert Session.CLEANUP_CHANCE == 1000
    assert set(names) >= {"BaseSession", "Session", "MemorySession", "FileSession", "DbmSession"}


def test_wrong_options(server: Server) -> None:
    assert server.get("/wrong-type/tell").text.startswith("Exception: Unknown session type NoSession: it can be Dbm")
    assert "cookie_httponly is 'perhaps'; write yes or no" in server.get("/wrong-switch/tell").text
    assert server.get("/old/tell").text == "fine"
    assert server.get("/wrong-serializer/value").status == 500
    server.allow("serializer is 'marshal'; it can be json or pickle")
    text = server.get("/nowhere/tell").text
    assert text.startswith("SessionError: the directory for sessions /nonexistent/directory cannot be made")
    assert "mod_python.session.database_directory" in text
    assert "belongs to user 0" in server.get("/not-ours/tell").text


def test_a_session_in_use_for_too_long(server: Server) -> None:
    browser = Browser(server)
    browser.get("/plain")
    with server.connect() as sock:
        sock.sendall(
            f"POST /hold HTTP/1.1\r\nHost: x\r\nCookie: pysid={browser.cookies['pysid']}\r\n"
            "Content-Length: 10\r\n\r\n".encode()
        )
        answer = sock.makefile("rb")
        while b"held" not in answer.readline():
            pass
        assert Browser(server, dict(browser.cookies)).get("/unlocked") == "free"
        for _ in range(2):
            Browser(server, dict(browser.cookies)).get("/impatient/grab", status=503)
        told = Browser(server, dict(browser.cookies)).get("/impatient/tell")
        assert told.startswith("SessionLockTimeout: session ")
        assert "for more than 0.2 s" in told
        server.wait_for_log(r"mod_python: session \w{4}\.\.\. was in use by another request for more than 0\.2 s")
        sock.sendall(b"x" * 9 + b"\n")
    assert browser.get("/grab") == "got it"


def test_unlock(server: Server) -> None:
    assert Browser(server).get("/gives_back") == "0"


def test_internal_redirect(server: Server) -> None:
    browser = Browser(server)
    browser.get("/plain")
    assert ast.literal_eval(browser.get("/redirected")) == (0, {"from": "redirected"})


def test_requests_in_a_row_on_one_connection(server: Server) -> None:
    """The end of a response may wait for the next request, which must not wait for it."""
    browser = Browser(server)
    browser.get("/kept_on_request")
    head = f"GET /kept_on_request HTTP/1.1\r\nHost: x\r\nCookie: pysid={browser.cookies['pysid']}\r\n"
    with server.connect() as sock:
        sock.sendall((3 * f"{head}\r\n" + f"{head}Connection: close\r\n\r\n").encode())
        answer = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
    assert re.findall(r"X-Count: (\d+)", answer) == ["2", "3", "4", "5"]


def test_a_store_of_ones_own(directory: Path) -> None:
    keys = ["_accessed", "_created", "_data", "_timeout"]
    # Its memory is that of one child.
    with site(HANDLERS, "", directory, processes=1) as server:
        browser = Browser(server)
        assert ast.literal_eval(browser.get("/mine")) == (1, ["save", "cleanup"], keys, 1, 1)
        assert ast.literal_eval(browser.get("/mine")) == (2, ["load", "save", "cleanup"], keys, 0, 1)


def test_a_store_that_fails(server: Server) -> None:
    browser = Browser(server, {"pysid": "ab" * 16})
    for _ in range(2):
        # Twice: the lock was given back.
        assert browser.get("/broken") == "meant to fail"
        browser.cookies = {"pysid": "ab" * 16}
    assert browser.get("/bare") == "stores nothing"


def test_pickle_is_read_only_where_it_is_allowed(server: Server, directory: Path) -> None:
    browser = Browser(server)
    sid = browser.get("/file/value")
    path = directory / "mp_sess" / sid[:2] / sid
    assert path.read_bytes()[:1] == b"{"
    assert ast.literal_eval(browser.get("/file/look")) == (0, {"x": {"a", 1}})
    path.write_bytes(pickle.dumps({"_data": {"x": "old"}, "_created": 1, "_accessed": time.time(), "_timeout": 100}))
    # The option of the one location, and the store of the other.
    assert ast.literal_eval(browser.get("/file/look"))[0] == 1
    server.wait_for_log("what is stored for a session is damaged, or a pickle")


def test_pickle(directory: Path) -> None:
    config = (
        "PythonOption mod_python.session.session_type FileSession\nPythonOption mod_python.session.serializer pickle"
    )
    with site(HANDLERS, config, directory, processes=2) as server:
        browser = Browser(server)
        sid = browser.get("/value")
        path = directory / "mp_sess" / sid[:2] / sid
        stored = pickle.loads(path.read_bytes())
        own = stored["_data"].pop("_mod_python_site")
        assert own.startswith("localhost /")
        assert stored["_data"] == {"x": {"a", 1}}
        assert ast.literal_eval(browser.get("/look")) == (0, stored["_data"])
        # What was saved as JSON is read as well.
        stored["_data"] = {"x": "json"}
        items = {"x": "json", "_mod_python_site": own}
        path.write_text(f'{{"_data":{json.dumps(items)},"_created":1,"_accessed":{time.time()},"_timeout":100}}')
        assert ast.literal_eval(browser.get("/look")) == (0, {"x": "json"})


@pytest.mark.parametrize("store", ["DbmSession", "FileSession", "SQLiteSession"])
def test_sessions_survive_a_restart(directory: Path, store: str) -> None:
    # Each server of the kit has another ServerRoot.
    config = (
        f"PythonOption mod_python.session.session_type {store}\nPythonOption mod_python.session.server_root /srv/one\n"
    )
    with site(HANDLERS, config, directory, processes=2) as server:
        browser = Browser(server)
        browser.get("/value")
        server.graceful()
        assert ast.literal_eval(browser.get("/look")) == (0, {"x": {"a", 1}})
    with site(HANDLERS, config, directory, processes=2) as server:
        browser.server = server
        assert ast.literal_eval(browser.get("/look")) == (0, {"x": {"a", 1}})


def test_stores_are_private(server: Server, directory: Path) -> None:
    Browser(server).get("/plain")
    Browser(server).get("/file/value")
    for path in directory.rglob("*"):
        if "meeting" not in str(path):
            assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.skipif(not THREADED, reason="a process of prefork has one thread")
def test_default_is_memory_with_one_process(directory: Path) -> None:
    config = "ServerLimit 1\nMaxRequestWorkers 8\n"
    with site(HANDLERS, config, directory, processes=1, threads=8) as server:
        browser = Browser(server)
        assert ast.literal_eval(browser.get("/plain"))[2] == "MemorySession"
        assert ast.literal_eval(browser.get("/plain"))[0] == 0


def test_default_directory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    config = 'PythonOption mod_python.session.database_directory ""\n'
    with store_directory() as path:
        # Shared, as /var/tmp is.
        path.chmod(0o1777)
        monkeypatch.setenv("TMPDIR", str(path))
        with site(HANDLERS, config, path, processes=2) as server:
            browser = Browser(server)
            assert ast.literal_eval(browser.get("/plain"))[2] == "SQLiteSession"
            assert ast.literal_eval(browser.get("/plain"))[0] == 0
            (own,) = path.iterdir()
            assert own.name == f"mod_python-{path.stat().st_uid}"
            assert own.stat().st_mode & 0o777 == 0o700
            assert own.stat().st_uid == path.stat().st_uid
