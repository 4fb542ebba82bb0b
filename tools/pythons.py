"""Which Python may be used for an environment, and why another may not.

A Python for mod_python needs more than its program: headers, a shared library,
the `venv` module.  And when the server is started by root, httpd's children
run as an ordinary user, who must be able to read that Python: one that lives in
root's home directory looks perfect to root and cannot be started by anybody
else.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
NEWEST = (3, 15)  # the newest that the tests were ever run on
PROBE_TIMEOUT = 60  # seconds; a probe takes a fraction of one, this only ends a hang

# Runs inside the Python that is looked at; prints one JSON object.  Written so that
# even Python 2.7 parses it.
_PROBE = """
import json, sys
found = {"version": list(sys.version_info[:3]), "problem": "", "files": []}
if sys.version_info[:2] >= (3, 11):
    sys.path.insert(0, sys.argv[1])
    from build_support import errors, python
    import os, sysconfig
    found["executable"] = python.executable()
    found["base"] = sys.base_prefix
    found["files"] = [os.__file__, sys.executable]
    try:
        import ensurepip, venv
        python.check_headers()
        found["files"].append(python.find_libpython().path)
    except ImportError as error:
        found["problem"] = "it has no module %s" % error.name
    except errors.BuildError as error:
        found["problem"] = error.problem.splitlines()[-1]
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Python:
    """A Python that was looked at.

    Attributes:
        command: how it was called.
        version: such as (3, 11, 2); empty if it could not be run.
        executable: its program.
        base: its prefix; for a virtual environment that of its base.
        problem: why it cannot be used, or "".
    """

    command: str
    version: tuple[int, ...]
    executable: str
    base: str
    problem: str

    @property
    def name(self) -> str:
        """Name it for people: "Python 3.11.2 (/usr/bin/python3.11)"."""
        if not self.version:
            return self.command
        return f"Python {'.'.join(map(str, self.version))} ({self.executable or self.command})"


def look_at(command: str, *, for_others: bool) -> Python:
    """Find out whether a Python can be used.

    Args:
        command: a path, or a name on the PATH.
        for_others: whether other users must be able to read it too.

    Returns:
        What was found out.
    """
    program = shutil.which(command)
    if program is None:
        return Python(command, (), "", "", "there is no such program")
    try:
        result = subprocess.run(
            [program, "-c", _PROBE, str(ROOT)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT,
            check=True,
        )
        found = json.loads(result.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return Python(program, (), "", "", "it does not run")
    version = tuple(found["version"])
    executable, base = found.get("executable", program), found.get("base", "")
    problem = found["problem"]
    if version[:2] < OLDEST:
        problem = f"it is older than {'.'.join(map(str, OLDEST))}"
    elif not problem and for_others:
        for path in (*found["files"], executable):
            obstacle = closed_to_others(Path(path))
            if obstacle is not None:
                problem = f"httpd's children, who are not root, cannot read {obstacle}"
                break
    return Python(program, version, executable, base, problem)


def closed_to_others(path: Path) -> Path | None:
    """Find what keeps users other than the owner from reading a path.

    Only the permission bits are looked at, which is what an administrator
    without access lists would do.

    Args:
        path: a file or directory, absolute.

    Returns:
        The topmost directory or the file that is closed, or None.
    """
    for wanted in dict.fromkeys((path, path.resolve())):
        for step in (*reversed(wanted.parents), wanted):
            try:
                mode = step.stat().st_mode
            except OSError:
                return step
            if not stat.S_ISDIR(mode):
                needed = stat.S_IROTH
            elif step == wanted:
                needed = stat.S_IROTH | stat.S_IXOTH
            else:
                needed = stat.S_IXOTH
            if mode & needed != needed:
                return step
    return None


def choose(given: str | None, *, for_others: bool) -> tuple[Python | None, list[Python]]:
    """Choose the Python for the main environment.

    Args:
        given: what the user asked for; then nothing else is looked at.
        for_others: whether other users must be able to read it too.

    Returns:
        The Python, or None; and those that were passed over.
    """
    passed: list[Python] = []
    for command in [given] if given else _usual():
        python = look_at(command, for_others=for_others)
        if not python.problem:
            return python, passed
        seen = [other.executable for other in passed]
        if given or (python.version and python.executable not in seen):
            passed.append(python)
    return None, passed


def _usual() -> Iterator[str]:
    yield from ("python3", "/usr/bin/python3", "/usr/local/bin/python3")
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        yield f"python3.{minor}"


def later(than: Iterable[int], *, for_others: bool) -> tuple[list[Python], list[Python]]:
    """Find later Pythons on the machine: on the PATH, and pyenv's.

    Args:
        than: a version; only Pythons of a later minor version count.
        for_others: whether other users must be able to read it too.

    Returns:
        Those that can be used, one for each minor version, newest first; and
        those that cannot.
    """
    minor = tuple(than)[:2]
    usable: dict[tuple[int, ...], Python] = {}
    unusable: dict[str, Python] = {}
    for command in _all_commands():
        python = look_at(command, for_others=for_others)
        if not minor < python.version[:2] <= NEWEST or python.version[:2] in usable:
            continue
        if python.problem:
            unusable[python.executable] = python
        else:
            usable[python.version[:2]] = python
    return [usable[key] for key in sorted(usable, reverse=True)], list(unusable.values())


def _all_commands() -> Iterator[str]:
    for number in range(NEWEST[1], OLDEST[1] - 1, -1):
        yield f"python3.{number}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [p for p in pyenv.glob("versions/3.*/bin/python3") if re.fullmatch(r"[\d.]+", p.parts[-3])]
    for path in sorted(found, key=lambda p: [int(n) for n in p.parts[-3].split(".")], reverse=True):
        yield str(path)
