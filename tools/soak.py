"""Mixed load for a long time: descriptors, threads and memory of a child must stay as they are.

    .venv/bin/python -m tools.soak [--seconds 3600] [--mpm event]

Connections of coroutine handlers, plain and TLS, of an ordinary handler, and requests; orderly ends and
resets, lines cut anywhere, messages larger than every buffer, peers that read slowly, time-outs and handlers
that fail.  After each minute the load pauses until every connection is gone, and what the children hold is
counted.  The exit status is 1 if descriptors or threads were left over, if memory grew by more than
`GROWTH` after the warm-up, or if a child died.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import ssl
import struct
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from mod_python.testing import Server

#: Minutes until all memory that is kept for reuse is there.
WARM_UP = 10
#: KiB that a child may grow by from then on.
GROWTH = 6 * 1024
#: Descriptors that may come and go: httpd closes what lingers up to 30 seconds late.
SLACK = 2
#: Clients at once, and how many more that only hold a connection.
CLIENTS, IDLE = 48, 200
#: Seconds between two pauses, and how long a client may take.
EPOCH, PATIENCE = 60.0, 30.0

_HANDLERS = """
import asyncio
from mod_python import apache

async def serve(conn):
    conn.read_timeout = 5
    async for line in conn:
        if line == b"!fail\\n":
            raise ValueError("on purpose")
        if line == b"!exactly\\n":
            conn.write(await conn.readexactly(10))
        elif line == b"!sleep\\n":
            await asyncio.sleep(0.01)
        elif line == b"!timeout\\n":
            try:
                async with asyncio.timeout(0.01):
                    await conn.readuntil(b"never")
            except TimeoutError:
                pass
            conn.write(line)
        else:
            conn.write(line)
        await conn.drain()

def connectionhandler(conn):
    for line in conn:
        conn.write(line)
    return apache.OK

def handler(req):
    body = req.read()
    req.content_type = "text/plain"
    req.write(b"hello" + body)
    return apache.OK
"""

_CONFIG = """
<VirtualHost *:${PORT}>
    PythonConnectionHandler ${SITE}/soak_site.py::serve
</VirtualHost>
<VirtualHost *:${PORT2}>
    SSLEngine On
    SSLCertificateFile ${TLS_CERT}
    SSLCertificateKeyFile ${TLS_KEY}
    PythonConnectionHandler ${SITE}/soak_site.py::serve
</VirtualHost>
<VirtualHost *:${PORT3}>
    PythonConnectionHandler ${SITE}/soak_site.py
</VirtualHost>
<Location "/">
    SetHandler mod_python
    PythonHandler ${SITE}/soak_site.py
</Location>
"""


@dataclass(frozen=True)
class Count:
    """What a child holds."""

    descriptors: int
    threads: int
    rss: int  # KiB

    @classmethod
    def of(cls, pid: int) -> Count:
        """Count now."""
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        words = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
        return cls(len(os.listdir(f"/proc/{pid}/fd")), int(words["Threads"]), int(words["VmRSS"].split()[0]))


class Load:
    """The clients.

    Args:
        ports: of the four virtual hosts: coroutine handler plain, TLS, ordinary handler, requests.
        seed: of what they do.
    """

    def __init__(self, ports: list[int], seed: int) -> None:
        self.ports = ports
        self.random = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.tls = ssl.create_default_context()
        self.tls.check_hostname = False
        self.tls.verify_mode = ssl.CERT_NONE
        self.kinds: list[tuple[int, Callable[[int], Awaitable[None]]]] = [
            (30, self.lines),
            (10, self.large),
            (10, self.cut),
            (10, self.reset),
            (10, self.half_close),
            (8, self.commands),
            (1, self.fail),
            (20, self.request),
        ]

    async def open(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to one of the virtual hosts, by its number."""
        context = self.tls if port == 1 else None
        return await asyncio.open_connection("127.0.0.1", self.ports[port], ssl=context, limit=1 << 22)

    async def close(self, writer: asyncio.StreamWriter) -> None:
        """Close, whatever the peer says to it."""
        writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await writer.wait_closed()

    # -- what a client does ----------------------------------------------------------

    async def lines(self, port: int) -> None:
        reader, writer = await self.open(port)
        for number in range(self.random.randrange(1, 60)):
            line = b"%d %s\n" % (number, b"x" * self.random.randrange(200))
            writer.write(line)
            self.expect(await reader.readline(), line)
        await self.close(writer)

    async def large(self, port: int) -> None:
        reader, writer = await self.open(port)
        line = os.urandom(1 << self.random.randrange(10, 20)).replace(b"\n", b"-").replace(b"!", b"-") + b"\n"
        sending = asyncio.ensure_future(self._send(writer, line * 3))
        await asyncio.sleep(self.random.random() / 10)
        self.expect(await reader.readexactly(3 * len(line)), line * 3)
        await sending
        await self.close(writer)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    async def cut(self, port: int) -> None:
        reader, writer = await self.open(port)
        line = b"a line that comes in pieces\n"
        for piece in range(len(line)):
            writer.write(line[piece : piece + 1])
            await asyncio.sleep(0.001)
        self.expect(await reader.readline(), line)
        await self.close(writer)

    async def reset(self, port: int) -> None:
        _, writer = await self.open(port)
        writer.write(b"y" * self.random.randrange(1, 100_000))
        await asyncio.sleep(self.random.random() / 50)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER
        writer.transport.abort()

    async def half_close(self, port: int) -> None:
        if port == 1:
            return
        reader, writer = await self.open(port)
        writer.write(b"z\nno end of line")
        writer.write_eof()
        self.expect(await reader.read(-1), b"z\nno end of line")
        await self.close(writer)

    async def commands(self, port: int) -> None:
        if port == 2:
            return
        reader, writer = await self.open(port)
        writer.write(b"!exactly\n0123456789!sleep\n!timeout\nend\n")
        self.expect(await reader.readexactly(23), b"0123456789!timeout\nend\n")
        await self.close(writer)

    async def fail(self, port: int) -> None:
        if port == 2:
            return
        reader, writer = await self.open(port)
        writer.write(b"!fail\n")
        self.expect(await reader.read(-1), b"")
        await self.close(writer)

    async def request(self, port: int) -> None:
        reader, writer = await self.open(3)
        for number in range(self.random.randrange(1, 10)):
            writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nabcd")
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                if not number:
                    raise
                break  # a busy server closes what is kept alive
            if b" 200 " not in head:
                self.wrong.append(repr(head))
            if b"chunked" in head:
                while (await reader.readuntil(b"\r\n")) != b"0\r\n":
                    pass
                await reader.readuntil(b"\r\n")
            else:
                await reader.readexactly(9)
            if b"connection: close" in head.lower():
                break
        await self.close(writer)

    def expect(self, got: bytes, wanted: bytes) -> None:
        """Note what is wrong."""
        if got != wanted:
            self.wrong.append(f"{got[:60]!r} instead of {wanted[:60]!r}")

    # -- all together --------------------------------------------------------------------

    async def client(self, until: float) -> None:
        """One after the other."""
        weights = [weight for weight, _ in self.kinds]
        while time.monotonic() < until and len(self.wrong) < 10:
            _, kind = self.random.choices(self.kinds, weights)[0]
            port = self.random.randrange(3)
            try:
                async with asyncio.timeout(PATIENCE):
                    await kind(port)
                self.done[kind.__name__] += 1
            except Exception as problem:
                self.wrong.append(f"{kind.__name__} with virtual host {port}: {problem!r}")

    async def idler(self, until: float) -> None:
        """Hold a connection, and say something now and then."""
        while time.monotonic() < until:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await self.open(self.random.randrange(2))
                for _ in range(self.random.randrange(1, 6)):
                    await asyncio.sleep(self.random.random() * 7)  # beyond the time-out, at times
                    writer.write(b"still here\n")
                    if not await reader.readline() or time.monotonic() > until:
                        break
                await self.close(writer)
                self.done["idle"] += 1

    async def epoch(self, seconds: float) -> None:
        """A while of it."""
        until = time.monotonic() + seconds
        await asyncio.gather(
            *(self.client(until) for _ in range(CLIENTS)), *(self.idler(until - 8) for _ in range(IDLE))
        )


def quiet(pid: int, threads: int | None) -> Count:
    """Wait until the child has closed all connections; count what it holds."""
    count = Count.of(pid)
    for _ in range(400):
        time.sleep(0.1)
        before, count = count, Count.of(pid)
        if before.descriptors == count.descriptors and (threads is None or count.threads <= threads):
            connections = [link for link in _links(pid) if link.startswith("socket:")]
            if len(connections) <= 8:  # listeners, and pairs of the loop's own
                break
    return count


def _links(pid: int) -> list[str]:
    links = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            links.append(os.readlink(f"/proc/{pid}/fd/{name}"))
    return links


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.soak")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--mpm", default="event", choices=("event", "worker"))
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args(arguments)
    epochs = max(2, round(options.seconds / EPOCH))
    print(f"seed {options.seed}, {epochs} times {EPOCH:g} seconds, {options.mpm}", flush=True)
    with Server(
        _CONFIG,
        files={"soak_site.py": _HANDLERS},
        mpm=options.mpm,
        processes=1,
        threads=32 if options.mpm == "event" else CLIENTS + IDLE + 40,
        listen=5,
        tls=[4],  # nobody talks to it; the certificate is for the second port
        log_level="notice",
    ) as server:
        server.allow("on purpose")
        load = Load(list(server.ports), options.seed)
        pid = server.children()[0]
        counts: list[Count] = []
        held: list[str] = []
        for number in range(epochs):
            asyncio.run(load.epoch(EPOCH))
            if server.children() != [pid]:
                load.wrong.append(f"the child is another one now; the log ends with\n{server.error_log[-2000:]}")
                break
            count = quiet(pid, counts[0].threads if counts else None)
            held = sorted(_links(pid))
            counts.append(count)
            total = sum(load.done.values())
            print(
                f"{number + 1:3}  {total:9,} clients  {count.descriptors:4} descriptors  {count.threads:3} threads  "
                f"{count.rss:7,} KiB",
                flush=True,
            )
            if load.wrong:
                break
    problems = [*load.wrong[:10], *server.problems()]
    first = counts[min(WARM_UP, len(counts) // 2)] if counts else Count(0, 0, 0)
    last = counts[-1] if counts else first
    if last.descriptors > first.descriptors + SLACK:
        problems.append(f"{last.descriptors - first.descriptors} descriptors more than after the warm-up: {held}")
    if last.threads > first.threads:
        problems.append(f"{last.threads - first.threads} threads more than after the warm-up")
    if last.rss > first.rss + GROWTH:
        problems.append(f"{last.rss - first.rss:,} KiB more than after the warm-up")
    print(f"done: {dict(load.done)}")
    print("\n".join(problems) if problems else "nothing left over")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
