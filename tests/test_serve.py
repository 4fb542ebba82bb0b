"""``mod_python serve`` and the other commands, run as a user runs them."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from mod_python import mp_version
from mod_python import version as build
from mod_python.httpd.config import module_so
from mod_python.httpd.find import find_httpd
from mod_python.httpd.tls import make_self_signed
from mod_python.testing import client
from tests import needs
from tests.serving import COMMAND, TIMEOUT, Serve, alive, command, echo, environment, free_port, get

pytestmark = pytest.mark.long

ECHO = """\
from mod_python import apache

def connectionhandler(conn):

    while 1:
        conn.write(conn.readline())

    return apache.OK
"""

HELLO = """\
import os
from mod_python import apache

def handler(req):
    req.content_type = "text/plain"
    req.write("hello %s uid=%d" % (req.get_options().get("name", ""), os.getuid()))
    return apache.OK
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")


def listen(port: int) -> list[str]:
    return ["--listen", f"127.0.0.1:{port}"]


class TestServing:
    def test_the_manuals_echo_program_is_the_example(self, examples: Path) -> None:
        assert (examples / "echo" / "echo.py").read_text() == ECHO

    def test_a_connection_handler_from_a_file(self, serve: Serve, examples: Path) -> None:
        port = free_port()
        running = serve.start(str(examples / "echo" / "echo.py"), *listen(port))
        assert echo(port, b"hi\n") == b"hi\n"
        assert f"Listening on 127.0.0.1:{port}\n" in running.output
        assert rf"printf 'hi\n' | nc -w 1 127.0.0.1 {port}" in running.output
        assert running.interrupt() == 0
        assert "Traceback" not in running.output

    def test_a_request_handler_from_a_file(self, serve: Serve, examples: Path) -> None:
        port = free_port()
        running = serve.start(str(examples / "hello" / "hello.py"), *listen(port))
        response = get(port, "/any/path")
        assert (response.status, response.text) == (200, "Hello, world!\n")
        assert f"curl http://127.0.0.1:{port}/" in running.output
        running.wait_for(r'access 127\.0\.0\.1 "GET /any/path HTTP/1\.1" 200 14 ')

    def test_a_function_of_a_module(self, serve: Serve) -> None:
        serve.write("shop/__init__.py", "")
        serve.write("shop/words.py", "WORD = b'sold'")
        serve.write("shop/front.py", "from shop.words import WORD\ndef sell(req):\n    req.write(WORD)\n    return 0\n")
        port = free_port()
        serve.start("shop.front:sell", *listen(port))
        assert get(port).body == b"sold"

    def test_a_function_of_a_file_whose_kind_is_said(self, serve: Serve) -> None:
        serve.write("app.py", "def talk(x):\n    x.write(b'welcome\\n')\n    return 0\n")
        port = free_port()
        serve.start("app.py:talk", "--kind", "connection", *listen(port))
        # The server speaks first: httpd must not wait for the client.
        with client.connect("127.0.0.1", port) as sock:
            assert sock.recv(100) == b"welcome\n"

    def test_a_configuration(self, serve: Serve) -> None:
        port = free_port()
        serve.write("page.txt", "static")
        serve.write("hello.py", HELLO)
        serve.write(
            "site.conf",
            f"Listen 127.0.0.1:{port}\nDocumentRoot ${{CONFIG_DIR}}\n"
            "<Location /py>\nSetHandler mod_python\nPythonHandler ${CONFIG_DIR}/hello.py\n</Location>\n",
        )
        running = serve.start("site.conf")
        assert get(port, "/page.txt").text == "static"
        assert get(port, "/py").text.startswith("hello")
        assert "site.conf says" in running.output

    def test_several_addresses(self, serve: Serve) -> None:
        serve.write("echo.py", ECHO)
        first, second = free_port(), free_port()
        serve.start("echo.py", *listen(first), *listen(second))
        assert (echo(first), echo(second)) == (b"hi\n", b"hi\n")

    def test_options_reach_the_handler(self, serve: Serve) -> None:
        serve.write("hello.py", HELLO)
        port = free_port()
        serve.start("hello.py", "--set", 'name=a "b" \\c', *listen(port))
        assert get(port).text.startswith('hello a "b" \\c ')

    def test_options_from_the_environment(self, serve: Serve) -> None:
        serve.write("hello.py", HELLO)
        port = free_port()
        serve.start("hello.py", MOD_PYTHON_SERVE_LISTEN=f"127.0.0.1:{port}", MOD_PYTHON_SERVE_SET="name=Ada other=1")
        assert get(port).text.startswith("hello Ada ")

    @pytest.mark.parametrize("mpm", find_httpd().mpms())
    def test_mpms_and_processes(self, serve: Serve, mpm: str) -> None:
        serve.write("echo.py", ECHO)
        port = free_port()
        running = serve.start("echo.py", "--mpm", mpm, "--processes", "3", *listen(port))
        assert f"({mpm})" in running.output
        deadline = time.monotonic() + TIMEOUT
        while len(running.children) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(running.children) == 3
        assert echo(port) == b"hi\n"

    def test_children_are_never_root(self, serve: Serve) -> None:
        serve.write("hello.py", HELLO)
        port = free_port()
        serve.start("hello.py", *listen(port))
        uid = int(re.search(r"uid=(\d+)", get(port).text)[1])  # type: ignore[index]
        assert uid != 0

    def test_debug_is_one_process_and_shows_tracebacks(self, serve: Serve) -> None:
        serve.write("bad.py", "def handler(req):\n    raise ValueError('on purpose')\n")
        port = free_port()
        running = serve.start("bad.py", "--debug", *listen(port))
        assert running.children == []
        assert "ValueError: on purpose" in get(port).text
        assert running.interrupt() == 0

    def test_an_error_is_logged_to_the_terminal(self, serve: Serve) -> None:
        serve.write("bad.py", "def handler(req):\n    raise ValueError('on purpose')\n")
        port = free_port()
        running = serve.start("bad.py", *listen(port))
        response = get(port)
        assert response.status == 500
        assert "on purpose" not in response.text
        running.wait_for(r"python:error .*ValueError: on purpose")


class TestTls:
    def test_self_signed(self, serve: Serve) -> None:
        serve.write("echo.py", ECHO)
        port = free_port()
        needs.program("openssl")
        running = serve.start("echo.py", "--tls-self-signed", *listen(port))
        assert f"openssl s_client -quiet -connect 127.0.0.1:{port}" in running.output
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with client.connect("127.0.0.1", port, context) as sock:
            sock.sendall(b"secret\n")
            assert sock.recv(100) == b"secret\n"

    def test_own_certificate(self, serve: Serve, tmp_path: Path) -> None:
        serve.write("hello.py", HELLO)
        pair = make_self_signed(tmp_path)  # readable for root only: httpd's parent reads it
        port = free_port()
        serve.start("hello.py", "--tls-cert", str(pair.certificate), "--tls-key", str(pair.key), *listen(port))
        sock = client.connect("127.0.0.1", port, client.tls_context(pair.certificate))
        assert client.request(sock, "GET", "/", ("localhost", port)).status == 200


class TestLife:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_ends_cleanly(self, serve: Serve, number: signal.Signals) -> None:
        serve.write("echo.py", ECHO)
        port = free_port()
        running = serve.start("echo.py", *listen(port))
        with client.connect("127.0.0.1", port) as sock:  # a client that stays
            sock.sendall(b"x\n")
            assert sock.recv(10) == b"x\n"
            processes = [running.httpd, *running.children]
            running.process.send_signal(number)
            assert running.wait() == 0
        assert not any(alive(pid) for pid in processes)
        assert list(serve.tmp.iterdir()) == []
        assert "Traceback" not in running.output

    def test_a_handler_that_hangs_is_killed(self, serve: Serve) -> None:
        serve.write(
            "stuck.py",
            "import threading\ndef connectionhandler(conn):\n    conn.write(b'in\\n')\n    conn.flush()\n"
            "    while True:\n        try: threading.Event().wait()\n        except BaseException: pass\n",
        )
        port = free_port()
        running = serve.start("stuck.py", *listen(port))
        with client.connect("127.0.0.1", port) as sock:
            assert sock.recv(10) == b"in\n"
            processes = [running.httpd, *running.children]
            assert running.interrupt() == 0
        assert not any(alive(pid) for pid in processes)

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux kills a process with its parent")
    def test_httpd_ends_when_the_command_is_killed(self, serve: Serve) -> None:
        serve.write("echo.py", ECHO)
        running = serve.start("echo.py", *listen(free_port()))
        processes = [running.httpd, *running.children]
        running.process.kill()
        running.wait()
        deadline = time.monotonic() + TIMEOUT
        while any(alive(pid) for pid in processes) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(alive(pid) for pid in processes)

    def test_writes_only_to_its_server_root(self, serve: Serve) -> None:
        serve.write("hello.py", HELLO)
        port = free_port()
        before = sorted(path.name for path in serve.directory.iterdir())
        running = serve.start("hello.py", *listen(port))
        assert get(port).status == 200
        roots = list(serve.tmp.iterdir())
        assert len(roots) == 1
        assert roots[0].stat().st_mode & 0o007 == 0
        running.interrupt()
        assert list(serve.tmp.iterdir()) == []
        assert sorted(path.name for path in serve.directory.iterdir()) == before

    def test_httpd_that_dies_is_reported(self, serve: Serve) -> None:
        serve.write("echo.py", ECHO)
        running = serve.start("echo.py", *listen(free_port()))
        os.kill(running.httpd, signal.SIGTERM)
        assert running.wait() == 1
        assert "httpd ended by itself" in running.output


class TestRestart:
    def test_sigusr1_gives_new_children(self, serve: Serve) -> None:
        serve.write("hello.py", HELLO)
        port = free_port()
        running = serve.start("hello.py", *listen(port))
        assert get(port).status == 200
        httpd, old = running.httpd, running.children
        serve.write("hello.py", HELLO.replace("hello %s", "changed %s"))
        running.process.send_signal(signal.SIGUSR1)
        running.wait_for("restarting gracefully$")
        deadline = time.monotonic() + TIMEOUT
        while any(alive(pid) for pid in old) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(alive(pid) for pid in old)
        # A child that was being started just then may still be one of the old ones.
        while not (text := get(port).text).startswith("changed") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert text.startswith("changed")
        assert running.httpd == httpd
        assert running.interrupt() == 0

    def test_a_configuration_that_broke_is_not_taken(self, serve: Serve) -> None:
        port = free_port()
        config = serve.write("site.conf", f"Listen 127.0.0.1:{port}\nDocumentRoot ${{CONFIG_DIR}}\n")
        serve.write("page.txt", "static")
        running = serve.start("site.conf")
        config.write_text("Nonsense\n")
        running.process.send_signal(signal.SIGUSR1)
        running.wait_for(r"not restarted: .*site\.conf line 1: Invalid command 'Nonsense'")
        assert get(port, "/page.txt").text == "static"

    def test_reload_takes_changed_code(self, serve: Serve) -> None:
        serve.write("hello.py", HELLO)
        port = free_port()
        running = serve.start("hello.py", "--reload", *listen(port))
        assert get(port).text.startswith("hello")
        children = running.children
        serve.write("hello.py", HELLO.replace("hello %s", "changed %s"))
        deadline = time.monotonic() + TIMEOUT
        while not (text := get(port).text).startswith("changed") and time.monotonic() < deadline:
            time.sleep(0.05)  # a file is looked at once a second at most
        assert text.startswith("changed")
        assert set(children) <= set(running.children)  # prefork may have added spare ones

    def test_reload_takes_a_changed_configuration(self, serve: Serve) -> None:
        port = free_port()
        serve.write("page.txt", "static")
        text = f"Listen 127.0.0.1:{port}\nDocumentRoot ${{CONFIG_DIR}}\n"
        serve.write("site.conf", text)
        running = serve.start("site.conf", "--reload")
        assert get(port, "/page.txt").status == 200
        serve.write("site.conf", text + "Redirect gone /page.txt\n")
        running.wait_for(r"site\.conf has changed: restarting gracefully")
        deadline = time.monotonic() + TIMEOUT
        while get(port, "/page.txt").status != 410:
            assert time.monotonic() < deadline
            time.sleep(0.01)


class TestFailures:
    """Each is one clear line on standard error, and exit status 1."""

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["bad.conf"], r"/bad\.conf line 2: Invalid command 'Nonsense'"),
            (["missing.conf"], r"missing\.conf: no such file"),
            (["missing.py"], r"/missing\.py: No such file or directory"),
            (["syntax.py"], r"/syntax\.py line 1: "),
            (["both.py"], r"both connectionhandler and handler; say which .*--kind"),
            (["neither.py"], r"neither connectionhandler\(conn\) nor handler\(req\)"),
            (["some.py:unclear"], r"say which with --kind"),
            (["some:absent"], r"/some\.py: defines no absent"),
            (["nowhere.at.all:f"], r"there is no module nowhere\.at\.all"),
            (["."], r"is not a file"),
            (["some.py:f", "--httpd", "/bin/sh"], r"/bin/sh: "),
            (["some.py:f", "--httpd", "/nowhere/httpd"], r"/nowhere/httpd: no such program"),
            (["some.py:f", "--tls-cert", "no.pem", "--tls-key", "no.key"], r"no\.pem: cannot be read"),
            (["with blank.py"], r"contains a blank"),
        ],
    )
    def test_one_line(self, serve: Serve, arguments: list[str], message: str) -> None:
        serve.write("bad.conf", "# fine so far\nNonsense\n")
        serve.write("syntax.py", "def handler(req:\n")
        serve.write("both.py", "def handler(req): pass\ndef connectionhandler(conn): pass\n")
        serve.write("neither.py", "import os\n")
        serve.write("some.py", "def f(conn): pass\ndef unclear(x): pass\n")
        serve.write("with blank.py", "def handler(req): pass\n")
        status, output = serve.fail(*arguments)
        assert status == 1
        assert output.count("\n") == 1
        assert re.search(message, output), output
        assert list(serve.tmp.iterdir()) == []

    @pytest.mark.parametrize("where", ["option", "configuration"])
    def test_a_port_in_use(self, serve: Serve, where: str) -> None:
        serve.write("hello.py", HELLO)
        with socket.create_server(("127.0.0.1", 0)) as other:
            address = f"127.0.0.1:{other.getsockname()[1]}"
            serve.write("site.conf", f"Listen {address}\n")
            arguments = ["hello.py", "--listen", address] if where == "option" else ["site.conf"]
            status, output = serve.fail(*arguments)
        assert status == 1
        assert output.count("\n") == 1
        assert address in output
        assert "in use by another program" in output

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["x.py", "--listen", "nonsense"],
            ["x.py", "--listen", "127.0.0.1:99999"],
            ["x.py", "--set", "novalue"],
            ["x.py", "--mpm", "nonsense"],
            ["x.py", "--mpm", "prefork", "--threads", "2"],
            ["x.py", "--tls-cert", "only.pem"],
            ["x.py", "--nonsense"],
        ],
    )
    def test_wrong_usage(self, serve: Serve, arguments: list[str]) -> None:
        status, output = serve.fail(*arguments)
        assert status == 2
        assert "Usage: mod_python serve" in output

    def test_a_warning_is_not_taken_for_the_cause(self, serve: Serve) -> None:
        needs.program("openssl")
        port = free_port()
        # mod_ssl warns of a certificate for another name, before mod_python refuses the second host.
        config = f"""
            <VirtualHost 127.0.0.1:{port}>
            ServerName one.example
            </VirtualHost>
            <VirtualHost 127.0.0.1:{port}>
            ServerName two.example
            PythonConnectionHandler ${{CONFIG_DIR}}/echo.py
            </VirtualHost>
            """
        serve.write("echo.py", ECHO)
        serve.write("site.conf", config)
        status, output = serve.fail("site.conf", "--tls-self-signed", *listen(port))
        assert status == 1
        (line,) = [line for line in output.splitlines() if "httpd ended at start" in line]
        assert re.search(r"exit status 1: PythonConnectionHandler .* can never run", line)

    def test_code_is_not_run_by_the_command(self, serve: Serve) -> None:
        serve.write("touchy/__init__.py", "raise SystemExit('imported')")
        serve.write("touchy/app.py", "raise SystemExit('imported')\ndef handler(req): pass\n")
        for what in ("touchy.app:handler", "touchy/app.py"):
            done = command("serve", what, "--print-config", directory=serve.directory)
            assert done.returncode == 0, done.stderr
            assert "PythonHandler" in done.stdout

    @as_root
    def test_root_refuses_what_children_cannot_read(self, serve: Serve) -> None:
        secret = serve.write("closed/hello.py", HELLO).parent
        secret.chmod(0o700)
        status, output = serve.fail("closed/hello.py")
        assert status == 1
        assert output.count("\n") == 1
        assert f"{secret}: the user " in output
        assert "--user" in output

    @as_root
    @pytest.mark.parametrize("user", ["root", "no-such-user"])
    def test_root_refuses_such_users(self, serve: Serve, user: str) -> None:
        serve.write("hello.py", HELLO)
        status, output = serve.fail("hello.py", "--user", user)
        assert status == 1
        assert f"--user {user}: " in output

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may change its user")
    def test_others_cannot_change_the_user(self, serve: Serve) -> None:
        serve.write("hello.py", HELLO)
        status, output = serve.fail("hello.py", "--user", "root")
        assert status == 1
        assert "--user needs root" in output


class TestOtherCommands:
    def test_help_names_the_commands(self) -> None:
        done = command("--help")
        assert done.returncode == 0
        for name in ("serve", "version", "module-config", "module-location"):
            assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE)

    @pytest.mark.parametrize("arguments", [[], ["nonsense"]])
    def test_no_or_unknown_command(self, arguments: list[str]) -> None:
        done = command(*arguments)
        assert done.returncode == 2
        assert "Usage: mod_python" in done.stderr + done.stdout

    def test_module_config_and_location(self) -> None:
        assert command("module-location").stdout == f"{module_so()}\n"
        assert command("module-config").stdout == f'LoadModule python_module "{module_so()}"\n'

    def test_version(self) -> None:
        text = command("version").stdout
        assert build.HTTPD_VERSION
        for fact in (mp_version, str(module_so()), build.HTTPD, build.HTTPD_VERSION, build.APR_VERSION):
            assert fact in text

    def test_print_config_is_what_httpd_takes(self, serve: Serve) -> None:
        serve.write("hello.py", HELLO)
        text = command("serve", "hello.py", "--print-config", directory=serve.directory).stdout
        assert 'PythonInterpreter "main_interpreter"' in text
        assert f"PythonHandler {serve.directory}/hello.py\n" in text
        assert "Listen 127.0.0.1:8000\n" in text
        serve.write("echo.py", ECHO)
        text = command("serve", "echo.py", "--print-config", directory=serve.directory).stdout
        assert "Listen 127.0.0.1:7000\n" in text

    def test_output_closed_early_is_no_traceback(self, serve: Serve) -> None:
        serve.write("hello.py", HELLO)
        done = subprocess.run(
            f"'{COMMAND}' serve hello.py --print-config | head -n 1",
            shell=True,
            cwd=serve.directory,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert "Traceback" not in done.stderr
