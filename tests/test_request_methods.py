"""Methods of the request that ask httpd or tell it something; hostile input."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from mod_python.testing import Server
from tests.content_site import exchange, site

HANDLERS = r"""
import os, time

# -- authentication

def password(req):
    before = req.user, req.ap_auth_type
    found = req.get_basic_auth_pw()
    req.content_type = "text/plain; charset=utf-8"
    req.write(ascii([found, req.user, req.ap_auth_type, before, req.auth_type(), req.auth_name()]))
    return apache.OK

# -- methods

def allow(req):
    for bad, error in ((None, TypeError), ("GET", TypeError), (b"GET", TypeError), ([1], TypeError), (5, TypeError),
                       (["A\r\nX-Evil: 1"], ValueError), ([""], ValueError), (["A B"], ValueError),
                       (["\xe9"], ValueError), (["\u20ac"], TypeError), (["A\0"], ValueError)):
        try:
            req.allow_methods(bad)
        except error:
            continue
        raise AssertionError(bad)
    req.allow_methods(["GET", "XTEST"])
    assert req.allowed_methods == ("XTEST",), req.allowed_methods
    req.allow_methods(["MKWORKSPACE"], 1)
    assert req.allowed_methods == ()
    req.allow_methods(("YTEST", "PUT"))
    return apache.HTTP_METHOD_NOT_ALLOWED

# -- variables

def cgi(req):
    req.add_cgi_vars()
    names = ("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "REQUEST_URI", "HTTP_X_OWN", "HTTP_AUTHORIZATION")
    env = req.subprocess_env
    req.write(repr([env.get(name) for name in names]))
    assert "PATH_TRANSLATED" not in env
    return apache.OK

def urls(req):
    port = req.connection.local_addr[1]
    assert req.construct_url("/x y") == "http://127.0.0.1:%d/x y" % port, req.construct_url("/x y")
    assert req.construct_url("/\udcff") == "http://127.0.0.1:%d/\udcff" % port
    for bad in (None, 1, "/\0"):
        try:
            req.construct_url(bad)
        except (TypeError, ValueError):
            continue
        raise AssertionError
    assert not hasattr(req, "requires")
    req.write("fine")
    return apache.OK

def extensions(req):
    req.write(req.get_addhandler_exts())
    return apache.OK

# -- conditions

def conditional(req):
    req.update_mtime(1000000000.9)
    assert req.mtime == 1000000000.0
    req.set_etag()
    req.set_last_modified()
    status = req.meets_conditions()
    if status != apache.OK:
        return status
    req.write("whole")
    return apache.OK

# -- file information

def stat(req):
    info = req.finfo
    assert info.filetype == info[apache.FINFO_FILETYPE] == apache.APR_NOFILE
    for name in ("protection", "inode", "size", "mtime", "valid", "name", "user"):
        assert getattr(info, name) is None, name
    info = apache.stat(__file__, apache.APR_FINFO_NORM)
    real = os.stat(__file__)
    assert (info.fname, info.filetype, info.size) == (__file__, apache.APR_REG, real.st_size)
    assert (info.inode, info.device, info.nlink) == (real.st_ino, real.st_dev, real.st_nlink)
    assert (info.user, info.group) == (real.st_uid, real.st_gid)
    assert (info.mtime, info.ctime) == (int(real.st_mtime), int(real.st_ctime))
    assert info.protection == int("%o" % (real.st_mode & 0o777), 16)
    assert info.valid & apache.APR_FINFO_MIN == apache.APR_FINFO_MIN
    fields = ("MODE", "INO", "DEV", "NLINK", "UID", "GID", "SIZE", "ATIME", "MTIME", "CTIME", "FNAME", "NAME",
              "FILETYPE")
    names = ("protection inode device nlink user group size atime mtime ctime fname name filetype").split()
    for field, name in zip(fields, names):
        assert info[getattr(apache, "FINFO_" + field)] == getattr(info, name), name
    for bad in (13, -1, 2**70, -2**70):
        try:
            info[bad]
        except IndexError:
            continue
        raise AssertionError(bad)
    for bad in ("0", None, 1.0):
        try:
            info[bad]
        except TypeError:
            continue
        raise AssertionError(bad)
    for change in (lambda: info.none, lambda: setattr(info, "none", 1), lambda: setattr(info, "size", 1),
                   lambda: delattr(info, "size")):
        try:
            change()
        except AttributeError:
            continue
        raise AssertionError
    assert repr(info).startswith("{") and "'size': %d" % real.st_size in repr(info)
    none = apache.stat(__file__ + ".none", apache.APR_FINFO_NORM)
    assert none.filetype == apache.APR_NOFILE and none.fname == __file__ + ".none" and none.size is None
    assert apache.stat(__file__ + "/below", 0).filetype == apache.APR_NOFILE
    assert apache.stat(os.path.dirname(__file__).encode(), apache.APR_FINFO_TYPE).filetype == apache.APR_DIR
    for bad, wanted, error in (("a\0b", 0, ValueError), (None, 0, TypeError), (1, 0, TypeError), ("/", "x", TypeError),
                               ("/", 2**40, OverflowError), ("/" + "x" * 5000, 0, OSError)):
        try:
            apache.stat(bad, wanted)
        except error as exc:
            assert error is not OSError or (exc.errno and exc.filename == bad), exc
            continue
        raise AssertionError(bad)
    try:
        type(info)()
    except TypeError as exc:
        assert "mp_finfo" in str(exc)
    # Assigned to the request; the old object stays as it was.
    req.finfo = info
    assert req.finfo.size == info.size and req.finfo.fname == info.fname and repr(req.finfo) == repr(info)
    for bad in (None, {}, os.stat("/"), "x"):
        try:
            req.finfo = bad
        except TypeError:
            continue
        raise AssertionError(bad)
    req.finfo = none
    assert req.finfo.filetype == apache.APR_NOFILE
    kept["info"] = info
    req.write("fine")
    return apache.OK

def after(req):
    req.write(repr(kept["info"].size))
    return apache.OK

# -- odd input

def odd(req):
    req.content_type = "text/plain; charset=utf-8"
    req.write(ascii([req.uri, req.args, req.unparsed_uri, req.parsed_uri[6:8], req.path_info, req.the_request,
                     req.headers_in.get("X-Odd")]))
    return apache.OK
"""

CONFIG = """
AddHandler mod_python .one two
AddHandler python-program three
AddHandler other-handler four
<Directory /nowhere>
    AddHandler mod_python .five .one
</Directory>
<VirtualHost 127.0.0.1:${PORT2}>
    ServerName second
    AddHandler mod_python six
    <Directory />
        SetHandler mod_python
        PythonHandler ${SITE}/handlers.py
    </Directory>
</VirtualHost>
<Location /basic>
    AuthType Basic
    AuthName "a realm"
    Require all granted
</Location>
<Location /digest>
    AuthType Digest
    AuthName "a realm"
    Require all granted
</Location>
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with site(HANDLERS, CONFIG, listen=2, processes=1, modules=["mod_authn_core", "mod_mime"]) as server:
        yield server


def basic(credentials: bytes) -> str:
    return "Basic " + base64.b64encode(credentials).decode()


EVERY = bytes(range(1, 256)).replace(b":", b"")


@pytest.mark.parametrize(
    ("path", "header", "expected"),
    [
        pytest.param("basic", basic(b"spam:eggs"), ("eggs", "spam"), id="6.28"),
        pytest.param("basic", basic(b"sp\xe4m:\xe9ggs"), ("\xe9ggs", "sp\xe4m"), id="6.28-latin-1"),
        ("basic", basic(b"u:a:b"), ("a:b", "u")),
        ("basic", basic(b"u:"), ("", "u")),
        ("basic", basic(b":p"), ("p", "")),
        ("basic", basic(b"nocolon"), None),
        ("basic", basic(EVERY + b":" + EVERY), (EVERY.decode("latin-1"),) * 2),
        ("basic", "bAsIc   " + basic(b"u:p")[6:], ("p", "u")),
        ("basic", basic(b"u\0x:p"), None),
        ("basic", basic(b"u:p\0x"), None),
        ("basic", "Basic a", None),
        ("basic", "Basic", None),
        ("basic", "Digest x=y", None),
        ("basic", None, None),
        ("none", basic(b"u:p"), None),
        ("digest", basic(b"u:p"), None),
    ],
)
def test_get_basic_auth_pw(server: Server, path: str, header: str | None, expected: tuple[str, str] | None) -> None:
    response = server.get(f"/{path}/password", {"Authorization": header} if header is not None else {})
    kind = {"basic": "Basic", "digest": "Digest", "none": None}[path]
    realm = None if kind is None else "a realm"
    found = (*expected, "Basic") if expected is not None else (None, None, None)
    assert response.text == ascii([*found, (None, None), kind, realm])
    assert "WWW-Authenticate" not in response.headers


def test_row_3_18_allow_methods(server: Server) -> None:
    response = server.get("/allow")
    assert response.status == 405
    allowed = {method.strip() for method in response.headers["Allow"].split(",")}
    assert allowed >= {"MKWORKSPACE", "YTEST", "PUT"}
    assert "XTEST" not in allowed


def test_cgi_variables() -> None:
    config = "<Directory ${SITE}/docs>\nAcceptPathInfo On\n</Directory>\n"
    with site(HANDLERS, config) as server:
        headers = {"X-Own": "1", "Authorization": "secret"}
        response = server.get("/index.html/more/cgi?a=b%20c", headers)
        assert response.text == repr(["/index.html", "/more/cgi", "a=b%20c", "/index.html/more/cgi", "1", None])


@pytest.mark.parametrize("path", ["urls", "stat"])
def test_checks(server: Server, path: str) -> None:
    assert server.get(f"/{path}").text == "fine"


def test_file_information_outlives_the_request(server: Server) -> None:
    assert server.get("/stat").text == "fine"
    assert int(server.get("/after").text) > 1000


def test_extensions_of_addhandler(server: Server) -> None:
    assert server.get("/extensions").text.split() == ["one", "two", "three", "five"]
    assert set(server.get("/extensions", index=1).text.split()) == {"one", "two", "three", "five", "six"}


def test_conditions(server: Server) -> None:
    first = server.get("/conditional")
    assert (first.status, first.text) == (200, "whole")
    assert first.headers["Last-Modified"] == formatdate(1000000000, usegmt=True)
    etag = first.headers["ETag"]
    for headers, status in (
        ({"If-None-Match": etag}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-Modified-Since": formatdate(time.time(), usegmt=True)}, 304),
        ({"If-Modified-Since": formatdate(999999999, usegmt=True)}, 200),
        ({"If-Unmodified-Since": formatdate(999999999, usegmt=True)}, 412),
        ({"If-Match": '"other"'}, 412),
    ):
        assert server.get("/conditional", headers).status == status, headers


# ---- odd input


def test_eight_bit_input(server: Server) -> None:
    raw = exchange(server, b"GET /a%ff%c3%a4%0d%0a%01/odd?q=%ff HTTP/1.0\r\nX-Odd: \xff\xe4\r\n\r\n")
    assert (
        raw.endswith(
            ascii(
                [
                    "/a\udcff\xe4\r\n\x01/odd",
                    "q=%ff",
                    "/a%ff%c3%a4%0d%0a%01/odd?q=%ff",
                    ("/a%ff%c3%a4%0d%0a%01/odd", "q=%ff"),
                    "\xff\xe4",
                ]
            ).encode()
        )
        or b"200 OK" in raw
    )


@pytest.mark.parametrize("target", [b"/\xff/odd", b"/odd?\xe4", b"/odd\x00x", b"/%00/odd", b"/odd?\x01"])
def test_bytes_that_no_uri_has(server: Server, target: bytes) -> None:
    """httpd refuses them, or they can be read; nothing breaks."""
    raw = exchange(server, b"GET " + target + b" HTTP/1.0\r\n\r\n")
    assert raw.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 ", b"HTTP/1.1 404 "))


@pytest.mark.parametrize(
    "head",
    [
        b"X-Odd: " + b"x" * 8000,
        b"X-Odd: " + b"x" * 9000,
        b"\r\n".join(b"X-%d: 1" % n for n in range(90)),
        b"\r\n".join(b"X-Odd: %d" % n for n in range(200)),
        b"X-Odd: a\0b",
    ],
    ids=["8000", "9000", "90 fields", "200 fields", "NUL"],
)
def test_huge_headers(server: Server, head: bytes) -> None:
    raw = exchange(server, b"GET /odd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + head + b"\r\n\r\n")
    assert raw.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
