"""A chat by lines, as coroutines: what one client writes, all the others read.

Everything runs on one thread, so no lock is needed. No write waits: who leaves more unread than
the limit allows is shown out.

The clients of one child process see each other, so run it with one process.
"""

import asyncio

from mod_python import apache

members = {}  # connection -> name


async def connectionhandler(conn):
    conn.limit = 65536  # bytes of a line, and bytes written that the client has not read yet
    conn.read_timeout = 3600  # seconds of silence

    conn.write(b"Your name? ")
    name = (await conn.readline(64)).strip()
    if not name:
        return

    members[conn] = name
    farewell = asyncio.create_task(leave_with_the_server(conn))
    tell_others(conn, name + b" is here\n")
    try:
        async for line in conn:
            tell_others(conn, name + b": " + line.rstrip(b"\r\n") + b"\n")
    finally:
        farewell.cancel()
        del members[conn]
        tell_others(conn, name + b" has left\n")


async def leave_with_the_server(conn):
    """At a restart all come back to the new process, or they would not see each other."""
    await conn.closing.wait()
    conn.write(b"The server restarts\n")
    conn.close()  # the handler's read ends with ConnectionClosed


def tell_others(sender, text):
    for member in list(members):
        if member is sender:
            continue
        try:
            member.write(text)
        except apache.LimitError:
            member.close()
        except OSError:
            pass  # it has just left
