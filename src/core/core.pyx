# cython: language_level=3, binding=False, embedsignature=True
# cython: boundscheck=False, wraparound=False, initializedcheck=False
# cython: auto_pickle=False, cdivision=True
# Licensed under the Apache License, Version 2.0; see LICENSE.
"""Python objects over httpd's structures.

This is the extension module ``mod_python._core``.  It can be imported only
inside an httpd child that has loaded mod_python.so.  It holds no policy:
which handler to call, and what an exception means, is decided in
``mod_python._dispatch``.

Rules that every file here keeps:

* A wrapper's pointer is NULL once its record's pool is gone; every access
  checks it (``DetachedError``).
* The GIL is not held over anything that can block.  While it is released the
  record cannot go away, because the wrapper counts its users and detaching
  waits for them.
* No C global holds an object or a pointer: each interpreter imports its own
  copy of this module.
"""

cimport cython
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.buffer cimport (
    PyBUF_READ,
    PyBUF_SIMPLE,
    PyBUF_WRITE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.pycapsule cimport PyCapsule_New, PyCapsule_SetName
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.unicode cimport (
    PyUnicode_AsEncodedString,
    PyUnicode_AsLatin1String,
    PyUnicode_AsUTF8AndSize,
    PyUnicode_DecodeLatin1,
    PyUnicode_DecodeUTF8,
)
from libc.errno cimport (
    EAGAIN,
    ECONNABORTED,
    EINTR,
    EINVAL,
    EISDIR,
    ENOENT,
    ENOTCONN,
    ENOTDIR,
    errno,
)
from libc.stdint cimport uint32_t, uintptr_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport (
    memchr,
    memcpy,
    memmove,
    memset,
    strcmp,
    strlen,
    strncmp,
    strspn,
)

import sys

from httpd cimport *


cdef extern from *:
    """
    /* The object may be dropped early only if nobody else can see it. */
    #define mp_refcnt(o) Py_REFCNT(o)
    /* Whether an object's __dict__ holds anything, without making one. */
    static int has_attributes(PyObject *o)
    {
        PyObject **dict = _PyObject_GetDictPtr(o);
        return dict && *dict && PyDict_Check(*dict) && PyDict_GET_SIZE(*dict) > 0;
    }
    """
    Py_ssize_t mp_refcnt(object)
    bint has_attributes(object)
    int PyObject_GenericSetAttr(object, object, void *) except -1
    void *memmem(const void *, size_t, const void *, size_t) nogil

from mod_python.errors import (
    SERVER_RETURN,
    ConnectionClosed,
    ConnectionTimeout,
    DetachedError,
    IncompleteRead,
    LimitError,
    TLSError,
)
from mod_python._dispatch.handler import intern as intern_handler
from mod_python._dispatch.lines import message_lines
from mod_python._dispatch.once import first_time

include "text.pyx"
include "buffer.pyx"
include "table.pyx"
include "server.pyx"
include "tls.pyx"
include "stream.pyx"
include "tls_stream.pyx"
include "connection_facts.pyx"
include "connection.pyx"
include "hub.pyx"
include "awaitables.pyx"
include "async_stream.pyx"
include "async_connection.pyx"
include "finfo.pyx"
include "request_io.pyx"
include "request_facts.pyx"
include "request.pyx"
include "request_wsgi.pyx"
include "filter.pyx"
include "entry.pyx"
include "services.pyx"
