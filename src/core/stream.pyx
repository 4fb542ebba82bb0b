# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Stream: the I/O of a connection handler.
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
#
# After start_tls() there is a layer in between (tls.pyx): what is received goes into
# the layer's buffer, and what is written is collected there and comes here sealed.

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

    # What a reading method is after; see attempt().
    READ_LINE = 0
    READ_SOME
    READ_ALL
    READ_EXACTLY
    READ_UNTIL
    READ_PEEK

# Longest message that a reading method collects unless told otherwise.  Lines
# of tens of megabytes are legitimate; without any bound one peer could fill the
# memory of the child.
DEFAULT_LIMIT = 128 * 1024 * 1024

# "No time-out" for httpd's own waits: APR passes milliseconds to
# poll() as an int, which overflows after 24.8 days.
cdef enum:
    FOREVER_SECONDS = 24 * 86400


@cython.internal
cdef class Stream:
    """The input and output of a connection; Connection adds what handlers see."""
    cdef conn_rec *c
    cdef Entry entry
    cdef int state
    cdef apr_socket_t *sock
    cdef int fd
    cdef pthread_mutex_t lock       # filters, bucket allocator, out, waiting
    cdef bint has_lock
    cdef int users                  # threads inside I/O without the GIL; by the GIL
    cdef bint reading               # a thread reads; by the GIL
    cdef bint waiting               # the reader is in poll(); by the lock
    cdef bint waking                # wake up and leave; by the lock
    cdef Buffer inp
    cdef bint ended                 # no more input will come
    cdef bint end_told              # ... and the handler was told
    cdef bint was_full              # the last read filled its room
    cdef bint filter_timed_out      # the last error is the time-out of an input filter
    cdef ap_filter_t *plain         # first input filter, when the socket is read directly
    cdef apr_bucket_brigade *inb
    cdef apr_bucket_brigade *outb
    cdef char *out
    cdef size_t out_len, out_cap
    cdef apr_status_t error         # of the last failed read or write
    cdef apr_interval_time_t read_us, write_us, saved_us
    cdef size_t limit_
    cdef bint set_up                # somebody chose limits or time-outs
    cdef unsigned long filter_thread    # which runs a Python filter of this connection, or 0
    cdef Tls tls                    # from start_tls() on, else None
    cdef bint handed_over           # an AsyncConnection has taken its place
    cdef object capsule             # what _conn_rec gave, or None

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
        self.tls = None
        retire_capsule(self.capsule)
        self.capsule = None
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
        if self.tls is not None and not self.c.aborted:
            self.end_tls()
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
        self.tls = None
        return 0

    cdef void wait_for_users(self):
        """Wake the threads that wait on this connection and let them leave."""
        cdef timespec pause
        pause.tv_sec = 0
        pause.tv_nsec = 1000000
        if not self.users:
            return
        self.waking = True
        if self.fd >= 0:
            shutdown(self.fd, SHUT_RD)
        while self.users:
            with nogil:
                nanosleep(&pause, NULL)
        self.waking = False

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
        """Read what is there into the buffer, or into that of TLS; never waits."""
        cdef Buffer *b = &self.inp
        cdef size_t room, before
        cdef ssize_t n
        cdef apr_bucket *e
        cdef const char *data
        cdef apr_size_t length
        cdef apr_status_t rv
        cdef apr_os_sock_t fd = -1
        cdef bint end = False
        if self.tls is not None:
            b = &self.tls.raw
        if buffer_room(b, BUFFER_START // 2 if buffer_len(b) else BUFFER_START) < 0:
            self.error = APR_ENOMEM
            return READ_ERROR
        room = b.cap - b.end
        if self.is_plain():
            # An MPM that ends at once closes the sockets under its threads, and
            # the number may be that of another file by now.
            if apr_os_sock_get(&fd, self.sock) != APR_SUCCESS or fd != self.fd:
                self.error = ECONNABORTED
                return READ_ERROR
            while True:
                n = recv(self.fd, b.data + b.end, room, MSG_DONTWAIT)
                if n > 0:
                    b.end += n
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
        before = buffer_len(b)
        while rv == APR_SUCCESS and not APR_BRIGADE_EMPTY(self.inb):
            e = APR_BRIGADE_FIRST(self.inb)
            if APR_BUCKET_IS_EOS(e):
                end = True
                break
            if not APR_BUCKET_IS_METADATA(e):
                rv = apr_bucket_read(e, &data, &length, APR_NONBLOCK_READ)
                if rv == APR_SUCCESS and length and buffer_add(b, data, length) < 0:
                    rv = APR_ENOMEM
            if rv == APR_SUCCESS:
                apr_bucket_delete(e)
        apr_brigade_cleanup(self.inb)
        n = <ssize_t> (buffer_len(b) - before)
        self.was_full = n > 0
        if n > 0:
            return n                # an error or end comes again at the next read
        if end or APR_STATUS_IS_EOF(rv):
            return READ_END
        if rv == APR_SUCCESS or APR_STATUS_IS_EAGAIN(rv):
            return READ_AGAIN
        self.error = rv
        self.filter_timed_out = APR_STATUS_IS_TIMEUP(rv) != 0
        return READ_ERROR

    cdef Py_ssize_t wait_and_receive(self, long long deadline) noexcept nogil:
        """Send what is pending, then wait for input.  Takes the mutex itself.

        The deadline is one of now_us(), or 0.
        """
        cdef Py_ssize_t n = READ_AGAIN
        cdef int ready, ms
        cdef long long left
        cdef bint look_first
        pthread_mutex_lock(&self.lock)
        look_first = not self.is_plain()
        if self.out_len:
            self.error = self.send(NULL, 0)
            if self.error != APR_SUCCESS:
                pthread_mutex_unlock(&self.lock)
                return READ_ERROR
        while True:
            if look_first:
                n = self.receive()
                if n != READ_AGAIN:
                    break
            look_first = True
            if self.waking:
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
                self.filter_timed_out = False
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
        self.not_filtering("read")
        if self.reading:
            raise RuntimeError("another thread is reading from this connection")
        self.reading = True
        return 0

    cdef int not_filtering(self, str what) except -1:
        """A filter's function is part of a read or write: it would wait for itself."""
        if self.filter_thread and self.filter_thread == <unsigned long> PyThread_get_thread_ident():
            raise RuntimeError("cannot %s: a filter of this connection is being called; "
                               "use the filter" % what)
        return 0

    cdef int not_handling(self, str what) except -1:
        # A connection that is gone altogether is closed, too: whoever serves
        # many from several threads cannot know which of the two it is.
        if self.state == STATE_CLOSED:
            raise ConnectionClosed("cannot %s: this connection was closed" % what)
        raise RuntimeError(
            "cannot %s: no connection handler owns this connection; "
            "in a request handler use the request" % what)

    cdef object attempt(self, int kind, Py_ssize_t length, bytes sep, size_t most,
                        size_t *scanned):
        """The result of a read if the buffer has it, else None.

        ``scanned`` is for the next attempt: what was searched in vain.
        """
        cdef size_t have = buffer_len(&self.inp), n
        cdef char *start = self.inp.data + self.inp.pos
        cdef char *found
        if kind == READ_LINE:
            if have > scanned[0]:
                found = <char *> memchr(start + scanned[0], 10, have - scanned[0])
                if found != NULL:
                    have = found + 1 - start
                    if 0 < length < <Py_ssize_t> have:
                        have = length
                    if have > most:
                        over_limit(most)
                    return buffer_take(&self.inp, have)
                scanned[0] = have
            if 0 < length <= <Py_ssize_t> min(have, most):
                return buffer_take(&self.inp, length)
            return None
        if kind == READ_SOME:
            if not have:
                return None
            return buffer_take(&self.inp, length if 0 < length < <Py_ssize_t> have else have)
        if kind == READ_EXACTLY:
            return buffer_take(&self.inp, length) if have >= <size_t> length else None
        if kind == READ_PEEK:
            if have < <size_t> length:
                return None
            return PyBytes_FromStringAndSize(start, length)
        if kind == READ_UNTIL:
            n = PyBytes_GET_SIZE(sep)
            if have - scanned[0] >= n:
                found = <char *> memmem(start + scanned[0], have - scanned[0],
                                        PyBytes_AS_STRING(sep), n)
                if found != NULL:
                    have = found + n - start
                    if have > most:
                        raise LimitError("separator found only after more than %d bytes" % most)
                    return buffer_take(&self.inp, have)
                scanned[0] = have - n + 1
            if have >= most:
                raise LimitError("no separator within %d bytes" % most)
        return None

    cdef object attempt_at_end(self, int kind, Py_ssize_t length):
        """The result of a read that the end of the stream cut short."""
        cdef size_t have = buffer_len(&self.inp)
        if kind == READ_PEEK:
            return PyBytes_FromStringAndSize(self.inp.data + self.inp.pos, have) if have else b""
        if kind == READ_EXACTLY or kind == READ_UNTIL:
            partial = buffer_take(&self.inp, have) if have else b""
            self.end_told = True
            raise IncompleteRead(partial, length if kind == READ_EXACTLY else None)
        return buffer_take(&self.inp, have) if have else self.at_end()

    cdef int check_read(self, int kind, Py_ssize_t length, bytes sep) except -1:
        """Refuse arguments that no read can satisfy."""
        if kind == READ_EXACTLY:
            if length < 0:
                raise ValueError("readexactly() takes a length of 0 or more")
        elif kind == READ_PEEK:
            if length < 1:
                raise ValueError("peek() takes a length of at least 1")
        elif kind == READ_UNTIL:
            if PyBytes_GET_SIZE(sep) == 0:
                raise ValueError("readuntil() needs a separator of at least one byte")
        else:
            return 0
        if length > 0 and <size_t> length > self.limit_:
            raise LimitError("%d bytes asked for, but conn.limit is %d" % (length, self.limit_))
        return 0

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
        if self.tls is not None:
            return self.filled(self.receive_text())
        # With output pending the peer most likely waits for it, unless more
        # input was left the last time.
        if (self.out_len == 0 or self.was_full) and self.is_plain() \
                and pthread_mutex_trylock(&self.lock) == 0:
            n = self.receive()
            pthread_mutex_unlock(&self.lock)
        if n == READ_AGAIN:
            self.users += 1
            with nogil:
                mp_gate_out()
                n = self.wait_and_receive(self.read_deadline())
                mp_gate_in()
            self.users -= 1
        return self.filled(n)

    cdef long long read_deadline(self) noexcept nogil:
        return now_us() + self.read_us if self.read_us > 0 else 0

    cdef Py_ssize_t filled(self, Py_ssize_t n) except -1:
        """What fill() gives, or raises, for a number of bytes or READ_*."""
        if n > 0:
            return n
        if n == READ_END:
            if self.waking or self.state != STATE_HANDLING:
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
            if self.filter_timed_out and doing == "reading":
                raise ConnectionTimeout("time-out while reading: an input filter gave up waiting")
            raise ConnectionTimeout(
                "time-out while %s: nothing %s for %g seconds" % (
                    doing, "came" if doing == "reading" else "could be sent",
                    (self.read_us if doing == "reading" else self.write_us) / 1e6))
        self.ended = self.end_told = True
        if self.tls is not None and self.tls.why is not None:
            self.break_tls()
            raise TLSError(self.tls.why) from self.tls.cause
        apr_strerror(rv, text, sizeof(text))
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

    # -- collecting output ----------------------------------------------------

    cdef int put(self, const char *data, size_t n) except -1:
        cdef apr_status_t rv = APR_SUCCESS
        cdef bint stored = False
        if self.state != STATE_HANDLING:
            self.not_handling("write")
        self.not_filtering("write")
        if n == 0:
            return 0
        if self.tls is not None:
            return self.put_text(data, n)
        self.users += 1             # from here on the record stays, see finish()
        if pthread_mutex_trylock(&self.lock) != 0:
            with nogil:
                pthread_mutex_lock(&self.lock)
        if self.state == STATE_HANDLING:
            if not self.waiting and self.out_len + n <= WRITE_BOUND:
                stored = self.collect(data, n) == 0
            if not stored:
                with nogil:
                    mp_gate_out()
                    rv = self.send(data, n)
                    mp_gate_in()
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

    # -- with TLS: see tls_stream.pyx -----------------------------------------

    cdef int put_text(self, const char *data, size_t n) except -1:
        return -1

    cdef Py_ssize_t receive_text(self) except? -9:
        return READ_ERROR

    cdef int end_tls(self) except -1:
        return 0

    cdef int break_tls(self) noexcept:
        return 0


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
