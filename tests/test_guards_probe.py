"""Guards in Python refuse a file, whatever leads to it, where httpd's own `<Files>` rules do."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator

import pytest

from mod_python.httpd.find import find_httpd
from mod_python.testing import Server
from mod_python.testing.client import Response
from tests import guard_ways, needs
from tests.guard_ways import WAYS, area, combinations
from tests.servers import running


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    config, files = guard_ways.site()
    http2 = ["mod_http2"] if find_httpd().has_module("mod_http2") else []
    with running(config, files=files, modules=[*guard_ways.MODULES, *http2], log_level="notice") as server:
        yield server


def ask(server: Server, name: str, way: str, *, key: bool, user: bool = False) -> Response:
    method, path = WAYS[way]
    headers = {"Host": name}
    if key:
        headers["X-Key"] = "k"
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(b"good:right").decode()
    prefix = f"/alias/{name}" if way.startswith("alias") else f"/{name}"
    body = b"a=b" if method == "POST" else None
    return server.request(method, f"{prefix}/{path}" if path != "." else prefix, body, headers)


def needs_user(guard: str) -> bool:
    return guard in ("authen", "authz", "access of module", "require with user")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("guard", "rule"), combinations())
def test_guard_refuses_as_files_rule_does(server: Server, guard: str, rule: str, way: str) -> None:
    user = needs_user(guard)
    expected = ask(server, "reference", way, key=False)
    found = ask(server, area(guard, rule), way, key=False, user=user)
    assert "SECRET" not in expected.text + found.text
    # A guard of authentication asks for a password, and so does Satisfy Any, where another one would do.
    status = expected.status
    if found.status != status and status == 403 and guard in ("authen", "satisfy any", "require with user"):
        status = 401
    assert found.status == status
    if status == 401 and way in ("direct", "head", "path info"):
        assert found.headers.get_all("WWW-Authenticate") == ['Basic realm="realm"']


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("guard", "rule"), combinations())
def test_guard_lets_in_whom_it_knows(server: Server, guard: str, rule: str, way: str) -> None:
    expected = ask(server, "open", way, key=True)
    name = area(guard, rule)
    found = ask(server, name, way, key=True, user=needs_user(guard))
    assert (found.status, found.text.replace(name, "open")) == (expected.status, expected.text)


def test_ways_lead_to_the_file(server: Server) -> None:
    """Without a rule every way shows it, so that it means something if a guard refuses."""
    for way, (method, _) in WAYS.items():
        response = ask(server, "open", way, key=False)
        if way == "without slash":
            assert response.status == 301
        elif method == "HEAD":
            assert response.status == 200, way
        else:
            assert "SECRET" in response.text, way


@pytest.mark.parametrize("way", ["direct", "index", "multiviews", "error document", "include virtual"])
@pytest.mark.parametrize(("guard", "rule"), [pair for pair in combinations() if pair[1] == "directory"])
def test_guard_refuses_streams_of_http2(server: Server, guard: str, rule: str, way: str) -> None:
    if server.mpm == "prefork" or not find_httpd().has_module("mod_http2"):
        pytest.skip("mod_http2 serves no requests under prefork, or is not there")
    command = [needs.program("curl"), "-sS", "--http2-prior-knowledge", "-H", f"Host: {area(guard, rule)}"]
    if needs_user(guard):
        command += ["-u", "good:right"]
    url = f"{server.url}/{area(guard, rule)}/{WAYS[way][1]}"
    for key in "-k":
        done = subprocess.run([*command, "-H", f"X-Key: {key}", url], capture_output=True, timeout=60, check=True)
        assert (b"SECRET" in done.stdout) == (key == "k")
