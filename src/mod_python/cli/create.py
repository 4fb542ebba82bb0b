"""``mod_python create``: a server root for one project, ready to be started.

What `mod_python.httpdconf.write_basic_config` makes, and the first httpd.conf, a README, and for a
handler that is not there yet a small one to begin with.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import re
import sys
from pathlib import Path

import click

from mod_python.cli.genconfig import write_new
from mod_python.cli.starters import README, starter_for
from mod_python.httpd.config import Address
from mod_python.httpd.control import Background
from mod_python.httpd.errors import ConfigError
from mod_python.httpd.find import MPMS, Httpd, find_httpd
from mod_python.httpd.users import User, check_readable, find_user, runtime_paths
from mod_python.httpdconf import write_basic_config

__all__ = ["create"]

_BASE_URI = 'If the application is not at the root of the site:\nPythonOption mod_python.wsgi.base_uri "/app"'
_APPLICATION = "mod_python.wsgi.application"


def _listen(ctx: click.Context, param: click.Parameter, value: str) -> str:
    try:
        Address.parse(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not [ADDRESS:]PORT, such as 8888 or 127.0.0.1:8888", ctx, param) from (
            error
        )
    return value


@click.command()
@click.argument("directory", metavar="DIRECTORY", type=click.Path(path_type=Path))
@click.option(
    "--pythonhandler",
    metavar="HANDLER",
    help="What answers requests: mod_python.publisher, mod_python.psp, mod_python.wsgi, or a module of yours. "
    "Required.",
)
@click.option(
    "--listen",
    callback=_listen,
    default="8888",
    show_default=True,
    metavar="[ADDRESS:]PORT",
    help="Where to listen; a port alone means all of the machine's addresses.",
)
@click.option("--pythonpath", metavar="DIR[:DIR...]", default="", help="Directories to put behind sys.path.")
@click.option(
    "--pythonoption",
    "options",
    envvar="MOD_PYTHON_CREATE_PYTHONOPTION",
    metavar='"NAME VALUE"',
    multiple=True,
    help="A PythonOption; may be repeated.",
)
@click.option("--mpm", type=click.Choice(MPMS), help="httpd's MPM. Default: event if there is one.")
@click.option("--httpd", type=click.Path(path_type=Path), help="The httpd to write for.")
@click.option("--user", help="As root: whom httpd's children run as. Default: www-data or nobody.")
def create(
    directory: Path,
    pythonhandler: str | None,
    listen: str,
    pythonpath: str,
    options: tuple[str, ...],
    mpm: str | None,
    httpd: Path | None,
    user: str | None,
) -> None:
    """Make DIRECTORY, with everything that one project needs to be served.

    \b
    In it are made
        conf/httpd_conf.py   the configuration, as a Python program: change it there
        conf/httpd.conf      what it prints, for httpd
        public/              the files that are served
        logs/                the logs, and the process id
        README               what to do with all this
    and something small to begin with. What exists already is never overwritten.
    """
    if not pythonhandler:
        raise click.UsageError("Must specify a --pythonhandler (such as mod_python.publisher)")
    root = Path(os.path.abspath(directory))
    if not root.parent.is_dir():
        raise ConfigError(f"{root.parent}: no such directory; make it first")
    child = find_user(user)
    build = find_httpd(httpd)
    entries = [os.path.abspath(entry) for entry in pythonpath.split(":") if entry]
    named = {option.split()[0] for option in options if option.strip()}
    comments = []
    wanted = pythonhandler
    if pythonhandler == "mod_python.wsgi":
        comments.append(_BASE_URI)
        wanted = _application(options)
    starter = None if _there(wanted, entries) else starter_for(wanted, pythonhandler)
    if starter is not None:
        if starter.directory == "app" and str(root / "app") not in entries:
            entries.append(str(root / "app"))
        if starter.option and starter.option.split()[0] not in named:
            options = (*options, starter.option)
    try:
        program = write_basic_config(
            root,
            listen,
            pythonhandler=pythonhandler,
            pythonpath=entries,
            pythonoptions=options,
            mp_comments=comments,
            httpd=build,
            mpm=mpm,
            user=child,
        )
        if program is None:
            sys.exit(1)
        config = Path(program).with_name("httpd.conf")
        if starter is not None:
            (root / starter.directory).mkdir(exist_ok=True)
            _write(root / starter.directory / starter.name, starter.text)
        elif not _there(wanted, entries) and not wanted.startswith("mod_python."):
            _warn(f"there is no module {wanted.partition('::')[0]} yet; it has to be on sys.path (--pythonpath)")
        if config.exists():
            _warn(f"{config} exists already")
        else:
            write_new(Path(program), config)
            click.echo(f"Made {config}", err=True)
        where = Address.parse(listen)
        url = f"http://{where.for_client}/"
        code = f"{starter.directory}/{starter.name}" if starter is not None else ""
        _write(
            root / "README", README.format(root=root, program=program, config=config, url=url, code=code or "public/")
        )
    except OSError as error:
        raise ConfigError(f"{error.filename or root}: {error.strerror}") from error
    _warn_of_unreadable(root, entries, child)
    _warn_of_exposed(build, config)
    click.echo(
        f"{root} is ready.\n"
        f"  start it:       mod_python start {config}\n"
        f"  then look at:   {url}\n"
        f"  configuration:  {program}\n"
        f"  after a change: mod_python genconfig {program} > {config}"
    )


def _application(options: tuple[str, ...]) -> str:
    """Return the module of a WSGI application that the options name, or the starter's."""
    for option in options:
        words = option.replace('"', "").split()
        if len(words) == 2 and words[0] == _APPLICATION:
            return words[1]
    return "app::application"


def _there(handler: str, path: list[str]) -> bool:
    """Tell whether a handler's module exists, without importing it."""
    module = handler.split()[0].partition("::")[0]
    if module.startswith("mod_python."):
        return False  # ready-made; their examples are something else
    if not re.fullmatch(r"\w+(\.\w+)*", module):
        return os.path.exists(module)  # a path
    own = {"", os.getcwd(), os.path.dirname(os.path.abspath(sys.argv[0]))}
    entries = [*path, *(entry for entry in sys.path if entry not in own)]
    return importlib.machinery.PathFinder.find_spec(module.partition(".")[0], entries) is not None


def _write(path: Path, text: str) -> None:
    if path.exists():
        _warn(f"{path} exists already")
        return
    path.write_text(text, encoding="utf-8")
    click.echo(f"Made {path}", err=True)


def _warn_of_unreadable(root: Path, entries: list[str], child: User | None) -> None:
    try:
        check_readable([root / "public", *map(Path, entries), *runtime_paths()], child)
    except ConfigError as error:
        _warn(str(error))


def _warn_of_exposed(httpd: Httpd, config: Path) -> None:
    with contextlib.suppress(ConfigError):  # start says what is wrong with it
        for exposed in Background(httpd, config).facts.exposed:
            _warn(str(exposed))


def _warn(text: str) -> None:
    click.echo(f"Warning: {text}", err=True)
