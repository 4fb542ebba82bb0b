"""What the machine lacks, and how it gets it.

On Debian and its relatives, as root or with sudo, what is missing is installed;
only that, and without recommended packages.  Of httpd it is `apache2-bin`, the
programs and modules alone: the package `apache2` would also start a server on
port 80, which nobody asked for.

Elsewhere nothing is installed, and the build says what is missing.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from build_support import httpd, python
from build_support.errors import BuildError, compose, this_platform

from .pythons import ROOT, closed_to_others

HTTPD_PACKAGES = ("apache2-bin", "apache2-dev")
PYTHON_PACKAGES = ("python3-venv", "python3-dev")

# What the manual tells people to type, which the tests do type: a program, and its package.
TOOLS = {"openssl": "openssl", "nc": "netcat-openbsd"}

# What tests and linters alone use: a client, a server for sessions and for protocols, its
# programs, a browser, and the list of the repository's files.
TEST_TOOLS = {
    "curl": "curl",
    "git": "git",
    "redis-server": "redis-server",
    "redis-benchmark": "redis-tools",
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
}

# What the PyPI httpd is compiled with: a header, and the package that has it.  Without
# the first it cannot be compiled; without the others it lacks a module.
PYPI_HEADERS = {"expat.h": "libexpat1-dev"}
PYPI_MODULES = {"openssl/ssl.h": ("libssl-dev", "mod_ssl"), "zlib.h": ("zlib1g-dev", "mod_deflate")}


def say(text: str) -> None:
    """Tell the user what is going on."""
    print(f"-- {text}", flush=True)


def fail(text: str) -> NoReturn:
    """End with a message.

    Raises:
        SystemExit: always.
    """
    raise SystemExit(f"\nError: {text}\n")


def is_root() -> bool:
    """Tell whether httpd's children will run as somebody else."""
    return os.geteuid() == 0


def check_checkout(root: Path = ROOT) -> None:
    """As root: make sure that httpd's children can read the checkout.

    Args:
        root: the directory of the checkout.

    Raises:
        SystemExit: they cannot; the message says what to do.
    """
    if not is_root():
        return
    for path in (root, root / "src" / "mod_python", root / "src" / "mod_python" / "__init__.py"):
        obstacle = closed_to_others(path)
        if obstacle is not None:
            fail(
                f"{obstacle} is closed to other users.\n"
                "As root, httpd's children run as www-data or nobody and have to read this checkout.\n"
                "Do one of these:\n"
                f"    run make as an ordinary user\n"
                f"    move the checkout to a directory everybody can enter, such as /srv or /opt\n"
                f"    chmod -R go+rX {shlex.quote(str(obstacle))}"
            )


def privileges() -> list[str] | None:
    """Find out how to run a command as root.

    Returns:
        The words to put in front of it, or None if there is no way.
    """
    if is_root():
        return []
    if shutil.which("sudo") is None:
        return None
    if sys.stdin is not None and sys.stdin.isatty():
        return ["sudo"]
    silent = subprocess.run(["sudo", "-n", "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return ["sudo", "-n"] if silent.returncode == 0 else None


def install_separately(packages: list[str]) -> list[str]:
    """Install packages, and go on if some are not to be had.

    Args:
        packages: Debian's names.

    Returns:
        Those that could not be installed.
    """
    # apt-get installs nothing at all if it does not know one of them.
    if install(packages):
        return []
    if len(packages) < 2 or privileges() is None or shutil.which("apt-get") is None:
        return packages
    return [package for package in packages if not install([package])]


def install(packages: list[str]) -> bool:
    """Install packages of the distribution, if that is possible here.

    Args:
        packages: Debian's names.

    Returns:
        Whether they are installed now.
    """
    if not packages:
        return True
    prefix = privileges()
    if prefix is None or shutil.which("apt-get") is None:
        return False
    say(f"installing {' '.join(packages)}")
    # RUNLEVEL: a package with a server in it is not to start that now (invoke-rc.d(8)).
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-q"]
    # A source of packages that does not answer is no reason to stop: ours may come from another.
    subprocess.run([*apt, "update"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=False)
    done = subprocess.run(
        [*apt, "install", "-y", "--no-install-recommends", *packages], stdin=subprocess.DEVNULL, check=False
    )
    return done.returncode == 0


def has_compiler() -> bool:
    """Tell whether there is a C compiler that works."""
    try:
        python.find_compiler()
    except BuildError:
        return False
    return True


def has_httpd() -> bool:
    """Tell whether there is a whole httpd (not the PyPI one) with its development files."""
    try:
        found = httpd.facts(httpd.find_apxs(site_packages=()))
    except BuildError:
        return False
    return os.access(found.binary, os.X_OK)


def has_header(name: str) -> bool:
    """Tell whether the compiler finds a header.

    Args:
        name: as after `#include`, such as "openssl/ssl.h".
    """
    try:
        words = python.find_compiler()
    except BuildError:
        return False
    result = subprocess.run(
        [*words, "-E", "-x", "c", "-"], input=f"#include <{name}>\n", text=True, capture_output=True, check=False
    )
    return result.returncode == 0


def missing() -> list[str]:
    """List the packages that a server lacks, apart from Python's."""
    packages: list[str] = []
    if not has_compiler():
        packages += ["gcc", "libc6-dev"]
    if not has_httpd():
        packages += HTTPD_PACKAGES
    return packages + [package for program, package in TOOLS.items() if shutil.which(program) is None]


def missing_for_tests() -> list[str]:
    """List the packages that only tests and linters lack."""
    return [package for program, package in TEST_TOOLS.items() if shutil.which(program) is None]


def prepare_for_pypi_httpd() -> None:
    """Make sure that the PyPI httpd can be compiled.

    Raises:
        SystemExit: it cannot; the message says what is missing.
    """
    needed = [package for header, package in PYPI_HEADERS.items() if not has_header(header)]
    if not has_compiler():
        needed.append("gcc")
    if shutil.which("make") is None:
        needed.append("make")
    wanted = {package: what for header, (package, what) in PYPI_MODULES.items() if not has_header(header)}
    if install([*needed, *wanted]):
        return
    if needed:
        problem = f"To compile an httpd from PyPI, this machine lacks: {' '.join(needed)}."
        fail(compose(problem, "pypi-httpd", this_platform()))
    for package, what in wanted.items():
        say(f"{package} is missing, so this httpd will have no {what}")
