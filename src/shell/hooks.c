/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * Hook functions.  Each answers one question first, without Python: is there a
 * Python handler for this phase here?  If not, it declines.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "shell.h"

#include <ap_mpm.h>
#include <http_connection.h>
#include <http_protocol.h>
#include <http_request.h>
#include <util_filter.h>

APLOG_USE_MODULE(python);

/* Content handler names that mean us; the second is the name of old. */
#define HANDLER_NAME        "mod_python"
#define HANDLER_NAME_LEGACY "python-program"

static const char GIVE_BACK[] = "MOD_PYTHON_GIVE_BACK";
static ap_filter_rec_t *give_back_filter;

/* ---- which interpreter --------------------------------------------------- */

static const char *directory_of_file(request_rec *r)
{
    const char *slash;

    if (!r->filename)
        return NULL;
    if (r->finfo.filetype == APR_DIR) {
        apr_size_t n = strlen(r->filename);
        if (n && r->filename[n - 1] == '/')
            return r->filename;
        return apr_pstrcat(r->pool, r->filename, "/", NULL);
    }
    slash = strrchr(r->filename, '/');
    return slash ? apr_pstrmemdup(r->pool, r->filename, slash - r->filename + 1) : NULL;
}

/* The rules of naming, in their order: PythonInterpreter, the file's
 * directory, the directive's directory, the server's name. */
static mp_interp *interpreter_of_request(request_rec *r, const mp_dir_conf *conf,
                                         const mp_hlist *list)
{
    const char *name;

    if (conf->interpreter)
        return mp_interp_of(conf->interpreter);
    if (conf->interp_per_directory == 1) {
        name = directory_of_file(r);
        return mp_interp_get(name ? name : "main_interpreter");
    }
    if (conf->interp_per_directive == 1) {
        name = list && list->n
             ? mp_handler_directory(r->pool, list->handlers[0].section, r->filename)
             : NULL;
        return mp_interp_get(name ? name : "main_interpreter");
    }
    return mp_interp_of(mp_server_conf_of(r->server)->default_interpreter);
}

/* A connection has no file and its handler no directory. */
static mp_interp *interpreter_of_conn(const mp_server_conf *conf)
{
    if (conf->interpreter)
        return mp_interp_of(conf->interpreter);
    if (conf->interp_per_directory == 1 || conf->interp_per_directive == 1)
        return mp_interp_get("main_interpreter");
    return mp_interp_of(conf->default_interpreter);
}

/* ---- request phases ------------------------------------------------------ */

static int run_request_phase(request_rec *r, mp_phase phase)
{
    mp_dir_conf *conf = mp_dir_conf_of(r);
    mp_call call = { .phase = phase, .r = r, .c = r->connection };
    int status;

    call.list = mp_find_hlist(&conf->phase[phase], r->filename, &call.ext);
    if (!call.list)
        return DECLINED;
    status = mp_python_call(interpreter_of_request(r, conf, call.list),
                            MP_CALL_REQUEST, &call);
    if (call.rest && !APR_BRIGADE_EMPTY(call.rest)) {
        /* Output that was queued and not flushed.  With an error status httpd
         * makes the page; otherwise it is sent now, after Python was left.
         * With the end of the stream in the same brigade httpd knows the
         * length, and a short answer leaves in one segment. */
        if (status == OK || status == DONE || status == DECLINED) {
            if (status != DECLINED && phase == MP_CONTENT)
                APR_BRIGADE_INSERT_TAIL(call.rest, apr_bucket_eos_create(
                                        r->connection->bucket_alloc));
            ap_pass_brigade(r->output_filters, call.rest);
        }
        apr_brigade_cleanup(call.rest);
    }
    return status;
}

static int content_handler(request_rec *r)
{
    if (!r->handler || (strcmp(r->handler, HANDLER_NAME) != 0
                        && strcmp(r->handler, HANDLER_NAME_LEGACY) != 0))
        return DECLINED;
    return run_request_phase(r, MP_CONTENT);
}

/* ---- connections --------------------------------------------------------- */

static int process_connection(conn_rec *c)
{
    mp_server_conf *conf = mp_server_conf_of(c->base_server);
    mp_call call = { .phase = MP_CONNECTION, .c = c };
    mp_slot *first;
    mp_interp *interp;
    int status;

    /* Secondary connections (HTTP/2 streams) carry requests by definition. */
    if (!conf->connection || c->master)
        return DECLINED;
    /* The event MPM runs this hook again for every request of a connection
     * that was kept alive. */
    first = ap_get_module_config(c->conn_config, &python_module);
    if (first && first->declined)
        return DECLINED;
    call.list = conf->connection;
    interp = interpreter_of_conn(conf);
    status = mp_python_call(interp, MP_CALL_CONNECTION, &call);
    if (status == DECLINED) {
        mp_conn_slot(c, interp);
        first = ap_get_module_config(c->conn_config, &python_module);
        first->declined = 1;
    }
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

apr_status_t mp_give_back(conn_rec *c, const char *data, apr_size_t len)
{
    apr_bucket_brigade *kept = apr_brigade_create(c->pool, c->bucket_alloc);
    apr_status_t rv = apr_brigade_write(kept, NULL, NULL, data, len);

    if (rv == APR_SUCCESS)
        ap_add_input_filter_handle(give_back_filter, kept, NULL, c);
    return rv;
}

/* ---- byte counting ------------------------------------------------------- */

static APR_OPTIONAL_FN_TYPE(ap_logio_add_bytes_in) *add_bytes_in;

void mp_count_input(conn_rec *c, apr_off_t bytes)
{
    if (add_bytes_in)
        add_bytes_in(c, bytes);
}

static void find_optional_functions(void)
{
    add_bytes_in = APR_RETRIEVE_OPTIONAL_FN(ap_logio_add_bytes_in);
}

/* ---- slots --------------------------------------------------------------- */

static apr_status_t slots_gone(void *data)
{
    mp_slot *slot;

    MP_COUNT(records, -1);
    for (slot = data; slot; slot = slot->next) {
        if (slot->object)
            mp_python_call(slot->interp, MP_CALL_DETACH, slot);
    }
    return APR_SUCCESS;
}

/* The first slot lies in the record's own configuration vector; nearly always
 * it is the only one. */
static mp_slot *find_slot(ap_conf_vector_t *vector, apr_pool_t *pool, mp_interp *interp)
{
    mp_slot *first = ap_get_module_config(vector, &python_module), *slot, *empty = NULL;

    for (slot = first; slot; slot = slot->next) {
        if (slot->interp == interp)
            return slot;
        if (!slot->object && !empty && !slot->queued && !slot->type_set)
            empty = slot;
    }
    if (empty) {
        empty->interp = interp;
        return empty;
    }
    slot = apr_pcalloc(pool, sizeof(*slot));
    slot->interp = interp;
    if (first) {
        slot->next = first->next;
        first->next = slot;
    }
    else {
        ap_set_module_config(vector, &python_module, slot);
        MP_COUNT(records, 1);
        apr_pool_cleanup_register(pool, slot, slots_gone, apr_pool_cleanup_null);
    }
    return slot;
}

mp_slot *mp_conn_slot(conn_rec *c, mp_interp *interp)
{
    return find_slot(c->conn_config, c->pool, interp);
}

mp_slot *mp_request_slot(request_rec *r, mp_interp *interp)
{
    return find_slot(r->request_config, r->pool, interp);
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

/* A connection is handed out before a host name is known, so it belongs to the
 * first virtual host of its address.  A handler set for a later one only would
 * never run. */
static int same_address(const server_rec *a, const server_rec *b)
{
    const server_addr_rec *x, *y;

    for (x = a->addrs; x; x = x->next) {
        for (y = b->addrs; y; y = y->next) {
            if (x->host_port == y->host_port && x->host_addr && y->host_addr
                && apr_sockaddr_equal(x->host_addr, y->host_addr))
                return 1;
        }
    }
    return 0;
}

static int check_connection_handlers(server_rec *main_server)
{
    server_rec *s, *earlier;

    for (s = main_server->next; s; s = s->next) {
        const mp_hlist *own = mp_server_conf_of(s)->connection;

        if (!own || own == mp_server_conf_of(main_server)->connection)
            continue;
        for (earlier = main_server->next; earlier != s; earlier = earlier->next) {
            if (same_address(s, earlier) && mp_server_conf_of(earlier)->connection != own) {
                ap_log_error(APLOG_MARK, APLOG_EMERG, 0, main_server,
                             "PythonConnectionHandler in the virtual host at %s:%u can "
                             "never run: the virtual host at %s:%u comes first for the "
                             "same address and gets its connections; put the directive "
                             "there, or give this host a port of its own",
                             s->defn_name, s->defn_line_number,
                             earlier->defn_name, earlier->defn_line_number);
                return HTTP_INTERNAL_SERVER_ERROR;
            }
        }
    }
    return OK;
}

static int post_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                       server_rec *main_server)
{
    server_rec *s;
    const char *version = Py_GetVersion(), *end;

    (void)plog;
    (void)ptemp;
    for (s = main_server; s; s = s->next) {
        mp_server_conf *conf = mp_server_conf_of(s);
        mp_interp_ref *ref = apr_pcalloc(pconf, sizeof(*ref));

        ref->name = s->server_hostname ? s->server_hostname : "main_interpreter";
        conf->default_interpreter = ref;
    }
    ap_add_version_component(pconf, "mod_python/" MP_VERSION);
    for (end = version; *end && *end != ' ' && *end != '+'; end++)
        ;
    ap_add_version_component(pconf, apr_pstrcat(pconf, "Python/",
                             apr_pstrmemdup(pconf, version, end - version), NULL));
    return check_connection_handlers(main_server);
}

static void child_init(apr_pool_t *pchild, server_rec *s)
{
    mp_python_child_init(pchild, s);
}

void mp_register_hooks(apr_pool_t *p)
{
    /* mod_ssl begins the handshake in its process_connection hook, so that a
     * handler finds the client's certificate and the negotiated protocol. */
    static const char *const after_ssl[] = { "mod_ssl.c", NULL };

    (void)p;
    give_back_filter = ap_register_input_filter(GIVE_BACK, give_back, NULL,
                                                AP_FTYPE_CONNECTION);
    ap_hook_post_config(post_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_optional_fn_retrieve(find_optional_functions, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_child_init(child_init, NULL, NULL, APR_HOOK_MIDDLE);
    mp_register_end_hooks();
    ap_hook_process_connection(process_connection, after_ssl, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(content_handler, NULL, NULL, APR_HOOK_MIDDLE);
}
