"""The pages that mod_python makes, as a browser shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mod_python.testing import Server
from tests import chromium
from tests.servers import running

pytestmark = pytest.mark.long

SHOP = '''
"""A shop that has run out of coffee."""

PRICES = {"tea": 3}


def price(name):
    return PRICES[name]


def handler(req):
    req.write(f"{price('<b>coffee</b>')} marks")
    return 0
'''

CONFIG = """
<Location "/shop">
    SetHandler mod_python
    PythonHandler ${SITE}/shop.py
    PythonDebug On
</Location>
<Location "/test">
    SetHandler mod_python
    PythonHandler mod_python.testhandler
    PythonOption greeting "<b>hello</b>"
</Location>
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    chromium.program()
    with running(CONFIG, files={"shop.py": SHOP}) as server:
        server.allow("<b>coffee</b>")
        yield server


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/shop", "KeyError: '&lt;b&gt;coffee&lt;/b&gt;'"),
        ("/test", "&lt;b&gt;hello&lt;/b&gt;"),
    ],
)
def test_document(server: Server, path: str, text: str) -> None:
    found = chromium.document(server.url + path)
    assert text in found
    assert "<b>" not in found
    assert "</main>" in found


@pytest.mark.parametrize("path", ["/shop", "/test"])
def test_picture(server: Server, path: str, tmp_path: Path) -> None:
    grounds = []
    for dark in (False, True):
        file = tmp_path / f"{dark}.png"
        chromium.shoot(server.url + path, file, dark=dark, size=(500, 400))
        width, height, pixels = chromium.pixels(file)
        assert width == 500
        assert height >= 300
        colours = Counter(pixels)
        (ground, most), *_ = colours.most_common(1)
        # Neither blank nor noise: a ground, and text of many shades on it.
        assert most < 0.95 * len(pixels)
        assert len(colours) > 50
        grounds.append(sum(ground[:3]) / 3)
    light, dark_ = grounds
    assert light > 200
    assert dark_ < 60
