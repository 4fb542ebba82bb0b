"""The fuzz run: random tables and options, and random bytes to handlers and filters.

With the ordinary tests it takes some seconds and always does the same. ``make fuzz`` runs it longer:

    MOD_PYTHON_FUZZ_SECONDS   seconds of random bytes; tables and options get a tenth of that each
    MOD_PYTHON_FUZZ_SEED      what to begin with; it is printed with a failure
    MOD_PYTHON_FUZZ_CASE      the number of one connection to repeat
"""

from __future__ import annotations

import os
import time

#: Seconds of the long run, or 0 for the short one.
SECONDS = float(os.environ.get("MOD_PYTHON_FUZZ_SECONDS") or 0)

#: What all random numbers are made from.
SEED = int(os.environ.get("MOD_PYTHON_FUZZ_SEED") or (time.time() if SECONDS else 1))

#: The one connection that is repeated, or None.
CASE = int(os.environ["MOD_PYTHON_FUZZ_CASE"]) if os.environ.get("MOD_PYTHON_FUZZ_CASE") else None
