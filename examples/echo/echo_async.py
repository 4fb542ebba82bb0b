"""The echo server as a coroutine function: an idle client takes no thread of httpd."""


async def connectionhandler(conn):
    async for line in conn:
        conn.write(line)
        await conn.drain()
