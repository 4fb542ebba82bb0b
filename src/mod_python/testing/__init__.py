"""Test kit: run handlers in a real, private httpd.

    from mod_python.testing import Server

    with Server(handler='''
    from mod_python import apache

    def handler(req):
        req.content_type = "text/plain"
        req.write("hello")
        return apache.OK
    ''') as server:
        response = server.get("/")
        assert response.status == 200
        assert response.body == b"hello"
        assert server.problems() == []

With pytest, the fixture ``httpd`` (from `mod_python.testing.plugin`, registered when the
package is installed) starts servers, stops them and fails the test if one crashed,
logged an unexpected traceback or left a process behind.

`FakeConnection` and `FakeAsyncConnection` run connection handlers without httpd, for unit tests.
"""

from __future__ import annotations

from mod_python.httpd.errors import AddressInUseError, ConfigError, HttpdError, StartError
from mod_python.testing.client import Response
from mod_python.testing.errorlog import LogRecord
from mod_python.testing.fakes import FakeConnection
from mod_python.testing.fakes_async import FakeAsyncConnection
from mod_python.testing.server import Server

__all__ = [
    "AddressInUseError",
    "ConfigError",
    "FakeAsyncConnection",
    "FakeConnection",
    "HttpdError",
    "LogRecord",
    "Response",
    "Server",
    "StartError",
]
