"""A guestbook, by the publisher: one function for each URL.

    /        the page           /sign    takes the form
    /count   how many there are /clear   empties it, for the owner

The entries live in this module, and so in one process, until it is loaded again.
"""

import hmac
from html import escape

from mod_python import apache, util
from mod_python.publisher import publish

MOST = 1000  # what clients can fill needs a bound
LONGEST = 500

entries = []


def is_owner(req, user, password):
    expected = req.get_options().get("guestbook.password", "")
    return bool(expected) and user == "owner" and hmac.compare_digest(password.encode(), expected.encode())


@publish
def index(req):
    items = "".join(f"<li><strong>{escape(name)}</strong>: {escape(text)}</li>\n" for name, text in entries)
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Guestbook</title></head><body>
<h1>Guestbook</h1>
<ul>
{items}</ul>
<form method="post" action="sign">
<input name="name" placeholder="Your name" required> <input name="text" placeholder="Your message" required>
<button>Sign</button>
</form>
</body></html>
"""


@publish
def sign(req, name, text):
    if req.method != "POST":
        return util.redirect(req, "/")
    if not name.strip() or len(name) + len(text) > LONGEST:
        req.status = apache.HTTP_BAD_REQUEST
        return f"A name, please, and no more than {LONGEST} characters\n"
    entries.insert(0, (name.strip(), text.strip()))
    del entries[MOST:]
    return util.redirect(req, "/")


@publish
def count(req):
    return f"{len(entries)}\n"


@publish(auth=is_owner, realm="Guestbook")
def clear(req):
    entries.clear()
    return f"Cleared by {req.user}\n"
