/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * The head of a response that belongs to one visitor.
 *
 * Python notes on a request that its response sets a cookie, or depends on a session.
 * What the application does to Cache-Control and Set-Cookie afterwards, and what httpd
 * does when it redirects a request internally or makes an error page, comes later.  So
 * the headers are seen to when the head is about to leave:
 *
 * - a session's cookie that was left behind with the headers of an earlier request of
 *   the chain is sent, and one that an error page drops if the session was stored;
 * - what depends on a session is private, unless the application says who may store it;
 * - what sets a session's cookie is private, whatever the application says;
 * - of what sets another cookie, no shared cache keeps the cookie.
 *
 * That is done after mod_headers has had its turn, and before mod_cache stores the
 * response.
 */

#include "shell.h"

#include <apr_lib.h>
#include <http_protocol.h>
#include <http_request.h>
#include <util_filter.h>

APLOG_USE_MODULE(python);

static const char CACHE_CONTROL[] = "Cache-Control";
static const char SET_COOKIE[] = "Set-Cookie";

static ap_filter_rec_t *own;

int mp_is_head_filter(const ap_filter_t *f)
{
    return f->frec == own;
}

/* ---- what was noted ------------------------------------------------------ */

/* Of this request and those that were redirected to it. */
static int noted(const request_rec *r)
{
    int what = 0;

    for (; r; r = r->prev) {
        const mp_record *record = mp_request_record(r);

        if (record)
            what |= record->head;
    }
    return what;
}

static ap_filter_t *find_filter(const request_rec *r)
{
    ap_filter_t *f = r->output_filters;

    while (f && f->frec != own)
        f = f->frec->ftype < AP_FTYPE_PROTOCOL ? f->next : NULL;
    return f;
}

/* The head has left already, and mod_cache has begun to store the response: a part of a
 * page that mod_include makes has a session.  What is not stored to its end is dropped. */
static void leave_cache(request_rec *r)
{
    ap_filter_t *f = r->output_filters, *next;

    for (; f && f->frec->ftype < AP_FTYPE_PROTOCOL; f = next) {
        next = f->next;
        if (strcasecmp(f->frec->name, "cache_save") == 0)
            ap_remove_output_filter(f);
    }
}

void mp_guard_head(request_rec *r, int what)
{
    while (r->main)
        r = r->main;
    mp_note_request(r)->head |= what;
    if (!find_filter(r))
        ap_add_output_filter_handle(own, NULL, r, r->connection);
    if (what & MP_HEAD_SESSION && r->sent_bodyct)
        leave_cache(r);
}

/* A request that was redirected to begins without the filters of the one before, one
 * whose index page was found gets those of the sub-request that found it, and an error
 * page has none but those of the protocol.  Among filters of one kind the order is that
 * in which they were added, so ours is added last. */
static void insert_filter(request_rec *r)
{
    ap_filter_t *f;

    if (r->main || !noted(r))
        return;
    f = find_filter(r);
    if (f)
        ap_remove_output_filter(f);
    ap_add_output_filter_handle(own, NULL, r, r->connection);
}

/* ---- cookies ------------------------------------------------------------- */

static int has_line(const apr_table_t *table, const char *line)
{
    const apr_table_entry_t *e = (const apr_table_entry_t *)apr_table_elts(table)->elts;
    int i, n = apr_table_elts(table)->nelts;

    for (i = 0; i < n; i++) {
        if (strcasecmp(e[i].key, SET_COOKIE) == 0 && strcmp(e[i].val, line) == 0)
            return 1;
    }
    return 0;
}

/* Send the session cookies that were left behind; whether the response has any.  Where
 * headers are those of the request itself, the application may have taken it away. */
static int bring_cookies(request_rec *r, int what)
{
    const request_rec *from;
    int found = 0;

    for (from = r; from; from = from->prev) {
        const apr_table_entry_t *e = (const apr_table_entry_t *)apr_table_elts(from->notes)->elts;
        int i, n = apr_table_elts(from->notes)->nelts;

        for (i = 0; i < n; i++) {
            if (strncmp(e[i].key, MP_COOKIE_NOTE, sizeof(MP_COOKIE_NOTE) - 1) != 0)
                continue;
            if (!has_line(r->headers_out, e[i].val) && !has_line(r->err_headers_out, e[i].val)) {
                if (from == r && (r->status < 300 || !(what & MP_HEAD_STORED)))
                    continue;
                apr_table_addn(r->headers_out, SET_COOKIE, e[i].val);
            }
            found = 1;
        }
    }
    return found;
}

/* ---- Cache-Control ------------------------------------------------------- */

typedef struct directive {
    const char *text;
    apr_size_t length;
} directive;

/* The next directive of a value; 0 at its end.  A comma in quotes is no end. */
static int next_directive(const char **at, directive *d)
{
    const char *p = *at;
    int quoted = 0;

    while (*p == ',' || apr_isspace(*p))
        p++;
    if (!*p)
        return 0;
    for (d->text = p; *p && (quoted || *p != ','); p++) {
        if (*p == '"')
            quoted = !quoted;
        else if (quoted && *p == '\\' && p[1])
            p++;
    }
    *at = p;
    d->length = (apr_size_t)(p - d->text);
    while (d->length && apr_isspace(d->text[d->length - 1]))
        d->length--;
    return 1;
}

/* Whether a directive has a name; with `bare`, and no argument. */
static int is_directive(const directive *d, const char *name, int bare)
{
    apr_size_t n = strlen(name);

    return d->length >= n && strncasecmp(d->text, name, n) == 0
           && (d->length == n || (!bare && (d->text[n] == '=' || apr_isspace(d->text[n]))));
}

static int names_cookie(const directive *d)
{
    const apr_size_t n = sizeof(SET_COOKIE) - 1;
    apr_size_t i;

    for (i = 0; i + n <= d->length; i++) {
        if (strncasecmp(d->text + i, SET_COOKIE, n) == 0)
            return 1;
    }
    return 0;
}

/* Whether the directives that are there are enough; if not, `all` gets those that stay. */
static int is_enough(const request_rec *r, int what, int has_cookie, apr_array_header_t *all)
{
    const apr_table_t *tables[2];
    int enough = 0, t, i;

    tables[0] = r->err_headers_out;
    tables[1] = r->headers_out;
    for (t = 0; t < 2; t++) {
        const apr_array_header_t *elts = apr_table_elts(tables[t]);

        for (i = 0; i < elts->nelts; i++) {
            const apr_table_entry_t *e = &APR_ARRAY_IDX(elts, i, apr_table_entry_t);
            const char *at = e->val;
            directive d;

            if (strcasecmp(e->key, CACHE_CONTROL) != 0)
                continue;
            while (next_directive(&at, &d)) {
                if (is_directive(&d, "private", 1) || is_directive(&d, "no-store", 1))
                    enough = 1;
                else if (!(what & MP_HEAD_SESSION))
                    enough |= is_directive(&d, "no-cache", 0) && names_cookie(&d);
                else if (is_directive(&d, "public", 1) || is_directive(&d, "s-maxage", 0)) {
                    if (has_cookie)
                        continue;
                    enough = 1;
                }
                APR_ARRAY_PUSH(all, const char *) = apr_pstrmemdup(r->pool, d.text, d.length);
            }
        }
    }
    return enough;
}

static void restrict_caches(request_rec *r, int what, int has_cookie)
{
    apr_array_header_t *all = apr_array_make(r->pool, 4, sizeof(const char *));

    if (!(what & MP_HEAD_SESSION) && !apr_table_get(r->headers_out, SET_COOKIE)
        && !apr_table_get(r->err_headers_out, SET_COOKIE))
        return;
    if (is_enough(r, what, has_cookie, all))
        return;
    APR_ARRAY_PUSH(all, const char *) =
        what & MP_HEAD_SESSION ? "private" : "no-cache=\"set-cookie\"";
    apr_table_unset(r->err_headers_out, CACHE_CONTROL);
    apr_table_setn(r->headers_out, CACHE_CONTROL, apr_array_pstrcat(r->pool, all, ','));
}

/* ---- the filter ---------------------------------------------------------- */

static apr_status_t head_filter(ap_filter_t *f, apr_bucket_brigade *bb)
{
    request_rec *r = f->r;
    int what;

    if (!bb || APR_BRIGADE_EMPTY(bb))
        return ap_pass_brigade(f->next, bb);
    what = noted(r);
    restrict_caches(r, what, what & MP_HEAD_SESSION ? bring_cookies(r, what) : 0);
    ap_remove_output_filter(f);
    return ap_pass_brigade(f->next, bb);
}

void mp_register_head(void)
{
    /* mod_headers has the same type, and what stores for mod_cache the next. */
    own = ap_register_output_filter("MOD_PYTHON_HEAD", head_filter, NULL, AP_FTYPE_CONTENT_SET);
    ap_hook_insert_filter(insert_filter, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_hook_insert_error_filter(insert_filter, NULL, NULL, APR_HOOK_REALLY_LAST);
}
