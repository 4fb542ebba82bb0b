# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# TlsStream: the I/O of stream.pyx with the layer of tls.pyx in between.
#
# What a handler writes is collected in the layer and sealed before it is sent;
# what is received is opened before anybody looks for a message in it.  Sealing and
# opening are done with the GIL and the connection's mutex, sending and receiving
# as ever.  A thread that waits for the mutex has released the GIL, so the two never
# wait for each other.
#
# While a thread reads, what another one writes is sealed and sent at once, since
# the reader sends nothing more once it waits.

@cython.internal
cdef class TlsStream(Stream):
    """A stream that can be given TLS."""

    cdef Tls new_tls(self, context, bint server_side, server_hostname, bint ragged):
        """A layer, not in use yet."""
        cdef Tls tls
        if self.state != STATE_HANDLING:
            self.not_handling("start TLS")
        import ssl
        if not isinstance(context, ssl.SSLContext):
            raise TypeError("start_tls() takes an ssl.SSLContext, not %s" % type(context).__name__)
        if self.tls is not None:
            raise RuntimeError("this connection uses TLS already")
        if ap_ssl_conn_is_ssl(self.rec()):
            raise RuntimeError("this connection uses TLS already, by mod_ssl (SSLEngine)")
        tls = Tls.__new__(Tls)
        tls.ssl = ssl
        tls.server_side = server_side
        tls.ragged = ragged
        tls.incoming = ssl.MemoryBIO()
        tls.outgoing = ssl.MemoryBIO()
        tls.ssl_object = context.wrap_bio(tls.incoming, tls.outgoing, server_side, server_hostname)
        return tls

    # -- TLS: with the GIL --------------------------------------------------------

    cdef int lock_layer(self) except -1:
        """Take the mutex; whatever Python code OpenSSL calls must not do I/O here."""
        self.not_filtering("use TLS")
        self.users += 1
        if pthread_mutex_trylock(&self.lock) != 0:
            with nogil:
                pthread_mutex_lock(&self.lock)
        self.filter_thread = PyThread_get_thread_ident()
        return 0

    cdef void unlock_layer(self) noexcept:
        self.filter_thread = 0
        pthread_mutex_unlock(&self.lock)
        self.users -= 1

    cdef int take_sealed(self) except -1:
        """Put what OpenSSL has made into the output."""
        cdef bytes data
        if self.tls.outgoing.pending:
            data = self.tls.outgoing.read()
            if self.collect(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)) < 0:
                raise MemoryError("no memory for the output of a connection")
        return 0

    cdef Py_ssize_t unseal(self, Py_ssize_t n) except? -9:
        """Bytes of text that have come, or READ_*, after n raw bytes or READ_*."""
        cdef Py_ssize_t got
        if n == READ_ERROR or n == READ_STOPPED:
            return n
        if n == READ_END and self.c.aborted:
            self.error = ECONNABORTED       # a write has been told of the reset already
            return READ_ERROR
        got = self.tls.open(n, &self.inp)
        self.take_sealed()
        if self.out_len > ANSWERS_MOST + SEAL_BYTES and self.tls.why is None:
            self.tls.failed("TLS failed", ValueError("the peer asks for answers and does not read them"))
            got = READ_ERROR
        if got == READ_ERROR:
            self.error = APR_EGENERAL
        return got

    cdef apr_status_t seal(self, size_t most) except *:
        """Encrypt collected text, as much as ``most`` bytes."""
        cdef Tls tls = self.tls
        cdef Py_ssize_t n
        if buffer_len(&tls.text) and tls.established:
            n = tls.seal(tls.text.data + tls.text.pos, min(buffer_len(&tls.text), most))
            self.take_sealed()
            if n == 0:
                return EAGAIN
            if n < 0:
                return APR_EGENERAL
            buffer_skip(&tls.text, n)
        return APR_EGENERAL if tls.why is not None else APR_SUCCESS

    cdef apr_status_t seal_all(self) except *:
        """Encrypt all collected text."""
        cdef apr_status_t rv = APR_SUCCESS
        self.lock_layer()
        try:
            while rv == APR_SUCCESS and buffer_len(&self.tls.text) and self.tls.established:
                rv = self.seal(SEAL_BYTES)
        finally:
            self.unlock_layer()
        return APR_SUCCESS if rv == EAGAIN else rv

    cdef int begin_tls(self, Tls tls, bint discard) except -1:
        """Put the layer in between; what was read too far is the layer's, or is refused."""
        cdef size_t have = buffer_len(&self.inp)
        cdef char *start = self.inp.data + self.inp.pos
        if self.tls is not None:
            raise RuntimeError("this connection uses TLS already")
        # A handshake starts with a record of type 22, version 3.x: the client may have sent it
        # before we got here.  Anything else would be taken for what the client said inside TLS.
        if have and not (tls.server_side and start[0] == 22 and (have == 1 or start[1] == 3)):
            if not discard:
                self.tls = tls
                tls.failed("no TLS", ValueError(
                    "%d bytes came after the request for TLS and before its handshake" % have))
                self.error = APR_EGENERAL
                self.fail("reading")
            have = 0
        if have and buffer_add(&tls.raw, start, have) < 0:
            raise MemoryError("no memory for the input of a connection")
        buffer_free(&self.inp)
        self.tls = tls
        return 0

    cdef int break_tls(self) noexcept:
        """TLS has failed or was given up: what was written stays unsent, and nothing is plain text."""
        self.state = STATE_CLOSED
        self.ended = self.end_told = True
        if self.tls is not None:
            buffer_free(&self.tls.text)
            buffer_free(&self.tls.raw)
        return 0

    cdef int end_tls(self) except -1:
        """Seal what is left, and say that nothing more comes."""
        cdef Tls tls = self.tls
        self.seal_all()
        self.lock_layer()
        try:
            tls.make_shut()
            self.take_sealed()
        finally:
            self.unlock_layer()
        return 0

    # -- TLS where a thread waits ---------------------------------------------------

    cdef int shake_hands(self, Tls tls, bint discard) except -1:
        """The handshake of a connection whose thread waits."""
        cdef long long deadline = self.read_deadline()
        cdef Py_ssize_t n
        cdef int done
        self.begin_tls(tls, discard)
        n = <Py_ssize_t> buffer_len(&tls.raw) if buffer_len(&tls.raw) else <Py_ssize_t> READ_AGAIN
        try:
            while True:
                self.lock_layer()
                try:
                    done = tls.shake(n)
                    self.take_sealed()
                finally:
                    self.unlock_layer()
                if done:
                    self.send_sealed()      # if the peer has gone, reading will say so
                if done < 0:
                    self.error = APR_EGENERAL
                    self.fail("reading")
                if done:
                    return 0
                self.users += 1
                with nogil:
                    mp_gate_out()
                    n = self.wait_and_receive(deadline)
                    mp_gate_in()
                self.users -= 1
                if self.state != STATE_HANDLING:    # and the layer may be gone
                    raise ConnectionClosed("this connection was closed in the TLS handshake")
                if n != READ_END or self.waking:
                    self.filled(n)
        except BaseException:
            self.break_tls()
            raise

    cdef Py_ssize_t receive_text(self) except? -9:
        """Send what is pending, then wait for text."""
        cdef Tls tls = self.tls
        cdef long long deadline = self.read_deadline()
        cdef Py_ssize_t n = READ_AGAIN
        cdef bint fresh = tls.unread
        while True:
            if not fresh:
                n = tls.rest()
                if n != READ_AGAIN:
                    self.error = APR_EGENERAL
                    return n
                if self.seal_all() != APR_SUCCESS:
                    self.error = APR_EGENERAL
                    return READ_ERROR
                self.users += 1
                with nogil:
                    mp_gate_out()
                    n = self.wait_and_receive(deadline)
                    mp_gate_in()
                self.users -= 1
                if self.state != STATE_HANDLING or (n == READ_END and self.waking):
                    return READ_END if n > 0 else n     # the layer may be gone
            fresh = False
            self.lock_layer()
            try:
                n = self.unseal(n)
            finally:
                self.unlock_layer()
            if n != READ_AGAIN:
                return n
            deadline = self.read_deadline()

    cdef apr_status_t send_sealed(self) except *:
        cdef apr_status_t rv = APR_SUCCESS
        self.users += 1
        with nogil:
            mp_gate_out()
            pthread_mutex_lock(&self.lock)
            if self.out_len:
                rv = self.send(NULL, 0)
            pthread_mutex_unlock(&self.lock)
            mp_gate_in()
        self.users -= 1
        return rv

    cdef int put_text(self, const char *data, size_t n) except -1:
        """put() with TLS."""
        cdef Tls tls = self.tls
        cdef apr_status_t rv = APR_SUCCESS
        cdef Py_ssize_t m
        self.lock_layer()
        try:
            if self.state != STATE_HANDLING:
                rv = APR_ECONNABORTED
            elif buffer_len(&tls.text) + n <= WRITE_BOUND and not self.reading:
                if buffer_add(&tls.text, data, n) < 0:
                    raise MemoryError("no memory for the output of a connection")
            elif not tls.established:
                raise RuntimeError("cannot write: another thread is in the TLS handshake of this connection")
            else:
                # The mutex stays ours until all has gone: records of two threads may not mix,
                # and a reader must not wait between a seal() and its send().
                while rv == APR_SUCCESS and buffer_len(&tls.text):
                    rv = self.seal(SEAL_BYTES)
                while rv == APR_SUCCESS and n:
                    m = tls.seal(data, min(n, <size_t> SEAL_BYTES))
                    self.take_sealed()
                    if m <= 0:
                        rv = APR_EGENERAL
                        break
                    data += m
                    n -= m
                    self.filter_thread = 0      # send() may run a filter of ours
                    with nogil:
                        mp_gate_out()
                        rv = self.send(NULL, 0)
                        mp_gate_in()
                    self.filter_thread = PyThread_get_thread_ident()
        finally:
            self.unlock_layer()
        if rv != APR_SUCCESS:
            self.error = rv
            self.fail("writing")
        return 0
