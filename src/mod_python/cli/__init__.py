"""The command ``mod_python``.

Each subcommand has a module of its own; this one gathers them and turns the
project's failures into one line on standard error.

Exit status: 0 for success (`serve` ended by Ctrl-C or SIGTERM included), 1 for a
failure, 2 for wrong usage; `status` has its own.
"""

from __future__ import annotations

import sys

import click

from mod_python import mp_version
from mod_python.cli.background import graceful, restart, start, status, stop
from mod_python.cli.create import create
from mod_python.cli.facts import include_dir, module_config, module_location, version
from mod_python.cli.genconfig import genconfig
from mod_python.cli.serve import serve
from mod_python.httpd.errors import HttpdError

__all__ = ["main"]


class _Group(click.Group):
    """A group whose commands may raise `HttpdError`: its message, and exit status 1."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:
            ctx.fail(f"Please specify a command: {', '.join(self.list_commands(ctx))}")
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"Invalid command: {args[0]}; there are {', '.join(self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except HttpdError as error:
            click.echo(f"mod_python: {error}", err=True)
            sys.exit(1)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "MOD_PYTHON"},
)
@click.version_option(mp_version, "-V", "--version", prog_name="mod_python")
def main() -> None:
    """Python 3 inside Apache httpd.

    Every option of a subcommand can be given as an environment variable, too:
    --listen of serve as MOD_PYTHON_SERVE_LISTEN.
    """


for _command in (
    *(create, genconfig, start, stop, restart, graceful, status, serve),
    *(include_dir, module_config, module_location, version),
):
    main.add_command(_command)
