"""The build: which httpd and which Python it takes, and what it says when something is missing.

The machines of these tests are made of a few files in a temporary directory: an
apxs that is a shell script, headers with a version in them, a compiler that
fails.  No compiler and no httpd is needed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from build_support import errors, httpd, python
from build_support.errors import BuildError

RELEASE = """
#define AP_SERVER_MAJORVERSION_NUMBER 2
#define AP_SERVER_MINORVERSION_NUMBER {minor}
#define AP_SERVER_PATCHLEVEL_NUMBER   {patch}
"""
APR = """
#define APR_MAJOR_VERSION       1
#define APR_MINOR_VERSION       7
#define APR_PATCH_VERSION       5
"""


def script(path: Path, text: str) -> Path:
    """Write a shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def headers(directory: Path, apr: Path, minor: int = 4, patch: int = 62) -> None:
    """Write the headers that tell the versions."""
    directory.mkdir(parents=True, exist_ok=True)
    apr.mkdir(parents=True, exist_ok=True)
    (directory / "httpd.h").touch()
    (directory / "ap_release.h").write_text(RELEASE.format(minor=minor, patch=patch))
    (apr / "apr_version.h").write_text(APR)


@pytest.fixture
def system_apxs(tmp_path: Path) -> Path:
    """An apxs as a distribution installs it."""
    headers(tmp_path / "usr/include/apache2", tmp_path / "usr/include/apr-1.0")
    answers = {
        "SBINDIR": "/usr/sbin",
        "PROGNAME": "apache2",
        "INCLUDEDIR": tmp_path / "usr/include/apache2",
        "APR_INCLUDEDIR": tmp_path / "usr/include/apr-1.0",
        "LIBEXECDIR": "/usr/lib/apache2/modules",
        "SYSCONFDIR": "/etc/apache2",
        "EXTRA_CPPFLAGS": "-DLINUX -D_REENTRANT",
    }
    cases = "\n".join(f"{name}) echo '{value}';;" for name, value in answers.items())
    return script(
        tmp_path / "usr/bin/apxs2",
        f'case "$2" in\n{cases}\n*) echo "apxs:Error: Invalid query string" >&2; exit 1;;\nesac',
    )


@pytest.fixture
def pypi_tree(tmp_path: Path) -> Path:
    """The site-packages of an environment with the PyPI httpd, whose apxs does not work."""
    tree = tmp_path / "site-packages" / httpd.PYPI_HTTPD
    headers(tree / "include", tree / "include/apr-1")
    script(tree / "bin/apxs", "echo 'cannot open config_vars.mk' >&2; exit 2")
    script(tree / "bin/httpd", "exit 0")
    (tree / "build").mkdir()
    (tree / "build/config_vars.mk").write_text(
        "prefix = ${mod_wsgi_httpd_prefix}\nprogname = httpd\nEXTRA_CPPFLAGS = -DLINUX -D_GNU_SOURCE\nCC = gcc\n"
    )
    return tmp_path / "site-packages"


class TestFindApxs:
    def test_the_environment_variable_comes_first(self, system_apxs: Path, tmp_path: Path) -> None:
        other = script(tmp_path / "opt/apxs", "")
        environ = {"APXS": str(other), "PATH": str(system_apxs.parent)}
        assert httpd.find_apxs(environ, ()) == other

    def test_a_wrong_environment_variable_is_not_passed_over(self, system_apxs: Path) -> None:
        environ = {"APXS": "/nowhere/apxs", "PATH": str(system_apxs.parent)}
        with pytest.raises(BuildError, match="APXS is '/nowhere/apxs', but there is no such program"):
            httpd.find_apxs(environ, ())

    def test_apxs_comes_before_apxs2(self, system_apxs: Path) -> None:
        environ = {"PATH": str(system_apxs.parent)}
        assert httpd.find_apxs(environ, ()) == system_apxs
        plain = script(system_apxs.with_name("apxs"), "")
        assert httpd.find_apxs(environ, ()) == plain

    def test_the_pypi_httpd_comes_last(self, system_apxs: Path, pypi_tree: Path) -> None:
        inside = pypi_tree / httpd.PYPI_HTTPD / "bin/apxs"
        assert httpd.find_apxs({"PATH": str(system_apxs.parent)}, [pypi_tree]) == system_apxs
        assert httpd.find_apxs({"PATH": ""}, [pypi_tree]) == inside

    def test_the_pypi_httpd_can_be_asked_for(self, system_apxs: Path, pypi_tree: Path) -> None:
        environ = {"APXS": "pypi", "PATH": str(system_apxs.parent)}
        assert httpd.find_apxs(environ, [pypi_tree]) == pypi_tree / httpd.PYPI_HTTPD / "bin/apxs"
        with pytest.raises(BuildError, match="mod-wsgi-httpd is not in this environment"):
            httpd.find_apxs(environ, ())

    def test_none_is_no_error_yet(self) -> None:
        assert httpd.find_apxs({"PATH": ""}, ()) is None


class TestFacts:
    def test_of_a_distribution(self, system_apxs: Path, tmp_path: Path) -> None:
        found = httpd.facts(system_apxs)
        assert (found.binary, found.version, found.apr_version) == ("/usr/sbin/apache2", "2.4.62", "1.7.5")
        assert found.includes == (
            str(tmp_path / "usr/include/apache2"),
            str(tmp_path / "usr/include/apr-1.0"),
        )
        assert found.cppflags == ("-DLINUX", "-D_REENTRANT")
        assert (found.libexecdir, found.sysconfdir) == ("/usr/lib/apache2/modules", "/etc/apache2")

    def test_of_a_distribution_do_not_move(self, system_apxs: Path) -> None:
        found = httpd.facts(system_apxs)
        assert found.installed_at(Path("/env/site-packages")) == found

    def test_of_a_tree_that_was_moved(self, pypi_tree: Path) -> None:
        found = httpd.facts(pypi_tree / httpd.PYPI_HTTPD / "bin/apxs")
        tree = pypi_tree / httpd.PYPI_HTTPD
        assert found.binary == str(tree / "bin/httpd")
        assert found.libexecdir == str(tree / "modules")
        assert found.includes == (str(tree / "include"), str(tree / "include/apr-1"))
        assert found.cppflags == ("-DLINUX", "-D_GNU_SOURCE")

    def test_of_a_pypi_httpd_name_the_place_after_the_installation(self, pypi_tree: Path) -> None:
        found = httpd.facts(pypi_tree / httpd.PYPI_HTTPD / "bin/apxs")
        installed = found.installed_at(Path("/env/site-packages"))
        assert installed.binary == "/env/site-packages/mod_wsgi_packages/httpd/bin/httpd"
        assert installed.apxs == "/env/site-packages/mod_wsgi_packages/httpd/bin/apxs"
        assert installed.includes == found.includes  # the build still compiles with these

    def test_no_httpd(self) -> None:
        with pytest.raises(BuildError, match="apxs was not found") as caught:
            httpd.facts(None)
        for words in ("apt-get install", "dnf install", "apk add", "brew install", "mod_python[httpd]"):
            assert words in str(caught.value)

    def test_no_headers(self, system_apxs: Path, tmp_path: Path) -> None:
        (tmp_path / "usr/include/apr-1.0/apr_version.h").unlink()
        with pytest.raises(BuildError, match=r"APR's headers are missing.*apr-1\.0"):
            httpd.facts(system_apxs)

    @pytest.mark.parametrize(("minor", "patch"), [(2, 62), (4, 48), (5, 0)])
    def test_an_httpd_that_does_not_fit(self, system_apxs: Path, tmp_path: Path, minor: int, patch: int) -> None:
        headers(tmp_path / "usr/include/apache2", tmp_path / "usr/include/apr-1.0", minor, patch)
        found = rf"httpd 2\.{minor}\.{patch}, but mod_python needs httpd 2\.4, 2\.4\.49 or later"
        with pytest.raises(BuildError, match=found):
            httpd.facts(system_apxs)

    def test_an_apxs_that_fails(self, tmp_path: Path) -> None:
        broken = script(tmp_path / "bin/apxs", "echo 'no perl' >&2; exit 1")
        with pytest.raises(BuildError, match="apxs -q SBINDIR` failed: no perl"):
            httpd.facts(broken)


def config_var(**values: str) -> Callable[[str], object]:
    """A stand-in for `sysconfig.get_config_var`."""
    return values.get


class TestPython:
    def test_the_library_below_the_prefix_is_preferred(self, tmp_path: Path) -> None:
        for directory in ("moved/lib", "configured/lib"):
            (tmp_path / directory).mkdir(parents=True)
            (tmp_path / directory / "libpython3.12.so.1.0").touch()
        names = config_var(
            INSTSONAME="libpython3.12.so.1.0",
            LDLIBRARY="libpython3.12.so",
            LIBDIR=str(tmp_path / "configured/lib"),
        )
        found = python.find_libpython(str(tmp_path / "moved"), names)
        assert found.path == str(tmp_path / "moved/lib/libpython3.12.so.1.0")
        assert found.rpath == str(tmp_path / "moved/lib")
        elsewhere = python.find_libpython(str(tmp_path / "nothing"), names)
        assert elsewhere.path == str(tmp_path / "configured/lib/libpython3.12.so.1.0")

    def test_a_library_of_the_system_needs_no_run_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        directory = tmp_path / "usr/lib/x86_64-linux-gnu"
        directory.mkdir(parents=True)
        (directory / "libpython3.11.so.1.0").touch()
        monkeypatch.setattr(python, "SYSTEM_LIBDIRS", (str(tmp_path / "usr/lib"),))
        found = python.find_libpython(
            str(tmp_path / "usr"),
            config_var(INSTSONAME="libpython3.11.so.1.0", LIBDIR=str(directory), MULTIARCH="x86_64-linux-gnu"),
        )
        assert (found.path, found.rpath) == (str(directory / "libpython3.11.so.1.0"), None)

    def test_a_python_without_shared_library(self, tmp_path: Path) -> None:
        names = config_var(INSTSONAME="libpython3.12.a", LDLIBRARY="libpython3.12.a", LIBDIR=str(tmp_path))
        with pytest.raises(BuildError, match="built without a shared library") as caught:
            python.find_libpython(str(tmp_path), names)
        assert "PYTHON_CONFIGURE_OPTS=--enable-shared" in str(caught.value)

    def test_a_shared_library_that_is_not_there(self, tmp_path: Path) -> None:
        names = config_var(INSTSONAME="libpython3.12.so.1.0", LIBDIR=str(tmp_path / "lib"))
        with pytest.raises(BuildError, match=r"libpython3\.12\.so\.1\.0 was not found in"):
            python.find_libpython(str(tmp_path), names)

    def test_missing_headers(self, tmp_path: Path) -> None:
        with pytest.raises(BuildError, match=r"there is no .*/Python\.h") as caught:
            python.check_headers(str(tmp_path))
        assert "apt-get install python3-dev" in str(caught.value)
        (tmp_path / "Python.h").touch()
        assert python.check_headers(str(tmp_path)) == str(tmp_path)

    def test_no_compiler(self) -> None:
        with pytest.raises(
            BuildError, match=r"No C compiler was found \(tried: some-cc -pthread, cc, gcc, clang\)"
        ) as caught:
            python.find_compiler({"PATH": ""}, "some-cc -pthread")
        assert "xcode-select --install" in str(caught.value)

    def test_a_compiler_without_the_c_library(self, tmp_path: Path) -> None:
        script(tmp_path / "cc", "echo 'stdlib.h: No such file or directory' >&2; exit 1")
        with pytest.raises(BuildError, match=r"does not work:\nstdlib\.h: No such file"):
            python.find_compiler({"PATH": f"{tmp_path}:{os.defpath}"}, str(tmp_path / "cc"))

    def test_a_compiler_with_arguments(self, tmp_path: Path) -> None:
        script(tmp_path / "fake-cc", "exit 0")
        environ = {"CC": "fake-cc -m64", "PATH": f"{tmp_path}:{os.defpath}"}
        assert python.find_compiler(environ, "unused") == ["fake-cc", "-m64"]

    def test_every_name_of_a_python_is_the_same_python(self, tmp_path: Path) -> None:
        for name in ("python", "python3", "python3.12"):
            (tmp_path / name).touch()
        names = {python.executable(str(tmp_path / name), (3, 12, 1)) for name in ("python", "python3", "python3.12")}
        assert names == {str(tmp_path / "python3.12")}
        (tmp_path / "alone").mkdir()
        assert python.executable(str(tmp_path / "alone/python"), (3, 12, 1)) == str(tmp_path / "alone/python")


class TestMessages:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("ID=debian\n", "debian"),
            ('ID=linuxmint\nID_LIKE="ubuntu debian"\n', "debian"),
            ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', "fedora"),
            ("NAME=Alpine\nID=alpine\n", "alpine"),
            ("ID=plan9\n", ""),
        ],
    )
    def test_the_platform_is_told_by_os_release(self, tmp_path: Path, text: str, expected: str) -> None:
        (tmp_path / "os-release").write_text(text)
        assert errors.this_platform(tmp_path / "os-release", "linux") == expected

    def test_other_platforms(self, tmp_path: Path) -> None:
        assert errors.this_platform(tmp_path / "none", "darwin") == "macos"
        assert errors.this_platform(tmp_path / "none", "linux") == ""

    @pytest.mark.parametrize("remedy", errors.REMEDIES)
    @pytest.mark.parametrize("platform", errors.PLATFORMS)
    def test_this_platform_comes_first_and_the_others_follow(self, remedy: str, platform: str) -> None:
        text = errors.compose("It is missing.", remedy, platform)
        rows = dict(errors.REMEDIES[remedy])
        first, _, rest = text.partition("Elsewhere:")
        assert first.startswith("It is missing.\n\nTo put it right on this machine")
        assert rows[platform] in first
        for name, command in rows.items():
            if name != platform:
                assert command.splitlines()[0] in rest

    @pytest.mark.parametrize("remedy", errors.REMEDIES)
    def test_a_platform_nobody_thought_of_gets_the_whole_list(self, remedy: str) -> None:
        text = errors.compose("It is missing.", remedy, "")
        assert "on this machine" not in text
        assert "apt-get install" in text

    def test_sudo_is_named_where_it_is_needed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert "    sudo apt-get install gcc" in errors.compose("It.", "compiler", "debian")
        assert "sudo xcode-select" not in errors.compose("It.", "compiler", "macos")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        assert "sudo" not in errors.compose("It.", "compiler", "debian")


def test_this_python_can_be_embedded() -> None:
    """The real thing, with nothing made up: the tests run in an environment that was built."""
    library = python.find_libpython()
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in Path(library.path).name
    assert Path(python.check_headers(), "Python.h").is_file()
