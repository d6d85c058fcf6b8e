"""Adopting an old session, when a request presents its cookie or when the command moves it.

The new identifier is a keyed hash of the old key. So concurrent requests with the same old cookie,
and the command, all arrive at the same session.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

from django.contrib.auth import SESSION_KEY as AUTH_USER_KEY
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest

from ..backends.errors import SessionNotUpdated
from ..conf import LoginType, get_adopting_types, get_default_login_type
from ..lifecycle.login import user_agent_meta
from ..lifecycle.saving import SessionDataTooLarge
from ..lifecycle.successors import new_login_id
from ..lifecycle.user_session_manager import UserSessionManager
from ..request.old_cookie import get_old_key
from ..session.data import LOGIN_KEYS
from ..session.meta import ADOPTED_AT, LOGIN_AT, LOGIN_ID, USER_AGENT
from ..session.user_keys import UserId, find_user, to_user_id
from ..session.user_session import UserSession
from ..store import SessionStore
from .engines import OldSession, get_old_engine
from .new_session import NewSession

logger = logging.getLogger("usersessions.adoption")

#: How long an old cookie still leads to its session after the browser has used the new one, in
#: seconds: requests that were already on their way must not be logged out.
GRACE = 60

#: Raised for data that cannot be stored; the old session is then left in its place.
UNADOPTABLE = (TypeError, SessionDataTooLarge)


def presents_old_cookie(request: HttpRequest) -> bool:
    """Return whether a request has a cookie for ``adopt_old_session()``."""
    return get_old_key(request) is not None


def adopt_old_session(request: HttpRequest) -> None:
    """Give the request the session of its old cookie, in each login type that takes it.

    Costs two queries, for a user six and a transaction, and one more for each further login type
    that takes the session. Happens once for each browser: the response deletes the old cookie.
    """
    request.user_sessions.has_spent_old_cookie = _adopt(request)  # type: ignore[attr-defined]


def _adopt(request: HttpRequest) -> bool:
    """Return whether the old cookie is spent: the response may delete it."""
    key = get_old_key(request)
    stores: list[SessionStore] = [
        request.user_sessions[login_type.name]  # type: ignore[attr-defined]
        for login_type in get_adopting_types()
    ]
    if key is None or not _is_allowed_host(request, stores):
        return False
    if _has_session(stores[0]):  # adopted before
        return True
    # Before looking for the new session: another request may move it between the two reads.
    engine = get_old_engine(str(stores[0].login_type.adopt_from))
    old = engine.read(key)
    if old is not None:
        try:
            new = prepare(old)
        except UNADOPTABLE as exc:
            logger.error("An old session was not adopted: %s", exc)
            return False
        if not new:
            return False
        engine.exchange(key, new)
    _use_adopted(request, stores, key)
    return True


def prepare(old: OldSession) -> list[NewSession]:
    """Return what an old session becomes: the default login type takes all, others staff only.

    Empty if no login type takes it; the default login type's session comes first.

    :raises UNADOPTABLE: the data cannot be stored in one of them

    Costs one query for the user if a login type other than the default one adopts.
    """
    return [_prepare(old, login_type) for login_type in _find_takers(old)]


def _find_takers(old: OldSession) -> Sequence[LoginType]:
    login_types, default = get_adopting_types(), get_default_login_type()
    if login_types == (default,):
        return login_types
    user = find_user(old.data.get(AUTH_USER_KEY))
    if getattr(user, "is_staff", False):
        return login_types
    return [found for found in login_types if found == default]


def _prepare(old: OldSession, login_type: LoginType) -> NewSession:
    manager = UserSessionManager(login_type, clock=SessionStore.clock)
    identifier = manager.backend.keys.adopted_identifiers(old.key)[0]
    session = manager.create_anonymous_session().renewed(identifier, user_id=_user_id_in(old))
    session.data.update(old.data)
    if session.is_anonymous:
        for key in LOGIN_KEYS & session.data.keys():  # the key is of no user of this site
            del session.data[key]
    session.meta = {LOGIN_AT: int(manager.clock()), LOGIN_ID: new_login_id(), ADOPTED_AT: 0}
    if old.user_agent:
        session.meta[USER_AGENT] = old.user_agent[:200]
    session.meta.update(user_agent_meta())
    session.ip_lock = manager.make_ip_lock()
    record = manager.saver.make_record(session, adopted_end=old.ends_at)
    return NewSession(manager.backend, identifier, record)


def _user_id_in(old: OldSession) -> UserId | None:
    try:
        return to_user_id(old.data.get(AUTH_USER_KEY))
    except ValueError:
        return None


def _use_adopted(request: HttpRequest, stores: Sequence[SessionStore], key: str) -> None:
    """Put the sessions that were adopted for an old key into the request.

    Puts none if the first login type's session is gone, or if the browser has used one of the new
    cookies for a while: it received all of them in one response.
    """
    adopted: list[tuple[SessionStore, UserSession]] = []
    for store in stores:
        session = _find_adopted(request, store, key)
        if session is not None:
            adopted.append((store, session))
        elif not adopted:
            return
    if any(_has_moved_on(session, store.clock()) for store, session in adopted):
        return
    for store, session in adopted:
        if not _has_session(store):
            _lock_to_request(store, session)
            session.is_new = True
            store.continue_with(session)


def _lock_to_request(store: SessionStore, session: UserSession) -> None:
    """Lock a session that a command has moved to the address of the request.

    Costs one query; none if it has its lock, or needs none.
    """
    lock = store.manager.make_ip_lock(store.request)
    if session.ip_lock != lock:
        session.ip_lock = lock
        with suppress(SessionNotUpdated):  # it has ended
            store.manager.backend.update(session.identifier, {"ses_iplock": lock})


def _find_adopted(request: HttpRequest, store: SessionStore, key: str) -> UserSession | None:
    identifiers = store.manager.backend.keys.adopted_identifiers(key)
    found = (store.manager.get_usable_session(each, request) for each in identifiers)
    return next((session for session in found if session is not None), None)


def _has_moved_on(session: UserSession, now: float) -> bool:
    """Return whether the new cookie has been in use so long that the old one must be stolen."""
    first_used = session.meta.get(ADOPTED_AT)
    return first_used is None or 0 < first_used < now - GRACE


def _has_session(store: SessionStore) -> bool:
    return store.user_session.stored is not None


def _is_allowed_host(request: HttpRequest, stores: Sequence[SessionStore]) -> bool:
    try:
        for store in stores:
            store.cookie_scope(request)
    except DisallowedHost:  # Django answers 400
        return False
    return True
