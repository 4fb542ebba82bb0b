"""What a client can do to the log: one line above level debug for each connection, and no traceback.

Programs that do not catch what reading and writing raises, and what clients do to them; beside
them programs that fail by themselves, whose report must stay.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from mod_python.httpd.tls import make_self_signed
from mod_python.testing import LogRecord, Server
from tests.scripted import TIMEOUT, receive_all, reset
from tests.servers import running

HEAD = """
import asyncio, os, ssl
from mod_python import apache

def context(conn):
    options = conn.get_options()
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(options["cert"], options["key"])
    return made

class Reads(asyncio.StreamReaderProtocol):
    def __init__(self, serve):
        super().__init__(asyncio.StreamReader(limit=100), serve)

async def database(*pieces):
    # Another server, which hangs up or is silent.
    async def serve(reader, writer):
        for piece in pieces:
            if piece is None:
                await asyncio.sleep(3600)
            writer.write(piece)
        writer.close()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return await asyncio.open_connection(*server.sockets[0].getsockname()[:2], limit=100)
"""

#: Handlers that fail only because of their client.
READERS = {
    "readexactly": "async: r, w = conn.streams(); await r.readexactly(1000)",
    "readuntil": "async: r, w = conn.streams(limit=100); await r.readuntil(b'END')",
    "readline": "async: r, w = conn.streams(limit=100); await r.readline(); await r.readexactly(1)",
    "iteration": "async:\n r, w = conn.streams(limit=100)\n async for line in r: pass\n await r.readexactly(1)",
    "timeout": "async:\n r, w = conn.streams()\n async with asyncio.timeout(0.2): await r.readexactly(100000)",
    "wait_for": "async: r, w = conn.streams(); await asyncio.wait_for(r.readexactly(100000), 0.2)",
    "drain": "async:\n r, w = conn.streams()\n while 1: w.write(b'x' * 65536); await w.drain()",
    "own timeout": "async:\n async with asyncio.timeout(0.2): await conn.readexactly(100000)",
    "own wait_for": "async: await asyncio.wait_for(conn.readexactly(100000), 0.2)",
    "own readexactly": "async: await conn.readexactly(100000)",
    "own readline": "async:\n conn.limit = 100\n while 1: await conn.readline()",
    "own drain": "async:\n while 1: conn.write(b'x' * 65536); await conn.drain()",
    "own start_tls": "async: await conn.start_tls(context(conn)); await conn.readexactly(100000)",
    "group": "async:\n r, w = conn.streams()\n async with asyncio.TaskGroup() as g:\n"
    "  g.create_task(r.readexactly(100000)); g.create_task(asyncio.sleep(0))",
    "group of own": "async:\n async with asyncio.TaskGroup() as g:\n"
    "  g.create_task(conn.readexactly(100000)); g.create_task(asyncio.sleep(0))",
    "forgotten task": "async:\n r, w = conn.streams()\n task = asyncio.create_task(r.readexactly(100000))\n"
    " await asyncio.wait([task]); del task",
    "forgotten task of own": "async:\n task = asyncio.create_task(conn.readexactly(100000))\n"
    " await asyncio.wait([task]); del task",
    "protocol": "async:\n async def serve(r, w):\n  try: await r.readexactly(100000)\n  finally: w.close()\n"
    " await conn.run_protocol(lambda: Reads(serve))",
    "stream tls": "async:\n await conn.start_tls(context(conn))\n r, w = conn.streams()\n await r.readexactly(100000)",
    "finally": "async:\n r, w = conn.streams()\n try: await r.readexactly(100000)\n"
    " finally: w.close(); await w.wait_closed()",
    "ordinary readexactly": "conn.readexactly(100000)",
    "ordinary readline": "conn.limit = 100\nwhile 1: conn.readline()",
    "ordinary write": "while 1: conn.write(b'x' * 65536)",
    "ordinary time-out": "conn.read_timeout = 0.2\nconn.readexactly(100000)",
    "ordinary start_tls": "conn.start_tls(context(conn)); conn.readexactly(100000)",
}

#: Handlers that fail whatever the client does: exception, and text of its last line.
FAULTS = {
    "own ValueError": ("async: r, w = conn.streams(); await r.read(1); raise ValueError('on purpose')", "on purpose"),
    "own incomplete": ("async: raise asyncio.IncompleteReadError(b'', 5)", "IncompleteReadError"),
    "own time-out": ("async: raise TimeoutError('on purpose')", "on purpose"),
    "own reset": ("async: raise ConnectionResetError('on purpose')", "on purpose"),
    "negative length": ("async: r, w = conn.streams(); await r.readexactly(-1)", "less than zero"),
    "empty separator": ("async: r, w = conn.streams(); await r.readuntil(b'')", "eparator"),
    "database hangs up": ("async: r, w = await database(b'abc'); await r.readexactly(10)", "IncompleteReadError"),
    "database sends much": ("async: r, w = await database(b'x' * 999); await r.readline()", "ValueError"),
    "database is silent": (
        "async:\n r, w = await database(None)\n async with asyncio.timeout(0.1): await r.read(1)",
        "TimeoutError",
    ),
    "queue is empty": ("async: await asyncio.wait_for(asyncio.Queue().get(), 0.1)", "TimeoutError"),
    "one of a group": (
        (
            "async:\n r, w = conn.streams()\n async def fails(): raise ValueError('on purpose')\n"
            " async with asyncio.TaskGroup() as g: g.create_task(r.readexactly(10)); g.create_task(fails())"
        ),
        "on purpose",
    ),
    "protocol": (
        (
            "async:\n class P(asyncio.Protocol):\n  def connection_made(self, t): raise ValueError('on purpose')\n"
            " await conn.run_protocol(P)"
        ),
        "on purpose",
    ),
    "ordinary": ("raise ValueError('on purpose')", "on purpose"),
}


def source(body: str) -> str:
    """Return a function for a body; ``async:`` makes it a coroutine function."""
    kind, _, rest = body.partition("async:")
    if kind:
        rest = body
    lines = [line.removeprefix(" ") if not kind else line for line in rest.split("\n") if line.strip()]
    head = "async def handler(conn):\n" if not kind else "def handler(conn):\n"
    return HEAD + head + "".join(f"    {line}\n" for line in lines)


def connect(server: Server, port: int) -> socket.socket:
    """Connect, with TLS where the port begins with it."""
    sock = server.connect_plain(port, timeout=TIMEOUT)
    if "SSLEngine on" not in server.settings.config_file.read_text():
        return sock
    return ssl._create_unverified_context().wrap_socket(sock)


def closes(server: Server, port: int) -> None:
    with connect(server, port) as sock:
        sock.sendall(b"abc")


def half_closes(server: Server, port: int) -> None:
    with connect(server, port) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(b"abc")
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            for _ in range(20):
                if not sock.recv(65536):
                    break


def resets(server: Server, port: int) -> None:
    sock = connect(server, port)
    sock.sendall(b"abc")
    reset(sock)


def sends_no_line_end(server: Server, port: int) -> None:
    with connect(server, port) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(b"x" * 5000)


def sends_a_long_line(server: Server, port: int) -> None:
    with connect(server, port) as sock, contextlib.suppress(ConnectionError):
        sock.sendall(b"x" * 5000 + b"\nEND")


def is_silent(server: Server, port: int) -> None:
    with connect(server, port) as sock, contextlib.suppress(ConnectionError, TimeoutError):
        sock.settimeout(0.5)
        for _ in range(20):
            if not sock.recv(65536):
                break


def begins_tls(server: Server, port: int) -> None:
    context = ssl._create_unverified_context()
    with contextlib.suppress(OSError), connect(server, port) as sock:
        sock.settimeout(0.7)
        with context.wrap_socket(sock) as tls:
            tls.sendall(b"abc")


def begins_tls_and_breaks_it(server: Server, port: int) -> None:
    context = ssl._create_unverified_context()
    with contextlib.suppress(OSError), connect(server, port) as sock:
        sock.settimeout(0.7)
        with context.wrap_socket(sock) as tls:
            tls.sendall(b"abc")
            socket.socket.sendall(tls, b"")
            with socket.socket(fileno=tls.detach()) as raw:
                raw.sendall(b"this is no record of TLS\n" * 10)


CLIENTS: list[Callable[[Server, int], None]] = [
    closes,
    half_closes,
    resets,
    sends_no_line_end,
    sends_a_long_line,
    is_silent,
    begins_tls,
    begins_tls_and_breaks_it,
]


def config(bodies: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Return a configuration with a port for each body, and the files."""
    lines, files = "PythonOption cert ${SITE}/cert.pem\nPythonOption key ${SITE}/key.pem\n", {}
    for index, body in enumerate(bodies.values()):
        files[f"h{index}.py"] = source(body)
        lines += f"<VirtualHost *:${{PORT{index + 1 if index else ''}}}>\n"
        lines += f"    PythonConnectionHandler ${{SITE}}/h{index}.py::handler\n</VirtualHost>\n"
    return lines, files


#: What a child logs once, with its first connection.
STARTED = re.compile("serves coroutine handlers with (?:asyncio|uvloop)")


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def server(tls: bool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    text, files = config(READERS)
    pair = make_self_signed(tmp_path_factory.mktemp("pair"))
    files |= {"cert.pem": pair.certificate.read_text(), "key.pem": pair.key.read_text()}
    text = text.replace("::handler\n", f"::handler\n    SSLEngine {'on' if tls else 'off'}\n")
    # uvloop, if it is installed, takes no transport but its own for TLS.
    text = f"PythonOption mod_python.async.loop {'auto' if tls else 'asyncio'}\n" + text
    more = {"processes": 12} if os.environ.get("MOD_PYTHON_TEST_MPM") == "prefork" else {}
    with running(text, files=files, listen=len(READERS), tls=True, **more) as server:
        yield server


def logged(server: Server, before: int) -> list[LogRecord]:
    """Return what mod_python has logged since, above level debug."""
    return [
        record
        for record in server.log_records()[before:]
        if record.module in ("python", "") and record.at_least("info") and not STARTED.search(record.message)
    ]


@pytest.mark.parametrize("name", list(READERS))
def test_client_causes_one_line_and_no_traceback(server: Server, tls: bool, name: str) -> None:
    if tls and "tls" in name:
        pytest.skip("a connection with TLS begins no other")
    index = list(READERS).index(name)
    before = len(server.log_records())
    clients = [client for client in CLIENTS if not (tls and "tls" in client.__name__)]
    with ThreadPoolExecutor(len(clients)) as pool:
        for done in [pool.submit(client, server, index) for client in clients]:
            done.result()
    wait_until_idle(server)
    lines = logged(server, before)
    assert not [line for line in lines if line.at_least("notice")], "\n".join(map(str, lines))
    peers = [re.findall(r"\[(?:client|remote) \S+:(\d+)\]", line.message) for line in lines]
    assert all(len(found) == 1 for found in peers)
    assert len({found[0] for found in peers}) == len(lines), "\n".join(map(str, lines))


def wait_until_idle(server: Server) -> None:
    """Wait until no connection of the tests is open any more."""

    def idle() -> bool:
        ports = {f"{port:04X}" for port in server.ports}
        with open("/proc/net/tcp") as table:
            rows = [line.split() for line in table][1:]
        return not [row for row in rows if row[1].rpartition(":")[2] in ports and row[3] in ("01", "08")]

    server.wait_until(idle, TIMEOUT, "the end of all connections")


@pytest.mark.parametrize("name", list(FAULTS))
def test_report_of_what_the_application_did_stays(name: str) -> None:
    body, text = FAULTS[name]
    lines, files = config({name: body})
    with running(lines, files=files) as server:
        server.allow("Traceback|Application error|on purpose|Error")
        with server.connect(timeout=TIMEOUT) as sock, contextlib.suppress(ConnectionError):
            sock.sendall(b"abc")
            receive_all(sock)
        server.wait_for_log("Traceback")
        server.wait_for_log(text)
        assert any(record.level == "error" and text in record.message for record in server.log_records())
