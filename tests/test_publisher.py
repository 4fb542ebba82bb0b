"""The publisher beyond the rows: methods, content types, checks, marks, what is refused."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.publisher_site import basic, post, site

PAGES = '''
import asyncio
import functools
import logging
import os
import pathlib
from os import environ
from subprocess import run
from urllib.parse import quote
from mod_python import util
from mod_python.publisher import publish
from mod_python.util import redirect

log = logging.getLogger("x")
base = pathlib.Path("/srv")
number = 42
nothing = None
text = "some text"
data = b"\\x00\\xff"
page = "<html><body>ü</body></HTML>\\n \\n"


def index(req):
    return "index"


def html(req):
    return page


def html_bytes(req):
    return page.encode()


def raw(req):
    return data


def late_html(req):
    return "</html>" + "x" * 120


def no_such(req, name):
    return "We have no " + name


def no_such_bytes(req, name):
    return b"We have no " + name.encode()


def marked_html(req):
    return "\\ufeff" + page


def marked_html_bytes(req):
    return b"\\xef\\xbb\\xbf\\n" + page.encode()


def latin1(req):
    req.content_type = "text/plain; charset=ISO-8859-1"
    return "ü"


def latin1_no_euro(req):
    req.content_type = 'text/plain; charset="ISO-8859-1"'
    return "marker-euro \\u20ac"


def unnamed_charset(req):
    req.content_type = "text/x-thing"
    return "ü"


def own_type_bytes(req):
    req.content_type = "application/octet-stream"
    return b"bytes"


def surrogates(req, s):
    return s


def writes(req):
    req.content_type = "text/plain"
    req.write("written", 0)


def writes_and_returns(req):
    req.content_type = "text/plain; charset=utf-8"
    req.write("written ")
    return "returned"


def silent(req):
    pass


def moved(req):
    util.redirect(req, "/elsewhere")


def inner(req):
    req.internal_redirect("/pages/text")


def keywords(req, *, kind="none", **more):
    return f"{kind} {more}"


def no_request(name="nobody"):
    return name


def several(req, x):
    return repr(x)


def needs(req, name):
    return name


def fails(req):
    raise ValueError("marker-fails <b>")


async def later(req):
    return "later"


def form_kept(req):
    first = req.form
    return str(first is req.form) + str(first.getlist("x"))


def upload(req, f):
    return f"{f.filename} {f.file.read()!r}"


def same(req):
    import helper
    entry = __mp_info__.entry
    entry.stamp, entry.checked = None, 0.0  # as if the file had changed
    return str(helper.names_of("./pages.py") is globals())


class Chain:
    def __init__(self, left):
        self.left = left

    def __call__(self, req):
        return Chain(self.left - 1) if self.left else "end of chain"


chain = Chain(5)
endless = lambda req: endless
gives_module = lambda req: os
partial = functools.partial(lambda req, word: word, word="partial")
filename = lambda req: req.filename


@functools.lru_cache
def cached(name="x"):
    return f"cached {name}"


class Odd:
    """Has every attribute."""

    def __getattr__(self, name):
        if name.startswith("__a"):
            raise AttributeError(name)
        return "made up"

    def __str__(self):
        return "an odd one"


odd = Odd()
odd.in_turn = lambda req: Odd()


class Broken:
    @property
    def page(self):
        raise AttributeError("marker")


broken = Broken()


class MyDict(dict):
    def page(self, req):
        return "a dictionary's page"


mine = MyDict()
'''

LOCKED = """
import functools
from mod_python.publisher import publish

users = {"ann": "secret", "bob": b"bytes", "eve": None}


def decorated(function):
    @functools.wraps(function)
    def wrapper(req):
        return "wrapped " + function(req)
    return wrapper


@decorated
def under_decorator(req):
    def __auth__(req, user, password):
        return password == "x"
    return "under decorator"


partial = functools.partial(lambda req, more: more, more=1)


def attribute(req):
    return "attribute " + req.user

attribute.__auth__ = users
attribute.__access__ = ["ann"]
attribute.__auth_realm__ = 'A "quoted" \\\\ ü'


@publish(auth=lambda req, user, password: password == user, access=("ann", "bob"), realm="Club")
def by_decorator(req):
    return "by decorator"


behind_partial = functools.partial(by_decorator)
behind_two = functools.partial(decorated(functools.partial(by_decorator)))


def constant(req):
    __auth__ = 1
    __access__ = ("ann",)
    __auth_realm__ = "Constant"
    return "constant"


def denied(req):
    __access__ = 0
    return "denied"


def open_access(req):
    __access__ = 1
    return "open"


def listed(req):
    __access__ = ("ann",)
    return "listed"


def unclear(req):
    __auth__ = users
    return "unclear"


def asynchronous(req):
    return "asynchronous"

async def check(*args):
    return False

asynchronous.__auth__ = check


def is_text(req):
    return "text"

is_text.__access__ = "ann"


def is_list(req):
    return "list"

is_list.__auth__ = ["ann"]


class Page:
    __auth_realm__ = "Page"

    def __auth__(self, req, user, password):
        return password == "page"

    def __call__(self, req):
        def __access__(req, user):
            return user == "ann"
        return "page called"

    def open(self, req):
        return "open page"


page = Page()
gives_page = lambda req: page
object_behind_partial = functools.partial(page)


class Holder:
    @publish(auth=users)
    def method(self, req):
        return "method"

method_behind_partial = functools.partial(Holder().method)


@publish(auth=lambda req, user, password: password == "class")
class Marked:
    def one(self, req):
        return "one"


marked = Marked()


class Checker:
    def __eq__(self, other):
        return other == "hashed"

users_with_objects = lambda req: "object"
users_with_objects.__auth__ = {"ann": Checker()}
"""

AREA = """
__auth_realm__ = "Area"

def __auth__(req, user, password):
    return password == "area"

def index(req):
    return "area " + req.user

def inside(req):
    def __auth__(req, user, password):
        return user == "ann"
    return "inside"
"""

MARKED = """
from mod_python.publisher import publish
import subprocess

secret = "text"
words = ["a"]

@publish
def index(req):
    return "marked index"

def plain(req):
    return "plain"

class Tree:
    def __init__(self):
        self.value = 1

    @publish
    def leaf(self, req):
        return "leaf"

    def hidden(self, req):
        return "hidden"

    @publish
    @staticmethod
    def fixed(req):
        return "fixed"

tree = publish(Tree())
other = Tree()
"""

DEBUG = """
import beside

def silent(req):
    pass

def fails(req, name):
    return beside.fail(name)

def inner(req):
    req.internal_redirect("/pages/text")
"""

FILES = {
    "pages.py": PAGES,
    "locked.py": LOCKED,
    "helper.py": "from mod_python import apache\ndef names_of(path):\n    return vars(apache.import_module(path))\n",
    "area.py": AREA,
    "marked/index.py": MARKED,
    "debug/index.py": DEBUG,
    "debug/beside.py": "def fail(name):\n    raise KeyError('marker-beside ' + name)\n",
    "sub/pages.py": "def index(req):\n    return 'other pages'\n",
    "sub/_private.py": "def index(req):\n    return 'private'\n",
    "sub/index.py": "def a(req):\n    return 'a of index'\ndef b(req):\n    return 'b of index'\n",
    "sub/a.py": "def index(req):\n    return 'index of a'\n",
    "ext/index.py": "def page(req):\n    return 'page ' + str(req.extension)\n",
}

CONFIG = """
AddHandler mod_python .added
<Directory ${SITE}/htdocs/wrong>
    PythonOption mod_python.publisher.marked_only maybe
</Directory>
<Location /located>
    SetHandler mod_python
    PythonHandler mod_python.publisher
</Location>
<Directory ${SITE}/htdocs/ext>
    PythonHandler mod_python.publisher | .special
</Directory>
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    files = {**FILES, "wrong/index.py": "def index(req):\n    return 'x'\n", "located/index.py": FILES["sub/index.py"]}
    with site(files, CONFIG) as server:
        yield server


# ---- methods


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PROPFIND", "BREW"])
def test_other_methods(server: Server, method: str) -> None:
    response = server.request(method, "/pages/text")
    assert response.status == 405
    assert set(response.headers["Allow"].replace(" ", "").split(",")) >= {"GET", "HEAD", "POST"}


def test_head(server: Server) -> None:
    response = server.request("HEAD", "/pages/text")
    assert (response.status, response.body) == (200, b"")
    assert response.headers["Content-Length"] == "9"
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


# ---- what is sent


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("text", "text/plain; charset=utf-8", b"some text"),
        ("number", "text/plain; charset=utf-8", b"42"),
        ("page", "text/html; charset=utf-8", "<html><body>ü</body></HTML>\n \n".encode()),
        ("html", "text/html; charset=utf-8", "<html><body>ü</body></HTML>\n \n".encode()),
        ("html_bytes", "text/html", "<html><body>ü</body></HTML>\n \n".encode()),
        ("data", "text/plain", b"\x00\xff"),
        ("raw", "text/plain", b"\x00\xff"),
        ("late_html", "text/plain; charset=utf-8", b"</html>" + b"x" * 120),
        # What a client has sent makes no page of a text.
        ("no_such?name=%3Cp%3E%3C/html%3E", "text/plain; charset=utf-8", b"We have no <p></html>"),
        ("no_such_bytes?name=%3Cp%3E%3C/html%3E", "text/plain", b"We have no <p></html>"),
        ("marked_html", "text/html; charset=utf-8", "\ufeff<html><body>ü</body></HTML>\n \n".encode()),
        ("marked_html_bytes", "text/html", b"\xef\xbb\xbf\n" + "<html><body>ü</body></HTML>\n \n".encode()),
        ("latin1", "text/plain; charset=ISO-8859-1", b"\xfc"),
        ("unnamed_charset", "text/x-thing; charset=utf-8", "ü".encode()),
        ("own_type_bytes", "application/octet-stream", b"bytes"),
        ("surrogates?s=%ff%fe", "text/plain; charset=utf-8", b"??"),
        ("writes", "text/plain", b"written"),
        ("writes_and_returns", "text/plain; charset=utf-8", b"written returned"),
        ("base", "text/plain; charset=utf-8", b"/srv"),
        ("inner", "text/plain; charset=utf-8", b"some text"),
    ],
)
def test_content(server: Server, path: str, kind: str, body: bytes) -> None:
    response = server.get(f"/pages/{path}")
    assert (response.status, response.headers["Content-Type"], response.body) == (200, kind, body)


@pytest.mark.parametrize("path", ["nothing", "silent"])
def test_none(server: Server, path: str) -> None:
    before = server.error_log.count("nothing to publish")
    response = server.get(f"/pages/{path}")
    assert (response.status, response.body) == (200, b"")
    assert server.error_log.count("nothing to publish") == before


def test_none_with_debug_on(server: Server) -> None:
    assert server.get("/debug/silent").body == b""
    server.wait_for_log(r"nothing to publish: silent in \S+/debug/index\.py")
    assert server.get("/debug/inner").body == b"some text"
    assert "nothing to publish: inner" not in server.error_log


def test_text_that_the_charset_lacks(server: Server) -> None:
    server.allow("UnicodeEncodeError")
    assert server.get("/pages/latin1_no_euro").status == 500
    server.wait_for_log("UnicodeEncodeError")


def test_redirect(server: Server) -> None:
    response = server.get("/pages/moved")
    assert (response.status, response.headers["Location"]) == (302, "/elsewhere")


# ---- calling


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("keywords?kind=a&b=1&b=2", "a {'b': ['1', '2']}"),
        ("keywords?req=mine", "none {}"),
        ("no_request?name=ann&more=1", "ann"),
        ("several?x=1&x=2", "['1', '2']"),
        ("several?x=", "''"),
        ("chain", "end of chain"),
        ("partial", "partial"),
        ("cached?name=y", "cached y"),
        ("same", "True"),
        ("form_kept?x=1&x=2", "True['1', '2']"),
    ],
)
def test_arguments(server: Server, path: str, text: str) -> None:
    response = server.get(f"/pages/{path}")
    assert (response.status, response.text.replace("Field('x', '1'), Field('x', '2')", "'1', '2'")) == (200, text)


def test_upload(server: Server) -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.bin"\r\n\r\n\x00\r\n\xff\r\n--b--\r\n'
    response = post(server, "/pages/upload", body, "multipart/form-data; boundary=b")
    assert response.text == r"a.bin b'\x00\r\n\xff'"


@pytest.mark.parametrize(
    ("path", "marker"),
    [
        ("/pages/needs", "needs\\(\\) missing 1 required positional argument: 'name'"),
        ("/pages/later", "an 'async def' function cannot be published"),
        ("/pages/endless", "could be called 100 times in turn"),
        ("/wrong/", "marked_only must be On or Off, not 'maybe'"),
    ],
)
def test_errors(server: Server, path: str, marker: str) -> None:
    server.allow(marker)
    assert server.get(path).status == 500
    server.wait_for_log(marker)


def test_report_shows_the_published_code_only(server: Server) -> None:
    server.allow("marker-")
    assert server.get("/pages/fails").status == 500
    match = server.wait_for_log(r"Traceback[^\n]*\n([^\n]*\n){2,4}[^\n]*ValueError: marker-fails")
    assert "mod_python/publisher.py" not in match[0]
    assert "_forms" not in match[0]
    response = server.get("/debug/fails?name=n")
    assert response.status == 500
    assert "marker-beside n" in response.text
    for name in ("index.py", "beside.py"):
        assert f"{server.site}/htdocs/debug/{name}: loaded" in response.text


# ---- the way to an object


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/sub/pages", "other pages"),
        ("/pages", "index"),
        ("/sub/a", "index of a"),
        ("/sub/b", "b of index"),
        ("/sub/index/a", "a of index"),
        ("/located/b", "b of index"),
        ("/ext/page.special", "page .special"),
        ("/sub/b.added", "b of index"),
        ("/pages/odd/anything", "made up"),
        ("/pages/odd/in_turn", "an odd one"),
    ],
)
def test_found(server: Server, path: str, text: str) -> None:
    response = server.get(path)
    assert (response.status, response.text) == (200, text)


@pytest.mark.parametrize(
    "path",
    [
        "/pages/broken/page",
        "/pages/text.",
        "/pages/.text",
        "/pages/odd..x",
        "/none",
        "/sub/b.other",
        "/sub/.py",
        "/ext/",
    ],
)
def test_not_found(server: Server, path: str) -> None:
    expected = 403 if path == "/sub/b.other" else 404  # an attribute of a function
    assert server.get(path).status == expected


@pytest.mark.parametrize(
    "path",
    [
        "/pages/run",
        "/pages/quote",
        "/pages/redirect?location=/evil",
        "/pages/publish",
        "/pages/environ",
        "/pages/os",
        "/pages/log/info",
        "/pages/base/parent",
        "/pages/mine/page",
        "/pages/mine/keys",
        "/pages/number/real",
        "/pages/gives_module",
        "/sub/_private",
        "/sub/_private.py",
        "/sub/_private/index",
    ],
)
def test_refused(server: Server, path: str) -> None:
    assert server.get(path).status == 403


def test_filename_is_the_module(server: Server) -> None:
    assert server.get("/pages/filename").text == f"{server.site}/htdocs/pages.py"


def test_new_files_are_found(server: Server) -> None:
    assert server.get("/new").status == 404
    file = server.site / "htdocs" / "new.py"
    file.write_text("def index(req):\n    return 'new'\n")
    assert server.get("/new").text == "new"
    os.remove(file)
    server.wait_until(lambda: server.get("/new").status == 404, 30, "the route to be forgotten")


# ---- checks


def test_credentials(server: Server) -> None:
    path = "/locked/attribute"
    response = server.get(path)
    assert response.status == 401
    realm = response.headers["WWW-Authenticate"].encode("latin-1", "surrogateescape").decode()
    assert realm == r'Basic realm="A \"quoted\" \\ ü"'
    assert server.get(path, basic("ann", "secret")).text == "attribute ann"
    assert server.get(path, basic("ann", "secret", "bAsIc")).status == 200
    assert server.get(path, basic("ann", "wrong")).status == 401
    assert server.get(path, basic("bob", "bytes")).status == 403
    assert server.get(path, basic("eve", "")).status == 401
    assert server.get(path, basic("who", "who")).status == 401


@pytest.mark.parametrize("value", ["Basic", "Basic !!!", "Basic YW5u", "Basic YW5uOgA=", "Basic \xff"])
def test_credentials_that_cannot_be_read(server: Server, value: str) -> None:
    assert server.get("/locked/attribute", {"Authorization": value}).status == 400


def test_other_schemes_are_no_credentials(server: Server) -> None:
    assert server.get("/locked/attribute", {"Authorization": "Bearer x"}).status == 401


@pytest.mark.parametrize(
    ("path", "user", "password", "status"),
    [
        ("by_decorator", "ann", "ann", 200),
        ("by_decorator", "eve", "eve", 403),
        ("by_decorator", "ann", "bob", 401),
        ("behind_partial", "ann", "ann", 200),
        ("behind_partial", "eve", "eve", 403),
        ("behind_partial", "ann", "bob", 401),
        ("behind_two", "ann", "ann", 200),
        ("behind_two", "ann", "bob", 401),
        ("method_behind_partial", "ann", "secret", 200),
        ("method_behind_partial", "ann", "x", 401),
        ("object_behind_partial", "ann", "page", 200),
        ("object_behind_partial", "bob", "page", 403),
        ("object_behind_partial", "ann", "x", 401),
        ("constant", "ann", "anything", 200),
        ("constant", "bob", "anything", 403),
        ("denied", "ann", "", 403),
        ("open_access", "ann", "", 200),
        # Nobody has checked who it is.
        ("listed", "ann", "", 403),
        ("under_decorator", "ann", "x", 200),
        ("under_decorator", "ann", "y", 401),
        ("page", "ann", "page", 200),
        ("page", "bob", "page", 403),
        ("page", "ann", "x", 401),
        ("page/open", "bob", "page", 200),
        ("page/open", "bob", "x", 401),
        ("gives_page", "ann", "page", 200),
        ("gives_page", "bob", "page", 403),
        ("gives_page", "ann", "x", 401),
        ("marked/one", "ann", "class", 200),
        ("marked/one", "ann", "x", 401),
        ("users_with_objects", "ann", "hashed", 200),
        ("users_with_objects", "ann", "x", 401),
    ],
)
def test_checks(server: Server, path: str, user: str, password: str, status: int) -> None:
    assert server.get(f"/locked/{path}", basic(user, password)).status == status


@pytest.mark.parametrize(
    ("path", "marker"),
    [
        ("unclear", r"NestedError: \S+/locked\.py, line \d+, in unclear\(\): __auth__ cannot be evaluated"),
        ("asynchronous", "TypeError: __auth__ must be an ordinary function"),
        ("is_text", "TypeError: __access__ must be a function, a list of users"),
        ("is_list", "TypeError: __auth__ must be a function, a dictionary"),
    ],
)
def test_checks_that_cannot_be_made(server: Server, path: str, marker: str) -> None:
    server.allow(marker)
    response = server.get(f"/locked/{path}", basic("ann", "x"))
    assert response.status == 500
    assert path not in response.text
    server.wait_for_log(marker)


def test_checks_of_a_module(server: Server) -> None:
    response = server.get("/area")
    assert (response.status, response.headers["WWW-Authenticate"]) == (401, 'Basic realm="Area"')
    assert server.get("/area/nothing").status == 401
    assert server.get("/area", basic("bob", "area")).text == "area bob"
    response = server.get("/area/inside", basic("bob", "area"))
    assert (response.status, response.headers["WWW-Authenticate"]) == (401, 'Basic realm="Area"')
    assert server.get("/area/inside", basic("ann", "area")).text == "inside"
    assert server.get("/area/inside", basic("ann", "x")).status == 401


# ---- marks


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("", 200),
        ("index", 200),
        ("plain", 403),
        ("secret", 403),
        ("words", 403),
        ("publish", 403),
        ("subprocess", 403),
        ("tree/leaf", 200),
        ("tree/fixed", 200),
        ("tree/hidden", 403),
        ("tree/value", 403),
        ("other/leaf", 403),
        ("none", 404),
    ],
)
def test_marked_only(server: Server, path: str, status: int) -> None:
    assert server.get(f"/marked/{path}").status == status


# ---- other phases


PHASES = """
from mod_python import apache

def loghandler(req):
    x = req.form.get("x", None) if hasattr(req, "form") else ""
    req.log_error("logged: %s %s %s" % (req.uri, x, req.filename.rpartition("/")[2]), apache.APLOG_NOTICE)
    return apache.OK

def fixuphandler(req):
    if req.args == "marked":
        req.get_options()["mod_python.publisher.marked_only"] = "On"
    if req.args == "form":
        req.form = Form()
    return apache.OK

class Form:
    list = ()
"""


def test_other_phases_see_what_the_publisher_leaves() -> None:
    config = """
    <Directory ${SITE}/htdocs>
        PythonLogHandler ${SITE}/htdocs/phases.py
        PythonFixupHandler ${SITE}/htdocs/phases.py
    </Directory>
    """
    page = "def index(req):\n    return type(req.form).__name__\n"
    with site({"index.py": page, "phases.py": PHASES}, config) as server:
        for path in ("/", "/", "/index"):  # the second one goes the short way
            assert server.get(path).text == "FieldStorage"
        # Log handlers run after the response, those of different requests in any order.
        server.wait_for_log(r"logged: /index None index\.py")
        server.wait_until(lambda: len(re.findall(r"logged: / None index\.py", server.error_log)) == 2)
        assert server.get("/index?x=1").text == "FieldStorage"
        server.wait_for_log(r"logged: /index 1 index\.py")
        assert server.get("/?marked").status == 403


def test_a_form_that_is_there_is_used() -> None:
    config = "<Directory ${SITE}/htdocs>\n    PythonFixupHandler ${SITE}/htdocs/phases.py\n</Directory>"
    page = (
        "def index(req):\n    return 'x'\nindex = 'text'\ndef show(req, **more):\n    return type(req.form).__name__\n"
    )
    phases = PHASES.replace(
        "list = ()", "class list(list):\n        def table(self):\n            return {}\n    list = list()"
    )
    with site({"index.py": page, "phases.py": phases}, config) as server:
        assert server.get("/?form").text == "text"
        assert server.get("/show?form").text == "Form"


CHANGING = """
from mod_python.publisher import publish

def index(req):
    return "first"

def lock(req):
    globals()["__auth__"] = lambda req, user, password: password == "x"
    return "locked"

def lock_page(req):
    page.__access__ = False
    return "locked"

def page(req):
    return "page"

def swap(req):
    globals()["index"] = lambda req: "second"
    return "swapped"

def new_code(req):
    def inner(req):
        def __auth__(req, user, password):
            return False
        return "never"
    index.__code__ = inner.__code__
    return "exchanged"

@publish
def marked(req):
    return "marked"

marked_and_more = publish(lambda req: "marked and more")
marked_and_more.more = 1
"""


def test_what_a_program_changes_counts_at_once() -> None:
    with site({"index.py": CHANGING}, processes=1) as server:
        for _ in range(3):
            assert server.get("/").text == "first"
            assert server.get("/page").text == "page"
        assert server.get("/lock_page").text == "locked"
        assert server.get("/page").status == 403
        server.get("/swap")
        assert server.get("/").text == "second"
        server.get("/new_code")
        assert server.get("/").status == 401
        server.get("/lock")
        assert server.get("/marked").status == 401
        assert server.get("/marked", basic("u", "x")).text == "marked"


def test_marks_the_second_time() -> None:
    """What was published a moment ago is looked at less closely, but closely enough."""
    config = """
    <Location /strict>
        PythonOption mod_python.publisher.marked_only On
    </Location>
    Alias /strict ${SITE}/htdocs
    """
    with site({"index.py": CHANGING}, config, processes=1, modules=["mod_alias"]) as server:
        for _ in range(3):
            for path in ("index", "page", "marked", "marked_and_more"):
                assert server.get(f"/{path}").status == 200
                assert server.get(f"/strict/{path}").status == (200 if "marked" in path else 403)


def test_requests_leave_nothing_behind() -> None:
    """The object of a request that nobody looks at again goes at once; others with the request."""
    page = """
import gc
kept = []

def count(req):
    return str(len([o for o in gc.get_objects() if type(o).__name__ in ("FieldStorage", "mp_request")]))
"""
    with site({"index.py": page}, processes=1) as server:
        first = server.get("/count").text
        for _ in range(5):
            server.get("/count?x=1")
        # The end of a request may come after its answer.
        server.wait_until(lambda: server.get("/count").text == first, 30, "the objects to go")
