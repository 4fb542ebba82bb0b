/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * A module without Python, for tests/test_config_merge.py: it is called like
 * the real one, reads its configuration with the real code, and answers each
 * request with what applies to it, one fact per line:
 *
 *   config KEY VALUE      option KEY VALUE       (request)
 *   sconfig KEY VALUE     soption KEY VALUE      (virtual host)
 *   PHASE EXT ID HANDLER DIRECTORY LOCATION SILENT
 *   input NAME HANDLER DIRECTORY     output NAME HANDLER DIRECTORY
 *   connection HANDLER    import HANDLER INTERPRETER LINE    optimize FLAG
 *
 * "-" stands for "none".
 */

#include "shell.h"

#include <http_main.h>
#include <http_protocol.h>

/* Names are not registered here. */
int mp_register_filter(const char *name, int is_input)
{
    (void)name;
    (void)is_input;
    return 1;
}

static int config_line(void *data, const char *key, const char *value)
{
    void **d = data;

    ap_rprintf(d[0], "%s %s %s\n", (const char *)d[1], key, *value ? value : "-");
    return 1;
}

static void table(request_rec *r, const char *name, const apr_table_t *t)
{
    void *data[2] = { r, (void *)name };

    apr_table_do(config_line, data, t, NULL);
}

static const char *or_dash(const char *s)
{
    return s ? s : "-";
}

static void filters(request_rec *r, const char *what, const mp_filter *f)
{
    const mp_filter *first = f;

    for (; f; f = f->next) {
        if (mp_find_filter(first, f->name) == f)
            ap_rprintf(r, "%s %s %s %s\n", what, f->name, f->handler.text,
                       or_dash(mp_handler_directory(r->pool, f->handler.section,
                                                    r->filename)));
    }
}

static int dump(request_rec *r)
{
    const mp_dir_conf *conf = mp_dir_conf_of(r);
    const mp_server_conf *server = mp_server_conf_of(r->server), *main_server;
    const mp_import *import;
    int i, n;

    ap_set_content_type(r, "text/plain");
    table(r, "config", mp_config_table(r->pool, conf));
    table(r, "option", mp_options_table(r->pool, conf->options));
    table(r, "sconfig", server->config);
    table(r, "soption", server->options);
    for (i = 0; i < MP_REQUEST_PHASES; i++) {
        const char *ext;
        const mp_hlist *list = mp_find_hlist(&conf->phase[i], r->filename, &ext);

        for (n = 0; list && n < list->n; n++) {
            const mp_handler *h = &list->handlers[n];

            ap_rprintf(r, "%s %s %d %s %s %s %d\n", mp_phase_names[i], or_dash(ext),
                       (int)list->id, h->text,
                       or_dash(mp_handler_directory(r->pool, h->section, r->filename)),
                       or_dash(mp_handler_location(r->pool, h->section, r->uri)),
                       h->silent);
        }
    }
    filters(r, "input", conf->input_filters);
    filters(r, "output", conf->output_filters);
    if (server->connection)
        ap_rprintf(r, "connection %s\n", server->connection->handlers[0].text);
    main_server = mp_server_conf_of(ap_server_conf);
    for (import = main_server->imports; import; import = import->next)
        ap_rprintf(r, "import %s %s %d\n", import->text, import->interpreter,
                   import->line);
    ap_rprintf(r, "optimize %d\n", main_server->optimize);
    return OK;
}

static void hooks(apr_pool_t *p)
{
    (void)p;
    ap_hook_handler(dump, NULL, NULL, APR_HOOK_FIRST);
}

AP_DECLARE_MODULE(python) = {
    STANDARD20_MODULE_STUFF,
    mp_create_dir_conf,
    mp_merge_dir_conf,
    mp_create_server_conf,
    mp_merge_server_conf,
    mp_directives,
    hooks,
    AP_MODULE_FLAG_ALWAYS_MERGE
};
