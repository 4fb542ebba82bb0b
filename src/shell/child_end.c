/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * The end of a child process.
 *
 *     child_stopping()    httpd has told the child to end.  Gracefully: what runs
 *         │               is finished first, nothing to do.  At once: threads that
 *         │               wait for input are woken, and time starts to run.
 *         ▼
 *     end_python()        httpd's threads have left, the child's pool goes away.
 *                         Connections that are still suspended go on, unless the
 *                         child has to end at once (suspend.c).  Then, in every
 *                         interpreter: clean-ups, then threads of Python and
 *                         atexit functions; then `closing` stops new entries,
 *                         sub-interpreters end, Python is finalised.
 *
 * Each step is left out where it would not be safe:
 *
 *   - A handler that hangs keeps httpd from ever reaching end_python(): the
 *     parent kills the child after about nine seconds.  A thread of ours (the
 *     reaper) runs the clean-ups shortly before that, and ends the process.
 *   - The prefork MPM ends a child from within its signal handler, on the main
 *     thread (signals.c).  A child that was interrupted in mp_wait_readable() can
 *     run clean-ups; one that did not get there in time, or out of Python, cannot
 *     run anything.
 *   - While there are threads of Python's own, interpreters are not taken down
 *     under their feet.  They are stopped at the GIL, and end with the process.
 *
 * All of it together has a time limit: an alarm whose handler ends the process.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "interpreter.h"

#include <ap_mpm.h>
#include <errno.h>
#include <fcntl.h>
#include <mpm_common.h>
#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

APLOG_USE_MODULE(python);

/* Longest time, in seconds, that end_python() may take once httpd's threads have left. */
#define MP_EXIT_SECONDS 5

/* How long, in seconds, the rest of the child's end may take if threads of Python are left. */
#define MP_LEFT_SECONDS 60

/* How long, in seconds, handlers may go on after a child was told to end at
 * once, and how long clean-ups may then take.  Their connections are closed
 * already, so only their side effects are waited for.  httpd's parent kills a
 * child about nine seconds after it told it to end. */
#define MP_STUCK_SECONDS 5
#define MP_STUCK_EXIT_SECONDS 3

/* How long to wait, in milliseconds, for threads that are still inside Python
 * when the child ends.  Ordinarily httpd has joined its threads already. */
#define MP_EXIT_WAIT_MS 500

static struct {
    int wake[2];                    /* pipe; readable when the child must end at once */
    int stopping;                   /* the pipe was written to (atomic) */
    int claimed;                    /* somebody ends Python (atomic) */
    int threaded;                   /* the MPM has threads */
} end = { .wake = { -1, -1 } };

/* ---- waiting for input --------------------------------------------------- */

int mp_wait_readable(int fd, int timeout_ms)
{
    mp_thread *t = pthread_getspecific(py.key);
    struct pollfd p[2];
    int ready;

    p[0].fd = fd;
    p[0].events = POLLIN;
    p[0].revents = 0;
    p[1].fd = end.wake[0];          /* -1, without a pipe, is ignored */
    p[1].events = POLLIN;
    p[1].revents = 0;
    if (t) {
        t->waiting = 1;
        mp_signals_look();
    }
    ready = poll(p, 2, timeout_ms);
    if (t)
        t->waiting = 0;
    if (ready > 0 && p[1].revents)
        return MP_WAIT_STOP;
    return ready;
}

/* ---- interpreters ---------------------------------------------------------- */

/* Run what is to run at the end of an interpreter that is not finalised, or
 * not yet: threads and atexit functions (mod_python/_dispatch/ending.py). */
static void end_of_interpreter(mp_interp *interp)
{
    PyObject *module = PyImport_ImportModule("mod_python._dispatch.ending");
    PyObject *result = module ? PyObject_CallMethod(module, "end", NULL) : NULL;

    if (!result)
        mp_log_python_error("ending", interp->name);
    Py_XDECREF(result);
    Py_XDECREF(module);
}

static void run_all_cleanups(void)
{
    int i;

    for (i = 0; i < py.n; i++) {
        if (__atomic_load_n(&py.interps[i]->state, __ATOMIC_ACQUIRE) == STATE_READY)
            mp_python_call(py.interps[i], MP_CALL_EXIT, NULL);
    }
    for (i = py.n - 1; i >= 0; i--) {
        if (__atomic_load_n(&py.interps[i]->state, __ATOMIC_ACQUIRE) == STATE_READY)
            mp_run_in(py.interps[i], end_of_interpreter);
    }
}

/* Delete the thread states of other threads, which are all outside Python. */
static void delete_other_states(mp_interp *interp, PyThreadState *mine)
{
    mp_thread *t;

    for (t = py.threads; t; t = t->next) {
        PyThreadState *ts = t->states[interp->index];
        if (ts && ts != mine) {
            PyThreadState_Clear(ts);
            PyThreadState_Delete(ts);
            t->states[interp->index] = NULL;
        }
    }
    if (interp->anchor) {
        PyThreadState_Clear(interp->anchor);
        PyThreadState_Delete(interp->anchor);
        interp->anchor = NULL;
    }
}

static int only_state(mp_interp *interp, PyThreadState *ts)
{
    PyThreadState *head = PyInterpreterState_ThreadHead(interp->interp);
    return head == ts && PyThreadState_Next(head) == NULL;
}

/* Enter without the gate: the gate is shut, and this is who shut it. */
static PyThreadState *enter_closing(mp_thread *t, mp_interp *interp)
{
    PyThreadState *ts = t->states[interp->index];

    if (!ts)
        ts = t->states[interp->index] = PyThreadState_New(interp->interp);
    if (ts) {
        PyEval_RestoreThread(ts);
        t->current = interp;
    }
    return ts;
}

/* Take the interpreters down.  No thread of httpd is inside Python.  Returns whether that
 * was possible; if it was not, the GIL is kept. */
static int finalise(mp_thread *t)
{
    PyThreadState *ts;
    int i, left_alone = 0;

    for (i = py.n - 1; i > 0; i--) {
        mp_interp *interp = py.interps[i];
        if (!interp->interp)
            continue;
        ts = enter_closing(t, interp);
        if (!ts) {
            left_alone = 1;
            continue;
        }
        Py_CLEAR(interp->call);
        delete_other_states(interp, ts);
        if (only_state(interp, ts)) {
            Py_EndInterpreter(ts);          /* leaves no thread attached */
            t->states[i] = NULL;
#if PY_VERSION_HEX < 0x030c0000
            /* 3.11: the GIL is still held, without a thread state. */
            PyThreadState_Swap(t->states[0]);
            PyEval_SaveThread();
#endif
        }
        else {
            left_alone = 1;
            PyEval_SaveThread();
        }
    }
    ts = enter_closing(t, py.interps[0]);
    if (!ts)
        return 0;
    Py_CLEAR(py.interps[0]->call);
    delete_other_states(py.interps[0], ts);
    if (left_alone || !only_state(py.interps[0], ts)) {
        ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, py.server,
                     "mod_python: Python still has threads of its own; "
                     "it is not finalised");
        return 0;
    }
    if (Py_FinalizeEx() < 0)
        ap_log_error(APLOG_MARK, APLOG_INFO, 0, py.server,
                     "mod_python: Python could not write all its buffered output");
    return 1;
}

/* ---- the time limit -------------------------------------------------------- */

static void time_is_up(int signal_number)
{
    static const char text[] =
        "mod_python: Python did not end in time; the child ends without it\n";

    (void)signal_number;
    if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0) { /* nothing to do */ }
    _exit(0);
}

static void start_watchdog(unsigned int seconds)
{
    mp_signal(SIGALRM, time_is_up);
    alarm(seconds);
}

/* Whether the caller is the one who ends Python; asked once by each. */
static int claim(void)
{
    return __atomic_exchange_n(&end.claimed, 1, __ATOMIC_SEQ_CST) == 0;
}

/* ---- threads that do not leave --------------------------------------------- */

static void *reap(void *data)
{
    apr_time_t due = apr_time_now() + apr_time_from_sec(MP_STUCK_SECONDS), left;
    long stuck;

    (void)data;
    /* A signal for the process may come to this thread, and end the wait. */
    while ((left = due - apr_time_now()) > 0)
        poll(NULL, 0, (int)apr_time_as_msec(left) + 1);
    stuck = __atomic_load_n(&py.active, __ATOMIC_SEQ_CST);
    if (stuck == 0 || !claim())
        return NULL;                /* it is not Python that keeps the child */
    start_watchdog(MP_STUCK_EXIT_SECONDS);
    ap_log_error(APLOG_MARK, APLOG_WARNING, 0, py.server,
                 "mod_python: %ld thread(s) still run Python %d seconds after this "
                 "child was told to end; clean-ups run now, then it ends without them",
                 stuck, MP_STUCK_SECONDS);
    run_all_cleanups();
    _exit(0);
}

/* Called by httpd: in the child's main thread, or under prefork in its signal
 * handler. */
static void child_stopping(apr_pool_t *pchild, int graceful)
{
    pthread_attr_t attr;
    pthread_t thread;

    (void)pchild;
    if (graceful || !py.started
        || __atomic_exchange_n(&end.stopping, 1, __ATOMIC_SEQ_CST))
        return;
    if (end.wake[1] >= 0 && write(end.wake[1], "", 1) < 0) { /* they time out */ }
    if (end.threaded && pthread_attr_init(&attr) == 0) {
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        pthread_create(&thread, &attr, reap, NULL);
        pthread_attr_destroy(&attr);
    }
}

/* ---- the end ---------------------------------------------------------------- */

static apr_status_t end_python(void *data)
{
    mp_thread *t = mp_this_thread();
    int waited, left;

    (void)data;
    if (!py.started || !t)
        return APR_SUCCESS;
    if (!claim()) {
        for (;;)                    /* the reaper ends the process */
            pause();
    }
    if (t->inside && !t->waiting) {
        /* A signal handler of the prefork MPM, anywhere inside Python. */
        __atomic_store_n(&py.closing, 1, __ATOMIC_SEQ_CST);
        return APR_SUCCESS;
    }
    mp_no_more_workers();
    mp_wait_for_suspended();
    start_watchdog(MP_EXIT_SECONDS);
    run_all_cleanups();
    __atomic_store_n(&py.closing, 1, __ATOMIC_SEQ_CST);
    for (waited = 0; __atomic_load_n(&py.active, __ATOMIC_SEQ_CST) > 0 && !t->inside
                     && waited < MP_EXIT_WAIT_MS; waited += 5)
        poll(NULL, 0, 5);
    /* If threads are left, this one keeps the GIL: all pools go now, and those threads may
     * have objects of what is in them.  Should a library wait for one of them at the exit
     * of the process, the alarm ends that. */
    left = 1;
    if (__atomic_load_n(&py.active, __ATOMIC_SEQ_CST) > 0) {
        ap_log_error(APLOG_MARK, APLOG_DEBUG, 0, py.server,
                     "mod_python: the child ends while %ld thread(s) still run Python; "
                     "it is not finalised", py.active);
        enter_closing(t, py.interps[0]);
    }
    else
        left = !finalise(t);
    alarm(left ? MP_LEFT_SECONDS : 0);
#ifdef MP_DEBUG
    /* Objects of records that still exist (open connections) are no leak. */
    ap_log_error(APLOG_MARK, mp_count.entries - mp_count.leaves == py.active
                             && (mp_count.records > 0
                                 || (mp_count.wrappers == 0 && mp_count.brigades == 0))
                             ? APLOG_DEBUG : APLOG_ERR, 0, py.server,
                 "mod_python: leak check: entries %ld, leaves %ld, records %ld, "
                 "wrappers %ld, brigades %ld", mp_count.entries, mp_count.leaves,
                 mp_count.records, mp_count.wrappers, mp_count.brigades);
#endif
    return APR_SUCCESS;
}

void mp_child_end_init(apr_pool_t *pchild)
{
    int i;

    if (ap_mpm_query(AP_MPMQ_IS_THREADED, &end.threaded) != APR_SUCCESS)
        end.threaded = 0;
    if (!end.threaded)
        mp_signals_init();
    if (pipe(end.wake) == 0) {
        for (i = 0; i < 2; i++) {
            fcntl(end.wake[i], F_SETFD, FD_CLOEXEC);
            fcntl(end.wake[i], F_SETFL, O_NONBLOCK);
        }
    }
    else
        end.wake[0] = end.wake[1] = -1;
    /* Before the pools of connections and requests go: under prefork they are
     * below this one, and their clean-ups would call into Python first. */
    apr_pool_pre_cleanup_register(pchild, NULL, end_python);
}

void mp_register_end_hooks(void)
{
    ap_hook_child_stopping(child_stopping, NULL, NULL, APR_HOOK_MIDDLE);
}
