/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * The shell: what httpd insists on having in C.
 *
 *   mod_python.c   the module record and its hook registrations
 *   directives.c   the directive table: what is accepted where
 *   config_merge.c per-directory and per-server configuration: making,
 *                  merging and reading them
 *   hosts.c        which virtual host a connection belongs to, and its TLS
 *   hooks.c        connections, the start of the server, what is registered
 *   filters.c      filters of requests and connections
 *   framing.c      lengths, statuses and encodings of responses are right; bodies of requests
 *                  end where the client said
 *   head.c         cookies and caching of responses that belong to one visitor
 *   phases.c       the request phases: "is a Python handler configured here?"
 *   guards.c       access control of sub-requests and internal redirects
 *   advice.c       warnings about sections that do not protect what they seem to
 *   ssi.c          the element "python" of mod_include
 *   providers.c    authentication and authorisation providers
 *   interpreter.c  interpreters, thread states, entering and leaving Python
 *   gate.c         where threads line up for the GIL
 *   child_end.c    the end of a child process
 *   signals.c      where and when prefork's signal handlers run
 *   locks.c        locks between processes
 *   suspend.c      connections that no thread of httpd serves
 *   dump.c         the configuration, printed for commands
 *   exports.c      functions for other modules (include/mod_python.h)
 *
 * The core (src/core, Cython) includes this header too: it reads the
 * configuration structures below and calls the few functions marked MP_API.
 * No function here is called with the GIL held unless its comment says so.
 */

#ifndef MOD_PYTHON_SHELL_H
#define MOD_PYTHON_SHELL_H

#include <httpd.h>
#include <http_config.h>
#include <http_core.h>
#include <http_log.h>
#include <apr_pools.h>
#include <apr_strings.h>
#include <apr_tables.h>
#include <util_filter.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MP_API __attribute__((visibility("default")))

extern MP_API module AP_MODULE_DECLARE_DATA python_module;

/* ------------------------------------------------------------------------
 * Phases.  The first MP_REQUEST_PHASES are request phases, the twelve that have
 * always been there in httpd's order.  mp_phase_names[] (directives.c) holds the directive of each.
 */
typedef enum mp_phase {
    MP_POST_READ_REQUEST = 0,
    MP_TRANS,
    MP_HEADER_PARSER,
    MP_INIT,
    MP_ACCESS,
    MP_AUTHEN,
    MP_AUTHZ,
    MP_TYPE,
    MP_FIXUP,
    MP_CONTENT,
    MP_LOG,
    MP_CLEANUP,
    MP_QUICK,                   /* from here on not part of PythonHandlerModule */
    MP_MAP_TO_STORAGE,
    MP_REQUEST_PHASES,
    MP_CONNECTION = MP_REQUEST_PHASES,
    MP_PRE_CONNECTION,
    MP_CHILD_INIT,
    MP_CHILD_EXIT,
    MP_PHASES
} mp_phase;

extern MP_API const char *const mp_phase_names[MP_PHASES];

/* ------------------------------------------------------------------------
 * Configuration (directives.c)
 */

/* Where a directive stands.  One per section, shared by all its handlers. */
typedef enum mp_section_kind {
    MP_SECTION_SERVER = 0,      /* server config or <VirtualHost> */
    MP_SECTION_DIRECTORY,       /* <Directory /path>; dir is canonical, with '/' */
    MP_SECTION_DIRECTORY_MATCH, /* wildcard or regex; dir is worked out per request */
    MP_SECTION_HTACCESS,
    MP_SECTION_LOCATION,
    MP_SECTION_LOCATION_MATCH
} mp_section_kind;

typedef struct mp_section {
    mp_section_kind kind;
    const char *path;           /* as written (location, pattern), or NULL */
    const char *directory;      /* handler directory with trailing '/', or NULL */
    ap_regex_t *regex;          /* MATCH kinds given as a regex, else NULL */
    int wildcard;               /* MATCH kinds given as a shell pattern */
    const ap_directive_t *node; /* its place in the configuration, which lives as long as
                                 * the child; NULL in the server's and in .htaccess files */
} mp_section;

typedef struct mp_handler {
    const char *text;           /* "module" or "module::object" */
    const mp_section *section;
    int silent;                 /* from PythonHandlerModule */
    int warned;                 /* filter: something about it was logged (atomic) */
} mp_handler;

/* The handlers of one directive in one section.  id is unique in the process
 * and never 0 for a list that was read at start and lives as long as the
 * child; it is 0 for a list of an .htaccess file, which lives only as long as
 * the request, so that nobody caches by its address. */
typedef struct mp_hlist {
    apr_uint32_t id;
    int n;
    mp_handler *handlers;       /* n of them */
} mp_hlist;

/* Lists restricted to an extension ("| .ext"); innermost section first. */
typedef struct mp_extlist {
    const char *ext;            /* with its dot */
    mp_hlist *list;
    const struct mp_extlist *next;
} mp_extlist;

typedef struct mp_phase_conf {
    mp_hlist *all;              /* unrestricted list, or NULL */
    const mp_extlist *ext;
} mp_phase_conf;

/* PythonOption: a chain of tables, innermost first; a value "" in an inner
 * table removes the key.  Chained, not overlaid, because httpd merges
 * configurations on every request and most requests never look. */
typedef struct mp_options {
    apr_table_t *table;
    const struct mp_options *outer;
} mp_options;

/* PythonInputFilter and PythonOutputFilter; innermost section first, so that
 * the first of a name is the one that applies. */
typedef struct mp_filter {
    const char *name;           /* in lower case */
    mp_handler handler;
    const struct mp_filter *next;
} mp_filter;

/* An interpreter named in the configuration; `interp` is filled in on first
 * use (atomically), so that the name is looked up once. */
typedef struct mp_interp mp_interp;
typedef struct mp_interp_ref {
    const char *name;
    mp_interp *interp;
} mp_interp_ref;

#define MP_UNSET (-1)

typedef struct mp_dir_conf {
    mp_phase_conf phase[MP_REQUEST_PHASES];
    const mp_options *options;
    const mp_filter *input_filters;
    const mp_filter *output_filters;
    mp_hlist *authn;                    /* PythonAuthnProvider, or NULL */
    mp_interp_ref *interpreter;         /* PythonInterpreter, or NULL */
    const char *python_path;            /* PythonPath expression, or NULL */
    int debug;                          /* On 1, Off 0, MP_UNSET */
    int autoreload;
    int enable_pdb;
    int interp_per_directory;
    int interp_per_directive;
    int requires_python;                /* a Require asks Python */
    const mp_section *section;          /* only while the section is read */
    const ap_conf_vector_t *origin;     /* what this configuration is a copy of (guards.c),
                                         * or NULL */
} mp_dir_conf;

typedef struct mp_import {
    const char *text;                   /* module or module::function */
    const char *interpreter;
    const char *file;                   /* where the directive stands */
    int line;
    struct mp_import *next;             /* in the order of the configuration */
} mp_import;

typedef struct mp_tls mp_tls;           /* hosts.c */

typedef struct mp_server_conf {
    mp_hlist *connection;               /* PythonConnectionHandler, or NULL */
    mp_hlist *pre_connection;           /* likewise, as the next two */
    mp_hlist *connection_input;
    mp_hlist *connection_output;
    mp_hlist *child_init;               /* not inherited by virtual hosts */
    mp_hlist *child_exit;
    apr_table_t *options;               /* live: get_options() of this server */
    apr_table_t *config;                /* live: get_config() of this server */
    mp_interp_ref *interpreter;         /* PythonInterpreter outside sections */
    mp_interp_ref *default_interpreter; /* by the server's name; set in post_config */
    const char *python_path;
    int debug;
    int autoreload;
    int enable_pdb;
    int interp_per_directory;
    int interp_per_directive;
    int optimize;                       /* On in any server: On in the main one */
    mp_import *imports;                 /* main server only */
    const mp_tls *tls;                  /* what it asks of TLS clients, or NULL: not known */
} mp_server_conf;

extern const command_rec mp_directives[];
void *mp_create_dir_conf(apr_pool_t *p, char *dir);
void *mp_merge_dir_conf(apr_pool_t *p, void *base, void *add);
void *mp_create_server_conf(apr_pool_t *p, server_rec *s);
void *mp_merge_server_conf(apr_pool_t *p, void *base, void *add);

/* The configuration table of a request: the merged settings as get_config()
 * shows them ("1"/"0" for flags).  Made in pool p. */
MP_API apr_table_t *mp_config_table(apr_pool_t *p, const mp_dir_conf *conf);
/* The merged options of a chain, removed keys left out.  Made in pool p. */
MP_API apr_table_t *mp_options_table(apr_pool_t *p, const mp_options *options);
/* The value of one option, or NULL; nothing is merged for it. */
MP_API const char *mp_option(const mp_options *options, const char *key);
/* The list that applies to a phase, or NULL.  *ext is the extension that chose
 * it or NULL. filename may be NULL (no extension lists then). */
MP_API mp_hlist *mp_find_hlist(const mp_phase_conf *pc, const char *filename,
                               const char **ext);
/* The filter of that name, whatever its case, or NULL. */
MP_API const mp_filter *mp_find_filter(const mp_filter *filters, const char *name);
/* Handler directory of a section for a file name: the fixed one, or for a
 * pattern the shortest leading part of filename that matches (in pool p).
 * NULL in the server configuration and in <Location>. */
MP_API const char *mp_handler_directory(apr_pool_t *p, const mp_section *s,
                                        const char *filename);
/* Location of a section for a URI path: the one written, or for a pattern the
 * part of the URI that matched (in pool p).  NULL outside <Location>. */
MP_API const char *mp_handler_location(apr_pool_t *p, const mp_section *s,
                                       const char *uri);

static inline mp_dir_conf *mp_dir_conf_of(const request_rec *r)
{
    return (mp_dir_conf *)ap_get_module_config(r->per_dir_config, &python_module);
}

static inline mp_server_conf *mp_server_conf_of(const server_rec *s)
{
    return (mp_server_conf *)ap_get_module_config(s->module_config, &python_module);
}

/* ------------------------------------------------------------------------
 * Interpreters (interpreter.c)
 *
 * Python runs in the children only.  An interpreter is named, made on first
 * use and lives as long as the child.  The core registers one callable per
 * interpreter; the shell calls nothing else in Python.
 */

/* What the callable is called for; the pointer that goes with it. */
typedef enum mp_what {
    MP_CALL_REQUEST = 0,        /* mp_call: a request phase */
    MP_CALL_CONNECTION,         /* mp_call: a connection handler */
    MP_CALL_IMPORT,             /* mp_import */
    MP_CALL_DETACH,             /* mp_slot: its record is going away */
    MP_CALL_CLEANUP,            /* mp_slot: run the callables for the request's end */
    MP_CALL_PRE_CONNECTION,     /* mp_call: a connection comes in */
    MP_CALL_SERVER,             /* mp_server_call: the child begins */
    MP_CALL_PASSWORD,           /* mp_auth_call, as the next two */
    MP_CALL_REALM,
    MP_CALL_AUTHORIZE,
    MP_CALL_SSI,                /* mp_ssi_call */
    MP_CALL_EXIT,               /* NULL: the child ends */
    MP_CALL_FILTER,             /* mp_filter_run (filters.h) */
    MP_CALL_OBJECT              /* mp_object: another module wants it */
} mp_what;

/* Which Python object is wanted: one of the three is not NULL. */
typedef struct mp_object {
    request_rec *r;
    conn_rec *c;
    server_rec *s;
    void *object;               /* out: PyObject *, a reference for the caller */
} mp_object;

/* One call into Python, on the stack of the hook function. */
typedef struct mp_call {
    mp_phase phase;
    request_rec *r;             /* request phases */
    conn_rec *c;                /* connection handler */
    const mp_hlist *list;       /* may be NULL when only dynamic handlers apply */
    const char *ext;            /* extension that chose the list, or NULL */
    apr_bucket_brigade *rest;   /* out: queued output the hook still has to send,
                                 * after Python was left */
    int absent;                 /* out, MP_ACCESS: no module of the list has a function for
                                 * that phase (1), MP_AUTHEN (2), MP_AUTHZ (4) */
} mp_call;

/* Handlers for the beginning or the end of a child. */
typedef struct mp_server_call {
    mp_phase phase;             /* MP_CHILD_INIT or MP_CHILD_EXIT */
    server_rec *s;
    const mp_hlist *list;
} mp_server_call;

/* A question to an authentication or authorisation provider (providers.c). */
typedef struct mp_auth_call {
    request_rec *r;
    const mp_hlist *list;
    const char *one;            /* the user; the arguments of Require */
    const char *two;            /* the password; the realm; NULL */
    const char *result;         /* out: the hash for a realm, or NULL */
} mp_auth_call;

/* An element of a page of mod_include (ssi.c). */
typedef struct mp_ssi_call {
    request_rec *r;
    const char *code;
    int exec;                   /* statements; else an expression */
    apr_bucket_brigade *out;    /* where its output goes */
} mp_ssi_call;

#define MP_AUTH_NO      0
#define MP_AUTH_YES     1
#define MP_AUTH_UNKNOWN 2       /* no such user; anything else is an error */

/* Start Python in this child; run PythonImport.  Never fails the child: what
 * goes wrong is logged, and requests for Python answer 500. */
void mp_python_child_init(apr_pool_t *pchild, server_rec *s);

/* The record for a name, made if need be (not started); NULL and a log line
 * if there are too many. */
mp_interp *mp_interp_get(const char *name);
/* The record for a name, or NULL if there is none. */
mp_interp *mp_interp_find(const char *name);
mp_interp *mp_interp_of(mp_interp_ref *ref);

/* Call into an interpreter, starting it if need be.  May be called by any
 * thread, attached to Python or not.  Returns the int that the callable
 * returned, or HTTP_INTERNAL_SERVER_ERROR if the interpreter could not be
 * entered (already logged). */
int mp_python_call(mp_interp *interp, mp_what what, void *arg);

/* The first and the last thing to call in a section without the GIL that is
 * short and run often, so that threads do not get into each other's way when
 * they want it back (gate.c).  A section without the two is right, too. */
MP_API void mp_gate_out(void);
MP_API void mp_gate_in(void);

MP_API const char *mp_interp_name(const mp_interp *interp);
/* The interpreter that the calling (attached) thread is in. */
MP_API mp_interp *mp_interp_current(void);
/* The main server of this configuration. */
MP_API server_rec *mp_main_server(void);

/* ------------------------------------------------------------------------
 * Slots: the Python object that stands for a connection or request, one per
 * interpreter.  A slot owns a reference; when the record's pool goes away
 * each object is detached in its own interpreter (MP_CALL_DETACH) and released.
 */
typedef struct mp_slot {
    mp_interp *interp;
    void *object;               /* PyObject *, or NULL */
    apr_off_t queued;           /* request: what its object remembers even if it is */
    int type_set;               /* dropped and made anew, see the core */
    unsigned dynamic;           /* request: phases (1 << mp_phase) with handlers
                                 * that were added while it was processed */
    int cleanups;               /* request: the object has callables to run at its end */
    struct mp_slot *next;
} mp_slot;

/* What we note about a connection or request; lies in its configuration vector. */
typedef struct mp_record {
    mp_slot slot;               /* the first; nearly always it is the only one */
    int declined;               /* connection: its handler declined, so it carries
                                 * HTTP from then on */
    int tls;                    /* connection: it was to speak TLS, for a Python handler */
    int warned;                 /* connection: something about a filter was logged */
    const apr_table_t *notes;   /* connection: those that its streams begin with, or NULL */
    int init_ran;               /* request: PythonInitHandler had its turn */
    const char *no_file;        /* request: its URI path, if a <Location> for it makes
                                 * its content; or NULL */
    int at_end;                 /* request: end_of_request() is registered */
    const char *claimed;        /* request: r->user as get_basic_auth_pw() has set it, or NULL */
    request_rec *passed;        /* request: the one that has passed httpd's authorisation
                                 * for it, or NULL (guards.c) */
    int unchecked;              /* request: Python runs for it before httpd has granted access */
    const mp_hlist *absent[3];  /* request: lists of MP_ACCESS, MP_AUTHEN and MP_AUTHZ that
                                 * have turned out to be without a function */
    int head;                   /* request: MP_HEAD_* (head.c) */
    const char *length, *encoding;  /* request: the headers that say where its body ends, as
                                 * they were before Python saw them (framing.c) */
    struct mp_framing *framing; /* request: the length that its head announces; or NULL (framing.c) */
    int gone;                   /* its objects were detached: there are no more */
    conn_rec *c;                /* connection: from here on for one that is suspended, */
    struct mp_loop *loop;       /* see suspend.c; who serves it */
    struct mp_record *next_arrived;
    int suspended;
    apr_time_t suspended_at;
    unsigned *worker, visit;    /* which thread suspended it, and when in its life */
} mp_record;

/* The records, or NULL if nothing was noted yet. */
MP_API mp_record *mp_conn_record(const conn_rec *c);
mp_record *mp_request_record(const request_rec *r);
/* The record, made if need be. */
mp_record *mp_note_request(request_rec *r);
mp_record *mp_note_conn(conn_rec *c);

/* The slot of an interpreter, made if need be; NULL when the record is going away:
 * a thread that a handler left behind may still see it from one that is not. */
MP_API mp_slot *mp_conn_slot(conn_rec *c, mp_interp *interp);
MP_API mp_slot *mp_request_slot(request_rec *r, mp_interp *interp);

/* ------------------------------------------------------------------------
 * Virtual hosts and connections (hosts.c)
 */

/* At start: note what TLS the hosts ask for; refuse or warn about directives for
 * connections that have no effect.  OK, or a status that ends httpd. */
int mp_check_hosts(apr_pool_t *pconf, apr_pool_t *ptemp, server_rec *main_server);
/* Why a TLS handshake was not the one that the handler's host asks for, or NULL. */
const char *mp_other_tls(conn_rec *c);

/* ------------------------------------------------------------------------
 * The end of a child (child_end.c)
 */

/* Wait until a descriptor can be read, without the GIL: the one place where a
 * handler may wait for long and is woken when the child must end at once.
 * timeout_ms is -1 for no limit.  Returns 1 when there is something (or an
 * error) to read, 0 after the time-out, -1 with errno set, or MP_WAIT_STOP: then
 * httpd has closed the descriptor of every connection, and none may be used. */
#define MP_WAIT_STOP (-2)
MP_API int mp_wait_readable(int fd, int timeout_ms);

/* After a handler: end this process if it is one that the handler has forked,
 * before it sends what the connection holds. */
MP_API void mp_end_if_forked(void);

void mp_register_end_hooks(void);

/* ------------------------------------------------------------------------
 * Connections of coroutine handlers (suspend.c)
 */

/* What leads other threads to the thread of an event loop; one per interpreter. */
typedef struct mp_loop {
    int wake_fd;                /* readable: connections have arrived, or the child stops */
    int poll_fd;                /* readable: so is one of the connections it waits for */
    mp_record *arrived;         /* a stack, without a lock */
    struct mp_loop *next;
} mp_loop;

#define MP_STOP_GRACEFUL 1      /* what is going on may go on */
#define MP_STOP_NOW      2

/* NULL with errno set if there are no descriptors, or the platform has no epoll. */
MP_API mp_loop *mp_loop_make(void);
MP_API void mp_loop_wake(mp_loop *loop);
MP_API void mp_loop_woken(mp_loop *loop);
/* 0 or MP_STOP_*: whether this child has been told to end. */
MP_API int mp_loop_stopping(void);
/* Whether the MPM does not tell in good time, and looking whether it is so. */
MP_API int mp_loop_has_to_look(void);
MP_API void mp_loop_look(void);

/* Whether this interpreter is the first to ask; see asyncio_copies.py. */
MP_API int mp_claim_asyncio(void);
/* From any thread; and by the loop's own, in the order of arrival. */
MP_API void mp_loop_add(mp_loop *loop, mp_record *record);
MP_API mp_record *mp_loop_take(mp_loop *loop);
/* Forget one that was added, if nobody has taken it.  With the GIL, as whoever takes. */
MP_API void mp_loop_remove(mp_loop *loop, const mp_record *record);

/* How many connections a child of this configuration can hold; 0: not known. */
MP_API int mp_most_connections(void);
/* Whether the MPM can let go of a connection. */
MP_API int mp_can_suspend(conn_rec *c);
/* Have this connection, whose handler is being called, suspended; 0 without memory. */
MP_API int mp_suspend(conn_rec *c, mp_loop *loop);
/* Whether the worker has let go of it, and whether it cannot even touch it any more. */
MP_API int mp_is_released(const mp_record *record);
MP_API int mp_has_left(const mp_record *record);
/* At the end of a child: the MPM has joined its threads. */
void mp_no_more_workers(void);
/* Thereafter: let connections that are suspended go on to their end, unless the child
 * has to end at once. */
void mp_wait_for_suspended(void);
/* Close the sending direction; whether the peer's end is to be waited for. */
MP_API int mp_begin_linger(conn_rec *c);
/* Free it, whatever it holds, and its socket. */
MP_API void mp_end_connection(conn_rec *c);

/* Pass data to the output filters and have written what can be without waiting:
 * c->data_in_output_filters tells whether something is left. */
MP_API apr_status_t mp_push(conn_rec *c, apr_bucket_brigade *bb, const char *data, apr_size_t n);
/* Whether nothing stands between us and the socket: it may be written to directly. */
MP_API int mp_is_core_output(conn_rec *c);

/* The client's address as mod_remoteip tells it; else the peer's. */
MP_API void mp_useragent(conn_rec *c, apr_pool_t *pool, const char **ip, int *port);

/* epoll(7).  A tag says whose event it is. */
#define MP_POLL_IN     1
#define MP_POLL_OUT    2
#define MP_POLL_BROKEN 4        /* reported whether asked for or not */
#define MP_POLL_MOST   256

typedef struct mp_event {
    apr_uint64_t tag;
    int what;
} mp_event;

/* Change what is waited for from `before` to `now`; 0 means that it is not there. */
MP_API int mp_poll_set(mp_loop *loop, int before, int now, int fd, apr_uint64_t tag);
MP_API int mp_poll_get(mp_loop *loop, mp_event *events, int most);
/* A descriptor that write() makes readable. */
MP_API int mp_signal_make(void);

/* This thread of httpd begins with a connection. */
void mp_visit(void);
void mp_register_suspend_hooks(void);

/* ------------------------------------------------------------------------
 * Locks between processes (locks.c), numbered from 0.  Never to be called with
 * the GIL held: they wait.
 */

/* How many there are; 0 if this child cannot use them. */
MP_API int mp_lock_count(void);
/* Take a lock.  APR_EBUSY if it is taken and wait is 0; APR_EINVAL if there is
 * no such lock. */
MP_API apr_status_t mp_lock_take(int number, int wait);
/* Give it back, from whichever thread.  APR_EINVAL if this process does not
 * have it. */
MP_API apr_status_t mp_lock_release(int number);

void mp_register_lock_hooks(void);

/* For other modules (exports.c). */
void mp_register_exports(void);

/* ------------------------------------------------------------------------
 * Hooks (hooks.c)
 */
void mp_register_hooks(apr_pool_t *p);
void mp_register_phases(void);              /* phases.c */
void mp_register_guards(void);              /* guards.c */
/* Whether a content handler's name means us, and whether a PythonHandler is one of the
 * ready-made ones that serve files. */
int mp_is_our_name(const char *handler);
int mp_serves_files(const char *text);
/* Warn, once for each section, of a PythonAuthenHandler that was not called. */
void mp_note_authen(request_rec *r);
/* Warn of sections that do not protect what they seem to (advice.c). */
void mp_check_sections(server_rec *main_server, apr_pool_t *ptemp);
/* Whether a section of the configuration has a Require for which a user has to be
 * known; section may be NULL for all of the configuration. */
int mp_requires_user(const ap_directive_t *section, apr_pool_t *p);
/* The argument of a section's opening line, read as httpd reads it; *regex becomes 1
 * if it is marked as a regular expression. */
char *mp_section_argument(apr_pool_t *p, const ap_directive_t *d, int *regex);
void mp_register_ssi(void);                 /* ssi.c */
void mp_register_dump(void);                /* dump.c */
void mp_register_providers(apr_pool_t *p);  /* providers.c */

/* A request has handlers for a phase that its configuration does not name, or
 * callables to run at its end, in the interpreter of this slot. */
MP_API void mp_add_dynamic(request_rec *r, mp_slot *slot, mp_phase phase);
MP_API void mp_add_cleanups(request_rec *r, mp_slot *slot);
/* Whether Python code of handlers or filters may yet see a request, or another
 * one may lead to it, after its content handler has succeeded. */
MP_API int mp_seen_later(request_rec *r);

/* ---- the user that a request claims -------------------------------------- */

/* The user of a request, before a call into Python. */
typedef struct mp_user {
    char *name;
    char *auth_type;
} mp_user;

/* get_basic_auth_pw() sets r->user to what the client claims, which nobody has
 * checked.  mod_authz_core would take it for an authenticated user, and so would
 * everything that reads REMOTE_USER.  So it is taken back after the call, unless
 * that is of an authentication handler that has succeeded.  A handler that sets
 * req.user itself has decided. */
MP_API void mp_claim_user(request_rec *r, char *name, char *auth_type);
mp_user mp_user_before(const request_rec *r);
void mp_take_back_user(request_rec *r, mp_user before);

/* The interpreter for a request and a directive in a section (NULL: unknown),
 * and for a connection. */
mp_interp *mp_interpreter_of_request(request_rec *r, const mp_dir_conf *conf,
                                     const mp_section *section);
mp_interp *mp_interpreter_of_conn(const mp_server_conf *conf);

/* Give bytes that were read too far back to the input filters of a
 * connection, so that whoever reads it next sees them first.  The bytes are
 * copied.  For use by the thread that serves the connection. */
MP_API apr_status_t mp_give_back(conn_rec *c, const char *data, apr_size_t len);

/* Tell mod_logio, if there is one, of bytes that were read past its filter. */
MP_API void mp_count_input(conn_rec *c, apr_off_t bytes);
MP_API void mp_count_output(conn_rec *c, apr_off_t bytes);

/* ------------------------------------------------------------------------
 * Filters (filters.c; the rest is in filters.h)
 */
void mp_register_filter_hooks(void);

/* Make the name of a filter directive known to httpd; doing it again is
 * harmless.  False if the name is that of another module's filter. */
int mp_register_filter(const char *name, int is_input);

/* ------------------------------------------------------------------------
 * The framing of responses (framing.c)
 */
void mp_register_framing(void);

/* Have the response to a request framed right, if its head has not left; doing it
 * again is harmless.  Callable with the GIL held. */
MP_API void mp_frame(request_rec *r);
/* Before Python sees a request: note where httpd will find the end of its body.  If it is
 * looked for elsewhere when the reading begins, the connection ends with this request. */
void mp_note_body(request_rec *r, mp_record *record);
/* After a call of Python: the same for a body that nobody may read. */
MP_API void mp_check_body(request_rec *r);
/* Whether this is the filter that does it. */
int mp_is_framing(const ap_filter_t *f);

/* What is sent is not the whole response: no cache may store it. */
MP_API void mp_keep_from_caches(request_rec *r);

/* ------------------------------------------------------------------------
 * The head of a response (head.c)
 */
#define MP_HEAD_COOKIE  1       /* sets a cookie */
#define MP_HEAD_SESSION 2       /* depends on a session, and perhaps sets its cookie */
#define MP_HEAD_STORED  4       /* that session was stored, or has ended */

/* The notes of a request that hold the Set-Cookie lines of its sessions begin so. */
#define MP_COOKIE_NOTE "mod_python.session.cookie:"

/* The response that a request is for is that of one visitor, in ways MP_HEAD_*. */
MP_API void mp_guard_head(request_rec *r, int what);
int mp_is_head_filter(const ap_filter_t *f);
void mp_register_head(void);

/* Logging with this module's index, callable from the core. */
MP_API void mp_log_server(const server_rec *s, int level, const char *text);
MP_API void mp_log_conn(const conn_rec *c, int level, const char *text);
MP_API void mp_log_request(const request_rec *r, int level, const char *text);

#ifdef MP_DEBUG
/* Counters of the debug build, reported when the child ends. */
typedef struct mp_counters {
    volatile long entries, leaves, records, wrappers, brigades;
} mp_counters;
MP_API extern mp_counters mp_count;
#define MP_COUNT(field, n) __atomic_fetch_add(&mp_count.field, (n), __ATOMIC_RELAXED)
#else
#define MP_COUNT(field, n) ((void)0)
#endif
#define MP_COUNT_WRAPPERS(n) MP_COUNT(wrappers, n)
#define MP_COUNT_BRIGADES(n) MP_COUNT(brigades, n)

#ifdef __cplusplus
}
#endif

#endif
