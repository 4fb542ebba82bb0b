"""A store of keys and values that speaks two protocols on one port.

`lines` looks at the first byte without taking it.  Methods of HTTP are written
in capitals: then it declines, httpd goes on with HTTP, and `page` answers.
Otherwise it serves a protocol of lines, whose commands are in small letters.

Both functions live in one module, so they share `store`: in one process.
"""

from mod_python import apache

LIMIT = 1000  # keys; what clients can fill needs a bound
USAGE = b"get KEY, set KEY VALUE, or quit\n"

store = {}


def lines(conn):
    if conn.peek(1).isupper():
        return apache.DECLINED

    conn.limit = 4096
    for line in conn:
        match line.decode("utf-8", "replace").strip().split(maxsplit=2):
            case ["get", key]:
                conn.write(store.get(key, "").encode() + b"\n")
            case ["set", key, value]:
                if key in store or len(store) < LIMIT:
                    store[key] = value
                    conn.write(b"ok\n")
                else:
                    conn.write(b"full\n")
            case ["quit"]:
                break
            case _:
                conn.write(USAGE)
    return apache.OK


def page(req):
    req.content_type = "text/plain; charset=utf-8"
    for key, value in sorted(store.items()):
        req.write(f"{key} = {value}\n", 0)
    return apache.OK
