"""Whether a switched session may go on: asked whenever one is read."""

from __future__ import annotations

from collections.abc import Callable

from ..backends.session_manager import SessionManager
from ..backends.sessions_of_user import sessions_of_user
from ..conf import LoginType, get_login_types
from ..session.meta import BACK_HASH, BACK_USER, LOGIN_AT, SWITCHED_FROM, SessionMeta
from ..session.user_keys import stored_user_id
from ..session.user_session import UserSession
from .rules import find_refusal
from .state import SwitchUsers, find_switch_users, matches_auth_hash, move_to_current_key


def source_meta(source: UserSession, login_type: str) -> SessionMeta:
    """Return what a session keeps of the one of another login type that it is switched from."""
    return {SWITCHED_FROM: {"login_type": login_type, "login_at": source.meta.get(LOGIN_AT)}}


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
    users = find_switch_users(session)
    if None in users or not matches_auth_hash(users.original_user, session.meta[BACK_HASH]):
        return None
    refusal = find_refusal(**users._asdict(), may_switch=login_type.may_switch)
    if refusal is not None or not _is_source_there(session, clock):
        return None
    move_to_current_key(session, users.original_user)
    return users


def _is_source_there(session: UserSession, clock: Callable[[], float]) -> bool:
    """Return whether the session that this one was switched from goes on, under any identifier."""
    source = session.meta.get(SWITCHED_FROM)
    if source is None:
        return True
    original_id = stored_user_id(session.meta[BACK_USER])
    login_type = get_login_types().get(source["login_type"])
    if original_id is None or login_type is None:
        return False
    found = sessions_of_user(
        SessionManager.get_session_backend(login_type.name),
        original_id,
        login_type.make_serializer(),
        expiry=login_type.expiry_rules(clock),
    )
    return any(
        other.session.meta.get(LOGIN_AT) == source["login_at"] and not other.session.is_switched
        for other in found
    )
