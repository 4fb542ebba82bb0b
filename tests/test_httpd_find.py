"""Finding an httpd, writing for it, and what its users may read."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mod_python import version
from mod_python.httpd import find, users
from mod_python.httpd.config import Address, Settings, quote, raw, render_config, write_config
from mod_python.httpd.errors import AddressInUseError, ConfigError, HttpdError
from mod_python.httpd.find import Httpd, HttpdNotFoundError, find_httpd, inspect_httpd
from mod_python.httpd.process import HttpdProcess, check_addresses, check_config, session_members
from mod_python.httpd.target import connection_or_request, find_target
from mod_python.httpd.tls import make_self_signed
from tests.serving import free_port

TIMEOUT = 30.0  # seconds for what takes milliseconds on an idle machine

VERSION_TEXT = """\
Server version: Apache/2.4.62 (Debian)
Server built:   2024-10-04T15:21:08
Server loaded:  APR 1.7.5, APR-UTIL 1.6.3, PCRE 10.46 2025-08-27
 -D HTTPD_ROOT="/etc/apache2"
"""


def fake_httpd(directory: Path, *, answer: str = VERSION_TEXT, builtin: str = "", status: int = 0) -> Path:
    """Write a program that answers as httpd does."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "httpd"
    modules = f"Compiled in modules:\n  core.c\n{builtin}"
    path.write_text(
        f"#!{sys.executable}\nimport sys\n"
        f"print({answer!r} if '-V' in sys.argv else {modules!r})\n"
        f"print('AH00534: httpd: Configuration error: No MPM loaded.', file=sys.stderr)\nsys.exit({status})\n"
    )
    path.chmod(0o755)
    return path


class TestFind:
    def test_the_httpd_of_this_machine(self) -> None:
        httpd = find_httpd()
        assert httpd.version.startswith("2.4.")
        assert {"core", "mod_so"} <= httpd.builtin
        assert httpd.mpms()
        assert httpd.modules_dir is not None
        assert httpd.has_module("mod_authz_core")
        assert not httpd.has_module("mod_of_nobody")

    def test_the_environment_names_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = fake_httpd(tmp_path)
        monkeypatch.setenv("MOD_PYTHON_HTTPD", str(path))
        assert find_httpd().binary == path

    def test_an_argument_goes_before_the_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = fake_httpd(tmp_path)
        monkeypatch.setenv("MOD_PYTHON_HTTPD", "/nowhere")
        assert find_httpd(path).binary == path

    def test_facts(self, tmp_path: Path) -> None:
        path = fake_httpd(tmp_path / "bin", builtin="  mod_unixd.c\n  worker.c\n", status=1)
        (tmp_path / "modules").mkdir()
        (tmp_path / "modules" / "mod_dir.so").touch()
        httpd = inspect_httpd(path)
        assert (httpd.version, httpd.apr_version, httpd.origin) == ("2.4.62", "1.7.5", "debian")
        assert httpd.modules_dir == tmp_path / "modules"
        assert httpd.has_module("mod_unixd")
        assert httpd.module_file("mod_dir") == tmp_path / "modules" / "mod_dir.so"
        assert httpd.builtin_mpm == "worker"
        assert httpd.mpms() == ("worker",)

    def test_the_build_of_pypi_brings_its_libraries(self, tmp_path: Path) -> None:
        root = tmp_path / "mod_wsgi_packages" / "httpd"
        path = fake_httpd(root / "bin", answer="Server version: Apache/2.4.69 (Unix)\n")
        (root / "lib").mkdir()
        (root / "lib" / "libapr-1.so.0").touch()
        httpd = inspect_httpd(path)
        assert httpd.origin == "pypi"
        assert [value.split(":")[0] for value in httpd.environment.values()] == [str(root / "lib")]

    def test_the_build_of_pypi_is_found_last(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = fake_httpd(tmp_path / "mod_wsgi_packages" / "httpd" / "bin")
        monkeypatch.delenv("MOD_PYTHON_HTTPD", raising=False)
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr(find, "_SBIN", ())
        monkeypatch.setattr(version, "HTTPD", "")
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        assert find_httpd().binary == path

    def test_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MOD_PYTHON_HTTPD", raising=False)
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr(find, "_SBIN", ())
        monkeypatch.setattr(version, "HTTPD", "")
        monkeypatch.setattr(sys, "path", [])
        with pytest.raises(HttpdNotFoundError, match="apt install apache2"):
            find_httpd()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("Server version: Apache/2.2.34 (Unix)\n", "2.2.34 is not supported"),
            ("nginx version: nginx/1.22\n", "not Apache httpd"),
            ("", "cannot be run: AH00534"),
        ],
    )
    def test_not_usable(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(HttpdNotFoundError, match=message):
            inspect_httpd(fake_httpd(tmp_path, answer=text))


class TestAddress:
    @pytest.mark.parametrize(
        ("text", "host", "port", "directive", "shown"),
        [
            ("127.0.0.1:7000", "127.0.0.1", 7000, "127.0.0.1:7000", "127.0.0.1:7000"),
            ("localhost:80", "localhost", 80, "localhost:80", "localhost:80"),
            ("[::1]:8000", "::1", 8000, "[::1]:8000", "[::1]:8000"),
            ("8000", "127.0.0.1", 8000, "127.0.0.1:8000", "127.0.0.1:8000"),
            ("*:8000", "", 8000, "8000", "*:8000"),
        ],
    )
    def test_forms(self, text: str, host: str, port: int, directive: str, shown: str) -> None:
        address = Address.parse(text)
        assert (address.host, address.port) == (host, port)
        assert address.directive == directive
        assert str(address) == shown

    @pytest.mark.parametrize("text", ["", "host", "host:", "host:0", "host:65536", "::1:80", "a b:80", "h:-1", "h:80x"])
    def test_nonsense(self, text: str) -> None:
        with pytest.raises(ValueError, match="is not HOST:PORT"):
            Address.parse(text)

    def test_what_a_client_connects_to(self) -> None:
        assert str(Address.parse("*:80").for_client) == "127.0.0.1:80"
        assert str(Address.parse("0.0.0.0:80").for_client) == "127.0.0.1:80"
        assert str(Address.parse("[::]:80").for_client) == "[::1]:80"

    def test_in_use(self) -> None:
        # An address of this process alone: nobody else takes the port once it is free.
        host = f"127.9.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
        with socket.create_server((host, 0)) as other:
            address = Address(host, other.getsockname()[1])
            with pytest.raises(AddressInUseError, match="--listen"):
                check_addresses([address])
        check_addresses([address])

    def test_not_ours(self) -> None:
        with pytest.raises(ConfigError, match="cannot listen on 192\\.0\\.2\\.1:80"):
            check_addresses([Address("192.0.2.1", 80)])


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(httpd=find_httpd(), root=tmp_path, listen=[Address("127.0.0.1", 7000)], python=False)


class TestConfig:
    def test_quote(self) -> None:
        assert quote('a "b" \\c') == '"a \\"b\\" \\\\c"'
        for bad in ("line\nend", "nul\0", "${HOME}"):
            with pytest.raises(ConfigError):
                quote(bad)

    def test_raw(self) -> None:
        assert raw("/srv/a.py", "path") == "/srv/a.py"
        for bad in ("/a b.py", "/a|b.py", '/a"b.py', "/a::b::c.py", "/a\tb.py"):
            with pytest.raises(ConfigError):
                raw(bad, "path")

    def test_what_is_compiled_in_is_not_loaded(self, settings: Settings) -> None:
        httpd = settings.httpd
        text = render_config(settings)
        assert not [name for name in httpd.builtin if f"LoadModule {name.removeprefix('mod_')}_module" in text]
        built_in = dataclasses.replace(httpd, builtin=httpd.builtin | {"mod_dir", "worker"}, builtin_mpm="worker")
        text = render_config(dataclasses.replace(settings, httpd=built_in))
        assert "mpm_" not in text
        assert "dir_module" not in text

    @pytest.mark.parametrize("mpm", find_httpd().mpms())
    def test_httpd_takes_it(self, settings: Settings, mpm: str) -> None:
        (settings.root / "a value").mkdir()
        made = dataclasses.replace(
            settings,
            mpm=mpm,
            processes=2,
            user=users.find_user(),
            tls=make_self_signed(settings.root),
            access_log="logs/access",
            defines={"A_NAME": "a value"},
            body=['DocumentRoot "${A_NAME}"'],
        )
        write_config(made)
        check_config(made)

    def test_a_broken_one_names_file_and_line(self, settings: Settings, tmp_path: Path) -> None:
        broken = tmp_path / "mine.conf"
        broken.write_text("\n\nNonsense on\n")
        made = dataclasses.replace(settings, include=broken)
        write_config(made)
        with pytest.raises(ConfigError) as caught:
            check_config(made)
        assert str(caught.value).startswith(f"{broken} line 3: Invalid command 'Nonsense'")
        assert "\n" not in str(caught.value)

    def test_an_mpm_that_is_not_there(self, settings: Settings) -> None:
        with pytest.raises(ConfigError, match="has no MPM 'winnt'; it offers: "):
            render_config(dataclasses.replace(settings, mpm="winnt"))

    def test_a_module_that_is_not_there(self, settings: Settings) -> None:
        with pytest.raises(ConfigError, match=r"mod_of_nobody is not in .*; install it"):
            render_config(dataclasses.replace(settings, modules=["mod_of_nobody"]))

    def test_the_module_not_built(self, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mod_python.httpd.config.module_so", lambda: tmp_path / "mod_python.so")
        with pytest.raises(ConfigError, match=r"mod_python\.so does not exist.*pip install"):
            render_config(dataclasses.replace(settings, python=True))

    def test_prefork_has_no_threads(self, settings: Settings) -> None:
        if "prefork" not in settings.httpd.mpms():
            pytest.skip("this httpd has no prefork")
        with pytest.raises(ConfigError, match="one thread per process"):
            render_config(dataclasses.replace(settings, mpm="prefork", threads=2))


def _wait_for(found: Callable[[], list[int]]) -> list[int]:
    """Wait until processes are found, and return them."""
    deadline = time.monotonic() + TIMEOUT
    while not (pids := found()):
        assert time.monotonic() < deadline, f"{found.__name__} found nothing"
        time.sleep(0.01)
    return pids


class TestProcess:
    def test_a_stop_leaves_nothing(self, settings: Settings) -> None:
        made = dataclasses.replace(settings, listen=[Address("127.0.0.1", free_port())], user=users.find_user())
        write_config(made)
        with open(made.root / "stderr", "wb") as stderr:
            process = HttpdProcess(made, stderr=stderr)
            try:
                process.start()
                process.wait_ready()
                _wait_for(process.children)  # the ports come first, the children a moment later
                assert process.stop() == []
            finally:
                process.kill()
        assert process.returncode == 0
        assert session_members(process.pid) == []

    def test_what_lingers_is_named_and_killed(self, settings: Settings) -> None:
        made = dataclasses.replace(
            settings,
            listen=[Address("127.0.0.1", free_port())],
            user=users.find_user(),
            access_log="|/bin/sleep 600",
        )
        write_config(made)
        process = HttpdProcess(made, stderr=subprocess.DEVNULL)
        try:
            process.start()
            process.wait_ready()

            def log_programs() -> list[int]:
                # httpd reads its configuration twice: the program of the first time may be going yet,
                # and that of the second not be there yet. httpd holds the pipe of the second.
                pipes = {_pipe(path) for path in Path(f"/proc/{process.pid}/fd").iterdir()} - {None}
                members = [pid for pid in session_members(process.pid) if _command(pid).startswith("/bin/sleep")]
                return [pid for pid in members if _pipe(Path(f"/proc/{pid}/fd/0")) in pipes]

            [sleeper] = _wait_for(log_programs)
            os.kill(process.pid, signal.SIGKILL)  # too sudden to end its log program
            assert sleeper in process.stop()
        finally:
            process.kill()
        assert sleeper not in session_members(process.pid)


class TestTarget:
    @pytest.mark.parametrize(
        ("source", "kind"),
        [
            ("def handler(req): pass", "request"),
            ("def connectionhandler(conn): pass", "connection"),
            ("async def connectionhandler(conn): pass", "connection"),
            ("class handler: pass", "request"),
            ("from elsewhere import run as handler", "request"),
            ("handler = make()", "request"),
            ("handler: object = make()", "request"),
            ("try:\n  import x\nexcept ImportError:\n  def handler(req): pass", "request"),
            ("if True:\n  def handler(req): pass", "request"),
            ("def other():\n  def connectionhandler(c): pass\ndef handler(req): pass", "request"),
        ],
    )
    def test_kind_by_name(self, source: str, kind: str) -> None:
        assert connection_or_request(source) == kind

    @pytest.mark.parametrize(
        ("signature", "kind"),
        [("conn", "connection"), ("request, extra=1", "request"), ("x: 'apache.Connection'", "connection")],
    )
    def test_kind_by_parameter(self, tmp_path: Path, signature: str, kind: str) -> None:
        (tmp_path / "app.py").write_text(f"def serve({signature}): pass\n")
        assert find_target("app.py:serve", directory=tmp_path).kind == kind
        target = find_target("app:serve", directory=tmp_path)
        assert (target.kind, target.text, target.search_path) == (kind, "app::serve", tmp_path)

    def test_file_targets(self, tmp_path: Path) -> None:
        (tmp_path / "app.py").write_text("def handler(req): pass\ndef other(req): pass\n")
        assert find_target("app.py", directory=tmp_path).text == f"{tmp_path}/app.py"
        assert find_target("app.py:other", directory=tmp_path).text == f"{tmp_path}/app.py::other"
        assert find_target("app.py:handler", directory=tmp_path).text == f"{tmp_path}/app.py"

    def test_an_installed_module_needs_no_path(self, tmp_path: Path) -> None:
        target = find_target("mod_python.testing.client:connect", "request", directory=tmp_path)
        assert target.search_path is None
        assert target.source.name == "client.py"

    def test_a_module_without_source(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="has no Python source"):
            find_target("math:sin", directory=tmp_path)

    def test_packages_are_not_imported(self, tmp_path: Path) -> None:
        (tmp_path / "pack" / "inner").mkdir(parents=True)
        for name in ("pack/__init__.py", "pack/inner/__init__.py"):
            (tmp_path / name).write_text("raise SystemExit")
        (tmp_path / "pack" / "inner" / "app.py").write_text("raise SystemExit\ndef handler(req): pass")
        assert find_target("pack.inner.app:handler", directory=tmp_path).text == "pack.inner.app::handler"
        assert "pack" not in sys.modules


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
class TestUsers:
    def test_the_default_is_not_root(self) -> None:
        user = users.find_user()
        assert user is not None
        assert user.uid != 0

    def test_readable(self, public_path: Path) -> None:
        user = users.find_user()
        assert user is not None
        assert users.first_unreadable([public_path], user) is None
        closed = public_path / "closed" / "deep"
        closed.mkdir(parents=True)
        (closed / "file").touch()
        (public_path / "closed").chmod(0o700)
        assert users.first_unreadable([public_path, closed / "file"], user) == public_path / "closed"
        (public_path / "closed").chmod(0o755)
        (closed / "file").chmod(0o600)
        assert users.first_unreadable([closed / "file"], user) == closed / "file"
        os.chown(closed / "file", user.uid, -1)
        assert users.first_unreadable([closed / "file"], user) is None
        assert users.first_unreadable([public_path / "absent"], user) is None
        assert os.geteuid() == 0

    @pytest.mark.filterwarnings("error")
    def test_any_name_and_a_process_with_threads(self, public_path: Path) -> None:
        user = users.find_user()
        assert user is not None
        closed = public_path / "a 'b' \"$c\" -x\n"
        closed.mkdir()
        done = threading.Event()
        thread = threading.Thread(target=done.wait)
        thread.start()
        try:
            assert users.first_unreadable([closed], user) is None
            closed.chmod(0o711)  # to be searched, not to be listed
            assert users.first_unreadable([closed / "file"], user) is None
            assert users.first_unreadable([closed], user) == closed
        finally:
            done.set()
            thread.join()

    def test_what_a_link_leads_to_counts(self, public_path: Path) -> None:
        user = users.find_user()
        assert user is not None
        closed = public_path / "closed"
        (closed / "deep").mkdir(parents=True)
        (closed / "deep" / "file").touch()
        file, directory, twice = (public_path / name for name in ("file", "directory", "twice"))
        file.symlink_to(closed / "deep" / "file")
        directory.symlink_to(closed / "deep")
        twice.symlink_to(directory / "file")
        (public_path / "loop").symlink_to(public_path / "loop")
        assert users.first_unreadable([public_path / "loop"], user) is None
        for link in (file, directory, twice, directory / "file"):
            assert users.first_unreadable([link], user) is None
        closed.chmod(0o700)
        for link in (file, directory, twice, directory / "file"):
            assert users.first_unreadable([link], user) == closed

    def test_failure_to_become_the_user(self, public_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise PermissionError("not permitted")

        monkeypatch.setattr("mod_python.httpd.users.subprocess.run", refuse)
        with pytest.raises(HttpdError, match=r"cannot become the user www-data .*: not permitted"):
            users.first_unreadable([public_path], users.User("www-data", 33, 33))

    def test_refusal_names_the_remedy(self, public_path: Path) -> None:
        public_path.chmod(0o700)
        with pytest.raises(HttpdError, match=f"{public_path}: the user .* cannot read it; .*--user"):
            users.check_readable([public_path], users.find_user())


def test_httpd_facts_are_plain_data() -> None:
    assert dataclasses.is_dataclass(Httpd)
    assert isinstance(find_httpd().environ()["PATH"], str)


def _command(pid: int) -> str:
    """Return the words of a process, or "" if it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _pipe(descriptor: Path) -> str | None:
    """Return which pipe a descriptor is, such as "pipe:[123]", or None if it is something else or closed."""
    try:
        target = os.readlink(descriptor)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return target if target.startswith("pipe:") else None
