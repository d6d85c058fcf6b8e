"""A login form that was sent twice ends with one session, and with the basket in it.

A double click, or a browser that tries again after a lost answer, sends the same anonymous cookie
with two logins. The first one to be stored takes the anonymous session along. The other one finds
it gone, but finds the first one among the user's sessions, by a note of where that came from. The
browser keeps the answer to the login that it sent later, so that one stays.
"""

from __future__ import annotations

from collections.abc import Callable

from ..backends.base import SessionBackend
from ..backends.errors import SessionNotUpdated
from ..backends.sessions_of_user import FoundSession, sessions_of_user
from ..session.data import Serializer
from ..session.meta import LOGIN_FROM, LOGIN_ID, LOGIN_SENT_AT
from ..session.record import SesId, SessionRecord
from ..session.user_session import UserSession
from .retries import ATTEMPTS

#: How much of the hash of the anonymous session is noted; compared among one user's sessions only.
NOTE_LENGTH = 16


def note_origin(session: UserSession, ses_id: str, sent_at: float) -> None:
    """Remember which anonymous session a login came from, and when its request arrived."""
    session.meta[LOGIN_FROM] = ses_id[:NOTE_LENGTH]
    session.meta[LOGIN_SENT_AT] = round(sent_at, 3)


def forget_origin(session: UserSession) -> None:
    """Make a copy of a login an ordinary session, which is no duplicate of it."""
    session.meta = session.meta.copy()
    session.meta.pop(LOGIN_FROM, None)
    session.meta.pop(LOGIN_SENT_AT, None)


def has_origin(session: UserSession) -> bool:
    """Return whether the session is a login that came from an anonymous session."""
    return not session.is_anonymous and LOGIN_FROM in session.meta


def is_duplicate(session: UserSession, other: UserSession) -> bool:
    """Return whether another session is of the same login, sent twice: this one takes its place."""
    return has_origin(session) and other.meta.get(LOGIN_FROM) == session.meta[LOGIN_FROM]


def store_duplicate(
    session: UserSession,
    backend: SessionBackend,
    serializer: Serializer,
    make_record: Callable[[UserSession], SessionRecord],
) -> SessionRecord:
    """Store a login whose anonymous session is gone; return the record as stored.

    :raises SessionNotUpdated: the same login was sent again later, and that one stays

    Costs two queries: one for the user's sessions, one to store.
    """
    for _ in range(ATTEMPTS):
        found = _find_duplicate(session, backend, serializer)
        if found is None:
            break
        if found.session.meta[LOGIN_SENT_AT] > session.meta[LOGIN_SENT_AT]:
            raise SessionNotUpdated(backend.login_type, found.ses_id)
        session.merge_into(session.data, found.record, is_login_mine=True)
        # The answer to the other login may have arrived, and its session may be logging out.
        session.meta[LOGIN_ID] = found.session.meta.get(LOGIN_ID, session.meta[LOGIN_ID])
        record = make_record(session)
        try:
            backend.renew(
                SesId(found.ses_id),
                session.identifier,
                record,
                expected_data=found.record["ses_data"],
            )
        except SessionNotUpdated:
            continue
        return record
    record = make_record(session)
    backend.set(session.identifier, record)
    return record


def _find_duplicate(
    session: UserSession, backend: SessionBackend, serializer: Serializer
) -> FoundSession | None:
    assert session.user_id is not None
    found = sessions_of_user(backend, session.user_id, serializer)
    return next((other for other in found if is_duplicate(session, other.session)), None)
