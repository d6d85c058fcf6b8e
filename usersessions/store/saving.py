"""Storing a session, from the view or at the end of the request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.sessions.backends.base import CreateError, UpdateError

from ..backends.errors import SessionNotCreated, SessionNotUpdated
from ..lifecycle.duplicate_login import forget_origin
from ..lifecycle.limit import TooManySessions
from ..session.tokens import new_identifier
from . import login, rollbacks
from .state import KeyUse, Written

if TYPE_CHECKING:
    from .session_store import SessionStore


def create(store: SessionStore) -> None:
    """Store the data as a new session at once, even if there is none; Django's ``create()``."""
    _take_key(store, new_identifier())
    store.claim_key()
    store.save(must_create=True)
    store.modified = True


def save(store: SessionStore, *, must_create: bool = False) -> None:
    """Store the session; under its new identifier if it was renewed. Django's ``save()``.

    :raises CreateError: ``must_create``, and the key is taken
    :raises UpdateError: another request has ended the session; it stays ended
    :raises SessionDataTooLarge: the data is over ``MAX_DATA_SIZE``; nothing was written
    :raises TooManySessions: it is a login, and was refused; the session is as it is stored
    :raises SessionBusy: others changed the session before each attempt; nothing was written

    Costs one query; changes to other keys by concurrent requests cost two more and stay.
    """
    store.notice_rollback()
    if not must_create:
        store.keys()  # reads it
    key = store._session_key
    if key is None:
        return store.create()
    before = store.loaded
    if must_create:
        _take_key(store, key)
    stored_before = store.user_session.stored
    try:
        write(store)
    except CreateError:
        store.loaded = before
        raise
    rollbacks.note_save(store, stored_before)
    if must_create:
        store.key_use = KeyUse.CREATED
    return None


def write(store: SessionStore) -> None:
    """Store the session in the way that it needs; raises as ``save()``."""
    try:
        login.follow_data(store)
        store.loaded = store.manager.store(store.user_session, store.request)
    except TooManySessions:
        login.forget_changes(store)
        raise
    except SessionNotCreated as exc:
        raise CreateError from exc
    except SessionNotUpdated as exc:
        raise UpdateError from exc
    store.written = Written.DATA


def _take_key(store: SessionStore, key: str) -> None:
    """Make the session in hand a new one under this key, with the data of the old one."""
    store._get_session(no_load=True)
    session = store.user_session
    store.loaded = session.renewed(key, user_id=session.user_id)
    if session.stored is not None:
        forget_origin(store.loaded)  # a copy is no second login
    store.loaded.stored = None
