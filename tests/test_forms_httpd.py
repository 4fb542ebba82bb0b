"""Forms on a real httpd: rows 11.1 to 11.5, large uploads, what is refused."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mod_python import util
from mod_python.testing import Response, Server
from tests.content_site import exchange, get, lines_of, site
from tests.form_requests import BOUNDARY, MULTIPART, URLENCODED, multipart_body, part
from tests.processes import MIB

HANDLERS = """
import hashlib, json, os
from io import BytesIO
from mod_python import util

def fields(req):
    req.form = util.FieldStorage(req, keep_blank_values=int(req.get_options().get("blank", 0)))
    req.write(repr(req.form.list))
    return apache.OK

def content(req):
    # What was received, as digests: name, file name, digest, headers.
    found = []
    for field in util.FieldStorage(req).list:
        digest = hashlib.sha256()
        size = 0
        while data := field.file.read(1 << 16):
            digest.update(data)
            size += len(data)
        found.append([field.name, field.filename, size, digest.hexdigest(), dict(field.headers.items())])
    req.write(json.dumps(found))
    return apache.OK

def callbacks(req):
    made = []
    def file(name):
        made.append(name)
        return BytesIO()
    def field():
        made.append("")
        return BytesIO()
    form = util.FieldStorage(req, file_callback=file, field_callback=field)
    req.write(repr([made, form.list, type(form.list[0].file).__name__]))
    return apache.OK

def apply(req):
    def target(req, a, b=0, *, upload=None):
        return [req.uri, a, b, upload and upload.value.decode()]
    req.write(json.dumps(util.apply_fs_data(target, util.FieldStorage(req), req=req)))
    return apache.OK

def directory(req):
    # The directory of the temporary file, which has no name, from the system.
    form = util.FieldStorage(req)
    req.write(os.readlink("/proc/self/fd/%d" % form["up"].file.fileno()))
    return apache.OK

def private(req):
    import _apache
    req.write(repr([_apache.parse_qs(req.args), _apache.parse_qsl(req.args), _apache.parse_qsl is util.parse_qsl]))
    return apache.OK

def pid(req):
    req.write(str(os.getpid()))
    return apache.OK

def speed(req):
    from time import perf_counter
    best = 1.0
    for _ in range(200):
        start = perf_counter()
        for _ in range(50):
            util.FieldStorage(req)
        best = min(best, (perf_counter() - start) / 50)
    req.write("%.2f us" % (best * 1e6))
    return apache.OK
"""

CONFIG = """
PythonOption mod_python.util.temp_directory ${SITE}/uploads
<Location /few>
    PythonOption mod_python.util.max_fields 2
    PythonOption mod_python.util.max_files 1
    PythonOption mod_python.util.max_memory 150
</Location>
<Location /small>
    PythonOption mod_python.util.max_size 1000
</Location>
<Location /wrong>
    PythonOption mod_python.util.max_fields many
</Location>
<Location /blank>
    PythonOption blank 1
</Location>
<Location /httpd>
    LimitRequestBody 1000
</Location>
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with site(HANDLERS, CONFIG, files={"uploads/note": ""}, processes=1) as server:
        (server.site / "uploads").chmod(0o777)
        yield server


def post(server: Server, path: str, body: bytes, content_type: str | None = MULTIPART) -> Response:
    return server.request("POST", path, body, {} if content_type is None else {"Content-Type": content_type})


def refused(server: Server, status: int, message: str, path: str, body: bytes, content_type: str = MULTIPART) -> None:
    """Expect a form to be refused, and the log to say why."""
    before = len(lines_of(server, message))
    response = post(server, path, body, content_type)
    assert response.status == status
    server.wait_until(lambda: len(lines_of(server, message)) > before, what=f"{message!r} in the log")


def digest(data: bytes) -> list[Any]:
    return [len(data), hashlib.sha256(data).hexdigest()]


# ---- the rows


def test_row_11_1_urlencoded_post(server: Server) -> None:
    body = b"spam=1&spam=2&spam=3&eggs=4"
    expected = "[Field('spam', '1'), Field('spam', '2'), Field('spam', '3'), Field('eggs', '4')]"
    assert post(server, "/fields", body, URLENCODED).text == expected
    assert post(server, "/fields", body, None).text == expected
    assert server.get("/fields?" + body.decode()).text == expected
    assert post(server, "/fields?spam=0", b"spam=1", URLENCODED).text == "[Field('spam', '0'), Field('spam', '1')]"


def test_row_11_2_upload(server: Server) -> None:
    data = random.Random(11).randbytes(MIB)
    parts = [
        part(data, b'Content-Disposition: form-data;\r\n name="upload"; filename="random.bin"'),
        part(b"text", b'Content-Disposition: form-data;\r\n\tname="text"'),
    ]
    # Python's own email package makes such boundaries.
    boundary = b"===============0123456789=="
    body = multipart_body(parts, boundary)
    for quoted in ('"%s"', "%s"):
        response = post(server, "/content", body, "multipart/form-data; boundary=" + quoted % boundary.decode())
        upload, text = json.loads(response.text)
        assert upload[:4] == ["upload", "random.bin", *digest(data)]
        assert text[:4] == ["text", None, *digest(b"text")]
        assert text[4] == {"Content-Disposition": 'form-data; name="text"'}


def around(content: bytes, ends_at: int) -> bytes:
    """Return a body whose file has this content, the last byte of it being the byte `ends_at` of the body."""
    filler = part(b"-" * 100, b"X: y", name=b"filler")
    head = part(b"", name=b"upload", filename=b"x")
    empty = multipart_body([filler, head])
    begins = empty.index(b'filename="x"\r\n\r\n') + len(b'filename="x"\r\n\r\n')
    missing = ends_at - begins - len(content)
    filler += b"-" * missing
    body = multipart_body([filler, head + content])
    assert body.index(content + b"\r\n--" + BOUNDARY + b"--") + len(content) == ends_at
    return body


def comes_back(server: Server, body: bytes, content: bytes) -> None:
    found = {field[0]: field[2:4] for field in json.loads(post(server, "/content", body).text)}
    assert found["upload"] == digest(content)


def test_row_11_3_carriage_return_at_the_end_of_a_block(server: Server) -> None:
    size = util.readBlockSize
    # More follows on the same line: bytes, another CR, or LF.
    for more in (b"more", b"\rmore", b"\n", b"\r\n", b"\r\r\n--"):
        content = b"abc" * 1000 + b"\r" + more
        comes_back(server, around(content, size + len(more)), content)
    # A line of a block's length, from the beginning of the content.
    content = b"a" * (size - 1) + b"\r" + b"more"
    comes_back(server, multipart_body([part(content, name=b"upload", filename=b"x")]), content)


def test_row_11_4_line_end_before_the_boundary_in_two_blocks(server: Server) -> None:
    size = util.readBlockSize
    content = b"first line\r\n" + b"a" * 1000
    # The block ends after the content, after its CR, after the line end, and within the
    # boundary.
    for after in range(len(BOUNDARY) + 8):
        comes_back(server, around(content, size - after), content)
    content = b"first line\r\n" + b"a" * (size - 1)
    comes_back(server, multipart_body([part(content, name=b"upload", filename=b"x")]), content)


def test_row_11_5_carriage_return_before_the_line_end(server: Server) -> None:
    size = util.readBlockSize
    for end in (b"\r", b"\r\r", b"\n\r", b"\r\n", b"\r\n\r"):
        content = b"first line\r\n" + b"a" * 1000 + end
        for after in range(4):
            comes_back(server, around(content, size - after), content)
    content = b"first line\r\n" + b"a" * (size - 1) + b"\r"
    comes_back(server, multipart_body([part(content, name=b"upload", filename=b"x")]), content)


# ---- the rest


def test_values_are_text(server: Server) -> None:
    expected = "[Field('ä', 'ö\\udcff\\x00')]"
    assert post(server, "/fields", b"%C3%A4=%C3%B6%FF%00", URLENCODED).text == expected
    assert post(server, "/fields", b"\xc3\xa4=\xc3\xb6\xff%00", URLENCODED).text == expected
    assert server.get("/fields?%C3%A4=%C3%B6%FF%00").text == expected
    body = multipart_body([part(b"\xc3\xb6\xff\0", name=b"\xc3\xa4")])
    assert post(server, "/fields", body).text == expected


def test_blank_values(server: Server) -> None:
    assert server.get("/fields?a=&b").text == "[]"
    assert post(server, "/blank/fields?a=", b"b&c=1", None).text == "[Field('a', ''), Field('b', ''), Field('c', '1')]"
    assert server.get("/fields").text == "[]"
    assert server.get("/fields?").text == "[]"


def test_callbacks(server: Server) -> None:
    body = multipart_body([part(b"1", name=b"a"), part(b"2", name=b"b", filename=b"x.txt")])
    assert post(server, "/callbacks", body).text == "[['', 'x.txt'], [Field('a', '1'), Field('b', b'2')], 'BytesIO']"


def test_apply_fs_data(server: Server) -> None:
    body = multipart_body(
        [part(b"1", name=b"a"), part(b"2", name=b"req"), part(b"3", name=b"upload", filename=b"x.txt")]
    )
    assert json.loads(post(server, "/apply?b=4&b=5&nonsense=1", body).text) == ["/apply", "1", ["4", "5"], "3"]


def test_the_private_module_has_parse_qs(server: Server) -> None:
    assert server.get("/private?a=1&a=%32").text == repr([{"a": ["1", "2"]}, [("a", "1"), ("a", "2")], True])


def test_where_uploads_are_kept(server: Server) -> None:
    body = multipart_body([part(b"1", name=b"up", filename=b"x")])
    assert Path(post(server, "/directory", body).text.split(" ")[0]).parent == server.site / "uploads"
    assert [path.name for path in (server.site / "uploads").iterdir()] == ["note"]


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/fields", [part(b"1", name=b"a")] * 10_000, "more than 1000 fields (max_fields)"),
        ("/fields", [part(b"1", name=b"a", filename=b"x")] * 10_000, "more than 100 uploads (max_files)"),
        ("/fields", [part(b"1" * 9 * MIB, name=b"a")], f"more than {8 * MIB} bytes (max_memory)"),
        ("/fields", [part(b"1", b"X: " + b"y" * 9 * MIB)], "header length"),
        ("/few/fields", [part(b"1", name=b"a")] * 3, "more than 2 fields (max_fields)"),
        ("/few/fields", [part(b"1", name=b"a", filename=b"x")] * 2, "more than 1 uploads (max_files)"),
        ("/few/fields", [part(b"1" * 200, name=b"a")], "more than 150 bytes (max_memory)"),
        ("/small/fields", [part(b"1" * 2000, name=b"a", filename=b"x")], "more than 1000 bytes (max_size)"),
    ],
    ids=["parts", "uploads", "memory", "header", "fewer parts", "fewer uploads", "less memory", "size"],
)
def test_too_much(server: Server, path: str, body: list[bytes], message: str) -> None:
    refused(server, 413, message, path, multipart_body(body))


def test_too_much_that_is_urlencoded(server: Server) -> None:
    refused(server, 413, "more than 1000 fields (max_fields)", "/fields", b"a=1&" * 10_000, URLENCODED)
    refused(server, 413, f"more than {8 * MIB} bytes (max_memory)", "/fields", b"a=" + b"x" * 8 * MIB, URLENCODED)
    assert server.get("/fields?" + "a=1&" * 1000).status == 413


WHOLE = multipart_body([part(b"1", name=b"a"), part(b"2", name=b"b", filename=b"x")])


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"", MULTIPART, "the multipart body is broken"),
        (WHOLE[:-4], MULTIPART, "the multipart body is broken"),
        (WHOLE[:80], MULTIPART, "the multipart body is broken"),
        (WHOLE.replace(b"\r\n", b"\n"), MULTIPART, "the multipart body is broken"),
        (WHOLE, "multipart/form-data; boundary=other", "the multipart body is broken"),
        (WHOLE, "multipart/form-data", "has no boundary"),
        (multipart_body([part(b"1", b"Content-Length: 2")]), MULTIPART, "the multipart body is broken"),
    ],
    ids=["nothing", "no end", "cut", "line feeds", "other boundary", "no boundary", "length of a part"],
)
def test_broken_bodies(server: Server, body: bytes, content_type: str, message: str) -> None:
    refused(server, 400, message, "/fields", body, content_type)


def test_other_bodies(server: Server) -> None:
    refused(server, 501, "a body of type 'application/json' is no form", "/fields", b"{}", "application/json")
    raw = exchange(server, get("/fields", method="POST"))
    assert raw.startswith(b"HTTP/1.1 411 ")
    raw = exchange(server, get("/fields", "Transfer-Encoding: chunked", method="POST") + b"3\r\na=1\r\n0\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 411 ")
    # The type tells nothing about a body that is not looked at.
    assert server.request("PUT", "/fields?a=1", b"{}", {"Content-Type": "application/json"}).text == "[Field('a', '1')]"


@pytest.mark.parametrize("content_type", [MULTIPART, URLENCODED])
@pytest.mark.parametrize("length", ["0", "1", "10", "abc", "-5", "9" * 30, "more", "less", "99999"])
def test_wrong_lengths(server: Server, content_type: str, length: str) -> None:
    count = {"more": str(len(WHOLE) + 5), "less": str(len(WHOLE) - 5)}.get(length, length)
    head = get("/fields", f"Content-Length: {count}", f"Content-Type: {content_type}", method="POST")
    with server.connect() as sock:
        sock.sendall(head + WHOLE)
        sock.shutdown(socket.SHUT_WR)
        raw = b"".join(iter(lambda: sock.recv(65536), b""))
    complete = content_type == URLENCODED and length in ("0", "1", "10", "less")
    assert re.match(rb"HTTP/1\.1 200 " if complete else rb"HTTP/1\.1 4\d\d ", raw), raw


def test_httpds_own_limit(server: Server) -> None:
    response = post(server, "/httpd/fields", multipart_body([part(b"x" * 2000, name=b"a")]))
    assert response.status == 413


def test_an_option_that_is_wrong(server: Server) -> None:
    server.allow(r"max_fields must be a number, not 'many'")
    assert server.get("/wrong/fields?a=1").status == 500
    server.wait_for_log(r"PythonOption mod_python\.util\.max_fields must be a number, not 'many'")


def peak(pid: int) -> int:
    """Return the most memory that a process had so far, in bytes."""
    match = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


def test_a_large_upload_takes_no_memory(server: Server) -> None:
    def upload(megabytes: int) -> None:
        """Send a file whose megabytes are all different; expect it to have arrived."""
        block = random.Random(megabytes).randbytes(MIB - 8)
        head = b"--%b\r\n%b" % (BOUNDARY, part(name=b"up", filename=b"large.bin"))
        tail = b"\r\n--%b--\r\n" % BOUNDARY
        expected = hashlib.sha256()

        def pieces() -> Iterator[bytes]:
            yield head
            for number in range(megabytes):
                data = number.to_bytes(8, "big") + block
                expected.update(data)
                yield data
            yield tail

        connection = http.client.HTTPConnection(server.host, server.port, timeout=120)
        try:
            length = len(head) + megabytes * MIB + len(tail)
            headers = {"Content-Type": MULTIPART, "Content-Length": str(length)}
            connection.request("POST", "/content", pieces(), headers)
            response = connection.getresponse()
            assert response.status == 200
            found = json.loads(response.read())
        finally:
            connection.close()
        assert found[0][:4] == ["up", "large.bin", megabytes * MIB, expected.hexdigest()]

    pid = int(server.get("/pid").text)
    upload(2)
    before = peak(pid)
    upload(200)
    assert int(server.get("/pid").text) == pid
    assert peak(pid) - before < 8 * MIB


def test_uploads_that_are_refused_leave_no_descriptors(server: Server) -> None:
    pid = int(server.get("/pid").text)

    def files() -> int:
        found = 0
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found += "/uploads/" in str(entry.readlink())
            except OSError:
                pass
        return found

    body = multipart_body([part(b"1", name=b"a", filename=b"x")] * 50)
    for _ in range(5):
        assert post(server, "/fields", body[:-10]).status == 400
    server.wait_until(lambda: files() == 0, what="closed files")
