/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * Warnings about sections that do not protect what they seem to.
 *
 * Where Python answers in a <Location>, httpd looks for no file, so that <Directory>
 * sections do not apply (phases.c).  A site that has its password in the <Directory>
 * of its DocumentRoot has none in such a <Location>.  The rules cannot simply be
 * applied: "Require all denied" for "/" is what distributions begin with.
 *
 * What other modules' directives say is to be seen in the tree of the configuration
 * only.  So this is about the usual forms: sections with plain paths, and rules that
 * apply to all of a section.  In doubt nothing is said.
 */

#include "shell.h"

#include <apr_fnmatch.h>
#include <apr_lib.h>
#include <http_main.h>
#include <util_cfgtree.h>

APLOG_USE_MODULE(python);

static int is_named(const ap_directive_t *d, const char *name)
{
    return strcasecmp(d->directive, name) == 0;
}

static int is_one_of(const char *word, const char *const *names)
{
    for (; *names; names++) {
        if (strcasecmp(word, *names) == 0)
            return 1;
    }
    return 0;
}

static int is_text(const char *args, const char *wanted)
{
    return args && strncasecmp(args, wanted, strlen(wanted)) == 0
           && !args[strlen(wanted) + strspn(args + strlen(wanted), " \t")];
}

/* Blocks that httpd takes out or in while it reads; what is in them belongs to what is
 * around them. */
static int is_transparent(const ap_directive_t *d)
{
    static const char *const names[] = { "<IfModule", "<IfDefine", "<IfVersion", "<IfFile",
                                         "<IfDirective", "<IfSection", NULL };

    return is_one_of(d->directive, names);
}

/* ---- Require -------------------------------------------------------------- */

static int is_requirement_group(const ap_directive_t *d)
{
    static const char *const names[] = { "<RequireAny", "<RequireAll", "<RequireNone", NULL };

    return is_one_of(d->directive, names);
}

static int line_requires_user(const char *args)
{
    static const char *const without[] = { "all", "ip", "host", "forward-dns", "local", "env",
                                           "method", "expr", "ssl", "ssl-verify-client", NULL };
    char word[32];
    int i = 0;

    if (args && strncasecmp(args, "not", 3) == 0 && apr_isspace(args[3]))
        args += 4 + strspn(args + 4, " \t");
    for (; args && args[i] && !apr_isspace(args[i]) && i < (int)sizeof(word) - 1; i++)
        word[i] = args[i];
    word[i] = '\0';
    return i > 0 && !is_one_of(word, without);
}

static int any_requires_user(const ap_directive_t *d)
{
    for (; d; d = d->next) {
        if ((is_named(d, "Require") && line_requires_user(d->args))
            || any_requires_user(d->first_child))
            return 1;
    }
    return 0;
}

/* ---- sections and paths --------------------------------------------------- */

/* A section's plain path, a directory with a slash at its end; NULL if it is a
 * pattern. */
static const char *plain_path(apr_pool_t *p, const ap_directive_t *d)
{
    int regex = 0, directory = is_named(d, "<Directory");
    char *word, *path;

    if (!directory && !is_named(d, "<Location"))
        return NULL;
    word = mp_section_argument(p, d, &regex);
    if (regex || *word != '/' || apr_fnmatch_test(word))
        return NULL;
    if (!directory)
        return word;
    if (apr_filepath_merge(&path, NULL, word, APR_FILEPATH_TRUENAME, p) != APR_SUCCESS)
        return NULL;
    return path[strlen(path) - 1] == '/' ? path : apr_pstrcat(p, path, "/", NULL);
}

/* Whether a path is `outer` or below it. */
static int is_within(const char *path, const char *outer)
{
    apr_size_t n = strlen(outer);

    if (n && outer[n - 1] == '/')
        n--;
    return strncmp(path, outer, n) == 0 && (!path[n] || path[n] == '/');
}

static int nested_requires_user(apr_pool_t *p, const ap_directive_t *d,
                                const ap_directive_t *section, const char *outer)
{
    const char *path;

    for (; d; d = d->next) {
        if (is_named(d, section->directive) && (path = plain_path(p, d)) != NULL
            && is_within(path, outer) && any_requires_user(d->first_child))
            return 1;
        if (nested_requires_user(p, d->first_child, section, outer))
            return 1;
    }
    return 0;
}

int mp_requires_user(const ap_directive_t *section, apr_pool_t *p)
{
    const char *path;

    if (!section)
        return any_requires_user(ap_conftree);
    if (any_requires_user(section->first_child))
        return 1;
    path = plain_path(p, section);
    return path && nested_requires_user(p, ap_conftree, section, path);
}

/* ---- what applies to a host ----------------------------------------------- */

typedef const ap_directive_t *node;

static void collect(apr_array_header_t *nodes, const ap_directive_t *d)
{
    for (; d; d = d->next) {
        if (is_transparent(d))
            collect(nodes, d->first_child);
        else if (!is_named(d, "<VirtualHost"))
            APR_ARRAY_PUSH(nodes, node) = d;
    }
}

/* The lines and sections of the main server, then those of a virtual host. */
static apr_array_header_t *nodes_of(apr_pool_t *p, const server_rec *s)
{
    apr_array_header_t *nodes = apr_array_make(p, 64, sizeof(node));
    const ap_directive_t *d;

    collect(nodes, ap_conftree);
    for (d = s->is_virtual ? ap_conftree : NULL; d; d = d->next) {
        if (is_named(d, "<VirtualHost") && s->defn_name && d->line_num == (int)s->defn_line_number
            && strcmp(d->filename, s->defn_name) == 0)
            collect(nodes, d->first_child);
    }
    return nodes;
}

#define EACH(d, nodes) \
    (int i_ = 0; i_ < (nodes)->nelts && ((d) = APR_ARRAY_IDX(nodes, i_, node), 1); i_++)

/* ---- rules ---------------------------------------------------------------- */

/* Whether somebody has thought of access control in a section: any rule will do. */
static int has_rules(const ap_directive_t *d)
{
    static const char *const names[] = {
        "Require", "Allow", "Deny", "Order", "Satisfy", "SSLRequire", "SSLRequireSSL",
        "SSLVerifyClient", "PythonAccessHandler", "PythonAuthenHandler", "PythonAuthzHandler",
        "PythonHeaderParserHandler", "PythonInitHandler", "PythonFixupHandler",
        "PythonHandlerModule", NULL
    };

    for (; d; d = d->next) {
        if (is_one_of(d->directive, names) || strncasecmp(d->directive, "Auth", 4) == 0
            || has_rules(d->first_child))
            return 1;
    }
    return 0;
}

/* Three kinds of rules, of which each is inherited by itself. */
typedef enum { REQUIRE, ALLOW_DENY, PYTHON, KINDS } rule_kind;

/* What a section says to everybody: 0 nothing of this kind, 1 come in, 2 it depends;
 * 3 nobody. */
static int verdict(const ap_directive_t *d, rule_kind kind)
{
    int found = 0, one;

    for (; d; d = d->next) {
        one = 0;
        if (is_transparent(d) || (kind == REQUIRE && is_requirement_group(d)))
            one = verdict(d->first_child, kind);
        else if (kind == REQUIRE && is_named(d, "Require"))
            one = is_text(d->args, "all granted") ? 1 : is_text(d->args, "all denied") ? 3 : 2;
        else if (kind == ALLOW_DENY && is_named(d, "Allow"))
            one = is_text(d->args, "from all") ? 1 : 2;
        else if (kind == ALLOW_DENY && is_named(d, "Deny"))
            one = is_text(d->args, "from all") ? 3 : 2;
        else if (kind == PYTHON && !strchr(d->args, '|')
                 && (is_named(d, "PythonAccessHandler") || is_named(d, "PythonAuthzHandler")))
            one = 2;
        if (one)
            found = !found || found == one ? one : 2;
    }
    return found;
}

/* The innermost <Directory> section for a path that has a rule of a kind. */
static node decides(apr_pool_t *p, const apr_array_header_t *nodes, const char *path,
                    rule_kind kind)
{
    node d, found = NULL;
    apr_size_t length = 0;

    for EACH (d, nodes) {
        const char *outer = is_named(d, "<Directory") ? plain_path(p, d) : NULL;

        if (outer && is_within(path, outer) && strlen(outer) >= length
            && verdict(d->first_child, kind)) {
            found = d;
            length = strlen(outer);
        }
    }
    return found;
}

/* Everything is closed unless something else is said: nobody's password. */
static int is_restrictive(apr_pool_t *p, node d, rule_kind kind)
{
    int said = verdict(d->first_child, kind);

    return said == 2 || (said == 3 && strcmp(plain_path(p, d), "/") != 0);
}

/* ---- Python in a <Location> ----------------------------------------------- */

static int is_location(const ap_directive_t *d)
{
    return is_named(d, "<Location") || is_named(d, "<LocationMatch");
}

/* The argument of the last directive of a name, or NULL. */
static const char *last_of(apr_pool_t *p, const ap_directive_t *d, const char *name)
{
    const char *found = NULL;

    for (; d; d = d->next) {
        const char *inner = is_transparent(d) ? last_of(p, d->first_child, name) : NULL;

        if (inner)
            found = inner;
        else if (is_named(d, name) && d->args)
            found = d->args;
    }
    return found;
}

/* Whether a section for locations applies to the path of another one, or to its very
 * pattern, if that has no path. */
static int applies(apr_pool_t *p, node d, node other, const char *path)
{
    const char *outer = plain_path(p, d);
    int regex = is_named(d, "<LocationMatch");
    ap_regex_t *compiled;
    char *word;

    if (d == other || (is_named(d, other->directive) && strcmp(d->args, other->args) == 0))
        return 1;
    if (!path)
        return outer && strcmp(outer, "/") == 0;
    if (outer)
        return is_within(path, outer);
    word = mp_section_argument(p, d, &regex);
    if (!regex)
        return apr_fnmatch(word, path, APR_FNM_PATHNAME) == APR_SUCCESS;
    compiled = ap_pregcomp(p, word, AP_REG_EXTENDED);
    return compiled && (ap_regexec(compiled, path, 0, NULL, 0) == 0
                        || ap_regexec(compiled, apr_pstrcat(p, path, "/", NULL), 0, NULL, 0) == 0);
}

static int is_python_without_files(apr_pool_t *p, const char *args)
{
    const char *word;

    if (!args || strchr(args, '|'))
        return 0;
    while (*args && *(word = ap_getword_white(p, &args))) {
        if (mp_serves_files(word))
            return 0;
    }
    return 1;
}

static int python_answers(apr_pool_t *p, const apr_array_header_t *nodes, node location,
                          const char *path)
{
    const char *name = NULL, *own, *word;
    node d;

    if (!is_python_without_files(p, last_of(p, location->first_child, "PythonHandler")))
        return 0;
    for EACH (d, nodes) {
        if (is_named(d, "SetHandler"))
            name = d->args;
    }
    for EACH (d, nodes) {
        if (is_location(d) && applies(p, d, location, path)
            && (own = last_of(p, d->first_child, "SetHandler")) != NULL)
            name = own;
    }
    if (!name)
        return 0;
    word = ap_getword_conf(p, &name);
    return mp_is_our_name(word);
}

/* Whether somebody has thought of access control there, or its files are elsewhere. */
static int is_cared_for(apr_pool_t *p, const apr_array_header_t *nodes, node location,
                        const char *path)
{
    static const char *const guards[] = {
        "PythonAccessHandler", "PythonAuthenHandler", "PythonAuthzHandler",
        "PythonHeaderParserHandler", "PythonInitHandler", "PythonHandlerModule", NULL
    };
    static const char *const aliases[] = { "Alias", "ScriptAlias", "ProxyPass",
                                           "WSGIScriptAlias", NULL };
    const char *args;
    node d;

    for EACH (d, nodes) {
        if (is_location(d)) {
            if (has_rules(d->first_child) && applies(p, d, location, path))
                return 1;
        }
        else if (is_one_of(d->directive, guards))
            return 1;
        else if (path && is_one_of(d->directive, aliases)) {
            args = d->args;
            if (is_within(path, ap_getword_conf(p, &args)))
                return 1;
        }
    }
    return 0;
}

static void check_location(apr_pool_t *p, server_rec *s, const apr_array_header_t *nodes,
                           node location, const char *root, apr_array_header_t *told)
{
    const char *path = is_named(location, "<Location") ? plain_path(p, location) : NULL;
    const char *inner = path ? apr_pstrcat(p, root, path, NULL) : root;
    node section, there;
    int i, kind;

    for (i = 0; i < told->nelts; i++) {
        if (APR_ARRAY_IDX(told, i, node) == location)
            return;
    }
    if (!python_answers(p, nodes, location, path) || is_cared_for(p, nodes, location, path))
        return;
    for (kind = 0; kind < KINDS; kind++) {
        section = decides(p, nodes, root, kind);
        if (!section || !is_restrictive(p, section, kind))
            continue;
        there = decides(p, nodes, inner, kind);
        if (there != section && !is_restrictive(p, there, kind))
            continue;
        APR_ARRAY_PUSH(told, node) = location;
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "%s %s (%s:%d) is not protected by %s %s (%s:%d), which restricts access "
                     "to the DocumentRoot: Python answers there without a file, so no "
                     "<Directory> section applies; repeat its rules in the <Location>, or write "
                     "\"Require all granted\" there if it is open to everybody",
                     location->directive, location->args, location->filename,
                     location->line_num, section->directive, section->args,
                     section->filename, section->line_num);
        return;
    }
}

void mp_check_sections(server_rec *main_server, apr_pool_t *ptemp)
{
    apr_array_header_t *told, *nodes;
    const core_server_config *core;
    const char *root;
    server_rec *s;
    apr_pool_t *p;
    node d;

    /* httpd reads its configuration twice at the start. */
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG)
        return;
    told = apr_array_make(ptemp, 8, sizeof(node));
    apr_pool_create(&p, ptemp);
    for (s = main_server; s; s = s->next) {
        core = ap_get_core_module_config(s->module_config);
        root = core->ap_document_root;
        if (!root || *root != '/')
            continue;
        if (root[1] && root[strlen(root) - 1] == '/')
            root = apr_pstrmemdup(p, root, strlen(root) - 1);
        nodes = nodes_of(p, s);
        for EACH (d, nodes) {
            if (is_location(d))
                check_location(p, s, nodes, d, root, told);
        }
        apr_pool_clear(p);
    }
    apr_pool_destroy(p);
}
