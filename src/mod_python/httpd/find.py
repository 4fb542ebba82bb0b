"""Which httpd to run, and what it can do.

Builds of Apache httpd differ in three things that matter to whoever starts one:
what the binary is called, where its loadable modules live, and which modules are
compiled into the binary (such a module must not be loaded a second time, and
one that is neither there nor in the directory cannot be had at all).
`find_httpd` answers all three for the builds people have:

- a distribution's: ``apache2`` on Debian and Ubuntu, ``httpd`` elsewhere;
- one built from source (``bin/httpd`` with ``modules/`` beside ``bin/``);
- the one in the PyPI package ``mod-wsgi-httpd``, for machines without an httpd
  or without root.

The binary itself is asked, with an empty configuration (``-f /dev/null``), because a
distribution's own configuration often cannot be read without its start script.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mod_python import version
from mod_python.httpd.errors import HttpdError

__all__ = ["MPMS", "Httpd", "HttpdNotFoundError", "find_httpd", "inspect_httpd"]

#: The MPMs the project supports, best first.
MPMS = ("event", "worker", "prefork")

#: Seconds to wait for an answer of ``httpd -V``; it needs milliseconds.
_ASK_TIMEOUT = 20.0

_NAMES = ("httpd", "apache2")

# Directories beside those of PATH: an unprivileged user's PATH usually lacks sbin.
_SBIN = (
    "/usr/sbin",
    "/usr/local/sbin",
    "/usr/local/apache2/bin",
    "/opt/homebrew/bin",
    "/opt/local/sbin",
)

# Module directories of distributions; those beside the binary are tried first.
_MODULE_DIRS = (
    "/usr/lib/apache2/modules",  # Debian, Ubuntu
    "/usr/lib64/httpd/modules",  # Fedora, RHEL
    "/usr/lib/httpd/modules",  # Arch
    "/usr/lib64/apache2",  # SUSE
    "/usr/lib/apache2",  # Alpine
    "/usr/local/libexec/apache24",  # FreeBSD
    "/usr/libexec/apache2",  # macOS
    "/opt/homebrew/lib/httpd/modules",
)


class HttpdNotFoundError(HttpdError):
    """No usable httpd; the message says where it was looked for and what to install."""


@dataclass(frozen=True, slots=True)
class Httpd:
    """Facts of one httpd binary.

    Attributes:
        binary: Path of the executable.
        version: Its version, such as ``"2.4.62"``.
        apr_version: Version of the APR it is running with, ``""`` if unknown.
        modules_dir: Directory of its loadable modules, or None if there is none.
        builtin: Names of compiled-in modules, such as ``"mod_unixd"``. ``core``,
            ``mod_so`` and ``http_core`` are among them.
        builtin_mpm: The compiled-in MPM, or None when MPMs are loadable.
        origin: ``"debian"``, ``"pypi"`` (mod-wsgi-httpd) or ``"other"``.
        mime_types: A ``mime.types`` file that can be used, or None.
        environment: Variables to add to the environment when running it.
    """

    binary: Path
    version: str
    apr_version: str
    modules_dir: Path | None
    builtin: frozenset[str]
    builtin_mpm: str | None
    origin: str
    mime_types: Path | None
    environment: Mapping[str, str] = field(default_factory=dict)

    def module_file(self, name: str) -> Path | None:
        """Return the file of a loadable module.

        Args:
            name: Module file name without suffix, such as ``"mod_ssl"``.

        Returns:
            The path, or None when the build has no such file.
        """
        if self.modules_dir is None:
            return None
        path = self.modules_dir / f"{name}.so"
        return path if path.is_file() else None

    def has_module(self, name: str) -> bool:
        """Tell whether a module is compiled in or can be loaded."""
        return name in self.builtin or self.module_file(name) is not None

    def mpms(self) -> tuple[str, ...]:
        """Return the MPMs this build offers, best first."""
        if self.builtin_mpm is not None:
            return (self.builtin_mpm,)
        return tuple(mpm for mpm in MPMS if self.module_file(f"mod_mpm_{mpm}") is not None)

    def environ(self) -> dict[str, str]:
        """Return the complete environment to run the binary with."""
        return {**os.environ, **self.environment}


def find_httpd(path: str | os.PathLike[str] | None = None) -> Httpd:
    """Find an httpd and ask it what it is.

    The order: `path`; the environment variable ``MOD_PYTHON_HTTPD``; the httpd
    that the module was built for; ``httpd`` or ``apache2`` on the PATH and in the
    usual system directories; the one in the PyPI package ``mod-wsgi-httpd``.

    Args:
        path: The binary to use, or None to search.

    Returns:
        The facts of the httpd.

    Raises:
        HttpdNotFoundError: None was found, or the one asked for is not a usable httpd 2.4.
    """
    named = os.fspath(path) if path is not None else os.environ.get("MOD_PYTHON_HTTPD")
    if named:
        located = shutil.which(named)
        if located is None:
            raise HttpdNotFoundError(f"{named}: no such program; name an httpd binary")
        return inspect_httpd(Path(located))
    problems: list[str] = []
    for candidate in _candidates():
        try:
            return inspect_httpd(candidate)
        except HttpdNotFoundError as error:
            problems.append(str(error))
    if problems:
        raise HttpdNotFoundError("; ".join(problems))
    raise HttpdNotFoundError(
        "no httpd found: install one (Debian, Ubuntu: apt install apache2; Fedora: dnf install "
        "httpd; without root: pip install mod-wsgi-httpd) or name one with --httpd PATH"
    )


def inspect_httpd(binary: Path) -> Httpd:
    """Ask one httpd binary for its facts.

    Args:
        binary: Path of the executable.

    Returns:
        The facts.

    Raises:
        HttpdNotFoundError: It cannot be run, or is not Apache httpd 2.4.
    """
    environment = _library_environment(binary)
    version_text = _ask(binary, environment, "-V")
    match = re.search(r"Server version:\s*Apache/([\d.]+)\S*(?:\s*\(([^)]*)\))?", version_text)
    if match is None:
        raise HttpdNotFoundError(f"{binary}: not Apache httpd (its -V shows no server version)")
    number, platform = match[1], match[2] or ""
    if not number.startswith("2.4."):
        raise HttpdNotFoundError(f"{binary}: httpd {number} is not supported; 2.4 is needed")
    builtin = frozenset(
        line.strip().removesuffix(".c")
        for line in _ask(binary, environment, "-l").splitlines()
        if line.strip().endswith(".c")
    )
    # httpd names its MPM's source file plainly: event.c, worker.c, prefork.c.
    mpm = next((mpm for mpm in MPMS if mpm in builtin or f"mpm_{mpm}" in builtin), None)
    root = re.search(r'-D HTTPD_ROOT="([^"]*)"', version_text)
    apr = re.search(r"Server loaded:\s*APR ([\d.]+)", version_text)
    if "mod_wsgi_packages" in binary.parts:
        origin = "pypi"
    elif platform in ("Debian", "Ubuntu"):
        origin = "debian"
    else:
        origin = "other"
    return Httpd(
        binary=binary,
        version=number,
        apr_version=apr[1] if apr else "",
        modules_dir=_modules_dir(binary, Path(root[1]) if root else None),
        builtin=builtin,
        builtin_mpm=mpm,
        origin=origin,
        mime_types=_mime_types(binary, Path(root[1]) if root else None),
        environment=environment,
    )


def _candidates() -> Iterator[Path]:
    """Yield binaries to try, best first, each once."""
    seen: set[Path] = set()
    for path in _possible_binaries():
        if path not in seen and os.access(path, os.X_OK) and path.is_file():
            seen.add(path)
            yield path


def _possible_binaries() -> Iterator[Path]:
    if version.HTTPD:
        yield Path(version.HTTPD)
    directories = [*os.get_exec_path(), *_SBIN]
    for directory in directories:
        for name in _NAMES:
            yield Path(directory, name)
    for entry in sys.path:
        yield Path(entry or ".", "mod_wsgi_packages", "httpd", "bin", "httpd").absolute()


def _library_environment(binary: Path) -> dict[str, str]:
    """Return what lets a relocated httpd find the APR it was built with.

    The PyPI build keeps its libraries in ``lib/`` beside ``bin/`` but has no run path, so
    without this it runs with the system's APR, or not at all. Its own ``apachectl``
    does the same.
    """
    libraries = binary.parent.parent / "lib"
    if not any(libraries.glob("libapr-1.*")):
        return {}
    name = "DYLD_LIBRARY_PATH" if sys.platform == "darwin" else "LD_LIBRARY_PATH"
    old = os.environ.get(name)
    return {name: f"{libraries}:{old}" if old else str(libraries)}


def _ask(binary: Path, environment: Mapping[str, str], option: str) -> str:
    """Run the binary with one informative option and return what it prints.

    The exit status does not matter: without an MPM in the (empty) configuration
    httpd complains after it has printed the facts.
    """
    try:
        done = subprocess.run(
            [str(binary), option, "-d", "/", "-f", os.devnull],
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ASK_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HttpdNotFoundError(f"{binary}: cannot be run: {error}") from error
    if not done.stdout.strip():
        reason = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise HttpdNotFoundError(f"{binary}: cannot be run: {reason}")
    return done.stdout


def _modules_dir(binary: Path, root: Path | None) -> Path | None:
    """Return the directory that holds the binary's loadable modules."""
    candidates = []
    if version.LIBEXECDIR and Path(version.HTTPD) == binary:
        candidates.append(Path(version.LIBEXECDIR))
    for base in (binary.parent.parent, binary.resolve().parent.parent, root):
        if base is not None:
            candidates += [base / "modules", base / "libexec"]
    candidates += [Path(directory) for directory in _MODULE_DIRS]
    for directory in candidates:
        if any(directory.glob("mod_*.so")):
            return directory
    return None


def _mime_types(binary: Path, root: Path | None) -> Path | None:
    """Return a mime.types file for static files, or None."""
    candidates = [binary.parent.parent / "conf" / "mime.types"]
    if root is not None:
        candidates += [root / "conf" / "mime.types", root / "mime.types"]
    candidates += [Path("/etc/mime.types"), Path("/etc/apache2/mime.types")]
    for path in candidates:
        if path.is_file():
            return path
    return None
