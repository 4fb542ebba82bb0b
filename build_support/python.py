"""Which Python to build for: the one that runs the build.

The module embeds Python, so it needs more than an extension does: a shared
`libpython` next to the headers and the compiler.  An environment made with
`venv` shares the library of the Python it was made from, so that is where to
look, and where httpd's dynamic linker will look at run time.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import BuildError

# Where every dynamic linker looks by itself, so that no run path is needed.
SYSTEM_LIBDIRS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64")
COMPILE_TIMEOUT = 120  # seconds for a three-line program, on the slowest of machines

ConfigVar = Callable[[str], object]


@dataclass(frozen=True)
class Libpython:
    """A shared libpython.

    Args:
        path: the file to link with.
        rpath: the directory that the module must remember, or None if the
            dynamic linker finds the library by itself.
    """

    path: str
    rpath: str | None


def find_libpython(base_prefix: str = sys.base_prefix, config_var: ConfigVar = sysconfig.get_config_var) -> Libpython:
    """Find the shared library of the Python that runs the build.

    The library below the prefix is preferred to the directory that was
    configured: a Python that was copied or unpacked elsewhere still knows only
    where it was meant to be.

    Args:
        base_prefix: where the Python is (not the virtual environment).
        config_var: `sysconfig.get_config_var`.

    Returns:
        The library.

    Raises:
        BuildError: this Python has no shared library.
    """
    names = [str(config_var(name) or "") for name in ("INSTSONAME", "LDLIBRARY")]
    names = [Path(name).name for name in names if name and not name.endswith(".a")]
    libdir, multiarch = str(config_var("LIBDIR") or ""), str(config_var("MULTIARCH") or "")
    directories = [Path(base_prefix, "lib"), Path(base_prefix, "lib64")]
    if libdir:
        directories += [Path(libdir), Path(libdir, multiarch)]
    if config_var("LIBPL"):
        directories.append(Path(str(config_var("LIBPL"))))
    system = {*SYSTEM_LIBDIRS, *(f"{d}/{multiarch}" for d in SYSTEM_LIBDIRS if multiarch)}
    for directory in directories:
        for name in names:
            path = directory / name
            if path.is_file():
                rpath = None if str(directory) in system else str(directory)
                return Libpython(str(path), rpath)
    looked = ", ".join(dict.fromkeys(str(d) for d in directories))
    if names:
        problem = f"The shared library {names[0]} was not found in {looked}."
    else:
        problem = "It was built without a shared library, which a module of httpd must link with."
    raise BuildError(f"Python {sys.version.split()[0]} at {base_prefix} cannot be embedded.\n{problem}", "libpython")


def executable(current: str = sys.executable, version: tuple[int, ...] = tuple(sys.version_info[:2])) -> str:
    """Name this Python's program in the same way, however it was called.

    An environment has it as python, python3 and python3.11; each name would
    otherwise count as another Python, and be built for anew.

    Args:
        current: what `sys.executable` says.
        version: its version; two numbers are enough.

    Returns:
        The path with the most exact name, if there is one beside it.
    """
    exact = Path(current).with_name(f"python{version[0]}.{version[1]}")
    return str(exact if exact.is_file() else Path(current))


def check_headers(include: str | None = None) -> str:
    """Make sure that Python.h is there.

    Args:
        include: the directory to look in; by default this Python's.

    Returns:
        The directory.

    Raises:
        BuildError: it is not there.
    """
    directory = include if include is not None else sysconfig.get_path("include")
    if not Path(directory, "Python.h").is_file():
        raise BuildError(f"Python's headers are missing: there is no {directory}/Python.h.", "python-headers")
    return directory


def find_compiler(environ: Mapping[str, str] = os.environ, configured: object = None) -> list[str]:
    """Find a C compiler that works.

    Args:
        environ: the environment; CC and PATH are looked at.
        configured: the command that Python was compiled with; by default
            this Python's.

    Returns:
        The command, as words.

    Raises:
        BuildError: there is none, or it cannot compile a small program.
    """
    if configured is None:
        configured = sysconfig.get_config_var("CC")
    given = environ.get("CC")
    candidates = [given] if given else [str(configured or ""), "cc", "gcc", "clang"]
    for command in candidates:
        words = shlex.split(command)
        if words and shutil.which(words[0], path=environ.get("PATH")):
            _try_compiler(words, environ)
            return words
    tried = ", ".join(c for c in candidates if c)
    raise BuildError(f"No C compiler was found (tried: {tried}).", "compiler")


def _try_compiler(words: list[str], environ: Mapping[str, str]) -> None:
    """Compile a program that needs the C library's headers: often they are what is missing."""
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory, "try.c")
        source.write_text("#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n", encoding="ascii")
        try:
            result = subprocess.run(
                [*words, "-o", str(source.with_suffix("")), str(source)],
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=COMPILE_TIMEOUT,
                check=False,
            )
            said = result.stderr.strip() if result.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            said = str(error)
        if said:
            first = "\n".join(said.splitlines()[:5])
            raise BuildError(f"The C compiler {shlex.join(words)} does not work:\n{first}", "compiler")
