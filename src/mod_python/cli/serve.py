"""``mod_python serve``: a private httpd in the foreground, for one configuration or file.

Nothing is installed and nothing is written outside one temporary directory, the server root,
which is removed at the end.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from mod_python import mp_version
from mod_python.cli.runner import LOG_FORMAT, run
from mod_python.httpd.config import Address, Settings, render_config, write_config
from mod_python.httpd.errors import ConfigError
from mod_python.httpd.exposed import exposed_sources
from mod_python.httpd.find import MPMS, find_httpd
from mod_python.httpd.process import HttpdProcess, check_addresses, check_config
from mod_python.httpd.target import Kind, Target, find_target
from mod_python.httpd.tls import Certificate, make_self_signed
from mod_python.httpd.users import User, check_readable, find_user, runtime_paths

__all__ = ["serve"]

# The echo server of the manual has always been on 7000; 8000 is where Python's own
# http.server and most others listen. Loopback only: what is being tried out is
# not for the network unless someone says so.
_DEFAULT_LISTEN = {"connection": "127.0.0.1:7000", "request": "127.0.0.1:8000"}

_LISTEN_LINE = re.compile(r"^\s*Listen\s", re.IGNORECASE | re.MULTILINE)
_CONNECTION_LINE = re.compile(r"^\s*PythonConnectionHandler\s", re.IGNORECASE | re.MULTILINE)


def _addresses(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[Address, ...]:
    try:
        return tuple(Address.parse(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def _pairs(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for value in values:
        key, equals, text = value.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE", ctx, param)
        pairs.append((key, text))
    return tuple(pairs)


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be served: a handler, or the user's configuration file."""

    target: Target | None
    config: Path | None
    kind: Kind
    own_listen: bool  # the configuration has Listen lines

    def directives(self) -> list[str]:
        return self.target.directives() if self.target is not None else []

    def describe(self) -> str:
        if self.target is None:
            return str(self.config)
        word = "connections" if self.kind == "connection" else "requests"
        return f"{word} with {self.target.text}"


_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("what", metavar="CONFIG|FILE.py|MODULE:FUNCTION")
@click.option(
    "--listen",
    callback=_addresses,
    metavar="HOST:PORT",
    multiple=True,
    help="Address to listen on; may be repeated. Default: 127.0.0.1:7000 for a connection handler, "
    "else 127.0.0.1:8000.",
)
@click.option(
    "--kind",
    type=click.Choice(["connection", "request"]),
    help="What the Python function is, if its name does not tell.",
)
@click.option("--mpm", type=click.Choice(MPMS), help="httpd's MPM. Default: event if there is one.")
@click.option(
    "--processes",
    type=click.IntRange(1, 1024),
    help="Child processes. Default: 1 (prefork: 16).",
)
@click.option(
    "--threads",
    type=click.IntRange(1, 4096),
    help="Threads in each process. Default: 64. Not for prefork.",
)
@click.option("--tls-cert", type=_FILE, help="Speak TLS with this certificate (PEM, chain included).")
@click.option("--tls-key", type=_FILE, help="The certificate's private key (PEM).")
@click.option("--tls-self-signed", is_flag=True, help="Speak TLS with a certificate made for this run.")
@click.option(
    "--reload",
    is_flag=True,
    help="Load changed Python files anew; restart gracefully when CONFIG changes.",
)
@click.option(
    "--debug",
    is_flag=True,
    help="One process, everything logged, tracebacks in the response. Never on a public address.",
)
@click.option("--httpd", type=_FILE, help="The httpd binary to run.")
@click.option(
    "--set",
    "options",
    envvar="MOD_PYTHON_SERVE_SET",
    callback=_pairs,
    metavar="KEY=VALUE",
    multiple=True,
    help="A PythonOption for the handlers; may be repeated.",
)
@click.option("--user", help="As root: whom httpd's children run as. Default: www-data or nobody.")
@click.option("--print-config", is_flag=True, help="Print the configuration and end.")
@click.pass_context
def serve(
    ctx: click.Context,
    what: str,
    listen: tuple[Address, ...],
    kind: Kind | None,
    mpm: str | None,
    processes: int | None,
    threads: int | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_self_signed: bool,
    reload: bool,
    debug: bool,
    httpd: Path | None,
    options: tuple[tuple[str, str], ...],
    user: str | None,
    print_config: bool,
) -> None:
    """Run a private httpd in the foreground.

    It serves a configuration file (any file not named *.py; it is included after the
    basic settings), a Python file, or a function of a module. In a Python file
    connectionhandler(conn) serves connections, handler(req) serves requests.

    Ctrl-C stops it, SIGUSR1 restarts it gracefully.
    """
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together")
    if tls_self_signed and tls_cert is not None:
        raise click.UsageError("give --tls-self-signed or --tls-cert, not both")
    if mpm == "prefork" and threads not in (None, 1):
        raise click.UsageError("prefork has one thread per process: use --processes instead of --threads")
    child = find_user(user)
    build = find_httpd(httpd)
    work = _understand(what, kind)
    if not listen and not work.own_listen:
        listen = (Address.parse(_DEFAULT_LISTEN[work.kind]),)
    with _server_root(child) as root:
        tls = None
        if tls_cert is not None and tls_key is not None:
            tls = Certificate.load(tls_cert, tls_key)
        elif tls_self_signed:
            tls = make_self_signed(root)
        settings = Settings(
            httpd=build,
            root=root,
            listen=listen,
            mpm=mpm,
            processes=1 if debug and mpm != "prefork" else processes,
            threads=threads,
            user=child,
            tls=tls,
            defines={"CONFIG_DIR": str(work.config.parent)} if work.config else {},
            # The server root is another one each time; sessions are to be found again.
            options={**_session_root(work), **dict(options)},
            flags={
                "PythonAutoReload": "On" if reload else "Off",
                "PythonDebug": "On" if debug else "Off",
            },
            error_log="/dev/stderr",
            error_log_format=LOG_FORMAT,
            log_level="debug" if debug else "warn python:info",
            access_log="/dev/stderr" if work.target and work.kind == "request" else None,
            body=work.directives(),
            include=work.config,
        )
        if print_config:
            click.echo(render_config(settings), nl=False)
            return
        _check_readable(work, root, child)
        check_addresses(listen)
        write_config(settings)
        for exposed in exposed_sources(check_config(settings)):
            click.echo(f"Warning: {exposed}", err=True)
        process = HttpdProcess(settings, one_process=debug, stderr=subprocess.PIPE)
        watch = work.config if reload else None
        ctx.exit(run(process, lambda: _banner(settings, work), watch))


def _session_root(work: _Work) -> dict[str, str]:
    """The option by which sessions belong to what is served."""
    source = work.target.source if work.target is not None else work.config
    return {"mod_python.session.server_root": str(source)} if work.kind == "request" else {}


def _understand(what: str, kind: Kind | None) -> _Work:
    """Tell a configuration file from a Python file and from a module's function."""
    path = Path(what)
    if path.suffix == ".py" or not path.exists():
        if path.suffix != ".py" and ":" not in what:
            raise ConfigError(f"{what}: no such file")
        target = find_target(what, kind)
        return _Work(target, None, target.kind, own_listen=False)
    if not path.is_file():
        raise ConfigError(f"{what}: is not a file; name a configuration file or a Python file in it")
    if kind is not None:
        raise click.UsageError("--kind is for Python files and functions; a configuration says it itself")
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise ConfigError(f"{what}: {error.strerror}") from error
    guess: Kind = "connection" if _CONNECTION_LINE.search(text) else "request"
    return _Work(None, path.absolute(), guess, own_listen=bool(_LISTEN_LINE.search(text)))


@contextlib.contextmanager
def _server_root(child: User | None) -> Iterator[Path]:
    """Make the server root: private, but the children may look into it."""
    root = Path(tempfile.mkdtemp(prefix="mod_python-")).resolve()
    try:
        if child is not None:
            os.chown(root, 0, child.gid)
            root.chmod(0o750)
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _check_readable(work: _Work, root: Path, child: User | None) -> None:
    paths = [root, *runtime_paths()]
    if work.target is not None:
        paths.insert(0, work.target.source)
        if work.target.search_path is not None:
            paths.append(work.target.search_path)
    check_readable(paths, child)


def _banner(settings: Settings, work: _Work) -> None:
    """Say where it listens and what to type to try it."""
    httpd = settings.httpd
    versions = f"mod_python {mp_version}, Python {platform.python_version()}, httpd {httpd.version}"
    lines = [f"{versions} ({settings.mpm_name})", f"Serving {work.describe()}"]
    for address in settings.listen:
        reach = address.for_client
        scheme = "https" if settings.tls else "http"
        url = f"{scheme}://{reach}/" if work.kind == "request" else str(reach)
        lines += [
            f"Listening on {url}",
            f"  try: {_trial(reach, work.kind, settings.tls is not None)}",
        ]
    if not settings.listen:
        lines.append(f"Listening where {work.config} says")
    lines.append("Ctrl-C stops, SIGUSR1 restarts gracefully")
    for line in lines:
        click.echo(line, err=True)


def _trial(address: Address, kind: Kind, tls: bool) -> str:
    if kind == "request":
        return f"curl {'--insecure https' if tls else 'http'}://{address}/"
    if tls:
        return f"openssl s_client -quiet -connect {address}   (and type a line)"
    # -w 1: some versions of nc go on waiting after the end of their input.
    return f"printf 'hi\\n' | nc -w 1 {address.host} {address.port}"
