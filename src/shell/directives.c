/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * The directives: where each may stand, what it accepts, where its value goes.
 *
 * Whatever cannot work is refused while the configuration is read: a function
 * that returns a text stops the start, and httpd puts the file and the line in
 * front of it (in an .htaccess file: status 500 and an entry in the error log).
 * So every text says which directive, what is wrong, and what to write
 * instead.  No Python runs here; whether a module exists is found out later.
 *
 * Settings go into the per-directory configuration of the section at hand.  At
 * server level (cmd->path is NULL) that is the base for all directories of the
 * server, and the value is recorded in the server's own configuration too, for
 * connection handlers and server.get_config().
 */

#include "directives.h"

/* ---- what runs ----------------------------------------------------------- */

const char *const mp_phase_names[MP_PHASES] = {
    [MP_POST_READ_REQUEST] = "PythonPostReadRequestHandler",
    [MP_TRANS]             = "PythonTransHandler",
    [MP_HEADER_PARSER]     = "PythonHeaderParserHandler",
    [MP_INIT]              = "PythonInitHandler",
    [MP_ACCESS]            = "PythonAccessHandler",
    [MP_AUTHEN]            = "PythonAuthenHandler",
    [MP_AUTHZ]             = "PythonAuthzHandler",
    [MP_TYPE]              = "PythonTypeHandler",
    [MP_FIXUP]             = "PythonFixupHandler",
    [MP_CONTENT]           = "PythonHandler",
    [MP_LOG]               = "PythonLogHandler",
    [MP_CLEANUP]           = "PythonCleanupHandler",
    [MP_QUICK]             = "PythonQuickHandler",
    [MP_MAP_TO_STORAGE]    = "PythonMapToStorageHandler",
    [MP_CONNECTION]        = "PythonConnectionHandler",
    [MP_PRE_CONNECTION]    = "PythonPreConnectionHandler",
    [MP_CHILD_INIT]        = "PythonChildInitHandler",
    [MP_CHILD_EXIT]        = "PythonChildExitHandler"
};

/* ---- lists of handlers ---------------------------------------------------- */

/* Identities of lists read at the start, which is done by one thread.  The
 * count begins anew when httpd loads the module again, and so do the lists. */
static apr_uint32_t last_list_id;

static void append_handlers(cmd_parms *cmd, mp_hlist **list,
                            const mp_handler_line *line,
                            const mp_section *section, int silent)
{
    int added = line->handlers->nelts, i, old;
    mp_handler *handlers;

    if (!*list) {
        *list = apr_pcalloc(cmd->pool, sizeof(**list));
        (*list)->id = mp_in_htaccess(cmd) ? 0 : ++last_list_id;
    }
    old = (*list)->n;
    handlers = apr_pcalloc(cmd->pool, (old + added) * sizeof(*handlers));
    if (old)
        memcpy(handlers, (*list)->handlers, old * sizeof(*handlers));
    for (i = 0; i < added; i++) {
        handlers[old + i].text = APR_ARRAY_IDX(line->handlers, i, const char *);
        handlers[old + i].section = section;
        handlers[old + i].silent = silent;
    }
    (*list)->handlers = handlers;
    (*list)->n = old + added;
}

mp_hlist *mp_one_handler(cmd_parms *cmd, const char *text, const mp_section *section)
{
    mp_hlist *list = apr_pcalloc(cmd->pool, sizeof(*list));

    list->id = mp_in_htaccess(cmd) ? 0 : ++last_list_id;
    list->n = 1;
    list->handlers = apr_pcalloc(cmd->pool, sizeof(*list->handlers));
    list->handlers[0].text = text;
    list->handlers[0].section = section;
    return list;
}

static void append_to_phase(cmd_parms *cmd, mp_phase_conf *pc,
                            const mp_handler_line *line,
                            const mp_section *section, int silent)
{
    int i;

    if (!line->extensions->nelts)
        append_handlers(cmd, &pc->all, line, section, silent);
    for (i = 0; i < line->extensions->nelts; i++) {
        const char *ext = APR_ARRAY_IDX(line->extensions, i, const char *);
        const mp_extlist *e = pc->ext;
        mp_hlist *list = NULL;

        while (e && strcmp(e->ext, ext) != 0)
            e = e->next;
        if (e)
            list = e->list;
        append_handlers(cmd, &list, line, section, silent);
        if (!e) {
            mp_extlist *added = apr_pcalloc(cmd->pool, sizeof(*added));

            added->ext = ext;
            added->list = list;
            added->next = pc->ext;
            pc->ext = added;
        }
    }
}

/* httpd refuses "" by itself, but not quoted blanks. */
static int is_blank(const char *text)
{
    return !text[strspn(text, " \t")];
}

/* ---- the directives that name handlers ----------------------------------- */

/* All twelve request phases; cmd->info is the phase. */
static const char *phase_handler(cmd_parms *cmd, void *mconfig, const char *args)
{
    mp_dir_conf *conf = mconfig;
    int phase = (int)(apr_uintptr_t)cmd->info;
    const mp_section *section;
    mp_handler_line line;
    const char *error;

    /* Methods do not choose handlers: in <Limit> it would run for all. */
    if ((error = ap_check_cmd_context(cmd, NOT_IN_LIMIT)) != NULL
        || (error = mp_section_of(cmd, conf, &section)) != NULL
        || (error = mp_parse_handlers(cmd, args, section,
                                       phase != MP_POST_READ_REQUEST
                                       && phase != MP_TRANS && phase != MP_QUICK
                                       && phase != MP_MAP_TO_STORAGE, &line)) != NULL)
        return error;
    append_to_phase(cmd, &conf->phase[phase], &line, section, 0);
    return NULL;
}

static const char *handler_module(cmd_parms *cmd, void *mconfig, const char *args)
{
    mp_dir_conf *conf = mconfig;
    const mp_section *section;
    mp_handler_line line;
    const char *error;
    int phase;

    if ((error = ap_check_cmd_context(cmd, NOT_IN_LIMIT)) != NULL
        || (error = mp_section_of(cmd, conf, &section)) != NULL
        || (error = mp_parse_handlers(cmd, args, section, 1, &line)) != NULL)
        return error;
    for (phase = 0; phase <= MP_CLEANUP; phase++)
        append_to_phase(cmd, &conf->phase[phase], &line, section, 1);
    return NULL;
}

static const char *connection_handler(cmd_parms *cmd, void *mconfig, const char *args)
{
    mp_server_conf *server = mp_server_conf_of(cmd->server);
    const mp_section *section;
    mp_handler_line line;
    const char *error;

    if ((error = ap_check_cmd_context(cmd, NOT_IN_LIMIT)) != NULL
        || (error = mp_section_of(cmd, mconfig, &section)) != NULL
        || (error = mp_parse_handlers(cmd, args, NULL, 0, &line)) != NULL)
        return error;
    if (line.handlers->nelts > 1 || server->connection)
        return apr_psprintf(cmd->pool, "%s: a server has one connection handler, "
                            "which owns the whole connection; name one and "
                            "remove \"%s\"", cmd->cmd->name,
                            APR_ARRAY_IDX(line.handlers, line.handlers->nelts - 1,
                                          const char *));
    append_handlers(cmd, &server->connection, &line, section, 0);
    return NULL;
}

/* The other lists of a server; cmd->info is the phase. */
static const char *server_handler(cmd_parms *cmd, void *mconfig, const char *args)
{
    mp_server_conf *server = mp_server_conf_of(cmd->server);
    int phase = (int)(apr_uintptr_t)cmd->info;
    const mp_section *section;
    mp_handler_line line;
    const char *error;

    if ((error = ap_check_cmd_context(cmd, NOT_IN_LIMIT)) != NULL
        || (error = mp_section_of(cmd, mconfig, &section)) != NULL
        || (error = mp_parse_handlers(cmd, args, NULL, 0, &line)) != NULL)
        return error;
    append_handlers(cmd, phase == MP_CHILD_INIT ? &server->child_init
                         : phase == MP_CHILD_EXIT ? &server->child_exit
                         : &server->pre_connection, &line, section, 0);
    return NULL;
}

static const char *authn_provider(cmd_parms *cmd, void *mconfig, const char *text)
{
    mp_dir_conf *conf = mconfig;
    const mp_section *section;
    const char *error;

    if ((error = ap_check_cmd_context(cmd, NOT_IN_LIMIT)) != NULL
        || (error = mp_section_of(cmd, conf, &section)) != NULL
        || (error = mp_check_handler(cmd, text, section)) != NULL)
        return error;
    conf->authn = mp_one_handler(cmd, text, section);
    return NULL;
}

/* Both directives of connection filters; cmd->info is the place of the list. */
static const char *connection_filter(cmd_parms *cmd, void *mconfig, const char *args)
{
    mp_server_conf *server = mp_server_conf_of(cmd->server);
    mp_hlist **list = (mp_hlist **)((char *)server + (apr_size_t)cmd->info);
    const mp_section *section;
    mp_handler_line line;
    const char *error;

    if ((error = ap_check_cmd_context(cmd, NOT_IN_LIMIT)) != NULL
        || (error = mp_section_of(cmd, mconfig, &section)) != NULL
        || (error = mp_parse_handlers(cmd, args, NULL, 0, &line)) != NULL)
        return error;
    append_handlers(cmd, list, &line, section, 0);
    return NULL;
}

static const char *import_module(cmd_parms *cmd, void *mconfig, const char *text,
                                 const char *interpreter)
{
    mp_server_conf *server = mp_server_conf_of(cmd->server);
    mp_import *import, **end;
    const char *error;

    (void)mconfig;
    if (cmd->server->is_virtual)
        return apr_psprintf(cmd->pool, "%s: a child process imports for the main "
                            "server only; move the line out of <VirtualHost> "
                            "and name the interpreter in it (that of a virtual "
                            "host is called like its ServerName)",
                            cmd->cmd->name);
    if ((error = ap_check_cmd_context(cmd, NOT_IN_LIMIT)) != NULL
        || (error = mp_check_handler(cmd, text, NULL)) != NULL)
        return error;
    if (is_blank(interpreter))
        return apr_psprintf(cmd->pool, "%s: the name of the interpreter is empty; "
                            "write main_interpreter or the name under which "
                            "requests run", cmd->cmd->name);
    import = apr_pcalloc(cmd->pool, sizeof(*import));
    import->text = text;
    import->interpreter = interpreter;
    import->file = apr_pstrdup(cmd->pool, cmd->directive->filename);
    import->line = cmd->directive->line_num;
    for (end = &server->imports; *end; end = &(*end)->next)
        ;
    *end = import;
    return NULL;
}

/* PythonInputFilter and PythonOutputFilter; cmd->info is 1 for input. */
static const char *filter(cmd_parms *cmd, void *mconfig, const char *text,
                          const char *name)
{
    mp_dir_conf *conf = mconfig;
    int is_input = cmd->info != NULL;
    const mp_filter **chain = is_input ? &conf->input_filters
                                                            : &conf->output_filters;
    const mp_section *section;
    const char *error;
    mp_filter *f;
    char *lower;

    /* AllowOverrideList could let it into an .htaccess file, but filter names
     * are registered with httpd at the start. */
    if ((error = ap_check_cmd_context(cmd, NOT_IN_HTACCESS | NOT_IN_LIMIT)) != NULL
        || (error = mp_section_of(cmd, conf, &section)) != NULL
        || (error = mp_check_handler(cmd, text, section)) != NULL)
        return error;
    if (!name)
        name = text;
    if (strpbrk(name, "; \t\""))
        return apr_psprintf(cmd->pool, "%s: \"%s\" cannot be the name of a filter; "
                            "write one without blanks, quotes and semicolons",
                            cmd->cmd->name, name);
    lower = apr_pstrdup(cmd->pool, name);
    ap_str_tolower(lower);
    f = apr_pcalloc(cmd->pool, sizeof(*f));
    f->name = lower;
    f->handler.text = text;
    f->handler.section = section;
    f->next = *chain;                   /* hides an earlier one of that name */
    *chain = f;
    if (!mp_register_filter(lower, is_input))
        return apr_psprintf(cmd->pool, "%s: \"%s\" is the name of a filter of another "
                            "module; choose another name", cmd->cmd->name, name);
    return NULL;
}

/* ---- settings ------------------------------------------------------------ */

static mp_server_conf *server_level(cmd_parms *cmd)
{
    return cmd->path ? NULL : mp_server_conf_of(cmd->server);
}

/* A flag has a field in both configurations; cmd->info tells which. */
typedef struct flag_place {
    apr_size_t in_dir;
    apr_size_t in_server;
} flag_place;

#define FLAG_PLACE(field) \
    { APR_OFFSETOF(mp_dir_conf, field), APR_OFFSETOF(mp_server_conf, field) }

static flag_place flag_debug = FLAG_PLACE(debug);
static flag_place flag_autoreload = FLAG_PLACE(autoreload);
static flag_place flag_enable_pdb = FLAG_PLACE(enable_pdb);
static flag_place flag_per_directory = FLAG_PLACE(interp_per_directory);
static flag_place flag_per_directive = FLAG_PLACE(interp_per_directive);

static const char *flag(cmd_parms *cmd, void *mconfig, int on)
{
    const flag_place *place = cmd->info;
    mp_server_conf *server = server_level(cmd);
    const char *error = ap_check_cmd_context(cmd, NOT_IN_LIMIT);

    if (error)
        return error;
    *(int *)((char *)mconfig + place->in_dir) = on != 0;
    if (server) {
        *(int *)((char *)server + place->in_server) = on != 0;
        apr_table_setn(server->config, cmd->cmd->name, on ? "1" : "0");
    }
    return NULL;
}

static const char *optimize(cmd_parms *cmd, void *mconfig, int on)
{
    const char *error = ap_check_cmd_context(cmd, NOT_IN_LIMIT);

    (void)mconfig;
    if (!error)
        mp_server_conf_of(cmd->server)->optimize = on != 0;
    return error;
}

static const char *interpreter(cmd_parms *cmd, void *mconfig, const char *name)
{
    mp_dir_conf *conf = mconfig;
    mp_server_conf *server = server_level(cmd);
    const char *error = ap_check_cmd_context(cmd, NOT_IN_LIMIT);

    if (error)
        return error;
    if (is_blank(name))
        return apr_psprintf(cmd->pool, "%s: the name is empty; write "
                            "main_interpreter or a name of your own, or remove "
                            "the directive", cmd->cmd->name);
    conf->interpreter = apr_pcalloc(cmd->pool, sizeof(*conf->interpreter));
    conf->interpreter->name = name;
    if (server) {
        server->interpreter = conf->interpreter;
        apr_table_setn(server->config, "PythonInterpreter", name);
    }
    return NULL;
}

static const char *python_path(cmd_parms *cmd, void *mconfig, const char *expression)
{
    mp_dir_conf *conf = mconfig;
    mp_server_conf *server = server_level(cmd);
    const char *error = ap_check_cmd_context(cmd, NOT_IN_LIMIT);

    if (error)
        return error;
    if (is_blank(expression))
        return apr_psprintf(cmd->pool, "%s: the expression is empty; write a "
                            "Python list, such as \"sys.path+['/srv/lib']\", or "
                            "remove the directive", cmd->cmd->name);
    conf->python_path = expression;
    if (server) {
        server->python_path = expression;
        apr_table_setn(server->config, "PythonPath", expression);
    }
    return NULL;
}

/* A missing value is an empty one: it removes the key. */
static const char *option(cmd_parms *cmd, void *mconfig, const char *key,
                          const char *value)
{
    mp_dir_conf *conf = mconfig;
    mp_server_conf *server = server_level(cmd);
    const char *error = ap_check_cmd_context(cmd, NOT_IN_LIMIT);

    if (error)
        return error;
    if (is_blank(key))
        return apr_psprintf(cmd->pool, "%s: the key is empty; write a key, and "
                            "after it the value", cmd->cmd->name);
    if (!value)
        value = "";
    if (!conf->options) {
        mp_options *options = apr_pcalloc(cmd->pool, sizeof(*options));

        options->table = apr_table_make(cmd->pool, 4);
        conf->options = options;
    }
    apr_table_setn(conf->options->table, key, value);
    if (server)
        apr_table_setn(server->options, key, value);
    return NULL;
}

/* ---- the table ----------------------------------------------------------- */

/* In .htaccess files a directive is allowed when AllowOverride permits one of
 * the classes it names.  Ours belong to none in particular: any class will do,
 * so only AllowOverride None shuts them out.  OR_ALL also covers the server
 * configuration and all sections. */
#define ANYWHERE         (OR_ALL | RSRC_CONF | ACCESS_CONF)
#define NOT_IN_OVERRIDES (RSRC_CONF | ACCESS_CONF)
#define SERVER_ONLY      RSRC_CONF

#define PHASE(name, phase, where) \
    AP_INIT_RAW_ARGS(name, phase_handler, (void *)(apr_uintptr_t)(phase), where, \
                     "handlers of a phase: module[::object] ... [| .ext ...]")
#define FILTER(name, which, help) \
    AP_INIT_TAKE12(name, filter, (void *)(apr_uintptr_t)(which), NOT_IN_OVERRIDES, help)

#define CONNECTION_FILTER(name, list, help) \
    AP_INIT_RAW_ARGS(name, connection_filter, (void *)APR_OFFSETOF(mp_server_conf, list), \
                     SERVER_ONLY, help)

const command_rec mp_directives[] = {
    PHASE("PythonPostReadRequestHandler", MP_POST_READ_REQUEST, SERVER_ONLY),
    PHASE("PythonTransHandler", MP_TRANS, SERVER_ONLY),
    PHASE("PythonHeaderParserHandler", MP_HEADER_PARSER, ANYWHERE),
    PHASE("PythonInitHandler", MP_INIT, ANYWHERE),
    PHASE("PythonAccessHandler", MP_ACCESS, ANYWHERE),
    PHASE("PythonAuthenHandler", MP_AUTHEN, ANYWHERE),
    PHASE("PythonAuthzHandler", MP_AUTHZ, ANYWHERE),
    PHASE("PythonTypeHandler", MP_TYPE, ANYWHERE),
    PHASE("PythonFixupHandler", MP_FIXUP, ANYWHERE),
    PHASE("PythonHandler", MP_CONTENT, ANYWHERE),
    PHASE("PythonLogHandler", MP_LOG, ANYWHERE),
    PHASE("PythonCleanupHandler", MP_CLEANUP, ANYWHERE),
    PHASE("PythonQuickHandler", MP_QUICK, SERVER_ONLY),
    PHASE("PythonMapToStorageHandler", MP_MAP_TO_STORAGE, SERVER_ONLY),
    AP_INIT_TAKE1("PythonAuthnProvider", authn_provider, NULL, ANYWHERE,
                  "what AuthBasicProvider python asks: module[::object]"),
    AP_INIT_RAW_ARGS("PythonPreConnectionHandler", server_handler,
                     (void *)(apr_uintptr_t)MP_PRE_CONNECTION, SERVER_ONLY,
                     "handlers that see a connection before it is used: "
                     "module[::object] ..."),
    AP_INIT_RAW_ARGS("PythonChildInitHandler", server_handler,
                     (void *)(apr_uintptr_t)MP_CHILD_INIT, SERVER_ONLY,
                     "handlers for the beginning of a child: module[::object] ..."),
    AP_INIT_RAW_ARGS("PythonChildExitHandler", server_handler,
                     (void *)(apr_uintptr_t)MP_CHILD_EXIT, SERVER_ONLY,
                     "handlers for the end of a child: module[::object] ..."),
    AP_INIT_RAW_ARGS("PythonHandlerModule", handler_module, NULL, ANYWHERE,
                     "module with handlers for any of the request phases"),
    AP_INIT_RAW_ARGS("PythonConnectionHandler", connection_handler, NULL, SERVER_ONLY,
                     "handler of whole connections: module[::object]"),
    CONNECTION_FILTER("PythonConnectionInputFilter", connection_input,
                      "filters of what connections bring: module[::object] ..."),
    CONNECTION_FILTER("PythonConnectionOutputFilter", connection_output,
                      "filters of what goes out on connections: module[::object] ..."),
    FILTER("PythonInputFilter", 1,
           "an input filter: module[::object] [name]"),
    FILTER("PythonOutputFilter", 0,
           "an output filter: module[::object] [name]"),
    AP_INIT_TAKE2("PythonImport", import_module, NULL, SERVER_ONLY,
                  "what each child imports when it starts: module[::function] "
                  "interpreter"),
    AP_INIT_FLAG("PythonAutoReload", flag, &flag_autoreload, ANYWHERE,
                 "On (default) to load changed modules again, or Off"),
    AP_INIT_FLAG("PythonDebug", flag, &flag_debug, ANYWHERE,
                 "On to send error details to the client, or Off (default)"),
    AP_INIT_FLAG("PythonEnablePdb", flag, &flag_enable_pdb, ANYWHERE,
                 "On to run handlers under pdb, or Off (default)"),
    AP_INIT_TAKE1("PythonInterpreter", interpreter, NULL, ANYWHERE,
                  "name of the interpreter to run in"),
    AP_INIT_FLAG("PythonInterpPerDirectory", flag, &flag_per_directory, ANYWHERE,
                 "On for one interpreter per directory of files, or Off (default)"),
    AP_INIT_FLAG("PythonInterpPerDirective", flag, &flag_per_directive, ANYWHERE,
                 "On for one interpreter per directory of handler directives, or "
                 "Off (default)"),
    AP_INIT_FLAG("PythonOptimize", optimize, NULL, SERVER_ONLY,
                 "On to compile Python code with optimisation, or Off (default)"),
    AP_INIT_TAKE12("PythonOption", option, NULL, ANYWHERE,
                   "key and value for handlers; no value removes the key"),
    AP_INIT_TAKE1("PythonPath", python_path, NULL, ANYWHERE,
                  "Python expression that gives the list for sys.path"),
    { NULL, { NULL }, NULL, 0, RAW_ARGS, NULL }
};
