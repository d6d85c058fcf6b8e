"""Whether a switched session may still be used: asked whenever one is read."""

from __future__ import annotations

from collections.abc import Callable

from ..backends.base import SessionBackend
from ..backends.session_manager import SessionManager
from ..conf import LoginType, get_login_types
from ..session.data import CorruptSessionData
from ..session.user_keys import UserId, stored_user_id
from ..session.user_session import UserSession
from .rules import find_refusal
from .state import (
    BACK_HASH_KEY,
    BACK_ID_KEY,
    SwitchUsers,
    find_switch_users,
    is_switched,
    matches_auth_hash,
    move_to_current_key,
)

#: Where a session remembers from which login type's session it was switched, if from another one.
SOURCE_KEY = "switched_from"


def describe_source(source: UserSession, login_type: str) -> dict[str, dict[str, object]]:
    """Return what a session remembers of the one of another type that it is switched from."""
    return {SOURCE_KEY: {"login_type": login_type, "login_at": source.meta.get("login_at")}}


def check_switch(
    session: UserSession, login_type: LoginType, clock: Callable[[], float]
) -> SwitchUsers | None:
    """Return both users of a switched session; None when it may not go on.

    It may not as soon as the switch would be refused if it happened now, as when the original user
    has lost a right or the target has gained one, or was deactivated; when the original user has a
    new password; and when the session of another login type that it was switched from has ended.

    Costs one query, one more for a session that was switched from another login type, and where
    the original user is no superuser those of ``has_more_rights()``. Never writes.
    """
    users = _entitled_users(session, login_type)
    if users is None or not _is_source_there(session, clock):
        return None
    move_to_current_key(session, users.original_user)
    return users


def _entitled_users(session: UserSession, login_type: LoginType) -> SwitchUsers | None:
    users = find_switch_users(session)
    if None in users or not matches_auth_hash(users.original_user, session.meta[BACK_HASH_KEY]):
        return None
    refusal = find_refusal(**users._asdict(), may_switch=login_type.may_switch)
    return users if refusal is None else None


def _is_source_there(session: UserSession, clock: Callable[[], float]) -> bool:
    source = session.meta.get(SOURCE_KEY)
    if source is None:
        return True
    original_id = stored_user_id(session.meta[BACK_ID_KEY])
    if original_id is None or source["login_type"] not in get_login_types():
        return False
    login_type = get_login_types()[source["login_type"]]
    backend = SessionManager.get_session_backend(login_type.name)
    return _has_session_since(backend, original_id, source["login_at"], login_type, clock)


def _has_session_since(
    backend: SessionBackend,
    user_id: UserId,
    login_at: object,
    login_type: LoginType,
    clock: Callable[[], float],
) -> bool:
    """Return whether a session of a user goes on, under any identifier, from that login on."""
    expiry, serializer = login_type.expiry_rules(clock), login_type.make_serializer()
    for record in backend.get_by_user(user_id):
        try:
            found = UserSession.from_record("", record, serializer=serializer)
        except CorruptSessionData:
            continue
        if (
            found.meta.get("login_at") == login_at
            and not is_switched(found)
            and not expiry.has_expired(found)
        ):
            return True
    return False
