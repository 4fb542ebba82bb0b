# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# AsyncConnection: what a handler that is a coroutine function reads from and
# writes to.  All of it runs on the thread of its loop (hub.pyx).
#
# States, besides those of stream.pyx:
#
#     begin() ──▶ HANDLING ──finish()──▶ CLOSED ──linger()──▶ freed
#
# Input is read as it comes, up to READ_AHEAD bytes beyond what the handler has
# asked for; then the socket is left alone until the handler reads on.  So a
# handler that waits for something else learns of the peer's end, and a peer that
# sends faster than the handler reads is slowed down by TCP.
#
# When input arrives the task that waits for it goes on at once, inside the
# loop's call: asyncio's own streams would put it off to the loop's next turn.
#
# Output is gathered, as in an ordinary handler, and sent when the handler stops
# to wait, for whatever it may be, or has gathered WRITE_BOUND bytes.  Nothing here ever waits in
# httpd's filters: a filter gets no more than PUSH_BYTES, and nothing while it
# still holds some.

cdef enum:
    READ_AHEAD = 65536
    # Less than half of FlushMaxThreshold (64 KiB), from which on httpd's core
    # filter waits until the socket has taken some; TLS adds a little.
    PUSH_BYTES = 16384
    # Unsent bytes above which drain() waits, by default: as asyncio's transports.
    HIGH_WATER = 65536


@cython.internal
cdef class Reading:
    """One read, to be awaited."""
    cdef AsyncConnection conn
    cdef int kind
    cdef bint begun, iterates
    cdef Py_ssize_t length
    cdef bytes sep
    cdef size_t most, scanned

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        cdef AsyncConnection conn = self.conn
        cdef Waiter waiter
        if conn is None:
            raise RuntimeError("cannot await the same read twice")
        if not self.begun:
            if self.iterates and conn.end_told:
                raise StopAsyncIteration
            conn.start_reading()
            self.begun = True
        try:
            while True:
                result = conn.attempt(self.kind, self.length, self.sep, self.most, &self.scanned)
                if result is not None:
                    break
                if buffer_len(&conn.inp) > self.most:
                    over_limit(self.most)
                waiter = conn.wait_for_input()
                if waiter is not None:
                    waiter._asyncio_future_blocking = True
                    return waiter
                if conn.ended:
                    # The end may have come together with what is asked for.
                    result = conn.attempt(self.kind, self.length, self.sep, self.most,
                                          &self.scanned)
                    if result is not None:
                        break
                    result = conn.attempt_at_end(self.kind, self.length)
                    if self.iterates and result == b"":
                        raise StopAsyncIteration
                    break
        except BaseException:
            self.close()
            raise
        self.close()
        raise StopIteration(result)

    def send(self, value):
        return self.__next__()

    def throw(self, kind, value=None, traceback=None):
        self.close()
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        raise value

    def close(self):
        cdef AsyncConnection conn = self.conn
        if conn is not None:
            self.conn = None
            if self.begun:
                conn.stop_waiting()
                conn.reading = False

    def __dealloc__(self):
        if self.conn is not None and self.begun:
            self.conn.reading = False


@cython.internal
cdef class Draining:
    """Waits until no more than so many bytes of output are unsent."""
    cdef AsyncConnection conn
    cdef size_t most
    cdef bint half_close
    cdef Waiter waiter

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        cdef AsyncConnection conn = self.conn
        if conn is None:
            raise RuntimeError("cannot await the same flush twice")
        if self.waiter is not None:
            conn.forget_drain(self.waiter)
            self.waiter = None
        try:
            if conn.c == NULL or conn.state != STATE_HANDLING:
                conn.not_handling("flush")
            conn.check_thread("flush")
            conn.push()
            conn.check_output()
        except BaseException:
            self.conn = None
            raise
        if conn.is_drained(self.most):
            self.conn = None
            if self.half_close:
                conn.shut_output()
            raise StopIteration(None)
        self.waiter = conn.wait_for_output(self.most)
        self.waiter._asyncio_future_blocking = True
        return self.waiter

    def send(self, value):
        return self.__next__()

    def throw(self, kind, value=None, traceback=None):
        self.close()
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        raise value

    def close(self):
        if self.conn is not None and self.waiter is not None:
            self.conn.forget_drain(self.waiter)
        self.conn = None


@cython.internal
cdef class Handshake:
    """The beginning of TLS, to be awaited."""
    cdef AsyncConnection conn
    cdef Tls tls
    cdef bint begun, discard
    cdef long long deadline

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        cdef AsyncConnection conn = self.conn
        cdef Waiter waiter
        if conn is None:
            raise RuntimeError("cannot await the same handshake twice")
        if not self.begun:
            conn.start_reading()
            self.begun = True
            try:
                conn.begin_tls(self.tls, self.discard)
            except BaseException:
                conn.reading = False
                self.conn = None
                if conn.ended:
                    conn.arm(conn.armed & ~MP_POLL_IN)
                raise
            self.deadline = conn.read_deadline()
        try:
            waiter = conn.shake(self.deadline)
        except BaseException:
            self.close()
            raise
        if waiter is not None:
            waiter._asyncio_future_blocking = True
            return waiter
        conn.stop_waiting()
        conn.reading = False
        self.conn = None
        raise StopIteration(None)

    def send(self, value):
        return self.__next__()

    def throw(self, kind, value=None, traceback=None):
        self.close()
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        raise value

    def close(self):
        """A handshake that is given up leaves nothing to go on with."""
        cdef AsyncConnection conn = self.conn
        self.conn = None
        if conn is not None and self.begun:
            conn.stop_waiting()
            conn.reading = False
            conn.break_tls()
            if conn.c != NULL:
                conn.arm(conn.armed & ~MP_POLL_IN)


cdef class AsyncConnection(ConnectionFacts):
    """A connection, as given to connection handlers that are coroutine functions.

    Reading methods are awaited and then give ``bytes``.  At the end of the
    stream they give ``b""`` once; reading on raises ``apache.ConnectionClosed``,
    which the server takes as the normal end of a handler.  A read that takes
    longer than ``read_timeout`` raises ``apache.ConnectionTimeout``.

    One task at a time may read; any task of the loop may write.
    """
    cdef Hub hub
    cdef ConnectionFacts previous       # what pre-connection handlers saw
    cdef readonly object _job           # (function, handler), for the task
    cdef public object _task
    cdef public object _transport       # see mod_python._async.transport
    cdef Waiter input_waiter
    cdef list output_waiters            # of (waiter, bytes)
    cdef uint32_t place
    cdef bint has_place
    cdef int armed                      # MP_POLL_*: what the loop waits for
    cdef size_t sent                    # of out, how much
    cdef size_t high
    cdef bint is_stepping               # the handler runs because of our own event
    cdef bint is_dirty                  # in hub.dirty
    cdef bint is_late                   # read_timeout has passed
    cdef bint read_failed, write_failed
    cdef bint lingering
    cdef apr_status_t read_error, write_error
    cdef long long in_due, out_due      # deadlines; 0: none
    cdef long long linger_end
    cdef int done_fd                    # a thread waits here for the end, or -1
    cdef bint is_waited                 # a thread of httpd's owns the connection

    # -- life -------------------------------------------------------------------

    cdef int begin(self) except -1:
        """It has arrived at the loop's thread."""
        Stream.begin(self)
        if self.sock != NULL:
            apr_socket_timeout_set(self.sock, 0)
        self.high = HIGH_WATER
        self.hub.enter(self)
        # What httpd's filters hold already is not reported by the socket.
        if not self.is_plain():
            self.pull()
        self.arm(self.armed | (0 if self.ended else MP_POLL_IN))
        return 0

    cdef int detach(self) except -1:
        cdef ConnectionFacts previous = self.previous
        if self.has_place:
            # The thread that waited has given up, and httpd takes the connection away.
            self.arm(0)
            self.hub.leave(self)
            if not self.lingering:
                self.hub.count -= 1
        self.previous = None
        if previous is not None:
            previous.detach()
        return Stream.detach(self)

    cdef int arm(self, int what) except -1:
        """Choose what the loop waits for."""
        if what == self.armed or self.fd < 0:
            return 0
        if mp_poll_set(self.hub.link, self.armed, what, self.fd, self.hub.tag(self)) != 0 and what:
            raise OSError(errno, "cannot wait for a connection: %s" % error_text(errno))
        self.armed = what
        return 0

    cdef int step(self, Waiter waiter) except -1:
        """Let the task go on that waits, and send what it wrote."""
        cdef bint outer = self.is_stepping
        self.is_stepping = True
        try:
            waiter.now()
        finally:
            self.is_stepping = outer
        if self.unsent() and self.state == STATE_HANDLING:
            self.push()
        return 0

    # -- events -------------------------------------------------------------------

    cdef int on_event(self, int what) except -1:
        cdef Waiter waiter
        if self.lingering:
            return self.go_on_lingering()
        if what & MP_POLL_OUT or (what & MP_POLL_BROKEN and self.armed & MP_POLL_OUT):
            self.push()
            if self.c == NULL:
                return 0
        if what & (MP_POLL_IN | MP_POLL_BROKEN) and not self.ended:
            self.pull()
            if self.tls is not None and self.out_len:
                self.push()                     # OpenSSL has answered
            if self.input_waiter is not None and (buffer_len(&self.inp) or self.ended
                                                  or self.read_failed or self.is_shaking()):
                waiter = self.input_waiter
                self.stop_waiting()
                self.step(waiter)
        return 0

    cdef int on_late(self, long long now) except -1:
        """A deadline has passed."""
        cdef Waiter waiter
        if self.lingering:
            self.in_due = 0
            self.arm(0)
            return self.hub.end(self)
        if self.out_due and self.out_due <= now:
            self.out_due = 0
            self.output_failed(APR_TIMEUP)
        if self.in_due and self.in_due <= now and self.input_waiter is not None:
            self.is_late = True
            waiter = self.input_waiter
            self.stop_waiting()
            self.step(waiter)
        return 0

    # -- input ----------------------------------------------------------------------

    cdef int pull(self) except -1:
        """Read what is there."""
        cdef Py_ssize_t n, raw
        cdef bint plain
        while True:
            plain = self.is_plain()
            if plain:
                n = self.receive()
            else:
                self.users += 1
                with nogil:
                    n = self.receive()
                self.users -= 1
            raw = n
            if self.tls is not None and n != READ_AGAIN:
                n = self.open_layer(n)
                if n > 0 and self.tls.established:
                    self.note_end(self.tls.rest())
            self.note_end(n)
            if raw <= 0 or self.ended or plain or buffer_len(&self.inp) >= READ_AHEAD \
                    or (self.tls is not None and buffer_len(&self.tls.raw) >= READ_AHEAD):
                break
        if self.ended or (buffer_len(&self.inp) >= READ_AHEAD and self.input_waiter is None):
            self.arm(self.armed & ~MP_POLL_IN)
        return 0

    cdef void note_end(self, Py_ssize_t n):
        """Keep what a read said, if it was that no more will come."""
        if n == READ_END:
            self.ended = True
        elif n == READ_ERROR:
            self.read_failed = self.ended = True
            self.read_error = APR_EGENERAL if self.tls is not None and self.tls.why is not None else self.error

    cdef bint is_shaking(self):
        return self.tls is not None and not self.tls.established

    cdef Py_ssize_t open_layer(self, Py_ssize_t n) except? -9:
        """As unseal(); what belongs to a handshake stays where it is."""
        if not self.tls.established:
            return n
        self.lock_layer()
        try:
            return self.unseal(n)
        finally:
            self.unlock_layer()

    cdef Waiter shake(self, long long deadline):
        """Go on with a handshake; None if it is done."""
        cdef int done
        if self.is_late:
            self.is_late = False
            self.error = APR_TIMEUP
            self.fail("reading")
        if self.read_failed:
            self.error = self.read_error
            self.fail("reading")
        if self.state != STATE_HANDLING:
            raise ConnectionClosed("this connection was closed in the TLS handshake")
        if not self.armed & MP_POLL_IN or not self.is_plain():
            self.pull()                         # what filters hold
        self.lock_layer()
        try:
            done = self.tls.shake(READ_END if self.ended else READ_AGAIN)
            self.take_sealed()
        finally:
            self.unlock_layer()
        if done < 0:
            self.push()                         # OpenSSL's alert
            self.error = APR_EGENERAL
            self.fail("reading")
        if done:
            self.open_first()
            self.push()
            return None
        self.push()
        if self.write_failed:
            self.error = self.write_error
            self.fail("writing")
        self.arm(self.armed | MP_POLL_IN)
        if deadline:
            self.in_due = deadline
            self.hub.watch(deadline)
        if self.input_waiter is None or self.input_waiter.is_done:
            self.input_waiter = self.new_waiter()
        return self.input_waiter

    cdef int open_first(self) except -1:
        """What came together with the end of the handshake."""
        cdef Py_ssize_t n = self.open_layer(READ_END if self.ended else READ_AGAIN)
        self.note_end(self.tls.rest() if n > 0 else n)
        return 0

    cdef Waiter wait_for_input(self):
        """What to wait for; None if there is input now, or its end."""
        cdef size_t before
        if self.unsent():
            self.push()
        if self.is_late:
            self.is_late = False
            self.error = APR_TIMEUP
            self.fail("reading")
        if self.read_failed:
            self.error = self.read_error
            self.fail("reading")
        if self.state != STATE_HANDLING:
            raise ConnectionClosed("this connection was closed while waiting for input")
        if self.write_failed and APR_STATUS_IS_TIMEUP(self.write_error):
            self.check_output()             # a peer that takes nothing will not speak either
        if self.ended:
            return None
        if not self.armed & MP_POLL_IN or not self.is_plain():
            # Filters may hold what the socket does not show.
            before = buffer_len(&self.inp)
            self.pull()
            if buffer_len(&self.inp) > before or self.ended:
                return None if not self.read_failed else self.wait_for_input()
            self.arm(self.armed | MP_POLL_IN)
        if not buffer_len(&self.inp):
            buffer_free(&self.inp)              # an idle connection keeps none
            if self.tls is not None:
                buffer_free(&self.tls.raw)
        if self.read_us > 0:
            self.in_due = now_us() + self.read_us
            self.hub.watch(self.in_due)
        if self.input_waiter is None or self.input_waiter.is_done:
            self.input_waiter = self.new_waiter()
        return self.input_waiter

    cdef Waiter new_waiter(self):
        cdef Waiter waiter = Waiter.__new__(Waiter)
        waiter.hub = self.hub
        return waiter

    cdef int stop_waiting(self) except -1:
        if not self.lingering:              # a task of a transport may come late
            self.in_due = 0
        self.input_waiter = None
        return 0

    # -- output ---------------------------------------------------------------------

    cdef size_t unsent(self):
        return self.out_len - self.sent + (buffer_len(&self.tls.text) if self.tls is not None else 0)

    cdef int put(self, const char *data, size_t n) except -1:
        if self.state != STATE_HANDLING:
            self.not_handling("write")
        self.check_thread("write")
        self.not_filtering("write")
        self.check_output()
        if n == 0:
            return 0
        if self.unsent() + n > self.limit_ and self.unsent():
            raise LimitError("%d bytes are unsent already, and conn.limit is %d: await conn.drain() "
                             "after writing" % (self.unsent(), self.limit_))
        if (self.collect(data, n) if self.tls is None else buffer_add(&self.tls.text, data, n)) < 0:
            raise MemoryError("no memory for the output of a connection")
        if not self.is_stepping and not self.is_dirty and not self.armed & MP_POLL_OUT:
            self.is_dirty = True
            self.hub.note_dirty(self)
        elif self.unsent() > WRITE_BOUND and not self.armed & MP_POLL_OUT:
            self.push()
        return 0

    cdef int check_output(self) except -1:
        if self.write_failed:
            self.error = self.write_error
            self.fail("writing")
        return 0

    cdef int output_failed(self, apr_status_t rv) except -1:
        """Nothing more can be sent."""
        cdef Waiter waiter = self.input_waiter
        self.write_failed = True
        self.write_error = rv
        if self.c != NULL:
            self.c.aborted = 1
        self.forget_output()
        self.arm(self.armed & ~MP_POLL_OUT)
        self.wake_drains()
        if APR_STATUS_IS_TIMEUP(rv) and waiter is not None:
            self.stop_waiting()
            waiter.later()
        return 0

    cdef void forget_output(self):
        free(self.out)
        self.out = NULL
        self.out_len = self.out_cap = self.sent = 0
        self.out_due = 0
        if self.tls is not None:
            buffer_free(&self.tls.text)

    cdef apr_status_t push_out(self) except *:
        """Send what the socket takes of the output."""
        cdef ssize_t n
        cdef apr_status_t rv = APR_SUCCESS
        cdef apr_os_sock_t fd = -1
        cdef bint plain
        # An MPM that ends at once closes the sockets under its threads; see receive().
        if self.is_waited and (apr_os_sock_get(&fd, self.sock) != APR_SUCCESS or fd != self.fd):
            return APR_ECONNABORTED
        plain = mp_is_core_output(self.c)
        while plain and self.sent < self.out_len:
            n = send(self.fd, self.out + self.sent, self.out_len - self.sent,
                     MSG_DONTWAIT | MSG_NOSIGNAL)
            if n >= 0:
                self.sent += n
                mp_count_output(self.c, n)
            elif errno == EAGAIN:
                break
            elif errno != EINTR:
                rv = errno
                break
        if not plain:
            self.users += 1
            with nogil:
                while rv == APR_SUCCESS and (self.sent < self.out_len
                                             or self.c.data_in_output_filters):
                    if self.c.data_in_output_filters:
                        rv = mp_push(self.c, self.outb, NULL, 0)
                        if self.c.data_in_output_filters:
                            break
                        continue
                    n = min(self.out_len - self.sent, <size_t> PUSH_BYTES)
                    rv = mp_push(self.c, self.outb, self.out + self.sent, n)
                    self.sent += n
            self.users -= 1
        return rv

    cdef apr_status_t seal_more(self) except *:
        """All of the output was sent: the next piece, and at last close_notify."""
        self.lock_layer()
        try:
            if buffer_len(&self.tls.text):
                return self.seal(SEAL_BYTES)
            if self.tls.shut_wanted:
                self.tls.make_shut()
                self.take_sealed()
            return APR_SUCCESS
        finally:
            self.unlock_layer()

    cdef int push(self) except -1:
        """Send what the socket takes."""
        cdef bint moved = False, more
        cdef size_t before
        cdef apr_status_t rv
        if self.c == NULL or self.fd < 0:
            return 0
        if self.c.aborted:
            if self.unsent():
                self.output_failed(APR_ECONNABORTED)
            return 0
        if self.filter_thread and self.filter_thread == self.hub.thread:
            return 0                # OpenSSL or a filter has called somebody who writes
        while True:
            before = self.sent
            rv = self.push_out()
            moved = moved or self.sent != before
            if rv != APR_SUCCESS:
                return self.output_failed(rv)
            more = self.sent < self.out_len or self.c.data_in_output_filters
            if self.sent < self.out_len:
                break
            if self.out_len:
                free(self.out)
                self.out = NULL
                self.out_len = self.out_cap = self.sent = 0
            if more or self.tls is None or not self.tls.established:
                break
            rv = self.seal_more()
            if rv != APR_SUCCESS and rv != EAGAIN:
                return self.output_failed(rv)
            if not self.out_len:
                break
        if self.sent > WRITE_BOUND and self.sent > self.out_len // 2:
            memmove(self.out, self.out + self.sent, self.out_len - self.sent)
            self.out_len -= self.sent
            self.sent = 0
        if more:
            self.arm(self.armed | MP_POLL_OUT)
            if not self.out_due or moved:
                self.out_due = now_us() + self.write_us
                self.hub.watch(self.out_due)
        else:
            self.out_due = 0
            if self.armed & MP_POLL_OUT:
                self.arm(self.armed & ~MP_POLL_OUT)
        if self.output_waiters:
            self.wake_drains()
        return 0

    cdef bint is_drained(self, size_t most):
        return self.write_failed or (
            self.unsent() <= most and (most or self.c == NULL or not self.c.data_in_output_filters))

    cdef Waiter wait_for_output(self, size_t most):
        cdef Waiter waiter = self.new_waiter()
        if self.output_waiters is None:
            self.output_waiters = []
        self.output_waiters.append((waiter, most))
        return waiter

    cdef int forget_drain(self, Waiter waiter) except -1:
        if self.output_waiters:
            self.output_waiters = [each for each in self.output_waiters if each[0] is not waiter]
        return 0

    cdef int wake_drains(self) except -1:
        """In the loop's next turn: this may run inside a task."""
        cdef Waiter waiter
        if not self.output_waiters:
            return 0
        still = []
        for each in self.output_waiters:
            if self.is_drained(each[1]):
                waiter = each[0]
                if not waiter.is_done:
                    waiter.later()
            else:
                still.append(each)
        self.output_waiters = still
        return 0

    cdef int shut_output(self) except -1:
        cdef apr_status_t rv
        if self.sock == NULL:
            raise OSError("this connection has no socket")
        rv = apr_socket_shutdown(self.sock, APR_SHUTDOWN_WRITE)
        if rv == ENOTCONN:
            raise ConnectionClosed(rv, "the peer has gone: shutdown of the sending direction failed")
        if rv != APR_SUCCESS:
            raise OSError(rv, "shutdown of the sending direction failed")
        return 0

    cdef int check_thread(self, str what) except -1:
        if PyThread_get_thread_ident() != self.hub.thread:
            raise RuntimeError("cannot %s from another thread than the loop's: use "
                               "loop.call_soon_threadsafe(conn.%s, ...)" % (what, what))
        return 0

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

    # -- the end ----------------------------------------------------------------------

    def _flushed(self):
        """Await that everything is sent, whatever the state; the dispatcher's."""
        if self.c == NULL:
            return None
        if self.tls is not None:
            self.tls.shut_wanted = True
        self.push()
        if self.is_drained(0):
            return None
        return self.wait_for_output(0)

    def _end(self, bint at_once=False):
        """The handler has ended; the dispatcher calls this last."""
        cdef conn_rec *c = self.c
        cdef bint waits
        if c == NULL or self.lingering:
            return
        self.state = STATE_CLOSED
        self.hub.count -= 1
        self.stop_waiting()
        self.forget_output()
        buffer_free(&self.inp)
        self.tls = None
        self._task = None
        self._transport = None
        self._job = None
        if self.is_waited:
            self.arm(0)
            self.hub.leave(self)
            if self.sock != NULL:
                apr_socket_timeout_set(self.sock, self.saved_us)
            if self.done_fd >= 0:
                signal_descriptor(self.done_fd)
            return
        self.users += 1
        with nogil:
            waits = mp_begin_linger(c)
        self.users -= 1
        if not waits or at_once or c.aborted:
            self.arm(0)
            self.hub.end(self)
            return
        self.lingering = True
        self.linger_end = now_us() + LINGER_US
        self.go_on_lingering()

    cdef int go_on_lingering(self) except -1:
        """Read and forget, until the peer closes, too."""
        cdef char data[LINGER_READ]
        cdef ssize_t n = 0
        cdef int _
        for _ in range(8):
            n = recv(self.fd, data, sizeof(data), MSG_DONTWAIT)
            if n <= 0:
                break
        if n > 0 or (n < 0 and (errno == EAGAIN or errno == EINTR)):
            self.in_due = min(self.linger_end, now_us() + LINGER_PAUSE_US)
            self.hub.watch(self.in_due)
            self.arm(MP_POLL_IN)
            return 0
        self.in_due = 0
        self.arm(0)
        return self.hub.end(self)

    cdef int free(self) except -1:
        """Nobody else has it any more."""
        cdef conn_rec *c = self.c
        cdef mp_slot *slot = mp_conn_slot(c, self.entry.interp)
        self.detach()
        if slot != NULL and slot.object == <void *> self:
            slot.object = NULL
            Py_DECREF(self)
        with nogil:
            mp_end_connection(c)
        return 0

    # -- a thread that waits ------------------------------------------------------------

    def _wait(self, double patience):
        """Have the loop serve it while this thread waits; for MPMs that cannot suspend.

        Args:
            patience: seconds to wait for the handler's end once the child has to
                end at once.
        Returns:
            Whether the handler has ended.
        """
        cdef mp_record *record = mp_conn_record(self.rec())
        cdef int fd = mp_signal_make(), ready
        cdef long long deadline, left
        cdef pollfd p
        if fd < 0:
            raise OSError(errno, "no descriptor to wait with: %s" % error_text(errno))
        self.done_fd = fd
        self.is_waited = True
        record.c = self.c
        mp_loop_add(self.hub.link, record)
        with nogil:
            mp_gate_out()
            while True:
                ready = mp_wait_readable(fd, -1)
                if ready == MP_WAIT_STOP:
                    p.fd = fd
                    p.events = POLLIN
                    p.revents = 0
                    deadline = now_us() + <long long> (patience * 1e6)
                    while True:
                        left = deadline - now_us()
                        ready = poll(&p, 1, <int> (left // 1000) if left > 0 else 0)
                        # The MPM interrupts its threads when it stops.
                        if ready >= 0 or errno != EINTR:
                            break
                    break
                if ready > 0 or errno != EINTR:
                    break
            mp_gate_in()
        self.done_fd = -1
        close_descriptor(fd)
        return ready > 0

    def _abandon(self):
        """The thread that waited gives up: the handler finds its connection gone."""
        self.detach()


cdef extern from *:
    """
    #include <unistd.h>
    static void signal_descriptor(int fd)
    {
        apr_uint64_t one = 1;
        if (write(fd, &one, sizeof(one)) < 0) { /* it is readable already */ }
    }
    static void close_descriptor(int fd) { close(fd); }
    """
    void signal_descriptor(int)
    void close_descriptor(int)


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
