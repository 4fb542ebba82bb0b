"""A Flask application under mod_python.wsgi, below a location of a site."""

from __future__ import annotations

import hashlib
import http.client
import http.cookiejar
import io
import json
import random
import urllib.request
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from tests import needs
from tests.content_site import exchange, get
from tests.servers import running

SHOP = r"""
import hashlib
import io
import threading
from pathlib import Path

from flask import Flask, Response, abort, jsonify, redirect, request, send_file, session, stream_with_context, url_for

app = Flask(__name__, static_folder=None)
app.secret_key = "only for this test"
HERE = Path(__file__).parent

@app.get("/")
def index():
    return "index at %s, item at %s" % (url_for("index"), url_for("item", name="caf\u00e9", _external=True))

@app.get("/item/<name>")
def item(name):
    return f"{name}: {request.args.getlist('size')}"

@app.route("/form", methods=["GET", "POST"])
def form():
    return jsonify(request.form.to_dict(flat=False))

@app.post("/upload")
def upload():
    file = request.files["file"]
    data = file.read()
    return jsonify(name=file.filename, size=len(data), sha256=hashlib.sha256(data).hexdigest())

@app.post("/raw")
def raw():
    return jsonify(size=len(request.get_data()), length=request.content_length)

@app.post("/json")
def as_json():
    return jsonify(got=request.get_json())

@app.get("/login/<name>")
def login(name):
    session["user"] = name
    return redirect(url_for("who"))

@app.get("/who")
def who():
    return f"{session.get('user')} {request.remote_addr} {request.scheme}"

@app.get("/file")
def file():
    return send_file(HERE / "data.bin", mimetype="application/x-data", conditional=True)

@app.get("/memory")
def memory():
    return send_file(io.BytesIO(b"in memory"), mimetype="text/plain")

@app.get("/stream")
def stream():
    @stream_with_context
    def parts():
        for number in range(5):
            yield f"{number} {request.path}\n"
    return Response(parts(), mimetype="text/plain")

@app.get("/fail")
def fail():
    raise ValueError("Flask reports it itself")

@app.get("/abort")
def aborted():
    abort(418)

@app.errorhandler(404)
def not_found(error):
    return "nothing here: " + request.script_root + "|" + request.path, 404
"""

DATA = bytes(range(256)) * 1000

CONFIG = """
KeepAliveTimeout 60
PythonPath "sys.path+['${SITE}']"
<Location "/shop">
    SetHandler mod_python
    PythonHandler mod_python.wsgi
    PythonOption mod_python.wsgi.application shop::app
</Location>
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    needs.package("flask")
    with running(CONFIG, files={"shop.py": SHOP, "data.bin": DATA}) as server:
        yield server


def test_urls(server: Server) -> None:
    assert server.get("/shop/").text == (f"index at /shop/, item at http://127.0.0.1:{server.port}/shop/item/caf%C3%A9")
    assert server.get("/shop/item/caf%C3%A9?size=1&size=2").text == "caf\u00e9: ['1', '2']"
    response = server.get("/shop")
    assert (response.status, response.headers["Location"]) == (308, f"http://127.0.0.1:{server.port}/shop/")


def test_errors(server: Server) -> None:
    response = server.get("/shop/no/such")
    assert (response.status, response.text) == (404, "nothing here: /shop|/no/such")
    assert server.get("/shop/abort").status == 418
    response = server.request("DELETE", "/shop/form")
    assert response.status == 405
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    server.allow("Flask reports it itself")
    assert server.get("/shop/fail").status == 500
    server.wait_for_log("ValueError: Flask reports it itself")


def test_forms(server: Server) -> None:
    fields = {"Content-Type": "application/x-www-form-urlencoded"}
    response = server.request("POST", "/shop/form", b"a=1&b=caf%C3%A9&a=2", fields)
    assert json.loads(response.text) == {"a": ["1", "2"], "b": ["caf\u00e9"]}
    response = server.request("POST", "/shop/json", b'{"x": [1, 2]}', {"Content-Type": "application/json"})
    assert json.loads(response.text) == {"got": {"x": [1, 2]}}


def test_upload(server: Server) -> None:
    data = random.Random(7).randbytes(3_000_000)
    body = io.BytesIO()
    body.write(b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a b.bin"\r\n\r\n')
    body.write(data)
    body.write(b"\r\n--edge--\r\n")
    fields = {"Content-Type": "multipart/form-data; boundary=edge"}
    found = json.loads(server.request("POST", "/shop/upload", body.getvalue(), fields).text)
    assert found == {"name": "a b.bin", "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def test_chunked_body(server: Server) -> None:
    """Its length is not known beforehand, but its end is (wsgi.input_terminated)."""
    head = get("/shop/raw", "Transfer-Encoding: chunked", method="POST")
    answer = exchange(server, head + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"length": None, "size": 11}


def test_sessions(server: Server) -> None:
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))
    with opener.open(f"{server.url}/shop/login/ann", timeout=30) as response:
        assert response.url.endswith("/shop/who")
        assert response.read() == b"ann 127.0.0.1 http"
    with opener.open(f"{server.url}/shop/who", timeout=30) as response:
        assert response.read() == b"ann 127.0.0.1 http"
    assert server.get("/shop/who").text == "None 127.0.0.1 http"


def test_files(server: Server) -> None:
    response = server.get("/shop/file")
    assert response.body == DATA
    assert response.headers["Content-Length"] == str(len(DATA))
    assert response.headers["Content-Type"] == "application/x-data"
    again = server.get("/shop/file", {"If-None-Match": response.headers["ETag"]})
    assert (again.status, again.body) == (304, b"")
    part = server.get("/shop/file", {"Range": "bytes=100-299"})
    assert (part.status, part.body) == (206, DATA[100:300])
    assert part.headers["Content-Range"] == f"bytes 100-299/{len(DATA)}"
    head = server.request("HEAD", "/shop/file")
    assert (head.body, head.headers["Content-Length"]) == (b"", str(len(DATA)))
    assert server.get("/shop/memory").text == "in memory"


def test_stream(server: Server) -> None:
    response = server.get("/shop/stream")
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert response.text == "".join(f"{number} /stream\n" for number in range(5))


def test_connection_stays_open(server: Server) -> None:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        local = None
        for path in ("/shop/", "/shop/file", "/shop/stream", "/shop/no", "/shop/memory"):
            connection.request("GET", path)
            connection.getresponse().read()
            assert local in (None, connection.sock.getsockname())
            local = connection.sock.getsockname()
    finally:
        connection.close()
