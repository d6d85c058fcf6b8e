"""What a storage says of one session. A storage that is down raises errors of its own."""

from __future__ import annotations

from ..session.record import SessionRecord


class SessionBackendError(Exception):
    """Something is wrong with one session, not with the storage.

    :ivar login_type: name of the login type
    :ivar short_hash: the first 8 digits of the ``ses_id``
    """

    problem = "cannot be handled"

    def __init__(self, login_type: str, ses_id: str) -> None:
        self.login_type = login_type
        self.short_hash = ses_id[:8]
        super().__init__(f"The {login_type} session {self.short_hash} {self.problem}.")


class SessionNotFound(SessionBackendError):
    """Nothing is stored under the identifier."""

    problem = "does not exist"


class SessionNotCreated(SessionBackendError):
    """Something is stored under the identifier already, and stays as it is."""

    problem = "was not created: it exists already"


class SessionNotUpdated(SessionBackendError):
    """The session has ended; nothing was written."""

    problem = "was not updated: it has ended"


class SessionChanged(SessionNotUpdated):
    """Another request has written other data; nothing was written.

    :ivar record: what is stored now
    """

    problem = "was not updated: its data has changed"

    def __init__(self, login_type: str, ses_id: str, record: SessionRecord) -> None:
        super().__init__(login_type, ses_id)
        self.record = record


class SessionBusy(SessionBackendError):
    """Other requests changed the session before each attempt to store it; nothing was written.

    Not a ``SessionNotUpdated``: the session is there, and what was to be stored must not be dropped
    in silence.

    :ivar attempts: how often it was tried
    """

    def __init__(self, login_type: str, ses_id: str, attempts: int) -> None:
        self.attempts = attempts
        self.problem = (
            f"was not stored: other requests changed its data before each of {attempts} attempts"
        )
        super().__init__(login_type, ses_id)
