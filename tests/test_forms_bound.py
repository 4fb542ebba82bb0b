"""Arguments that the author of a page has bound: no field of a form replaces them."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mod_python import util
from mod_python._forms.bound import bindings
from mod_python.testing import Server
from tests.form_requests import FormRequest
from tests.servers import running

# Each way is a text that makes a callable of `gated`, with what BOUND stands for bound in it: `admin=False`, or
# `False` for its first parameter. It is exec'd here, and served by the publisher as it stands.
HEAD = """
import functools
import types

def gated(admin=None, name="none"):
    return f"{admin} {name}"

def greedy(admin=None, **more):
    return f"{admin} {more.get('name', 'none')}"

def decorated(function):
    @functools.wraps(function)
    def wrapper(*args, **kw):
        return function(*args, **kw)
    return wrapper

class Base:
    def method(self, admin=None, name="none"):
        return f"{admin} {name}"

class Called(Base):
    __call__ = Base.method

class Made:
    def __init__(self, admin=None, name="none"):
        self.text = f"{admin} {name}"
    def __str__(self):
        return self.text

class Partial(functools.partial):
    pass
"""
WAYS = {
    "partial": "page = functools.partial(gated, BOUND)",
    "partial of a partial": "page = functools.partial(functools.partial(gated, BOUND))",
    "partial of greedy": "page = functools.partial(greedy, BOUND)",
    "partial subclass": "page = Partial(gated, BOUND)",
    "update_wrapper": "page = functools.update_wrapper(functools.partial(gated, BOUND), gated)",
    "update_wrapper of greedy": "page = functools.update_wrapper(functools.partial(greedy, BOUND), greedy)",
    "partial of a decorated one": "page = functools.partial(decorated(gated), BOUND)",
    "decorated partial": "page = decorated(functools.partial(gated, BOUND))",
    "decorated partial of greedy": "page = decorated(functools.partial(greedy, BOUND))",
    "decorated twice": "page = decorated(decorated(functools.partial(gated, BOUND)))",
    "decorated update_wrapper": "page = decorated(functools.update_wrapper(functools.partial(gated, BOUND), gated))",
    "cached partial": "page = functools.lru_cache(functools.partial(gated, BOUND))",
    "partial of a method": "page = functools.partial(Base().method, BOUND)",
    "partial of an object": "page = functools.partial(Called(), BOUND)",
    "partial of a class": "page = functools.partial(Made, BOUND)",
    "partialmethod": """
class Pages(Base):
    page = functools.partialmethod(Base.method, BOUND)
page = Pages().page
""",
    "partialmethod of a partialmethod": """
class Pages(Base):
    inner = functools.partialmethod(Base.method, BOUND)
    page = functools.partialmethod(inner)
page = Pages().page
""",
    "partialmethod of a decorated one": """
class Pages(Base):
    page = functools.partialmethod(decorated(Base.method), BOUND)
page = Pages().page
""",
    "decorated partialmethod": """
class Pages(Base):
    page = functools.partialmethod(Base.method, BOUND)
page = decorated(Pages().page)
""",
    "partialmethod of a static method": """
class Pages(Base):
    page = functools.partialmethod(staticmethod(gated), BOUND)
page = Pages().page
""",
    "partialmethod of a class method": """
class Pages(Base):
    def method_of_class(cls, admin=None, name="none"):
        return f"{admin} {name}"
    page = functools.partialmethod(classmethod(method_of_class), BOUND)
page = Pages().page
""",
    "static method": """
class Pages:
    page = staticmethod(functools.partial(gated, BOUND))
page = Pages().page
""",
    "called by a partialmethod": """
class Pages(Base):
    __call__ = functools.partialmethod(Base.method, BOUND)
page = Pages()
""",
    "inherited call by a partialmethod": """
class Above(Base):
    __call__ = functools.partialmethod(Base.method, BOUND)
class Pages(Above):
    pass
page = Pages()
""",
    "made by a partialmethod": """
class Pages(Made):
    __init__ = functools.partialmethod(Made.__init__, BOUND)
def page(**fields):
    raise NotImplementedError
page = Pages
""",
    "partial of what is called by a partialmethod": """
class Pages(Base):
    __call__ = functools.partialmethod(Base.method, BOUND)
page = functools.partial(Pages())
""",
    "method type": """
def owned(self, admin=None, name="none"):
    return f"{admin} {name}"
page = types.MethodType(functools.partialmethod(owned, BOUND).__get__(None, object), object())
""",
}
BINDINGS = {"keyword": "admin=False", "position": "False"}
# What a client may try, and what the page is to show.
FIELDS = {
    "name=Ada": "False Ada",
    "admin=1": "False none",
    "admin=1&name=Ada": "False Ada",
    "admin=1&admin=2": "False none",
    "": "False none",
    "self=1&cls_or_self=2&args=3&keywords=4&func=5": "False none",
}


def form(args: str) -> util.FieldStorage:
    return util.FieldStorage(FormRequest(args))


def made(way: str, binding: str) -> Callable[..., object]:
    names: dict[str, Any] = {"__name__": "page"}
    exec(HEAD + WAYS[way].replace("BOUND", BINDINGS[binding]), names)
    found: Callable[..., object] = names["page"]
    return found


@pytest.mark.parametrize("fields", FIELDS)
@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("way", WAYS)
def test_a_field_replaces_no_bound_argument(way: str, binding: str, fields: str) -> None:
    page = made(way, binding)
    for _ in range(2):  # what is known of a callable is kept
        assert str(util.apply_fs_data(page, form(fields), req="left out")) == FIELDS[fields]


def test_the_caller_may() -> None:
    """Its arguments are the program's own."""
    page = made("partial", "keyword")
    assert util.apply_fs_data(page, form("name=Ada"), admin=True) == "True Ada"


def test_a_signature_that_is_declared_hides_no_binding() -> None:
    page: Any = functools.partial(lambda admin=None, name="none": f"{admin} {name}", admin=False)
    page.__signature__ = inspect.Signature(
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ("admin", "name")]
    )
    assert util.apply_fs_data(page, form("admin=1&name=Ada")) == "False Ada"


def test_a_chain_that_is_circular_ends() -> None:
    def page(**more: Any) -> object:
        return sorted(more)

    page.__wrapped__ = types.MethodType(page, object())  # type: ignore[attr-defined]
    assert bindings(page) == (set(), set())


# Those that the publisher publishes: others have names of the library, or are classes.
SERVED = [way for way in WAYS if way not in ("made by a partialmethod",)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    files: dict[str, str | bytes] = {}
    for index, way in enumerate(SERVED):
        for binding, text in BINDINGS.items():
            source = HEAD + WAYS[way].replace("BOUND", text)
            files[f"docs/{binding}{index}.py"] = source
    config = """
DocumentRoot ${SITE}/docs
<Directory ${SITE}/docs>
    SetHandler mod_python
    PythonHandler mod_python.publisher
</Directory>
"""
    with running(config, files=files) as server:
        yield server


@pytest.mark.parametrize("binding", BINDINGS)
@pytest.mark.parametrize("way", SERVED)
def test_published(server: Server, way: str, binding: str) -> None:
    for method, data in (("GET", None), ("POST", b"admin=1&name=Ada")):
        path = f"/{binding}{SERVED.index(way)}/page" + ("?admin=1&name=Ada" if method == "GET" else "")
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if data else {}
        response = server.request(method, path, data, headers)
        assert response.status in (200, 403)  # 403: the publisher takes it for a part of the library
        if response.status == 200:
            assert response.text == "False Ada"
