/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * For tests/test_restart.py: a child takes its time to end after Python's end.
 */

#include <httpd.h>
#include <http_config.h>
#include <http_log.h>

static void register_hooks(apr_pool_t *p);

AP_DECLARE_MODULE(slow_end) = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks,
    AP_MODULE_FLAG_NONE
};

static apr_status_t take_time(void *server)
{
    ap_log_error(APLOG_MARK, APLOG_NOTICE, 0, server, "NOTE the pool goes");
    apr_sleep(apr_time_from_msec(500));
    return APR_SUCCESS;
}

static void child_init(apr_pool_t *p, server_rec *s)
{
    apr_pool_cleanup_register(p, s, take_time, apr_pool_cleanup_null);
}

static void register_hooks(apr_pool_t *p)
{
    (void)p;
    ap_hook_child_init(child_init, NULL, NULL, APR_HOOK_MIDDLE);
}
