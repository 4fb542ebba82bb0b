/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * Connections that no thread of httpd serves: those of coroutine handlers.
 *
 *   process_connection()   the handler is a coroutine function: the core has called
 *         │                mp_suspend(), so the MPM is told CONN_STATE_SUSPENDED
 *         ▼
 *   suspend_connection()   the MPM lets go of the connection; the loop's thread is
 *         │                told (mp_loop_add) and finds it with mp_loop_take()
 *         ▼
 *   the loop's thread      waits until the worker has let go (mp_is_released), serves
 *         │                it to its end: httpd 2.4 never takes one back
 *         ▼
 *   mp_end_connection()    pool and socket go, and with the pool, by a clean-up of
 *                          the MPM's own, the MPM's books are right again
 *
 * After the hook the worker writes to the connection twice, `c->sbh` first.  The
 * loop touches it only once that is NULL.  For the second write, a few
 * instructions later, mp_has_left() gives the worker time: the pool may go when
 * that thread has been seen elsewhere, or after a second, or when the MPM has
 * joined its threads.
 *
 * Where an MPM cannot suspend (worker, prefork) the connection's thread waits
 * while the loop's thread serves it.
 */

#include "shell.h"

#include <ap_mpm.h>
#include <apr_portable.h>
#include <http_connection.h>
#include <mpm_common.h>
#include <scoreboard.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/epoll.h>
#include <sys/eventfd.h>
#endif

APLOG_USE_MODULE(python);

/* How long a worker that was not seen again is given to leave the MPM's few
 * instructions after our hook. */
#define LEAVE_TIME apr_time_from_sec(1)

/* How often the end of suspended connections is looked for, in milliseconds. */
#define LOOK_MS 20

static mp_loop *loops;                  /* only ever grows; atomic */
static int stopping;                    /* MP_STOP_*; atomic */
static int workers_gone;                /* the MPM has joined its threads; atomic */
static int suspended;                   /* how many connections are; atomic */

/* Counts how often this thread came to process_connection().  Never freed: a
 * connection may outlive the thread. */
static __thread unsigned *visits;

void mp_visit(void)
{
    if (visits)
        __atomic_add_fetch(visits, 1, __ATOMIC_RELEASE);
}

/* ---- loops ----------------------------------------------------------------- */

mp_loop *mp_loop_make(void)
{
#ifdef __linux__
    mp_loop *loop = calloc(1, sizeof(*loop));

    if (!loop)
        return NULL;
    loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    loop->poll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->wake_fd < 0 || loop->poll_fd < 0) {
        int failed = errno;
        if (loop->wake_fd >= 0)
            close(loop->wake_fd);
        if (loop->poll_fd >= 0)
            close(loop->poll_fd);
        free(loop);
        errno = failed;
        return NULL;
    }
    loop->next = __atomic_load_n(&loops, __ATOMIC_ACQUIRE);
    while (!__atomic_compare_exchange_n(&loops, &loop->next, loop, 0,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
    return loop;
#else
    errno = ENOSYS;
    return NULL;
#endif
}

void mp_loop_wake(mp_loop *loop)
{
    apr_uint64_t one = 1;

    if (write(loop->wake_fd, &one, sizeof(one)) < 0) { /* it is awake already */ }
}

void mp_loop_woken(mp_loop *loop)
{
    apr_uint64_t count;

    if (read(loop->wake_fd, &count, sizeof(count)) < 0) { /* somebody else did */ }
}

int mp_loop_stopping(void)
{
    return __atomic_load_n(&stopping, __ATOMIC_ACQUIRE);
}

void mp_loop_add(mp_loop *loop, mp_record *record)
{
    record->next_arrived = __atomic_load_n(&loop->arrived, __ATOMIC_ACQUIRE);
    while (!__atomic_compare_exchange_n(&loop->arrived, &record->next_arrived, record, 0,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        ;
    mp_loop_wake(loop);
}

mp_record *mp_loop_take(mp_loop *loop)
{
    mp_record *record = __atomic_exchange_n(&loop->arrived, NULL, __ATOMIC_SEQ_CST);
    mp_record *first = NULL, *next;

    for (; record; record = next) {         /* the first to come first */
        next = record->next_arrived;
        record->next_arrived = first;
        first = record;
    }
    return first;
}

void mp_loop_remove(mp_loop *loop, const mp_record *record)
{
    mp_record *each = mp_loop_take(loop), *next;

    for (; each; each = next) {
        next = each->next_arrived;
        if (each != record)
            mp_loop_add(loop, each);
    }
}

static void stop_loops(int kind)
{
    mp_loop *loop;

    if (__atomic_load_n(&stopping, __ATOMIC_SEQ_CST) < kind)
        __atomic_store_n(&stopping, kind, __ATOMIC_SEQ_CST);
    for (loop = __atomic_load_n(&loops, __ATOMIC_ACQUIRE); loop; loop = loop->next)
        mp_loop_wake(loop);
}

/* A child that ends gracefully waits for its threads and connections, and the MPM
 * ignores that it is told to end at once, at the end of GracefulShutdownTimeout or
 * when httpd is stopped: after some more seconds its parent would kill it.  (The MPM
 * sends itself the same signal to wake its main thread.) */
static void terminated(int number, siginfo_t *info, void *context)
{
    int before = errno;

    (void)number;
    (void)context;
    if (info->si_pid != getpid())
        stop_loops(MP_STOP_NOW);
    errno = before;
}

/* Under prefork a child that is told to end gracefully only notes so in its signal
 * handler, and calls our hook when it has nothing to do any more. */
int mp_loop_has_to_look(void)
{
    int threaded = 0;

    return ap_mpm_query(AP_MPMQ_IS_THREADED, &threaded) == APR_SUCCESS && !threaded;
}

void mp_loop_look(void)
{
    int state = 0;

    if (ap_mpm_query(AP_MPMQ_MPM_STATE, &state) == APR_SUCCESS && state == AP_MPMQ_STOPPING)
        stop_loops(MP_STOP_GRACEFUL);
}

/* Called in the child's main thread, or under prefork in its signal handler. */
static void child_stopping(apr_pool_t *pchild, int graceful)
{
    struct sigaction act;
    int threaded = 0;

    (void)pchild;
    stop_loops(graceful ? MP_STOP_GRACEFUL : MP_STOP_NOW);
    /* Whether or not there is a loop: one that was accepted before may need it yet. */
    if (graceful && ap_mpm_query(AP_MPMQ_IS_THREADED, &threaded) == APR_SUCCESS && threaded) {
        memset(&act, 0, sizeof(act));
        act.sa_sigaction = terminated;
        sigemptyset(&act.sa_mask);
        act.sa_flags = SA_SIGINFO;      /* and not SA_RESTART: it is to interrupt */
        sigaction(SIGTERM, &act, NULL);
    }
}

/* ---- connections ------------------------------------------------------------- */

int mp_can_suspend(conn_rec *c)
{
    static int async = -1;

    if (async < 0 && ap_mpm_query(AP_MPMQ_IS_ASYNC, &async) != APR_SUCCESS)
        async = 0;
    return async == 1 && c->cs != NULL;
}

int mp_suspend(conn_rec *c, mp_loop *loop)
{
    mp_record *record = mp_conn_record(c);

    if (!visits)
        visits = calloc(1, sizeof(*visits));
    if (!visits || !record)
        return 0;
    record->c = c;
    record->loop = loop;
    record->worker = visits;
    record->visit = *visits;
    return 1;
}

static void suspend_connection(conn_rec *c, request_rec *r)
{
    mp_record *record;

    /* The MPM calls this for what is kept alive, too, and for what it closes: it
     * does not suspend a connection that broke meanwhile, such as in its TLS
     * handshake, whatever it was told. */
    if (r || !(record = mp_conn_record(c)) || !record->loop || record->suspended
        || !c->cs || c->cs->state != CONN_STATE_SUSPENDED)
        return;
    record->suspended = 1;
    record->suspended_at = apr_time_now();
    __atomic_add_fetch(&suspended, 1, __ATOMIC_RELEASE);
    mp_loop_add(record->loop, record);
}

int mp_is_released(const mp_record *record)
{
    return !record->suspended
        || __atomic_load_n((void *const *)&record->c->sbh, __ATOMIC_ACQUIRE) == NULL;
}

void mp_no_more_workers(void)
{
    __atomic_store_n(&workers_gone, 1, __ATOMIC_RELEASE);
}

int mp_has_left(const mp_record *record)
{
    return __atomic_load_n(record->worker, __ATOMIC_ACQUIRE) != record->visit
        || __atomic_load_n(&workers_gone, __ATOMIC_ACQUIRE)
        || apr_time_now() - record->suspended_at > LEAVE_TIME;
}

/* Whether the peer's end is to be waited for. */
int mp_begin_linger(conn_rec *c)
{
    apr_socket_t *sock = ap_get_conn_socket(c);

    /* What is pending has been sent.  A close_notify that does not fit any more
     * is not waited for. */
    if (sock)
        apr_socket_timeout_set(sock, 0);
    return ap_start_lingering_close(c) == 0;
}

void mp_end_connection(conn_rec *c)
{
    int was_suspended = mp_conn_record(c)->suspended;

    apr_pool_destroy(c->pool);              /* closes the socket */
    if (was_suspended)
        __atomic_sub_fetch(&suspended, 1, __ATOMIC_RELEASE);
}

/* Ordinarily there is nothing to wait for: the MPM counts its connections, too.  But
 * one that a worker has just taken from the queue when the listener looks is not
 * counted yet. */
void mp_wait_for_suspended(void)
{
    while (__atomic_load_n(&suspended, __ATOMIC_ACQUIRE) > 0
           && mp_loop_stopping() == MP_STOP_GRACEFUL)
        poll(NULL, 0, LOOK_MS);
}

/* ---- output without waiting ---------------------------------------------------- */

static apr_status_t push_read(apr_bucket *b, const char **str, apr_size_t *len,
                              apr_read_type_e block)
{
    (void)b;
    (void)block;
    *str = NULL;
    *len = 0;
    return APR_SUCCESS;
}

/* A bucket that means nothing.  Behind data it makes mod_ssl encrypt that data now
 * and not gather more, as FLUSH does, which would make httpd's core filter wait. */
static const apr_bucket_type_t push_bucket = {
    "MOD_PYTHON_PUSH", 5, APR_BUCKET_METADATA,
    apr_bucket_destroy_noop, push_read, apr_bucket_setaside_noop,
    apr_bucket_split_notimpl, apr_bucket_simple_copy
};

static apr_bucket *make_push_bucket(apr_bucket_alloc_t *list)
{
    apr_bucket *b = apr_bucket_alloc(sizeof(*b), list);

    APR_BUCKET_INIT(b);
    b->free = apr_bucket_free;
    b->list = list;
    b->type = &push_bucket;
    b->length = 0;
    b->start = 0;
    b->data = NULL;
    return b;
}

apr_status_t mp_push(conn_rec *c, apr_bucket_brigade *bb, const char *data, apr_size_t n)
{
    apr_status_t rv = APR_SUCCESS;
    ap_filter_t *last;

    if (n) {
        rv = apr_brigade_write(bb, NULL, NULL, data, n);
        if (rv == APR_SUCCESS) {
            APR_BRIGADE_INSERT_TAIL(bb, make_push_bucket(c->bucket_alloc));
            rv = ap_pass_brigade(c->output_filters, bb);
        }
        apr_brigade_cleanup(bb);
    }
    if (rv == APR_SUCCESS && c->data_in_output_filters) {
        /* As the MPM does it: the core filter writes what it can. */
        for (last = c->output_filters; last->next; last = last->next)
            ;
        rv = last->frec->filter_func.out_func(last, NULL);
    }
    if (rv == APR_SUCCESS && c->aborted)
        rv = APR_ECONNABORTED;
    return rv;
}

int mp_is_core_output(conn_rec *c)
{
    return c->output_filters && c->output_filters->frec == ap_core_output_filter_handle
        && !c->data_in_output_filters;
}

/* ---- polling --------------------------------------------------------------------- */

#ifdef __linux__

int mp_poll_set(mp_loop *loop, int before, int now, int fd, apr_uint64_t tag)
{
    struct epoll_event e;

    memset(&e, 0, sizeof(e));
    e.events = (now & MP_POLL_IN ? EPOLLIN : 0) | (now & MP_POLL_OUT ? EPOLLOUT : 0);
    e.data.u64 = tag;
    return epoll_ctl(loop->poll_fd,
                     !now ? EPOLL_CTL_DEL : !before ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &e);
}

int mp_poll_get(mp_loop *loop, mp_event *events, int most)
{
    struct epoll_event got[MP_POLL_MOST];
    int i, n;

    n = epoll_wait(loop->poll_fd, got, most < MP_POLL_MOST ? most : MP_POLL_MOST, 0);
    for (i = 0; i < n; i++) {
        events[i].tag = got[i].data.u64;
        events[i].what = (got[i].events & EPOLLIN ? MP_POLL_IN : 0)
            | (got[i].events & EPOLLOUT ? MP_POLL_OUT : 0)
            | (got[i].events & (EPOLLERR | EPOLLHUP) ? MP_POLL_BROKEN : 0);
    }
    return n;
}

int mp_signal_make(void)
{
    return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

#else

int mp_poll_set(mp_loop *loop, int before, int now, int fd, apr_uint64_t tag)
{
    (void)loop, (void)before, (void)now, (void)fd, (void)tag;
    errno = ENOSYS;
    return -1;
}

int mp_poll_get(mp_loop *loop, mp_event *events, int most)
{
    (void)loop, (void)events, (void)most;
    return 0;
}

int mp_signal_make(void)
{
    errno = ENOSYS;
    return -1;
}

#endif

/* ---- how many connections a child can hold ------------------------------------------ */

/* Descriptors that a child needs for itself: logs, listeners, pipes, modules' own. */
#define OWN_DESCRIPTORS 128

static int most;                        /* 0: not known */

static const char *value_of(const ap_directive_t *d, const char *name)
{
    const char *found = NULL, *inner;

    for (; d; d = d->next) {
        if (d->first_child && (inner = value_of(d->first_child, name)))
            found = inner;
        else if (!strcasecmp(d->directive, name))
            found = d->args;
    }
    return found;
}

int mp_most_connections(void)
{
    return most;
}

/* Those options that Python reads when it is too late to refuse them.  0: logged. */
static int check_options(const server_rec *s, const apr_table_t *options)
{
    const char *text = apr_table_get(options, "mod_python.async.loop");
    char *end;

    if (text && strcmp(text, "auto") && strcmp(text, "uvloop") && strcmp(text, "asyncio")) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s,
                     "PythonOption mod_python.async.loop is \"%s\"; it must be auto, uvloop or "
                     "asyncio", text);
        return 0;
    }
    text = apr_table_get(options, "mod_python.async.slow_callback");
    if (text && (!(strtod(text, &end) >= 0) || *end || end == text)) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s,
                     "PythonOption mod_python.async.slow_callback is \"%s\"; it must be seconds, "
                     "or 0 for never", text);
        return 0;
    }
    return 1;
}

/* An event MPM counts suspended connections like idle ones: per child it takes
 * ThreadsPerChild + idle threads * AsyncRequestWorkerFactor, 2 by default.  Two threads
 * do not count as idle: the listener reserves one before it accepts, and once it has
 * stopped it goes on only when there is one more than needed. */
static int check_limits(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp,
                        server_rec *main_server)
{
    const char *text = apr_table_get(mp_server_conf_of(main_server)->options,
                                     "mod_python.async.connections");
    const char *factor = value_of(ap_conftree, "AsyncRequestWorkerFactor");
    int async = 0, threads = 0, children = 0, idle;
    struct rlimit files;
    char *end;
    long wanted;

    (void)pconf;
    (void)plog;
    (void)ptemp;
    ap_mpm_query(AP_MPMQ_IS_ASYNC, &async);
    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    ap_mpm_query(AP_MPMQ_MAX_DAEMONS, &children);
    if (threads < 1)
        threads = 1;
    idle = threads > 3 ? threads - 2 : 1;
    most = async ? (int)(threads + idle * (factor ? atof(factor) : 2.0)) : threads;
    if (!check_options(main_server, mp_server_conf_of(main_server)->options))
        return HTTP_INTERNAL_SERVER_ERROR;
    /* The configuration is read twice, and warnings belong to the second time. */
    if (!text || ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG)
        return OK;
    errno = 0;
    wanted = strtol(text, &end, 10);
    if (errno || *end || end == text || wanted < 1 || wanted > 10000000) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, 0, main_server,
                     "PythonOption mod_python.async.connections is \"%s\"; it must be the number "
                     "of connections that one child process is to hold, at least 1", text);
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    if (wanted > most && async)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, main_server,
                     "PythonOption mod_python.async.connections asks for %ld connections in one child "
                     "process, but it will take at most %d: set AsyncRequestWorkerFactor to %ld "
                     "or more (with ThreadsPerChild %d)", wanted, most,
                     (wanted - threads + idle - 1) / idle, threads);
    else if (wanted > most)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, main_server,
                     "PythonOption mod_python.async.connections asks for %ld connections in one child "
                     "process, but with this MPM each takes a thread, and there are %d: use the event "
                     "MPM, or more threads or processes (at most %d now)", wanted, most, children);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur != RLIM_INFINITY
        && files.rlim_cur < (rlim_t)wanted + OWN_DESCRIPTORS)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, main_server,
                     "PythonOption mod_python.async.connections asks for %ld connections in one child "
                     "process, but it may have only %lu open files: raise that limit (ulimit -n, or "
                     "LimitNOFILE of its systemd unit) to %ld or more", wanted,
                     (unsigned long)files.rlim_cur, wanted + OWN_DESCRIPTORS);
    return OK;
}

void mp_register_suspend_hooks(void)
{
    ap_hook_post_config(check_limits, NULL, NULL, APR_HOOK_LAST);
    ap_hook_suspend_connection(suspend_connection, NULL, NULL, APR_HOOK_REALLY_LAST);
    ap_hook_child_stopping(child_stopping, NULL, NULL, APR_HOOK_FIRST);
}
