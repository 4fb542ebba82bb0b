"""httpd modules in C that tests load beside mod_python (`tests/native`)."""

from __future__ import annotations

import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from build_support.httpd import facts, find_apxs
from tests import needs
from tests.serving import COMMAND

NATIVE = Path(__file__).resolve().parent / "native"


@contextmanager
def compiled(name: str) -> Iterator[Path]:
    """Compile a module as its author would: with what ``mod_python include-dir`` prints.

    Args:
        name: of its source in `tests/native`, without ".c".

    Yields:
        The shared object, ``mod_<name>.so``, which is removed afterwards.
    """
    httpd = facts(find_apxs())
    include = subprocess.run([COMMAND, "include-dir"], capture_output=True, text=True, check=True).stdout.strip()
    with tempfile.TemporaryDirectory(prefix="mod_python-test-") as directory:
        target = Path(directory) / f"mod_{name}.so"
        command = [
            *needs.compiler(),
            *("-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"),
            *httpd.cppflags,
            *(f"-I{each}" for each in (include, sysconfig.get_path("include"), *httpd.includes)),
            *("-o", str(target), str(NATIVE / f"{name}.c")),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        yield target
