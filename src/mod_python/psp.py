"""Python Server Pages: HTML with Python in it.

    AddHandler mod_python .psp .psp_
    PythonHandler mod_python.psp

or as templates of a handler:

    from mod_python import apache, psp

    def handler(req):
        req.content_type = "text/html"
        psp.PSP(req, filename="card.html", vars={"title": "Card"}).run({"who": "Ann"})
        return apache.OK

In a page, ``<% … %>`` holds statements, ``<%= … %>`` an expression whose value is sent,
``<%@ include file="…" %>`` stands for another page, and ``<%-- … --%>`` is a comment.  What is
sent is collected as with ``req.write(text, 0)``.
"""

from __future__ import annotations

import os

from mod_python import util
from mod_python._constants import APLOG_ERR, HTTP_NOT_FOUND, OK
from mod_python._dispatch import importer as _importer
from mod_python._psp import generate as _generate
from mod_python._psp import pages as _pages
from mod_python._psp import scanner as _scanner
from mod_python.errors import SERVER_RETURN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

__all__ = ["PSP", "PSPInterface", "handler", "parse", "parsestring"]

#: The PythonOption that makes ``<%= … %>`` escape values for HTML: ``On`` or ``Off``.
AUTOESCAPE = "mod_python.psp.autoescape"

_FLAGS = {"on": True, "1": True, "true": True, "yes": True, "off": False, "0": False, "false": False, "no": False}

_files = _pages.Pages()
_strings = _pages.Pages()


def _autoescape(req: Any) -> bool:
    value = req._option(AUTOESCAPE)  # without making the table of all options
    if value is None:
        return False
    flag = _FLAGS.get(value.lower())
    if flag is None:
        # Taken for Off, a slip of the pen would leave a site without its protection.
        raise ValueError(f"PythonOption {AUTOESCAPE} must be On or Off, not {value!r}")
    return flag


def _form_of(req: Any) -> Any:
    """The form data of a request, which can be read only once."""
    form = getattr(req, "form", None)
    if form is None:
        form = req.form = util.FieldStorage(req, keep_blank_values=1)
    return form


def _own_file(req: Any) -> str:
    """The file of the request."""
    filename: str | None = req.filename
    if filename is None:
        raise ValueError(
            "PSP: httpd looks for no file where SetHandler and PythonHandler stand in <Location>; "
            "use <Directory>, or give PSP() the name of a file"
        )
    return filename


def _directory(req: Any) -> str:
    """What names of files are relative to: the directory of the request's file."""
    filename: str | None = req.filename
    if filename is None:  # where it would be if httpd had looked for it
        return os.path.dirname(f"{req.document_root()}{req.uri}")
    return os.path.dirname(filename)


class PSP:
    """A page, compiled.

    Args:
        req: the request.
        filename: the page's file; a relative one is relative to the directory of
            ``req.filename``.
        string: the page itself; bytes are UTF-8.  With neither, the page is
            ``req.filename``.
        vars: variables of the page.

    Attributes:
        req: the request.
        filename: absolute name of the file, or None for a string.
        vars: the variables.

    Raises:
        ValueError: both `filename` and `string` are given; the PythonOption
            mod_python.psp.autoescape is neither On nor Off.
        SERVER_RETURN: with HTTP_NOT_FOUND, if there is no such file.
        SyntaxError: the page, or the code in it, is not correct.
        OSError: a file cannot be read; for an included one, also if it does not exist.
    """

    def __init__(
        self,
        req: Any,
        filename: str | None = None,
        string: str | bytes | None = None,
        vars: Mapping[str, Any] = {},  # noqa: A002
    ) -> None:
        if filename and string is not None:
            raise ValueError("PSP() takes a file name or a string, not both")
        if string is not None:
            filename = None
        self.req = req
        self.vars = vars
        self.filename: str | None = None
        reload = bool(req.settings[1]) and not _importer.default().frozen
        autoescape = _autoescape(req)
        if string is None:
            if not filename:
                filename = _own_file(req)
            elif not os.path.isabs(filename):
                filename = os.path.join(_directory(req), filename)
            self.filename = filename
        try:
            if filename is None:
                self._page = _strings.string(_scanner.decode(string or ""), _directory(req), autoescape, reload)
            else:
                self._page = _files.file(filename, autoescape, reload)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as exc:
            if exc.filename == filename:
                raise SERVER_RETURN(HTTP_NOT_FOUND) from None
            exc.__traceback__ = None  # as below, for an included file
            raise
        except (OSError, SyntaxError) as exc:
            exc.__traceback__ = None  # how the page is read says nothing about its mistake
            raise

    def run(self, vars: Mapping[str, Any] = {}, flush: int = 0) -> None:  # noqa: A002
        """Execute the page.

        Args:
            vars: more variables; they win over those of the constructor.
            flush: true to flush the output at the end.

        Raises:
            SERVER_RETURN: of the page, or of `psp.redirect`.
            Exception: what the page raises, unless it has set an error page.
        """
        req = self.req
        page = self._page
        interface = PSPInterface(req, self)
        form = None
        if page.uses_form and "form" not in vars and "form" not in self.vars:
            form = _form_of(req)
        made = None
        session = getattr(req, "session", None)
        if session is None and page.uses_session and "session" not in vars and "session" not in self.vars:
            from mod_python.Session import Session

            session = made = req.session = Session(req)
        scope = page.namespace.copy()
        scope["req"] = req
        scope["psp"] = interface
        scope["form"] = form
        scope["session"] = session
        if self.vars:
            scope.update(self.vars)
        if vars:
            scope.update(vars)
        try:
            try:
                exec(page.code, scope)
            except BaseException as exc:
                if len(page.files) > 1 or page.text is not None:
                    _place(exc, page)
                raise
            if flush:
                req.flush()
            if session is not None:
                session.save()
        except SERVER_RETURN:
            raise
        except Exception as exc:
            from mod_python._dispatch.report import client_gone

            if interface.error_page is None or client_gone(exc):
                raise
            interface.error_page.run({"exception": (type(exc), exc, exc.__traceback__)}, flush)
        finally:
            if made is not None:
                made.unlock()
                if getattr(req, "session", None) is made:
                    del req.session

    def display_code(self) -> str:
        """Send an HTML table with the generated Python code and the page side by side.

        Returns:
            an empty string, so that the call can stand in ``<%= … %>``.
        """
        from mod_python._psp import display

        page = self._page
        if page.text is None:
            content, _ = _pages.read_file(page.files[0])
        else:
            content = page.text.encode("utf-8", "surrogateescape")
        directory = os.path.dirname(self.filename) if self.filename else _directory(self.req)
        scanned = _scanner.scan(content, page.files[0], directory, _pages.read_file)
        self.req.write(display.table(scanned, _generate.generate(scanned, _autoescape(self.req))), 0)
        return ""

    def __str__(self) -> str:
        """Run the page as ``text/html``; returns an empty string.

        So a page can be put into another with ``<%= page %>``.
        """
        self.req.content_type = "text/html"
        self.run()
        return ""


def _place(exc: BaseException, page: _pages.Page) -> None:
    """Let the traceback of an exception name the files and show the lines of a page."""
    from mod_python._psp import trace

    if page.text is not None:
        trace.remember(page.files[0], page.text)
    if len(page.files) > 1:
        trace.relocate(exc, page.files)


class PSPInterface:
    """The object `psp` of a page.

    Attributes:
        req: the request.
        filename: name of the page's file, or None.
        error_page: the page that runs after an exception, or None.
    """

    def __init__(self, req: Any, page: PSP) -> None:
        self.req = req
        self.filename = page.filename
        self.error_page: PSP | None = None

    def set_error_page(self, filename: str) -> None:
        """Have another page run if an exception leaves this one.

        It finds ``sys.exc_info()`` of the exception in its variable `exception`, and its
        output comes after what this page has written.  The exception is gone then; log
        it there if it is to be logged.  SERVER_RETURN is no exception in this sense.

        Args:
            filename: the page; with a leading ``/`` relative to the document root,
                else to the directory of this page.

        Raises:
            SERVER_RETURN: with HTTP_NOT_FOUND, if there is no such file.
            SyntaxError: it is not correct.
        """
        if filename.startswith("/"):
            path = self.req.document_root().rstrip("/") + filename
        else:
            directory = os.path.dirname(self.filename) if self.filename else _directory(self.req)
            path = os.path.join(directory, filename)
        try:
            self.error_page = PSP(self.req, path)
        except SERVER_RETURN:
            self.req.log_error(f"psp.set_error_page({filename!r}): there is no file {path}", APLOG_ERR)
            raise

    def apply_data(self, object: Callable[..., Any], **kw: Any) -> Any:  # noqa: A002
        """Call an object with the form's fields as arguments; see `util.apply_fs_data`.

        Args:
            object: what to call.
            **kw: more arguments; they and `req` win over fields of that name.

        Returns:
            its result.
        """
        kw.setdefault("req", self.req)
        return util.apply_fs_data(object, _form_of(self.req), **kw)

    def redirect(self, location: str, permanent: int = 0) -> None:
        """Send the client elsewhere and end the request; see `util.redirect`.

        Args:
            location: where to.
            permanent: true for status 301 in place of 302.

        Raises:
            SERVER_RETURN: always.
            OSError: output was sent already.
        """
        util.redirect(self.req, location, permanent)


def handler(req: Any) -> int:
    """Run the page that was asked for.

    With PythonDebug On a file name that ends in ``_`` means the file without it,
    and its code is shown.
    """
    req.content_type = "text/html"
    filename = _own_file(req)
    if filename.endswith("_") and req.settings[0]:
        PSP(req, filename[:-1]).display_code()
    else:
        PSP(req).run()
    return OK


def parse(filename: str, dir: str | None = None) -> str:  # noqa: A002
    """Return the Python code of a page.

    Args:
        filename: its file.
        dir: put before the name as it is, so it ends with a slash; included files
            are relative to it.  None for the working directory.

    Raises:
        OSError: the file, or one that it includes, cannot be read.
        SyntaxError: the page is not correct.
    """
    path = os.path.abspath((dir or "") + filename)
    content, stamp = _pages.read_file(path)
    scanned = _scanner.scan(content, path, os.path.abspath(dir or ""), _pages.read_file, stamp)
    return _generate.generate(scanned).source()


def parsestring(string: str | bytes) -> str:
    """Return the Python code of a page that is a string; bytes are UTF-8.

    Included files are relative to the working directory.

    Raises:
        OSError: a file that it includes cannot be read.
        SyntaxError: the page is not correct.
    """
    return _generate.generate(_scanner.scan(string, "<psp>", os.getcwd(), _pages.read_file)).source()
