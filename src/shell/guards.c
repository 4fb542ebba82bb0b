/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * Guards: access, authentication and authorisation handlers, and the functions of
 * Require python.
 *
 * httpd skips access control for a sub-request or an internal redirect whose
 * configuration is the very one of the request that it comes from: nothing that its
 * own modules look at has changed.  Python may look at anything, the name of the file
 * above all, and a list for "| .ext" applies to some files only.  So such a request
 * gets a copy of its configuration if a guard applies to it, and httpd's comparison,
 * which is of addresses, makes a difference.
 *
 * What httpd's own modules have decided they need not decide again, if only access
 * handlers are to be called: then the user comes from the other request, as httpd
 * would do it.  Where Python takes part in authentication or authorisation, all of
 * both is done again, as for a file in a <Files> section.  So it is if a handler of an
 * early phase redirects a request that httpd has not granted access to yet.
 */

#include "shell.h"

#include <http_request.h>

APLOG_USE_MODULE(python);

/* A vector without an entry, to merge with: that is how httpd copies one. */
static ap_conf_vector_t *nothing;

static const void *origin_of(const request_rec *r)
{
    const mp_dir_conf *conf = mp_dir_conf_of(r);

    return conf->origin ? (const void *)conf->origin : (const void *)r->per_dir_config;
}

/* Whether a list applies that may have a function to call.  The request that this
 * one comes from may have found out that it has none. */
static int has_guard(const request_rec *r, const mp_dir_conf *conf, mp_phase phase,
                     const mp_record *other)
{
    const char *ext;
    const mp_hlist *list = mp_find_hlist(&conf->phase[phase], r->filename, &ext);

    return list && !(other && other->absent[phase - MP_ACCESS] == list);
}

static int differ(request_rec *r)
{
    mp_dir_conf *conf, *own;
    const mp_record *record;
    request_rec *other;
    int unchecked, access, others;

    if (!r->prev && !r->main)
        return DECLINED;
    /* The order in which httpd compares. */
    other = r->prev && origin_of(r->prev) == (const void *)r->per_dir_config ? r->prev
            : r->main && origin_of(r->main) == (const void *)r->per_dir_config ? r->main
            : NULL;
    if (!other)
        return DECLINED;

    conf = mp_dir_conf_of(r);
    record = mp_request_record(other);
    unchecked = record && record->unchecked;
    access = has_guard(r, conf, MP_ACCESS, record);
    others = unchecked || conf->requires_python || has_guard(r, conf, MP_AUTHEN, record)
             || has_guard(r, conf, MP_AUTHZ, record);
    if (!access && !others) {
        /* The other one may have a copy of the same. */
        r->per_dir_config = other->per_dir_config;
        if (record && (record->absent[0] || record->absent[1] || record->absent[2]))
            memcpy(mp_note_request(r)->absent, record->absent, sizeof(record->absent));
        return DECLINED;
    }
    own = apr_pmemdup(r->pool, conf, sizeof(*conf));
    own->origin = r->per_dir_config;
    r->per_dir_config = ap_merge_per_dir_configs(r->pool, r->per_dir_config, nothing);
    ap_set_module_config(r->per_dir_config, &python_module, own);
    if (!others)
        mp_note_request(r)->passed = other;
    return DECLINED;
}

/* After the access handlers.  With Satisfy Any they may just have refused, and the
 * other request may have been let in by them alone. */
static int carry_over(request_rec *r)
{
    const mp_record *record = mp_request_record(r);

    if (!record || !record->passed || ap_satisfies(r) == SATISFY_ANY)
        return DECLINED;
    r->user = record->passed->user;
    r->ap_auth_type = record->passed->ap_auth_type;
    return OK;
}

/* ---- an authentication handler that is not called -------------------------- */

/* Sections that were warned of, by the hash of what names them.  A server with more
 * of them has been warned often enough. */
#define MAX_TOLD 64
static apr_uint64_t told[MAX_TOLD];

static apr_uint64_t hash_text(apr_uint64_t hash, const char *text)
{
    for (; text && *text; text++)
        hash = (hash ^ (unsigned char)*text) * APR_UINT64_C(1099511628211);
    return (hash ^ 0xff) * APR_UINT64_C(1099511628211);
}

static int is_first_time(const mp_handler *handler)
{
    apr_uint64_t hash = APR_UINT64_C(14695981039346656037), empty;
    const mp_section *s = handler->section;
    int i;

    hash = hash_text(hash, handler->text);
    hash = hash_text(hash, s->path);
    hash = hash_text(hash, s->directory) | 1;
    for (i = 0; i < MAX_TOLD; i++) {
        empty = 0;
        if (__atomic_compare_exchange_n(&told[i], &empty, hash, 0, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED))
            return 1;
        if (empty == hash)              /* what was there */
            return 0;
    }
    return 0;
}

static const char *where(apr_pool_t *p, const mp_section *s)
{
    if (s->node)
        return apr_psprintf(p, "%s %s (%s:%d)", s->node->directive, s->node->args,
                            s->node->filename, s->node->line_num);
    if (s->kind == MP_SECTION_HTACCESS)
        return apr_psprintf(p, "the .htaccess file of %s", s->directory);
    return "the server";
}

void mp_note_authen(request_rec *r)
{
    const mp_phase_conf *pc = &mp_dir_conf_of(r)->phase[MP_AUTHEN];
    const mp_hlist *list;
    const char *ext;
    int i;

    /* Authentication that was asked for ends with a user, or the request. */
    if ((!pc->all && !pc->ext) || r->user || r->main || r->prev)
        return;
    list = mp_find_hlist(pc, r->filename, &ext);
    for (i = 0; list && i < list->n; i++) {
        const mp_handler *handler = &list->handlers[i];

        /* The names of a PythonHandlerModule are all phases', and other rules may
         * have let this request in, for which no user has to be known. */
        if (handler->silent || ap_satisfies(r) == SATISFY_ANY || !is_first_time(handler)
            || (handler->section->kind != MP_SECTION_HTACCESS
                && mp_requires_user(handler->section->node, r->pool)))
            continue;
        ap_log_rerror(APLOG_MARK, APLOG_WARNING, 0, r,
                      "PythonAuthenHandler %s of %s was not called for this request: httpd "
                      "authenticates only where a Require needs a user; write \"Require "
                      "valid-user\" there", handler->text, where(r->pool, handler->section));
    }
}

static int make_nothing(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    (void)plog;
    (void)ptemp;
    (void)s;
    nothing = ap_create_request_config(pconf);
    return OK;
}

void mp_register_guards(void)
{
    ap_hook_post_config(make_nothing, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_perdir_config(differ, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_hook_check_access_ex(carry_over, NULL, NULL, APR_HOOK_REALLY_FIRST,
                            AP_AUTH_INTERNAL_PER_URI);
}
