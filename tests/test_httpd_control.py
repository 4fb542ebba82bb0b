"""What `mod_python.httpd.control` tells of processes and logs; whole servers: `tests/test_commands.py`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mod_python.cli.background import _duration
from mod_python.httpd import control
from mod_python.httpd.control import Background, listening, uptime
from mod_python.httpd.errors import AddressInUseError, ConfigError
from mod_python.httpd.find import find_httpd
from mod_python.httpd.process import bind_failure

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
