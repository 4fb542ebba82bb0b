"""Sessions: what is behind `mod_python.Session`.

base         BaseSession: ids, cookies, life of a session
chain        one session for a request and what it leads to
items        dictionaries that have their items in common
site         whose a session is
cookie       the cookie, and what shared caches may keep
options      PythonOption mod_python.session.*
locks        one at a time: in the process, and between processes
private      directories and files that nobody else may write
serial       sessions as bytes
memory, files, dbm_file, sqlite, redis_server    the stores
"""
