/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * The provider "python" of httpd's own authentication and authorisation:
 *
 *     AuthBasicProvider python            asks check_password(req, user, password)
 *     AuthDigestProvider python           asks get_realm_hash(req, user, realm)
 *     Require python module arguments     asks check_authorization(req, arguments)
 *
 * The first two ask the module of PythonAuthnProvider.  Unlike handlers of the
 * phases, providers leave the protocol, the combination with others (Require-
 * Any, several providers) and the caching of answers to httpd.
 */

#include "directives.h"

#include <ap_expr.h>
#include <ap_provider.h>
#include <http_request.h>
#include <mod_auth.h>

#define PROVIDER_NAME "python"

APLOG_USE_MODULE(python);

static int ask(mp_what what, mp_auth_call *call)
{
    mp_interp *interp = mp_interpreter_of_request(call->r, mp_dir_conf_of(call->r),
                                             call->list->handlers[0].section);

    mp_user before = mp_user_before(call->r);
    int answer = mp_python_call(interp, what, call);

    mp_take_back_user(call->r, before);
    mp_check_body(call->r);
    return answer;
}

/* ---- authentication ------------------------------------------------------- */

static const mp_hlist *authn_list(request_rec *r)
{
    const mp_hlist *list = mp_dir_conf_of(r)->authn;

    if (!list)
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      "the provider \"python\" is to authenticate, but no "
                      "PythonAuthnProvider names a module here");
    return list;
}

static authn_status check_password(request_rec *r, const char *user, const char *password)
{
    mp_auth_call call = { .r = r, .list = authn_list(r), .one = user, .two = password };

    if (!call.list)
        return AUTH_GENERAL_ERROR;
    switch (ask(MP_CALL_PASSWORD, &call)) {
    case MP_AUTH_YES:
        return AUTH_GRANTED;
    case MP_AUTH_NO:
        return AUTH_DENIED;
    case MP_AUTH_UNKNOWN:
        return AUTH_USER_NOT_FOUND;
    default:
        return AUTH_GENERAL_ERROR;
    }
}

static authn_status get_realm_hash(request_rec *r, const char *user, const char *realm,
                                   char **hash)
{
    mp_auth_call call = { .r = r, .list = authn_list(r), .one = user, .two = realm };

    if (!call.list)
        return AUTH_GENERAL_ERROR;
    switch (ask(MP_CALL_REALM, &call)) {
    case MP_AUTH_YES:
        *hash = apr_pstrdup(r->pool, call.result);
        return AUTH_USER_FOUND;
    case MP_AUTH_UNKNOWN:
        return AUTH_USER_NOT_FOUND;
    default:
        return AUTH_GENERAL_ERROR;
    }
}

static const authn_provider authn = { check_password, get_realm_hash };

/* ---- authorisation -------------------------------------------------------- */

typedef struct {
    const mp_hlist *list;
    const ap_expr_info_t *arguments;    /* or NULL: there are none */
} requirement;

static const char *parse_require(cmd_parms *cmd, const char *line, const void **parsed)
{
    requirement *made = apr_pcalloc(cmd->pool, sizeof(*made));
    /* Made when a module's first directive is met in a section; this one is
     * mod_authz_core's. */
    mp_dir_conf *conf = ap_set_config_vectors(cmd->server, cmd->context, cmd->path,
                                              &python_module, cmd->pool);
    const char *text = ap_getword_conf(cmd->pool, &line), *error;
    const mp_section *section;

    if (!*text)
        return "Require python: the handler is missing; write module[::object] and "
               "then its arguments";
    if ((error = mp_section_of(cmd, conf, &section)) != NULL
        || (error = mp_check_handler(cmd, text, section)) != NULL)
        return error;
    made->list = mp_one_handler(cmd, text, section);
    conf->requires_python = 1;
    if (*line) {
        made->arguments = ap_expr_parse_cmd(cmd, line, AP_EXPR_FLAG_STRING_RESULT,
                                            &error, NULL);
        if (error)
            return apr_pstrcat(cmd->pool, "Require python: the arguments cannot be "
                               "read: ", error, NULL);
    }
    *parsed = made;
    return NULL;
}

static authz_status check_authorization(request_rec *r, const char *line, const void *parsed)
{
    const requirement *want = parsed;
    mp_auth_call call = { .r = r, .list = want->list, .one = "" };
    const char *error = NULL;

    (void)line;
    if (want->arguments)
        call.one = ap_expr_str_exec(r, want->arguments, &error);
    if (error) {
        ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, r,
                      "Require python: the arguments cannot be evaluated: %s", error);
        return AUTHZ_GENERAL_ERROR;
    }
    switch (ask(MP_CALL_AUTHORIZE, &call)) {
    case MP_AUTH_YES:
        return AUTHZ_GRANTED;
    case MP_AUTH_NO:
        /* Asked first before anybody knows the user: if there is a way to find
         * out, this is no answer yet. */
        return !r->user && ap_auth_type(r) ? AUTHZ_DENIED_NO_USER : AUTHZ_DENIED;
    default:
        return AUTHZ_GENERAL_ERROR;
    }
}

static const authz_provider authz = { check_authorization, parse_require };

void mp_register_providers(apr_pool_t *p)
{
    ap_register_auth_provider(p, AUTHN_PROVIDER_GROUP, PROVIDER_NAME,
                              AUTHN_PROVIDER_VERSION, &authn, AP_AUTH_INTERNAL_PER_CONF);
    ap_register_auth_provider(p, AUTHZ_PROVIDER_GROUP, PROVIDER_NAME,
                              AUTHZ_PROVIDER_VERSION, &authz, AP_AUTH_INTERNAL_PER_CONF);
}
