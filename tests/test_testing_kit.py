"""The test kit, on plain httpd and with handlers; and that its checks see what they should."""

from __future__ import annotations

import os
import socket
import ssl
from http.client import HTTPException
from pathlib import Path

import pytest

from mod_python.httpd.process import session_members
from mod_python.httpd.users import find_user
from mod_python.testing import AddressInUseError, ConfigError, Server, StartError, errorlog
from mod_python.testing import server as server_module
from mod_python.testing.plugin import Factory
from tests.serving import alive

pytest_plugins = ["pytester"]

ECHO = """
def connectionhandler(conn):
    while True:
        conn.write(conn.readline())
"""

WHERE = """
import os

def handler(req):
    req.write("%d %d" % (os.getpid(), os.getuid()))
    return 0
"""


def plain(httpd: Factory, config: str = "DocumentRoot ${SITE}", **arguments: object) -> Server:
    """Start an httpd without Python that serves a file."""
    return httpd(config, python=False, files={"page.txt": "static"}, **arguments)


class TestPlainHttpd:
    def test_files_and_requests(self, httpd: Factory) -> None:
        server = plain(httpd)
        response = server.get("/page.txt")
        assert (response.status, response.reason, response.text) == (200, "OK", "static")
        assert response.headers["content-type"] == "text/plain"
        assert server.request("OPTIONS", "/page.txt").status == 200
        assert server.url == f"http://127.0.0.1:{server.port}"

    def test_files_can_change(self, httpd: Factory) -> None:
        server = plain(httpd)
        path = server.write_file("deep/er/page.txt", b"\xff new")
        assert server.get("/deep/er/page.txt").body == b"\xff new"
        assert path == server.site / "deep" / "er" / "page.txt"

    def test_several_ports(self, httpd: Factory) -> None:
        config = "<VirtualHost *:${PORT2}>\nDocumentRoot ${SITE}\n</VirtualHost>"
        server = plain(httpd, config, listen=3)
        assert len(set(server.ports)) == 3
        assert [server.get("/page.txt", index=index).status for index in range(3)] == [404, 200, 404]

    def test_tls(self, httpd: Factory) -> None:
        server = plain(httpd, tls=True)
        assert server.url.startswith("https://localhost:")
        assert server.get("/page.txt").text == "static"
        with server.connect() as sock:
            assert isinstance(sock, ssl.SSLSocket)
        with server.connect_plain() as sock:
            assert not isinstance(sock, ssl.SSLSocket)

    def test_tls_on_some_ports(self, httpd: Factory) -> None:
        server = plain(httpd, tls=[1], listen=2)
        assert server.get("/page.txt", index=0).status == 200
        assert server.get("/page.txt", index=1).status == 200
        assert [server.url_of(index).split(":")[0] for index in (0, 1)] == ["http", "https"]

    def test_defines_and_modules(self, httpd: Factory) -> None:
        server = plain(
            httpd, "DocumentRoot ${SITE}\nHeader set X-Word ${WORD}", defines={"WORD": "given"}, modules=["mod_headers"]
        )
        assert server.get("/page.txt").headers["X-Word"] == "given"

    def test_graceful_gives_new_children(self, httpd: Factory) -> None:
        server = plain(httpd, processes=2)
        old = server.children()
        assert len(old) == 2
        for _ in range(2):
            server.graceful()
        server.wait_until(lambda: not set(old) & set(server.children()), what="the old children's end")
        assert server.get("/page.txt").status == 200

    @pytest.mark.parametrize("mpm", ["event", "worker", "prefork"])
    def test_mpm(self, httpd: Factory, mpm: str) -> None:
        server = plain(httpd, mpm=mpm)
        assert server.mpm == mpm
        assert server.get("/page.txt").status == 200

    def test_the_environment_chooses_the_mpm(self, httpd: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MOD_PYTHON_TEST_MPM", "prefork")
        assert plain(httpd).mpm == "prefork"

    def test_one_process(self, httpd: Factory) -> None:
        server = plain(httpd, one_process=True)
        assert server.get("/page.txt").status == 200
        assert server.children() == []


class TestHandlers:
    def test_a_request_handler(self, httpd: Factory) -> None:
        server = httpd(handler=WHERE)
        pid, uid = map(int, server.get("/x").text.split())
        user = find_user()
        assert pid in server.children()
        assert uid == (user.uid if user is not None else os.getuid())

    def test_a_connection_handler(self, httpd: Factory) -> None:
        server = httpd(handler=ECHO)
        with server.connect() as sock:
            sock.sendall(b"one\ntwo\n")
            with sock.makefile("rb") as file:
                assert [file.readline(), file.readline()] == [b"one\n", b"two\n"]

    def test_a_handler_file(self, httpd: Factory, examples: Path) -> None:
        server = httpd(handler_file=examples / "hello" / "hello.py")
        assert server.get("/").text == "Hello, world!\n"

    def test_a_handler_is_reloaded(self, httpd: Factory) -> None:
        server = httpd(handler="def handler(req): req.write('old'); return 0")
        assert server.get("/").text == "old"
        server.write_handler("def handler(req): req.write('new'); return 0")
        server.wait_until(lambda: server.get("/").text == "new", what="the new handler")

    def test_flags_and_options(self, httpd: Factory) -> None:
        server = httpd(
            handler="def handler(req):\n    req.write(req.get_options()['a key'] + req.get_config()['PythonDebug'])\n"
            "    return 0",
            options={"a key": 'a "value" '},
            flags={"PythonDebug": "On"},
        )
        assert server.get("/").text == 'a "value" 1'

    def test_the_interpreter_is_the_main_one(self, httpd: Factory) -> None:
        source = "def handler(req):\n    req.write(req.interpreter)\n    return 0"
        assert httpd(handler=source).get("/").text == "main_interpreter"
        server = httpd(handler=source, flags={"PythonInterpreter": "other"})
        assert server.get("/").text == "other"


class TestFailures:
    def test_a_broken_configuration(self) -> None:
        server = Server("Nonsense", python=False)
        with pytest.raises(ConfigError, match="Invalid command 'Nonsense'"):
            server.start()
        assert not server.root.exists()

    def test_a_start_that_fails_shows_the_log(self) -> None:
        config = "SSLEngine On\nSSLCertificateFile ${SITE}/no.pem"
        server = Server(config, python=False, modules=["mod_ssl"], files={"no.pem": "no certificate"})
        with pytest.raises(StartError, match=r"(?s)error log:.*AH02"):
            server.start()
        assert not server.root.exists()

    def test_a_port_that_was_taken_meanwhile(self, httpd: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
        real = server_module._free_ports
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = [other.getsockname()[1]]
            answers = iter([taken, taken])
            monkeypatch.setattr(server_module, "_free_ports", lambda count: next(answers, None) or real(count))
            server = plain(httpd)
            assert server.ports != taken
            assert server.get("/page.txt").status == 200

    def test_no_port_at_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            taken = [other.getsockname()[1]]
            monkeypatch.setattr(server_module, "_free_ports", lambda count: taken)
            with pytest.raises(AddressInUseError):
                Server(python=False).start()

    def test_a_wait_has_an_end(self, httpd: Factory) -> None:
        server = plain(httpd)
        server.wait_for_log("AH00")
        with pytest.raises(TimeoutError, match=r"(?s)'never to be' in the error log.*AH00"):
            server.wait_for_log("never to be", timeout=0.05)

    def test_wrong_arguments(self) -> None:
        with pytest.raises(ValueError, match="not both"):
            Server(handler="", handler_file="x.py")
        with pytest.raises(StartError, match="has not been started"):
            Server().graceful()

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are closed to httpd's children")
    def test_what_the_children_cannot_read(self, tmp_path: Path) -> None:
        path = tmp_path / "handler.py"
        path.write_text(WHERE)
        path.chmod(0o600)
        with pytest.raises(ConfigError, match="cannot read it"):
            Server(handler_file=path).start()


class TestEnd:
    def test_nothing_is_left(self) -> None:
        with Server(python=False) as server:
            pid, root = server.pid, server.root
            assert session_members(pid)
        assert session_members(pid) == []
        assert not root.exists()
        assert server.problems() == []
        assert "AH00" in server.error_log  # still there to be read
        server.stop()

    def test_the_root_is_private(self) -> None:
        with Server(python=False) as server:
            assert server.root.stat().st_mode & 0o007 == 0

    def test_a_traceback_is_a_problem_unless_allowed(self) -> None:
        with Server(handler="def handler(req): raise KeyError('lost')") as server:
            assert server.get("/").status == 500
            server.wait_for_log("KeyError")
            problems = server.problems()
            assert len(problems) == 1
            assert problems[0].startswith("unexpected traceback:")
            assert "KeyError: 'lost'" in problems[0]
            server.allow("ValueError")
            assert server.problems() == problems
            server.allow("KeyError: 'lost'")
            assert server.problems() == []

    def test_a_crash_is_a_problem(self) -> None:
        with Server(handler="import os, time\ndef handler(req): os.kill(os.getpid(), 11); time.sleep(60)") as server:
            with pytest.raises((OSError, HTTPException)):
                server.get("/")
            server.wait_for_log("exit signal")
        assert [text for text in server.problems() if text.startswith("crash: ") and "egmentation" in text]

    def test_a_process_that_stays_is_a_problem(self) -> None:
        source = """
        import subprocess

        def handler(req):
            script = "trap '' TERM; echo set; exec sleep 600"
            process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE)
            process.stdout.readline()
            req.write(str(process.pid))
            return 0
        """
        with Server(handler=source) as server:
            sleeper = int(server.get("/").text)
        assert server.problems() == [f"processes that did not end and were killed: [{sleeper}]"]
        assert not alive(sleeper)


class TestErrorLog:
    def test_records(self, httpd: Factory) -> None:
        server = plain(httpd)
        server.wait_for_log("resuming normal operations")
        notices = server.log_records("notice")
        assert all(record.level in ("notice", "warn", "error") for record in notices)
        record = next(record for record in notices if "resuming" in record.message)
        assert (record.level, record.pid) == ("notice", server.pid)
        assert record.module.startswith("mpm_")
        assert len(server.log_records()) > len(notices)

    def test_a_foreign_line(self) -> None:
        [record] = errorlog.parse("Fatal Python error: no\n")
        assert (record.level, record.message) == ("", "Fatal Python error: no")
        assert record.at_least("emerg")
        assert errorlog.crashes([record]) == [record.line]

    def test_tracebacks_of_two_threads(self) -> None:
        def line(tid: int, text: str) -> str:
            return f"[Sun Nov 22 17:00:00.1 2026] [python:error] [pid 7:tid {tid}] {text}"

        log = [
            line(1, "Traceback (most recent call last):"),
            line(2, "Traceback (most recent call last):"),
            line(1, '  File "a.py", line 1, in f'),
            line(2, '  File "b.py", line 2, in g'),
            line(2, "    g()"),
            line(2, "KeyError: 2"),
            line(1, "ValueError: 1"),
            line(1, "something else"),
        ]
        first, second = errorlog.tracebacks(errorlog.parse("\n".join(log)))
        assert first.endswith("ValueError: 1")
        assert '"a.py"' in first
        assert '"b.py"' not in first
        assert second.endswith("KeyError: 2")


class TestPlugin:
    @pytest.fixture
    def run(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
        monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
        return pytester

    def test_a_clean_test_passes(self, run: pytest.Pytester) -> None:
        run.makepyfile("def test_it(httpd):\n    assert httpd(python=False).get('/').status in (200, 403, 404)")
        run.runpytest().assert_outcomes(passed=1)

    def test_a_problem_fails_a_test_that_passed(self, run: pytest.Pytester) -> None:
        run.makepyfile(
            """
            def test_it(httpd):
                server = httpd(handler="def handler(req): raise KeyError('lost')")
                assert server.get("/").status == 500
            """
        )
        result = run.runpytest()
        result.assert_outcomes(passed=1, errors=1)
        result.stdout.fnmatch_lines(["*unexpected traceback*", "*KeyError: 'lost'*"])

    def test_a_failure_shows_the_error_log_and_stops_the_server(self, run: pytest.Pytester) -> None:
        run.makepyfile(
            """
            def test_it(httpd):
                server = httpd(python=False)
                print("pid is", server.pid)
                assert not server.running
            """
        )
        result = run.runpytest()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*httpd 1 error log*", "*resuming normal operations*"])
        [pid] = [int(line.split()[-1]) for line in result.outlines if line.startswith("pid is")]
        assert session_members(pid) == []
