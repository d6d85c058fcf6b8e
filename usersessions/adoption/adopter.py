"""Making an old session ours, when its cookie is presented or when a command moves it.

The new identifier follows from the old key, by a keyed hash: several requests that a browser sends
with its old cookie at the same time, and the command, all arrive at the same session.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

from django.contrib.auth import SESSION_KEY as AUTH_USER_KEY
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest

from ..backends.base import SessionNotUpdated
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
from .new_session import NewSession, Prepared

logger = logging.getLogger("usersessions.adoption")

#: For how long an old cookie still names its session after the browser has used the new one, in
#: seconds: requests that were on their way by then must not be logged out.
GRACE = 60

#: What is raised for data that cannot be stored: old sessions stay where they are then.
UNADOPTABLE = (TypeError, SessionDataTooLarge)


def presents_old_cookie(request: HttpRequest) -> bool:
    """Return whether a request has a cookie that ``adopt_old_session()`` should look at."""
    return bool(get_adopting_types()) and get_old_key(request) is not None


def adopt_old_session(request: HttpRequest) -> None:
    """Give the request the session that its old cookie names, in every login type that takes it.

    Costs two queries, for a user six and a transaction, and one more for each further login type
    that takes the session; once for each browser: the answer deletes the old cookie.
    """
    request.user_sessions.has_spent_old_cookie = _adopt(request)  # type: ignore[attr-defined]


def _adopt(request: HttpRequest) -> bool:
    """Return whether the old cookie is of no use any more."""
    key = get_old_key(request)
    stores: list[SessionStore] = [
        request.user_sessions[login_type.name]  # type: ignore[attr-defined]
        for login_type in get_adopting_types()
    ]
    if key is None or not _is_allowed_host(request, stores):
        return False
    if _has_session(stores[0]):  # the browser has moved in already
        return True
    # Before looking for the new one: it may move between the two.
    engine = get_old_engine(str(stores[0].login_type.adopt_from))
    old = engine.read(key)
    if old is not None:
        try:
            new = prepare(old)
        except UNADOPTABLE as exc:
            logger.error("An old session stays where it is: %s", exc)
            return False
        if not new.has_takers:
            return False
        engine.exchange(key, new)
    _use_adopted(request, stores, key)
    return True


def prepare(old: OldSession) -> NewSession:
    """Return what an old session becomes: the default login type takes any, the others staff's.

    :raises UNADOPTABLE: the data cannot be stored in one of them

    Costs one query for the user where other login types than the default one adopt.
    """
    return NewSession([_prepare(old, login_type) for login_type in _find_takers(old)])


def _find_takers(old: OldSession) -> Sequence[LoginType]:
    login_types, default = get_adopting_types(), get_default_login_type()
    if login_types == (default,):
        return login_types
    user = find_user(old.data.get(AUTH_USER_KEY))
    if getattr(user, "is_staff", False):
        return login_types
    return [found for found in login_types if found == default]


def _prepare(old: OldSession, login_type: LoginType) -> Prepared:
    manager = UserSessionManager(login_type, clock=SessionStore.clock)
    identifier = manager.backend.keys.adopted_identifiers(old.key)[0]
    session = manager.create_anonymous_session().renewed(identifier, user_id=_user_id_in(old))
    session.data.update(old.data)
    if session.is_anonymous:
        for key in LOGIN_KEYS & session.data.keys():  # of no user that this site can have
            del session.data[key]
    session.meta = {LOGIN_AT: int(manager.clock()), LOGIN_ID: new_login_id(), ADOPTED_AT: 0}
    if old.user_agent:
        session.meta[USER_AGENT] = old.user_agent[:200]
    session.meta.update(user_agent_meta())
    session.ip_lock = manager.make_ip_lock()
    record = manager.saver.make_record(session, adopted_end=old.ends_at)
    return manager.backend, identifier, record


def _user_id_in(old: OldSession) -> UserId | None:
    try:
        return to_user_id(old.data.get(AUTH_USER_KEY))
    except ValueError:
        return None


def _use_adopted(request: HttpRequest, stores: Sequence[SessionStore], key: str) -> None:
    """Put the sessions that were adopted for an old key into the request.

    None if that of the first login type is gone, or if the browser has used any of the new cookies
    for a while: it got them all with one answer.
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
    """Return whether the browser has used the new cookie for so long that the old one is stolen."""
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
