# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Filter: a Python filter in the chain of a request or a connection, as its
# function sees it.  When it is called, and what becomes of what it wrote, is
# decided in src/shell/filters.c.
#
# The object lives as long as the filter is in the chain and its stream has not
# ended, so that a function called many times finds what it left in `ctx`.  It can
# be read from and written to only while the function runs: httpd's brigades
# belong to the thread that is in the chain.
#
# Output.  `run.in_` is the brigade that came.  It is consumed from the front, and
# each bucket is deleted when it was read, so that a large file goes through in
# pieces.  Flush marks and other metadata move over to the queue when they are met.
# The queue is passed on when it gets long, so a function that writes much in one
# call needs no memory for it.
#
# Input.  One call reads once from the next filter.  What the function writes is
# kept in `run.out` until it is asked for.

cdef enum:
    # The longest result of read(): functions that read once a call get a whole page.  A
    # larger length is a mere limit.
    LONGEST = 8388608
    # The longest result of read() without a length, of what is not in memory and longer
    # than that: a call's overhead does not count, and the processor's cache holds it.
    PIECE = 65536
    # A longer line is given in parts, so that a file without line ends needs no
    # more memory than one with them.
    LINE_PIECE = 1048576
    # Bytes that are copied into the queue before it is passed on.
    QUEUE_BOUND = 65536
    # Up to here copying is cheaper than giving up the GIL for it.
    SHORT_COPY = 16384

    # What the front of the input is.
    FRONT_DATA = 1
    FRONT_NOTHING = 0           # nothing more in this call
    FRONT_END = -1
    FRONT_ERROR = -2


cdef bint in_memory(apr_bucket *e) noexcept nogil:
    """Whether reading a bucket cannot block."""
    return APR_BUCKET_IS_HEAP(e) or APR_BUCKET_IS_TRANSIENT(e) or APR_BUCKET_IS_IMMORTAL(e) \
        or APR_BUCKET_IS_POOL(e)


cdef apr_status_t pass_queue(mp_filter_run *run) noexcept nogil:
    """Send the queue of an output filter to the next one."""
    cdef apr_status_t rv = ap_pass_brigade(run.f.next, run.out)
    apr_brigade_cleanup(run.out)
    run.queued = 0
    run.borrowed = 0
    run.passed = 1
    if rv != APR_SUCCESS:
        run.error = rv
    return rv


cdef int output_front(mp_filter_run *run, const char **data, apr_size_t *length) noexcept nogil:
    """Go to the first data of an output filter's brigade."""
    cdef apr_bucket *e
    cdef apr_status_t rv
    cdef bint flush
    while not APR_BRIGADE_EMPTY(run.in_):
        e = APR_BRIGADE_FIRST(run.in_)
        if APR_BUCKET_IS_METADATA(e):
            if run.f.r != NULL and APR_BUCKET_IS_EOS(e):
                return FRONT_END
            flush = APR_BUCKET_IS_FLUSH(e)
            mp_queue_mark(run, e)
            if flush and not mp_output_waits(run) and pass_queue(run) != APR_SUCCESS:
                return FRONT_ERROR
            continue
        rv = apr_bucket_read(e, data, length, APR_NONBLOCK_READ)
        if APR_STATUS_IS_EAGAIN(rv):
            # A program that is in no hurry: what it has said so far must not wait.
            if not mp_output_waits(run):
                APR_BRIGADE_INSERT_TAIL(run.out, apr_bucket_flush_create(
                    run.f.c.bucket_alloc))
                if pass_queue(run) != APR_SUCCESS:
                    return FRONT_ERROR
            rv = apr_bucket_read(e, data, length, APR_BLOCK_READ)
        if rv != APR_SUCCESS:
            run.error = rv
            return FRONT_ERROR
        if length[0]:
            return FRONT_DATA
        apr_bucket_delete(e)
    return FRONT_NOTHING


cdef int input_front(mp_filter_run *run, const char **data, apr_size_t *length) noexcept nogil:
    """Go to the first data for an input filter, reading from the next filter once a call."""
    cdef apr_bucket *e
    cdef apr_status_t rv
    while True:
        if APR_BRIGADE_EMPTY(run.in_):
            if run.ended:
                return FRONT_END
            if run.fetched:
                return FRONT_NOTHING
            run.fetched = 1
            rv = ap_get_brigade(run.f.next, run.in_, run.mode, run.block, run.size)
            if APR_STATUS_IS_EAGAIN(rv) or (
                    rv == APR_SUCCESS and APR_BRIGADE_EMPTY(run.in_)
                    and run.block == APR_NONBLOCK_READ):
                run.again = 1
                return FRONT_NOTHING
            if APR_STATUS_IS_EOF(rv) and run.f.r == NULL:
                run.ended = run.progress = 1
                return FRONT_END
            if rv != APR_SUCCESS:
                run.error = rv
                return FRONT_ERROR
            continue
        e = APR_BRIGADE_FIRST(run.in_)
        if APR_BUCKET_IS_EOS(e):
            run.ended = run.progress = 1
            return FRONT_END
        if APR_BUCKET_IS_METADATA(e):
            APR_BUCKET_REMOVE(e)
            APR_BRIGADE_INSERT_TAIL(run.out, e)
            continue
        rv = apr_bucket_read(e, data, length, run.block)
        if APR_STATUS_IS_EAGAIN(rv):
            run.again = 1
            return FRONT_NOTHING
        if rv != APR_SUCCESS:
            run.error = rv
            return FRONT_ERROR
        if length[0]:
            run.progress = 1
            return FRONT_DATA
        apr_bucket_delete(e)


cdef int front(mp_filter_run *run, const char **data, apr_size_t *length) noexcept nogil:
    if run.is_input:
        return input_front(run, data, length)
    return output_front(run, data, length)


cdef int consume(mp_filter_run *run, apr_size_t count, apr_size_t length) noexcept nogil:
    """Take bytes away from the first bucket, whose length is known by now."""
    cdef apr_bucket *e = APR_BRIGADE_FIRST(run.in_)
    cdef apr_status_t rv = APR_SUCCESS
    if count < length:
        rv = apr_bucket_split(e, count)
        if rv != APR_SUCCESS:
            run.error = rv
            return -1
    apr_bucket_delete(e)
    return 0


cdef apr_size_t at_hand(mp_filter_run *run, apr_size_t most) noexcept nogil:
    """How much data there may be before the next mark, up to a limit."""
    cdef apr_bucket *e = APR_BRIGADE_FIRST(run.in_)
    cdef apr_size_t total = 0
    while e != APR_BRIGADE_SENTINEL(run.in_) and not APR_BUCKET_IS_METADATA(e):
        if e.length == UNKNOWN_LENGTH or most - total <= e.length:
            return most
        total += e.length
        e = APR_BUCKET_NEXT(e)
    return total


cdef apr_size_t at_once(mp_filter_run *run) noexcept nogil:
    """How much to read without a length: what there may be before the next mark.

    What is on disk counts if it is short.  What a program has not said yet does not.
    """
    cdef apr_bucket *e = APR_BRIGADE_FIRST(run.in_)
    cdef apr_size_t total = 0, most = LONGEST
    if run.large:
        return at_hand(run, PIECE)
    while e != APR_BRIGADE_SENTINEL(run.in_) and not APR_BUCKET_IS_METADATA(e):
        if e.length == UNKNOWN_LENGTH:
            return min(total + PIECE, most)
        if e.length > most - total:
            if in_memory(e):
                return most
            run.large = 1
            return at_hand(run, PIECE)
        total += e.length
        e = APR_BUCKET_NEXT(e)
    return total


cdef apr_size_t gather(mp_filter_run *run, char *to, apr_size_t most) noexcept nogil:
    """Copy data from the front, up to the next mark; the first bucket was read."""
    cdef apr_bucket *e
    cdef const char *data
    cdef apr_size_t length, count, done = 0
    while done < most and not APR_BRIGADE_EMPTY(run.in_):
        e = APR_BRIGADE_FIRST(run.in_)
        # A read that fails or would have to wait does so again when it is next.
        if APR_BUCKET_IS_METADATA(e) \
                or apr_bucket_read(e, &data, &length, APR_NONBLOCK_READ) != APR_SUCCESS:
            break
        count = min(length, most - done)
        memcpy(to + done, data, count)
        done += count
        if consume(run, count, length) < 0:
            break
    return done


cdef class Filter:
    """A filter, as given to filter functions.

    Data goes through it in calls: each time something comes along, the function is
    called, reads with ``read()`` or ``readline()`` what there is, and writes what
    shall go on.  ``None`` from a reading method is the end of the stream.

    It can be used only while its function runs; later, reading and writing
    raise ``apache.DetachedError``.
    """
    cdef mp_filter_run *run
    cdef Entry entry
    cdef object spec                # the Handler
    cdef str _name
    cdef bint input_, at_connection
    cdef bint active                # the function runs
    cdef bint busy                  # a thread is inside a method
    cdef bint closed_
    cdef bint has_request           # the request object was asked for in this call
    cdef int users
    cdef unsigned long outer_thread
    cdef int softspace_
    cdef object ctx_

    def __init__(self):
        raise TypeError("cannot create 'mp_filter' instances")

    # -- life -----------------------------------------------------------------

    cdef void attach(self, mp_filter_run *run, Entry entry, spec, str name):
        self.run = run
        self.entry = entry
        self.spec = spec
        self._name = name
        self.input_ = run.is_input
        self.at_connection = run.f.r == NULL
        mp_count_wrappers(1)

    cdef void settle(self):
        """The function has returned; let other threads that it began leave."""
        cdef timespec pause
        pause.tv_sec = 0
        pause.tv_nsec = 1000000
        self.active = False
        while self.users:
            with nogil:
                nanosleep(&pause, NULL)

    cdef int detach(self) except -1:
        if self.run == NULL:
            return 0
        self.settle()
        self.run = NULL
        mp_count_wrappers(-1)
        return 0

    cdef mp_filter_run *rec(self) except NULL:
        if self.run == NULL:
            raise DetachedError("the stream of this filter has ended")
        return self.run

    cdef mp_filter_run *claim(self, str what, bint open_=True) except NULL:
        if open_ and self.closed_:
            raise ValueError("I/O operation on closed filter")
        if not self.active:
            raise DetachedError("cannot %s: a filter can be used only while its function runs" % what)
        if self.busy:
            raise RuntimeError("another thread is using this filter")
        self.busy = True
        self.users += 1
        return self.run

    cdef void release(self):
        self.busy = False
        self.users -= 1

    # -- reading --------------------------------------------------------------

    cdef int look(self, mp_filter_run *run, const char **data, apr_size_t *length) except -3:
        """The front of the input, without the GIL if that may take time."""
        cdef apr_bucket *e
        cdef int found
        if not APR_BRIGADE_EMPTY(run.in_):
            e = APR_BRIGADE_FIRST(run.in_)
            if in_memory(e) and e.length:
                apr_bucket_read(e, data, length, APR_NONBLOCK_READ)
                run.progress = 1
                return FRONT_DATA
        elif not run.is_input:
            return FRONT_NOTHING
        with nogil:
            mp_gate_out()
            found = front(run, data, length)
            mp_gate_in()
        if found == FRONT_ERROR:
            self.fail(run.error, "Input filter read error" if run.is_input
                      else "Output filter read error")
        return found

    cdef int fail(self, apr_status_t rv, str text) except -1:
        if APR_STATUS_IS_TIMEUP(rv):
            raise ConnectionTimeout(text)
        raise ConnectionClosed(text)

    def read(self, Py_ssize_t length=-1):
        """Read data that comes from the previous filter.

        Args:
            length: at most that many bytes; negative or left out: what this call has
                brought, up to the next flush mark.  Of data in memory 8 MiB at most; a
                longer file comes in pieces of 64 KiB.
        Returns:
            bytes; b"" if there is no more in this call, None at the end of the
            stream.
        Raises:
            OSError: reading failed ("Input filter read error").
            ValueError: the filter is closed.
            DetachedError: the function of this filter has returned.
        """
        cdef mp_filter_run *run = self.claim("read")
        cdef const char *data
        cdef apr_size_t count, here, got
        cdef bytes result
        cdef char *to
        cdef int found
        try:
            if length == 0:
                return b""
            found = self.look(run, &data, &count)
            if found != FRONT_DATA:
                return None if found == FRONT_END else b""
            run.touched = run.took = 1
            here = count
            count = at_once(run) if length < 0 else at_hand(run, min(length, LONGEST))
            result = PyBytes_FromStringAndSize(NULL, count)
            to = PyBytes_AS_STRING(result)
            # All of it in one bucket that is not on disk.
            if count <= SHORT_COPY and count <= here and in_memory(APR_BRIGADE_FIRST(run.in_)):
                got = gather(run, to, count)
            else:
                with nogil:
                    mp_gate_out()
                    got = gather(run, to, count)
                    mp_gate_in()
            return result if got == count else result[:got]
        finally:
            self.release()

    def readline(self, Py_ssize_t length=-1):
        """Read up to and including the next b"\\n".

        A line may come in parts: at the end of what a call brings, at a flush mark,
        and after 1 MiB.

        Args:
            length: if positive, at most that many bytes.
        Returns:
            bytes; b"" if there is no more in this call, None at the end of the
            stream.
        Raises:
            OSError, ValueError, DetachedError: as for read.
        """
        cdef mp_filter_run *run = self.claim("read")
        cdef const char *data
        cdef const char *newline
        cdef apr_size_t count, here, most
        cdef apr_size_t done = 0
        cdef bytes part
        cdef list parts = None
        cdef int found
        try:
            if length == 0:
                return b""
            most = LINE_PIECE if length < 0 else min(length, LINE_PIECE)
            while True:
                found = self.look(run, &data, &count)
                if found != FRONT_DATA:
                    if parts:
                        break
                    return None if found == FRONT_END else b""
                run.touched = run.took = 1
                here = min(count, most - done)
                newline = <const char *> memchr(data, 10, here)
                if newline != NULL:
                    here = newline + 1 - data
                part = PyBytes_FromStringAndSize(data, here)
                done += here
                if consume(run, here, count) < 0:
                    self.fail(run.error, "filter read error")
                if newline != NULL or done == most:
                    if parts is None:
                        return part
                    parts.append(part)
                    break
                if parts is None:
                    parts = []
                parts.append(part)
                if APR_BRIGADE_EMPTY(run.in_) or APR_BUCKET_IS_METADATA(APR_BRIGADE_FIRST(run.in_)):
                    break
            return b"".join(parts)
        finally:
            self.release()

    # -- writing --------------------------------------------------------------

    def write(self, data):
        """Queue data for the next filter.

        It is passed on when the function returns, at a flush mark, and when there is
        much of it.

        Args:
            data: bytes-like, or str, which is encoded as UTF-8.
        Raises:
            OSError: the data could not be passed on ("Write failed.").
            ValueError: the filter is closed.
            DetachedError: the function of this filter has returned.
        """
        cdef Py_buffer view
        cdef const char *text
        cdef Py_ssize_t length
        if isinstance(data, str):
            text = PyUnicode_AsUTF8AndSize(data, &length)
            self.put(text, length)
        elif PyBytes_CheckExact(data):
            self.put(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        else:
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            try:
                self.put(<const char *> view.buf, view.len)
            finally:
                PyBuffer_Release(&view)

    cdef int put(self, const char *data, size_t n) except -1:
        cdef mp_filter_run *run = self.claim("write")
        cdef apr_status_t rv
        try:
            if n == 0:
                return 0
            run.touched = run.progress = run.gave = 1
            if run.is_input or run.queued + n <= QUEUE_BOUND:
                if apr_brigade_write(run.out, NULL, NULL, data, n) != APR_SUCCESS:
                    raise MemoryError("no memory for a filter's data")
                run.queued += n
                return 0
            with nogil:
                mp_gate_out()
                APR_BRIGADE_INSERT_TAIL(run.out, apr_bucket_transient_create(
                    data, n, run.f.c.bucket_alloc))
                rv = pass_queue(run)
                mp_gate_in()
            if rv != APR_SUCCESS:
                self.fail(rv, "Write failed.")
            return 0
        finally:
            self.release()

    cdef int send(self, mp_filter_run *run, apr_bucket *mark) except -1:
        cdef apr_status_t rv
        if mark != NULL:
            APR_BRIGADE_INSERT_TAIL(run.out, mark)
        if APR_BRIGADE_EMPTY(run.out):
            return 0
        with nogil:
            mp_gate_out()
            rv = pass_queue(run)
            mp_gate_in()
        if rv != APR_SUCCESS:
            self.fail(rv, "Flush failed.")
        return 0

    def flush(self):
        """Pass on what is queued, with a flush mark.

        An input filter's data is handed out when the function returns; there it does
        nothing.

        Raises:
            OSError: it could not be passed on ("Flush failed.").
        """
        cdef mp_filter_run *run = self.claim("flush", False)
        try:
            if not run.is_input and not self.closed_:
                run.touched = 1
                self.send(run, apr_bucket_flush_create(run.f.c.bucket_alloc))
        finally:
            self.release()

    def close(self):
        """Pass on what is queued and end the stream; what comes after is dropped.

        A second call does nothing.

        Raises:
            OSError: it could not be passed on ("Flush failed.").
        """
        cdef mp_filter_run *run
        if self.closed_:
            return
        run = self.claim("close")
        try:
            self.closed_ = True
            run.closed = run.touched = 1
            if run.is_input:
                return
            if self.at_connection:
                run.f.c.keepalive = AP_CONN_CLOSE
                self.send(run, NULL)
            else:
                self.send(run, apr_bucket_eos_create(run.f.c.bucket_alloc))
        finally:
            self.release()

    def pass_on(self):
        """Let what this call has brought, and was not read, through as it is."""
        cdef mp_filter_run *run = self.claim("pass on", False)
        cdef const char *data
        cdef apr_size_t length
        cdef apr_bucket *e
        cdef apr_status_t rv = APR_SUCCESS
        try:
            if self.closed_:
                return
            if run.is_input:
                if self.look(run, &data, &length) != FRONT_DATA:
                    return
                with nogil:
                    rv = mp_keep_buckets(run.in_, run.f.r.pool if run.f.r != NULL
                                         else run.f.c.pool)
                if rv != APR_SUCCESS:
                    run.error = rv
                    self.fail(rv, "Input filter read error")
            else:
                run.borrowed = 1
            while not APR_BRIGADE_EMPTY(run.in_):
                e = APR_BRIGADE_FIRST(run.in_)
                if APR_BUCKET_IS_EOS(e) and not self.at_connection:
                    break
                APR_BUCKET_REMOVE(e)
                APR_BRIGADE_INSERT_TAIL(run.out, e)
        finally:
            self.release()

    def disable(self):
        """Call the function no more; from here on data passes through as it is."""
        cdef mp_filter_run *run = self.claim("disable", False)
        run.disabled = 1
        self.release()

    def _drop_queued(self):
        """Forget what was written and not passed on."""
        cdef mp_filter_run *run = self.claim("write", False)
        apr_brigade_cleanup(run.out)
        run.queued = 0
        self.release()

    # -- facts ----------------------------------------------------------------

    @property
    def name(self):
        """Name of the filter; in lower case if the configuration has it."""
        return self._name

    @property
    def req(self):
        """The request, or None for a filter of a connection."""
        cdef mp_filter_run *run = self.rec()
        if self.at_connection:
            return None
        self.has_request = True
        return self.entry.request(run.f.r)

    @property
    def connection(self):
        """The connection."""
        return self.entry.connection(self.rec().f.c)

    @property
    def is_input(self):
        """1 for an input filter, else 0."""
        return 1 if self.input_ else 0

    @property
    def handler(self):
        """The handler string, or the callable that was registered."""
        return self.spec.text if self.spec.function is None else self.spec.function

    @property
    def dir(self):
        """The handler directory, or None."""
        return self.spec.directory

    @property
    def parent(self):
        """Entry of the handler that registered this filter, or None."""
        if self.spec.parent is None:
            return None
        from mod_python._dispatch.hlist import mp_hlist
        return mp_hlist([self.spec.parent])

    @property
    def closed(self):
        """1 once close() was called, else 0."""
        return 1 if self.closed_ else 0

    @property
    def ctx(self):
        """Anything that the function wants to find again in its next call; None at first."""
        return self.ctx_

    @ctx.setter
    def ctx(self, value):
        self.ctx_ = value

    @ctx.deleter
    def ctx(self):
        raise AttributeError("an attribute of a filter cannot be deleted")

    @property
    def softspace(self):
        """For old print statements."""
        return self.softspace_

    @softspace.setter
    def softspace(self, int value):
        self.softspace_ = value

    @softspace.deleter
    def softspace(self):
        raise AttributeError("an attribute of a filter cannot be deleted")

    @property
    def settings(self):
        """(debug, autoreload, python_path, pdb, importer_path) in force."""
        cdef mp_filter_run *run = self.rec()
        if self.at_connection:
            return self.entry.settings_of_server(run.f.c.base_server)
        return self.entry.settings_of_request(run.f.r)

    @property
    def _passed(self):
        """Whether something has gone to the next filter."""
        return self.rec().passed != 0

    @property
    def _lost(self):
        """Whether this call has read something and written nothing."""
        cdef mp_filter_run *run = self.rec()
        return run.took != 0 and run.gave == 0

    @property
    def _failed(self):
        """Whether reading or passing on has failed."""
        return self.rec().error != APR_SUCCESS

    def __repr__(self):
        return "<mp_filter %s %r%s>" % ("input" if self.input_ else "output", self._name,
                                        "" if self.run != NULL else ", gone")


# -- calls ----------------------------------------------------------------------

cdef Filter filter_of(Entry entry, mp_filter_run *run):
    """The object of a filter, the same one for each call."""
    cdef Filter found
    cdef const mp_section *section
    cdef bint is_location
    cdef request_rec *r = run.f.r
    if run.slot.object != NULL:
        return <Filter> run.slot.object
    section = run.handler.section
    is_location = section.kind in (MP_SECTION_LOCATION, MP_SECTION_LOCATION_MATCH)
    found = Filter.__new__(Filter)
    found.attach(run, entry, intern_handler(
        path_text(run.handler.text),
        None if is_location or r == NULL
        else path_text(mp_handler_directory(r.pool, section, r.filename)),
        path_text(mp_handler_location(r.pool, section, r.uri)) if is_location else None,
        is_location, False), path_text(run.name))
    Py_INCREF(found)
    run.slot.object = <void *> found
    return found


cdef int on_filter(Entry entry, mp_filter_run *run) except? -1000:
    """A call of a filter's function."""
    cdef Filter filt = filter_of(entry, run)
    cdef ConnectionFacts conn = None
    cdef unsigned long outer = 0
    cdef int status
    if filt.at_connection:
        # The thread may hold the connection's mutex.
        conn = known_connection(entry, run.f.c)
        if conn is not None:
            outer = conn.filter_thread
            conn.filter_thread = PyThread_get_thread_ident()
    filt.active = True
    try:
        status = entry.run_filter(filt, filt.spec)
    finally:
        filt.settle()
        if conn is not None:
            conn.filter_thread = outer
    if filt.has_request:
        filt.has_request = False
        drop_request(entry, run.f.r)
    if run.closed or run.disabled or run.last or (run.ended and APR_BRIGADE_EMPTY(run.in_)):
        # It will not be called again.
        run.slot.object = NULL
        Py_DECREF(filt)
        filt.detach()
    return status


cdef ConnectionFacts known_connection(Entry entry, conn_rec *c):
    cdef mp_slot *slot = mp_conn_slot(c, entry.interp)
    return <ConnectionFacts> slot.object if slot != NULL and slot.object != NULL else None


cdef int drop_request(Entry entry, request_rec *r) except -1:
    """Let go of a request's object that a filter has asked for and nobody kept.

    That saves a call into Python at the end of the request.
    """
    cdef mp_slot *slot = mp_request_slot(r, entry.interp)
    cdef Request req
    if slot == NULL or slot.object == NULL:
        return 0
    req = <Request> slot.object
    if mp_refcnt(req) == 2 and not req.running and not req.users and req.is_untouched():
        req.detach()
        slot.object = NULL
        Py_DECREF(req)
    return 0


# -- what a request's methods do ------------------------------------------------

cdef int register_filter(Request req, name, handler, directory, bint is_input) except -1:
    """req.register_input_filter(), req.register_output_filter()."""
    cdef bytes key = filter_name(name)
    from mod_python._dispatch.filtering import handler_for
    spec = handler_for(handler, directory)
    if req.filters is None:
        req.filters = {}
    req.filters[is_input, key] = (path_text(PyBytes_AS_STRING(path_bytes(name))), spec)
    return 0


cdef int add_filter(Request req, name, bint is_input) except -1:
    """req.add_input_filter(), req.add_output_filter()."""
    cdef request_rec *r = req.rec()
    cdef bytes key = filter_name(name), text
    cdef mp_filter_run *run
    cdef Filter filt
    if not req.running or req.busy:
        raise RuntimeError("filters can be added only while a handler of the request runs")
    found = None if req.filters is None else req.filters.get((is_input, key))
    if found is None:
        if not mp_add_known_filter(r, key, is_input):
            raise ValueError("there is no %s filter '%s': no module, directive or "
                             "register_%s_filter() has made one of that name"
                             % ("input" if is_input else "output", path_text(key),
                                "input" if is_input else "output"))
        return 0
    text = path_bytes(found[0])
    run = mp_add_own_filter(r, text, is_input, req.entry.interp)
    filt = Filter.__new__(Filter)
    filt.attach(run, req.entry, found[1], found[0])
    Py_INCREF(filt)
    run.slot.object = <void *> filt
    return 0


cdef bytes filter_name(name):
    """A filter's name as httpd knows it; upper and lower case make no difference."""
    cdef bytes text = path_bytes(name)
    if not text:
        raise ValueError("the name of a filter is empty")
    return text.lower()
