"""A server for the tests of the publisher: a directory of modules, with the switches of the publisher around it."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mod_python.testing import Response, Server
from tests.servers import running

CONFIG = """
ServerName publisher.example
DocumentRoot ${SITE}/htdocs
<Directory ${SITE}/htdocs>
    Require all granted
    SetHandler mod_python
    PythonHandler mod_python.publisher
</Directory>
<Directory ${SITE}/htdocs/marked>
    PythonOption mod_python.publisher.marked_only On
</Directory>
<Directory ${SITE}/htdocs/debug>
    PythonDebug On
</Directory>
"""


@contextmanager
def site(files: Mapping[str, str], config: str = "", **arguments: Any) -> Iterator[Server]:
    """Run a server that publishes files.

    Args:
        files: Modules below the document root: path → source.
        config: More configuration.
        **arguments: As for `Server`.
    """
    contents = {f"htdocs/{name}": text for name, text in files.items()}
    with running(CONFIG + config, files=contents, **arguments) as server:
        yield server


def basic(user: str, password: str, scheme: str = "Basic") -> dict[str, str]:
    """Headers with Basic credentials."""
    return {"Authorization": f"{scheme} {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def post(server: Server, path: str, body: bytes, kind: str = "application/x-www-form-urlencoded") -> Response:
    """Send a form."""
    return server.request("POST", path, body=body, headers={"Content-Type": kind})
