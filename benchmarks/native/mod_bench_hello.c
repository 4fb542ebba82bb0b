/*
 * The C handler that the HTTP measurements compare with: what a page costs when httpd runs nothing but the few calls a
 * handler cannot do without. Built by the benchmark runner with apxs.
 */
#include "httpd.h"
#include "http_config.h"
#include "http_protocol.h"

#include <string.h>

static int hello(request_rec *r)
{
    int flushed;

    if (r->handler == NULL || strncmp(r->handler, "bench-hello", 11) != 0)
        return DECLINED;
    flushed = strcmp(r->handler, "bench-hello-flushed") == 0;
    ap_set_content_type(r, "text/plain");
    ap_rputs("Hello, world!\n", r);
    if (flushed)
        ap_rflush(r);
    return OK;
}

static void register_hooks(apr_pool_t *pool)
{
    (void)pool;
    ap_hook_handler(hello, NULL, NULL, APR_HOOK_MIDDLE);
}

AP_DECLARE_MODULE(bench_hello) = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks
};
