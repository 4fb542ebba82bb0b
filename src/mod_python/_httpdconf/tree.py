"""The tree that stands for a configuration: directives, sections, groups, comments.

Each object can be shown in two ways: ``str(obj)`` is text for httpd, ``repr(obj)`` is Python
source that makes an equal object where ``from mod_python.httpdconf import *`` is in force.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Comment", "Container", "ContainerTag", "Directive", "Node", "Section", "Setting"]

# Columns by which members of a section, in httpd's text, and of a call, in Python's, are indented.
_TEXT_STEP = 2
_SOURCE_STEP = 4


class Node:
    """Anything that can stand in a tree.

    Attributes:
        indent: Columns to the left of it. A container sets it for the time of rendering.
    """

    indent: int = 0

    @property
    def _margin(self) -> str:
        return " " * self.indent


class Directive(Node):
    """One line: a name and its value.

    Args:
        name: The directive's name.
        val: Its value, put in as it is; quoting is up to the caller (see `quote_if_space`).
        flipslash: Turn backslashes into slashes, for paths that were written on Windows.
    """

    def __init__(self, name: str, val: object, flipslash: bool | int = 1) -> None:
        self.name = name
        self.val = val
        self.flipslash = flipslash

    def __str__(self) -> str:
        text = f"{self._margin}{self.name} {self.val}\n"
        return text.replace("\\", "/") if self.flipslash else text

    def __repr__(self) -> str:
        if type(self) is Directive and not self.flipslash:
            return f"{self._margin}Directive({self.name!r}, {self.val!r}, flipslash=0)"
        return f"{self._margin}{self.name}({self.val!r})"


class Comment(Node):
    """Lines that httpd passes over.

    Args:
        text: The lines, without ``#``. An empty text renders as nothing.
    """

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def _lines(self) -> list[str]:
        return self.text.removesuffix("\n").split("\n") if self.text else []

    def __str__(self) -> str:
        # A backslash at the end would make the next line part of the comment.
        lines = (f"{line} " if line.endswith("\\") else line for line in self._lines)
        return "".join(f"{self._margin}# {line}\n" for line in lines)

    def __repr__(self) -> str:
        lines = [repr(f"{line}\n") for line in self._lines] or ["''"]
        return f"{self._margin}Comment(" + f"\n{self._margin}        ".join(lines) + ")"


class _Group(Node):
    """What has members."""

    def __init__(self, members: Iterable[Node]) -> None:
        self.args: list[Node] = []
        for member in members:
            self.append(member)

    def append(self, value: Node) -> None:
        """Add a member at the end.

        Raises:
            TypeError: It is no `Directive`, `Container`, `ContainerTag` or `Comment`.
        """
        if not isinstance(value, Node):
            raise TypeError(
                f"a {type(value).__name__} cannot stand in a configuration: "
                "append a Directive, Container, ContainerTag or Comment"
            )
        self.args.append(value)

    def _text(self, step: int) -> str:
        return "".join(str(member) for member in self._indented(step))

    def _source(self) -> str:
        return "".join(f"{member!r},\n" for member in self._indented(_SOURCE_STEP))

    def _indented(self, step: int) -> Iterator[Node]:
        for member in self.args:
            with _indentation(member, self.indent + step):
                yield member


class Container(_Group):
    """A group of lines without a tag of its own.

    Args:
        *args: The members.
        only_if: A Python expression, or None. It is evaluated each time the group is rendered, with the
            names of `mod_python.httpdconf`; if it is false, the group renders as nothing.
    """

    def __init__(self, *args: Node, only_if: str | None = None) -> None:
        super().__init__(args)
        self.only_if = only_if

    def __str__(self) -> str:
        if self.only_if and not _evaluate(self.only_if):
            return ""
        return self._text(0)

    def __repr__(self) -> str:
        condition = f"{self._margin}{' ' * _SOURCE_STEP}only_if={self.only_if!r})" if self.only_if else None
        return f"{self._margin}Container(\n{self._source()}{condition or f'{self._margin})'}"


class ContainerTag(_Group):
    """A section: ``<tag attr>``, its members, ``</tag>``.

    Args:
        tag: The section's name.
        attr: What it is about, such as a directory; put in as it is.
        args: The members.
        flipslash: Turn backslashes in the opening line into slashes.
    """

    def __init__(self, tag: str, attr: object, args: Iterable[Node], flipslash: bool | int = 1) -> None:
        super().__init__(args)
        self.tag = tag
        self.attr = attr
        self.flipslash = flipslash

    def __str__(self) -> str:
        opening = f"{self._margin}<{self.tag} {self.attr}>\n"
        if self.flipslash:
            opening = opening.replace("\\", "/")
        return f"{opening}{self._text(_TEXT_STEP)}{self._margin}</{self.tag}>\n"

    def __repr__(self) -> str:
        if type(self) is ContainerTag and not self.flipslash:
            first = f"ContainerTag({self.tag!r}, {self.attr!r}, flipslash=0, args=["
            return f"{self._margin}{first}\n{self._source()}{self._margin}])"
        return f"{self._margin}{self.tag}({self.attr!r},\n{self._source()}{self._margin})"


class Setting(Directive):
    """A directive that is called like its class; the base of the ready-made ones.

    Args:
        val: The value.
    """

    #: Whether backslashes in the value are meant as slashes.
    slashes = True

    def __init__(self, val: object) -> None:
        super().__init__(type(self).__name__, val, self.slashes)


class Section(ContainerTag):
    """A section that is called like its class; the base of the ready-made ones.

    Args:
        attr: What it is about.
        *args: The members.
    """

    #: Whether backslashes in the opening line are meant as slashes.
    slashes = True

    def __init__(self, attr: object, *args: Node) -> None:
        super().__init__(type(self).__name__, attr, args, self.slashes)


@contextmanager
def _indentation(node: Node, columns: int) -> Iterator[None]:
    before = node.indent
    node.indent = columns
    try:
        yield
    finally:
        node.indent = before


def _evaluate(expression: str) -> Any:
    from mod_python import httpdconf

    # The configuration program is the user's own, and so is the expression in it.
    return eval(expression, vars(httpdconf))
