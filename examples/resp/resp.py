r"""The protocol of Redis, RESP2: commands out of bytes, and answers into bytes.

No input or output happens here, so every kind of server can use it:

    parser = resp.Parser()
    for words in parser.feed(data):
        ...                            # [b"SET", b"colour", b"blue"]
"""

MOST_WORDS = 1024  # of a command
MOST_BYTES = 1 << 20  # of a command
LONGEST_LINE = 65536  # of a command that is typed in, or of a number

OK = b"+OK\r\n"
PONG = b"+PONG\r\n"
NIL = b"$-1\r\n"


class ProtocolError(Exception):
    """What came is no RESP; the connection cannot go on."""


class Parser:
    """Makes commands out of the bytes of one connection."""

    def __init__(self):
        self._rest = b""

    def feed(self, data):
        """Take bytes as they came; give each command that is complete, as a list of words.

        Raises:
            ProtocolError: after the commands before it were given.
        """
        if self._rest:
            data = self._rest + data
        at = 0
        while at < len(data):
            words, at, complete = _command(data, at)
            if not complete:
                break
            if words:
                yield words
        self._rest = data[at:]


def _command(data, begin):
    """Return (words, where the next command begins, whether it is complete)."""
    incomplete = None, begin, False
    end = data.find(b"\n", begin)
    if end < 0:
        if len(data) - begin > LONGEST_LINE:
            raise ProtocolError("too big inline request")
        return incomplete
    if data[begin] != 42:  # "*"; without it, a line that somebody types in
        return data[begin:end].split(), end + 1, True
    words = []
    size = 0
    for _ in range(_number(data[begin + 1 : end], MOST_WORDS, "multibulk length")):
        at = end + 1
        end = data.find(b"\n", at)
        if end < 0:
            if len(data) - at > LONGEST_LINE:
                raise ProtocolError("too big bulk count string")
            return incomplete
        if data[at] != 36:  # "$"
            raise ProtocolError(f"expected '$', got '{chr(data[at])}'")
        length = _number(data[at + 1 : end], MOST_BYTES, "bulk length")
        size += length
        if size > MOST_BYTES:
            raise ProtocolError("too big command")
        at = end + 1
        end = at + length + 1
        if len(data) <= end:
            return incomplete
        if data[at + length : end + 1] != b"\r\n":
            raise ProtocolError("invalid end of a bulk string")
        words.append(data[at : at + length])
    return words, end + 1, True


def _number(text, most, what):
    text = text.removesuffix(b"\r")
    if not text.isdigit() or len(text) > 10 or int(text) > most:
        raise ProtocolError(f"invalid {what}")
    return int(text)


def bulk(value):
    """An answer of any bytes, or of nothing for None."""
    return NIL if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


def integer(value):
    """An answer that is a number."""
    return b":%d\r\n" % value


def array(answers):
    """An answer of several."""
    return b"*%d\r\n%b" % (len(answers), b"".join(answers))


def error(text):
    """An answer that says what went wrong."""
    return b"-%b\r\n" % " ".join(text.split()).encode()
