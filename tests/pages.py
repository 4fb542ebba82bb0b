"""Reading the manual: the fenced code blocks of a Markdown page, section by section.

The manual is written so that a test can run it:

- a ``python`` block is a program; the text before it names its file, as in ``... `echo.py`:``;
- a ``text`` block whose file the text before it names is that file;
- an ``apache`` block is configuration: a file if the text before it names one, else the
  configuration of a server that is started with the files named so far;
- an ``apache refused`` block must keep httpd from starting, with the message of the
  ``text`` block that follows;
- a ``console`` block has commands after ``$`` and what they print; in it, ``...``
  stands for anything;
- a ``text log`` block has lines that the error log must contain;
- a ``text diagram`` block is a picture.

Any other block is a fault of the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "Section", "commands", "matches", "sections"]

_FENCE = re.compile(r"^(?P<ticks>`{3,})(?P<info>[^`]*)$")
_HEADING = re.compile(r"^#{1,4} +(?P<title>.+)$")
_FILE = re.compile(r"`(?P<name>[\w./-]+\.\w+)`:?$")
#: Where the files of a server are, in the pages.
SITE = "/srv/app/"

_INDENTED = re.compile(r"^ {4}\S")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced code block.

    Attributes:
        language: The first word of its info string.
        words: The other words.
        name: The file that the text before it names, or "".
        text: Its content, with a newline at the end.
        line: Number of the line it begins on.
    """

    language: str
    words: tuple[str, ...]
    name: str
    text: str
    line: int

    @property
    def kind(self) -> str:
        """The whole info string."""
        return " ".join((self.language, *self.words))


@dataclass(frozen=True, slots=True)
class Section:
    """What stands between two headings."""

    title: str
    blocks: tuple[Block, ...]


def sections(path: Path) -> list[Section]:
    """Split a page into sections.

    Args:
        path: The Markdown file.

    Returns:
        The sections that contain code blocks, in order.

    Raises:
        ValueError: A block is never closed, or code is indented rather than fenced, so
            that it would go unnoticed.
    """
    return [section for section in _sections(path) if section.blocks]


def _sections(path: Path) -> Iterator[Section]:
    title, blocks = path.name, list[Block]()
    lead, blank, in_list = "", True, False
    lines = iter(enumerate(path.read_text(encoding="utf-8").splitlines(), 1))
    for number, line in lines:
        fence, heading = _FENCE.match(line), _HEADING.match(line)
        if fence is not None:
            language, *words = fence["info"].split() or [""]
            content = []
            for _, inner in lines:
                if inner == fence["ticks"]:
                    break
                content.append(inner + "\n")
            else:
                raise ValueError(f"{path.name}:{number}: this code block is never closed")
            named = _FILE.search(lead)
            name = named["name"].removeprefix(SITE) if named else ""
            blocks.append(Block(language, tuple(words), name, "".join(content), number))
            lead = ""
        elif heading is not None:
            yield Section(title, tuple(blocks))
            title, blocks, lead = heading["title"], [], ""
        elif line.strip():
            in_list = line.startswith("- ") or (in_list and line.startswith(" "))
            if blank and not in_list and _INDENTED.match(line):
                raise ValueError(f"{path.name}:{number}: indented code; fence it and say what it is")
            lead = line
        blank = not line.strip()
    yield Section(title, tuple(blocks))


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Split a ``console`` block into pairs of command and expected output."""
    command, output = "", ""
    for line in text.splitlines(keepends=True):
        if line.startswith("$ "):
            if command:
                yield command, output
            command, output = line[2:].strip(), ""
        elif not command:
            raise ValueError(f"a console block begins with a command after '$', not with {line!r}")
        elif command.endswith("\\"):
            command = command[:-1] + line.strip()
        else:
            output += line
    yield command, output


def matches(expected: str, actual: str) -> bool:
    """Compare output; ``...`` in what is expected stands for anything, and a line has no whitespace at its end."""
    pattern = ".*".join(re.escape(part) for part in expected.rstrip().split("..."))
    return re.fullmatch(pattern, re.sub(r"[ \t]+$", "", actual, flags=re.MULTILINE).rstrip(), re.DOTALL) is not None
