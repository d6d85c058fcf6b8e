"""What a switched session keeps of the user behind it, and of the session that was put aside."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.contrib.auth import HASH_SESSION_KEY, get_user_model
from django.utils.crypto import constant_time_compare

from ..session.data import CorruptSessionData, Serializer, decode
from ..session.meta import ASIDE, BACK_HASH, BACK_USER, Aside
from ..session.record import SessionRecord
from ..session.user_keys import UserId, as_data, stored_user_id
from ..session.user_session import UserSession


class SwitchUsers(NamedTuple):
    """Both users of a switched session; None for one who is deleted."""

    original_user: Any
    target_user: Any


def is_switched(session: UserSession) -> bool:
    """Return whether another user is behind the session than the one that it is bound to."""
    return session.is_switched


def find_switch_users(session: UserSession) -> SwitchUsers:
    """Return both users of a switched session. Costs one query."""
    ids = stored_user_id(session.meta.get(BACK_USER)), session.user_id
    known: Any = [user_id for user_id in ids if user_id is not None]
    found: Any = get_user_model()._default_manager.in_bulk(known)
    return SwitchUsers(*map(found.get, ids))


def matches_auth_hash(user: Any, auth_hash: str) -> bool:
    """Return whether a session's auth hash is the user's, under any of the secret keys."""
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(auth_hash, known) for known in hashes)


def users_behind(record: SessionRecord, serializer: Serializer) -> set[UserId]:
    """Return which users can come back in a stored session; none, unless it is switched.

    These are the original user, and the user whose session was put aside. A record whose data does
    not decode lets no user in, so it has none behind it.
    """
    if stored_user_id(record["ses_userid"]) is None:
        return set()
    try:
        meta = decode(record["ses_data"], serializer).meta
    except CorruptSessionData:
        return set()
    found = [meta.get(BACK_USER)]
    if ASIDE in meta:
        found.append(meta[ASIDE]["user_id"])
    return {user_id for user_id in map(stored_user_id, found) if user_id is not None}


# What was put aside


def put_aside(session: UserSession) -> Aside:
    """Return the session as it is now, for the exit from a switch to bring it back."""
    return {
        "data": dict(session.data),
        "user_id": as_data(session.user_id),
        "is_permanent": session.is_permanent,
        "meta": {**session.meta},
    }


def user_aside(session: UserSession) -> UserId | None:
    """Return the user whose session was put aside; None if it was an anonymous one, or none."""
    return stored_user_id(session.meta[ASIDE]["user_id"]) if ASIDE in session.meta else None


def crosses_switch(session: UserSession) -> bool:
    """Return whether this request hands the session to another user, or begins or ends a switch."""
    before = session.read_stored()
    return before.user_id not in (None, session.user_id) or (
        (ASIDE in before.meta) != (ASIDE in session.meta)
    )


def merge_aside(session: UserSession, record: SessionRecord) -> None:
    """Take over what a concurrent request stored in a session that this one hands on.

    It belongs to the user who was in the session before, so it must not reach the new one. At the
    beginning of a switch it goes to what is put aside for that user. At the end of a switch it is
    dropped: it belongs to the target.
    """
    begins = ASIDE in session.meta and ASIDE not in session.read_stored().meta
    data = session.meta[ASIDE]["data"] if begins else {}
    session.merge_into(data, record, is_login_mine=True)


def move_to_current_key(session: UserSession, original_user: Any) -> None:
    """Bring the original user's auth hashes to ``SECRET_KEY``, as Django brings the target's.

    Stored together with that one, so that the switch outlives the removal of the fallbacks.
    """
    before, now = session.meta[BACK_HASH], original_user.get_session_auth_hash()
    session.meta[BACK_HASH] = now
    aside = session.meta[ASIDE]["data"]
    if aside.get(HASH_SESSION_KEY) == before:
        aside[HASH_SESSION_KEY] = now
