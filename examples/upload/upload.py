"""A form with a file: what was sent is told again, with the file's digest."""

import hashlib
import html

from mod_python import apache, util

FORM = """<!DOCTYPE html>
<title>Upload</title>
<form method="post" enctype="multipart/form-data">
<p><label>Your name <input name="name"></label>
<p><label>Files <input type="file" name="files" multiple></label>
<p><button>Send</button>
</form>
"""


def digest(file):
    """Read a file in pieces, whatever its size."""
    found = hashlib.sha256()
    size = 0
    while piece := file.read(65536):
        found.update(piece)
        size += len(piece)
    return size, found.hexdigest()


def answer(form):
    name = form.getfirst("name") or "nobody"
    yield f"<!DOCTYPE html>\n<title>Upload</title>\n<p>Thank you, {html.escape(name)}.\n"
    for field in form.getlist("files"):
        # Without a file the browser sends an empty value.
        if isinstance(field, util.Field):
            size, hexdigest = digest(field.file)
            yield f"<p>{html.escape(field.filename)}: {size} bytes, SHA-256 {hexdigest}\n"


def handler(req):
    if req.method not in ("GET", "POST"):
        return apache.HTTP_METHOD_NOT_ALLOWED
    req.form = util.FieldStorage(req)
    req.content_type = "text/html; charset=utf-8"
    if req.method == "GET":
        req.write(FORM)
        return apache.OK
    for text in answer(req.form):
        # A file name may have bytes that are no UTF-8.
        req.write(text.encode("utf-8", "replace"), 0)
    return apache.OK
