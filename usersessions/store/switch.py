"""A store whose session is switched: whether it may go on, and who hears of its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..session.user_session import UserSession
from ..signals import user_switched_back
from ..switching.audit import announce
from ..switching.check import check_switch
from ..switching.state import SwitchUsers, find_switch_users
from . import rollbacks

if TYPE_CHECKING:
    from .session_store import SessionStore


def admit(store: SessionStore, session: UserSession, *, has_expired: bool) -> UserSession | None:
    """Return a switched session that was read if it may go on, and remember both its users.

    Reading never writes: one that may not go on is ended at the end of the request, for good.
    """
    store.switch_users = (
        None if has_expired else check_switch(session, store.login_type, store.clock)
    )
    if store.switch_users is not None:
        return session
    store.refused_switch = session
    return None


def take_users(store: SessionStore) -> SwitchUsers | None:
    """Return both users of a switch that ends, which the store forgets; None: there is none."""
    users, store.switch_users = store.switch_users, None
    return users


def end_refused(store: SessionStore) -> bool:
    """End the switched session that was read and may not go on; return whether there was one.

    Of concurrent requests, the one that removes the session announces the end.
    """
    session, store.refused_switch = store.refused_switch, None
    if session is None:
        return False
    if store.manager.remove_session(session):
        rollbacks.note_removal(store, session.identifier)
        users = find_switch_users(session)
        announce(user_switched_back, store.request, users, store.login_type.name)
    return True


def announce_end(store: SessionStore) -> None:
    """Tell of the end of a switch, if the session was switched."""
    users = take_users(store)
    if users is None:
        return
    request: Any = store.request
    if getattr(request, "session", None) is store:
        request.original_user = None
    announce(user_switched_back, request, users, store.login_type.name)
