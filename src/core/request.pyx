# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Request: what handlers get.  Its members that are fields of the record are in
# request_facts.pyx, its input and output in request_io.pyx.

cdef class Request(RequestFacts):
    """A request, as given to request handlers.

    Attributes that are not listed can be set freely; handlers of different
    phases pass data that way.  Once the request is over, what was set can still
    be read; everything else raises ``apache.DetachedError``.
    """
    cdef object handlers            # the running phase's list, or None
    cdef str _phase
    cdef str _extension
    cdef dict __dict__
    cdef Table config, options      # kept while somebody else has them, or they changed
    cdef mp_dir_conf *config_of
    cdef mp_dir_conf *options_of
    cdef dict added                 # phase -> Handlers that were added to it, or None
    cdef list cleanups              # (callable, data) for the end, or None
    cdef dict filters               # those registered, by (is_input, name); or None
    cdef int wsgi_state             # one of WSGI_*; see request_wsgi.pyx
    cdef int wsgi_headers           # headers that were there before start_response()
    cdef apr_off_t wsgi_left        # of Content-Length; -1 if there is none
    cdef bint form_wanted           # the attribute form is made when it is first looked at

    def __init__(self):
        raise TypeError("cannot create 'mp_request' instances")

    def __delattr__(self, name):
        if hasattr(type(self), name):
            raise AttributeError("req.%s cannot be deleted" % name)
        PyObject_GenericSetAttr(self, name, NULL)

    # -- life -----------------------------------------------------------------

    cdef int detach(self) except -1:
        RequestIO.detach(self)
        self.config = self.options = None       # they refer to us
        self.filters = None
        return 0

    cdef void begin(self, str phase, const char *ext, bint with_io):
        self.running = with_io
        self.runner = pthread_self()
        self._phase = phase
        self._extension = path_text(ext)
        self.wsgi_state = WSGI_IDLE
        self.take_over()

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
            and self.added is None and self.cleanups is None and self.capsule is None \
            and self.filters is None and not (self.form_wanted and mp_seen_later(self.r))

    cdef int final_status(self, int status):
        """What httpd gets for an HTTP status that the handlers returned."""
        if self.is_complete():
            return DONE                 # no error page after a response
        name_status(self.r, status)
        return status

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

    def __getattr__(self, name):
        """What is not there: an error, but for the form of a published page."""
        if self.form_wanted and name == "form" and self.r != NULL:
            self.form_wanted = False
            from mod_python.util import FieldStorage
            form = self.form = FieldStorage(self, 1)
            return form
        raise AttributeError("'%s' object has no attribute '%s'" % (type(self).__name__, name))

    def _want_form(self):
        """Have the attribute form made, a FieldStorage, when it is first looked at."""
        self.rec()
        self.form_wanted = True

    def _guard_head(self, int what):
        """Have the headers seen to when they are sent: 1 for a response that sets a
        cookie, 2 for one that depends on a session, 4 if that was stored.  For
        sub-requests, those of the main request."""
        mp_guard_head(self.to_change(), what)

    # -- handlers and clean-ups that are added while the request is processed ---

    def add_handler(self, htype, handler, dir=None):
        """Add a handler to a phase, for the rest of this request.

        In the running phase it is appended to the list that runs; in another it
        runs after the handlers of the configuration.  In a phase that is over it
        has no effect.

        Args:
            htype: name of the phase's directive, such as "PythonHandler".
            handler: "module" or "module::object", or a callable.
            dir: directory in which the module is found; that of the handler
                that makes the call if left out.
        Raises:
            IndexError: there is no such phase, or nothing can be added to it.
        """
        self.rec()
        from mod_python._dispatch.dynamic import add_handler
        add_handler(self, htype, handler, dir)

    def _add_handler(self, str phase, handler):
        """Note a handler for another phase than the running one."""
        cdef request_rec *r = self.rec()
        cdef int index = self.entry.phase_names.index(phase)
        if self.added is None:
            self.added = {}
        self.added.setdefault(phase, []).append(handler)
        mp_add_dynamic(r, self.slot, <mp_phase> index)

    def register_cleanup(self, callable, data=None):
        """Have callable(data) called when the request has ended.

        The last one registered is called first, and all before
        PythonCleanupHandler; those that its handlers register, after it.  What
        they raise is logged.

        Args:
            callable: the function.
            data: its argument, for example the request.
        Raises:
            ValueError: callable is not callable.
        """
        cdef request_rec *r = self.rec()
        if not hasattr(callable, "__call__"):
            raise ValueError("register_cleanup: first argument must be callable, not %s"
                             % type(callable).__name__)
        if self.cleanups is None:
            self.cleanups = []
        mp_add_cleanups(r, self.slot)
        self.cleanups.append((callable, data))

    # -- what httpd works out -------------------------------------------------

    def add_common_vars(self):
        """Put httpd's common CGI variables into subprocess_env.

        ``HTTP_*`` for the headers except those of authorization, ``SERVER_*``,
        ``REMOTE_*``, ``DOCUMENT_ROOT``, ``SCRIPT_FILENAME`` and others.
        """
        common_variables(self, self.rec())

    def add_cgi_vars(self):
        """Put the CGI variables into subprocess_env: the common ones and
        ``GATEWAY_INTERFACE``, ``SERVER_PROTOCOL``, ``REQUEST_METHOD``,
        ``QUERY_STRING``, ``REQUEST_URI``, ``SCRIPT_NAME`` and, if there is path info,
        ``PATH_INFO``.

        ``SCRIPT_NAME`` is the URI's path without the path info.  ``REQUEST_URI`` has
        no query.  ``PATH_TRANSLATED`` is not set.
        """
        cdef request_rec *r
        cdef const char *uri
        self.add_common_vars()
        r = self.to_change()
        uri = or_empty(r.uri)
        if r.path_info != NULL and r.path_info[0]:
            cgi_variables(r, apr_pstrmemdup(r.pool, uri, ap_find_path_info(uri, r.path_info)),
                          r.path_info)
        else:
            cgi_variables(r, uri, NULL)

    def allow_methods(self, methods, reset=0):
        """Add methods to the Allow header of 405 and 501 responses.

        Nothing is allowed or forbidden by it.

        Args:
            methods: sequence of str.
            reset: if 1, forget those that were added before.
        Raises:
            TypeError: methods is no sequence of str.
            ValueError: one of them is no name of a method.
        """
        cdef request_rec *r = self.to_change()
        cdef list names = []
        cdef bytes name
        if isinstance(methods, (str, bytes)):
            raise TypeError("allow_methods() takes a sequence of str, not one str")
        for method in methods:
            if not isinstance(method, str):
                raise TypeError("allow_methods() takes a sequence of str, not of %s"
                                % type(method).__name__)
            name = latin1_bytes(method)
            if not name or strspn(name, METHOD_CHARACTERS) != <size_t> PyBytes_GET_SIZE(name):
                raise ValueError("%.60r is no name of a method" % method)
            names.append(name)
        if reset:
            ap_clear_method_list(r.allowed_methods)
        for name in names:              # httpd keeps the pointer it is given
            ap_method_list_add(r.allowed_methods, apr_pstrdup(r.pool, name))
        # httpd lists methods that it keeps by name only if this bit is set, too.
        if r.allowed_methods.method_list != NULL and r.allowed_methods.method_list.nelts:
            r.allowed_methods.method_mask |= (<apr_int64_t> 1) << M_INVALID

    def auth_name(self):
        """AuthName in force, or None."""
        return latin1(ap_auth_name(self.to_change()))

    def auth_type(self):
        """AuthType in force, or None."""
        return latin1(ap_auth_type(self.to_change()))

    def get_basic_auth_pw(self):
        """The password of Basic authentication; sets user and ap_auth_type.

        Can be called in any phase.  The password was not checked by anybody.  So
        user and ap_auth_type stay after the handler only where an authentication
        handler returns OK, and from the content handler on; elsewhere they are what
        they were before.

        Returns:
            The password, each byte a character; None if the client sent none
            that can be read, or if AuthType in force is not Basic.
        """
        cdef request_rec *r = self.to_change()
        cdef const char *kind = ap_auth_type(r)
        cdef const char *text
        cdef bytes user, colon, password
        from binascii import Error, a2b_base64
        if kind == NULL or ap_cstr_casecmp(kind, "Basic") != 0:
            return None
        if r.proxyreq == PROXYREQ_PROXY:
            text = apr_table_get(r.headers_in, "Proxy-Authorization")
        else:
            text = apr_table_get(r.headers_in, "Authorization")
        if text == NULL:
            return None
        scheme, _, coded = latin1(text).partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            user, colon, password = a2b_base64(coded.encode("latin-1")).partition(b":")
        except Error:
            return None
        if not colon or b"\0" in user or b"\0" in password:
            return None                 # a C string would end there
        mp_claim_user(r, self.kept(user), self.kept(b"Basic"))
        return password.decode("latin-1")

    def get_remote_host(self, int type=1, str_is_ip=None):
        """Name or address of the client.

        Args:
            type: REMOTE_HOST: its name, None if it has none or HostnameLookups
                is Off; REMOTE_NAME: its name, else its address; REMOTE_NOLOOKUP:
                the same without asking the DNS; REMOTE_DOUBLE_REV: its name if
                that leads back to the address, else None.
            str_is_ip: if not None, the result is a tuple (text, flag); flag is
                non-zero if the text is an address.
        Returns:
            str or None, or such a tuple.
        Raises:
            ValueError: type is none of those.
        """
        cdef request_rec *r = self.rec()
        cdef const char *name
        cdef int is_ip = 0
        cdef bint before
        if not 0 <= type <= 3:
            raise ValueError("get_remote_host() takes one of apache.REMOTE_*, not %d" % type)
        before = self.seize()
        self.users += 1
        with nogil:
            name = ap_get_useragent_host(r, type, &is_ip)
        self.users -= 1
        self.busy = before
        if name == NULL or str_is_ip is None:
            return latin1(name)
        return (latin1(name), is_ip)

    def construct_url(self, uri):
        """Absolute URL of a path on this server, with its port if need be."""
        cdef bytes path = path_bytes(uri)
        cdef request_rec *r = self.to_change()
        return path_text(ap_construct_url(r.pool, path, r))

    def document_root(self):
        """DocumentRoot of the server."""
        return path_text(ap_document_root(self.rec()))

    def get_addhandler_exts(self):
        """Extensions that AddHandler gives to mod_python, without dots, separated
        by blanks.

        As far as the server configuration says; sections of directories are
        taken to apply, and .htaccess files are not looked at.
        """
        cdef list found = []
        add_extensions(ap_conftree, self.rec().server, found)
        return " ".join(found)

    # -- conditional requests --------------------------------------------------

    def set_content_length(self, len):
        """Set the Content-Length of the response.

        Args:
            len: bytes, 0 or more; before the first output.
        """
        cdef apr_off_t n = len
        if n < 0:
            raise ValueError("a content length cannot be negative")
        ap_set_content_length(self.to_change(), n)

    def update_mtime(self, t):
        """Raise mtime to t, if that is later.

        Args:
            t: seconds since the epoch; a fraction is dropped.
        """
        seconds = int(t)
        if not -(2 ** 43) < seconds < 2 ** 43:
            raise ValueError("not a time in seconds: %r" % t)
        ap_update_mtime(self.to_change(), <apr_time_t> seconds * 1000000)

    def set_last_modified(self):
        """Set the header Last-Modified from mtime."""
        ap_set_last_modified(self.to_change())

    def set_etag(self):
        """Set the header ETag from finfo and mtime, as FileETag says."""
        cdef request_rec *r = self.rec()
        cdef bint before = self.seize()
        self.users += 1
        with nogil:                     # may read the whole file
            ap_set_etag(r)
        self.users -= 1
        self.busy = before

    def meets_conditions(self):
        """Whether the response is wanted, by the conditions that the client has sent.

        Set ETag, mtime and Last-Modified before.

        Returns:
            OK, or the status to return: 304 or 412.
        """
        return ap_meets_conditions(self.to_change())

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
            self.to_change()
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
            self.to_change()
            self.options = fixed_table(self, mp_options_table(r.pool, conf.options))
            self.options_of = conf
        return self.options

    def _option(self, name):
        """Value of a PythonOption in force as text (UTF-8), or None; makes no table."""
        cdef request_rec *r = self.rec()
        cdef mp_dir_conf *conf = mp_dir_conf_of(r)
        cdef bytes key = latin1_bytes(name)
        cdef const char *value
        if self.options is not None and self.options_of == conf:
            found = self.options.get(name)      # this request may have changed it
            if found is not None:
                found = found.encode("latin-1").decode("utf-8", "surrogateescape")
            return found
        value = mp_option(conf.options, key)
        return path_text(value)

    # -- WSGI (request_wsgi.pyx) ----------------------------------------------

    def build_wsgi_env(self):
        """The environment for a WSGI application (PEP 3333); sets path_info.

        The variables of add_cgi_vars(), ``HTTP_AUTHORIZATION`` and those of WSGI, this
        object as ``wsgi.input``.  ``SCRIPT_NAME`` is ``PythonOption
        mod_python.wsgi.base_uri``, else the location of the running handler, else
        empty; ``PATH_INFO`` is the rest of the URI.

        Returns:
            A dict; None, with a warning in the log, if the URI is not below
            SCRIPT_NAME.
        Raises:
            ValueError: the option does not begin with a slash, or ends with one.
        """
        return wsgi_environ(self)

    def wsgi_start_response(self, status, headers, exc_info=None):
        """Set status and headers, as PEP 3333 says; sends nothing.

        Args:
            status: such as "404 Not Found".
            headers: list of tuples (name, value).
            exc_info: what sys.exc_info() gave, for a call that replaces an
                earlier one.
        Returns:
            A function that sends a part of the body at once, for old applications.
        Raises:
            TypeError: an argument is of a wrong type.
            ValueError: status is none, or what is in headers cannot be one.
            RuntimeError: it was called before, and exc_info is None.
            BaseException: that of exc_info, if headers were sent already.
        """
        wsgi_start(self, status, headers, exc_info)
        return self._wsgi_write

    def _wsgi_write(self, data):
        """The function that start_response() returns."""
        cdef bytes part = wsgi_bytes(data)
        cdef request_rec *r = self.rec()
        if 0 <= self.wsgi_left < PyBytes_GET_SIZE(part) and not has_no_body(r):
            raise ValueError("write: this is more than the Content-Length that the application gave")
        wsgi_send(self, part, 1)

    def _wsgi_send(self, data):
        """Send a part of what an application has given, at once.

        Returns:
            Whether more is wanted.
        """
        wsgi_send(self, wsgi_cut(self, wsgi_bytes(data)), 1)
        return wsgi_wants_more(self)

    def _wsgi_send_all(self, parts):
        """Send a body that is in memory, a list or tuple of parts."""
        wsgi_send_all(self, parts)

    def _wsgi_send_file(self, path, offset, len):
        """Send a part of a file; returns the number of bytes sent."""
        return wsgi_send_file(self, path, offset, len)

    def _wsgi_end(self):
        """The application has given all: see that nothing is missing."""
        cdef request_rec *r = self.rec()
        if self.wsgi_state == WSGI_IDLE:
            raise RuntimeError("the application did not call start_response")
        if self.wsgi_left > 0 and not has_no_body(r):
            raise RuntimeError("the application gave %d bytes less than its Content-Length"
                               % self.wsgi_left)

    def is_https(self):
        """1 if the connection uses TLS, else 0."""
        return 1 if ap_ssl_conn_is_ssl(self.rec().connection) else 0

    def ssl_var_lookup(self, name):
        """Value of a mod_ssl variable, or None."""
        cdef request_rec *r = self.to_change()
        cdef bytes key = latin1_bytes(name)
        cdef const char *value = ap_ssl_var_lookup(r.pool, r.server, r.connection, r, key)
        return latin1(value) if value != NULL and value[0] else None

    def log_error(self, message, int level=3):
        """Write a message to the error log, in this request's context.

        Text of several lines makes several entries, and so does a very long line.  All
        but the first are indented.

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

    def send_http_header(self):
        """Does nothing; kept for old code."""
        self.rec()

    def __repr__(self):
        if self.r == NULL:
            return "<mp_request, gone>"
        return "<mp_request %s %s>" % (latin1(self.r.method), path_text(self.r.unparsed_uri))


cdef extern from *:
    """
    /* The characters of a token (RFC 9110, 5.6.2). */
    #define METHOD_CHARACTERS "!#$%&'*+-.^_`|~0123456789" \
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    """
    const char *METHOD_CHARACTERS


cdef const char *or_empty(const char *text) noexcept nogil:
    return text if text != NULL else <const char *> ""


cdef int add_extensions(ap_directive_t *d, server_rec *s, list found) except -1:
    """Collect the extensions of AddHandler for mod_python from configuration that
    applies to a server."""
    cdef list words
    while d != NULL:
        if ap_cstr_casecmp(d.directive, "AddHandler") == 0:
            words = (latin1(d.args) or "").replace('"', " ").split()
            if words and words[0].lower() in ("mod_python", "python-program"):
                for word in words[1:]:
                    word = word.removeprefix(".")
                    if word not in found:
                        found.append(word)
        elif ap_cstr_casecmp(d.directive, "<VirtualHost") != 0 or (
                s.defn_name != NULL and d.filename != NULL
                and strcmp(d.filename, s.defn_name) == 0
                and <unsigned int> d.line_num == s.defn_line_number):
            add_extensions(d.first_child, s, found)
        d = d.next
    return 0
