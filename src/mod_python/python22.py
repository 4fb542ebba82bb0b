"""Once what old Pythons lacked; empty, so that ``from mod_python.python22 import *`` goes on working."""

from __future__ import annotations

__all__: list[str] = []
