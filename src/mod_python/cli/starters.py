"""The small programs that ``mod_python create`` puts into a new project, and its README."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["README", "Starter", "starter_for"]

README = """\
A web server of its own, with Python in it: Apache httpd and mod_python.

    mod_python start {config}
    mod_python status {config}
    mod_python restart {config}
    mod_python stop {config}

It answers at {url}; {code} is what answers.

conf/httpd_conf.py   the configuration, as a Python program: change it there, and then
                     mod_python genconfig {program} \\
                         > {config}
                     mod_python restart {config}
conf/httpd.conf      what it prints; httpd reads this file. Changes in it are lost.
public/              the files that are served: pictures, styles and the like as they are
logs/error_log       look here first when something does not work
logs/access_log      every request
"""


@dataclass(frozen=True, slots=True)
class Starter:
    """A file to begin with.

    Attributes:
        directory: Where it goes, in the project: ``public`` or ``app``. Code that is not to be
            downloaded, whatever the configuration, is in ``app``.
        name: Its name.
        text: What is in it.
        option: Value of a `PythonOption` that it needs, or "".
    """

    directory: str
    name: str
    text: str
    option: str = ""


_PUBLISHER = '''\
"""Pages: each function here that is marked with @publish has a URL of its own.

http://HOST:PORT/ is index, http://HOST:PORT/hello?name=Ada is hello.
"""

from html import escape

from mod_python.publisher import publish


@publish
def index(req):
    req.content_type = "text/html; charset=utf-8"
    return "<h1>It works</h1><p>Next: <a href='hello?name=Ada'>hello</a></p>"


@publish
def hello(req, name="world"):
    req.content_type = "text/html; charset=utf-8"
    return f"<p>Hello, {escape(name)}!</p>"


def not_a_page():
    """Without the mark: other functions can use it, clients cannot."""
'''

_PSP = """\
<%
# Python between these marks is run for every request.
from html import escape
name = form.getfirst("name", "world")
%>
<!DOCTYPE html>
<html lang="en">
<title>Hello</title>
<h1>It works</h1>
<p>Hello, <%= escape(name) %>!</p>
<p><a href="index.psp?name=Ada">Next</a></p>
</html>
"""

_WSGI = '''\
"""A WSGI application; put that of Flask, Django or another framework in its place."""


def {name}(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [b"It works: " + environ["PATH_INFO"].encode("latin-1") + b"\\n"]
'''

_HANDLER = '''\
"""The handler of this site: every request comes here."""

from mod_python import apache


def {name}(req):
    req.content_type = "text/plain; charset=utf-8"
    req.write(f"It works: {{req.uri}}\\n")
    return apache.OK
'''


def starter_for(wanted: str, pythonhandler: str) -> Starter | None:
    """Choose what a new project begins with.

    Args:
        wanted: The handler; or with mod_python.wsgi the application, as ``module::name``.
        pythonhandler: Value of ``PythonHandler``.

    Returns:
        The starter, or None if there is none for such a handler.
    """
    if pythonhandler == "mod_python.publisher":
        return Starter("public", "index.py", _PUBLISHER, "mod_python.publisher.marked_only On")
    if pythonhandler == "mod_python.psp":
        return Starter("public", "index.psp", _PSP)
    module, _, name = wanted.partition("::")
    if not re.fullmatch(r"[^\W\d]\w*", module) or (name and not re.fullmatch(r"[^\W\d]\w*", name)):
        return None  # in a package, a path, several handlers: not for us to make
    if pythonhandler == "mod_python.wsgi":
        name = name or "application"
        return Starter("app", f"{module}.py", _WSGI.format(name=name), f"mod_python.wsgi.application {module}::{name}")
    return Starter("app", f"{module}.py", _HANDLER.format(name=name or "handler"))
