"""What a switched session remembers of the user behind it."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.contrib.auth import HASH_SESSION_KEY, get_user_model
from django.utils.crypto import constant_time_compare

from ..session.data import CorruptSessionData, Serializer, decode
from ..session.user_keys import UserId, stored_user_id
from ..session.user_session import SessionRecord, UserSession

#: Where a switched session's data shows the original user's id, as in TYPO3. Anybody's code can
#: write there, so that nothing is decided by it.
BACK_USER_KEY = "backuserid"

#: Where the original user's id is kept that counts, in what the app itself remembers.
BACK_ID_KEY = "back_user"

#: Where the original user's auth hash is kept, there as well: only a switched session has one.
BACK_HASH_KEY = "back_hash"


class SwitchUsers(NamedTuple):
    """Both users of a switched session; None for one who is deleted."""

    original_user: Any
    target_user: Any


def is_switched(session: UserSession) -> bool:
    """Return whether somebody else than the session's user is behind it."""
    return BACK_HASH_KEY in session.meta


def find_switch_users(session: UserSession) -> SwitchUsers:
    """Return both users of a switched session. Costs one query."""
    ids = stored_user_id(session.meta.get(BACK_ID_KEY)), session.user_id
    known: Any = [user_id for user_id in ids if user_id is not None]
    found: Any = get_user_model()._default_manager.in_bulk(known)
    return SwitchUsers(*map(found.get, ids))


def matches_auth_hash(user: Any, auth_hash: str) -> bool:
    """Return whether a session's auth hash is the user's, under any of the secret keys."""
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(auth_hash, known) for known in hashes)


def users_behind(record: SessionRecord, serializer: Serializer) -> set[UserId]:
    """Return whom a stored session can bring back: nobody, unless it is switched.

    These are the original user, and whoever's session was put aside. Who they are is nowhere but
    in the data; a record whose data does not decode lets nobody in, and has nobody behind it.
    """
    if stored_user_id(record["ses_userid"]) is None:
        return set()
    try:
        meta = decode(record["ses_data"], serializer).meta
    except CorruptSessionData:
        return set()
    found = meta.get(BACK_ID_KEY), (meta.get("aside") or {}).get("user_id")
    return {user_id for user_id in map(stored_user_id, found) if user_id is not None}


def move_to_current_key(session: UserSession, original_user: Any) -> None:
    """Bring the original user's auth hashes to ``SECRET_KEY``, as Django brings the target's.

    Stored together with that one, so that the switch outlives the removal of the fallbacks.
    """
    before, now = session.meta[BACK_HASH_KEY], original_user.get_session_auth_hash()
    session.meta[BACK_HASH_KEY] = now
    aside = session.meta["aside"]["data"]
    if aside.get(HASH_SESSION_KEY) == before:
        aside[HASH_SESSION_KEY] = now
