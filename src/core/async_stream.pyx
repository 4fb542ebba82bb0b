# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# AsyncStream: the I/O of a handler that is a coroutine function.  All of it runs on
# the thread of its loop (hub.pyx).
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
cdef class AsyncStream(ConnectionFacts):
    """The input and output of a coroutine handler; AsyncConnection adds what it sees."""
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

    cdef int check_input(self, str when) except -1:
        """Raise what has happened meanwhile that ends reading."""
        if self.is_late:
            self.is_late = False
            self.error = APR_TIMEUP
            self.fail("reading")
        if self.read_failed:
            self.error = self.read_error
            self.fail("reading")
        if self.state != STATE_HANDLING:
            raise ConnectionClosed("this connection was closed " + when)
        return 0

    cdef Waiter shake(self, long long deadline):
        """Go on with a handshake; None if it is done."""
        cdef int done
        self.check_input("in the TLS handshake")
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
        self.check_input("while waiting for input")
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

    cdef int close_socket(self) except -1:
        """Ahead of the pool that it belongs to."""
        cdef apr_socket_t *sock = self.sock
        self.sock = NULL
        self.fd = -1
        if sock != NULL:
            with nogil:
                apr_socket_close(sock)
        return 0

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
        if self.c != NULL:
            mp_loop_remove(self.hub.link, mp_conn_record(self.c))
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
