"""Bytes for the fuzz run: HTTP requests with something wrong, a byte-coded protocol, and noise."""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass

_METHODS = (
    b"GET GET GET POST POST PUT HEAD OPTIONS DELETE TRACE PROPFIND PATCH get FOO CONNECT M-SEARCH PRI G%T".split()
)
_VERSIONS = (
    [b"HTTP/1.1"] * 8 + b"HTTP/1.0 HTTP/0.9 HTTP/1.2 HTTP/2.0 HTTP/11.1 http/1.1 HTTP/1. HTTPS/1.1 X".split() + [b""]
)
_PATHS = [
    *(b"/ /a /a/b /other /file.txt /file.txt/more /dir /dir/ // /. /.. /../.. /%2e%2e/x /%00 /%ff%fe".split()),
    *(
        b"/%zz /% /%2 /a;b=c /a?b=c&d=%20 /?%00 /a?? /a#b /%e2%82%ac http://h/x http://[::1]:99999/ http://u:p@h:80/".split()
    ),
    *(b"* a \\x /\xe9 /%c3%a9 /\x01 /%0d%0aX:1 ?a /x").split(),
    b"/" + b"a" * 3000,
    b"/" + b"a/" * 400,
    b"/" + b"x" * 9000,
    b"/?" + b"%41" * 1000,
]
_NAMES = b"Accept Cookie X-Test X-Test Range Expect If-Modified-Since If-Match If-None-Match If-Range Referer TE \
Trailer Upgrade Via X-Forwarded-For Authorization Content-Type Content-Encoding Max-Forwards Date Host Connection \
".split()
_VALUES = [
    b"",
    b"a",
    b"\xe9\xff\x80",
    b"\t \t",
    b"bytes=0-1,5-,-3",
    b"bytes=9-1",
    b"100-continue",
    b"Thu, 01 Jan 1970 00:00:00 GMT",
    b"Sun, 99 Foo 99999 25:61:61 GMT",
    b'"etag", W/"b"',
    b"*",
    b"x" * 4000,
    b"y" * 9000,
    b"h2c, websocket",
    b"keep-alive, Upgrade",
    b"close",
    b"a\0b",
    b"a\x01\x7fb",
    b"-1",
    b"18446744073709551616",
    b"[::1",
    b"host:99999",
    b"a b:c",
    b"HTTP/1.1 500 x",
    b"%n%s%d",
    b"Negotiate \xff",
]
_FORMS = [
    *([b"multipart/form-data; boundary=x"] * 4),
    b"application/x-www-form-urlencoded",
    b'multipart/mixed; boundary="x',
    b"multipart/x; boundary=",
    b"multipart/",
]
_PART_HEADERS = [
    b'Content-Disposition: form-data; name="a"',
    b'Content-Disposition: form-data; name="a"; filename="b"',
    b'Content-Disposition: form-data;\r\n name="\xff"; filename=""',
    b"Content-Disposition: form-data; name=a; filename*=utf-8''%e",
    b'Content-Disposition: "',
    b"Content-Type: text",
    b"Content-Length: 3",
    b"X: \xff\0",
    b"nonsense",
    b" folded",
]
_TRANSFER = [b"chunked"] * 5 + [b"Chunked", b"gzip, chunked", b"identity", b"chunked, chunked", b"x", b""]
_ENDS = ["half", "half", "half", "half", "close", "reset", "wait"]


@dataclass(frozen=True, slots=True)
class Talk:
    """What a client does on one connection.

    Attributes:
        segments: What is sent, one after the other.
        end: ``"half"`` closes the sending direction and reads on, ``"wait"`` reads only,
            ``"close"`` and ``"reset"`` go at once.
        tls: Speak TLS on a port with TLS; else the bytes go there as they are.
    """

    segments: tuple[bytes, ...]
    end: str
    tls: bool

    def __str__(self) -> str:
        return f"end={self.end} tls={self.tls} segments={list(self.segments)!r}"


def http_talk(roll: random.Random) -> Talk:
    """Make a connection with HTTP requests, more or less."""
    data = b"".join(_request(roll) for _ in range(roll.choice([1, 1, 1, 2, 5])))
    if roll.random() < 0.03:
        data = b"LINE first\r\n" + data
    return _talk(roll, _spoil(roll, data))


def operations_talk(roll: random.Random) -> Talk:
    """Make a connection for the byte-coded protocol of `site.serve`."""
    parts = []
    for _ in range(roll.randrange(1, 30)):
        parts.append(bytes([roll.randrange(18)]))
        if roll.random() < 0.8:
            parts.append(
                roll.randrange(65536).to_bytes(2, "big")
                if roll.random() < 0.5
                else b"\0" + bytes([64 + roll.randrange(64)])
            )
        if roll.random() < 0.6:
            parts.append(_noise(roll, roll.choice([1, 5, 40, 3000])) + roll.choice([b"\n", b"", b"\r\n"]))
    data = b"".join(parts)
    return _talk(roll, _spoil(roll, data) if roll.random() < 0.3 else data)


def _talk(roll: random.Random, data: bytes) -> Talk:
    way = roll.random()
    if way < 0.6:
        segments = [data]
    elif way < 0.9:
        cuts = sorted(roll.randrange(len(data) + 1) for _ in range(roll.randrange(1, 6)))
        segments = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    else:
        segments = [data[at : at + 1] for at in range(min(len(data), 300))] + [data[300:]]
    return Talk(tuple(part for part in segments if part), roll.choice(_ENDS), roll.random() > 0.05)


def _noise(roll: random.Random, most: int) -> bytes:
    size = roll.randrange(most + 1)
    return roll.randbytes(size) if roll.random() < 0.7 else roll.choice([b"a", b"\n", b"\0", b"\xff", b"\r\n"]) * size


def _request(roll: random.Random) -> bytes:
    version = roll.choice(_VERSIONS)
    path = roll.choice(_PATHS) if roll.random() < 0.7 else b"/" + _noise(roll, 30).replace(b"\n", b"%0a")
    lines = [roll.choice(_METHODS) + b" " + path + (b" " + version if version else b"")]
    if roll.random() < 0.95:
        lines.append(b"Host: " + roll.choice([b"localhost", b"localhost", b"x:80", *_VALUES]))
    for _ in range(roll.choice([0, 0, 1, 2, 3, 8, 120])):
        value = roll.choice(_VALUES) if roll.random() < 0.8 else _noise(roll, 60).replace(b"\n", b" ")
        lines.append(roll.choice(_NAMES) + roll.choice([b": ", b": ", b":", b" : ", b":\t"]) + value)
    if roll.random() < 0.2:
        lines.append(b"Authorization: Basic " + base64.b64encode(_noise(roll, 40)) + roll.choice([b"", b"=", b"!"]))
    if roll.random() < 0.05:
        lines.append(b" folded")
    body = _noise(roll, roll.choice([0, 10, 500, 20000]))
    if roll.random() < 0.2:
        lines.append(b"Content-Type: " + roll.choice(_FORMS))
        body = _form(roll)
    framing = roll.randrange(8)
    if framing in (0, 1):
        lines.append(b"Content-Length: %d" % len(body))
    elif framing == 2:
        lines.append(
            b"Content-Length: "
            + roll.choice([b"%d" % (len(body) + 5), b"%d" % (len(body) // 2), b"-1", b"9" * 25, b"0x5", b"5, 5"])
        )
    elif framing in (3, 4, 5):
        lines.append(b"Transfer-Encoding: " + roll.choice(_TRANSFER))
        body = _chunks(roll, body)
        if framing == 5:
            lines.append(b"Content-Length: 5")
    else:
        body = b""
    if roll.random() < 0.2:
        lines.append(b"Expect: 100-continue")
    return roll.choice([b"\r\n"] * 9 + [b"\n"]).join(lines) + b"\r\n\r\n" + body


def _form(roll: random.Random) -> bytes:
    """Make the body of a form, multipart or not."""
    if roll.random() < 0.3:
        return b"".join(
            roll.choices([b"a", b"&", b";", b"=", b"%", b"%41", b"%f", b"+", b"\xff"], k=roll.randrange(40))
        )
    lines = [b"--x"] if roll.random() < 0.8 else []
    for _ in range(roll.choice([1, 2, 10])):
        lines += roll.choices(_PART_HEADERS, k=roll.choice([0, 1, 1, 2]))
        lines += [*([b""] if roll.random() < 0.95 else []), _noise(roll, roll.choice([0, 5, 5000])), b"--x"]
    if roll.random() < 0.8:
        lines[-1] = b"--x--"
    return (b"\r\n" if roll.random() < 0.9 else b"\n").join([*lines, b""])


def _chunks(roll: random.Random, body: bytes) -> bytes:
    made = []
    while body:
        size = roll.randrange(1, len(body) + 1)
        part, body = body[:size], body[size:]
        head = b"%x" % size
        if roll.random() < 0.1:
            head = roll.choice(
                [
                    b"%x;a=b" % size,
                    b"0x5",
                    b"-1",
                    b"g",
                    b"",
                    b"f" * 20,
                    b"%x " % size,
                    b"0" * 40 + head,
                    b"%x" % (size + 9),
                ]
            )
        made.append(head + b"\r\n" + part + (b"\r\n" if roll.random() < 0.97 else b"\n"))
    end = roll.choice(
        [b"0\r\n\r\n"] * 6
        + [b"0\r\nX-Trailer: 1\r\n\r\n", b"0\r\n", b"", b"0\r\nbad\r\n\r\n", b"0\r\n" + b"T: x\r\n" * 300 + b"\r\n"]
    )
    return b"".join(made) + end


def _spoil(roll: random.Random, data: bytes) -> bytes:
    """Change some bytes, or take others altogether."""
    way = roll.random()
    if way < 0.07:
        return _noise(roll, 5000)
    if way < 0.6 or not data:
        return data
    changed = bytearray(data)
    for _ in range(roll.choice([1, 1, 2, 5, 30])):
        at = roll.randrange(len(changed) + 1)
        action = roll.randrange(5)
        if action == 0 and at < len(changed):
            changed[at] = roll.randrange(256)
        elif action == 1:
            del changed[at : at + roll.choice([1, 1, 10])]
        elif action == 2:
            changed[at:at] = _noise(roll, 4)
        elif action == 3:
            changed[at:at] = changed[at : at + roll.randrange(100)]
        elif roll.random() < 0.2:
            del changed[at:]
    return bytes(changed)
