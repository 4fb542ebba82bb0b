"""mod_python: Python 3 inside Apache httpd 2.4.

Importing the package costs next to nothing, inside httpd and outside: every
httpd child does it once for each interpreter.  What a handler needs is in
`mod_python.apache`.
"""

from __future__ import annotations

from . import version

mp_version: str = version.version
__version__: str = mp_version

# What `from mod_python import *` gives; a name that is a module is imported by it.
__all__ = ["apache", "cgihandler", "psp", "publisher", "python22", "util", "version"]
