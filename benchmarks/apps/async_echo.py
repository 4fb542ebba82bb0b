# mypy: ignore-errors
"""The echo server as a coroutine function."""


async def connectionhandler(conn):
    async for line in conn:
        conn.write(line)
        await conn.drain()
