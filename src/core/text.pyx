# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# Text and bytes: the one place where httpd's strings become Python's.
#
#   headers, tables      str through Latin-1: every byte is a character, so
#                        any value can be read and goes back unchanged
#   URIs, file names     UTF-8 with surrogateescape: other bytes survive as
#                        lone surrogates, as in os.fsdecode()
#   log messages         UTF-8; what cannot be encoded is shown escaped
#
# Nothing with a NUL becomes a C string: it would silently end there.

cdef enum:
    # Characters that fit into a log line however they are escaped (see
    # mod_python._dispatch.lines, which splits what is longer).
    LOG_SHORT = 400


cdef str latin1(const char *s):
    """A str of an httpd string, or None for NULL."""
    if s == NULL:
        return None
    return PyUnicode_DecodeLatin1(s, strlen(s), NULL)


cdef str path_text(const char *s):
    """A str of a URI or file name, or None for NULL."""
    if s == NULL:
        return None
    return PyUnicode_DecodeUTF8(s, strlen(s), "surrogateescape")


cdef bytes no_nul(bytes value):
    if memchr(PyBytes_AS_STRING(value), 0, PyBytes_GET_SIZE(value)) != NULL:
        raise ValueError("embedded null byte")
    return value


cdef bytes latin1_bytes(object value):
    """Bytes of a header or table string.

    Raises:
        TypeError: not str or bytes, or a character above U+00FF.
        ValueError: a NUL inside.
    """
    if isinstance(value, str):
        try:
            return no_nul(PyUnicode_AsLatin1String(value))
        except UnicodeEncodeError:
            raise TypeError("not an ISO-8859-1 string: %.60r" % value) from None
    if isinstance(value, bytes):
        return no_nul(value)
    raise TypeError("expected str or bytes, not %s" % type(value).__name__)


cdef bint has_line_end(bytes text):
    """Whether a CR or LF is in text that is to become part of a header."""
    return memchr(PyBytes_AS_STRING(text), 10, PyBytes_GET_SIZE(text)) != NULL \
        or memchr(PyBytes_AS_STRING(text), 13, PyBytes_GET_SIZE(text)) != NULL


cdef bytes path_bytes(object value):
    """Bytes of a URI or file name given as str or bytes."""
    if isinstance(value, str):
        return no_nul(PyUnicode_AsEncodedString(value, "utf-8", "surrogateescape"))
    if isinstance(value, bytes):
        return no_nul(value)
    raise TypeError("expected str or bytes, not %s" % type(value).__name__)


cdef bytes log_bytes(object message):
    """Bytes of a log message; never fails for a str."""
    cdef bytes text
    if isinstance(message, bytes):
        text = message
    else:
        text = str(message).encode("utf-8", "backslashreplace")
    if memchr(PyBytes_AS_STRING(text), 0, PyBytes_GET_SIZE(text)) != NULL:
        text = text.replace(b"\0", b"\\x00")
    return text


cdef list log_lines_of(object message):
    """Bytes of the log lines of a message: httpd cuts a line off at 8 KiB."""
    cdef str text
    if isinstance(message, bytes):
        text = (<bytes> message).decode("utf-8", "backslashreplace")
    else:
        text = str(message)
    if len(text) <= LOG_SHORT and "\n" not in text:
        return [log_bytes(text)]
    return [log_bytes(line) for line in message_lines(text)]


cdef object seconds_of(apr_interval_time_t t):
    """APR's microseconds as float seconds."""
    return t / 1e6
