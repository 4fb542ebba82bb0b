"""Random bytes to request handlers, connection handlers and filters: nothing may crash or fail.

Each connection is made from the seed and its number alone; a failure shows both, and the bytes.
"""

from __future__ import annotations

import contextlib
import math
import random
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mod_python.testing import Server
from tests.fuzz import CASE, SECONDS, SEED
from tests.fuzz.messages import Talk, http_talk, operations_talk
from tests.scripted import TlsPeer, reset

_PHASES = """
PythonPostReadRequestHandler ${SITE}/fuzz_site.py::decline
PythonTransHandler ${SITE}/fuzz_site.py::decline
DocumentRoot ${SITE}/htdocs
LimitRequestFields 110
Timeout 5
KeepAliveTimeout 1
<Directory />
    Require all granted
</Directory>
<Location />
    PythonInitHandler ${SITE}/fuzz_site.py::any_phase
    PythonHeaderParserHandler ${SITE}/fuzz_site.py::any_phase
    PythonAccessHandler ${SITE}/fuzz_site.py::any_phase
    PythonAuthenHandler ${SITE}/fuzz_site.py::authenticate
    PythonAuthzHandler ${SITE}/fuzz_site.py::decline
    PythonTypeHandler ${SITE}/fuzz_site.py::decline
    PythonFixupHandler ${SITE}/fuzz_site.py::any_phase
    PythonLogHandler ${SITE}/fuzz_site.py::log
    PythonCleanupHandler ${SITE}/fuzz_site.py::cleanup
    PythonInputFilter ${SITE}/fuzz_site.py::input_filter FUZZ_IN
    PythonOutputFilter ${SITE}/fuzz_site.py::output_filter FUZZ_OUT
    AuthType Basic
    AuthName fuzz
    Require valid-user
    SetHandler mod_python
    PythonHandler ${SITE}/fuzz_site.py::content
    SetInputFilter FUZZ_IN
    SetOutputFilter FUZZ_OUT
    PythonOption fuzz yes
</Location>
"""
_MODULES = ("mod_authn_core", "mod_authz_user", "mod_auth_basic")
_CONNECTION = "PythonConnectionHandler ${SITE}/fuzz_site.py::serve"
_DECLINE = "PythonConnectionHandler ${SITE}/fuzz_site.py::peek_and_decline"
_FILTERS = """PythonConnectionInputFilter ${SITE}/fuzz_site.py::input_filter
PythonConnectionOutputFilter ${SITE}/fuzz_site.py::output_filter"""
_KINDS = ("", _CONNECTION, _DECLINE, _FILTERS, f"{_FILTERS}\n{_CONNECTION}")
_NAMES = ("request handler", "connection handler", "declining handler", "connection filters", "filters and handler")
_OPERATIONS = (1, 4)  # the kinds that speak the protocol of bytes
_TLS = "SSLEngine On\nSSLCertificateFile ${TLS_CERT}\nSSLCertificateKeyFile ${TLS_KEY}"

#: Seconds for an operation on a socket; the server's own time-outs are well below.
_PATIENCE = 30.0
_WAIT = 0.2
#: Seconds between two looks at the error log.
_LOOK = 3.0
_CLIENTS = 4
_SHORT = 1200
#: What the children may grow by, in KiB, once all memory that is kept for reuse is there.
_GROWTH = 48 * 1024

#: The exceptions that handlers raise because they were told to.
_EXPECTED = r"OnPurposeError"
_SERVER_ERROR = re.compile(
    rb"^HTTP/1\.[01] 5(?!0[15])\d\d [^\r]*\r\n(?:(?!X-On-Purpose)[^\r\n]+\r\n)*\r\n", re.MULTILINE
)


def _config() -> str:
    """Each kind has a plain port and, after it, one with TLS; the first two are the server's own."""
    hosts = []
    for number in range(2, 2 * len(_KINDS)):
        lines = _KINDS[number // 2] + ("\n" + _TLS if number % 2 else "")
        hosts.append(f"<VirtualHost *:${{PORT{number + 1}}}>\n{lines}\n</VirtualHost>")
    return _PHASES + "\n".join(hosts)


def _case(number: int) -> tuple[int, Talk]:
    """Return the port and the conversation of a connection."""
    roll = random.Random(f"{SEED}:{number}")
    kind = roll.choice([0, 0, 0, 1, 1, 2, 3, 4])
    port = 2 * kind + (roll.random() < 0.2)
    return port, (operations_talk if kind in _OPERATIONS else http_talk)(roll)


def _converse(server: Server, port: int, talk: Talk, note: Callable[[socket.socket], None]) -> bytes:
    """Do what a client does, after telling which socket it uses; return what came back."""
    received = bytearray()
    with contextlib.suppress(ConnectionError, BrokenPipeError, ssl.SSLError):
        if port % 2 and talk.tls:
            with TlsPeer(server, port) as peer:
                note(peer.sock)
                for segment in talk.segments:
                    peer.sendall(segment)
                if talk.end == "half":
                    peer.end()
                    received += peer.receive_all()
                elif talk.end == "reset":
                    reset(peer.sock)
                elif talk.end == "wait":
                    peer.sock.settimeout(_WAIT)
                    with contextlib.suppress(TimeoutError):
                        received += peer.receive_all()
            return bytes(received)
        with server.connect_plain(port, timeout=_PATIENCE) as sock:
            note(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sender = threading.Thread(target=_send, args=(sock, talk)) if sum(map(len, talk.segments)) > 50000 else None
            if sender is not None:
                sender.start()  # the server may answer more than the socket holds before it reads all
            else:
                _send(sock, talk)
            if talk.end == "reset":
                reset(sock)
            elif talk.end in ("half", "wait"):
                if talk.end == "wait":
                    sock.settimeout(_WAIT)
                with contextlib.suppress(*([TimeoutError] if talk.end == "wait" else [])):
                    while data := sock.recv(1 << 16):
                        received += data
            if sender is not None:
                sender.join()
    return bytes(received)


def _send(sock: socket.socket, talk: Talk) -> None:
    with contextlib.suppress(OSError):
        for segment in talk.segments:
            sock.sendall(segment)
        if talk.end == "half":
            sock.shutdown(socket.SHUT_WR)


def _memory(server: Server) -> int:
    """Return the resident memory of all children, in KiB."""
    total = 0
    for pid in server.children():
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        total += int(found[1]) if found else 0
    return total


class _Run:
    """Several clients at work, and what they found."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.failures: list[str] = []
        self.counts: dict[str, int] = {}
        self.bytes = 0
        self._next = 0
        self._lock = threading.Lock()
        self._cases: dict[int, int] = {}  # port of the client → number of its last connection
        self._stop = False

    def for_seconds(self, seconds: float, most: int) -> None:
        """Make connections until the time is over, or there were enough of them."""
        deadline = time.monotonic() + seconds
        last = self._next + most
        threads = [threading.Thread(target=self._work, args=(deadline, last)) for _ in range(_CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(_LOOK)
                self._stop |= bool(self.problems())

    def problems(self) -> list[str]:
        """Return what the error log tells, with the bytes that did it."""
        found = self.server.problems()
        found += [str(record) for record in self.server.log_records() if "fuzz: unexpected" in record.message]
        shown = []
        for text in found[:9]:
            client = re.search(r"\[client 127\.0\.0\.1:(\d+)\]", text)
            number = self._cases.get(int(client[1])) if client else None
            lines = "\n".join(line[:300] for line in text.splitlines())
            shown.append(lines if number is None else f"{self._name(number)}\n{lines}")
        return shown

    @staticmethod
    def _name(number: int) -> str:
        port, talk = _case(number)
        return f"seed {SEED}, case {number}, {_NAMES[port // 2]}: {talk}"

    def one(self, number: int) -> None:
        """Make one connection."""
        port, talk = _case(number)
        try:
            answer = _converse(
                self.server, port, talk, lambda sock: self._cases.update({sock.getsockname()[1]: number})
            )
        except (OSError, TimeoutError) as error:
            self._fail(number, f"{type(error).__name__}: {error}")
            return
        with self._lock:
            name = _NAMES[port // 2] + (", TLS" if port % 2 else "")
            self.counts[name] = self.counts.get(name, 0) + 1
            self.counts["requests"] = self.counts.get("requests", 0) + len(
                re.findall(rb"(?m)^HTTP/1\.[01] (?!100)", answer)
            )
            self.bytes += sum(map(len, talk.segments))
        if port // 2 not in _OPERATIONS and (bad := _SERVER_ERROR.search(answer)):
            self._fail(number, bad[0].decode("latin-1"))

    def _work(self, deadline: float, last: int) -> None:
        while time.monotonic() < deadline and not self.failures and not self._stop:
            with self._lock:
                number = self._next
                self._next += 1
            if number >= last:
                return
            self.one(number)

    def _fail(self, number: int, what: str) -> None:
        self.failures.append(f"{self._name(number)}\n{what}")


def test_bytes() -> None:
    site = Path(__file__).with_name("site.py").read_text(encoding="utf-8")
    files = {"fuzz_site.py": site, "htdocs/file.txt": "text\n" * 100, "htdocs/dir/index.html": "<p>"}
    server = Server(_config(), files=files, listen=2 * len(_KINDS), tls=[1], modules=_MODULES, log_level="notice")
    run = _Run(server)
    server.allow(_EXPECTED)
    start = time.monotonic()
    with server:
        before = server.children()
        warm = 0
        if CASE is not None:
            run.one(CASE)
        elif SECONDS:
            run.for_seconds(SECONDS / 5, 1 << 60)
            warm = _memory(server)
            run.for_seconds(SECONDS * 4 / 5, 1 << 60)
        else:
            run.for_seconds(math.inf, _SHORT)
        spent = time.monotonic() - start
        after, memory = server.children(), _memory(server)
    total = sum(count for name, count in run.counts.items() if name != "requests")
    print(f"seed {SEED}: {total} connections ({total / spent * 60:.0f}/min), {run.bytes} bytes, {run.counts}")
    print(f"memory of the children: {warm} KiB after a fifth, {memory} KiB at the end")
    problems = run.failures + run.problems()
    if before != after:
        problems.append(f"children {before} became {after}")
    if warm and memory > warm + _GROWTH:
        problems.append(f"the children grew from {warm} to {memory} KiB")
    if problems:
        pytest.fail(f"seed {SEED}, {len(problems)} problems\n" + "\n".join(problems), pytrace=False)
