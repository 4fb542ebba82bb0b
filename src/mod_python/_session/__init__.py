"""Sessions: what is behind `mod_python.Session`.

base         BaseSession: ids, cookies, life of a session
options      PythonOption mod_python.session.*
locks        one at a time: in the process, and between processes
private      directories and files that nobody else may write
serial       sessions as bytes
memory, files, dbm_file, sqlite, redis_server    the stores
"""
