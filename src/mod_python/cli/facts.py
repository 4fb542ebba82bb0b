"""``mod_python version``, ``module-config``, ``module-location``, ``include-dir``: what is installed."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import click

from mod_python import version as build
from mod_python.httpd.config import module_so, quote
from mod_python.httpd.errors import ConfigError
from mod_python.httpd.find import HttpdNotFoundError, find_httpd

__all__ = ["include_dir", "module_config", "module_location", "version"]


def _module() -> Path:
    path = module_so()
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: the httpd module is not built; run: pip install .")
    return path


@click.command("module-config")
def module_config() -> None:
    """Print the configuration lines that load the module.

    Put them into httpd's configuration, for example with
    "mod_python module-config > /etc/apache2/mods-available/python.load".
    """
    click.echo(f"LoadModule python_module {quote(str(_module()))}")


@click.command("module-location")
def module_location() -> None:
    """Print the path of the module that httpd loads."""
    click.echo(str(_module()))


@click.command("include-dir")
def include_dir() -> None:
    """Print the directory of mod_python.h, for httpd modules in C that use Python."""
    click.echo(str(module_so().parent / "include"))


@click.command("version")
def version() -> None:
    """Print the versions and places of mod_python, Python, httpd and APR.

    Those of httpd and APR are the ones the module was built for; if it has not been
    built, those of the httpd that is found.
    """
    httpd, httpd_version, apr_version = build.HTTPD, build.HTTPD_VERSION, build.APR_VERSION
    if not httpd:
        try:
            found = find_httpd()
        except HttpdNotFoundError:
            httpd = httpd_version = apr_version = "none found"
        else:
            httpd, httpd_version = str(found.binary), found.version
            apr_version = found.apr_version
    rows = [
        ("mod_python", build.version, str(module_so())),
        ("Python", " ".join(sys.version.split()), build.PYTHON_BIN or sys.executable),
        ("httpd", httpd_version, httpd),
        ("APR", apr_version, ""),
        ("platform", platform.platform(), ""),
    ]
    for name, number, path in rows:
        click.echo(f"{name + ':':<12}{number}")
        if path:
            click.echo(f"{'':<12}{path}")
