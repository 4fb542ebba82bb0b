# mypy: ignore-errors
"""The echo server of the manual, as it stands there: run by this mod_python and by the old one alike."""

from mod_python import apache


def connectionhandler(conn):

    while 1:
        conn.write(conn.readline())

    return apache.OK
