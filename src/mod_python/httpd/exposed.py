"""Sources that anybody can download: files of handlers that httpd sends as they are.

What httpd says of its configuration is read (``-D MOD_PYTHON_DUMP_TREE``), and applied to each file of a
handler that lies below a DocumentRoot or Alias, in httpd's order: <Directory>, <Files>, <Location>.  Where that
depends on the request (<If>, .htaccess, a proxy), nothing is said: this is a help, and no guard.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path

__all__ = ["DUMP", "Exposed", "exposed_sources"]

#: Arguments for ``httpd -t`` that have it print its configuration.
DUMP = ("-D", "MOD_PYTHON_DUMP_TREE")

_MARK = "mod_python-tree\t"
_HANDLER = re.compile(r"python(\w+handler|handler|handlermodule|import|inputfilter|outputfilter|authnprovider)$")
_APPLICATION = "mod_python.wsgi.application"
_REGEX_SECTIONS = {"directorymatch": "directory", "filesmatch": "files", "locationmatch": "location"}
_ORDER = ("directory", "files", "location")


@dataclass(frozen=True, slots=True)
class Exposed:
    """A file whose source can be downloaded.

    Attributes:
        file: The file.
        url: Path of its URL.
        root: The directory from which it is served.
        by: The directive that serves that directory.
        where: Which directive names the file, and where; or that it is a configuration.
    """

    file: Path
    url: str
    root: Path
    by: str
    where: str

    def __str__(self) -> str:
        return (
            f"{self.file} ({self.where}) can be downloaded as {self.url}, since it lies below "
            f"{self.by} {self.root}; move it outside of that directory, or forbid its name: "
            f'<Files "*{self.file.suffix}"> Require all denied </Files>'
        )


@dataclass(slots=True)
class _Node:
    """A directive, or a section with what it holds."""

    written: str
    text: str
    file: str
    line: int
    nodes: list[_Node] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.written.lower()

    @property
    def words(self) -> list[str]:
        text = self.text.removesuffix(">") if self.name.startswith("<") else self.text
        try:
            lexer = shlex.shlex(text, posix=True, punctuation_chars=False)
            lexer.whitespace_split, lexer.commenters, lexer.escape = True, "", ""
            return list(lexer)
        except ValueError:
            return text.split()


def exposed_sources(said: str) -> list[Exposed]:
    """Find the files of handlers, and of the configuration, that httpd would send as they are.

    Args:
        said: What ``httpd -t`` with `DUMP` has printed; other lines are ignored.

    Returns:
        One for each file and URL, in the order of the configuration.
    """
    top = _read(said)
    found: dict[tuple[Path, str], Exposed] = {}
    hosts = [node for node in top if node.name == "<virtualhost"]
    everywhere: list[_Node | None] = [*hosts] or [None]
    for host in everywhere:
        own = host.nodes if host is not None else []
        server = _Server([node for node in top if node.name != "<virtualhost"], own)
        for file, where in server.sources():
            for url, root, by in server.urls_of(file):
                if server.sends(file, url):
                    found.setdefault((file, url), Exposed(file, url, root, by, where))
    return list(found.values())


def _read(said: str) -> list[_Node]:
    top: list[_Node] = []
    levels = [top]
    for line in said.splitlines():
        if not line.startswith(_MARK):
            continue
        with contextlib.suppress(ValueError, IndexError):
            _, depth, file, number, name, text = line.split("\t", 5)
            node = _Node(name, text.strip(), file, int(number))
            del levels[int(depth) + 1 :]
            levels[-1].append(node)
            levels.append(node.nodes)
    return top


class _Server:
    """One virtual host, with what it has from the main server."""

    def __init__(self, main: list[_Node], own: list[_Node]) -> None:
        # A directive of the host goes before that of the server; sections of both count.
        self._nodes = [*main, *own]
        self._root = next((n for n in reversed(self._nodes) if n.name == "documentroot" and n.words), None)
        self._server_root = next((n.words[0] for n in main if n.name == "serverroot" and n.words), "/")

    # ---- which files

    def sources(self) -> Iterator[tuple[Path, str]]:
        """Yield the files of handlers and of the configuration."""
        search = [Path(text) for node in _all(self._nodes) if node.name == "pythonpath" for text in _paths(node.text)]
        seen = set()
        for node, directory in _with_directories(self._nodes, None):
            seen.add(node.file)
            words: list[str] = []
            if _HANDLER.match(node.name):
                words = node.text.partition("|")[0].split()
                words = words[:1] if node.name in ("pythonimport", "pythoninputfilter", "pythonoutputfilter") else words
            elif node.name == "pythonoption" and node.words[:1] == [_APPLICATION]:
                words = node.words[1:]
            for word in words:
                name = word.strip("\"'").partition("::")[0]
                file = self._file(name, directory, search)
                if file is not None:
                    yield file, f"{node.written} in {node.file} line {node.line}"
        for name in sorted(seen):
            if os.path.isfile(name):
                yield Path(os.path.abspath(name)), "a configuration file"

    def _file(self, name: str, directory: str | None, search: list[Path]) -> Path | None:
        root = self._root.words[0] if self._root is not None else None
        if name.startswith("/"):
            candidates = [Path(name)]
        elif name.startswith(("./", "../", "~/")):
            base = directory or (root if name.startswith("~/") else None)
            candidates = [Path(base) / name.removeprefix("~/")] if base else []
        elif re.fullmatch(r"\w+(\.\w+)*", name) and not name.startswith("mod_python."):
            path = name.replace(".", "/")
            places = [Path(place) for place in (directory,) if place] + search
            candidates = [place / end for place in places for end in (f"{path}.py", f"{path}/__init__.py")]
        else:
            candidates = []
        found = next((path for path in candidates if path.is_file()), None)
        return Path(os.path.abspath(found)) if found is not None else None

    # ---- which URLs

    def urls_of(self, file: Path) -> Iterator[tuple[str, Path, str]]:
        """Yield the URLs that are mapped to a file, each with the directory and the directive that map it."""
        mapped = [("/", node.words[0], "DocumentRoot") for node in (self._root,) if node is not None]
        mapped += [(n.words[0], n.words[1], "Alias") for n in self._nodes if n.name == "alias" and len(n.words) == 2]
        for prefix, directory, by in mapped:
            root = Path(os.path.join(self._server_root, directory))
            for start in (Path(os.path.abspath(root)), Path(os.path.realpath(root))):
                for known in (file, Path(os.path.realpath(file))):
                    if known.is_relative_to(start) and known != start:
                        yield f"{prefix.rstrip('/')}/{known.relative_to(start)}", start, by
                        break
                else:
                    continue
                break

    # ---- what becomes of them

    def sends(self, file: Path, url: str) -> bool:
        """Tell whether httpd sends a file as it is; False also where that cannot be told."""
        if any(_proxied(node, url) for node in self._nodes):
            return False
        state = _State()
        state.apply(self._nodes, file)
        places: dict[str, list[tuple[_Node, int]]] = {kind: [] for kind in _ORDER}
        self._collect(self._nodes, places, file, url)
        # Shorter directories first, then regular expressions, as they stand.
        places["directory"].sort(key=lambda place: place[1])
        for kind in _ORDER:
            for node, _ in places[kind]:
                state.apply(node.nodes, file)
        return not state.unclear and state.is_sent(file) and not _has_htaccess(file, state)

    def _collect(self, nodes: list[_Node], places: dict[str, list[tuple[_Node, int]]], file: Path, url: str) -> None:
        for node in nodes:
            kind = node.name.removeprefix("<")
            if kind not in _ORDER and kind not in _REGEX_SECTIONS:
                continue
            matched = _matches(node, file, url)
            if matched is not None:
                places[_REGEX_SECTIONS.get(kind, kind)].append((node, matched))
                self._collect(node.nodes, places, file, url)


class _State:
    """What sections have said so far about a file."""

    def __init__(self) -> None:
        self.handler: str | None = None
        self.python = ""
        self.extensions: dict[str, str] = {}
        self.denied = False
        self.unclear = False
        self.overridden = False  # .htaccess files are read

    def apply(self, nodes: list[_Node], file: Path) -> None:
        """Apply the directives of one section."""
        rules = [node for node in nodes if node.name in ("require", "<requireall", "<requireany", "<requirenone")]
        if rules:
            self.denied = any(_denies(node) for node in rules)
        for node in nodes:
            words = node.words
            if node.name == "sethandler" and words:
                self.handler = None if words[0].lower() in ("none", "default-handler") else words[0]
            elif node.name == "addhandler" and words:
                self.extensions.update(dict.fromkeys((word.lower().lstrip(".") for word in words[1:]), words[0]))
            elif node.name == "pythonhandler":
                self.python = node.text.split()[0].strip('"') if node.text.split() else ""
            elif node.name == "allowoverride" and words:
                self.overridden = words[0].lower() != "none"
            elif node.name == "deny" and [word.lower() for word in words] == ["from", "all"]:
                self.denied = True
            elif node.name in ("<if", "<elseif", "<else") and any(map(_protects, node.nodes)):
                self.unclear = True

    def is_sent(self, file: Path) -> bool:
        """Tell whether the file is sent as it is."""
        if self.denied:
            return False
        by_name = next(
            (self.extensions[ext] for ext in file.name.lower().split(".")[1:] if ext in self.extensions), None
        )
        handler = self.handler or by_name
        if handler is None:
            return True
        # A page without code in it is sent as it is; this one would be Python's source.
        return handler in ("mod_python", "python-program") and self.python == "mod_python.psp" and file.suffix != ".psp"


def _all(nodes: list[_Node]) -> Iterator[_Node]:
    for node in nodes:
        yield node
        yield from _all(node.nodes)


def _with_directories(nodes: list[_Node], directory: str | None) -> Iterator[tuple[_Node, str | None]]:
    """Yield all directives, each with the directory of the section that it stands in."""
    for node in nodes:
        yield node, directory
        inner = directory
        if node.name == "<directory" and len(node.words) == 1 and not re.search(r"[*?[]", node.words[0]):
            inner = node.words[0]
        yield from _with_directories(node.nodes, inner)


def _paths(expression: str) -> list[str]:
    """The absolute directories that stand in the expression of PythonPath."""
    return [text for _, text in re.findall(r"""(['"])(/[^'"]*)\1""", expression.replace('\\"', '"'))]


def _matches(node: _Node, file: Path, url: str) -> int | None:
    """Return how far up in its order a section stands that is about a file; None if it is about others."""
    kind, words = node.name.removeprefix("<"), node.words
    if not words:
        return None
    is_regex = kind in _REGEX_SECTIONS or words[0] == "~"
    pattern = words[-1]
    kind = _REGEX_SECTIONS.get(kind, kind)
    subjects = {"directory": [f"{parent}" for parent in file.parents], "files": [file.name], "location": [url]}[kind]
    if is_regex:
        if kind == "directory":
            subjects = [str(file)]  # httpd compares the whole name with it
        try:
            found = any(re.search(pattern, text) for text in subjects)
        except re.error:
            return None
        return 1 << 20 if found else None
    if kind == "location":
        plain = pattern.rstrip("/")
        wild = re.search(r"[*?[]", pattern) and re.match(translate(pattern), url)
        return 0 if url == pattern or url.startswith(f"{plain}/") or wild else None
    if kind == "directory":
        pattern = os.path.normpath(pattern)
    found = any(text == pattern or re.match(_wild(pattern), text) for text in subjects)
    return pattern.count("/") + (pattern != "/") if found else None


def _wild(pattern: str) -> str:
    """A pattern of httpd's as a regular expression: wildcards do not match slashes."""
    return translate(pattern).replace(".*", "[^/]*")


def _denies(node: _Node) -> bool:
    if node.name == "require":
        return [word.lower() for word in node.words] == ["all", "denied"]
    return node.name == "<requireall" and any(_denies(inner) for inner in node.nodes)


def _protects(node: _Node) -> bool:
    """Tell whether a directive may keep a file from being sent."""
    if node.name == "sethandler":
        return node.text.lower() not in ("none", "default-handler")
    return node.name in ("require", "deny", "addhandler") or any(map(_protects, node.nodes))


def _proxied(node: _Node, url: str) -> bool:
    if node.name == "proxypass" and len(node.words) >= 2 and node.words[1] != "!":
        return url.startswith(node.words[0].rstrip("/") + "/")
    return False


def _has_htaccess(file: Path, state: _State) -> bool:
    return state.overridden and any((parent / ".htaccess").exists() for parent in file.parents)
