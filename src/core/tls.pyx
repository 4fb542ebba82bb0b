# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Tls: the layer that start_tls() puts between a connection's raw bytes and what
# its handler reads and writes.  Python's ssl module does the work, between two
# memory BIOs:
#
#     socket ──receive()──▶ raw ──open()──▶ inp ──▶ reading methods
#     socket ◀──send()───── out ◀──seal()── text ◀── write()
#
# The raw side moves without the GIL, as in a connection without the layer.  What
# is here needs the GIL, and the connection's mutex, because OpenSSL takes one
# call at a time for a session.
#
# Nothing grows on the peer's word: raw is emptied as it comes; OpenSSL keeps no
# more than one incomplete record, or handshake message, of bounded length; and
# written text is sealed only when what was sealed before is on its way.

cdef enum:
    # Text sealed at once: four records.
    SEAL_BYTES = 65536
    # Sealed bytes that OpenSSL may have made on its own, as answers to a peer
    # that does not read them.
    ANSWERS_MOST = 262144


@cython.internal
cdef class Tls:
    """The TLS of one connection, whose reader and writer stream.pyx is."""
    cdef object ssl_object, incoming, outgoing
    cdef object ssl                 # the module
    cdef Buffer raw                 # as it came
    cdef Buffer text                # written, not sealed yet
    cdef bint server_side
    cdef bint ragged                # an end without close_notify is an end
    cdef bint established           # the handshake is over
    cdef bint unread                # incoming may hold what was not opened
    cdef bint over                  # nothing more will come
    cdef bint shut                  # our close_notify is made
    cdef bint shut_wanted           # ... or will be, after the text
    cdef str why                    # it failed for good
    cdef object cause

    def __dealloc__(self):
        buffer_free(&self.raw)
        buffer_free(&self.text)

    cdef int failed(self, str what, object exc) except -1:
        """Keep what went wrong, for the exception that the handler gets."""
        cdef object reason = getattr(exc, "verify_message", None) or getattr(exc, "reason", None)
        if isinstance(exc, (self.ssl.SSLEOFError, self.ssl.SSLZeroReturnError)):
            reason = "the peer closed the connection"
        self.why = "%s: %s" % (what, reason.replace("_", " ").lower() if isinstance(reason, str) else exc)
        exc.__traceback__ = None
        self.cause = exc
        buffer_free(&self.raw)
        buffer_free(&self.text)
        return 0

    cdef int feed(self, Py_ssize_t n) except -1:
        """Give OpenSSL what came: ``raw``, or the end if n is READ_END."""
        if buffer_len(&self.raw):
            self.incoming.write(PyMemoryView_FromMemory(
                self.raw.data + self.raw.pos, buffer_len(&self.raw), PyBUF_READ))
            self.raw.pos = self.raw.end = 0
        if n == READ_END:
            self.incoming.write_eof()
        return 0

    cdef int shake(self, Py_ssize_t n) except -2:
        """Go on with the handshake: 1 when it is done, 0 for more input, -1 if it failed."""
        try:
            self.feed(n)
            self.ssl_object.do_handshake()
        except self.ssl.SSLWantReadError:
            return 0
        except Exception as exc:
            self.failed("the TLS handshake failed", exc)
            return -1
        self.established = self.unread = True
        return 1

    cdef Py_ssize_t open(self, Py_ssize_t n, Buffer *into) except? -9:
        """Decrypt what came; bytes of text, or READ_*."""
        cdef Py_ssize_t got = 0, count
        cdef size_t room
        self.unread = False
        try:
            self.feed(n)
            while True:
                if buffer_room(into, BUFFER_START // 2) < 0:
                    raise MemoryError("no memory for the input of a connection")
                room = into.cap - into.end
                count = self.ssl_object.read(room, PyMemoryView_FromMemory(
                    into.data + into.end, room, PyBUF_WRITE))
                if count <= 0:
                    self.over = True
                    break
                into.end += count
                got += count
        except self.ssl.SSLWantReadError:
            pass
        except (self.ssl.SSLZeroReturnError, self.ssl.SSLEOFError):
            self.over = True
        except Exception as exc:
            self.failed("TLS failed", exc)
        # Python's contexts have OP_IGNORE_UNEXPECTED_EOF, so OpenSSL does not tell how it ended;
        # but whatever came before was opened before.
        if n == READ_END and self.why is None and not self.ragged:
            self.failed("TLS ended without close_notify", ValueError("the end may have been cut off"))
        if got:
            return got
        return self.rest()

    cdef Py_ssize_t rest(self):
        """What a read gives when there is no text."""
        if self.why is not None:
            return READ_ERROR
        return READ_END if self.over else READ_AGAIN

    cdef Py_ssize_t seal(self, const char *data, size_t n) except -2:
        """Encrypt data; how much of it, or -1 if TLS has failed."""
        if self.why is not None:
            return -1
        try:
            return self.ssl_object.write(PyMemoryView_FromMemory(<char *> data, n, PyBUF_READ))
        except self.ssl.SSLWantReadError:
            return 0                # another handshake, which the peer has to go on with
        except Exception as exc:
            self.failed("TLS failed while writing", exc)
            return -1

    cdef int make_shut(self) except -1:
        """Say that nothing more will come from us."""
        if self.shut or self.why is not None or not self.established:
            return 0
        self.shut = True
        try:
            self.ssl_object.unwrap()
        except Exception:
            pass                    # mostly: the peer has not answered yet
        return 0
