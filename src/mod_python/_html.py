"""The HTML of the pages that mod_python itself makes: the report of an error, the test page.

One self-contained document: nothing is fetched from elsewhere, no scripts, readable
in light and in dark.  Imported when such a page is made, not before.
"""

from __future__ import annotations

__all__ = [
    "CONTENT_TYPE",
    "HEADERS",
    "accepts_html",
    "document",
    "error_page",
    "escape",
    "fragment",
    "table",
    "text_page",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

CONTENT_TYPE = "text/html; charset=utf-8"

#: Headers for these pages: they are nobody else's business, and run nothing.
HEADERS = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
    ("X-Content-Type-Options", "nosniff"),
)

# How much of an exception's text becomes a heading, in characters.
_HEADING = 300

# What the facts of a report begin with (report.py); the traceback comes after them.
_FACTS = ("ServerName: ", "DocumentRoot: ", "URI: ", "Location: ", "Directory: ", "Filename: ", "PathInfo: ")

_STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #fff; --text: #1c2430; --soft: #5d6878; --line: #dfe3ea;
  --accent: #b3261e; --code: #f1f3f6; --file: #5d6878;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14171c; --card: #1c2027; --text: #e4e8ee; --soft: #9aa5b4; --line: #313844;
    --accent: #ff8a80; --code: #12151a; --file: #8b97a8;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1.25rem 3rem; }
h1 { font-size: 1.5rem; line-height: 1.3; margin: .2rem 0 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 0; padding: .5rem 1rem; border-bottom: 1px solid var(--line); }
p.kind { margin: 0; color: var(--soft); }
p.error { color: var(--accent); font-weight: 600; }
p.hint { background: var(--card); border: 1px solid var(--line); border-left: .25rem solid var(--accent);
  border-radius: .4rem; padding: .7rem 1rem; margin: 0 0 1.25rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; margin: 0 0 1.25rem;
  overflow: hidden; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem 1rem; line-height: 1.5rem;
  border-top: 1px solid var(--line); }
tr:first-child th, tr:first-child td { border-top: 0; }
th { width: 14rem; font-size: 14px; font-weight: 500; color: var(--soft); overflow-wrap: anywhere; }
td { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, monospace; font-size: 13px; overflow-wrap: anywhere;
  white-space: pre-wrap; }
td.none { color: var(--soft); font-family: inherit; }
pre { margin: 0; padding: .9rem 1rem; overflow-x: auto; background: var(--code);
  font: 13px/1.55 ui-monospace, "DejaVu Sans Mono", Menlo, monospace; }
pre .file { color: var(--file); }
pre .last { color: var(--accent); font-weight: 600; }
a { color: inherit; }
footer { color: var(--soft); font-size: 13px; }
@media (max-width: 40rem) { th, td { display: block; width: auto; } td { border-top: 0; padding-top: 0; } }
"""


def escape(text: str) -> str:
    """Escape text for HTML, attribute values included."""
    return (
        text.replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        .replace('"', "&quot;")
        .replace("'", "&#x27;")
    )


def document(title: str, body: str) -> bytes:
    """Make a page.

    Args:
        title: its title, as text.
        body: its content, as HTML.

    Returns:
        a complete document, UTF-8.
    """
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n"
        f"</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    ).encode("utf-8", "backslashreplace")


def table(title: str, rows: Iterable[tuple[str, str | None]]) -> str:
    """Make a section with names and values.

    Args:
        title: heading, as text.
        rows: (name, value), as text; a value that is None is shown as missing.

    Returns:
        HTML.
    """
    cells = [
        f"<tr><th>{escape(name)}</th>"
        + ('<td class="none">none</td>' if value is None else f"<td>{escape(value)}</td>")
        + "</tr>\n"
        for name, value in rows
    ]
    if not cells:
        cells = ['<tr><td class="none">none</td></tr>\n']
    return f"<section>\n<h2>{escape(title)}</h2>\n<table>\n{''.join(cells)}</table>\n</section>\n"


def accepts_html(accept: str | None) -> bool:
    """Whether a client takes HTML (RFC 9110, section 12.5.1).

    Args:
        accept: its Accept header; None if it sent none.
    """
    if accept is None or not accept.strip():
        return True
    best: tuple[int, bool] = (-1, False)  # the most specific range that fits, and what it says
    for part in accept.split(","):
        name, *parameters = [piece.strip().lower() for piece in part.split(";")]
        rank = {"*/*": 0, "text/*": 1, "text/html": 2}.get(name)
        if rank is None:
            continue
        quality = next((value[2:] for value in parameters if value.startswith("q=")), "1")
        best = max(best, (rank, quality.strip("0.") != ""))
    return best[1]


# -- the report of an error ----------------------------------------------------------


def error_page(lines: list[str]) -> bytes:
    """Make the PythonDebug page of a report.

    Args:
        lines: the lines of the report: the first says what failed, facts follow, and
            then the traceback, as one.

    Returns:
        a complete HTML document, UTF-8.
    """
    title, *rest = lines
    start = next((i for i, line in enumerate(rest) if not line.startswith(_FACTS)), len(rest))
    facts = [_fact(line) for line in rest[:start]]
    traceback = rest[start] if start < len(rest) else ""
    more = rest[start + 1 :]
    hints = [line for line in more if line.startswith("Hint: ")]
    others = "\n".join([line for line in more if line not in hints]).strip("\n")
    heading = _summary(traceback.split("\n")) or "Internal Server Error"
    body = [
        f'<p class="kind error">500 Internal Server Error</p>\n<h1>{escape(heading[:_HEADING])}</h1>\n',
        *[f'<p class="hint">{escape(hint)}</p>\n' for hint in hints],
        f"<section>\n<h2>Traceback</h2>\n<pre>\n{_marked(traceback)}\n</pre>\n</section>\n",
        table("Where", [("Handler", title.removesuffix(": Application error")), *facts]),
    ]
    if others:
        body.append(f"<section>\n<h2>Modules</h2>\n<pre>\n{escape(others)}\n</pre>\n</section>\n")
    body.append("<footer>This page is shown because PythonDebug is On.</footer>\n")
    return document(f"500: {heading[:_HEADING]}", "".join(body))


def fragment(lines: list[str]) -> bytes:
    """The same as HTML at the end of a page that has begun, wherever in it that is."""
    text = text_page(lines).decode("utf-8")
    return f"\n--></script></style></title></textarea></select></table>\n<pre>{escape(text)}</pre>\n".encode()


def text_page(lines: list[str]) -> bytes:
    """The same as plain text, for clients that take no HTML."""
    return "\n".join([*lines, "", "This page is shown because PythonDebug is On.", ""]).encode(
        "utf-8", "backslashreplace"
    )


def _fact(line: str) -> tuple[str, str | None]:
    name, _, value = line.partition(": ")
    return name, None if value == "None" else value


def _summary(lines: list[str]) -> str:
    """The line of a traceback that says what was raised; the last, if exceptions are chained."""
    start = 0
    for i, line in enumerate(lines):
        if line.startswith('  File "'):
            start = i + 1
    return next((line for line in lines[start:] if line and not line[0].isspace()), "")


def _marked(traceback: str) -> str:
    """A traceback as HTML: file names step back, what was raised stands out."""
    lines = traceback.split("\n")
    last = _summary(lines)
    found = []
    for line in lines:
        text = escape(line)
        if line.startswith('  File "'):
            text = f'<span class="file">{text}</span>'
        elif line and line == last:
            text = f'<span class="last">{text}</span>'
        found.append(text)
    return "\n".join(found)
