"""Pages as a browser shows them: pictures and the document, from Chromium without a display."""

from __future__ import annotations

import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

from tests import needs

#: Seconds for one page; it takes one or two.
TIMEOUT = 120.0

_OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--disable-dev-shm-usage",
]


def program() -> str:
    """Return Chromium's program; skip the test if it is not installed."""
    return needs.program("chromium", "chromium-browser", "google-chrome")


def _run(*arguments: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="mod_python-chromium-", ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [program(), *_OPTIONS, f"--user-data-dir={profile}", *arguments],
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout


def shoot(url: str, file: Path, *, dark: bool = False, size: tuple[int, int] = (1000, 800)) -> None:
    """Make a picture of a page.

    Args:
        url: The page.
        file: Where the PNG goes.
        dark: With the dark colours.
        size: Width and height of the window, in pixels.
    """
    colours = ["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]
    _run(*colours, f"--window-size={size[0]},{size[1]}", f"--screenshot={file}", url)
    assert file.stat().st_size


def document(url: str) -> str:
    """Return the document that the browser has made of a page, as HTML."""
    return _run("--dump-dom", url).decode()


def pixels(file: Path) -> tuple[int, int, list[bytes]]:
    """Decode a PNG of 8 bits per channel, not interlaced, as Chromium writes it.

    Returns:
        Width, height, and the pixels from left to right and top to bottom.
    """
    data = file.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    position, compressed = 8, b""
    width = height = channels = 0
    while position < len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        content = data[position + 8 : position + 8 + length]
        position += 12 + length
        if kind == b"IHDR":
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", content)
            assert (depth, interlaced) == (8, 0)
            channels = {0: 1, 2: 3, 3: 1, 6: 4}[colour]
        elif kind == b"IDAT":
            compressed += content
    raw, stride = zlib.decompress(compressed), width * channels
    rows: list[bytearray] = []
    above = bytearray(stride)
    for number in range(height):
        start = number * (stride + 1)
        row = bytearray(raw[start + 1 : start + 1 + stride])
        _unfilter(raw[start], row, above, channels)
        rows.append(row)
        above = row
    found = [bytes(row[i : i + channels]) for row in rows for i in range(0, stride, channels)]
    return width, height, found


def _unfilter(kind: int, row: bytearray, above: bytearray, step: int) -> None:
    """Undo the filter of a row (PNG, section 9)."""
    for i in range(len(row)):
        left = row[i - step] if i >= step else 0
        corner = above[i - step] if i >= step else 0
        if kind == 0:
            return
        if kind == 1:
            guess = left
        elif kind == 2:
            guess = above[i]
        elif kind == 3:
            guess = (left + above[i]) // 2
        else:
            sum_ = left + above[i] - corner
            _, guess = min(
                (abs(sum_ - left), left),
                (abs(sum_ - above[i]), above[i]),
                (abs(sum_ - corner), corner),
                key=lambda pair: pair[0],
            )
        row[i] = (row[i] + guess) & 255
