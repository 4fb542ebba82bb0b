"""Behind `mod_python.publisher`: from a URL to an object, and from an object to a response.

routes   which module file, and which names in it, a URL means
kinds    what may be walked through, and what may be published
nested   ``__auth__`` and its like inside functions, read from compiled code
checks   asking them
output   sending an object
"""
