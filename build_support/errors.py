"""What is missing for a build, said once and with the remedy for each platform.

A newcomer meets the build before anything else, on a machine we know nothing
about.  So every failure that we can foresee says what is missing, where it was
looked for, and the one command that helps: first the command for the platform
the build runs on, then the others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

OS_RELEASE = Path("/etc/os-release")

# The words by which a platform is told apart, and its name in a message.
PLATFORMS: Mapping[str, str] = {
    "debian": "Debian, Ubuntu",
    "fedora": "Fedora, RHEL",
    "alpine": "Alpine",
    "macos": "macOS (Homebrew)",
}

_NO_ROOT_HTTPD = (
    "without root",
    """APXS=pypi pip install 'mod_python[httpd]'   (in a checkout: '.[httpd]')
which compiles an httpd of its own; that takes some minutes, and needs gcc,
make and the headers of expat, OpenSSL and zlib""",
)
_APXS_SETTING = (
    "httpd elsewhere",
    "APXS=/path/to/apxs pip install ...\nor pip install --config-settings apxs=/path/to/apxs ...",
)
_PYENV = ("pyenv", "PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install VERSION")

Remedy = tuple[str, str]

REMEDIES: Mapping[str, tuple[Remedy, ...]] = {
    "compiler": (
        ("debian", "apt-get install gcc libc6-dev make"),
        ("fedora", "dnf install gcc make redhat-rpm-config"),
        ("alpine", "apk add build-base linux-headers"),
        ("macos", "xcode-select --install"),
        ("another compiler", "CC=/path/to/compiler pip install ..."),
    ),
    "httpd": (
        ("debian", "apt-get install apache2-bin apache2-dev"),
        ("fedora", "dnf install httpd httpd-devel"),
        ("alpine", "apk add apache2 apache2-dev"),
        ("macos", "brew install httpd"),
        _NO_ROOT_HTTPD,
        _APXS_SETTING,
    ),
    "pypi-httpd": (
        ("debian", "apt-get install gcc make libc6-dev libexpat1-dev libssl-dev zlib1g-dev"),
        ("fedora", "dnf install gcc make expat-devel openssl-devel zlib-devel"),
        ("alpine", "apk add build-base linux-headers expat-dev openssl-dev zlib-dev"),
        ("macos", "brew install expat openssl"),
    ),
    "python-headers": (
        ("debian", "apt-get install python3-dev"),
        ("fedora", "dnf install python3-devel"),
        ("alpine", "apk add python3-dev"),
        ("macos", "brew install python"),
        _PYENV,
    ),
    "libpython": (
        ("debian", "apt-get install python3-dev     (for /usr/bin/python3)"),
        ("fedora", "dnf install python3-devel       (for /usr/bin/python3)"),
        ("alpine", "apk add python3-dev             (for /usr/bin/python3)"),
        ("macos", "brew install python"),
        _PYENV,
        ("from source", "./configure --enable-shared && make && make install"),
    ),
}


class BuildError(Exception):
    """A build that cannot go on, for a reason that the user can remove.

    Args:
        problem: what is missing and where it was looked for, as sentences.
        remedy: a key of `REMEDIES`.
        platform: a key of `PLATFORMS`; worked out if not given.
    """

    def __init__(self, problem: str, remedy: str, platform: str | None = None) -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(compose(problem, remedy, platform or this_platform()))


def this_platform(os_release: Path = OS_RELEASE, system: str = sys.platform) -> str:
    """Tell which of `PLATFORMS` this is.

    Args:
        os_release: the file that os-release(5) describes.
        system: what `sys.platform` says.

    Returns:
        A key of `PLATFORMS`, or "" for a platform not listed there.
    """
    if system == "darwin":
        return "macos"
    try:
        lines = os_release.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    names = f"{fields.get('ID', '')} {fields.get('ID_LIKE', '')}".replace('"', "").split()
    aliases = {"ubuntu": "debian", "rhel": "fedora", "centos": "fedora"}
    for name in names:
        name = aliases.get(name, name)
        if name in PLATFORMS:
            return name
    return ""


def compose(problem: str, remedy: str, platform: str) -> str:
    """Make the message: the problem, this platform's remedy, the other remedies.

    Args:
        problem: what is missing, as sentences.
        remedy: a key of `REMEDIES`.
        platform: a key of `PLATFORMS`, or "".

    Returns:
        Several lines without a trailing newline.
    """
    rows = REMEDIES[remedy]
    here = [command for name, command in rows if name == platform]
    others = [(name, command) for name, command in rows if name != platform]
    sudo = "" if platform == "macos" or os.geteuid() == 0 else "sudo "
    lines = [problem]
    if here:
        lines += ["", f"To put it right on this machine ({PLATFORMS[platform]}):"]
        lines += [f"    {sudo}{here[0]}"]
        lines += ["", "Elsewhere:"]
    else:
        lines += ["", "To put it right:"]
    width = max(len(PLATFORMS.get(name, name)) for name, _ in others)
    for name, command in others:
        first, *rest = command.splitlines()
        lines.append(f"    {PLATFORMS.get(name, name):<{width}}  {first}")
        lines += [f"    {'':<{width}}  {line}" for line in rest]
    return "\n".join(lines)
