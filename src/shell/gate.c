/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * The gate: where httpd's threads line up for Python's global lock (GIL).
 *
 * A thread that finds the GIL taken sleeps on a condition variable of Python's,
 * and from then on each release wakes a sleeper, who mostly finds the lock taken
 * again by a thread that was awake anyway, and goes back to sleep: measured with
 * 16 connections, seven of ten releases paid for such a wake-up (24 µs), and a
 * sleeper was woken a dozen times before it got in.  So threads line up here
 * first, where at most one sleeper is on its way at any time.
 *
 * Held between attach() and detach(), but only a hint: nothing relies on it for
 * being alone.  Python code releases the GIL as it likes and nobody tells us, so
 * a holder counts only for some time; after that the next thread takes the gate
 * over and waits for the GIL itself, as it would without a gate.  That is also
 * what bounds all damage if a holder never comes back.
 *
 * How long depends on what was found by those who took it over.  If the GIL was
 * free, holders wait for something else, such as a database, and the line would
 * only keep the others from doing so, too: the time is shortened, down to none
 * at all.  If the GIL was taken, holders compute: the time is doubled.  That
 * says nothing if the holder was between the two locks: there the kernel likes
 * to take the processor from a thread, for it has just woken another.
 *
 *     owner   who holds it, or NULL; whoever took it over is the owner
 *     since   when the owner came (ns); may lag behind for an instant, then the
 *             gate is taken over too early, which costs nothing but time
 *     watcher the one waiter that looks at the owner's time, or NULL.  If all did,
 *             an owner whom the kernel has taken the processor from would have
 *             everybody wake up at once: measured with 50 connections, that
 *             cost more than the work itself.
 *     inside  the owner has taken the GIL and is not about to leave
 *     limit   how long an owner counts (ns), less MOST_LIMIT, so that zeros will do
 *             for a new gate
 *     waiters threads inside the slow path
 *     woken   a sleeper was woken and has not looked yet: no need for another
 *     turn    what sleepers sleep on; changes with each wake-up
 *
 * A waiter adds itself to `waiters` before it looks at `owner`; a leaving owner
 * clears `owner` before it looks at `waiters`: one of the two sees the other.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "interpreter.h"

#include <time.h>

/* With 32 bits the system call may take another struct timespec than the C
 * library's, and 64-bit atomics may need a library. */
#if defined(__linux__) && defined(__LP64__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Nanoseconds.  Ten times what a short handler needs, and of the order of
 * the kernel's own slack in waking a thread (50 µs). */
#define MOST_LIMIT 100000

/* Nanoseconds.  Below that a limit is none, and none is followed by that. */
#define LEAST_LIMIT 6250

/* Nanoseconds.  Taking the GIL when it is free takes a tenth of that. */
#define FREE_TIME 2000

/* Nanoseconds.  How long a waiter sleeps that is not the watcher.  There may be none
 * for a while, if the watcher got in and its turn is long: this bounds that. */
#define SLEEP_LIMIT 5000000

static apr_int64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (apr_int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int limit_of(const mp_gate *g)
{
    return __atomic_load_n(&g->limit, __ATOMIC_RELAXED) + MOST_LIMIT;
}

static int take(mp_gate *g, mp_thread *from, mp_thread *t)
{
    if (!__atomic_compare_exchange_n(&g->owner, &from, t, 0, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST))
        return 0;
    __atomic_store_n(&g->since, now(), __ATOMIC_RELAXED);
    __atomic_store_n(&g->inside, 0, __ATOMIC_RELAXED);
    return 1;
}

static void wake_one(mp_gate *g)
{
    if (__atomic_load_n(&g->waiters, __ATOMIC_SEQ_CST)
        && !__atomic_exchange_n(&g->woken, 1, __ATOMIC_SEQ_CST)) {
        __atomic_add_fetch(&g->turn, 1, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &g->turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

/* Whether this waiter is to look at the owner's time. */
static int is_watcher(mp_gate *g, mp_thread *t)
{
    mp_thread *none = NULL;

    return __atomic_load_n(&g->watcher, __ATOMIC_RELAXED) == t
        || __atomic_compare_exchange_n(&g->watcher, &none, t, 0, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

/* Returns whether the gate was taken over from somebody who was inside. */
static int wait_in_line(mp_gate *g, mp_thread *t)
{
    mp_thread *owner;
    int inside;

    __atomic_add_fetch(&g->waiters, 1, __ATOMIC_SEQ_CST);
    for (;;) {
        int turn = __atomic_load_n(&g->turn, __ATOMIC_SEQ_CST);
        apr_int64_t left;
        struct timespec sleep = { 0, 0 };

        owner = __atomic_load_n(&g->owner, __ATOMIC_SEQ_CST);
        if (owner) {
            left = __atomic_load_n(&g->since, __ATOMIC_RELAXED) + limit_of(g) - now();
            if (left > 0 && left <= MOST_LIMIT) {
                sleep.tv_nsec = is_watcher(g, t) ? left : SLEEP_LIMIT;
                syscall(SYS_futex, &g->turn, FUTEX_WAIT_PRIVATE, turn, &sleep, NULL, 0);
                __atomic_store_n(&g->woken, 0, __ATOMIC_SEQ_CST);
                continue;
            }
        }
        inside = __atomic_load_n(&g->inside, __ATOMIC_RELAXED);
        if (take(g, owner, t))
            break;
    }
    __atomic_sub_fetch(&g->waiters, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&g->watcher, __ATOMIC_RELAXED) == t) {
        __atomic_store_n(&g->watcher, NULL, __ATOMIC_SEQ_CST);
        if (owner)
            wake_one(g);                /* turns are long: somebody has to watch */
    }
    return owner && inside;
}

static int pass(mp_gate *g, mp_thread *t)
{
    /* Or it has given up the GIL without leaving the gate (an internal redirect,
     * whose handlers enter again) and must not wait for itself. */
    return !take(g, NULL, t) && !take(g, t, t) && wait_in_line(g, t);
}

/* Only the owner's word counts. */
static void note_inside(mp_gate *g, mp_thread *t, int inside)
{
    if (__atomic_load_n(&g->owner, __ATOMIC_RELAXED) == t)
        __atomic_store_n(&g->inside, inside, __ATOMIC_RELAXED);
}

void mp_gate_restore(mp_gate *g, mp_thread *t, PyThreadState *ts)
{
    apr_int64_t before = pass(g, t) ? now() : 0;
    int limit;

    PyEval_RestoreThread(ts);
    note_inside(g, t, 1);
    if (!before)
        return;
    limit = limit_of(g);
    if (now() - before < FREE_TIME)
        limit = limit > LEAST_LIMIT ? limit - limit / 8 : 0;
    else if (limit < MOST_LIMIT)
        limit = !limit ? LEAST_LIMIT : limit < MOST_LIMIT / 2 ? limit * 2 : MOST_LIMIT;
    __atomic_store_n(&g->limit, limit - MOST_LIMIT, __ATOMIC_RELAXED);
}

PyThreadState *mp_gate_save(mp_gate *g, mp_thread *t)
{
    PyThreadState *ts;

    note_inside(g, t, 0);
    ts = PyEval_SaveThread();
    mp_gate_leave(g, t);
    return ts;
}

void mp_gate_leave(mp_gate *g, mp_thread *t)
{
    if (__atomic_compare_exchange_n(&g->owner, &t, NULL, 0, __ATOMIC_SEQ_CST,
                                    __ATOMIC_SEQ_CST))
        wake_one(g);                    /* otherwise it was taken over */
}

#else

/* Elsewhere threads wait for the GIL alone. */
static void pass(mp_gate *g, mp_thread *t)
{
    (void)g;
    (void)t;
}

void mp_gate_restore(mp_gate *g, mp_thread *t, PyThreadState *ts)
{
    (void)g;
    (void)t;
    PyEval_RestoreThread(ts);
}

PyThreadState *mp_gate_save(mp_gate *g, mp_thread *t)
{
    (void)g;
    (void)t;
    return PyEval_SaveThread();
}

void mp_gate_leave(mp_gate *g, mp_thread *t)
{
    (void)g;
    (void)t;
}

#endif

/* The same for the core, around what it does without the GIL.  A thread that
 * Python code started has no part in this. */
void mp_gate_in(void)
{
    mp_thread *t = pthread_getspecific(py.key);

    if (t && t->inside)
        pass(&py.gate, t);
}

void mp_gate_out(void)
{
    mp_thread *t = pthread_getspecific(py.key);

    if (t && t->inside)
        mp_gate_leave(&py.gate, t);
}
