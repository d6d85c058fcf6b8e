"""Ending a session at once, from the view."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..backends.transactions import transaction_depth
from ..lifecycle.successors import remove_with_successors
from ..session.tokens import resolve_key
from . import rollbacks, switch
from .state import KeyUse

if TYPE_CHECKING:
    from .session_store import SessionStore


def end(store: SessionStore, session_key: str | None = None) -> None:
    """End the session with this key, or the store's own; Django's ``delete()``.

    The own one also if another request has renewed it since it was read, where it is a user's. One
    that is not stored yet, as after a login, is forgotten. The end of a switched one is announced,
    unless the request has not read it: then it is not known to be one.

    Costs one query, and up to two more when nothing is stored under the key.
    """
    key = None if session_key is None else resolve_key(session_key, store.login_type.keys)
    is_own = session_key is None or key == store._session_key
    if is_own:
        switch.end_refused(store)
        key = store.stored_key
        if key is None and store.key_use is not KeyUse.FREE:
            store.start_anew()
    if key is not None:
        _remove(store, key)
    if is_own:
        switch.announce_end(store)


def _remove(store: SessionStore, identifier: str) -> None:
    stored = store.loaded.stored if store.loaded else None
    if stored is None or stored.user_id is None or stored.identifier != identifier:
        stored = None  # not a session in which a user was seen
    backend = store.manager.backend
    if remove_with_successors(identifier, stored, backend, store.manager.serializer):
        rollbacks.note_removal(store, identifier, stored)
    elif stored is not None and transaction_depth(backend):
        # The transaction may show the storage as it was; we look again once it has ended.
        rollbacks.changes_of(store).note_removal(identifier, stored)
