"""Which httpd to build for.

httpd describes itself through `apxs`, a Perl script that prints the variables
of its own build.  In this order, the first that is there is taken:

1. the environment variable APXS (pip's `--config-settings apxs=PATH` sets
   it); its value `pypi` means the httpd of the PyPI package mod-wsgi-httpd;
2. `apxs`, then `apxs2`, on the PATH;
3. the httpd of mod-wsgi-httpd, if the environment that the build is for, or
   the build's own, has it.

The PyPI package compiles its httpd in a directory that is gone afterwards, and
its `apxs` fails for that reason.  An httpd that was moved is therefore read
from the tree around its `apxs`: `build/config_vars.mk`, `include/`, `bin/`,
`modules/`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import BuildError

PYPI = "pypi"  # the value of APXS that asks for the PyPI httpd
PYPI_PACKAGE = "mod-wsgi-httpd"
PYPI_HTTPD = Path("mod_wsgi_packages", "httpd")
APXS_TIMEOUT = 60  # seconds; apxs answers in milliseconds, so this only ends a hang

#: The first httpd with the hook child_stopping, which wakes connections that wait when a child has to end.
OLDEST = [2, 4, 49]


@dataclass(frozen=True)
class Httpd:
    """The facts of one httpd, as the build and `mod_python version` need them."""

    apxs: str
    binary: str
    version: str  # "2.4.62"
    apr_version: str  # "1.7.2"
    libexecdir: str
    sysconfdir: str
    includes: tuple[str, ...]
    cppflags: tuple[str, ...]

    def installed_at(self, site_packages: Path) -> Httpd:
        """Give the facts as they will be after the installation.

        A build in isolation sees the PyPI httpd in a temporary directory; at
        run time it is in the site-packages of the environment.

        Args:
            site_packages: of the environment that the build is for.

        Returns:
            The same facts; for a PyPI httpd with the paths below site_packages.
        """
        tree = Path(self.apxs).parent.parent
        if not tree.match(str(PYPI_HTTPD)):
            return self
        new = str(site_packages / PYPI_HTTPD)

        def moved(path: str) -> str:
            return new + path[len(str(tree)) :] if path.startswith(str(tree)) else path

        return replace(
            self,
            apxs=moved(self.apxs),
            binary=moved(self.binary),
            libexecdir=moved(self.libexecdir),
            sysconfdir=moved(self.sysconfdir),
        )


def find_apxs(
    environ: Mapping[str, str] = os.environ, site_packages: Iterable[str | Path] | None = None
) -> Path | None:
    """Find the apxs of the httpd to build for.

    Args:
        environ: the environment; APXS and PATH are looked at.
        site_packages: where the PyPI httpd may be; by default the
            site-packages of the environment that the build is for, then
            `sys.path`.

    Returns:
        Its path, or None if there is no httpd to build for.

    Raises:
        BuildError: APXS is set to something that is not there.
    """
    given, path = environ.get("APXS"), environ.get("PATH")
    if given and given != PYPI:
        found = shutil.which(given, path=path)
        if found is None:
            raise BuildError(f"APXS is {given!r}, but there is no such program.", "httpd")
        return Path(found).absolute()
    if not given:
        for name in ("apxs", "apxs2"):
            found = shutil.which(name, path=path)
            if found is not None:
                return Path(found).absolute()
    if site_packages is None:
        site_packages = [sysconfig.get_path("platlib"), sysconfig.get_path("purelib"), *sys.path]
    for directory in site_packages:
        apxs = Path(directory).absolute() / PYPI_HTTPD / "bin" / "apxs"
        if apxs.is_file():
            return apxs
    if given:
        raise BuildError(f"APXS is {PYPI!r}, but the package {PYPI_PACKAGE} is not in this environment.", "httpd")
    return None


def facts(apxs: Path | None) -> Httpd:
    """Read what the build needs to know about an httpd.

    Args:
        apxs: what `find_apxs` returned.

    Returns:
        The facts, each path checked to be there.

    Raises:
        BuildError: no httpd, or one without its development files.
    """
    if apxs is None:
        raise BuildError(
            "Apache httpd's build tool apxs was not found: not in APXS, not as apxs or apxs2\n"
            "on the PATH, and the package mod-wsgi-httpd is not in this environment.",
            "httpd",
        )
    tree = apxs.parent.parent
    if (tree / "build" / "config_vars.mk").is_file() and (tree / "include" / "httpd.h").is_file():
        return _facts_of_tree(apxs, tree)
    return _facts_of_apxs(apxs)


def _facts_of_apxs(apxs: Path) -> Httpd:
    """Ask apxs, variable by variable: it stops at the first it does not know."""
    sbindir, program = _query(apxs, "SBINDIR"), _query(apxs, "PROGNAME")
    return _checked(
        apxs=apxs,
        binary=Path(sbindir, program),
        include=Path(_query(apxs, "INCLUDEDIR")),
        apr_include=Path(_query(apxs, "APR_INCLUDEDIR")),
        libexecdir=_query(apxs, "LIBEXECDIR"),
        sysconfdir=_query(apxs, "SYSCONFDIR", required=False),
        cppflags=_query(apxs, "EXTRA_CPPFLAGS", required=False),
    )


def _facts_of_tree(apxs: Path, tree: Path) -> Httpd:
    """Read an httpd whose files lie together, wherever that tree was moved to."""
    variables: dict[str, str] = {}
    for line in (tree / "build" / "config_vars.mk").read_text(encoding="utf-8").splitlines():
        name, equals, value = line.partition("=")
        if equals:
            variables[name.strip()] = value.strip()
    return _checked(
        apxs=apxs,
        binary=tree / "bin" / variables.get("progname", "httpd"),
        include=tree / "include",
        apr_include=tree / "include" / "apr-1",
        libexecdir=str(tree / "modules"),
        sysconfdir=str(tree / "conf"),
        cppflags=variables.get("EXTRA_CPPFLAGS", ""),
    )


def _checked(
    *,
    apxs: Path,
    binary: Path,
    include: Path,
    apr_include: Path,
    libexecdir: str,
    sysconfdir: str,
    cppflags: str,
) -> Httpd:
    """Check that what was described is there, and read the versions from the headers."""
    release = _header(apxs, include / "ap_release.h", "httpd's")
    apr = _header(apxs, apr_include / "apr_version.h", "APR's")
    parts = ("MAJORVERSION", "MINORVERSION", "PATCHLEVEL")
    version = [_number(release, f"AP_SERVER_{part}_NUMBER") for part in parts]
    if version[:2] != OLDEST[:2] or version < OLDEST:
        dotted, oldest = (".".join(map(str, number)) for number in (version, OLDEST))
        raise BuildError(
            f"{apxs} belongs to httpd {dotted}, but mod_python needs httpd 2.4, {oldest} or later.", "httpd"
        )
    apr_version = [_number(apr, f"APR_{part}_VERSION") for part in ("MAJOR", "MINOR", "PATCH")]
    return Httpd(
        apxs=str(apxs),
        binary=str(binary),
        version=".".join(map(str, version)),
        apr_version=".".join(map(str, apr_version)),
        libexecdir=libexecdir,
        sysconfdir=sysconfdir,
        includes=(str(include), str(apr_include)),
        cppflags=tuple(cppflags.split()),
    )


def _header(apxs: Path, path: Path, whose: str) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BuildError(
            f"{whose} headers are missing: {apxs} says they are in {path.parent},\n"
            f"but {path} cannot be read ({error.strerror}).",
            "httpd",
        ) from None


def _number(header: str, macro: str) -> int:
    found = re.search(rf"^#\s*define\s+{macro}\s+(\d+)", header, re.MULTILINE)
    return int(found[1]) if found else 0


def _query(apxs: Path, variable: str, *, required: bool = True) -> str:
    """Ask apxs for one variable.

    Args:
        apxs: the program.
        variable: its name, such as "INCLUDEDIR".
        required: whether to raise (or answer "") when apxs does not know it.
    """
    try:
        answer = subprocess.run(
            [str(apxs), "-q", variable],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=APXS_TIMEOUT,
            check=False,
        )
        text, trouble = answer.stdout.strip(), answer.stderr.strip()
        failed = answer.returncode != 0
    except (OSError, subprocess.TimeoutExpired) as error:
        text, trouble, failed = "", str(error), True
    if required and (failed or not text):
        said = trouble or "it printed nothing"
        raise BuildError(f"`{apxs} -q {variable}` failed: {said}", "httpd")
    return "" if failed else text
