"""Forms, query strings, redirects.

The parts that deal with forms are in `mod_python._forms`.
"""

from __future__ import annotations

from mod_python._constants import DONE, HTTP_MOVED_PERMANENTLY, HTTP_MOVED_TEMPORARILY
from mod_python._forms.apply import apply_fs_data
from mod_python._forms.fields import Field, FieldList, StringField
from mod_python._forms.query import parse_header, parse_qs, parse_qsl
from mod_python._forms.storage import FieldStorage
from mod_python.errors import SERVER_RETURN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

__all__ = [
    "Field",
    "FieldList",
    "FieldStorage",
    "StringField",
    "apply_fs_data",
    "parse_header",
    "parse_qs",
    "parse_qsl",
    "readBlockSize",
    "redirect",
]

# Multipart bodies are read in blocks of this many bytes.
readBlockSize = 65368  # noqa: N816  (documented name)

_PAGE = '<p>The document has moved <a href="{}">here</a>.</p>\n'


def redirect(req: Any, location: str, permanent: object = 0, text: str | bytes | None = None) -> NoReturn:
    """Send the client elsewhere, and end the request (RFC 9110, section 15.4).

    Args:
        req: The request.
        location: URI reference for the ``Location`` header.
        permanent: True for status 301 in place of 302.
        text: Body of the response; None for a line of HTML with a link.

    Raises:
        SERVER_RETURN: Always, with DONE: no later phase and no other handler runs.
        TypeError: `location` is no str.
        ValueError: It contains a control character or a blank, or a character that
            must be percent-encoded in a URI.
        OSError: Part of a body was sent already.
    """
    if not isinstance(location, str):
        raise TypeError(f"redirect: location must be a str, not {type(location).__name__}")
    for character in location:
        if not "!" <= character <= "~":
            raise ValueError(
                f"redirect: {character!r} cannot stand in a Location header; "
                "percent-encode it, for example with urllib.parse.quote"
            )
    if req.sent_bodyct:
        raise OSError("Cannot redirect after headers have already been sent.")
    req.err_headers_out["Location"] = location
    req.status = HTTP_MOVED_PERMANENTLY if permanent else HTTP_MOVED_TEMPORARILY
    if text is None:
        import html

        req.content_type = "text/html; charset=us-ascii"
        text = _PAGE.format(html.escape(location))
    req.write(text, 0)
    raise SERVER_RETURN(DONE)
