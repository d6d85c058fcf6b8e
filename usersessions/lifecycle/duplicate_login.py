"""A login form that was sent twice ends with one session, and with the basket in it.

A double click, or a browser that tries again after a lost answer, sends the same anonymous cookie
with two logins. The first to be stored takes the anonymous session along; the other one finds it
gone, but finds the first one among the user's sessions, by a note of where it came from. The
login that the browser sent later is the one whose answer it will keep, so that one stays.
"""

from __future__ import annotations

from collections.abc import Callable

from ..backends.base import SessionBackend, SessionNotUpdated
from ..session.data import CorruptSessionData
from ..session.user_session import SessionRecord, Stored, UserSession
from .successors import LOGIN_ID_KEY

#: How often to start again when the other login's session changes while it is taken over.
ATTEMPTS = 5

#: How much of the hash of the anonymous session is noted; compared among one user's sessions only.
NOTE_LENGTH = 16

MakeRecord = Callable[[UserSession], SessionRecord]


def note_origin(session: UserSession, ses_id: str, sent_at: float) -> None:
    """Remember which anonymous session a login came from, and when its request arrived."""
    session.meta |= {"login_from": ses_id[:NOTE_LENGTH], "login_sent_at": round(sent_at, 3)}


def forget_origin(session: UserSession) -> None:
    session.meta = {
        key: value
        for key, value in session.meta.items()
        if key not in ("login_from", "login_sent_at")
    }


def has_origin(session: UserSession) -> bool:
    return not session.is_anonymous and "login_from" in session.meta


def is_twin(session: UserSession, other: UserSession) -> bool:
    """Return whether another session is of the same login, sent twice: this one takes its place."""
    origin = session.meta.get("login_from")
    return has_origin(session) and other.meta.get("login_from") == origin


def store_login(
    session: UserSession, backend: SessionBackend, make_record: MakeRecord
) -> SessionRecord:
    """Store a login whose anonymous session is gone; return the record as stored.

    :raises SessionNotUpdated: the same login was sent again later, and that one stays

    Costs two queries: one for the user's sessions, one to store.
    """
    assert session.user_id is not None
    for _ in range(ATTEMPTS):
        twin = _find_twin(session, backend)
        if twin is None:
            break
        if twin[0].meta["login_sent_at"] > session.meta["login_sent_at"]:
            raise SessionNotUpdated(backend.login_type, twin[1]["ses_id"])
        if session.stored is None:
            session.stored = Stored("", None, 0, b"")
        session.merge(twin[1])
        # Who has received the other login's answer already may be logging out with it.
        session.meta[LOGIN_ID_KEY] = twin[0].meta.get(LOGIN_ID_KEY, session.meta[LOGIN_ID_KEY])
        record = make_record(session)
        try:
            backend.take_over(twin[1], session.identifier, record)
        except SessionNotUpdated:
            continue
        return record
    record = make_record(session)
    backend.set(session.identifier, record)
    return record


def _find_twin(
    session: UserSession, backend: SessionBackend
) -> tuple[UserSession, SessionRecord] | None:
    assert session.user_id is not None
    for record in backend.get_by_user(session.user_id):
        try:
            other = session.read_beside(record)
        except CorruptSessionData:
            continue
        if is_twin(session, other):
            return other, record
    return None
