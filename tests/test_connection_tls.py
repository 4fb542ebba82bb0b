"""A connection handler on a TLS port is called after the handshake that its host asks for, or not at all.

The dimensions: first bytes, client certificate rules, client certificates, SNI, versions of TLS,
kinds of handlers, and where the handler is configured; see `tests.tls_site`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tls_site import (
    CERTIFICATES,
    HTTP,
    KINDS,
    RULES,
    SCOPES,
    SNI,
    VERSIONS,
    Site,
    beginnings,
    site,
)

pytestmark = pytest.mark.long

BEGINNINGS = beginnings()
PORTS = pytest.mark.parametrize("port", range(len(RULES)), ids=["-".join(rules) for rules in RULES])


@pytest.fixture(scope="module", params=SCOPES)
def scope(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def served(scope: str, kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(scope, kind, tmp_path_factory.mktemp("client")) as served:
        yield served


def check_log(served: Site, mark: int) -> int:
    """Check that a client has caused one line at most; return how often the handler ran."""
    records = served.since(mark)
    calls = [record for record in records if "the handler runs" in record.message]
    assert len(records) - len(calls) <= 1
    return len(calls)


@PORTS
@pytest.mark.parametrize("first", list(BEGINNINGS))
def test_handler_is_not_called_without_a_handshake(served: Site, port: int, first: str) -> None:
    mark = served.mark()
    answer = served.plain(port, BEGINNINGS[first])
    for secret in (b"greeting", b"done", b"a page"):
        assert secret not in answer
    if BEGINNINGS[first] in HTTP and b"HEAD" not in BEGINNINGS[first]:
        assert b"plain HTTP to an SSL-enabled server port" in answer
    assert check_log(served, mark) == 0


@PORTS
@pytest.mark.parametrize("version", list(VERSIONS))
@pytest.mark.parametrize("sni", SNI)
@pytest.mark.parametrize("certificate", CERTIFICATES)
def test_handler_is_called_after_the_handshake_that_its_host_asks_for(
    served: Site, kind: str, port: int, certificate: str, sni: str | None, version: str
) -> None:
    rule, other = RULES[port]
    shaken_by = other if sni == "second" else rule
    accepted = certificate == "right" or shaken_by == "none" or (shaken_by == "optional" and certificate == "without")
    # The handler belongs to the first host: the second one's rule must ask for what that one asks for.
    runs = accepted and (rule in ("none", shaken_by))
    mark = served.mark()
    answer = served.talk(port, certificate, sni, version)
    if not runs:
        assert answer == b""
    elif kind == "declining":
        assert answer.startswith(b"HTTP/1.1 ")
    else:
        verified = "SUCCESS" if certificate == "right" and shaken_by != "none" else "NONE"
        assert answer.startswith(f"greeting 1 first {verified}\n".encode())
    assert check_log(served, mark) == runs
