"""Failures of finding, configuring or running an httpd.

Each carries one line for a person: what happened, where, and what to do. The
command line prints it as it is; the test kit adds the error log.
"""

from __future__ import annotations

__all__ = ["AddressInUseError", "ConfigError", "HttpdError", "NotRunningError", "StartError"]


class HttpdError(Exception):
    """An httpd could not be found, configured, started or stopped."""


class ConfigError(HttpdError):
    """The configuration cannot work; the message names the place and the remedy."""


class AddressInUseError(HttpdError):
    """An address to listen on is taken by another program."""


class StartError(HttpdError):
    """httpd ended, or did not come up, although its configuration was accepted."""


class NotRunningError(HttpdError):
    """There is no running httpd of that configuration."""
