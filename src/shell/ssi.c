/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * The element "python" of mod_include's pages:
 *
 *     <!--#python eval="expression" -->      <!--#python exec="statements" -->
 *
 * What is wrong with an element is logged, and mod_include's error text takes its
 * place; the rest of the page goes on.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "shell.h"

#include <http_protocol.h>
#include <util_filter.h>
#include <mod_include.h>

APLOG_USE_MODULE(python);

static APR_OPTIONAL_FN_TYPE(ap_ssi_get_tag_and_value) *get_tag_and_value;

static void fault(include_ctx_t *ctx, const char *text, const char *what)
{
    ap_log_rerror(APLOG_MARK, APLOG_ERR, 0, ctx->r,
                  "element \"python\" in %s: %s%s%s", ctx->r->filename, text,
                  what ? " " : "", what ? what : "");
}

/* The one attribute, or 0 if that is not what the element has. */
static int read_attribute(include_ctx_t *ctx, mp_ssi_call *call)
{
    char *name, *value;
    int found = 0;

    for (;;) {
        get_tag_and_value(ctx, &name, &value, SSI_VALUE_DECODED);
        if (!name)
            break;
        if (strcmp(name, "eval") != 0 && strcmp(name, "exec") != 0) {
            fault(ctx, "write eval=\"...\" or exec=\"...\" in place of the attribute", name);
            return 0;
        }
        if (found) {
            fault(ctx, "write one attribute, eval or exec, in place of several", NULL);
            return 0;
        }
        found = 1;
        if (!value || !value[strspn(value, " \t\r\n")]) {
            fault(ctx, "there is no code in the attribute", name);
            return 0;
        }
        call->exec = name[1] == 'x';
        call->code = value;
    }
    if (!found)
        fault(ctx, "write eval=\"expression\" or exec=\"statements\"", NULL);
    return found;
}

static apr_status_t handle_python(include_ctx_t *ctx, ap_filter_t *f,
                                  apr_bucket_brigade *bb)
{
    request_rec *r = ctx->r;
    mp_ssi_call call = { .r = r, .out = bb };

    if (!(ctx->flags & SSI_FLAG_PRINTING))
        return APR_SUCCESS;             /* in a branch that is not taken */
    if (ctx->flags & SSI_FLAG_NO_EXEC) {
        fault(ctx, "Options IncludesNOEXEC is in force here", NULL);
        SSI_CREATE_ERROR_BUCKET(ctx, f, bb);
        return APR_SUCCESS;
    }
    if (!read_attribute(ctx, &call)
        || mp_python_call(mp_interpreter_of_request(r, mp_dir_conf_of(r), NULL),
                          MP_CALL_SSI, &call) != OK)
        SSI_CREATE_ERROR_BUCKET(ctx, f, bb);
    return APR_SUCCESS;
}

/* mod_include takes elements while the configuration is put to work, each time. */
void mp_register_ssi(void)
{
    APR_OPTIONAL_FN_TYPE(ap_register_include_handler) *add =
        APR_RETRIEVE_OPTIONAL_FN(ap_register_include_handler);

    get_tag_and_value = APR_RETRIEVE_OPTIONAL_FN(ap_ssi_get_tag_and_value);
    if (add && get_tag_and_value)
        add("python", handle_python);
}
