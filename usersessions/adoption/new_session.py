"""What an old session becomes: a session of each login type that takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from ..backends.base import SessionBackend, SessionNotCreated
from ..session.record import SessionRecord

#: What is to be stored, where, and under which identifier.
Prepared: TypeAlias = tuple[SessionBackend, str, SessionRecord]


class NewSession:
    """The records of one old session, encoded already: only the storage can refuse them now.

    :param prepared: that of the login type by which the others are found comes first
    """

    def __init__(self, prepared: Sequence[Prepared]) -> None:
        self._prepared = prepared
        self._stored: list[tuple[SessionBackend, str]] = []

    @property
    def has_takers(self) -> bool:
        return bool(self._prepared)

    def store(self) -> bool:
        """Store what is not stored yet; return whether the first one was not.

        Costs one query for each.
        """
        is_new = False
        for backend, identifier, record in reversed(self._prepared):
            try:
                backend.set(identifier, record)
            except SessionNotCreated:
                is_new = False
            else:
                is_new = True
                self._stored.append((backend, identifier))
        return is_new

    def remove(self) -> None:
        """Take away again what ``store()`` has stored. Costs one query for each."""
        for backend, identifier in self._stored:
            backend.remove(identifier)
