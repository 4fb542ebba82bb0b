"""How many connections of coroutine handlers fit into a child, and what the server says about it at its start."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import pytest

from mod_python.httpd.errors import HttpdError
from mod_python.testing import Server
from tests.processes import open_files
from tests.servers import running

HANDLER = """
async def connectionhandler(conn):
    async for line in conn:
        conn.write(line)
"""

ASYNC = os.environ.get("MOD_PYTHON_TEST_MPM", "event") == "event"
SETTING = "mod_python.async.connections"


@pytest.fixture
def enough_files() -> Iterator[None]:
    """Let servers have as many open files as these tests ask for; of too few there is another warning."""
    with open_files(1005):
        yield


def warnings(server: Server) -> list[str]:
    """What was said at the start about the number of connections."""
    records = server.log_records("warn")
    return [record.message for record in records if SETTING in record.message]


@pytest.mark.skipif(not ASYNC, reason="the other MPMs take a thread per connection")
def test_too_low_a_factor_is_named_with_the_one_that_does(enough_files: None) -> None:
    config = "AsyncRequestWorkerFactor 3"
    with running(config, handler=HANDLER, threads=10, options={SETTING: "1005"}) as server:
        server.allow(SETTING)
        (text,) = warnings(server)
    assert "asks for 1005 connections" in text
    assert "at most 34" in text
    assert "set AsyncRequestWorkerFactor to 125 or more (with ThreadsPerChild 10)" in text


@pytest.mark.skipif(not ASYNC, reason="the other MPMs take a thread per connection")
def test_a_factor_that_does_is_nothing_to_speak_of(enough_files: None) -> None:
    with running("AsyncRequestWorkerFactor 125", handler=HANDLER, threads=10, options={SETTING: "1005"}) as server:
        assert warnings(server) == []
        with server.connect() as peer:
            peer.sendall(b"hello\n")
            assert peer.recv(100) == b"hello\n"
        server.wait_for_log("this child can hold 1010 connections")


@pytest.mark.skipif(not ASYNC, reason="the other MPMs take a thread per connection")
def test_connections_beyond_the_number_of_threads() -> None:
    with running(handler=HANDLER, threads=2) as server:
        peers = [server.connect() for _ in range(100)]
        for number, peer in enumerate(peers):
            peer.sendall(b"%d\n" % number)
        for number, peer in enumerate(peers):
            assert peer.recv(100) == b"%d\n" % number
        for peer in peers:
            peer.close()


@pytest.mark.skipif(ASYNC, reason="for the MPMs that take a thread per connection")
def test_mpms_with_a_thread_per_connection_say_so(enough_files: None) -> None:
    with running(handler=HANDLER, options={SETTING: "1000"}) as server:
        server.allow(SETTING)
        (text,) = warnings(server)
    assert "with this MPM each takes a thread" in text
    assert "use the event MPM" in text


def test_too_few_open_files_are_named() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = 1000
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
    try:
        with running(
            "<IfModule mpm_event_module>\nAsyncRequestWorkerFactor 900\n</IfModule>",
            handler=HANDLER,
            options={SETTING: "900"},
        ) as server:
            server.allow(SETTING)
            texts = warnings(server)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    (text,) = [text for text in texts if "open files" in text]
    assert f"only {low} open files" in text
    assert "1028 or more" in text


@pytest.mark.parametrize("value", ["many", "0", "-5", "1000x", "99999999999999999999"])
def test_what_is_no_number_is_refused(value: str) -> None:
    with (
        pytest.raises(HttpdError, match="must be the number of connections"),
        Server(handler=HANDLER, options={SETTING: value}),
    ):
        pass


@pytest.mark.parametrize(
    ("name", "value"), [("loop", "libuv"), ("loop", "Auto"), ("slow_callback", "-1"), ("slow_callback", "1s")]
)
def test_other_options_are_checked_too(name: str, value: str) -> None:
    with (
        pytest.raises(HttpdError, match=f'mod_python.async.{name} is "{value}"; it must be'),
        Server(handler=HANDLER, options={f"mod_python.async.{name}": value}),
    ):
        pass
