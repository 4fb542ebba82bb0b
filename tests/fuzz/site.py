"""What runs inside httpd under the fuzz run: handlers that do what the bytes they get tell them.

Their choices depend on the bytes alone, so a connection can be repeated. They catch the exceptions
that documented misuse raises; whatever else gets out is a traceback in the log, and a finding.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from mod_python import apache, util

_MEMBERS = """
connection server next prev main the_request assbackwards proxyreq header_only protocol proto_num hostname
request_time status_line status method method_number allowed allowed_xmethods allowed_methods sent_bodyct bytes_sent
mtime chunked range clength remaining read_length read_body read_chunked expecting_100 headers_in headers_out
err_headers_out subprocess_env notes phase interpreter content_type content_encoding content_languages handler
vlist_validator user ap_auth_type no_cache no_local_copy unparsed_uri uri filename canonical_filename path_info args
finfo parsed_uri used_path_info eos_sent useragent_addr useragent_ip hlist extension _content_type_set _bytes_queued
_request_rec
"""
_CONNECTION = """
base_server local_addr client_addr client_ip remote_host remote_logname aborted keepalive keepalives double_reverse
local_ip local_host id notes hlist interpreter closed limit read_timeout write_timeout
"""
MEMBERS, CONNECTION = _MEMBERS.split(), _CONNECTION.split()
TABLES = ("headers_in", "headers_out", "err_headers_out", "subprocess_env", "notes")
TEXTS = ("content_type", "status_line", "user", "ap_auth_type", "args", "uri", "filename", "path_info", "handler")
MARK = "X-On-Purpose"


class OnPurposeError(Exception):
    """A handler's own failure."""


def dice(req: Any) -> random.Random:
    """Random numbers that depend on the request alone; those of a request's phases differ."""
    headers = repr(req.headers_in.items())
    return random.Random(zlib.crc32(f"{req.the_request}{headers}{req.phase}".encode("utf-8", "surrogatepass")))


def on_purpose(req: Any, status: int) -> int:
    """Return a status, and say that it is meant."""
    req.err_headers_out[MARK] = req.notes[MARK] = str(status)
    return status


def look(req: Any) -> None:
    """Read everything there is."""
    for name in MEMBERS:
        value = getattr(req, name)
        repr(value)
    for name in CONNECTION:
        repr(getattr(req.connection, name))
    for name in TABLES:
        table = getattr(req, name)
        items = table.items()
        if [key for key, _ in items] != table.keys() or [value for _, value in items] != list(table.itervalues()):
            raise AssertionError(f"{name}: keys and values are not those of items")
        for key, _ in items:
            table[key]
            if key not in table:
                raise AssertionError(f"{name}: {key!r} is missing")
        if table.copy() != table or len(table) != len(items):
            raise AssertionError(f"{name}: the copy differs")
    repr(req.finfo.fname)
    req.construct_url(req.uri)
    req.document_root(), req.auth_name(), req.auth_type(), req.is_https()
    req.get_remote_host(apache.REMOTE_NOLOOKUP)
    dict(req.get_options().items()), dict(req.get_config().items())


def change(req: Any, roll: random.Random) -> None:
    """Set members to what the client sent."""
    values = [value for _, value in req.headers_in.items()] or [""]
    text = roll.choice([*values, req.unparsed_uri, req.args or ""])
    for _ in range(roll.randrange(4)):
        action = roll.randrange(8)
        try:
            if action == 0:
                req.headers_out[f"X-{roll.randrange(9)}"] = text
            elif action == 1:
                req.err_headers_out.add("X-Many", text)
            elif action == 2:
                name = roll.choice(TEXTS[:4] if req.phase == "PythonHandler" else TEXTS[2:5])
                setattr(req, name, text)
            elif action == 3:
                req.notes[text] = text
                req.subprocess_env.add(text, text)
            elif action == 4:
                req.log_error(text, apache.APLOG_DEBUG)
                req.get_basic_auth_pw()
            elif action == 5:
                req.add_cgi_vars()
                req.update_mtime(roll.random() * 2e9)
                req.set_last_modified()
                req.set_etag()
            elif action == 6:
                req.allow_methods([text, req.method])
            else:
                req.register_cleanup(cleanup, req)
                req.no_cache = roll.randrange(2)
        except (ValueError, TypeError):
            pass  # what a client sends need not fit
    if req.status >= 500:
        on_purpose(req, req.status)


def cleanup(req: Any) -> int:
    repr(req.the_request)
    return apache.OK


def any_phase(req: Any) -> int:
    look(req)
    roll = dice(req)
    if roll.random() < 0.5:
        change(req, roll)
    if roll.random() < 0.02:
        raise apache.SERVER_RETURN(roll.choice([apache.HTTP_FORBIDDEN, apache.HTTP_NOT_FOUND]))
    return apache.OK


def decline(req: Any) -> int:
    look(req)
    return apache.DECLINED


def authenticate(req: Any) -> int:
    look(req)
    req.get_basic_auth_pw()
    if not req.user:
        req.user = "nobody"
    return apache.OK if dice(req).random() < 0.95 else apache.HTTP_UNAUTHORIZED


def log(req: Any) -> int:
    look(req)
    chain = [req]  # the status is that of the last one of them
    while chain[-1].next:
        chain.append(chain[-1].next)
    marked = any(MARK in one.notes for one in chain)
    if req.status >= 500 and not marked and req.status not in (501, 505):
        req.log_error(f"fuzz: unexpected status {req.status} of {req.the_request!r:.300}", apache.APLOG_ERR)
    return apache.OK


def read_body(req: Any, roll: random.Random) -> Iterator[bytes]:
    """Read the body in one of the ways there are, or not at all."""
    way, size = roll.randrange(10), roll.choice([0, 1, 2, 7, 100, 8192, 100000])
    if way == 0:
        yield req.read()
    elif way == 1:
        while data := req.read(size or 1):
            yield data
    elif way == 2:
        while data := req.readline(size or 1):
            yield data
    elif way == 3:
        yield from req.readlines(size)
    elif way == 4:
        yield from req
    elif way == 5:
        status = req.discard_request_body()
        if status != apache.OK:
            raise apache.SERVER_RETURN(status)
    elif way == 6:
        yield req.readline()
        yield req.read(size)
        yield req.read()
    elif way in (7, 8):
        form = util.FieldStorage(req, way)
        yield repr(form.list).encode("utf-8", "surrogateescape")
        yield repr(util.apply_fs_data(lambda **fields: fields, form)).encode("utf-8", "surrogateescape")


def content(req: Any) -> Any:
    try:
        return answer(req)
    except RuntimeError as error:
        # A filter has ended the response, so nothing can be added to it.
        if "is complete" in str(error) and getattr(req, "closed_early", False):
            return apache.OK
        raise


def answer(req: Any) -> Any:
    look(req)
    roll = dice(req)
    if roll.random() < 0.2:
        req.register_output_filter("fuzz_own", output_filter)
        req.add_output_filter("fuzz_own")
    if roll.random() < 0.3:
        change(req, roll)
    if roll.random() < 0.05:
        status = req.meets_conditions()
        if status != apache.OK:
            return status
    flush = roll.randrange(2)
    for data in read_body(req, roll):
        if roll.random() < 0.5:
            req.write(data.hex(), flush)
    end = roll.randrange(24)
    if end == 0:
        on_purpose(req, 500)
        raise OnPurposeError(req.uri)
    if end == 1:
        return on_purpose(req, roll.choice([500, 502, 503, 507]))
    if end == 2:
        raise apache.SERVER_RETURN(roll.choice([400, 403, 404, 410, 418, 429]))
    if end == 3:
        return apache.DECLINED
    if end == 4 and not req.prev:
        req.internal_redirect("/other?" + (req.args or ""))
    elif end == 5:
        req.sendfile(__file__, roll.randrange(100), roll.randrange(2000))
    elif end == 6:
        req.write(b"\xff" * roll.choice([0, 1, 8000, 200000]), roll.randrange(2))
    elif end == 7:
        req.flush()
        req.write("")
        req.write("late")
    elif end == 8:
        return apache.DONE
    else:
        req.write(repr((req.uri, req.args, req.headers_in.items())).encode("utf-8", "surrogatepass").hex())
    look(req)
    return apache.OK


# ---- filters


def filter_dice(filt: Any, data: bytes) -> Any:
    if filt.ctx is None:
        filt.ctx = random.Random(zlib.crc32(data))
    return filt.ctx


def pump(filt: Any) -> None:
    """Pass data on, in pieces of any size; now and then do something else."""
    req = filt.req
    if req is not None:
        roll = filt.ctx if filt.ctx is not None else filter_dice(filt, req.the_request.encode("latin-1", "replace"))
    else:
        roll = filt.ctx
    while True:
        if roll is None:
            data = filt.read()
            roll = filter_dice(filt, data or b"")
        elif roll.random() < 0.4:
            data = filt.readline(roll.choice([-1, 1, 10, 9000]))
        else:
            data = filt.read(roll.choice([-1, -1, 1, 13, 500, 9000]))
        if not data:
            break
        way = roll.randrange(60)
        if way == 0:
            filt.write(data)
            filt.pass_on()
            return
        if way == 1:
            filt.flush()
        elif way == 2 and req is not None:
            look(req) if roll.random() < 0.2 else repr(req.uri)
        elif way == 3:
            filt.write(data)
            filt.disable()
            filt.pass_on()
            return
        elif way == 4 and req is not None:
            if roll.random() < 0.2:
                filt.write(data)
                if not filt.is_input:
                    req.closed_early = True
                filt.close()
                return
            if roll.random() < 0.05:
                raise OnPurposeError("filter")
        half = roll.randrange(len(data) + 1)
        filt.write(data[:half])
        filt.write(data[half:])
    if data is None and req is not None:
        filt.close()


def input_filter(filt: Any) -> None:
    pump(filt)


def output_filter(filt: Any) -> None:
    pump(filt)


# ---- connections


def serve(conn: Any) -> int:
    """A protocol in which each byte is an operation, and those after it are its arguments."""
    for name in CONNECTION:
        repr(getattr(conn, name))
    conn.timeout = 2
    conn.limit = 70000
    while True:
        op = conn.read(1)
        if not op:
            return apache.OK
        try:
            result = operation(conn, op[0] % 18)
        except apache.LimitError:
            conn.limit = 70000
            conn.read(1000)
            result = b"limit"
        except ValueError as error:
            result = str(error).encode()
        except apache.IncompleteRead as error:
            conn.write(error.partial)
            raise
        if isinstance(result, int):
            return result
        conn.write(result)


def number(conn: Any) -> int:
    """Two bytes as a signed number, mostly a small one."""
    value = int.from_bytes(conn.readexactly(2), "big")
    return (value & 63) if value & 64 else value - 2000


def operation(conn: Any, op: int) -> Any:
    if op == 0:
        return conn.readline()
    if op == 1:
        return conn.readline(number(conn))
    if op == 2:
        return conn.read()
    if op == 3:
        return conn.read(number(conn))
    if op == 4:
        return conn.readexactly(number(conn))
    if op == 5:
        size = number(conn) % 8
        return conn.readuntil(conn.read(size) if size else b"", number(conn))
    if op == 6:
        return conn.readuntil(conn.peek(1))
    if op == 7:
        seen = conn.peek(number(conn))
        if seen and conn.read(len(seen)) != seen:
            raise AssertionError("peek saw something else")
        return seen
    if op == 8:
        lines = []
        for line in conn:
            lines.append(line)
            if len(lines) > 3:
                break
        return b"".join(lines)
    if op == 9:
        conn.limit = number(conn)
        return b"limit"
    if op == 10:
        conn.write([b"a", memoryview(b"bc"), bytearray(b"d" * (number(conn) % 70000))])
        conn.flush()
    elif op == 11:
        conn.read_timeout = number(conn) / 1000
        return conn.peek(1)
    elif op == 12:
        conn.write(repr((conn.is_https(), conn.ssl_var_lookup("SSL_PROTOCOL"), conn.notes.items())).encode())
        conn.notes[conn.peek(1)] = conn.readline(20)
        conn.notes.add("a", conn.peek(1))
    elif op == 13:
        if conn.can_write_eof():
            conn.write_eof()
            conn.read(-1)
            return apache.OK
    elif op == 14:
        conn.close()
        return apache.OK
    elif op == 15:
        conn.log_error(conn.readline(99), apache.APLOG_DEBUG)
    elif op == 16:
        return (apache.OK, apache.DECLINED, apache.DONE, 404)[number(conn) & 3]
    elif op == 17:
        return conn.read(-1)
    return b""


def peek_and_decline(conn: Any) -> int:
    first = conn.peek(1)
    if not first:
        return apache.OK
    roll = random.Random(zlib.crc32(first))
    for _ in range(roll.randrange(3)):
        seen = conn.peek(roll.choice([1, 2, 5, 16]))
        if seen[:4] == b"LINE":
            conn.write(conn.readline())
    conn.notes["peeked"] = "yes"
    return apache.DECLINED


# ---- tables and options

#: What is done to a table: name → function of the table, of one that makes tables, and of arguments.
OPERATIONS: dict[str, Callable[..., Any]] = {
    "set": lambda t, _, key, value: t.__setitem__(key, value),
    "add": lambda t, _, key, value: t.add(key, value),
    "del": lambda t, _, key, *__: t.__delitem__(key),
    "getitem": lambda t, _, key, *__: t[key],
    "get": lambda t, _, key, *__: t.get(key),
    "get default": lambda t, _, key, value: str(t.get(key, value)),
    "in": lambda t, _, key, *__: key in t,
    "has_key": lambda t, _, key, *__: t.has_key(key),
    "setdefault": lambda t, _, key, value: t.setdefault(key, value),
    "add while iterating": lambda t, _, key, value: _add_while_iterating(t, key, value),
    "look": lambda t, _, *__: [len(t), bool(t), t.keys(), t.values(), t.items(), repr(t), str(t)],
    "iterate": lambda t, _, *__: [list(t), list(t.iterkeys()), list(t.itervalues()), list(t.iteritems())],
    "popitem": lambda t, _, *__: t.popitem(),
    "clear": lambda t, _, *__: t.clear(),
    "copy": lambda t, _, *__: [t.copy() == t, t.copy().items()],
    "update": lambda t, _, *pairs: t.update(dict(pairs)),
    "update table": lambda t, make, *pairs: t.update(_table(make, pairs)),
    "construct": lambda _, make, *pairs: make(pairs).items(),
    "construct dict": lambda _, make, *pairs: make(dict(pairs)).items(),
    "equal": lambda t, make, *pairs: [t == _table(make, pairs), t != _table(make, pairs), t == dict(pairs)],
}


def _table(make: Callable[..., Any], pairs: Any) -> Any:
    table = make()
    for pair in pairs:
        table.add(*pair)
    return table


def _add_while_iterating(table: Any, key: Any, value: Any) -> Any:
    steps = table.iteritems()
    table.add(key, value)
    return next(steps)


def _decoded(value: Any) -> Any:
    """Undo what JSON does to bytes and tuples."""
    if isinstance(value, dict):
        return value["bytes"].encode("latin-1")
    return tuple(map(_decoded, value)) if isinstance(value, list) else value


def replay(table: Any, make: Callable[..., Any], operations: Any) -> list[Any]:
    """Carry out operations; return what each of them gave, and the table's items at the end."""
    results: list[Any] = []
    for name, *arguments in operations:
        try:
            results.append(OPERATIONS[name](table, make, *map(_decoded, arguments)))
        except (TypeError, ValueError, KeyError, RuntimeError) as error:
            # Which of the two it is where key and value are both wrong is not laid down.
            results.append("refused" if isinstance(error, (TypeError, ValueError)) else type(error).__name__)
    return [*results, table.items()]


def tables(req: Any) -> int:
    """Carry out the operations in the body on a table, of Python's or of the request."""
    which, operations = json.loads(req.read())
    if which == "own":
        table: Any = apache.table()
    else:
        table = getattr(req, which)
    kept = table.items()
    table.clear()
    result = json.dumps(replay(table, apache.table, operations))
    if which != "own":
        table.clear()
        for item in kept:
            table.add(*item)
    req.content_type = "application/json"
    req.write(result, 0)
    return apache.OK


def options(req: Any) -> int:
    """Send the options in force."""
    req.content_type = "application/json"
    req.write(json.dumps(req.get_options().items()), 0)
    return apache.OK
