"""Which files of a project that `mod_python create` makes are run, which are sent, and which are neither."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.projects import Project
from tests.serving import get

pytestmark = pytest.mark.long

# What would run in a page, and what would be seen of a source.
CODE = "<%= 6 * 7 %> source-of-it"

#: Kinds of projects: value of --pythonhandler.
KINDS = ("mod_python.publisher", "mod_python.psp", "mod_python.wsgi", "hello", "hello::page")

#: Files that are sent as they are, and their types.
STATIC = {
    "photo.jpg": "image/jpeg",
    "photo.JPG": "image/jpeg",
    "x.css": "text/css",
    "x.js": "text/javascript application/javascript",
    "page.html": "text/html",
    "data.json": "application/json",
    "uploads/a b.png": "image/png",
    "uploads/deep/er/a.txt": "text/plain",
    "python.txt": "text/plain",
    "a.pyramid.txt": "text/plain",
    ".well-known/security.txt": "text/plain",
}
#: Files whose source nobody gets, whatever becomes of them.
HIDDEN = (
    *("module.py", "module.pyc", "module.pyi", "module.py~", "module.py.bak", "module.PY", "module.py.txt", "page.psp"),
    *("page.psp_", "page.psp.bak", "page.psp~", "photo.psp.jpg", "page.psp.en", "part.inc", "part.INC", ".env"),
    *(".git/config", "uploads/.hidden/a.txt", ".module.py.swp", "page.html~", "x.css.bak", "__pycache__/a.pyc"),
    # What Emacs, RCS and file managers make, and people.
    *("#module.py#", "#page.psp#", "module.py,v", "module.py (copy)", "page.psp (1)", "module.py-old", "module.py3"),
)


@pytest.fixture(scope="module", params=KINDS)
def project(request: pytest.FixtureRequest) -> Iterator[Project]:
    place = Path(tempfile.mkdtemp(prefix="mod_python-test-"))
    place.chmod(0o755)
    made = Project(place)
    try:
        made.create(request.param)
        for name in (*STATIC, *HIDDEN):
            path = made.root / "public" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(CODE)
        for directory in (made.root / "public").rglob("*/"):
            directory.chmod(0o755)
        made.start()
        yield made
    finally:
        made.run("stop", str(made.config))
        made.end()
        shutil.rmtree(place)


@pytest.mark.parametrize("name", STATIC)
def test_files_are_sent_as_they_are(project: Project, name: str) -> None:
    response = get(project.port, "/" + name.replace(" ", "%20"))
    assert (response.status, response.text) == (200, CODE)
    assert response.headers["Content-Type"].partition(";")[0] in STATIC[name].split()


@pytest.mark.parametrize("name", HIDDEN)
def test_sources_are_not_sent(project: Project, name: str) -> None:
    response = get(project.port, "/" + quote(name))
    kind = "psp" if "mod_python.psp" in project.config.read_text() else ""
    if kind == "psp" and name == "page.psp":
        assert response.text.split() == ["42", "source-of-it"]  # run, as it should be
        return
    assert "source-of-it" not in response.text
    assert "42" not in response.text
    if kind == "psp":
        assert response.status == 403


def test_htaccess_files_are_not_read(project: Project) -> None:
    file = project.root / "public" / "uploads" / ".htaccess"
    file.write_text("SetHandler mod_python\n")
    try:
        response = get(project.port, "/uploads/a%20b.png")
        assert (response.status, response.text) == (200, CODE)
        assert "SetHandler" not in get(project.port, "/uploads/.htaccess").text
    finally:
        file.unlink()
    assert "not allowed here" not in project.log


def test_the_start_page_answers(project: Project) -> None:
    assert "It works" in get(project.port, "/").text


def test_the_names_of_the_test_are_files(project: Project) -> None:
    assert all(Path(project.root, "public", name).is_file() for name in (*STATIC, *HIDDEN))
