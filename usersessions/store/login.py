"""Whose session it is: logging in, confirming a login, and following what a view writes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.contrib.auth import SESSION_KEY as AUTH_USER_KEY
from django.contrib.auth import aget_user, get_user
from django.utils.functional import SimpleLazyObject

from ..lifecycle.limit import TooManySessions
from ..lifecycle.login import begin_login
from ..session.data import BACK_USER_KEY, LOGIN_KEYS
from ..session.meta import BACK_USER, CONFIRMED_AT, SessionMeta
from ..session.user_keys import UserId, to_user_id
from ..session.user_session import UserSession
from . import switch
from .state import KeyUse

if TYPE_CHECKING:
    from .session_store import SessionStore


def bind_login(store: SessionStore, user_id: UserId) -> None:
    """Bind the session to a user who has just logged in, under a new identifier.

    A login of the user who is logged in already renews the identifier too (OWASP ASVS 5.0,
    7.2.4). Stored by ``save()``.

    :raises TooManySessions: nothing of the login is left in the session or the request
    """
    session, manager = store.user_session, store.manager
    elevated = begin_login(
        manager,
        session,
        user_id,
        is_permanent=store.login_type.allows_permanent(store.asked_permanent),
        came_with=_unstored_key(store) if session.stored is None else None,
        sent_at=store.opened_at,
        request=store.request,
    )
    if store.login_type.max_sessions_per_user:
        try:
            manager.saver.limit.check(elevated)
        except TooManySessions:
            _forget_login(store, session)
            raise
    store.loaded = elevated
    store.named_read = session.data.get(AUTH_USER_KEY)
    store.claim_key()
    store.modified = True
    switch.announce_end(store)


def confirm_login(store: SessionStore) -> None:
    """Note that the user has just shown who they are, under a new identifier.

    The old identifier is worthless then (OWASP ASVS 5.0, 7.2.4). The caller knows whether the
    session has a user: see ``usersessions.auth.confirm_login()``. Stored by ``save()``.
    """
    store.cycle_key()
    session = store.user_session
    session.meta = session.meta.copy()
    session.meta[CONFIRMED_AT] = int(store.clock())


def rebind(
    store: SessionStore,
    user_id: UserId | None,
    data: dict[str, Any],
    meta: SessionMeta,
    *,
    is_permanent: bool = False,
) -> None:
    """Hand the session to another user, with other data and under a new identifier.

    None of the data that it had stays. Stored by ``save()``.
    """
    store.cycle_key()
    session = store.user_session
    session.user_id = user_id
    session.meta = meta
    session.is_permanent = is_permanent
    session.override_data(data)
    store.named_read = data.get(AUTH_USER_KEY)


def follow_data(store: SessionStore) -> None:
    """Bind the session to the user that its data names, before it is saved.

    A view that writes ``_auth_user_id`` without ``login()`` gets a new identifier all the same.
    """
    session = store.user_session
    named = session.data.get(AUTH_USER_KEY)
    if named is not None:
        user_id = to_user_id(named)
        if user_id != session.user_id:
            bind_login(store, user_id)
            session = store.user_session
    elif store.named_read is not None and session.user_id is not None:
        data = {key: value for key, value in session.data.items() if key not in LOGIN_KEYS}
        rebind(store, None, data, {})
        session = store.user_session
        switch.announce_end(store)
    if session.is_switched:
        # Not what a view has written there: templates show it, and may trust it.
        session.data[BACK_USER_KEY] = session.meta[BACK_USER]
    store.named_read = named


def forget_changes(store: SessionStore) -> None:
    """Go back to what is stored, after a login was refused when it was to be stored.

    What was set after the login is not for the user who was there before.
    """
    store._session_key = store.stored_key or store.presented_key
    store.key_use = KeyUse.FREE
    store.modified = False
    _forget_user(store)


def _forget_login(store: SessionStore, session: UserSession) -> None:
    """Take a refused login out of the session, but keep what the view has put in before."""
    before = session.read_stored().data
    for key in LOGIN_KEYS:
        if key in before:
            session.data[key] = before[key]
        else:
            session.data.pop(key, None)
    if session.stored is not None:
        session = session.renewed(session.stored.identifier, user_id=session.stored.user_id)
        session.is_new = False
    store.loaded = session
    store.key_use = KeyUse.FREE
    store.modified = bool(session.data) if session.stored is None else not session.is_as_stored
    _forget_user(store)


def _forget_user(store: SessionStore) -> None:
    """Have the request ask again who the session belongs to."""
    request: Any = store.request
    if getattr(request, "session", None) is store and hasattr(request, "user"):
        request.user = SimpleLazyObject(lambda: get_user(request))
        request.auser = partial(aget_user, request)


def _unstored_key(store: SessionStore) -> str | None:
    """Return the identifier that the browser sent, unless this request has ended its session."""
    key = store.presented_key
    has_ended = store.changes is not None and store.changes.has_removed(key)
    return None if has_ended else key
