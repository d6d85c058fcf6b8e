"""What one request has done to the storage itself, in case a transaction takes it back.

``ATOMIC_REQUESTS`` ends before the middleware sees the response: a session that the view ended may
be there again, and one that the view saved may not.
"""

from __future__ import annotations

from collections.abc import Callable

from ..backends.transactions import transaction_depth, watch_transaction
from ..session.record import Stored
from ..session.user_session import UserSession
from .successors import remove_with_successors
from .user_session_manager import UserSessionManager


class RequestChanges:
    """Notes removals and saves in transactions; mends them when these were rolled back."""

    def __init__(self, manager: UserSessionManager) -> None:
        self._manager = manager
        self._backend = manager.backend
        #: By identifier: in how many transactions it was removed, and the user's session that had
        #: been read there.
        self._removed: dict[str, tuple[int, Stored | None]] = {}
        self._saved: list[tuple[Stored | None, Callable[[], bool]]] = []

    def __bool__(self) -> bool:
        """Whether there is anything that may have to be mended."""
        return bool(self._removed or self._saved)

    def note_removal(self, identifier: str, stored: Stored | None) -> None:
        depth = transaction_depth(self._backend)
        self._removed[identifier] = depth, stored
        # Under its identifier from before a save, a rollback would bring the session back.
        for stored_before, _ in self._saved:
            if stored_before is not None:
                self._removed[stored_before.identifier] = depth, stored_before
        self._saved.clear()

    def has_removed(self, identifier: str | None) -> bool:
        return identifier in self._removed

    def note_save(self, session: UserSession, read: Stored | None) -> None:
        """Remember what was stored before a save of the request's own in a transaction.

        :param session: as stored by the save
        :param read: what the request had read before
        """
        self._removed.pop(session.identifier, None)
        if transaction_depth(self._backend):
            before = _written_onto(session, read)
            self._saved.append((before, watch_transaction(self._backend)))

    def repeat_removals(self) -> None:
        """Delete again what was deleted in a transaction that has ended, perhaps by a rollback."""
        serializer = self._manager.serializer
        for identifier, (depth, stored) in self._removed.items():
            if transaction_depth(self._backend) < depth:
                remove_with_successors(identifier, stored, self._backend, serializer)

    def restore(self, session: UserSession) -> None:
        """Go back to what is stored if a transaction took saves of the request's own back."""
        for place, (stored_before, was_rolled_back) in enumerate(self._saved):
            if was_rolled_back():
                session.stored = stored_before
                del self._saved[place:]
                return


def _written_onto(session: UserSession, read: Stored | None) -> Stored | None:
    """Return what a rollback of the save brings back: what was read, or others made of it.

    Not another session, such as that of a login which was sent twice.
    """
    replaced = session.replaced
    is_same = read is not None and replaced is not None and read[:2] == replaced[:2]
    return replaced if is_same else read
