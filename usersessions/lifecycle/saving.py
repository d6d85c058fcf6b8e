"""Bringing a session into its storage, beside other requests that do the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from ..backends.base import SessionBackend, SessionBusy, SessionChanged, SessionNotUpdated
from ..conf import LoginType
from ..session.data import CorruptSessionData
from ..session.expiry import ExpiryRules
from ..session.user_keys import names_nobody_possible, stored_user_id
from ..session.user_session import SessionRecord, UserSession
from .duplicate_login import has_origin, store_login
from .limit import SessionLimit

Result = TypeVar("Result")

#: How many turns of two attempts a save has before it gives up, where others' saves come in between
#: each time. A storage with locks needs two; else, this is some seconds of waiting.
TURNS = 20
ATTEMPTS_A_TURN = 2


class SessionDataTooLarge(ValueError):
    """The data of one session is larger than ``MAX_DATA_SIZE``; what was stored stays.

    :ivar size: bytes of the data
    :ivar limit: bytes allowed
    """

    def __init__(self, login_type: str, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(
            f"The data of a {login_type} session takes {size} bytes; "
            f'USERSESSIONS["{login_type}"]["MAX_DATA_SIZE"] allows {limit}.'
        )


class SessionWriter:
    """Writes only onto what was read: where another request wrote meanwhile, both are merged."""

    def __init__(self, login_type: LoginType, backend: SessionBackend, expiry: ExpiryRules) -> None:
        self.login_type = login_type
        self.backend = backend
        self.expiry = expiry
        self.limit = SessionLimit(login_type, backend, expiry)

    def write(self, session: UserSession) -> UserSession:
        """Store a session in whichever way it needs: as a new one, renewed, or changed.

        :return: the session as stored
        :raises SessionNotUpdated: it has ended meanwhile
        :raises TooManySessions: a login was refused, and nothing was written
        """
        return self.limit.store(session, self._write)

    def insert(self, session: UserSession) -> UserSession:
        """Store a session that is not stored yet, under the identifier that it has."""
        record = self._record(session)
        self.backend.set(session.identifier, record)
        return session.as_stored(record)

    def adopted_record(self, session: UserSession, ends_at: int) -> SessionRecord:
        """Return what to store for a session of another engine, to end when it would there."""
        self.expiry.note_end(session, ends_at)
        return self._finished_record(session)

    def update(self, session: UserSession) -> UserSession:
        """Store data and time under the identifier that the session has."""
        return self._write_merged(session, self._update)

    def remove_emptied(self, session: UserSession) -> bool:
        """End a stored session whose data has become empty; return whether it is gone.

        Not if another request has put something in meanwhile, which the session holds then; nor if
        others keep changing it, which is then to be stored empty.

        :raises SessionNotUpdated: another request has ended or renewed it
        """
        try:
            return self._insist(session, lambda: not session.data and self._remove(session), 1)
        except SessionBusy:
            return False

    def _write(self, session: UserSession) -> UserSession:
        if session.stored is None:
            return self._write_login(session) if has_origin(session) else self.insert(session)
        if not session.is_renewed:
            return self.update(session)
        try:
            return self._write_merged(session, self._renew)
        except SessionChanged:
            raise  # it is there, under its old identifier: nothing to store anew
        except SessionNotUpdated:
            if session.stored.user_id is None and has_origin(session):
                return self._write_login(session)
            raise

    def _write_login(self, session: UserSession) -> UserSession:
        return session.as_stored(store_login(session, self.backend, self._record))

    def _write_merged(
        self, session: UserSession, write: Callable[[UserSession, SessionRecord], None]
    ) -> UserSession:
        def write_record() -> UserSession:
            record = self._record(session)
            write(session, record)
            return session.as_stored(record)

        return self._insist(session, write_record, TURNS)

    def _insist(self, session: UserSession, write: Callable[[], Result], turns: int) -> Result:
        """Write onto what was read, or else onto what others have made of it, merged with ours.

        :raises SessionBusy: others came in between each time
        """
        for lost in range(turns):
            with self._turn_after(lost, session) as record:
                if record is not None:
                    self._merge(session, record)
                for _ in range(ATTEMPTS_A_TURN):
                    try:
                        return write()
                    except SessionChanged as changed:
                        self._merge(session, changed.record)
        ses_id = self.backend.hash(session.stored_identifier)
        raise SessionBusy(self.login_type.name, ses_id, turns * ATTEMPTS_A_TURN)

    def _turn_after(
        self, lost: int, session: UserSession
    ) -> AbstractContextManager[SessionRecord | None]:
        if not lost:
            return nullcontext()
        return self.backend.turn_after(lost, session.stored_identifier)

    def _merge(self, session: UserSession, record: SessionRecord) -> None:
        """Take over what another request has stored.

        :raises SessionChanged: it is another user's, or nobody can read it; it stays
        """
        try:
            if _belongs_to_same_user(session, record) and not names_nobody_possible(
                session.read_beside(record).data
            ):
                session.merge(record)
                return
        except CorruptSessionData:
            pass
        raise SessionChanged(self.login_type.name, record["ses_id"], record) from None

    def _remove(self, session: UserSession) -> bool:
        assert session.stored is not None
        identifier = session.stored_identifier
        if not self.backend.remove(identifier, expected_data=session.stored.data):
            raise SessionNotUpdated(self.login_type.name, self.backend.hash(identifier))
        return True

    def _update(self, session: UserSession, record: SessionRecord) -> None:
        self.backend.update(
            session.identifier,
            {"ses_data": record["ses_data"], "ses_tstamp": record["ses_tstamp"]},
            expected_data=session.stored.data if session.stored else None,
        )

    def _renew(self, session: UserSession, record: SessionRecord) -> None:
        assert session.stored is not None
        self.backend.renew(
            session.stored.identifier,
            session.identifier,
            record,
            expected_data=session.stored.data,
        )

    def _record(self, session: UserSession) -> SessionRecord:
        self.expiry.note_custom_expiry(session)
        return self._finished_record(session)

    def _finished_record(self, session: UserSession) -> SessionRecord:
        session.last_updated = self.expiry.timestamp(session)
        record = session.to_record()
        size, limit = len(record["ses_data"]), self.login_type.max_data_size
        if limit and size > limit:
            raise SessionDataTooLarge(self.login_type.name, size, limit)
        return record


def _belongs_to_same_user(session: UserSession, record: SessionRecord) -> bool:
    assert session.stored is not None
    return stored_user_id(record["ses_userid"]) == session.stored.user_id
