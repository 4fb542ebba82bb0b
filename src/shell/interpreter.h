/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * What interpreter.c (making and entering interpreters), child_end.c (ending
 * them) and signals.c share.  Nobody else includes this.
 */

#ifndef MOD_PYTHON_INTERPRETER_H
#define MOD_PYTHON_INTERPRETER_H

#include "shell.h"

#include <pthread.h>

/* More than a few interpreters per child is a configuration that got out of
 * hand (PythonInterpPerDirectory over a large tree): each costs megabytes. */
#define MP_MAX_INTERPRETERS 256

typedef enum { STATE_NEW = 0, STATE_READY, STATE_FAILED } mp_state;

struct mp_interp {
    const char *name;
    int index;                      /* place in mp_thread.states */
    int state;                      /* mp_state; read with acquire */
    PyInterpreterState *interp;
    PyThreadState *anchor;          /* kept, used by no thread; before 3.13, or NULL */
    PyObject *call;                 /* the callable the core registered */
    pthread_mutex_t making;
};

/* See gate.c. */
typedef struct mp_gate {
    struct mp_thread *owner, *watcher;
    apr_int64_t since;
    int waiters, woken, turn, inside, limit;
} mp_gate;

typedef struct mp_thread {
    int inside;                     /* nesting depth of attach() */
    volatile int waiting;           /* in mp_wait_readable(), GIL released */
    mp_interp *current;
    struct mp_acquired *acquired;   /* what other modules entered (exports.c) */
    struct mp_thread *next, **prev; /* all threads, under registry */
    PyThreadState *states[MP_MAX_INTERPRETERS];
} mp_thread;

typedef struct mp_python {
    server_rec *server;
    int started;                    /* Python runs in this process */
    int closing;                    /* no new entries (atomic) */
    long active;                    /* threads between attach and detach (atomic) */
    pthread_key_t key;
    pthread_mutex_t registry;       /* guards interps[], n, threads */
    int n;
    mp_interp *interps[MP_MAX_INTERPRETERS];
    mp_thread *threads;
    mp_gate gate;                   /* of the GIL that all interpreters share */
} mp_python;

extern mp_python py;

#if PY_VERSION_HEX >= 0x030d0000
#define current_tstate() PyThreadState_GetUnchecked()
#else
#define current_tstate() _PyThreadState_UncheckedGet()
#endif

/* Wait for one's turn and take the GIL. */
void mp_gate_restore(mp_gate *g, mp_thread *t, PyThreadState *ts);
/* Give up the GIL and let the next one; or let the next one, without the GIL. */
PyThreadState *mp_gate_save(mp_gate *g, mp_thread *t);
void mp_gate_leave(mp_gate *g, mp_thread *t);

/* What attaching a thread has to put back. */
typedef struct mp_entry {
    mp_thread *thread;
    mp_interp *outer;               /* interpreter the thread was in before */
    PyThreadState *aside;           /* thread state to put back on leaving */
    int same;                       /* was attached to this very state */
} mp_entry;

/* Enter an interpreter, made if need be, and leave it.  The pairs nest.  False,
 * and nothing to leave, if it could not be entered. */
int mp_enter(mp_interp *interp, mp_entry *e);
void mp_leave(mp_entry *e);

/* The record of the calling thread, made if need be; NULL without memory. */
mp_thread *mp_this_thread(void);

/* Enter a READY interpreter, run a function there, leave.  False if it could
 * not be entered. */
int mp_run_in(mp_interp *interp, void (*function)(mp_interp *));

/* Log the Python error that is set, and clear it.  Called attached. */
void mp_log_python_error(const char *doing, const char *name);

/* Set a signal's handler, and have this thread take the signal (signals.c). */
void mp_signal(int number, void (*handler)(int));

/* Without an MPM's threads (signals.c): have the MPM's signals handled on this thread,
 * the child's main one, and where Python can be ended. */
void mp_signals_init(void);
/* To be called where it can: before waiting without the GIL, and outside Python. */
void mp_signals_look(void);

/* Have Python ended with the child. */
void mp_child_end_init(apr_pool_t *pchild);

#endif
