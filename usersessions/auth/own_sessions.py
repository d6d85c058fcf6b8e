"""Listing and ending the sessions of the current user."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.http import HttpRequest

from ..backends.sessions_of_user import FoundSession, sessions_of_user
from ..session.expiry import as_moment
from ..session.ip_locker import DISABLED_LOCK
from ..session.meta import USER_AGENT
from ..session.user_session import UserSession
from ..store import SessionStore
from .login import get_store
from .login_age import logged_in_at
from .user_agents import describe_device


@dataclass(frozen=True)
class OwnSession:
    """One of a user's sessions, without anything that would give access to it."""

    ses_id: str  #: the hash, which names the session in a form
    is_current: bool  #: the one of this request
    is_permanent: bool
    last_updated_at: datetime
    expires_at: datetime
    user_agent: str  #: of the browser that logged in; "" if it sent none
    ip_lock: str
    logged_in_at: datetime | None  #: None if unknown, as for an adopted session

    @property
    def device(self) -> str:
        """The browser and its system, for example "Firefox on Linux"."""
        return describe_device(self.user_agent)

    @property
    def locked_to(self) -> str:
        """The network that the session is locked to; "" if it can be used from anywhere."""
        return "" if self.ip_lock == DISABLED_LOCK else self.ip_lock


def own_sessions(request: HttpRequest, login_type: str | None = None) -> list[OwnSession]:
    """Return the current user's unexpired sessions, this one first, then the latest.

    :param login_type: None: the one that serves the path

    Empty for an anonymous visitor. Costs one query.
    """
    store = get_store(request, login_type)
    found = [_describe(store, other.session, other.ses_id) for other in _sessions_of_owner(store)]
    return sorted(found, key=lambda session: (session.is_current, session.last_updated_at))[::-1]


def end_own_session(request: HttpRequest, ses_id: str, login_type: str | None = None) -> bool:
    """End one of the current user's sessions; return False if they have no such session.

    Ending the current session logs out. Costs two queries.
    """
    store = get_store(request, login_type)
    if ses_id in _own_ses_ids(store):
        store.flush()
        return True
    if not any(other.ses_id == ses_id for other in _sessions_of_owner(store)):
        return False
    return store.manager.backend.remove_by_ses_id([ses_id]) == 1


def end_other_sessions(request: HttpRequest, login_type: str | None = None) -> int:
    """End the current user's other sessions, and give this one a new identifier.

    Returns how many ended. Costs one query; the new identifier is stored with the response.
    """
    store = get_store(request, login_type)
    session = store.user_session
    if session.user_id is None:
        return 0
    removed = store.manager.backend.remove_by_user(session.user_id, except_=store.identifiers)
    store.cycle_key()
    return removed


def _sessions_of_owner(store: SessionStore) -> Iterator[FoundSession]:
    user_id, manager = store.user_session.user_id, store.manager
    if user_id is None:
        return iter(())
    return sessions_of_user(manager.backend, user_id, manager.serializer, expiry=manager.expiry)


def _own_ses_ids(store: SessionStore) -> set[str]:
    keys = store.manager.backend.keys
    return {ses_id for identifier in store.identifiers for ses_id in keys.ses_ids(identifier)}


def _describe(store: SessionStore, session: UserSession, ses_id: str) -> OwnSession:
    expiry = store.manager.expiry
    login_at = logged_in_at(session)
    return OwnSession(
        ses_id=ses_id,
        is_current=ses_id in _own_ses_ids(store),
        is_permanent=session.is_permanent,
        last_updated_at=as_moment(expiry.last_used(session)),
        expires_at=as_moment(expiry.expires_at(session)),
        user_agent=session.meta.get(USER_AGENT, ""),
        ip_lock=session.ip_lock,
        logged_in_at=None if login_at is None else as_moment(login_at),
    )
