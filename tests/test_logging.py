"""The error log: levels, whose log, and text that tries to look like something else."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from mod_python.testing import Server
from mod_python.testing.errorlog import LEVELS, LogRecord
from tests.servers import running

HANDLERS = r"""
import sys

from mod_python import apache

FORGED = "[Sat Jan 01 00:00:00.000000 2000] [core:crit] [pid 1:tid 1] forged"

TEXTS = {
    "newline": "one\n" + FORGED,
    "crlf": "one\r\n" + FORGED,
    "cr": "one\r" + FORGED,
    "escape": "red \x1b[31m text \x07 \x08 \x7f",
    "controls": "".join(map(chr, range(1, 32))),
    "nul": "before\0after",
    "latin": "caf\xe9",
    "unicode": "\u20ac \U0001f600",
    "separators": "a\x85b\u2028c\u2029d",
    "surrogate": "bad \udcff \ud800",
    "percent": "100%s %n %d",
    "backslash": "a\\nb",
    "empty": "",
    "bytes": b"raw \xff bytes",
    "object": [1, "two"],
}

def sinks(req):
    return {
        "req": req.log_error,
        "conn": req.connection.log_error,
        "server": req.server.log_error,
        "apache": apache.log_error,
    }

def levels(req):
    for name, log in sinks(req).items():
        for level in range(8):
            log("level-%s-%d" % (name, level), level)
    for level in range(8):
        apache.log_error("level-with-%d" % level, level, req.server)
    return apache.OK

def defaults(req):
    for name, log in sinks(req).items():
        log("default-" + name)
        log(None)
        log("keyword-" + name, level=apache.APLOG_WARNING)
    apache.log_error("keywords", level=apache.APLOG_NOTICE, server=apache.main_server)
    for wrong in (1, "server", req):
        try:
            apache.log_error("wrong", apache.APLOG_ERR, wrong)
        except TypeError:
            continue
        raise AssertionError
    return apache.OK

def texts(req):
    name = req.args
    for sink, log in sinks(req).items():
        log("begin-%s-%s" % (name, sink))
        log(TEXTS[name])
        log("end-%s-%s" % (name, sink))
    return apache.OK

def long(req):
    for sink, log in sinks(req).items():
        log("begin-long-%s" % sink)
        log("x" * 50000 + "THE-END")
        log("\xff" * 5000 + "THE-END")
        log("end-long-%s" % sink)
    return apache.OK

def stderr(req):
    print("to stderr", file=sys.stderr)
    sys.stderr.write("no newline but flushed")
    sys.stderr.flush()
    sys.stderr.write("\n")
    print("to stdout is harmless")
    sys.stdout.flush()
    return apache.OK

def handler(req):
    if req.uri.startswith("/path"):
        req.log_error(f"path {req.uri}")
        req.write("fine")
        return apache.OK
    result = globals()[req.uri.rpartition("/")[2]](req)
    req.write("fine")
    return result
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    config = """
    SetHandler mod_python
    PythonHandler ${SITE}/handlers.py
    <VirtualHost 127.0.0.1:${PORT2}>
        ServerName quiet.example
        LogLevel error
    </VirtualHost>
    """
    with running(config, files={"handlers.py": HANDLERS}, listen=2) as server:
        yield server


SINKS = ("req", "conn", "server", "apache")


def between(server: Server, begin: str, end: str) -> list[LogRecord]:
    """Return the records between two messages."""
    server.wait_for_log(re.escape(end))
    records = server.log_records()
    first = next(n for n, record in enumerate(records) if record.message.endswith(begin))
    last = next(n for n, record in enumerate(records) if record.message.endswith(end))
    return records[first + 1 : last]


def test_row_8_1_levels(server: Server) -> None:
    before = len(server.log_records())
    assert server.get("/levels").text == "fine"
    found = [record for record in server.log_records()[before:] if "level-" in record.message]
    names = [f"level-{name}-{level}" for name in (*SINKS, "with") for level in range(8)]
    assert [record.message.rpartition(" ")[2] for record in found] == names
    assert [record.level for record in found] == list(LEVELS[:8]) * 5
    assert {record.module for record in found} == {"python"}


def test_log_level_of_a_virtual_host(server: Server) -> None:
    before = len(server.error_log)
    assert server.get("/levels", index=1).text == "fine"
    new = server.error_log[before:]
    for name in ("server", "with", "req", "conn"):
        assert f"level-{name}-3" in new
        assert f"level-{name}-4" not in new
    assert "level-apache-7" in new  # the main server's log


def test_row_8_2_defaults(server: Server) -> None:
    assert server.get("/defaults").text == "fine"
    server.wait_for_log("keywords")
    found = {record.message.rpartition(" ")[2]: record for record in server.log_records()}
    for name in SINKS:
        assert found[f"default-{name}"].level == "error"
        assert found[f"keyword-{name}"].level == "warn"
    assert found["keywords"].level == "notice"
    assert "None" not in found
    assert "client 127.0.0.1" in found["default-req"].message
    assert "client 127.0.0.1" in found["default-conn"].message


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("newline", None),
        ("crlf", None),
        ("cr", None),
        ("escape", "red \\x1b[31m text \\x07 \\b \\x7f"),
        ("controls", None),
        ("nul", "before\\\\x00after"),
        ("latin", "caf\\xc3\\xa9"),
        ("unicode", "\\xe2\\x82\\xac \\xf0\\x9f\\x98\\x80"),
        ("separators", None),
        ("surrogate", "bad \\\\udcff \\\\ud800"),
        ("percent", "100%s %n %d"),
        ("backslash", "a\\\\nb"),
        ("empty", ""),
        ("bytes", None),
        ("object", "[1, 'two']"),
    ],
)
def test_row_8_4_text(server: Server, name: str, expected: str | None) -> None:
    assert server.get(f"/texts?{name}").text == "fine"
    for sink in SINKS:
        records = between(server, f"begin-{name}-{sink}", f"end-{name}-{sink}")
        assert records
        for record in records:
            assert (record.module, record.level) == ("python", "error"), record.line
            assert re.fullmatch(r"[\t\x20-\x7e]*", record.line), record.line
            assert not record.line.startswith("[Sat Jan")
        texts = [re.sub(r"^\[client [^]]*\] ", "", record.message) for record in records]
        assert all(text.startswith("    ") for text in texts[1:]), texts
        if expected is not None:
            assert len(records) == 1
            assert texts == [expected]


def test_path_of_a_request_cannot_forge_an_entry(server: Server) -> None:
    """A path may have line ends; what follows one is indented, as all that continues an entry."""
    assert server.get("/path%0aforged-path").text == "fine"
    record = server.wait_for_log("forged-path")
    assert re.search(r"\]     forged-path$", server.log_records()[-1].line), record


def test_long_text(server: Server) -> None:
    assert server.get("/long").text == "fine"
    for sink in ("req", "server", "apache"):  # a connection cuts it off, as httpd does
        records = between(server, f"begin-long-{sink}", f"end-long-{sink}")
        text = "".join(re.sub(r"^(\[client [^]]*\] )? *", "", record.message) for record in records)
        assert text.count("x" * 1000) >= 49
        assert text.count("THE-END") == 2, (sink, len(records))
        assert all(len(record.line) < 8192 for record in records)
        assert all((record.module, record.level) == ("python", "error") for record in records)


def test_row_8_3_stderr(server: Server) -> None:
    assert server.get("/stderr").text == "fine"
    server.wait_for_log("to stderr$")
    server.wait_for_log("no newline but flushed$")
