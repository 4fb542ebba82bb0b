"""A mail server that keeps every message in a file and sends none on, with aiosmtpd.

aiosmtpd's server is a protocol of asyncio: ``conn.run_protocol`` runs it on httpd's connection. With
a certificate it offers STARTTLS. Options:

    smtp.directory      where the messages go; httpd's user must be able to write there
    smtp.certificate    PEM file, read by httpd's user
    smtp.key            PEM file, likewise
"""

import asyncio
import functools
import logging
import ssl
import uuid
from pathlib import Path

from aiosmtpd.smtp import SMTP, TLSSetupException

LARGEST = 10 << 20  # bytes of a message

# aiosmtpd logs a traceback for every client that breaks off a TLS handshake.
logging.getLogger("mail.log").setLevel(logging.CRITICAL)


async def connectionhandler(conn):
    options = conn.get_options()
    certificate = options.get("smtp.certificate")
    context = tls_context(certificate, options.get("smtp.key")) if certificate else None
    sink = Sink(conn, Path(options["smtp.directory"]))
    await conn.run_protocol(
        lambda: SMTP(
            sink,
            hostname=conn.base_server.server_hostname,
            ident="sink",
            data_size_limit=LARGEST,
            enable_SMTPUTF8=True,
            tls_context=context,
            loop=asyncio.get_running_loop(),
        )
    )


@functools.cache
def tls_context(certificate, key):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


class Sink:
    """What aiosmtpd asks; see its manual for more such methods."""

    def __init__(self, conn, directory):
        self.conn = conn
        self.directory = directory

    async def handle_DATA(self, server, session, envelope):  # noqa: N802  (aiosmtpd's name)
        name = f"{uuid.uuid4()}.eml"
        head = [f"X-From: {envelope.mail_from}", *(f"X-To: {to}" for to in envelope.rcpt_tos)]
        head.append(f"X-TLS: {'no' if session.ssl is None else 'yes'}")
        message = "\r\n".join(head).encode() + b"\r\n" + envelope.original_content
        # Files block, so a thread writes them.
        await asyncio.to_thread(self.keep, name, message)
        return f"250 kept as {name}"

    async def handle_exception(self, error):
        if not isinstance(error, (OSError, TLSSetupException)):
            self.conn.log_error(f"mail sink: {error!r}")
        return "451 try again later"

    def keep(self, name, message):
        new = self.directory / f"{name}.new"
        new.write_bytes(message)
        new.rename(self.directory / name)
