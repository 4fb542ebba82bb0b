/* Licensed under the Apache License, Version 2.0; see LICENSE.
 *
 * For httpd modules written in C that want to call Python in the interpreters
 * of mod_python.  The functions are optional functions of httpd: nothing is
 * linked, and a module that uses them loads without mod_python, too.
 *
 *     #include <Python.h>
 *     #include <mod_python.h>
 *
 *     static APR_OPTIONAL_FN_TYPE(mp_acquire_interpreter) *acquire;
 *     ...
 *     acquire = APR_RETRIEVE_OPTIONAL_FN(mp_acquire_interpreter);
 *
 * in a hook ap_hook_optional_fn_retrieve.  Compile with Python's headers and with
 * the directory that "mod_python include-dir" prints; link with no libpython of
 * your own.  Python runs in httpd's children only, from child_init on.
 */

#ifndef MOD_PYTHON_H
#define MOD_PYTHON_H

#ifndef Py_PYTHON_H
#error "include Python.h before mod_python.h"
#endif

#include <httpd.h>
#include <apr_optional.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Enter the interpreter of that name, NULL for the main one, making it if need
 * be: from here on the calling thread holds its lock and may use Python's C API.
 * Calls nest, also with different names.  NULL, with the reason in the error
 * log and nothing to release, if the interpreter cannot be entered. */
APR_DECLARE_OPTIONAL_FN(PyInterpreterState *, mp_acquire_interpreter, (const char *name));

/* Leave what the last call of mp_acquire_interpreter in this thread entered. */
APR_DECLARE_OPTIONAL_FN(void, mp_release_interpreter, (void));

/* The objects that handlers get, in the interpreter that the calling thread has
 * acquired.  The same record always gives the same object.  A new reference, or
 * NULL: with a Python exception set, or because the thread has acquired none.  Once the record is gone every use of the object
 * raises mod_python.apache.DetachedError. */
APR_DECLARE_OPTIONAL_FN(PyObject *, mp_get_request_object, (request_rec *r));
APR_DECLARE_OPTIONAL_FN(PyObject *, mp_get_server_object, (server_rec *s));
APR_DECLARE_OPTIONAL_FN(PyObject *, mp_get_connection_object, (conn_rec *c));

#ifdef __cplusplus
}
#endif

#endif
