"""A key-value server for clients of Redis, as a coroutine function."""

import resp
import store


async def connectionhandler(conn):
    conn.read_timeout = None  # idle clients may stay
    parser = resp.Parser()
    try:
        while data := await conn.read():
            for words in parser.feed(data):
                conn.write(store.answer(words))
            await conn.drain()
    except resp.ProtocolError as exc:
        conn.write(resp.error(f"ERR Protocol error: {exc}"))
