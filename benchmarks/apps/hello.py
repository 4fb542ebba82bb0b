# mypy: ignore-errors
"""The hello page for both generations of mod_python: queued, and flushed at once."""

from mod_python import apache


def handler(req):
    req.content_type = "text/plain"
    req.write("Hello, world!\n", 0)
    return apache.OK


def flushed(req):
    req.content_type = "text/plain"
    req.write("Hello, world!\n")
    return apache.OK
