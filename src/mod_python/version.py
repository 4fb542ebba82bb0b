"""The version of mod_python, and the facts of the build that is installed.

`version` is the one place where the version is written: the package's metadata
and the C module take it from here.  The other names come from `_build.py`,
which the build writes; in a source tree that was never built they are empty.

Names of the reference (3.5): `version`, `HTTPD`, `HTTPD_VERSION`,
`APR_VERSION`, `LIBEXECDIR`, `SYSCONFDIR`, `PYTHON_BIN`, `TEST_MOD_PYTHON_SO`,
`TESTHOME`.
"""

from __future__ import annotations

version = "4.0.0.dev0"

try:
    from ._build import (
        APR_VERSION,
        APXS,
        DEBUG_BUILD,
        HTTPD,
        HTTPD_VERSION,
        LIBEXECDIR,
        PYTHON_BIN,
        SYSCONFDIR,
    )
except ImportError:
    # The path of the httpd program the module was built for, and its version.
    HTTPD: str = ""
    HTTPD_VERSION: str = ""
    # The version of the APR library it was built with.
    APR_VERSION: str = ""
    # httpd's own directories: of its modules, and of its configuration.
    LIBEXECDIR: str = ""
    SYSCONFDIR: str = ""
    # The apxs that described it.
    APXS: str = ""
    # The Python that was embedded: the program of its environment.
    PYTHON_BIN: str = ""
    # Whether MOD_PYTHON_DEBUG_BUILD was set.
    DEBUG_BUILD: bool = False

# The module that httpd loads lies beside this file.
TEST_MOD_PYTHON_SO: str = __file__.rpartition("/")[0] + "/mod_python.so"
# The tests make a server root of their own for every server; there is no fixed one.
TESTHOME: str = ""

__all__ = [
    "APR_VERSION",
    "APXS",
    "DEBUG_BUILD",
    "HTTPD",
    "HTTPD_VERSION",
    "LIBEXECDIR",
    "PYTHON_BIN",
    "SYSCONFDIR",
    "TESTHOME",
    "TEST_MOD_PYTHON_SO",
    "version",
]
