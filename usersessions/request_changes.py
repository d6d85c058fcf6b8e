"""What one request has done to the storage itself, in case a transaction takes it back.

``ATOMIC_REQUESTS`` ends before the middleware sees the response: a session that the view ended may
be there again, and one that the view saved may not.
"""

from __future__ import annotations

from .user_session import Stored, UserSession
from .user_session_manager import UserSessionManager


class RequestChanges:
    """Notes removals and the first save in a transaction; mends them when it was rolled back."""

    def __init__(self, manager: UserSessionManager) -> None:
        self._manager = manager
        self._removed: list[tuple[str, int]] = []
        self._saved: tuple[int, Stored | None] | None = None

    def __bool__(self) -> bool:
        """Whether there is anything that may have to be mended."""
        return bool(self._removed or self._saved)

    def note_removal(self, identifier: str) -> None:
        self._removed.append((identifier, self._depth))

    def has_removed(self, identifier: str | None) -> bool:
        return any(identifier == removed for removed, _ in self._removed)

    def note_save(self, stored_before: Stored | None) -> None:
        """Remember what was stored before the request's first save, if a transaction is open."""
        if self._saved is None and self._depth:
            self._saved = self._depth, stored_before

    def repeat_removals(self) -> None:
        """Delete again what was deleted in a transaction that has ended, perhaps by a rollback."""
        for identifier, depth in self._removed:
            if self._depth < depth:
                self._manager.backend.remove(identifier)

    def restore(self, session: UserSession) -> None:
        """Go back to what is stored if a transaction took the request's own save back.

        Costs one query if a transaction has ended in which something was saved, else none.
        """
        if self._saved is None:
            return
        depth, stored_before = self._saved
        if self._depth < depth and not self._manager.holds(session):
            session.stored = stored_before

    @property
    def _depth(self) -> int:
        return self._manager.backend.transaction_depth
