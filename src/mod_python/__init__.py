"""mod_python: Python 3 inside Apache httpd 2.4.

Importing the package costs next to nothing, inside httpd and outside: every
httpd child does it once for each interpreter.  What a handler needs is in
`mod_python.apache`.
"""

from __future__ import annotations

from . import version

mp_version: str = version.version
__version__: str = mp_version

__all__ = ["apache", "mp_version", "version"]
