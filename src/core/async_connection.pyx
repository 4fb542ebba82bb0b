# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# AsyncConnection: what a handler that is a coroutine function reads from and
# writes to.  How bytes come and go is in async_stream.pyx.

cdef class AsyncConnection(AsyncStream):
    """A connection, as given to connection handlers that are coroutine functions.

    Reading methods are awaited and then give ``bytes``.  At the end of the
    stream they give ``b""`` once; reading on raises ``apache.ConnectionClosed``,
    which the server takes as the normal end of a handler.  A read that takes
    longer than ``read_timeout`` raises ``apache.ConnectionTimeout``.

    One task at a time may read; any task of the loop may write.
    """

    # -- reading --------------------------------------------------------------------

    cdef int start_reading(self) except -1:
        if self.state != STATE_HANDLING:
            self.not_handling("read")
        if PyThread_get_thread_ident() != self.hub.thread:
            raise RuntimeError("cannot read from another thread than the loop's: use "
                               "asyncio.run_coroutine_threadsafe()")
        if self.reading:
            raise RuntimeError("another task is reading from this connection")
        self.reading = True
        return 0

    cdef Reading new_reading(self, int kind, Py_ssize_t length, bytes sep, size_t most):
        cdef Reading reading = Reading.__new__(Reading)
        self.check_read(kind, length, sep)
        reading.conn = self
        reading.kind = kind
        reading.length = length
        reading.sep = sep
        reading.most = most
        return reading

    def readline(self, Py_ssize_t length=0):
        """Await one line, including its b"\\n".

        Args:
            length: if positive, give at most this many bytes.
        Returns:
            The line; without a newline only if it was cut at ``length`` or the
            peer closed after it; b"" once at the end of the stream.
        Raises:
            ConnectionClosed: reading beyond the end, or the peer has gone.
            ConnectionTimeout: nothing came for ``read_timeout`` seconds.
            LimitError: the line is longer than ``limit`` bytes.
            RuntimeError: another task is reading.
        """
        return self.new_reading(READ_LINE, length, None, self.limit_)

    def read(self, Py_ssize_t length=0):
        """Await bytes, at least one.

        Args:
            length: positive: at most that many bytes; 0: what is available;
                negative: everything until the peer closes, up to ``limit``.
        Returns:
            bytes; b"" once at the end of the stream.
        Raises:
            ConnectionClosed, ConnectionTimeout, LimitError, RuntimeError: as
                for readline.
        """
        return self.new_reading(READ_ALL if length < 0 else READ_SOME, length, None, self.limit_)

    def readexactly(self, Py_ssize_t length):
        """Await exactly ``length`` bytes.

        Raises:
            IncompleteRead: the stream ended before; ``partial`` holds what came.
            ValueError: length is negative.
            LimitError: length is more than ``limit``.
            ConnectionClosed, ConnectionTimeout, RuntimeError: as for readline.
        """
        return self.new_reading(READ_EXACTLY, length, None, self.limit_)

    def readuntil(self, separator=b"\n", limit=None):
        """Await what comes up to and including a separator.

        Args:
            separator: bytes-like, at least one byte.
            limit: longest acceptable result in bytes; ``conn.limit`` if None.
        Raises:
            IncompleteRead: the stream ended before; ``partial`` holds what came.
            LimitError: the separator was not within the limit; nothing was
                taken out of the buffer.
            ConnectionClosed, ConnectionTimeout, RuntimeError: as for readline.
        """
        if limit is not None and limit < 1:
            raise ValueError("readuntil() takes a limit of at least 1")
        return self.new_reading(READ_UNTIL, 0, bytes(memoryview(separator)),
                                self.limit_ if limit is None else <size_t> limit)

    def peek(self, Py_ssize_t length=1):
        """Await the next ``length`` bytes and leave them where they are.

        Returns:
            At most ``length`` bytes; fewer only at the end of the stream.
        Raises:
            ValueError: length is less than 1.
            LimitError: length is more than ``limit``.
            ConnectionClosed, ConnectionTimeout, RuntimeError: as for readline.
        """
        return self.new_reading(READ_PEEK, length, None, self.limit_)

    def __aiter__(self):
        return self

    def __anext__(self):
        cdef Reading reading = self.new_reading(READ_LINE, 0, None, self.limit_)
        reading.iterates = True
        return reading

    # -- writing --------------------------------------------------------------------

    cdef Draining new_draining(self, size_t most, bint half_close):
        cdef Draining draining = Draining.__new__(Draining)
        draining.conn = self
        draining.most = most
        draining.half_close = half_close
        return draining

    def drain(self):
        """Send, and wait while more than ``high_water`` bytes are unsent.

        To be awaited after writing, so that a peer that does not read makes its
        handler wait, and not the server's memory grow.

        Raises:
            ConnectionClosed: the peer has gone.
            ConnectionTimeout: nothing could be sent for ``write_timeout`` seconds.
        """
        return self.new_draining(self.high, False)

    def flush(self):
        """Send, and wait until everything that was written has been handed to the system.

        Raises:
            ConnectionClosed, ConnectionTimeout: as for drain.
        """
        return self.new_draining(0, False)

    def write_eof(self):
        """Await that everything is sent and the sending direction closed; reading goes on.

        Raises:
            ConnectionClosed, ConnectionTimeout: as for drain.
            OSError: the connection uses TLS, or the socket refused.
        """
        if self.state != STATE_HANDLING:
            self.not_handling("close")
        if not self.can_write_eof():
            raise OSError("a TLS connection cannot be closed in one direction")
        return self.new_draining(0, True)

    def close(self):
        """End the connection: later reads and writes raise.

        What was written is still sent.  Closing twice is fine.
        """
        cdef Waiter waiter = self.input_waiter
        if self.state != STATE_HANDLING:
            return
        self.check_thread("close")
        self.state = STATE_CLOSED
        if self.tls is not None:
            self.tls.shut_wanted = True
        self.push()
        if waiter is not None:
            self.stop_waiting()
            waiter.later()

    def _abort(self):
        """End the connection at once; what is unsent is lost."""
        cdef Waiter waiter = self.input_waiter
        if self.c == NULL or self.state != STATE_HANDLING:
            return
        self.check_thread("close")
        self.state = STATE_CLOSED
        self.output_failed(APR_ECONNABORTED)
        if waiter is not None:
            self.stop_waiting()
            waiter.later()

    # -- asyncio's own forms ----------------------------------------------------------

    def streams(self, *, Py_ssize_t limit=65536):
        """An asyncio.StreamReader and StreamWriter over this connection.

        They take its place: the reading methods here are not for use any more.
        ``read_timeout`` becomes None.

        Args:
            limit: as that of asyncio.open_connection(), in bytes; up to twice as
                much is read ahead.
        Returns:
            (reader, writer).
        Raises:
            RuntimeError: there are streams, or a protocol, already.
            ConnectionClosed: the connection was closed.
        """
        if self.state != STATE_HANDLING:
            self.not_handling("read")
        if limit < 1:
            raise ValueError("limit must be at least 1 byte")
        from mod_python._async.transport import streams
        return streams(self, limit)

    def run_protocol(self, factory):
        """Await that an asyncio protocol has served this connection.

        Args:
            factory: called without arguments; returns an asyncio.Protocol or
                BufferedProtocol.  Its methods are called as asyncio would,
                connection_lost() last.
        Returns:
            The protocol, once the connection is lost.
        Raises:
            Exception: what a method of the protocol raised.
            RuntimeError: there are streams, or a protocol, already.
            ConnectionClosed: the connection was closed.
        """
        if self.state != STATE_HANDLING:
            self.not_handling("read")
        from mod_python._async.transport import run_protocol
        return run_protocol(self, factory)

    # -- TLS ------------------------------------------------------------------------

    def start_tls(self, context, *, bint server_side=True, server_hostname=None,
                  bint discard=False, bint suppress_ragged_eofs=True):
        """Await that what is pending is sent and TLS has begun.

        For protocols with a command such as STARTTLS.  What came before the
        handshake is never taken for what comes inside TLS.

        Args:
            context: an ssl.SSLContext of Python, with certificate and key.
            server_side: False: this end begins the handshake, as a client.
            server_hostname: for a client: the server's name.
            discard: drop what the peer sent between its request for TLS and the
                handshake, instead of refusing it.
            suppress_ragged_eofs: the end of the stream without TLS's
                close_notify is an end like any other; if False, TLSError.
        Raises:
            TLSError: the handshake failed, the peer left, or sent other bytes
                before it.  The connection is closed then.
            ConnectionTimeout: the whole of it took longer than ``read_timeout``.
            ConnectionClosed: the connection was closed before.
            RuntimeError: the connection uses TLS already.
            TypeError, ValueError, ssl.SSLError: the context does not do.
        """
        cdef Handshake shake = Handshake.__new__(Handshake)
        shake.tls = self.new_tls(context, server_side, server_hostname, suppress_ragged_eofs)
        shake.conn = self
        shake.discard = discard
        return shake

    @property
    def closed(self):
        """True once close() was called, the handler has returned, or the
        connection is gone."""
        return self.c == NULL or self.state == STATE_CLOSED or self.c.aborted != 0

    @property
    def closing(self):
        """An asyncio.Event, set when the server wants this child to end:
        ``await conn.closing.wait()``."""
        return self.hub.closing

    @property
    def high_water(self):
        """Unsent bytes above which drain() waits."""
        return self.high

    @high_water.setter
    def high_water(self, Py_ssize_t value):
        if value < 0:
            raise ValueError("high_water must be at least 0 bytes")
        self.high = value

    @property
    def unsent_bytes(self):
        """Bytes that were written and not handed to the system yet."""
        return self.unsent()


def hand_over(Connection conn not None, Hub hub not None, job):
    """Make the connection of a coroutine handler out of the one that came in.

    Args:
        conn: whose handler is being called.
        hub: of the loop that is to serve it.
        job: kept as ``_job``.
    Returns:
        (the new object, whether the MPM lets go of the connection).
    """
    cdef conn_rec *c = conn.rec()
    cdef mp_slot *slot = mp_conn_slot(c, conn.entry.interp)
    cdef AsyncConnection made = AsyncConnection.__new__(AsyncConnection)
    made.attach(c, conn.entry)
    made.hub = hub
    made._job = job
    made.done_fd = -1
    made.limit_ = conn.limit_
    made.read_us = conn.read_us
    made.write_us = conn.write_us
    made.set_up = conn.set_up
    made.inb = conn.inb
    made.outb = conn.outb
    if conn.sock != NULL:
        apr_socket_timeout_set(conn.sock, conn.saved_us)
    conn.inb = conn.outb = NULL
    conn.state = STATE_VIEW
    conn.handed_over = True
    made.previous = conn
    Py_INCREF(made)
    slot.object = <void *> made
    Py_DECREF(conn)
    suspends = bool(mp_can_suspend(c) and mp_suspend(c, hub.link))
    return made, suspends
