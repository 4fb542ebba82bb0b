/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * A module of somebody else, for tests/test_c_exports.py: it answers requests with
 * the handler name "uses_python" by calling Python through mod_python.h.
 */

#include <Python.h>
#include <mod_python.h>

#include <http_config.h>
#include <http_protocol.h>
#include <apr_strings.h>

static APR_OPTIONAL_FN_TYPE(mp_acquire_interpreter) *acquire;
static APR_OPTIONAL_FN_TYPE(mp_release_interpreter) *release;
static APR_OPTIONAL_FN_TYPE(mp_get_request_object) *get_request;
static APR_OPTIONAL_FN_TYPE(mp_get_server_object) *get_server;
static APR_OPTIONAL_FN_TYPE(mp_get_connection_object) *get_connection;

static void find_functions(void)
{
    acquire = APR_RETRIEVE_OPTIONAL_FN(mp_acquire_interpreter);
    release = APR_RETRIEVE_OPTIONAL_FN(mp_release_interpreter);
    get_request = APR_RETRIEVE_OPTIONAL_FN(mp_get_request_object);
    get_server = APR_RETRIEVE_OPTIONAL_FN(mp_get_server_object);
    get_connection = APR_RETRIEVE_OPTIONAL_FN(mp_get_connection_object);
}

/* str(answers.NAME(object)), as a copy in the request's pool. */
static const char *ask(request_rec *r, const char *name, PyObject *object)
{
    PyObject *module = PyImport_ImportModule("answers");
    PyObject *value = module && object ? PyObject_CallMethod(module, name, "O", object) : NULL;
    PyObject *text = value ? PyObject_Str(value) : NULL;
    const char *utf8 = text ? PyUnicode_AsUTF8(text) : NULL;
    const char *result;

    if (!utf8)
        PyErr_Print();
    result = apr_pstrdup(r->pool, utf8 ? utf8 : "failed");
    Py_XDECREF(module);
    Py_XDECREF(value);
    Py_XDECREF(text);
    return result;
}

static int answer(request_rec *r)
{
    const char *name = r->args && *r->args ? r->args : NULL;
    PyInterpreterState *outer, *inner;
    const char *request, *server, *connection, *nested, *again;
    PyObject *first, *second, *s, *c;

    if (!r->handler || strcmp(r->handler, "uses_python") != 0)
        return DECLINED;
    if (!acquire || !release || !get_request || !get_server || !get_connection)
        return HTTP_NOT_IMPLEMENTED;
    outer = acquire(name);
    if (!outer)
        return HTTP_SERVICE_UNAVAILABLE;
    first = get_request(r);
    request = ask(r, "about_request", first);
    s = get_server(r->server);
    server = ask(r, "about_server", s);
    c = get_connection(r->connection);
    connection = ask(r, "about_connection", c);
    Py_XDECREF(s);
    Py_XDECREF(c);
    inner = acquire("nested");          /* another interpreter inside */
    if (!inner) {
        Py_XDECREF(first);
        release();
        return HTTP_SERVICE_UNAVAILABLE;
    }
    nested = ask(r, "name", Py_None);
    release();
    again = ask(r, "name", Py_None);
    second = get_request(r);            /* the same object again */
    ap_set_content_type(r, "text/plain");
    request = apr_psprintf(r->pool, "%s\n%s\n%s\n%s\n%s\n%d\n", request, server, connection,
                           nested, again, first == second && outer != inner);
    Py_XDECREF(first);
    Py_XDECREF(second);
    release();
    ap_rputs(request, r);
    return OK;
}

static void hooks(apr_pool_t *p)
{
    (void)p;
    ap_hook_optional_fn_retrieve(find_functions, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(answer, NULL, NULL, APR_HOOK_FIRST);
}

AP_DECLARE_MODULE(uses_python) = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, hooks, 0
};
