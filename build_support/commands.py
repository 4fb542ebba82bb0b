"""The setuptools commands: two native parts, and the facts of the build.

The package has two native parts, and setuptools knows only one kind:

* `mod_python._core` is an extension written in Cython.  httpd's, APR's and the
  shell's symbols stay undefined in it; they resolve inside httpd.
* `mod_python/mod_python.so` is the module that httpd loads.  It is not an
  extension: it has a plain name, and it links with libpython.

Both are declared as extensions in `setup.py`, empty, so that asking for the
package's metadata needs neither a compiler nor an httpd.  They are filled in
when something is to be built.

What is built depends on the Python, the httpd and the debug switch, and one
checkout may be built for several of them in turn (the tests do).  So each
combination has its own build directory, and a stamp file in it makes a changed
setting count as a changed source.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

from setuptools import Command, Extension
from setuptools.command.build import build as setuptools_build
from setuptools.command.build_ext import build_ext as setuptools_build_ext
from setuptools.errors import SetupError

from . import httpd, python
from .errors import BuildError

ROOT = Path(__file__).resolve().parent.parent
SHELL = "mod_python.mod_python"
CORE = "mod_python._core"
FACTS = Path("mod_python", "_build.py")

# The rules for the core.  One line each for what would break without it.
DIRECTIVES = {
    "language_level": 3,
    # Refused in a second interpreter without it.
    "subinterpreters_compatible": "own_gil",
    # Methods of our types look and pickle like methods of Python classes.
    "binding": True,
    # Signatures for help() and the documentation.
    "embedsignature": True,
    "embedsignature.format": "python",
}
# Constants, caches and types live in the module object, one for each
# interpreter.  Module state without type specs crashes on 3.13 with a GIL of
# its own.
CORE_MACROS = [("CYTHON_USE_MODULE_STATE", "1"), ("CYTHON_USE_TYPE_SPECS", "1")]


def debug_build() -> bool:
    """Tell whether MOD_PYTHON_DEBUG_BUILD asks for a debug build."""
    return os.environ.get("MOD_PYTHON_DEBUG_BUILD", "") not in ("", "0")


class Settings:
    """Everything that decides what the compiler is to do, looked up once.

    Raises:
        BuildError: something that the build needs is missing.
    """

    def __init__(self, version: str) -> None:
        self.version = version
        self.debug = debug_build()
        self.compiler = python.find_compiler()
        self.python_include = python.check_headers()
        self.libpython = python.find_libpython()
        self.executable = os.environ.get("MOD_PYTHON_EXECUTABLE") or python.executable()
        self.httpd = httpd.facts(httpd.find_apxs())

    def key(self) -> str:
        """Name these settings; the same settings always have the same name."""
        words = (
            self.version,
            self.debug,
            self.compiler,
            self.python_include,
            self.libpython,
            self.executable,
            self.httpd,
            [os.environ.get(name) for name in ("CFLAGS", "CPPFLAGS", "LDFLAGS")],
            sys.version,
        )
        digest = hashlib.sha256(repr(words).encode()).hexdigest()[:8]
        return f"cp{sys.version_info[0]}{sys.version_info[1]}-httpd{self.httpd.version}-{digest}"

    def facts(self) -> str:
        """Compose `mod_python/_build.py`."""
        found = self.httpd.installed_at(Path(sysconfig.get_path("platlib")))
        values: dict[str, object] = {
            "HTTPD": found.binary,
            "HTTPD_VERSION": found.version,
            "APR_VERSION": found.apr_version,
            "LIBEXECDIR": found.libexecdir,
            "SYSCONFDIR": found.sysconfdir,
            "APXS": found.apxs,
            "PYTHON_BIN": self.executable,
            "DEBUG_BUILD": self.debug,
        }
        lines = ['"""The facts of this build; made by it, not to be edited."""', ""]
        lines += [f"{name} = {value!r}" for name, value in values.items()]
        return "\n".join(lines) + "\n"

    def fill_in(self, extension: Extension) -> None:
        """Fill in one of the two declared extensions."""
        shell = extension.name == SHELL
        sources = ROOT / "src" / ("shell" if shell else "core")
        if shell:
            extension.sources = sorted(str(p.relative_to(ROOT)) for p in sources.glob("*.c"))
        extension.depends = sorted(
            str(p) for p in (ROOT / "src").glob("*/*") if p.suffix in (".h", ".pxd", ".pyx", ".pxi")
        )
        extension.include_dirs = [str(ROOT / "src" / "shell"), *self.httpd.includes]
        optimise = ["-O1", "-g"] if self.debug else ["-O2"]
        extension.extra_compile_args = [*self.httpd.cppflags, "-fvisibility=hidden", *optimise]
        extension.define_macros = [("MP_VERSION", f'"{self.version}"')]
        if self.debug:
            extension.define_macros.append(("MP_DEBUG", "1"))
            extension.undef_macros = ["NDEBUG"]
        if shell:
            extension.define_macros.append(("MP_PYTHON_EXECUTABLE", f'"{self.executable}"'))
            extension.extra_compile_args += ["-Wall", "-Wextra"]
            extension.extra_objects = [self.libpython.path]
            if self.libpython.rpath:
                extension.runtime_library_dirs = [self.libpython.rpath]
        else:
            extension.define_macros += CORE_MACROS


class BuildExt(setuptools_build_ext):
    """Build both native parts, and write down the facts of the build.

    In place (an editable install) the results and `_build.py` go to
    `src/mod_python`; otherwise to the tree that becomes the wheel.
    """

    def finalize_options(self) -> None:
        """Compile both parts at the same time, unless the command line says otherwise."""
        super().finalize_options()
        self.parallel: int | None = self.parallel or 2

    def run(self) -> None:
        """Look up the settings, fill in the extensions, build them."""
        try:
            settings = Settings(self.distribution.get_version())
        except BuildError as error:
            raise SetupError(f"mod_python cannot be built.\n\n{error}\n") from None
        os.environ.setdefault("CC", shlex.join(settings.compiler))
        base = ROOT / "build" / settings.key()
        self.build_temp = str(base / "temp")
        if self.inplace:
            # pip builds an editable install in a temporary directory each
            # time; ours is kept, so that the next build is a fast one.
            self.build_lib = str(base / "lib")
        base.mkdir(parents=True, exist_ok=True)
        stamp = base / "stamp"
        facts = settings.facts()
        _write_if_changed(stamp, f"{settings.key()}\n{facts}")
        for extension in self.extensions:
            settings.fill_in(extension)
            extension.depends.append(str(stamp))
        self._cythonise(base / "cython", settings.debug)
        super().run()
        target = ROOT / "src" if self.inplace else Path(self.build_lib)
        _write_if_changed(target / FACTS, facts)

    def build_extensions(self) -> None:
        """Compile and link, without the run path that Python's own build had.

        It names the place that Python was configured for, and would come
        before ours: a copied Python's module would load the library of the
        original, if that is still there.
        """
        self.compiler.linker_so = [word for word in self.compiler.linker_so if not word.startswith("-Wl,-rpath")]
        super().build_extensions()

    def get_ext_filename(self, fullname: str) -> str:
        """Name the file: httpd's module has a plain name, without an ABI tag."""
        if fullname in (SHELL, SHELL.rpartition(".")[2]):
            return str(Path(*fullname.split("."))) + ".so"
        return str(super().get_ext_filename(fullname))

    def get_outputs(self) -> list[str]:
        """Name what was built, for the list of installed files."""
        return [*super().get_outputs(), str(Path(self.build_lib) / FACTS)]

    def _cythonise(self, directory: Path, debug: bool) -> None:
        """Translate the core to C, if it changed."""
        from Cython.Build import cythonize

        core = next(ext for ext in self.extensions if ext.name == CORE)
        core.sources = [str(Path("src", "core", "core.pyx"))]
        (made,) = cythonize(
            [core],
            build_dir=str(directory),
            compiler_directives=DIRECTIVES,
            include_path=[str(ROOT / "src" / "core")],
            emit_linenums=debug,
        )
        core.sources = made.sources


class Build(setuptools_build):
    """Build a wheel's tree: one for each environment, and begun anew each time.

    setuptools copies into the tree and never removes, so that a module that was
    deleted or renamed would live on in the wheels built after that.
    """

    def initialize_options(self) -> None:
        """Choose the tree, unless the command line does."""
        super().initialize_options()
        where = hashlib.sha256(sys.prefix.encode()).hexdigest()[:8]
        python_tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
        self.build_base = str(Path("build", f"wheel-{python_tag}-{where}"))

    def run(self) -> None:
        """Build it."""
        shutil.rmtree(str(self.build_lib), ignore_errors=True)
        super().run()


def _write_if_changed(path: Path, text: str) -> None:
    """Write a file, leaving its time stamp alone when it says the same already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


COMMANDS: dict[str, type[Command]] = {"build": Build, "build_ext": BuildExt}
