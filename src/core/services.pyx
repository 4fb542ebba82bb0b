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
    #include <errno.h>
    #include <time.h>

    /* One for all interpreters: the working directory is the process's.  The owner may
     * come again: a script can make a request inside the server.  The mutex guards the
     * two fields and is never held for long; who has to wait does so for the condition. */
    static pthread_mutex_t mp_cgi_mutex = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t mp_cgi_free;
    static pthread_once_t mp_cgi_once = PTHREAD_ONCE_INIT;
    static pthread_t mp_cgi_owner;      /* valid while the depth is not 0 */
    static int mp_cgi_depth;

    static void mp_cgi_init(void)
    {
        pthread_condattr_t attributes;

        pthread_condattr_init(&attributes);
    #ifndef __APPLE__
        /* A clock that is set must not change a limit. */
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    #endif
        pthread_cond_init(&mp_cgi_free, &attributes);
        pthread_condattr_destroy(&attributes);
    }

    /* Whether the lock was taken within that many nanoseconds. */
    static int mp_cgi_lock(long long limit)
    {
        struct timespec until;
        int taken;

        pthread_once(&mp_cgi_once, mp_cgi_init);
    #ifdef __APPLE__
        clock_gettime(CLOCK_REALTIME, &until);
    #else
        clock_gettime(CLOCK_MONOTONIC, &until);
    #endif
        until.tv_sec += (time_t) (limit / 1000000000);
        until.tv_nsec += (long) (limit % 1000000000);
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        pthread_mutex_lock(&mp_cgi_mutex);
        while (mp_cgi_depth && !pthread_equal(mp_cgi_owner, pthread_self())
               && pthread_cond_timedwait(&mp_cgi_free, &mp_cgi_mutex, &until) != ETIMEDOUT)
            ;
        taken = !mp_cgi_depth || pthread_equal(mp_cgi_owner, pthread_self());
        if (taken) {
            mp_cgi_owner = pthread_self();
            mp_cgi_depth++;
        }
        pthread_mutex_unlock(&mp_cgi_mutex);
        return taken;
    }

    static void mp_cgi_unlock(void)
    {
        pthread_mutex_lock(&mp_cgi_mutex);
        if (--mp_cgi_depth == 0)
            pthread_cond_signal(&mp_cgi_free);
        pthread_mutex_unlock(&mp_cgi_mutex);
    }
    """
    bint mp_cgi_lock(long long limit) nogil
    void mp_cgi_unlock() nogil


def cgi_lock(double seconds):
    """Wait until no other thread of the process, in any interpreter, runs a CGI script.

    Args:
        seconds: How long to wait at most; 0 does not wait.
    Returns:
        Whether this thread may run one; then it calls cgi_unlock() at the end.
    """
    cdef bint taken
    cdef long long limit = <long long> (min(max(seconds, 0.0), 1e9) * 1e9)
    with nogil:
        taken = mp_cgi_lock(limit)
    return taken


def cgi_unlock():
    """Let the next one run; called by the thread for which cgi_lock() was true."""
    mp_cgi_unlock()
