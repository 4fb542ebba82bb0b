"""The native parts of the package; everything else is in pyproject.toml.

They are declared empty here and filled in by `build_support.commands` when
they are built, because only then an httpd and a compiler have to be there.
"""

import sys
from pathlib import Path

from setuptools import Extension, setup

sys.path.insert(0, str(Path(__file__).resolve().parent))

from build_support.commands import COMMANDS, CORE, SHELL

setup(
    ext_modules=[Extension(SHELL, sources=[]), Extension(CORE, sources=[])],
    cmdclass=COMMANDS,
)
