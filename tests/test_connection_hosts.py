"""Directives for connections belong to the first virtual host of an address, by httpd's own order."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator

import pytest

from mod_python.httpd.errors import HttpdError
from mod_python.httpd.find import find_httpd
from mod_python.testing import Server
from tests.scripted import TIMEOUT, receive_all
from tests.servers import running

HANDLERS = """
from mod_python import apache

def connectionhandler(conn):
    conn.log_error("ran PythonConnectionHandler", apache.APLOG_NOTICE)
    return apache.DECLINED

def preconnectionhandler(conn):
    conn.log_error("ran PythonPreConnectionHandler", apache.APLOG_NOTICE)
    return apache.OK

def inputfilter(filt):
    filt.connection.log_error("ran PythonConnectionInputFilter", apache.APLOG_NOTICE)
    filt.pass_on()

def outputfilter(filt):
    filt.connection.log_error("ran PythonConnectionOutputFilter", apache.APLOG_NOTICE)
    filt.pass_on()

def handler(req):
    req.write("a page")
    return apache.OK
"""
FILES = {"h.py": HANDLERS}
DIRECTIVES = [
    "PythonConnectionHandler",
    "PythonPreConnectionHandler",
    "PythonConnectionInputFilter",
    "PythonConnectionOutputFilter",
]
PAGE = "<Location />\nSetHandler mod_python\nPythonHandler ${SITE}/h.py\n</Location>\n"

#: The addresses of the first host and of the second, which both cover 127.0.0.1:PORT.
ADDRESSES = {
    "any": ("*:PORT", "*:PORT"),
    "default": ("_default_:PORT", "_default_:PORT"),
    "number": ("127.0.0.1:PORT", "127.0.0.1:PORT"),
    "any and default": ("*:PORT", "_default_:PORT"),
    "any port": ("*", "*"),
    "number before any": ("127.0.0.1:PORT", "*:PORT"),
    "any behind number": ("*:PORT", "127.0.0.1:PORT"),
    "two of the first": ("127.0.0.2:PORT 127.0.0.1:PORT", "127.0.0.1:PORT"),
    "two of the second": ("127.0.0.1:PORT", "127.0.0.2:PORT 127.0.0.1:PORT"),
}
#: Where the second host gets the connections.
SECOND_WINS = ["any behind number"]


def host(name: str, addresses: str, *lines: str, port: str = "${PORT}") -> str:
    """Return a virtual host."""
    body = "".join(f"    {line}\n" for line in lines)
    addresses = re.sub(r"(?<!{)\bPORT\b", lambda _: port, addresses)
    return f"<VirtualHost {addresses}>\n    ServerName {name}\n{body}</VirtualHost>\n"


def directive(name: str) -> str:
    """Return a directive with its handler."""
    return f"{name} ${{SITE}}/h.py"


def talk(server: Server, index: int = 0, address: str = "127.0.0.1") -> bytes:
    """Ask for a page."""
    with socket.create_connection((address, server.ports[index]), TIMEOUT) as sock:
        with contextlib.suppress(OSError):
            sock.sendall(b"GET / HTTP/1.0\r\nHost: second\r\n\r\n")
        return receive_all(sock)


def refusal(config: str) -> str:
    """Start a server that must not start; return what it says."""
    with pytest.raises(HttpdError) as failure, Server(config, files=FILES):
        pass
    return str(failure.value)


def warnings(server: Server) -> list[str]:
    """Return the warnings of mod_python."""
    return [record.message for record in server.log_records("warn") if record.module == "python"]


@pytest.fixture(scope="module", params=DIRECTIVES)
def every(request: pytest.FixtureRequest) -> Iterator[tuple[str, Server]]:
    """A directive, and a server with a port for each of `ADDRESSES`, in the host that gets the connections."""
    name = str(request.param)
    config = PAGE
    for index, (kind, addresses) in enumerate(ADDRESSES.items()):
        if kind == "any port":  # it would be the host of all the others
            continue
        port = f"${{PORT{index + 1}}}" if index else "${PORT}"
        first = [] if kind in SECOND_WINS else [directive(name)]
        second = [directive(name)] if kind in SECOND_WINS else []
        config += host("first", addresses[0], *first, port=port) + host("second", addresses[1], *second, port=port)
    with running(config, files=FILES, listen=len(ADDRESSES)) as server:
        yield name, server


@pytest.mark.parametrize("kind", [kind for kind in ADDRESSES if kind != "any port"])
def test_directive_of_the_host_that_gets_the_connections_runs(every: tuple[str, Server], kind: str) -> None:
    name, server = every
    before = server.error_log.count(f"ran {name}")
    assert talk(server, list(ADDRESSES).index(kind)).endswith(b"a page")
    assert server.error_log.count(f"ran {name}") > before
    assert warnings(server) == []


@pytest.mark.parametrize("name", DIRECTIVES)
@pytest.mark.parametrize("both", [False, True], ids=["one", "both"])
@pytest.mark.parametrize("kind", list(ADDRESSES))
def test_directive_of_a_host_that_gets_no_connections_is_refused(name: str, kind: str, both: bool) -> None:
    addresses = ADDRESSES[kind]
    second_wins = kind in SECOND_WINS
    lines = [directive(name)]
    config = host("first.example", addresses[0], *(lines if both or second_wins else []))
    config += host("second.example", addresses[1], *(lines if both or not second_wins else []))
    said = refusal(config)
    loser, winner = ("first", "second") if second_wins else ("second", "first")
    assert re.search(
        rf"{name} in the virtual host {loser}\.example \(\S+:\d+\) can never run: all connections to \S+ belong to "
        rf"the virtual host {winner}\.example \(\S+:\d+\)",
        said,
    )
    assert said.count("can never run") == 1


@pytest.mark.parametrize("name", DIRECTIVES)
def test_directive_without_effect_on_one_of_its_addresses_is_a_warning(name: str) -> None:
    config = PAGE + host("first", "*:PORT") + host("second", "*:PORT *:${PORT2}", directive(name))
    with running(config, files=FILES, listen=2) as server:
        (warning,) = warnings(server)
        assert f"{name} in the virtual host second " in warning
        assert f"no effect on connections to *:{server.port}" in warning
        assert "belong to the virtual host first " in warning
        assert talk(server).endswith(b"a page")
        assert f"ran {name}" not in server.error_log
        assert talk(server, 1).endswith(b"a page")
        assert f"ran {name}" in server.error_log


@pytest.mark.parametrize("name", DIRECTIVES)
def test_directive_of_a_host_without_a_listener_is_a_warning(name: str) -> None:
    with running(PAGE + host("lonely", "127.0.0.1:1", directive(name)), files=FILES) as server:
        (warning,) = warnings(server)
        assert f"{name} in the virtual host lonely " in warning
        assert "no Listen has its address" in warning


@pytest.mark.parametrize("name", DIRECTIVES)
def test_directive_of_the_main_server_is_inherited_by_all_hosts(name: str) -> None:
    config = directive(name) + "\n" + PAGE + host("first", "*:PORT") + host("second", "*:PORT")
    with running(config, files=FILES) as server:
        assert talk(server).endswith(b"a page")
        assert f"ran {name}" in server.error_log
        assert warnings(server) == []


def test_ipv6_addresses_belong_to_their_first_host() -> None:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    name = DIRECTIVES[0]
    listen = "Listen [::1]:${PORT}\n" + PAGE
    first, second = host("first", "[::1]:PORT", directive(name)), host("second", "[::1]:PORT")
    with running(listen + first + second, files=FILES) as server:
        assert talk(server, address="::1").endswith(b"a page")
        assert f"ran {name}" in server.error_log
    said = refusal(listen + host("first", "[::1]:PORT") + host("second", "[::1]:PORT", directive(name)))
    assert "belong to the virtual host first " in said
    # Both answer: the number for one address, the star for the other.
    with running(
        listen + host("first", "[::1]:PORT") + host("second", "*:PORT", directive(name)), files=FILES
    ) as server:
        assert talk(server, address="::1").endswith(b"a page")
        assert f"ran {name}" not in server.error_log
        assert talk(server).endswith(b"a page")
        assert f"ran {name}" in server.error_log


# -- TLS settings and protocols of hosts that share an address ------------------------

TLS = ["SSLEngine on", "SSLCertificateFile ${TLS_CERT}", "SSLCertificateKeyFile ${TLS_KEY}"]
HANDLER = directive("PythonConnectionHandler")
CLIENTS = ["SSLCACertificateFile ${TLS_CERT}", "SSLVerifyClient require"]

#: Lines of the main server, the first host and the second -> what the warning names, or None.
SETTINGS: dict[str, tuple[list[str], list[str], list[str], str | None]] = {
    "the same": ([], [], [], None),
    "the same rules": ([], CLIENTS, CLIENTS, None),
    "rules of the main server": (CLIENTS, [], [], None),
    "rules of the main server, repeated": (CLIENTS, CLIENTS, [], None),
    "nobody is asked in the first": ([], ["SSLVerifyClient none"], CLIENTS, None),
    "weaker": ([], CLIENTS, [], "SSLVerifyClient"),
    "the main server's taken back": (CLIENTS, [], ["SSLVerifyClient none"], "SSLVerifyClient"),
    "another depth": ([], [*CLIENTS, "SSLVerifyDepth 1"], [*CLIENTS, "SSLVerifyDepth 5"], "SSLVerifyDepth"),
    "another authority": (
        [],
        CLIENTS,
        ["SSLCACertificateFile ${SITE}/other.pem", CLIENTS[1]],
        "SSLCACertificateFile",
    ),
    "other versions": ([], ["SSLProtocol TLSv1.3"], ["SSLProtocol TLSv1.2"], "SSLProtocol"),
    "other ciphers": ([], ["SSLCipherSuite HIGH"], [], "SSLCipherSuite"),
    "another order and proxy": ([], ["SSLHonorCipherOrder on", "SSLProxyEngine on"], [], None),
    "within IfModule": ([], ["<IfModule mod_ssl.c>", *CLIENTS, "</IfModule>"], CLIENTS, None),
    "in a section": ([], ["<Location /x>", "SSLVerifyClient require", "</Location>"], [], None),
}


@pytest.mark.parametrize("case", list(SETTINGS))
def test_warning_names_the_host_and_the_settings_that_differ(case: str) -> None:
    main, first, second, named = SETTINGS[case]
    config = "\n".join(main) + "\n" + host("first", "*:PORT", HANDLER, *TLS, *first)
    config += host("second", "*:PORT", *TLS, *second)
    with Server(tls=True) as pair:
        other = pair.certificate.certificate.read_text()
    with running(config, files={**FILES, "other.pem": other}, tls=True) as server:
        said = warnings(server)
        if named is None:
            assert said == []
        else:
            assert len(said) == 1
            assert "PythonConnectionHandler of the virtual host first " in said[0]
            assert "name the virtual host second " in said[0]
            assert named in said[0]


@pytest.mark.parametrize("where", ["first", "second", "main"])
def test_http2_for_a_connection_handler_is_a_warning(where: str) -> None:
    if not find_httpd().has_module("mod_http2"):
        pytest.skip("this httpd has no mod_http2")
    offer = "Protocols h2 http/1.1"
    config = (offer + "\n" if where == "main" else "") + "".join(
        host(name, "*:PORT", *TLS, *([HANDLER] if name == "first" else []), *([offer] if name == where else []))
        for name in ("first", "second")
    )
    with running(config, files=FILES, tls=True, modules=["mod_http2"]) as server:
        said = [warning for warning in warnings(server) if "HTTP/2" in warning]
        assert len(said) == 1
        assert f"the virtual host {'second' if where == 'second' else 'first'} " in said[0]
        assert "Protocols http/1.1" in said[0]


def test_http2_without_a_connection_handler_or_tls_is_no_warning() -> None:
    if not find_httpd().has_module("mod_http2"):
        pytest.skip("this httpd has no mod_http2")
    config = host("first", "*:PORT", *TLS, "Protocols h2 http/1.1")
    config += host("second", "*:${PORT2}", HANDLER, "Protocols h2 http/1.1", "SSLEngine off")
    with running(config, files=FILES, tls=True, listen=2, modules=["mod_http2"]) as server:
        assert warnings(server) == []
