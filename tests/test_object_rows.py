"""Server and connection objects, for a plain GET in a virtual host.

The names of the checks are those of the rows of the specification's list of behaviours, section 7.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from mod_python.testing.plugin import Factory
from tests.servers import running

CHECKS = r'''
from mod_python import apache

def row_7_1(req):
    assert req.server.defn_name.endswith("httpd.conf"), req.server.defn_name
    assert req.server.defn_line_number != 0

def row_7_2(req):
    assert (req.server.server_admin, req.server.server_hostname) == ("admin@test", "test_internal")
    assert req.server.port in (0, req.connection.local_addr[1])

def row_7_3(req):
    server = req.server
    assert server.error_fname == "logs/error_log", server.error_fname
    assert (server.loglevel, server.is_virtual) == (7, 1)

def row_7_4(req):
    server = req.server
    assert (server.timeout, server.keep_alive_timeout) == (60.0, 15.0) and type(server.timeout) is float
    assert (server.keep_alive_max, server.keep_alive) == (100, 1)

def row_7_5(req):
    assert (req.server.path, req.server.pathlen) == ("/some/path", 10)

def row_7_6(req):
    server = req.server
    assert (server.limit_req_line, server.limit_req_fieldsize, server.limit_req_fields) == (8190, 8190, 100)
    assert server.names == server.wild_names == ()

def row_7_7(req):
    assert type(req.connection.base_server) is type(req.server)

def row_7_8(req):
    conn = req.connection
    for value in (conn.local_addr[0], conn.client_addr[0], conn.local_ip, conn.client_ip):
        assert value == "127.0.0.1"
    assert conn.remote_host is conn.remote_logname is conn.local_host is None
    assert conn.hlist is None

def row_7_9(req):
    conn = req.connection
    assert conn.aborted == conn.double_reverse == 0
    req.write("out")
    assert (conn.keepalive, conn.keepalives) == (apache.AP_CONN_KEEPALIVE, 1)

def row_7_10(req):
    assert str(req.connection.notes) == "{}"

def odd(req):
    """Members cannot be removed, and what is no member cannot be set on a connection."""
    conn, server = req.connection, req.server
    for owner in (conn, server):
        for name in dir(type(owner)):
            if name in ("__dict__", "_hlist"):
                continue
            try:
                delattr(owner, name)
            except (AttributeError, TypeError):
                continue
            raise AssertionError(name)
    for name in ("none", "base_server", "client_ip"):
        try:
            setattr(conn, name, 1)
        except AttributeError:
            continue
        raise AssertionError(name)
    server.own = 1
    assert req.server.own == 1
    del server.own
    assert not hasattr(req.server, "own")

def handler(req):
    globals()[req.args](req)
    req.write("ok")
    return apache.OK
'''

CONFIG = """
Timeout 60
KeepAliveTimeout 15
<VirtualHost *:${PORT}>
    ServerName test_internal
    ServerAdmin admin@test
    ServerPath /some/path
    ErrorLog logs/error_log
    LogLevel debug
    PythonDebug On
    SetHandler mod_python
    PythonHandler ${SITE}/rows.py
</VirtualHost>
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running(CONFIG, files={"rows.py": CHECKS}) as server:
        yield server


@pytest.mark.parametrize("row", [*(f"row_7_{number}" for number in range(1, 11)), "odd"])
def test(server: Server, row: str) -> None:
    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    try:
        connection.request("GET", f"/?{row}")  # without Connection: close
        response = connection.getresponse()
        text = response.read().decode()
    finally:
        connection.close()
    assert response.status == 200, text
    assert text.endswith("ok")


BY_HAND = """
from mod_python import apache

def connectionhandler(conn):
    assert conn.hlist.handler
    lines = 0
    while conn.readline().strip():
        lines += 1
    conn.write(b"HTTP/1.1 200 OK\\r\\n")
    conn.write(b"Content-Length: 7\\r\\nConnection: close\\r\\n")
    conn.write(b"\\r\\n")
    conn.write(b"%d lines" % min(lines, 9))
    return apache.OK
"""


def test_row_7_11_http_by_hand(httpd: Factory) -> None:
    response = httpd(handler=BY_HAND).get("/", {"X-One": "1"})
    assert response.status == 200
    assert response.body.endswith(b" lines")
    assert int(response.body[:1]) >= 3
