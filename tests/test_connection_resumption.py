"""TLS sessions that are resumed, and ALPN, give no access that the handshake of the handler's host would not give."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator

import pytest

from tests.scripted import TIMEOUT
from tests.tls_site import KINDS, RULES, VERSIONS, Site, client_context, site


@pytest.fixture(scope="module", params=[kind for kind in KINDS if kind != "declining"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site("first", str(request.param), tmp_path_factory.mktemp("client")) as served:
        yield served


def talk(
    served: Site,
    context: ssl.SSLContext,
    rules: tuple[str, str],
    sni: str | None,
    session: ssl.SSLSession | None = None,
) -> tuple[bytes, ssl.SSLSession | None]:
    """Return the beginning of the answer, and the session."""
    port = served.server.ports[RULES.index(rules)]
    answer, kept = b"", None
    with (
        contextlib.suppress(ssl.SSLError, ConnectionError),
        socket.create_connection((served.server.host, port), TIMEOUT) as sock,
        context.wrap_socket(sock, server_hostname=sni, session=session) as tls,
    ):
        tls.sendall(b"one\n")
        with contextlib.suppress(ssl.SSLError, ConnectionError):
            answer = tls.recv(100)
        kept = tls.session
    return answer, kept


@pytest.mark.parametrize("version", list(VERSIONS))
@pytest.mark.parametrize("resumed_as", [None, "first", "alias", "second", "unknown"])
@pytest.mark.parametrize("begun_as", [None, "second", "unknown"])
@pytest.mark.parametrize("rules", [("require", "none"), ("require", "optional"), ("require", "require")])
def test_resumed_session_without_a_certificate_does_not_reach_the_handler(
    served: Site, rules: tuple[str, str], begun_as: str | None, resumed_as: str | None, version: str
) -> None:
    mark = served.mark()
    context = client_context(version)
    answer, session = talk(served, context, rules, begun_as)
    assert answer == b""
    if session is not None:
        answer, _ = talk(served, context, rules, resumed_as, session)
        assert answer == b""
    assert not [record for record in served.since(mark) if "the handler runs" in record.message]


@pytest.mark.parametrize("version", list(VERSIONS))
def test_resumed_session_with_a_certificate_reaches_the_handler(served: Site, version: str) -> None:
    context = client_context(version, served.server.certificate)
    answer, session = talk(served, context, ("require", "require"), "first")
    assert answer.startswith(b"greeting 1 first SUCCESS")
    answer, _ = talk(served, context, ("require", "require"), "first", session)
    assert answer.startswith(b"greeting 1 first SUCCESS")


@pytest.mark.parametrize("version", list(VERSIONS))
@pytest.mark.parametrize(
    "protocols", [["h2"], ["h2", "http/1.1"], ["http/1.1"], ["acme-tls/1"], ["imap"]], ids="+".join
)
@pytest.mark.parametrize("rules", RULES, ids="-".join)
@pytest.mark.parametrize("sni", ["first", "second"])
def test_alpn_changes_nothing(
    served: Site, rules: tuple[str, str], sni: str, protocols: list[str], version: str
) -> None:
    context = client_context(version)
    context.set_alpn_protocols(protocols)
    answer, _ = talk(served, context, rules, sni)
    rule, other = rules
    runs = (other if sni == "second" else rule) != "require" and (sni == "first" or rule in ("none", other))
    # httpd ends a handshake whose protocols it does not have.
    assert answer.startswith(b"greeting 1 first NONE") == (runs and "http/1.1" in protocols)
