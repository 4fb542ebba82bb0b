# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# What the methods of an AsyncConnection return, to be awaited once.  Each tries
# first and waits only if it has to; what it waits for is a Waiter (hub.pyx).  To
# asyncio they are coroutines, so that asyncio.create_task() takes them, too.


@cython.internal
cdef class Awaited:
    """What they have in common; without `conn` it is over."""
    cdef AsyncStream conn

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def send(self, value):
        return next(self)

    def throw(self, kind, value=None, traceback=None):
        self.close()
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        if isinstance(value, Exception) or type(value).__module__ == "asyncio.exceptions":
            value._mp_peer = True   # what was waited for; see _dispatch/peers.py
        raise value


@cython.internal
cdef class Reading(Awaited):
    """One read, to be awaited."""
    cdef int kind
    cdef bint begun, iterates
    cdef Py_ssize_t length
    cdef bytes sep
    cdef size_t most, scanned

    def __next__(self):
        cdef AsyncStream conn = self.conn
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

    def close(self):
        cdef AsyncStream conn = self.conn
        if conn is not None:
            self.conn = None
            if self.begun:
                conn.stop_waiting()
                conn.reading = False

    def __dealloc__(self):
        if self.conn is not None and self.begun:
            self.conn.reading = False


@cython.internal
cdef class Draining(Awaited):
    """Waits until no more than so many bytes of output are unsent."""
    cdef size_t most
    cdef bint half_close
    cdef Waiter waiter

    def __next__(self):
        cdef AsyncStream conn = self.conn
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

    def close(self):
        if self.conn is not None and self.waiter is not None:
            self.conn.forget_drain(self.waiter)
        self.conn = None


@cython.internal
cdef class Handshake(Awaited):
    """The beginning of TLS, to be awaited."""
    cdef Tls tls
    cdef bint begun, discard
    cdef long long deadline

    def __next__(self):
        cdef AsyncStream conn = self.conn
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

    def close(self):
        """A handshake that is given up leaves nothing to go on with."""
        cdef AsyncStream conn = self.conn
        self.conn = None
        if conn is not None and self.begun:
            conn.stop_waiting()
            conn.reading = False
            conn.break_tls()
            if conn.c != NULL:
                conn.arm(conn.armed & ~MP_POLL_IN)
