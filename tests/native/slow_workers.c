/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * For tests/test_async_restart.py: workers take their time before they make a
 * connection out of a socket that was accepted.  The event MPM counts connections
 * from then on only, and ends a child that is to end gracefully when it counts none.
 */

#include <httpd.h>
#include <http_config.h>
#include <http_connection.h>
#include <http_log.h>

static void register_hooks(apr_pool_t *p);

AP_DECLARE_MODULE(slow_workers) = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks,
    AP_MODULE_FLAG_NONE
};

static conn_rec *take_time(apr_pool_t *p, server_rec *s, apr_socket_t *sock, long id,
                           void *sbh, apr_bucket_alloc_t *alloc)
{
    (void)p, (void)sock, (void)id, (void)sbh, (void)alloc;
    ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, s, "NOTE accepted");
    apr_sleep(apr_time_from_msec(500));
    return NULL;                            /* declined: httpd makes it */
}

static void register_hooks(apr_pool_t *p)
{
    (void)p;
    ap_hook_create_connection(take_time, NULL, NULL, APR_HOOK_REALLY_FIRST);
}
