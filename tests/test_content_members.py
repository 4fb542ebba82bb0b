"""Content handlers on a real httpd: the request object and its members."""

from __future__ import annotations

import http.client
import random
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.content_site import exchange, get, site

HANDLERS = r'''
# -- the object

def attributes(req):
    assert not hasattr(req, "form")
    req.form = [1]
    assert req.form == [1] and vars(req) == {"form": [1]}
    req.form.append(2)
    del req.form
    for access in (lambda: req.form, lambda: delattr(req, "form")):
        try:
            access()
        except AttributeError as exc:
            assert "form" in str(exc)
        else:
            raise AssertionError
    req.write("fine")
    return apache.OK

READ_ONLY = """connection server next prev main the_request header_only protocol proto_num hostname request_time
    method method_number allowed allowed_xmethods allowed_methods sent_bodyct bytes_sent mtime range clength remaining
    read_length read_body read_chunked expecting_100 headers_in headers_out err_headers_out notes phase interpreter
    content_encoding content_languages vlist_validator unparsed_uri parsed_uri eos_sent useragent_addr useragent_ip
    hlist extension _content_type_set _bytes_queued _request_rec settings""".split()
WRITABLE = """assbackwards proxyreq status_line status chunked subprocess_env content_type handler user ap_auth_type
    no_cache no_local_copy uri filename canonical_filename path_info args finfo used_path_info""".split()

def read_only(req):
    before = {name: repr(getattr(req, name)) for name in READ_ONLY if "_rec" not in name}
    for name in READ_ONLY:
        for change in (lambda: setattr(req, name, None), lambda: setattr(req, name, "x"), lambda: delattr(req, name)):
            try:
                change()
            except AttributeError:
                continue
            raise AssertionError(name)
    assert before == {name: repr(getattr(req, name)) for name in before}
    for name in dir(type(req)):
        if name in ("__dict__", "_hlist"):
            continue
        before = getattr(req, name, None)
        try:
            delattr(req, name)
        except (AttributeError, TypeError):
            continue
        raise AssertionError(name)
    builtin = {n for n in dir(type(req)) if type(getattr(type(req), n)).__name__ == "getset_descriptor"}
    assert builtin - {"__dict__", "_hlist"} == {*READ_ONLY, *WRITABLE}, builtin ^ {*READ_ONLY, *WRITABLE}
    try:
        type(req)()
    except TypeError as exc:
        assert "mp_request" in str(exc)
    class Mine(type(req)):
        pass
    try:
        Mine()
    except TypeError:
        req.write("fine")
    return apache.OK

def writable(req):
    texts = {"uri": "/f\u00fcr\udcff", "filename": "/x/\u20ac\udc80", "canonical_filename": "/y", "path_info": "/p",
             "args": "a=1&b=%20\udcff", "user": "J\u00fcrgen", "ap_auth_type": "Test", "handler": "mod_python",
             "content_type": "text/x", "status_line": "200 Fine"}
    optional = {"args", "user", "ap_auth_type", "handler", "content_type", "status_line"}
    headers = {"args", "ap_auth_type", "handler", "content_type", "status_line"}
    latin = {"user", "ap_auth_type", "handler", "content_type", "status_line"}
    for name, text in texts.items():
        old = getattr(req, name)
        setattr(req, name, text)
        assert getattr(req, name) == text, name
        coded = text.encode("latin-1") if name in latin else text.encode("utf-8", "surrogateescape")
        setattr(req, name, coded)
        assert getattr(req, name) == text, name
        bad = [1, 1.5, ["x"], bytearray(b"x"), "a\0b", b"a\0b", "\ud800"]
        bad += [] if name in optional else [None]
        bad += [text + "\r\nX-Evil: 1", text + "\n", text + "\r"] if name in headers else []
        bad += [text + "\u20ac"] if name in latin else []
        for value in bad:
            try:
                setattr(req, name, value)
            except (TypeError, ValueError):
                assert getattr(req, name) == text
                continue
            raise AssertionError((name, value))
        if name in optional:
            setattr(req, name, None)
            assert getattr(req, name) is None, name
        if old is not None:
            setattr(req, name, old)
    flags = {"assbackwards": (0, 1), "no_cache": (1, 0), "no_local_copy": (1, 0), "chunked": (1, 0),
             "proxyreq": (1, 2, 3, 0), "used_path_info": (0, 1, 2)}
    for name, values in flags.items():
        old = getattr(req, name)
        for value in (1, *values):
            setattr(req, name, value)
            assert getattr(req, name) == value and type(getattr(req, name)) is int
        for value in ("1", None, 1.0, [1]):
            try:
                setattr(req, name, value)
            except TypeError:
                continue
            raise AssertionError((name, value))
        if name in ("proxyreq", "used_path_info"):
            for value in (-1, 4, 2**31, 2**64, -2**70):
                try:
                    setattr(req, name, value)
                except ValueError:
                    continue
                raise AssertionError((name, value))
        else:
            setattr(req, name, 2**70)
            assert getattr(req, name) == 1
        setattr(req, name, old)
    req.write("fine")
    return apache.OK

def status_lines(req):
    for bad in ("", "OK", "20", "2000 x", "2x0 y", "099 x", "200x", "\u0662\u0660\u0660 x"):
        try:
            req.status_line = bad
        except (ValueError, TypeError):
            continue
        raise AssertionError(bad)
    req.status_line = "299 My own"
    assert req.status == 299
    req.status = 299
    assert req.status_line == "299 My own"
    req.status = 404
    assert req.status_line is None
    req.status_line = "298 Own again"
    req.write("fine")
    return apache.OK

def environment(req):
    env = req.subprocess_env
    env["A"] = "1"
    for value in ({"Q": 'a "quoted" value', 1: 2}, apache.table({"Q": 'a "quoted" value', "1": "2"})):
        req.subprocess_env = value
        assert env.items() == [("Q", 'a "quoted" value'), ("1", "2")]
    req.subprocess_env = env
    req.subprocess_env = req.subprocess_env
    assert len(env) == 2
    for bad in (None, 1, "ab", ["abc"], {"k": "\u20ac"}, {"k": "a\0"}):
        try:
            req.subprocess_env = bad
        except (TypeError, ValueError):
            continue
        raise AssertionError(bad)
    assert len(env) == 2 and list(env.itervalues()) == ['a "quoted" value', "2"]
    req.write("fine")
    return apache.OK

def capsules(req):
    import ctypes
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    if "capsule" in kept:
        try:
            pointer(kept.pop("capsule"), b"mod_python.request_rec")
        except ValueError:
            req.write("fine")
        return apache.OK
    for owner, name in ((req, "request_rec"), (req.connection, "conn_rec"), (req.server, "server_rec")):
        capsule = getattr(owner, "_" + name)
        assert pointer(capsule, b"mod_python." + name.encode())
        assert pointer(capsule, b"mod_python." + name.encode()) == pointer(
            getattr(owner, "_" + name), b"mod_python." + name.encode())
    kept["capsule"] = req._request_rec
    return apache.OK

def facts(req):
    conn = req.connection
    assert req.connection is conn
    assert str(type(conn)) == "<class 'mp_conn'>", type(conn)
    assert str(type(req)) == "<class 'mp_request'>", type(req)
    assert str(type(req.server)) == "<class 'mp_server'>", type(req.server)
    assert str(type(req.headers_in)) == "<class 'mp_table'>", type(req.headers_in)
    assert req.server is req.server and type(conn.base_server) is type(req.server)
    assert req.next is None and req.prev is None and req.main is None
    assert req.the_request == "GET /facts?a=b%20c HTTP/1.1", req.the_request
    assert req.protocol == "HTTP/1.1" and req.proto_num == 1001
    assert req.header_only == 0 and req.method == "GET" and req.method_number == apache.M_GET
    assert req.hostname == "127.0.0.1" and req.headers_in["Host"].startswith("127.0.0.1:")
    import time
    assert abs(req.request_time - time.time()) < 60
    assert req.status == 200 and req.status_line is None
    assert req.sent_bodyct == 0 and req.bytes_sent == 0 and req.clength == 0 and req.chunked == 0
    assert req.phase == "PythonHandler" and req.handler == "mod_python" and req.extension is None
    assert req.interpreter == apache.interpreter == "main_interpreter"
    assert req.uri == "/facts" and req.unparsed_uri == "/facts?a=b%20c" and req.args == "a=b%20c"
    assert req.user is None and req.path_info is not None
    assert req.useragent_ip == conn.client_ip == "127.0.0.1"
    assert conn.client_addr[0] == conn.local_addr[0] == conn.local_ip == "127.0.0.1"
    assert conn.remote_host is None and conn.remote_logname is None and conn.local_host is None
    assert conn.aborted == 0 and conn.double_reverse == 0
    assert str(conn.notes) == "{}"
    assert req.document_root() and req.hlist.handler.startswith("/") and req.hlist.is_location == 0
    assert req._content_type_set == 0
    req.content_type = "text/plain"
    assert req.content_type == "text/plain" and req._content_type_set == 1
    assert "GET" in repr(req) and "127.0.0.1" in repr(conn)
    assert req.is_https() == 0 and req.ssl_var_lookup("SSL_PROTOCOL") is None
    req.notes["k"] = "v"
    assert req.notes["K"] == "v"
    import sys
    assert sys.argv == ["mod_python"]
    req.write("fine")
    assert (conn.keepalive, conn.keepalives) in ((apache.AP_CONN_KEEPALIVE, 1), (apache.AP_CONN_CLOSE, 0))
    return apache.OK

def tls(req):
    if req.method == "POST":
        req.write(req.read())
        return apache.OK
    req.write("%d %s %d" % (req.is_https(), req.ssl_var_lookup("SSL_PROTOCOL"), req.connection.is_https()))
    assert req.ssl_var_lookup("NO_SUCH_VARIABLE") is None
    return apache.OK

def tables(req):
    # The same objects, and changes through them last as long as the request.
    assert req.get_config() is req.get_config() and req.get_options() is req.get_options()
    req.get_options()["new"] = "value"
    assert req.get_options()["new"] == "value"
    req.write("fine")
    return apache.OK

def untouched_options(req):
    req.write(str("new" in req.get_options()))
    return apache.OK

def keep(req):
    kept.update(req=req, values={name: getattr(req, name) for name in WRITABLE},
                headers=req.headers_in, notes=req.notes, write=req.write, iterator=iter(req.headers_in),
                options=req.get_options(), config=req.get_config(), own=apache.table({"a": "1"}))
    req.own_attribute = 1
    req.write("kept")
    return apache.OK

def check_detached():
    old = kept["req"]
    calls = {"write": (b"x",), "log_error": ("x",), "set_content_length": (1,), "ssl_var_lookup": ("X",),
             "allow_methods": (["X"],), "construct_url": ("/",), "internal_redirect": ("/",), "sendfile": ("/",),
             "update_mtime": (1,), "add_handler": ("PythonHandler", "m"), "_add_handler": ("PythonHandler", None),
             "_option": ("n",), "_guard_head": (1,), "_has_passed_output": (),
             "wsgi_start_response": ("200 OK", []), "_wsgi_write": (b"x",), "_wsgi_send": (b"x",),
             "_wsgi_send_all": ([b"x"],), "_wsgi_send_file": ("/", 0, 1),
             "register_cleanup": (print,), "register_input_filter": ("f", "m"), "add_input_filter": ("f",),
             "register_output_filter": ("f", "m"), "add_output_filter": ("f",)}
    wrong = []
    checked = 0

    def must_raise(what, function, *args):
        nonlocal checked
        checked += 1
        try:
            function(*args)
        except apache.DetachedError as exc:
            assert isinstance(exc, RuntimeError) and "over" in str(exc)
        except Exception as exc:
            wrong.append("%s: %r" % (what, exc))
        else:
            wrong.append("%s: no exception" % what)

    for name in dir(type(old)):
        if name.startswith("__"):
            continue
        kind = type(getattr(type(old), name)).__name__
        if kind == "getset_descriptor":
            must_raise(name, getattr, old, name)
        else:
            must_raise(name, getattr(old, name), *calls.get(name, ()))
    values = {"status_line": "200 OK", "finfo": apache.stat("/", 0), "subprocess_env": {}}
    for name in WRITABLE:
        text = type(kept["values"][name]) in (str, type(None))
        must_raise(name + "=", setattr, old, name, values.get(name, "x" if text else 1))
    must_raise("iter", iter, old)
    must_raise("next", next, old)
    must_raise("bound write", kept["write"], b"x")
    must_raise("iterator", next, kept["iterator"])
    for label in ("headers", "notes", "options", "config"):
        table = kept[label]
        for name in ("keys", "values", "items", "clear", "copy", "popitem"):
            must_raise(label + "." + name, getattr(table, name))
        must_raise(label + "[]", lambda: table["k"])
        must_raise(label + "[]=", table.__setitem__, "k", "v")
        must_raise(label + " del", table.__delitem__, "k")
        for name in ("get", "has_key", "__contains__", "setdefault"):
            must_raise(label + "." + name, getattr(table, name), "k")
        must_raise(label + ".add", table.add, "k", "v")
        must_raise(label + ".update", table.update, {"k": "v"})
        must_raise(label + ".update table", table.update, apache.table({"k": "v"}))
        must_raise(label + ".init", table.__init__, {"k": "v"})
        for function in (len, bool, repr, str, list, iter):
            must_raise(label + " " + function.__name__, function, table)
        must_raise(label + " ==", lambda: table == {})
    assert "gone" in repr(old)
    assert kept["own"] == {"a": "1"} and old.own_attribute == 1
    return checked, wrong

def detached(req):
    results = [check_detached()]
    thread = threading.Thread(target=lambda: results.append(check_detached()))
    thread.start()
    thread.join()
    assert req is not kept["req"]
    for checked, wrong in results:
        assert not wrong, wrong
        assert checked > 120, checked
    assert len(results) == 2
    kept.clear()
    req.write("fine")
    return apache.OK
'''


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with site(HANDLERS, listen=2, tls=[1]) as server:
        yield server


# ---- the object


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("attributes", id="6.37-attributes"),
        pytest.param("read_only", id="6.37-read_only"),
        "writable",
        "environment",
        "facts?a=b%20c",
        "tables",
    ],
)
def test_object(server: Server, path: str) -> None:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        connection.request("GET", f"/{path}")
        assert connection.getresponse().read() == b"fine"
    finally:
        connection.close()


def test_options_of_a_request_are_its_own(server: Server) -> None:
    assert server.get("/tables").text == "fine"
    for _ in range(5):
        assert server.get("/untouched_options").text == "False"


def test_everything_is_detached_after_the_request(server: Server) -> None:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        connection.request("GET", "/keep")
        assert connection.getresponse().read() == b"kept"
        connection.request("GET", "/detached")
        assert connection.getresponse().read() == b"fine"
    finally:
        connection.close()


def test_tls(server: Server) -> None:
    response = server.get("/tls", index=1)
    assert response.status == 200
    https, protocol, conn = response.text.split()
    assert int(https)
    assert int(conn)
    assert protocol.startswith("TLSv1.")
    body = random.Random(1).randbytes(300_000)
    assert server.request("POST", "/tls", body, index=1).body == body


def test_status_line(server: Server) -> None:
    raw = exchange(server, get("/status_lines"))
    assert raw.startswith(b"HTTP/1.1 298 Own again\r\n")
    assert b"fine" in raw


def test_a_capsule_ends_with_its_record() -> None:
    with site(HANDLERS, processes=1) as server:
        # On one connection, where a request begins only after the one before has ended.
        connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
        try:
            for text in (b"", b"fine"):
                connection.request("GET", "/capsules")
                assert connection.getresponse().read() == text
        finally:
            connection.close()
