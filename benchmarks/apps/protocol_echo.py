# mypy: disable-error-code="import-untyped,import-not-found"
"""The echo server as a bare protocol on uvloop: what comes goes back, nobody looks for lines.

Usage: python protocol_echo.py PORT
"""

from __future__ import annotations

import asyncio
import sys


class Echo(asyncio.Protocol):
    """Sends back whatever arrives."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a uvloop transport is no subclass

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def main(port: int) -> None:
    """Serves on the loopback interface until it is terminated."""
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(main(int(sys.argv[1])))
