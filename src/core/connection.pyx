# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Connection: what an ordinary connection handler reads from and writes to.  How
# bytes come and go is in stream.pyx.

cdef class Connection(ConnectionFacts):
    """A connection, as given to connection handlers and as ``req.connection``.

    Reading methods return ``bytes``.  At the end of the stream they return
    ``b""`` once; reading on raises ``apache.ConnectionClosed``, which the
    server takes as the normal end of a connection handler.  A read or write
    that takes longer than the time-out raises ``apache.ConnectionTimeout``.

    One thread at a time may read; any thread may write.
    """

    # -- reading --------------------------------------------------------------

    def readline(self, Py_ssize_t length=0):
        """Read one line, including its b"\\n".

        Args:
            length: if positive, return at most this many bytes.
        Returns:
            The line; without a newline only if it was cut at ``length`` or the
            peer closed after it; b"" once at the end of the stream.
        Raises:
            ConnectionClosed: reading beyond the end, or the peer has gone.
            ConnectionTimeout: nothing came for ``read_timeout`` seconds.
            LimitError: the line is longer than ``limit`` bytes.
        """
        return self.get(READ_LINE, length, None, self.limit_)

    def read(self, Py_ssize_t length=0):
        """Read bytes; waits until there is at least one.

        Args:
            length: positive: at most that many bytes; 0: what is available;
                negative: everything until the peer closes, up to ``limit``.
        Returns:
            bytes; b"" once at the end of the stream.
        Raises:
            ConnectionClosed, ConnectionTimeout, LimitError: as for readline.
        """
        return self.get(READ_ALL if length < 0 else READ_SOME, length, None, self.limit_)

    def readexactly(self, Py_ssize_t length):
        """Read exactly ``length`` bytes.

        Raises:
            IncompleteRead: the stream ended before; ``partial`` holds what came.
            ValueError: length is negative.
            LimitError: length is more than ``limit``.
            ConnectionClosed, ConnectionTimeout: as for readline.
        """
        return self.get(READ_EXACTLY, length, None, self.limit_)

    def readuntil(self, separator=b"\n", limit=None):
        """Read up to and including a separator.

        Args:
            separator: bytes-like, at least one byte.
            limit: longest acceptable result in bytes; ``conn.limit`` if None.
        Raises:
            IncompleteRead: the stream ended before; ``partial`` holds what came.
            LimitError: the separator was not within the limit; nothing was
                taken out of the buffer.
            ConnectionClosed, ConnectionTimeout: as for readline.
        """
        if limit is not None and limit < 1:
            raise ValueError("readuntil() takes a limit of at least 1")
        return self.get(READ_UNTIL, 0, bytes(memoryview(separator)),
                        self.limit_ if limit is None else <size_t> limit)

    def peek(self, Py_ssize_t length=1):
        """Look at the next ``length`` bytes without taking them.

        Waits until that many are there or the stream ends.

        Returns:
            At most ``length`` bytes; fewer only at the end of the stream.
        Raises:
            ValueError: length is less than 1.
            LimitError: length is more than ``limit``.
            ConnectionClosed, ConnectionTimeout: as for readline.
        """
        return self.get(READ_PEEK, length, None, self.limit_)

    cdef object get(self, int kind, Py_ssize_t length, bytes sep, size_t most):
        cdef size_t scanned = 0
        self.check_read(kind, length, sep)
        self.start_reading()
        try:
            while True:
                result = self.attempt(kind, length, sep, most, &scanned)
                if result is not None:
                    return result
                if self.fill(most) == 0:
                    return self.attempt_at_end(kind, length)
        finally:
            self.reading = False

    def __iter__(self):
        return self

    def __next__(self):
        if self.end_told:
            raise StopIteration
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    # -- writing --------------------------------------------------------------

    def flush(self):
        """Send what write() has collected.

        Raises:
            ConnectionClosed, ConnectionTimeout: as for write.
        """
        cdef apr_status_t rv = APR_SUCCESS
        if self.state != STATE_HANDLING:
            self.not_handling("flush")
        self.not_filtering("flush")
        if self.tls is not None:
            rv = self.seal_all()
        self.users += 1
        with nogil:
            pthread_mutex_lock(&self.lock)
            if self.state != STATE_HANDLING:
                rv = APR_ECONNABORTED
            elif self.out_len and rv == APR_SUCCESS:
                rv = self.send(NULL, 0)
            pthread_mutex_unlock(&self.lock)
        self.users -= 1
        if rv != APR_SUCCESS:
            self.error = rv
            self.fail("writing")

    def write_eof(self):
        """Flush, then close the sending direction; reading goes on.

        Raises:
            ConnectionClosed: the peer has gone.
            OSError: the connection uses TLS, or the socket refused.
        """
        cdef apr_status_t rv
        if self.state != STATE_HANDLING:
            self.not_handling("close")
        if not self.can_write_eof():
            raise OSError("a TLS connection cannot be closed in one direction")
        self.flush()
        if self.sock == NULL:
            raise OSError("this connection has no socket")
        rv = apr_socket_shutdown(self.sock, APR_SHUTDOWN_WRITE)
        if rv == ENOTCONN:                  # after a reset by the peer
            raise ConnectionClosed(rv, "the peer has gone: shutdown of the sending direction failed")
        if rv != APR_SUCCESS:
            raise OSError(rv, "shutdown of the sending direction failed")

    def close(self):
        """Flush and end the connection: later reads and writes raise.

        httpd closes the socket when the handler returns.  Closing twice is
        fine; errors of the flush are not reported.
        """
        if self.state != STATE_HANDLING:
            return
        try:
            self.flush()
        except OSError:
            pass
        self.state = STATE_CLOSED
        if self.tls is not None and not self.c.aborted:
            self.end_tls()
            self.send_sealed()
        if self.users:
            self.waking = True
            shutdown(self.fd, SHUT_RD)

    # -- TLS ------------------------------------------------------------------

    def start_tls(self, context, *, bint server_side=True, server_hostname=None,
                  bint discard=False, bint suppress_ragged_eofs=True):
        """Send what is pending, then go on with TLS.

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
        cdef Tls tls = self.new_tls(context, server_side, server_hostname, suppress_ragged_eofs)
        self.start_reading()
        try:
            self.shake_hands(tls, discard)
        finally:
            self.reading = False

    @property
    def closed(self):
        """True once close() was called, the handler has returned, or the
        connection is gone."""
        return self.c == NULL or self.state == STATE_CLOSED or self.c.aborted != 0
