"""A page and its generated code side by side, as HTML."""

from __future__ import annotations

from html import escape

from .scanner import lines_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .generate import Generated
    from .scanner import Scanned


def table(scanned: Scanned, generated: Generated) -> str:
    """Return a table with a row for each line.

    Args:
        scanned: the page.
        generated: its code.
    """
    rows = [
        f"<tr><td>{escape(place)}</td><td><pre>{escape(code)}</pre></td><td><pre>{escape(text)}</pre></td></tr>\n"
        for place, code, text in _rows(scanned, generated)
    ]
    head = "<tr><th>Line</th><th>Generated code</th><th>Page</th></tr>\n"
    return f'<table class="psp-code" border="1">\n{head}{"".join(rows)}</table>\n'


def _rows(scanned: Scanned, generated: Generated) -> Iterator[tuple[str, str, str]]:
    texts = [_printable(text) for text in scanned.texts]
    before = (0, 0)
    for code, (source, line) in zip(generated.lines, generated.origins, strict=True):
        if (source, line) == before:
            yield "", _printable(code)[0], ""
        else:
            place = str(line) if source == 0 else f"{scanned.files[source].rpartition('/')[2]}:{line}"
            yield place, _printable(code)[0], texts[source][line - 1]
        before = (source, line)
    # What makes no code at the end: a comment.
    last = max((line for source, line in generated.origins if source == 0), default=0)
    for number, text in enumerate(texts[0][last:], last + 1):
        yield str(number), "", text


def _printable(text: str) -> list[str]:
    """Lines that can be sent, whatever the encoding of the page was."""
    return lines_of(text.encode("utf-8", "backslashreplace").decode())
