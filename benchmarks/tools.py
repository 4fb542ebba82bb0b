"""What the measurements need beside the repository: compiled programs, the peers' packages, an environment.

Everything is made privately and on first use. What is slow to get stays in ``benchmarks/.build`` (downloaded
packages, the environment of the Python peers); what httpd's children must be able to read goes to a temporary
directory that every user may enter, because the checkout may lie in a home directory that they cannot see. Nothing is
installed on the machine.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cached_property
from pathlib import Path

HERE = Path(__file__).resolve().parent
APPS = HERE / "apps"
NATIVE = HERE / "native"
BUILD = HERE / ".build"

#: No download, compilation or installation here takes longer on a slow machine; a hung one must not hang the run.
TOOL_TIMEOUT = 600.0

PYTHON_PEERS = ("uvloop", "gevent")


class UnavailableError(Exception):
    """A contestant or a tool cannot be had here; the text says why and what would help."""


def run(command: list[str], *, cwd: Path | None = None, what: str) -> str:
    """Runs a tool to its end.

    Args:
        command: program and arguments
        cwd: working directory
        what: what is being done, for the message

    Returns:
        The standard output.

    Raises:
        UnavailableError: the program is missing, fails or takes longer than TOOL_TIMEOUT.
    """
    try:
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=TOOL_TIMEOUT, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError:
        raise UnavailableError(f"{what}: the program {command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"{what}: {command[0]} took longer than {TOOL_TIMEOUT:.0f} s") from None
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        detail = "; ".join(lines[-3:]) if lines else "no message"
        raise UnavailableError(f"{what}: {' '.join(command[:3])} … ended with status {done.returncode}: {detail}")
    return done.stdout


class Tools:
    """Finds and builds things once per run; each attribute is made when it is first asked for.

    Args:
        apxs: the apxs of the httpd to measure; default: ``apxs`` or ``apxs2`` on PATH
        httpd: the httpd program; default: the one apxs names
    """

    def __init__(self, apxs: str | None = None, httpd: str | None = None) -> None:
        self._apxs = apxs
        self._httpd = httpd
        # A child may leave files that are not ours when it is killed; a temporary directory left behind is no failure.
        self._temporary = tempfile.TemporaryDirectory(prefix="mod_python-bench-", ignore_cleanup_errors=True)
        self.root = Path(self._temporary.name)
        self.root.chmod(0o755)

    def close(self) -> None:
        """Removes the temporary directory."""
        self._temporary.cleanup()

    def directory(self, name: str) -> Path:
        """A new directory that every user may read, below the temporary one."""
        path = Path(tempfile.mkdtemp(prefix=name + "-", dir=self.root))
        path.chmod(0o755)
        return path

    # ------------------------------------------------------------ httpd

    @cached_property
    def apxs(self) -> str:
        """The path of apxs."""
        for name in [self._apxs] if self._apxs else ["apxs", "apxs2"]:
            if path := shutil.which(name):
                return path
        raise UnavailableError("apxs is not installed (Debian: apt-get install apache2-dev), or name it with --apxs")

    def apxs_query(self, name: str) -> str:
        """One of apxs' facts, such as LIBEXECDIR."""
        return run([self.apxs, "-q", name], what=f"asking apxs for {name}").strip()

    @cached_property
    def httpd(self) -> Path:
        """The httpd program."""
        if self._httpd:
            return Path(self._httpd)
        path = Path(self.apxs_query("SBINDIR")) / self.apxs_query("PROGNAME")
        if not path.exists():
            raise UnavailableError(f"apxs names {path} as httpd, which does not exist; name one with --httpd")
        return path

    @cached_property
    def static_modules(self) -> frozenset[str]:
        """The names of the source files of the modules compiled into httpd, such as ``mod_log_config.c``."""
        return frozenset(run([str(self.httpd), "-l"], what="listing httpd's static modules").split())

    def httpd_version(self) -> str:
        """Such as ``Apache/2.4.62 (Debian)``."""
        return run([str(self.httpd), "-v"], what="asking httpd for its version").splitlines()[0].partition(": ")[2]

    def httpd_module(self, name: str) -> Path:
        """The path of one of httpd's own modules, such as ``mod_echo``."""
        path = Path(self.apxs_query("LIBEXECDIR")) / f"{name}.so"
        if not path.exists():
            raise UnavailableError(f"this httpd comes without {path.name} ({path})")
        return path

    # ------------------------------------------------------------ compiled here

    @cached_property
    def load_generator(self) -> Path:
        """The load generator, compiled."""
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or "cc"
        target = self.root / "load"
        run(
            [*compiler.split(), "-O2", "-Wall", "-o", str(target), str(NATIVE / "load.c")],
            what="compiling the load generator",
        )
        return target

    @cached_property
    def c_handler(self) -> Path:
        """The C hello handler, compiled with apxs."""
        return self._compiled("mod_bench_hello")

    @cached_property
    def c_filter(self) -> Path:
        """The C filter, compiled with apxs."""
        return self._compiled("mod_bench_filter")

    def _compiled(self, name: str) -> Path:
        work = self.directory(name)
        shutil.copy(NATIVE / f"{name}.c", work)
        run([self.apxs, "-c", f"{name}.c"], cwd=work, what=f"compiling {name}.c")
        return work / ".libs" / f"{name}.so"

    # ------------------------------------------------------------ peers' packages

    def debian_package(self, name: str) -> Path:
        """The unpacked tree of a Debian package, which is downloaded once and not installed.

        Args:
            name: the binary package

        Returns:
            The directory that stands for ``/``.
        """
        cache = BUILD / "debian"
        cache.mkdir(parents=True, exist_ok=True)
        found = sorted(cache.glob(f"{name}_*.deb"))
        if not found:
            run(["apt-get", "-q", "download", name], cwd=cache, what=f"downloading Debian's {name}")
            found = sorted(cache.glob(f"{name}_*.deb"))
        target = self.directory(name)
        run(["dpkg", "-x", str(found[-1]), str(target)], what=f"unpacking {found[-1].name}")
        target.chmod(0o755)
        return target

    @cached_property
    def old_mod_python(self) -> Path:
        """The tree of Debian's package of the old mod_python."""
        return self.debian_package("libapache2-mod-python")

    @cached_property
    def mod_wsgi(self) -> Path:
        """mod_wsgi.so of Debian's package."""
        return self.debian_package("libapache2-mod-wsgi-py3") / "usr/lib/apache2/modules/mod_wsgi.so"

    @cached_property
    def peers_python(self) -> Path:
        """The interpreter of an environment with the Python peers: the version that runs the benchmarks."""
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        environment = BUILD / f"venv-{version}"
        python = environment / "bin" / "python"
        done = environment / "complete"
        if not done.exists():
            run([sys.executable, "-m", "venv", "--clear", str(environment)], what="making the peers' environment")
            run(
                [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *PYTHON_PEERS],
                what=f"installing {', '.join(PYTHON_PEERS)}",
            )
            done.touch()
        return python

    # ------------------------------------------------------------ ours

    @cached_property
    def our_module(self) -> Path:
        """mod_python.so of the package installed in the environment that runs the benchmarks."""
        spec = importlib.util.find_spec("mod_python")
        if spec is None or not spec.submodule_search_locations:
            raise UnavailableError(f"mod_python is not installed for {sys.executable}; run: pip install .")
        path = Path(next(iter(spec.submodule_search_locations))) / "mod_python.so"
        if not path.exists():
            raise UnavailableError(f"{path} has not been built; run: pip install .")
        return path
