"""Threads of a handler: one at a time reads or writes, and none after the handler's end."""

from __future__ import annotations

from mod_python.testing.plugin import Factory

HANDLER = """
import threading, time
from mod_python import apache

results = []

def late(req):
    while req.phase is not None:
        time.sleep(0.001)
    for call in (lambda: req.write("late", 0), req.flush, req.read):
        try:
            call()
            results.append("done")
        except RuntimeError as error:
            results.append(type(error).__name__)

def handler(req):
    req.content_type = "text/plain"
    if req.args:
        req.write(" ".join(results))
        return apache.OK
    thread = threading.Thread(target=keep, args=(req,), daemon=True)
    thread.start()
    req.write("first", 0)
    return apache.OK

def keep(req):
    try:
        late(req)
    except apache.DetachedError:
        results.extend(["DetachedError"] * 3)
"""


def test_a_thread_left_behind_is_refused(httpd: Factory) -> None:
    server = httpd(handler=HANDLER, processes=1)
    assert server.get("/").body == b"first"
    server.wait_until(lambda: len(server.get("/?results").body.split()) == 3, what="the thread")
    answer = server.get("/?results").body.decode().split()
    assert set(answer) <= {"RuntimeError", "DetachedError"}


MEANWHILE = r"""
import threading, time
from mod_python import apache

def refusals(calls):
    found = []
    for call in calls:
        try:
            call()
            found.append("done")
        except RuntimeError as error:
            found.append(str(error))
    return found

def when_busy(req, probe, calls):
    '''Wait until another thread is inside I/O, and log what happens to each call.'''
    while True:
        try:
            probe()
        except RuntimeError as error:
            assert "another thread" in str(error), error
            break
        time.sleep(0.001)
    found = refusals(calls)
    assert req.uri == "/" and req.headers_in.items() is not None    # what is only read goes on
    req.log_error("refused %d of %d: %s" % (sum("thread" in text for text in found), len(found), found))

def handler(req):
    calls = [lambda: req.flush(), lambda: req.write("x", 0), lambda: req.write("x"), lambda: req.sendfile(__file__),
             lambda: req.internal_redirect("/"), lambda: setattr(req, "content_type", "text/x"),
             lambda: setattr(req, "uri", "/x"), lambda: setattr(req, "args", None), lambda: setattr(req, "status", 404),
             lambda: req.headers_out.add("X", "1"), lambda: req.notes.clear(),
             lambda: req.headers_out.items(), lambda: repr(req.notes), lambda: len(req.err_headers_out),
             lambda: "x" in req.subprocess_env,
             lambda: req.subprocess_env.update({"a": "b"}), lambda: req.add_common_vars(), lambda: req.add_cgi_vars(),
             lambda: req.set_etag(), lambda: req.set_last_modified(), lambda: req.update_mtime(5),
             lambda: req.meets_conditions(), lambda: req.set_content_length(5), lambda: req.allow_methods(["X"]),
             lambda: req.get_remote_host(), lambda: req.construct_url("/"), lambda: req.auth_type(),
             lambda: req.get_basic_auth_pw(), lambda: setattr(req, "subprocess_env", {}), lambda: req._drop_queued()]
    if req.method == "POST":
        calls += [lambda: req.read(), lambda: req.read(1), lambda: req.read(0), lambda: req.readline(),
                  lambda: req.readlines(), lambda: next(req), lambda: req.discard_request_body()]
    probe = lambda: req.notes.__setitem__("a", "b")
    thread = threading.Thread(target=when_busy, args=(req, probe, calls))
    thread.start()
    if req.method == "POST":
        body = req.read()
        thread.join()
        req.write(body)
    else:
        req.write(b"x" * 20_000_000)
        thread.join()
    return apache.OK
"""


def test_nothing_changes_while_another_thread_writes(httpd: Factory) -> None:
    server = httpd(handler=MEANWHILE)
    with server.connect() as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        match = server.wait_for_log(r"refused (\d+) of (\d+): .*")
        assert match[1] == match[2], match[0]
        data = b"".join(iter(lambda: sock.recv(1 << 20), b""))
    assert data.endswith(b"\r\n\r\n" + b"x" * 20_000_000)


def test_nothing_changes_while_another_thread_reads(httpd: Factory) -> None:
    server = httpd(handler=MEANWHILE)
    with server.connect() as sock:
        sock.sendall(b"POST / HTTP/1.0\r\nContent-Length: 20\r\n\r\n0123456789")
        match = server.wait_for_log(r"refused (\d+) of (\d+): .*")
        assert match[1] == match[2], match[0]
        sock.sendall(b"abcdefghij")
        data = b"".join(iter(lambda: sock.recv(1 << 20), b""))
    assert data.endswith(b"\r\n\r\n0123456789abcdefghij")
