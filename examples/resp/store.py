"""A store of keys and values that answers commands of Redis."""

import threading

import resp

MOST_KEYS = 1_000_000

values = {}
lock = threading.Lock()  # for what takes more than one step; among coroutines nobody contends for it


def answer(words):
    """Do what a command says; return the answer as bytes."""
    name = words[0].upper()
    try:
        least, most, function = COMMANDS[name]
    except KeyError:
        return resp.error(f"ERR unknown command '{name[:64].decode('ascii', 'replace')}'")
    if not least <= len(words) <= most:
        return resp.error(f"ERR wrong number of arguments for '{name.decode().lower()}' command")
    return function(words)


def ping(words):
    return resp.PONG if len(words) == 1 else resp.bulk(words[1])


def set_(words):
    _, key, value = words
    if len(values) >= MOST_KEYS and key not in values:
        return resp.error("OOM no room for more keys")
    values[key] = value
    return resp.OK


def get(words):
    return resp.bulk(values.get(words[1]))


def delete(words):
    return resp.integer(sum(values.pop(key, None) is not None for key in words[1:]))


def exists(words):
    return resp.integer(sum(key in values for key in words[1:]))


def increment(words):
    key = words[1]
    with lock:
        try:
            value = int(values.get(key, b"0")) + 1
        except ValueError:
            return resp.error("ERR value is not an integer or out of range")
        values[key] = b"%d" % value
    return resp.integer(value)


def command(words):
    return resp.array([])  # clients ask for a table of the commands, and can do without


def config(words):
    # redis-benchmark asks for two of the server's settings.
    if words[1].upper() != b"GET" or len(words) < 3:
        return resp.error("ERR unknown subcommand")
    return resp.array([resp.bulk(words[2]), resp.bulk(b"")])


MANY = resp.MOST_WORDS

COMMANDS = {  # name -> least and most words, function
    b"PING": (1, 2, ping),
    b"SET": (3, 3, set_),
    b"GET": (2, 2, get),
    b"DEL": (2, MANY, delete),
    b"EXISTS": (2, MANY, exists),
    b"INCR": (2, 2, increment),
    b"COMMAND": (1, MANY, command),
    b"CONFIG": (2, MANY, config),
}
