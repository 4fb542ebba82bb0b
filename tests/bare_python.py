"""What Python itself costs: interpreters and threads in one process, without httpd and mod_python.

    python -I bare_python.py INTERPRETERS THREADS

prints the private memory of such a process in bytes, as `tests.processes.memory` counts
it.  Each interpreter has that many threads, all of them in Python at the same time.
It differs between versions of Python by more than a bound on mod_python may leave open.
"""

from __future__ import annotations

import importlib
import os
import re
import sys

INSIDE = """
import _thread, time

lock = _thread.allocate_lock()
lock.acquire()
inside = []

def thread(depth):
    if depth:
        thread(depth - 1)
    else:
        inside.append(depth)
        lock.acquire()

for _ in range(THREADS):
    _thread.start_new_thread(thread, (20,))
while len(inside) < THREADS:
    time.sleep(0.01)
"""


def main() -> None:
    interpreters, threads = map(int, sys.argv[1:])
    # Interpreters that share a GIL, as mod_python's do.
    try:
        module = importlib.import_module("_interpreters")
        made = [module.create("legacy") for _ in range(interpreters)]
    except ImportError:  # before 3.13
        module = importlib.import_module("_xxsubinterpreters")
        made = [module.create(isolated=False) for _ in range(interpreters)]
    for interpreter in made:
        module.run_string(interpreter, INSIDE.replace("THREADS", str(threads)))
    with open("/proc/self/smaps_rollup", encoding="ascii") as file:
        found = re.findall(r"^Private_(?:Dirty|Hugetlb): +(\d+) kB", file.read(), re.MULTILINE)
    print(sum(map(int, found)) * 1024, flush=True)
    os._exit(0)  # the threads still wait


if __name__ == "__main__":
    main()
