"""A chat by lines: what one client writes, all the others read.

Each client has an httpd thread, which waits for its lines and writes them to
the connections of the others.  So bytes go out on a connection whose own
handler is waiting for input; that is what write() allows.

The clients of one child process see each other.  Run it with one process,
which is what `mod_python serve` does unless told otherwise.
"""

import threading

from mod_python import apache

members = {}  # connection -> name
lock = threading.Lock()


def connectionhandler(conn):
    conn.limit = 4096  # bytes kept while waiting for the end of a line
    conn.read_timeout = 3600  # seconds of silence
    conn.write_timeout = 5  # one who does not read must not hold up the others

    conn.write(b"Your name? ")
    name = conn.readline(64).strip()
    if not name:
        return apache.OK

    with lock:
        others = len(members)
        members[conn] = name
    try:
        conn.write(b"Welcome, others here: %d\n" % others)
        tell_others(conn, name + b" is here\n")
        for line in conn:
            tell_others(conn, name + b": " + line.rstrip(b"\r\n") + b"\n")
    finally:
        with lock:
            del members[conn]
        tell_others(conn, name + b" has left\n")
    return apache.OK


def tell_others(sender, text):
    with lock:
        others = [member for member in members if member is not sender]
    for member in others:  # without the lock: a write may have to wait
        try:
            member.write(text)
        except apache.ConnectionTimeout:
            member.close()  # its own handler wakes up and ends
        except (OSError, apache.DetachedError):
            pass  # it has just left
