"""Which sources can be downloaded: what `mod_python.httpd.exposed` finds is what httpd sends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mod_python.httpd.exposed import Exposed, exposed_sources
from mod_python.httpd.process import check_config
from mod_python.testing import Server
from tests.projects import Project, project
from tests.servers import running
from tests.serving import Serve, free_port

__all__ = ["project"]

SOURCE = "def handler(req):\n    req.write('run')\n    return 0\n# the source\n"

# What may be said about a directory DIR, which is mapped to URL, and lies in SITE.
RULES = {
    "nothing": "",
    "denied": '<Directory "DIR">\nRequire all denied\n</Directory>',
    "denied above": '<Directory "DIR/..">\nRequire all denied\n</Directory>',
    "granted": '<Directory "DIR">\nRequire all granted\n</Directory>',
    "handler": '<Directory "DIR">\nSetHandler mod_python\nPythonHandler hello\n</Directory>',
    "publisher": '<Directory "DIR">\nAddHandler mod_python .py\nPythonHandler mod_python.publisher\n</Directory>',
    "pages by extension": '<Directory "DIR">\nAddHandler mod_python .psp\nPythonHandler mod_python.psp\n</Directory>',
    "pages": '<Directory "DIR">\nSetHandler mod_python\nPythonHandler mod_python.psp\n</Directory>',
    "files denied": '<Directory "DIR">\n<Files "*.py">\nRequire all denied\n</Files>\n</Directory>',
    "files of a handler": (
        '<Directory "DIR">\n<Files "*.py">\nSetHandler mod_python\nPythonHandler hello\n</Files>\n</Directory>'
    ),
    "other files denied": '<Directory "DIR">\n<Files "*.pyc">\nRequire all denied\n</Files>\n</Directory>',
    "one file denied": '<Directory "DIR">\n<Files hello.py>\nRequire all denied\n</Files>\n</Directory>',
    "files matched": '<Directory "DIR">\n<FilesMatch "\\.(py|conf)$">\nRequire all denied\n</FilesMatch>\n</Directory>',
    "files matched with a tilde": '<Directory "DIR">\n<Files ~ "\\.py$">\nRequire all denied\n</Files>\n</Directory>',
    "directory matched": '<DirectoryMatch "/NAME$">\nRequire all denied\n</DirectoryMatch>',
    "directory with a wildcard": '<Directory "SITE/*/NAME">\nRequire all denied\n</Directory>',
    "wildcards match no slash": '<Directory "SITE*/NAME">\nRequire all denied\n</Directory>',
    "location denied": '<Location "URL">\nRequire all denied\n</Location>',
    "location with a slash": '<Location "URL/">\nRequire all denied\n</Location>',
    "location of another": '<Location "URLS">\nRequire all denied\n</Location>',
    "location with a wildcard": '<Location "URL/*.py">\nRequire all denied\n</Location>',
    "location matched": '<LocationMatch "^URL/.*\\.py$">\nRequire all denied\n</LocationMatch>',
    "granted after all": (
        '<Directory "DIR">\nRequire all denied\n</Directory>\n<Location "URL">\nRequire all granted\n</Location>'
    ),
    "denied after all": (
        '<Location "URL">\nRequire all denied\n</Location>\n<Directory "DIR">\nRequire all granted\n</Directory>'
    ),
    "handler taken back": (
        '<Location "URL">\nSetHandler None\n</Location>\n'
        '<Directory "DIR">\nSetHandler mod_python\nPythonHandler hello\n</Directory>'
    ),
    "the longer directory": (
        '<Directory "DIR">\nRequire all granted\n</Directory>\n<Directory "DIR/..">\nRequire all denied\n</Directory>'
    ),
    "all of": '<Directory "DIR">\n<RequireAll>\nRequire all denied\nRequire local\n</RequireAll>\n</Directory>',
    "any of": '<Directory "DIR">\n<RequireAny>\nRequire all denied\nRequire local\n</RequireAny>\n</Directory>',
    "local": '<Directory "DIR">\nRequire local\n</Directory>',
    "denied if": '<Directory "DIR">\n<If "true">\nRequire all denied\n</If>\n</Directory>',
    "read if a module is there": (
        '<IfModule mod_alias.c>\n<Directory "DIR">\nRequire all denied\n</Directory>\n</IfModule>'
    ),
    "not read": '<IfModule mod_nothing.c>\n<Directory "DIR">\nRequire all denied\n</Directory>\n</IfModule>',
    "by a variable": 'Define PLACE "DIR"\n<Directory "${PLACE}">\nRequire all denied\n</Directory>',
    "a line in two": '<Directory "DIR">\nRequire all \\\n  denied\n</Directory>',
    "overridden": '<Directory "DIR">\nAllowOverride All\n</Directory>',
}


def found_by(server: Server) -> list[Exposed]:
    return exposed_sources(check_config(server.settings))


@pytest.fixture(scope="module")
def rules() -> Iterator[Server]:
    """A directory for each rule, below one of its own, with a handler that is named elsewhere."""
    lines, files = [], {}
    for index, rule in enumerate(RULES.values()):
        name, url = f"c{index}", f"/u{index}"
        path = f"${{SITE}}/d{index}/{name}"
        files[f"d{index}/{name}/hello.py"] = SOURCE
        text = rule.replace("DIR", path).replace("URL", url).replace("NAME", name).replace("SITE*", "${SITE}*")
        lines.append(f'Alias "{url}" "{path}"\n{text.replace(chr(34) + "SITE/", chr(34) + "${SITE}/")}')
        lines.append(f'<Location "/run{index}">\nSetHandler mod_python\nPythonHandler {path}/hello.py\n</Location>')
    files[f"d{list(RULES).index('overridden')}/c{list(RULES).index('overridden')}/.htaccess"] = "Require all denied\n"
    with running("\n".join(lines), files=files, modules=["mod_authz_host", "mod_alias"]) as server:
        yield server


@pytest.fixture(scope="module")
def found(rules: Server) -> list[str]:
    return [exposed.url for exposed in found_by(rules)]


@pytest.mark.parametrize("rule", RULES)
def test_what_is_found_is_what_is_sent(rules: Server, found: list[str], rule: str) -> None:
    index = list(RULES).index(rule)
    response = rules.get(f"/u{index}/hello.py")
    sent = response.status == 200 and "# the source" in response.text
    assert found.count(f"/u{index}/hello.py") == sent, (response.status, response.text)


# Ways to name the handler in the file `lib/hello.py` of the site, which is below DocumentRoot.
NAMES = {
    "path": '<Location "/run">\nSetHandler mod_python\nPythonHandler ${SITE}/lib/hello.py\n</Location>',
    "path with a function": '<Location "/run">\nPythonHandler ${SITE}/lib/hello.py::handler\n</Location>',
    "several": '<Location "/run">\nPythonHandler mod_python.psp ${SITE}/lib/hello.py | .x\n</Location>',
    "relative": '<Directory "${SITE}/lib/sub">\nPythonAccessHandler ../hello.py\n</Directory>',
    "relative to the root": "PythonFixupHandler ~/lib/hello.py",
    "beside": '<Directory "${SITE}/lib">\nPythonHandler hello::handler\n</Directory>',
    "on the path": "PythonPath \"['${SITE}/lib']+sys.path\"\nPythonLogHandler hello",
    "application": (
        "PythonPath \"sys.path+['${SITE}/lib']\"\nPythonOption mod_python.wsgi.application hello::application"
    ),
    "filter": "PythonOutputFilter ${SITE}/lib/hello.py::shout SHOUT",
    "import": "PythonImport ${SITE}/lib/hello.py main_interpreter",
    "connection": "PythonConnectionHandler ${SITE}/lib/hello.py::handler",
    "module of all phases": "PythonHandlerModule ${SITE}/lib/hello.py",
    "in a host": "<VirtualHost *:1>\nPythonHandler ${SITE}/lib/hello.py\n</VirtualHost>",
}


@pytest.mark.parametrize("way", NAMES)
def test_the_file_of_a_handler(way: str) -> None:
    server = Server(f"DocumentRoot ${{SITE}}\n{NAMES[way]}", files={"lib/hello.py": SOURCE, "lib/sub/x.txt": ""})
    try:
        server.start()
        found = found_by(server)
    finally:
        server.stop()
    assert [(exposed.url, exposed.file) for exposed in found] == [("/lib/hello.py", server_file(found))]
    assert found[0].root == found[0].file.parent.parent
    assert found[0].where.startswith("Python")


def server_file(found: list[Exposed]) -> Path:
    return next((exposed.file for exposed in found if exposed.file.name == "hello.py"), Path())


def test_other_output_means_nothing() -> None:
    assert exposed_sources("Syntax OK\nmod_python-tree\tnonsense\nmod_python-tree\t9\tf\t1\tDocumentRoot\t/\n") == []


class TestCommands:
    SITE = """
Listen 127.0.0.1:%d
DocumentRoot ${CONFIG_DIR}
<Location "/hello">
    SetHandler mod_python
    PythonHandler ${CONFIG_DIR}/hello.py
</Location>
"""

    def test_serve_warns_of_a_handler_and_a_configuration(self, serve: Serve) -> None:
        serve.write("hello.py", SOURCE)
        port = free_port()
        served = serve.start(str(serve.write("site.conf", self.SITE % port)))
        for name, what in (("hello.py", "PythonHandler in "), ("site.conf", "a configuration file")):
            start = f"Warning: {serve.directory}/{name} ({what}"
            assert start in served.output
        assert f"can be downloaded as /hello.py, since it lies below DocumentRoot {serve.directory}" in served.output
        assert '<Files "*.py"> Require all denied </Files>' in served.output
        assert served.interrupt() == 0

    def test_serve_is_silent_otherwise(self, serve: Serve) -> None:
        (serve.directory / "htdocs").mkdir()
        serve.write("hello.py", SOURCE)
        text = (self.SITE % free_port()).replace("DocumentRoot ${CONFIG_DIR}", "DocumentRoot ${CONFIG_DIR}/htdocs")
        served = serve.start(str(serve.write("site.conf", text)))
        assert "can be downloaded" not in served.output
        assert served.interrupt() == 0

    @pytest.mark.parametrize("kind", ["mod_python.publisher", "mod_python.psp", "mod_python.wsgi", "hello"])
    def test_a_new_project_has_no_such_files(self, project: Project, kind: str) -> None:
        assert "can be downloaded" not in project.create(kind).stderr

    def test_start_and_restart_warn(self, project: Project) -> None:
        project.create("hello")
        text = project.config.read_text()
        project.config.write_text(
            f'{text}\nAlias "/app" "{project.root}/app"\n<Location "/app">\nSetHandler None\n</Location>\n'
        )
        warning = f"Warning: {project.root}/app/hello.py (PythonHandler in {project.config} line "
        try:
            assert warning in project.run("start", str(project.config)).stderr
            assert "# the source" not in project.get("/app/hello.py").text
            assert "It works" in project.get("/app/hello.py").text
            assert warning in project.run("restart", str(project.config)).stderr
        finally:
            project.run("stop", str(project.config))

    def test_create_warns_of_a_handler_that_exists(self, project: Project) -> None:
        """Pages beside their code, in a directory that pages are served from."""
        (project.directory / "site" / "public").mkdir(parents=True)
        (project.directory / "site" / "public" / "mine.py").write_text(SOURCE)
        done = project.create("mine", f"--pythonpath={project.root}/public")
        assert "can be downloaded" not in done.stderr  # it is run, not sent
        project.start()
        try:
            assert project.get("/mine.py").text == "run"
        finally:
            project.run("stop", str(project.config))
