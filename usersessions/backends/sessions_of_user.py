"""The sessions of one user, decoded: for limits, logins, switches and people's own lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..session.data import CorruptSessionData, Serializer
from ..session.expiry import ExpiryRules
from ..session.record import SessionRecord
from ..session.user_keys import UserId
from ..session.user_session import UserSession
from .base import SessionBackend


class FoundSession(NamedTuple):
    """A stored session, whose identifier is not known here, and its record."""

    session: UserSession
    record: SessionRecord

    @property
    def ses_id(self) -> str:
        """The hash by which the session can be ended."""
        return self.record["ses_id"]


def sessions_of_user(
    backend: SessionBackend,
    user_id: UserId,
    serializer: Serializer,
    *,
    expiry: ExpiryRules | None = None,
    for_update: bool = False,
) -> Iterator[FoundSession]:
    """Yield the sessions that are bound to a user and let the user in.

    Corrupt ones are skipped. Switched ones, in which another user acts as this one, are among them.

    :param expiry: skips what has expired by these rules; None: expired ones are yielded too
    :param for_update: as stored now, also in a transaction that sees older rows; may lock them

    Costs one query.
    """
    for record in backend.get_by_user(user_id, current=for_update):
        try:
            session = UserSession.from_record("", record, serializer=serializer)
        except CorruptSessionData:
            continue
        if expiry is None or not expiry.has_expired(session):
            yield FoundSession(session, record)
