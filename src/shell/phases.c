/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * The request phases.  Each hook function answers one question first, without
 * Python: is there a Python handler for this phase here?  If not, it declines.
 *
 * A phase has the handlers that the configuration in force names, which run in
 * the interpreter that belongs to them, and those that Python code added while
 * the request was processed, which run in the interpreter that added them
 * (mp_slot.dynamic).  Nearly always that is one interpreter and one call.
 *
 * The end of a request is a pre-cleanup of its pool, so that everything of it
 * can still be looked at: first the callables of req.register_cleanup(), then
 * PythonCleanupHandler.  It is registered late, when it is known that there is
 * something to do: by a Python phase, before the content phase (for sub-requests
 * that are run, not only looked up), and before logging (for requests that ended
 * early).
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "shell.h"

#include <ap_expr.h>
#include <http_protocol.h>
#include <http_request.h>
#include <util_filter.h>

APLOG_USE_MODULE(python);

/* Content handler names that mean us; the second is the name of old. */
#define HANDLER_NAME        "mod_python"
#define HANDLER_NAME_LEGACY "python-program"

int mp_is_our_name(const char *handler)
{
    return handler && (strcmp(handler, HANDLER_NAME) == 0
                       || strcmp(handler, HANDLER_NAME_LEGACY) == 0);
}

/* ---- which interpreter --------------------------------------------------- */

/* Whether a directory exists, so that it may name an interpreter: clients must not be able
 * to invent names.  Nor does one that the path comes through twice, by a symbolic link to a
 * directory above: there is no end of its names. */
static int names_one(apr_pool_t *pool, const char *directory)
{
    struct { apr_dev_t device; apr_ino_t inode; } *seen;
    char *path = apr_pstrdup(pool, directory), *slash;
    apr_finfo_t info;
    int n = 0, i;

    for (slash = path; (slash = strchr(slash, '/')) != NULL; slash++)
        n++;
    seen = apr_palloc(pool, n * sizeof(*seen));
    n = 0;
    for (slash = path; (slash = strchr(slash, '/')) != NULL; slash++) {
        char after = slash[1];

        slash[1] = '\0';
        if (apr_stat(&info, path, APR_FINFO_TYPE | APR_FINFO_IDENT, pool) != APR_SUCCESS
            || info.filetype != APR_DIR)
            return 0;
        slash[1] = after;
        for (i = 0; i < n; i++) {
            if (seen[i].device == info.device && seen[i].inode == info.inode)
                return 0;
        }
        seen[n].device = info.device;
        seen[n++].inode = info.inode;
    }
    return 1;
}

/* The interpreter that is called like a directory, which is looked for only if there is
 * none of that name. */
static mp_interp *interpreter_of_directory(apr_pool_t *pool, const char *directory)
{
    mp_interp *interp = directory ? mp_interp_find(directory) : NULL;
    char *name;

    if (interp)
        return interp;
    if (!directory
        || apr_filepath_merge(&name, NULL, directory, APR_FILEPATH_NOTRELATIVE, pool) != APR_SUCCESS
        || !names_one(pool, name))
        return mp_interp_get("main_interpreter");
    return mp_interp_get(name);
}

/* The directory of the request's file, or NULL. */
static const char *directory_of_file(const request_rec *r)
{
    const char *slash;
    apr_size_t n;

    /* Not what mod_proxy maps to, "proxy:http://...". */
    if (!r->filename || *r->filename != '/')
        return NULL;
    n = strlen(r->filename);
    if (r->finfo.filetype == APR_DIR && r->filename[n - 1] != '/')
        return apr_pstrcat(r->pool, r->filename, "/", NULL);
    slash = strrchr(r->filename, '/');
    return apr_pstrmemdup(r->pool, r->filename, slash - r->filename + 1);
}

/* The rules of naming, in their order: PythonInterpreter, the file's
 * directory, the directive's directory, the server's name. */
mp_interp *mp_interpreter_of_request(request_rec *r, const mp_dir_conf *conf,
                                const mp_section *section)
{
    const char *name;

    if (conf->interpreter)
        return mp_interp_of(conf->interpreter);
    if (conf->interp_per_directory == 1)
        return interpreter_of_directory(r->pool, directory_of_file(r));
    if (conf->interp_per_directive == 1) {
        name = section ? mp_handler_directory(r->pool, section, r->filename) : NULL;
        /* That of a pattern is a part of what the client has sent. */
        if (section && section->kind == MP_SECTION_DIRECTORY_MATCH)
            return interpreter_of_directory(r->pool, name);
        return mp_interp_get(name ? name : "main_interpreter");
    }
    return mp_interp_of(mp_server_conf_of(r->server)->default_interpreter);
}

/* ---- running a phase ----------------------------------------------------- */

static int has_handlers(const mp_phase_conf *pc)
{
    return pc->all || pc->ext;
}

static apr_status_t end_of_request(void *data);

static void at_end(request_rec *r)
{
    mp_record *record = mp_note_request(r);

    if (!record->at_end) {
        record->at_end = 1;
        apr_pool_pre_cleanup_register(r->pool, r, end_of_request);
    }
}

void mp_add_dynamic(request_rec *r, mp_slot *slot, mp_phase phase)
{
    (void)r;
    slot->dynamic |= 1u << phase;
}

void mp_add_cleanups(request_rec *r, mp_slot *slot)
{
    slot->cleanups = 1;
    at_end(r);
}

int mp_seen_later(request_rec *r)
{
    const mp_dir_conf *conf = mp_dir_conf_of(r);
    const ap_filter_t *f;

    if (r->main || r->prev || r->next || has_handlers(&conf->phase[MP_LOG])
        || has_handlers(&conf->phase[MP_CLEANUP]))
        return 1;
    /* Those of HTTP itself come after all that look into the response. */
    for (f = r->output_filters; f && f->frec->ftype < AP_FTYPE_PROTOCOL; f = f->next) {
        if (strcasecmp(f->frec->name, "old_write") != 0 && !mp_is_framing(f) && !mp_is_head_filter(f))
            return 1;
    }
    return 0;
}

/* Whether the next handler of a phase has its turn after this status; the
 * dispatcher has the same rule for the handlers of one interpreter. */
static int goes_on(mp_phase phase, int status)
{
    switch (phase) {
    case MP_CLEANUP:
        return 1;
    case MP_TRANS:
    case MP_AUTHEN:
    case MP_AUTHZ:
    case MP_TYPE:
    case MP_QUICK:
    case MP_MAP_TO_STORAGE:
        return status == DECLINED;
    default:
        return status == OK || status == DECLINED;
    }
}

mp_user mp_user_before(const request_rec *r)
{
    mp_user user = { r->user, r->ap_auth_type };

    return user;
}

void mp_claim_user(request_rec *r, char *name, char *auth_type)
{
    r->user = name;
    r->ap_auth_type = auth_type;
    mp_note_request(r)->claimed = name;
}

void mp_take_back_user(request_rec *r, mp_user before)
{
    mp_record *record = mp_request_record(r);

    /* The very string, not one like it. */
    if (record && record->claimed && record->claimed == r->user) {
        r->user = before.name;
        r->ap_auth_type = before.auth_type;
    }
}

/* Whether the user that a handler of a phase has read from the request stays.  An
 * authentication handler vouches for it.  From the content handler on, nobody
 * decides by it any more; pages and logs show it. */
static int keeps_user(mp_phase phase, int status)
{
    switch (phase) {
    case MP_AUTHEN:
        return status == OK;
    case MP_CONTENT:
    case MP_LOG:
    case MP_CLEANUP:
        return 1;
    default:
        return 0;
    }
}

/* Whether access to a request was granted when a phase runs.  What a handler redirects
 * before that has to be asked for on its own (guards.c). */
static int is_checked(mp_phase phase)
{
    switch (phase) {
    case MP_TYPE:
    case MP_FIXUP:
    case MP_CONTENT:
    case MP_LOG:
    case MP_CLEANUP:
        return 1;
    default:
        return 0;
    }
}

/* What a phase comes to, after a handler that may have made the response.  If it has
 * redirected the request, there is a response, whatever the handler returns: httpd must
 * not make another one.  If it has written nothing, the head leaves at the end of the
 * request, perhaps before httpd asks for filters. */
static int after_response(request_rec *r, mp_phase phase, int status)
{
    if (phase == MP_LOG || phase == MP_CLEANUP)
        return status;
    if (r->next && (status == DECLINED
                    || (status == OK && phase != MP_CONTENT && phase != MP_QUICK)))
        return DONE;
    if (status == DONE && !r->next && !r->eos_sent)
        mp_frame(r);
    return status;
}

/* Whether two lists name the same handlers, as those of a PythonHandlerModule do. */
static int is_like(const mp_hlist *one, const mp_hlist *other)
{
    int i;

    if (!one || one->n != other->n)
        return 0;
    for (i = 0; i < one->n; i++) {
        if (!one->handlers[i].silent || one->handlers[i].text != other->handlers[i].text)
            return 0;
    }
    return 1;
}

/* Remember which lists are without a function, for requests that this one leads to (guards.c),
 * if they stand for the same modules wherever this configuration applies. */
static void note_absent(request_rec *r, const mp_hlist *list, int absent)
{
    const mp_dir_conf *conf = mp_dir_conf_of(r);
    const char *ext;
    int i;

    if (conf->interp_per_directory == 1 || conf->interp_per_directive == 1)
        return;
    for (i = 0; i < list->n; i++) {
        if (list->handlers[i].section->kind == MP_SECTION_DIRECTORY_MATCH)
            return;
    }
    for (i = 0; i < 3; i++) {
        const mp_hlist *one = mp_find_hlist(&conf->phase[MP_ACCESS + i], r->filename, &ext);

        if (absent & 1 << i && is_like(one, list))
            mp_note_request(r)->absent[i] = one;
    }
}

static int call_interpreter(request_rec *r, mp_phase phase, mp_interp *interp,
                            const mp_hlist *list, const char *ext)
{
    mp_call call = { .phase = phase, .r = r, .c = r->connection, .list = list, .ext = ext };
    mp_user before = mp_user_before(r);
    int checked = is_checked(phase), status;

    if (!checked)
        mp_note_request(r)->unchecked = 1;
    status = mp_python_call(interp, MP_CALL_REQUEST, &call);
    if (!checked)
        mp_note_request(r)->unchecked = 0;
    if (!keeps_user(phase, status))
        mp_take_back_user(r, before);
    mp_check_body(r);
    if (call.absent)
        note_absent(r, list, call.absent);

    if (call.rest && !APR_BRIGADE_EMPTY(call.rest)) {
        /* Output that was queued and not flushed.  With an error status httpd
         * makes the page; otherwise it is sent now, after Python was left.
         * With the end of the stream in the same brigade httpd knows the
         * length, and a short answer leaves in one segment. */
        if (status == OK || status == DONE || status == DECLINED) {
            if (status != DECLINED && (phase == MP_CONTENT || phase == MP_QUICK))
                APR_BRIGADE_INSERT_TAIL(call.rest, apr_bucket_eos_create(
                                        r->connection->bucket_alloc));
            ap_pass_brigade(r->output_filters, call.rest);
        }
        apr_brigade_cleanup(call.rest);
    }
    return after_response(r, phase, status);
}

static int run_added(request_rec *r, mp_phase phase, const mp_interp *except, int status)
{
    mp_record *record = mp_request_record(r);
    mp_slot *slot;

    for (slot = record ? &record->slot : NULL; slot; slot = slot->next) {
        if (!(slot->dynamic & 1u << phase) || slot->interp == except)
            continue;
        if (!goes_on(phase, status))
            break;
        status = call_interpreter(r, phase, slot->interp, NULL, NULL);
    }
    return status;
}

static int run_phase(request_rec *r, mp_phase phase)
{
    mp_dir_conf *conf = mp_dir_conf_of(r);
    const char *ext;
    const mp_hlist *list = mp_find_hlist(&conf->phase[phase], r->filename, &ext);
    mp_interp *interp = NULL;
    int status = DECLINED;

    if (!list && !mp_request_record(r))
        return DECLINED;
    if (phase != MP_CLEANUP && has_handlers(&conf->phase[MP_CLEANUP]))
        at_end(r);
    if (list) {
        interp = mp_interpreter_of_request(r, conf, list->handlers[0].section);
        status = call_interpreter(r, phase, interp, list, ext);
    }
    return run_added(r, phase, interp, status);
}

/* ---- the end of a request ------------------------------------------------- */

static void run_cleanups(request_rec *r)
{
    mp_record *record = mp_request_record(r);
    mp_slot *slot;

    for (slot = record ? &record->slot : NULL; slot; slot = slot->next) {
        if (slot->cleanups) {
            slot->cleanups = 0;
            mp_python_call(slot->interp, MP_CALL_CLEANUP, slot);
        }
    }
}

static apr_status_t end_of_request(void *data)
{
    request_rec *r = data;

    run_cleanups(r);
    run_phase(r, MP_CLEANUP);
    run_cleanups(r);                    /* what those handlers have registered */
    return APR_SUCCESS;
}

/* ---- the hooks, in the order of httpd ------------------------------------- */

/* Run the init handlers, unless they had their turn. */
static int init_phase(request_rec *r)
{
    mp_record *record = mp_request_record(r);

    if (record && record->init_ran)
        return DECLINED;
    if (!has_handlers(&mp_dir_conf_of(r)->phase[MP_INIT])
        && !(record && record->slot.dynamic))
        return DECLINED;
    mp_note_request(r)->init_ran = 1;
    return run_phase(r, MP_INIT);
}

/* Nothing is mapped yet: what is configured is the server's. */
static int post_read_request(request_rec *r)
{
    int status = init_phase(r);

    if (status != OK && status != DECLINED)
        return status;
    return run_phase(r, MP_POST_READ_REQUEST);
}

/* Instead of all phases but logging.  Sub-requests that only look something up
 * (lookup) are no requests for content. */
static int quick_handler(request_rec *r, int lookup)
{
    return lookup ? DECLINED : run_phase(r, MP_QUICK);
}

/* Whether a content handler is one of the ready-made ones that serve files. */
int mp_serves_files(const char *text)
{
    static const char *const names[] = {"publisher", "psp", "cgihandler"};
    static const char package[] = "mod_python.";
    int i;

    if (strncmp(text, package, sizeof(package) - 1) != 0)
        return 0;
    text += sizeof(package) - 1;
    for (i = 0; i < 3; i++) {
        size_t length = strlen(names[i]);
        if (strncmp(text, names[i], length) == 0
            && (text[length] == '\0' || text[length] == ':'))
            return 1;
    }
    return 0;
}

/* Whether the content is Python's, by handlers inside <Location>, is to be seen
 * during translation only: afterwards httpd starts again with the server's
 * configuration.  Handlers of other phases there guard or log files, so they do
 * not count. */
static int before_translation(request_rec *r)
{
    const mp_hlist *list = mp_dir_conf_of(r)->phase[MP_CONTENT].all;
    const core_dir_config *core;
    const char *name, *error = NULL;
    int i;

    if (!list || (list->handlers[0].section->kind != MP_SECTION_LOCATION
                  && list->handlers[0].section->kind != MP_SECTION_LOCATION_MATCH))
        return DECLINED;
    for (i = 0; i < list->n; i++) {
        if (mp_serves_files(list->handlers[i].text))
            return DECLINED;
    }
    core = ap_get_core_module_config(r->per_dir_config);
    name = core->expr_handler ? ap_expr_str_exec(r, core->expr_handler, &error)
                              : core->handler;
    if (!error && mp_is_our_name(name))
        mp_note_request(r)->no_file = apr_pstrdup(r->pool, r->uri);
    return DECLINED;
}

static int translate_name(request_rec *r)
{
    return run_phase(r, MP_TRANS);
}

/* A page that Python makes inside <Location> has no file.  Looking for one is
 * what the core would do in this hook, after all translation is done.  Modules
 * that run later search the name for its last part (mod_negotiation,
 * mod_speling), so it is empty, not NULL.  A URI that was rewritten may belong
 * to another section. */
static int map_to_storage(request_rec *r)
{
    int status = run_phase(r, MP_MAP_TO_STORAGE);
    mp_record *record = mp_request_record(r);

    if (status != DECLINED || !record || !record->no_file || r->proxyreq
        || !r->uri || strcmp(r->uri, record->no_file) != 0)
        return status;
    r->filename = apr_pstrdup(r->pool, "");
    r->path_info = NULL;
    return OK;
}

static int header_parser(request_rec *r)
{
    int status = init_phase(r);

    if (status != OK && status != DECLINED)
        return status;
    return run_phase(r, MP_HEADER_PARSER);
}

static int check_access(request_rec *r)
{
    return run_phase(r, MP_ACCESS);
}

static int check_authn(request_rec *r)
{
    int status = run_phase(r, MP_AUTHEN);
    const char *type;

    if (status == HTTP_UNAUTHORIZED && (type = ap_auth_type(r)) != NULL) {
        const char *header = r->proxyreq == PROXYREQ_PROXY ? "Proxy-Authenticate"
                                                           : "WWW-Authenticate";
        ap_note_auth_failure(r);
        /* That is for mod_auth_basic, which may be absent, to fill in. */
        if (strcasecmp(type, "Basic") == 0 && ap_auth_name(r)
            && !apr_table_get(r->err_headers_out, header))
            apr_table_setn(r->err_headers_out, header,
                           apr_pstrcat(r->pool, "Basic realm=\"",
                                       ap_escape_quotes(r->pool, ap_auth_name(r)),
                                       "\"", NULL));
    }
    return status;
}

static int check_authz(request_rec *r)
{
    return run_phase(r, MP_AUTHZ);
}

static int type_checker(request_rec *r)
{
    return run_phase(r, MP_TYPE);
}

static int fixups(request_rec *r)
{
    mp_note_authen(r);
    return run_phase(r, MP_FIXUP);
}

static int before_content(request_rec *r)
{
    if (has_handlers(&mp_dir_conf_of(r)->phase[MP_CLEANUP]))
        at_end(r);
    return DECLINED;
}

static int content_handler(request_rec *r)
{
    return mp_is_our_name(r->handler) ? run_phase(r, MP_CONTENT) : DECLINED;
}

/* httpd logs a request that was redirected internally once, by its first
 * record.  Those it was redirected to have log handlers only if they were added
 * there, and clean-ups of their own. */
static int log_transaction(request_rec *r)
{
    request_rec *next;
    int status;

    for (next = r; next; next = next->next) {
        if (has_handlers(&mp_dir_conf_of(next)->phase[MP_CLEANUP]))
            at_end(next);
    }
    status = run_phase(r, MP_LOG);
    for (next = r->next; next && goes_on(MP_LOG, status); next = next->next)
        status = run_added(next, MP_LOG, NULL, status);
    return status;
}

void mp_register_phases(void)
{
    /* All are in the middle.  Within it, in phases where the first module that
     * does not decline wins, before those that hardly ever decline. */
    static const char *const before_alias[] = { "mod_alias.c", "mod_userdir.c",
                                                "mod_vhost_alias.c", NULL };
    static const char *const before_basic[] = { "mod_auth_basic.c", "mod_auth_digest.c",
                                                "mod_auth_form.c", NULL };
    static const char *const before_mime[] = { "mod_mime.c", NULL };

    /* Python handlers may decide by anything, the URI above all, so they look
     * at every internal redirect and sub-request: PER_URI, not PER_CONF.  guards.c
     * does what that leaves out. */
    ap_hook_post_read_request(post_read_request, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_quick_handler(quick_handler, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_translate_name(before_translation, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_translate_name(translate_name, NULL, before_alias, APR_HOOK_MIDDLE);
    ap_hook_map_to_storage(map_to_storage, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_header_parser(header_parser, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_check_access(check_access, NULL, NULL, APR_HOOK_MIDDLE,
                         AP_AUTH_INTERNAL_PER_URI);
    ap_hook_check_authn(check_authn, NULL, before_basic, APR_HOOK_MIDDLE,
                        AP_AUTH_INTERNAL_PER_URI);
    ap_hook_check_authz(check_authz, NULL, NULL, APR_HOOK_MIDDLE,
                        AP_AUTH_INTERNAL_PER_URI);
    ap_hook_type_checker(type_checker, NULL, before_mime, APR_HOOK_MIDDLE);
    ap_hook_fixups(fixups, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(before_content, NULL, NULL, APR_HOOK_REALLY_FIRST);
    ap_hook_handler(content_handler, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_log_transaction(log_transaction, NULL, NULL, APR_HOOK_MIDDLE);
}
