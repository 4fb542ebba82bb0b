"""A WebSocket server on the connection itself, with the sans-IO library wsproto.

What a client sends to ``/echo`` comes back to it; on every other path it goes to all clients of
that path.
"""

import asyncio
from collections import defaultdict

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.frame_protocol import CloseReason
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

LONGEST = 1 << 20  # bytes of a message
MOST_UNSENT = 4 << 20  # bytes that may wait for one who does not read

rooms = defaultdict(set)  # path -> clients


class Client:
    """One client: its connection, and what wsproto knows of it."""

    def __init__(self, conn):
        self.conn = conn
        self.protocol = WSConnection(ConnectionType.SERVER)
        self.path = None
        self.parts = []  # of a message that is not complete
        self.size = 0

    def send(self, event):
        """Send an event of wsproto, unless the client is on its way out."""
        try:
            self.conn.write(self.protocol.send(event))
        except (LocalProtocolError, OSError):
            pass

    def receive(self, data):
        """Take bytes, or None for the end; return whether to go on."""
        try:
            self.protocol.receive_data(data)
            for event in self.protocol.events():
                if not self.handle(event):
                    return False
        except RemoteProtocolError as exc:
            self.send(exc.event_hint or RejectConnection(status_code=400))
            return False
        return True

    def handle(self, event):
        match event:
            case Request():
                self.path = event.target
                rooms[self.path].add(self)
                self.send(AcceptConnection())
            case Ping():
                self.send(event.response())
            case CloseConnection():
                self.send(event.response())
                return False
            case Message():
                return self.gather(event)
        return True

    def gather(self, event):
        """Put the fragments of a message together."""
        self.parts.append(event.data)
        self.size += len(event.data)
        if self.size > LONGEST:
            self.send(CloseConnection(CloseReason.MESSAGE_TOO_BIG))
            return False
        if event.message_finished:
            kind = TextMessage if isinstance(event, TextMessage) else BytesMessage
            self.deliver(kind(data=type(event.data)().join(self.parts)))
            self.parts, self.size = [], 0
        return True

    def deliver(self, message):
        for client in [self] if self.path == "/echo" else list(rooms[self.path]):
            if client.conn.unsent_bytes > MOST_UNSENT:
                client.conn.close()
            else:
                client.send(message)

    def leave(self):
        members = rooms.get(self.path)
        if members:
            members.discard(self)
            if not members:
                del rooms[self.path]


async def connectionhandler(conn):
    client = Client(conn)
    farewell = asyncio.create_task(leave_with_the_server(client))
    try:
        async with asyncio.timeout(30) as handshake:
            while client.receive(await conn.read() or None):
                if client.path and handshake.when():
                    handshake.reschedule(None)
                    conn.read_timeout = 3600
                await conn.drain()
    finally:
        farewell.cancel()
        client.leave()


async def leave_with_the_server(client):
    await client.conn.closing.wait()
    client.send(CloseConnection(CloseReason.GOING_AWAY))
    client.conn.read_timeout = 5  # for its answer
