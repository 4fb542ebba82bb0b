"""What programs know from the standard library's old ``cgi.FieldStorage``, side by side with it.

It left Python with 3.13.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mod_python import util
from tests.form_requests import MULTIPART, URLENCODED, FormRequest, multipart_body, part, steady

if sys.version_info >= (3, 13):
    pytest.skip("the module cgi left Python with 3.13", allow_module_level=True)

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    cgi = importlib.import_module("cgi")


def both(
    args: str | None = None, body: bytes | None = None, content_type: str = URLENCODED, blank: bool = False
) -> tuple[Any, util.FieldStorage]:
    """Read a form twice."""
    environ = {"REQUEST_METHOD": "GET" if body is None else "POST", "QUERY_STRING": args or ""}
    if body is not None:
        environ |= {"CONTENT_TYPE": content_type, "CONTENT_LENGTH": str(len(body))}
    theirs = cgi.FieldStorage(BytesIO(body or b""), environ=environ, keep_blank_values=blank)
    return theirs, util.FieldStorage(FormRequest(args, body, content_type), keep_blank_values=blank)


def compare(theirs: Any, ours: util.FieldStorage) -> None:
    """Expect the same from both, where they have the same names."""
    assert sorted(theirs.keys()) == sorted(ours.keys())
    assert sorted(theirs) == sorted(ours)
    assert len(theirs) == len(ours)
    assert [field.name for field in theirs.list or []] == [field.name for field in ours.list]
    for name in [*theirs, MISSING]:
        assert (name in theirs) == (name in ours)
        first, ours_first = theirs.getfirst(name), ours.getfirst(name)
        assert first == (ours_first.value if ours_first is not None else None)
        assert theirs.getlist(name) == [field.value for field in ours.getlist(name)]
        if name == MISSING:
            for storage in (theirs, ours):
                with pytest.raises(KeyError):
                    storage[name]
            assert theirs.getfirst(name, 5) == ours.getfirst(name, 5)
            continue
        found, ours_found = theirs[name], ours[name]
        assert isinstance(found, list) == isinstance(ours_found, list)
        if isinstance(found, list):
            assert [field.value for field in found] == [field.value for field in ours_found]
        else:
            assert found.value == ours_found.value
            assert found.name == ours_found.name
            assert (found.filename or None) == ours_found.filename


#: A name that is longer than any that is made up.
MISSING = "not there"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@steady
@given(st.lists(st.tuples(TEXT.filter(bool), TEXT), max_size=8), st.booleans(), st.booleans())
def test_urlencoded(pairs: list[tuple[str, str]], post: bool, blank: bool) -> None:
    from urllib.parse import urlencode

    text = urlencode(pairs)
    if post:
        compare(*both(body=text.encode(), blank=blank))
    else:
        compare(*both(args=text, blank=blank))


@pytest.mark.parametrize("text", ["a", "a=", "a=b=c", "a=1&&b=2&", "a=%zz&b=%", "a+b=+", "a=1&a=&a=2", "a=%26%3D"])
@pytest.mark.parametrize("blank", [False, True])
def test_urlencoded_oddities(text: str, blank: bool) -> None:
    compare(*both(args=text, blank=blank))
    compare(*both(body=text.encode(), blank=blank))


def test_multipart() -> None:
    body = multipart_body(
        [
            part("Zoë".encode(), name=b"name"),
            part(b"", name=b"empty"),
            part(b"\0\xff\r\n", b"Content-Type: image/png", name=b"up", filename=b"a.png"),
            part(b"1", name=b"twice"),
            part(b"2", name=b"twice"),
        ]
    )
    # It keeps empty values of multipart forms only if told so.
    theirs, ours = both(body=body, content_type=MULTIPART, blank=True)
    compare(theirs, ours)
    assert theirs["up"].file.read() == ours["up"].file.read() == b"\0\xff\r\n"
    assert theirs["up"].type == ours["up"].type == "image/png"
    assert theirs["up"].disposition_options == ours["up"].disposition_options
    assert theirs["up"].headers["content-type"] == ours["up"].headers["content-type"]
