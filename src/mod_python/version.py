"""The version of mod_python, and the facts of the build that is installed.

`version` is the one place where the version is written: the package's metadata
and the C module take it from here.  The other names come from `_build.py`,
which the build writes; in a source tree that was never built they are empty.

    HTTPD           path of the httpd program that the module was built for
    HTTPD_VERSION   its version, such as "2.4.62"
    APR_VERSION     the version of the APR library it was built with
    LIBEXECDIR      the directory of httpd's modules
    SYSCONFDIR      the directory of httpd's configuration, which may be empty
    APXS            the apxs that described it
    PYTHON_BIN      the Python program of the environment that was embedded
    DEBUG_BUILD     whether MOD_PYTHON_DEBUG_BUILD was set for the build

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
    HTTPD = HTTPD_VERSION = APR_VERSION = LIBEXECDIR = SYSCONFDIR = APXS = PYTHON_BIN = ""
    DEBUG_BUILD = False

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
