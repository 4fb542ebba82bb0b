"""Connections of coroutine handlers that break before their handler begins."""

from __future__ import annotations

import socket
import struct
import threading

from mod_python.testing import Server
from tests.servers import running

HANDLER = """
async def connectionhandler(conn):
    async for line in conn:
        conn.write(line)
        await conn.drain()
"""


def hammer(server: Server, beginning: bytes, times: int) -> None:
    """Connect, send the beginning of something, and reset the connection."""
    for _ in range(times):
        with server.connect_plain(1) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if beginning:
                sock.sendall(beginning)


def test_resets_in_the_tls_handshake() -> None:
    """The MPM closes these itself, although it was told to suspend them."""
    with running(handler=HANDLER, listen=2, tls=[1], log_level="notice") as server:
        children = server.children()
        threads = [
            threading.Thread(target=hammer, args=(server, beginning, 60))
            for beginning in (b"", b"\x16\x03\x01\x02\x00", b"no TLS at all\r\n", b"\x16\x03\x01\x00\x05hello")
        ]
        for thread in threads:
            thread.start()
        for number in range(50):
            with server.connect(number % 2) as peer:
                peer.sendall(b"%d\n" % number)
                assert peer.recv(100) == b"%d\n" % number
        for thread in threads:
            thread.join()
        with server.connect(1) as peer:
            peer.sendall(b"still there\n")
            assert peer.recv(100) == b"still there\n"
        assert set(children) & set(server.children()) == set(children)
