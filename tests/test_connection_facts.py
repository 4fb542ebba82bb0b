"""What a connection tells of itself, and what it writes to the error log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mod_python.testing.errorlog import LEVELS
from tests.scripted import Scripted, receive_all, scripted


@pytest.fixture(scope="module")
def kit() -> Iterator[Scripted]:
    config = """
    Timeout 77
    PythonOption one 1
    PythonOption umlaut \xfc
    PythonDebug On
    """
    with scripted(config) as kit:
        yield kit


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def tls(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_names_of_types(kit: Scripted) -> None:
    body = "return [type(value).__name__ for value in (conn, conn.base_server, conn.notes, conn.get_options())]"
    assert kit.value(body) == ["mp_conn", "mp_server", "mp_table", "mp_table"]


def test_it_cannot_be_made_by_hand(kit: Scripted) -> None:
    body = """
    try:
        type(conn)()
    except TypeError as error:
        return str(error)
    """
    assert "mp_conn" in kit.value(body)


def test_addresses(kit: Scripted, tls: bool) -> None:
    with kit.open("conn.write(repr((conn.local_addr, conn.client_addr)).encode())", tls=tls) as sock:
        ours, theirs = sock.getsockname(), sock.getpeername()
        assert receive_all(sock).decode() == repr((theirs, ours))
    assert kit.value("return conn.local_ip, conn.client_ip", tls=tls) == ("127.0.0.1", "127.0.0.1")
    assert kit.value("return conn.useragent_addr == conn.client_addr, conn.useragent_ip") == (True, "127.0.0.1")
    assert kit.value("return conn.local_host, conn.remote_host, conn.remote_logname") == (None, None, None)


def test_old_names_warn(kit: Scripted) -> None:
    mark = kit.mark()
    assert kit.value("return conn.remote_addr == conn.client_addr, conn.remote_ip") == (True, "127.0.0.1")
    records = kit.since(mark)
    assert [record.level for record in records] == ["warn", "warn"]
    assert "conn.remote_addr is deprecated: use conn.client_addr" in records[0].message
    assert "conn.remote_ip is deprecated: use conn.client_ip" in records[1].message


def test_state_of_the_connection(kit: Scripted) -> None:
    body = "return conn.aborted, conn.keepalive, conn.keepalives, conn.double_reverse, conn.closed, conn.interpreter"
    assert kit.value(body) == (0, 0, 0, 0, False, "main_interpreter")
    assert isinstance(kit.value("return conn.id"), int)


def test_keepalive_can_be_set(kit: Scripted) -> None:
    body = """
    conn.keepalive = apache.AP_CONN_CLOSE
    result = [conn.keepalive]
    for value in ("1", None, 1.0, 3, -1):
        try:
            conn.keepalive = value
        except (TypeError, ValueError) as error:
            result.append(type(error).__name__)
    return result, conn.keepalive
    """
    assert kit.value(body) == ([1, "TypeError", "TypeError", "TypeError", "ValueError", "ValueError"], 1)


def test_other_attributes_cannot_be_set(kit: Scripted) -> None:
    body = """
    errors = []
    for name in ("base_server", "local_addr", "client_addr", "client_ip", "remote_host", "aborted", "keepalives", "id",
                 "notes", "hlist", "closed", "anything", "_anything"):
        try:
            setattr(conn, name, 1)
        except AttributeError:
            continue
        errors.append(name)
    return errors
    """
    assert kit.value(body) == []


def test_base_server(kit: Scripted, tls: bool) -> None:
    body = """
    server = conn.base_server
    return server is conn.base_server, server.server_hostname, server.is_virtual, server.timeout
    """
    # The kit makes a virtual host of a port with TLS.
    assert kit.value(body, tls=tls) == (True, "localhost", int(tls), 77.0)


def test_notes(kit: Scripted) -> None:
    body = """
    before = str(conn.notes), conn.notes is conn.notes
    conn.notes["name"] = "value"
    return before[0], conn.notes["name"], dict(conn.notes.items())
    """
    assert kit.value(body) == ("{}", "value", {"name": "value"})


def test_hlist(kit: Scripted) -> None:
    body = """
    hlist = conn.hlist
    return os.path.basename(hlist.handler), hlist.is_location, hlist.silent
    """
    assert kit.value(body) == ("handler.py", False, 0)


def test_options_and_configuration(kit: Scripted, tls: bool) -> None:
    assert kit.value("return dict(conn.get_options().items())", tls=tls) == {"one": "1", "umlaut": "\xc3\xbc"}
    body = "config = conn.get_config(); return config['PythonDebug'], config['PythonInterpreter']"
    assert kit.value(body, tls=tls) == ("1", "main_interpreter")


def test_repr(kit: Scripted) -> None:
    assert kit.value("return repr(conn) == '<mp_conn %d from %s:%d>' % (conn.id, *conn.client_addr)") is True


# ---- TLS


def test_facts_of_tls(kit: Scripted) -> None:
    names = ["HTTPS", "SSL_PROTOCOL", "SSL_CIPHER", "SSL_TLS_SNI", "SSL_CLIENT_S_DN", "NO_SUCH", ""]
    body = f"return conn.is_https(), [conn.ssl_var_lookup(name) for name in {names}]"
    secure, (https, protocol, cipher, name, client, *unknown) = kit.value(body, tls=True)
    assert (secure, https) == (1, "on")
    assert protocol.startswith("TLSv1.")
    assert cipher
    assert name == "localhost"
    assert client is None
    assert unknown == [None, None]


def test_no_facts_of_tls_without(kit: Scripted) -> None:
    assert kit.value("return conn.is_https(), conn.ssl_var_lookup('SSL_PROTOCOL')") == (0, None)


def test_names_of_tls_facts_are_checked(kit: Scripted) -> None:
    body = """
    errors = []
    for name in (None, 5, "\\u20ac", "a\\0b"):
        try:
            conn.ssl_var_lookup(name)
        except (TypeError, ValueError) as error:
            errors.append(type(error).__name__)
    return errors, conn.ssl_var_lookup(b"SSL_PROTOCOL") is not None
    """
    assert kit.value(body, tls=True) == (["TypeError", "TypeError", "TypeError", "ValueError"], True)


# ---- the error log


def test_every_level_is_logged_in_order(kit: Scripted) -> None:
    mark = kit.mark()
    body = """
    names = ["EMERG", "ALERT", "CRIT", "ERR", "WARNING", "NOTICE", "INFO", "DEBUG"]
    levels = [getattr(apache, "APLOG_" + name) for name in names]
    for level in levels:
        conn.log_error("by conn %d" % level, level)
    for level in levels:
        conn.base_server.log_error("by server %d" % level, level)
    for level in levels:
        apache.log_error("by apache %d" % level, level, conn.base_server)
    """
    assert kit.run(body) == b""
    records = [record for record in kit.since(mark, "debug") if "by " in record.message]
    expected = [
        (level, f"by {who} {number}")
        for who in ("conn", "server", "apache")
        for number, level in zip(range(8), LEVELS, strict=False)
    ]
    assert [(record.level, record.message[record.message.index("by ") :]) for record in records] == expected
    # A connection's messages name the client.
    assert all("[client 127.0.0.1:" in record.message for record in records[:8])


def test_the_level_of_a_message_is_error_unless_told(kit: Scripted) -> None:
    mark = kit.mark()
    kit.run("conn.log_error('plain')\nconn.log_error(None)\nconn.log_error(42, level=apache.APLOG_INFO)")
    records = kit.since(mark)
    assert [(r.level, r.message.rpartition("] ")[2]) for r in records] == [("error", "plain"), ("info", "42")]


@pytest.mark.parametrize(
    ("text", "logged"),
    [
        (r"'a\0b'", r"a\x00b"),
        (r"'f\xfcr'", r"f\xc3\xbcr"),
        (r"'\ud800'", r"\\ud800"),
        (r"b'bytes \xff'", r"bytes \\xff"),
        (r"'100 %s %d %n'", "100 %s %d %n"),
        (r"''", ""),
        (r"'\x1b[31m'", r"\x1b[31m"),
    ],
)
def test_any_text_is_one_harmless_line(kit: Scripted, text: str, logged: str) -> None:
    mark = kit.mark()
    assert kit.run(f"conn.log_error({text})\nconn.log_error('next')") == b""
    first, second = kit.since(mark)
    assert second.message.endswith("] next")
    # httpd escapes what is not printable ASCII; the message is all that follows the client.
    assert first.message.partition("] ")[2].replace("\\\\x00", "\\x00") == logged


def test_several_lines_are_several_entries(kit: Scripted) -> None:
    mark = kit.mark()
    assert kit.run(r"conn.log_error('one\ntwo')") == b""
    assert [record.message.rpartition("] ")[2] for record in kit.since(mark)] == ["one", "    two"]


def test_a_long_message_is_logged_in_full(kit: Scripted) -> None:
    mark = kit.mark()
    assert kit.run("conn.log_error('x' * 100_000)") == b""
    assert sum(record.message.count("x") for record in kit.since(mark)) == 100_000
