/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * Making, merging and reading configurations.
 *
 * httpd merges per-directory configurations several times for every request:
 * the server's with that of each section and .htaccess file that applies, and
 * sometimes one merged result with another.  So a merge is a copy of the
 * structure and a choice per pointer.  What adds up (options, lists per
 * extension, filters) is kept in chains, innermost section first; a merge
 * puts the inner chain before the outer one and copies only the nodes of the
 * inner chain, never a table.
 *
 * Per-server configurations are merged once at the start and may take their
 * time.
 */

#include "shell.h"

#include <apr_fnmatch.h>
#include <apr_lib.h>

/* ---- per-directory configuration ----------------------------------------- */

/* The directory is not noted here: inside <Files> and <If> httpd passes
 * something else in its place.  See section_of() in directives.c. */
void *mp_create_dir_conf(apr_pool_t *p, char *dir)
{
    mp_dir_conf *conf = apr_pcalloc(p, sizeof(*conf));

    (void)dir;
    conf->debug = MP_UNSET;
    conf->autoreload = MP_UNSET;
    conf->enable_pdb = MP_UNSET;
    conf->interp_per_directory = MP_UNSET;
    conf->interp_per_directive = MP_UNSET;
    return conf;
}

/* The inner chain, then the outer one.  The inner one may itself be the result
 * of a merge, so all of its nodes are copied.  One macro, because the three
 * kinds of node differ only in type and in the name of their link. */
#define DEFINE_CHAIN(function, type, link)                                  \
    static const type *function(apr_pool_t *p, const type *outer,           \
                                const type *inner)                          \
    {                                                                       \
        const type *head = NULL, **end = &head;                             \
                                                                            \
        if (!inner)                                                         \
            return outer;                                                   \
        if (!outer)                                                         \
            return inner;                                                   \
        for (; inner; inner = inner->link) {                                \
            type *copy = apr_pmemdup(p, inner, sizeof(*inner));             \
            *end = copy;                                                    \
            end = &copy->link;                                               \
        }                                                                   \
        *end = outer;                                                       \
        return head;                                                        \
    }

DEFINE_CHAIN(chain_options, mp_options, outer)
DEFINE_CHAIN(chain_extlists, mp_extlist, next)
DEFINE_CHAIN(chain_filters, mp_filter, next)

void *mp_merge_dir_conf(apr_pool_t *p, void *base, void *add)
{
    const mp_dir_conf *outer = base, *inner = add;
    mp_dir_conf *conf = apr_pmemdup(p, inner, sizeof(*inner));
    int i;

    for (i = 0; i < MP_REQUEST_PHASES; i++) {
        if (!conf->phase[i].all)
            conf->phase[i].all = outer->phase[i].all;
        if (outer->phase[i].ext)
            conf->phase[i].ext = chain_extlists(p, outer->phase[i].ext,
                                                inner->phase[i].ext);
    }
    conf->options = chain_options(p, outer->options, inner->options);
    conf->input_filters = chain_filters(p, outer->input_filters,
                                        inner->input_filters);
    conf->output_filters = chain_filters(p, outer->output_filters,
                                         inner->output_filters);
    if (!conf->authn)
        conf->authn = outer->authn;
    if (!conf->interpreter)
        conf->interpreter = outer->interpreter;
    if (!conf->python_path)
        conf->python_path = outer->python_path;
    if (conf->debug == MP_UNSET)
        conf->debug = outer->debug;
    if (conf->autoreload == MP_UNSET)
        conf->autoreload = outer->autoreload;
    if (conf->enable_pdb == MP_UNSET)
        conf->enable_pdb = outer->enable_pdb;
    if (conf->interp_per_directory == MP_UNSET)
        conf->interp_per_directory = outer->interp_per_directory;
    if (conf->interp_per_directive == MP_UNSET)
        conf->interp_per_directive = outer->interp_per_directive;
    /* One that no longer applies costs a look at who may see a file; one that was
     * forgotten would cost more. */
    conf->requires_python |= outer->requires_python;
    conf->section = NULL;
    conf->origin = NULL;
    return conf;
}

/* ---- per-server configuration -------------------------------------------- */

void *mp_create_server_conf(apr_pool_t *p, server_rec *s)
{
    mp_server_conf *conf = apr_pcalloc(p, sizeof(*conf));

    (void)s;
    conf->options = apr_table_make(p, 8);
    conf->config = apr_table_make(p, 8);
    conf->debug = MP_UNSET;
    conf->autoreload = MP_UNSET;
    conf->enable_pdb = MP_UNSET;
    conf->interp_per_directory = MP_UNSET;
    conf->interp_per_directive = MP_UNSET;
    conf->optimize = MP_UNSET;
    return conf;
}

/* The main server's entries with the virtual host's own over them, in a table
 * of its own: what is stored later in one server's table stays there. */
static apr_table_t *inherit_table(apr_pool_t *p, const apr_table_t *base,
                                  const apr_table_t *add)
{
    apr_table_t *table = apr_table_copy(p, base);

    apr_table_overlap(table, add, APR_OVERLAP_TABLES_SET);
    return table;
}

void *mp_merge_server_conf(apr_pool_t *p, void *base, void *add)
{
    mp_server_conf *outer = base;
    const mp_server_conf *inner = add;
    mp_server_conf *conf = apr_pmemdup(p, inner, sizeof(*inner));

    conf->options = inherit_table(p, outer->options, inner->options);
    conf->config = inherit_table(p, outer->config, inner->config);
    if (!conf->connection_input)
        conf->connection_input = outer->connection_input;
    if (!conf->connection_output)
        conf->connection_output = outer->connection_output;
    if (!conf->connection)
        conf->connection = outer->connection;
    if (!conf->pre_connection)
        conf->pre_connection = outer->pre_connection;
    if (!conf->interpreter)
        conf->interpreter = outer->interpreter;
    if (!conf->python_path)
        conf->python_path = outer->python_path;
    if (conf->debug == MP_UNSET)
        conf->debug = outer->debug;
    if (conf->autoreload == MP_UNSET)
        conf->autoreload = outer->autoreload;
    if (conf->enable_pdb == MP_UNSET)
        conf->enable_pdb = outer->enable_pdb;
    if (conf->interp_per_directory == MP_UNSET)
        conf->interp_per_directory = outer->interp_per_directory;
    if (conf->interp_per_directive == MP_UNSET)
        conf->interp_per_directive = outer->interp_per_directive;

    /* PythonOptimize is one switch for the whole process.  On in a virtual
     * host, where it is allowed, turns it on; the main server's configuration
     * is where the start of Python looks, and it is complete by then. */
    if (inner->optimize == 1)
        outer->optimize = 1;
    return conf;
}

/* ---- reading ------------------------------------------------------------- */

static void set_flag(apr_table_t *table, const char *name, int value)
{
    if (value != MP_UNSET)
        apr_table_setn(table, name, value ? "1" : "0");
}

apr_table_t *mp_config_table(apr_pool_t *p, const mp_dir_conf *conf)
{
    apr_table_t *table = apr_table_make(p, 8);

    if (conf->python_path)
        apr_table_setn(table, "PythonPath", conf->python_path);
    if (conf->interpreter)
        apr_table_setn(table, "PythonInterpreter", conf->interpreter->name);
    set_flag(table, "PythonDebug", conf->debug);
    set_flag(table, "PythonEnablePdb", conf->enable_pdb);
    set_flag(table, "PythonAutoReload", conf->autoreload);
    set_flag(table, "PythonInterpPerDirectory", conf->interp_per_directory);
    set_flag(table, "PythonInterpPerDirective", conf->interp_per_directive);
    return table;
}

/* Outermost table first, so that inner values replace outer ones and an inner
 * "" takes the key away.  The depth is that of nested sections. */
static void apply_options(apr_table_t *table, const mp_options *options)
{
    const apr_array_header_t *array;
    const apr_table_entry_t *entry;
    int i;

    if (!options)
        return;
    apply_options(table, options->outer);
    array = apr_table_elts(options->table);
    entry = (const apr_table_entry_t *)array->elts;
    for (i = 0; i < array->nelts; i++) {
        if (*entry[i].val)
            apr_table_setn(table, entry[i].key, entry[i].val);
        else
            apr_table_unset(table, entry[i].key);
    }
}

apr_table_t *mp_options_table(apr_pool_t *p, const mp_options *options)
{
    apr_table_t *table = apr_table_make(p, 8);

    apply_options(table, options);
    return table;
}

const char *mp_option(const mp_options *options, const char *key)
{
    const char *value;

    for (; options; options = options->outer) {
        value = apr_table_get(options->table, key);
        if (value)
            return *value ? value : NULL;
    }
    return NULL;
}

mp_hlist *mp_find_hlist(const mp_phase_conf *pc, const char *filename,
                        const char **ext)
{
    *ext = NULL;
    if (pc->ext && filename) {
        const char *slash = strrchr(filename, '/');
        /* From the first dot: the extension of a.tar.gz is ".tar.gz". */
        const char *dot = strchr(slash ? slash : filename, '.');
        const mp_extlist *e;

        for (e = dot ? pc->ext : NULL; e; e = e->next) {
            if (strcmp(e->ext, dot) == 0) {
                *ext = e->ext;
                return e->list;
            }
        }
    }
    return pc->all;
}

const mp_filter *mp_find_filter(const mp_filter *filters, const char *name)
{
    while (filters && strcasecmp(filters->name, name) != 0)
        filters = filters->next;
    return filters;
}

static int section_matches(const mp_section *s, const char *path)
{
    if (s->regex)
        return ap_regexec(s->regex, path, 0, NULL, 0) == 0;
    return apr_fnmatch(s->path, path, APR_FNM_PATHNAME) == APR_SUCCESS;
}

/* httpd tests a regular expression against the whole file name, a shell pattern
 * against directories with their slash.  Expressions are therefore tried with
 * and without the slash, because "$" may be meant for either. */
const char *mp_handler_directory(apr_pool_t *p, const mp_section *s,
                                 const char *filename)
{
    char *name, *slash;
    apr_size_t length;

    if (s->kind != MP_SECTION_DIRECTORY_MATCH)
        return s->directory;
    if (!filename || *filename != '/')
        return NULL;

    length = strlen(filename);
    name = apr_palloc(p, length + 2);
    memcpy(name, filename, length + 1);
    for (slash = name; slash; slash = strchr(slash + 1, '/')) {
        char after = slash[1];

        slash[1] = '\0';
        if (section_matches(s, name))
            return name;
        if (s->regex && slash > name) {
            int found;

            *slash = '\0';
            found = section_matches(s, name);
            *slash = '/';
            if (found)
                return name;
        }
        slash[1] = after;
        if (!after)
            break;
    }

    /* The name of a directory may lack its slash. */
    if (name[length - 1] != '/') {
        name[length] = '/';
        name[length + 1] = '\0';
        if (section_matches(s, name))
            return name;
        name[length] = '\0';
    }

    /* The expression matched the name of the file itself. */
    strrchr(name, '/')[1] = '\0';
    return name;
}

const char *mp_handler_location(apr_pool_t *p, const mp_section *s,
                                const char *uri)
{
    ap_regmatch_t match[1];

    if (s->kind == MP_SECTION_LOCATION)
        return s->path;
    if (s->kind != MP_SECTION_LOCATION_MATCH || !uri)
        return NULL;
    if (!s->regex)
        return uri;                     /* a shell pattern matches all of it */
    if (ap_regexec(s->regex, uri, 1, match, 0) != 0)
        return NULL;                    /* the URI was changed meanwhile */
    return apr_pstrmemdup(p, uri + match[0].rm_so, match[0].rm_eo - match[0].rm_so);
}
