# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# A byte buffer for input: what httpd delivered beyond what was asked.  Plain
# memory, filled and searched without the GIL.  Data lies in [pos, end).

cdef enum:
    # One read of httpd's core filter brings at most 8000 bytes; a page more
    # than that is never needed for small messages.
    BUFFER_START = 8192
    # A buffer that grew for one long message is given back when it is empty.
    BUFFER_KEEP = 65536


cdef struct Buffer:
    char *data
    size_t pos
    size_t end
    size_t cap


cdef inline size_t buffer_len(Buffer *b) noexcept nogil:
    return b.end - b.pos


cdef int buffer_room(Buffer *b, size_t n) noexcept nogil:
    """Make room for n more bytes; -1 if memory ran out."""
    cdef size_t used = b.end - b.pos
    cdef size_t cap = b.cap
    cdef char *data
    if b.cap - b.end >= n:
        return 0
    if b.pos and used + n <= b.cap and used <= b.cap // 2:
        memmove(b.data, b.data + b.pos, used)
        b.pos = 0
        b.end = used
        return 0
    if cap < BUFFER_START:
        cap = BUFFER_START
    while cap - used < n:
        if cap > (<size_t> -1) // 4:
            return -1
        cap *= 2
    data = <char *> malloc(cap)
    if data == NULL:
        return -1
    if used:
        memcpy(data, b.data + b.pos, used)
    free(b.data)
    b.data = data
    b.cap = cap
    b.pos = 0
    b.end = used
    return 0


cdef int buffer_add(Buffer *b, const char *data, size_t n) noexcept nogil:
    if buffer_room(b, n) < 0:
        return -1
    memcpy(b.data + b.end, data, n)
    b.end += n
    return 0


cdef inline void buffer_skip(Buffer *b, size_t n) noexcept nogil:
    b.pos += n
    if b.pos == b.end:
        b.pos = b.end = 0
        if b.cap > BUFFER_KEEP:
            free(b.data)
            b.data = NULL
            b.cap = 0


cdef void buffer_free(Buffer *b) noexcept nogil:
    free(b.data)
    b.data = NULL
    b.pos = b.end = b.cap = 0


cdef bytes buffer_take(Buffer *b, size_t n):
    """The first n bytes, taken out."""
    cdef bytes result = PyBytes_FromStringAndSize(b.data + b.pos, n)
    buffer_skip(b, n)
    return result
