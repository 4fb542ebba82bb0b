# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# ConnectionFacts: what a conn_rec tells, and the settings of its I/O.  The two
# kinds of connections that handlers get inherit it: Connection, whose reading
# methods wait, and AsyncConnection, whose reading methods are awaited.

cdef class ConnectionFacts(TlsStream):
    """What every connection object has, whoever serves it."""
    cdef public object _hlist

    def __init__(self):
        raise TypeError("cannot create 'mp_conn' instances")

    def __delattr__(self, name):
        raise AttributeError("conn.%s cannot be deleted" % name)

    # -- writing --------------------------------------------------------------

    def write(self, data):
        """Send data: collected, and sent before the next wait for input.

        Args:
            data: bytes-like, or a list or tuple of bytes-like objects.
        Raises:
            TypeError: data is something else; text must be encoded first.
            ConnectionClosed: the peer has gone.
            ConnectionTimeout: nothing could be sent for ``write_timeout`` seconds.
        """
        if PyBytes_CheckExact(data):
            self.put(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        elif isinstance(data, (list, tuple)):
            for part in data:
                self.write_buffer(part)
        else:
            self.write_buffer(data)

    cdef int write_buffer(self, object data) except -1:
        cdef Py_buffer view
        if isinstance(data, str):
            raise TypeError("a connection carries bytes, not str: encode the text first")
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self.put(<const char *> view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
        return 0

    def can_write_eof(self):
        """Whether write_eof() works: TLS cannot close one direction only."""
        return not ap_ssl_conn_is_ssl(self.rec()) and self.tls is None

    # -- settings of the I/O --------------------------------------------------

    @property
    def limit(self):
        """Longest message, in bytes, that a reading method collects."""
        self.rec()
        return self.limit_

    @limit.setter
    def limit(self, Py_ssize_t value):
        if value < 1:
            raise ValueError("limit must be at least 1 byte")
        self.limit_ = value
        self.set_up = True

    @property
    def read_timeout(self):
        """Seconds a read may wait, or None; by default httpd's Timeout."""
        self.rec()
        return None if self.read_us <= 0 else self.read_us / 1e6

    @read_timeout.setter
    def read_timeout(self, value):
        self.read_us = us_of(value)
        self.set_up = True

    @property
    def write_timeout(self):
        """Seconds a write may wait, or None; by default httpd's Timeout."""
        self.rec()
        return None if self.write_us >= forever() else self.write_us / 1e6

    @write_timeout.setter
    def write_timeout(self, value):
        cdef apr_interval_time_t us = us_of(value)
        self.write_us = us if us > 0 else forever()
        self.set_up = True
        if self.state == STATE_HANDLING and self.sock != NULL:
            apr_socket_timeout_set(self.sock, self.write_us)

    @property
    def timeout(self):
        """Both time-outs; reading gives read_timeout."""
        return self.read_timeout

    @timeout.setter
    def timeout(self, value):
        self.read_timeout = value
        self.write_timeout = value

    # -- facts ----------------------------------------------------------------

    @property
    def base_server(self):
        """The server the connection came in on."""
        return self.entry.server(self.rec().base_server)

    @property
    def local_addr(self):
        """(address, port) of this end."""
        cdef conn_rec *c = self.rec()
        return (latin1(c.local_ip), c.local_addr.port if c.local_addr != NULL else 0)

    @property
    def client_addr(self):
        """(address, port) of the peer."""
        cdef conn_rec *c = self.rec()
        return (latin1(c.client_ip), c.client_addr.port if c.client_addr != NULL else 0)

    @property
    def client_ip(self):
        """Address of the peer."""
        return latin1(self.rec().client_ip)

    cdef tuple useragent(self):
        cdef conn_rec *c = self.rec()
        cdef apr_pool_t *pool = NULL
        cdef const char *ip = NULL
        cdef int port = 0
        if apr_pool_create_unmanaged_ex(&pool, NULL, NULL) != APR_SUCCESS:
            raise MemoryError("no memory for the client's address")
        try:
            mp_useragent(c, pool, &ip, &port)
            return (latin1(ip), port)
        finally:
            apr_pool_destroy(pool)

    @property
    def useragent_addr(self):
        """(address, port) of the client as mod_remoteip tells it; see useragent_ip."""
        return self.useragent()

    @property
    def useragent_ip(self):
        """Address of the client, which behind a proxy that speaks the PROXY protocol is not the
        peer (mod_remoteip, RemoteIPProxyProtocol).

        It is known once something was read, since it comes with the first bytes.  Without
        a proxy, or before that, it is client_ip.
        """
        return self.useragent()[0]

    @property
    def remote_addr(self):
        """Old name of client_addr."""
        self.old_name("remote_addr", "client_addr")
        return self.client_addr

    @property
    def remote_ip(self):
        """Old name of client_ip."""
        self.old_name("remote_ip", "client_ip")
        return self.client_ip

    cdef int old_name(self, str old, str new) except -1:
        self.rec()
        if first_time(old):
            self.log_error("conn.%s is deprecated: use conn.%s (said once per process)"
                           % (old, new), 4)
        return 0

    @property
    def remote_host(self):
        """Name of the peer, "" if it has none, None if not looked up."""
        return latin1(self.rec().remote_host)

    @property
    def remote_logname(self):
        """Name from ident, or None."""
        return latin1(self.rec().remote_logname)

    @property
    def aborted(self):
        """1 if the connection broke."""
        return 1 if self.rec().aborted else 0

    @property
    def keepalive(self):
        """One of AP_CONN_*."""
        return <int> self.rec().keepalive

    @keepalive.setter
    def keepalive(self, value):
        if not isinstance(value, int):
            raise TypeError("keepalive must be an int, not %s" % type(value).__name__)
        if value not in (0, 1, 2):
            raise ValueError("keepalive must be one of AP_CONN_*")
        self.rec().keepalive = <ap_conn_keepalive_e> <int> value

    @property
    def double_reverse(self):
        """Result of a double reverse look-up: 1 done, 0 not yet, -1 failed."""
        return self.rec().double_reverse

    @property
    def keepalives(self):
        """Number of requests so far."""
        return self.rec().keepalives

    @property
    def local_ip(self):
        """Address of this end."""
        return latin1(self.rec().local_ip)

    @property
    def local_host(self):
        """Name of this end, or None."""
        return latin1(self.rec().local_host)

    @property
    def id(self):
        """Number, unique among the live connections."""
        return self.rec().id

    @property
    def notes(self):
        """Table of notes between modules.

        A stream of HTTP/2 has its own: it begins with what PythonPreConnectionHandler
        and PythonConnectionHandler have noted for the connection.
        """
        self.rec()
        return view_table(self, TABLE_CONN_NOTES)

    @property
    def hlist(self):
        """The handler list in a connection handler, else None."""
        self.rec()
        return self._hlist

    @property
    def _conn_rec(self):
        """Capsule of the C structure, named "mod_python.conn_rec"; see
        ``req._request_rec``."""
        cdef conn_rec *c = self.rec()
        if self.capsule is None:
            self.capsule = PyCapsule_New(c, "mod_python.conn_rec", NULL)
        return self.capsule

    @property
    def interpreter(self):
        """Name of the interpreter."""
        self.rec()
        return self.entry.name

    @property
    def settings(self):
        """(debug, autoreload, python_path, pdb, importer_path) of the server."""
        return self.entry.settings_of_server(self.rec().base_server)

    def is_https(self):
        """1 if the connection uses TLS, httpd's or that of start_tls(), else 0."""
        if ap_ssl_conn_is_ssl(self.rec()):
            return 1
        return 1 if self.tls is not None and self.tls.established else 0

    @property
    def tls(self):
        """The ssl.SSLObject of start_tls(), or None: for version(), cipher(),
        getpeercert() and the like.  Without TLS, or with mod_ssl's, it is None."""
        self.rec()
        return self.tls_object()

    def ssl_var_lookup(self, name):
        """Value of a mod_ssl variable, or None (ap_ssl_var_lookup).

        Args:
            name: such as "SSL_PROTOCOL" or "SSL_CLIENT_S_DN".
        """
        cdef conn_rec *c = self.rec()
        cdef bytes key = latin1_bytes(name)
        cdef apr_pool_t *pool = NULL
        cdef const char *value
        if apr_pool_create_unmanaged_ex(&pool, NULL, NULL) != APR_SUCCESS:
            raise MemoryError("no memory for a TLS variable")
        try:
            value = ap_ssl_var_lookup(pool, c.base_server, c, NULL, key)
            return latin1(value) if value != NULL and value[0] else None
        finally:
            apr_pool_destroy(pool)

    cdef object tls_object(self):
        return None if self.tls is None or not self.tls.established else self.tls.ssl_object

    def get_config(self):
        """Table of the Python settings of the server."""
        return self.base_server.get_config()

    def get_options(self):
        """Table of the PythonOptions of the server."""
        return self.base_server.get_options()

    def log_error(self, message, int level=3):
        """Write a message to the error log, in this connection's context.

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
        cdef conn_rec *c = self.rec()
        self.users += 1
        for text in lines:
            line = text
            with nogil:
                mp_log_conn(c, severity, line)
        self.users -= 1

    def __repr__(self):
        if self.c == NULL:
            return "<mp_conn, gone>"
        return "<mp_conn %d from %s:%d>" % (
            self.c.id, latin1(self.c.client_ip),
            self.c.client_addr.port if self.c.client_addr != NULL else 0)
