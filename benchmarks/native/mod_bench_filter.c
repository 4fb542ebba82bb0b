/*
 * The C filter that the filter measurements compare with: reads what comes bucket by bucket and writes a copy, which is
 * what a filter that changes data cannot do without. Built by the benchmark runner with apxs.
 */
#include "httpd.h"
#include "http_config.h"
#include "util_filter.h"

#define PIECE 65536

static apr_status_t copy(ap_filter_t *f, apr_bucket_brigade *in)
{
    apr_bucket_brigade *out = f->ctx;
    apr_size_t queued = 0;

    if (!out) {
        out = f->ctx = apr_brigade_create(f->r->pool, f->c->bucket_alloc);
        apr_table_unset(f->r->headers_out, "Content-Length");
    }
    while (!APR_BRIGADE_EMPTY(in)) {
        apr_bucket *e = APR_BRIGADE_FIRST(in);
        const char *data;
        apr_size_t length;
        apr_status_t rv;

        if (APR_BUCKET_IS_METADATA(e)) {
            APR_BUCKET_REMOVE(e);
            APR_BRIGADE_INSERT_TAIL(out, e);
            continue;
        }
        rv = apr_bucket_read(e, &data, &length, APR_BLOCK_READ);
        /* In pieces: a file comes mapped, 4 MiB at a time. */
        if (rv == APR_SUCCESS && length > PIECE) {
            rv = apr_bucket_split(e, PIECE);
            length = PIECE;
        }
        if (rv == APR_SUCCESS)
            rv = apr_brigade_write(out, NULL, NULL, data, length);
        if (rv != APR_SUCCESS)
            return rv;
        apr_bucket_delete(e);
        queued += length;
        if (queued >= PIECE) {
            rv = ap_pass_brigade(f->next, out);
            apr_brigade_cleanup(out);
            if (rv != APR_SUCCESS)
                return rv;
            queued = 0;
        }
    }
    return APR_BRIGADE_EMPTY(out) ? APR_SUCCESS : ap_pass_brigade(f->next, out);
}

static void register_hooks(apr_pool_t *pool)
{
    (void)pool;
    ap_register_output_filter("bench-copy", copy, NULL, AP_FTYPE_RESOURCE);
}

AP_DECLARE_MODULE(bench_filter) = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, register_hooks
};
