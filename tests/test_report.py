"""Reports of exceptions: the log lines and the PythonDebug page."""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mod_python import apache
from mod_python._dispatch import importer, report
from mod_python._dispatch.dispatcher import Dispatcher
from mod_python._dispatch.handler import Handler
from mod_python._dispatch.lines import INDENT, MAX_LINE, log_lines, message_lines
from tests.policy_fakes import FakeRequest


class Runner:
    """Runs the body of a handler and keeps the request."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.importer = importer.Importer(interval=0.0, log=lambda text, level: None)
        self.number = 0

    def run(
        self, source: str, req: Any = None, phase: str = "PythonHandler", interpreter: str = "www.example.com"
    ) -> tuple[int, Any]:
        self.number += 1
        name = f"page{self.number}"
        (self.root / f"{name}.py").write_text("from mod_python import apache\n" + source)
        req = FakeRequest() if req is None else req
        handler = Handler(f"{name}::handler", f"{self.root}/")
        return Dispatcher(interpreter, self.importer).request(req, phase, (handler,)), req


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    runner = Runner(tmp_path)
    yield runner
    runner.importer.close()


def escaped_size(line: str) -> int:
    """How long a line is after ap_escape_errorlog_item()."""
    size = 0
    for byte in line.encode("utf-8"):
        size += 2 if byte == 0x5C else 1 if 0x20 <= byte < 0x7F else 4
    return size


# -- lines ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one", ["one"]),
        ("", [""]),
        ("one\ntwo\r\n\nthree", ["one", "two", "", "three"]),
        ("nul\0here", ["nul\\x00here"]),
        ("lone \ud800 surrogate", ["lone \\ud800 surrogate"]),
        ("grün \u2028 still one line", ["grün \u2028 still one line"]),
    ],
)
def test_lines(text: str, lines: list[str]) -> None:
    assert list(log_lines(text)) == lines


@pytest.mark.parametrize("char", ["x", "\\", "\x1b", "ü", "\U0001f600"])
def test_long_lines_are_split_where_httpd_would_cut_them(char: str) -> None:
    text = char * 20_000
    lines = list(log_lines(text))
    assert "".join(lines).replace(" ", "") == text
    assert all(line.startswith(INDENT + char) for line in lines[1:])
    assert max(map(escaped_size, lines)) <= MAX_LINE
    assert min(map(escaped_size, lines[:-1])) > MAX_LINE - 16


def test_only_the_first_line_of_a_message_begins_at_the_left() -> None:
    assert list(message_lines("one\r\ntwo\n\nthree")) == ["one", "    two", "    ", "    three"]
    lines = list(message_lines("a" * MAX_LINE + "forged"))
    assert lines[1].startswith(INDENT)


# -- what is logged ---------------------------------------------------------------------


def test_a_report_has_the_facts_and_the_traceback(runner: Runner) -> None:
    status, req = runner.run("def inner():\n    return {}['key']\ndef handler(req):\n    return inner()\n")
    file = f"{runner.root}/page1.py"
    assert status == 500
    lines = [line for level, line in req.lines if level == apache.APLOG_ERR]
    assert lines[0] == (
        f"mod_python (pid={os.getpid()}, interpreter='www.example.com', "
        "phase='PythonHandler', handler='page1::handler'): Application error"
    )
    assert lines[1:8] == [
        "ServerName: 'www.example.com'",
        "DocumentRoot: '/srv'",
        "URI: '/app/page'",
        "Location: None",
        f"Directory: '{runner.root}/'",
        "Filename: '/srv/app/page'",
        "PathInfo: ''",
    ]
    assert lines[8:11] == [
        "Traceback (most recent call last):",
        f'  File "{file}", line 5, in handler',
        "    return inner()",
    ]
    assert lines[-1] == "KeyError: 'key'"
    assert len(req.lines) == len(lines)
    assert req.body == b""


def test_text_cannot_forge_log_lines(runner: Runner) -> None:
    """Every line is an entry of its own, with httpd's prefix; no line end gets through."""
    _, req = runner.run("def handler(req):\n    raise ValueError('a\\n[error] forged\\r\\nmore\\0')\n")
    assert [line for _, line in req.lines[-3:]] == ["ValueError: a", "    [error] forged", "    more\\x00"]


def test_notes_of_an_exception_cannot_forge_log_lines(runner: Runner) -> None:
    source = "def handler(req):\n    exc = ValueError('a')\n    exc.add_note('in b\\n[error] forged')\n    raise exc\n"
    _, req = runner.run(source)
    assert [line for _, line in req.lines[-3:]] == ["ValueError: a", "in b", "    [error] forged"]


def test_frames_of_the_dispatcher_are_left_out(runner: Runner) -> None:
    (runner.root / "broken.py").write_text("import no_such_module_anywhere\n")
    (runner.root / "wrong.py").write_text("def (\n")
    sources = [
        "def handler(req):\n    import broken\n",
        "import broken\n",
        "import wrong\ndef handler(req):\n    pass\n",
        "def handler(req):\n    try:\n        import broken\n    except ImportError:\n        raise KeyError\n",
        "def handler(req):\n    raise ExceptionGroup('group', [ImportError('a'), ValueError('b')])\n",
        "def handler():\n    return 0\n",
        "handler = None\n",
        "def handler(req):\n    return 'x'\n",
        "def handler(req):\n    return apache.import_module('/no/such/file.py')\n",
    ]
    for source in sources:
        status, req = runner.run(source)
        assert status == 500
        text = req.text()
        assert "/_dispatch/" not in text
        assert "<frozen" not in text
        assert "Error" in text.splitlines()[-1] or "ExceptionGroup" in text
    # The frames that matter are there.
    _, req = runner.run(sources[1])
    text = req.text()
    assert f'File "{runner.root}/broken.py", line 1, in <module>' in text
    assert text.index("page10.py") < text.index("broken.py")


def test_a_fault_of_the_importer_itself_keeps_its_frames(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer, "_search", None)
    _, req = runner.run("def handler(req):\n    pass\n")
    assert "in locate_handler" in req.text()


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "MemoryError"])
def test_no_exception_ends_the_child(runner: Runner, name: str) -> None:
    status, req = runner.run(f"def handler(req):\n    raise {name}\n")
    assert status == 500
    assert req.text().endswith(name)


def test_endless_recursion(runner: Runner) -> None:
    status, req = runner.run("def handler(req):\n    return handler(req)\n")
    assert status == 500
    assert "RecursionError" in req.text()
    assert len(req.lines) < 100  # repeated frames are counted, not listed
    status, req = runner.run("def one(req):\n    return two(req)\ndef two(req):\n    return one(req)\nhandler = one\n")
    assert status == 500
    assert "RecursionError" in req.text()


def test_a_huge_message_is_cut_in_the_middle(runner: Runner) -> None:
    _, req = runner.run("def handler(req):\n    raise ValueError('A' * 5_000_000 + 'END')\n")
    text = req.text()
    assert len(text) < report.MAX_REPORT + 5000
    assert "characters left out" in text
    assert text.endswith("AEND")


def test_an_exception_that_cannot_be_shown(runner: Runner) -> None:
    status, req = runner.run(
        "class Odd(Exception):\n    def __str__(self):\n        raise RuntimeError\ndef handler(req):\n    raise Odd\n"
    )
    assert status == 500
    assert "Odd" in req.text()


def test_when_the_report_fails_stderr_gets_it(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(FakeRequest):
        def log_error(self, message: str, level: int = apache.APLOG_ERR) -> None:
            raise apache.DetachedError("the request is over")

    stderr = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stderr)
    status, _ = runner.run("def handler(req):\n    raise KeyError('original')\n", Broken(debug=True))
    assert status == 500
    assert "KeyError: 'original'" in stderr.getvalue()
    assert "DetachedError: the request is over" in stderr.getvalue()
    monkeypatch.setattr(sys, "stderr", None)
    assert runner.run("def handler(req):\n    raise KeyError\n", Broken())[0] == 500


def test_reports_of_two_threads_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "PATIENCE", 60)
    lines: list[str] = []
    turn = threading.Barrier(2)

    def log(line: str, level: int) -> None:
        lines.append(line)

    def work(name: str) -> None:
        turn.wait(60)
        for number in range(50):
            report.emit(log, [f"{name} {number} {part}" for part in range(20)], apache.APLOG_ERR)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines) == 2000
    for start in range(0, 2000, 20):
        assert len({line.rsplit(" ", 1)[0] for line in lines[start : start + 20]}) == 1


# -- clients that have gone ----------------------------------------------------------------


@pytest.mark.parametrize(
    "raised",
    [
        "apache.ConnectionClosed('gone')",
        "apache.IncompleteRead(b'', 5)",
        "OSError('Write failed, client closed connection.')",
        "OSError('Flush failed, client closed connection.')",
    ],
)
def test_a_client_that_has_gone_is_one_debug_line(runner: Runner, raised: str) -> None:
    status, req = runner.run(f"def handler(req):\n    raise {raised}\n", FakeRequest(debug=True))
    assert status == apache.DONE
    assert [level for level, _ in req.lines] == [apache.APLOG_DEBUG]
    assert (req.body, req.status) == (b"", 200)


def test_a_client_that_is_too_slow(runner: Runner) -> None:
    status, req = runner.run("def handler(req):\n    raise apache.ConnectionTimeout('60 s')\n")
    assert status == 408
    assert [level for level, _ in req.lines] == [apache.APLOG_INFO]


def test_other_os_errors_are_errors(runner: Runner) -> None:
    status, req = runner.run("def handler(req):\n    open('/no/such/file')\n")
    assert status == 500
    assert "FileNotFoundError" in req.text()


# -- PythonDebug --------------------------------------------------------------------------


def test_debug_page(runner: Runner) -> None:
    req = FakeRequest(debug=True)
    req.uri = "/<script>alert('1')</script>"
    status, req = runner.run("def handler(req):\n    raise ValueError('<b>\"&\\ud800')\n", req)
    assert status == apache.DONE
    assert req.status == 500
    assert req.content_type.startswith("text/html")
    assert "Content-Length" not in req.headers_out
    page = req.body.decode("utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert page.rstrip().endswith("</html>")
    assert "<script>" not in page
    assert "<b>" not in page
    assert "&lt;b&gt;&quot;&amp;\\ud800" in page
    assert f"pid={os.getpid()}" in page
    assert "Traceback (most recent call last)" in page
    assert "://" not in page  # nothing is fetched from elsewhere
    assert "Traceback" in req.text()  # logged as well


def test_no_page_once_the_response_has_begun(runner: Runner) -> None:
    req = FakeRequest(debug=True)
    req.bytes_sent = 10
    assert runner.run("def handler(req):\n    raise ValueError\n", req)[0] == 500
    assert req.body == b""


@pytest.mark.parametrize("phase", ["PythonLogHandler", "PythonCleanupHandler"])
def test_no_page_after_the_response(runner: Runner, phase: str) -> None:
    status, req = runner.run("def handler(req):\n    raise ValueError\n", FakeRequest(debug=True), phase)
    assert status == 500
    assert req.body == b""


def test_a_page_that_cannot_be_sent(runner: Runner) -> None:
    class Gone(FakeRequest):
        def write(self, data: bytes) -> None:
            raise OSError("Write failed, client closed connection.")

    status, req = runner.run("def handler(req):\n    raise ValueError\n", Gone(debug=True))
    assert status == apache.DONE
    assert req.lines[-1][0] == apache.APLOG_DEBUG


# -- extension modules that want the main interpreter ------------------------------------------


@pytest.mark.parametrize(
    "raised",
    [
        "ImportError('module _x does not support loading in subinterpreters')",
        "ImportError('Interpreter change detected - this module can only be loaded into one interpreter per process.')",
        "ImportError('cannot load module more than once per process')",
        "ImportError('PyO3 modules do not yet support subinterpreters, see https://github.com/PyO3/pyo3/issues/576')",
        "RuntimeError('CPU dispatcher tracer already initlized')",
    ],
)
def test_the_remedy_for_modules_of_one_interpreter(runner: Runner, raised: str) -> None:
    source = f"try:\n    raise {raised}\nexcept Exception as exc:\n    raise ImportError('x') from exc\n"
    _, req = runner.run(source)
    last = req.text().splitlines()[-1]
    assert "'PythonInterpreter main_interpreter'" in last
    _, req = runner.run(source, interpreter="main_interpreter")
    assert "PythonInterpreter" not in req.text()


def test_no_remedy_for_other_import_errors(runner: Runner) -> None:
    _, req = runner.run("import no_such_module_anywhere\n")
    assert "PythonInterpreter" not in req.text()


# -- for which clients ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (None, True),
        ("", True),
        ("*/*", True),
        ("text/*", True),
        ("text/html,application/xhtml+xml,*/*;q=0.8", True),
        ("TEXT/HTML;q=0.1", True),
        ("text/plain", False),
        ("application/json", False),
        ("text/html;q=0, */*", False),
        ("text/html; q=0.000", False),
        ("*/*;q=0", False),
        ("text/plain, */*;q=0.1", True),
        ("nonsense", False),
    ],
)
def test_accept(runner: Runner, accept: str | None, html: bool) -> None:
    req: Any = FakeRequest(debug=True)
    req.headers_in = apache.table({} if accept is None else {"Accept": accept})
    status, req = runner.run("def handler(req):\n    raise ValueError('<x>')\n", req)
    assert (status, req.status) == (apache.DONE, 500)
    assert req.content_type.startswith("text/html" if html else "text/plain")
    text = req.body.decode()
    assert ("<!DOCTYPE html>" in text) is html
    assert ("ValueError: &lt;x&gt;" if html else "ValueError: <x>") in text
    assert "PythonDebug is On" in text
    assert req.headers_out["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("raised", "heading"),
    [
        ("raise KeyError('first\\nsecond: line')", "KeyError: &#x27;first\\nsecond: line&#x27;"),
        ("raise ValueError('one\\nsecond: line')", "ValueError: one"),
        ("raise ValueError", "ValueError"),
        ("exec('def (')", "SyntaxError: "),
        ("pass", "TypeError: handler &#x27;page"),
        ("try:\n        1/0\n    except ArithmeticError:\n        raise KeyError('k')", "KeyError: &#x27;k&#x27;"),
        ("raise ValueError('x' * 1000)", "ValueError: " + "x" * 288 + "</h1>"),
    ],
)
def test_heading(runner: Runner, raised: str, heading: str) -> None:
    _, req = runner.run(f"def handler(req):\n    {raised}\n", FakeRequest(debug=True))
    assert f"<h1>{heading}" in req.body.decode()


def test_line_ends_in_a_message_make_no_line_of_a_report() -> None:
    forged = "no such name: x\nmod_python (pid=1): Application error\nTraceback (most recent call last):"
    try:
        raise ValueError(forged) from KeyError("a\nb")
    except ValueError as exc:
        lines = report.traceback_text(exc).split("\n")
    assert lines[-3:] == [
        "ValueError: no such name: x",
        "    mod_python (pid=1): Application error",
        "    Traceback (most recent call last):",
    ]


def test_a_message_of_many_lines_is_cut() -> None:
    lines = report.traceback_text(ValueError("x\n" * 100_000)).split("\n")
    assert len(lines) == report.MAX_MESSAGE_LINES + 1
    assert lines[-1] == "    ... 99901 lines left out ..."
