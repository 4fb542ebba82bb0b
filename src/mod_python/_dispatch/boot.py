"""Starts an interpreter: the first Python code that the shell runs in it."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from mod_python import _core


def private_module() -> None:
    """Make ``import _apache`` work; what it holds is loaded when it is asked for."""
    module = type(sys)("_apache", "Services behind mod_python; private.")

    def load(name: str) -> Any:
        from . import private

        if name == "__path__":
            raise AttributeError(name)  # the import system asks whether it is a package
        return getattr(private, name)

    module.__dict__["__getattr__"] = load
    module.__dict__["__dir__"] = lambda: load("__all__")
    sys.modules["_apache"] = module


def start(name: str, shell_version: str) -> _core.Entry:
    """Set up this interpreter and return what the shell calls from now on.

    Args:
        name: name of the interpreter.
        shell_version: the version that was compiled into the httpd module.

    Returns:
        the core's entry object.

    Raises:
        ImportError: the core cannot be loaded.
    """
    sys.argv = ["mod_python"]
    if sys.stderr is not None:
        # It leads to the error log; whole lines, so that processes do not mix theirs.
        reconfigure = getattr(sys.stderr, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(line_buffering=True)

    from mod_python import _core, apache, version

    from . import asyncio_copies
    from .dispatcher import Dispatcher

    private_module()
    asyncio_copies.install()
    apache.interpreter = name
    # "httpd -X" is -DDEBUG to the MPMs, which then are one process, too.
    one_process = _core.exists_config_define("ONE_PROCESS") or _core.exists_config_define("DEBUG")
    dispatcher = Dispatcher(name, one_process=one_process)
    entry = dispatcher.entry = _core.Entry(name, dispatcher)
    apache.main_server = _core.main_server(entry)
    dispatcher.importer.autoreload = bool(apache.main_server.settings[1])
    if shell_version != version.version:
        where = version.__file__.rpartition("/")[0]
        apache.log_error(
            f"mod_python version mismatch: the httpd module is {shell_version}, the Python files "
            f"in {where} are {version.version}. Install one version, and restart httpd.",
            apache.APLOG_WARNING,
            apache.main_server,
        )
    return entry
