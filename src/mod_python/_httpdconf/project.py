"""The first configuration of a project: a Python program that prints it."""

from __future__ import annotations

import mimetypes
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mod_python import version
from mod_python._httpdconf import directives as d
from mod_python._httpdconf.tree import Comment, Container, Node

if TYPE_CHECKING:
    from mod_python.httpd.find import Httpd
    from mod_python.httpd.users import User

__all__ = ["quote_if_space", "write_basic_config"]

# What configurations of a site or two use; what a build does not have is left out.
_MODULES = (
    *("authn_file", "authn_core", "authz_host", "authz_groupfile", "authz_user", "authz_core", "access_compat"),
    *("auth_basic", "reqtimeout", "include", "filter", "mime", "log_config", "env", "headers", "setenvif"),
    *("version", "unixd", "status", "autoindex", "dir", "alias"),
)

# Names of files that hold code, or did until an editor kept a copy: never sent as they are.
_CODE = r"\.(py[a-z0-9]?|psp|inc)([^a-z0-9/].*)?$|~$|\.(bak|orig|rej|save|swo|swp)$"
# What is below a directory or file whose name begins with a dot, but for that of RFC 8615.
_DOTTED = r"/\.(?!well-known/)"

_COMBINED = r'"%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-Agent}i\"" combined'

_HEAD = """\
#!{python}
#
# The configuration of this server, as a Python program.  Change it here, and make httpd's
# file from it anew:
#
#     {genconfig}
#
# The file that comes out is overwritten each time, so changes there are lost; changes here stay.
# What can stand here: pydoc mod_python.httpdconf

from mod_python.httpdconf import *

config = """


def quote_if_space(s: str) -> str:
    """Put a value into double quotes if it contains a space.

    Args:
        s: The value; quotes in it are left as they are.
    """
    return f'"{s}"' if " " in s else s


def write_basic_config(
    server_root: str | os.PathLike[str],
    listen: str = "0.0.0.0:8888",
    conf: str = "conf",
    logs: str = "logs",
    htdocs: str = "public",
    pythonhandler: str = "mod_python.publisher",
    pythonpath: Sequence[str] = (),
    pythonoptions: Sequence[str] = (),
    mp_comments: Sequence[str] = (),
    conf_name: str = "httpd_conf.py",
    createdirs: bool = True,
    replace_config: bool = False,
    *,
    httpd: Httpd | None = None,
    mpm: str | None = None,
    user: User | None = None,
) -> str | None:
    """Make a server root for one project, with a configuration program in it.

    Warnings and progress go to standard error.

    Args:
        server_root: Its directory; made if it is missing, but its parent must be there.
        listen: Value of ``Listen``.
        conf, logs, htdocs: Names of the directories for configuration, logs and documents.
        pythonhandler: Value of ``PythonHandler``.
        pythonpath: Directories to put behind ``sys.path``.
        pythonoptions: Values of ``PythonOption`` lines.
        mp_comments: Comments to put behind them.
        conf_name: Name of the program, in `conf`.
        createdirs: Make the directories, and copy ``mime.types``.
        replace_config: Overwrite a program that is there.
        httpd: The httpd to write for; None for the one that `find_httpd` finds.
        mpm: ``"event"``, ``"worker"`` or ``"prefork"``; None for the best that this httpd has.
        user: Whom httpd's children run as. If None: www-data or the like for root, else oneself.

    Returns:
        The path of the program, or None if there is one already.

    Raises:
        ConfigError: A value cannot stand in a configuration, or httpd has no such MPM.
        HttpdNotFoundError: There is no httpd.
        OSError: Something could not be made.
    """
    from mod_python.httpd.find import find_httpd
    from mod_python.httpd.users import find_user

    root = Path(os.path.abspath(server_root))
    program = root / conf / conf_name
    if program.exists() and not replace_config:
        _say(f"Error: {program} exists already; nothing was changed. Remove it, or choose another directory.")
        return None
    build = httpd if httpd is not None else find_httpd()
    child = user if user is not None else find_user()
    options = _Options(root, listen, conf, logs, htdocs, pythonhandler, pythonpath, pythonoptions, mp_comments)
    tree = options.tree(program, build, mpm, child)
    if createdirs:
        for directory in (root, root / htdocs, root / conf, root / logs):
            _make_directory(directory)
        _make_mime_types(root / conf / "mime.types", build)
    else:
        for path, what in ((root / htdocs, "document root"), (root / conf / "mime.types", "file of content types")):
            if not path.exists():
                _say(f"Warning: {path} does not exist: it is the {what}")
    text = _HEAD.format(
        python=version.PYTHON_BIN or sys.executable,
        genconfig=f"mod_python genconfig {program} > {program.with_name('httpd.conf')}",
    )
    program.write_text(f"{text}{tree!r}\n\nprint(config)\n", encoding="utf-8")
    program.chmod(program.stat().st_mode | 0o111)
    _say(f"Made {program}")
    return str(program)


class _Options:
    """What the configuration is about."""

    def __init__(
        self,
        root: Path,
        listen: str,
        conf: str,
        logs: str,
        htdocs: str,
        handler: str,
        path: Sequence[str],
        options: Sequence[str],
        comments: Sequence[str],
    ) -> None:
        self.root, self.conf, self.logs, self.htdocs = root, conf, logs, htdocs
        self.listen = _one_line(listen, "Listen")
        self.handler = _one_line(handler, "PythonHandler")
        self.path = path
        self.options = [_one_line(option, "PythonOption") for option in options]
        self.comments = comments

    def tree(self, program: Path, httpd: Httpd, mpm: str | None, user: User | None) -> Container:
        """Return the configuration."""
        return Container(
            Comment(
                f"Written by the program {program}; changes here are lost.\n"
                "Change that program, and run it with mod_python genconfig.\n"
            ),
            _modules(httpd, mpm),
            self._main(user),
            self._python(),
        )

    def _main(self, user: User | None) -> Container:
        from mod_python.httpd.config import HANDSHAKE_SECONDS

        main = Container(
            Comment("The server"),
            d.ServerRoot(_path(self.root)),
            d.PidFile(_path(f"{self.logs}/httpd.pid")),
            d.DefaultRuntimeDir(_path(self.logs)),
            d.ServerName("127.0.0.1"),
            d.Listen(self.listen),
            d.DocumentRoot(_path(self.root / self.htdocs)),
            Comment("Else httpd looks for .htaccess files, and one that is uploaded makes a directory fail"),
            d.Directory("/", d.AllowOverride("None")),
            d.TypesConfig(_path(f"{self.conf}/mime.types")),
            d.LogFormat(_COMBINED),
            d.CustomLog(f"{_path(f'{self.logs}/access_log')} combined"),
            d.ErrorLog(_path(f"{self.logs}/error_log")),
            d.LogLevel("warn"),
            # Over TLS a client has a thread of httpd until its handshake is over.
            d.IfModule("mod_reqtimeout.c", d.RequestReadTimeout(f"handshake={HANDSHAKE_SECONDS}")),
            Container(
                d.MaxConnectionsPerChild("65536"),
                only_if="mod_python.version.HTTPD_VERSION.startswith('2.4')",
            ),
        )
        if user is not None:
            main.append(Comment("httpd is started by root; its children, which run Python, are this user"))
            main.append(d.User(user.name))
            main.append(d.Group(f"#{user.gid}"))
        return main

    def _python(self) -> Container:
        from mod_python.httpd.config import module_so, quote

        python = Container(
            Comment("Python"),
            d.LoadModule(f"python_module {_path(module_so())}"),
            Comment("Many extension packages work in the main interpreter only"),
            d.PythonInterpreter("main_interpreter"),
            Comment("Show errors in the browser; never on a public server\nPythonDebug On"),
            d.PythonHandler(self.handler),
        )
        for node in self._files():
            python.append(node)
        if self.path:
            entries = "".join(f"{entry!r}," for entry in self.path)
            python.append(d.PythonPath(quote(f"sys.path+[{entries}]")))
        for option in self.options:
            python.append(d.PythonOption(option))
        for comment in self.comments:
            python.append(Comment(comment))
        return python

    def _files(self) -> list[Node]:
        """Say which files of the site are run, which are sent as they are, and which are neither."""
        # m#...# instead of slashes; the name only, since the directories above it are not ours.
        code = rf"%{{REQUEST_FILENAME}} =~ m#(?is)/[^/]*({_CODE})#"
        dotted = f"%{{REQUEST_URI}} =~ m#{_DOTTED}#"
        if self.handler.split()[0] != "mod_python.psp":
            return [
                d.SetHandler("mod_python"),
                Comment(f"Files in {self.htdocs}/ are sent as they are, but for those that may hold code"),
                d.If(f'"-f %{{REQUEST_FILENAME}} && !({code}) && !({dotted})"', d.SetHandler("None")),
            ]
        return [
            d.DirectoryIndex("index.psp index.html"),
            Comment("The last extension counts: with AddHandler, photo.psp.jpg would be run, too"),
            d.FilesMatch(r'"\.psp$"', d.SetHandler("mod_python")),
            Comment("Other files are sent as they are, but for those that may hold code"),
            d.If(rf'"({code} && !(%{{REQUEST_FILENAME}} =~ m#\.psp$#)) || {dotted}"', d.Require("all denied")),
        ]


def _modules(httpd: Httpd, mpm: str | None) -> Container:
    """LoadModule lines for what is not compiled into this httpd."""
    from mod_python.httpd.errors import ConfigError

    offered = httpd.mpms()
    if not offered:
        raise ConfigError(f"{httpd.binary}: no MPM (mod_mpm_event.so …) was found beside it")
    if mpm is not None and mpm not in offered:
        raise ConfigError(f"{httpd.binary} has no MPM {mpm!r}; it offers: {', '.join(offered)}")
    modules = Container(Comment(f"The modules of {httpd.binary}"))
    if httpd.builtin_mpm is None:
        modules.append(_load(httpd, f"mpm_{mpm or offered[0]}"))
    for name in _MODULES:
        if httpd.module_file(f"mod_{name}") is not None:
            modules.append(d.IfModule(f"!mod_{name}.c", _load(httpd, name)))
        elif not httpd.has_module(f"mod_{name}"):
            _say(f"Warning: {httpd.binary} has no mod_{name}; the configuration does without")
    return modules


def _load(httpd: Httpd, name: str) -> Node:
    file = httpd.module_file(f"mod_{name}")
    assert file is not None
    return d.LoadModule(f"{name}_module {_path(file)}")


def _path(path: Path | str) -> str:
    """Check that a path can stand in a configuration, and quote it if needed."""
    from mod_python.httpd.config import quote
    from mod_python.httpd.errors import ConfigError

    text = str(path)
    if '"' in text or "\\" in text:
        raise ConfigError(f"{text}: a path with a quote or backslash cannot be written for httpd; choose another one")
    quote(text)  # refuses control characters and the like
    return quote_if_space(text)


def _one_line(text: str, directive: str) -> str:
    from mod_python.httpd.errors import ConfigError

    if not text.strip() or re.search(r"[\x00-\x1f\x7f]", text) or text.endswith("\\"):
        raise ConfigError(f"{text!r} cannot be the value of {directive}: write one line of text")
    return text


def _make_directory(path: Path) -> None:
    try:
        path.mkdir()
    except FileExistsError:
        if not path.is_dir():
            raise
        _say(f"Warning: {path} exists already")
    else:
        _say(f"Made {path}")


def _make_mime_types(path: Path, httpd: Httpd) -> None:
    if path.exists():
        _say(f"Warning: {path} exists already")
        return
    candidates = [Path(version.SYSCONFDIR, "mime.types")] if version.SYSCONFDIR else []
    candidates += [httpd.mime_types] if httpd.mime_types is not None else []
    candidates += [Path("/etc/mime.types")]
    for candidate in candidates:
        if candidate.is_file():
            shutil.copyfile(candidate, path)
            _say(f"Made {path}, from {candidate}")
            return
    # httpd does not start without the file.
    table = mimetypes.MimeTypes(filenames=()).types_map[True]
    path.write_text("".join(f"{kind} {suffix[1:]}\n" for suffix, kind in sorted(table.items())))
    _say(f"Warning: this machine has no mime.types; made {path} from Python's own table")


def _say(text: str) -> None:
    print(text, file=sys.stderr)
