"""Writing the configuration of a private httpd.

The configuration is minimal: it loads what serving Python needs and nothing
else, and everything httpd writes stays inside one directory, the server root.
What differs between builds (an MPM or a module that is compiled in) is asked of
`mod_python.httpd.find.Httpd`, so that the same settings start everywhere.

What is to be served is appended as lines, or included from the user's own file, so
that httpd's messages about it name that file and its lines.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mod_python.httpd.errors import ConfigError
from mod_python.httpd.find import Httpd
from mod_python.httpd.tls import Certificate
from mod_python.httpd.users import User

__all__ = ["Address", "Settings", "module_so", "quote", "write_config"]

# Always loaded when the build has them. unixd: the children's user. authz_core:
# httpd refuses requests without it. The rest is what configuration fragments
# of a page or two use. Not reqtimeout, but with TLS: its limits are made for HTTP, and
# httpd's Timeout applies instead.
_MODULES = ("mod_unixd", "mod_authz_core", "mod_log_config", "mod_mime", "mod_dir", "mod_alias")
_TLS_MODULES = ("mod_socache_shmcb", "mod_ssl")

#: Seconds that a client may take for its TLS handshake. Meanwhile it has a thread of httpd, and
#: with httpd's Timeout alone silent clients would keep others waiting for a minute.
HANDSHAKE_SECONDS = 10

#: Threads of a child of a threaded MPM. A connection handler keeps one for as long as the
#: connection lasts, so this is also how many clients a child serves at once.
DEFAULT_THREADS = 64
# How many connections a child of the event MPM may hold, most of them idle; some more than
# ten thousand, for those that linger count, too.
CONNECTIONS = 12_000

#: Children of prefork, each of which serves one connection.
DEFAULT_PREFORK_PROCESSES = 16

_ADDRESS = re.compile(r"(?:(?:(?P<v6>\[[0-9A-Fa-f:.%\w]+\])|(?P<host>[^:\s\[\]]+)):)?(?P<port>\d{1,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on.

    Attributes:
        host: A name or number, IPv6 without brackets; ``""`` for all interfaces.
        port: TCP port, 1 to 65535.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``HOST:PORT``, ``[IPV6]:PORT`` or ``PORT`` (on 127.0.0.1).

        Args:
            text: What the user wrote.

        Returns:
            The address. A ``*`` as host means all interfaces.

        Raises:
            ValueError: It is none of the forms, or the port is out of range.
        """
        match = _ADDRESS.fullmatch(text.strip())
        if match is None or not 0 < int(match["port"]) < 65536:
            raise ValueError(f"{text!r} is not HOST:PORT (such as 127.0.0.1:7000 or [::1]:7000)")
        host = match["v6"][1:-1] if match["v6"] else match["host"] or "127.0.0.1"
        return cls("" if host == "*" else host, int(match["port"]))

    @property
    def directive(self) -> str:
        """The address as the ``Listen`` directive takes it."""
        return f"{self._bracketed}:{self.port}" if self.host else str(self.port)

    @property
    def for_client(self) -> Address:
        """The address a client on this machine connects to."""
        if self.host in ("", "0.0.0.0"):
            return Address("127.0.0.1", self.port)
        if self.host == "::":
            return Address("::1", self.port)
        return self

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        return f"{self._bracketed or '*'}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything `write_config` needs to know.

    Attributes:
        httpd: The build to write for.
        root: The server root; it exists and is private.
        listen: Addresses to listen on; may be empty when the body has ``Listen`` lines.
        mpm: ``"event"``, ``"worker"``, ``"prefork"``, or None for the build's best.
        processes: Child processes, or None for the default (1; prefork: 16).
        threads: Threads per child, or None for the default (64). Not for prefork.
        user: Whom children run as; needed when the parent runs as root, else None.
        tls: Certificate for ports with TLS.
        tls_ports: Ports that speak TLS, or None for all of them (if `tls` is set).
        python: Load mod_python.
        modules: More modules to load, as ``"mod_rewrite"`` or a path of a ``.so``.
        defines: Names for ``Define``, usable as ``${NAME}`` in the body.
        options: Values for ``PythonOption`` in the server's configuration.
        flags: ``Python*`` settings for the whole server, such as
            ``{"PythonDebug": "On"}``. ``PythonInterpreter main_interpreter`` is among them
            unless set otherwise; None leaves a setting out.
        error_log: Where ``ErrorLog`` points.
        error_log_format: Value of ``ErrorLogFormat``, or None for httpd's own format.
        log_level: Value of ``LogLevel``.
        access_log: File of the access log, or None for none.
        body: Lines of what is to be served.
        include: The user's configuration file to include after `body`, or None.
    """

    httpd: Httpd
    root: Path
    listen: Sequence[Address]
    mpm: str | None = None
    processes: int | None = None
    threads: int | None = None
    user: User | None = None
    tls: Certificate | None = None
    tls_ports: frozenset[int] | None = None
    python: bool = True
    modules: Sequence[str] = ()
    defines: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    flags: Mapping[str, str | None] = field(default_factory=dict)
    error_log: str = "logs/error_log"
    error_log_format: str | None = None
    log_level: str = "warn"
    access_log: str | None = None
    body: Sequence[str] = ()
    include: Path | None = None

    @property
    def mpm_name(self) -> str:
        """The MPM in force.

        Raises:
            ConfigError: The build does not offer the one asked for, or none at all.
        """
        offered = self.httpd.mpms()
        if not offered:
            raise ConfigError(f"{self.httpd.binary}: no MPM (mod_mpm_event.so …) was found beside it")
        if self.mpm is None:
            return offered[0]
        if self.mpm not in offered:
            raise ConfigError(f"{self.httpd.binary} has no MPM {self.mpm!r}; it offers: {', '.join(offered)}")
        return self.mpm

    @property
    def process_count(self) -> int:
        """How many children are started."""
        return self.processes or (DEFAULT_PREFORK_PROCESSES if self.mpm_name == "prefork" else 1)

    @property
    def config_file(self) -> Path:
        """Where `write_config` writes."""
        return self.root / "httpd.conf"

    @property
    def pid_file(self) -> Path:
        """Where httpd writes its process id once it listens."""
        return self.root / "httpd.pid"


def module_so() -> Path:
    """Return the path of the built httpd module, which may not exist yet."""
    import mod_python

    return Path(mod_python.__file__).resolve().parent / "mod_python.so"


def quote(text: str) -> str:
    """Quote one argument of an httpd directive (``ap_getword_conf``).

    Args:
        text: The value.

    Returns:
        The value in double quotes, escaped.

    Raises:
        ConfigError: It contains what no quoting can express: a control character, or
            ``${``, which httpd expands wherever it stands.
    """
    _check(text)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def raw(text: str, what: str) -> str:
    """Check a value for a directive whose arguments httpd does not unquote.

    Args:
        text: The value, such as a handler's module file.
        what: What it is, for the message.

    Returns:
        The value unchanged.

    Raises:
        ConfigError: It contains a blank or another character with a meaning there.
    """
    _check(text)
    if re.search(r"[\s|\"'\\]", text) or text.count("::") > 1:
        raise ConfigError(
            f"{what} {text!r} contains a blank, quote, backslash or '|', which a handler directive "
            "cannot express; rename it"
        )
    return text


def render_config(settings: Settings) -> str:
    """Return the text of the configuration file.

    Raises:
        ConfigError: The settings cannot work with this httpd.
    """
    parts = [
        _header(settings),
        _load(settings),
        _places(settings),
        _workers(settings),
        _listen(settings),
        _logging(settings),
        _tls(settings),
        _python(settings),
        [*settings.body],
    ]
    if settings.include is not None:
        parts.append([f"Include {quote(str(settings.include))}"])
    return "\n".join("\n".join(part) + "\n" for part in parts if part)


def write_config(settings: Settings) -> Path:
    """Write the configuration into the server root, with the directories it names.

    Args:
        settings: What to write.

    Returns:
        The file's path.

    Raises:
        ConfigError: The settings cannot work with this httpd.
        OSError: The server root cannot be written.
    """
    text = render_config(settings)
    for name in ("logs", "htdocs"):
        directory = settings.root / name
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)  # inside the private root: the children may only look
    modules = settings.root / "modules"
    if settings.httpd.modules_dir is not None and not modules.is_symlink():
        # So that "LoadModule x modules/mod_x.so" of an ordinary configuration works.
        modules.symlink_to(settings.httpd.modules_dir)
    settings.config_file.write_text(text, encoding="utf-8", errors="surrogateescape")
    settings.config_file.chmod(0o600)
    return settings.config_file


def _check(text: str) -> None:
    if re.search(r"[\x00-\x1f\x7f]|\$\{", text):
        raise ConfigError(f"{text!r} contains a control character or '${{', which httpd cannot take")


def _header(settings: Settings) -> list[str]:
    httpd = settings.httpd
    return [
        "# Written by mod_python for one run; changes are lost.",
        f"# For httpd {httpd.version}, {httpd.binary}",
    ]


def _load(settings: Settings) -> list[str]:
    """LoadModule lines for what is needed and not compiled in."""
    httpd = settings.httpd
    lines = []
    mpm = settings.mpm_name
    if httpd.builtin_mpm is None:
        lines.append(_load_line(httpd, f"mod_mpm_{mpm}"))
    wanted = [name for name in _MODULES if httpd.has_module(name)]
    if settings.tls is not None:
        wanted += _TLS_MODULES
        wanted += [name for name in ("mod_reqtimeout",) if httpd.has_module(name)]
    wanted += [name for name in settings.modules if name not in wanted]
    lines += [_load_line(httpd, name) for name in wanted if name not in httpd.builtin]
    if settings.python:
        so = module_so()
        if not so.is_file():
            raise ConfigError(f"{so} does not exist: the httpd module is not built; run: pip install .")
        lines.append(f"LoadModule python_module {quote(str(so))}")
    return lines


def _load_line(httpd: Httpd, name: str) -> str:
    path = Path(name) if name.endswith(".so") else httpd.module_file(name)
    if path is None or not path.is_file():
        raise ConfigError(f"{name} is not in {httpd.modules_dir} of {httpd.binary}; install it")
    symbol = path.stem.removeprefix("mod_") + "_module"
    return f"LoadModule {symbol} {quote(str(path))}"


def _places(settings: Settings) -> list[str]:
    """Everything httpd writes or looks up stays inside the server root."""
    root = settings.root
    lines = [
        f"ServerRoot {quote(str(root))}",
        f"DefaultRuntimeDir {quote(str(root))}",
        f"PidFile {quote(str(settings.pid_file))}",
        f"DocumentRoot {quote(str(root / 'htdocs'))}",
        "ServerName localhost",
    ]
    types = settings.httpd.mime_types
    if settings.httpd.has_module("mod_mime"):
        lines.append(f"TypesConfig {quote(str(types) if types else '/dev/null')}")
    if settings.user is not None:
        lines += [f"User {quote(settings.user.name)}", f"Group #{settings.user.gid}"]
    lines += [f"Define {name} {quote(value)}" for name, value in settings.defines.items()]
    return lines


def _workers(settings: Settings) -> list[str]:
    """A fixed number of children: the load of a moment never changes what is running."""
    mpm = settings.mpm_name
    if mpm == "prefork":
        if settings.threads not in (None, 1):
            raise ConfigError("prefork has one thread per process; use --processes, or --mpm event")
        count = settings.process_count
        return [
            f"StartServers {count}",
            f"ServerLimit {count}",
            f"MaxRequestWorkers {count}",
            f"MinSpareServers {count}",
            f"MaxSpareServers {count + 1}",
            "MaxConnectionsPerChild 0",
        ]
    processes = settings.process_count
    threads = settings.threads or DEFAULT_THREADS
    # Connections of coroutine handlers take no thread; httpd's default would stop at twice the
    # number of threads.
    factor = [f"AsyncRequestWorkerFactor {max(2, -(-CONNECTIONS // max(1, threads - 2)))}"] if mpm == "event" else []
    return [
        *factor,
        # Event keeps ending children in slots of their own while new ones start;
        # without spare slots a graceful restart would wait for the slowest client.
        f"ServerLimit {processes * 4 if mpm == 'event' else processes}",
        f"StartServers {processes}",
        f"ThreadLimit {threads}",
        f"ThreadsPerChild {threads}",
        f"MaxRequestWorkers {processes * threads}",
        "MinSpareThreads 1",
        f"MaxSpareThreads {processes * threads + threads}",
        "MaxConnectionsPerChild 0",
    ]


def _listen(settings: Settings) -> list[str]:
    lines = [f"Listen {address.directive}" for address in settings.listen]
    # The default, "data", has the kernel hand over a connection only once the client
    # has spoken: wrong for every protocol in which the server speaks first.
    return [*lines, "AcceptFilter http none", "AcceptFilter https none"]


def _logging(settings: Settings) -> list[str]:
    lines = [
        f"ErrorLog {quote(settings.error_log)}",
        f"LogLevel {settings.log_level}",
    ]
    if settings.error_log_format is not None:
        lines.append(f"ErrorLogFormat {quote(settings.error_log_format)}")
    if settings.access_log is not None and settings.httpd.has_module("mod_log_config"):
        form = '%{%Y-%m-%d %H:%M:%S}t access %a "%r" %>s %B %{ms}T ms'
        lines.append(f"CustomLog {quote(settings.access_log)} {quote(form)}")
    return lines


def _tls(settings: Settings) -> list[str]:
    if settings.tls is None:
        return []
    directives = [
        f"SSLCertificateFile {quote(str(settings.tls.certificate))}",
        f"SSLCertificateKeyFile {quote(str(settings.tls.key))}",
    ]
    lines = [f"SSLSessionCache {quote(f'shmcb:{settings.root}/tls_sessions(512000)')}"]
    if settings.httpd.has_module("mod_reqtimeout"):
        lines.append(f"RequestReadTimeout handshake={HANDSHAKE_SECONDS} header=0 body=0")
    if settings.tls_ports is None:
        return [*lines, *directives, "SSLEngine On"]
    for address in settings.listen:
        if address.port in settings.tls_ports:
            lines.append(f"<VirtualHost {address.directive if address.host else f'*:{address.port}'}>")
            lines += [f"    {line}" for line in [*directives, "SSLEngine On"]]
            lines.append("</VirtualHost>")
    return lines


def _python(settings: Settings) -> list[str]:
    if not settings.python:
        return []
    # Many extension packages refuse to be imported in a sub-interpreter.
    flags: dict[str, str | None] = {"PythonInterpreter": "main_interpreter", **settings.flags}
    lines = [f"{name} {quote(value)}" for name, value in flags.items() if value is not None]
    lines += [f"PythonOption {quote(key)} {quote(value)}" for key, value in settings.options.items()]
    return lines
