/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * Connections, the start of the server, and what we note about connections and
 * requests.  The request phases are in phases.c.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "shell.h"

#include <ap_mpm.h>
#include <http_connection.h>
#include <http_protocol.h>
#include <http_request.h>
#include <http_ssl.h>
#include <util_filter.h>

APLOG_USE_MODULE(python);

static const char GIVE_BACK[] = "MOD_PYTHON_GIVE_BACK";
static ap_filter_rec_t *give_back_filter;
static ap_filter_rec_t *clock_filter;           /* mod_reqtimeout's, or NULL */

/* ---- which interpreter --------------------------------------------------- */

/* A connection has no file and its handler no directory. */
mp_interp *mp_interpreter_of_conn(const mp_server_conf *conf)
{
    if (conf->interpreter)
        return mp_interp_of(conf->interpreter);
    if (conf->interp_per_directory == 1 || conf->interp_per_directive == 1)
        return mp_interp_get("main_interpreter");
    return mp_interp_of(conf->default_interpreter);
}

/* ---- connections --------------------------------------------------------- */

/* Runs when mod_ssl has decided that a connection is to speak TLS. */
static int note_tls(conn_rec *c, void *csd)
{
    mp_server_conf *conf = mp_server_conf_of(c->base_server);

    (void)csd;
    if (conf->connection && !c->master && !c->outgoing && ap_ssl_conn_is_ssl(c))
        mp_note_conn(c)->tls = 1;
    return DECLINED;
}

/* Whether a connection was to speak TLS and does not.  If the client sends plain
 * HTTP, mod_ssl turns itself off and counts on its own hooks for requests to answer
 * with an error page, without a handshake and without asking for a certificate.  After
 * another handshake that failed it waits for the next read to fail. */
static int is_without_its_tls(conn_rec *c, const mp_record *record)
{
    const char *cipher;

    if (!record || !record->tls)
        return 0;
    if (!ap_ssl_conn_is_ssl(c))
        return 1;
    cipher = ap_ssl_var_lookup(c->pool, c->base_server, c, NULL, "SSL_CIPHER");
    return !cipher || !*cipher;
}

/* The streams of an HTTP/2 connection are connections of their own, with notes of their
 * own, in other threads.  They begin with a copy of what Python handlers of the whole
 * connection have noted; a table that may still change could not be read there. */
static void keep_notes(conn_rec *c)
{
    if (!apr_is_empty_table(c->notes))
        mp_note_conn(c)->notes = apr_table_clone(c->pool, c->notes);
}

static void copy_notes(conn_rec *c)
{
    const mp_record *record = mp_conn_record(c->master);

    if (record && record->notes)
        c->notes = apr_table_overlay(c->pool, c->notes, record->notes);
}

/* mod_reqtimeout's limit for the handshake ends with the handshake, or it would end a
 * connection that has been idle for as long.  With HTTP the first request sets another
 * one, and mod_http2 takes the filter away as well.  Returns what the filter needs if it
 * has to come back, or NULL. */
static void *stop_clock(conn_rec *c)
{
    ap_filter_t *f = c->input_filters;
    void *ctx;

    while (f && (!clock_filter || f->frec != clock_filter))
        f = f->next;
    if (!f)
        return NULL;
    ctx = f->ctx;
    ap_remove_input_filter(f);
    return ctx;
}

static int process_connection(conn_rec *c)
{
    mp_server_conf *conf = mp_server_conf_of(c->base_server);
    mp_call call = { .phase = MP_CONNECTION, .c = c };
    mp_record *record;
    mp_interp *interp;
    const char *why;
    void *clock;
    int status;

    mp_visit();
    /* Secondary connections (HTTP/2 streams) carry requests by definition. */
    if (!conf->connection || c->master)
        return DECLINED;
    /* The event MPM runs this hook again for every request of a connection
     * that was kept alive. */
    record = mp_conn_record(c);
    if (record && record->declined)
        return DECLINED;
    if (is_without_its_tls(c, record)) {
        /* httpd answers, or closes the connection, as if there were no handler. */
        ap_log_cerror(APLOG_MARK, APLOG_DEBUG, 0, c, "connection ended: there was no TLS "
                      "handshake, so PythonConnectionHandler is not called");
        record->declined = 1;
        return DECLINED;
    }
    if (record && record->tls && (why = mp_other_tls(c))) {
        ap_log_cerror(APLOG_MARK, APLOG_INFO, 0, c, "connection ended before "
                      "PythonConnectionHandler: %s", why);
        return OK;
    }
    call.list = conf->connection;
    interp = mp_interpreter_of_conn(conf);
    clock = stop_clock(c);
    status = mp_python_call(interp, MP_CALL_CONNECTION, &call);
    record = mp_conn_record(c);
    if (record && record->loop) {
        c->cs->state = c->aborted ? CONN_STATE_LINGER : CONN_STATE_SUSPENDED;
        return OK;
    }
    if (status == DECLINED) {
        if (clock)
            ap_add_input_filter_handle(clock_filter, clock, NULL, c);
        mp_note_conn(c)->declined = 1;
        keep_notes(c);
    }
    return status;
}

/* Whoever may not connect gets nothing to see, not even a TLS handshake. */
static int pre_connection(conn_rec *c, void *csd)
{
    mp_server_conf *conf = mp_server_conf_of(c->base_server);
    mp_call call = { .phase = MP_PRE_CONNECTION, .c = c };
    int status;

    (void)csd;
    if (c->master)
        copy_notes(c);
    /* Those to a proxied server are httpd's own. */
    if (!conf->pre_connection || c->master || c->outgoing)
        return DECLINED;
    call.list = conf->pre_connection;
    status = mp_python_call(mp_interpreter_of_conn(conf), MP_CALL_PRE_CONNECTION, &call);
    if (status == OK)
        keep_notes(c);
    return status;
}

/* ---- giving bytes back --------------------------------------------------- */

/* A connection-level input filter that hands out a brigade and from then on
 * what comes.  It stays in the chain: a request that is being read begins its
 * own chain with the connection's first filter, so taking that away in the
 * middle of a head would leave the request without its HTTP_IN filter, and
 * thus without an end of its body. */
static apr_status_t give_back(ap_filter_t *f, apr_bucket_brigade *out,
                              ap_input_mode_t mode, apr_read_type_e block,
                              apr_off_t readbytes)
{
    apr_bucket_brigade *kept = f->ctx;
    apr_bucket *e;
    apr_status_t rv;

    if (mode == AP_MODE_INIT)
        return ap_get_brigade(f->next, out, mode, block, readbytes);

    /* Splitting off a line may leave an empty bucket behind.  Given out, it
     * would look like input without bytes, and httpd would not keep the
     * connection alive. */
    while (!APR_BRIGADE_EMPTY(kept) && APR_BRIGADE_FIRST(kept)->length == 0)
        apr_bucket_delete(APR_BRIGADE_FIRST(kept));

    if (mode == AP_MODE_EATCRLF) {
        const char *data;
        apr_size_t len, n;

        while (!APR_BRIGADE_EMPTY(kept)) {
            e = APR_BRIGADE_FIRST(kept);
            rv = apr_bucket_read(e, &data, &len, APR_BLOCK_READ);
            if (rv != APR_SUCCESS)
                return rv;
            for (n = 0; n < len && (data[n] == '\r' || data[n] == '\n'); n++)
                ;
            if (n < len) {
                if (n) {
                    apr_bucket_split(e, n);
                    apr_bucket_delete(e);
                }
                return APR_SUCCESS;
            }
            apr_bucket_delete(e);
        }
    }

    if (APR_BRIGADE_EMPTY(kept))
        return ap_get_brigade(f->next, out, mode, block, readbytes);

    switch (mode) {
    case AP_MODE_GETLINE:
        /* A line that goes on beyond what was kept: readers of lines ask
         * again until they see its end. */
        return apr_brigade_split_line(out, kept, block, HUGE_STRING_LEN);
    case AP_MODE_READBYTES:
    case AP_MODE_SPECULATIVE:
        rv = apr_brigade_partition(kept, readbytes, &e);
        if (rv != APR_SUCCESS && rv != APR_INCOMPLETE)
            return rv;
        while (APR_BRIGADE_FIRST(kept) != e && !APR_BRIGADE_EMPTY(kept)) {
            apr_bucket *first = APR_BRIGADE_FIRST(kept);
            if (mode == AP_MODE_SPECULATIVE) {
                apr_bucket *walk;
                for (walk = first; walk != e && walk != APR_BRIGADE_SENTINEL(kept);
                     walk = APR_BUCKET_NEXT(walk)) {
                    apr_bucket *copy;
                    rv = apr_bucket_copy(walk, &copy);
                    if (rv != APR_SUCCESS)
                        return rv;
                    APR_BRIGADE_INSERT_TAIL(out, copy);
                }
                break;
            }
            APR_BUCKET_REMOVE(first);
            APR_BRIGADE_INSERT_TAIL(out, first);
        }
        return APR_SUCCESS;
    default:                            /* AP_MODE_EXHAUSTIVE */
        APR_BRIGADE_CONCAT(out, kept);
        return APR_SUCCESS;
    }
}

/* A request that it cannot parse makes httpd empty the brigade of its core
 * filter, which that filter makes with its first read: httpd (2.4.71) crashes if
 * there was none, because all that was read came from the socket directly. */
static void start_core_filter(conn_rec *c)
{
    apr_bucket_brigade *none;
    ap_filter_t *f = c->input_filters;

    while (f && f->frec != ap_core_input_filter_handle)
        f = f->next;
    if (!f || !f->ctx || ((core_net_rec *)f->ctx)->in_ctx)
        return;
    none = apr_brigade_create(c->pool, c->bucket_alloc);
    ap_get_brigade(f, none, AP_MODE_SPECULATIVE, APR_NONBLOCK_READ, 1);
    apr_brigade_destroy(none);
}

apr_status_t mp_give_back(conn_rec *c, const char *data, apr_size_t len)
{
    apr_bucket_brigade *kept = apr_brigade_create(c->pool, c->bucket_alloc);
    apr_status_t rv = apr_brigade_write(kept, NULL, NULL, data, len);

    start_core_filter(c);
    if (rv == APR_SUCCESS)
        ap_add_input_filter_handle(give_back_filter, kept, NULL, c);
    return rv;
}

/* ---- byte counting ------------------------------------------------------- */

static APR_OPTIONAL_FN_TYPE(ap_logio_add_bytes_in) *add_bytes_in;
static APR_OPTIONAL_FN_TYPE(ap_logio_add_bytes_out) *add_bytes_out;

void mp_count_input(conn_rec *c, apr_off_t bytes)
{
    if (add_bytes_in)
        add_bytes_in(c, bytes);
}

void mp_count_output(conn_rec *c, apr_off_t bytes)
{
    if (add_bytes_out)
        add_bytes_out(c, bytes);
}

static void find_optional_functions(void)
{
    add_bytes_out = APR_RETRIEVE_OPTIONAL_FN(ap_logio_add_bytes_out);
    add_bytes_in = APR_RETRIEVE_OPTIONAL_FN(ap_logio_add_bytes_in);
}

/* ---- records and slots --------------------------------------------------- */

static apr_status_t record_gone(void *data)
{
    mp_record *record = data;
    mp_slot *slot;

    MP_COUNT(records, -1);
    __atomic_store_n(&record->gone, 1, __ATOMIC_SEQ_CST);
    for (slot = &record->slot; slot; slot = slot->next) {
        if (slot->object)
            mp_python_call(slot->interp, MP_CALL_DETACH, slot);
    }
    return APR_SUCCESS;
}

mp_record *mp_conn_record(const conn_rec *c)
{
    return ap_get_module_config(c->conn_config, &python_module);
}

mp_record *mp_request_record(const request_rec *r)
{
    return ap_get_module_config(r->request_config, &python_module);
}

static mp_record *note(ap_conf_vector_t *vector, apr_pool_t *pool)
{
    mp_record *record = ap_get_module_config(vector, &python_module);

    if (!record) {
        record = apr_pcalloc(pool, sizeof(*record));
        ap_set_module_config(vector, &python_module, record);
        MP_COUNT(records, 1);
        apr_pool_cleanup_register(pool, record, record_gone, apr_pool_cleanup_null);
    }
    return record;
}

mp_record *mp_note_request(request_rec *r)
{
    mp_record *record = mp_request_record(r);

    if (!record) {
        record = note(r->request_config, r->pool);
        mp_note_body(r, record);
    }
    return record;
}

mp_record *mp_note_conn(conn_rec *c)
{
    return note(c->conn_config, c->pool);
}

static mp_slot *find_slot(mp_record *record, apr_pool_t *pool, mp_interp *interp)
{
    mp_slot *slot, *empty = NULL;

    if (__atomic_load_n(&record->gone, __ATOMIC_SEQ_CST))
        return NULL;
    for (slot = &record->slot; slot; slot = slot->next) {
        if (slot->interp == interp)
            return slot;
        if (!slot->object && !empty && !slot->queued && !slot->type_set)
            empty = slot;
    }
    if (!empty) {
        empty = apr_pcalloc(pool, sizeof(*empty));
        empty->next = record->slot.next;
        record->slot.next = empty;
    }
    empty->interp = interp;
    empty->queued = 0;
    empty->type_set = 0;
    empty->dynamic = 0;
    empty->cleanups = 0;
    return empty;
}

mp_slot *mp_conn_slot(conn_rec *c, mp_interp *interp)
{
    return find_slot(note(c->conn_config, c->pool), c->pool, interp);
}

mp_slot *mp_request_slot(request_rec *r, mp_interp *interp)
{
    return find_slot(mp_note_request(r), r->pool, interp);
}

/* ---- logging ------------------------------------------------------------- */

void mp_log_server(const server_rec *s, int level, const char *text)
{
    ap_log_error(APLOG_MARK, level, 0, s, "%s", text);
}

void mp_log_conn(const conn_rec *c, int level, const char *text)
{
    ap_log_cerror(APLOG_MARK, level, 0, c, "%s", text);
}

void mp_log_request(const request_rec *r, int level, const char *text)
{
    ap_log_rerror(APLOG_MARK, level, 0, r, "%s", text);
}

/* ---- start ---------------------------------------------------------------- */

static int post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                       server_rec *main_server)
{
    server_rec *s;
    const char *version = Py_GetVersion(), *end;

    (void)plog;
    for (s = main_server; s; s = s->next) {
        mp_server_conf *conf = mp_server_conf_of(s);
        mp_interp_ref *ref = apr_pcalloc(pconf, sizeof(*ref));

        ref->name = s->server_hostname ? s->server_hostname : "main_interpreter";
        conf->default_interpreter = ref;
    }
    clock_filter = ap_get_input_filter_handle("reqtimeout");
    mp_register_ssi();
    ap_add_version_component(pconf, "mod_python/" MP_VERSION);
    for (end = version; *end && *end != ' ' && *end != '+'; end++)
        ;
    ap_add_version_component(pconf, apr_pstrcat(pconf, "Python/",
                             apr_pstrmemdup(pconf, version, end - version), NULL));
    if (mp_check_hosts(pconf, ptemp, main_server) != OK)
        return HTTP_INTERNAL_SERVER_ERROR;
    mp_check_sections(main_server, ptemp);
    return OK;
}

static void child_init(apr_pool_t *pchild, server_rec *s)
{
    server_rec *one;

    mp_python_child_init(pchild, s);
    for (one = s; one; one = one->next) {
        mp_server_conf *conf = mp_server_conf_of(one);
        mp_server_call call = { MP_CHILD_EXIT, one, conf->child_exit };

        /* Those for the end are noted first: what is set up last goes first. */
        if (conf->child_exit)
            mp_python_call(mp_interpreter_of_conn(conf), MP_CALL_SERVER, &call);
        call.phase = MP_CHILD_INIT;
        call.list = conf->child_init;
        if (conf->child_init)
            mp_python_call(mp_interpreter_of_conn(conf), MP_CALL_SERVER, &call);
    }
}

void mp_register_hooks(apr_pool_t *p)
{
    /* mod_ssl begins the handshake in its process_connection hook, so that a
     * handler finds the client's certificate and the negotiated protocol. */
    static const char *const after_ssl[] = { "mod_ssl.c", NULL };

    give_back_filter = ap_register_input_filter(GIVE_BACK, give_back, NULL,
                                                AP_FTYPE_CONNECTION);
    ap_hook_post_config(post_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_optional_fn_retrieve(find_optional_functions, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(child_init, NULL, NULL, APR_HOOK_MIDDLE);
    mp_register_end_hooks();
    mp_register_filter_hooks();
    mp_register_framing();
    mp_register_head();
    mp_register_lock_hooks();
    mp_register_suspend_hooks();
    mp_register_exports();
    mp_register_dump();
    ap_hook_process_connection(process_connection, after_ssl, NULL, APR_HOOK_MIDDLE);
    ap_hook_pre_connection(pre_connection, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_pre_connection(note_tls, after_ssl, NULL, APR_HOOK_LAST);
    mp_register_phases();
    mp_register_guards();
    mp_register_providers(p);
}
