"""Making an old session ours, when its cookie is presented or when a command moves it.

The new identifier follows from the old key, by a keyed hash: several requests that a browser sends
with its old cookie at the same time, and the command, all arrive at the same session.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from contextlib import nullcontext

from django.conf import settings
from django.contrib.auth import SESSION_KEY as AUTH_USER_KEY
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest

from ..backends.base import SessionNotCreated
from ..conf import LoginType, get_adopting_types, get_default_login_type
from ..expiry import ADOPTED_KEY
from ..session_writer import SessionDataTooLarge
from ..store import SessionStore
from ..user_ids import UserId, find_user, to_user_id
from ..user_session import UserSession
from ..user_session_manager import UserSessionManager
from .engines import OldSession, get_old_engine

logger = logging.getLogger("usersessions.adoption")

#: For how long an old cookie still names its session after the browser has used the new one, in
#: seconds: requests that were on their way by then must not be logged out.
GRACE = 60

#: What is raised for data that cannot be stored: old sessions stay where they are then.
UNADOPTABLE = (TypeError, SessionDataTooLarge)

_KEY = re.compile(r"[a-z0-9]{8,40}")


def presents_old_cookie(request: HttpRequest) -> bool:
    """Return whether a request has a cookie that ``adopt_old_session()`` should look at."""
    return bool(get_adopting_types()) and _old_key(request) is not None


def adopt_old_session(request: HttpRequest) -> None:
    """Give the request the session that its old cookie names, in every login type that takes it.

    Costs one query for each login type that adopts, once for each browser, and where the command
    has not moved the session yet, one to read it, one to delete it and one for each new one.
    """
    request.user_sessions.has_spent_old_cookie = _adopt(request)  # type: ignore[attr-defined]


def _adopt(request: HttpRequest) -> bool:
    """Return whether the old cookie is of no use any more."""
    key = _old_key(request)
    stores = [
        request.user_sessions[login_type.name]  # type: ignore[attr-defined]
        for login_type in get_adopting_types()
        if _may_adopt(login_type, request)
    ]
    if key is None or not stores:
        return False
    if _use_adopted(stores, key, request):
        return True
    engine = get_old_engine(stores[0].login_type.adopt_from)
    old = engine.read(key)
    if old is None:
        return True
    takers = find_takers(old, [store.login_type for store in stores])
    try:
        with engine.taking(key) if takers else nullcontext(False) as is_taken:
            for login_type in takers if is_taken else []:
                take_over(old, login_type, request)
    except UNADOPTABLE as exc:
        logger.error("An old session stays where it is: %s", exc)
        return False
    return bool(takers) and (_use_adopted(stores, key, request) or True)


def find_takers(old: OldSession, login_types: Sequence[LoginType]) -> list[LoginType]:
    """Return which login types take an old session: the default one any, the others staff's.

    Costs one query for a user's session where there are others.
    """
    default = get_default_login_type()
    user = None
    if any(login_type != default for login_type in login_types):
        user = find_user(old.data.get(AUTH_USER_KEY))
    is_staff = getattr(user, "is_staff", False)
    return [found for found in login_types if is_staff or found == default]


def take_over(
    old: OldSession, login_type: LoginType, request: HttpRequest | None = None
) -> UserSession | None:
    """Store an old session as one of ours, with its data, its user and its end.

    :param request: the one that presents the old cookie; None: a command moves the session
    :return: the session as stored; None if it was adopted already

    Costs one query.
    """
    manager = UserSessionManager(login_type, clock=SessionStore.clock)
    identifier = manager.backend.keys.adopted_identifiers(old.key)[0]
    session = manager.create_anonymous_session().renewed(identifier, user_id=_user_id_in(old))
    session.data.update(old.data)
    session.meta = {"login_at": int(manager.clock()), ADOPTED_KEY: 0}
    if old.user_agent:
        session.meta["user_agent"] = old.user_agent[:200]
    try:
        return manager.store_adopted(session, old.ends_at)
    except SessionNotCreated:
        return None


def _use_adopted(stores: Sequence[SessionStore], key: str, request: HttpRequest) -> bool:
    """Put the sessions that were adopted for an old key into the request; tell if there are any."""
    found = False
    for store in stores:
        for identifier in store.manager.backend.keys.adopted_identifiers(key):
            session = store.manager.get_usable_session(identifier, request)
            if session is not None and not _has_moved_on(session, store.clock()):
                session.is_new = found = True
                store.accessed = True
                store.adopt(session)
                break
    return found


def _has_moved_on(session: UserSession, now: float) -> bool:
    """Return whether the browser has used the new cookie for so long that the old one is stolen."""
    first_used = session.meta.get(ADOPTED_KEY)
    return first_used is None or 0 < first_used < now - GRACE


def _may_adopt(login_type: LoginType, request: HttpRequest) -> bool:
    try:
        login_type.cookie_scope(request)
    except DisallowedHost:  # Django answers 400
        return False
    return UserSessionManager(login_type).get_identifier(request) is None


def _user_id_in(old: OldSession) -> UserId | None:
    try:
        return to_user_id(old.data.get(AUTH_USER_KEY))
    except ValueError:
        return None


def _old_key(request: HttpRequest) -> str | None:
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
    return key if _KEY.fullmatch(key) else None
