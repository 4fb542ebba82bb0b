"""How this machine reaches the archives of Debian and of Python: the settings of apt and pip, for a chroot.

Only what says how to reach the network is taken; other options would change what is installed.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

# Options of pip.
PIP_OPTIONS = (
    "index-url", "extra-index-url", "find-links", "no-index", "trusted-host", "cert", "client-cert",
    "proxy", "timeout", "default-timeout", "retries",
)  # fmt: skip

# Options of apt, as `apt-config dump` names them.
APT_OPTIONS = re.compile(r"Acquire::(https?|ftp|Retries|ForceIPv4|ForceIPv6|Check-Date|Check-Valid-Until)\b", re.I)


class Source(NamedTuple):
    """One line of apt's sources.

    Attributes:
        uri: where the archive is.
        suite: such as "bookworm-updates".
        components: such as ("main",).
    """

    uri: str
    suite: str
    components: tuple[str, ...]


def parse_list(text: str) -> Iterator[Source]:
    """Parse apt's older format, one source a line.

    Args:
        text: the content of a `.list` file.
    """
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[[^\]]*\]\s*)?(\S+)\s+(\S+)\s*([^#]*)", line)
        if match:
            yield Source(match[1], match[2], tuple(match[3].split()))


def parse_deb822(text: str) -> Iterator[Source]:
    """Parse apt's newer format, paragraphs of fields.

    Args:
        text: the content of a `.sources` file.
    """
    for paragraph in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in paragraph.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace():
                fields[name] = f"{fields.get(name, '')} {line.strip()}"
            else:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if fields.get("enabled", "yes").lower() in ("no", "false", "off", "0"):
            continue
        if "deb" not in fields.get("types", "").split():
            continue
        components = tuple(fields.get("components", "").split())
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(uri, suite, components)


def apt_sources(directory: Path = Path("/etc/apt")) -> list[Source]:
    """Read the machine's apt sources.

    Args:
        directory: where apt is configured.

    Returns:
        All of them, in the order in which apt reads them.
    """
    found: list[Source] = []
    for path in (directory / "sources.list", *sorted((directory / "sources.list.d").glob("*"))):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if path.suffix == ".list":
            found += parse_list(text)
        elif path.suffix == ".sources":
            found += parse_deb822(text)
    return found


def mirror(sources: Iterable[Source]) -> str | None:
    """Choose the mirror of the Debian archive that the machine itself uses.

    Args:
        sources: apt's.

    Returns:
        Its URI, or None if none of them is one.
    """
    for source in sources:
        uri = _resolve_mirror_file(source.uri)
        # Archives of others, and Debian's of security fixes, have other names or other components.
        if "main" in source.components and re.search(r"/debian/?$", urlsplit(uri).path):
            return uri
    return None


def _resolve_mirror_file(uri: str) -> str:
    """Replace a list of mirrors (`mirror+file:/path`) by the first in it."""
    if not uri.startswith("mirror+file:"):
        return uri
    with contextlib.suppress(OSError):
        for line in Path(urlsplit(uri).path).read_text(encoding="utf-8").splitlines():
            if line.strip() and not line.startswith("#"):
                return line.split()[0]
    return uri


def apt_options(dump: str) -> str:
    """Choose the apt options that say how to reach the network.

    Args:
        dump: what `apt-config dump` prints.

    Returns:
        The lines that hold in a chroot, too.
    """
    lines = (line for line in dump.splitlines() if APT_OPTIONS.match(line) and "Auto-Detect" not in line)
    return "".join(f"{line}\n" for line in lines if not line.endswith('"";'))


def pip_options(configurations: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Choose the pip options that say how to reach the network.

    Args:
        configurations: the texts of pip's configuration files; a later one prevails.
        environ: environment variables, which prevail over all of them.

    Returns:
        Options of the section `global`.
    """
    found: dict[str, str] = {}
    for text in configurations:
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(text)
        except configparser.Error:
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                found.update(parser.items(section))
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            found[name[4:].lower().replace("_", "-")] = value
    found = {name.replace("_", "-"): value for name, value in found.items()}
    return {name: found[name] for name in PIP_OPTIONS if name in found}


def local_directories(options: Mapping[str, str]) -> list[str]:
    """List the directories of this machine that pip looks into.

    Args:
        options: pip's.

    Returns:
        Those that exist, each once, none inside another.
    """
    found: set[Path] = set()
    for name in ("index-url", "extra-index-url", "find-links"):
        for word in options.get(name, "").split():
            path = Path(unquote(urlsplit(word).path) if word.startswith("file:") else word)
            if not path.is_absolute() or not path.is_dir():
                continue
            path = path.resolve()
            # The pages of an index name the files beside it: `../../files/name.whl`.
            is_index = name != "find-links" and path.parent != Path("/")
            found.add(path.parent if is_index else path)
    outer = [path for path in found if found.isdisjoint(path.parents)]
    return sorted(str(path) for path in outer if path != Path("/"))


def pip_configurations(environ: Mapping[str, str]) -> list[Path]:
    """List the files in which pip may be configured, least important first.

    Args:
        environ: the environment variables.
    """
    given = environ.get("PIP_CONFIG_FILE")
    if given == os.devnull:
        return []
    home = Path(environ.get("HOME") or Path.home())
    paths = [Path(part, "pip/pip.conf") for part in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":") if part]
    paths += [Path("/etc/pip.conf"), home / ".pip/pip.conf"]
    paths.append(Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip/pip.conf")
    return [*paths, Path(given)] if given else paths


def certificate_files(environ: Mapping[str, str], pip: Mapping[str, str], apt: str) -> list[Path]:
    """List the files of certificates that the settings name.

    Args:
        environ: the environment variables.
        pip: pip's options.
        apt: apt's options, as text.
    """
    named = [environ.get(name) for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")]
    named += [pip.get("cert"), pip.get("client-cert")]
    named += re.findall(r"::(?:CaInfo|SslCert|SslKey) \"([^\"]+)\"", apt, re.I)
    return sorted({Path(name) for name in named if name and os.path.isabs(name) and os.path.isfile(name)})
