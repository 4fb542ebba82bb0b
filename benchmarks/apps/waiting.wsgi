"""The hello page for mod_wsgi, after waiting for something."""

import time


def application(environ, start_response):
    time.sleep(0.005)  # as for a database
    body = b"Hello, world!\n"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
