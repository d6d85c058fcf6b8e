"""What an old session becomes: one new session for each login type that takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from ..backends.base import SessionBackend, SessionNotCreated
from ..session.record import SessionRecord

#: A storage, and the identifier and record to store there.
Prepared: TypeAlias = tuple[SessionBackend, str, SessionRecord]


class NewSession:
    """The new records of one old session. They are encoded already, so only a storage can fail.

    :param prepared: the record of the default login type comes first if there is one
    """

    def __init__(self, prepared: Sequence[Prepared]) -> None:
        self._prepared = prepared
        self._stored: list[tuple[SessionBackend, str]] = []

    @property
    def has_takers(self) -> bool:
        return bool(self._prepared)

    def store(self) -> bool:
        """Store the records that are missing; return whether the first one was missing.

        Costs one query for each record.
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
        """Remove what ``store()`` has stored. Costs one query for each record."""
        for backend, identifier in self._stored:
            backend.remove(identifier)
