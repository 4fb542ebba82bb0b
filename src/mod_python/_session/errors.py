"""What can go wrong with sessions."""

from __future__ import annotations

from mod_python._constants import HTTP_SERVICE_UNAVAILABLE
from mod_python.errors import SERVER_RETURN


class SessionError(Exception):
    """A session cannot be kept: the configuration or the store is not in order."""


class SessionUnavailable(SessionError, SERVER_RETURN):  # noqa: N818  (a status, as SERVER_RETURN)
    """A session cannot be had now, and perhaps later.

    A handler that lets it pass answers 503 (Service Unavailable), without a traceback: the reason is in the error
    log already.
    """

    def __init__(self, message: str) -> None:
        super().__init__(HTTP_SERVICE_UNAVAILABLE)
        self.message = message

    def __str__(self) -> str:
        return self.message


class SessionLockTimeout(SessionUnavailable):
    """Another request has kept the session for too long."""


class SessionLockLost(SessionUnavailable):
    """The session was not saved: its lock had expired, and another request has it now."""
