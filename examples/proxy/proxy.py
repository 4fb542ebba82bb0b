"""A proxy for TCP: every connection is led on to another server.

It goes to ``PythonOption proxy.to host:port``. Both directions run at the same time, and
each ends by itself.
"""

import asyncio

from mod_python import apache

PIECE = 65536  # bytes


async def connectionhandler(conn):
    to = conn.get_options()["proxy.to"]
    host, _, port = to.rpartition(":")
    try:
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(host, int(port))
    except OSError as exc:  # a time-out is one, too
        conn.log_error(f"cannot connect to {to}: {exc or 'time-out'}", apache.APLOG_WARNING)
        return
    conn.read_timeout = None  # the other server knows how long it waits
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(there(conn, writer))
            tasks.create_task(back(reader, conn))
    except* OSError as group:  # one of the two has gone; the group has cancelled the other task
        conn.log_error(f"proxy: {group.exceptions[0]}", apache.APLOG_DEBUG)
    finally:
        writer.close()


async def there(conn, writer):
    while data := await conn.read(PIECE):
        writer.write(data)
        await writer.drain()
    writer.write_eof()


async def back(reader, conn):
    while data := await reader.read(PIECE):
        conn.write(data)
        await conn.drain()
    if conn.can_write_eof():
        await conn.write_eof()
    else:
        conn.close()  # TLS has no half-close
