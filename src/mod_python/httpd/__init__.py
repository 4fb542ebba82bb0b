"""Finding, configuring and running an httpd.

Used by the command line (`mod_python.cli`) and by the test kit
(`mod_python.testing`); never imported inside a server process.
"""

from __future__ import annotations
