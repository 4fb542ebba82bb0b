"""A counter of visits, one for each browser: the smallest use of sessions."""

from mod_python import Session, apache


def handler(req):
    session = Session.Session(req)
    session["visits"] = session.get("visits", 0) + 1
    session.save()

    req.content_type = "text/plain; charset=utf-8"
    req.headers_out["Cache-Control"] = "no-store"
    req.write(f"This is your visit number {session['visits']}.\n")
    return apache.OK
