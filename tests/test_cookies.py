"""Cookies: parsing, writing, signing."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from typing import Any

import pytest

from mod_python import Cookie, _values, apache
from mod_python.testing import Server
from tests.session_site import site

SECRET = "s3cr3t"


class FakeRequest:
    """What cookies need of a request."""

    def __init__(self, *headers: str) -> None:
        self.headers_in = apache.table()
        self.headers_out = apache.table()
        for header in headers:
            self.headers_in.add("Cookie", header)


# In the manner of the cases of the IETF's http-state working group: header -> cookies.
CASES = [
    ("foo=bar", {"foo": "bar"}),
    ("foo=", {"foo": ""}),
    ("foo", {"foo": ""}),
    ("", {}),
    (";", {}),
    ("  ;; ; ", {}),
    ("=bar", {}),
    ("=", {}),
    ("foo=bar; baz=qux", {"foo": "bar", "baz": "qux"}),
    ("foo=bar;baz=qux", {"foo": "bar", "baz": "qux"}),
    ("foo=bar;;;baz=qux;", {"foo": "bar", "baz": "qux"}),
    ("  foo=bar", {"foo": "bar"}),
    ("\tfoo\t=\tbar", {"foo": "bar"}),
    ("foo = bar", {"foo": "bar"}),
    ("foo=bar  ; baz=qux", {"foo": "bar  ", "baz": "qux"}),
    ("foo=bar baz; a=b", {"foo": "bar baz", "a": "b"}),
    ("a=b=c", {"a": "b=c"}),
    ("a==b", {"a": "=b"}),
    ("a=b==", {"a": "b=="}),
    ("foo bar=1", {"foo": "", "bar": "1"}),
    ("foo bar", {"foo": "", "bar": ""}),
    (",foo=bar", {"foo": "bar"}),
    (" , ,foo=bar,baz=1", {"foo": "bar,baz=1"}),
    ("foo=bar, baz=1; x=y", {"foo": "bar, baz=1", "x": "y"}),
    ("a,b=c", {"a,b": "c"}),
    ('foo="bar"', {"foo": '"bar"'}),
    ('foo="b;a;r"; baz=1', {"foo": '"b;a;r"', "baz": "1"}),
    ('foo="b\\";r"; baz=1', {"foo": '"b\\";r"', "baz": "1"}),
    ('foo="b\\\\"; baz=1', {"foo": '"b\\\\"', "baz": "1"}),
    ('foo="bar"  ; baz=1', {"foo": '"bar"', "baz": "1"}),
    ('foo="bar"x; baz=1', {"foo": '"bar"x', "baz": "1"}),
    ('foo="bar; baz=1', {"foo": '"bar', "baz": "1"}),
    ('foo="', {"foo": '"'}),
    ('foo=b"a;r"', {"foo": 'b"a', 'r"': ""}),
    ("$Version=1; foo=bar; $Path=/; $Domain=x", {"foo": "bar"}),
    ("foo=1; foo=2", {"foo": "2"}),
    ("foo=1; FOO=2", {"foo": "1", "FOO": "2"}),
    ("spam=foo; path=blah;;eggs=bar;", {"spam": "foo", "path": "blah", "eggs": "bar"}),
    ("foo=bar; path=/; httponly; secure", {"foo": "bar", "path": "/", "httponly": "", "secure": ""}),
    ("foo=\u00e4\u00ff", {"foo": "\u00e4\u00ff"}),
    ("f\u00f6=1", {"f\u00f6": "1"}),
    ("foo=b\x01r; baz=1", {"baz": "1"}),
    ("f\x7foo=bar; baz=1", {"baz": "1"}),
    ("foo=bar\r\nSet-Cookie: x=y; baz=1", {"baz": "1"}),
    ("foo=b\tr", {"foo": "b\tr"}),
    ("__Host-id=1; __Secure-x=2", {"__Host-id": "1", "__Secure-x": "2"}),
    ("a[b]=c; {x}=y; (z)=1", {"a[b]": "c", "{x}": "y", "(z)": "1"}),
    ("foo=" + "x" * 5000, {"foo": "x" * 5000}),
    ("x;" * 3000 + "a=1", {"x": "", "a": "1"}),
    ('a="' * 3000, {"a": '"' + 'a="' * 2999}),
    ("a=eyJ4IjoxfQ==; b=+/=", {"a": "eyJ4IjoxfQ==", "b": "+/="}),
    ("foo=a:b@c?d#e", {"foo": "a:b@c?d#e"}),
    ("expires=Thu, 01 Jan 1970 00:00:00 GMT; a=1", {"expires": "Thu, 01 Jan 1970 00:00:00 GMT", "a": "1"}),
]


@pytest.mark.parametrize(("header", "expected"), CASES, ids=range(len(CASES)))
def test_parsing(header: str, expected: dict[str, str]) -> None:
    found = Cookie.Cookie.parse(header)
    assert {name: cookie.value for name, cookie in found.items()} == expected
    for cookie in found.values():
        assert repr(cookie).startswith("<Cookie: ")
    for name in expected:
        assert list(Cookie.Cookie.parse(header, names=[name])) == [name]
        assert list(Cookie.Cookie.parse(header, names=name)) == [name]
    assert Cookie.Cookie.parse(header, names=[]) == {}


def test_writing() -> None:
    cookie = Cookie.Cookie(
        "a", "b", HTTPONLY=True, port="80", discard=1, commentURL="http://x/", samesite="strict", max_age=60, expires=0,
        comment="c", secure=True, domain="example.com", path="/p", version=1, partitioned=True,
    )  # fmt: skip
    assert str(cookie) == (
        "a=b; version=1; path=/p; domain=example.com; secure; comment=c; expires=Thu, 01-Jan-1970 00:00:00 GMT; "
        "Max-Age=60; samesite=Strict; commentURL=http://x/; discard; port=80; httponly; partitioned"
    )
    assert repr(cookie) == f"<Cookie: {cookie}>"
    assert str(Cookie.Cookie("a", 5)) == "a=5"
    assert str(Cookie.Cookie("a", "", secure=False, httponly=0, discard=None, partitioned="")) == "a="
    assert Cookie.Cookie("a", "b").__data__ == {}
    assert (Cookie.Cookie.DOWNGRADE, Cookie.Cookie.IGNORE, Cookie.Cookie.EXCEPTION) == (0, 1, 3)


def test_attributes() -> None:
    cookie = Cookie.Cookie("a", "b")
    for name in ("path", "secure", "expires", "nonsense"):
        with pytest.raises(AttributeError):
            getattr(cookie, name)
    for name in ("nonsense", "parse", "__len__"):
        with pytest.raises(AttributeError, match="no attribute"):
            setattr(cookie, name, 1)
    with pytest.raises(AttributeError, match="nonsense"):
        Cookie.Cookie("a", "b", nonsense=1)
    cookie.path = "/"
    del cookie.path
    assert str(cookie) == "a=b"


def test_expires() -> None:
    cookie = Cookie.Cookie("a", "b", expires=784111777.5)
    assert cookie.expires == "Sun, 06-Nov-1994 08:49:37 GMT"
    cookie.expires = "Mon, 07-Nov-1994 08:49:37 GMT"
    assert cookie.expires == "Mon, 07-Nov-1994 08:49:37 GMT"
    for wrong in (
        "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "", "tomorrow",
        "Sun, 06-Nov-1994 08:49:37 UTC",
        "Sun, 36-Nov-1994 08:49:37 GMT", "Sun, 06-Nov-1994 28:49:37 GMT", "Sun, 06-NOV-1994 08:49:37 GMT",
        "Sun, 0\u0666-Nov-1994 08:49:37 GMT", 1e300, float("nan"), -1e12,
    ):  # fmt: skip
        with pytest.raises(ValueError, match="expires"):
            cookie.expires = wrong


@pytest.mark.parametrize("wrong", ["a\rb", "a\nb", "a\0b", "a;b", "a\x1fb", "a\x7f"])
def test_what_would_end_a_cookie_is_refused(wrong: str) -> None:
    for name in ("path", "domain", "comment", "version", "port", "commentURL"):
        with pytest.raises(ValueError, match="of a cookie contains"):
            Cookie.Cookie("a", "b", **{name: wrong})
    with pytest.raises(ValueError, match="of a cookie contains"):
        Cookie.Cookie("a", wrong)
    with pytest.raises(ValueError, match="of a cookie contains"):
        Cookie.Cookie(wrong, "b")

    class Sly:
        def __str__(self) -> str:
            return wrong

    with pytest.raises(ValueError, match="of a cookie contains"):
        str(Cookie.Cookie("a", Sly()))


def test_other_wrong_values() -> None:
    for name in ("", "a b", "a=b", "a\tb"):
        with pytest.raises(ValueError, match="cannot be called"):
            Cookie.Cookie(name, "b")
    with pytest.raises(TypeError):
        Cookie.Cookie(b"a", "b")  # type: ignore[arg-type]
    for attributes in (
        {"max_age": "soon"},
        {"max_age": 1.5},
        {"max_age": ""},
        {"samesite": "maybe"},
        {"samesite": None},
    ):
        if attributes == {"samesite": None}:
            assert "samesite=None" in str(Cookie.Cookie("a", "b", **attributes))
            continue
        with pytest.raises(ValueError, match=next(iter(attributes))):
            Cookie.Cookie("a", "b", **attributes)
    # Readable, but not to be sent on.
    quoted = Cookie.Cookie.parse('a="x;secure"')["a"]
    with pytest.raises(ValueError, match="';'"):
        str(quoted)


def test_subclasses() -> None:
    class Mine(Cookie.Cookie):
        def __init__(self, name: str, value: Any) -> None:
            super().__init__(name, value.upper())
            self.__data__["mine"] = 1

        @property
        def tag(self) -> Any:
            return self.__data__["tag"]

        @tag.setter
        def tag(self, value: Any) -> None:
            self.__data__["tag"] = value

    found = Mine.parse("a=b")
    assert type(found["a"]) is Mine
    assert found["a"].value == "B"
    found["a"].tag = 3
    assert found["a"].tag == 3


# ---- signed ones


def test_signing() -> None:
    cookie = Cookie.SignedCookie("name", "value", SECRET, path="/")
    signature = hmac.new(SECRET.encode(), b"name\0value", "sha256").hexdigest()
    assert str(cookie) == f"name={signature}value; path=/"
    assert cookie.hexdigest("value") == signature
    for secret in (SECRET, SECRET.encode()):
        found = Cookie.SignedCookie.parse(str(cookie), secret)["name"]
        assert type(found) is Cookie.SignedCookie
        assert found.value == "value"
        assert str(found) == f"name={signature}value"


def test_what_is_signed_cannot_be_moved() -> None:
    signed = str(Cookie.SignedCookie("ab", "cd", SECRET)).removeprefix("ab=")[:64]
    for header in (
        f"abc={signed}d",
        f"a={signed}bcd",
        f"ab={signed}ce",
        f"ab={signed.upper()}cd",
        f"ab=\u00e4{signed}cd",
    ):
        assert Cookie.SignedCookie.parse(header, SECRET, Cookie.Cookie.IGNORE) == {}
    assert Cookie.SignedCookie.parse(f"ab={signed}cd", "other", Cookie.Cookie.IGNORE) == {}
    assert Cookie.SignedCookie.parse("ab=; cd=x", SECRET, Cookie.Cookie.IGNORE) == {}


def test_mismatch() -> None:
    good = str(Cookie.SignedCookie("good", "1", SECRET))
    header = f"{good}; bad=2"
    found = Cookie.SignedCookie.parse(header, SECRET)
    assert type(found["bad"]) is Cookie.Cookie
    assert found["bad"].value == "2"
    assert type(found["good"]) is Cookie.SignedCookie
    assert list(Cookie.SignedCookie.parse(header, SECRET, Cookie.Cookie.IGNORE)) == ["good"]
    with pytest.raises(Cookie.CookieError, match="bad"):
        Cookie.SignedCookie.parse(header, SECRET, Cookie.Cookie.EXCEPTION)
    assert list(Cookie.SignedCookie.parse(header, SECRET, Cookie.Cookie.EXCEPTION, ["good"])) == ["good"]
    one = Cookie.SignedCookie("good", good.removeprefix("good="))
    one.unsign(SECRET)
    assert one.value == "1"
    with pytest.raises(Cookie.CookieError):
        one.unsign(SECRET)
    assert one.value == "1"


def test_no_secret() -> None:
    for secret in (None, "", b""):
        cookie = Cookie.SignedCookie("a", "b", secret)
        assert repr(cookie) == "<SignedCookie: a=b>"
        with pytest.raises(Cookie.CookieError, match="secret"):
            str(cookie)
        with pytest.raises(Cookie.CookieError, match="secret"):
            Cookie.add_cookie(FakeRequest(), cookie)
        with pytest.raises(Cookie.CookieError, match="secret"):
            Cookie.SignedCookie("a", "b" * 70).unsign(secret)  # type: ignore[arg-type]


def test_old_signatures_are_verified_on_request_only() -> None:
    old = hmac.new(SECRET.encode(), b"namevalue", "md5").hexdigest() + "value"
    assert type(Cookie.SignedCookie.parse(f"name={old}", SECRET)["name"]) is Cookie.Cookie
    found = Cookie.SignedCookie.parse(f"name={old}", SECRET, accept_md5=True)["name"]
    assert found.value == "value"
    # Written are new ones.
    assert len(str(found)) == len("name=value") + 64
    request = FakeRequest(f"name={old}")
    assert Cookie.get_cookie(request, "name", Cookie.SignedCookie, secret=SECRET, accept_md5=True).value == "value"


VALUES = [
    None, True, 0, -(2**70), 1.5, "", "t\u20ac;\r\n\0", [], {}, (), b"\0\xff", [1, (2, [3])], {"a": {"b": [None]}},
    {1: "x", (2, 3): b"y", None: 0}, {"!": 1}, {"!": ["tuple", 1], "x": 2}, {1, "x"}, frozenset([(1,)]),
]  # fmt: skip


# Not repr as ids: the order in a set differs from process to process, and so would the names of the tests.
@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_objects(value: object) -> None:
    cookie = Cookie.MarshalCookie("data", value, SECRET, httponly=True)
    text = str(cookie)
    assert "\n" not in text
    found = Cookie.MarshalCookie.parse(text, SECRET)["data"]
    assert type(found) is Cookie.MarshalCookie
    assert found.value == value
    assert type(found.value) is type(value)
    one = Cookie.MarshalCookie("data", text.split(";")[0].removeprefix("data="))
    one.unmarshal(SECRET)
    assert one.value == value


def test_values_of_other_types() -> None:
    import datetime
    import decimal
    import enum
    import uuid

    class Colour(enum.IntEnum):
        RED = 3

    now = datetime.datetime.now(datetime.UTC)
    values = [now, now.date(), now.time(), datetime.timedelta(1, 2, 3), decimal.Decimal("1.10"), uuid.uuid4()]
    assert _values.loads(_values.dumps(values)) == values
    assert _values.loads(_values.dumps([Colour.RED, bytearray(b"x")])) == [3, b"x"]
    with pytest.raises(TypeError, match=r"builtins.object cannot be stored \(at \['a'\]\[1\]\)"):
        _values.dumps({"a": [0, object()]})
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="contains itself"):
        _values.dumps(loop)


@pytest.mark.parametrize(
    "text",
    ["", "x", "{", '{"!":[]}', '{"!":["os.system","x"]}', '{"!":["bytes","*"]}', '{"!":["bytes"]}', '{"!":["set",[]]}',
     '{"!":["dict",1]}', '{"!":["datetime","x"]}', '{"!":["timedelta","x"]}', '{"!":["Decimal","x"]}',
     '{"!":["UUID",1]}', '{"!":3}', "[" * 100000, '{"!":["dict",[[],1]]}'],
    ids=range(16),
)  # fmt: skip
def test_texts_that_are_no_values(text: str) -> None:
    with pytest.raises(ValueError, match="no stored value"):
        _values.loads(text.encode())


def test_signed_nonsense_is_a_mismatch() -> None:
    for text in ("", "x", "e30", "AAAA", "\u00e4"):
        cookie = Cookie.SignedCookie("data", text, SECRET)
        found = Cookie.MarshalCookie.parse(str(cookie), SECRET)["data"]
        assert type(found) is Cookie.Cookie
        with pytest.raises(Cookie.CookieError):
            Cookie.MarshalCookie.parse(str(cookie), SECRET, Cookie.Cookie.EXCEPTION)
    with pytest.raises(Cookie.CookieError, match="cannot be written"):
        str(Cookie.MarshalCookie("data", object(), SECRET))


# ---- with a request


def test_adding() -> None:
    request = FakeRequest()
    Cookie.add_cookie(request, "a", "b", path="/")
    Cookie.add_cookie(request, Cookie.Cookie("c", "d"))
    Cookie.add_cookie(request, "e")
    assert request.headers_out["Set-Cookie"] == ["a=b; path=/", "c=d", "e="]
    assert request.headers_out["Cache-Control"] == 'no-cache="set-cookie"'


def test_getting() -> None:
    assert Cookie.get_cookies(FakeRequest()) == {}
    assert Cookie.get_cookie(FakeRequest(), "a") is None
    request = FakeRequest("a=1; b=2", "a=3")
    assert {name: cookie.value for name, cookie in Cookie.get_cookies(request).items()} == {"a": "3", "b": "2"}
    assert Cookie.get_cookie(request, "b").value == "2"
    assert Cookie.get_cookie(request, "x") is None
    # Another cookie that is not right does not matter.
    signed = FakeRequest(str(Cookie.SignedCookie("a", "1", SECRET)), "b=2")
    arguments: dict[str, Any] = {"secret": SECRET, "mismatch": Cookie.Cookie.EXCEPTION}
    assert Cookie.get_cookie(signed, "a", Cookie.SignedCookie, **arguments).value == "1"


# ---- on a real httpd

HANDLERS = """
def again(req):
    for cookie in Cookie.get_cookies(req).values():
        Cookie.add_cookie(req, cookie)

def signed(req):
    found = Cookie.get_cookies(req, Cookie.SignedCookie, secret="secret", mismatch=Cookie.Cookie.EXCEPTION)
    data = Cookie.get_cookie(req, "data", Cookie.MarshalCookie, secret="secret")
    assert len(data.value) == 200
    Cookie.add_cookie(req, found["plain"])

def sign(req):
    Cookie.add_cookie(req, Cookie.SignedCookie("plain", "x" * 3000 + "==", "secret"))
    Cookie.add_cookie(req, Cookie.MarshalCookie("data", ["\\u20ac;"] * 200, "secret"))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with site(HANDLERS) as server:
        yield server


def send(server: Server, target: str, *cookies: str) -> list[str]:
    """Make a request with several ``Cookie`` fields; return the ``Set-Cookie`` ones."""
    fields = "".join(f"Cookie: {cookie}\r\n" for cookie in cookies)
    with server.connect() as sock:
        sock.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n".encode("latin-1"))
        head = b"".join(iter(lambda: sock.recv(65536), b"")).decode("latin-1").partition("\r\n\r\n")[0]
    assert head.startswith("HTTP/1.1 200 "), head
    return [line.removeprefix("Set-Cookie: ") for line in head.split("\r\n") if line.startswith("Set-Cookie: ")]


def test_row_12_1_broken_headers(server: Server) -> None:
    found = send(server, "/again", "a=1; path=x;;b=2;", "c=3")
    assert sorted(found) == ["a=1", "b=2", "c=3", "path=x"]


def test_row_12_2_long_values(server: Server) -> None:
    cookies = send(server, "/sign")
    assert len(cookies) == 2
    plain, data = cookies
    assert plain.endswith("x==")
    assert len(plain) > 3060
    # On one line, and back as it was.
    assert send(server, "/signed", f"{plain}; {data}") == [plain]
    assert send(server, "/again", "a=eA==; b=YWE=; c==") == ["a=eA==", "b=YWE=", "c=="]
