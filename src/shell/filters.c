/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * Filters written in Python.
 *
 * Three kinds, all served by the same two functions, output_filter() and
 * input_filter():
 *
 *   - of the configuration: PythonInputFilter and PythonOutputFilter register a
 *     name with httpd; which function is behind it is looked up in the
 *     configuration of each request;
 *   - of a request: req.register_output_filter(); the Filter object is made when
 *     the filter is added, and knows its function;
 *   - of a connection: PythonConnectionInputFilter and PythonConnectionOutputFilter,
 *     put into the chain of each connection of the server.
 *
 * Python is called with a brigade that has data or the end of the stream.  What
 * the function wrote is passed on here, after Python was left.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "filters.h"

#include <http_connection.h>
#include <http_protocol.h>
#include <http_request.h>

APLOG_USE_MODULE(python);

static const char OWN_NAME[] = "MOD_PYTHON_REQUEST";
static const char CONNECTION_NAME[] = "MOD_PYTHON_CONNECTION";

/* What is read of a body that a filter has left, before the connection is closed. */
#define REST_BYTES (16 * AP_IOBUFSIZE)
#define REST_ROUNDS 1000

static ap_filter_rec_t *own_input, *own_output, *connection_input, *connection_output;

static apr_status_t output_filter(ap_filter_t *f, apr_bucket_brigade *bb);
static apr_status_t input_filter(ap_filter_t *f, apr_bucket_brigade *bb,
                                 ap_input_mode_t mode, apr_read_type_e block,
                                 apr_off_t readbytes);

/* ---- names --------------------------------------------------------------- */

int mp_register_filter(const char *name, int is_input)
{
    ap_filter_rec_t *known = is_input ? ap_get_input_filter_handle(name)
                                      : ap_get_output_filter_handle(name);

    /* Those of requests and connections have our functions, too, but other types. */
    if (known && (known == own_input || known == own_output || known == connection_input
                  || known == connection_output
                  || (is_input ? known->filter_func.in_func != input_filter
                               : known->filter_func.out_func != output_filter)))
        return 0;
    if (is_input)
        ap_register_input_filter(name, input_filter, NULL, AP_FTYPE_RESOURCE);
    else
        ap_register_output_filter(name, output_filter, NULL, AP_FTYPE_RESOURCE);
    return 1;
}

/* ---- contexts ------------------------------------------------------------ */

static apr_status_t run_gone(void *data)
{
    mp_filter_run *run = data;

    MP_COUNT(brigades, run->is_input ? -2 : -1);
    if (run->slot.object)
        mp_python_call(run->slot.interp, MP_CALL_DETACH, &run->slot);
    return APR_SUCCESS;
}

static mp_filter_run *make_run(apr_pool_t *pool, conn_rec *c, const char *name,
                               int is_input, mp_interp *interp)
{
    mp_filter_run *run = apr_pcalloc(pool, sizeof(*run));

    run->name = name;
    run->is_input = is_input;
    run->slot.interp = interp;
    run->out = apr_brigade_create(pool, c->bucket_alloc);
    if (is_input)
        run->in = apr_brigade_create(pool, c->bucket_alloc);
    MP_COUNT(brigades, is_input ? 2 : 1);
    apr_pool_cleanup_register(pool, run, run_gone, apr_pool_cleanup_null);
    return run;
}

/* The context of a filter of the configuration; NULL and a log line if the
 * request's configuration does not have it. */
static mp_filter_run *run_of_request(ap_filter_t *f, int is_input)
{
    const mp_dir_conf *conf;
    const mp_filter *found;
    mp_filter_run *run;

    if (!f->r) {
        /* Our own name for connections, written into the configuration. */
        ap_log_cerror(APLOG_MARK, APLOG_ERR, 0, f->c, "mod_python: '%s' is not the name of "
                      "a filter that can be added", f->frec->name);
        return NULL;
    }
    conf = mp_dir_conf_of(f->r);
    found = mp_find_filter(is_input ? conf->input_filters : conf->output_filters,
                           f->frec->name);

    if (!found) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, f->r, "mod_python: Could not find registered "
                      "filter '%s': no Python%sFilter directive of that name applies to %s",
                      f->frec->name, is_input ? "Input" : "Output", f->r->uri);
        return NULL;
    }
    run = make_run(f->r->pool, f->c, found->name, is_input,
                   mp_interpreter_of_request(f->r, conf, found->handler.section));
    run->f = f;
    run->handler = &found->handler;
    f->ctx = run;
    if (!is_input)
        mp_frame(f->r);
    return run;
}

mp_filter_run *mp_add_own_filter(request_rec *r, const char *name, int is_input,
                                 mp_interp *interp)
{
    mp_filter_run *run = make_run(r->pool, r->connection, apr_pstrdup(r->pool, name),
                                  is_input, interp);

    run->f = is_input ? ap_add_input_filter_handle(own_input, run, r, r->connection)
                      : ap_add_output_filter_handle(own_output, run, r, r->connection);
    return run;
}

int mp_add_known_filter(request_rec *r, const char *name, int is_input)
{
    ap_filter_rec_t *known = is_input ? ap_get_input_filter_handle(name)
                                      : ap_get_output_filter_handle(name);

    if (!known)
        return 0;
    if (is_input)
        ap_add_input_filter_handle(known, NULL, r, r->connection);
    else
        ap_add_output_filter_handle(known, NULL, r, r->connection);
    return 1;
}

apr_status_t mp_keep_buckets(apr_bucket_brigade *bb, apr_pool_t *pool)
{
    apr_bucket *e;
    apr_status_t rv;

    for (e = APR_BRIGADE_FIRST(bb); e != APR_BRIGADE_SENTINEL(bb); e = APR_BUCKET_NEXT(e)) {
        rv = apr_bucket_setaside(e, pool);
        if (rv != APR_SUCCESS && rv != APR_ENOTIMPL)    /* a pipe lasts by itself */
            return rv;
    }
    return APR_SUCCESS;
}

static int call_function(mp_filter_run *run)
{
    request_rec *r = run->f->r;
    mp_user before = { NULL, NULL };
    int status;

    if (r)
        before = mp_user_before(r);
    status = mp_python_call(run->slot.interp, MP_CALL_FILTER, run);
    if (r) {
        mp_take_back_user(r, before);
        mp_check_body(r);
    }
    return status;
}

/* Whether to log what is wrong with a filter's function.  How often it shows is up to
 * the client, so it is said once for a connection.  The streams of an HTTP/2 connection
 * run in several threads, none of which may note anything on it: there it is once for a
 * directive. */
static int warns(mp_filter_run *run)
{
    conn_rec *c = run->f->c;

    return !__atomic_exchange_n(!c->master ? &mp_note_conn(c)->warned
                                : run->handler ? &((mp_handler *)run->handler)->warned
                                : &run->warned, 1, __ATOMIC_RELAXED);
}

static int has_data(const apr_bucket_brigade *bb)
{
    const apr_bucket *e;

    for (e = APR_BRIGADE_FIRST(bb); e != APR_BRIGADE_SENTINEL(bb); e = APR_BUCKET_NEXT(e)) {
        if (!APR_BUCKET_IS_METADATA(e) && e->length != 0)
            return 1;
    }
    return 0;
}

/* Python could not be called. */
static int not_called(const mp_filter_run *run, int status)
{
    if (status == MP_FILTER_DONE || status == MP_FILTER_HOLD)
        return 0;
    ap_log_cerror(APLOG_MARK, APLOG_ERR, 0, run->f->c,
                  "mod_python: the filter '%s' cannot be run", run->name);
    return 1;
}

/* A filter whose function makes data pass through the filter itself, say by an
 * internal redirect. */
static apr_status_t nested(const mp_filter_run *run)
{
    ap_log_cerror(APLOG_MARK, APLOG_ERR, 0, run->f->c,
                  "mod_python: the filter '%s' was entered again while its function runs",
                  run->name);
    return APR_EGENERAL;
}

/* ---- output -------------------------------------------------------------- */

/* An answer that cannot be made: status 500 if nothing was sent, else it is cut
 * off where it is. */
static apr_status_t refuse_output(ap_filter_t *f, apr_bucket_brigade *bb, int begun)
{
    apr_bucket_alloc_t *alloc = f->c->bucket_alloc;
    int status = HTTP_INTERNAL_SERVER_ERROR;

    apr_brigade_cleanup(bb);
    if (!f->r) {
        f->c->aborted = 1;
        return APR_ECONNABORTED;
    }
    ap_remove_output_filter(f);
    mp_keep_from_caches(f->r);
    if (begun || f->r->sent_bodyct) {
        status = HTTP_BAD_GATEWAY;          /* makes httpd leave out the last chunk */
        f->c->keepalive = AP_CONN_CLOSE;
    }
    APR_BRIGADE_INSERT_TAIL(bb, ap_bucket_error_create(status, NULL, f->r->pool, alloc));
    APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_eos_create(alloc));
    return ap_pass_brigade(f->next, bb);
}

/* Leave the metadata, in order; with `end` the end of the stream goes too. */
static void drop_data(apr_bucket_brigade *bb, int end)
{
    apr_bucket *e = APR_BRIGADE_FIRST(bb), *next;

    for (; e != APR_BRIGADE_SENTINEL(bb); e = next) {
        next = APR_BUCKET_NEXT(e);
        if (!APR_BUCKET_IS_METADATA(e) || (end && APR_BUCKET_IS_EOS(e)))
            apr_bucket_delete(e);
    }
}

/* The first brigade that is passed on makes httpd send the head of the response, so
 * marks to flush wait until there is data or the end: the function may set headers
 * until then. */
int mp_output_waits(const mp_filter_run *run)
{
    const apr_bucket *e;

    if (!run->f->r || run->passed || run->disabled)
        return 0;
    for (e = APR_BRIGADE_FIRST(run->out); e != APR_BRIGADE_SENTINEL(run->out);
         e = APR_BUCKET_NEXT(e)) {
        if (APR_BUCKET_IS_METADATA(e) ? APR_BUCKET_IS_EOS(e) || AP_BUCKET_IS_EOR(e)
                                        || AP_BUCKET_IS_EOC(e)
                                      : e->length != 0)
            return 0;
    }
    return 1;
}

void mp_queue_mark(mp_filter_run *run, apr_bucket *e)
{
    APR_BUCKET_REMOVE(e);
    /* Of those that wait one is as good as many. */
    if (APR_BUCKET_IS_FLUSH(e) && !APR_BRIGADE_EMPTY(run->out)
        && APR_BUCKET_IS_FLUSH(APR_BRIGADE_LAST(run->out)))
        apr_bucket_destroy(e);
    else
        APR_BRIGADE_INSERT_TAIL(run->out, e);
}

static void queue_marks(mp_filter_run *run, apr_bucket_brigade *bb)
{
    while (!APR_BRIGADE_EMPTY(bb)) {
        apr_bucket *e = APR_BRIGADE_FIRST(bb);

        if (APR_BUCKET_IS_METADATA(e))
            mp_queue_mark(run, e);
        else
            apr_bucket_delete(e);           /* it is empty */
    }
}

/* Take out the header fields that the function's output makes wrong.  Those that the
 * function has set itself in an earlier call stay. */
static void drop_length(mp_filter_run *run, mp_length *found)
{
    apr_table_t *headers = run->f->r->headers_out;

    found->length = apr_table_get(headers, "Content-Length");
    found->md5 = apr_table_get(headers, "Content-MD5");
    if (found->length != run->own.length)
        apr_table_unset(headers, "Content-Length");
    if (found->md5 != run->own.md5)
        apr_table_unset(headers, "Content-MD5");
}

static void note_length(mp_filter_run *run)
{
    run->own.length = apr_table_get(run->f->r->headers_out, "Content-Length");
    run->own.md5 = apr_table_get(run->f->r->headers_out, "Content-MD5");
}

static apr_status_t pass_queued(mp_filter_run *run)
{
    apr_status_t rv = APR_SUCCESS;

    if (!APR_BRIGADE_EMPTY(run->out)) {
        rv = ap_pass_brigade(run->f->next, run->out);
        apr_brigade_cleanup(run->out);
        run->passed = 1;
    }
    run->queued = 0;
    run->borrowed = 0;
    return rv;
}

static void log_unread(const mp_filter_run *run, const char *what)
{
    ap_log_cerror(APLOG_MARK, APLOG_WARNING, 0, run->f->c,
                  "mod_python: the output filter '%s' %s: data that it has not read is dropped; "
                  "read until read() gives b\"\" or None, or use pass_on()", run->name, what);
}

static apr_status_t output_filter(ap_filter_t *f, apr_bucket_brigade *bb)
{
    mp_filter_run *run = f->ctx;
    mp_length found = { NULL, NULL };
    apr_bucket *e;
    apr_status_t rv;
    int data = 0, first, status, has_head;

    if (!bb || APR_BRIGADE_EMPTY(bb))
        return ap_pass_brigade(f->next, bb);
    if (!run && !(run = run_of_request(f, 0)))
        return refuse_output(f, bb, 0);
    if (run->running)
        return nested(run);
    if (run->over) {
        /* Nothing may follow the end, but what tells that the request or
         * connection is done with (EOR, EOC). */
        if (run->closed && !run->disabled && has_data(bb) && warns(run))
            log_unread(run, "has closed the stream early");
        drop_data(bb, f->r != NULL);
        return APR_BRIGADE_EMPTY(bb) ? APR_SUCCESS : ap_pass_brigade(f->next, bb);
    }
    if (run->disabled)
        return ap_pass_brigade(f->next, bb);

    run->last = 0;
    for (e = APR_BRIGADE_FIRST(bb); e != APR_BRIGADE_SENTINEL(bb); e = APR_BUCKET_NEXT(e)) {
        if (!APR_BUCKET_IS_METADATA(e))
            data |= e->length != 0;
        else if (f->r && APR_BUCKET_IS_EOS(e))
            run->last = 1;
    }
    has_head = f->r && !run->passed;
    if (has_head)
        drop_length(run, &found);
    if (!data && !run->last) {
        queue_marks(run, bb);
        return mp_output_waits(run) ? APR_SUCCESS : pass_queued(run);
    }

    first = !run->started;
    run->started = 1;
    run->large = run->took = run->gave = 0;
    run->in = bb;
    run->running = 1;
    status = call_function(run);
    run->running = 0;
    run->in = NULL;
    if (not_called(run, status)) {
        apr_brigade_cleanup(run->out);
        return refuse_output(f, bb, run->passed);
    }
    if (has_head && first && run->disabled && !run->touched) {
        if (found.length)
            apr_table_setn(f->r->headers_out, "Content-Length", found.length);
        if (found.md5)
            apr_table_setn(f->r->headers_out, "Content-MD5", found.md5);
    }
    if (has_head)
        note_length(run);
    if (run->closed || !run->disabled) {
        if (!run->disabled && run->error == APR_SUCCESS && has_data(bb) && warns(run))
            log_unread(run, run->closed ? "has closed the stream early" : "has returned early");
        drop_data(bb, run->closed && f->r);
    }
    if (run->last || run->closed)
        run->over = 1;
    if (status == MP_FILTER_HOLD && !run->over && !run->borrowed && APR_BRIGADE_EMPTY(bb))
        return run->error;
    if (run->disabled)
        APR_BRIGADE_CONCAT(run->out, bb);
    else
        queue_marks(run, bb);
    if (mp_output_waits(run) && !run->over) {
        run->borrowed = 0;
        return run->error;
    }
    rv = pass_queued(run);
    if (run->error != APR_SUCCESS && f->r)
        f->c->keepalive = AP_CONN_CLOSE;        /* the response is not complete */
    return run->error != APR_SUCCESS ? run->error : rv;
}

/* ---- input --------------------------------------------------------------- */

static apr_status_t refuse_input(ap_filter_t *f)
{
    request_rec *r = f->r;
    apr_bucket_brigade *bb;

    f->c->keepalive = AP_CONN_CLOSE;                /* the body stays unread */
    if (!r || r->eos_sent || r->sent_bodyct)
        return APR_EGENERAL;
    bb = apr_brigade_create(r->pool, f->c->bucket_alloc);
    APR_BRIGADE_INSERT_TAIL(bb, ap_bucket_error_create(HTTP_INTERNAL_SERVER_ERROR, NULL,
                                                       r->pool, f->c->bucket_alloc));
    APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_eos_create(f->c->bucket_alloc));
    ap_remove_input_filter(f);
    ap_pass_brigade(r->output_filters, bb);
    return AP_FILTER_ERROR;
}

/* Hand out what was written before, as far as it was asked for. */
static apr_status_t serve(mp_filter_run *run, apr_bucket_brigade *bb, ap_input_mode_t mode,
                          apr_read_type_e block, apr_off_t readbytes)
{
    apr_bucket_brigade *kept = run->out;
    apr_bucket *e, *after;
    apr_status_t rv;

    if (mode == AP_MODE_GETLINE)
        /* A line may go on beyond what was kept: readers of lines ask again
         * until they see its end. */
        return apr_brigade_split_line(bb, kept, block, HUGE_STRING_LEN);
    rv = apr_brigade_partition(kept, readbytes, &after);
    if (rv != APR_SUCCESS && rv != APR_INCOMPLETE)
        return rv;
    if (mode == AP_MODE_SPECULATIVE) {
        for (e = APR_BRIGADE_FIRST(kept); e != after && e != APR_BRIGADE_SENTINEL(kept);
             e = APR_BUCKET_NEXT(e)) {
            apr_bucket *copy;

            if (APR_BUCKET_IS_METADATA(e) && !APR_BUCKET_IS_EOS(e))
                continue;
            rv = apr_bucket_copy(e, &copy);
            if (rv != APR_SUCCESS)
                return rv;
            APR_BRIGADE_INSERT_TAIL(bb, copy);
        }
        return APR_SUCCESS;
    }
    while (!APR_BRIGADE_EMPTY(kept) && APR_BRIGADE_FIRST(kept) != after) {
        e = APR_BRIGADE_FIRST(kept);
        APR_BUCKET_REMOVE(e);
        APR_BRIGADE_INSERT_TAIL(bb, e);
    }
    return APR_SUCCESS;
}

/* AP_MODE_EATCRLF: drop line ends at the front; true if something else follows. */
static int eat_line_ends(apr_bucket_brigade *kept)
{
    while (!APR_BRIGADE_EMPTY(kept)) {
        apr_bucket *e = APR_BRIGADE_FIRST(kept);
        const char *data;
        apr_size_t len, n;

        if (APR_BUCKET_IS_METADATA(e)
            || apr_bucket_read(e, &data, &len, APR_NONBLOCK_READ) != APR_SUCCESS)
            return 1;
        for (n = 0; n < len && (data[n] == '\r' || data[n] == '\n'); n++)
            ;
        if (n < len) {
            if (n) {
                apr_bucket_split(e, n);
                apr_bucket_delete(e);
            }
            return 1;
        }
        apr_bucket_delete(e);
    }
    return 0;
}

/* The filter of a request has come to its end before the body has: its function has
 * closed it, or did nothing with a call.  The rest must not be taken for the next
 * request: what is there already is dropped, and if that is not all of it the
 * connection ends with this request.  A sub-request leaves that to its main request,
 * whose body it is.  Returns whether there was data. */
static int leave_rest(mp_filter_run *run)
{
    ap_filter_t *f = run->f;
    int answered = f->r->eos_sent, rounds, found = 0;
    apr_off_t length, total = 0;
    apr_status_t rv;

    if (f->r->main)
        return 0;
    /* A round is one chunk of a chunked body. */
    for (rounds = 0; rounds < REST_ROUNDS && total < REST_BYTES && !run->ended; rounds++) {
        rv = ap_get_brigade(f->next, run->in, AP_MODE_READBYTES, APR_NONBLOCK_READ,
                            AP_IOBUFSIZE);
        if (rv == AP_FILTER_ERROR || (f->r->eos_sent && !answered)) {
            /* The rest is no body, and was answered.  The reader must not go on. */
            run->error = AP_FILTER_ERROR;
            break;
        }
        if (rv != APR_SUCCESS || APR_BRIGADE_EMPTY(run->in))
            break;
        run->ended = APR_BUCKET_IS_EOS(APR_BRIGADE_LAST(run->in));
        if (apr_brigade_length(run->in, 0, &length) == APR_SUCCESS) {
            found |= length != 0;
            total += length > 0 ? length : 0;
        }
        apr_brigade_cleanup(run->in);
    }
    apr_brigade_cleanup(run->in);
    if (!run->ended)
        f->c->keepalive = AP_CONN_CLOSE;
    return found || !run->ended;
}

/* Have the function read and write once. */
static apr_status_t call_input(mp_filter_run *run, ap_input_mode_t mode,
                               apr_read_type_e block, apr_off_t readbytes)
{
    ap_filter_t *f = run->f;
    apr_pool_t *pool = f->r ? f->r->pool : f->c->pool;
    apr_status_t rv;
    int status, idle, unread;

    /* What is only looked at must come out of the function once, too; so it is
     * read in earnest, and what the function made of it is kept.  Lines are a
     * matter of what the function writes: on the wire there may be none. */
    run->mode = mode == AP_MODE_GETLINE && f->r ? AP_MODE_GETLINE : AP_MODE_READBYTES;
    run->block = block;
    run->size = mode == AP_MODE_READBYTES && readbytes > 0 ? readbytes
              : run->mode == AP_MODE_GETLINE ? 0 : AP_IOBUFSIZE;
    run->fetched = run->again = run->progress = run->took = run->gave = 0;
    run->running = 1;
    status = call_function(run);
    run->running = 0;
    if (not_called(run, status))
        return refuse_input(f);
    if (run->error != APR_SUCCESS && f->r && !APR_STATUS_IS_EOF(run->error)
        && run->error != APR_INCOMPLETE)
        f->c->keepalive = AP_CONN_CLOSE;        /* nobody knows where the body ends */
    idle = !run->closed && !run->ended && !run->disabled && !run->progress && !run->again
        && run->error == APR_SUCCESS;
    unread = has_data(run->in);
    if (run->closed || run->ended || idle)
        apr_brigade_cleanup(run->in);
    else {
        /* What the function left is for its next call. */
        rv = mp_keep_buckets(run->in, pool);
        if (rv != APR_SUCCESS)
            return run->error = rv;
        if (run->disabled)
            APR_BRIGADE_CONCAT(run->out, run->in);
    }
    if (run->closed || idle || (run->ended && run->error == APR_SUCCESS)) {
        run->over = 1;
        if (f->r && !run->ended)
            unread |= leave_rest(run);
        if (idle) {
            if ((unread || !run->ended || !f->r) && warns(run))
                ap_log_cerror(APLOG_MARK, APLOG_ERR, 0, f->c,
                              "mod_python: the input filter '%s' neither read nor wrote; taken as "
                              "the end of the stream (use pass_on() to let data through)",
                              run->name);
            run->ended = 1;
        }
        else if (run->closed && unread && warns(run))
            ap_log_cerror(APLOG_MARK, APLOG_WARNING, 0, f->c,
                          "mod_python: the input filter '%s' was closed with data unread, which "
                          "is dropped; read until read() gives b\"\" or None",
                          run->name);
        if (f->r && run->error == APR_SUCCESS)
            APR_BRIGADE_INSERT_TAIL(run->out, apr_bucket_eos_create(f->c->bucket_alloc));
    }
    return APR_SUCCESS;
}

static apr_status_t input_filter(ap_filter_t *f, apr_bucket_brigade *bb,
                                 ap_input_mode_t mode, apr_read_type_e block,
                                 apr_off_t readbytes)
{
    mp_filter_run *run = f->ctx;
    apr_status_t rv = APR_SUCCESS;

    if (mode == AP_MODE_INIT)
        return ap_get_brigade(f->next, bb, mode, block, readbytes);
    if (!run && !(run = run_of_request(f, 1)))
        return refuse_input(f);
    if (run->running)
        return nested(run);
    for (;;) {
        apr_bucket_brigade *kept = run->out;

        /* Splitting off a line may leave an empty bucket behind, which would
         * look like input without bytes. */
        while (!APR_BRIGADE_EMPTY(kept) && APR_BRIGADE_FIRST(kept)->length == 0
               && !APR_BUCKET_IS_METADATA(APR_BRIGADE_FIRST(kept)))
            apr_bucket_delete(APR_BRIGADE_FIRST(kept));
        if (run->error == AP_FILTER_ERROR) {
            /* A filter below has answered already.  A reader that still got what was
             * written before would go on, and write a response of its own. */
            apr_brigade_cleanup(kept);
            return AP_FILTER_ERROR;
        }
        if (mode == AP_MODE_EATCRLF) {
            if (eat_line_ends(kept))
                return APR_SUCCESS;
        }
        else if (mode == AP_MODE_EXHAUSTIVE)
            APR_BRIGADE_CONCAT(bb, kept);
        else if (!APR_BRIGADE_EMPTY(kept))
            return serve(run, bb, mode, block, readbytes);

        if (run->over) {
            if (!f->r)
                rv = APR_EOF;
            else if (APR_BRIGADE_EMPTY(bb))
                APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_eos_create(f->c->bucket_alloc));
            break;
        }
        if (run->error != APR_SUCCESS) {
            rv = run->error;
            break;
        }
        if (run->disabled)
            return ap_get_brigade(f->next, bb, mode, block, readbytes);
        rv = call_input(run, mode, block, readbytes);
        if (rv != APR_SUCCESS)
            return rv;
        if (APR_BRIGADE_EMPTY(kept) && run->again) {
            rv = APR_EAGAIN;
            break;
        }
    }
    return mode == AP_MODE_EXHAUSTIVE && !APR_BRIGADE_EMPTY(bb) ? APR_SUCCESS : rv;
}

/* ---- connections --------------------------------------------------------- */

static void add_to_connection(conn_rec *c, const mp_handler *handler, int is_input,
                              mp_interp *interp)
{
    mp_filter_run *run = make_run(c->pool, c, handler->text, is_input, interp);

    run->handler = handler;
    run->f = is_input ? ap_add_input_filter_handle(connection_input, run, NULL, c)
                      : ap_add_output_filter_handle(connection_output, run, NULL, c);
}

/* The first directive's filter is the first to see the data, in either
 * direction.  mod_ssl's filters lie nearer to the network: what is filtered
 * here is plain text. */
static int pre_connection(conn_rec *c, void *socket)
{
    const mp_server_conf *conf = mp_server_conf_of(c->base_server);
    mp_interp *interp;
    int i;

    (void)socket;
    /* Not for connections to a proxied server, and not for the streams of an
     * HTTP/2 connection, which carry no bytes of their own. */
    if ((!conf->connection_input && !conf->connection_output) || c->master || c->outgoing)
        return OK;
    interp = mp_interpreter_of_conn(conf);
    for (i = conf->connection_input ? conf->connection_input->n : 0; i-- > 0;)
        add_to_connection(c, &conf->connection_input->handlers[i], 1, interp);
    for (i = 0; conf->connection_output && i < conf->connection_output->n; i++)
        add_to_connection(c, &conf->connection_output->handlers[i], 0, interp);
    return OK;
}

void mp_register_filter_hooks(void)
{
    own_input = ap_register_input_filter(OWN_NAME, input_filter, NULL, AP_FTYPE_RESOURCE);
    own_output = ap_register_output_filter(OWN_NAME, output_filter, NULL, AP_FTYPE_RESOURCE);
    /* Above mod_ssl, which has AP_FTYPE_CONNECTION + 5; below bytes that were read
     * through these filters and given back (hooks.c). */
    connection_input = ap_register_input_filter(CONNECTION_NAME, input_filter, NULL,
                                                AP_FTYPE_CONNECTION + 1);
    connection_output = ap_register_output_filter(CONNECTION_NAME, output_filter, NULL,
                                                  AP_FTYPE_CONNECTION + 1);
    ap_hook_pre_connection(pre_connection, NULL, NULL, APR_HOOK_MIDDLE);
}
