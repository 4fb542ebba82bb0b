# The build writes _build.py; this is what is in it, for checkers of types.

HTTPD: str
HTTPD_VERSION: str
APR_VERSION: str
LIBEXECDIR: str
SYSCONFDIR: str
APXS: str
PYTHON_BIN: str
DEBUG_BUILD: bool
