/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * A pool of locks that hold across processes, threads and interpreters, for
 * sessions and whatever else must not be done twice at once.
 *
 * A lock is taken on two levels.  In the process it is a state guarded by a
 * mutex of ours, which threads without it wait for; between processes it is a
 * process mutex of APR's.  APR's "global" mutexes have the same two levels, but
 * theirs belong to the thread that locked them.  Ours may be given back by any
 * thread of the process: what a request holds is released when its pool goes,
 * which under the event MPM happens in whichever thread wrote the last bytes.
 *
 * The parent makes the process mutexes once, in the process pool, so that they
 * outlive restarts: the children of two generations keep excluding each other.
 *
 *   a process dies with a lock    the system releases it (fcntl, flock, sysvsem)
 *   unlocking what is not held    APR_EINVAL, nothing happens
 *   locking what one holds        waits for ever: not recursive
 */

#include "shell.h"

#include <ap_mpm.h>
#include <apr_proc_mutex.h>
#include <http_main.h>
#include <unixd.h>
#include <util_mutex.h>

#include <errno.h>
#include <pthread.h>

APLOG_USE_MODULE(python);

static const char TYPE[] = "mod_python";
static const char POOL_KEY[] = "mod_python:locks";

#define LOCKS_DEFAULT 8
#define LOCKS_LEAST   2             /* number 0 has a purpose of its own */
#define LOCKS_MOST    1024          /* each takes a descriptor in every process */

/* The process mutexes: made by the parent, in the process pool. */
typedef struct lock_pool {
    int made;
    apr_proc_mutex_t *mutexes[LOCKS_MOST];
} lock_pool;

typedef enum { FREE = 0, BEING_TAKEN, TAKEN, BEING_RELEASED } lock_state;

typedef struct mp_lock {
    apr_proc_mutex_t *mutex;
    pthread_mutex_t guard;
    pthread_cond_t freed;
    lock_state state;               /* of this process, under the guard */
} mp_lock;

static int wanted;                  /* by this configuration */
static int count;                   /* usable in this child */
static mp_lock *locks;

/* ---- in the parent ------------------------------------------------------- */

static int pre_config(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp)
{
    /* Locks on files: the system frees them when their process dies, any
     * thread may release them, and no semaphore stays behind. */
    apr_status_t rv = ap_mutex_register(pconf, TYPE, NULL,
#if APR_HAS_FCNTL_SERIALIZE
                                        APR_LOCK_FCNTL,
#else
                                        APR_LOCK_DEFAULT,
#endif
                                        0);
    (void)plog;
    (void)ptemp;
    return rv == APR_SUCCESS ? OK : HTTP_INTERNAL_SERVER_ERROR;
}

/* How many locks are wanted; 0 if the option makes no sense. */
static int configured(const char *text)
{
    apr_int64_t n = LOCKS_DEFAULT;
    char *end;
    int threads = 1, children = 1;

    if (text && *text) {
        n = apr_strtoi64(text, &end, 10);
        if (*end || n < 1 || n > LOCKS_MOST)
            return 0;
    }
    ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads);
    ap_mpm_query(AP_MPMQ_MAX_DAEMONS, &children);
    if (threads < 1)                /* prefork: no threads */
        threads = 1;
    if (children > 0 && n > (apr_int64_t)threads * children)
        n = (apr_int64_t)threads * children;
    return n < LOCKS_LEAST ? LOCKS_LEAST : (int)n;
}

/* A file of our own, in a directory that the configuration names or, failing
 * that, httpd's directory for such files. */
static apr_status_t make_on_file(apr_proc_mutex_t **mutex, const char *directory,
                                 int number, apr_pool_t *pool, apr_pool_t *ptemp)
{
    unsigned char random[8];
    char hex[2 * sizeof(random) + 1];
    const char *name;
    apr_status_t rv;

    /* Not predictable: the directory may be open to others. */
    rv = apr_generate_random_bytes(random, sizeof(random));
    if (rv != APR_SUCCESS)
        return rv;
    ap_bin2hex(random, sizeof(random), hex);
    name = apr_psprintf(ptemp, "%s/mpmtx%" APR_PID_T_FMT "-%s-%d", directory, getpid(),
                        hex, number);
#if APR_HAS_FCNTL_SERIALIZE
    rv = apr_proc_mutex_create(mutex, name, APR_LOCK_FCNTL, pool);
#else
    rv = apr_proc_mutex_create(mutex, name, APR_LOCK_DEFAULT, pool);
#endif
    if (rv == APR_SUCCESS)
        rv = ap_unixd_set_proc_mutex_perms(*mutex);
    return rv;
}

static apr_status_t make(apr_proc_mutex_t **mutex, const char *directory, int number,
                         server_rec *s, apr_pool_t *ptemp)
{
    apr_pool_t *pool = s->process->pool;
    apr_status_t rv;

    if (directory)
        return make_on_file(mutex, directory, number, pool, ptemp);
    rv = ap_proc_mutex_create(mutex, NULL, TYPE, apr_itoa(ptemp, number), s, pool, 0);
    if (rv == APR_SUCCESS && apr_proc_mutex_mech(*mutex) == APR_LOCK_PROC_PTHREAD) {
        /* Only the thread that took it may release such a mutex. */
        if (number == 0)
            ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, s,
                         "mod_python: mutexes of the mechanism pthread belong to one "
                         "thread; files are used for the locks instead (Mutex, %s)", TYPE);
        apr_proc_mutex_destroy(*mutex);
        rv = make_on_file(mutex, ap_runtime_dir_relative(ptemp, ""), number, pool, ptemp);
    }
    return rv;
}

static int make_locks(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    const apr_table_t *options = mp_server_conf_of(s)->options;
    const char *number = apr_table_get(options, "mod_python.mutex_locks");
    const char *directory = apr_table_get(options, "mod_python.mutex_directory");
    lock_pool *pool = NULL;
    apr_status_t rv = APR_SUCCESS;
    void *data = NULL;

    (void)pconf;
    (void)plog;
    /* The first of two rounds at the start only checks. */
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG)
        return OK;
    wanted = configured(number);
    if (!wanted) {
        ap_log_error(APLOG_MARK, APLOG_EMERG, 0, s,
                     "mod_python: PythonOption mod_python.mutex_locks is \"%s\"; write a "
                     "number from %d to %d", number, LOCKS_LEAST, LOCKS_MOST);
        return HTTP_INTERNAL_SERVER_ERROR;
    }
    if (directory && !*directory)
        directory = NULL;
    if (directory)
        directory = ap_server_root_relative(ptemp, directory);
    apr_pool_userdata_get(&data, POOL_KEY, s->process->pool);
    pool = data;
    if (!pool) {
        pool = apr_pcalloc(s->process->pool, sizeof(*pool));
        apr_pool_userdata_setn(pool, POOL_KEY, NULL, s->process->pool);
    }
    if (pool->made >= wanted)
        return OK;
    while (pool->made < wanted) {
        rv = make(&pool->mutexes[pool->made], directory, pool->made, s, ptemp);
        if (rv != APR_SUCCESS)
            break;
        pool->made++;
    }
    if (pool->made < wanted) {
        int made = pool->made, keep = made - 2 < LOCKS_LEAST ? LOCKS_LEAST : made - 2;

        ap_log_error(APLOG_MARK, made < LOCKS_LEAST ? APLOG_EMERG : APLOG_ERR, rv, s,
                     "mod_python: lock %d of %d could not be made%s%s. Name a directory that "
                     "exists and can be written with PythonOption mod_python.mutex_directory, "
                     "choose another mechanism with \"Mutex ... %s\", or ask for fewer with "
                     "PythonOption mod_python.mutex_locks",
                     made + 1, wanted, directory ? " in " : "", directory ? directory : "",
                     TYPE);
        if (made < LOCKS_LEAST)
            return HTTP_INTERNAL_SERVER_ERROR;
        /* What ran out here will be needed by others. */
        while (pool->made > keep)
            apr_proc_mutex_destroy(pool->mutexes[--pool->made]);
        wanted = pool->made;
    }
    ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, s,
                 "mod_python: %d locks between processes (%s, %s)", wanted,
                 apr_proc_mutex_name(pool->mutexes[0]),
                 directory ? directory : "where httpd keeps such files");
    return OK;
}

/* ---- in a child ---------------------------------------------------------- */

static void child_init(apr_pool_t *pchild, server_rec *s)
{
    lock_pool *pool;
    void *data = NULL;
    int i, n = wanted;

    apr_pool_userdata_get(&data, POOL_KEY, s->process->pool);
    pool = data;
    if (!pool)
        return;
    if (n > pool->made)
        n = pool->made;
    locks = apr_pcalloc(pchild, n * sizeof(*locks));
    for (i = 0; i < n; i++) {
        apr_proc_mutex_t *mutex = pool->mutexes[i];
        apr_status_t rv = apr_proc_mutex_child_init(&mutex, apr_proc_mutex_lockfile(mutex),
                                                    pchild);
        if (rv != APR_SUCCESS) {
            /* None at all: with fewer, a key would mean another lock here
             * than in the other processes. */
            ap_log_error(APLOG_MARK, APLOG_ERR, rv, s,
                         "mod_python: a child process cannot use the locks (%s); the user "
                         "that children run as must be able to reach that file",
                         apr_proc_mutex_lockfile(pool->mutexes[i])
                         ? apr_proc_mutex_lockfile(pool->mutexes[i]) : "no file");
            return;
        }
        locks[i].mutex = mutex;
        pthread_mutex_init(&locks[i].guard, NULL);
        pthread_cond_init(&locks[i].freed, NULL);
    }
    count = n;
}

int mp_lock_count(void)
{
    return count;
}

static void set_state(mp_lock *lock, lock_state state)
{
    pthread_mutex_lock(&lock->guard);
    lock->state = state;
    if (state == FREE)
        pthread_cond_signal(&lock->freed);
    pthread_mutex_unlock(&lock->guard);
}

apr_status_t mp_lock_take(int number, int wait)
{
    mp_lock *lock;
    apr_status_t rv;

    if (number < 0 || number >= count)
        return APR_EINVAL;
    lock = &locks[number];
    pthread_mutex_lock(&lock->guard);
    while (lock->state != FREE && wait)
        pthread_cond_wait(&lock->freed, &lock->guard);
    if (lock->state != FREE) {
        pthread_mutex_unlock(&lock->guard);
        return APR_EBUSY;
    }
    lock->state = BEING_TAKEN;
    pthread_mutex_unlock(&lock->guard);
    for (;;) {
        rv = wait ? apr_proc_mutex_lock(lock->mutex) : apr_proc_mutex_trylock(lock->mutex);
        if (rv != EDEADLK)
            break;
        /* The system sees processes that wait for each other where there are
         * threads that do not: look again until the other one is done. */
        apr_sleep(apr_time_from_msec(10));
    }
    set_state(lock, rv == APR_SUCCESS ? TAKEN : FREE);
    return rv;
}

apr_status_t mp_lock_release(int number)
{
    mp_lock *lock;
    apr_status_t rv;
    lock_state state;

    if (number < 0 || number >= count)
        return APR_EINVAL;
    lock = &locks[number];
    pthread_mutex_lock(&lock->guard);
    state = lock->state;
    if (state == TAKEN)
        lock->state = BEING_RELEASED;
    pthread_mutex_unlock(&lock->guard);
    if (state != TAKEN)
        return APR_EINVAL;
    rv = apr_proc_mutex_unlock(lock->mutex);
    set_state(lock, rv == APR_SUCCESS ? FREE : TAKEN);
    return rv;
}

void mp_register_lock_hooks(void)
{
    ap_hook_pre_config(pre_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_post_config(make_locks, NULL, NULL, APR_HOOK_MIDDLE);
    /* Before Python starts: a PythonImport may use them. */
    ap_hook_child_init(child_init, NULL, NULL, APR_HOOK_FIRST);
}
