"""A board of notes, as a WSGI application: GET shows them, POST adds one.

Nothing here knows of mod_python; any server that speaks WSGI can run it.  It is
mounted below a path, which it learns from SCRIPT_NAME.  The notes live in one
process.
"""

from html import escape
from urllib.parse import parse_qs

LIMIT = 100  # notes; what clients can fill needs a bound
LENGTH = 1000  # bytes of a form

notes = []

PAGE = """<!DOCTYPE html>
<title>Notes</title>
<ul>
{items}</ul>
<form method="post" action="{url}"><input name="note"><button>Add</button></form>
"""


def application(environ, start_response):
    url = environ["SCRIPT_NAME"] or "/"
    if environ["PATH_INFO"] not in ("", "/"):
        return answer(start_response, "404 Not Found", "There is only one page.\n")
    if environ["REQUEST_METHOD"] == "POST":
        body = environ["wsgi.input"].read(LENGTH + 1)
        if len(body) > LENGTH:
            return answer(start_response, "413 Content Too Large", "A note is short.\n")
        notes.extend(parse_qs(body.decode("ascii", "replace")).get("note", []))
        del notes[:-LIMIT]
        return answer(start_response, "303 See Other", "", ("Location", url))
    items = "".join(f"<li>{escape(note)}</li>\n" for note in notes)
    return answer(start_response, "200 OK", PAGE.format(items=items, url=escape(url)), kind="text/html")


def answer(start_response, status, text, *headers, kind="text/plain"):
    start_response(status, [("Content-Type", f"{kind}; charset=utf-8"), *headers])
    return [text.encode()]
