"""Sessions over HTTP/2, with TLS and without: each stream is a connection of its own."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from mod_python.httpd.find import find_httpd
from mod_python.testing import Server
from tests import needs
from tests.processes import PREFORK
from tests.session_site import site
from tests.test_session_chain import CONFIG, FILES, HANDLERS

pytestmark = pytest.mark.skipif(PREFORK, reason="mod_http2 does not work with prefork")

WAYS = {"/login": 200, "/page": 200, "/redirect": 200, "/redirect_to_file": 200, "/failing": 404, "/moved": 302}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    version = subprocess.run([needs.program("curl"), "--version"], capture_output=True, text=True, check=True).stdout
    if "HTTP2" not in version:
        pytest.skip("this curl is built without HTTP/2")
    if not find_httpd().has_module("mod_http2"):
        pytest.skip("this httpd has no mod_http2")
    config = (
        CONFIG
        + "Protocols h2 h2c http/1.1\n"
        + "PythonOption mod_python.session.session_type FileSession\n"
        + "PythonOption mod_python.session.lock_timeout 3\n"
    )
    modules = ["mod_include", "mod_dir", "mod_http2"]
    with site(HANDLERS, config, files=FILES, modules=modules, processes=2, listen=2, tls=[1]) as found:
        yield found


def curl(server: Server, index: int, target: str, *arguments: str) -> str:
    scheme, how = ("https", "--http2") if index else ("http", "--http2-prior-knowledge")
    url = f"{scheme}://127.0.0.1:{server.ports[index]}{target}"
    program = needs.program("curl")
    done = subprocess.run(
        [program, "-s", "-k", "-i", "--max-time", "60", how, *arguments, url],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("HTTP/2 "), done.stdout
    return done.stdout


@pytest.mark.parametrize("target", WAYS)
@pytest.mark.parametrize("index", [0, 1], ids=["plain", "tls"])
def test_one_session_and_one_cookie(server: Server, index: int, target: str) -> None:
    answer = curl(server, index, target)
    assert int(answer.split()[1]) == WAYS[target]
    (cookie,) = re.findall("(?im)^set-cookie: (.*)$", answer)
    assert ("secure" in cookie) == bool(index)
    assert re.findall("(?im)^cache-control: (.*)$", answer) == ["private"]
    again = curl(server, index, "/look", "-H", f"Cookie: {cookie.partition(';')[0]}")
    assert "set-cookie" not in again
    assert "(0, {" in again
    assert "'first': 1" in again
    assert "'second': 1" in again
