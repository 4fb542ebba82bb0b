"""No configuration of the README, the manual or the examples lets anybody download the source of a handler.

Each is started, with the files of its page, and each file that holds code or configuration is asked for by all
names that it could have. What `mod_python.httpd.exposed` finds is nothing, too.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from mod_python.httpd.exposed import exposed_sources
from mod_python.httpd.process import check_config
from tests.pages import Block, Section, commands, sections
from tests.serving import TIMEOUT, Serve
from tests.test_docs import PAGES, ROOT, Reader

pytestmark = pytest.mark.heavy

_CODE = (".py", ".conf", ".psp", ".inc")
# What a page of PSP shows of itself is its text; this is never shown.
_MARKS = ("<%", "def ", "import ", "DocumentRoot ", "PythonHandler ")


def configurations(section: Section) -> Iterator[Block | str]:
    """The configurations of a section: blocks, and arguments of ``mod_python serve``."""
    for block in section.blocks:
        if block.kind == "apache" and not block.name:
            yield block
        elif block.kind == "console":
            for command, _ in commands(block.text):
                if command.startswith("mod_python serve ") and ".conf" in command:
                    yield command.removeprefix("mod_python serve ")


def _cases() -> Iterator[object]:
    for page in PAGES:
        before: list[Block] = []
        for section in sections(page):
            for number, configuration in enumerate(configurations(section), 1):
                name = f"{page.relative_to(ROOT)}: {section.title} {number}"
                yield pytest.param(configuration, [*before, *section.blocks], id=name)
            before += section.blocks


def answer(port: int, path: str) -> str:
    """Ask for a path, of whatever it is that listens there."""
    data = b""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
        sock.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        while piece := sock.recv(65536):
            data += piece
    return data.decode("utf-8", "replace")


def check(port: int, files: dict[str, str]) -> None:
    """See that no file with code in it comes back."""
    for name, text in files.items():
        if not name.endswith(_CODE):
            continue
        secret = [line.strip() for line in text.splitlines() if line.strip().startswith(_MARKS)]
        parts = Path(name).parts
        for start in range(len(parts)):
            found = answer(port, "/" + "/".join(parts[start:]))
            shown = [line for line in secret if line in found]
            assert not shown, f"{name} can be downloaded as /{'/'.join(parts[start:])}: {shown}"


@pytest.mark.parametrize(("configuration", "blocks"), list(_cases()))
def test_no_source_is_sent(configuration: Block | str, blocks: list[Block], public_path: Path, serve: Serve) -> None:
    text = configuration.text if isinstance(configuration, Block) else ""
    if "PythonConnectionHandler" in text and "DocumentRoot" not in text and "Alias" not in text:
        pytest.skip("speaks a protocol of its own, and serves no files")
    reader = Reader(public_path, serve, [block for block in blocks if block.name])
    try:
        if isinstance(configuration, Block):
            reader.start(configuration)
            assert reader.server is not None
            check(reader.server.port, reader.files)
            assert [str(exposed) for exposed in exposed_sources(check_config(reader.server.settings))] == []
        else:
            words = configuration.split()
            here = ROOT if words[0].startswith("examples/") else serve.directory
            files = dict(reader.files)
            if here == ROOT:
                directory = (ROOT / words[0]).parent
                files = {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*.*")}
            reader.run(words, here)
            check(reader.ports["8000"], files)
            assert reader.running is not None
            assert "can be downloaded" not in reader.running.output
            assert reader.running.interrupt() == 0
    finally:
        if reader.server is not None:
            reader.server.stop()


def test_there_are_configurations() -> None:
    assert len(list(_cases())) > 80
