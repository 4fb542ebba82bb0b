"""What `mod_python.httpdconf` is made of: the tree, the ready-made classes, the first configuration of a project."""

from __future__ import annotations
