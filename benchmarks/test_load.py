"""The load generator must notice every wrong answer: a benchmark of a server that is broken but fast is worthless.

Each test runs it against a small server that misbehaves in one way. Run with ``pytest benchmarks``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from benchmarks import procfs, report
from benchmarks.load import HELLO
from benchmarks.tools import Tools

#: Seconds; no run here takes more than one.
LIMIT = 20

Answer = Callable[[bytes, int], bytes | None]


@pytest.fixture(scope="module")
def load() -> Iterator[str]:
    """The compiled load generator."""
    tools = Tools()
    yield str(tools.load_generator)
    tools.close()


@contextlib.contextmanager
def serving(end: bytes, answer: Answer) -> Iterator[int]:
    """A server that reads up to *end* and sends what *answer* makes of it and its number; None closes."""

    def one(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            data = b""
            number = 0
            while received := client.recv(65536):
                data += received
                while end in data:
                    message, _, data = data.partition(end)
                    reply = answer(message + end, number)
                    number += 1
                    if reply is None:
                        return
                    client.sendall(reply)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def run(load: str, protocol: str, port: int, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs the load generator to its end, a short count unless the options say otherwise."""
    command = [load, protocol, "--port", str(port), "--count", "50", "--connections", "3", "--warmup", "2", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)


def http(*parts: str) -> Answer:
    """Answers with a fixed text."""
    return lambda message, number: "\r\n".join(parts).encode()


GET = ("--path", "/x", "--body", HELLO)
REQUEST_END = b"\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 64, 300_000])
def test_counts_right_echoes(load: str, size: int) -> None:
    with serving(b"\n", lambda message, number: message) as port:
        done = run(load, "echo", port, "--size", str(size))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["round_trips"] == 50
    assert 0 < result["p50_us"] <= result["p95_us"] <= result["p99_us"]


def test_a_run_by_time_ends_by_itself(load: str) -> None:
    with serving(b"\n", lambda message, number: message) as port:
        done = run(load, "echo", port, "--count", "0", "--seconds", "0.1")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["seconds"] >= 0.1


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (lambda message, number: message if number < 5 else b"x" + message[1:], "wrong echo"),
        (lambda message, number: message if number < 5 else message + b"y", "wrong echo"),
        (lambda message, number: message if number < 5 else None, "closed by the server"),
        (lambda message, number: b"a" * 63 + b"\n", "wrong echo"),
    ],
    ids=["changed", "too long", "closed", "another line"],
)
def test_wrong_echoes_are_failures(load: str, answer: Answer, complaint: str) -> None:
    with serving(b"\n", answer) as port:
        done = run(load, "echo", port)
    assert done.returncode == 1
    assert complaint in done.stderr


def test_a_repeated_line_is_noticed(load: str) -> None:
    first: list[bytes] = []

    def stale(message: bytes, number: int) -> bytes:
        first.append(message)
        return first[0]

    with serving(b"\n", stale) as port:
        done = run(load, "echo", port, "--connections", "1")
    assert done.returncode == 1
    assert "wrong echo" in done.stderr


def test_a_silent_server_is_given_up(load: str) -> None:
    with serving(b"\n", lambda message, number: message if number < 4 else b"") as port:
        done = run(load, "echo", port, "--timeout", "1")
    assert done.returncode == 1
    assert "no answer" in done.stderr


@pytest.mark.parametrize(
    "answer",
    [
        http("HTTP/1.1 200 OK", "content-length: 14", "", HELLO),
        http("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "", "6", "Hello,", "8;x=y", " world!\n", "0", "", ""),
        http("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "", "e", HELLO, "0", "Trailer: 1", "", ""),
    ],
    ids=["length", "chunks", "trailer"],
)
def test_right_pages(load: str, answer: Answer) -> None:
    with serving(REQUEST_END, answer) as port:
        done = run(load, "http", port, *GET)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["round_trips"] == 50


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (http("HTTP/1.1 500 Oops", "Content-Length: 14", "", HELLO), "500 Oops"),
        (http("HTTP/1.1 200 OK", "Content-Length: 14", "", "Hello, World!\n"), "wrong body"),
        (http("HTTP/1.1 200 OK", "Content-Length: 5", "", "Hello"), "wrong body"),
        (http("HTTP/1.1 200 OK", "Content-Length: 14", "", HELLO + "more"), "after the end"),
        (http("HTTP/1.1 200 OK", "Connection: close", "Content-Length: 14", "", HELLO), "alive"),
        (http("HTTP/1.1 200 OK", "Content-Type: text/plain", "", HELLO), "neither"),
        (http("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "", "5", "Hello", "0", "", ""), "wrong body"),
        (http("HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "", "no", ""), "chunk size"),
    ],
    ids=["status", "body", "short", "surplus", "close", "unframed", "short chunks", "bad chunk"],
)
def test_wrong_pages_are_failures(load: str, answer: Answer, complaint: str) -> None:
    with serving(REQUEST_END, answer) as port:
        done = run(load, "http", port, *GET)
    assert done.returncode == 1
    assert complaint in done.stderr


def test_cpu_time_and_memory_of_children_are_found() -> None:
    code = "import os, time; os.fork(); t = time.process_time\nwhile t() < 0.05: pass\nprint('x', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout
        try:
            for _ in range(2):
                process.stdout.readline()
            pids = procfs.descendants(process.pid)
            assert pids[0] == process.pid
            assert len(pids) == 2
            assert procfs.cpu_seconds(pids) >= 0.1
            assert procfs.memory(pids[1]).rss > 1000
            assert procfs.cpu_seconds([2**22 + 1]) == 0.0
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_spread() -> None:
    assert report.Spread.of([3.0, 1.0, 2.0]) == report.Spread(1.0, 2.0, 3.0)
    assert report.Spread.of([]) is None
