/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * Where and when prefork's signal handlers run.
 *
 * They end the child from within, or interrupt its accept().  So they belong on the
 * main thread; but a process that Python has given threads (that of an event loop,
 * say) may be sent a signal on any of them.  And in the middle of Python nothing can
 * be ended properly.  Handlers of ours come first:
 *
 *     another thread        the signal is led to the main thread
 *     a process forked      it is no child of httpd's: the signal does what it does
 *     from the child        in any program
 *     inside Python         SIGTERM and SIGHUP are noted.  They take effect when the
 *                           thread waits for input or leaves Python, or after
 *                           DEFER_SECONDS, whatever comes first.
 *     elsewhere             the MPM's handler runs
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "interpreter.h"

#include <errno.h>
#include <mpm_common.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* httpd's parent asks again after three seconds, and kills after nine. */
#define DEFER_SECONDS 1

static struct {
    int number;
    int ends;                       /* the MPM's handler ends the process */
    struct sigaction act;           /* the MPM's */
} signals[] = {
    { .number = SIGTERM, .ends = 1 }, { .number = SIGHUP, .ends = 1 },
    { .number = AP_SIG_GRACEFUL },
    { .number = SIGINT }, { .number = SIGQUIT },        /* with httpd -X, which may sit in pdb */
};

#define N_SIGNALS ((int) (sizeof(signals) / sizeof(*signals)))

static pthread_t main_thread;
static pid_t process;
static volatile sig_atomic_t deferred;  /* the number of a signal that was noted, or 0 */
static volatile sig_atomic_t due;       /* it is put off no longer */

void mp_signal(int number, void (*handler)(int))
{
    struct sigaction act;
    sigset_t set;

    memset(&act, 0, sizeof(act));
    act.sa_handler = handler;
    sigemptyset(&act.sa_mask);
    sigaction(number, &act, NULL);
    sigemptyset(&set);
    sigaddset(&set, number);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void as_the_mpm_wants(int i, siginfo_t *info, void *context)
{
    if (signals[i].act.sa_flags & SA_SIGINFO)
        signals[i].act.sa_sigaction(signals[i].number, info, context);
    else
        signals[i].act.sa_handler(signals[i].number);
}

static void take_effect(void)
{
    due = 1;
    pthread_kill(main_thread, deferred);
}

static void late(int number)
{
    int before = errno;

    if (!pthread_equal(pthread_self(), main_thread))
        pthread_kill(main_thread, number);
    else if (!due)
        take_effect();
    errno = before;
}

static void defer(int number)
{
    deferred = number;
    mp_signal(SIGALRM, late);
    alarm(DEFER_SECONDS);
}

static int in_the_middle_of_python(void)
{
    mp_thread *t = pthread_getspecific(py.key);

    return t && t->inside && !t->waiting;
}

static void handle(int number, siginfo_t *info, void *context)
{
    int before = errno, i;

    if (getpid() != process) {
        mp_signal(number, SIG_DFL);
        kill(getpid(), number);
    }
    else if (!pthread_equal(pthread_self(), main_thread))
        pthread_kill(main_thread, number);
    else
        for (i = 0; i < N_SIGNALS; i++) {
            if (signals[i].number != number)
                continue;
            if (signals[i].ends && !due && in_the_middle_of_python()) {
                if (!deferred)
                    defer(number);
            }
            else
                as_the_mpm_wants(i, info, context);
        }
    errno = before;
}

void mp_signals_look(void)
{
    if (deferred && !due && pthread_equal(pthread_self(), main_thread)) {
        alarm(0);
        take_effect();
    }
}

void mp_signals_init(void)
{
    struct sigaction act;
    int i;

    main_thread = pthread_self();
    process = getpid();
    for (i = 0; i < N_SIGNALS; i++) {
        if (sigaction(signals[i].number, NULL, &act) != 0
            || (!(act.sa_flags & SA_SIGINFO)
                && (act.sa_handler == SIG_DFL || act.sa_handler == SIG_IGN)))
            continue;
        signals[i].act = act;
        act.sa_flags |= SA_SIGINFO;
        act.sa_sigaction = handle;
        sigaction(signals[i].number, &act, NULL);
    }
}
