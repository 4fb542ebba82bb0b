/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * Who the client of a connection really is, as mod_remoteip knows it.
 *
 * Behind a proxy that speaks the PROXY protocol (RemoteIPProxyProtocol) httpd leaves
 * the proxy's address in the conn_rec, and mod_remoteip tells the client's only to
 * requests, when they have been read.  A connection handler has no request.  So its
 * function for that phase is called here with a record that looks like one; it reads
 * the connection and the headers, of which there are none, and sets the address.
 */

#include "shell.h"

#include <http_protocol.h>

#include <string.h>

static ap_HOOK_post_read_request_t *remoteip(void)
{
    apr_array_header_t *hooks = ap_hook_get_post_read_request();
    const ap_LINK_post_read_request_t *link;
    int i;

    if (!hooks)
        return NULL;
    link = (const ap_LINK_post_read_request_t *)hooks->elts;
    for (i = 0; i < hooks->nelts; i++) {
        if (!strcmp(link[i].szName, "mod_remoteip.c"))
            return link[i].pFunc;
    }
    return NULL;
}

void mp_useragent(conn_rec *c, apr_pool_t *pool, const char **ip, int *port)
{
    ap_HOOK_post_read_request_t *ask = remoteip();
    apr_sockaddr_t *addr = c->client_addr;

    *ip = c->client_ip;
    if (ask) {
        request_rec *r = apr_pcalloc(pool, sizeof(*r));

        r->pool = pool;
        r->connection = c;
        r->server = c->base_server;
        r->per_dir_config = c->base_server->lookup_defaults;
        r->request_config = ap_create_request_config(pool);
        r->headers_in = apr_table_make(pool, 1);
        r->headers_out = apr_table_make(pool, 1);
        r->err_headers_out = apr_table_make(pool, 1);
        r->subprocess_env = apr_table_make(pool, 1);
        r->notes = apr_table_make(pool, 1);
        r->useragent_addr = c->client_addr;
        r->useragent_ip = c->client_ip;
        ask(r);
        *ip = r->useragent_ip;
        addr = r->useragent_addr;
    }
    *port = addr ? addr->port : 0;
}
