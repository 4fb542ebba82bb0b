"""A thread that a content handler leaves behind cannot touch the request's filters."""

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
