/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * Interpreters and thread states.
 *
 * States of an interpreter record (mp_interp.state):
 *
 *     NEW ──start──▶ READY          usable until the child ends
 *        └─────────▶ FAILED         logged once; every call answers 500
 *
 * The transition is made by one thread under the record's own mutex, with no
 * Python lock held; the others wait for it there.
 *
 * Thread states: one per (OS thread, interpreter), made when the thread first
 * enters that interpreter, kept in the thread's mp_thread, and given back by
 * the destructor of a thread-specific key when the thread ends.  PyGILState_*
 * is not used: it knows one interpreter only.
 *
 * The one way in and out is attach()/detach().  A thread that is attached
 * already (a pool clean-up that runs inside a call made from Python) is set
 * aside and put back, so the pair nests.
 *
 * End of the child: child_end.c, which shares interpreter.h with this file.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "interpreter.h"

#include <dlfcn.h>
#include <sys/stat.h>

APLOG_USE_MODULE(python);

#ifndef MP_VERSION
#error "MP_VERSION must be defined by the build"
#endif
#ifndef MP_PYTHON_EXECUTABLE
#define MP_PYTHON_EXECUTABLE ""
#endif

mp_python py = { .registry = PTHREAD_MUTEX_INITIALIZER };

#ifdef MP_DEBUG
mp_counters mp_count;
#endif

/* ---- per-thread data ---------------------------------------------------- */

static int enter_gate(void)
{
    __atomic_add_fetch(&py.active, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&py.closing, __ATOMIC_SEQ_CST)) {
        __atomic_sub_fetch(&py.active, 1, __ATOMIC_SEQ_CST);
        return 0;
    }
    return 1;
}

static void leave_gate(void)
{
    __atomic_sub_fetch(&py.active, 1, __ATOMIC_SEQ_CST);
}

static void forget_thread(mp_thread *t)
{
    pthread_mutex_lock(&py.registry);
    *t->prev = t->next;
    if (t->next)
        t->next->prev = t->prev;
    pthread_mutex_unlock(&py.registry);
    free(t);
}

/* Destructor of the key: the OS thread ends. */
static void thread_ends(void *data)
{
    mp_thread *t = data;
    int i;

    /* Once the child is closing, whoever closes it deletes the states. */
    if (!enter_gate())
        return;
    /* Objects that go with the state (threading.local) may run Python code;
     * that code finds the thread as it was.  The key is empty by now. */
    pthread_setspecific(py.key, t);
    for (i = 0; i < MP_MAX_INTERPRETERS && i < py.n; i++) {
        if (t->states[i]) {
            t->inside = 1;
            t->current = py.interps[i];
            PyEval_RestoreThread(t->states[i]);
            PyThreadState_Clear(t->states[i]);
            PyThreadState_DeleteCurrent();
            t->states[i] = NULL;
        }
    }
    mp_gate_leave(&py.gate, t);
    pthread_setspecific(py.key, NULL);
    forget_thread(t);
    leave_gate();
}

mp_thread *mp_this_thread(void)
{
    mp_thread *t = pthread_getspecific(py.key);

    if (t)
        return t;
    t = calloc(1, sizeof(*t));
    if (!t || pthread_setspecific(py.key, t) != 0) {
        free(t);
        return NULL;
    }
    pthread_mutex_lock(&py.registry);
    t->next = py.threads;
    t->prev = &py.threads;
    if (t->next)
        t->next->prev = &t->next;
    py.threads = t;
    pthread_mutex_unlock(&py.registry);
    return t;
}

/* ---- the audited pair --------------------------------------------------- */

/* Attach the calling thread to an interpreter that is READY. */
static int attach(mp_interp *interp, mp_entry *e)
{
    mp_thread *t;
    PyThreadState *now, *ts;

    if (!enter_gate())
        return 0;
    t = mp_this_thread();
    if (!t) {
        leave_gate();
        return 0;
    }
    e->thread = t;
    e->outer = t->current;
    e->aside = NULL;
    e->same = 0;
    ts = t->states[interp->index];
    if (t->inside && t->current) {
        /* Before 3.12 the "current" state is that of whoever holds the GIL,
         * so only equality with a state of this thread means anything. */
        now = current_tstate();
        if (now && now == t->states[t->current->index]) {
            if (now == ts)
                e->same = 1;
            else {
                e->aside = mp_gate_save(&py.gate, t);
            }
        }
    }
    /* Counted before the wait for the GIL: under prefork a signal may end the
     * child right there, and must find that this thread is on its way in. */
    t->inside++;
    if (!e->same) {
        if (!ts) {
            ts = PyThreadState_New(interp->interp);
            if (!ts) {
                t->inside--;
                if (e->aside) {
                    mp_gate_restore(&py.gate, t, e->aside);
                }
                leave_gate();
                return 0;
            }
            t->states[interp->index] = ts;
        }
        mp_gate_restore(&py.gate, t, ts);
    }
    t->current = interp;
    MP_COUNT(entries, 1);
    return 1;
}

/* A process that Python code has forked is a copy of this child, with its
 * connections, and must not go on as one: it would answer the same client, and
 * take new ones. */
static volatile sig_atomic_t forked;

static void note_fork(void)
{
    forked = 1;
}

void mp_end_if_forked(void)
{
    if (!forked)
        return;
    ap_log_error(APLOG_MARK, APLOG_ERR, 0, py.server,
                 "mod_python: a process that a handler has forked came back from it, and "
                 "is ended; end it with os._exit(), or start a program with subprocess");
    _exit(1);
}

static void detach(mp_entry *e)
{
    mp_thread *t = e->thread;

    t->current = e->outer;
    if (!e->same) {
        mp_gate_save(&py.gate, t);
        if (e->aside) {
            mp_gate_restore(&py.gate, t, e->aside);
        }
    }
    t->inside--;
    MP_COUNT(leaves, 1);
    leave_gate();
    if (t->inside == 0) {
        mp_end_if_forked();
        mp_signals_look();
    }
}

/* ---- making an interpreter ---------------------------------------------- */

/* Log the Python error that is set, with sys.path: the package of this very
 * installation could not be imported, and the reason is nearly always there. */
void mp_log_python_error(const char *doing, const char *name)
{
    PyObject *type, *value, *tb, *module = NULL, *lines = NULL, *path, *text;
    Py_ssize_t i;

    PyErr_Fetch(&type, &value, &tb);
    PyErr_NormalizeException(&type, &value, &tb);
    ap_log_error(APLOG_MARK, APLOG_ERR, 0, py.server,
                 "mod_python: %s failed in interpreter '%s'", doing, name);
    module = PyImport_ImportModule("traceback");
    if (module && type)
        lines = PyObject_CallMethod(module, "format_exception", "OOO", type,
                                    value ? value : Py_None, tb ? tb : Py_None);
    for (i = 0; lines && i < PyList_GET_SIZE(lines); i++) {
        PyObject *parts = PyUnicode_Splitlines(PyList_GET_ITEM(lines, i), 0);
        Py_ssize_t j;
        for (j = 0; parts && j < PyList_GET_SIZE(parts); j++) {
            const char *s = PyUnicode_AsUTF8(PyList_GET_ITEM(parts, j));
            ap_log_error(APLOG_MARK, APLOG_ERR, 0, py.server, "mod_python: %s",
                         s ? s : "?");
        }
        Py_XDECREF(parts);
    }
    if (!lines && type) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, py.server, "mod_python: %s",
                     ((PyTypeObject *)type)->tp_name);
    }
    path = PySys_GetObject("path");
    text = path ? PyObject_Repr(path) : NULL;
    if (text && PyUnicode_AsUTF8(text))
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, py.server,
                     "mod_python: sys.path is %s", PyUnicode_AsUTF8(text));
    Py_XDECREF(text);
    Py_XDECREF(lines);
    Py_XDECREF(module);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(tb);
    PyErr_Clear();
}

/* Import the package in the current interpreter and let it register its
 * callable.  Called attached. */
static int boot(mp_interp *interp)
{
    PyObject *module, *entry = NULL;

    module = PyImport_ImportModule("mod_python._dispatch.boot");
    if (module) {
        entry = PyObject_CallMethod(module, "start", "ss", interp->name, MP_VERSION);
        Py_DECREF(module);
    }
    if (entry) {
        interp->call = PyObject_GetAttrString(entry, "call");
        Py_DECREF(entry);
    }
    if (!interp->call) {
        mp_log_python_error("starting the mod_python package", interp->name);
        return 0;
    }
    return 1;
}

/* Make the sub-interpreter of a record in state NEW.  The caller holds
 * interp->making and is not attached. */
static int make_interpreter(mp_interp *interp)
{
    mp_interp *main_interp = py.interps[0];
    mp_thread *t;
    PyThreadState *main_state, *ts;
    mp_entry e;
    int ok;

    if (__atomic_load_n(&main_interp->state, __ATOMIC_ACQUIRE) != STATE_READY)
        return 0;
    if (!attach(main_interp, &e))
        return 0;
    t = e.thread;
    main_state = t->states[0];
    ts = Py_NewInterpreter();       /* leaves the thread attached to ts */
    if (!ts) {
        PyThreadState_Swap(main_state);
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, py.server,
                     "mod_python: Python could not make interpreter '%s'",
                     interp->name);
        detach(&e);
        return 0;
    }
    interp->interp = PyThreadState_GetInterpreter(ts);
#if PY_VERSION_HEX < 0x030d0000
    /* Before 3.13 Python cannot make a thread state once the last one of an
     * interpreter is gone (it would use the built-in first one twice, a fatal
     * error).  So the first one stays, and this thread gets another. */
    interp->anchor = ts;
    ts = PyThreadState_New(interp->interp);
    if (!ts) {
        PyThreadState_Swap(main_state);
        detach(&e);
        return 0;
    }
    PyThreadState_Swap(ts);
#endif
    t->states[interp->index] = ts;
    t->current = interp;
    ok = boot(interp);
    t->current = main_interp;
    PyThreadState_Swap(main_state);
    detach(&e);
    return ok;
}

static int ensure_ready(mp_interp *interp)
{
    int state = __atomic_load_n(&interp->state, __ATOMIC_ACQUIRE);

    if (state == STATE_NEW) {
        PyThreadState *aside = NULL;
        mp_thread *t = mp_this_thread();

        /* Waiting for the mutex with the GIL held would block the very thread
         * that makes the interpreter. */
        if (t && t->inside && t->current) {
            PyThreadState *now = current_tstate();
            if (now && now == t->states[t->current->index]) {
                aside = mp_gate_save(&py.gate, t);
            }
        }
        pthread_mutex_lock(&interp->making);
        state = __atomic_load_n(&interp->state, __ATOMIC_ACQUIRE);
        if (state == STATE_NEW) {
            state = make_interpreter(interp) ? STATE_READY : STATE_FAILED;
            __atomic_store_n(&interp->state, state, __ATOMIC_RELEASE);
            if (state == STATE_READY)
                ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, py.server,
                             "mod_python: interpreter '%s' is ready", interp->name);
        }
        pthread_mutex_unlock(&interp->making);
        if (aside) {
            mp_gate_restore(&py.gate, t, aside);
        }
    }
    return state == STATE_READY;
}

/* Called with the registry locked. */
static mp_interp *find(const char *name)
{
    int i;

    for (i = 0; i < py.n; i++) {
        if (strcmp(py.interps[i]->name, name) == 0)
            return py.interps[i];
    }
    return NULL;
}

mp_interp *mp_interp_find(const char *name)
{
    mp_interp *interp;

    pthread_mutex_lock(&py.registry);
    interp = find(name);
    pthread_mutex_unlock(&py.registry);
    return interp;
}

mp_interp *mp_interp_get(const char *name)
{
    static int told;                    /* under the registry's lock */
    mp_interp *interp;
    int full = 0;

    pthread_mutex_lock(&py.registry);
    interp = find(name);
    if (!interp && py.n < MP_MAX_INTERPRETERS) {
        interp = calloc(1, sizeof(*interp));
        if (interp) {
            interp->name = strdup(name);
            interp->index = py.n;
            pthread_mutex_init(&interp->making, NULL);
            py.interps[py.n] = interp;
            __atomic_store_n(&py.n, py.n + 1, __ATOMIC_RELEASE);
        }
    }
    else if (!interp) {
        full = !told;
        told = 1;
    }
    pthread_mutex_unlock(&py.registry);
    if (full)
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, py.server,
                     "mod_python: interpreter '%s' refused: this child has %d interpreters "
                     "already; use PythonInterpreter to share one. Others that are refused "
                     "are not logged", name, MP_MAX_INTERPRETERS);
    return interp;
}

mp_interp *mp_interp_of(mp_interp_ref *ref)
{
    mp_interp *interp = __atomic_load_n(&ref->interp, __ATOMIC_ACQUIRE);

    if (!interp) {
        interp = mp_interp_get(ref->name);
        __atomic_store_n(&ref->interp, interp, __ATOMIC_RELEASE);
    }
    return interp;
}

const char *mp_interp_name(const mp_interp *interp)
{
    return interp->name;
}

mp_interp *mp_interp_current(void)
{
    mp_thread *t = pthread_getspecific(py.key);
    return t ? t->current : NULL;
}

int mp_claim_asyncio(void)
{
    static PyInterpreterState *owner;       /* atomic */
    PyInterpreterState *nobody = NULL, *current = PyInterpreterState_Get();

    return __atomic_compare_exchange_n(&owner, &nobody, current, 0,
                                       __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)
        || nobody == current;
}

server_rec *mp_main_server(void)
{
    return py.server;
}

/* ---- calling ------------------------------------------------------------ */

static int call_attached(mp_interp *interp, mp_what what, void *arg)
{
    PyObject *args[3], *result;
    long status = HTTP_INTERNAL_SERVER_ERROR;

    args[0] = NULL;
    args[1] = PyLong_FromLong(what);
    args[2] = PyLong_FromVoidPtr(arg);
    if (args[1] && args[2]) {
        result = PyObject_Vectorcall(interp->call, args + 1,
                                     2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        if (result) {
            status = PyLong_AsLong(result);
            Py_DECREF(result);
        }
    }
    Py_XDECREF(args[1]);
    Py_XDECREF(args[2]);
    if (PyErr_Occurred()) {
        mp_log_python_error("a call into the core", interp->name);
        status = HTTP_INTERNAL_SERVER_ERROR;
    }
    return (int)status;
}

int mp_python_call(mp_interp *interp, mp_what what, void *arg)
{
    mp_entry e;
    int status;

    if (!mp_enter(interp, &e))
        return HTTP_INTERNAL_SERVER_ERROR;
    status = call_attached(interp, what, arg);
    detach(&e);
    return status;
}

int mp_enter(mp_interp *interp, mp_entry *e)
{
    return py.started && interp && ensure_ready(interp) && attach(interp, e);
}

void mp_leave(mp_entry *e)
{
    detach(e);
}

int mp_run_in(mp_interp *interp, void (*function)(mp_interp *))
{
    mp_entry e;

    if (!attach(interp, &e))
        return 0;
    function(interp);
    detach(&e);
    return 1;
}

/* ---- start of the child ------------------------------------------------- */

/* The Python binary of the environment this module lies in.  A virtual
 * environment is found by the pyvenv.cfg above the module's own file, so that
 * a wheel built elsewhere works; otherwise the build's own Python is used. */
static const char *find_python(apr_pool_t *p)
{
    Dl_info info;
    struct stat st;

    if (dladdr((void *)mp_python_child_init, &info) && info.dli_fname
        && info.dli_fname[0] == '/') {
        char *dir = apr_pstrdup(p, info.dli_fname), *slash;
        while ((slash = strrchr(dir, '/')) != NULL && slash != dir) {
            const char *binary;
            *slash = '\0';
            if (stat(apr_pstrcat(p, dir, "/pyvenv.cfg", NULL), &st) != 0)
                continue;
            binary = apr_pstrcat(p, dir, "/bin/python3", NULL);
            if (stat(binary, &st) == 0)
                return binary;
        }
    }
    return MP_PYTHON_EXECUTABLE;
}

static int start_python(apr_pool_t *pchild)
{
    PyPreConfig preconfig;
    PyConfig config;
    PyStatus status;
    mp_server_conf *conf = mp_server_conf_of(py.server);
    const char *executable = find_python(pchild);

    if (Py_IsInitialized()) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, 0, py.server,
                     "mod_python: Python already runs in this process, started by "
                     "another module (mod_wsgi?); load only one of them");
        return 0;
    }
    /* UTF-8 mode: httpd runs in the C locale, where Python would take file
     * names and standard streams for ASCII. */
    PyPreConfig_InitIsolatedConfig(&preconfig);
    preconfig.utf8_mode = 1;
    status = Py_PreInitialize(&preconfig);
    if (PyStatus_Exception(status)) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, 0, py.server,
                     "mod_python: Python could not be prepared: %s",
                     status.err_msg ? status.err_msg : "no reason given");
        return 0;
    }
    PyConfig_InitIsolatedConfig(&config);
    config.use_environment = 0;
    config.user_site_directory = 0;
    config.install_signal_handlers = 0;
    config.site_import = 1;
    config.parse_argv = 0;
    config.buffered_stdio = 1;
    if (conf->optimize == 1)
        config.optimization_level = 1;
    status = PyConfig_SetBytesString(&config, &config.program_name,
                                     executable[0] ? executable : "python3");
    if (!PyStatus_Exception(status) && executable[0])
        status = PyConfig_SetBytesString(&config, &config.executable, executable);
    if (!PyStatus_Exception(status))
        status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, 0, py.server,
                     "mod_python: Python did not start in the child process (%s%s%s). "
                     "It was looked for at '%s'; the user that the children run as "
                     "must be able to read that installation",
                     status.func ? status.func : "", status.func ? ": " : "",
                     status.err_msg ? status.err_msg : "no reason given", executable);
        return 0;
    }
    return 1;
}

void mp_python_child_init(apr_pool_t *pchild, server_rec *s)
{
    mp_interp *main_interp;
    mp_thread *t;
    mp_import *import;

    py.server = s;
    if (pthread_key_create(&py.key, thread_ends) != 0) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, errno, s,
                     "mod_python: no thread-specific key left in this process");
        return;
    }
    pthread_atfork(NULL, NULL, note_fork);
    main_interp = mp_interp_get("main_interpreter");
    t = mp_this_thread();
    if (!main_interp || !t || !start_python(pchild))
        return;
    main_interp->interp = PyInterpreterState_Get();
    t->states[0] = PyThreadState_Get();
    t->current = main_interp;
    t->inside = 1;
    main_interp->state = boot(main_interp) ? STATE_READY : STATE_FAILED;
    t->inside = 0;
    t->current = NULL;
    PyEval_SaveThread();
    py.started = 1;
    mp_child_end_init(pchild);
    if (main_interp->state != STATE_READY)
        return;
    for (import = mp_server_conf_of(s)->imports; import; import = import->next) {
        mp_interp *interp = mp_interp_get(import->interpreter);
        if (interp)
            mp_python_call(interp, MP_CALL_IMPORT, import);
    }
}
