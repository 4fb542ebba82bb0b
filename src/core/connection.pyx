# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Connection: what a handler sees of a conn_rec.  How bytes come and go is in
# stream.pyx.

cdef class Connection(Stream):
    """A connection, as given to connection handlers and as ``req.connection``.

    Reading methods return ``bytes``.  At the end of the stream they return
    ``b""`` once; reading on raises ``apache.ConnectionClosed``, which the
    server takes as the normal end of a connection handler.  A read or write
    that takes longer than the time-out raises ``apache.ConnectionTimeout``.

    One thread at a time may read; any thread may write.
    """
    cdef public object _hlist

    def __init__(self):
        raise TypeError("cannot create 'mp_conn' instances")

    def __delattr__(self, name):
        raise AttributeError("conn.%s cannot be deleted" % name)

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
        cdef size_t have, scanned = 0
        cdef char *found
        self.start_reading()
        try:
            while True:
                have = buffer_len(&self.inp)
                if have > scanned:
                    found = <char *> memchr(self.inp.data + self.inp.pos + scanned,
                                            10, have - scanned)
                    if found != NULL:
                        have = found + 1 - (self.inp.data + self.inp.pos)
                        if 0 < length < <Py_ssize_t> have:
                            have = length
                        if have > self.limit_:
                            over_limit(self.limit_)
                        return buffer_take(&self.inp, have)
                    scanned = have
                if 0 < length <= <Py_ssize_t> min(have, self.limit_):
                    return buffer_take(&self.inp, length)
                if self.fill(self.limit_) == 0:
                    return buffer_take(&self.inp, have) if have else self.at_end()
        finally:
            self.reading = False

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
        cdef size_t have
        self.start_reading()
        try:
            if length < 0:
                while self.fill(self.limit_):
                    pass
            have = buffer_len(&self.inp)
            if not have:
                if self.fill(self.limit_) == 0:
                    return self.at_end()
                have = buffer_len(&self.inp)
            if 0 < length < <Py_ssize_t> have:
                have = length
            return buffer_take(&self.inp, have)
        finally:
            self.reading = False

    def readexactly(self, Py_ssize_t length):
        """Read exactly ``length`` bytes.

        Raises:
            IncompleteRead: the stream ended before; ``partial`` holds what came.
            ValueError: length is negative.
            LimitError: length is more than ``limit``.
            ConnectionClosed, ConnectionTimeout: as for readline.
        """
        cdef bytes partial
        if length < 0:
            raise ValueError("readexactly() takes a length of 0 or more")
        if <size_t> length > self.limit_:
            raise LimitError("%d bytes asked for, but conn.limit is %d"
                             % (length, self.limit_))
        self.start_reading()
        try:
            if length == 0:
                return b""
            while buffer_len(&self.inp) < <size_t> length:
                if self.fill(self.limit_) == 0:
                    partial = buffer_take(&self.inp, buffer_len(&self.inp)) \
                        if buffer_len(&self.inp) else b""
                    self.end_told = True
                    raise IncompleteRead(partial, length)
            return buffer_take(&self.inp, length)
        finally:
            self.reading = False

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
        cdef bytes sep = bytes(memoryview(separator))
        cdef size_t n = len(sep), have, scanned = 0, most = self.limit_
        cdef char *found
        if n == 0:
            raise ValueError("readuntil() needs a separator of at least one byte")
        if limit is not None:
            if limit < 1:
                raise ValueError("readuntil() takes a limit of at least 1")
            most = limit
        self.start_reading()
        try:
            while True:
                have = buffer_len(&self.inp)
                if have - scanned >= n:
                    found = <char *> memmem(self.inp.data + self.inp.pos + scanned,
                                            have - scanned, PyBytes_AS_STRING(sep), n)
                    if found != NULL:
                        have = found + n - (self.inp.data + self.inp.pos)
                        if have > most:
                            raise LimitError("separator found only after more than "
                                             "%d bytes" % most)
                        return buffer_take(&self.inp, have)
                    scanned = have - n + 1
                if have >= most:
                    raise LimitError("no separator within %d bytes" % most)
                if self.fill(most) == 0:
                    self.end_told = True
                    raise IncompleteRead(
                        buffer_take(&self.inp, have) if have else b"", None)
        finally:
            self.reading = False

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
        cdef size_t have
        if length < 1:
            raise ValueError("peek() takes a length of at least 1")
        if <size_t> length > self.limit_:
            raise LimitError("%d bytes asked for, but conn.limit is %d"
                             % (length, self.limit_))
        self.start_reading()
        try:
            while buffer_len(&self.inp) < <size_t> length:
                if self.fill(self.limit_) == 0:
                    break
            have = min(buffer_len(&self.inp), <size_t> length)
            return PyBytes_FromStringAndSize(self.inp.data + self.inp.pos, have) \
                if have else b""
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

    def write(self, data):
        """Send data: collected, and sent before the next wait for input.

        Args:
            data: bytes-like, or a list or tuple of bytes-like objects.
        Raises:
            TypeError: data is something else; text must be encoded first.
            ConnectionClosed: the peer has gone.
            ConnectionTimeout: nothing could be sent for ``write_timeout`` seconds.
        """
        if PyBytes_CheckExact(data):
            self.put(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        elif isinstance(data, (list, tuple)):
            for part in data:
                self.write_buffer(part)
        else:
            self.write_buffer(data)

    cdef int write_buffer(self, object data) except -1:
        cdef Py_buffer view
        if isinstance(data, str):
            raise TypeError("a connection carries bytes, not str: encode the text first")
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self.put(<const char *> view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
        return 0

    def flush(self):
        """Send what write() has collected.

        Raises:
            ConnectionClosed, ConnectionTimeout: as for write.
        """
        cdef apr_status_t rv = APR_SUCCESS
        if self.state != STATE_HANDLING:
            self.not_handling("flush")
        self.not_filtering("flush")
        self.users += 1
        with nogil:
            pthread_mutex_lock(&self.lock)
            if self.state != STATE_HANDLING:
                rv = APR_ECONNABORTED
            elif self.out_len:
                rv = self.send(NULL, 0)
            pthread_mutex_unlock(&self.lock)
        self.users -= 1
        if rv != APR_SUCCESS:
            self.error = rv
            self.fail("writing")

    def can_write_eof(self):
        """Whether write_eof() works: TLS cannot close one direction only."""
        return not ap_ssl_conn_is_ssl(self.rec())

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
        if self.users:
            self.closing = True
            shutdown(self.fd, SHUT_RD)

    @property
    def closed(self):
        """True once close() was called, the handler has returned, or the
        connection is gone."""
        return self.c == NULL or self.state == STATE_CLOSED or self.c.aborted != 0

    # -- settings of the I/O --------------------------------------------------

    @property
    def limit(self):
        """Longest message, in bytes, that a reading method collects."""
        self.rec()
        return self.limit_

    @limit.setter
    def limit(self, Py_ssize_t value):
        if value < 1:
            raise ValueError("limit must be at least 1 byte")
        self.limit_ = value
        self.set_up = True

    @property
    def read_timeout(self):
        """Seconds a read may wait, or None; by default httpd's Timeout."""
        self.rec()
        return None if self.read_us <= 0 else self.read_us / 1e6

    @read_timeout.setter
    def read_timeout(self, value):
        self.read_us = us_of(value)
        self.set_up = True

    @property
    def write_timeout(self):
        """Seconds a write may wait, or None; by default httpd's Timeout."""
        self.rec()
        return None if self.write_us >= forever() else self.write_us / 1e6

    @write_timeout.setter
    def write_timeout(self, value):
        cdef apr_interval_time_t us = us_of(value)
        self.write_us = us if us > 0 else forever()
        self.set_up = True
        if self.state == STATE_HANDLING and self.sock != NULL:
            apr_socket_timeout_set(self.sock, self.write_us)

    @property
    def timeout(self):
        """Both time-outs; reading gives read_timeout."""
        return self.read_timeout

    @timeout.setter
    def timeout(self, value):
        self.read_timeout = value
        self.write_timeout = value

    # -- facts ----------------------------------------------------------------

    @property
    def base_server(self):
        """The server the connection came in on."""
        return self.entry.server(self.rec().base_server)

    @property
    def local_addr(self):
        """(address, port) of this end."""
        cdef conn_rec *c = self.rec()
        return (latin1(c.local_ip), c.local_addr.port if c.local_addr != NULL else 0)

    @property
    def client_addr(self):
        """(address, port) of the peer."""
        cdef conn_rec *c = self.rec()
        return (latin1(c.client_ip), c.client_addr.port if c.client_addr != NULL else 0)

    @property
    def client_ip(self):
        """Address of the peer."""
        return latin1(self.rec().client_ip)

    @property
    def remote_addr(self):
        """Old name of client_addr."""
        self.old_name("remote_addr", "client_addr")
        return self.client_addr

    @property
    def remote_ip(self):
        """Old name of client_ip."""
        self.old_name("remote_ip", "client_ip")
        return self.client_ip

    cdef int old_name(self, str old, str new) except -1:
        self.rec()
        if first_time(old):
            self.log_error("conn.%s is deprecated: use conn.%s (said once per process)"
                           % (old, new), 4)
        return 0

    @property
    def remote_host(self):
        """Name of the peer, "" if it has none, None if not looked up."""
        return latin1(self.rec().remote_host)

    @property
    def remote_logname(self):
        """Name from ident, or None."""
        return latin1(self.rec().remote_logname)

    @property
    def aborted(self):
        """1 if the connection broke."""
        return 1 if self.rec().aborted else 0

    @property
    def keepalive(self):
        """One of AP_CONN_*."""
        return <int> self.rec().keepalive

    @keepalive.setter
    def keepalive(self, value):
        if not isinstance(value, int):
            raise TypeError("keepalive must be an int, not %s" % type(value).__name__)
        if value not in (0, 1, 2):
            raise ValueError("keepalive must be one of AP_CONN_*")
        self.rec().keepalive = <ap_conn_keepalive_e> <int> value

    @property
    def double_reverse(self):
        """Result of a double reverse look-up: 1 done, 0 not yet, -1 failed."""
        return self.rec().double_reverse

    @property
    def keepalives(self):
        """Number of requests so far."""
        return self.rec().keepalives

    @property
    def local_ip(self):
        """Address of this end."""
        return latin1(self.rec().local_ip)

    @property
    def local_host(self):
        """Name of this end, or None."""
        return latin1(self.rec().local_host)

    @property
    def id(self):
        """Number, unique among the live connections."""
        return self.rec().id

    @property
    def notes(self):
        """Table of notes between modules."""
        self.rec()
        return view_table(self, TABLE_CONN_NOTES)

    @property
    def hlist(self):
        """The handler list in a connection handler, else None."""
        self.rec()
        return self._hlist

    @property
    def _conn_rec(self):
        """Capsule of the C structure, named "mod_python.conn_rec"; see
        ``req._request_rec``."""
        cdef conn_rec *c = self.rec()
        if self.capsule is None:
            self.capsule = PyCapsule_New(c, "mod_python.conn_rec", NULL)
        return self.capsule

    @property
    def interpreter(self):
        """Name of the interpreter."""
        self.rec()
        return self.entry.name

    @property
    def settings(self):
        """(debug, autoreload, python_path, pdb, importer_path) of the server."""
        return self.entry.settings_of_server(self.rec().base_server)

    def is_https(self):
        """1 if the connection uses TLS, else 0 (ap_ssl_conn_is_ssl)."""
        return 1 if ap_ssl_conn_is_ssl(self.rec()) else 0

    def ssl_var_lookup(self, name):
        """Value of a mod_ssl variable, or None (ap_ssl_var_lookup).

        Args:
            name: such as "SSL_PROTOCOL" or "SSL_CLIENT_S_DN".
        """
        cdef conn_rec *c = self.rec()
        cdef bytes key = latin1_bytes(name)
        cdef apr_pool_t *pool = NULL
        cdef const char *value
        if apr_pool_create_unmanaged_ex(&pool, NULL, NULL) != APR_SUCCESS:
            raise MemoryError("no memory for a TLS variable")
        try:
            value = ap_ssl_var_lookup(pool, c.base_server, c, NULL, key)
            return latin1(value) if value != NULL and value[0] else None
        finally:
            apr_pool_destroy(pool)

    def get_config(self):
        """Table of the Python settings of the server."""
        return self.base_server.get_config()

    def get_options(self):
        """Table of the PythonOptions of the server."""
        return self.base_server.get_options()

    def log_error(self, message, int level=3):
        """Write a message to the error log, in this connection's context.

        Text of several lines makes several entries, and so does a very long line.

        Args:
            message: what to log; None logs nothing.
            level: one of APLOG_*; APLOG_ERR if left out.
        """
        cdef bytes text
        cdef const char *line
        cdef int severity = level & 15
        cdef list lines = log_lines_of(message) if message is not None else []
        cdef conn_rec *c = self.rec()
        self.users += 1
        for text in lines:
            line = text
            with nogil:
                mp_log_conn(c, severity, line)
        self.users -= 1

    def __repr__(self):
        if self.c == NULL:
            return "<mp_conn, gone>"
        return "<mp_conn %d from %s:%d>" % (
            self.c.id, latin1(self.c.client_ip),
            self.c.client_addr.port if self.c.client_addr != NULL else 0)
