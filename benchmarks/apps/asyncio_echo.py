# mypy: disable-error-code="import-untyped,import-not-found"
"""The echo server with asyncio streams, on asyncio's own event loop or on uvloop.

Usage: python asyncio_echo.py PORT asyncio|uvloop
"""

from __future__ import annotations

import asyncio
import sys

#: The longest line accepted, so that lines as long as the other servers take are not cut off at asyncio's 64 KiB.
LINE_LIMIT = 64 * 1024 * 1024


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Echoes lines until the peer closes."""
    try:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main(port: int) -> None:
    """Serves on the loopback interface until it is terminated."""
    server = await asyncio.start_server(echo, "127.0.0.1", port, limit=LINE_LIMIT, backlog=511)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[2] == "uvloop":
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(main(int(sys.argv[1])))
