"""Modules and what they import: as a graph for ``dot``, and as lines for a report."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .modules import Entry


def _quoted(text: str) -> str:
    """A string of the language: only quotes and backslashes mean something in it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _time(seconds: float) -> str:
    from time import localtime, strftime

    return strftime("%Y-%m-%d %H:%M:%S", localtime(seconds)) if seconds else "never"


def _describe(entry: Entry, verbose: bool) -> str:
    if not verbose:
        return _quoted(entry.file)
    lines = [
        entry.file,
        f"changed {_time(entry.mtime)}",
        f"loaded {_time(entry.ctime)}",
        f"asked for {_time(entry.atime)}",
        f"generation {entry.generation}, instance {entry.instance}",
        f"direct {entry.direct}, indirect {entry.indirect}",
    ]
    if entry.failed:
        lines.append(f"failed: {entry.failed}")
    # Between two lines stands an escape of the language, outside of the quoting.
    return '"' + "\\n".join([_quoted(line)[1:-1] for line in lines]) + '"'


def _with_children(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Records and those of what they import, at any depth, by label."""
    found: dict[str, Entry] = {}
    todo = list(entries)
    while todo:
        entry = todo.pop()
        if entry.label not in found:
            found[entry.label] = entry
            todo += entry.children
    return found


def render(entries: Iterable[Entry], verbose: bool) -> str:
    """Return modules and their imports as a ``digraph``.

    Args:
        entries: the importer's records; what they import is drawn with them.
        verbose: with times, generations and counters.

    Returns:
        the text, for the program ``dot``.
    """
    drawn = _with_children(entries)
    lines = ["digraph modules {", "    node [shape=box];"]
    lines += [f"    {_quoted(label)} [label={_describe(drawn[label], verbose)}];" for label in sorted(drawn)]
    for label in sorted(drawn):
        children = sorted([child.label for child in drawn[label].children])
        lines += [f"    {_quoted(label)} -> {_quoted(child)};" for child in children]
    return "\n".join([*lines, "}"]) + "\n"


def listing(entries: Iterable[Entry]) -> list[str]:
    """Return modules and what they import as lines of text, sorted by file."""
    lines = []
    for entry in sorted(_with_children(entries).values(), key=lambda entry: entry.file):
        children = ", ".join(sorted([child.file for child in entry.children])) or "nothing"
        lines.append(
            f"{entry.file}: loaded {_time(entry.ctime)}, changed {_time(entry.mtime)}, "
            f"instance {entry.instance}, generation {entry.generation}, imports {children}"
        )
    return lines
