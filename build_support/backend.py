"""The PEP 517 entry points: setuptools', with two additions.

* `pip install --config-settings apxs=PATH` says which httpd to build for, as the
  environment variable APXS does.
* With `apxs=pypi` the build asks for the PyPI httpd by itself if the
  environment does not have it yet.  Only then: compiling an httpd takes
  minutes, and nobody who merely lacks a header package wants that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from setuptools import build_meta

from .errors import BuildError
from .httpd import PYPI, PYPI_PACKAGE, find_apxs

ConfigSettings = Mapping[str, Any] | None

prepare_metadata_for_build_wheel = build_meta.prepare_metadata_for_build_wheel
prepare_metadata_for_build_editable = build_meta.prepare_metadata_for_build_editable
get_requires_for_build_sdist = build_meta.get_requires_for_build_sdist
build_sdist = build_meta.build_sdist


def _apply(config_settings: ConfigSettings) -> dict[str, Any]:
    """Take our own settings out, and put them where the build looks."""
    settings = dict(config_settings or {})
    apxs = settings.pop("apxs", None)
    if isinstance(apxs, list):  # given more than once: the last one counts
        apxs = apxs[-1]
    if apxs:
        os.environ["APXS"] = str(apxs)
    return settings


def _httpd_requirement() -> list[str]:
    if os.environ.get("APXS") != PYPI:
        return []
    try:
        find_apxs()
    except BuildError:
        return [PYPI_PACKAGE]
    return []


def get_requires_for_build_wheel(config_settings: ConfigSettings = None) -> list[str]:
    """Tell what a wheel needs beyond pyproject.toml's list (PEP 517)."""
    settings = _apply(config_settings)
    return [*build_meta.get_requires_for_build_wheel(settings), *_httpd_requirement()]


def get_requires_for_build_editable(config_settings: ConfigSettings = None) -> list[str]:
    """Tell what an editable install needs beyond pyproject.toml's list (PEP 660)."""
    settings = _apply(config_settings)
    return [*build_meta.get_requires_for_build_editable(settings), *_httpd_requirement()]


def build_wheel(
    wheel_directory: str, config_settings: ConfigSettings = None, metadata_directory: str | None = None
) -> str:
    """Build a wheel (PEP 517)."""
    return str(build_meta.build_wheel(wheel_directory, _apply(config_settings), metadata_directory))


def build_editable(
    wheel_directory: str, config_settings: ConfigSettings = None, metadata_directory: str | None = None
) -> str:
    """Build an editable install (PEP 660)."""
    return str(build_meta.build_editable(wheel_directory, _apply(config_settings), metadata_directory))
