"""What `mod_python.httpd.control` tells of processes and logs; whole servers: `tests/test_commands.py`."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mod_python.cli.background import _duration
from mod_python.httpd import control
from mod_python.httpd.control import Background, listening, uptime
from mod_python.httpd.errors import AddressInUseError, ConfigError, NotRunningError
from mod_python.httpd.find import find_httpd
from mod_python.httpd.process import bind_failure
from tests import needs

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux lists a process's sockets")


@linux
def test_where_a_process_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as other:
        found = listening(os.getpid())
        first, second = one.getsockname()[1], other.getsockname()[1]
        assert f"127.0.0.1:{first}" in found
        assert f"*:{second}" in found
    assert not {f"127.0.0.1:{first}", f"*:{second}"} & set(listening(os.getpid()))


@linux
@pytest.mark.skipif(not socket.has_ipv6, reason="this Python is built without IPv6")
def test_where_a_process_listens_with_ipv6() -> None:
    try:
        sock = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    with sock:
        assert f"[::1]:{sock.getsockname()[1]}" in listening(os.getpid())


def test_of_no_process() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert listening(process.pid) == []
    assert uptime(process.pid) is None


@linux
def test_how_long_a_process_runs() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        child = uptime(process.pid)
        own = uptime(os.getpid())
        assert child is not None
        assert own is not None
        assert 0 <= child <= own
        process.communicate(b"\n")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 seconds"),
        (61, "1 minute 1 second"),
        (3600, "1 hour 0 seconds"),
        (2 * 86400 + 3 * 3600 + 5, "2 days 3 hours"),
    ],
)
def test_a_time_in_words(seconds: float, words: str) -> None:
    assert _duration(seconds) == words


class TestLog:
    def test_only_what_is_new(self, tmp_path: Path) -> None:
        path = tmp_path / "log"
        path.write_text("old\n")
        log = control._Log(path)
        assert log.lines() == []
        assert not log.has("old")
        with path.open("a") as file:
            file.write("new\n")
        assert log.lines() == ["new"]
        assert log.has("new")

    def test_a_text_in_pieces(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(control, "_LOG_LIMIT", 4)
        path = tmp_path / "log"
        log = control._Log(path)
        assert not log.has("wanted")  # no file yet
        for piece in ("xxxxxwan", "t"):
            with path.open("a") as file:
                file.write(piece)
            assert not log.has("wanted")
        with path.open("a") as file:
            file.write("edyyyyyyyyyother")
        assert log.has("missing", "wanted")
        assert log.has("wanted")
        assert log.has("other")
        assert not log.has("wanted")

    @pytest.mark.parametrize("path", [None, Path("/dev/stderr"), Path("/proc/self/fd/2")])
    def test_what_is_no_file(self, path: Path | None) -> None:
        log = control._Log(path)
        assert log.lines() == []
        assert log.has("whatever")


def test_why_an_address_could_not_be_had() -> None:
    in_use = "(98)Address already in use: AH00072: make_sock: could not bind to address 127.0.0.1:80"
    assert isinstance(bind_failure(["something else", in_use]), AddressInUseError)
    denied = bind_failure(["(13)Permission denied: AH00072: make_sock: could not bind to address [::]:80"])
    assert isinstance(denied, ConfigError)
    assert "[::]:80: cannot listen there" in str(denied)
    assert bind_failure(["something else"]) is None


def test_facts_of_a_configuration(tmp_path: Path) -> None:
    httpd = find_httpd()
    config = tmp_path / "httpd.conf"
    mpm = "" if httpd.builtin_mpm else f"LoadModule mpm_event_module {httpd.module_file('mod_mpm_event')}\n"
    config.write_text(
        f"ServerRoot {tmp_path}\n{mpm}Listen 127.0.0.1:1\nPidFile some.pid\nErrorLog some.log\nServerName x\n"
        f"DefaultRuntimeDir {tmp_path}\n"
    )
    server = Background(httpd, config)
    assert server.facts.root == tmp_path
    assert server.facts.pid_file == tmp_path / "some.pid"
    assert server.facts.error_log == tmp_path / "some.log"
    assert server.pid() is None
    assert server.noted_pid() is None
    (tmp_path / "some.pid").write_text("nonsense")
    assert server.noted_pid() is None


def configured(tmp_path: Path) -> Background:
    """A configuration of the user who runs the tests, and a pid file beside it."""
    tmp_path.chmod(0o755)
    config = tmp_path / "httpd.conf"
    config.write_text("")
    server = Background(find_httpd(), config)
    # What httpd would say.
    server.__dict__["facts"] = control.Facts(tmp_path, tmp_path / "httpd.pid", None, "")
    return server


_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


@linux
@pytest.mark.parametrize("pid_file", ["none", "ours", "theirs"])
@pytest.mark.parametrize("named", [True, False], ids=["with -f", "without -f"])
@pytest.mark.parametrize("program", ["tail", "httpd"])
@pytest.mark.parametrize("user", [None, pytest.param(65534, marks=_ROOT)], ids=["same user", "another user"])
def test_a_process_that_only_looks_like_ours(
    public_path: Path, program: str, user: int | None, named: bool, pid_file: str
) -> None:
    """Neither its name nor its arguments make a process ours, nor does a pid file of somebody else."""
    if program == "httpd" and user is None:
        pytest.skip("a program of this name and user is ours")
    server = configured(public_path)
    path = needs.program("tail")
    if program == "httpd":
        path = str(shutil.copy(path, public_path / server.httpd.binary.name))
    name = server.httpd.binary.name
    # With one of these names, and arguments that make it wait.
    script = f"exec -a {name} {path} -f {server.config if named else '-'}"
    words = [name, "-f", str(server.config)] if named else [name]
    as_user: dict[str, Any] = {} if user is None else {"user": user, "group": user, "extra_groups": []}
    if not named:
        script = f"exec -a {name} {path} --follow"
    with subprocess.Popen(["bash", "-c", script], stdin=subprocess.PIPE, **as_user) as process:
        try:
            start = "\0".join(words).encode()
            while not Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(start):
                assert process.poll() is None
            if pid_file != "none":
                server.facts.pid_file.write_text(f"{process.pid}\n")
                if pid_file == "theirs" and os.geteuid() == 0:
                    os.chown(server.facts.pid_file, 65534, 65534)
            assert server.pid() is None
            with pytest.raises(NotRunningError):
                server.stop()
            with pytest.raises(NotRunningError):
                server.restart()
            assert process.poll() is None
        finally:
            process.kill()


@linux
def test_a_process_that_sheds_its_user(tmp_path: Path) -> None:
    """Of a program that acts as another user than the one who started it, both count."""
    assert control._users_of(os.getpid()) == {os.getuid()}
    assert control._users_of(0) == {-1}


@linux
def test_a_signal_reaches_one_process_only() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        birth = control._birth(process.pid)
        assert birth is not None
        control._signal(process.pid, signal.SIGKILL, birth + 1)  # the number was given to another process
        assert not control._alive(process.pid, birth + 1)
        assert control._alive(process.pid, birth)
        process.communicate(b"\n")
        assert process.returncode == 0


@_ROOT
def test_a_pid_file_of_another_user_counts_for_nothing(tmp_path: Path) -> None:
    server = configured(tmp_path)
    server.facts.pid_file.write_text(f"{os.getpid()}\n")
    assert server.noted_pid() == os.getpid()
    os.chown(server.facts.pid_file, 65534, 65534)
    assert server.noted_pid() is None
