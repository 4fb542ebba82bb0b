/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * Whose a connection is.  httpd gives it to the first virtual host of its address,
 * before any host name is known: that host's handlers run (c->base_server).  In a TLS
 * handshake the client may name another host of the address (SNI), and mod_ssl then
 * goes by the settings of that one.
 *
 *   at start    which directives of a virtual host can take effect, found out by asking
 *               httpd itself for each address; what TLS each host asks for
 *   per client  mp_other_tls(): did the handshake ask for what the handler's host asks for?
 */

#include "shell.h"

#include <ap_listen.h>
#include <ap_mpm.h>
#include <http_ssl.h>
#include <http_vhost.h>
#include <util_cfgtree.h>

#include <stdlib.h>
#include <string.h>
#include <strings.h>

APLOG_USE_MODULE(python);

/* ---- the owner of an address ----------------------------------------------- */

/* The connection that a client of that address would make.  httpd looks at nothing
 * but its local address. */
static void make_connection(conn_rec *c, server_rec *main_server, apr_sockaddr_t *local)
{
    memset(c, 0, sizeof(*c));
    c->base_server = main_server;
    c->local_addr = local;
    ap_update_vhost_given_ip(c);
}

static int is_any(const apr_sockaddr_t *address)
{
    const unsigned char *bytes = address->ipaddr_ptr;
    int i;

    for (i = 0; i < (int)address->ipaddr_len; i++) {
        if (bytes[i])
            return 0;
    }
    return 1;
}

/* Whether clients of a listener can reach an address of a virtual host; `local` is then
 * the local address of their connections.  For "*" it stays the address that no
 * interface has, which httpd looks up like one that no virtual host names. */
static int is_reached(const server_addr_rec *sar, const ap_listen_rec *listener,
                      apr_sockaddr_t *local)
{
    const apr_sockaddr_t *bound = listener->bind_addr;

    if (!sar->host_addr || !bound || (sar->host_port && sar->host_port != bound->port))
        return 0;
    if (is_any(bound))
        *local = *sar->host_addr;
    else if (is_any(sar->host_addr) || apr_sockaddr_equal(bound, sar->host_addr))
        *local = *bound;
    else
        return 0;
    local->port = bound->port;
    return 1;
}

/* The virtual hosts in the order of the file; httpd's list is in the reverse one. */
static apr_array_header_t *hosts_in_order(apr_pool_t *p, server_rec *main_server)
{
    apr_array_header_t *hosts = apr_array_make(p, 16, sizeof(server_rec *));
    server_rec *s, *kept;
    int i, j;

    for (s = main_server->next; s; s = s->next)
        APR_ARRAY_PUSH(hosts, server_rec *) = s;
    for (i = 0, j = hosts->nelts - 1; i < j; i++, j--) {
        kept = APR_ARRAY_IDX(hosts, i, server_rec *);
        APR_ARRAY_IDX(hosts, i, server_rec *) = APR_ARRAY_IDX(hosts, j, server_rec *);
        APR_ARRAY_IDX(hosts, j, server_rec *) = kept;
    }
    return hosts;
}

static const char *name_of(apr_pool_t *p, const server_rec *s)
{
    const char *name = s->server_hostname ? s->server_hostname : "";

    if (!s->is_virtual)
        return apr_pstrcat(p, "the main server ", name, NULL);
    return apr_psprintf(p, "the virtual host %s (%s:%u)", name, s->defn_name, s->defn_line_number);
}

static const char *address_of(apr_pool_t *p, const server_addr_rec *sar)
{
    return sar->host_port ? apr_psprintf(p, "%s:%u", sar->virthost, sar->host_port) : sar->virthost;
}

/* ---- directives without effect ------------------------------------------------ */

typedef struct list_name {
    const char *directive;
    apr_size_t field;
} list_name;

static const list_name connection_lists[] = {
    { "PythonConnectionHandler", APR_OFFSETOF(mp_server_conf, connection) },
    { "PythonPreConnectionHandler", APR_OFFSETOF(mp_server_conf, pre_connection) },
    { "PythonConnectionInputFilter", APR_OFFSETOF(mp_server_conf, connection_input) },
    { "PythonConnectionOutputFilter", APR_OFFSETOF(mp_server_conf, connection_output) },
};

static const mp_hlist *list_of(const server_rec *s, const list_name *name)
{
    return *(mp_hlist **)((char *)mp_server_conf_of(s) + name->field);
}

/* Check a directive of one virtual host: 0 if none of its connections gets there. */
static int check_list(apr_pool_t *ptemp, server_rec *main_server, server_rec *s,
                      const list_name *name, int warn)
{
    const mp_hlist *own = list_of(s, name);
    const server_addr_rec *sar, *lost = NULL;
    const ap_listen_rec *listener;
    server_rec *owner = NULL;
    apr_sockaddr_t local;
    conn_rec c;
    int works = 0;

    if (!own || own == list_of(main_server, name))
        return 1;
    for (sar = s->addrs; sar; sar = sar->next) {
        for (listener = ap_listeners; listener; listener = listener->next) {
            if (!is_reached(sar, listener, &local))
                continue;
            make_connection(&c, main_server, &local);
            if (c.base_server == s) {
                works = 1;
            }
            else if (!lost) {
                lost = sar;
                owner = c.base_server;
            }
        }
    }
    if (!lost && !works && warn)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, main_server,
                     "%s in %s can never run: no Listen has its address",
                     name->directive, name_of(ptemp, s));
    if (!lost)
        return 1;
    if (!works)
        ap_log_error(APLOG_MARK, APLOG_EMERG, 0, main_server,
                     "%s in %s can never run: all connections to %s belong to %s, which comes "
                     "first for that address; put the directive there, or give this host an "
                     "address or port of its own", name->directive, name_of(ptemp, s),
                     address_of(ptemp, lost), name_of(ptemp, owner));
    else if (warn)
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, main_server,
                     "%s in %s has no effect on connections to %s: they belong to %s, which comes "
                     "first for that address; put the directive there, too", name->directive,
                     name_of(ptemp, s), address_of(ptemp, lost), name_of(ptemp, owner));
    return works;
}

/* ---- the TLS that a host asks for ------------------------------------------------ */

/* What follows from the text of mod_ssl's directives, since its settings are private. */
struct mp_tls {
    const char *identity;       /* how clients prove who they are; "" if they need not */
    const char *rest;           /* versions, ciphers and the like */
    int on;                     /* SSLEngine */
    int required;               /* no client without a certificate */
};

/* Directives of mod_ssl and mod_tls, and leading parts of them, that ask nothing of clients. */
static const char *const asks_nothing[] = {
    "sslcertificate", "sslcompression", "sslcryptodevice", "sslhonorcipherorder", "ssloptions",
    "sslpassphrasedialog", "sslproxy", "sslrandomseed", "sslrenegbuffersize", "sslrequire",
    "sslsession", "sslstapling", "sslstrictsnivhostcheck", "sslusername", "sslusestapling",
    "sslvhostsnipolicy", "tlscertificate", "tlshonorclientorder", "tlsoptions", "tlsproxy",
    "tlssession", "tlsstrictsni", NULL
};

static const char *const asks_for_identity[] = { "sslverify", "sslca", "sslocsp", NULL };

static int begins_with(const char *name, const char *const *beginnings)
{
    for (; *beginnings; beginnings++) {
        if (!strncasecmp(name, *beginnings, strlen(*beginnings)))
            return 1;
    }
    return 0;
}

/* The directives of a server outside its sections: name in lower case -> lines. */
static apr_table_t *tls_directives(apr_pool_t *p, const ap_directive_t *d)
{
    apr_table_t *table = apr_table_make(p, 8);
    const char *before;
    char *name;

    for (; d; d = d->next) {
        if ((strncasecmp(d->directive, "ssl", 3) && strncasecmp(d->directive, "tls", 3))
            || begins_with(d->directive, asks_nothing))
            continue;
        name = apr_pstrdup(p, d->directive);
        ap_str_tolower(name);
        before = apr_table_get(table, name);
        apr_table_setn(table, name, apr_pstrcat(p, before ? before : "", name, " ", d->args, "\n",
                                                NULL));
    }
    return table;
}

/* The argument of the last line, without quotes. */
static const char *value_in(apr_pool_t *p, const apr_table_t *table, const char *name)
{
    const char *lines = apr_table_get(table, name), *line, *next;

    if (!lines)
        return "";
    for (line = lines; (next = strchr(line, '\n')) && next[1]; line = next + 1)
        ;
    line += strlen(name) + 1;
    line = apr_pstrmemdup(p, line, strcspn(line, "\n"));
    return ap_getword_conf(p, &line);
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static const char *joined(apr_pool_t *p, const apr_table_t *table, int of_identity)
{
    const apr_array_header_t *entries = apr_table_elts(table);
    const apr_table_entry_t *entry = (const apr_table_entry_t *)entries->elts;
    apr_array_header_t *texts = apr_array_make(p, entries->nelts + 1, sizeof(const char *));
    int i;

    for (i = 0; i < entries->nelts; i++) {
        if (begins_with(entry[i].key, asks_for_identity) == of_identity)
            APR_ARRAY_PUSH(texts, const char *) = entry[i].val;
    }
    qsort(texts->elts, texts->nelts, sizeof(const char *), compare_texts);
    return apr_array_pstrcat(p, texts, 0);
}

static const mp_tls *read_tls(apr_pool_t *pconf, apr_pool_t *ptemp, const ap_directive_t *own,
                              const apr_table_t *inherited)
{
    mp_tls *tls = apr_pcalloc(pconf, sizeof(*tls));
    apr_table_t *table = apr_table_copy(ptemp, inherited);
    const char *verify;

    apr_table_overlap(table, tls_directives(ptemp, own), APR_OVERLAP_TABLES_SET);
    verify = value_in(ptemp, table, "sslverifyclient");
    tls->required = !strcasecmp(verify, "require");
    tls->identity = !*verify || !strcasecmp(verify, "none") ? "" : joined(pconf, table, 1);
    tls->rest = joined(pconf, table, 0);
    tls->on = *value_in(ptemp, table, "sslengine")
        && strcasecmp(value_in(ptemp, table, "sslengine"), "off") != 0;
    return tls;
}

/* Note what each server asks for.  httpd makes a server of each <VirtualHost> in the
 * order of the file; should another module have made some, too, theirs is not known. */
static void note_tls_of_all(apr_pool_t *pconf, apr_pool_t *ptemp, server_rec *main_server,
                            const apr_array_header_t *hosts)
{
    apr_table_t *inherited = tls_directives(ptemp, ap_conftree), *none = apr_table_make(ptemp, 1);
    const ap_directive_t *d = ap_conftree;
    server_rec *s;
    int i;

    mp_server_conf_of(main_server)->tls = read_tls(pconf, ptemp, ap_conftree, none);
    for (i = 0; i < hosts->nelts; i++) {
        s = APR_ARRAY_IDX(hosts, i, server_rec *);
        mp_server_conf_of(s)->tls = NULL;
        while (d && strcasecmp(d->directive, "<VirtualHost") != 0)
            d = d->next;
        if (!d || d->line_num != (int)s->defn_line_number || !d->filename || !s->defn_name
            || strcmp(d->filename, s->defn_name) != 0)
            continue;
        mp_server_conf_of(s)->tls = read_tls(pconf, ptemp, d->first_child, inherited);
        d = d->next;
    }
}

/* Whether a handshake by the settings of `other` may stand for one by those of `own`. */
static int is_as_good(const mp_tls *own, const mp_tls *other)
{
    return own && other && !strcmp(own->rest, other->rest)
        && (!*own->identity || !strcmp(own->identity, other->identity));
}

/* A directive as it stands in the configuration. */
static const char *as_written(const ap_directive_t *d, const char *name)
{
    const char *found;

    for (; d; d = d->next) {
        if (!strcasecmp(d->directive, name))
            return d->directive;
        if (d->first_child && (found = as_written(d->first_child, name)))
            return found;
    }
    return NULL;
}

/* Add the names of the directives whose lines are in the one text and not in the other. */
static void add_missing(apr_pool_t *p, apr_table_t *names, const char *lines, const char *elsewhere)
{
    const char *name, *written;
    apr_size_t n;

    for (; (n = strcspn(lines, "\n")) > 0; lines += n + 1) {
        if (strstr(elsewhere, apr_pstrmemdup(p, lines, n + 1)))
            continue;
        name = apr_pstrmemdup(p, lines, strcspn(lines, " \n"));
        written = as_written(ap_conftree, name);
        apr_table_setn(names, written ? written : name, "");
    }
}

static int add_name(void *names, const char *name, const char *value)
{
    (void)value;
    APR_ARRAY_PUSH((apr_array_header_t *)names, const char *) = name;
    return 1;
}

/* The directives in which two hosts differ. */
static const char *difference(apr_pool_t *p, const mp_tls *own, const mp_tls *other)
{
    apr_table_t *differ = apr_table_make(p, 4);
    apr_array_header_t *names = apr_array_make(p, 4, sizeof(const char *));

    if (!own || !other)
        return "settings that another module has made";
    if (*own->identity) {
        add_missing(p, differ, own->identity, other->identity);
        add_missing(p, differ, other->identity, own->identity);
    }
    add_missing(p, differ, own->rest, other->rest);
    add_missing(p, differ, other->rest, own->rest);
    apr_table_do(add_name, names, differ, NULL);
    return apr_array_pstrcat(p, names, ',');
}

/* ---- warnings about one address ---------------------------------------------------- */

typedef struct look {
    server_rec *other;          /* whose TLS is another */
    server_rec *h2;             /* that offers HTTP/2 */
} look;

static int offers_h2(const server_rec *s)
{
    const core_server_config *core = ap_get_core_module_config(s->module_config);
    int i;

    for (i = 0; core->protocols && i < core->protocols->nelts; i++) {
        if (!strcmp(APR_ARRAY_IDX(core->protocols, i, const char *), "h2"))
            return 1;
    }
    return 0;
}

static int look_at(void *baton, conn_rec *c, server_rec *s)
{
    look *found = baton;

    if (!found->other && s != c->base_server
        && !is_as_good(mp_server_conf_of(c->base_server)->tls, mp_server_conf_of(s)->tls))
        found->other = s;
    if (!found->h2 && offers_h2(s))
        found->h2 = s;
    return 0;
}

static void check_address(apr_pool_t *ptemp, server_rec *main_server, apr_sockaddr_t *local,
                          apr_table_t *seen)
{
    look found = { NULL, NULL };
    const mp_tls *tls;
    const char *key;
    conn_rec c;

    make_connection(&c, main_server, local);
    tls = mp_server_conf_of(c.base_server)->tls;
    if (!mp_server_conf_of(c.base_server)->connection || (tls && !tls->on))
        return;
    look_at(&found, &c, c.base_server);
    ap_vhost_iterate_given_conn(&c, look_at, &found);
    key = apr_psprintf(ptemp, "%pp %pp", (void *)c.base_server, (void *)found.other);
    if (found.other && !apr_table_get(seen, key)) {
        apr_table_setn(seen, key, "");
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, main_server,
                     "PythonConnectionHandler of %s does not run for clients that name %s in their "
                     "TLS handshake (SNI): it asks for other TLS (%s), so the connection is closed; "
                     "give both the same settings, or one of them a port of its own",
                     name_of(ptemp, c.base_server), name_of(ptemp, found.other),
                     difference(ptemp, tls, mp_server_conf_of(found.other)->tls));
    }
    key = apr_psprintf(ptemp, "h2 %pp", (void *)found.h2);
    if (found.h2 && ap_find_linked_module("mod_http2.c") && !apr_table_get(seen, key)) {
        apr_table_setn(seen, key, "");
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, main_server,
                     "%s offers HTTP/2 to TLS clients (Protocols h2), and its connections go to a "
                     "PythonConnectionHandler: unless that declines, it gets HTTP/2 from clients "
                     "that choose it; write \"Protocols http/1.1\" there",
                     name_of(ptemp, found.h2));
    }
}

int mp_check_hosts(apr_pool_t *pconf, apr_pool_t *ptemp, server_rec *main_server)
{
    apr_array_header_t *hosts = hosts_in_order(ptemp, main_server);
    apr_table_t *seen = apr_table_make(ptemp, 8);
    const server_addr_rec *sar;
    const ap_listen_rec *listener;
    apr_sockaddr_t local;
    server_rec *s;
    int i, j, works = 1;
    /* The configuration is read twice, and warnings belong to the second time. */
    int warn = ap_state_query(AP_SQ_MAIN_STATE) != AP_SQ_MS_CREATE_PRE_CONFIG;

    for (i = 0; i < hosts->nelts; i++) {
        for (j = 0; j < (int)(sizeof(connection_lists) / sizeof(*connection_lists)); j++)
            works &= check_list(ptemp, main_server, APR_ARRAY_IDX(hosts, i, server_rec *),
                                &connection_lists[j], warn);
    }
    if (!works)
        return HTTP_INTERNAL_SERVER_ERROR;
    note_tls_of_all(pconf, ptemp, main_server, hosts);
    if (!warn)
        return OK;
    for (listener = ap_listeners; listener; listener = listener->next) {
        if (listener->bind_addr) {
            local = *listener->bind_addr;
            check_address(ptemp, main_server, &local, seen);
        }
        for (i = 0; i < hosts->nelts; i++) {
            s = APR_ARRAY_IDX(hosts, i, server_rec *);
            if (!mp_server_conf_of(s)->connection)
                continue;
            for (sar = s->addrs; sar; sar = sar->next) {
                if (is_reached(sar, listener, &local))
                    check_address(ptemp, main_server, &local, seen);
            }
        }
    }
    return OK;
}

/* ---- a client ------------------------------------------------------------------------ */

typedef struct wanted {
    const char *name;
    server_rec *found;
} wanted;

/* As mod_ssl does it. */
static int has_name(void *baton, conn_rec *c, server_rec *s)
{
    wanted *sought = baton;
    int i;

    (void)c;
    if (s->server_hostname && !strcasecmp(sought->name, s->server_hostname))
        sought->found = s;
    for (i = 0; !sought->found && s->names && i < s->names->nelts; i++) {
        const char *name = APR_ARRAY_IDX(s->names, i, const char *);

        if (name && !strcasecmp(sought->name, name))
            sought->found = s;
    }
    for (i = 0; !sought->found && s->wild_names && i < s->wild_names->nelts; i++) {
        const char *name = APR_ARRAY_IDX(s->wild_names, i, const char *);

        if (name && !ap_strcasecmp_match(sought->name, name))
            sought->found = s;
    }
    return sought->found != NULL;
}

const char *mp_other_tls(conn_rec *c)
{
    const mp_tls *own = mp_server_conf_of(c->base_server)->tls;
    wanted sought = { NULL, NULL };
    const char *verified;

    sought.name = ap_ssl_var_lookup(c->pool, c->base_server, c, NULL, "SSL_TLS_SNI");
    if (sought.name && *sought.name && c->vhost_lookup_data)
        ap_vhost_iterate_given_conn(c, has_name, &sought);
    if (sought.found && sought.found != c->base_server
        && !is_as_good(own, mp_server_conf_of(sought.found)->tls))
        return apr_pstrcat(c->pool, "the client named ", name_of(c->pool, sought.found),
                           " in its TLS handshake (SNI), which asks for other TLS than ",
                           name_of(c->pool, c->base_server), NULL);
    if (own && own->required) {
        /* A session that was resumed, or a handshake for mod_md, may have none. */
        verified = ap_ssl_var_lookup(c->pool, c->base_server, c, NULL, "SSL_CLIENT_VERIFY");
        if (!verified || strcmp(verified, "SUCCESS") != 0)
            return apr_pstrcat(c->pool, "the TLS handshake had no client certificate, which ",
                               name_of(c->pool, c->base_server), " requires", NULL);
    }
    return NULL;
}
