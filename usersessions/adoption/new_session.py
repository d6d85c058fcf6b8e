"""What an old session becomes: one new session for each login type that takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..backends.base import SessionBackend
from ..backends.errors import SessionNotCreated
from ..session.record import SessionRecord


@dataclass(frozen=True, eq=False)
class NewSession:
    """A record, encoded already, so that only the storage can fail."""

    backend: SessionBackend
    identifier: str = field(repr=False)
    record: SessionRecord = field(repr=False)


def store_missing(sessions: Sequence[NewSession]) -> list[NewSession]:
    """Store those of the sessions that are missing, the first one last, and return them.

    Costs one query for each.
    """
    stored = []
    for session in reversed(sessions):
        try:
            session.backend.set(session.identifier, session.record)
        except SessionNotCreated:
            continue
        stored.append(session)
    return stored
