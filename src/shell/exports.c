/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * Functions for other modules of httpd, as optional functions; the header that
 * they include is src/mod_python/include/mod_python.h.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "interpreter.h"
#include "../mod_python/include/mod_python.h"

#include <apr_optional.h>

APLOG_USE_MODULE(python);

/* What a thread has entered, innermost first. */
typedef struct mp_acquired {
    mp_entry entry;
    struct mp_acquired *outer;
} mp_acquired;

static PyInterpreterState *mp_acquire_interpreter(const char *name)
{
    mp_interp *interp;
    mp_acquired *a;

    if (!py.started) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, py.server,
                     "mod_python: mp_acquire_interpreter() was called where Python does "
                     "not run: in httpd's parent process, or before child_init was done");
        return NULL;
    }
    interp = mp_interp_get(name ? name : "main_interpreter");
    a = interp ? malloc(sizeof(*a)) : NULL;
    if (!a)
        return NULL;
    if (!mp_enter(interp, &a->entry)) {
        free(a);
        return NULL;
    }
    a->outer = a->entry.thread->acquired;
    a->entry.thread->acquired = a;
    return interp->interp;
}

static void mp_release_interpreter(void)
{
    mp_thread *t = py.started ? mp_this_thread() : NULL;
    mp_acquired *a = t ? t->acquired : NULL;

    if (!a) {
        ap_log_error(APLOG_MARK, APLOG_ERR, 0, py.server,
                     "mod_python: mp_release_interpreter() was called in a thread that "
                     "has acquired none");
        return;
    }
    t->acquired = a->outer;
    mp_leave(&a->entry);
    free(a);
}

static PyObject *object_of(mp_object *wanted)
{
    mp_interp *interp = py.started ? mp_interp_current() : NULL;
    PyObject *what, *record, *result = NULL;

    if (!interp || !interp->call)
        return NULL;
    if (!wanted->r && !wanted->c && !wanted->s) {
        PyErr_SetString(PyExc_ValueError, "mod_python: there is no object for a NULL pointer");
        return NULL;
    }
    what = PyLong_FromLong(MP_CALL_OBJECT);
    record = PyLong_FromVoidPtr(wanted);
    if (what && record)
        result = PyObject_CallFunctionObjArgs(interp->call, what, record, NULL);
    Py_XDECREF(what);
    Py_XDECREF(record);
    if (!result)
        return NULL;
    Py_DECREF(result);
    return wanted->object;
}

static PyObject *mp_get_request_object(request_rec *r)
{
    mp_object wanted = { .r = r };
    return object_of(&wanted);
}

static PyObject *mp_get_server_object(server_rec *s)
{
    mp_object wanted = { .s = s };
    return object_of(&wanted);
}

static PyObject *mp_get_connection_object(conn_rec *c)
{
    mp_object wanted = { .c = c };
    return object_of(&wanted);
}

void mp_register_exports(void)
{
    APR_REGISTER_OPTIONAL_FN(mp_acquire_interpreter);
    APR_REGISTER_OPTIONAL_FN(mp_release_interpreter);
    APR_REGISTER_OPTIONAL_FN(mp_get_request_object);
    APR_REGISTER_OPTIONAL_FN(mp_get_server_object);
    APR_REGISTER_OPTIONAL_FN(mp_get_connection_object);
}
