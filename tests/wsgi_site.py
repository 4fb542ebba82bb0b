"""The applications and the configuration of `test_wsgi`.

`PAGES` is one application: the first component of the path names the function that answers.
"""

from __future__ import annotations

PAGES = r'''
import io
import os
import sys
import tempfile
import threading
from wsgiref.validate import validator

TEXT = [("Content-Type", "text/plain")]
kept = {}

def show(value):
    return [repr(value).encode("ascii", "backslashreplace")]

def environment(environ, start_response):
    start_response("200 OK", TEXT)
    return show({name: value if isinstance(value, (str, bool, tuple)) else str(type(value).__name__)
                 for name, value in environ.items()})

def facts(environ, start_response):
    start_response("200 OK", TEXT)
    return show({
        "errors": environ["wsgi.errors"] is sys.stderr,
        "exact": type(environ) is dict and all(type(key) is str for key in environ),
        "values": [key for key, value in environ.items() if not key.startswith("wsgi.") and type(value) is not str],
        "methods": [hasattr(environ["wsgi.input"], name) for name in ("read", "readline", "readlines", "__iter__")],
        "path_info": environ["wsgi.input"].path_info,
        "body": environ["wsgi.input"].read(),
    })

def errors(environ, start_response):
    stream = environ["wsgi.errors"]
    stream.write("written to wsgi.errors\n")
    stream.writelines(["a line\n", "another line\n"])
    stream.flush()
    start_response("200 OK", TEXT)
    return [b"ok"]

def strings(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "8")])
    return ["caf\xe9", " ", "old"]

def snowman(environ, start_response):
    start_response("200 OK", TEXT)
    return ["\u2603"]

def ints(environ, start_response):
    start_response("200 OK", TEXT)
    return b"bytes"

def status(environ, start_response):
    start_response(environ["QUERY_STRING"].replace("+", " "), [*TEXT, ("X-One", "1"), ("Set-Cookie", "a=1"),
                   ("Set-Cookie", "b=2")])
    return [b"body"]

def twice(environ, start_response):
    start_response("200 OK", TEXT)
    try:
        start_response("404 Not Found", TEXT)
    except RuntimeError as exc:
        return [str(exc).encode()]

def replaced(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/html"), ("X-Old", "1"), ("Content-Length", "999"),
                   ("X-Both", "old")])
    try:
        raise ValueError("too late to be good")
    except ValueError:
        start_response("503 Not Today", [*TEXT, ("X-Both", "new")], sys.exc_info())
    return [b"replaced"]

def sent(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"sent")
    try:
        raise ValueError("cannot be replaced")
    except ValueError:
        try:
            start_response("500 Oops", TEXT, sys.exc_info())
        except ValueError as exc:
            yield (" " + str(exc)).encode()

def write(environ, start_response):
    write = start_response("200 OK", TEXT)
    assert write(b"one ") is None
    write(b"")
    write(b"two ")
    return [b"three"]

def write_too_much(environ, start_response):
    write = start_response("200 OK", [*TEXT, ("Content-Length", "4")])
    write(b"1234")
    try:
        write(b"5")
    except ValueError as exc:
        kept["write"] = str(exc)
    return []

def kept_values(environ, start_response):
    start_response("200 OK", TEXT)
    return show({name: value for name, value in kept.items() if name != "file"})

class Closing:
    def __init__(self, parts, name, error=None):
        self.parts = iter(parts)
        self.name = name
        self.error = error
    def __iter__(self):
        return self
    def __next__(self):
        return next(self.parts)
    def close(self):
        kept.setdefault(self.name, []).append("closed")
        if self.error:
            raise self.error

def closing(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing([b"a", b"", b"b"], "closing")

def closing_fails(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing([b"whole"], "closing_fails", ValueError("close failed"))

def broken(environ, start_response):
    start_response("200 OK", [*TEXT, ("X-Mine", "1")])
    def parts():
        if environ["QUERY_STRING"]:
            yield b"begun"
        raise ValueError("the body broke")
    return Closing(parts(), "broken" + environ["QUERY_STRING"])

def fails(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/x-mine"), ("Content-Length", "3")])
    raise ValueError("the application broke")

def no_start(environ, start_response):
    return [b"x"] if environ["QUERY_STRING"] else []

def late_start(environ, start_response):
    yield b""
    start_response("202 Late", TEXT)
    yield b""
    yield b"late"

def too_long(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    def parts():
        yield b"123"
        yield b"4567"
        raise ValueError("must not be asked for")
    return Closing(parts(), "too_long") if environ["QUERY_STRING"] else [b"123", b"4567", b"8"]

def too_short(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return iter([b"123"]) if environ["QUERY_STRING"] else [b"123"]

def large_list(environ, start_response):
    start_response("200 OK", TEXT)
    return [b"%099d\n" % number for number in range(30000)] + [b"x" * 200000]

def large_parts(environ, start_response):
    start_response("200 OK", TEXT)
    for number in range(30):
        yield b"%09d\n" % number * 10000

def endless(environ, start_response):
    start_response("200 OK", TEXT)
    def parts():
        while True:
            yield b"more"
    return Closing(parts(), "endless" + environ["QUERY_STRING"])

go_on = threading.Event()

def streamed(environ, start_response):
    start_response("200 OK", TEXT)
    go_on.clear()
    yield b"first"
    go_on.wait(30)
    yield b"second"

def streamed_write(environ, start_response):
    write = start_response("200 OK", TEXT)
    go_on.clear()
    write(b"first")
    go_on.wait(30)
    return [b"second"]

def release(environ, start_response):
    start_response("204 No Content", [])
    go_on.set()
    return []

def echo(environ, start_response):
    start_response("200 OK", TEXT)
    data = environ["wsgi.input"]
    how = environ["QUERY_STRING"]
    if how == "read":
        return [data.read()]
    if how == "pieces":
        return list(iter(lambda: data.read(1000), b""))
    if how == "lines":
        return [b"[" + line + b"]" for line in data]
    if how == "readlines":
        return [b"<" + line + b">" for line in data.readlines()]
    if how == "readline":
        return [b"(" + line + b")" for line in iter(lambda: data.readline(4), b"")]
    return show((environ.get("CONTENT_LENGTH"), environ.get("CONTENT_TYPE"), environ.get("HTTP_TRANSFER_ENCODING"),
                 environ["wsgi.input_terminated"], len(data.read())))

def types(environ, start_response):
    """What the arguments of start_response are checked for."""
    class L(list):
        pass
    cases = {
        "tuple": ("200 OK", (("A", "b"),)), "pairs": ("200 OK", [["A", "b"]]), "three": ("200 OK", [("A", "b", "c")]),
        "bytes": ("200 OK", [("A", b"b")]), "name": ("200 OK", [(b"A", "b")]), "number": (200, []),
        "status_bytes": (b"200 OK", []), "wide": ("200 OK", [("A", "\u20ac")]),
        "word": ("OK", []), "low": ("099 Low", []), "high": ("600 High", []), "joined": ("200OK", []),
        "control": ("200 O\nK", []), "empty": ("", []),
        "cr": ("200 OK", [("A", "b\rc")]), "lf": ("200 OK", [("A", "b\nSet-Cookie: x")]),
        "nul": ("200 OK", [("A", "b\0")]), "esc": ("200 OK", [("A", "b\x1b")]),
        "colon": ("200 OK", [("A:", "b")]), "blank": ("200 OK", [("A b", "c")]), "no_name": ("200 OK", [("", "b")]),
        "hop": ("200 OK", [("Transfer-Encoding", "chunked")]), "hop2": ("200 OK", [("connection", "close")]),
        "status": ("200 OK", [("Status", "200 OK")]), "length": ("200 OK", [("Content-Length", "-1")]),
        "length2": ("200 OK", [("Content-Length", "ten")]), "exc": ("200 OK", [], "no tuple"),
    }
    found = {}
    for name, args in cases.items():
        try:
            start_response(*args)
            found[name] = None
        except Exception as exc:
            found[name] = type(exc).__name__
    start_response("200 OK", L([*TEXT, ("X-Tab", "a\tb")]))
    return show(found)

def no_type(environ, start_response):
    start_response("200 OK", [("X-A", "b")])
    return [b"whatever"]

def no_content(environ, start_response):
    start_response(environ["QUERY_STRING"], [("X-A", "b")])
    return Closing([b"not sent"] * 3, "no_content")

class Class:
    def __init__(self, environ, start_response):
        start_response("200 OK", TEXT)
    def __iter__(self):
        yield b"a class"

def stop(environ, start_response):
    from mod_python import apache
    raise apache.SERVER_RETURN(apache.HTTP_FORBIDDEN)

FILE = os.path.join(os.path.dirname(__file__), "data.bin")

class Unpacker:
    """Has the file descriptor of what it reads, and something else to say."""
    def __init__(self, packed):
        self.fileno, self.close, self.packed = packed.fileno, packed.close, packed
        self.rest = packed.read().replace(b"packed", b"unpacked")
    def read(self, size):
        data, self.rest = self.rest[:size], self.rest[size:]
        return data
    closed = property(lambda self: self.packed.closed)

def unpacking(how, file):
    """A file-like object over an open file, with other bytes than that."""
    import bz2, gzip, lzma, zipfile
    if how == "own":
        return Unpacker(file)
    if how == "zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("member", b"unpacked")
        return zipfile.ZipFile(file).open("member")
    module = {"gzip": gzip, "bz2": bz2, "lzma": lzma}[how]
    file.write(module.compress(b"unpacked"))
    file.seek(0)
    # The mode is that of the file otherwise: from Python 3.15 on, one for writing.
    return module.open(file, "rb")

def file(environ, start_response):
    how = environ["QUERY_STRING"]
    source = open(FILE, "rb")
    headers = list(TEXT)
    if how == "offset":
        source.read(10)
    elif how == "limited":
        source.seek(5)
        headers.append(("Content-Length", "7"))
    elif how == "unbuffered":
        source = open(FILE, "rb", buffering=0)
    elif how == "end":
        source.seek(0, 2)
    elif how == "beyond":
        source.seek(10**6)
    elif how == "bytesio":
        source = io.BytesIO(b"from memory" * 1000)
    elif how in ("gzip", "bz2", "lzma", "zip", "own"):
        source = tempfile.TemporaryFile()
        source.write(b"packed")
        source.seek(0)
        source = unpacking(how, source)
    elif how == "temporary":
        source = tempfile.NamedTemporaryFile()
        source.write(b"0123456789 temporary")
        source.seek(11)
    elif how == "deleted":
        source = tempfile.TemporaryFile()
        source.write(b"has no name")
        source.seek(0)
    elif how == "iterated":
        start_response("200 OK", headers)
        return (part.upper() for part in environ["wsgi.file_wrapper"](source, 3))
    elif how == "pipe":
        reading, writing = os.pipe()
        os.write(writing, b"from a pipe")
        os.close(writing)
        source = open(reading, "rb")
    elif how == "short":
        headers.append(("Content-Length", "2000"))
    kept["file"] = source
    start_response("200 OK", headers)
    return environ["wsgi.file_wrapper"](source)

def file_closed(environ, start_response):
    start_response("200 OK", TEXT)
    return show(kept["file"].closed)

def own_headers(environ, start_response):
    start_response("200 OK", [*TEXT, ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("Server", "mine"), ("ETag", '"x"'),
                   ("Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT"), ("Vary", "a"), ("Vary", "b")])
    return [b"body"]

@validator
def valid(environ, start_response):
    """Everything that the standard library can check."""
    data = environ["wsgi.input"]
    how = environ["QUERY_STRING"]
    environ["wsgi.errors"].write("")
    if how == "file":
        body = environ["wsgi.file_wrapper"](open(FILE, "rb"))
    elif how == "lines":
        body = [b"%d" % len(list(data))]
    elif how == "readline":
        body = [data.readline(), data.readline(3)]
    elif how == "readlines":
        body = data.readlines()
    elif how == "large":
        body = (b"x" * 100000 for _ in range(50))
    elif how == "write":
        write = start_response("200 OK", TEXT)
        write(b"written ")
        return [b"returned"]
    elif how == "replace":
        start_response("200 OK", TEXT)
        try:
            raise ValueError
        except ValueError:
            start_response("500 Replaced", TEXT, sys.exc_info())
        return [b"replaced"]
    elif how == "nothing":
        start_response("204 No Content", [])
        return []
    elif how == "close":
        body = Closing([b"good"], "valid", ValueError("the validator saw close fail"))
    else:
        body = [b"read ", b"%d" % len(data.read(10**7))]
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return body

def application(environ, start_response):
    return globals()[environ["PATH_INFO"].split("/")[1]](environ, start_response)
'''

NESTED = """
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [__name__.encode(), b" ", environ["SCRIPT_NAME"].encode(), b"|", environ["PATH_INFO"].encode("latin-1")]

class Holder:
    call = staticmethod(application)

number = 3
"""

CONFIG = """
PythonPath "sys.path+['${SITE}']"
SetHandler mod_python
PythonHandler mod_python.wsgi
PythonOption mod_python.wsgi.application pages
DocumentRoot "${SITE}/docs"
<Directory "${SITE}/docs">
    Require all granted
</Directory>
<Location "/foo">
    PythonOption mod_python.wsgi.application nested::application
</Location>
<Location "/foo/slash/">
    PythonHandler mod_python.wsgi
</Location>
<Location "/dotted">
    PythonHandler mod_python.wsgi
    PythonOption mod_python.wsgi.application package.inner::Holder.call
</Location>
<Location "/path">
    PythonOption mod_python.wsgi.application ${SITE}/apps/other.py
</Location>
<Location "/missing">
    PythonOption mod_python.wsgi.application ""
</Location>
<Location "/nowhere">
    PythonOption mod_python.wsgi.application no_such_package.app
</Location>
<Location "/nofile">
    PythonOption mod_python.wsgi.application ${SITE}/apps/none.py
</Location>
<Location "/noname">
    PythonOption mod_python.wsgi.application nested::nothing
</Location>
<Location "/number">
    PythonOption mod_python.wsgi.application nested::number
</Location>
<Location "/syntax">
    PythonOption mod_python.wsgi.application faulty
</Location>
<Location "/needs">
    PythonOption mod_python.wsgi.application needing
</Location>
<LocationMatch "^/(base|bases|other)">
    PythonOption mod_python.wsgi.application nested
    PythonOption mod_python.wsgi.base_uri /base
</LocationMatch>
<Location "/badbase">
    PythonOption mod_python.wsgi.base_uri /badbase/
</Location>
<Location "/slashbase">
    PythonOption mod_python.wsgi.base_uri /
</Location>
<LocationMatch "^/match/[a-z]+">
    PythonHandler mod_python.wsgi
    PythonOption mod_python.wsgi.application nested
</LocationMatch>
<Directory "${SITE}/docs/app">
    Require all granted
    PythonPath sys.path
    PythonHandler mod_python.wsgi
    PythonOption mod_python.wsgi.application beside
</Directory>
SetEnvIf X-Forwarded-Proto https HTTPS=on
SetEnv FROM_CONFIG "set by SetEnv"
AddEncoding x-gzip .gz
AddType text/css .css
AddLanguage de .de
"""

FILES: dict[str, str | bytes] = {
    "pages.py": PAGES,
    "nested.py": NESTED,
    "package/__init__.py": "",
    "package/inner.py": NESTED,
    "apps/other.py": NESTED,
    "faulty.py": "def application(:\n",
    "needing.py": "import not_installed_anywhere\n",
    "data.bin": b"0123456789" * 100,
    "docs/missing/page.txt": "declined",
    "docs/nowhere/page.txt": "declined",
    "docs/nofile/page.txt": "declined",
    "docs/noname/page.txt": "declined",
    "docs/bases/page.txt": "declined",
    "docs/other/page.txt": "declined",
    "docs/app/beside.py": NESTED,
    "docs/app/page.txt": "hidden",
}
