"""Multipart forms without a server: what parts become, limits, and random bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mod_python import apache, util
from mod_python.errors import SERVER_RETURN, ConnectionClosed
from tests.form_requests import BOUNDARY, MULTIPART, FormRequest, multipart_body, part, steady


def form(*parts: bytes, content_type: str = MULTIPART, **how: Any) -> util.FieldStorage:
    return util.FieldStorage(FormRequest(None, multipart_body(parts), content_type), **how)


def refused(status: int, message: str, body: bytes, content_type: str = MULTIPART, **how: Any) -> None:
    """Expect a body to be refused, with a message in the log."""
    request = FormRequest(None, body, content_type)
    with pytest.raises(SERVER_RETURN) as caught:
        util.FieldStorage(request, **how)
    assert caught.value.args == (status,)
    assert message in request.text(apache.APLOG_WARNING)


@contextmanager
def block_size(size: int) -> Iterator[None]:
    before = util.readBlockSize
    util.readBlockSize = size
    try:
        yield
    finally:
        util.readBlockSize = before


class Upload(BytesIO):
    """A file of the program's own; `closed_last` tells whether it was closed."""

    made: list[Upload]

    @classmethod
    def make(cls, *args: str) -> Upload:
        file = cls()
        file.args = args
        cls.made.append(file)
        return file

    args: tuple[str, ...]


@pytest.fixture(autouse=True)
def nothing_made() -> None:
    Upload.made = []


# ---- what parts become


def test_fields_and_uploads() -> None:
    fs = form(
        part(b"value", name=b"text"),
        part(b"\0\xff\r\n", b"Content-Type: image/PNG; a=B", b"X-More: \xe4", name=b"up", filename=b"a b.png"),
        part(b"", name=b"empty"),
    )
    assert fs.keys() == ["text", "up", "empty"]
    text, up = fs["text"], fs["up"]
    assert isinstance(text, util.StringField)
    assert (text, text.value, text.file.read(), text.filename) == ("value", "value", b"value", None)
    assert (text.type, text.type_options, text.disposition) == ("text/plain", {}, "form-data")
    assert text.disposition_options == {"name": "text"}
    assert text.headers["content-disposition"] == 'form-data; name="text"'
    assert type(up) is util.Field
    assert (up.name, up.filename, up.value) == ("up", "a b.png", b"\0\xff\r\n")
    assert (up.type, up.type_options) == ("image/png", {"a": "B"})
    assert up.disposition_options == {"name": "up", "filename": "a b.png"}
    assert up.headers["X-More"] == "\xe4"
    assert up.file.read() == up.value
    assert "b" in up.file.mode
    # Kept, though keep_blank_values is not set.
    assert fs["empty"] == ""


def test_names_are_utf8_and_nothing_is_lost() -> None:
    fs = form(
        part(b"\xc3\xa4\xff", name=b"\xc3\xbc"),
        part(b"1", name=b"\xfc"),
        part(b"2", name=b"a", filename=b"\xe2\x82\xac.txt"),
        part(b"3", name=b'a%22b%0D%0A"; x="'),
    )
    assert fs.keys() == ["ü", "\udcfc", "a", 'a"b\r\n']
    assert fs["ü"] == "ä\udcff"
    assert fs["ü"].file.read() == b"\xc3\xa4\xff"
    assert fs["a"].filename == "€.txt"


def test_names_of_clients_that_follow_other_rules() -> None:
    extended = b"Content-Disposition: form-data; name=a; filename*=utf-8''%e2%82%ac%20.txt"
    latin = b"Content-Disposition: form-data; name=a; filename*=ISO-8859-1'de'%E4"
    both = b"Content-Disposition: form-data; filename=\"plain\"; name=a; filename*=utf-8''x"
    path = b'Content-Disposition: form-data; name="a"; filename="C:\\dir\\a.txt"'
    slash = b'Content-Disposition: form-data; name="a"; filename="say \\"hi\\""'
    fs = form(*[part(b"x", line) for line in (extended, latin, both, path, slash)])
    assert [field.filename for field in fs["a"]] == ["€ .txt", "ä", "plain", "a.txt", 'say "hi"']


def test_an_empty_file_name_is_no_upload() -> None:
    fs = form(part(b"", b"Content-Type: application/octet-stream", name=b"up", filename=b""))
    assert isinstance(fs["up"], util.StringField)
    assert (fs["up"], fs["up"].filename, fs["up"].type) == ("", None, "application/octet-stream")


def test_parts_without_a_name() -> None:
    fs = form(part(b"1", b"X: y"), part(b"2"), part(b"3", b"Content-Disposition: attachment"))
    assert repr(fs.list) == "[Field(None, '1'), Field(None, '2'), Field(None, '3')]"
    assert fs.getlist(None) == ["1", "2", "3"]
    assert fs.list[2].disposition == "attachment"
    # They cannot be arguments.
    assert util.apply_fs_data(lambda **kw: kw, fs) == {}


def test_a_type_that_is_none() -> None:
    assert form(part(b"1", b"Content-Type: image", name=b"a"))["a"].type == "application/octet-stream"


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/form-data; boundary="=_a=b;c="; charset=utf-8',
        'Multipart/Form-Data; charset="x; boundary=y" ;Boundary = "=_a=b;c="',
        'multipart/mixed; boundary="=_a=b;c="',
    ],
)
def test_quoted_boundaries(content_type: str) -> None:
    body = multipart_body([part(b"1", name=b"a")], b"=_a=b;c=")
    assert util.FieldStorage(FormRequest(None, body, content_type))["a"] == "1"


def test_boundaries_that_are_not_quoted() -> None:
    body = multipart_body([part(b"1", name=b"a")], b"=_a==b=")
    assert util.FieldStorage(FormRequest(None, body, "multipart/form-data; boundary==_a==b=; x=y"))["a"] == "1"


def test_what_surrounds_the_parts_is_skipped() -> None:
    body = b"preamble\r\nmore\r\n" + multipart_body([part(b"1", name=b"a")]) + b"epilogue\r\n--x"
    assert util.FieldStorage(FormRequest("q=1", body, MULTIPART)).items() == [("q", "1"), ("a", "1")]


def test_no_parts() -> None:
    assert form().list == []


# ---- where content goes


def test_callbacks() -> None:
    fs = form(
        part(b"file content", name=b"up", filename=b"a.txt"),
        part(b"text content", name=b"text"),
        file_callback=Upload.make,
        field_callback=Upload.make,
    )
    file, text = Upload.made
    assert (file.args, text.args) == (("a.txt",), ())
    assert fs["up"].file is file
    assert file.tell() == 0
    assert fs["up"].value == b"file content"
    assert fs["text"] == "text content"
    assert fs["text"].file is text
    assert text.read() == b"text content"


def test_callbacks_that_are_none_are_ignored() -> None:
    fs = form(part(b"1", name=b"up", filename=b"a"), part(b"2", name=b"b"), file_callback=5, field_callback="x")
    assert (fs["up"].value, fs["b"]) == (b"1", "2")


def test_a_callback_returns_a_file() -> None:
    with pytest.raises(TypeError, match=r"file_callback returned object, which has no write\(\)"):
        form(part(b"1", name=b"a", filename=b"a"), file_callback=lambda name: object())
    with pytest.raises(TypeError, match="field_callback returned NoneType"):
        form(part(b"1", name=b"a"), field_callback=lambda: None)


def test_what_a_callback_raises_comes_out() -> None:
    def no(name: str) -> Any:
        raise LookupError(name)

    with pytest.raises(LookupError, match=r"a\.txt"):
        form(part(b"1", name=b"a", filename=b"a.txt"), file_callback=no)


def test_files_are_closed_if_the_form_is_refused() -> None:
    body = multipart_body([part(b"x" * 100, name=b"a", filename=b"%d" % n) for n in range(3)])
    for cut in (300, 150):
        refused(400, "end of multipart", body[:cut], file_callback=Upload.make)
        assert Upload.made
        assert all(file.closed for file in Upload.made)


def test_content_is_written_as_it_comes() -> None:
    content = random.Random(1).randbytes(1 << 20)
    body = multipart_body([part(content, name=b"a", filename=b"a")])
    request = FormRequest(None, body, MULTIPART)
    sizes = []

    class File(BytesIO):
        def write(self, data: Any) -> int:
            sizes.append(len(data))
            return super().write(data)

    fs = util.FieldStorage(request, file_callback=lambda name: File())
    assert fs["a"].value == content
    assert max(sizes) <= util.readBlockSize + len(BOUNDARY) + 4
    assert set(request.reads) == {util.readBlockSize}


# ---- limits


def test_the_number_of_parts_is_limited() -> None:
    one = part(b"1", name=b"a")
    assert len(form(*[one] * 1000).list) == 1000
    refused(413, "more than 1000 fields (max_fields)", multipart_body([one] * 1001))
    refused(413, "max_fields", multipart_body([one] * 10_000))
    refused(413, "more than 2 fields", multipart_body([one] * 3), max_fields=2)


def test_the_number_of_uploads_is_limited() -> None:
    one = part(b"1", name=b"a", filename=b"x")
    assert len(form(*[one] * 100).list) == 100
    refused(413, "more than 100 uploads (max_files)", multipart_body([one] * 101))
    refused(413, "max_files", multipart_body([one]), max_files=0)


def test_the_memory_of_parts_is_limited() -> None:
    big = part(b"x" * (8 << 20), name=b"a")
    refused(413, "(max_memory)", multipart_body([big]))
    refused(413, "(max_memory)", multipart_body([part(b"x" * 40, name=b"a")] * 2), max_memory=150)
    refused(413, "(max_memory)", multipart_body([big]), field_callback=BytesIO)
    # Headers are kept in memory, too.
    refused(413, "(max_memory)", multipart_body([part(b"", b"X: " + b"y" * 5000)] * 10), max_memory=40_000)
    # Uploads are not.
    assert len(form(part(b"x" * (9 << 20), name=b"a", filename=b"x"))["a"].value) == 9 << 20


def test_headers_of_parts_are_limited() -> None:
    assert form(part(b"1", b"X: " + b"y" * 8187, name=b"a"))["a"] == "1"
    refused(413, "header length", multipart_body([part(b"1", b"X: " + b"y" * 8188)]))
    refused(413, "header length", multipart_body([part(b"1", b"X: y", *[b" " + b"y" * 80] * 120)]))
    refused(413, "header length", b"--%b\r\n" % BOUNDARY + b"x" * 100_000)
    assert form(part(b"1", *[b"X: y"] * 16))[None] == "1"
    refused(413, "header count", multipart_body([part(b"1", *[b"X: y"] * 17)]))
    refused(413, "header count", multipart_body([part(b"1", *[b"X: y"] * 3)]), max_headers=2)
    refused(413, "header length", multipart_body([part(b"1", b"X: yyyy")]), max_header_size=6)


def test_the_size_of_the_body_is_limited() -> None:
    body = multipart_body([part(b"x" * 500, name=b"a", filename=b"a")])
    refused(413, "more than 400 bytes (max_size)", body, max_size=400)
    # An input filter may have made more of it than the client announced.
    request = FormRequest(None, body, MULTIPART, length="300")
    with pytest.raises(SERVER_RETURN):
        util.FieldStorage(request, max_size=400)
    assert "max_size" in request.text(apache.APLOG_WARNING)


# ---- broken bodies

WHOLE = multipart_body([part(b"1", name=b"a"), part(b"2", name=b"b", filename=b"x")])

BROKEN = {
    "nothing": b"",
    "no boundary": b"a=1&b=2",
    "only a preamble": b"x" * 200_000,
    "another boundary": WHOLE.replace(BOUNDARY, b"other"),
    "no end": WHOLE[: WHOLE.rindex(b"--\r\n")],
    "cut in a header": WHOLE[:30],
    "cut in content": WHOLE[: WHOLE.index(b"\r\n\r\n2") + 5],
    "line feeds alone": WHOLE.replace(b"\r\n", b"\n"),
    "carriage returns alone": WHOLE.replace(b"\r\n", b"\r"),
    "no blank line": WHOLE.replace(b"\r\n\r\n", b"\r\n"),
    "something after a boundary": WHOLE.replace(BOUNDARY + b"\r\n", BOUNDARY + b"x\r\n"),
    "a boundary directly after the headers": WHOLE.replace(b"\r\n\r\n1\r\n", b"\r\n\r\n", 1),
    "a header without a colon": multipart_body([part(b"1", b"nonsense")]),
    "a header without a name": multipart_body([part(b"1", b": x")]),
    "a continuation of nothing": multipart_body([part(b"1", b" x")]),
    "an empty continuation": multipart_body([part(b"1", b"a: b", b" ")]),
    "NUL in a header": multipart_body([part(b"1", name=b"a\0b")]),
    "a carriage return in a header": multipart_body([part(b"1", name=b"a\rb")]),
    "a line feed in a header": multipart_body([part(b"1", name=b"a\nb")]),
    "a shorter part": multipart_body([part(b"1", b"Content-Length: 2")]),
    "a longer part": multipart_body([part(b"111", b"Content-Length: 2")]),
    "a length that is none": multipart_body([part(b"1", b"Content-Length: -1")]),
    "a huge length": multipart_body([part(b"1", b"Content-Length: " + b"9" * 5000)]),
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
@pytest.mark.parametrize("size", [65368, 7])
def test_a_broken_body_is_refused(body: bytes, size: int) -> None:
    with block_size(size):
        refused(400, "FieldStorage: the multipart body is broken: ", body)


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/x; a=boundary=b",
    ],
)
def test_a_body_without_a_boundary_is_refused(content_type: str) -> None:
    refused(400, "has no boundary", WHOLE, content_type)


def test_a_client_that_goes_away_is_refused() -> None:
    class Request(FormRequest):
        def read(self, size: int = -1) -> bytes:
            raise ConnectionClosed("gone")

    for content_type in (MULTIPART, None):
        request = Request(None, WHOLE, content_type)
        with pytest.raises(SERVER_RETURN) as caught:
            util.FieldStorage(request)
        assert caught.value.args == (400,)
        assert "shorter than its Content-Length: gone" in request.text(apache.APLOG_WARNING)


# ---- random bodies

#: Content that is likely to be mistaken for a boundary or a line end.
TRICKY = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"-", b"--", b"\r\n--", BOUNDARY[:-1], BOUNDARY[:3], b"x", b"\0", b"\xff"]),
    max_size=12,
).map(b"".join)
CONTENT = (st.binary(max_size=300) | TRICKY).filter(lambda data: b"--" + BOUNDARY not in data)


@steady
@given(
    contents=st.lists(st.tuples(CONTENT, st.booleans()), max_size=6),
    size=st.integers(min_value=1, max_value=200),
    before=st.sampled_from([b"", b"\r\n", b"preamble\r\n"]),
)
@example(contents=[(b"\r", False), (b"\r\n", True), (b"\r\r", True)], size=1, before=b"")
def test_content_comes_out_as_it_was(contents: list[tuple[bytes, bool]], size: int, before: bytes) -> None:
    parts = [part(data, name=b"a", filename=b"f" if upload else None) for data, upload in contents]
    with block_size(size):
        fs = util.FieldStorage(
            FormRequest(None, before + multipart_body(parts), MULTIPART), file_callback=lambda name: BytesIO()
        )
    assert [field.file.read() for field in fs.list] == [data for data, _ in contents]
    assert [isinstance(field, util.Field) for field in fs.list] == [upload for _, upload in contents]


def answered(body: bytes, content_type: str, size: int) -> None:
    """Expect fields, or a 4xx and a message."""
    request = FormRequest(None, body, content_type)
    with block_size(size):
        try:
            fs = util.FieldStorage(request, file_callback=lambda name: BytesIO())
        except SERVER_RETURN as exc:
            status = exc.args[0]
        else:
            status = 200
    if status != 200:
        assert status in (400, 413)
        assert request.text(apache.APLOG_WARNING)
        return
    for field in fs.list:
        repr(field), field.headers, field.type_options, field.disposition_options, field.file.read()
    util.apply_fs_data(lambda **kw: kw, fs)


LINES = st.lists(
    st.sampled_from(
        [
            b"--" + BOUNDARY,
            b"--" + BOUNDARY + b"--",
            b"Content-Disposition: form-data; name=a",
            b'Content-Disposition: form-data; name="a"; filename="x"',
            b"Content-Disposition: form-data; name=\"\\\"; filename*=utf-8''%e",
            b'Content-Type: text/plain; charset="',
            b"Content-Length: 3",
            b" continued",
            b"\xff: \xfe",
            b":",
            b"",
            b"abc",
        ]
    )
    | st.binary(max_size=20),
    max_size=20,
).map(b"\r\n".join)


@steady
@given(body=LINES, size=st.integers(min_value=1, max_value=100))
def test_any_lines_have_an_answer(body: bytes, size: int) -> None:
    answered(body, MULTIPART, size)


@steady
@given(
    body=st.binary(max_size=500),
    kind=st.text(st.characters(min_codepoint=9, max_codepoint=255, exclude_characters="\r\n"), max_size=30),
    size=st.integers(min_value=1, max_value=100),
)
def test_any_bytes_have_an_answer(body: bytes, kind: str, size: int) -> None:
    answered(body, "multipart/" + kind, size)
    answered(body, "multipart/x; boundary=" + kind, size)


@steady
@given(st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 5), st.binary(max_size=3)), max_size=4))
def test_a_form_that_was_damaged_has_an_answer(changes: list[tuple[int, int, bytes]]) -> None:
    body = WHOLE
    for start, count, data in changes:
        body = body[:start] + data + body[start + count :]
    answered(body, MULTIPART, 65368)
