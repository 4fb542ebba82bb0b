"""httpd configuration from Python objects.

    from mod_python.httpdconf import *

    print(VirtualHost("*:8080", ServerName("demo.example"), PythonHandler("mod_python.publisher")))

`str` of an object is text for httpd, `repr` is Python source that makes it again.  A directive that is
missing here is a class of two lines:

    class SSLCipherSuite(Directive):
        def __init__(self, val):
            super().__init__("SSLCipherSuite", val)

``mod_python create`` writes such a program, and ``mod_python genconfig`` runs it.  This module is for
use outside httpd; nothing here talks to a server.
"""

from __future__ import annotations

# Expressions of only_if begin with it.
import mod_python
import mod_python.version
from mod_python._httpdconf import directives as _directives
from mod_python._httpdconf.directives import *  # noqa: F403
from mod_python._httpdconf.project import quote_if_space, write_basic_config
from mod_python._httpdconf.tree import Comment, Container, ContainerTag, Directive

__all__ = [
    "Comment",
    "Container",
    "ContainerTag",
    "Directive",
    "mod_python",
    "quote_if_space",
    "write_basic_config",
]
__all__ += _directives.__all__
