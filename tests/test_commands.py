"""`mod_python create`, `genconfig`, `start`, `stop`, `restart`, `graceful` and `status`, as a user runs them."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import signal
import socket
import threading
import time
from pathlib import Path

import pytest

from mod_python.httpd.control import listening
from mod_python.httpd.process import children_of, session_members
from mod_python.testing import client
from tests.projects import Project, project
from tests.serving import TIMEOUT, alive, command, environment

pytestmark = pytest.mark.long

__all__ = ["project"]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")

COMMANDS = ["create", "genconfig", "start", "stop", "restart", "graceful", "status", "serve", "version"]


def clean(project: Project) -> None:
    """The log tells of no crash and no traceback."""
    assert not re.search(r"Traceback|exit signal|AH00052", project.log), project.log


class Load:
    """Clients that ask all the time.

    Attributes:
        answers: How many answers came.
        failures: What went wrong.
    """

    def __init__(self, port: int, clients: int = 4) -> None:
        self.answers = 0
        self.failures: list[str] = []
        self._port = port
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(TIMEOUT)

    def _ask(self) -> None:
        while not self._end.is_set():
            try:
                with client.connect("127.0.0.1", self._port) as sock:
                    sock.sendall(b"GET /load HTTP/1.0\r\n\r\n")
                    answer = b""
                    while data := sock.recv(65536):
                        answer += data
                if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(b"It works: /load\n"):
                    self.failures.append(repr(answer))
                else:
                    self.answers += 1
            except OSError as error:
                self.failures.append(repr(error))

    def wait_for_more(self, count: int = 20) -> None:
        """Wait until that many more answers have come."""
        goal, deadline = self.answers + count, time.monotonic() + TIMEOUT
        while self.answers < goal:
            assert time.monotonic() < deadline, self.failures
            time.sleep(0.005)


class TestLife:
    def test_from_the_first_to_the_last(self, project: Project) -> None:
        made = project.create("hello")
        assert made.stdout.startswith(f"{project.root} is ready.\n")
        assert f"mod_python genconfig {project.program} > {project.config}" in made.stdout
        assert project.run("genconfig", str(project.program)).stdout == project.config.read_text()
        assert f"not running: {project.config}" in project.run("status", str(project.config), status=3).stdout

        pid = project.start()
        assert project.get("/first").text == "It works: /first\n"
        shown = project.run("status", str(project.config)).stdout
        assert shown.startswith(f"running: {project.config}\n  process:   {pid}, with ")
        assert re.search(r"^  uptime:    \d+ (second|minute)", shown, re.MULTILINE)
        assert f"\n  listening: 127.0.0.1:{project.port}\n" in shown
        assert f"\n  error log: {project.root}/logs/error_log\n" in shown
        assert f"running already: process {pid}" in project.run("start", str(project.config)).stdout

        with Load(project.port) as load:
            load.wait_for_more()
            for _ in range(3):
                assert f"restarted gracefully: process {pid}" in project.run("graceful", str(project.config)).stdout
                assert children_of(pid)
                load.wait_for_more()
        assert load.failures == []
        deadline = time.monotonic() + TIMEOUT
        while project.log.count("resuming normal operations") < 4:  # httpd says so after it has started children
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert project.log.count("resuming normal operations") == 4

        assert f"httpd restarted: process {pid}" in project.run("restart", str(project.config)).stdout
        assert project.get("/again").status == 200
        assert f"httpd restarted: process {pid}" in project.run("restart", "--now", str(project.config)).stdout
        assert project.get("/again").status == 200
        assert project.run("stop", str(project.config)).stdout == "httpd stopped\n"
        assert session_members(pid) == []
        assert not (project.root / "logs" / "httpd.pid").exists()
        project.run("status", str(project.config), status=3)
        assert "not running" in project.run("stop", str(project.config)).stderr
        clean(project)

    def test_a_changed_configuration(self, project: Project) -> None:
        project.create("hello")
        project.start()
        program = project.program.read_text()
        os.utime(project.config, (1, 1))  # older than the program
        project.program.write_text(program.replace("SetHandler('mod_python'),", "Redirect('gone /old'),"))
        assert "Warning: httpd_conf.py is newer than httpd.conf" in project.run("graceful", str(project.root)).stderr
        assert project.get("/old").text == "It works: /old\n"
        project.run("genconfig", str(project.program), "-o", str(project.config))
        assert project.run("restart", str(project.root)).stderr == ""
        deadline = time.monotonic() + TIMEOUT
        while project.get("/old").status != 410:  # children of before may still be taking connections
            assert time.monotonic() < deadline
            time.sleep(0.01)
        project.run("stop", "--now", str(project.root))

    def test_restart_starts_what_does_not_run(self, project: Project) -> None:
        project.create("hello")
        done = project.run("restart", str(project.config))
        assert "not running; starting it" in done.stderr
        assert "httpd started: process" in done.stdout
        assert project.get().status == 200

    @pytest.mark.parametrize("line", ["LogLevel emerg", "ErrorLog syslog", "ErrorLog /dev/null"])
    def test_a_restart_is_noticed_whatever_is_logged(self, project: Project, line: str) -> None:
        project.create("hello")
        with project.config.open("a") as file:
            file.write(f"{line}\n")
        project.start()
        project.run("graceful", str(project.config))
        assert project.get().status == 200
        project.run("stop", str(project.config))

    def test_a_relative_path(self, project: Project) -> None:
        """httpd itself would look for it below its compiled-in directory."""
        project.create("hello")
        project.run("start", "site/conf/httpd.conf")
        assert project.get().status == 200
        project.run("stop", "site")

    def test_stopping_waits_for_requests_and_then_cuts_them_off(self, project: Project) -> None:
        project.create("hello")
        (project.root / "app" / "hello.py").write_text(
            "import time\nfrom mod_python import apache\n\ndef handler(req):\n"
            "    req.write('begun'); req.flush()\n"
            "    while True:\n        time.sleep(0.01)\n"
        )
        pid = project.start()
        with client.connect("127.0.0.1", project.port) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            data = b""
            while b"begun" not in data:
                data += sock.recv(1000)
            done = project.run("stop", "--timeout", "0.2", str(project.config))
        assert "connections were left after 0.2 seconds" in done.stdout
        assert not alive(pid)

    def test_a_stop_lets_requests_finish(self, project: Project) -> None:
        project.create("hello")
        flag = project.root / "go"
        (project.root / "app" / "hello.py").write_text(
            "import os, time\nfrom mod_python import apache\n\ndef handler(req):\n"
            "    req.write('begun '); req.flush()\n"
            f"    while not os.path.exists({str(flag)!r}):\n        time.sleep(0.01)\n"
            "    req.write('finished')\n    return apache.OK\n"
        )
        pid = project.start()
        with client.connect("127.0.0.1", project.port) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            data = b""
            while b"begun" not in data:
                data += sock.recv(1000)
            stopping = threading.Thread(target=project.run, args=("stop", str(project.config)))
            stopping.start()
            deadline = time.monotonic() + TIMEOUT
            while listening(pid) and alive(pid):  # it has taken notice
                assert time.monotonic() < deadline
                time.sleep(0.01)
            flag.write_text("")
            while more := sock.recv(1000):
                data += more
            stopping.join(TIMEOUT)
        assert data.endswith(b"begun finished")
        assert not alive(pid)


class TestHandlers:
    def test_the_publisher(self, project: Project) -> None:
        project.create("mod_python.publisher")
        assert "PythonOption mod_python.publisher.marked_only On" in project.config.read_text()
        project.start()
        assert "It works" in project.get("/").text
        assert "Hello, &lt;Ada&gt;!" in project.get("/hello?name=%3CAda%3E").text
        assert project.get("/not_a_page").status in (403, 404)
        project.run("stop", str(project.config))
        clean(project)

    def test_psp(self, project: Project) -> None:
        project.create("mod_python.psp")
        project.start()
        assert "Hello, world!" in project.get("/").text
        assert "Hello, &lt;Ada&gt;!" in project.get("/index.psp?name=%3CAda%3E").text
        project.run("stop", str(project.config))
        clean(project)

    def test_wsgi(self, project: Project) -> None:
        project.create("mod_python.wsgi")
        text = project.config.read_text()
        assert '# PythonOption mod_python.wsgi.base_uri "/app"\n' in text
        assert "PythonOption mod_python.wsgi.application app::application\n" in text
        project.start()
        assert project.get("/some/where").text == "It works: /some/where\n"
        project.run("stop", str(project.config))
        clean(project)

    def test_a_wsgi_application_that_exists(self, project: Project) -> None:
        (project.directory / "code").mkdir()
        (project.directory / "code" / "shop.py").write_text("")
        option = "mod_python.wsgi.application shop::make"
        project.create("mod_python.wsgi", "--pythonpath=code", f"--pythonoption={option}")
        assert f"PythonPath \"sys.path+['{project.directory}/code',]\"\n" in project.config.read_text()
        assert project.config.read_text().count("PythonOption mod_python.wsgi.application") == 1
        assert not (project.root / "app").exists()

    def test_a_function_of_a_module(self, project: Project) -> None:
        project.create("pages::front")
        project.start()
        assert project.get("/x").text == "It works: /x\n"
        project.run("stop", str(project.config))

    def test_a_module_that_exists(self, project: Project) -> None:
        (project.directory / "one").mkdir()
        (project.directory / "two").mkdir()
        (project.directory / "two" / "mine.py").write_text(
            "from mod_python import apache\n\ndef handler(req):\n"
            "    req.write(req.get_options()['greeting'])\n    return apache.OK\n"
        )
        done = project.create("mine", "--pythonpath=one:two", "--pythonoption=greeting 'Good day'")
        assert "Warning" not in done.stderr
        assert not (project.root / "app").exists()
        project.start()
        assert project.get().text == "Good day"
        project.run("stop", str(project.config))

    def test_a_module_that_cannot_be_made(self, project: Project) -> None:
        assert "there is no module some.where yet" in project.create("some.where::page").stderr

    def test_ready_made_handlers_of_other_kinds(self, project: Project) -> None:
        assert "there is no module" not in project.create("mod_python.testhandler").stderr

    def test_a_file_that_comes_later_is_sent(self, project: Project) -> None:
        """A URL is the handler's as long as there is no file."""
        project.create("hello")
        project.start()
        assert project.get("/style.css").text == "It works: /style.css\n"
        (project.root / "public" / "style.css").write_text("p {}")
        response = project.get("/style.css")
        assert (response.text, response.headers["Content-Type"]) == ("p {}", "text/css")
        project.run("stop", str(project.config))

    def test_blanks_in_the_directory(self, public_path: Path) -> None:
        project = Project(public_path, "my own site")
        try:
            project.create("hello")
            project.start()
            assert project.get("/x").text == "It works: /x\n"
            project.run("stop", str(project.config))
        finally:
            project.end()


class TestCreate:
    def test_the_tree(self, project: Project) -> None:
        done = project.create("mod_python.publisher")
        files = {str(path.relative_to(project.root)) for path in project.root.rglob("*")}
        assert files == {
            *("README", "app", "conf", "logs", "public"),
            *("conf/httpd.conf", "conf/httpd_conf.py", "conf/mime.types", "public/index.py"),
        } - {"app"}
        for name in files - {"logs", "public", "conf"}:
            assert f"Made {project.root}/{name}" in done.stderr
        compile((project.root / "public" / "index.py").read_text(), "index.py", "exec")
        assert f"http://127.0.0.1:{project.port}/" in (project.root / "README").read_text()

    def test_nothing_is_overwritten(self, project: Project) -> None:
        project.root.mkdir()
        for directory, name in (("public", "index.py"), ("conf", "mime.types"), ("conf", "httpd.conf")):
            (project.root / directory).mkdir(exist_ok=True)
            (project.root / directory / name).write_text("mine")
        (project.root / "README").write_text("mine")
        done = project.create("mod_python.publisher")
        for name in ("", "/public", "/public/index.py", "/conf/mime.types", "/conf/httpd.conf", "/README"):
            assert f"Warning: {project.root}{name} exists already\n" in done.stderr
        for name in ("public/index.py", "conf/mime.types", "conf/httpd.conf", "README"):
            assert (project.root / name).read_text() == "mine"

    def test_a_project_that_exists(self, project: Project) -> None:
        project.create("hello")
        before = {path: path.stat().st_mtime_ns for path in project.root.rglob("*")}
        done = project.run("create", str(project.root), "--pythonhandler=other", status=1)
        assert f"Error: {project.program} exists already" in done.stderr
        assert done.stdout == ""
        assert {path: path.stat().st_mtime_ns for path in project.root.rglob("*")} == before

    def test_a_relative_directory(self, project: Project) -> None:
        project.run("create", "site", "--pythonhandler=hello")
        text = project.config.read_text()
        assert f"\nServerRoot {project.root}\nPidFile" in text
        assert f"\nDocumentRoot {project.root}/public\n" in text
        assert "\nListen 8888\n" in text

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "Missing argument 'DIRECTORY'"),
            (["site"], "Must specify a --pythonhandler"),
            (["site", "surplus", "--pythonhandler=x"], "unexpected extra argument"),
            (["site", "--pythonhandler=x", "--listen=nonsense"], "'nonsense' is not [ADDRESS:]PORT"),
            (["site", "--pythonhandler=x", "--listen=99999"], "'99999' is not [ADDRESS:]PORT"),
            (["site", "--pythonhandler=x", "--mpm=nonsense"], "'nonsense' is not one of"),
        ],
    )
    def test_wrong_usage(self, project: Project, arguments: list[str], message: str) -> None:
        done = project.run("create", *arguments, status=2)
        assert "Usage: mod_python create" in done.stderr
        assert message in done.stderr
        assert not project.root.exists()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["no/site", "--pythonhandler=x"], "/no: no such directory; make it first"),
            (["file", "--pythonhandler=x"], "/file: File exists"),
            (["site", "--pythonhandler=a\nUser root"], "cannot be the value of PythonHandler"),
            (["site", "--pythonhandler=x", "--httpd=/nowhere"], "/nowhere: no such program"),
            (["site", "--pythonhandler=x", "--user=nobody-knows"], "--user"),
        ],
    )
    def test_failures(self, project: Project, arguments: list[str], message: str) -> None:
        (project.directory / "file").write_text("")
        done = project.run("create", *arguments, status=1)
        assert message in done.stderr
        assert "Traceback" not in done.stderr
        assert not project.root.exists()

    @pytest.mark.parametrize("listen", ["8888", "127.0.0.1:8888", "[::1]:8888", "localhost:8888"])
    def test_forms_of_listen(self, project: Project, listen: str) -> None:
        project.run("create", "site", "--pythonhandler=hello", f"--listen={listen}")
        assert f"\nListen {listen}\n" in project.config.read_text()

    @as_root
    def test_root_is_told_what_children_cannot_read(self, project: Project) -> None:
        closed = project.directory / "closed"
        closed.mkdir(mode=0o700)
        done = project.run("create", "closed/site", "--pythonhandler=hello")
        assert f"Warning: {closed}: the user " in done.stderr


class TestGenconfig:
    def test_a_program_is_run_as_main_program(self, project: Project) -> None:
        (project.directory / "beside.py").write_text("NAME = 'beside'\n")
        program = project.directory / "own.py"
        program.write_text(
            "import sys, beside\nfrom mod_python.httpdconf import *\nassert __name__ == '__main__'\n"
            "assert len(sys.argv) == 1, sys.argv\nprint(ServerName(beside.NAME), end='')\n"
        )
        assert project.run("genconfig", "own.py").stdout == "ServerName beside\n"

    def test_an_exception_is_an_ordinary_traceback(self, project: Project) -> None:
        (project.directory / "own.py").write_text("def deep():\n    raise ValueError('on purpose')\n\ndeep()\n")
        done = project.run("genconfig", "own.py", status=1)
        assert done.stderr.startswith('Traceback (most recent call last):\n  File "own.py", line 4, in <module>\n')
        assert done.stderr.endswith("ValueError: on purpose\n")

    def test_a_mistake_in_the_program(self, project: Project) -> None:
        (project.directory / "own.py").write_text("x = (\n")
        done = project.run("genconfig", "own.py", status=1)
        assert 'File "own.py", line 1' in done.stderr
        assert "SyntaxError" in done.stderr

    def test_its_exit_status_counts(self, project: Project) -> None:
        (project.directory / "own.py").write_text("raise SystemExit(5)")
        project.run("genconfig", "own.py", status=5)

    def test_the_output_is_left_alone_if_it_fails(self, project: Project) -> None:
        (project.directory / "own.py").write_text("print('half')\n1/0\n")
        output = project.directory / "httpd.conf"
        output.write_text("before")
        project.run("genconfig", "own.py", "-o", "httpd.conf", status=1)
        assert output.read_text() == "before"

    def test_no_such_file(self, project: Project) -> None:
        assert "none.py: no such file" in project.run("genconfig", "none.py", status=1).stderr
        assert "Usage: mod_python genconfig" in project.run("genconfig", status=2).stderr


class TestFailures:
    """Each is told on standard error, with what to do."""

    @pytest.mark.parametrize("name", ["start", "stop", "restart", "graceful", "status"])
    def test_no_such_file(self, project: Project, name: str) -> None:
        status = 4 if name == "status" else 1
        assert (
            "none.conf: no such file; name an httpd configuration"
            in project.run(name, "none.conf", status=status).stderr
        )
        assert f"Usage: mod_python {name}" in project.run(name, status=2).stderr
        project.create("hello")
        assert "is a Python program" in project.run(name, str(project.program), status=status).stderr
        project.config.unlink()
        remedy = f"make it: mod_python genconfig {project.program} -o {project.config}"
        assert remedy in project.run(name, str(project.config), status=status).stderr

    def test_a_port_in_use(self, project: Project) -> None:
        project.create("hello")
        with socket.create_server(("127.0.0.1", project.port)):
            done = project.run("start", str(project.config), status=1)
        assert f"127.0.0.1:{project.port}: cannot listen there: it is in use by another program" in done.stderr
        assert f"or change Listen in {project.config}" in done.stderr
        assert done.stderr.count("\n") == 1
        project.run("status", str(project.config), status=3)
        project.start()
        project.run("stop", str(project.config))

    @pytest.mark.parametrize("name", ["start", "restart"])
    def test_a_broken_configuration(self, project: Project, name: str) -> None:
        project.create("hello")
        lines = project.config.read_text().splitlines()
        project.config.write_text("\n".join([*lines, "Nonsense"]) + "\n")
        done = project.run(name, str(project.config), status=1)
        assert f"{project.config} line {len(lines) + 1}: Invalid command 'Nonsense'" in done.stderr

    def test_a_running_server_survives_a_broken_configuration_and_can_be_stopped(self, project: Project) -> None:
        project.create("hello")
        pid = project.start()
        with project.config.open("a") as file:
            file.write("Nonsense\n")
        for name in ("restart", "graceful"):
            assert "Invalid command 'Nonsense'" in project.run(name, str(project.config), status=1).stderr
        assert project.get().status == 200
        shown = project.run("status", str(project.config)).stdout
        assert f"process:   {pid}, " in shown
        assert "the configuration has become broken" in shown
        project.run("stop", str(project.config))
        assert not alive(pid)
        assert "Invalid command" in project.run("status", str(project.config), status=4).stderr

    def test_a_failure_after_the_configuration_was_read(self, project: Project) -> None:
        """httpd is in the background by then; what it wrote to its log is shown."""
        project.create("hello")
        with project.config.open("a") as file:
            file.write("PythonOption mod_python.mutex_directory /nowhere\n")
        done = project.run("start", str(project.config), status=1)
        assert "httpd ended at start: " in done.stderr
        assert "could not be made in /nowhere" in done.stderr
        assert f"; see {project.root}/logs/error_log" in done.stderr
        assert not list((project.root / "logs").glob("*.pid"))

    def test_a_log_that_cannot_be_written(self, project: Project) -> None:
        project.create("hello")
        with project.config.open("a") as file:
            file.write("ErrorLog nowhere/error_log\n")
        done = project.run("start", str(project.config), status=1)
        assert f"{project.root}/nowhere/" in done.stderr
        assert "Traceback" not in done.stderr

    def test_graceful_when_not_running(self, project: Project) -> None:
        project.create("hello")
        done = project.run("graceful", str(project.config), status=1)
        assert f"httpd is not running with {project.config}; start it: mod_python start" in done.stderr

    @pytest.mark.parametrize("whose", ["nobody's", "another program's"])
    def test_a_stale_pid_file(self, project: Project, whose: str) -> None:
        project.create("hello")
        pid = project.start()
        for member in session_members(pid):
            with contextlib.suppress(ProcessLookupError):  # children may end with their parent
                os.kill(member, signal.SIGKILL)
        deadline = time.monotonic() + TIMEOUT
        while session_members(pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        pid_file = project.root / "logs" / "httpd.pid"
        if whose == "another program's":
            pid_file.write_text(f"{os.getpid()}\n")
        done = project.run("status", str(project.config), status=1)
        assert f"{pid_file} names process {pid_file.read_text().strip()}, which is not there" in done.stdout
        assert f"mod_python start {project.config}" in done.stdout
        assert "not running" in project.run("stop", str(project.config)).stderr
        assert alive(os.getpid())
        project.start()
        assert project.get().status == 200
        project.run("stop", str(project.config))

    def test_a_pid_file_that_was_removed(self, project: Project) -> None:
        project.create("hello")
        pid = project.start()
        (project.root / "logs" / "httpd.pid").unlink()
        assert f"process:   {pid}, " in project.run("status", str(project.config)).stdout
        project.run("stop", str(project.config))
        assert not alive(pid)

    def test_two_projects_are_two(self, public_path: Path) -> None:
        first, second = Project(public_path, "first"), Project(public_path, "second")
        try:
            first.create("hello")
            second.create("hello")
            first.start()
            # A file left from a crash, whose number httpd has, but another one.
            (second.root / "logs" / "httpd.pid").write_text((first.root / "logs" / "httpd.pid").read_text())
            second.run("status", str(second.config), status=1)
            second.run("stop", str(second.config))
            assert first.get().status == 200
            second.start()
            second.run("stop", str(second.config))
            first.run("stop", str(first.config))
        finally:
            first.end()
            second.end()


class TestUsers:
    @as_root
    def test_an_ordinary_user(self, project: Project) -> None:
        user = pwd.getpwnam("www-data" if "www-data" in {entry.pw_name for entry in pwd.getpwall()} else "nobody")
        os.chown(project.directory, user.pw_uid, user.pw_gid)
        project.create("hello", user=user.pw_uid)
        assert "User(" not in project.program.read_text()
        project.run("start", str(project.config), user=user.pw_uid)
        assert project.get().status == 200
        assert "running: " in project.run("status", str(project.config), user=user.pw_uid).stdout
        project.run("graceful", str(project.config), user=user.pw_uid)
        project.run("stop", str(project.config), user=user.pw_uid)
        clean(project)

    @as_root
    def test_another_users_server(self, project: Project) -> None:
        user = pwd.getpwnam("nobody")
        project.create("hello")
        project.start()
        assert "running: " in project.run("status", str(project.config), user=user.pw_uid).stdout
        for name in ("stop", "graceful"):
            done = project.run(name, str(project.config), user=user.pw_uid, status=1)
            assert "belongs to another user; run this as that user, or with sudo" in done.stderr
        assert project.get().status == 200

    @as_root
    def test_low_ports_are_for_root(self, project: Project) -> None:
        if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 999:
            pytest.skip("on this machine every user may listen on low ports")
        user = pwd.getpwnam("nobody")
        os.chown(project.directory, user.pw_uid, user.pw_gid)
        project.port = 999
        project.create("hello", user=user.pw_uid)
        done = project.run("start", str(project.config), user=user.pw_uid, status=1)
        assert "127.0.0.1:999: cannot listen there: " in done.stderr
        assert "ermission denied" in done.stderr


class TestTool:
    def test_help(self) -> None:
        done = command("--help")
        assert done.stdout.startswith("Usage: mod_python ")
        for name in COMMANDS:
            assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE), name
            own = command(name, "--help")
            assert own.returncode == 0
            assert own.stdout.startswith(f"Usage: mod_python {name} ")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [([], "Please specify a command"), (["nonsense"], "Invalid command: nonsense"), (["--nonsense"], "--nonsense")],
    )
    def test_no_or_unknown_command(self, arguments: list[str], message: str) -> None:
        done = command(*arguments)
        assert done.returncode == 2
        assert "Usage: mod_python " in done.stderr
        assert message in done.stderr
        assert done.stdout == ""

    def test_what_follows_the_command_belongs_to_it(self) -> None:
        assert command("start", "--version").returncode == 2
        assert command("--version").returncode == 0

    def test_options_from_the_environment(self, project: Project) -> None:
        env = {
            **environment(),
            "MOD_PYTHON_CREATE_PYTHONHANDLER": "hello",
            "MOD_PYTHON_CREATE_LISTEN": "127.0.0.1:7777",
        }
        assert command("create", "site", directory=project.directory, env=env).returncode == 0
        assert "\nListen 127.0.0.1:7777\n" in project.config.read_text()
