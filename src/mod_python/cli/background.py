"""``mod_python start``, ``stop``, ``restart``, ``graceful`` and ``status``: an httpd in the background."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from mod_python.httpd.control import GRACE, Background, listening, uptime
from mod_python.httpd.errors import ConfigError, HttpdError, NotRunningError
from mod_python.httpd.find import find_httpd
from mod_python.httpd.process import START_TIMEOUT, children_of
from mod_python.httpd.users import User, check_readable, runtime_paths

__all__ = ["graceful", "restart", "start", "status", "stop"]

# Exit statuses of `status`, as the Linux Standard Base has them for scripts of services.
_DEAD_WITH_PID_FILE, _NOT_RUNNING, _UNKNOWN = 1, 3, 4

_F = TypeVar("_F", bound=Callable[..., Any])

_httpd_option = click.option(
    "--httpd",
    type=click.Path(path_type=Path),
    help="The httpd binary to run. Default: the one that the module was built for.",
)
_file_argument = click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
_timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=START_TIMEOUT,
    show_default=True,
    help="Seconds it may take.",
)


def _common(function: _F) -> _F:
    return _file_argument(_httpd_option(function))


def config_file(given: Path) -> Path:
    """Find the configuration file that a user means.

    Args:
        given: The file; or the directory of a project, for its ``conf/httpd.conf``.

    Returns:
        The file's absolute path; httpd itself would look for a relative one in its own directory.

    Raises:
        ConfigError: There is none, or it is a program.
    """
    path = Path(os.path.abspath(given))
    if path.is_dir():
        path = path / "conf" / "httpd.conf"
    if path.suffix == ".py" and path.is_file():
        raise ConfigError(
            f"{path} is a Python program that prints the configuration; "
            f"run: mod_python genconfig {path} -o {path.with_name('httpd.conf')}, and name that file"
        )
    if not path.is_file():
        program = path.with_name("httpd_conf.py")
        remedy = (
            f"make it: mod_python genconfig {program} -o {path}"
            if program.is_file()
            else "name an httpd configuration, or make a project with mod_python create"
        )
        raise ConfigError(f"{path}: no such file; {remedy}")
    return path


def _background(file: Path, httpd: Path | None) -> Background:
    return Background(find_httpd(httpd), config_file(file))


def _warn_of_stale_config(config: Path) -> None:
    program = config.with_name("httpd_conf.py")
    if program.is_file() and program.stat().st_mtime > config.stat().st_mtime:
        click.echo(
            f"Warning: {program.name} is newer than {config.name}; to use it: "
            f"mod_python genconfig {program} -o {config}",
            err=True,
        )


def _warn_of_unreadable(server: Background) -> None:
    if os.geteuid() != 0 or not server.facts.user:
        return
    import pwd

    try:
        entry = pwd.getpwnam(server.facts.user)
        check_readable(runtime_paths(), User(entry.pw_name, entry.pw_uid, entry.pw_gid))
    except KeyError:
        pass
    except ConfigError as error:
        click.echo(f"Warning: {error}".replace("with --user", "with User in the configuration"), err=True)


def _warn_of_exposed(server: Background) -> None:
    with contextlib.suppress(ConfigError):  # reported where it matters
        for exposed in server.facts.exposed:
            click.echo(f"Warning: {exposed}", err=True)


def _start(server: Background, timeout: float) -> None:
    _warn_of_stale_config(server.config)
    _warn_of_exposed(server)
    _warn_of_unreadable(server)
    pid = server.start(timeout)
    click.echo(f"httpd started: process {pid}{_addresses(pid)}")


def _addresses(pid: int) -> str:
    addresses = listening(pid)
    return f", listening on {' and '.join(addresses)}" if addresses else ""


@click.command()
@_common
@_timeout_option
def start(file: Path, httpd: Path | None, timeout: float) -> None:
    """Start httpd in the background, with the configuration FILE.

    FILE may be the directory of a project, too; then it is conf/httpd.conf in it. The command returns
    when httpd listens. If it cannot start, the cause is shown and the exit status is 1. If it runs
    already, that is no error.
    """
    server = _background(file, httpd)
    pid = server.pid()
    if pid is not None:
        click.echo(f"httpd is running already: process {pid}{_addresses(pid)}")
        return
    _start(server, timeout)


@click.command()
@_common
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=GRACE,
    show_default=True,
    help="Seconds that connections being served may take to end; then they are cut off.",
)
@click.option("--now", is_flag=True, help="Cut off connections at once.")
def stop(file: Path, httpd: Path | None, timeout: float, now: bool) -> None:
    """Stop the httpd that was started with the configuration FILE.

    Requests being served are finished. The command returns when all processes are gone. If httpd was not
    running, that is no error.
    """
    server = _background(file, httpd)
    try:
        how = server.stop(now, timeout)
    except NotRunningError as error:
        click.echo(str(error), err=True)
        return
    words = {
        "stopped": "httpd stopped",
        "ended": f"httpd stopped; connections were left after {timeout:g} seconds and have been cut off",
        "killed": "httpd did not stop and has been killed",
    }
    click.echo(words[how])


@click.command()
@_common
@_timeout_option
@click.option("--now", is_flag=True, help="Cut off connections, instead of letting old processes finish them.")
def restart(file: Path, httpd: Path | None, timeout: float, now: bool) -> None:
    """Restart httpd, so that changed configuration and code are in force; start it if it is not running.

    Requests being served are finished, and none is refused meanwhile. A broken configuration is reported,
    and httpd goes on as it was.
    """
    server = _background(file, httpd)
    if server.pid() is None:
        click.echo("httpd is not running; starting it", err=True)
        _start(server, timeout)
        return
    _warn_of_stale_config(server.config)
    _warn_of_exposed(server)
    pid = server.restart(now, timeout)
    click.echo(f"httpd restarted: process {pid}{_addresses(pid)}")


@click.command()
@_common
@_timeout_option
def graceful(file: Path, httpd: Path | None, timeout: float) -> None:
    """Like restart, but it is an error if httpd is not running."""
    server = _background(file, httpd)
    _warn_of_stale_config(server.config)
    _warn_of_exposed(server)
    pid = server.restart(timeout=timeout)
    click.echo(f"httpd restarted gracefully: process {pid}{_addresses(pid)}")


@click.command()
@_common
@click.pass_context
def status(ctx: click.Context, file: Path, httpd: Path | None) -> None:
    """Tell whether the httpd of the configuration FILE runs, since when, and where it listens.

    Exit status: 0 if it runs; 3 if not; 1 if not, and it has left its pid file behind; 4 if that cannot be
    told.
    """
    try:
        server = _background(file, httpd)
        pid = server.pid()
        if pid is None:
            noted = server.noted_pid()
            if noted is None:
                click.echo(f"not running: {server.config}")
                ctx.exit(_NOT_RUNNING)
            click.echo(
                f"not running: {server.config}\n"
                f"  {server.facts.pid_file} names process {noted}, which is not there or not this httpd: it ended "
                f"without cleaning up.\n  mod_python start {server.config} starts it again."
            )
            ctx.exit(_DEAD_WITH_PID_FILE)
    except HttpdError as error:
        click.echo(f"mod_python: {error}", err=True)
        ctx.exit(_UNKNOWN)
    rows = [("process", f"{pid}, with {_count(len(children_of(pid)), 'child', 'children')}")]
    seconds = uptime(pid)
    if seconds is not None:
        rows.append(("uptime", _duration(seconds)))
    addresses = listening(pid)
    if addresses:
        rows.append(("listening", " ".join(addresses)))
    try:
        if server.facts.error_log is not None:
            rows.append(("error log", str(server.facts.error_log)))
    except ConfigError as error:
        rows.append(("warning", f"the configuration has become broken: {error}"))
    rows.append(("httpd", f"{server.httpd.binary} {server.httpd.version}"))
    click.echo(f"running: {server.config}")
    for name, text in rows:
        click.echo(f"  {name + ':':<11}{text}")


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _duration(seconds: float) -> str:
    """Say a time in its two largest units."""
    left = int(seconds)
    parts = []
    for size, one, many in ((86400, "day", "days"), (3600, "hour", "hours"), (60, "minute", "minutes")):
        count, left = divmod(left, size)
        if count:
            parts.append(_count(count, one, many))
    parts.append(_count(left, "second", "seconds"))
    return " ".join(parts[:2])
