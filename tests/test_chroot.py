"""The tool that makes chroots: the settings it takes from the machine, what is made again, what is left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import needs
from tools import chroot as tool
from tools import network_settings, pythons, system
from tools.chroot import Chroot, ChrootUnavailable
from tools.network_settings import Source

ONE_LINE = """
# deb http://comment.example/debian bookworm main
deb http://mirror.example/debian bookworm main contrib  # ours
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/other.gpg] https://other.example/apt stable main
"""

DEB822 = """\
# An older note.
Types: deb deb-src
URIs: http://mirror.example/debian/
  http://second.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEY865UxYJ

Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb-src
URIs: http://sources.example/debian
Suites: bookworm
Components: main
"""


class TestSources:
    def test_one_line_sources_are_parsed(self) -> None:
        assert list(network_settings.parse_list(ONE_LINE)) == [
            Source("http://mirror.example/debian", "bookworm", ("main", "contrib")),
            Source("https://other.example/apt", "stable", ("main",)),
        ]

    def test_paragraphs_of_sources_are_parsed(self) -> None:
        assert list(network_settings.parse_deb822(DEB822)) == [
            Source("http://mirror.example/debian/", "bookworm", ("main",)),
            Source("http://mirror.example/debian/", "bookworm-updates", ("main",)),
            Source("http://second.example/debian", "bookworm", ("main",)),
            Source("http://second.example/debian", "bookworm-updates", ("main",)),
        ]

    def test_files_are_read_in_the_order_of_apt(self, tmp_path: Path) -> None:
        parts = tmp_path / "sources.list.d"
        parts.mkdir()
        (tmp_path / "sources.list").write_text("deb http://a.example/debian sid main\n")
        (parts / "c.list").write_text("deb http://c.example/debian sid main\n")
        (parts / "b.sources").write_text("Types: deb\nURIs: http://b.example/debian\nSuites: sid\nComponents: main\n")
        (parts / "d.list.disabled").write_text("deb http://d.example/debian sid main\n")
        assert [source.uri[7] for source in network_settings.apt_sources(tmp_path)] == ["a", "b", "c"]

    def test_no_sources(self, tmp_path: Path) -> None:
        assert network_settings.apt_sources(tmp_path) == []
        assert network_settings.mirror([]) is None

    def test_the_mirror_is_the_archive_of_debian(self) -> None:
        others = [
            Source("https://other.example/apt", "stable", ("main",)),
            Source("http://mirror.example/debian-security", "bookworm-security", ("main",)),
            Source("https://docker.example/linux/debian", "bookworm", ("stable",)),
        ]
        assert network_settings.mirror(others) is None
        assert network_settings.mirror([*others, Source("http://mirror.example/debian/", "bookworm", ("main",))]) == (
            "http://mirror.example/debian/"
        )

    def test_a_list_of_mirrors_is_looked_up(self, tmp_path: Path) -> None:
        mirrors = tmp_path / "debian.list"
        mirrors.write_text("# ours\nhttps://first.example/debian\thttps\nhttps://second.example/debian\n")
        source = Source(f"mirror+file:{mirrors}", "bookworm", ("main",))
        assert network_settings.mirror([source]) == "https://first.example/debian"


class TestOptions:
    def test_apt_options_about_the_network_are_kept(self) -> None:
        dump = (
            'APT::Install-Recommends "1";\n'
            'Acquire::IndexTargets::deb::DEP-11 "";\n'
            'Acquire::Languages "none";\n'
            'Acquire::http "";\n'
            'Acquire::http::Proxy "http://proxy.example:3128";\n'
            'Acquire::http::Proxy-Auto-Detect "/usr/bin/detect";\n'
            'Acquire::https::CaInfo "/etc/corporate.pem";\n'
            'Acquire::Check-Date "false";\n'
        )
        assert network_settings.apt_options(dump) == (
            'Acquire::http::Proxy "http://proxy.example:3128";\n'
            'Acquire::https::CaInfo "/etc/corporate.pem";\n'
            'Acquire::Check-Date "false";\n'
        )

    def test_later_pip_options_prevail_and_only_those_about_the_network_are_kept(self) -> None:
        first = "[global]\nindex-url = https://one.example/simple\ncert = /etc/one.pem\nuser = true\n"
        second = "[global]\nextra_index_url =\n    https://a.example/\n    https://b.example/\n[install]\nretries = 7\n"
        environ = {"PIP_INDEX_URL": "https://two.example/simple", "PIP_TARGET": "/opt", "PIPX_HOME": "/x"}
        assert network_settings.pip_options([first, "broken [", second], environ) == {
            "index-url": "https://two.example/simple",
            "extra-index-url": "\nhttps://a.example/\nhttps://b.example/",
            "cert": "/etc/one.pem",
            "retries": "7",
        }

    def test_local_directories_of_pip_are_found(self, tmp_path: Path) -> None:
        (tmp_path / "my index/simple").mkdir(parents=True)
        (tmp_path / "my index/wheels").mkdir()
        (tmp_path / "wheels").mkdir()
        options = {
            "index-url": "https://one.example/simple",
            "extra-index-url": f"{(tmp_path / 'my index/simple').as_uri()} file:///nowhere/simple",
            "find-links": f"{tmp_path / 'wheels'} {(tmp_path / 'my index/wheels').as_uri()} relative/wheels",
        }
        # The pages of an index name files beside it.
        top = tmp_path.resolve()
        assert network_settings.local_directories(options) == [str(top / "my index"), str(top / "wheels")]

    def test_configuration_files_of_pip(self) -> None:
        environ = {"HOME": "/home/one", "XDG_CONFIG_DIRS": "/etc/a:/etc/b", "PIP_CONFIG_FILE": "/etc/mine.conf"}
        assert list(map(str, network_settings.pip_configurations(environ))) == [
            "/etc/a/pip/pip.conf",
            "/etc/b/pip/pip.conf",
            "/etc/pip.conf",
            "/home/one/.pip/pip.conf",
            "/home/one/.config/pip/pip.conf",
            "/etc/mine.conf",
        ]
        assert network_settings.pip_configurations({"PIP_CONFIG_FILE": os.devnull}) == []

    def test_certificates_that_settings_name(self, tmp_path: Path) -> None:
        paths = [tmp_path / name for name in ("environ.pem", "pip.pem", "apt.pem")]
        for path in paths:
            path.touch()
        environ = {"SSL_CERT_FILE": str(paths[0]), "CURL_CA_BUNDLE": "/nowhere.pem"}
        apt = f'Acquire::https::CaInfo "{paths[2]}";\n'
        assert network_settings.certificate_files(environ, {"cert": str(paths[1])}, apt) == sorted(paths)


class TestCheckout:
    @pytest.fixture
    def checkout(self, tmp_path: Path) -> Path:
        needs.program("git")
        root = tmp_path / "checkout"
        (root / "src").mkdir(parents=True)
        for name in ("src/one.py", "src/two.py", "ignored.so", "run"):
            (root / name).write_text(name)
        (root / "run").chmod(0o700)
        (root / "src/two.py").chmod(0o600)
        (root / "link").symlink_to("src/one.py")
        (root / ".gitignore").write_text("*.so\n")
        for arguments in ("init -q", "add src/one.py run"):
            subprocess.run(["git", *arguments.split()], cwd=root, check=True, capture_output=True)
        return root

    def test_tracked_and_new_files_are_listed(self, checkout: Path) -> None:
        assert tool.checkout_files(checkout) == [".gitignore", "link", "run", "src/one.py", "src/two.py"]
        (checkout / "src/one.py").unlink()
        assert "src/one.py" not in tool.checkout_files(checkout)

    def test_what_is_no_checkout_cannot_be_listed(self, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(checkout.parent))
        (checkout / ".git").rename(checkout / ".other")
        with pytest.raises(ChrootUnavailable, match="the checkout cannot be copied: "):
            tool.checkout_files(checkout)

    def test_a_copy_is_brought_up_to_date_and_what_was_built_there_stays(self, checkout: Path) -> None:
        target = checkout.parent / "copy"
        tool.copy_files(checkout, target, tool.checkout_files(checkout))
        assert (target / "src/two.py").read_text() == "src/two.py"
        assert os.readlink(target / "link") == "src/one.py"
        modes = {name: (target / name).stat().st_mode & 0o777 for name in ("run", "src/one.py", "src/two.py")}
        assert modes == {"run": 0o755, "src/one.py": 0o644, "src/two.py": 0o644}

        (target / "built.so").touch()
        os.utime(target / "src/one.py", (1, 1))
        (checkout / "src/two.py").unlink()
        (checkout / "run").write_text("changed")
        tool.copy_files(checkout, target, tool.checkout_files(checkout))
        assert (target / "built.so").exists()
        assert (target / "src/one.py").stat().st_mtime == 1, "it did not change, so nothing is built anew for it"
        assert not (target / "src/two.py").exists()
        assert (target / "run").read_text() == "changed"


class Fake(Chroot):
    """A chroot whose commands are noted and not run.

    Attributes:
        calls: what was done.
        failing: the word of a command that fails, as often as the number says.
    """

    def __init__(self, base: Path) -> None:
        super().__init__("sid", base)
        self.calls: list[str] = []
        self.failing: dict[str, int] = {}

    def _make(self) -> None:
        self.remove()
        self.calls.append("make")
        (self.path / "etc").mkdir(parents=True)
        marker = {"version": tool.VERSION, "release": "sid", "made": time.time()}
        (self.path / tool.MARKER).write_text(json.dumps(marker))

    def configure(self) -> None:
        self.calls.append("configure")

    def capture(self, command: Sequence[str], env: object = None, cwd: str = "/") -> subprocess.CompletedProcess[str]:
        words = list(command)
        self.calls.append(" ".join(word for word in words if not word.startswith("-")))
        for word in words:
            if self.failing.get(word, 0) > 0:
                self.failing[word] -= 1
                return subprocess.CompletedProcess(words, 100, "Reading\nE: it is broken\n")
        return subprocess.CompletedProcess(words, 0, "python3.14-venv\npython3.9-venv\npython3.14-venv-x\n")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setattr(system, "is_root", lambda: True)
    return Fake(tmp_path / "chroots")


def wait_for_waiting() -> None:
    """Return when a thread of this process waits for a lock of a file."""
    deadline = time.monotonic() + 60
    while not re.search(rf"-> FLOCK +ADVISORY +WRITE {os.getpid()} ", Path("/proc/locks").read_text()):
        assert time.monotonic() < deadline, "no thread waits for a lock"
        time.sleep(0.01)


INSTALL = ["dpkg", "apt-get update", "apt-get install make"]


class TestPrepare:
    def test_it_is_made_once(self, fake: Fake) -> None:
        fake.prepare()
        fake.prepare()
        assert fake.calls == ["make", "configure", "configure"]
        assert fake.base.stat().st_mode & 0o777 == 0o700

    def test_it_is_made_anew_if_wanted(self, fake: Fake) -> None:
        fake.prepare()
        (fake.path / "old").touch()
        fake.prepare(fresh=True)
        assert not (fake.path / "old").exists()

    @pytest.mark.parametrize(
        "marker",
        [
            None,
            "",
            "[]",
            "{}",
            {"version": tool.VERSION - 1},
            {"release": "trixie"},
            {"made": time.time() - tool.MAX_AGE - 60},
        ],
        ids=["none", "empty", "list", "no fields", "other version", "other release", "old"],
    )
    def test_one_without_a_valid_marker_is_made_again(self, fake: Fake, marker: object) -> None:
        fake.prepare()
        path = fake.path / tool.MARKER
        assert path.is_file()
        if isinstance(marker, dict):
            marker = json.dumps({**json.loads(path.read_text()), **marker})
        if marker is None:
            path.unlink()
        else:
            path.write_text(str(marker))
        assert not fake.complete
        (fake.path / "half").touch()
        fake.prepare()
        assert fake.calls.count("make") == 2
        assert Fake(fake.base).complete
        assert not (fake.path / "half").exists()

    def test_only_packages_that_are_lacking_are_installed(self, fake: Fake) -> None:
        fake.prepare(["make"])
        assert fake.calls == ["make", "configure", *INSTALL]
        (fake.path / "var/lib/dpkg").mkdir(parents=True)
        status = "Package: {}\nStatus: {}\nPriority: optional\n\n"
        (fake.path / "var/lib/dpkg/status").write_text(
            status.format("make", "install ok installed") + status.format("curl", "deinstall ok config-files")
        )
        fake.calls.clear()
        fake.install(["make"])
        assert fake.calls == []
        fake.install(["make", "curl"])
        assert fake.calls[-1] == "apt-get install curl"

    def test_a_kept_one_that_cannot_be_brought_up_to_date_is_made_again(self, fake: Fake) -> None:
        fake.prepare()
        fake.failing["install"] = 1
        fake.prepare(["make"])
        assert fake.calls == ["make", "configure", "configure", *INSTALL, "make", "configure", *INSTALL]

    def test_a_new_one_that_cannot_be_completed_is_unavailable(self, fake: Fake) -> None:
        fake.failing["install"] = 2
        with pytest.raises(ChrootUnavailable, match="E: it is broken") as caught:
            fake.prepare(["make"])
        assert str(caught.value) == caught.value.reason
        assert fake.calls.count("make") == 1

    def test_only_root_can(self, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(system, "is_root", lambda: False)
        with pytest.raises(ChrootUnavailable, match="only root"):
            fake.prepare()

    def test_the_pythons_of_the_release(self, fake: Fake) -> None:
        assert fake.pythons() == [(3, 9), (3, 14)]

    @pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "Sid"])
    def test_a_name_is_no_path(self, name: str, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="not the name of a release"):
            Chroot(name, tmp_path)


class TestLocks:
    def test_a_chroot_in_which_a_command_runs_is_not_removed(self, fake: Fake) -> None:
        fake.prepare()
        removed = threading.Event()

        def remove() -> None:
            Fake(fake.base).remove()
            removed.set()

        thread = threading.Thread(target=remove, daemon=True)
        with fake._lock("used", shared=True), fake._lock("used", shared=True):
            thread.start()
            wait_for_waiting()
            assert fake.complete
        thread.join(60)
        assert removed.is_set()
        assert not fake.path.exists()


class TestMake:
    def test_no_debootstrap(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(system, "is_root", lambda: True)
        monkeypatch.setattr(shutil, "which", lambda name: None)
        monkeypatch.setattr(system, "install", lambda packages: packages != ["debootstrap"])
        with pytest.raises(ChrootUnavailable, match="debootstrap is not installed"):
            Chroot("sid", tmp_path).prepare()

    def test_a_broken_archive_leaves_no_complete_chroot(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        chroot = Chroot("sid", tmp_path)
        failing = tmp_path / "debootstrap"
        failing.write_text(f"#!/bin/sh\nmkdir -p {chroot.path}/etc\necho 'E: Failed getting release file'\nexit 1\n")
        failing.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        monkeypatch.setattr(tool, "_NAMESPACES", ("env",))
        monkeypatch.setattr(tool, "_DEBOOTSTRAP", ("env", "debootstrap"))
        monkeypatch.setattr(system, "is_root", lambda: True)
        with pytest.raises(ChrootUnavailable, match="debootstrap of sid failed: E: Failed getting release file"):
            chroot.prepare()
        assert not chroot.complete

    def test_a_chroot_in_which_something_is_mounted_is_not_removed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        chroot = Chroot("sid", tmp_path)
        (chroot.path / "proc").mkdir(parents=True)
        monkeypatch.setattr(tool, "_mount_points", lambda: ["/", f"{chroot.path.resolve()}-other", "/tmp"])
        chroot.remove()
        assert not chroot.path.exists()
        (chroot.path / "proc").mkdir(parents=True)
        monkeypatch.setattr(tool, "_mount_points", lambda: ["/", str(chroot.path.resolve() / "proc")])
        with pytest.raises(ChrootUnavailable, match="proc is mounted"):
            chroot.remove()
        assert (chroot.path / "proc").exists()


class TestSettings:
    def test_a_link_in_the_chroot_is_replaced_and_not_followed(self, tmp_path: Path) -> None:
        chroot = Chroot("sid", tmp_path)
        (chroot.path / "etc").mkdir(parents=True)
        outside = tmp_path / "resolv.conf"
        outside.write_text("outside")
        (chroot.path / "etc/resolv.conf").symlink_to(outside)
        chroot._write("etc/resolv.conf", "inside", mode=0o600)
        assert outside.read_text() == "outside"
        assert (chroot.path / "etc/resolv.conf").read_text() == "inside"
        assert (chroot.path / "etc/resolv.conf").stat().st_mode & 0o777 == 0o600

    def test_the_directory_of_chroots_must_be_ours_alone(self, fake: Fake) -> None:
        fake.base.mkdir(mode=0o755, parents=True, exist_ok=True)
        fake.base.chmod(0o755)
        fake.prepare()
        assert fake.base.stat().st_mode & 0o777 == 0o755, "one that was there stays as it is"
        fake.base.chmod(0o777)
        with pytest.raises(ChrootUnavailable, match="can be written to by other users"):
            fake.prepare()

    def test_the_environment_of_a_command(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
        monkeypatch.setenv("PYTHONPATH", "/somewhere")
        words = Chroot("sid", tmp_path).command(["true", "a b"], "/srv")
        environ = Chroot.environ({"PYTHON": "python3.15"})
        assert environ["https_proxy"] == "http://proxy.example:3128"
        assert environ["PYTHON"] == "python3.15"
        assert "PYTHONPATH" not in environ
        assert not any("proxy" in word for word in words), "every user can read a command line"
        assert words[-3:] == ["/srv", "true", "a b"]


def namespaces() -> bool:
    """Whether root may make namespaces here."""
    if os.geteuid() != 0:
        return False
    try:
        return subprocess.run([*tool._NAMESPACES, "true"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not namespaces(), reason="only root can make namespaces, and not in a chroot")
class TestCommands:
    """Commands run in a chroot that is the machine itself."""

    @pytest.fixture
    def chroot(self, tmp_path: Path) -> Chroot:
        chroot = Chroot("sid", tmp_path)
        chroot.path = Path("/")
        return chroot

    def test_what_a_command_prints_and_its_status(self, chroot: Chroot) -> None:
        done = chroot.capture(["sh", "-c", 'echo "$VALUE $PWD"; echo two >&2; exit 7'], {"VALUE": "a b"}, "/tmp")
        assert (done.returncode, done.stdout) == (7, "a b /tmp\ntwo\n")
        assert chroot.run(["sh", "-c", "exit 7"], cwd="/") == 7
        assert chroot.run(["true"], cwd="/") == 0

    def test_nothing_stays_mounted(self, chroot: Chroot, tmp_path: Path) -> None:
        chroot._binds = [str(tmp_path)]
        (tmp_path / "file").touch()
        before = tool._mount_points()
        done = chroot.capture(["sh", "-c", f"grep -c ' {tmp_path} ' /proc/mounts; rm {tmp_path}/file; exit 3"])
        assert done.returncode == 3
        assert done.stdout.startswith("1\n")
        assert (tmp_path / "file").exists(), "directories of the machine are mounted read-only"
        assert tool._mount_points() == before

    def test_a_mount_that_fails_ends_the_command(self, chroot: Chroot, tmp_path: Path) -> None:
        chroot._binds = [str(tmp_path / "none")]
        before = tool._mount_points()
        done = chroot.capture(["echo", "it ran"])
        assert done.returncode != 0
        assert "it ran" not in done.stdout
        assert tool._mount_points() == before

    def test_no_process_is_left(self, chroot: Chroot, tmp_path: Path) -> None:
        """The one in the background holds a pipe, whose end is the end of the process."""
        reading, writing = os.pipe()
        command = chroot.command(["sh", "-c", "sleep 1000 & exit 5"])
        assert subprocess.run(command, pass_fds=[writing], check=False).returncode == 5
        os.close(writing)
        with open(reading, "rb") as pipe:
            assert pipe.read() == b""

    def test_no_process_is_left_by_a_command_that_is_killed(self, chroot: Chroot) -> None:
        reading, writing = os.pipe()
        command = chroot.command(["sh", "-c", "sleep 1000 & echo started; wait"])
        before = tool._mount_points()
        with subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[writing]) as process:
            os.close(writing)
            assert process.stdout is not None
            assert process.stdout.readline() == b"started\n"
            process.kill()
        with open(reading, "rb") as pipe:
            assert pipe.read() == b""
        assert tool._mount_points() == before

    def test_no_process_is_left_by_a_program_that_is_killed(self, chroot: Chroot) -> None:
        reading, writing = os.pipe()
        program = (
            "import sys\nfrom pathlib import Path\nfrom tools.chroot import Chroot\n"
            f"chroot = Chroot('sid', Path({str(chroot.base)!r}))\nchroot.path = Path('/')\n"
            "chroot.run(['sh', '-c', 'sleep 1000 & echo started; wait'], cwd='/')\n"
        )
        # Descriptor 1 is all that commands of the tool inherit.
        command = [sys.executable, "-c", program]
        with subprocess.Popen(command, cwd=pythons.ROOT, stdout=writing) as process:
            os.close(writing)
            with open(reading, "rb") as pipe:
                assert pipe.readline() == b"started\n"
                process.kill()
                assert pipe.read() == b""


class TestMain:
    def test_a_chroot_that_cannot_be_made_has_a_status_of_its_own(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(system, "is_root", lambda: False)
        assert tool.main(["sid", "--", "false"]) == tool.UNAVAILABLE
        assert "Not available: only root can make a chroot" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["sid", "--", "make", "--", "x"], ["prepare [] False", "copy /srv/mod_python", "run make -- x"]),
            (["sid", "--fresh", "--packages", "make,curl"], ["prepare ['make', 'curl'] True", "copy /srv/mod_python"]),
            (["sid", "--place", "/srv/two", "--", "true"], ["prepare [] False", "copy /srv/two", "run true"]),
        ],
    )
    def test_arguments(self, monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: list[str]) -> None:
        calls: list[str] = []

        class Noting(Chroot):
            def prepare(self, packages: object = (), *, fresh: bool = False) -> None:
                calls.append(f"prepare {packages} {fresh}")

            def copy_checkout(self, place: str = tool.CHECKOUT, root: Path = pythons.ROOT) -> None:
                calls.append(f"copy {place}")

            def run(self, command: Sequence[str], env: object = None, cwd: str = tool.CHECKOUT) -> int:
                calls.append(f"run {' '.join(command)}")
                return 9

        monkeypatch.setattr(tool, "Chroot", Noting)
        status = tool.main(arguments)
        assert calls == expected
        assert status == (9 if "--" in arguments else 0)
