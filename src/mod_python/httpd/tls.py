"""Certificates for a private httpd: the user's own, or one made for the run."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mod_python.httpd.errors import ConfigError, HttpdError

__all__ = ["Certificate", "make_self_signed"]

# A certificate for trying things out should not outlive the trial by much.
_DAYS = 30

#: Seconds; making a P-256 key takes a fraction of one.
_TIMEOUT = 30.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate (chain) and its private key, as PEM files."""

    certificate: Path
    key: Path

    @classmethod
    def load(cls, certificate: Path, key: Path) -> Certificate:
        """Check that both files can be read.

        Raises:
            ConfigError: One of them cannot; the message names it.
        """
        for path in (certificate, key):
            try:
                with path.open("rb"):
                    pass
            except OSError as error:
                raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        return cls(certificate.absolute(), key.absolute())


def make_self_signed(directory: Path) -> Certificate:
    """Make a key and a certificate for localhost that no client trusts by itself.

    Uses the ``openssl`` command: it is there wherever httpd's mod_ssl is, and
    Python's standard library cannot make certificates.

    Args:
        directory: A private directory for the two files.

    Returns:
        The new pair.

    Raises:
        HttpdError: ``openssl`` is missing or failed.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        raise HttpdError(
            "a self-signed certificate needs the openssl command; install it (apt install openssl) "
            "or give --tls-cert and --tls-key"
        )
    pair = Certificate(directory / "tls.crt", directory / "tls.key")
    pair.key.touch(mode=0o600)
    command = [
        *(openssl, "req", "-x509", "-nodes", "-batch", "-sha256", "-days", str(_DAYS)),
        *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-keyout", str(pair.key), "-out", str(pair.certificate), "-subj", "/CN=localhost"),
        *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"),
        *("-addext", "basicConstraints=critical,CA:FALSE"),  # openssl's default is a CA
    ]
    try:
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.split())[-300:]
        raise HttpdError(f"{openssl} could not make a certificate: {reason}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HttpdError(f"{openssl} could not make a certificate: {error}") from error
    return pair
