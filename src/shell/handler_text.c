/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * Reading handler strings, and where they stand.
 *
 * A handler is written as "module", "module::object" or the path of a file,
 * and a path may be relative to the directory the directive belongs to.  So
 * this file finds the section around a directive and, knowing it, takes the
 * line apart and checks each part.
 */

#include "directives.h"

#include <apr_fnmatch.h>
#include <apr_lib.h>

/* ---- where a directive stands -------------------------------------------- */

/* httpd's own test: an .htaccess file is read into the request's pool. */
int mp_in_htaccess(cmd_parms *cmd)
{
    return ap_check_cmd_context(cmd, NOT_IN_HTACCESS) != NULL;
}

/* The argument of a section's opening line, read as httpd reads it. */
char *mp_section_argument(apr_pool_t *p, const ap_directive_t *d, int *regex)
{
    const char *args = d->args, *end = ap_strrchr_c(args, '>');
    char *word;

    if (end)
        args = apr_pstrmemdup(p, args, end - args);
    word = ap_getword_conf(p, &args);
    if (strcmp(word, "~") == 0) {
        *regex = 1;
        word = ap_getword_conf(p, &args);
    }
    return word;
}

static const char *compile_pattern(cmd_parms *cmd, mp_section *s)
{
    s->regex = ap_pregcomp(cmd->pool, s->path, AP_REG_EXTENDED);
    return s->regex ? NULL
         : apr_psprintf(cmd->pool, "%s: the regular expression \"%s\" of the "
                        "enclosing section cannot be compiled; correct it",
                        cmd->cmd->name, s->path);
}

static const char *read_directory(cmd_parms *cmd, mp_section *s,
                                  const ap_directive_t *d, int regex)
{
    char *word = mp_section_argument(cmd->pool, d, &regex), *path;
    apr_status_t rv;

    s->path = word;
    if (regex) {
        s->kind = MP_SECTION_DIRECTORY_MATCH;
        return compile_pattern(cmd, s);
    }
    rv = apr_filepath_merge(&path, NULL, word, APR_FILEPATH_TRUENAME, cmd->pool);
    if (rv != APR_SUCCESS && rv != APR_EPATHWILD)
        return apr_psprintf(cmd->pool, "%s: the path \"%s\" of the enclosing "
                            "<Directory> is invalid; correct it",
                            cmd->cmd->name, word);
    if (path[strlen(path) - 1] != '/')
        path = apr_pstrcat(cmd->pool, path, "/", NULL);
    if (apr_fnmatch_test(path)) {
        s->kind = MP_SECTION_DIRECTORY_MATCH;
        s->wildcard = 1;
        s->path = path;
    }
    else {
        s->kind = MP_SECTION_DIRECTORY;
        s->directory = path;
    }
    return NULL;
}

static const char *read_location(cmd_parms *cmd, mp_section *s,
                                 const ap_directive_t *d, int regex)
{
    s->path = mp_section_argument(cmd->pool, d, &regex);
    s->kind = MP_SECTION_LOCATION;
    if (regex) {
        s->kind = MP_SECTION_LOCATION_MATCH;
        return compile_pattern(cmd, s);
    }
    if (apr_fnmatch_test(s->path)) {
        s->kind = MP_SECTION_LOCATION_MATCH;
        s->wildcard = 1;
    }
    return NULL;
}

/* Inside <Files> or <If> of an .htaccess file cmd->path names that section, so
 * the directory is taken from the name of the file, which the outermost
 * section carries. */
static const char *read_htaccess(cmd_parms *cmd, mp_section *s,
                                 const ap_directive_t *top)
{
    const char *slash;

    s->kind = MP_SECTION_HTACCESS;
    if (!top) {
        s->directory = cmd->path;
        return NULL;
    }
    slash = strrchr(top->filename, '/');
    if (*top->filename != '/' || !slash)
        return apr_psprintf(cmd->pool, "%s: cannot tell in which directory it "
                            "stands, because its section comes from a macro; "
                            "write the section in the .htaccess file itself",
                            cmd->cmd->name);
    s->directory = apr_pstrmemdup(cmd->pool, top->filename,
                                  slash - top->filename + 1);
    return NULL;
}

/* The section a directive stands in, worked out once per section.  Sections
 * that only restrict it (<Files>, <If>) belong to what encloses them; anything
 * else, such as <Proxy>, has no directory. */
const char *mp_section_of(cmd_parms *cmd, mp_dir_conf *conf,
                          const mp_section **section)
{
    const ap_directive_t *d, *top = NULL;
    const char *error = NULL;
    mp_section *s;

    if (conf->section) {
        *section = conf->section;
        return NULL;
    }
    s = apr_pcalloc(cmd->pool, sizeof(*s));
    for (d = cmd->path ? cmd->directive->parent : NULL; d; d = d->parent) {
        top = d;
        if (strcasecmp(d->directive, "<Directory") == 0)
            error = read_directory(cmd, s, d, 0);
        else if (strcasecmp(d->directive, "<DirectoryMatch") == 0)
            error = read_directory(cmd, s, d, 1);
        else if (strcasecmp(d->directive, "<Location") == 0)
            error = read_location(cmd, s, d, 0);
        else if (strcasecmp(d->directive, "<LocationMatch") == 0)
            error = read_location(cmd, s, d, 1);
        else
            continue;
        if (!mp_in_htaccess(cmd))
            s->node = d;
        break;
    }
    if (!d && cmd->path && mp_in_htaccess(cmd))
        error = read_htaccess(cmd, s, top);
    if (!error)
        conf->section = s;
    *section = s;
    return error;
}

/* ---- handler strings ----------------------------------------------------- */

static int is_name(const char *s, apr_size_t n, int dash)
{
    apr_size_t i;

    for (i = 0; i < n; i++) {
        unsigned char c = s[i];

        if (c >= 0x80 || c == '_' || apr_isalpha(c)
            || (apr_isdigit(c) && (i || dash)) || (c == '-' && dash))
            continue;
        return 0;
    }
    return n > 0;
}

/* Names joined by dots.  The import system also finds modules whose names are
 * no identifiers ("my-app", "404"), so those may hold digits and dashes
 * anywhere (dash); attributes may not. */
static int is_dotted(const char *s, apr_size_t n, int dash)
{
    const char *end = s + n, *dot;

    while ((dot = memchr(s, '.', end - s)) != NULL) {
        if (!is_name(s, dot - s, dash))
            return 0;
        s = dot + 1;
    }
    return is_name(s, end - s, dash);
}

static const char *bad_handler(cmd_parms *cmd, const char *text, const char *why)
{
    return apr_psprintf(cmd->pool, "%s: \"%s\" is not a handler: %s",
                        cmd->cmd->name, text, why);
}

/* Checks "module", "module::object" and the path forms.  section is NULL where
 * only absolute paths can be followed. */
const char *mp_check_handler(cmd_parms *cmd, const char *text,
                             const mp_section *section)
{
    const char *colons = strstr(text, "::");
    apr_size_t n = colons ? (apr_size_t)(colons - text) : strlen(text);
    const char *slash = memchr(text, '/', n), *name, *dot;

    if (strpbrk(text, "\"'"))
        return bad_handler(cmd, text, "quotes are part of the name here; remove them");
    if (!n)
        return bad_handler(cmd, text, "the module is missing; write module or "
                           "module::object");
    if (colons && !is_dotted(colons + 2, strlen(colons + 2), 0))
        return bad_handler(cmd, text, "what follows \"::\" must be the name of a "
                           "function or other object, such as handler or "
                           "Class.method");
    if (memchr(text, '\\', n))
        return bad_handler(cmd, text, "paths are written with forward slashes");
    if (!slash) {
        if (is_dotted(text, n, 1))
            return NULL;
        if (memchr(text, ':', n))
            return bad_handler(cmd, text, "write \"::\" between module and object");
        return bad_handler(cmd, text, "write the name of a module, such as "
                           "package.module, or a path that begins with \"/\", "
                           "\"~/\", \"./\" or \"../\"");
    }

    if (*text != '/') {
        int relative = strncmp(text, "./", 2) == 0 || strncmp(text, "../", 3) == 0;

        if (!relative && strncmp(text, "~/", 2) != 0)
            return bad_handler(cmd, text, "a path must begin with \"/\", \"~/\", "
                               "\"./\" or \"../\"; the parts of a module name "
                               "are joined by dots");
        if (!section)
            return bad_handler(cmd, text, "there is no directory here that the "
                               "path could be relative to; write an absolute "
                               "path or the name of a module");
        if (relative && (section->kind == MP_SECTION_SERVER
                         || section->kind == MP_SECTION_LOCATION
                         || section->kind == MP_SECTION_LOCATION_MATCH))
            return bad_handler(cmd, text, "there is no directory here that the "
                               "path could be relative to; write an absolute "
                               "path, or put the directive in a <Directory> "
                               "section");
    }
    /* "name.ext" after the last slash, neither part empty. */
    for (slash = text + n; slash[-1] != '/'; slash--)
        ;
    name = apr_pstrmemdup(cmd->temp_pool, slash, text + n - slash);
    dot = ap_strrchr_c(name, '.');
    if (!dot || dot == name || !dot[1])
        return bad_handler(cmd, text, "a path must name a file with its "
                           "extension, such as /srv/app/pages.py");
    return NULL;
}

const char *mp_parse_handlers(cmd_parms *cmd, const char *args,
                              const mp_section *section, int extensions_allowed,
                              mp_handler_line *line)
{
    const char *bar = strchr(args, '|'), *rest, *word, *error;
    int i;

    line->handlers = apr_array_make(cmd->pool, 2, sizeof(const char *));
    line->extensions = apr_array_make(cmd->pool, 2, sizeof(const char *));
    if (bar && !extensions_allowed)
        return apr_psprintf(cmd->pool, "%s does not accept \"| .ext\" syntax.",
                            cmd->cmd->name);

    rest = bar ? apr_pstrmemdup(cmd->pool, args, bar - args) : args;
    while (*(word = ap_getword_white(cmd->pool, &rest)) || *rest) {
        if (!*word)
            continue;                   /* blanks in front */
        if ((error = mp_check_handler(cmd, word, section)) != NULL)
            return error;
        APR_ARRAY_PUSH(line->handlers, const char *) = word;
    }
    if (!line->handlers->nelts)
        return apr_psprintf(cmd->pool, "%s: no handler is named; write module or "
                            "module::object", cmd->cmd->name);
    if (!bar)
        return NULL;

    rest = bar + 1;
    while (*(word = ap_getword_white(cmd->pool, &rest)) || *rest) {
        if (!*word)
            continue;
        if (word[0] != '.' || !word[1] || strpbrk(word, "/|\"'"))
            return apr_psprintf(cmd->pool, "%s: \"%s\" is not an extension; write "
                                "it with its dot and without quotes, such as "
                                ".py or .tar.gz, several of them with blanks "
                                "between", cmd->cmd->name, word);
        for (i = 0; i < line->extensions->nelts; i++) {
            if (strcmp(APR_ARRAY_IDX(line->extensions, i, const char *), word) == 0)
                break;                  /* named twice: still one list */
        }
        if (i == line->extensions->nelts)
            APR_ARRAY_PUSH(line->extensions, const char *) = word;
    }
    if (!line->extensions->nelts)
        return apr_psprintf(cmd->pool, "%s: no extension follows the \"|\"; write "
                            "one, such as \"| .py\", or remove the \"|\"",
                            cmd->cmd->name);
    return NULL;
}
