"""Content handlers on a real httpd: the request object and its members."""

from __future__ import annotations

import http.client
import random
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests.content_site import site

HANDLERS = """
# -- the object

def attributes(req):
    assert not hasattr(req, "form")
    req.form = [1]
    assert req.form == [1] and vars(req) == {"form": [1]}
    req.form.append(2)
    del req.form
    try:
        req.form
    except AttributeError as exc:
        assert "form" in str(exc)
    else:
        raise AssertionError
    for name in ("uri", "headers_in", "connection", "phase", "bytes_sent"):
        for change in (lambda: delattr(req, name), lambda: setattr(req, name, None)):
            try:
                change()
            except (AttributeError, TypeError):
                continue
            raise AssertionError(name)
    for name in ("status", "content_type"):
        try:
            delattr(req, name)
        except (AttributeError, TypeError, NotImplementedError):
            continue
        raise AssertionError(name)
    try:
        type(req)()
    except TypeError as exc:
        assert "mp_request" in str(exc)
    req.write("fine")
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
    assert req.document_root() and req.hlist.handler.startswith("/") and req.hlist.is_location == 1
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
    kept.update(req=req, headers=req.headers_in, notes=req.notes, write=req.write, iterator=iter(req.headers_in),
                options=req.get_options(), config=req.get_config(), own=apache.table({"a": "1"}))
    req.own_attribute = 1
    req.write("kept")
    return apache.OK

def check_detached():
    old = kept["req"]
    calls = {"write": (b"x",), "log_error": ("x",), "set_content_length": (1,), "ssl_var_lookup": ("X",)}
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
    must_raise("status=", setattr, old, "status", 200)
    must_raise("content_type=", setattr, old, "content_type", "text/plain")
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
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with site(HANDLERS, listen=2, tls=[1]) as server:
        yield server


# ---- the object


@pytest.mark.parametrize("path", ["attributes", "facts?a=b%20c", "tables"])
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


def test_keep_alive(server: Server) -> None:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        sock = None
        for number in range(50):
            path = ("/queued", "/flushed", "/nothing", "/returned?404")[number % 4]
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            assert response.status == (404 if "404" in path else 200)
            assert sock is None or connection.sock is sock
            sock = connection.sock
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
    assert server.request("POST", "/echo", body, index=1).body == body
