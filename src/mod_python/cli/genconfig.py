"""``mod_python genconfig``: run a configuration program in this Python, which has mod_python."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import sys
import traceback
from pathlib import Path

import click

from mod_python.httpd.errors import ConfigError

__all__ = ["genconfig", "run_program", "write_new"]


def run_program(program: Path) -> None:
    """Run a Python file as a main program, in this process.

    Raises:
        ConfigError: It cannot be read.
        Whatever it raises.
    """
    if not program.is_file():
        raise ConfigError(f"{program}: no such file; name a program such as conf/httpd_conf.py")
    old = sys.argv, sys.path
    sys.argv, sys.path = [str(program)], [str(program.absolute().parent), *sys.path]
    try:
        runpy.run_path(str(program), run_name="__main__")
    finally:
        sys.argv, sys.path = old


def write_new(program: Path, output: Path) -> None:
    """Run a program, and put what it prints into a file, in one step at the end.

    Raises:
        As `run_program`; the file is as it was then.
    """
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        run_program(program)
    new = output.with_name(f"{output.name}.new")
    new.write_text(text.getvalue(), encoding="utf-8", errors="surrogateescape")
    os.replace(new, output)


@click.command()
@click.argument("program", metavar="CONFIG.py", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to this file, if the program succeeds. Default: standard output.",
)
def genconfig(program: Path, output: Path | None) -> None:
    """Run a configuration program, which prints an httpd configuration.

    \b
        mod_python genconfig conf/httpd_conf.py > conf/httpd.conf
    """
    try:
        if output is not None:
            write_new(program, output)
        else:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="surrogateescape")  # names of files may be any bytes
            run_program(program)
    except (ConfigError, BrokenPipeError):
        raise
    except Exception as error:
        # The frames of this command would only hide the user's.
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != str(program):
            trace = trace.tb_next
        traceback.print_exception(error.with_traceback(trace))
        sys.exit(1)
