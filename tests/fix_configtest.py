"""The fixture ``refusal``: have httpd read a configuration, get its complaint.

Nothing is started: httpd only reads the file and says what is wrong
(``httpd -t``), so this works without the Python part of the module.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mod_python.httpd.config import Settings, write_config
from mod_python.httpd.errors import ConfigError
from mod_python.httpd.find import Httpd, find_httpd
from mod_python.httpd.process import check_config
from mod_python.httpd.users import find_user

#: Gives httpd's complaint as "line N: message", or None when it accepts the text.
Refusal = Callable[[str], str | None]


@pytest.fixture(scope="session")
def found_httpd() -> Httpd:
    """The httpd to test with."""
    return find_httpd()


@pytest.fixture
def refusal(found_httpd: Httpd) -> Iterator[Refusal]:
    """Check configuration texts with the real module loaded."""
    with tempfile.TemporaryDirectory(prefix="mod_python-test-") as name:
        root = Path(name).resolve()

        def check(text: str) -> str | None:
            file = root / "tested.conf"
            file.write_text(text, encoding="utf-8")
            settings = Settings(
                httpd=found_httpd,
                root=root,
                listen=[],
                mpm=os.environ.get("MOD_PYTHON_TEST_MPM") or None,
                user=find_user(),
                include=file,
            )
            write_config(settings)
            try:
                check_config(settings)
            except ConfigError as error:
                complaint = str(error)
            else:
                return None
            place = re.fullmatch(rf"{re.escape(str(file))} (line \d+: .*)", complaint, re.DOTALL)
            assert place is not None, f"the complaint does not name file and line: {complaint}"
            return place[1]

        yield check
