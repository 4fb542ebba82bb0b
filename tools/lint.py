"""Run the checks of .pre-commit-config.yaml on the files of the checkout.

    python -m tools.lint [ID]

pre-commit asks git which files there are, so new files would be passed over until `git add`, and
a tree without .git, or one of another owner, could not be checked at all. The checks therefore see an
index of their own, in a temporary directory: all files that git does not ignore.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

from .pythons import ROOT
from .system import fail


def main() -> None:
    """Run the checks; the arguments are those of ``pre-commit run``, such as the name of one check.

    Raises:
        SystemExit: with the status of pre-commit.
    """
    os.chdir(ROOT)
    programs = os.path.dirname(sys.executable)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environ["PATH"] = os.pathsep.join([programs, environ.get("PATH", os.defpath)])
    if shutil.which("git", path=environ["PATH"]) is None:
        fail("the checks need git; install it first (Debian: apt-get install git).")
    with tempfile.TemporaryDirectory(prefix="mod_python-lint-") as directory:
        environ |= {"GIT_DIR": directory, "GIT_WORK_TREE": str(ROOT)}
        for command in (["git", "init", "-q"], ["git", "add", "-A"]):
            if subprocess.run(command, env=environ, check=False).returncode:
                fail(f"the checks cannot list the files: {' '.join(command)} failed.")
        command = [sys.executable, "-m", "pre_commit", "run", "--all-files", *sys.argv[1:]]
        done = subprocess.run(command, env=environ, check=False)
    raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
