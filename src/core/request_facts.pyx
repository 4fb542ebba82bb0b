# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# RequestFacts: the members of a request that are fields of its record.
#
# A str that is assigned is copied into the record's pool, so that it lives as
# long as the record.  What becomes part of a header or of a request line to a
# backend may not contain a line break.

@cython.internal
cdef class RequestFacts(RequestIO):
    """The fields of a request's record."""

    # -- the request line and headers -------------------------------------------

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
    def assbackwards(self):
        """1 for an HTTP/0.9 request; set to 1 to send no response headers."""
        return self.rec().assbackwards

    @assbackwards.setter
    def assbackwards(self, value):
        self.to_change().assbackwards = flag_of(value, "assbackwards")

    @property
    def proxyreq(self):
        """One of PROXYREQ_*.  Set it with uri, filename and handler to have
        mod_proxy take the request.
        """
        return self.rec().proxyreq

    @proxyreq.setter
    def proxyreq(self, value):
        self.to_change().proxyreq = number_of(value, "proxyreq", 0, 3)

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
    def range(self):
        """The Range header, or None."""
        return latin1(self.rec().range)

    @property
    def unparsed_uri(self):
        """The URI as sent."""
        return path_text(self.rec().unparsed_uri)

    @property
    def uri(self):
        """Path of the URI, decoded."""
        return path_text(self.rec().uri)

    @uri.setter
    def uri(self, value):
        self.rec().uri = self.kept(path_bytes(value))

    @property
    def filename(self):
        """Name of the file, or None: before translation, and for what has no file."""
        cdef const char *name = self.rec().filename
        return None if name == NULL or not name[0] else path_text(name)

    @filename.setter
    def filename(self, value):
        self.rec().filename = self.kept(path_bytes(value))

    @property
    def canonical_filename(self):
        """Name of the file in its true spelling, or None."""
        return path_text(self.rec().canonical_filename)

    @canonical_filename.setter
    def canonical_filename(self, value):
        self.rec().canonical_filename = self.kept(path_bytes(value))

    @property
    def path_info(self):
        """What follows the file in the path, or None."""
        return path_text(self.rec().path_info)

    @path_info.setter
    def path_info(self, value):
        self.rec().path_info = self.kept(path_bytes(value))

    @property
    def args(self):
        """Query string as sent, or None."""
        return path_text(self.rec().args)

    @args.setter
    def args(self, value):
        cdef bytes text
        if value is None:
            self.to_change().args = NULL
            return
        text = path_bytes(value)
        if has_line_end(text):
            raise ValueError("a query string cannot contain a line break: %.60r" % value)
        self.rec().args = self.kept(text)

    @property
    def parsed_uri(self):
        """The URI as sent, in parts: (scheme, hostinfo, user, password, hostname,
        port, path, query, fragment); missing ones are None.  See URI_*."""
        cdef apr_uri_t *u = &self.rec().parsed_uri
        return (path_text(u.scheme), path_text(u.hostinfo), path_text(u.user),
                path_text(u.password), path_text(u.hostname),
                u.port if u.port_str != NULL else None,
                path_text(u.path), path_text(u.query), path_text(u.fragment))

    @property
    def used_path_info(self):
        """Whether path_info is accepted, one of AP_REQ_*_PATH_INFO."""
        return self.rec().used_path_info

    @used_path_info.setter
    def used_path_info(self, value):
        self.to_change().used_path_info = number_of(value, "used_path_info", 0, 2)

    @property
    def finfo(self):
        """Information on the file, a copy of httpd's."""
        return finfo_of(&self.rec().finfo)

    @finfo.setter
    def finfo(self, value):
        cdef request_rec *r = self.to_change()
        if not isinstance(value, Finfo):
            raise TypeError("req.finfo must be a file information (apache.stat()), not %s"
                            % type(value).__name__)
        (<Finfo> value).store(&r.finfo, r.pool)

    # -- the client -------------------------------------------------------------

    @property
    def user(self):
        """Authenticated user, or None."""
        return latin1(self.rec().user)

    @user.setter
    def user(self, value):
        if value is None:
            self.to_change().user = NULL
        else:
            self.rec().user = self.kept(latin1_bytes(value))

    @property
    def ap_auth_type(self):
        """How the user was authenticated, or None."""
        return latin1(self.rec().ap_auth_type)

    @ap_auth_type.setter
    def ap_auth_type(self, value):
        if value is None:
            self.to_change().ap_auth_type = NULL
        else:
            self.rec().ap_auth_type = self.kept(one_line(value, "an authentication type"))

    @property
    def useragent_ip(self):
        """Address of the user agent, as other modules may have set it."""
        return latin1(self.rec().useragent_ip)

    @property
    def useragent_addr(self):
        """(address, port) of the user agent, as other modules may have set it."""
        cdef request_rec *r = self.rec()
        return (latin1(r.useragent_ip),
                r.useragent_addr.port if r.useragent_addr != NULL else 0)

    # -- tables -----------------------------------------------------------------

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
        """Table of CGI variables; a mapping that is assigned replaces its content."""
        self.rec()
        return view_table(self, TABLE_SUBPROCESS_ENV)

    @subprocess_env.setter
    def subprocess_env(self, value):
        cdef Table table, new
        self.to_change()
        if value is None:
            raise TypeError("req.subprocess_env must be a table or mapping, not None")
        new = Table(value)              # first, since it may be the same table
        table = view_table(self, TABLE_SUBPROCESS_ENV)
        table.clear()
        table.append(new)

    @property
    def notes(self):
        """Table of notes between modules."""
        self.rec()
        return view_table(self, TABLE_NOTES)

    # -- the request body -------------------------------------------------------

    @property
    def remaining(self):
        """Bytes of the body still to be read; 0 if there is no Content-Length."""
        cdef request_rec *r = self.rec()
        cdef const char *text
        if is_chunked(r):
            return 0
        text = apr_table_get(r.headers_in, "Content-Length")
        if text == NULL or not text[0] or strspn(text, "0123456789") != strlen(text):
            return 0
        return max(0, int(text) - r.read_length)

    @property
    def read_length(self):
        """Bytes of the body read so far."""
        return self.rec().read_length

    @property
    def read_body(self):
        """How httpd was told to treat the body, one of REQUEST_*.  Handlers in
        Python read every body, whatever it says."""
        return self.rec().read_body

    @property
    def read_chunked(self):
        """1 if the body has chunked coding."""
        return 1 if is_chunked(self.rec()) else 0

    @property
    def expecting_100(self):
        """1 if the client waits for "100 Continue"."""
        return 1 if self.rec().expecting_100 else 0

    # -- the response -----------------------------------------------------------

    @property
    def status(self):
        """Status for the status line, initially 200.

        Raises:
            ValueError: assigned a number that is no HTTP status.
        """
        return self.rec().status

    @status.setter
    def status(self, int value):
        cdef request_rec *r = self.to_change()
        if not 100 <= value <= 999:
            raise ValueError("req.status must be an HTTP status, 100 to 999, not %d" % value)
        if value != r.status:
            r.status = value
            r.status_line = NULL
            name_status(r, value)

    @property
    def status_line(self):
        """Status line such as "404 Not Found", or None until it was set or sent.

        Setting it sets ``status``, too.
        """
        return latin1(self.rec().status_line)

    @status_line.setter
    def status_line(self, value):
        cdef request_rec *r = self.to_change()
        cdef bytes text
        if value is None:
            r.status_line = NULL
            return
        text = one_line(value, "a status line")
        if not text[:3].isdigit() or not 100 <= int(text[:3]) or text[3:4] not in (b"", b" "):
            raise ValueError("a status line begins with a status of three digits and a "
                             "blank, as \"404 Not Found\" does: %.60r" % value)
        r.status = int(text[:3])
        r.status_line = self.kept(text)

    @property
    def content_type(self):
        """Content type of the response, or None."""
        return latin1(self.rec().content_type)

    @content_type.setter
    def content_type(self, value):
        cdef request_rec *r = self.to_change()
        if value is None:
            ap_set_content_type(r, NULL)
        else:
            ap_set_content_type(r, self.kept(one_line(value, "a content type")))
        self.slot.type_set = 1

    @property
    def _content_type_set(self):
        """1 once Python code assigned content_type."""
        self.rec()
        return self.slot.type_set

    @property
    def content_encoding(self):
        """Content encoding of the response, or None."""
        return latin1(self.rec().content_encoding)

    @property
    def content_languages(self):
        """Tuple of the languages of the response."""
        return strings_of(self.rec().content_languages)

    @property
    def handler(self):
        """Name of the content handler, or None."""
        return latin1(self.rec().handler)

    @handler.setter
    def handler(self, value):
        if value is None:
            self.to_change().handler = NULL
        else:
            self.rec().handler = self.kept(one_line(value, "a handler name"))

    @property
    def vlist_validator(self):
        """Variant list validator, or None."""
        return latin1(self.rec().vlist_validator)

    @property
    def no_cache(self):
        """Set to 1 to have the response not cached."""
        return self.rec().no_cache

    @no_cache.setter
    def no_cache(self, value):
        self.to_change().no_cache = flag_of(value, "no_cache")

    @property
    def no_local_copy(self):
        """Set to 1 to have conditional requests answered in full."""
        return self.rec().no_local_copy

    @no_local_copy.setter
    def no_local_copy(self, value):
        self.to_change().no_local_copy = flag_of(value, "no_local_copy")

    @property
    def mtime(self):
        """Modification time of the resource, seconds since the epoch as float;
        0.0 if unknown.
        """
        return seconds_of(self.rec().mtime)

    @property
    def clength(self):
        """Length of the response body, if known."""
        return self.rec().clength

    @property
    def chunked(self):
        """1 if the response uses chunked coding."""
        return self.rec().chunked

    @chunked.setter
    def chunked(self, value):
        self.to_change().chunked = flag_of(value, "chunked")

    @property
    def sent_bodyct(self):
        """Non-zero once part of the body was sent."""
        return self.rec().sent_bodyct

    @property
    def bytes_sent(self):
        """Bytes of the body sent."""
        return self.rec().bytes_sent

    @property
    def eos_sent(self):
        """1 once the end of the response was sent."""
        return 1 if self.rec().eos_sent else 0

    @property
    def _bytes_queued(self):
        """Bytes given to write() and sendfile() so far."""
        self.rec()
        return self.slot.queued

    @property
    def allowed(self):
        """Bit vector of the methods that are allowed."""
        return self.rec().allowed

    @property
    def allowed_methods(self):
        """Tuple of the allowed methods that httpd keeps by name."""
        cdef request_rec *r = self.rec()
        return strings_of(r.allowed_methods.method_list) if r.allowed_methods != NULL else ()

    @property
    def allowed_xmethods(self):
        """Tuple of the allowed extension methods."""
        return strings_of(self.rec().allowed_xmethods)

    @property
    def _request_rec(self):
        """Capsule of the C structure, named "mod_python.request_rec".

        For extension modules in C.  When the request is over, the capsule has
        another name, so that its pointer is not given out any more.
        """
        cdef request_rec *r = self.rec()
        if self.capsule is None:
            self.capsule = PyCapsule_New(r, "mod_python.request_rec", NULL)
        return self.capsule


cdef bint is_chunked(request_rec *r):
    cdef const char *text = apr_table_get(r.headers_in, "Transfer-Encoding")
    return text != NULL and latin1(text).lower().rpartition(",")[2].strip() == "chunked"


cdef int number_of(object value, str name, int low, int high) except? -1:
    """An int that was assigned to a member."""
    if not isinstance(value, int):
        raise TypeError("req.%s must be an int, not %s" % (name, type(value).__name__))
    if not low <= value <= high:
        raise ValueError("req.%s must be from %d to %d" % (name, low, high))
    return value


cdef int flag_of(object value, str name) except -1:
    """1 or 0 for an int that was assigned to a member."""
    if not isinstance(value, int):
        raise TypeError("req.%s must be an int, not %s" % (name, type(value).__name__))
    return 1 if value else 0


cdef bytes one_line(object value, str what):
    """Bytes of a text that becomes part of a header."""
    cdef bytes text = latin1_bytes(value)
    if has_line_end(text):
        raise ValueError("%s cannot contain a line break: %.60r" % (what, value))
    return text


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
