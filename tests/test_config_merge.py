"""How settings of several sections, files and servers come together.

httpd runs with a module that reads and merges its configuration with the real code, all
directives accepted, and answers each request with what applies to it instead of running
Python (tests/native/config_dump.c).
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from build_support.httpd import facts, find_apxs
from mod_python.testing import Server
from tests import needs

HERE = Path(__file__).resolve().parent
SHELL = HERE.parent / "src" / "shell"
SOURCES = [
    HERE / "native" / "config_dump.c",
    *(SHELL / f"{name}.c" for name in ("directives", "handler_text", "config_merge")),
]

CONFIG = """
PythonHandler server
PythonAccessHandler server_access
PythonDebug On
PythonInterpreter outer
PythonPath "['/outer']"
PythonOption KEPT main
PythonOption CHANGED main
PythonOption REMOVED main
PythonImport first main_interpreter
PythonImport /srv/second.py::start other
PythonConnectionHandler main_connection
<Directory />
    AllowOverride FileInfo
    Require all granted
</Directory>
<Directory "${SITE}/a">
    PythonHandler a1 a2::f
    PythonHandler a3
    PythonHandler typed | .py .tar.gz .py
    PythonOption CHANGED a
    PythonOption REMOVED
    PythonDebug Off
    PythonInputFilter mod::first Name
    PythonInputFilter mod::second NAME
    PythonOutputFilter outer_out
    <IfModule mod_so.c>
        PythonFixupHandler in_ifmodule
    </IfModule>
    <Files "*.sub">
        PythonTypeHandler ./in_files.py
        <If "true">
            PythonLogHandler in_if
        </If>
    </Files>
</Directory>
<Directory "${SITE}/a/inner">
    PythonHandler inner | .py
    PythonOption REMOVED again
    PythonInterpreter inner
    PythonInterpPerDirective On
    PythonOutputFilter inner_out OUTER_OUT
</Directory>
<Directory "${SITE}/w?ld">
    PythonHandler wild
</Directory>
<DirectoryMatch "/regex[0-9]+/?$">
    PythonHandler anchored
</DirectoryMatch>
<Directory ~ "/rege">
    PythonTypeHandler open_ended
</Directory>
<Directory "${SITE}/module">
    PythonAccessHandler one
    PythonHandlerModule every
    PythonLogHandler two
</Directory>
<Location "/a/place">
    PythonAuthenHandler loc
</Location>
<LocationMatch "^/a/p[a-z]+">
    PythonAuthzHandler locmatch
</LocationMatch>
<VirtualHost *:${PORT}>
    ServerName plain.test
    DocumentRoot "${SITE}"
</VirtualHost>
<VirtualHost *:${PORT}>
    ServerName other.test
    DocumentRoot "${SITE}"
    PythonHandler other
    PythonOption CHANGED other
    PythonOption REMOVED
    PythonDebug Off
    PythonInterpPerDirectory On
    PythonAutoReload Off
    PythonPath "['/other']"
    PythonOptimize On
    PythonConnectionHandler other_connection
</VirtualHost>
"""

HTACCESS = """
PythonHandler ./ht.py
PythonOption HTACCESS yes
<IfModule mod_so.c>
    PythonFixupHandler in_ifmodule
</IfModule>
<Files "*.sub">
    PythonTypeHandler in_files
    <If "true">
        PythonLogHandler ./in_if.py
    </If>
</Files>
"""

NAMES = [
    "top.html",
    "a/x.html",
    "a/x.py",
    "a/x.tar.gz",
    "a/x.gz",
    "a/x.sub",
    "a/inner/x.py",
    "a/inner/x.tar.gz",
    "a/place",
    "wild/deep/x",
    "regex1/x",
    "regex1/regex2/x",
    "module/x",
    "ht/deep/x.sub",
]


class Answer:
    """What applies to one request: the lines that begin with a word."""

    def __init__(self, text: str) -> None:
        self._lines = [line.split(" ") for line in text.splitlines()]

    def rows(self, word: str) -> list[list[str]]:
        return [line[1:] for line in self._lines if line[0] == word]

    def pairs(self, word: str) -> dict[str, str]:
        return {key: " ".join(value) for key, *value in self.rows(word)}

    def handlers(self, phase: str) -> list[str]:
        return [row[2] for row in self.rows(phase)]

    def extension(self, phase: str) -> str:
        (extension,) = {row[0] for row in self.rows(phase)}
        return extension

    def identity(self, phase: str) -> int:
        (identity,) = {int(row[1]) for row in self.rows(phase)}
        return identity

    def directories(self, phase: str) -> list[str]:
        return [row[3] for row in self.rows(phase)]

    def locations(self, phase: str) -> list[str]:
        return [row[4] for row in self.rows(phase)]

    def silent(self, phase: str) -> list[str]:
        return [row[5] for row in self.rows(phase)]


class Dump:
    """A running httpd that answers with what applies."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def __call__(self, path: str, host: str = "plain.test") -> Answer:
        response = self.server.request("GET", f"/{path}", headers={"Host": host})
        assert response.status == 200, self.server.error_log
        return Answer(response.text)

    def directory(self, name: str) -> str:
        return f"{self.server.site}/{name}/"


@pytest.fixture(scope="module")
def module_file() -> Iterator[Path]:
    """The dumping module, compiled for the httpd that the build would choose."""
    httpd = facts(find_apxs())
    with tempfile.TemporaryDirectory(prefix="mod_python-test-") as name:
        # The name of the file decides what the module is called in LoadModule.
        target = Path(name) / "mod_python.so"
        command = [
            *needs.compiler(),
            *("-shared", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror"),
            *httpd.cppflags,
            *(f"-I{directory}" for directory in (SHELL, *httpd.includes)),
            *("-o", str(target)),
            *map(str, SOURCES),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr
        yield target


@pytest.fixture(scope="module")
def dump(module_file: Path) -> Iterator[Dump]:
    files = dict.fromkeys(NAMES, "x") | {"ht/.htaccess": HTACCESS}
    with Server(CONFIG, files=files, python=False, modules=[str(module_file)]) as server:
        yield Dump(server)


def test_lists_of_one_section_add_up(dump: Dump) -> None:
    answer = dump("a/x.html")
    assert answer.handlers("PythonHandler") == ["a1", "a2::f", "a3"]
    assert set(answer.directories("PythonHandler")) == {dump.directory("a")}
    assert answer.extension("PythonHandler") == "-"


def test_an_inner_list_replaces_the_outer_one(dump: Dump) -> None:
    assert dump("top.html").handlers("PythonHandler") == ["server"]
    assert dump("top.html").directories("PythonHandler") == ["-"]
    assert "server" not in dump("a/x.html").handlers("PythonHandler")


def test_other_phases_stay_inherited(dump: Dump) -> None:
    assert dump("a/inner/x.py").handlers("PythonAccessHandler") == ["server_access"]
    assert dump("a/inner/x.py").handlers("PythonFixupHandler") == ["in_ifmodule"]


@pytest.mark.parametrize(
    ("path", "extension", "handlers"),
    [
        ("a/x.py", ".py", ["typed"]),
        ("a/x.tar.gz", ".tar.gz", ["typed"]),
        ("a/x.gz", "-", ["a1", "a2::f", "a3"]),
        ("a/inner/x.py", ".py", ["inner"]),
        ("a/inner/x.tar.gz", ".tar.gz", ["typed"]),
    ],
)
def test_extensions(dump: Dump, path: str, extension: str, handlers: list[str]) -> None:
    answer = dump(path)
    assert answer.handlers("PythonHandler") == handlers
    assert answer.extension("PythonHandler") == extension


def test_identities_are_unique_and_stable(dump: Dump) -> None:
    lists = {
        (path, phase): dump(path).identity(phase)
        for path, phase in [
            ("top.html", "PythonHandler"),
            ("top.html", "PythonAccessHandler"),
            ("a/x.html", "PythonHandler"),
            ("a/x.py", "PythonHandler"),
            ("a/x.tar.gz", "PythonHandler"),
            ("a/inner/x.py", "PythonHandler"),
            ("wild/deep/x", "PythonHandler"),
        ]
    }
    assert 0 not in lists.values()
    assert len(set(lists.values())) == len(lists)
    assert dump("a/x.gz").identity("PythonHandler") == lists["a/x.html", "PythonHandler"]


def test_innermost_setting_wins(dump: Dump) -> None:
    assert dump("top.html").pairs("config") == {
        "PythonDebug": "1",
        "PythonInterpreter": "outer",
        "PythonPath": "['/outer']",
    }
    assert dump("a/inner/x.py").pairs("config") == {
        "PythonDebug": "0",
        "PythonInterpreter": "inner",
        "PythonInterpPerDirective": "1",
        "PythonPath": "['/outer']",
    }


def test_options_merge_key_by_key(dump: Dump) -> None:
    assert dump("top.html").pairs("option") == {
        "KEPT": "main",
        "CHANGED": "main",
        "REMOVED": "main",
    }
    assert dump("a/x.html").pairs("option") == {"KEPT": "main", "CHANGED": "a"}
    assert dump("a/inner/x.py").pairs("option") == {
        "KEPT": "main",
        "CHANGED": "a",
        "REMOVED": "again",
    }


def test_htaccess(dump: Dump) -> None:
    answer = dump("ht/deep/x.sub")
    directory = dump.directory("ht")
    for phase, handler in {
        "PythonHandler": "./ht.py",
        "PythonFixupHandler": "in_ifmodule",
        "PythonTypeHandler": "in_files",
        "PythonLogHandler": "./in_if.py",
    }.items():
        assert answer.handlers(phase) == [handler]
        assert answer.directories(phase) == [directory]
        # Lists of an .htaccess file live only as long as the request.
        assert answer.identity(phase) == 0
    assert answer.pairs("option")["HTACCESS"] == "yes"
    assert answer.pairs("option")["KEPT"] == "main"


def test_files_and_if_belong_to_the_section_around_them(dump: Dump) -> None:
    answer = dump("a/x.sub")
    assert answer.handlers("PythonTypeHandler") == ["./in_files.py"]
    assert answer.handlers("PythonLogHandler") == ["in_if"]
    for phase in ("PythonTypeHandler", "PythonLogHandler", "PythonFixupHandler"):
        assert answer.directories(phase) == [dump.directory("a")]


def test_directory_of_a_pattern(dump: Dump) -> None:
    assert dump("wild/deep/x").directories("PythonHandler") == [dump.directory("wild")]


@pytest.mark.parametrize("path", ["regex1/", "regex1/regex2/"])
def test_directory_of_an_expression_is_the_shortest(dump: Dump, path: str) -> None:
    answer = dump(path)
    assert answer.handlers("PythonHandler") == ["anchored"]
    assert answer.directories("PythonHandler") == [dump.directory("regex1")]
    assert answer.directories("PythonTypeHandler") == [dump.directory("regex1")]


def test_locations(dump: Dump) -> None:
    answer = dump("a/place")
    assert answer.handlers("PythonAuthenHandler") == ["loc"]
    assert answer.locations("PythonAuthenHandler") == ["/a/place"]
    assert answer.directories("PythonAuthenHandler") == ["-"]
    assert answer.locations("PythonAuthzHandler") == ["/a/place"]
    assert answer.locations("PythonHandler") == ["-", "-", "-"]


def test_handler_module_is_a_silent_list_for_every_phase(dump: Dump) -> None:
    answer = dump("module/x")
    assert answer.handlers("PythonAccessHandler") == ["one", "every"]
    assert answer.silent("PythonAccessHandler") == ["0", "1"]
    assert answer.handlers("PythonLogHandler") == ["every", "two"]
    assert answer.silent("PythonLogHandler") == ["1", "0"]
    for phase in (
        "PythonHandler",
        "PythonTypeHandler",
        "PythonCleanupHandler",
        "PythonInitHandler",
    ):
        assert answer.handlers(phase) == ["every"]


def test_filters_merge_by_name(dump: Dump) -> None:
    directory = dump.directory("a")
    assert dump("a/x.html").rows("input") == [["name", "mod::second", directory]]
    assert dump("a/x.html").rows("output") == [["outer_out", "outer_out", directory]]
    assert dump("a/inner/x.py").rows("output") == [["outer_out", "inner_out", dump.directory("a/inner")]]
    assert dump("a/inner/x.py").rows("input") == [["name", "mod::second", directory]]
    assert dump("top.html").rows("output") == []


def test_virtual_host_without_settings_inherits(dump: Dump) -> None:
    answer = dump("top.html", "plain.test")
    assert answer.pairs("soption") == {"KEPT": "main", "CHANGED": "main", "REMOVED": "main"}
    assert answer.pairs("sconfig")["PythonDebug"] == "1"
    assert answer.rows("connection") == [["main_connection"]]


def test_virtual_host_overrides(dump: Dump) -> None:
    answer = dump("top.html", "other.test")
    assert answer.handlers("PythonHandler") == ["other"]
    assert answer.rows("connection") == [["other_connection"]]
    assert answer.pairs("option") == {"KEPT": "main", "CHANGED": "other"}
    settings = {
        "PythonAutoReload": "0",
        "PythonDebug": "0",
        "PythonInterpPerDirectory": "1",
        "PythonInterpreter": "outer",
        "PythonPath": "['/other']",
    }
    assert answer.pairs("config") == settings
    assert answer.pairs("sconfig") == settings


def test_server_tables_show_the_server_only(dump: Dump) -> None:
    answer = dump("a/inner/x.py", "other.test")
    # A removed key is there with an empty value, shown as "-".
    assert answer.pairs("soption") == {"KEPT": "main", "CHANGED": "other", "REMOVED": "-"}
    assert "PythonInterpPerDirective" not in answer.pairs("sconfig")
    assert answer.pairs("config")["PythonDebug"] == "0"
    assert answer.pairs("option") == {"KEPT": "main", "CHANGED": "a", "REMOVED": "again"}
    assert dump("a/x.html").pairs("sconfig")["PythonDebug"] == "1"


def test_main_server_settings(dump: Dump) -> None:
    answer = dump("top.html")
    assert [row[:2] for row in answer.rows("import")] == [
        ["first", "main_interpreter"],
        ["/srv/second.py::start", "other"],
    ]
    first, second = (int(row[2]) for row in answer.rows("import"))
    assert second == first + 1
    # Set in a virtual host, it holds for the whole process.
    assert answer.rows("optimize") == [["1"]]
