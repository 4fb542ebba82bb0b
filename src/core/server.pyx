# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Server: a view of a server_rec.  Server records live as long as the child,
# so this wrapper is never detached; one is kept per server and interpreter.

cdef class Server:
    """A server of the configuration: the main server or a virtual host."""
    cdef server_rec *s
    cdef Entry entry
    cdef dict __dict__

    def __init__(self):
        raise TypeError("cannot create 'mp_server' instances")

    @property
    def next(self):
        """The next server in httpd's list, or None."""
        return self.entry.server(self.s.next)

    @property
    def defn_name(self):
        """Name of the configuration file that defines the virtual host, or None."""
        return path_text(self.s.defn_name)

    @property
    def defn_line_number(self):
        """Line in that file."""
        return self.s.defn_line_number

    @property
    def server_admin(self):
        """ServerAdmin."""
        return latin1(self.s.server_admin)

    @property
    def server_hostname(self):
        """ServerName."""
        return latin1(self.s.server_hostname)

    @property
    def names(self):
        """Tuple of the plain ServerAlias names."""
        return strings_of(self.s.names)

    @property
    def wild_names(self):
        """Tuple of the ServerAlias names with wildcards."""
        return strings_of(self.s.wild_names)

    @property
    def port(self):
        """Port for self-references; 0 if the configuration names none."""
        return self.s.port

    @property
    def error_fname(self):
        """ErrorLog as written, or None."""
        return path_text(self.s.error_fname)

    @property
    def loglevel(self):
        """LogLevel, one of APLOG_*."""
        return self.s.log.level

    @property
    def is_virtual(self):
        """1 for a virtual host."""
        return 1 if self.s.is_virtual else 0

    @property
    def timeout(self):
        """Timeout, seconds as float."""
        return seconds_of(self.s.timeout)

    @property
    def keep_alive_timeout(self):
        """KeepAliveTimeout, seconds as float."""
        return seconds_of(self.s.keep_alive_timeout)

    @property
    def keep_alive_max(self):
        """MaxKeepAliveRequests."""
        return self.s.keep_alive_max

    @property
    def keep_alive(self):
        """KeepAlive, 1 or 0."""
        return self.s.keep_alive

    @property
    def path(self):
        """ServerPath, or None."""
        return path_text(self.s.path)

    @property
    def pathlen(self):
        """Length of ServerPath in bytes."""
        return self.s.pathlen

    @property
    def limit_req_line(self):
        """LimitRequestLine, bytes."""
        return self.s.limit_req_line

    @property
    def limit_req_fieldsize(self):
        """LimitRequestFieldSize, bytes."""
        return self.s.limit_req_fieldsize

    @property
    def limit_req_fields(self):
        """LimitRequestFields."""
        return self.s.limit_req_fields

    @property
    def my_generation(self):
        """How many restarts this child is away from the start of httpd."""
        cdef int generation = 0
        ap_mpm_query(AP_MPMQ_GENERATION, &generation)
        return generation

    @property
    def restart_time(self):
        """When httpd was started or restarted, seconds since the epoch as float.

        httpd does not count graceful restarts here.
        """
        if ap_scoreboard_image == NULL or ap_scoreboard_image.global_ == NULL:
            return 0.0
        return seconds_of(ap_scoreboard_image.global_.restart_time)

    @property
    def _server_rec(self):
        """Capsule of the C structure, named "mod_python.server_rec"."""
        return PyCapsule_New(self.s, "mod_python.server_rec", NULL)

    @property
    def settings(self):
        """(debug, autoreload, python_path, pdb, importer_path) of this server."""
        return self.entry.settings_of_server(self.s)

    def get_config(self):
        """Table of the Python settings made at the level of this server."""
        return fixed_table(self, mp_server_conf_of(self.s).config)

    def get_options(self):
        """Table of the PythonOptions set at the level of this server."""
        return fixed_table(self, mp_server_conf_of(self.s).options)

    def register_cleanup(self, request, callable, data=None):
        """Have callable(data) called when this child process ends.

        Args:
            request: any request; its interpreter is the one that calls.
            callable: the function; what it raises goes to this server's log.
            data: its argument; must not lead to a request or connection.
        Raises:
            ValueError: request is no request, or callable not callable.
        """
        if not isinstance(request, Request):
            raise ValueError("register_cleanup: first argument must be a request, not %s"
                             % type(request).__name__)
        from mod_python._dispatch.cleanup import register
        register(callable, data, self)

    def log_error(self, message, int level=3):
        """Write a message to this server's error log.

        Text of several lines makes several entries, and so does a very long line.  All
        but the first are indented.

        Args:
            message: what to log; None logs nothing.
            level: one of APLOG_*; APLOG_ERR if left out.
        """
        cdef bytes text
        cdef const char *line
        cdef int severity = level & 15
        if message is None:
            return
        for text in log_lines_of(message):
            line = text
            with nogil:
                mp_log_server(self.s, severity, line)

    def __repr__(self):
        return "<mp_server %s>" % latin1(self.s.server_hostname)


cdef tuple strings_of(apr_array_header_t *a):
    cdef int i
    if a == NULL:
        return ()
    return tuple([latin1((<char **> a.elts)[i]) for i in range(a.nelts)])
