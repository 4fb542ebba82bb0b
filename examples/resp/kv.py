"""A key-value server for clients of Redis, as an ordinary connection handler."""

import resp
import store

from mod_python import apache


def connectionhandler(conn):
    parser = resp.Parser()
    try:
        while data := conn.read():
            for words in parser.feed(data):
                conn.write(store.answer(words))
    except resp.ProtocolError as exc:
        conn.write(resp.error(f"ERR Protocol error: {exc}"))
    return apache.OK
