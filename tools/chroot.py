"""Run commands in another release of Debian: a chroot, made by debootstrap and kept between runs.

    python3 -m tools.chroot sid -- make test
    python3 -m tools.chroot trixie --fresh --packages make,curl -- make run
    python3 -m tools.chroot sid --shell

As root only.  The chroot gets the network, apt and pip settings of the machine, and
a copy of the checkout in /srv/mod_python.

Each command runs in mount and PID namespaces of its own (unshare(1)).  What is mounted
for it is never mounted on the machine itself; when the command ends, fails or is killed,
the kernel ends what is left of its processes and removes the mounts.  The network is the
machine's.  Several commands may run at the same time, also in the same chroot.

A chroot is complete once it has a marker.  One without it was interrupted, and is
made again; so is one that is old, or made by another version of this file.

Environment variables:
    MOD_PYTHON_CHROOTS   the directory of the chroots (/var/cache/mod_python/chroots)
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from . import network_settings, system
from .pythons import ROOT

CHROOTS = "/var/cache/mod_python/chroots"
CHECKOUT = "/srv/mod_python"

# Written last, in the chroot: what made it, and when.
MARKER = "etc/mod_python-chroot.json"
# The files of the checkout that were copied last, beside the copy.
LISTING = ".mod_python-copied"
# A change of what `Chroot._make` does changes this, and makes old chroots anew.
VERSION = 1
MAX_AGE = 30 * 86400  # seconds: later, sid has moved on too far to install more into it

#: Exit status of the command line if there can be no chroot (EX_UNAVAILABLE of sysexits.h).
UNAVAILABLE = 69

# Of the machine's environment, what says how to reach the network.
PASSED_ON = (
    "http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy",
    "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "TERM",
)  # fmt: skip

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "PYTHONUNBUFFERED": "1",
}

# Process 1 of the namespace: mounts, runs the command, and reaps what the command leaves behind.
# Arguments: the chroot, the number of directories to bind, those, the command.
_ENTER = """
set -e
root=$1 count=$2; shift 2
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
while [ "$count" -gt 0 ]; do
    mount --bind "$1" "$root$1"
    mount -o remount,bind,ro "$root$1"
    shift; count=$((count - 1))
done
set +e
chroot "$root" "$@"
exit $?
"""
# The kernel kills unshare when this program ends, and process 1 of the namespace when unshare ends.
_NAMESPACES = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"),
)
# It mounts things, too, which do not stay if it fails.
_DEBOOTSTRAP = (*_NAMESPACES, "--mount-proc", "debootstrap", "--variant=minbase", "--force-check-gpg")

# Packages with a server in them must not start it (invoke-rc.d(8)).
_POLICY = "#!/bin/sh\nexit 101\n"


class ChrootUnavailable(Exception):  # noqa: N818  (a state, not a fault)
    """There can be no chroot here and now.

    Args:
        reason: why, for people.

    Attributes:
        reason: the same.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def checkout_files(root: Path) -> list[str]:
    """List the files of a checkout: what git tracks, and what is new and not ignored.

    Args:
        root: the directory of the checkout.

    Returns:
        Names relative to it, without those that are deleted.

    Raises:
        ChrootUnavailable: git cannot list them.
    """
    command = ["git", "-c", f"safe.directory={root}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    except OSError as error:
        raise ChrootUnavailable(f"the checkout cannot be copied: {error}") from None
    except subprocess.CalledProcessError as error:
        raise ChrootUnavailable(f"the checkout cannot be copied: {_last_line(error.stderr)}") from None
    names = sorted(set(os.fsdecode(done.stdout).split("\0")) - {""})
    return [name for name in names if os.path.lexists(root / name)]


def copy_files(source: Path, target: Path, names: Sequence[str]) -> None:
    """Bring a copy of files up to date, readable to everybody; leave others there alone.

    Files of an earlier copy that are not among them any more are removed.  What did not
    change is left as it is, so that nothing is built anew because of it.

    Args:
        source: where they are.
        target: where they are copied to.
        names: relative to both.
    """
    target.mkdir(mode=0o755, parents=True, exist_ok=True)
    listing = target / LISTING
    names = [name for name in names if not name.endswith("/")]  # a repository inside this one, which git does not list
    before = listing.read_text(encoding="utf-8", errors="surrogateescape").split("\0") if listing.exists() else []
    for name in set(before) - set(names) - {""}:
        with contextlib.suppress(OSError):
            (target / name).unlink()
    for name in names:
        _copy_file(source / name, target / name, target)
    listing.write_text("\0".join(names), encoding="utf-8", errors="surrogateescape")


def _copy_file(source: Path, target: Path, top: Path) -> None:
    """Copy one file or link, unless it is there already."""
    for directory in (*reversed(target.parents), target.parent):
        if directory != top and top in directory.parents and not directory.is_dir():
            directory.unlink(missing_ok=True)  # a file of an earlier copy
            directory.mkdir(mode=0o755)
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)  # a directory of an earlier copy
    if source.is_symlink():
        link = os.readlink(source)
        if not (target.is_symlink() and os.readlink(target) == link):
            target.unlink(missing_ok=True)
            target.symlink_to(link)
        return
    data = source.read_bytes()
    mode = 0o755 if os.access(source, os.X_OK) and source.stat().st_mode & 0o100 else 0o644
    if target.is_symlink() or not target.is_file() or target.read_bytes() != data:
        target.unlink(missing_ok=True)
        target.write_bytes(data)
    target.chmod(mode)


class Chroot:
    """A chroot of one release of Debian.

    Args:
        release: its name, such as "sid".
        base: the directory of the chroots.

    Attributes:
        release: the same.
        path: the root directory in it.

    Raises:
        ValueError: that is not the name of a release.
    """

    def __init__(self, release: str, base: Path | None = None) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9-]*", release):
            raise ValueError(f"not the name of a release: {release!r}")
        self.release = release
        self.base = base or Path(os.environ.get("MOD_PYTHON_CHROOTS") or CHROOTS)
        self.path = self.base / release
        self._binds: list[str] = []

    @property
    def complete(self) -> bool:
        """Whether the chroot was made to its end, by this version of the tool, and not too long ago."""
        try:
            marker = json.loads((self.path / MARKER).read_text(encoding="utf-8"))
            age = time.time() - marker["made"]
            return bool(marker["version"] == VERSION and marker["release"] == self.release and age < MAX_AGE)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def prepare(self, packages: Iterable[str] = (), *, fresh: bool = False) -> None:
        """Make the chroot if there is none, and bring settings and packages up to date.

        Args:
            packages: what is to be installed, by Debian's names.
            fresh: make it anew in any case.

        Raises:
            ChrootUnavailable: it cannot be made.
        """
        if not system.is_root():
            raise ChrootUnavailable("only root can make a chroot")
        wanted = list(packages)
        with self._lock("made"), _umask(0o022):
            made = fresh or not self.complete
            if made:
                self._make()
            self.configure()
            try:
                self._install(wanted)
            except ChrootUnavailable:
                if made:
                    raise
                system.say(f"{self.path} cannot be brought up to date; it is made again")
                self._make()
                self.configure()
                self._install(wanted)

    def configure(self) -> None:
        """Copy the machine's network, apt and pip settings into the chroot."""
        environ = os.environ
        texts = []
        for path in network_settings.pip_configurations(environ):
            with contextlib.suppress(OSError):
                texts.append(path.read_text(encoding="utf-8", errors="replace"))
        pip = network_settings.pip_options(texts, environ)
        apt = network_settings.apt_options(_output(["apt-config", "dump"]))
        self._binds = network_settings.local_directories(pip)

        for name in ("etc/resolv.conf", "etc/hosts"):
            self._copy_setting(Path("/", name))
        for directory in ("/etc/ssl/certs", "/usr/local/share/ca-certificates"):
            for file in sorted(Path(directory).glob("*")):
                # A link is the chroot's own, made by its package ca-certificates.
                if not self._within(file).is_symlink():
                    self._copy_setting(file)
        for file in network_settings.certificate_files(environ, pip, apt):
            # There may be private keys among them.
            self._copy_setting(file, mode=0o644 if file.stat().st_mode & 0o004 else 0o600)
        for file in (Path("/etc/apt/auth.conf"), *sorted(Path("/etc/apt/auth.conf.d").glob("*.conf"))):
            self._copy_setting(file, mode=0o600)
        # Addresses may have passwords in them, and httpd's children in the chroot need neither file.
        self._write("etc/apt/apt.conf.d/99mod_python-chroot", apt, mode=0o600)
        lines = "".join(f"{name} = {_indent(pip[name])}\n" for name in pip)
        self._write("etc/pip.conf", f"[global]\n{lines}", mode=0o600)
        self._write("usr/sbin/policy-rc.d", _POLICY, mode=0o755)
        for bind in self._binds:
            self._within(Path(bind)).mkdir(parents=True, exist_ok=True)

    def install(self, packages: Iterable[str]) -> None:
        """Install packages, without recommended ones, if they are not there.

        Args:
            packages: Debian's names.

        Raises:
            ChrootUnavailable: they cannot be installed.
        """
        with self._lock("made"):
            self._install(list(packages))

    def _install(self, packages: list[str]) -> None:
        lacking = [package for package in packages if not self._is_installed(package)]
        if not lacking:
            return
        system.say(f"{self.release}: installing {' '.join(lacking)}")
        # What an interrupted installation left comes first.
        self._apt("dpkg", "--force-confdef", "--configure", "-a")
        self._apt("apt-get", "-q", "update")
        self._apt("apt-get", "-q", "install", "-y", "--no-install-recommends", *lacking)

    def _apt(self, *command: str) -> None:
        done = self.capture(command)
        if done.returncode:
            print(done.stdout, end="", file=sys.stderr)
            raise ChrootUnavailable(f"{self.release}: {shlex.join(command)} failed: {_last_line(done.stdout)}")

    def _is_installed(self, package: str) -> bool:
        """Tell whether a package is installed; the files of dpkg say so without a command."""
        try:
            status = (self.path / "var/lib/dpkg/status").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return re.search(rf"^Package: {re.escape(package)}\nStatus: \S+ ok installed$", status, re.M) is not None

    def pythons(self) -> list[tuple[int, int]]:
        """List the versions of Python 3 that this release has packages of, oldest first.

        Raises:
            ChrootUnavailable: its package lists cannot be read.
        """
        self._apt("apt-get", "-q", "update")
        names = self.capture(["apt-cache", "pkgnames", "python3."]).stdout
        return sorted((3, int(minor)) for minor in re.findall(r"^python3\.(\d+)-venv$", names, re.M))

    def copy_checkout(self, place: str = CHECKOUT, root: Path = ROOT) -> None:
        """Copy the checkout as it is now; keep what was built in an earlier copy.

        Args:
            place: where to, an absolute path in the chroot.
            root: the checkout.

        Raises:
            ChrootUnavailable: the files cannot be listed.
        """
        with _umask(0o022):
            copy_files(root, self._within(Path(place)), checkout_files(root))

    @contextlib.contextmanager
    def checkout_lock(self) -> Iterator[None]:
        """Have the copy of the checkout for oneself, from the copying to the end of what is run in it.

        Raises:
            ChrootUnavailable: the lock cannot be made.
        """
        with self._lock("checkout"):
            yield

    @staticmethod
    def environ(env: Mapping[str, str] | None = None) -> dict[str, str]:
        """Compose the whole environment of a command: every user can read a command line, but not this.

        Args:
            env: more environment variables.
        """
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return {**ENVIRONMENT, **passed, **(env or {})}

    def command(self, command: Sequence[str], cwd: str = "/") -> list[str]:
        """Compose the command line that runs a command in the chroot; it needs `environ()`.

        Args:
            command: the words of it.
            cwd: the directory to run it in, in the chroot.

        Returns:
            Words for the machine itself, as root.
        """
        words = ["/bin/sh", "-c", 'umask 022; cd "$0" && exec "$@"', cwd, *command]
        return [*_NAMESPACES, "sh", "-c", _ENTER, "sh", str(self.path), str(len(self._binds)), *self._binds, *words]

    def run(self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: str = CHECKOUT) -> int:
        """Run a command in the chroot; what it prints goes where our own output goes.

        Args:
            command: the words of it.
            env: more environment variables.
            cwd: the directory to run it in, in the chroot.

        Returns:
            Its exit status.
        """
        with self._lock("used", shared=True):
            return subprocess.run(
                self.command(command, cwd), env=self.environ(env), stdin=subprocess.DEVNULL, check=False
            ).returncode

    def capture(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: str = "/"
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the chroot and keep what it prints, errors among it.

        Args:
            command: the words of it.
            env: more environment variables.
            cwd: the directory to run it in, in the chroot.
        """
        with self._lock("used", shared=True):
            return subprocess.run(
                self.command(command, cwd),
                env=self.environ(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
            )

    def shell(self, cwd: str = CHECKOUT) -> int:
        """Run a shell in the chroot on our own terminal.

        Returns:
            Its exit status.
        """
        with self._lock("used", shared=True):
            return subprocess.run(self.command(["/bin/bash"], cwd), env=self.environ(), check=False).returncode

    def remove(self) -> None:
        """Remove the chroot, whole or not, as soon as no command runs in it.

        Raises:
            ChrootUnavailable: something is mounted in it.
        """
        with self._lock("used"):
            self._remove()

    def _remove(self) -> None:
        # Nothing of ours can be: our mounts are in namespaces of their own.  Somebody else's must not be emptied.
        inside = f"{self.path.resolve()}/"
        for mounted in _mount_points():
            if f"{mounted}/".startswith(inside):
                raise ChrootUnavailable(f"{mounted} is mounted; unmount it first")
        if self.path.is_symlink():
            raise ChrootUnavailable(f"{self.path} is a link")
        # The marker goes first: a removal that is interrupted leaves no chroot that looks complete.
        (self.path / MARKER).unlink(missing_ok=True)
        if self.path.exists():
            shutil.rmtree(self.path)

    def _make(self) -> None:
        if shutil.which("debootstrap") is None and not system.install(["debootstrap"]):
            raise ChrootUnavailable("debootstrap is not installed and cannot be")
        if subprocess.run(
            [*_NAMESPACES, "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False
        ).returncode:
            raise ChrootUnavailable(
                "root cannot make mount and PID namespaces here (in a chroot or a container, for instance)"
            )
        self.remove()
        archive = network_settings.mirror(network_settings.apt_sources())
        words = [self.release, str(self.path), *([archive] if archive else [])]
        environ = dict(os.environ)
        proxy = re.search(r'^Acquire::http::Proxy "([^"]+)";', _output(["apt-config", "dump"]), re.M)
        if proxy and proxy[1].upper() != "DIRECT":
            environ.setdefault("http_proxy", proxy[1])
        system.say(f"debootstrap {shlex.join(words)}")
        done = subprocess.run(
            [*_DEBOOTSTRAP, *words],
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            print("".join(done.stdout.splitlines(keepends=True)[-20:]), end="", file=sys.stderr)
            raise ChrootUnavailable(f"debootstrap of {self.release} failed: {_last_line(done.stdout)}")
        marker = {"version": VERSION, "release": self.release, "made": time.time()}
        self._write(MARKER, json.dumps(marker))

    def _within(self, path: Path) -> Path:
        """Name a path of the chroot as the machine sees it."""
        return self.path / path.relative_to("/")

    def _copy_setting(self, path: Path, mode: int = 0o644) -> None:
        """Copy a file of the machine, or what it links to, to the same place in the chroot."""
        try:
            data = path.read_bytes()
        except OSError:
            return
        self._write(str(path.relative_to("/")), data, mode)

    def _write(self, name: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file in the chroot.

        If the file is a link, the link is replaced: followed from outside, it would lead into the machine.
        """
        path = self.path / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        if path.is_file() and not path.is_symlink() and path.read_bytes() == data:
            path.chmod(mode)
            return
        new = path.with_name(f"{path.name}.new")
        new.unlink(missing_ok=True)
        new.touch(mode=0o600)
        new.write_bytes(data)
        new.chmod(mode)
        new.replace(path)

    @contextlib.contextmanager
    def _lock(self, what: str, *, shared: bool = False) -> Iterator[None]:
        """Hold a lock of this chroot.

        Args:
            what: "made", which one process holds while it makes it or installs into it, "used", which
                all hold that run something there, or the one that removes it, or "checkout".
            shared: whether others may hold it at the same time.

        Raises:
            ChrootUnavailable: its file cannot be made, or its directory is not root's alone to write to.
        """
        try:
            if not self.base.exists():
                # Closed to others, who need nothing in it: a chroot does not check what is above its root directory.
                self.base.mkdir(mode=0o700, parents=True)
            state = self.base.stat()
            if state.st_uid != os.geteuid() or state.st_mode & 0o022:
                raise ChrootUnavailable(f"{self.base} can be written to by other users")
            handle = open(self.base / f".{self.release}.{what}", "w")  # noqa: SIM115  (closed below)
        except OSError as error:
            raise ChrootUnavailable(f"{self.base}: {error.strerror}") from None
        with handle:
            fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            yield


def _output(command: list[str]) -> str:
    """Run a command of the machine; return what it prints, or "" if there is no such command."""
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""


def _mount_points() -> list[str]:
    """List where things are mounted on the machine."""
    with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        # Blanks and backslashes in names are written in octal.
        return [re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), line.split()[1]) for line in file]


def _last_line(text: str | bytes | None) -> str:
    """Return the last line that says something."""
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return lines[-1] if lines else "no reason given"


def _indent(value: str) -> str:
    """Write a value of several lines as configparser reads it."""
    return value.replace("\n", "\n    ")


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    """Set the umask for a while."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def main(arguments: Sequence[str]) -> int:
    """Make a chroot, copy the checkout into it, run a command there.

    Args:
        arguments: of the command line.

    Returns:
        The exit status: the command's, or `UNAVAILABLE`.
    """
    parser = argparse.ArgumentParser(
        prog="python3 -m tools.chroot",
        usage="%(prog)s RELEASE [options] [-- COMMAND...]",
        description="Run a command in another release of Debian, in a copy of the checkout.",
    )
    parser.add_argument("release", help="such as sid or trixie")
    parser.add_argument("--fresh", action="store_true", help="make the chroot anew")
    parser.add_argument("--shell", action="store_true", help="run a shell there afterwards")
    parser.add_argument("--packages", default="", help="Debian packages to install first, separated by commas")
    parser.add_argument("--place", default=CHECKOUT, help="the directory of the copy, in the chroot (%(default)s)")
    # argparse takes words after an option for the command only if they come in one piece.
    words = list(arguments)
    split = words.index("--") if "--" in words else len(words)
    given, command = parser.parse_args(words[:split]), words[split + 1 :]
    try:
        chroot = Chroot(given.release)
        chroot.prepare([name for name in given.packages.split(",") if name], fresh=given.fresh)
        chroot.copy_checkout(given.place)
    except ChrootUnavailable as error:
        print(f"\nNot available: {error.reason}\n", file=sys.stderr)
        return UNAVAILABLE
    status = chroot.run(command, cwd=given.place) if command else 0
    return chroot.shell(given.place) if given.shell else status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
