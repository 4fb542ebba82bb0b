"""The publisher, row by row."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from mod_python.testing import Server
from tests.publisher_site import basic, post, site

TESTS = '''
import sys
import time
from mod_python import apache

_secret = "one underscore"
__very_secret = "two underscores"
upper = "text".upper
table = {"a": 1}
loaded = time.time_ns()


class Page:
    """Not published itself."""

    def __init__(self, text, **children):
        self.text = text
        self.__dict__.update(children)

    def __call__(self, req):
        return self.text + " of " + req.uri

    def method(self, req):
        return self.text + " method of " + req.uri

    def locked(self, req):
        def __auth__(req, user, password):
            req.checked = [("auth", user, password, apache.interpreter)]
            return True

        def __access__(req, user):
            req.checked.append(("access", user, len(known)))
            return user in known

        return repr(req.checked) + self.text


root = Page("root", page1=Page("page1", subpage1=Page("subpage1")), page2=Page("page2"))


def index(req):
    return "index of tests"


def name(req):
    return "name of tests"


known = ["ann"]


def nested(req):
    def __auth__(req, user, password):
        req.checked = [("auth", user, password, apache.interpreter)]
        return True

    def __access__(req, user):
        req.checked.append(("access", user, len(known)))
        return user in known

    return repr(req.checked)


def free(req):
    return "free"


class Plain:
    pass


def plain1(req):
    return "plain1 " + req.method


plain = Plain()
plain.one = plain1
plain.two = lambda req: "two " + req.method


def a_list(req):
    return ["a", "b"]


def a_view(req):
    return {"a": 1}.keys()


def a_generator(req):
    return (number for number in range(3))


def form(req, name, city="nowhere", missing=None):
    return f"{name} of {city} {missing} {sorted(req.form.keys())}"


def interpreter(req):
    return f"{req.interpreter}|{apache.interpreter}"


changed = 1
'''

INDEX = """
def index(req):
    return "index of index"


def foobar(req):
    return "foobar of index"
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with site({"tests.py": TESTS, "index.py": INDEX}) as server:
        yield server


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/tests.py", "index of tests"),
        ("/tests.py/", "index of tests"),
        ("/tests.py/index", "index of tests"),
        ("/tests.py/name", "name of tests"),
        ("/tests.py/name/", "name of tests"),
    ],
)
def test_row_13_1_module_with_extension(server: Server, path: str, text: str) -> None:
    response = server.get(path)
    assert (response.status, response.text) == (200, text)
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["Content-Length"] == str(len(text))


@pytest.mark.parametrize(("path", "text"), [("/tests", "index of tests"), ("/tests/name", "name of tests")])
def test_row_13_2_module_without_extension(server: Server, path: str, text: str) -> None:
    assert server.get(path).text == text


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/", "index of index"),
        ("/index", "index of index"),
        ("/index.py", "index of index"),
        ("/index/index", "index of index"),
        ("/foobar", "foobar of index"),
        ("/foobar/", "foobar of index"),
        ("/index.foobar", "403"),  # an attribute of a function
        ("/index/foobar", "foobar of index"),
        ("/nothing", "404"),
    ],
)
def test_row_13_3_index(server: Server, path: str, text: str) -> None:
    response = server.get(path)
    assert (response.text if response.status == 200 else str(response.status)) == text


@pytest.mark.parametrize(("path", "more"), [("nested", ""), ("root/locked", "root"), ("root/page1/locked", "page1")])
def test_row_13_4_nested_checks(server: Server, path: str, more: str) -> None:
    response = server.get(f"/tests/{path}")
    assert response.status == 401
    assert response.headers["WWW-Authenticate"] == 'Basic realm="unknown"'
    response = server.get(f"/tests/{path}", basic("ann", "päss:word"))
    expected = [("auth", "ann", "päss:word", "main_interpreter"), ("access", "ann", 1)]
    assert (response.status, response.text) == (200, repr(expected) + more)
    assert server.get(f"/tests/{path}", basic("bob", "x")).status == 403


def test_row_13_5_digest_header_without_checks(server: Server) -> None:
    digest = {"Authorization": 'Digest username="ann", realm="r", nonce="n", uri="/", response="0"'}
    assert server.get("/tests/free", digest).text == "free"


@pytest.mark.parametrize(
    "path",
    [
        "_secret",
        "__very_secret",
        "__name__",
        "apache",
        "sys",
        "Page",
        "Plain",
        "free/func_code",
        "free/__code__",
        "name/anything",
        "root/method/anything",
        "root/page1/method/im_func",
        "table/keys",
        "upper",
        "root/_Page",
        "root/__class__",
        "root/text/upper",
    ],
)
def test_row_13_6_forbidden(server: Server, path: str) -> None:
    assert server.get(f"/tests/{path}").status == 403
    if "__" not in path:
        server.wait_for_log(rf"mod_python\.publisher: '{path.replace('/', '.')}' in \S+/tests\.py: ")


def test_row_13_7_callable_instance(server: Server) -> None:
    assert server.get("/tests/root").text == "root of /tests/root"
    assert server.get("/tests/root/method").text == "root method of /tests/root/method"


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("root/page1", "page1 of /tests/root/page1"),
        ("root/page1/subpage1", "subpage1 of /tests/root/page1/subpage1"),
        ("root.page1.subpage1", "subpage1 of /tests/root.page1.subpage1"),
        ("root/page2/", "page2 of /tests/root/page2/"),
        ("root/page1/text", "page1"),
        ("plain/one", "plain1 GET"),
        ("plain/two", "two GET"),
    ],
)
def test_row_13_8_objects_within_objects(server: Server, path: str, text: str) -> None:
    assert server.get(f"/tests/{path}").text == text


@pytest.mark.parametrize(
    ("path", "text"),
    [("a_list", "['a', 'b']"), ("a_view", "dict_keys(['a'])"), ("a_generator", "<generator object a_generator.")],
)
def test_row_13_9_results_are_not_expanded(server: Server, path: str, text: str) -> None:
    assert server.get(f"/tests/{path}").text.startswith(text)


def test_row_13_10_reload() -> None:
    with site({"tests.py": TESTS}, processes=1) as server:
        reload_twice(server)


def reload_twice(server: Server) -> None:
    first = server.get("/tests/loaded").text
    assert server.get("/tests/loaded").text == first
    file = server.site / "htdocs" / "tests.py"
    file.write_text(TESTS.replace("changed = 1", "changed = 2"))
    # Files are looked at once per second.
    server.wait_until(lambda: server.get("/tests/changed").text == "2", 30, "the reload")
    assert server.get("/tests/loaded").text != first
    # A different time is enough, an older one too.
    second = server.get("/tests/loaded").text
    os.utime(file, (1, 1))
    server.wait_until(lambda: server.get("/tests/loaded").text != second, 30, "the second reload")


def test_row_13_11_interpreter() -> None:
    with site({"tests.py": TESTS}, flags={"PythonInterpreter": None}) as server:
        assert server.get("/tests/interpreter").text == "publisher.example|publisher.example"


@pytest.mark.parametrize("name", ["Zoë", "a&b=c;d+e%", "", "x" * 10000])
def test_row_13_12_post(server: Server, name: str) -> None:
    response = post(server, "/tests/form?city=Oslo&unknown=1", f"name={quote(name)}&other=".encode())
    assert (response.status, response.text) == (200, f"{name} of Oslo None ['city', 'name', 'other', 'unknown']")
