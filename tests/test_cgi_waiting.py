"""mod_python.cgihandler: no script waits for the client of another, and what is collected has limits."""

from __future__ import annotations

import ast
import socket
import subprocess
from collections.abc import Iterator

import pytest

from mod_python.httpd.find import find_httpd
from mod_python.testing import Server
from tests import needs
from tests.content_site import exchange, get, lines_of, reported
from tests.servers import running

# Seconds: beyond what any machine takes for a request, and below httpd's Timeout, so that who waits for
# another's client is seen.
PATIENCE = 40.0

SCRIPTS: dict[str, str | bytes] = {
    "cgi/plain.py": 'print("Content-Type: text/plain\\n\\nthe text")\n',
    "cgi/length.py": """
import os, sys
data = sys.stdin.buffer.read()
print("Content-Type: text/plain\\n\\n", len(data), os.environ.get("CONTENT_LENGTH"), set(data) <= set(b"x"))
""",
    "cgi/ignores.py": 'print("Content-Type: text/plain\\n\\nignored")\n',
    "cgi/big.py": """
import sys
print("Content-Type: text/plain\\n")
for _ in range(30):
    sys.stdout.write("x" * 1_000_000)
    sys.stdout.flush()
""",
    "cgi/prints.py": """
import os, sys
size, piece = map(int, os.environ["QUERY_STRING"].split("-"))
print("Content-Type: text/plain\\n")
while size > 0:
    sys.stdout.buffer.write(b"x" * min(size, piece))
    size -= piece
    sys.stdout.flush()
""",
    "cgi/endless.py": """
import sys
print("Content-Type: text/plain\\n")
while True:
    sys.stdout.write("x" * 10_000)
""",
    "cgi/fails.py": """
import sys
print("Content-Type: text/plain\\n")
sys.stdout.write("x" * 1_000_000)
sys.stdout.flush()
raise ValueError("failed after its output")
""",
    "cgi/returns.py": """
from mod_python import apache
print("Content-Type: text/plain\\n\\nreturned")
raise apache.SERVER_RETURN(apache.OK)
""",
    "cgi/files.py": """
import os, sys
print("Content-Type: text/plain\\n")
data = sys.stdin.buffer.read()
sys.stdout.write("x" * 1_000_000)
print(len(data), os.listdir(os.environ["TEMPORARY"]))
""",
    "cgi/waits.py": """
import gate
print("Content-Type: text/plain\\n\\nwaited")
gate.running.set()
gate.go_on.wait(60)
gate.running.clear()
""",
    "cgi/includes.py": """
import sys
print("Content-Type: text/html\\n")
print('<!--#include virtual="/reads.py" -->', flush=True)
print(len(sys.stdin.read()))
""",
    "cgi/reads.py": 'import sys\nprint("Content-Type: text/html\\n")\nprint(len(sys.stdin.read()), end="")\n',
    "cgi/static.txt": "a file",
    "lib/gate.py": "import threading\ngo_on = threading.Event()\nrunning = threading.Event()\narrived = []\n",
    "lib/look.py": """
import gate
from mod_python import apache

def fixuphandler(req):
    gate.arrived.append(req.args)
    return apache.OK

def handler(req):
    if req.args == "go":
        gate.go_on.set()
    elif req.args == "stop":
        gate.go_on.clear()
    req.write(repr((gate.arrived, gate.running.is_set())))
    return apache.OK
""",
}

CONFIG = """
Timeout 300
<IfModule mod_http2.c>
    Protocols h2 h2c http/1.1
</IfModule>
<Location "/includes.py">
    Options +Includes
    SetOutputFilter INCLUDES
</Location>
PythonPath "['${SITE}/lib']+sys.path"
DocumentRoot "${SITE}/cgi"
<Directory "${SITE}/cgi">
    Require all granted
    SetEnv TEMPORARY "${SITE}/temporary"
    PythonOption mod_python.util.temp_directory "${SITE}/temporary"
    <Files "*.py">
        SetHandler mod_python
        PythonHandler mod_python.cgihandler
        PythonFixupHandler look
    </Files>
</Directory>
Alias "/small" "${SITE}/cgi"
<Location "/small">
    PythonOption mod_python.cgihandler.max_body 1000
    PythonOption mod_python.cgihandler.max_output 500000
</Location>
Alias "/hasty" "${SITE}/cgi"
<Location "/hasty">
    PythonOption mod_python.cgihandler.lock_timeout 0.2
</Location>
Alias "/wrong" "${SITE}/cgi"
<Location "/wrong">
    PythonOption mod_python.cgihandler.max_body much
</Location>
Alias "/httpd" "${SITE}/cgi"
<Location "/httpd">
    LimitRequestBody 1000
</Location>
<Location "/look">
    SetHandler mod_python
    PythonHandler look
</Location>
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    modules = ["mod_env", "mod_include"]
    if find_httpd().has_module("mod_http2"):
        modules.append("mod_http2")
    with running(CONFIG, files=SCRIPTS, modules=modules, threads=16, listen=2, tls=[1]) as server:
        directory = server.site / "temporary"
        directory.mkdir()
        directory.chmod(0o777)
        yield server


# Clients that stop in the middle: what each sends before it neither sends nor reads any more.
SLOW = {
    "no body": get("/length.py?slow", "Content-Length: 100", method="POST"),
    "part of a body": get("/length.py?slow", "Content-Length: 100", method="POST") + b"x" * 10,
    "no chunk": get("/length.py?slow", "Transfer-Encoding: chunked", method="POST"),
    "part of the chunks": get("/length.py?slow", "Transfer-Encoding: chunked", method="POST") + b"5\r\nxxxxx\r\n",
    "expects 100": get("/length.py?slow", "Content-Length: 100", "Expect: 100-continue", method="POST"),
    "a body nobody reads": get("/ignores.py?slow", "Content-Length: 100", method="POST"),
    "does not read": get("/big.py?slow"),
    "sends, does not read": get("/big.py?slow", "Content-Length: 3", method="POST") + b"xxx",
}
FAST = {
    "script": (get("/plain.py"), b"\r\n\r\nthe text\n"),
    "script with a body": (get("/length.py", "Content-Length: 5", method="POST") + b"xxxxx", b"5 5 True\n"),
    "large output": (get("/prints.py?3000000-9999"), b"x" * 70_000),
    "static file": (get("/static.txt"), b"\r\n\r\na file"),
}


def arrived(server: Server) -> int:
    """How many slow clients the process has seen that answers now; prefork has several."""
    return len([text for text in ast.literal_eval(server.get("/look").text)[0] if text == "slow"])


@pytest.mark.parametrize("fast", FAST)
@pytest.mark.parametrize("port", [0, 1], ids=["plain", "TLS"])
@pytest.mark.parametrize("slow", SLOW)
def test_scripts_and_files_go_on_while_a_client_is_slow(server: Server, slow: str, port: int, fast: str) -> None:
    prefork = server.mpm == "prefork"
    before = arrived(server)
    sockets: list[socket.socket] = []
    try:
        for _ in range(2):
            sock = server.connect(port, timeout=PATIENCE)
            sockets.append(sock)
            sock.sendall(SLOW[slow])
        if not prefork:
            server.wait_until(lambda: arrived(server) - before >= 2, what="the slow clients")
        data, expected = FAST[fast]
        for _ in range(3):
            with server.connect(port, timeout=PATIENCE) as sock:
                sock.sendall(data)
                answer = b"".join(iter(lambda: sock.recv(65536), b""))
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert expected in answer
    finally:
        for sock in sockets:
            sock.close()


@pytest.mark.parametrize("fast", FAST)
@pytest.mark.parametrize("port", [0, 1], ids=["plain", "TLS"])
@pytest.mark.parametrize("slow", ["no length", "large output"])
def test_scripts_and_files_go_on_while_a_stream_is_slow(server: Server, slow: str, port: int, fast: str) -> None:
    """The same over HTTP/2, whose windows fill up when a client does not read."""
    if not find_httpd().has_module("mod_http2") or server.mpm == "prefork":
        pytest.skip("mod_http2 is not there, or declines on prefork")
    version = subprocess.run([needs.program("curl"), "--version"], capture_output=True, text=True, check=True).stdout
    if "HTTP2" not in version:
        pytest.skip("this curl is built without HTTP/2")
    before = arrived(server)
    command = ["curl", "-sS", "--insecure", "--http2-prior-knowledge" if port == 0 else "--http2"]
    if slow == "no length":
        command += ["-T", "-", server.url_of(port) + "/length.py?slow"]
    else:
        # It reads nothing while nobody takes what it has read.
        command += ["--limit-rate", "1", server.url_of(port) + "/big.py?slow"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as curl:
        try:
            assert curl.stdin is not None
            curl.stdin.write(b"x" * 10)
            curl.stdin.flush()
            server.wait_until(lambda: arrived(server) > before, what="the slow client")
            data, expected = FAST[fast]
            for _ in range(3):
                with server.connect(port, timeout=PATIENCE) as sock:
                    sock.sendall(data)
                    answer = b"".join(iter(lambda: sock.recv(65536), b""))
                assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
                assert expected in answer
        finally:
            curl.kill()


def test_a_script_in_a_page_leaves_the_body_to_the_page(server: Server) -> None:
    assert server.request("POST", "/includes.py", b"x" * 100).text == "0\n100\n"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [0, 1, 65536, 262143, 262144, 262145, 3_000_000])
def test_bodies_of_all_sizes_arrive(server: Server, size: int, chunked: bool) -> None:
    body = b"x" * size
    if chunked:
        framed = (b"%x\r\n%s\r\n" % (size, body) if size else b"") + b"0\r\n\r\n"
        answer = exchange(server, get("/length.py", "Transfer-Encoding: chunked", method="POST") + framed)
    else:
        answer = exchange(server, get("/length.py", f"Content-Length: {size}", method="POST") + body)
    length = str(size) if size or not chunked else "None"
    assert answer.endswith(f"{size} {length} True\n".encode())


@pytest.mark.parametrize("piece", [1000, 262144, 4_000_000])
@pytest.mark.parametrize("size", [0, 1, 262143, 262144, 262145, 3_000_000])
def test_outputs_of_all_sizes_arrive(server: Server, size: int, piece: int) -> None:
    response = server.get(f"/prints.py?{size}-{piece}")
    assert (response.status, response.body == b"x" * size) == (200, True)
    if size < 262144:
        assert response.headers["Content-Length"] == str(size)


@pytest.mark.parametrize("path", ["/ignores.py", "/length.py"])
def test_the_next_request_is_in_step(server: Server, path: str) -> None:
    first = get(path, "Content-Length: 300000", method="POST", close=False) + b"x" * 300_000
    answer = exchange(server, first + get("/plain.py"))
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.endswith(b"the text\n")


@pytest.mark.parametrize("prefix", ["/small", "/httpd"])
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_large_body_is_refused(server: Server, prefix: str, framing: str) -> None:
    head = get(
        f"{prefix}/length.py",
        "Content-Length: 1001" if framing == "length" else "Transfer-Encoding: chunked",
        method="POST",
    )
    body = b"x" * 1001 if framing == "length" else b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"
    answer = exchange(server, head + body)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert server.request("POST", f"{prefix}/length.py", b"x" * 1000).text.split() == ["1000", "1000", "True"]
    if prefix == "/small":
        assert lines_of(server, "larger than 1000 bytes (PythonOption mod_python.cgihandler.max_body)")


def test_a_script_that_prints_without_end_is_ended(server: Server) -> None:
    answer = b""
    with server.connect() as sock:
        sock.sendall(get("/small/endless.py"))
        while len(answer) < 1_000_000 and (piece := sock.recv(65536)):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"x" * 100 not in answer
    reported(server, "the output of the script is larger than 500000 bytes")
    assert server.get("/plain.py").text == "the text\n"


def test_nothing_is_sent_of_a_script_that_fails(server: Server) -> None:
    response = server.get("/fails.py")
    assert response.status == 500
    assert "x" * 100 not in response.text
    reported(server, "failed after its output")


def test_a_script_may_return_ok(server: Server) -> None:
    assert server.get("/returns.py").text == "returned\n"


def test_files_have_no_names(server: Server) -> None:
    assert server.request("POST", "/files.py", b"x" * 1_000_000).text.endswith("x1000000 []\n")


def test_an_option_that_is_no_number_is_an_error(server: Server) -> None:
    assert server.get("/wrong/plain.py").status == 500
    reported(server, "PythonOption mod_python.cgihandler.max_body must be a number of 0 or more, not 'much'")


def test_the_wait_for_other_scripts_has_an_end(server: Server) -> None:
    if server.mpm == "prefork":
        pytest.skip("a process of prefork has one thread")
    server.get("/look?stop")
    message = "other scripts of this process took more than 0.2 seconds"
    with server.connect() as sock:
        sock.sendall(get("/waits.py"))
        server.wait_until(lambda: ast.literal_eval(server.get("/look").text)[1], what="the script")
        for count in (1, 2):
            assert server.get("/hasty/plain.py").status == 503
            assert len(lines_of(server, message)) == count
        server.get("/look?go")
        assert b"".join(iter(lambda: sock.recv(65536), b"")).endswith(b"waited\n")
    assert server.get("/hasty/plain.py").text == "the text\n"
