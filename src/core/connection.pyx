# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Connection: a view of a conn_rec, and the I/O of a connection handler.
#
# States, as far as I/O goes:
#
#     VIEW ──begin()──▶ HANDLING ──close()/finish()──▶ CLOSED
#
# A connection that carries HTTP stays a VIEW: its attributes can be read, its
# bytes belong to httpd.  While a connection handler runs it is HANDLING.  When
# the handler declines, what was read too far is given back and the object is
# a VIEW again.
#
# Reading.  Input goes into our own buffer, and every reading method reads from
# it, so no byte is lost between them.  Input is always read without blocking;
# when there is none, the GIL is released, pending output is sent, and we wait
# in poll() — not inside httpd's filters, so that another thread may write
# meanwhile (filters and bucket allocators belong to one thread at a time; the
# connection's mutex sees to that).
#
# Where nothing but byte counting stands between us and httpd's core input filter, bytes are read
# from the socket straight into the buffer: the core filter would copy them
# once more and, when it gets less than asked for, ask the kernel a second
# time.  Any other filter (TLS, PROXY protocol, accounting, dumps) is read
# through as usual.
#
# Writing.  Small writes are collected and sent before the next wait for input,
# at flush(), at the end, or when WRITE_BOUND is reached: a request–response
# protocol sends one segment per turn.  A write from another thread while the
# handler waits for input is sent at once, since nobody else would.
#
# End of input.  b"" once; reading on raises ConnectionClosed.

cdef enum:
    # Bytes collected before they are sent.  64 KiB is what the kernel takes at
    # once with default socket buffers; more only costs memory.
    WRITE_BOUND = 65536
    WRITE_START = 2048

    STATE_VIEW = 0
    STATE_HANDLING
    STATE_CLOSED

    # Results of a read, besides the number of bytes.
    READ_END = 0
    READ_AGAIN = -1
    READ_ERROR = -2
    READ_STOPPED = -3           # the child has to end at once

# Longest message that a reading method collects unless told otherwise.  Lines
# of tens of megabytes are legitimate; without any bound one peer could fill the
# memory of the child.
DEFAULT_LIMIT = 128 * 1024 * 1024

# "No time-out" for httpd's own waits: APR passes milliseconds to
# poll() as an int, which overflows after 24.8 days.
cdef enum:
    FOREVER_SECONDS = 24 * 86400


cdef class Connection:
    """A connection, as given to connection handlers and as ``req.connection``.

    Reading methods return ``bytes``.  At the end of the stream they return
    ``b""`` once; reading on raises ``apache.ConnectionClosed``, which the
    server takes as the normal end of a connection handler.  A read or write
    that takes longer than the time-out raises ``apache.ConnectionTimeout``.

    One thread at a time may read; any thread may write.
    """
    cdef conn_rec *c
    cdef Entry entry
    cdef public object _hlist
    cdef int state
    cdef apr_socket_t *sock
    cdef int fd
    cdef pthread_mutex_t lock       # filters, bucket allocator, out, waiting
    cdef bint has_lock
    cdef int users                  # threads inside I/O without the GIL; by the GIL
    cdef bint reading               # a thread reads; by the GIL
    cdef bint waiting               # the reader is in poll(); by the lock
    cdef bint closing               # wake up and leave; by the lock
    cdef Buffer inp
    cdef bint ended                 # no more input will come
    cdef bint end_told              # ... and the handler was told
    cdef bint was_full              # the last read filled its room
    cdef ap_filter_t *plain         # first input filter, when the socket is read directly
    cdef apr_bucket_brigade *inb
    cdef apr_bucket_brigade *outb
    cdef char *out
    cdef size_t out_len, out_cap
    cdef apr_status_t error         # of the last failed read or write
    cdef apr_interval_time_t read_us, write_us, saved_us
    cdef size_t limit_

    def __init__(self):
        raise TypeError("cannot create 'mp_conn' instances")

    # -- life ---------------------------------------------------------------

    cdef void attach(self, conn_rec *c, Entry entry):
        self.c = c
        self.entry = entry
        self.fd = -1
        self.limit_ = DEFAULT_LIMIT
        self.read_us = self.write_us = c.base_server.timeout
        mp_count_wrappers(1)

    cdef int detach(self) except -1:
        """The record goes away: forget it, once nobody uses it."""
        if self.c == NULL:
            return 0
        self.state = STATE_CLOSED
        self.wait_for_users()
        self.c = NULL
        self.sock = NULL
        self.fd = -1
        self.plain = NULL
        if self.inb != NULL:
            self.inb = self.outb = NULL         # the pool frees them
            mp_count_brigades(-2)
        self.release()
        mp_count_wrappers(-1)
        return 0

    cdef void release(self):
        buffer_free(&self.inp)
        free(self.out)
        self.out = NULL
        self.out_len = self.out_cap = 0
        if self.has_lock:
            pthread_mutex_destroy(&self.lock)
            self.has_lock = False

    def __dealloc__(self):
        self.release()

    cdef conn_rec *rec(self) except NULL:
        if self.c == NULL:
            raise DetachedError("this connection is closed and its record is gone")
        return self.c

    cdef int begin(self) except -1:
        """A connection handler starts."""
        if not self.has_lock:
            if pthread_mutex_init(&self.lock, NULL) != 0:
                raise MemoryError("no memory for a connection's mutex")
            self.has_lock = True
        self.sock = ap_get_conn_socket(self.c)
        if self.sock != NULL:
            apr_os_sock_get(&self.fd, self.sock)
            apr_socket_timeout_get(self.sock, &self.saved_us)
            apr_socket_timeout_set(self.sock, self.write_us)
        if self.inb == NULL:
            self.inb = apr_brigade_create(self.c.pool, self.c.bucket_alloc)
            self.outb = apr_brigade_create(self.c.pool, self.c.bucket_alloc)
            mp_count_brigades(2)
        self.state = STATE_HANDLING
        return 0

    cdef int finish(self, bint declined) except -1:
        """The handler has returned: send what is pending, hand over or end."""
        if self.c == NULL:
            return 0
        self.state = STATE_VIEW if declined else STATE_CLOSED
        if self.users:
            self.wait_for_users()
        if self.out_len and not self.c.aborted:
            with nogil:
                self.send(NULL, 0)
        if self.sock != NULL:
            apr_socket_timeout_set(self.sock, self.saved_us)
        if declined and buffer_len(&self.inp):
            mp_give_back(self.c, self.inp.data + self.inp.pos, buffer_len(&self.inp))
        buffer_free(&self.inp)
        free(self.out)
        self.out = NULL
        self.out_len = self.out_cap = 0
        return 0

    cdef void wait_for_users(self):
        """Wake the threads that wait on this connection and let them leave."""
        cdef timespec pause
        pause.tv_sec = 0
        pause.tv_nsec = 1000000
        if not self.users:
            return
        self.closing = True
        if self.fd >= 0:
            shutdown(self.fd, SHUT_RD)
        while self.users:
            with nogil:
                nanosleep(&pause, NULL)
        self.closing = False

    # -- the engine: no GIL, the mutex held -----------------------------------

    cdef apr_status_t send(self, const char *data, size_t n) noexcept nogil:
        """Send what is pending and then data, and flush."""
        cdef conn_rec *c = self.c
        cdef apr_status_t rv
        if c.aborted:
            self.out_len = 0
            return APR_ECONNABORTED
        if self.out_len:
            APR_BRIGADE_INSERT_TAIL(self.outb, apr_bucket_transient_create(
                self.out, self.out_len, c.bucket_alloc))
        if n:
            APR_BRIGADE_INSERT_TAIL(self.outb, apr_bucket_transient_create(
                data, n, c.bucket_alloc))
        APR_BRIGADE_INSERT_TAIL(self.outb, apr_bucket_flush_create(c.bucket_alloc))
        self.out_len = 0
        rv = ap_pass_brigade(c.output_filters, self.outb)
        apr_brigade_cleanup(self.outb)
        if rv == APR_SUCCESS and c.aborted:
            rv = APR_ECONNABORTED
        return rv

    cdef bint is_plain(self) noexcept nogil:
        """Whether the socket may be read directly.

        httpd's byte counter (mod_logio, built into many httpds) may stand in
        between: it is told what we read.
        """
        cdef ap_filter_t *first = self.c.input_filters
        cdef ap_filter_t *f = first
        cdef core_net_rec *net
        if first == NULL or self.fd < 0:
            return False
        if first == self.plain:
            return True
        if f.next != NULL and strcmp(f.frec.name, b"log_input_output") == 0:
            f = f.next
        if f.next != NULL or strcmp(f.frec.name, b"core_in") != 0:
            return False
        net = <core_net_rec *> f.ctx
        if net == NULL or net.in_ctx != NULL:
            return False            # the core filter may hold bytes already
        self.plain = first
        return True

    cdef Py_ssize_t receive(self) noexcept nogil:
        """Read what is there into the buffer; never waits."""
        cdef size_t room, before
        cdef ssize_t n
        cdef apr_bucket *e
        cdef const char *data
        cdef apr_size_t length
        cdef apr_status_t rv
        cdef apr_os_sock_t fd = -1
        cdef bint end = False
        if buffer_room(&self.inp, BUFFER_START // 2 if buffer_len(&self.inp) else BUFFER_START) < 0:
            self.error = APR_ENOMEM
            return READ_ERROR
        room = self.inp.cap - self.inp.end
        if self.is_plain():
            # An MPM that ends at once closes the sockets under its threads, and
            # the number may be that of another file by now.
            if apr_os_sock_get(&fd, self.sock) != APR_SUCCESS or fd != self.fd:
                self.error = ECONNABORTED
                return READ_ERROR
            while True:
                n = recv(self.fd, self.inp.data + self.inp.end, room, MSG_DONTWAIT)
                if n > 0:
                    self.inp.end += n
                    mp_count_input(self.c, n)
                    self.was_full = <size_t> n == room
                    return n
                if n == 0:
                    return READ_END
                if errno == EINTR:
                    continue
                if errno == EAGAIN:
                    self.was_full = False
                    return READ_AGAIN
                self.error = errno
                return READ_ERROR
        rv = ap_get_brigade(self.c.input_filters, self.inb, AP_MODE_READBYTES,
                            APR_NONBLOCK_READ, room)
        before = buffer_len(&self.inp)
        while rv == APR_SUCCESS and not APR_BRIGADE_EMPTY(self.inb):
            e = APR_BRIGADE_FIRST(self.inb)
            if APR_BUCKET_IS_EOS(e):
                end = True
                break
            if not APR_BUCKET_IS_METADATA(e):
                rv = apr_bucket_read(e, &data, &length, APR_NONBLOCK_READ)
                if rv == APR_SUCCESS and length and buffer_add(&self.inp, data, length) < 0:
                    rv = APR_ENOMEM
            if rv == APR_SUCCESS:
                apr_bucket_delete(e)
        apr_brigade_cleanup(self.inb)
        n = <ssize_t> (buffer_len(&self.inp) - before)
        self.was_full = n > 0
        if n > 0:
            return n                # an error or end comes again at the next read
        if end or APR_STATUS_IS_EOF(rv):
            return READ_END
        if rv == APR_SUCCESS or APR_STATUS_IS_EAGAIN(rv):
            return READ_AGAIN
        self.error = rv
        return READ_ERROR

    cdef Py_ssize_t wait_and_receive(self) noexcept nogil:
        """Send what is pending, then wait for input.  Takes the mutex itself."""
        cdef Py_ssize_t n = READ_AGAIN
        cdef int ready, ms
        cdef long long deadline = 0, left
        cdef bint look_first
        pthread_mutex_lock(&self.lock)
        look_first = not self.is_plain()
        if self.out_len:
            self.error = self.send(NULL, 0)
            if self.error != APR_SUCCESS:
                pthread_mutex_unlock(&self.lock)
                return READ_ERROR
        if self.read_us > 0:
            deadline = now_us() + self.read_us
        while True:
            if look_first:
                n = self.receive()
                if n != READ_AGAIN:
                    break
            look_first = True
            if self.closing:
                n = READ_END
                break
            ms = -1
            if deadline:
                left = deadline - now_us()
                # Rounded up, so that a time-out is never early; and within an int.
                ms = <int> ((min(left, forever()) + 999) // 1000) if left > 0 else 0
            self.waiting = True
            pthread_mutex_unlock(&self.lock)
            ready = mp_wait_readable(self.fd, ms)
            pthread_mutex_lock(&self.lock)
            self.waiting = False
            if ready == MP_WAIT_STOP:
                n = READ_STOPPED
                break
            if ready == 0 and deadline and now_us() >= deadline:
                self.error = APR_TIMEUP
                n = READ_ERROR
                break
            if ready < 0 and errno != EINTR:
                self.error = errno
                n = READ_ERROR
                break
        pthread_mutex_unlock(&self.lock)
        return n

    # -- reading --------------------------------------------------------------

    cdef int start_reading(self) except -1:
        if self.state != STATE_HANDLING:
            self.not_handling("read")
        if self.reading:
            raise RuntimeError("another thread is reading from this connection")
        self.reading = True
        return 0

    cdef int not_handling(self, str what) except -1:
        # A connection that is gone altogether is closed, too: whoever serves
        # many from several threads cannot know which of the two it is.
        if self.state == STATE_CLOSED:
            raise ConnectionClosed("cannot %s: this connection was closed" % what)
        raise RuntimeError(
            "cannot %s: no connection handler owns this connection; "
            "in a request handler use the request" % what)

    cdef Py_ssize_t fill(self, size_t most) except -1:
        """Get more input, waiting for it; 0 at the end of the stream.

        Raises LimitError if more than ``most`` bytes are there already: how a
        message was cut into segments makes no difference to a limit.
        """
        cdef Py_ssize_t n = READ_AGAIN
        if buffer_len(&self.inp) > most:
            over_limit(most)
        if self.ended:
            return 0
        # With output pending the peer most likely waits for it, unless more
        # input was left the last time.
        if (self.out_len == 0 or self.was_full) and self.is_plain() \
                and pthread_mutex_trylock(&self.lock) == 0:
            n = self.receive()
            pthread_mutex_unlock(&self.lock)
        if n == READ_AGAIN:
            self.users += 1
            with nogil:
                n = self.wait_and_receive()
            self.users -= 1
        if n > 0:
            return n
        if n == READ_END:
            if self.closing or self.state != STATE_HANDLING:
                raise ConnectionClosed("this connection was closed while waiting for input")
            self.ended = True
            return 0
        if n == READ_STOPPED:
            self.ended = self.end_told = True
            self.c.aborted = 1      # httpd has closed the descriptor
            raise ConnectionClosed("the server stops")
        self.fail("reading")

    cdef int fail(self, str doing) except -1:
        """Raise the exception for self.error."""
        cdef apr_status_t rv = self.error
        cdef char text[120]
        if APR_STATUS_IS_TIMEUP(rv):
            raise ConnectionTimeout(
                "time-out while %s: nothing %s for %g seconds" % (
                    doing, "came" if doing == "reading" else "could be sent",
                    (self.read_us if doing == "reading" else self.write_us) / 1e6))
        apr_strerror(rv, text, sizeof(text))
        self.ended = self.end_told = True
        if rv == APR_ENOMEM:
            raise MemoryError("no memory for the input of a connection")
        if self.c != NULL and doing == "reading":
            self.c.aborted = 1      # no lingering close for a broken connection
        raise ConnectionClosed(
            rv if 0 < rv < 4096 else None,
            "the peer has gone: %s failed: %s" % (doing, text.decode("utf-8", "replace")))

    cdef object at_end(self):
        """The result of a read that found only the end."""
        if self.end_told:
            raise ConnectionClosed("reading beyond the end of the connection's input")
        self.end_told = True
        return b""

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

    cdef int put(self, const char *data, size_t n) except -1:
        cdef apr_status_t rv = APR_SUCCESS
        cdef bint stored = False
        if self.state != STATE_HANDLING:
            self.not_handling("write")
        if n == 0:
            return 0
        self.users += 1             # from here on the record stays, see finish()
        if pthread_mutex_trylock(&self.lock) != 0:
            with nogil:
                pthread_mutex_lock(&self.lock)
        if self.state == STATE_HANDLING:
            if not self.waiting and self.out_len + n <= WRITE_BOUND:
                stored = self.collect(data, n) == 0
            if not stored:
                with nogil:
                    rv = self.send(data, n)
        else:
            rv = APR_ECONNABORTED   # the handler returned while we waited
        pthread_mutex_unlock(&self.lock)
        self.users -= 1
        if rv != APR_SUCCESS:
            self.error = rv
            self.fail("writing")
        return 0

    cdef int collect(self, const char *data, size_t n) noexcept nogil:
        """Keep data for the next send; -1 if there is no memory for it."""
        cdef size_t cap
        cdef char *bigger
        if self.out_len + n > self.out_cap:
            cap = max(self.out_cap, <size_t> WRITE_START)
            while cap < self.out_len + n:
                cap *= 2
            bigger = <char *> realloc(self.out, cap)
            if bigger == NULL:
                return -1
            self.out = bigger
            self.out_cap = cap
        memcpy(self.out + self.out_len, data, n)
        self.out_len += n
        return 0

    def flush(self):
        """Send what write() has collected.

        Raises:
            ConnectionClosed, ConnectionTimeout: as for write.
        """
        cdef apr_status_t rv = APR_SUCCESS
        if self.state != STATE_HANDLING:
            self.not_handling("flush")
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

    @property
    def read_timeout(self):
        """Seconds a read may wait, or None; by default httpd's Timeout."""
        self.rec()
        return None if self.read_us <= 0 else self.read_us / 1e6

    @read_timeout.setter
    def read_timeout(self, value):
        self.read_us = us_of(value)

    @property
    def write_timeout(self):
        """Seconds a write may wait, or None; by default httpd's Timeout."""
        self.rec()
        return None if self.write_us >= forever() else self.write_us / 1e6

    @write_timeout.setter
    def write_timeout(self, value):
        cdef apr_interval_time_t us = us_of(value)
        self.write_us = us if us > 0 else forever()
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
        self.log_error("conn.%s is deprecated: use conn.%s" % (old, new), 4)
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

        Args:
            message: what to log; None logs nothing.
            level: one of APLOG_*; APLOG_ERR if left out.
        """
        cdef bytes text
        cdef const char *line
        cdef int severity = level & 15
        cdef conn_rec *c = self.rec()
        if message is None:
            return
        text = log_bytes(message)
        line = text
        self.users += 1
        with nogil:
            mp_log_conn(c, severity, line)
        self.users -= 1

    def __repr__(self):
        if self.c == NULL:
            return "<mp_conn, gone>"
        return "<mp_conn %d from %s:%d>" % (
            self.c.id, latin1(self.c.client_ip),
            self.c.client_addr.port if self.c.client_addr != NULL else 0)


cdef int over_limit(size_t most) except -1:
    raise LimitError(
        "more than %d bytes without the end of a message; raise conn.limit "
        "if the protocol allows such messages" % most)


cdef long long now_us() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <long long> t.tv_sec * 1000000 + t.tv_nsec // 1000


cdef inline apr_interval_time_t forever() noexcept nogil:
    return <apr_interval_time_t> FOREVER_SECONDS * 1000000


cdef apr_interval_time_t us_of(object seconds) except? -2:
    """Microseconds of a time-out; -1 for None."""
    if seconds is None:
        return -1
    if not seconds > 0:             # not a number is neither more nor less
        raise ValueError("a time-out must be more than 0 seconds, or None")
    # At least 1: 0 would mean no time-out.
    return <apr_interval_time_t> max(1.0, min(seconds * 1e6, <double> forever()))
