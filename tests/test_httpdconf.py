"""`mod_python.httpdconf`: what is rendered for httpd, what for Python, and the first configuration."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mod_python import httpdconf, version
from mod_python._httpdconf.tree import Node, Section, Setting
from mod_python.httpd.errors import ConfigError
from mod_python.httpd.find import find_httpd
from mod_python.httpdconf import (
    Comment,
    Container,
    ContainerTag,
    CustomLog,
    Directive,
    Directory,
    FilesMatch,
    IfModule,
    Listen,
    LockFile,
    LogFormat,
    PythonDebug,
    PythonHandler,
    PythonInterpPerDirective,
    PythonInterpPerDirectory,
    PythonOption,
    PythonPath,
    ServerName,
    SetHandler,
    VirtualHost,
    quote_if_space,
    write_basic_config,
)
from tests.conftest import ROOT
from tests.form_requests import steady
from tools import list_api

SETTINGS = [value for value in vars(httpdconf).values() if inspect.isclass(value) and issubclass(value, Setting)]
SECTIONS = [value for value in vars(httpdconf).values() if inspect.isclass(value) and issubclass(value, Section)]

#: The reference's own (3.5) and those that the specification adds.
DIRECTIVES = """
    AddHandler AddOutputFilter AddType AuthBasicAuthoritative AuthBasicProvider AuthName AuthType CustomLog
    DirectoryIndex DocumentRoot ErrorLog KeepAliveTimeout Listen LoadModule LockFile LogFormat LogLevel MaxClients
    MaxConnectionsPerChild MaxRequestsPerChild MaxSpareServers MaxSpareThreads MaxThreadsPerChild MinSpareThreads Mutex
    NameVirtualHost NumServers Options PidFile PythonAccessHandler PythonAuthenHandler PythonAuthzHandler
    PythonCleanupHandler PythonConnectionHandler PythonDebug PythonFixupHandler PythonHandler PythonImport
    PythonInterpPerDirective PythonInterpPerDirectory PythonOption PythonOutputFilter PythonPath
    PythonPostReadRequestHandler PythonTransHandler Require ServerAdmin ServerName ServerPath ServerRoot SetHandler
    StartServers StartThreads ThreadsPerChild Timeout TypesConfig
    PythonAutoReload PythonEnablePdb PythonHandlerModule PythonHeaderParserHandler PythonInitHandler PythonInputFilter
    PythonInterpreter PythonLogHandler PythonOptimize PythonTypeHandler AddInputFilter SetInputFilter SetOutputFilter
    ServerAlias
"""
NAMED_SECTIONS = "Directory Files IfModule Location VirtualHost LocationMatch DirectoryMatch FilesMatch"


def again(source: str) -> Any:
    """Evaluate source where ``from mod_python.httpdconf import *`` is in force."""
    names: dict[str, Any] = {}
    exec("from mod_python.httpdconf import *", names)
    return eval(source.strip(), names)


class TestNames:
    @pytest.mark.parametrize("name", DIRECTIVES.split())
    def test_a_directive(self, name: str) -> None:
        cls = getattr(httpdconf, name)
        assert name in httpdconf.__all__
        assert issubclass(cls, Directive)
        assert str(cls("x")) == f"{name} x\n"
        assert repr(cls("x")) == f"{name}('x')"

    @pytest.mark.parametrize("name", NAMED_SECTIONS.split())
    def test_a_section(self, name: str) -> None:
        cls = getattr(httpdconf, name)
        assert name in httpdconf.__all__
        assert issubclass(cls, ContainerTag)
        assert str(cls("x", Listen(1))) == f"<{name} x>\n  Listen 1\n</{name}>\n"

    def test_no_directive_of_the_module_is_missing(self) -> None:
        source = (ROOT / "src" / "shell" / "directives.c").read_text()
        table = source[source.index("mp_directives[]") :]
        names = set(re.findall(r'"(Python\w+)",', table))
        assert len(names) > 30
        assert names >= set(list_api.DIRECTIVES)
        assert sorted(names - set(httpdconf.__all__)) == []

    def test_import_everything(self) -> None:
        names: dict[str, Any] = {}
        exec("from mod_python.httpdconf import *", names)
        for name in ("Directive", "Container", "ContainerTag", "Comment", "quote_if_space", "write_basic_config"):
            assert name in names
        assert names["mod_python"].version.version == version.version
        assert {cls.__name__ for cls in [*SETTINGS, *SECTIONS]} - {"Setting", "Section"} <= names.keys()

    def test_the_manual_names_them_all(self) -> None:
        page = (ROOT / "docs" / "httpdconf.md").read_text()
        assert [name for name in httpdconf.__all__ if name != "mod_python" and f"`{name}" not in page] == []

    def test_a_directive_of_ones_own(self) -> None:
        class SSLProtocol(Directive):
            def __init__(self, val: str) -> None:
                super().__init__("SSLProtocol", val)

        assert str(VirtualHost("*", SSLProtocol("all"))) == "<VirtualHost *>\n  SSLProtocol all\n</VirtualHost>\n"
        assert repr(SSLProtocol("all")) == "SSLProtocol('all')"


class TestText:
    def test_the_example_of_the_specification(self) -> None:
        site = VirtualHost(
            "*:8080",
            ServerName("demo.example"),
            Directory("/srv/demo", SetHandler("mod_python"), PythonHandler("mod_python.publisher")),
        )
        debug = Container(PythonDebug("On"), only_if="mod_python.version.HTTPD_VERSION.startswith('2.4')")
        whole = Container(Comment("demo"), site, debug)
        assert version.HTTPD_VERSION.startswith("2.4")
        text = (
            "# demo\n<VirtualHost *:8080>\n  ServerName demo.example\n  <Directory /srv/demo>\n"
            "    SetHandler mod_python\n    PythonHandler mod_python.publisher\n  </Directory>\n</VirtualHost>\n"
            "PythonDebug On\n"
        )
        assert str(whole) == text
        assert repr(whole) == (
            "Container(\n    Comment('demo\\n'),\n    VirtualHost('*:8080',\n        ServerName('demo.example'),\n"
            "        Directory('/srv/demo',\n            SetHandler('mod_python'),\n"
            "            PythonHandler('mod_python.publisher'),\n        ),\n    ),\n"
            "    Container(\n        PythonDebug('On'),\n"
            "        only_if=\"mod_python.version.HTTPD_VERSION.startswith('2.4')\"),\n)"
        )
        assert str(again(repr(whole))) == text
        assert whole.indent == site.indent == 0  # rendering leaves nothing behind

    def test_attributes(self) -> None:
        directive = Directive("Name", "value")
        assert (directive.name, directive.val, directive.indent, directive.flipslash) == ("Name", "value", 0, 1)
        container = Container(directive, only_if="True")
        assert (container.args, container.only_if, container.indent) == ([directive], "True", 0)
        section = ContainerTag("Tag", "attr", [directive])
        assert (section.tag, section.attr, section.args, section.flipslash) == ("Tag", "attr", [directive], 1)
        assert Container().only_if is None

    def test_indentation(self) -> None:
        directive = Listen(8888)
        directive.indent = 3
        assert str(directive) == "   Listen 8888\n"
        assert repr(directive) == "   Listen(8888)"

    def test_backslashes(self) -> None:
        assert str(Directive("X", "C:\\a\\b")) == "X C:/a/b\n"
        assert str(Directive("X", "C:\\a\\b", flipslash=0)) == "X C:\\a\\b\n"
        assert str(ContainerTag("Y", "C:\\a", [])) == "<Y C:/a>\n</Y>\n"
        assert str(ContainerTag("Y", "C:\\a", [], 0)) == "<Y C:\\a>\n</Y>\n"
        assert str(LogFormat('"\\"%r\\""')) == 'LogFormat "\\"%r\\""\n'
        assert str(PythonPath("\"['\\\\\\\\host']\"")) == "PythonPath \"['\\\\\\\\host']\"\n"
        assert str(FilesMatch(r"\.py$")) == "<FilesMatch \\.py$>\n</FilesMatch>\n"

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("one", "# one\n"),
            ("one\ntwo", "# one\n# two\n"),
            ("one\n\ntwo\n", "# one\n# \n# two\n"),
            ("\n", "# \n"),
            ("", ""),
            ("C:\\", "# C:\\ \n"),  # else the next line would be part of the comment
        ],
    )
    def test_comments(self, text: str, shown: str) -> None:
        assert str(Comment(text)) == shown
        assert str(again(repr(Comment(text)))) == shown

    def test_the_source_of_a_comment(self) -> None:
        assert repr(Comment("one\ntwo")) == "Comment('one\\n'\n        'two\\n')"
        assert repr(Comment("")) == "Comment('')"

    def test_defaults(self) -> None:
        assert str(PythonInterpPerDirective()) == "PythonInterpPerDirective Off\n"
        assert str(PythonInterpPerDirectory()) == "PythonInterpPerDirectory Off\n"

    def test_the_lock_file_is_a_comment_on_windows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert str(LockFile("logs/lock")) == "LockFile logs/lock\n"
        monkeypatch.setattr(sys, "platform", "win32")
        assert str(LockFile("logs/lock")) == "#LockFile logs/lock\n"
        assert repr(LockFile("logs/lock")) == "LockFile('logs/lock')"

    def test_only_if_is_evaluated_at_each_rendering(self, monkeypatch: pytest.MonkeyPatch) -> None:
        group = Container(Listen(1), only_if="mod_python.version.HTTPD_VERSION == '1.3'")
        assert str(group) == ""
        monkeypatch.setattr(version, "HTTPD_VERSION", "1.3")
        assert str(group) == "Listen 1\n"
        assert str(Container(Listen(1), only_if="")) == "Listen 1\n"
        with pytest.raises(NameError):
            str(Container(only_if="nobody_knows_this"))

    def test_append(self) -> None:
        group = Container()
        for value in (Listen(1), Container(Listen(2)), IfModule("x", Listen(3)), Comment("c")):
            group.append(value)
        assert str(group) == "Listen 1\nListen 2\n<IfModule x>\n  Listen 3\n</IfModule>\n# c\n"
        wrong: Any = "Listen 4"
        with pytest.raises(TypeError, match="a str cannot stand in a configuration"):
            group.append(wrong)
        with pytest.raises(TypeError):
            Container(wrong)
        with pytest.raises(TypeError):
            Directory("/", wrong)

    def test_quotes(self) -> None:
        assert quote_if_space("/srv/a b") == '"/srv/a b"'
        assert quote_if_space("/srv/ab") == "/srv/ab"
        assert quote_if_space("") == ""

    def test_plain_ones_that_keep_backslashes(self) -> None:
        tree = Container(
            Directive("SSLProtocol", "\\", flipslash=0), ContainerTag("If", "\\", [CustomLog("x")], flipslash=0)
        )
        assert str(again(repr(tree))) == str(tree)


_texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=30)
_values = st.one_of(_texts, st.integers())
_leaves: st.SearchStrategy[Node] = st.one_of(
    st.builds(lambda cls, value: cls(value), st.sampled_from([cls for cls in SETTINGS if cls is not Setting]), _values),
    st.builds(Comment, _texts),
    st.builds(Directive, st.just("PythonOption"), _texts, st.sampled_from([0, 1])),
)


def _grown(children: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    some = st.lists(children, max_size=4)
    sections = st.sampled_from([cls for cls in SECTIONS if cls is not Section])
    return st.one_of(
        st.builds(lambda cls, attr, args: cls(attr, *args), sections, _texts, some),
        st.builds(
            lambda args, only_if: Container(*args, only_if=only_if),
            some,
            st.sampled_from([None, "", "True", "mod_python.version.HTTPD_VERSION > '9'"]),
        ),
        st.builds(ContainerTag, st.just("IfDefine"), _texts, some, st.sampled_from([0, 1])),
    )


@steady
@given(st.recursive(_leaves, _grown, max_leaves=12))
def test_source_makes_an_equal_object(node: Node) -> None:
    made = again(repr(node))
    assert str(made) == str(node)
    assert repr(made) == repr(node)


class TestProject:
    """`write_basic_config`, without a server; `tests/test_commands.py` starts what it makes."""

    def test_what_is_made(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        root = tmp_path / "site"
        made = write_basic_config(
            str(root),
            "127.0.0.1:8889",
            pythonpath=["/srv/a b", "/srv/it's"],
            pythonoptions=["name value"],
            mp_comments=["a remark"],
        )
        assert made == str(root / "conf" / "httpd_conf.py")
        assert sorted(path.name for path in root.iterdir()) == ["conf", "logs", "public"]
        assert (root / "conf" / "mime.types").is_file()
        captured = capsys.readouterr()
        assert captured.out == ""
        assert f"Made {made}" in captured.err
        source = Path(made).read_text()
        assert source.startswith(f"#!{version.PYTHON_BIN}\n")
        assert "from mod_python.httpdconf import *\n\nconfig = Container(\n" in source
        assert source.endswith("\nprint(config)\n")
        assert os.access(made, os.X_OK)
        text = subprocess.run([sys.executable, made], capture_output=True, text=True, check=True).stdout
        for line in (
            f"ServerRoot {root}",
            f"DocumentRoot {root}/public",
            "Listen 127.0.0.1:8889",
            "MaxConnectionsPerChild 65536",
            "CustomLog logs/access_log combined",
            "ErrorLog logs/error_log",
            "LogLevel warn",
            "PidFile logs/httpd.pid",
            "TypesConfig conf/mime.types",
            "ServerName 127.0.0.1",
            "SetHandler mod_python",
            "# PythonDebug On",
            "PythonHandler mod_python.publisher",
            'PythonPath "sys.path+[\'/srv/a b\',\\"/srv/it\'s\\",]"',
            "PythonOption name value",
            "# a remark",
        ):
            assert f"\n{line}\n" in text, line
        assert re.search(r"\nLoadModule python_module \S+/mod_python\.so\n", text)

    def test_modules(self, tmp_path: Path) -> None:
        httpd = find_httpd()
        made = write_basic_config(tmp_path / "site", mpm=httpd.mpms()[-1])
        assert made is not None
        text = Path(made).read_text()
        assert ("LoadModule('mpm_" in text) == (httpd.builtin_mpm is None)
        for name in ("authz_core", "mime", "dir", "alias", "unixd", "log_config"):
            if httpd.module_file(f"mod_{name}"):
                assert f"IfModule('!mod_{name}.c',\n            LoadModule('{name}_module " in text
            else:
                assert f"mod_{name}" in httpd.builtin
        with pytest.raises(ConfigError, match="has no MPM 'nonsense'; it offers: "):
            write_basic_config(tmp_path / "other", mpm="nonsense")
        assert not (tmp_path / "other").exists()

    def test_a_program_that_exists(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        program = tmp_path / "site" / "conf" / "own.py"
        program.parent.mkdir(parents=True)
        program.write_text("mine")
        assert write_basic_config(tmp_path / "site", conf_name="own.py") is None
        assert f"Error: {program} exists already" in capsys.readouterr().err
        assert program.read_text() == "mine"
        assert sorted(path.name for path in (tmp_path / "site").iterdir()) == ["conf"]
        assert write_basic_config(tmp_path / "site", conf_name="own.py", replace_config=True) == str(program)
        assert "config = Container(" in program.read_text()
        assert f"Warning: {program.parent} exists already" in capsys.readouterr().err

    def test_without_directories(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "conf").mkdir()
        assert write_basic_config(tmp_path, createdirs=False) is not None
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["conf", "httpd_conf.py"]
        err = capsys.readouterr().err
        assert f"Warning: {tmp_path}/public does not exist" in err
        assert f"Warning: {tmp_path}/conf/mime.types does not exist" in err

    def test_other_names(self, tmp_path: Path) -> None:
        made = write_basic_config(tmp_path, conf="etc", logs="log", htdocs="www")
        assert made == str(tmp_path / "etc" / "httpd_conf.py")
        text = Path(made).read_text()
        for part in ("log/error_log", "log/httpd.pid", f"{tmp_path}/www", "etc/mime.types"):
            assert part in text

    def test_a_relative_directory_and_blanks(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        made = write_basic_config("my site")
        assert made == str(tmp_path / "my site" / "conf" / "httpd_conf.py")
        assert f"ServerRoot('\"{tmp_path}/my site\"')" in Path(made).read_text()

    def test_a_missing_parent(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            write_basic_config(tmp_path / "no" / "site")

    @pytest.mark.parametrize(
        "arguments",
        [
            {"listen": "1\nUser root"},
            {"pythonhandler": ""},
            {"pythonoptions": ["a b\nUser root"]},
            {"htdocs": 'a"b'},
            {"pythonpath": ["a\nb", "${HOME}"]},
        ],
    )
    def test_what_cannot_stand_in_a_line(self, tmp_path: Path, arguments: dict[str, Any]) -> None:
        with pytest.raises(ConfigError):
            write_basic_config(tmp_path / "site", **arguments)
        assert not (tmp_path / "site").exists()

    def test_without_mime_types(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import dataclasses

        from mod_python._httpdconf import project

        bare = dataclasses.replace(find_httpd(), mime_types=None)
        monkeypatch.setattr(version, "SYSCONFDIR", str(tmp_path))
        monkeypatch.setattr(Path, "is_file", lambda self: self.name != "mime.types" and self.exists())
        monkeypatch.setattr(project, "_modules", lambda httpd, mpm: Container())
        assert write_basic_config(tmp_path / "site", httpd=bare) is not None
        assert "text/html htm" in (tmp_path / "site" / "conf" / "mime.types").read_text()


def test_the_option_of_the_publisher_is_one_line() -> None:
    assert (
        str(PythonOption("mod_python.publisher.marked_only On")) == "PythonOption mod_python.publisher.marked_only On\n"
    )
