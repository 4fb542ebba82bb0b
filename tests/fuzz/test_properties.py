"""Tables against a model of them, and `PythonOption` in generated configurations against one of its merging."""

from __future__ import annotations

import http.client
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from mod_python._table import mp_table
from mod_python.testing import Server
from tests.fuzz import SECONDS, SEED
from tests.fuzz import site as fuzz_site
from tests.servers import running

_EXAMPLES = 150
_SITES = 40

_CONFIG = """
DocumentRoot ${SITE}
KeepAliveTimeout 60
MaxKeepAliveRequests 0
<Location /tables>
    SetHandler mod_python
    PythonHandler ${SITE}/fuzz_site.py::tables
</Location>
<Directory ${SITE}/o>
    AllowOverride All
    SetHandler mod_python
    PythonHandler ${SITE}/fuzz_site.py::options
</Directory>
"""


def _source() -> str:
    return Path(fuzz_site.__file__).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def client() -> Iterator[tuple[Server, http.client.HTTPConnection]]:
    files = {"fuzz_site.py": _source(), "o/p/q/file.txt": ""}
    with running(_CONFIG, files=files, log_level="notice") as server:
        connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
        yield server, connection
        connection.close()


def _check(strategy: strategies.SearchStrategy[Any], check: Callable[[Any], None]) -> None:
    """Try a property on some examples, or as many as there is time for."""
    end = time.monotonic() + SECONDS / 10
    number = 0
    while True:

        @hypothesis.seed(SEED + number)
        @hypothesis.settings(
            max_examples=_EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(strategy)
        def holds(example: Any) -> None:
            check(example)

        holds()
        number += 1
        if time.monotonic() >= end:
            break
    print(f"seed {SEED}: about {number * _EXAMPLES} examples")


# ---- tables


def _fold(key: str) -> str:
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in key)


class _Model:
    """A list of pairs that behaves as the manual says of tables."""

    def __init__(self, items: Any = None, *, headers: bool = False) -> None:
        self.pairs: list[tuple[str, str]] = []
        self.headers = headers
        pairs = items.items() if hasattr(items, "items") else items or ()
        for key, value in pairs:
            self[self._any(key)] = self._any(value)

    @staticmethod
    def _any(value: Any) -> Any:
        return value if isinstance(value, (str, bytes)) else str(value)

    def _text(self, value: Any, stored: bool = False) -> str:
        if isinstance(value, bytes):
            value = value.decode("latin-1")
        if not isinstance(value, str) or any(ord(c) > 255 for c in value):
            raise TypeError
        if "\0" in value or (stored and self.headers and ("\r" in value or "\n" in value)):
            raise ValueError
        return value

    def _all(self, key: Any) -> list[str]:
        folded = _fold(self._text(key))
        return [value for other, value in self.pairs if _fold(other) == folded]

    def __getitem__(self, key: Any) -> Any:
        values = self._all(key)
        if not values:
            raise KeyError
        return values if len(values) > 1 else values[0]

    def __setitem__(self, key: Any, value: Any) -> None:
        key, value = self._text(key, True), self._text(value, True)
        at = [n for n, (other, _) in enumerate(self.pairs) if _fold(other) == _fold(key)]
        if not at:
            self.pairs.append((key, value))
            return
        self.pairs[at[0]] = (self.pairs[at[0]][0], value)
        self.pairs = [pair for n, pair in enumerate(self.pairs) if n not in at[1:]]

    def __delitem__(self, key: Any) -> None:
        folded = _fold(self._text(key))
        self.pairs = [pair for pair in self.pairs if _fold(pair[0]) != folded]

    def add(self, key: Any, value: Any) -> None:
        self.pairs.append((self._text(key, True), self._text(value, True)))

    def __contains__(self, key: Any) -> bool:
        return bool(self._all(key))

    def has_key(self, key: Any) -> int:
        return int(key in self)

    def get(self, key: Any, default: Any = None) -> Any:
        return (self._all(key) or [default])[0]

    def setdefault(self, key: Any, value: Any) -> Any:
        if key not in self:
            self[key] = value
        return self.get(key)

    def __len__(self) -> int:
        return len(self.pairs)

    def keys(self) -> list[str]:
        return [key for key, _ in self.pairs]

    def values(self) -> list[str]:
        return [value for _, value in self.pairs]

    def items(self) -> list[tuple[str, str]]:
        return list(self.pairs)

    def iteritems(self) -> Iterator[tuple[str, str]]:
        size = len(self.pairs)

        def steps() -> Iterator[tuple[str, str]]:
            for pair in self.pairs:
                if len(self.pairs) != size:
                    raise RuntimeError
                yield pair

        return steps()

    def iterkeys(self) -> Iterator[str]:
        return iter(self.keys())

    def itervalues(self) -> Iterator[str]:
        return iter(self.values())

    __iter__ = iterkeys

    def popitem(self) -> tuple[str, str]:
        if not self.pairs:
            raise KeyError
        return self.pairs.pop()

    def clear(self) -> None:
        self.pairs.clear()

    def copy(self) -> _Model:
        made = _Model()
        made.pairs = list(self.pairs)
        return made

    def update(self, other: Any) -> None:
        if isinstance(other, _Model):
            for key in other:
                del self[key]
            for pair in other.pairs:
                self.add(*pair)
            return
        for key, value in other.items():
            self[self._any(key)] = self._any(value)

    def _dict(self) -> dict[str, Any]:
        return {_fold(key): self[key] for key in self.keys()}

    def __eq__(self, other: object) -> bool:
        if isinstance(other, _Model):
            return self._dict() == other._dict()
        assert isinstance(other, dict)
        return self._dict() == {_fold(k) if isinstance(k, str) else k: v for k, v in other.items()}

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{key!r}: {value!r}" for key, value in self.pairs) + "}"


_KNOWN = strategies.sampled_from(
    ["a", "A", "b", "B", "", " a", "a1", "a01", "Set-Cookie", "SET-COOKIE", "\xe9", "\xc9"]
)
_TEXT = (
    _KNOWN
    | strategies.text(strategies.characters(max_codepoint=255), max_size=6)
    | strategies.text(strategies.characters(), max_size=3)  # with surrogates
    | strategies.binary(max_size=6).map(lambda value: {"bytes": value.decode("latin-1")})
)
_VALUE = _TEXT | strategies.integers(-9, 9)
_PAIRS = strategies.lists(strategies.tuples(_VALUE, _VALUE), max_size=4)
_OF_PAIRS = ("update", "update table", "construct", "construct dict", "equal")
_OF_A_KEY = sorted(set(fuzz_site.OPERATIONS) - set(_OF_PAIRS))
_OPERATION = strategies.tuples(strategies.sampled_from(_OF_A_KEY), _VALUE, _VALUE) | strategies.tuples(
    strategies.sampled_from(_OF_PAIRS), _PAIRS
).map(lambda operation: (operation[0], *operation[1]))
_TABLE = strategies.tuples(
    strategies.sampled_from(["own", "notes", "subprocess_env", "headers_out", "err_headers_out"]),
    strategies.lists(_OPERATION, max_size=25),
)


def test_tables(client: tuple[Server, http.client.HTTPConnection]) -> None:
    _, connection = client

    def check(example: Any) -> None:
        which, operations = json.loads(json.dumps(example))
        headers = "headers" in which
        expected = json.loads(json.dumps(fuzz_site.replay(_Model(headers=headers), _Model, operations)))
        connection.request("POST", "/tables", json.dumps(example).encode())
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200
        assert json.loads(body) == expected
        if not headers:  # the class outside httpd knows nothing of headers
            outside = fuzz_site.replay(mp_table(), mp_table, operations)
            assert json.loads(json.dumps(outside)) == expected

    _check(_TABLE, check)


# ---- options

#: What ends a line for httpd, or for the str.splitlines() of the test kit.
_LINE_ENDS = b"\0\r\n\v\f\x1c\x1d\x1e"

#: A key, a value or None, and how each is quoted.
_Option = tuple[bytes, "bytes | None", bytes, bytes]
_SPECIAL = [
    b"",
    b"a",
    b"A",
    b"key",
    b"KEY",
    b"a b",
    b'"',
    b"'",
    b"\\",
    b"\\\\",
    b'\\"',
    b"a\\",
    b"#",
    b"<",
    b"\xe9",
    b"\t",
    b"$",
    b"%{x}",
]


def _word(text: bytes) -> bytes:
    """Leave out what a configuration line cannot hold or would expand."""
    return text.translate(None, _LINE_ENDS).replace(b"${", b"$").replace(b"\xc2\x85", b"")


def _quoted(text: bytes, quote: bytes) -> bytes:
    bare = text and not text.endswith(b"\\") and text[:1] not in b"\"'" and not any(c in b" \t\v\f" for c in text)
    if not quote and not bare:
        quote = b'"'
    text = text.replace(b"\\", b"\\\\")
    return quote + (text.replace(quote, b"\\" + quote) if quote else text) + quote


def _line(option: _Option) -> bytes:
    key, value, quote_key, quote_value = option
    words = [b"PythonOption", _quoted(key, quote_key)]
    if value is not None:
        words.append(_quoted(value, quote_value))
    return b" ".join(words) + b"\n"


def _merged(scopes: list[list[_Option]]) -> dict[bytes, bytes]:
    """What is in force, of scopes from the outermost to the innermost."""
    result: dict[bytes, bytes] = {}
    for scope in scopes:
        for key, value, _, _ in scope:
            if value:
                result[key.lower()] = value
            else:
                result.pop(key.lower(), None)
    return result


def _received(body: bytes) -> dict[bytes, bytes]:
    pairs = [(key.encode("latin-1").lower(), value.encode("latin-1")) for key, value in json.loads(body)]
    assert len(dict(pairs)) == len(pairs), "a key occurs twice"
    return dict(pairs)


_BYTES = (strategies.sampled_from(_SPECIAL) | strategies.binary(max_size=9)).map(_word)
_QUOTE = strategies.sampled_from([b"", b'"', b"'"])
_OPTION = strategies.tuples(_BYTES.filter(bytes.strip), strategies.none() | _BYTES, _QUOTE, _QUOTE)
_SCOPES = strategies.lists(strategies.lists(_OPTION, max_size=5), min_size=3, max_size=3)


def test_options_in_htaccess_files(client: tuple[Server, http.client.HTTPConnection]) -> None:
    server, connection = client

    def check(scopes: Any) -> None:
        for directory, scope in zip(("o", "o/p", "o/p/q"), scopes, strict=True):
            server.write_file(f"{directory}/.htaccess", b"".join(map(_line, scope)))
        connection.request("GET", "/o/p/q/file.txt")
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, server.error_log[-1000:]
        assert _received(body) == _merged(scopes)

    _check(_SCOPES, check)


def _random_options(roll: random.Random) -> list[_Option]:
    found: list[_Option] = []
    for _ in range(roll.choice([0, 0, 1, 2, 4])):
        key = roll.choice([b"a", b"A", b"b", b"B", b"key", _word(roll.randbytes(3)).strip() or b"x", b"0 1"])
        value = roll.choice([None, roll.choice(_SPECIAL), _word(roll.randbytes(roll.randrange(20)))])
        found.append((key, value, roll.choice([b"", b'"', b"'"]), roll.choice([b"", b'"', b"'"])))
    return found


def test_options_in_sections() -> None:
    end = time.monotonic() + SECONDS / 10
    batch = 0
    while batch < 2 or time.monotonic() < end:
        _options_in_sections(batch)
        batch += 1
    print(f"seed {SEED}: {batch * _SITES} configurations")


def _options_in_sections(batch: int) -> None:
    """Start a server with many sites, each with sections of all kinds, and ask each of them."""
    roll = random.Random(f"{SEED}:{batch}")
    server_scope, host_scope = _random_options(roll), _random_options(roll)
    sites: list[list[list[_Option]]] = []
    sections: list[str] = []
    for number in range(_SITES):
        opening = (  # in the order in which httpd merges them
            f'<Directory "${{SITE}}/s{number}">',
            f'<Directory "${{SITE}}/s{number}/t">',
            f'<Files "f{number}.txt">',
            f'<Location "/s{number}/">',
            f'<If "%{{REQUEST_URI}} =~ m#^/s{number}/#">',
        )
        scopes = [_random_options(roll) for _ in opening]
        sites.append(scopes)
        for begin, scope in zip(opening, scopes, strict=True):
            if scope or roll.random() < 0.3:
                sections.append(f"{begin}\n{_config_text(scope)}</{begin[1:].split()[0]}>\n")
    roll.shuffle(sections)
    config = (
        "DocumentRoot ${SITE}\n<Directory ${SITE}>\nSetHandler mod_python\n"
        "PythonHandler ${SITE}/fuzz_site.py::options\n</Directory>\n"
        f"{_config_text(server_scope)}{''.join(sections)}"
        f"<VirtualHost *:${{PORT2}}>\n{_config_text(host_scope)}</VirtualHost>\n"
    )
    files = {"fuzz_site.py": _source(), **{f"s{number}/t/f{number}.txt": "" for number in range(_SITES)}}
    with running(config, files=files, listen=2, log_level="notice") as server:
        for number, scopes in enumerate(sites):
            for index, outer in enumerate(([server_scope], [server_scope, host_scope])):
                response = server.get(f"/s{number}/t/f{number}.txt", index=index)
                shown = f"seed {SEED}, batch {batch}, site {number}: {[*outer, *scopes]}"
                assert response.status == 200, shown
                assert _received(response.body) == _merged([*outer, *scopes]), shown


def _config_text(scope: list[_Option]) -> str:
    return b"".join(map(_line, scope)).decode("utf-8", "surrogateescape")
