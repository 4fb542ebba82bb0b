"""A library of asyncio's world in a coroutine handler: redis.asyncio against a real Redis server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest

from mod_python.testing import Server
from tests import needs
from tests.scripted import receive_all
from tests.session_site import Redis, redis_server

Httpd = Callable[..., Server]

PREFORK = os.environ.get("MOD_PYTHON_TEST_MPM") == "prefork"

#: Members of a channel hear what is published there, by whichever process serves the speaker.
HANDLER = """
import asyncio
from mod_python import apache
from redis.asyncio import Redis

async def listen(conn, client, name):
    async with client.pubsub() as channel:
        await channel.subscribe(name)
        conn.write(b"joined\\n")
        async for message in channel.listen():
            if message["type"] == "message":
                conn.write(message["data"] + b"\\n")
                await conn.drain()

async def connectionhandler(conn):
    word, name = (await conn.readline()).split()
    async with Redis(port=int(conn.get_options()["redis"])) as client:
        if word == b"join":
            task = asyncio.create_task(listen(conn, client, name))
            try:
                while await conn.readline():
                    pass
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        elif word == b"count":
            async for line in conn:
                conn.write(b"%d\\n" % await client.incrby(name, int(line)))
        else:
            async for line in conn:
                heard = await client.publish(name, line.rstrip())
                conn.write(b"%d\\n" % heard)
"""


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with redis_server() as server:
        yield server


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_publish_and_subscribe(httpd: Httpd, redis: Redis, loop: str) -> None:
    if loop == "uvloop":
        needs.package("uvloop")
    config = f"PythonOption redis {redis.port}\nPythonOption mod_python.async.loop {loop}"
    server = httpd(config, handler=HANDLER, processes=6 if PREFORK else 2, threads=None if PREFORK else 8)
    channel = loop.encode()
    with contextlib.ExitStack() as stack:
        members = [stack.enter_context(server.connect()) for _ in range(3)]
        heard = [stack.enter_context(sock.makefile("rb")) for sock in members]
        for sock, lines in zip(members, heard, strict=True):
            sock.sendall(b"join " + channel + b"\n")
            assert lines.readline() == b"joined\n"
        speaker = stack.enter_context(server.connect())
        counts = stack.enter_context(speaker.makefile("rb"))
        speaker.sendall(b"say " + channel + b"\n")
        for number in range(50):
            speaker.sendall(b"line %d\n" % number)
            assert counts.readline() == b"3\n"
        for lines in heard:
            assert [lines.readline() for _ in range(50)] == [b"line %d\n" % number for number in range(50)]
        # Who leaves takes its subscription with it.
        members[0].shutdown(1)
        assert receive_all(members[0]) == b""
        server.wait_until(lambda: _publish(server, channel) == b"2\n", what="the end of a subscription")


def _publish(server: Server, channel: bytes) -> bytes:
    with server.connect() as sock, sock.makefile("rb") as answers:
        sock.sendall(b"say " + channel + b"\nonce more\n")
        return answers.readline()


def test_counting_together(httpd: Httpd, redis: Redis) -> None:
    """Many handlers wait for Redis at the same time, and each gets its own answer."""
    clients = 4 if PREFORK else 40
    server = httpd(
        f"PythonOption redis {redis.port}",
        handler=HANDLER,
        processes=clients + 2 if PREFORK else 1,
        threads=None if PREFORK else clients + 8,
    )
    seen = []
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(server.connect()) for _ in range(clients)]
        for sock in socks:
            sock.sendall(b"count together\n" + b"1\n" * 25)
            sock.shutdown(1)
        for sock in socks:
            got = [int(line) for line in receive_all(sock).split()]
            assert got == sorted(got)
            seen += got
    assert sorted(seen) == list(range(1, 25 * clients + 1))
