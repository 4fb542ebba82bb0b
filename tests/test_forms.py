"""`mod_python.util` without a server: query strings, fields, `apply_fs_data`."""

from __future__ import annotations

import functools
import gc
import inspect
import json
import pickle
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mod_python import apache, util
from mod_python.errors import SERVER_RETURN
from tests.form_requests import URLENCODED, FormRequest, steady


def form(args: str, **how: Any) -> util.FieldStorage:
    return util.FieldStorage(FormRequest(args), **how)


def refused(request: FormRequest, status: int, message: str, **how: Any) -> None:
    """Expect a form to be refused, with a message in the log."""
    with pytest.raises(SERVER_RETURN) as caught:
        util.FieldStorage(request, **how)
    assert caught.value.args == (status,)
    assert message in request.text(apache.APLOG_WARNING)


def test_signatures() -> None:
    """What programs rely on; more may follow, by keyword."""
    expected: dict[Any, str] = {
        util.FieldStorage: "req, keep_blank_values=0, strict_parsing=0, file_callback=None, field_callback=None",
        util.FieldStorage.get: "self, name, default=None",
        util.FieldStorage.getfirst: "self, name, default=None",
        util.FieldStorage.getlist: "self, name",
        util.FieldStorage.add_field: "self, name, value",
        util.parse_qs: "qs, keep_blank_values=0, strict_parsing=0",
        util.parse_qsl: "qs, keep_blank_values=0, strict_parsing=0",
        util.parse_header: "line",
        util.redirect: "req, location, permanent=0, text=None",
        util.apply_fs_data: "object, fs, **args",
    }
    for function, parameters in expected.items():
        signature = inspect.signature(function)
        found = [str(p.replace(annotation=p.empty)) for p in signature.parameters.values()]
        assert ", ".join(found).removesuffix(", **limits") == parameters
    names = ["name", "file", "ctype", "type_options", "disp", "disp_options", "headers"]
    assert list(inspect.signature(util.Field).parameters) == names
    assert util.readBlockSize == 65368


# ---- query strings

PAIRS = [
    ("", []),
    ("a=1", [("a", "1")]),
    ("a=1&a=2;b=3", [("a", "1"), ("a", "2"), ("b", "3")]),
    ("a=b=c", [("a", "b=c")]),
    ("&&;a=1&;", [("a", "1")]),
    ("a=x+y&b+c=%2B", [("a", "x y"), ("b c", "+")]),
    ("a=%zz%4&b=%&%41=%4a", [("a", "%zz%4"), ("b", "%"), ("A", "J")]),
    ("a=%C3%A4", [("a", "ä")]),
    ("ä=ö%C3%A4", [("ä", "öä")]),
    ("=x", [("", "x")]),
    ("a=%00b", [("a", "\0b")]),
    ("a=%E4", [("a", "\udce4")]),
    ("a=1%262%3B3%3D4", [("a", "1&2;3=4")]),
    ("spam=%C3", [("spam", "\udcc3")]),
    ("a=%+1", [("a", "% 1")]),
]


@pytest.mark.parametrize(("text", "pairs"), PAIRS)
def test_parse_qsl(text: str, pairs: list[tuple[str, str]]) -> None:
    assert util.parse_qsl(text) == pairs
    data = [(k.encode("utf-8", "surrogateescape"), v.encode("utf-8", "surrogateescape")) for k, v in pairs]
    assert util.parse_qsl(text.encode()) == data
    assert {name: util.parse_qs(text)[name] for name, _ in pairs} == util.parse_qs(text)
    assert util.parse_qs(text) == {name: [v for k, v in pairs if k == name] for name, _ in pairs}


def test_blank_values() -> None:
    text = "a=&b&&c=1&=&%20="
    assert util.parse_qsl(text) == [("c", "1")]
    assert util.parse_qsl(text, 1) == [("a", ""), ("b", ""), ("c", "1"), ("", ""), (" ", "")]
    assert util.parse_qsl(text.encode(), keep_blank_values=True, strict_parsing=True) == [
        (b"a", b""),
        (b"b", b""),
        (b"c", b"1"),
        (b"", b""),
        (b" ", b""),
    ]
    assert util.parse_qs(text, 1, 1)["a"] == [""]


def test_a_query_string_is_str_or_bytes() -> None:
    for wrong in (None, 1, ["a=1"], bytearray(b"a=1")):
        with pytest.raises(TypeError, match="query string must be str or bytes"):
            util.parse_qsl(wrong)  # type: ignore[type-var]
        with pytest.raises(TypeError, match="query string must be str or bytes"):
            util.parse_qs(wrong)  # type: ignore[type-var]


@steady
@given(st.text())
def test_any_str_has_a_result(text: str) -> None:
    for name, value in util.parse_qsl(text, 1):
        assert type(name) is type(value) is str


@steady
@given(st.binary())
def test_str_and_bytes_say_the_same(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    pairs = [
        (k.encode("utf-8", "surrogateescape"), v.encode("utf-8", "surrogateescape")) for k, v in util.parse_qsl(text, 1)
    ]
    assert pairs == util.parse_qsl(data, 1)


@steady
@given(st.lists(st.tuples(st.text(), st.text())))
def test_what_urlencode_makes_is_understood(pairs: list[tuple[str, str]]) -> None:
    from urllib.parse import urlencode

    query = urlencode(pairs, errors="surrogatepass")
    expected = [
        tuple(part.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape") for part in pair)
        for pair in pairs
    ]
    assert util.parse_qsl(query, 1) == expected


def test_parse_header() -> None:
    assert util.parse_header('Text/HTML; Charset=UTF-8; a="x;y=z"; b ; c=') == (
        "text/html",
        {"charset": "UTF-8", "a": "x;y=z", "c": ""},
    )
    assert util.parse_header(b'form-data; name="a b"; n=""') == (b"form-data", {b"name": b"a b", b"n": b""})
    assert util.parse_header(b"\xc4; \xdf=\xff") == (b"\xe4", {b"\xdf": b"\xff"})
    assert util.parse_header("") == ("", {})
    assert util.parse_header('a; b="') == ("a", {"b": '"'})
    assert util.parse_header('a; b=""c""') == ("a", {"b": '"c"'})
    for wrong in (None, 1):
        with pytest.raises(TypeError, match="header must be str or bytes"):
            util.parse_header(wrong)  # type: ignore[type-var]


@steady
@given(st.text() | st.binary())
def test_any_header_has_a_result(line: str | bytes) -> None:
    value, parameters = util.parse_header(line)  # type: ignore[type-var]
    assert type(value) is type(line)
    assert all(type(k) is type(v) is type(line) for k, v in parameters.items())


# ---- fields


def test_fields_of_a_query_string() -> None:
    fs = form("spam=1&eggs=x+y&spam=2&blank=&none")
    assert repr(fs.list) == "[Field('spam', '1'), Field('eggs', 'x y'), Field('spam', '2')]"
    field = fs["eggs"]
    assert isinstance(field, util.StringField)
    assert isinstance(field, str)
    assert (field, field.name, field.value, type(field.value)) == ("x y", "eggs", "x y", str)
    assert field.filename is None
    assert (field.type, field.ctype) == ("text/plain", "text/plain")
    assert (field.headers, field.type_options) == ({}, {})
    assert (field.disposition, field.disposition_options, field.disp_options) == (None, None, None)
    assert field.file.read() == b"x y"
    assert field.file.read() == b""
    assert json.dumps(field) == '"x y"'
    assert pickle.loads(pickle.dumps(field)).name == "eggs"


def test_the_bytes_of_a_value_can_be_had() -> None:
    field = form("a=%FF%C3%A4")["a"]
    assert field == "\udcffä"
    assert field.file.read() == b"\xff\xc3\xa4"
    odd = util.StringField("\ud800")
    assert odd.file.read() == b"\xed\xa0\x80"


def test_what_one_field_is_given_no_other_has() -> None:
    one, other = form("a=1&b=2").list
    one.headers["X"] = "y"
    one.type_options["charset"] = "x"
    assert (other.headers, other.type_options) == ({}, {})


def test_blank_values_are_kept_on_request() -> None:
    fs = form("a=&b&c=1", keep_blank_values=1)
    assert repr(fs.list) == "[Field('a', ''), Field('b', ''), Field('c', '1')]"
    assert "a" in fs
    assert "a" not in form("a=&b&c=1")


def test_the_form_as_a_mapping() -> None:
    fs = form("a=1&b=2&a=3")
    assert fs["b"] == "2"
    assert [field.value for field in fs["a"]] == ["1", "3"]
    assert len(fs) == 2
    assert list(fs) == fs.keys() == ["a", "b"]
    assert fs.items() == [("a", "1"), ("b", "2"), ("a", "3")]
    assert "a" in fs
    assert fs.has_key("b")
    assert "c" not in fs
    assert not fs.has_key("c")
    assert fs.get("b") == "2"
    assert fs.get("c") is None
    assert fs.get("c", 5) == 5
    assert fs.getfirst("a") == "1"
    assert fs.getfirst("c") is None
    assert fs.getfirst("c", "x") == "x"
    assert fs.getlist("a") == ["1", "3"]
    assert fs.getlist("c") == []
    with pytest.raises(KeyError):
        fs["c"]
    with pytest.raises(KeyError):
        del fs["c"]
    assert repr(fs) == "FieldStorage([Field('a', '1'), Field('b', '2'), Field('a', '3')])"


def test_changing_the_form() -> None:
    fs = form("a=1&b=2&a=3")
    fs["a"] = "4"
    assert fs.items() == [("b", "2"), ("a", "4")]
    fs.add_field("b", b"\xff")
    assert fs.getlist("b") == ["2", "\udcff"]
    del fs["b"]
    assert fs.items() == [("a", "4")]
    upload = util.Field("x", BytesIO(b"content"))
    fs["file"] = upload
    assert fs["file"] is upload
    assert upload.name == "file"
    fs.clear()
    assert (len(fs), bool(fs), fs.items()) == (0, False, [])
    for wrong in (None, 1, ["a"]):
        with pytest.raises(TypeError, match="must be str, bytes or a Field"):
            fs["a"] = wrong  # type: ignore[assignment]


def test_changes_of_the_list_are_noticed() -> None:
    def names() -> str:
        return "".join(fs.keys())

    fs = form("a=1&b=2")
    x, y, z = (util.StringField(name) for name in "xyz")
    x.name, y.name, z.name = "x", "y", "z"
    seen = [names()]
    changes = (
        lambda: fs.list.append(x),
        lambda: fs.list.insert(0, y),
        lambda: fs.list.pop(),
        lambda: fs.list.remove(y),
        lambda: fs.list.reverse(),
        lambda: fs.list.extend([x, y]),
        lambda: fs.list.sort(key=lambda field: field.name, reverse=True),
        lambda: fs.list.__setitem__(0, z),
        lambda: fs.list.__delitem__(slice(0, 1)),
        lambda: fs.list.__iadd__([z]),
        lambda: fs.list.__imul__(2),
        lambda: fs.list.clear(),
    )
    for change in changes:
        change()
        seen.append(names())
    assert seen == ["ab", "abx", "yabx", "yab", "ab", "ba", "baxy", "yxba", "zxba", "xba", "xbaz", "xbaz", ""]
    assert isinstance(fs.list, util.FieldList)
    fs.list = [x, z]
    assert names() == "xz"
    fs.list.append(y)
    assert fs.list.table() == {"x": ["x"], "z": ["z"], "y": ["y"]}


def test_the_lists_that_are_given_are_the_callers() -> None:
    fs = form("a=1&a=2")
    fs["a"].clear()
    fs.getlist("a").clear()
    fs.keys().clear()
    assert fs.getlist("a") == ["1", "2"]


def test_a_field_of_ones_own() -> None:
    file = BytesIO(b"content")
    options, disp_options = {"charset": "x"}, {"name": "up", "filename": "a.txt"}
    field = util.Field("up", file, "text/x", options, "form-data", disp_options, {"X": "y"})
    assert (field.name, field.filename, field.file) == ("up", "a.txt", file)
    assert (field.type, field.ctype, field.type_options) == ("text/x", "text/x", options)
    assert (field.disposition, field.disposition_options, field.disp_options) == (
        "form-data",
        disp_options,
        disp_options,
    )
    assert field.headers == {"X": "y"}
    file.read(3)
    assert field.value == b"content"
    assert file.tell() == 0
    assert repr(field) == "Field('up', b'content')"
    assert util.Field("x", file, "a/b", {}, None, {}).headers == {}


def test_a_field_that_ends_closes_its_file() -> None:
    file = BytesIO(b"content")
    field = util.Field("up", file)
    assert not file.closed
    del field
    gc.collect()
    assert file.closed


# ---- bodies that are URL-encoded


@pytest.mark.parametrize(
    "content_type", [None, URLENCODED, URLENCODED + "; charset=x", "Application/X-WWW-Form-URLencoded"]
)
def test_the_body_follows_the_query(content_type: str | None) -> None:
    fs = util.FieldStorage(FormRequest("a=1&b=2", b"b=3&c=%C3%A4&d=", content_type))
    assert repr(fs.list) == "[Field('a', '1'), Field('b', '2'), Field('b', '3'), Field('c', 'ä')]"
    assert type(fs["c"]) is util.StringField


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "DELETE"])
def test_the_body_of_other_methods_is_left_alone(method: str) -> None:
    request = FormRequest("a=1", b"b=3", method=method)
    assert util.FieldStorage(request).items() == [("a", "1")]
    assert request.reads == []


@pytest.mark.parametrize("length", [None, "abc", "-1", "1.5", "²"])
def test_a_body_has_a_length(length: str | None) -> None:
    refused(FormRequest(None, b"a=1", length=length), 411, "has no Content-Length")


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "multipart", "x"])
def test_other_types_are_not_understood(content_type: str) -> None:
    refused(FormRequest(None, b"{}", content_type), 501, repr(content_type))


def test_an_empty_body() -> None:
    assert util.FieldStorage(FormRequest(None, b"")).list == []


# ---- limits


def test_the_number_of_fields_is_limited() -> None:
    assert len(form("&".join(["a=1"] * 1000)).list) == 1000
    refused(FormRequest("&".join(["a=1"] * 1001)), 413, "more than 1000 fields (max_fields)")
    refused(FormRequest("a=1;" * 500, b"b=1&" * 501), 413, "max_fields")
    refused(FormRequest("a=1&b=2"), 413, "more than 1 fields", max_fields=1)
    refused(FormRequest("a=1&b=2", options={"mod_python.util.max_fields": "1"}), 413, "more than 1 fields")
    # What the program says goes before the configuration.
    fs = util.FieldStorage(FormRequest("a=1&b=2", options={"mod_python.util.max_fields": "1"}), max_fields=2)
    assert len(fs) == 2


def test_the_size_of_a_body_is_limited() -> None:
    request = FormRequest(None, b"a=1", length=str((1 << 30) + 1))
    refused(request, 413, "max_size")
    refused(FormRequest(None, b"a=1", length="9" * 5000), 413, "max_size")
    assert request.reads == []
    refused(FormRequest(None, b"a=1"), 413, "more than 2 bytes (max_size)", max_size=2)


def test_memory_is_limited() -> None:
    request = FormRequest(None, b"a=1", length=str((8 << 20) + 1))
    refused(request, 413, "(max_memory)")
    assert request.reads == []
    # An input filter has made more of it.
    refused(FormRequest(None, b"a=123456", length="3"), 413, "more than 4 bytes (max_memory)", max_memory=4)
    assert util.FieldStorage(FormRequest(None, b"a=12"), max_memory=4)["a"] == "12"


def test_wrong_limits() -> None:
    with pytest.raises(TypeError, match="max_filds"):
        form("a=1", max_filds=1)
    for wrong in (-1, "5", 1.5):
        with pytest.raises(TypeError, match="max_files must be an int"):
            form("a=1", max_files=wrong)
    with pytest.raises(ValueError, match=r"PythonOption mod_python\.util\.max_fields must be a number, not '1k'"):
        util.FieldStorage(FormRequest("a=1", options={"mod_python.util.max_fields": "1k"}))


# ---- apply_fs_data


def everything(*args: Any, **kw: Any) -> Any:
    return args, kw


def some(req: Any, a: str, b: Any = 0, *, c: Any = None) -> Any:
    return req, a, b, c


class Called:
    def __init__(self, req: Any = None, a: Any = None) -> None:
        self.got = (req, a)

    def __call__(self, a: Any, more: Any = 1) -> Any:
        return "call", a, more

    def method(self, a: Any, **kw: Any) -> Any:
        return a, kw

    @classmethod
    def of_class(cls, a: Any) -> Any:
        return cls, a

    @staticmethod
    def static(a: Any) -> Any:
        return a


class Plain:
    pass


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kw: Any) -> Any:
        return "decorated", function(*args, **kw)

    return wrapper


class Decorated:
    @decorated
    def method(self, a: Any) -> Any:
        return a


FORM = "a=1&b=2&b=3&c=4&req=evil&self=x&cls=y&args=z&zzz=5"


def test_functions_get_what_they_accept() -> None:
    fs = form(FORM)
    assert util.apply_fs_data(some, fs, req="req", other="left out") == ("req", "1", ["2", "3"], "4")
    assert type(util.apply_fs_data(some, fs, req=0)[1]) is str
    assert util.apply_fs_data(lambda: "nothing", fs, req="req") == "nothing"
    assert util.apply_fs_data(lambda a, b=7, *, d=9: (a, b, d), form("a=1")) == ("1", 7, 9)


def test_the_callers_arguments_win() -> None:
    mine: list[str] = ["mine"]
    args, kw = util.apply_fs_data(everything, form(FORM), req=mine, zzz=0)
    assert args == ()
    assert kw == {"a": "1", "b": ["2", "3"], "c": "4", "self": "x", "cls": "y", "args": "z", "req": mine, "zzz": 0}
    assert mine == ["mine"]


def test_other_callables() -> None:
    fs = form(FORM)
    assert util.apply_fs_data(Called, fs, req="req").got == ("req", "1")
    assert util.apply_fs_data(Called(), fs, req="req", more=2) == ("call", "1", 2)
    assert util.apply_fs_data(Called.of_class, fs) == (Called, "1")
    assert util.apply_fs_data(Called.static, fs) == "1"
    assert isinstance(util.apply_fs_data(Plain, fs, req=0), Plain)
    assert util.apply_fs_data(functools.partial(some, "req", b=0), fs) == ("req", "1", 0, "4")
    assert util.apply_fs_data(dict, fs, req=1) == {}
    assert util.apply_fs_data([1, 2].copy, fs, req=1) == [1, 2]
    assert util.apply_fs_data(globals, fs, req=1)["apply_fs_data"] is util.apply_fs_data


def test_a_field_cannot_be_self() -> None:
    a, kw = util.apply_fs_data(Called().method, form(FORM), req=1)
    assert a == "1"
    assert kw == {"b": ["2", "3"], "c": "4", "req": 1, "cls": "y", "args": "z", "zzz": "5"}


def test_positional_only_names_are_not_given() -> None:
    def function(a: Any = "default", /, **kw: Any) -> Any:
        return a, kw

    assert util.apply_fs_data(function, form("a=1&b=2")) == ("default", {"a": "1", "b": "2"})


def test_behind_a_decorator() -> None:
    fs = form(FORM)
    for _ in range(2):
        assert util.apply_fs_data(decorated(some), fs, req=0) == ("decorated", (0, "1", ["2", "3"], "4"))
        assert util.apply_fs_data(Decorated().method, fs, req=0) == ("decorated", "1")


def test_missing_arguments_are_the_callables_own_error() -> None:
    with pytest.raises(TypeError, match=r"some\(\) missing 1 required positional argument: 'a'"):
        util.apply_fs_data(some, form("b=1"), req=0)


def test_uploads_are_passed_as_fields() -> None:
    fs = form("a=1")
    upload = util.Field("file", BytesIO(b"x"))
    fs.list.append(upload)
    nameless = util.StringField("x")
    fs.list.append(nameless)
    assert util.apply_fs_data(lambda file: file, fs) is upload
    assert util.apply_fs_data(everything, fs) == ((), {"a": "1", "file": upload})
