"""Storing a session beside concurrent requests that store the same one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from typing import TypeVar

from ..backends.base import SessionBackend
from ..backends.errors import SessionBusy, SessionChanged, SessionNotUpdated
from ..backends.transactions import retry_turn, transaction_depth
from ..conf import LoginType
from ..session.data import CorruptSessionData, Serializer, decode, encode
from ..session.expiry import ExpiryRules
from ..session.meta import ADOPTED_AT
from ..session.record import SessionRecord
from ..session.user_keys import has_invalid_user_key, stored_user_id
from ..session.user_session import UserSession
from ..switching.state import crosses_switch, merge_aside
from .duplicate_login import has_origin, store_duplicate
from .limit import SessionLimit
from .retries import ATTEMPTS
from .user_lock import user_lock

Result = TypeVar("Result")


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


class SessionSaver:
    """Writes only onto what was read: if another request wrote since, both changes are merged."""

    def __init__(
        self,
        login_type: LoginType,
        backend: SessionBackend,
        expiry: ExpiryRules,
        serializer: Serializer,
    ) -> None:
        self.login_type = login_type
        self.backend = backend
        self.expiry = expiry
        self.serializer = serializer
        self.limit = SessionLimit(login_type, backend, expiry, serializer)

    def save(self, session: UserSession) -> UserSession:
        """Store a session in the way that it needs: as a new one, renewed, or changed.

        :return: the session as stored
        :raises SessionNotUpdated: it has ended
        :raises TooManySessions: a login was refused, and nothing was written

        Costs one query; for a login where ``MAX_SESSIONS_PER_USER`` is set, also a transaction of
        the users' database, a query for the lock, one for the user's sessions, and one for each
        500 that end.
        """
        if not self.login_type.max_sessions_per_user or not self.limit.concerns(session):
            return self._save(session)
        assert session.user_id is not None
        # In a transaction that began before the lock, plain reads may show older rows.
        for_update = transaction_depth(self.backend) > 0
        refuses = self.limit.refuses(session)
        with user_lock(session.user_id):
            if refuses:
                # Before it is stored: not every storage can take that back.
                self.limit.refuse_if_full(session, for_update=for_update)
            saved = self._save(session)
            if not refuses:
                # Afterwards: if anything fails in between, the user still has a session.
                self.limit.end_surplus(saved, for_update=for_update)
        return saved

    def insert(self, session: UserSession) -> UserSession:
        """Store a session that is not stored yet, under the identifier that it has."""
        record = self.make_record(session)
        self.backend.set(session.identifier, record)
        return session.as_stored(record)

    def update(self, session: UserSession) -> UserSession:
        """Store data and time under the identifier that the session has."""

        def write() -> UserSession:
            record = self.make_record(session)
            self.backend.update(
                session.identifier,
                {"ses_data": record["ses_data"], "ses_tstamp": record["ses_tstamp"]},
                expected_data=session.stored.data if session.stored else None,
            )
            return session.as_stored(record)

        return self._retry_merged(session, write, ATTEMPTS)

    def remove_emptied(self, session: UserSession) -> bool:
        """End a stored session whose data has become empty; return whether it is gone.

        Not if another request has put data in, which the session holds then; nor if others keep
        changing it: it is to be stored empty then.

        :raises SessionNotUpdated: another request has ended or renewed it
        """

        def remove() -> bool:
            if session.data:
                return False
            assert session.stored is not None
            identifier = session.stored.identifier
            if not self.backend.remove(identifier, expected_data=session.stored.data):
                raise SessionNotUpdated(self.login_type.name, self.backend.hash(identifier))
            return True

        try:
            return self._retry_merged(session, remove, 1)
        except SessionBusy:
            return False

    def make_record(self, session: UserSession, *, adopted_end: int | None = None) -> SessionRecord:
        """Return what to store for a session that is used now.

        :param adopted_end: when a session of another engine would end there, in Unix seconds
        :raises TypeError: the serializer cannot take a value; the message names its key
        :raises SessionDataTooLarge: the data is over ``MAX_DATA_SIZE``
        """
        if adopted_end is None:
            self.expiry.note_custom_expiry(session)
        else:
            self.expiry.note_adopted_end(session, adopted_end)
        session.last_updated = self.expiry.timestamp(session)
        record = session.to_record()
        size, limit = len(record["ses_data"]), self.login_type.max_data_size
        if limit and size > limit:
            raise SessionDataTooLarge(self.login_type.name, size, limit)
        return record

    def note_arrival(self, session: UserSession) -> None:
        """Remember that the browser has the cookie of an adopted session; nothing else changes.

        Costs one query.
        """
        assert session.stored is not None
        data, meta = decode(session.stored.data, self.serializer)
        meta[ADOPTED_AT] = int(self.expiry.clock())
        with suppress(SessionNotUpdated):  # has ended; or has changed, the next request notes it
            self.backend.update(
                session.identifier,
                {"ses_data": encode(data, meta, self.serializer)},
                expected_data=session.stored.data,
            )

    def _save(self, session: UserSession) -> UserSession:
        if session.stored is None:
            return self._save_duplicate(session) if has_origin(session) else self.insert(session)
        if not session.is_renewed:
            return self.update(session)
        try:
            return self._renew(session)
        except SessionChanged:
            raise  # it is there, under its old identifier: nothing to store anew
        except SessionNotUpdated:
            if session.stored.user_id is None and has_origin(session):
                return self._save_duplicate(session)
            raise

    def _renew(self, session: UserSession) -> UserSession:
        def write() -> UserSession:
            assert session.stored is not None
            record = self.make_record(session)
            self.backend.renew(
                session.stored.identifier,
                session.identifier,
                record,
                expected_data=session.stored.data,
            )
            return session.as_stored(record)

        return self._retry_merged(session, write, ATTEMPTS)

    def _save_duplicate(self, session: UserSession) -> UserSession:
        return session.as_stored(
            store_duplicate(session, self.backend, self.serializer, self.make_record)
        )

    def _retry_merged(
        self, session: UserSession, write: Callable[[], Result], turns: int
    ) -> Result:
        """Write onto what was read, or else onto what others have made of it, merged with ours.

        Each turn has two attempts. In all but the first, a storage with locks lets no other request
        write.

        :raises SessionBusy: concurrent requests have changed the session before each attempt
        """
        for turn in range(turns):
            identifier = session.stored_identifier
            next_turn = retry_turn(self.backend, turn, identifier) if turn else nullcontext()
            with next_turn as record:
                if record is not None:
                    self._merge(session, record)
                for _ in range(2):
                    try:
                        return write()
                    except SessionChanged as changed:
                        self._merge(session, changed.record)
        ses_id = self.backend.hash(session.stored_identifier)
        raise SessionBusy(self.login_type.name, ses_id, 2 * turns)

    def _merge(self, session: UserSession, record: SessionRecord) -> None:
        """Take over what another request has stored.

        :raises SessionChanged: it is another user's, or it does not decode; it stays
        """
        assert session.stored is not None
        try:
            if stored_user_id(record["ses_userid"]) == session.stored.user_id and not (
                has_invalid_user_key(session.read_beside(record).data)
            ):
                if crosses_switch(session):
                    merge_aside(session, record)
                else:
                    session.merge(record)
                return
        except CorruptSessionData:
            pass
        raise SessionChanged(self.login_type.name, record["ses_id"], record) from None
