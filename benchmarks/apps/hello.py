# mypy: ignore-errors
"""The hello page for both generations of mod_python: queued, flushed at once, and after waiting for something."""

import time

from mod_python import apache


def handler(req):
    req.content_type = "text/plain"
    req.write("Hello, world!\n", 0)
    return apache.OK


def flushed(req):
    req.content_type = "text/plain"
    req.write("Hello, world!\n")
    return apache.OK


def waiting(req):
    time.sleep(0.005)  # as for a database
    req.content_type = "text/plain"
    req.write("Hello, world!\n", 0)
    return apache.OK
