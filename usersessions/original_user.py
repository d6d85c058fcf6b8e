"""Who is behind a switched session, and whether they still may be."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import HASH_SESSION_KEY
from django.utils.crypto import constant_time_compare

from .native_async import in_thread
from .session_data import CorruptSessionData, Serializer, decode
from .user_ids import UserId, find_user, stored_user_id
from .user_session import SessionRecord, UserSession

#: Where the original user's id is kept, in the session's data, as in TYPO3.
BACK_USER_KEY = "backuserid"

#: Where the original user's auth hash is kept, in what the app itself remembers.
BACK_HASH_KEY = "back_hash"


def matches_auth_hash(user: Any, auth_hash: str) -> bool:
    """Return whether a session's auth hash is the user's, under any of the secret keys."""
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(auth_hash, known) for known in hashes)


def may_go_on(session: UserSession) -> bool:
    """Return whether a session may be used as far as the user behind it is concerned.

    Whoever was deactivated, deleted or given a new password has no sessions any more, switched
    ones included. Costs one query for a switched session, none for any other.
    """
    if BACK_USER_KEY not in session:
        return True
    user = in_thread(find_user, session[BACK_USER_KEY])
    may = (
        user is not None
        and user.is_active
        and matches_auth_hash(user, session.meta.get(BACK_HASH_KEY, ""))
    )
    if may:
        _move_to_current_key(session, user)
    return may


def users_behind(record: SessionRecord, serializer: Serializer) -> set[UserId]:
    """Return whom a stored session can bring back: nobody, unless it is switched.

    These are the original user, and whoever's session was put aside. Who they are is nowhere but
    in the data; a record whose data does not decode lets nobody in, and has nobody behind it.
    """
    if stored_user_id(record["ses_userid"]) is None:
        return set()
    try:
        data, meta = decode(record["ses_data"], serializer)
    except CorruptSessionData:
        return set()
    found = data.get(BACK_USER_KEY), (meta.get("aside") or {}).get("user_id")
    return {user_id for user_id in map(stored_user_id, found) if user_id is not None}


def _move_to_current_key(session: UserSession, user: Any) -> None:
    """Bring the original user's auth hashes to ``SECRET_KEY``, as Django brings the target's.

    Stored together with that one, so that the switch outlives the removal of the fallbacks.
    """
    before, now = session.meta[BACK_HASH_KEY], user.get_session_auth_hash()
    session.meta[BACK_HASH_KEY] = now
    aside = session.meta["aside"]["data"]
    if aside.get(HASH_SESSION_KEY) == before:
        aside[HASH_SESSION_KEY] = now
