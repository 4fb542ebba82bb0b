# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Functions of httpd that belong to no object.

# Of the httpd this was built for, the same as that of the running one but for
# a larger minor number.
MODULE_MAGIC_NUMBER_MAJOR = MMN_MAJOR
MODULE_MAGIC_NUMBER_MINOR = MMN_MINOR


def log_error(message, int level=3, Server server=None):
    """Write one line to the error log.

    Args:
        message: what to log; None logs nothing.
        level: one of APLOG_*.
        server: whose log; the main server's if None.
    """
    cdef bytes text
    cdef const char *line
    cdef int severity = level & 15
    cdef server_rec *s = mp_main_server() if server is None else server.s
    if message is None:
        return
    text = log_bytes(message)
    line = text
    with nogil:
        mp_log_server(s, severity, line)


def main_server(Entry entry not None):
    """The main server, as seen by the interpreter of entry."""
    return entry.server(mp_main_server())


def server_root():
    """Value of ServerRoot."""
    return path_text(ap_server_root)


def exists_config_define(name):
    """Whether httpd was started with -D name."""
    cdef bytes text = path_bytes(name)
    return ap_exists_config_define(text) != 0


def mpm_query(code):
    """Ask the MPM (ap_mpm_query).

    Args:
        code: one of AP_MPMQ_*.
    Raises:
        TypeError: code is no int.
    """
    cdef int result = 0
    if not isinstance(code, int):
        raise TypeError("mpm_query() takes an int, not %s" % type(code).__name__)
    if ap_mpm_query(code, &result) != APR_SUCCESS:
        return 0
    return result


def config_tree():
    """The configuration as read at start, without .htaccess files.

    Returns:
        A list of (directive, args) tuples; a section's tuple is followed by
        the list of what it holds.
    """
    return tree_of(ap_conftree)


cdef list tree_of(ap_directive_t *d):
    # httpd keeps the tree as long as the configuration: in a child, to its end.
    result = []
    while d != NULL:
        result.append((path_text(d.directive), path_text(d.args)))
        if d.first_child != NULL:
            result.append(tree_of(d.first_child))
        d = d.next
    return result


def claim_asyncio():
    """Whether this interpreter is the one that may use _asyncio; up to Python 3.11 there can
    be one per process."""
    return mp_claim_asyncio() != 0


def lock_count():
    """How many locks between processes there are; 0 if they cannot be used."""
    return mp_lock_count()


def lock_take(int number, bint wait=True):
    """Take a lock between processes.

    Args:
        number: which, from 0.
        wait: wait for it.
    Returns:
        True, or False if it is taken and wait is false.
    Raises:
        OSError: it could not be taken.
    """
    cdef apr_status_t rv
    with nogil:
        rv = mp_lock_take(number, wait)
    if APR_STATUS_IS_EBUSY(rv) and not wait:
        return False
    if rv != APR_SUCCESS:
        raise OSError(rv, error_text(rv))
    return True


def lock_release(int number):
    """Release a lock that any thread of this process has taken.

    Raises:
        OSError: this process does not have it, or it could not be released.
    """
    cdef apr_status_t rv
    with nogil:
        rv = mp_lock_release(number)
    if rv != APR_SUCCESS:
        raise OSError(rv, error_text(rv))


cdef str error_text(apr_status_t rv):
    cdef char text[200]
    return path_text(apr_strerror(rv, text, sizeof(text)))


# The names that applications print.
for _class, _name in ((Table, "mp_table"), (Connection, "mp_conn"),
                      (AsyncConnection, "mp_conn"),
                      (Request, "mp_request"), (Server, "mp_server"),
                      (Finfo, "mp_finfo"), (Filter, "mp_filter")):
    try:
        _class.__name__ = _class.__qualname__ = _name
        _class.__module__ = "builtins"      # str(type(conn)) is <class 'mp_conn'>
    except TypeError:
        pass
del _class, _name


# -- CGI scripts in process ------------------------------------------------------

cdef extern from *:
    """
    /* One for all interpreters: the working directory is the process's.  The owner may
     * come again, when the output of a script includes that of another. */
    static pthread_mutex_t mp_cgi_mutex = PTHREAD_MUTEX_INITIALIZER;
    static pthread_t mp_cgi_owner;      /* valid while the depth is not 0 */
    static int mp_cgi_depth;

    static void mp_cgi_lock(void)
    {
        if (__atomic_load_n(&mp_cgi_depth, __ATOMIC_SEQ_CST)
            && pthread_equal(__atomic_load_n(&mp_cgi_owner, __ATOMIC_SEQ_CST), pthread_self())) {
            mp_cgi_depth++;
            return;
        }
        pthread_mutex_lock(&mp_cgi_mutex);
        __atomic_store_n(&mp_cgi_owner, pthread_self(), __ATOMIC_SEQ_CST);
        __atomic_store_n(&mp_cgi_depth, 1, __ATOMIC_SEQ_CST);
    }

    static void mp_cgi_unlock(void)
    {
        if (__atomic_sub_fetch(&mp_cgi_depth, 1, __ATOMIC_SEQ_CST) == 0)
            pthread_mutex_unlock(&mp_cgi_mutex);
    }
    """
    void mp_cgi_lock() nogil
    void mp_cgi_unlock() nogil


def cgi_lock():
    """Wait until no other thread of the process, in any interpreter, runs a CGI script."""
    with nogil:
        mp_cgi_lock()


def cgi_unlock():
    """Let the next one run; called by the thread that called cgi_lock()."""
    mp_cgi_unlock()
