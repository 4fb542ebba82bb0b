"""The request phases on a real httpd: which handlers run, in which order, and what their statuses do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.servers import running

HANDLERS = """
from mod_python import apache

ORDER = "X-Order"

def note(req, word):
    old = req.subprocess_env.get(ORDER)
    req.subprocess_env[ORDER] = word if old is None else old + " " + word

def _make(word, status=apache.OK):
    def handler(req):
        assert req.phase.lower().startswith("python" + word.split("-")[0]), req.phase
        note(req, word)
        return status
    return handler

postreadrequesthandler = _make("postreadrequest")
transhandler = _make("trans", apache.DECLINED)
headerparserhandler = _make("headerparser")
inithandler = _make("init")
accesshandler = _make("access")
authzhandler = _make("authz")
typehandler = _make("type", apache.DECLINED)
fixuphandler = _make("fixup")
loghandler = _make("log")

def authenhandler(req):
    note(req, "authen")
    req.get_basic = req.headers_in.get("Authorization")
    req.user = "ann"
    req.ap_auth_type = "Odd"
    return apache.OK

def handler(req):
    note(req, "content")
    req.content_type = "text/plain"
    req.write(req.subprocess_env[ORDER], 0)
    return apache.OK

def cleanuphandler(req):
    req.log_error("cleanup of %s after: %s" % (req.uri, req.subprocess_env.get(ORDER)), apache.APLOG_NOTICE)

# -- stacks

def ok(req):
    note(req, "ok")
    return apache.OK

def declined(req):
    note(req, "declined")
    return apache.DECLINED

def third(req):
    note(req, "third")
    return apache.OK

def forbidden(req):
    note(req, "forbidden")
    return apache.HTTP_FORBIDDEN

def authen_declined(req):
    note(req, "authen1")
    return apache.DECLINED

def authen_never(req):
    note(req, "never")
    return apache.HTTP_FORBIDDEN

def authen_no_user(req):
    return apache.OK

def authen_401(req):
    return apache.HTTP_UNAUTHORIZED

def names(req):
    req.content_type = "text/plain"
    req.write("%s|%s|%s" % (req.user, req.auth_type() if hasattr(req, "auth_type") else "", req.ap_auth_type), 0)
    return apache.OK

def done(req):
    req.write("the whole page")
    return apache.DONE

def return_ok(req):
    req.write("first ", 0)
    raise apache.SERVER_RETURN(apache.OK)

def second(req):
    req.write("second", 0)
    return apache.OK

def say_trans(req):
    req.filename = "/mapped by trans"
    return apache.OK

def early_page(req):
    if req.uri == "/early":
        req.content_type = "text/plain"
        req.write("early " + str(req.filename))
        return apache.DONE
    return apache.OK

# -- handlers that are added

def add_content(req):
    req.handler = "mod_python"
    req.mark = "set in " + req.phase
    req.add_handler("PythonHandler", added)
    req.add_handler("PythonHandler", "phases::added_text")
    return apache.OK

def added(req):
    req.write("added: %s; " % req.mark, 0)
    return apache.OK

def added_text(req):
    parent = req.hlist.parent
    req.write("%s in %s by %s" % (req.hlist.handler, req.hlist.directory, parent and parent.handler), 0)
    return apache.OK

def add_same(req):
    before = req.hlist.handler
    req.seen = ["first"]
    req.add_handler("PythonHandler", "phases::added_same")
    assert req.hlist.handler == before and isinstance(before, str)
    return apache.OK

def added_same(req):
    req.write("%s then added" % req.seen[0], 0)
    return apache.OK

def add_missing(req):
    req.add_handler("PythonHandler", "phases::no_such")
    assert isinstance(req.hlist.handler, str)
    return apache.OK

def add_empty(req):
    req.add_handler("PythonHandler", "")
    req.write("never", 0)
    return apache.OK

def add_dir(req):
    req.add_handler("PythonHandler", "inner::show", req.document_root() + "/../site/sub/./")
    return apache.OK

def add_errors(req):
    words = []
    for phase, handler in (("PythonNoHandler", "m"), ("PythonCleanupHandler", "m"), ("PythonHandler", 5),
                           ("PythonConnectionHandler", "m"), ("", "m")):
        try:
            req.add_handler(phase, handler)
        except Exception as exc:
            words.append(type(exc).__name__)
    req.write(" ".join(words), 0)
    return apache.OK

def add_log(req):
    req.add_handler("PythonLogHandler", lambda req: req.log_error("logged late %s" % req.uri, apache.APLOG_NOTICE) or 0)
    req.add_handler("PythonTransHandler", forbidden)     # that phase is over
    req.write("ok", 0)
    return apache.OK

class Callable:
    def __init__(self, word):
        self.word = word
    def __call__(self, req):
        req.write(self.word, 0)
        return apache.OK

def add_callable(req):
    for word in ("a", "b", "c"):
        req.add_handler("PythonHandler", Callable(word))
    return apache.OK

# -- clean-ups

def cleanups(req):
    req.mark = "kept"
    req.register_cleanup(lambda data: data.log_error("first, last: %s" % data.mark, apache.APLOG_NOTICE), req)
    req.register_cleanup(fail)
    req.register_cleanup(lambda data: req.log_error("data %r" % (data,), apache.APLOG_NOTICE))
    try:
        req.register_cleanup(5)
    except ValueError:
        req.write("ValueError", 0)
    return apache.OK

def fail(data):
    raise RuntimeError("a clean-up fails")

def cleanup_one(req):
    req.log_error("cleanup one %s" % getattr(req, "mark", None), apache.APLOG_NOTICE)
    raise KeyError("in a cleanup handler")

def cleanup_two(req):
    req.log_error("cleanup two", apache.APLOG_NOTICE)
    req.register_cleanup(lambda data: req.log_error(data, apache.APLOG_NOTICE), "registered at the end")
    return apache.HTTP_FORBIDDEN

def write_late(req):
    try:
        req.write("too late")
    except RuntimeError as exc:
        req.log_error("write refused in %s: %s" % (req.phase, exc), apache.APLOG_NOTICE)
    return apache.OK

# -- locations

def location(req):
    req.write("%s %s %s %s %s" % (req.filename, req.path_info, req.hlist.is_location, req.hlist.location,
                                  req.hlist.directory), 0)
    return apache.OK
"""

CONFIG = """
<Directory "${SITE}">
    Options +FollowSymLinks +Indexes
    AllowOverride All
</Directory>
Alias "/alias" "${SITE}/static"
PythonPath "['${SITE}']+sys.path"
PythonPostReadRequestHandler phases::early_page

<Directory "${SITE}/all">
    SetHandler mod_python
    PythonHandlerModule phases
    AuthType Odd
    AuthName "a realm"
    Require valid-user
</Directory>
<Directory "${SITE}/init">
    SetHandler mod_python
    PythonInitHandler phases
    PythonHandler phases
</Directory>
<Directory "${SITE}/stack">
    SetHandler mod_python
    PythonFixupHandler phases::declined phases::ok phases::third
    PythonHandler phases
</Directory>
<Directory "${SITE}/stop">
    SetHandler mod_python
    PythonFixupHandler phases::ok phases::forbidden phases::third
    PythonLogHandler phases
    PythonCleanupHandler phases
    PythonHandler phases
</Directory>
<Directory "${SITE}/authen">
    SetHandler mod_python
    AuthType Odd
    AuthName "a realm"
    Require valid-user
    PythonAuthenHandler phases::authen_declined phases phases::authen_never
    PythonAuthzHandler phases
    PythonFixupHandler phases::declined phases::ok phases::third
    PythonHandler phases
    PythonCleanupHandler phases
</Directory>
<Directory "${SITE}/nouser">
    AuthType Basic
    AuthName "a \\"realm\\""
    Require valid-user
    PythonAuthenHandler phases::authen_no_user
</Directory>
<Directory "${SITE}/401">
    AuthType Basic
    AuthName "a realm"
    Require valid-user
    PythonAuthenHandler phases::authen_401
</Directory>
<Directory "${SITE}/done">
    PythonFixupHandler phases::done
</Directory>
<Directory "${SITE}/return">
    SetHandler mod_python
    PythonHandler phases::return_ok phases::second
</Directory>
<Directory "${SITE}/addfix">
    PythonFixupHandler phases::add_content
</Directory>
<Directory "${SITE}/addaccess">
    PythonAccessHandler phases::add_content
</Directory>
<Directory "${SITE}/cleanup">
    SetHandler mod_python
    PythonHandler phases::cleanups
    PythonLogHandler phases::write_late
    PythonCleanupHandler phases::cleanup_one phases::cleanup_two phases::write_late
    PythonDebug On
</Directory>
<Directory "${SITE}/nocontent">
    PythonCleanupHandler phases
</Directory>
<Directory "${SITE}/one">
    SetHandler mod_python
    PythonHandler phases::declined
</Directory>
<Location "/loc">
    SetHandler mod_python
    PythonHandler phases::location
</Location>
<Location "/guarded">
    PythonAccessHandler phases
</Location>
""" + "".join(
    f"""
<Location "/call/{name}">
    SetHandler mod_python
    PythonHandler phases::{name}
</Location>"""
    for name in ("add_same", "add_missing", "add_empty", "add_dir", "add_errors", "add_log", "add_callable")
)

FILES = {
    "phases.py": HANDLERS,
    "static/page.txt": "a static page\n",
    "guarded/page.txt": "a guarded page\n",
    "one/page.txt": "served by httpd\n",
    "nocontent/page.txt": "no content handler\n",
    "sub/inner.py": "def show(req):\n    req.write(req.hlist.directory, 0)\n    return 0\n",
    "trans.txt": "mapped",
    **{f"{name}/page.txt": "x" for name in ("all", "init", "stack", "stop", "authen", "nouser", "401", "done")},
    **{f"{name}/page.txt": "x" for name in ("return", "addfix", "addaccess", "cleanup")},
}


MODULES = ["mod_alias", "mod_authn_core", "mod_authz_core", "mod_authz_user", "mod_dir", "mod_negotiation"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with handlers in every phase, each in a directory of its own."""
    with running('DocumentRoot "${SITE}"\n' + CONFIG, files=FILES, modules=MODULES) as server:
        yield server


class TestOrder:
    def test_all_phases(self, server: Server) -> None:
        body = server.get("/all/page.txt").text
        assert body == "headerparser access authen authz type fixup content".replace(
            "headerparser", "init headerparser"
        )
        found = server.wait_for_log(r"cleanup of /all/page.txt after: ([\w ]+)")
        assert found.group(1).endswith("content log")

    def test_row_3_20_init_handler_in_a_directory(self, server: Server) -> None:
        assert server.get("/init/page.txt").text == "init content"

    def test_row_3_11_stacks(self, server: Server) -> None:
        body = server.get("/authen/page.txt").text
        first, _, rest = body.partition(" authz")
        assert first == "authen1 authen"
        assert rest.replace("authz", "").split() == ["declined", "ok", "third", "content"]
        server.wait_for_log("cleanup of /authen/page.txt")

    def test_run_all_phase_goes_on_after_ok_and_declined(self, server: Server) -> None:
        assert server.get("/stack/page.txt").text == "declined ok third content"

    def test_error_status_stops_the_phase_but_not_logging(self, server: Server) -> None:
        assert server.get("/stop/page.txt").status == 403
        found = server.wait_for_log(r"cleanup of /stop/page.txt after: ([\w ]+)")
        assert found.group(1) == "ok forbidden log"

    def test_row_3_10_server_return_ok_goes_on(self, server: Server) -> None:
        assert server.get("/return/page.txt").text == "first second"

    def test_row_3_22_declined_content(self, server: Server) -> None:
        assert server.get("/one/page.txt").text == "served by httpd\n"

    def test_row_3_21_missing_functions_of_a_handler_module(self) -> None:
        module = (
            "from mod_python import apache\ndef fixuphandler(req):\n    req.headers_out['X-Fix'] = '1'\n    return 0\n"
        )
        config = 'DocumentRoot "${SITE}"\nPythonHandlerModule some\nPythonPath "[\'${SITE}\']+sys.path"'
        with running(config, files={"some.py": module, "page.txt": "static"}) as server:
            reply = server.get("/page.txt")
            assert (reply.status, reply.text, reply.headers["X-Fix"]) == (200, "static", "1")

    @pytest.mark.parametrize("later", ["assignment", "change", "__getattr__"])
    def test_row_3_21_a_function_that_comes_later(self, later: str) -> None:
        """That it was missing once is forgotten when the module gets one, in whichever way."""
        function = "def fixuphandler(req):\n    req.headers_out['X-Fix'] = '1'\n    return 0\n"
        module = f"""
from mod_python import apache

def added(req):
    req.headers_out['X-Fix'] = '1'
    return 0

def accesshandler(req):
    if req.args == "add":
        globals()["fixuphandler"] = added
    return 0

def __getattr__(name):
    if name == "fixuphandler" and {later == "__getattr__"}:
        return added
    raise AttributeError(name)
"""
        if later != "__getattr__":
            module = module.partition("def __getattr__")[0]
        config = 'DocumentRoot "${SITE}"\n<Directory "${SITE}">\nPythonHandlerModule ${SITE}/some.py\n</Directory>'
        with running(config, files={"some.py": module, "page.txt": "static"}, processes=1) as server:
            if later != "__getattr__":
                for _ in range(3):
                    assert server.get("/page.txt").headers["X-Fix"] is None
            if later == "assignment":
                server.get("/page.txt?add")
            elif later == "change":
                server.write_file("some.py", module + function)
            server.wait_until(lambda: server.get("/page.txt").headers["X-Fix"] == "1", what="the new function")


class TestEarly:
    def test_row_3_14_page_from_post_read_request(self, server: Server) -> None:
        reply = server.get("/early")
        assert (reply.status, reply.text) == (200, "early None")

    def test_row_4_4_done_in_fixup(self, server: Server) -> None:
        reply = server.get("/done/page.txt")
        assert (reply.status, reply.text) == (200, "the whole page")

    def test_row_3_15_trans_handler_maps(self) -> None:
        handler = """
from mod_python import apache
def transhandler(req):
    if req.uri != "/virtual":
        return apache.DECLINED
    req.filename = apache.main_server.get_options()["root"] + "/real.txt"
    return apache.OK
"""
        config = """
DocumentRoot "${SITE}"
PythonOption root "${SITE}"
PythonPath "['${SITE}']+sys.path"
PythonTransHandler mapper
Alias /alias "${SITE}/real.txt"
<Directory "${SITE}">
    Require all granted
</Directory>
"""
        files = {"mapper.py": handler, "real.txt": "the real file\n"}
        with running(config, files=files, modules=["mod_alias"]) as server:
            assert server.get("/virtual").text == "the real file\n"
            assert server.get("/alias").text == "the real file\n"
            assert server.get("/real.txt").text == "the real file\n"
            assert server.get("/none").status == 404

    def test_init_handler_at_server_level_runs_once_and_early(self) -> None:
        handler = """
from mod_python import apache
def inithandler(req):
    req.count = getattr(req, "count", 0) + 1
    req.first = (req.phase, req.filename)
    return apache.OK
def postreadrequesthandler(req):
    req.log_error("post %s" % req.count, apache.APLOG_NOTICE)
    return apache.OK
def handler(req):
    req.write("%s %s" % (req.count, req.first), 0)
    return apache.OK
"""
        config = """
DocumentRoot "${SITE}"
PythonPath "['${SITE}']+sys.path"
PythonInitHandler early
PythonPostReadRequestHandler early
SetHandler mod_python
PythonHandler early
"""
        with running(config, files={"early.py": handler}) as server:
            assert server.get("/x").text == "1 ('PythonInitHandler', None)"
            server.wait_for_log("post 1")

    def test_init_handler_refuses(self) -> None:
        handler = """
from mod_python import apache
def inithandler(req):
    return apache.HTTP_FORBIDDEN if req.uri == "/no" else apache.OK
def postreadrequesthandler(req):
    assert req.uri != "/no"
    return apache.OK
"""
        config = """
DocumentRoot "${SITE}"
PythonPath "['${SITE}']+sys.path"
PythonInitHandler early
PythonPostReadRequestHandler early
"""
        with running(config, files={"early.py": handler, "yes": "yes"}) as server:
            assert server.get("/no").status == 403
            assert server.get("/yes").text == "yes"


class TestAuthentication:
    def test_row_3_12_own_type_is_let_through(self, server: Server) -> None:
        assert server.get("/authen/page.txt").status == 200

    def test_ok_without_user_is_500(self, server: Server) -> None:
        assert server.get("/nouser/page.txt").status == 500
        server.wait_for_log("returned OK without setting req.user")

    def test_401_asks_for_a_password(self, server: Server) -> None:
        reply = server.get("/401/page.txt")
        assert reply.status == 401
        assert reply.headers["WWW-Authenticate"] == 'Basic realm="a realm"'


class TestAdded:
    @pytest.mark.parametrize("where", ["addfix", "addaccess"])
    def test_row_3_4_content_handler_from_an_earlier_phase(self, server: Server, where: str) -> None:
        phase = {"addfix": "PythonFixupHandler", "addaccess": "PythonAccessHandler"}[where]
        site = server.site
        assert server.get(f"/{where}/page.txt").text == (
            f"added: set in {phase}; phases::added_text in {site}/{where}/ by phases::add_content"
        )

    def test_row_3_1_same_phase(self, server: Server) -> None:
        assert server.get("/call/add_same").text == "first then added"

    def test_row_3_2_missing_function(self, server: Server) -> None:
        server.allow("contains no 'no_such'")
        assert server.get("/call/add_missing").status == 500
        server.wait_for_log("contains no 'no_such'")

    def test_row_3_3_empty(self, server: Server) -> None:
        server.allow("names no module")
        assert server.get("/call/add_empty").status == 500

    def test_row_3_5_directory(self, server: Server) -> None:
        assert server.get("/call/add_dir").text == f"{server.site}/sub/".replace("/site/../site", "/site")

    def test_row_3_6_callables(self, server: Server) -> None:
        assert server.get("/call/add_callable").text == "abc"

    def test_errors(self, server: Server) -> None:
        assert server.get("/call/add_errors").text == "IndexError IndexError TypeError IndexError IndexError"

    def test_later_phase_runs_and_past_phase_does_not(self, server: Server) -> None:
        assert server.get("/call/add_log").text == "ok"
        server.wait_for_log("logged late /call/add_log")


class TestEnd:
    def test_row_6_34_cleanups_and_cleanup_handlers(self, server: Server) -> None:
        server.allow("a clean-up fails")
        server.allow("in a cleanup handler")
        assert server.get("/cleanup/page.txt").text == "ValueError"
        server.wait_for_log("registered at the end")
        server.wait_for_log("write refused in PythonCleanupHandler")
        log = server.error_log
        order = ["data None", "a clean-up fails", "first, last: kept", "cleanup one kept", "cleanup two"]
        order.append("registered at the end")
        places = [log.index(text) for text in order]
        assert places == sorted(places)
        assert "write refused in PythonLogHandler" in log

    def test_cleanup_handler_without_other_python(self, server: Server) -> None:
        assert server.get("/nocontent/page.txt").text == "no content handler\n"
        server.wait_for_log("cleanup of /nocontent/page.txt after: None")

    def test_cleanup_handler_of_a_request_that_fails_early(self, server: Server) -> None:
        assert server.get("/nocontent/missing.txt").status == 404
        server.wait_for_log("cleanup of /nocontent/missing.txt after: None")


class TestLocation:
    def test_content_in_a_location_has_no_file(self, server: Server) -> None:
        assert server.get("/loc/a/b.txt").text == "None None 1 /loc /loc"

    def test_other_phases_do_not_change_the_mapping(self, server: Server) -> None:
        assert server.get("/guarded/page.txt").text == "a guarded page\n"
        assert server.get("/alias/page.txt").text == "a static page\n"
