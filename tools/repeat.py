"""Run the suite again and again, to find tests that depend on chance, order, load or speed.

    .venv/bin/python -m tools.repeat --times 10 [--mpm prefork] [--log FILE] [-- pytest arguments]

Nothing is run a second time because it failed. Each run has a seed, which sets what is random
in it: Python's hashes (the order of sets), and the order in which files of tests start; with --shuffle also
that of the tests in each file. The line of each run has the seed and the counts; a run with the same
seed starts in the same way:

    .venv/bin/python -m tools.repeat --times 1 --seed 4711

The log gets the same lines. It is added to, so that a series can be run in parts.
The exit status is 0 if every run passed and all had the same counts.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from pathlib import Path

from . import results
from .pythons import ROOT
from .results import Result
from .run_tests import INTERRUPTED, add_options, combine, httpd_of, main_environment, run

LOG = ROOT / "build" / "repeat.log"
MAX_SEED = 2**32 - 1  # of PYTHONHASHSEED


def line(number: int, seed: int, result: Result) -> str:
    """Compose the line of one run: when, which, seed, counts, time."""
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    counts = f"{result.passed} passed, {len(result.failures)} failed, {result.skipped} skipped"
    return f"{when}  run {number}  seed {seed}  {result.word}: {counts} in {result.seconds:.0f} s  {result.name}"


def note(log: Path, text: str) -> None:
    """Print a line, and add it to the log."""
    print(text, flush=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


def main(words: list[str]) -> int:
    """Run a series.

    Args:
        words: the command line.

    Returns:
        The exit status: 0 if every run passed with the same counts.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.repeat", description="Run the suite again and again.")
    parser.add_argument("--times", type=int, default=10, help="how many runs")
    parser.add_argument("--mpm", help="event, worker or prefork")
    parser.add_argument("--seed", type=int, help="of the first run; the next ones count up from it")
    parser.add_argument("--shuffle", action="store_true", help="shuffle the tests of each file, too")
    parser.add_argument("--log", type=Path, default=LOG, help="a file that gets a line for each run")
    add_options(parser)
    options = parser.parse_args(words)
    environment = main_environment()
    combination = combine(environment, httpd_of(environment), options.mpm)
    first = options.seed if options.seed is not None else random.randrange(MAX_SEED // 2)
    os.environ["MOD_PYTHON_TEST_SHUFFLE"] = "tests" if options.shuffle else "files"
    counts: set[tuple[int, int]] = set()
    good = True
    for number in range(options.times):
        seed = (first + number) % MAX_SEED
        os.environ["PYTHONHASHSEED"] = os.environ["MOD_PYTHON_TEST_SEED"] = str(seed)
        result = run(combination, options.arguments, options.jobs)
        note(options.log, line(number + 1, seed, result))
        for detail in results.details(result):
            note(options.log, f"    {detail}")
        counts.add((result.passed, result.skipped))
        good = good and result.good
    if len(counts) > 1:
        note(options.log, f"the counts differ: {sorted(counts)}")
    return 0 if good and len(counts) == 1 else 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
