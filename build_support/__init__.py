"""What the build needs to know and do, apart from setuptools itself.

    errors      one clear message, with the remedy for each platform
    httpd       which httpd to build for: apxs, headers, directories
    python      which Python to build for: headers, shared library, compiler
    commands    the setuptools commands that use them
    backend     the PEP 517 entry points (pyproject.toml names them)

Nothing here is installed.  `errors`, `httpd` and `python` import nothing
beyond the standard library, so that the tests can use them as they are.
"""
