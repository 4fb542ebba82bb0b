# mypy: ignore-errors
"""The hello page for both generations of mod_python."""

from mod_python import apache


def handler(req):
    req.content_type = "text/plain"
    req.write("Hello, world!\n")
    return apache.OK
