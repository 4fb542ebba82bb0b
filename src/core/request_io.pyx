# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# RequestIO: the input and output of a request.  What handlers see of the
# record itself is in request_facts.pyx and request.pyx.
#
# Output that is written without a flush is queued in a brigade, which the
# shell passes on after Python was left: a handler that just answers enters
# and leaves the interpreter once, and its answer leaves in one segment.
#
# Who may write.  Filters and bucket allocators belong to one thread at a time.
# `busy` says that a thread owns those of this request, `claimer` which.  Outside
# a handler of the request (`running`) they belong to httpd.  While an internal
# redirect is under way (`redirecting`) they belong to the request that it leads
# to; what a handler of that one writes to this one goes the same way, so that
# all output is in the order of writing (`carrier`).

@cython.internal
cdef class RequestIO:
    """The input and output of a request; Request adds what handlers see."""
    cdef request_rec *r
    cdef mp_slot *slot              # lives as long as the record
    cdef Entry entry
    cdef int users                  # threads inside httpd without the GIL
    cdef bint busy                  # ... of which one owns filters and pool
    cdef pthread_t claimer          # ... this one
    cdef bint running               # a handler runs; else httpd owns the filters
    cdef pthread_t runner           # the thread that runs it
    cdef bint redirecting           # ... and waits for internal_redirect()
    cdef bint reading               # a thread is inside a reading method
    cdef bint passed                # output was given to the filters
    cdef Buffer inp
    cdef bint ended
    cdef apr_bucket_brigade *inb
    cdef apr_bucket_brigade *outb
    cdef object capsule             # what _request_rec gave, or None

    # -- life -----------------------------------------------------------------

    cdef void attach(self, request_rec *r, Entry entry):
        self.r = r
        self.entry = entry
        self.slot = mp_request_slot(r, entry.interp)
        mp_count_wrappers(1)

    cdef void wait_for_users(self):
        cdef timespec pause
        pause.tv_sec = 0
        pause.tv_nsec = 1000000
        while self.users:
            with nogil:
                nanosleep(&pause, NULL)

    cdef int detach(self) except -1:
        """The record goes away: forget it, once nobody uses it."""
        if self.r == NULL:
            return 0
        self.wait_for_users()
        self.r = NULL
        self.slot = NULL
        mp_count_brigades(-(self.inb != NULL) - (self.outb != NULL))
        self.inb = self.outb = NULL             # the pool frees them
        buffer_free(&self.inp)
        retire_capsule(self.capsule)
        self.capsule = None
        mp_count_wrappers(-1)
        return 0

    def __dealloc__(self):
        buffer_free(&self.inp)

    cdef request_rec *rec(self) except NULL:
        if self.r == NULL:
            raise DetachedError("this request is over and its record is gone")
        return self.r

    cdef request_rec *to_change(self) except NULL:
        """The record, for what allocates from its pool."""
        cdef request_rec *r = self.rec()
        if self.busy and self.claimer != pthread_self():
            raise RuntimeError("another thread is reading or writing this request: it "
                               "cannot be changed meanwhile")
        return r

    cdef char *kept(self, bytes text) except NULL:
        """A copy of text that lives as long as the record."""
        return apr_pstrmemdup(self.to_change().pool, PyBytes_AS_STRING(text),
                              PyBytes_GET_SIZE(text))

    # -- who may ---------------------------------------------------------------

    cdef int claim(self) except -1:
        """Own the filters of this request, to call them."""
        if not self.running or self.redirecting:
            raise RuntimeError("no handler of this request is running: it can be neither "
                               "read nor written now")
        return self.seize_free()

    cdef int claim_at_last(self) except -1:
        """The same for the thread of a handler that has failed: another may be in the middle of it."""
        cdef bint running = self.running
        cdef timespec pause
        pause.tv_sec = 0
        pause.tv_nsec = 1000000
        if self.runner != pthread_self():
            return self.claim()
        self.running = False            # nobody begins anew
        while self.busy and self.claimer != pthread_self():
            with nogil:
                nanosleep(&pause, NULL)
        self.running = running
        return self.claim()

    cdef int seize_free(self) except -1:
        if self.busy:
            raise RuntimeError(
                "this request is being read or written already: by another thread, or by "
                "the very call that this filter is part of (use filter.write)")
        self.busy = True
        self.claimer = pthread_self()
        return 0

    cdef bint seize(self) except -1:
        """Own the pool of this request, for a call of httpd without the GIL.

        The caller ends it with ``self.busy = `` what this returned: a filter may
        be called while its own thread owns the request.
        """
        cdef bint before = self.busy
        self.to_change()
        self.busy = True
        self.claimer = pthread_self()
        return before

    cdef RequestIO carrier(self):
        """The request whose filters carry this one's data now."""
        cdef request_rec *r = self.rec()
        cdef RequestIO io = self
        if self.running and not self.redirecting:
            return self
        while r.next != NULL:
            r = r.next
            io = self.entry.request(r)
            if io.running and not io.redirecting and io.runner == pthread_self():
                return io
        return self                     # which will refuse

    cdef bint is_complete(self):
        """Whether the end of the response was sent: nothing may follow it."""
        cdef request_rec *r = self.r
        while r.next != NULL:
            r = r.next
        return r.eos_sent != 0

    # -- output ---------------------------------------------------------------

    def write(self, data, int flush=1):
        """Send part of the response body; headers go out with the first part.

        Args:
            data: bytes-like, or str, which is encoded as UTF-8.  Empty data is
                ignored.
            flush: if 0, only queue: sent with the next flush or at the end.
        Raises:
            OSError: the client has gone ("Write failed, client closed
                connection.").
            RuntimeError: no handler of the request is running, the response
                is complete, or another thread is reading or writing.
        """
        cdef Py_buffer view
        cdef const char *text
        cdef Py_ssize_t length
        if isinstance(data, str):
            text = PyUnicode_AsUTF8AndSize(data, &length)   # no copy for ASCII
            self.put(text, length, flush)
            return
        if PyBytes_CheckExact(data):
            self.put(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), flush)
            return
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self.put(<const char *> view.buf, view.len, flush)
        finally:
            PyBuffer_Release(&view)

    cdef int put(self, const char *data, size_t n, int flush) except -1:
        cdef RequestIO io
        self.rec()
        if n == 0:
            return 0
        io = self.carrier()
        io.start_output()
        try:
            if not flush:
                if apr_brigade_write(io.outb, NULL, NULL, data, n) != APR_SUCCESS:
                    raise MemoryError("no memory for the response")
            else:
                APR_BRIGADE_INSERT_TAIL(io.outb, apr_bucket_transient_create(
                    data, n, io.r.connection.bucket_alloc))
            self.slot.queued += n
            if flush:
                io.pass_on("Write failed, client closed connection.")
        finally:
            io.busy = False
        return 0

    def flush(self):
        """Send what is queued.

        Raises:
            OSError: the client has gone ("Flush failed, client closed
                connection.").
        """
        cdef RequestIO io
        self.rec()
        io = self.carrier()
        io.claim()
        try:
            if not io.is_complete():
                io.queue()
                io.pass_on("Flush failed, client closed connection.")
        finally:
            io.busy = False

    def sendfile(self, path, offset=0, len=-1):
        """Send a file, or a part of it, as httpd sends files; flushes.

        What is queued goes first.  Symbolic links are followed.  The file may be
        removed as soon as this returns; it should not be shortened before.

        Args:
            path: name of the file, absolute.
            offset: where to begin, in bytes.
            len: how many bytes; fewer are sent if the file ends before.  -1: up
                to the end of the file.
        Returns:
            Number of bytes sent.
        Raises:
            OSError: the file cannot be examined or opened or is no regular file
                (with ``errno`` and ``filename``); or the client has gone.
            ValueError: offset is negative or beyond the end of the file, or len
                is less than -1.
        """
        cdef bytes name = fs_bytes(path)
        cdef apr_off_t start = size_of(offset, "offset")
        cdef apr_off_t want = size_of(len, "len", -1)
        cdef const char *fname = name
        cdef RequestIO io
        cdef request_rec *r
        cdef apr_pool_t *pool = NULL
        cdef apr_file_t *file = NULL
        cdef apr_finfo_t info
        cdef apr_bucket *e
        cdef apr_status_t rv
        cdef core_dir_config *core
        cdef int flags = APR_FOPEN_READ | APR_FOPEN_BINARY | APR_FOPEN_LARGEFILE
        self.rec()
        io = self.carrier()
        io.start_output()
        r = io.r
        try:
            core = <core_dir_config *> ap_get_core_module_config(r.per_dir_config)
            flags |= AP_SENDFILE_ENABLED(core.enable_sendfile)
            if apr_pool_create(&pool, r.pool) != APR_SUCCESS:
                raise MemoryError("no memory to send a file")
            io.users += 1
            with nogil:
                # Looked at before it is opened: opening a named pipe would wait.
                rv = apr_stat(&info, fname, APR_FINFO_TYPE | APR_FINFO_SIZE, pool)
                if rv == APR_SUCCESS and info.filetype == APR_REG:
                    rv = apr_file_open(&file, fname, flags, APR_FPROT_OS_DEFAULT, pool)
                    if rv == APR_SUCCESS:
                        rv = apr_file_info_get(&info, APR_FINFO_TYPE | APR_FINFO_SIZE, file)
            io.users -= 1
            if rv != APR_SUCCESS:
                raise os_error(rv, path)
            if file == NULL:
                raise os_error(EISDIR if info.filetype == APR_DIR else EINVAL, path)
            if start > info.size:
                raise ValueError("offset %d is beyond the end of %r, which has %d bytes"
                                 % (start, path, info.size))
            if want < 0 or want > info.size - start:
                want = info.size - start
            if want:
                e = apr_brigade_insert_file(io.outb, file, start, want, pool)
                # A mapped file that somebody shortens kills the process.
                while e != APR_BRIGADE_SENTINEL(io.outb) and APR_BUCKET_IS_FILE(e):
                    apr_bucket_file_enable_mmap(e, 0)
                    e = APR_BUCKET_PREV(e)
                self.slot.queued += want
                io.pass_on("Write failed, client closed connection.")
        finally:
            # Everything was sent; a filter that keeps a part has set it aside,
            # which moves the open file to a pool of its own.
            if pool != NULL:
                apr_pool_destroy(pool)
            io.busy = False
        return want

    cdef int start_output(self) except -1:
        self.claim()
        if self.is_complete():
            self.busy = False
            raise RuntimeError("the response to this request is complete: nothing can be "
                               "added to it")
        self.queue()
        return 0

    def _drop_queued(self):
        """Forget output that was queued and not sent."""
        self.rec()
        self.claim_at_last()
        if self.outb != NULL:
            apr_brigade_cleanup(self.outb)
        self.busy = False

    def _has_passed_output(self):
        """Whether filters have seen a part of the response."""
        self.rec()
        return self.passed

    def _keep_from_caches(self):
        """Have no cache of httpd store the response: it is not what it should be."""
        mp_keep_from_caches(self.rec())

    def _cut_off(self):
        """End a response that has begun and cannot be finished.

        The client must not take what it has for the whole, so the last chunk is
        left out and the connection closed: what httpd's chunk filter does when
        it meets this error bucket, which mod_proxy sends if a backend breaks.
        """
        cdef request_rec *r = self.rec()
        self.claim_at_last()
        if self.is_complete():
            self.busy = False
            return
        self.queue()
        apr_brigade_cleanup(self.outb)
        r.connection.keepalive = AP_CONN_CLOSE
        mp_keep_from_caches(r)
        APR_BRIGADE_INSERT_TAIL(self.outb, ap_bucket_error_create(
            HTTP_BAD_GATEWAY, NULL, r.pool, r.connection.bucket_alloc))
        APR_BRIGADE_INSERT_TAIL(self.outb, apr_bucket_eos_create(r.connection.bucket_alloc))
        self.users += 1
        with nogil:
            ap_pass_brigade(r.output_filters, self.outb)
            apr_brigade_cleanup(self.outb)
        self.users -= 1
        self.busy = False

    cdef void queue(self):
        if self.outb == NULL:
            self.outb = apr_brigade_create(self.r.pool, self.r.connection.bucket_alloc)
            mp_count_brigades(1)
            mp_frame(self.r)        # before the content phase httpd has not asked yet

    cdef int pass_on(self, str failed) except -1:
        cdef request_rec *r = self.r
        cdef apr_status_t rv
        APR_BRIGADE_INSERT_TAIL(self.outb, apr_bucket_flush_create(
            r.connection.bucket_alloc))
        self.passed = True
        self.users += 1
        with nogil:
            mp_gate_out()
            rv = ap_pass_brigade(r.output_filters, self.outb)
            apr_brigade_cleanup(self.outb)
            mp_gate_in()
        self.users -= 1
        if rv != APR_SUCCESS or r.connection.aborted:
            raise ConnectionClosed(failed)
        return 0

    # -- handing over ----------------------------------------------------------

    def internal_redirect(self, new_uri):
        """Process another URI of this server in place of this request.

        What is queued is sent first, with this request's headers.  Handlers of
        the new request run before this returns; for them this one is
        ``req.prev``.  Then the response is complete.

        Args:
            new_uri: path, with a query if need be.
        Raises:
            ValueError: new_uri contains a control character.
            OSError: the client has gone.
            RuntimeError: the response is complete, no handler of this request is
                running, or this is not the thread that runs it.
        """
        cdef bytes uri = path_bytes(new_uri)
        cdef const char *target
        cdef request_rec *r = self.rec()
        if has_control(uri):
            raise ValueError("a URI cannot contain control characters: %.60r" % new_uri)
        if self.running and self.runner != pthread_self():
            raise RuntimeError("only the thread that runs the handler can redirect its request")
        self.start_output()
        try:
            target = self.kept(uri)
            if not APR_BRIGADE_EMPTY(self.outb):
                self.pass_on("Write failed, client closed connection.")
            self.redirecting = True
            mp_check_body(r)        # the record of the other request begins with these headers
            self.users += 1
            with nogil:
                ap_internal_redirect(target, r)
            self.users -= 1
        finally:
            self.redirecting = False
            self.busy = False

    cdef void take_over(self):
        """Continue the input of the request that was redirected to this one."""
        cdef mp_slot *slot
        cdef RequestIO before
        if self.r.prev == NULL or self.inp.data != NULL:
            return
        slot = mp_request_slot(self.r.prev, self.entry.interp)
        if slot == NULL or slot.object == NULL:
            return
        before = <RequestIO> slot.object
        if before.redirecting:
            self.inp = before.inp
            before.inp.data = NULL
            before.inp.pos = before.inp.end = before.inp.cap = 0
            if before.ended:
                self.ended = True

    # -- input ----------------------------------------------------------------

    cdef Py_ssize_t fill(self) except -1:
        """Get more of the body; 0 at its end."""
        cdef request_rec *r = self.rec()
        cdef apr_status_t rv = APR_SUCCESS
        cdef apr_bucket *e
        cdef const char *data
        cdef apr_size_t length
        cdef size_t before = buffer_len(&self.inp)
        cdef bint end = False
        cdef bint complete = r.eos_sent != 0
        cdef int status
        if self.ended:
            return 0
        self.claim()
        if self.inb == NULL:
            self.inb = apr_brigade_create(r.pool, r.connection.bucket_alloc)
            mp_count_brigades(1)
        self.users += 1
        with nogil:
            mp_gate_out()
            while rv == APR_SUCCESS and not end and buffer_len(&self.inp) == before:
                rv = ap_get_brigade(r.input_filters, self.inb, AP_MODE_READBYTES,
                                    APR_BLOCK_READ, BUFFER_START)
                if rv == APR_SUCCESS and APR_BRIGADE_EMPTY(self.inb):
                    end = True          # a filter that has nothing and does not wait
                while rv == APR_SUCCESS and not APR_BRIGADE_EMPTY(self.inb):
                    e = APR_BRIGADE_FIRST(self.inb)
                    if APR_BUCKET_IS_EOS(e):
                        end = True
                        break
                    if not APR_BUCKET_IS_METADATA(e):
                        rv = apr_bucket_read(e, &data, &length, APR_BLOCK_READ)
                        if rv == APR_SUCCESS and length \
                                and buffer_add(&self.inp, data, length) < 0:
                            rv = APR_ENOMEM
                    if rv == APR_SUCCESS:
                        apr_bucket_delete(e)
                apr_brigade_cleanup(self.inb)
            mp_gate_in()
        self.users -= 1
        self.busy = False
        if end:
            self.ended = True
        if r.eos_sent and not complete:
            # httpd's input filter has refused the body and ended the response, but it
            # may still report success, with data.
            self.ended = True
            raise SERVER_RETURN(self.answered())
        if rv != APR_SUCCESS:
            self.ended = True
            if rv == APR_ENOMEM:
                raise MemoryError("no memory for a request body")
            if APR_STATUS_IS_TIMEUP(rv):
                raise ConnectionTimeout("Client read error (Timeout?)")
            if APR_STATUS_IS_EOF(rv) or rv == APR_INCOMPLETE or r.connection.aborted \
                    or APR_STATUS_IS_ECONNRESET(rv) or APR_STATUS_IS_ECONNABORTED(rv):
                raise ConnectionClosed("Client read error (the client has gone)")
            # Even if the handler takes no notice: what follows may not be a request.
            r.connection.keepalive = AP_CONN_CLOSE
            status = ap_map_http_request_error(rv, HTTP_BAD_REQUEST)
            if status == AP_FILTER_ERROR:
                status = self.answered()
            raise SERVER_RETURN(status)
        return buffer_len(&self.inp) - before

    cdef int answered(self) except -1:
        """The status to return once an input filter has refused the body.

        httpd's own answers by itself when it does, and nothing may follow.
        """
        cdef request_rec *r = self.rec()
        if r.eos_sent or r.sent_bodyct or r.bytes_sent:
            self._drop_queued()
            return DONE
        return HTTP_BAD_REQUEST

    cdef bytes take(self, size_t n):
        if n == 0:
            return b""
        self.r.read_length += n
        return buffer_take(&self.inp, n)

    cdef RequestIO start_reading(self):
        """The request whose body is read; the caller ends with ``reading = False``."""
        cdef RequestIO io = self
        self.rec()
        if self.redirecting:
            io = self.carrier()
        if io.reading:
            raise RuntimeError("another thread is reading this request")
        io.reading = True
        return io

    def read(self, Py_ssize_t len=-1):
        """Read the request body.

        Args:
            len: at most that many bytes, fewer only at the end of the body;
                negative or left out: all that is left.
        Returns:
            bytes; b"" at the end of the body.
        Raises:
            OSError: time-out or broken connection.
            SERVER_RETURN: httpd refuses the body, with the status to answer.
        """
        cdef RequestIO io = self.start_reading()
        cdef size_t want
        try:
            while (len < 0 or buffer_len(&io.inp) < <size_t> len) and io.fill():
                pass
            want = buffer_len(&io.inp)
            if 0 <= len < <Py_ssize_t> want:
                want = len
            return io.take(want)
        finally:
            io.reading = False

    def readline(self, Py_ssize_t len=-1):
        """Read one line of the request body, including its b"\\n".

        Args:
            len: if 0 or more, at most that many bytes.
        Returns:
            bytes; b"" at the end of the body.
        Raises:
            OSError, SERVER_RETURN: as for read.
        """
        cdef RequestIO io = self.start_reading()
        cdef size_t have, scanned = 0
        cdef char *found
        try:
            if len == 0:
                return b""
            while True:
                have = buffer_len(&io.inp)
                if have > scanned:
                    found = <char *> memchr(io.inp.data + io.inp.pos + scanned, 10,
                                            have - scanned)
                    if found != NULL:
                        have = found + 1 - (io.inp.data + io.inp.pos)
                        break
                    scanned = have
                if 0 < len <= <Py_ssize_t> have or io.fill() == 0:
                    have = buffer_len(&io.inp)
                    break
            if 0 < len < <Py_ssize_t> have:
                have = len
            return io.take(have)
        finally:
            io.reading = False

    def readlines(self, Py_ssize_t sizehint=-1):
        """Read whole lines of the request body.

        Args:
            sizehint: stop after the line with which that many bytes are reached;
                0 or less: read all lines.
        Returns:
            list of bytes.
        Raises:
            OSError, SERVER_RETURN: as for read.
        """
        cdef Py_ssize_t size = 0
        lines = []
        self.rec()
        while sizehint <= 0 or size < sizehint:
            line = self.readline()
            if not line:
                break
            lines.append(line)
            size += PyBytes_GET_SIZE(line)
        return lines

    def __iter__(self):
        self.rec()
        return self

    def __next__(self):
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def discard_request_body(self):
        """Read the rest of the body and throw it away.

        Over HTTP/2 and in sub-requests, too.

        Returns:
            OK, or if the body cannot be read the status to return: that of an
            error, or DONE if httpd has answered already.
        """
        cdef RequestIO io = self.start_reading()
        cdef request_rec *r
        cdef bint complete
        cdef int status = 0
        try:
            buffer_free(&io.inp)
            if not io.ended:
                io.claim()
                r = io.r
                complete = r.eos_sent != 0
                io.users += 1
                with nogil:
                    status = drop_body(r)
                io.users -= 1
                io.busy = False
                io.ended = True
                if status == AP_FILTER_ERROR or (r.eos_sent and not complete):
                    status = io.answered()      # it may report success, as in fill()
            return status
        finally:
            io.reading = False


cdef int drop_body(request_rec *r) noexcept nogil:
    """Read the rest of a body and drop it; the status to return if that fails.

    httpd's own function does nothing in a sub-request and where the connection will
    not be kept, which is so for each stream of HTTP/2.
    """
    cdef request_rec *main = r
    cdef apr_bucket_brigade *bb
    cdef apr_bucket *e
    cdef const char *data
    cdef apr_size_t length
    cdef apr_status_t rv
    cdef bint end = False
    while main.main != NULL:
        main = main.main
    if r.main == NULL and r.connection.master == NULL:
        return ap_discard_request_body(r)
    if main.expecting_100 and (main.eos_sent or main.bytes_sent):
        return 0                        # the client was not told to send it
    bb = apr_brigade_create(r.pool, r.connection.bucket_alloc)
    while not end:
        rv = ap_get_brigade(r.input_filters, bb, AP_MODE_READBYTES, APR_BLOCK_READ,
                            BUFFER_START)
        if rv == APR_SUCCESS and APR_BRIGADE_EMPTY(bb):
            break                       # a filter that has nothing and does not wait
        while rv == APR_SUCCESS and not APR_BRIGADE_EMPTY(bb):
            e = APR_BRIGADE_FIRST(bb)
            if APR_BUCKET_IS_EOS(e):
                end = True
                break
            if not APR_BUCKET_IS_METADATA(e):
                rv = apr_bucket_read(e, &data, &length, APR_BLOCK_READ)
            apr_bucket_delete(e)
        apr_brigade_cleanup(bb)
        if rv != APR_SUCCESS:
            main.connection.keepalive = AP_CONN_CLOSE
            return ap_map_http_request_error(rv, HTTP_BAD_REQUEST)
    return 0


cdef int retire_capsule(object capsule) except -1:
    """Make a capsule unusable: its name is no longer the one to ask for."""
    if capsule is not None:
        PyCapsule_SetName(capsule, b"mod_python.gone")
    return 0


cdef object os_error(apr_status_t rv, object path):
    """The exception for a file that could not be used."""
    cdef char text[120]
    apr_strerror(rv, text, sizeof(text))
    return OSError(rv, text.decode("utf-8", "replace"), path)


cdef bytes fs_bytes(object path):
    """Bytes of a file name given as str, bytes or os.PathLike."""
    if not isinstance(path, (str, bytes)) and hasattr(path, "__fspath__"):
        path = path.__fspath__()
    return path_bytes(path)


cdef apr_off_t size_of(object value, str name, apr_off_t low=0) except? -2:
    """A number of bytes given as an argument, at least low."""
    if not isinstance(value, int):
        raise TypeError("%s must be an int, not %s" % (name, type(value).__name__))
    if not low <= value < 2 ** 63:
        raise ValueError("%s must be a number of bytes, not %s" % (
            name, value if abs(value) < 2 ** 80 else "so large a number"))
    return value


cdef bint has_control(bytes text):
    cdef const unsigned char *c = text
    cdef Py_ssize_t i
    for i in range(PyBytes_GET_SIZE(text)):
        if c[i] < 32 or c[i] == 127:
            return True
    return False
