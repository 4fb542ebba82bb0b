# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# What a request offers for WSGI (PEP 3333): the environment of an application, and
# the way its answer takes.  The handler itself is mod_python.wsgi.
#
# The answer.  start_response() sets status and headers in the record at once;
# they leave with the first part of the body, as always.  Until then it may be
# called again with an error: what it has put there is taken out first.  The
# headers that were there before it are the first `wsgi_headers` of the table.
# Bytes are counted against Content-Length, because httpd sends whatever it is
# given, and a byte too many would be taken for the next response.

cdef enum:
    WSGI_IDLE = 0               # start_response() was not called
    WSGI_STARTED
    WSGI_BEGUN                  # part of the body was given to httpd
    # A part of this size leaves at once, which saves copying it into the queue.
    WSGI_LARGE = 65536
    LOG_WARNING = 4


cdef dict wsgi_environ(Request req):
    """The environment for an application, or None if the URI is not below its base."""
    cdef request_rec *r = req.rec()
    cdef bytes base = wsgi_base(req)
    cdef size_t size = PyBytes_GET_SIZE(base)
    cdef const char *base_uri = base
    cdef const char *uri = or_empty(r.uri)
    cdef const char *text
    cdef bint https
    cdef dict environ
    if strncmp(uri, base_uri, size) != 0 or uri[size] not in (0, c"/"):
        req.log_error("mod_python.wsgi: the URI %r is not below the base URI %r of the "
                      "application; the request is declined" % (path_text(uri), path_text(base_uri)),
                      LOG_WARNING)
        return None
    r.path_info = apr_pstrdup(req.to_change().pool, uri + size)
    common_variables(req, r)
    cgi_variables(r, apr_pstrdup(r.pool, base_uri), r.path_info)
    https = ap_ssl_conn_is_ssl(r.connection)
    text = NULL
    if apr_table_get(r.subprocess_env, "HTTP_AUTHORIZATION") == NULL:
        text = apr_table_get(r.headers_in, "Authorization")
    environ = wsgi_variables(req.entry, r.subprocess_env)
    if text != NULL:
        environ["HTTP_AUTHORIZATION"] = latin1(text)
    if not https:
        # What a server behind a proxy that does TLS is told: SetEnvIf ... HTTPS=on.
        text = apr_table_get(r.subprocess_env, "HTTPS")
        https = text != NULL and ap_cstr_casecmp(text, "off") != 0
    environ.update(wsgi_constants(req.entry))
    environ["wsgi.url_scheme"] = "https" if https else "http"
    environ["wsgi.input"] = req
    environ["wsgi.errors"] = sys.stderr
    req.wsgi_state = WSGI_IDLE
    return environ


cdef int common_variables(Request req, request_rec *r) except -1:
    """Put httpd's common variables into subprocess_env."""
    cdef core_dir_config *core
    cdef bint before
    if req.entry.asks_ident < 0:
        req.entry.asks_ident = ap_find_linked_module("mod_ident.c") != NULL
    core = <core_dir_config *> ap_get_core_module_config(r.per_dir_config)
    if not req.entry.asks_ident and core.use_canonical_name != USE_CANONICAL_NAME_DNS \
            and core.hostname_lookups not in (HOSTNAME_LOOKUP_ON, HOSTNAME_LOOKUP_DOUBLE):
        # Nobody is asked over the network: quicker than letting go of the GIL.
        req.to_change()
        ap_add_common_vars(r)
        return 0
    before = req.seize()
    req.users += 1
    with nogil:
        ap_add_common_vars(r)
    req.users -= 1
    req.busy = before
    return 0


cdef void cgi_variables(request_rec *r, const char *script, const char *rest) noexcept:
    """Add to the common variables what is particular to CGI.

    Args:
        script: SCRIPT_NAME; it and rest live as long as the record.
        rest: PATH_INFO, or NULL.
    """
    cdef apr_table_t *env = r.subprocess_env
    apr_table_setn(env, "GATEWAY_INTERFACE", "CGI/1.1")
    apr_table_setn(env, "SERVER_PROTOCOL", or_empty(r.protocol))
    apr_table_setn(env, "REQUEST_METHOD", or_empty(r.method))
    apr_table_setn(env, "QUERY_STRING", or_empty(r.args))
    apr_table_setn(env, "REQUEST_URI", or_empty(r.uri))
    apr_table_setn(env, "SCRIPT_NAME", script)
    if rest != NULL:
        apr_table_setn(env, "PATH_INFO", rest)


cdef bytes wsgi_base(Request req):
    """The base URI: what of the path is SCRIPT_NAME."""
    cdef bytes base
    option = req._option("mod_python.wsgi.base_uri")
    if option:
        base = path_bytes(option)
        if not base.startswith(b"/") or base.endswith(b"/"):
            raise ValueError(
                "PythonOption mod_python.wsgi.base_uri is %r; it must begin with a slash and not "
                "end with one (leave it out for an application that has the whole site)" % option)
        return base
    location = req.handlers.location if req.handlers is not None else None
    if location is None:
        return b""
    return path_bytes(location).removesuffix(b"/")


cdef dict wsgi_variables(Entry entry, apr_table_t *table):
    """A dict of a table, values as PEP 3333 wants them: a character for each byte.

    One request has much the same variables as the one before, in the same order, so
    the names of the last time are compared and used again.
    """
    cdef const apr_array_header_t *a = apr_table_elts(table)
    cdef apr_table_entry_t *e = <apr_table_entry_t *> a.elts
    cdef tuple last = entry.wsgi_names
    cdef Py_ssize_t known = len(last)
    cdef Py_ssize_t i, n = a.nelts
    cdef Py_ssize_t length
    cdef bint same = known == n
    cdef dict result = {}
    cdef list names = None
    for i in range(n):
        if e[i].key == NULL or e[i].val == NULL:
            same = False
            continue
        if i < known:
            name = last[i]
            if strcmp(PyUnicode_AsUTF8AndSize(name, &length), e[i].key) != 0:
                name = latin1(e[i].key)
                same = False
        else:
            name = latin1(e[i].key)
        result[name] = PyUnicode_DecodeLatin1(e[i].val, strlen(e[i].val), NULL)
    if not same:
        names = [latin1(e[i].key) if e[i].key != NULL else "" for i in range(n)]
        # Compared as ASCII: what is not would be taken for something else.
        entry.wsgi_names = tuple([name if name.isascii() else "" for name in names])
    return result


cdef dict wsgi_constants(Entry entry):
    """What is the same for all requests."""
    cdef int threaded = 0, forked = 0
    if entry.wsgi_constants is None:
        from mod_python.wsgi import FileWrapper
        ap_mpm_query(AP_MPMQ_IS_THREADED, &threaded)
        ap_mpm_query(AP_MPMQ_IS_FORKED, &forked)
        entry.wsgi_constants = {
            "wsgi.version": (1, 0),
            "wsgi.multithread": threaded != 0,
            "wsgi.multiprocess": forked != 0,
            "wsgi.run_once": False,
            "wsgi.file_wrapper": FileWrapper,
            # Reading gives b"" at the end of the body, also of a chunked one.
            "wsgi.input_terminated": True,
        }
    return entry.wsgi_constants


# -- start_response ------------------------------------------------------------

cdef int wsgi_start(Request req, object status, object headers, object exc_info) except -1:
    cdef request_rec *r = req.to_change()
    cdef bytes line, name, value
    cdef list pairs = []
    cdef const char *content_type = NULL
    cdef apr_off_t length = -1
    cdef int i
    if exc_info is not None:
        if not isinstance(exc_info, tuple) or len(exc_info) != 3:
            raise TypeError("start_response: exc_info must be what sys.exc_info() returns")
        if req.wsgi_state == WSGI_BEGUN or r.sent_bodyct or r.bytes_sent or r.eos_sent:
            if exc_info[1] is None:
                raise RuntimeError("start_response: the headers have been sent already")
            raise exc_info[1].with_traceback(exc_info[2])
    elif req.wsgi_state != WSGI_IDLE:
        raise RuntimeError("start_response was called already; a second call needs exc_info")

    line = wsgi_status(status)
    if not isinstance(headers, list):
        raise TypeError("start_response: headers must be a list, not %s" % type(headers).__name__)
    for pair in headers:
        if not isinstance(pair, tuple) or len(<tuple> pair) != 2:
            raise TypeError("start_response: a header must be a tuple (name, value), not %.60r"
                            % (pair,))
        name, value = wsgi_header(pair[0], pair[1])
        pairs.append((name, value))
        if ap_cstr_casecmp(name, "Content-Length") == 0:
            if length >= 0 and length != wsgi_length(value):
                raise ValueError("start_response: there are two different Content-Lengths")
            length = wsgi_length(value)

    # Nothing is wrong with them: from here on nothing fails.
    if req.wsgi_state == WSGI_IDLE:
        req.wsgi_headers = apr_table_elts(r.headers_out).nelts
    else:
        keep_first(r.headers_out, req.wsgi_headers)
        r.clength = 0
    for i in range(len(pairs)):
        name, value = pairs[i]
        if ap_cstr_casecmp(name, "Content-Type") == 0:
            content_type = apr_pstrmemdup(r.pool, value, PyBytes_GET_SIZE(value))
        elif ap_cstr_casecmp(name, "Content-Length") != 0:
            apr_table_add(r.headers_out, name, value)
    if length >= 0:
        ap_set_content_length(r, length)
    # The application alone says what it sends; mod_mime has guessed from the URI.
    ap_set_content_type(r, content_type)
    r.content_encoding = NULL
    r.content_languages = NULL
    req.slot.type_set = 1
    r.status = int(line[:3])
    r.status_line = apr_pstrmemdup(r.pool, line, PyBytes_GET_SIZE(line))
    req.wsgi_left = length
    req.wsgi_state = WSGI_STARTED
    return 0


cdef bytes wsgi_status(object status):
    """Bytes of a status line."""
    cdef bytes line
    if not isinstance(status, str):
        raise TypeError("start_response: status must be a str, not %s" % type(status).__name__)
    line = latin1_bytes(status)
    if has_control(line):
        raise ValueError("start_response: a status cannot contain control characters: %.60r"
                         % status)
    if not line[:3].isdigit() or line[3:4] not in (b"", b" ") or not 200 <= int(line[:3]) <= 599:
        raise ValueError("start_response: a status is a number from 200 to 599, a blank and a "
                         "reason, as \"404 Not Found\": %.60r" % status)
    return line


cdef tuple wsgi_header(object name, object value):
    """Bytes of the name and value of a header."""
    cdef bytes key, text
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError("start_response: the name and value of a header must be str: %.60r: %.60r"
                        % (name, value))
    key = latin1_bytes(name)
    if not key or strspn(key, METHOD_CHARACTERS) != <size_t> PyBytes_GET_SIZE(key):
        raise ValueError("start_response: %.60r is no name of a header" % name)
    text = latin1_bytes(value)
    if has_control(text) and has_control(text.replace(b"\t", b" ")):
        raise ValueError("start_response: the value of the header %s contains a control "
                         "character: %.60r" % (name, value))
    if is_hop_by_hop(key):
        raise ValueError("start_response: the header %s is about the connection, which is "
                         "httpd's and not the application's (PEP 3333)" % name)
    if ap_cstr_casecmp(key, "Status") == 0:
        raise ValueError("start_response: Status is no header; it is the first argument")
    return key, text


cdef bint is_hop_by_hop(const char *name) noexcept:
    cdef const char **known = HOP_BY_HOP
    while known[0] != NULL:
        if ap_cstr_casecmp(known[0], name) == 0:
            return True
        known += 1
    return False


cdef extern from *:
    """
    static const char *const mp_hop_by_hop[] = {
        "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "TE",
        "Trailer", "Trailers", "Transfer-Encoding", "Upgrade", NULL
    };
    #define HOP_BY_HOP ((const char **)mp_hop_by_hop)
    """
    const char **HOP_BY_HOP


cdef apr_off_t wsgi_length(bytes value) except -1:
    """The number in a Content-Length."""
    if not value.isdigit() or len(value) > 18:
        raise ValueError("start_response: Content-Length must be a number of bytes: %.60r"
                         % value.decode("latin-1"))
    return int(value)


cdef void keep_first(apr_table_t *table, int n):
    """Shorten a table to its first n entries."""
    cdef const apr_array_header_t *a = apr_table_elts(table)
    cdef apr_table_entry_t *all_ = <apr_table_entry_t *> a.elts
    cdef apr_table_entry_t *kept = NULL
    cdef int i
    n = min(n, a.nelts)
    if n:
        kept = <apr_table_entry_t *> malloc(n * sizeof(apr_table_entry_t))
        if kept == NULL:
            return
        memcpy(kept, all_, n * sizeof(apr_table_entry_t))
    apr_table_clear(table)
    for i in range(n):
        apr_table_addn(table, kept[i].key, kept[i].val)
    free(kept)


# -- the body ------------------------------------------------------------------

cdef bytes wsgi_bytes(object data):
    """Bytes of a part of the body."""
    if PyBytes_CheckExact(data):
        return data
    if isinstance(data, str):           # not by the letter; mod_python 3.5 took it
        try:
            return PyUnicode_AsLatin1String(data)
        except UnicodeEncodeError:
            raise TypeError("a WSGI application must give bytes; this str cannot be taken for "
                            "them: %.60r" % data) from None
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError("a WSGI application must give bytes, not %s%s" % (
        type(data).__name__,
        "; has it returned bytes in place of [bytes]?" if isinstance(data, int) else ""))


cdef bint is_bodiless(request_rec *r) noexcept:
    """Whether the status is one that goes without a body."""
    return r.status < 200 or r.status == 204 or r.status == 304


cdef bint has_no_body(request_rec *r) noexcept:
    """Whether httpd sends the headers only."""
    return r.header_only or is_bodiless(r)


cdef int wsgi_send(Request req, bytes data, int flush) except -1:
    """Send a part of the body; the caller has looked at Content-Length."""
    cdef request_rec *r = req.rec()
    cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
    if n == 0:
        return 0
    wsgi_check_started(req)
    req.wsgi_state = WSGI_BEGUN
    if req.wsgi_left >= 0 and not has_no_body(r):
        req.wsgi_left -= n
    req.put(PyBytes_AS_STRING(data), n, flush)
    return 0


cdef int wsgi_check_started(Request req) except -1:
    if req.wsgi_state == WSGI_IDLE:
        raise RuntimeError("the application gave a part of its body before it called start_response")
    return 0


cdef bytes wsgi_cut(Request req, bytes data):
    """Cut off what is beyond Content-Length."""
    cdef request_rec *r = req.rec()
    if req.wsgi_left < 0 or PyBytes_GET_SIZE(data) <= req.wsgi_left or has_no_body(r):
        return data
    req.log_error("mod_python.wsgi: the application gave more than its Content-Length; "
                  "the rest is left out", LOG_WARNING)
    return data[:req.wsgi_left]


cdef bint wsgi_wants_more(Request req) except -1:
    """Whether anything that follows would be sent."""
    cdef request_rec *r = req.rec()
    if req.wsgi_state != WSGI_BEGUN:
        return True
    return not has_no_body(r) and req.wsgi_left != 0


cdef int wsgi_send_all(Request req, object parts) except -1:
    """Send a body that is in memory: nothing is waited for, so it leaves as a whole."""
    cdef request_rec *r = req.rec()
    cdef list chunks = [wsgi_bytes(part) for part in parts]
    cdef bytes chunk
    cdef apr_off_t queued, total = 0
    for chunk in chunks:
        total += PyBytes_GET_SIZE(chunk)
    if total:
        wsgi_check_started(req)
    if total >= WSGI_LARGE and req.wsgi_left < 0 and not is_bodiless(r):
        # httpd finds it out by itself only if all is in its hands at once.
        ap_set_content_length(req.to_change(), total)
        if not r.header_only:
            req.wsgi_left = total
    queued = 0
    for chunk in chunks:
        chunk = wsgi_cut(req, chunk)
        queued += PyBytes_GET_SIZE(chunk)
        wsgi_send(req, chunk, queued >= WSGI_LARGE)
        if queued >= WSGI_LARGE:
            queued = 0
        if not wsgi_wants_more(req) and not r.header_only:
            break
    return 0


cdef apr_off_t wsgi_send_file(Request req, object path, apr_off_t offset, apr_off_t n) except -1:
    """Send n bytes of a file, or what Content-Length has room for."""
    cdef request_rec *r = req.rec()
    wsgi_check_started(req)
    if not is_bodiless(r):
        if req.wsgi_left < 0:
            ap_set_content_length(req.to_change(), n)
            req.wsgi_left = n
        elif n > req.wsgi_left:
            n = req.wsgi_left
    if n == 0:
        return 0
    req.wsgi_state = WSGI_BEGUN
    n = req.sendfile(path, offset, n)
    if not has_no_body(r):
        req.wsgi_left -= n
    return n
