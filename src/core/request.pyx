# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Request: a view of a request_rec, and the input and output of a content
# handler.
#
# Output that is written without a flush is queued in a brigade, which the
# shell passes on after Python was left: a handler that just answers enters
# and leaves the interpreter once, and its answer leaves in one segment.

cdef class Request:
    """A request, as given to request handlers.

    Attributes that are not listed can be set freely; handlers of different
    phases pass data that way.  Once the request is over, what was set can still
    be read; everything else raises ``apache.DetachedError``.
    """
    cdef request_rec *r
    cdef Entry entry
    cdef object handlers            # the running phase's list, or None
    cdef str _phase
    cdef str _extension
    cdef dict __dict__
    cdef int users                  # threads inside I/O without the GIL
    cdef bint busy                  # ... of which one owns the filters
    cdef bint running               # a handler runs; else httpd owns the filters
    cdef Buffer inp
    cdef bint ended
    cdef apr_bucket_brigade *inb
    cdef apr_bucket_brigade *outb
    cdef apr_off_t queued
    cdef bint type_set
    cdef dict filters               # those registered, by (is_input, name); or None
    cdef Table config, options      # kept while somebody else has them, or they changed
    cdef mp_dir_conf *config_of
    cdef mp_dir_conf *options_of

    def __init__(self):
        raise TypeError("cannot create 'mp_request' instances")

    # -- life -----------------------------------------------------------------

    cdef void attach(self, request_rec *r, Entry entry):
        self.r = r
        self.entry = entry
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
        mp_count_brigades(-(self.inb != NULL) - (self.outb != NULL))
        self.inb = self.outb = NULL             # the pool frees them
        buffer_free(&self.inp)
        self.config = self.options = None       # they refer to us
        self.filters = None
        mp_count_wrappers(-1)
        return 0

    def __dealloc__(self):
        buffer_free(&self.inp)

    cdef request_rec *rec(self) except NULL:
        if self.r == NULL:
            raise DetachedError("this request is over and its record is gone")
        return self.r

    cdef void begin(self, str phase, const char *ext):
        self.running = True
        self._phase = phase
        self._extension = path_text(ext)

    cdef apr_bucket_brigade *end(self):
        cdef Table table
        # From here on the hook sends what is queued, without the GIL: a thread
        # that a handler left behind must not touch the same brigade.
        self.running = False
        self.wait_for_users()
        self._phase = None
        self.handlers = None
        if self.config is not None:
            table = self.config
            if mp_refcnt(table) == 2:           # ours and this function's
                self.config = None
        if self.options is not None:
            table = self.options
            if mp_refcnt(table) == 2 and not table.changed:
                self.options = None
        return self.outb

    cdef bint is_untouched(self):
        """Whether nothing on this object would be missed."""
        return not has_attributes(self) and not buffer_len(&self.inp) and not self.ended \
            and self.filters is None

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
        cdef request_rec *r = self.rec()
        if n == 0:
            return 0
        self.claim()
        try:
            self.queue(r)
            self.queued += n
            if not flush:
                if apr_brigade_write(self.outb, NULL, NULL, data, n) != APR_SUCCESS:
                    raise MemoryError("no memory for the response")
                return 0
            APR_BRIGADE_INSERT_TAIL(self.outb, apr_bucket_transient_create(
                data, n, r.connection.bucket_alloc))
            self.pass_on(r, "Write failed, client closed connection.")
        finally:
            self.busy = False
        return 0

    def flush(self):
        """Send what is queued.

        Raises:
            OSError: the client has gone ("Flush failed, client closed
                connection.").
        """
        cdef request_rec *r = self.rec()
        self.claim()
        try:
            self.queue(r)
            self.pass_on(r, "Flush failed, client closed connection.")
        finally:
            self.busy = False

    cdef int claim(self) except -1:
        if not self.running:
            raise RuntimeError("no handler of this request is running: it can be neither "
                               "read nor written now")
        if self.busy:
            raise RuntimeError("this request is being read or written already: by another thread, or "
                               "by the very call that this filter is part of (use filter.write)")
        self.busy = True
        return 0

    def _drop_queued(self):
        """Forget output that was queued and not sent."""
        self.rec()
        self.claim()
        if self.outb != NULL:
            apr_brigade_cleanup(self.outb)
        self.busy = False

    def _cut_off(self):
        """End a response that has begun and cannot be finished.

        The client must not take what it has for the whole, so the last chunk is
        left out and the connection closed: what httpd's chunk filter does when
        it meets this error bucket, which mod_proxy sends if a backend breaks.
        """
        cdef request_rec *r = self.rec()
        self.claim()
        self.queue(r)
        apr_brigade_cleanup(self.outb)
        r.connection.keepalive = AP_CONN_CLOSE
        APR_BRIGADE_INSERT_TAIL(self.outb, ap_bucket_error_create(
            HTTP_BAD_GATEWAY, NULL, r.pool, r.connection.bucket_alloc))
        APR_BRIGADE_INSERT_TAIL(self.outb, apr_bucket_eos_create(r.connection.bucket_alloc))
        self.users += 1
        with nogil:
            ap_pass_brigade(r.output_filters, self.outb)
            apr_brigade_cleanup(self.outb)
        self.users -= 1
        self.busy = False

    cdef void queue(self, request_rec *r):
        if self.outb == NULL:
            self.outb = apr_brigade_create(r.pool, r.connection.bucket_alloc)
            mp_count_brigades(1)

    cdef int pass_on(self, request_rec *r, str failed) except -1:
        cdef apr_status_t rv
        APR_BRIGADE_INSERT_TAIL(self.outb, apr_bucket_flush_create(
            r.connection.bucket_alloc))
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
        if rv != APR_SUCCESS:
            self.ended = True
            if APR_STATUS_IS_TIMEUP(rv):
                raise ConnectionTimeout("Client read error (Timeout?)")
            if APR_STATUS_IS_EOF(rv) or rv == APR_INCOMPLETE or r.connection.aborted \
                    or APR_STATUS_IS_ECONNRESET(rv) or APR_STATUS_IS_ECONNABORTED(rv):
                raise ConnectionClosed("Client read error (the client has gone)")
            status = ap_map_http_request_error(rv, HTTP_BAD_REQUEST)
            if status == AP_FILTER_ERROR:
                # httpd's input filter has answered already; nothing may follow.
                if r.eos_sent or r.sent_bodyct or r.bytes_sent:
                    self._drop_queued()
                    status = DONE
                else:
                    status = HTTP_BAD_REQUEST
            raise SERVER_RETURN(status)
        return buffer_len(&self.inp) - before

    def read(self, Py_ssize_t length=-1):
        """Read the request body.

        Args:
            length: at most that many bytes; negative or left out: all that is
                left.
        Returns:
            bytes; b"" at the end of the body.
        Raises:
            OSError: time-out or broken connection.
            SERVER_RETURN: httpd refuses the body, with the status to answer.
        """
        cdef size_t want
        self.rec()
        if length == 0:
            return b""
        while (length < 0 or buffer_len(&self.inp) < <size_t> length) and self.fill():
            pass
        want = buffer_len(&self.inp)
        if 0 < length < <Py_ssize_t> want:
            want = length
        return buffer_take(&self.inp, want) if want else b""

    def readline(self, Py_ssize_t length=-1):
        """Read one line of the request body, including its b"\\n".

        Args:
            length: if positive, at most that many bytes.
        Returns:
            bytes; b"" at the end of the body.
        """
        cdef size_t have, scanned = 0
        cdef char *found
        self.rec()
        if length == 0:
            return b""
        while True:
            have = buffer_len(&self.inp)
            if have > scanned:
                found = <char *> memchr(self.inp.data + self.inp.pos + scanned, 10,
                                        have - scanned)
                if found != NULL:
                    have = found + 1 - (self.inp.data + self.inp.pos)
                    break
                scanned = have
            if 0 < length <= <Py_ssize_t> have or self.fill() == 0:
                have = buffer_len(&self.inp)
                break
        if 0 < length < <Py_ssize_t> have:
            have = length
        return buffer_take(&self.inp, have) if have else b""

    def readlines(self, Py_ssize_t sizehint=-1):
        """Read lines of the request body until sizehint bytes are reached."""
        cdef Py_ssize_t size = 0
        lines = []
        while sizehint <= 0 or size < sizehint:
            line = self.readline()
            if not line:
                break
            lines.append(line)
            size += len(line)
        return lines

    def __iter__(self):
        self.rec()
        return self

    def __next__(self):
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    # -- links ----------------------------------------------------------------

    @property
    def connection(self):
        """The connection."""
        return self.entry.connection(self.rec().connection)

    @property
    def server(self):
        """The virtual host that handles the request."""
        return self.entry.server(self.rec().server)

    @property
    def next(self):
        """The request this one was internally redirected to, or None."""
        return self.entry.request(self.rec().next)

    @property
    def prev(self):
        """The request this one was internally redirected from, or None."""
        return self.entry.request(self.rec().prev)

    @property
    def main(self):
        """The main request if this is a sub-request, else None."""
        return self.entry.request(self.rec().main)

    @property
    def hlist(self):
        """The list of handlers of the running phase, or None."""
        self.rec()
        return self.handlers

    @property
    def _hlist(self):
        """The same, for the dispatcher, which sets it."""
        self.rec()
        return self.handlers

    @_hlist.setter
    def _hlist(self, value):
        self.handlers = value

    @property
    def phase(self):
        """Directive name of the running phase, or None."""
        self.rec()
        return self._phase

    @property
    def extension(self):
        """The extension that chose the handlers, or None."""
        self.rec()
        return self._extension

    @property
    def interpreter(self):
        """Name of the interpreter."""
        self.rec()
        return self.entry.name

    @property
    def settings(self):
        """(debug, autoreload, python_path, pdb, importer_path) in force."""
        return self.entry.settings_of_request(self.rec())

    # -- the request line and headers -----------------------------------------

    @property
    def the_request(self):
        """First line of the request."""
        return latin1(self.rec().the_request)

    @property
    def method(self):
        """Request method."""
        return latin1(self.rec().method)

    @property
    def method_number(self):
        """Request method, one of M_*."""
        return self.rec().method_number

    @property
    def protocol(self):
        """Such as "HTTP/1.1"."""
        return latin1(self.rec().protocol)

    @property
    def proto_num(self):
        """1000 * major + minor version."""
        return self.rec().proto_num

    @property
    def header_only(self):
        """1 for HEAD."""
        return self.rec().header_only

    @property
    def hostname(self):
        """Host from the URI or the Host header, or None."""
        return latin1(self.rec().hostname)

    @property
    def request_time(self):
        """Start of the request, seconds since the epoch as float."""
        return seconds_of(self.rec().request_time)

    @property
    def unparsed_uri(self):
        """The URI as sent."""
        return path_text(self.rec().unparsed_uri)

    @property
    def uri(self):
        """Path of the URI."""
        return path_text(self.rec().uri)

    @property
    def filename(self):
        """Name of the file, or None before translation."""
        return path_text(self.rec().filename)

    @property
    def path_info(self):
        """What follows the file in the path, or None."""
        return path_text(self.rec().path_info)

    @property
    def args(self):
        """Query string as sent, or None."""
        return path_text(self.rec().args)

    @property
    def user(self):
        """Authenticated user, or None."""
        return latin1(self.rec().user)

    @property
    def headers_in(self):
        """Table of the request's headers."""
        self.rec()
        return view_table(self, TABLE_HEADERS_IN)

    @property
    def headers_out(self):
        """Table of the response's headers."""
        self.rec()
        return view_table(self, TABLE_HEADERS_OUT)

    @property
    def err_headers_out(self):
        """Table of response headers that error responses keep."""
        self.rec()
        return view_table(self, TABLE_ERR_HEADERS_OUT)

    @property
    def subprocess_env(self):
        """Table of CGI variables."""
        self.rec()
        return view_table(self, TABLE_SUBPROCESS_ENV)

    @property
    def notes(self):
        """Table of notes between modules."""
        self.rec()
        return view_table(self, TABLE_NOTES)

    @property
    def useragent_ip(self):
        """Address of the user agent, as other modules may have set it."""
        return latin1(self.rec().useragent_ip)

    # -- the response ---------------------------------------------------------

    @property
    def status(self):
        """Status for the status line, initially 200.

        Raises:
            ValueError: assigned a number that is no HTTP status.
        """
        return self.rec().status

    @status.setter
    def status(self, int value):
        cdef request_rec *r = self.rec()
        if not 100 <= value <= 999:
            raise ValueError("req.status must be an HTTP status, 100 to 999, not %d" % value)
        if value != r.status:
            r.status = value
            r.status_line = NULL
            name_status(r, value)

    @property
    def status_line(self):
        """Status line, or None until it was set or sent."""
        return latin1(self.rec().status_line)

    @property
    def content_type(self):
        """Content type of the response, or None."""
        return latin1(self.rec().content_type)

    @content_type.setter
    def content_type(self, value):
        cdef request_rec *r = self.rec()
        cdef bytes text
        if value is None:
            ap_set_content_type(r, NULL)
        else:
            text = latin1_bytes(value)
            if has_line_end(text):
                raise ValueError("a content type cannot contain a line break: %.60r" % value)
            ap_set_content_type(r, apr_pstrdup(r.pool, text))
        self.type_set = True

    @property
    def _content_type_set(self):
        """1 once Python code assigned content_type."""
        self.rec()
        return 1 if self.type_set else 0

    @property
    def handler(self):
        """Name of the content handler, or None."""
        return latin1(self.rec().handler)

    @property
    def clength(self):
        """Length of the response body, if known."""
        return self.rec().clength

    def set_content_length(self, length):
        """Set the Content-Length of the response (ap_set_content_length).

        Args:
            length: bytes, 0 or more; before the first output.
        """
        cdef apr_off_t n = length
        if n < 0:
            raise ValueError("a content length cannot be negative")
        ap_set_content_length(self.rec(), n)

    @property
    def sent_bodyct(self):
        """Non-zero once part of the body was sent."""
        return self.rec().sent_bodyct

    @property
    def bytes_sent(self):
        """Bytes of the body sent."""
        return self.rec().bytes_sent

    @property
    def _bytes_queued(self):
        """Bytes given to write() so far."""
        self.rec()
        return self.queued

    @property
    def chunked(self):
        """1 if the response uses chunked coding."""
        return self.rec().chunked

    def send_http_header(self):
        """Does nothing; kept for old code."""
        self.rec()

    # -- filters (filter.pyx) -------------------------------------------------

    def register_input_filter(self, name, filter, dir=None):
        """Define an input filter for this request; add_input_filter() puts it to work.

        Args:
            name: its name; upper and lower case make no difference.
            filter: ``module[::object]``, or a callable that takes the filter object.
            dir: directory in which to look for the module; by default that of the
                handler that makes the call.
        """
        self.rec()
        register_filter(self, name, filter, dir, True)

    def register_output_filter(self, name, filter, dir=None):
        """Define an output filter for this request; add_output_filter() puts it to work.

        Args:
            name, filter, dir: as for register_input_filter.
        """
        self.rec()
        register_filter(self, name, filter, dir, False)

    def add_input_filter(self, name):
        """Put a filter into the chain that the request's body is read through.

        Args:
            name: one that was registered on this request, or any that httpd knows.
        Raises:
            ValueError: there is no such filter.
        """
        add_filter(self, name, True)

    def add_output_filter(self, name):
        """Put a filter into the chain that the response is written through.

        Args:
            name: as for add_input_filter.
        Raises:
            ValueError: there is no such filter.
        """
        add_filter(self, name, False)

    # -- configuration and logging --------------------------------------------

    def get_config(self):
        """Table of the Python settings in force for the request."""
        cdef request_rec *r = self.rec()
        cdef mp_dir_conf *conf = mp_dir_conf_of(r)
        if self.config is None or self.config_of != conf:
            self.config = fixed_table(self, mp_config_table(r.pool, conf))
            self.config_of = conf
        return self.config

    def get_options(self):
        """Table of the PythonOptions in force for the request.

        Changes to it last as long as the request.
        """
        cdef request_rec *r = self.rec()
        cdef mp_dir_conf *conf = mp_dir_conf_of(r)
        if self.options is None or self.options_of != conf:
            self.options = fixed_table(self, mp_options_table(r.pool, conf.options))
            self.options_of = conf
        return self.options

    def document_root(self):
        """DocumentRoot of the server."""
        return path_text(ap_document_root(self.rec()))

    def is_https(self):
        """1 if the connection uses TLS, else 0."""
        return 1 if ap_ssl_conn_is_ssl(self.rec().connection) else 0

    def ssl_var_lookup(self, name):
        """Value of a mod_ssl variable, or None."""
        cdef request_rec *r = self.rec()
        cdef bytes key = latin1_bytes(name)
        cdef const char *value = ap_ssl_var_lookup(r.pool, r.server, r.connection, r, key)
        return latin1(value) if value != NULL and value[0] else None

    def log_error(self, message, int level=3):
        """Write a message to the error log, in this request's context.

        Text of several lines makes several entries, and so does a very long line.

        Args:
            message: what to log; None logs nothing.
            level: one of APLOG_*; APLOG_ERR if left out.
        """
        cdef bytes text
        cdef const char *line
        cdef int severity = level & 15
        cdef list lines = log_lines_of(message) if message is not None else []
        cdef request_rec *r = self.rec()
        self.users += 1
        for text in lines:
            line = text
            with nogil:
                mp_log_request(r, severity, line)
        self.users -= 1

    def __repr__(self):
        if self.r == NULL:
            return "<mp_request, gone>"
        return "<mp_request %s %s>" % (latin1(self.r.method), path_text(self.r.unparsed_uri))


cdef void name_status(request_rec *r, int status):
    """Give a status that httpd has no reason phrase for a status line.

    Without one httpd would send 500 in its place.
    """
    cdef bytes line
    cdef const char *known
    if r.status_line != NULL:
        return
    known = ap_get_status_line(status)
    line = b"%d" % status
    if strncmp(known, line, 3) != 0:
        line += b" I'm a teapot" if status == 418 else b" Unassigned"
        r.status_line = apr_pstrdup(r.pool, line)
