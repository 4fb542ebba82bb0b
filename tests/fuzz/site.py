"""What runs inside httpd under the fuzz run: handlers that do what the bytes they get tell them.

Their choices depend on the bytes alone, so a connection can be repeated. They catch the exceptions
that documented misuse raises; whatever else gets out is a traceback in the log, and a finding.
"""

import random
import zlib

from mod_python import apache

MEMBERS = """
connection server next prev main the_request assbackwards proxyreq header_only protocol proto_num hostname
request_time status_line status method method_number allowed allowed_xmethods allowed_methods sent_bodyct bytes_sent
mtime chunked range clength remaining read_length read_body read_chunked expecting_100 headers_in headers_out
err_headers_out subprocess_env notes phase interpreter content_type content_encoding content_languages handler
vlist_validator user ap_auth_type no_cache no_local_copy unparsed_uri uri filename canonical_filename path_info args
finfo parsed_uri used_path_info eos_sent useragent_addr useragent_ip hlist extension _content_type_set _bytes_queued
_request_rec
""".split()
CONNECTION = """
base_server local_addr client_addr client_ip remote_host remote_logname aborted keepalive keepalives double_reverse
local_ip local_host id notes hlist interpreter closed limit read_timeout write_timeout
""".split()
TABLES = ("headers_in", "headers_out", "err_headers_out", "subprocess_env", "notes")
TEXTS = ("content_type", "status_line", "user", "ap_auth_type", "args", "uri", "filename", "path_info", "handler")
MARK = "X-On-Purpose"


class OnPurposeError(Exception):
    """A handler's own failure."""


def dice(req):
    """Random numbers that depend on the request alone; those of a request's phases differ."""
    headers = repr(req.headers_in.items())
    return random.Random(zlib.crc32(f"{req.the_request}{headers}{req.phase}".encode("utf-8", "surrogatepass")))


def on_purpose(req, status):
    """Return a status, and say that it is meant."""
    req.err_headers_out[MARK] = req.notes[MARK] = str(status)
    return status


def look(req):
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


def change(req, roll):
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


def cleanup(req):
    repr(req.the_request)
    return apache.OK


def any_phase(req):
    look(req)
    roll = dice(req)
    if roll.random() < 0.5:
        change(req, roll)
    if roll.random() < 0.02:
        raise apache.SERVER_RETURN(roll.choice([apache.HTTP_FORBIDDEN, apache.HTTP_NOT_FOUND]))
    return apache.OK


def decline(req):
    look(req)
    return apache.DECLINED


def authenticate(req):
    look(req)
    req.get_basic_auth_pw()
    if not req.user:
        req.user = "nobody"
    return apache.OK if dice(req).random() < 0.95 else apache.HTTP_UNAUTHORIZED


def log(req):
    look(req)
    chain = [req]  # the status is that of the last one of them
    while chain[-1].next:
        chain.append(chain[-1].next)
    marked = any(MARK in one.notes for one in chain)
    if req.status >= 500 and not marked and req.status not in (501, 505):
        req.log_error(f"fuzz: unexpected status {req.status} of {req.the_request!r:.300}", apache.APLOG_ERR)
    return apache.OK


def read_body(req, roll):
    """Read the body in one of the ways there are, or not at all."""
    way, size = roll.randrange(8), roll.choice([0, 1, 2, 7, 100, 8192, 100000])
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
        req.discard_request_body()
    elif way == 6:
        yield req.readline()
        yield req.read(size)
        yield req.read()


def content(req):
    try:
        return answer(req)
    except RuntimeError as error:
        # A filter has ended the response, so nothing can be added to it.
        if "is complete" in str(error) and getattr(req, "closed_early", False):
            return apache.OK
        raise


def answer(req):
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


def filter_dice(filter, data):
    if filter.ctx is None:
        filter.ctx = random.Random(zlib.crc32(data))
    return filter.ctx


def pump(filter):
    """Pass data on, in pieces of any size; now and then do something else."""
    req = filter.req
    if req is not None:
        roll = filter.ctx if filter.ctx is not None else filter_dice(filter, req.the_request.encode("latin-1", "replace"))
    else:
        roll = filter.ctx
    while True:
        if roll is None:
            data = filter.read()
            roll = filter_dice(filter, data or b"")
        elif roll.random() < 0.4:
            data = filter.readline(roll.choice([-1, 1, 10, 9000]))
        else:
            data = filter.read(roll.choice([-1, -1, 1, 13, 500, 9000]))
        if not data:
            break
        way = roll.randrange(60)
        if way == 0:
            filter.write(data)
            filter.pass_on()
            return
        if way == 1:
            filter.flush()
        elif way == 2 and req is not None:
            look(req) if roll.random() < 0.2 else repr(req.uri)
        elif way == 3:
            filter.write(data)
            filter.disable()
            filter.pass_on()
            return
        elif way == 4 and req is not None:
            if roll.random() < 0.2:
                filter.write(data)
                if not filter.is_input:
                    req.closed_early = True
                filter.close()
                return
            if roll.random() < 0.05:
                raise OnPurposeError("filter")
        half = roll.randrange(len(data) + 1)
        filter.write(data[:half])
        filter.write(data[half:])
    if data is None and req is not None:
        filter.close()


def input_filter(filter):
    pump(filter)


def output_filter(filter):
    pump(filter)


# ---- connections


def serve(conn):
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


def number(conn):
    """Two bytes as a signed number, mostly a small one."""
    value = int.from_bytes(conn.readexactly(2), "big")
    return (value & 63) if value & 64 else value - 2000


def operation(conn, op):
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


def peek_and_decline(conn):
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
