"""A page in plain text: the smallest request handler."""

from mod_python import apache


def handler(req):
    req.content_type = "text/plain; charset=utf-8"
    req.write("Hello, world!\n")
    return apache.OK
