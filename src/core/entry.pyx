# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Entry: where the shell comes in.  One per interpreter; the shell keeps its
# bound method `call` and calls nothing else in Python.

cdef extern from *:
    """
    #define IMPORTER_PATH "mod_python.importer.path"
    """
    const char *IMPORTER_PATH


cdef inline bint same_text(bytes kept, const char *text) noexcept:
    if kept is None or text == NULL:
        return kept is None and text == NULL
    return strcmp(PyBytes_AS_STRING(kept), text) == 0


cdef class Entry:
    """The way from httpd's hooks to the dispatcher of one interpreter.

    Args:
        name: the interpreter's name.
        dispatcher: the object whose methods are called; see
            ``mod_python._dispatch.dispatcher``.
    """
    cdef readonly str name
    cdef mp_interp *interp
    cdef object dispatcher
    cdef object run_connection_handler, run_request_handlers, run_filter
    cdef dict lists             # id of a handler list -> tuple of Handler
    cdef dict servers           # address -> Server
    cdef tuple phase_names
    cdef tuple last_settings    # the last result of settings(), and its texts
    cdef bytes last_path, last_importer_path
    cdef dict wsgi_constants    # see request_wsgi.pyx
    cdef int asks_ident         # mod_ident is loaded; -1 if that is not known yet
    cdef tuple wsgi_names       # variables of the last environment, in their order

    def __init__(self, str name not None, dispatcher):
        cdef int i
        self.interp = mp_interp_current()
        self.name = name
        self.dispatcher = dispatcher
        self.run_connection_handler = dispatcher.connection
        self.run_request_handlers = dispatcher.request
        self.run_filter = dispatcher.filter
        self.lists = {}
        self.servers = {}
        self.wsgi_names = ()
        self.asks_ident = -1
        self.phase_names = tuple([latin1(mp_phase_names[i]) for i in range(<int> MP_PHASES)])

    def call(self, int what, uintptr_t arg):
        """Called by the shell, with one of mp_what and a pointer."""
        if what == MP_CALL_REQUEST:
            return self.on_request(<mp_call *> arg)
        if what == MP_CALL_CONNECTION:
            return self.on_connection(<mp_call *> arg)
        if what == MP_CALL_FILTER:
            return on_filter(self, <mp_filter_run *> arg)
        if what == MP_CALL_DETACH:
            self.on_detach(<mp_slot *> arg)
        elif what == MP_CALL_PASSWORD or what == MP_CALL_REALM or what == MP_CALL_AUTHORIZE:
            return self.on_question(what, <mp_auth_call *> arg)
        elif what == MP_CALL_SSI:
            return self.on_ssi(<mp_ssi_call *> arg)
        elif what == MP_CALL_PRE_CONNECTION:
            return self.on_pre_connection(<mp_call *> arg)
        elif what == MP_CALL_SERVER:
            self.on_server(<mp_server_call *> arg)
        elif what == MP_CALL_CLEANUP:
            self.on_cleanup(<mp_slot *> arg)
        elif what == MP_CALL_IMPORT:
            self.dispatcher.import_(path_text((<mp_import *> arg).text))
        elif what == MP_CALL_EXIT:
            self.dispatcher.at_exit()
        elif what == MP_CALL_OBJECT:
            self.on_object(<mp_object *> arg)
        return 0

    # -- calls

    cdef int on_connection(self, mp_call *call) except? -1000:
        cdef ConnectionFacts conn = self.connection(call.c)
        cdef tuple handlers = self.handlers_of(call.list, call.c.pool, NULL, NULL)
        cdef mp_slot *slot
        cdef int status = HTTP_INTERNAL_SERVER_ERROR
        conn.begin()
        try:
            status = self.run_connection_handler(conn, handlers[0])
        finally:
            mp_end_if_forked()
            if not conn.handed_over:
                conn.finish(status == DECLINED)
            conn._hlist = None
        if conn.handed_over:
            self.settle(call.c, conn)
            return status
        # Ours and the slot's: nobody kept it.
        if mp_refcnt(conn) == 2 and conn.capsule is None:
            slot = mp_conn_slot(call.c, self.interp)
            conn.detach()
            slot.object = NULL
            Py_DECREF(conn)
        return status

    cdef int settle(self, conn_rec *c, ConnectionFacts seen) except -1:
        """A coroutine handler has got its own object: drop those that nobody kept."""
        cdef mp_slot *slot = mp_conn_slot(c, self.interp)
        cdef AsyncConnection made
        if slot == NULL or slot.object == NULL:
            return 0
        made = <AsyncConnection> slot.object
        # Besides those in sight: made.previous and the variable of our caller.
        if made.previous is seen and mp_refcnt(seen) == 2 and seen.capsule is None:
            made.previous = None
            seen.detach()
        if made.state == STATE_CLOSED and mp_conn_record(c).loop == NULL \
                and mp_refcnt(made) == 2 and made.capsule is None:
            slot.object = NULL
            made.detach()
            Py_DECREF(made)
        return 0

    cdef int on_request(self, mp_call *call) except? -1000:
        cdef Request req = self.request(call.r)
        cdef tuple handlers = self.handlers_of(
            call.list, call.r.pool, call.r.filename, call.r.uri)
        cdef mp_slot *slot
        cdef int status
        # Once the response is over httpd has taken its filters down.
        req.begin(self.phase_names[<int> call.phase], call.ext,
                  call.phase != MP_LOG and call.phase != MP_CLEANUP)
        configured = handlers
        if req.added is not None:
            added = req.added.get(req._phase)
            if added is not None:
                handlers += tuple(added)
        try:
            status = self.run_request_handlers(req, req._phase, handlers)
            # The first of the three phases that it is about.
            if call.phase == MP_ACCESS and call.list != NULL and call.list.handlers[0].silent:
                call.absent = self.dispatcher.absent_guards(configured)
        finally:
            mp_end_if_forked()
            call.rest = req.end()
        if status > 0:
            status = req.final_status(status)
        if mp_refcnt(req) == 2 and req.is_untouched():
            slot = mp_request_slot(call.r, self.interp)
            req.detach()
            slot.object = NULL
            Py_DECREF(req)
        return status

    cdef int on_pre_connection(self, mp_call *call) except? -1000:
        cdef ConnectionFacts conn = self.connection(call.c)
        cdef mp_slot *slot
        cdef int status = self.dispatcher.pre_connection(
            conn, self.handlers_of(call.list, call.c.pool, NULL, NULL))
        conn._hlist = None
        if mp_refcnt(conn) == 2 and not conn.set_up and conn.capsule is None:
            slot = mp_conn_slot(call.c, self.interp)
            conn.detach()
            slot.object = NULL
            Py_DECREF(conn)
        return status

    cdef int on_server(self, mp_server_call *call) except -1:
        self.dispatcher.child(self.server(call.s), self.phase_names[<int> call.phase],
                              self.handlers_of(call.list, NULL, NULL, NULL))
        return 0

    cdef int on_ssi(self, mp_ssi_call *call) except? -1000:
        cdef bytes output
        cdef int status
        status, output = self.dispatcher.element(self.request(call.r), <bytes> call.code,
                                                 call.exec_ != 0)
        if output and apr_brigade_write(call.out, NULL, NULL, PyBytes_AS_STRING(output),
                                        PyBytes_GET_SIZE(output)) != APR_SUCCESS:
            raise MemoryError("no memory for the output of a page's element")
        return status

    cdef int on_question(self, int what, mp_auth_call *call) except? -1000:
        """A provider is asked; see providers.c."""
        cdef Request req = self.request(call.r)
        cdef tuple handlers = self.handlers_of(
            call.list, call.r.pool, call.r.filename, call.r.uri)
        cdef bytes text
        cdef str outer = req._phase
        cdef str phase = "PythonAuthnProvider"
        if what == MP_CALL_AUTHORIZE:
            phase = "Require python"
            name = "check_authorization"
            args = (latin1(call.one),)
        else:
            name = "check_password" if what == MP_CALL_PASSWORD else "get_realm_hash"
            args = (latin1(call.one), latin1(call.two))
        req.begin(phase, NULL, False)
        try:
            answer = self.dispatcher.provider(req, phase, handlers[0], name, args)
        finally:
            req.end()
            req._phase = outer
        if answer is None:
            return MP_AUTH_UNKNOWN
        if what != MP_CALL_REALM:
            return MP_AUTH_YES if answer is True else MP_AUTH_NO if answer is False else -2
        if not isinstance(answer, bytes):
            return -2
        text = answer
        call.result = apr_pstrdup(call.r.pool, text)
        return MP_AUTH_YES

    cdef int on_cleanup(self, mp_slot *slot) except -1:
        """The request ends: run what was registered, what runs may register more."""
        cdef Request req
        if slot.object == NULL:
            return 0
        req = <Request> slot.object
        while req.cleanups:
            function, data = req.cleanups.pop()
            self.dispatcher.cleanup(req, function, data)
        return 0

    cdef int on_detach(self, mp_slot *slot) except -1:
        cdef object wrapper = <object> slot.object
        slot.object = NULL
        Py_DECREF(wrapper)
        if isinstance(wrapper, Request):
            (<Request> wrapper).detach()
        elif isinstance(wrapper, ConnectionFacts):
            (<ConnectionFacts> wrapper).detach()
        elif isinstance(wrapper, Filter):
            (<Filter> wrapper).detach()
        return 0

    cdef int on_object(self, mp_object *wanted) except -1:
        """Give another module the object of a record; see mod_python.h."""
        cdef object found
        if wanted.r != NULL:
            found = self.request(wanted.r)
        elif wanted.c != NULL:
            found = self.connection(wanted.c)
        else:
            found = self.server(wanted.s)
        Py_INCREF(found)
        wanted.object = <void *> found
        return 0

    # -- settings

    cdef tuple settings(self, bint debug, bint autoreload, bint pdb,
                        const char *path, const char *importer_path):
        """(debug, autoreload, python_path, pdb, importer_path).

        Nearly every request has the settings of the one before, so that tuple
        is given again; the texts are compared, not their addresses, because
        those of an .htaccess file are made anew for each request.
        """
        cdef tuple last = self.last_settings
        if last is not None and last[0] is debug and last[1] is autoreload \
                and last[3] is pdb and same_text(self.last_path, path) \
                and same_text(self.last_importer_path, importer_path):
            return last
        self.last_path = path if path != NULL else None
        self.last_importer_path = importer_path if importer_path != NULL else None
        self.last_settings = last = (debug, autoreload, path_text(path), pdb,
                                     path_text(importer_path))
        return last

    cdef tuple settings_of_server(self, server_rec *s):
        cdef mp_server_conf *conf = mp_server_conf_of(s)
        return self.settings(conf.debug == 1, conf.autoreload != 0, conf.enable_pdb == 1,
                             conf.python_path,
                             apr_table_get(conf.options, IMPORTER_PATH))

    cdef tuple settings_of_request(self, request_rec *r):
        cdef mp_dir_conf *conf = mp_dir_conf_of(r)
        return self.settings(conf.debug == 1, conf.autoreload != 0, conf.enable_pdb == 1,
                             conf.python_path, mp_option(conf.options, IMPORTER_PATH))

    # -- wrappers: the same record always gives the same object

    cdef ConnectionFacts connection(self, conn_rec *c):
        cdef mp_slot *slot = mp_conn_slot(c, self.interp)
        cdef ConnectionFacts conn
        if slot == NULL:
            raise DetachedError("this connection is closed and its record is going away")
        if slot.object != NULL:
            return <ConnectionFacts> slot.object
        # This may run the garbage collector, and so other threads.
        conn = Connection.__new__(Connection)
        if slot.object != NULL:
            return <ConnectionFacts> slot.object
        conn.attach(c, self)
        Py_INCREF(conn)
        slot.object = <void *> conn
        return conn

    cdef Request request(self, request_rec *r):
        cdef mp_slot *slot
        cdef Request req
        if r == NULL:
            return None
        slot = mp_request_slot(r, self.interp)
        if slot == NULL:
            raise DetachedError("this request is over and its record is going away")
        if slot.object != NULL:
            return <Request> slot.object
        req = Request.__new__(Request)
        if slot.object != NULL:
            return <Request> slot.object
        req.attach(r, self)
        Py_INCREF(req)
        slot.object = <void *> req
        return req

    cdef Server server(self, server_rec *s):
        cdef Server server
        if s == NULL:
            return None
        found = self.servers.get(<uintptr_t> s)
        if found is not None:
            return found
        server = Server.__new__(Server)
        server.s = s
        server.entry = self
        self.servers[<uintptr_t> s] = server
        return server

    # -- handler lists

    cdef tuple handlers_of(self, const mp_hlist *hlist, apr_pool_t *pool,
                           const char *filename, const char *uri):
        """Handler objects of a list; kept by its id where that is lasting."""
        cdef const mp_section *section
        cdef bint lasting
        cdef int i
        cdef bint is_location
        if hlist == NULL:
            return ()
        if hlist.id:
            found = self.lists.get(hlist.id)
            if found is not None:
                return found
        lasting = hlist.id != 0
        result = []
        for i in range(hlist.n):
            section = hlist.handlers[i].section
            if section.kind in (MP_SECTION_DIRECTORY_MATCH, MP_SECTION_LOCATION_MATCH):
                lasting = False
            is_location = section.kind in (MP_SECTION_LOCATION, MP_SECTION_LOCATION_MATCH)
            result.append(intern_handler(
                path_text(hlist.handlers[i].text),
                None if is_location
                else path_text(mp_handler_directory(pool, section, filename)),
                path_text(mp_handler_location(pool, section, uri)) if is_location else None,
                is_location,
                hlist.handlers[i].silent != 0))
        handlers = tuple(result)
        if lasting:
            self.lists[hlist.id] = handlers
        return handlers
