/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * The framing of responses: that a client finds the end of each where it is.
 *
 * httpd sends the length it is told and the body it is given, and what does not
 * match is taken for the next response, or waited for.  So a filter of ours looks at
 * every response that Python code has had a part in: at the head before it leaves,
 * and, if that announces a length, at the bytes that follow.  It comes after all
 * filters that change content, and before those that frame it (the byte-range,
 * content-length and header filters, all of AP_FTYPE_PROTOCOL).
 *
 * RFC 9110, sections 8.6 and 15.2; RFC 9112, section 6.
 */

#include "shell.h"

#include <apr_buckets.h>
#include <http_protocol.h>
#include <http_request.h>
#include <mod_core.h>
#include <util_filter.h>

APLOG_USE_MODULE(python);

#define FRAMING_TYPE ((ap_filter_type) (AP_FTYPE_PROTOCOL - 1))

/* What is read at most of buckets of unknown length before it is passed on. */
#define MAX_READ 65536
/* A Content-Length of more digits is none that could be sent. */
#define MAX_DIGITS 18

static ap_filter_rec_t *framing_filter, *body_filter;

typedef struct mp_framing {
    apr_off_t announced;
    apr_off_t passed;
    apr_bucket_brigade *rest;       /* for what follows in a brigade that is passed on in parts */
    int failed;                     /* an error bucket was there: whoever sent it ends the response */
    int cut;
    int ended;
} framing;

void mp_keep_from_caches(request_rec *r)
{
    request_rec *whole, *other;

    for (whole = r; whole; whole = whole->main) {
        for (other = whole; other; other = other->prev)
            other->no_cache = 1;
        for (other = whole->next; other; other = other->next)
            other->no_cache = 1;
    }
}

/* ---- the head -------------------------------------------------------------- */

typedef struct {
    apr_off_t length;               /* -1: none, or none that is right */
    const char *wrong;              /* a value that is no length, or not the same as another */
} lengths;

static int look_at_length(void *data, const char *key, const char *value)
{
    lengths *found = data;
    apr_off_t length = 0;
    int digits = 0;

    (void)key;
    for (value += strspn(value, " \t"); value[digits] >= '0' && value[digits] <= '9'
                                        && digits < MAX_DIGITS; digits++)
        length = length * 10 + (value[digits] - '0');
    if (!digits || value[digits + strspn(value + digits, " \t")] != '\0'
        || (found->length >= 0 && found->length != length))
        found->wrong = value;
    found->length = length;
    return 1;
}

/* The length that the head announces, made to be the only one; -1 for none. */
static apr_off_t length_of(request_rec *r)
{
    lengths found = { -1, NULL };
    int has_errors = !apr_is_empty_table(r->err_headers_out);

    if (!has_errors && !apr_table_get(r->headers_out, "Content-Length"))
        return -1;
    apr_table_do(look_at_length, &found, r->headers_out, "Content-Length", NULL);
    if (has_errors)
        apr_table_do(look_at_length, &found, r->err_headers_out, "Content-Length", NULL);
    if (found.length < 0 && !found.wrong)
        return -1;
    apr_table_unset(r->headers_out, "Content-Length");
    apr_table_unset(r->err_headers_out, "Content-Length");
    if (found.wrong) {
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r, "mod_python: the response to %s has a "
                      "Content-Length '%.40s' that is no number of bytes, or not the only one; it "
                      "is left out", r->uri, found.wrong);
        return -1;
    }
    if (r->status == HTTP_NO_CONTENT)
        return -1;
    apr_table_setn(r->headers_out, "Content-Length", apr_off_t_toa(r->pool, found.length));
    /* The length of what GET would get, or of what the client has. */
    return r->header_only || r->status == HTTP_NOT_MODIFIED ? -1 : found.length;
}

/* httpd takes a Transfer-Encoding for a sign that the body is encoded already. */
static void drop_transfer_encoding(request_rec *r)
{
    if (!apr_table_get(r->headers_out, "Transfer-Encoding")
        && !apr_table_get(r->err_headers_out, "Transfer-Encoding"))
        return;
    apr_table_unset(r->headers_out, "Transfer-Encoding");
    apr_table_unset(r->err_headers_out, "Transfer-Encoding");
    ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r, "mod_python: the response to %s has a header "
                  "Transfer-Encoding; it is left out, because httpd itself encodes the body",
                  r->uri);
}

/* A client takes a response with such a status for one that another follows. */
static int is_interim(const request_rec *r)
{
    /* mod_proxy passes on the 101 of a backend, and then both sides' bytes. */
    return r->status >= 100 && r->status < 200 && !r->proxyreq;
}

static apr_status_t refuse(ap_filter_t *f, apr_bucket_brigade *bb)
{
    request_rec *r = f->r;
    apr_bucket_alloc_t *alloc = f->c->bucket_alloc;

    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r, "mod_python: the response to %s has the status %d, "
                  "which only responses that another follows can have; 500 is sent in its place",
                  r->uri, r->status);
    apr_brigade_cleanup(bb);
    ap_remove_output_filter(f);
    r->status = HTTP_OK;                /* or it would count as an error before this one */
    APR_BRIGADE_INSERT_TAIL(bb, ap_bucket_error_create(HTTP_INTERNAL_SERVER_ERROR, NULL, r->pool,
                                                       alloc));
    APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_eos_create(alloc));
    return ap_pass_brigade(f->next, bb);
}

/* ---- the body -------------------------------------------------------------- */

/* Pass on what comes before a bucket, and wait until it is written. */
static apr_status_t pass_before(ap_filter_t *f, apr_bucket_brigade *bb, apr_bucket *e)
{
    framing *state = f->ctx;
    apr_status_t rv;

    if (!state->rest)
        state->rest = apr_brigade_create(f->r->pool, f->c->bucket_alloc);
    state->rest = apr_brigade_split_ex(bb, e, state->rest);
    APR_BRIGADE_INSERT_TAIL(bb, apr_bucket_flush_create(f->c->bucket_alloc));
    rv = ap_pass_brigade(f->next, bb);
    apr_brigade_cleanup(bb);
    APR_BRIGADE_CONCAT(bb, state->rest);
    return rv;
}

/* Find out how long a bucket is that has to be read for that: a pipe. */
static apr_status_t read_bucket(ap_filter_t *f, apr_bucket_brigade *bb, apr_bucket *e,
                                apr_size_t *pending)
{
    const char *data;
    apr_size_t length;
    apr_status_t rv = apr_bucket_read(e, &data, &length, APR_NONBLOCK_READ);

    if (APR_STATUS_IS_EAGAIN(rv) || *pending >= MAX_READ) {
        apr_status_t passed = pass_before(f, bb, e);

        *pending = 0;
        if (passed != APR_SUCCESS)
            return passed;
        if (APR_STATUS_IS_EAGAIN(rv))
            rv = apr_bucket_read(e, &data, &length, APR_BLOCK_READ);
    }
    if (rv == APR_SUCCESS)
        *pending += length;
    return rv == APR_EOF ? APR_SUCCESS : rv;
}

/* Leave out what is beyond the length: from the byte `left` of a bucket on. */
static apr_status_t cut(ap_filter_t *f, apr_bucket *e, apr_off_t left)
{
    framing *state = f->ctx;

    if (!state->cut)
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, f->r, "mod_python: the response to %s has more "
                      "than its Content-Length of %" APR_OFF_T_FMT " bytes; the rest is left out "
                      "(a length in characters, perhaps)", f->r->uri, state->announced);
    state->cut = 1;
    if (left) {
        apr_status_t rv = apr_bucket_split(e, (apr_size_t)left);    /* all can that know their length */

        if (rv != APR_SUCCESS)
            return rv;
        e = APR_BUCKET_NEXT(e);
    }
    apr_bucket_delete(e);
    return APR_SUCCESS;
}

/* The response ends too early.  What there is leaves with the length that was announced
 * (with the end in the same brigade httpd would put the right one in its place); then
 * it ends as a broken one: HTTP/1 closes the connection, HTTP/2 resets the stream. */
static apr_status_t end_short(ap_filter_t *f, apr_bucket_brigade *bb, apr_bucket *eos)
{
    framing *state = f->ctx;
    apr_status_t rv;

    if (!f->c->aborted)
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, f->r, "mod_python: the response to %s ends after "
                      "%" APR_OFF_T_FMT " of the %" APR_OFF_T_FMT " bytes of its Content-Length; "
                      "the connection is closed", f->r->uri, state->passed, state->announced);
    f->c->keepalive = AP_CONN_CLOSE;
    mp_keep_from_caches(f->r);
    rv = pass_before(f, bb, eos);
    if (rv == APR_SUCCESS)
        APR_BRIGADE_INSERT_HEAD(bb, ap_bucket_error_create(HTTP_BAD_GATEWAY, NULL, f->r->pool,
                                                           f->c->bucket_alloc));
    return rv;
}

static apr_status_t count(ap_filter_t *f, apr_bucket_brigade *bb)
{
    framing *state = f->ctx;
    apr_bucket *e, *next;
    apr_size_t pending = 0;
    apr_off_t left;
    apr_status_t rv;

    for (e = APR_BRIGADE_FIRST(bb); e != APR_BRIGADE_SENTINEL(bb); e = next) {
        if (APR_BUCKET_IS_METADATA(e)) {
            if (AP_BUCKET_IS_ERROR(e))
                state->failed = 1;
            else if (APR_BUCKET_IS_EOS(e) && !state->ended) {
                state->ended = 1;
                if (state->passed < state->announced && !state->failed) {
                    rv = end_short(f, bb, e);
                    if (rv != APR_SUCCESS)
                        return rv;
                }
            }
            next = APR_BUCKET_NEXT(e);
            continue;
        }
        if (e->length == (apr_size_t)-1) {
            rv = read_bucket(f, bb, e, &pending);
            if (rv != APR_SUCCESS)
                return rv;
        }
        left = state->announced - state->passed;
        next = APR_BUCKET_NEXT(e);
        if ((apr_uint64_t)e->length > (apr_uint64_t)left) {
            if (left) {
                rv = cut(f, e, left);
                if (rv != APR_SUCCESS)
                    return rv;
                next = APR_BUCKET_NEXT(e);
                state->passed += left;
            }
            else
                cut(f, e, 0);
        }
        else
            state->passed += e->length;
    }
    return APR_SUCCESS;
}

/* What is left of a response whose head has left already.  If httpd finds an error then, or
 * the request is redirected, what follows is a part of the same response, but all filters
 * of this kind are gone. */
static framing *begun(const request_rec *r)
{
    for (; r; r = r->prev) {
        const mp_record *record = mp_request_record(r);

        if (record && record->framing && r->sent_bodyct)
            return record->framing;
    }
    return NULL;
}

static apr_status_t frame(ap_filter_t *f, apr_bucket_brigade *bb)
{
    request_rec *r = f->r;
    framing *state = f->ctx;
    apr_off_t announced;
    apr_status_t rv;

    if (!state && r && !r->main)
        state = f->ctx = begun(r);
    if (!state) {
        if (!r || r->main || r->sent_bodyct) {      /* its name, written into the configuration */
            ap_remove_output_filter(f);
            return ap_pass_brigade(f->next, bb);
        }
        if (is_interim(r))
            return refuse(f, bb);
        drop_transfer_encoding(r);
        announced = length_of(r);
        if (announced < 0) {
            ap_remove_output_filter(f);
            return ap_pass_brigade(f->next, bb);
        }
        state = f->ctx = apr_pcalloc(r->pool, sizeof(*state));
        state->announced = announced;
        mp_note_request(r)->framing = state;
    }
    rv = count(f, bb);
    return rv == APR_SUCCESS ? ap_pass_brigade(f->next, bb) : rv;
}

/* ---- bodies of requests ------------------------------------------------------- */

static int is_other(const char *now, const char *before)
{
    return now != before && (!now || !before || strcmp(now, before) != 0);
}

/* Whether Python has changed the headers that say where the body ends.  httpd looks at them
 * when it begins to read: with others it would take the rest for the next request. */
static int is_changed(const request_rec *r, const mp_record *record)
{
    return is_other(apr_table_get(r->headers_in, "Content-Length"), record->length)
        || is_other(apr_table_get(r->headers_in, "Transfer-Encoding"), record->encoding);
}

/* Nobody has read from the body so far. */
static apr_status_t begin_body(ap_filter_t *f, apr_bucket_brigade *bb, ap_input_mode_t mode,
                               apr_read_type_e block, apr_off_t readbytes)
{
    ap_filter_t *next = f->next;

    if (mode == AP_MODE_READBYTES || mode == AP_MODE_GETLINE) {
        if (f->r && f->ctx && is_changed(f->r, f->ctx))
            f->c->keepalive = AP_CONN_CLOSE;
        ap_remove_input_filter(f);
    }
    return ap_get_brigade(next, bb, mode, block, readbytes);
}

void mp_note_body(request_rec *r, mp_record *record)
{
    record->length = apr_table_get(r->headers_in, "Content-Length");
    record->encoding = apr_table_get(r->headers_in, "Transfer-Encoding");
    if ((record->length || record->encoding) && !r->main && !r->connection->master)
        ap_add_input_filter_handle(body_filter, record, r, r->connection);
}

void mp_check_body(request_rec *r)
{
    const mp_record *record = mp_request_record(r);
    const ap_filter_t *f;

    if (!record || (!record->length && !record->encoding) || !is_changed(r, record))
        return;
    for (f = r->input_filters; f && f->frec != ap_http_input_filter_handle; f = f->next)
        ;
    if (!f || !f->ctx)              /* it has a context from the first reading on */
        r->connection->keepalive = AP_CONN_CLOSE;
}

/* ---- who is framed ------------------------------------------------------------ */

int mp_is_framing(const ap_filter_t *f)
{
    return f->frec == framing_filter;
}

void mp_frame(request_rec *r)
{
    const ap_filter_t *f;

    /* Not eos_sent: httpd sets that before it gives a response that is made at once, such as a
     * file, to the first filter, which may be Python's and have a part in it only now. */
    if (r->main || r->assbackwards || (r->sent_bodyct && !begun(r)))
        return;
    for (f = r->output_filters; f && f->frec->ftype < AP_FTYPE_PROTOCOL; f = f->next) {
        if (mp_is_framing(f))
            return;
    }
    ap_add_output_filter_handle(framing_filter, NULL, r, r->connection);
}

/* Python handlers of any phase may have set headers, also for the error page or
 * the request that comes in this one's place. */
static void insert(request_rec *r)
{
    const request_rec *other;
    int concerned = mp_is_our_name(r->handler);

    for (other = r; other && !concerned; other = other->prev)
        concerned = mp_request_record(other) != NULL;
    if (concerned)
        mp_frame(r);
}

void mp_register_framing(void)
{
    framing_filter = ap_register_output_filter("MOD_PYTHON_FRAMING", frame, NULL, FRAMING_TYPE);
    body_filter = ap_register_input_filter("MOD_PYTHON_BODY", begin_body, NULL, FRAMING_TYPE);
    ap_hook_insert_filter(insert, NULL, NULL, APR_HOOK_LAST);
    ap_hook_insert_error_filter(insert, NULL, NULL, APR_HOOK_LAST);
}
