# mypy: disable-error-code="import-untyped,import-not-found"
"""The key-value server of the examples on bare asyncio: streams or a protocol, asyncio's event loop or uvloop.

Usage: python resp_asyncio.py PORT streams|protocol asyncio|uvloop DIRECTORY

DIRECTORY is that of resp.py and store.py.
"""

from __future__ import annotations

import asyncio
import sys

sys.path.insert(0, sys.argv[4])

import resp
import store


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers commands until the peer closes."""
    parser = resp.Parser()
    try:
        while data := await reader.read(65536):
            # A write of asyncio's is a system call, so the answers to one piece go out together.
            writer.write(b"".join([store.answer(words) for words in parser.feed(data)]))
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


class Protocol(asyncio.Protocol):
    """Answers commands as they arrive."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a uvloop transport is no subclass
        self.parser = resp.Parser()

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"".join([store.answer(words) for words in self.parser.feed(data)]))


async def main(port: int, form: str) -> None:
    """Serves on the loopback interface until it is terminated."""
    if form == "streams":
        server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=511)
    else:
        server = await asyncio.get_running_loop().create_server(Protocol, "127.0.0.1", port, backlog=511)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[3] == "uvloop":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
