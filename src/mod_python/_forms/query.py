"""Query strings and header parameters: text in, names and values out."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import AnyStr

__all__ = ["decode", "encode", "parse_header", "parse_qs", "parse_qsl", "unquote"]

# Two hexadecimal digits, in either case, to their byte; filled on first use.
_BYTES: dict[bytes, bytes] = {}


def decode(data: bytes) -> str:
    """Turn bytes from the network into text, losing nothing: what is no UTF-8 becomes surrogates."""
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """Turn text into the bytes it was made from."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        # A surrogate that no byte stands for: it came from the program, not from the network.
        return text.encode("utf-8", "surrogatepass")


def unquote(data: bytes) -> bytes:
    """Decode percent escapes; malformed ones stay as they are."""
    first, *rest = data.split(b"%")
    if not rest:
        return data
    if not _BYTES:
        digits = "0123456789abcdefABCDEF"
        _BYTES.update({(a + b).encode(): bytes.fromhex(a + b) for a in digits for b in digits})
    parts = [first]
    for part in rest:
        byte = _BYTES.get(part[:2])
        parts.append(b"%" + part if byte is None else byte + part[2:])
    return b"".join(parts)


def _text(part: str) -> str:
    if "+" in part:
        part = part.replace("+", " ")
    return decode(unquote(encode(part))) if "%" in part else part


def parse_qsl(qs: AnyStr, keep_blank_values: object = 0, strict_parsing: object = 0) -> list[tuple[AnyStr, AnyStr]]:
    """Split a query string, or a URL-encoded form, into names and values.

    Pairs are separated by ``&`` or ``;``, and split at the first ``=``. ``+`` is a blank.
    Malformed percent escapes stay as they are.

    Args:
        qs: str, or bytes.
        keep_blank_values: True to keep pairs whose value is empty or missing.
        strict_parsing: Has no effect.

    Returns:
        Pairs in their order, of the type of `qs`. In str, bytes that are no UTF-8 are
        surrogates (``surrogateescape``).

    Raises:
        TypeError: `qs` is neither str nor bytes.
    """
    found = []
    if isinstance(qs, str):
        if ";" in qs:
            qs = qs.replace(";", "&")
        plain = "%" not in qs and "+" not in qs
        for pair in qs.split("&"):
            name, _, value = pair.partition("=")
            if value or (keep_blank_values and pair):
                found.append((name, value) if plain else (_text(name), _text(value)))
        return found
    if not isinstance(qs, bytes):
        raise TypeError(f"a query string must be str or bytes, not {type(qs).__name__}")
    for item in qs.replace(b";", b"&").replace(b"+", b" ").split(b"&"):
        key, _, content = item.partition(b"=")
        if content or (keep_blank_values and item):
            found.append((unquote(key), unquote(content)))
    return found


def parse_qs(qs: AnyStr, keep_blank_values: object = 0, strict_parsing: object = 0) -> dict[AnyStr, list[AnyStr]]:
    """Split a query string into a dictionary of names and lists of values.

    Args:
        qs, keep_blank_values, strict_parsing: As for `parse_qsl`.

    Returns:
        Names in the order in which they first appear; values in their order.

    Raises:
        TypeError: As for `parse_qsl`.
    """
    found: dict[AnyStr, list[AnyStr]] = {}
    for name, value in parse_qsl(qs, keep_blank_values):
        found.setdefault(name, []).append(value)
    return found


def _pieces(line: str) -> list[str]:
    """Split at semicolons that are not in double quotes."""
    if '"' not in line:
        return line.split(";")
    pieces = [""]
    quoted = False
    for part in line.split(";"):
        if quoted:
            pieces[-1] += ";" + part
        else:
            pieces.append(part)
        if part.replace("\\\\", "").replace('\\"', "").count('"') % 2:
            quoted = not quoted
    return pieces[1:]


def parse_header(line: AnyStr) -> tuple[AnyStr, dict[AnyStr, AnyStr]]:
    """Split a header like ``Content-Type`` into its value and its parameters.

    Args:
        line: str or bytes: what follows the colon.

    Returns:
        The value in lower case; the parameters, their names in lower case, their values
        without the double quotes around them. All are of the type of `line`.

    Raises:
        TypeError: `line` is neither str nor bytes.
    """
    if isinstance(line, bytes):
        value, found = parse_header(line.decode("latin-1"))
        # lower() may leave Latin-1, but only for what is no ASCII.
        return value.encode("latin-1", "replace"), {
            key.encode("latin-1", "replace"): text.encode("latin-1") for key, text in found.items()
        }
    if not isinstance(line, str):
        raise TypeError(f"a header must be str or bytes, not {type(line).__name__}")
    first, *rest = _pieces(line)
    parameters = {}
    for piece in rest:
        name, equals, text = piece.partition("=")
        if not equals:
            continue
        text = text.strip()
        if len(text) > 1 and text[0] == text[-1] == '"':
            text = text[1:-1]
        parameters[name.strip().lower()] = text
    return first.strip().lower(), parameters
