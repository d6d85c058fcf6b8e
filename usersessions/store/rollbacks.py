"""What a request has done to the storage in a transaction, which may take it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..backends.transactions import transaction_depth
from ..lifecycle.rollbacks import RequestChanges
from ..session.record import Stored

if TYPE_CHECKING:
    from .session_store import SessionStore


def note_removal(store: SessionStore, identifier: str, stored: Stored | None = None) -> None:
    """Remember that this request has ended a session, in case a transaction is rolled back.

    :param stored: what was read under the identifier, if it was a user's session
    """
    store.accessed = True
    changes_of(store).note_removal(identifier, stored)
    if identifier in (store.stored_key, store.presented_key):
        store.has_ended_cookie = True


def changes_of(store: SessionStore) -> RequestChanges:
    """Return where the store keeps what may have to be done again after a rollback."""
    if store.changes is None:
        store.changes = RequestChanges(store.manager)
    return store.changes


def note_save(store: SessionStore, stored_before: Stored | None) -> None:
    """Remember what a save of the view's own has replaced, in case it is rolled back."""
    if store.changes is not None or transaction_depth(store.manager.backend):
        changes_of(store).note_save(store.user_session, stored_before)
