"""`RedisSession`: several httpds, and a Redis server that is not there, does not answer or forgets."""

from __future__ import annotations

import ast
import http.client
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mod_python.testing import Server
from tests.processes import PREFORK, at_once
from tests.servers import running
from tests.session_site import TIMEOUT, Browser, Redis, redis_server, site
from tests.test_session_stores import HANDLERS as COUNTING

pytestmark = pytest.mark.heavy


HANDLERS = (
    COUNTING
    + '''
def long(req):
    """Longer than the lock lasts without being renewed."""
    session = Session.Session(req)
    session["long"] = session.get("long", 0) + 1
    end = time.monotonic() + 3
    while time.monotonic() < end:
        time.sleep(0.01)
    session.save()
    req.write("done")

def loses(req):
    """Something takes the lock away."""
    from mod_python._session import redis_server
    session = Session.Session(req)
    redis_server.store(req.get_options()).client.set(redis_server.store(req.get_options()).lock_key(session.id()), b"x")
    session["lost"] = 1
    session.save()

def fails_after(req):
    session = Session.Session(req)
    session["x"] = 1
    session.save()
    raise ValueError("meant to fail")
'''
)

#: Where requests give up soon. Redis may still take a lock for them once it goes on: that one has to expire.
IMPATIENT = """
<Location /impatient>
    PythonOption mod_python.redis_session.timeout 0.3
    PythonOption mod_python.redis_session.lock_expiry 1
</Location>
"""


@pytest.fixture
def redis() -> Iterator[Redis]:
    with redis_server() as server:
        yield server


def test_server_gone(redis: Redis) -> None:
    with site(HANDLERS, redis.option, processes=2) as server:
        browser = Browser(server)
        assert browser.get("/count") == "1"
        redis.stop()
        for _ in range(3):
            browser.get("/count", status=503)
        server.wait_for_log(
            rf"python:error\].* mod_python: sessions cannot be had from the Redis server 127.0.0.1:{redis.port} "
            r"\(database 0\): ConnectionError: "
        )
        # And when it is there again, everything goes on; what it had is its own affair.
        redis.start()
        assert browser.get("/count") == "1"
        assert browser.get("/count") == "2"


def test_server_does_not_answer(redis: Redis) -> None:
    with site(HANDLERS, redis.option + IMPATIENT, processes=2) as server:
        browser = Browser(server)
        assert browser.get("/count") == "1"
        redis.signal(signal.SIGSTOP)
        try:
            browser.get("/impatient/count", status=503)
            server.wait_for_log("TimeoutError: Timeout reading from")
        finally:
            redis.signal(signal.SIGCONT)
        assert int(browser.get("/count")) == 2


def test_password_is_not_logged(redis: Redis) -> None:
    redis.stop()
    config = redis.option.replace("redis://", "redis://somebody:hush@")
    with site(HANDLERS, config, processes=2) as server:
        Browser(server).get("/count", status=503)
        assert "hush" not in server.error_log


def test_wrong_url() -> None:
    config = """
        PythonOption mod_python.session.session_type RedisSession
        PythonOption mod_python.redis_session.url http://127.0.0.1/
    """
    with site(HANDLERS, config, processes=1) as server:
        server.allow("PythonOption mod_python.redis_session.url: Redis URL must specify one of")
        Browser(server).get("/count", status=500)


# A lock expires if its process gets no processor time for as long as the lock lasts.
@pytest.mark.alone
def test_locks_are_renewed(redis: Redis) -> None:
    config = redis.option + "PythonOption mod_python.redis_session.lock_expiry 2\n"
    with site(HANDLERS, config, processes=4) as server:
        browser = Browser(server)
        browser.get("/count")

        def run(number: int, together: object) -> str:
            return Browser(server, dict(browser.cookies)).get("/long")

        assert at_once(2, run) == ["done"] * 2
        _, _, data = ast.literal_eval(browser.get("/show"))
        assert data["long"] == 2


def test_a_lost_lock(redis: Redis) -> None:
    with site(HANDLERS, redis.option, processes=2) as server:
        browser = Browser(server)
        browser.get("/loses", status=503)
        server.wait_for_log("the session was not saved")
        browser.get("/show")


def test_keys(redis: Redis) -> None:
    config = redis.option + "PythonOption mod_python.redis_session.prefix app:\n"
    with site(HANDLERS, config, processes=1) as server:
        browser = Browser(server)
        before = int(time.time() * 1000)
        browser.get("/keep")
        after = int(time.time() * 1000) + 1
        sid = browser.cookies["pysid"]
        key = f"app:{{{sid}}}"
        # The lock goes when the request has ended.
        server.wait_until(lambda: redis.ask(f"EXISTS {key}:lock\r\n".encode()) == b":0\r\n")
        expires = int(redis.ask(f"PEXPIRETIME {key}\r\n".encode())[1:])
        assert before + 77_000 <= expires <= after + 77_000
        browser.get("/forget")
        assert redis.ask(f"EXISTS {key}\r\n".encode()) == b":0\r\n"


BALANCER = """
<Proxy "balancer://nodes">
    BalancerMember "http://127.0.0.1:{first}" retry=1 connectiontimeout=2
    BalancerMember "http://127.0.0.1:{second}" retry=1 connectiontimeout=2
    ProxySet lbmethod=byrequests
</Proxy>
ProxyPass "/" "balancer://nodes/"
"""
CLIENTS = 12
MODULES = ("mod_proxy", "mod_proxy_http", "mod_proxy_balancer", "mod_lbmethod_byrequests", "mod_slotmem_shm")


def test_one_of_two_nodes_is_killed(redis: Redis) -> None:
    """No session is lost, and every increment that a client was told of has been kept."""
    config = redis.option + "PythonOption mod_python.redis_session.lock_expiry 2\n"
    size: dict[str, Any] = {"processes": 16} if PREFORK else {"processes": 2, "threads": 16}
    with site(HANDLERS, config, **size) as victim, site(HANDLERS, config, **size) as other:
        balancer = BALANCER.format(first=victim.port, second=other.port)
        with running(balancer, modules=MODULES, python=False, **size) as front:
            seen = count_through(front, victim)
        assert len(seen) == 2, "one of the nodes got no requests"


def count_through(front: Server, victim: Server) -> set[int]:
    """Count in some sessions, kill a node meanwhile, and compare; return the nodes that answered."""
    browsers = [Browser(front) for _ in range(4)]
    for browser in browsers:
        assert browser.get("/count") == "1"
    told = [[1] for _ in browsers]
    nodes: set[int] = set()
    finished = threading.Event()

    def client(which: int) -> None:
        cookie = f"pysid={browsers[which].cookies['pysid']}"
        while not finished.is_set():
            # A request that was under way in the node that died may fail, or its answer break off.
            try:
                response = front.get("/count", {"Cookie": cookie}, timeout=TIMEOUT)
            except http.client.IncompleteRead:
                continue
            if response.status == 200:
                assert response.headers["Set-Cookie"] is None, "the session was lost"
                told[which].append(int(response.text))
                nodes.add(int(response.headers["X-Node"]))

    def wait_for_more(count: int) -> None:
        """Wait until every session has gone on, also one whose lock a dead node had."""
        before = [len(numbers) for numbers in told]
        front.wait_until(
            lambda: all(len(numbers) >= old + count for numbers, old in zip(told, before, strict=True)),
            120,
            "more answers in every session",
        )

    def run(number: int, together: object) -> None:
        if number < CLIENTS:
            client(number % len(browsers))
            return
        try:
            wait_for_more(20)
            # The parent first, so that it does not start new children.
            for pid in [victim.pid, *victim.children()]:
                os.kill(pid, signal.SIGKILL)
            wait_for_more(20)
        finally:
            finished.set()

    at_once(CLIENTS + 1, run)
    for browser, numbers in zip(browsers, told, strict=True):
        assert len(set(numbers)) == len(numbers), "an increment was lost"
        _, _, data = ast.literal_eval(browser.get("/show"))
        # More than was told only by requests whose answers died with the node.
        assert len(numbers) <= data["number"] <= len(numbers) + CLIENTS
        assert data["number"] >= max(numbers)
    return nodes
