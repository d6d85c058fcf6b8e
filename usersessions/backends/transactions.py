"""What storages in a database have besides: transactions, rollbacks and locks."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from django.db import connections, transaction

from ..session.record import SessionRecord
from .errors import SessionNotFound

if TYPE_CHECKING:
    from .base import SessionBackend

#: Seconds that a writer waits at most after it has lost its first turn, and after any.
FIRST_WAIT, LONGEST_WAIT = 0.02, 1.0


def transaction_depth(backend: SessionBackend) -> int:
    """Return how many transactions the storage is in; 0 where it has none."""
    alias = backend.database
    return 0 if alias is None else len(connections[alias].atomic_blocks)


def watch_transaction(backend: SessionBackend) -> Callable[[], bool]:
    """Return a function that tells later whether what is written now was rolled back."""
    if backend.database is None:
        return lambda: False
    connection = connections[backend.database]
    was_committed: list[bool] = []

    def note_commit() -> None:
        was_committed.append(True)

    transaction.on_commit(note_commit, using=backend.database)
    # A rollback, to a savepoint too, drops the callbacks of what it takes back.
    return lambda: (
        not was_committed
        and all(waiting[1] is not note_commit for waiting in connection.run_on_commit)
    )


@contextmanager
def retry_turn(
    backend: SessionBackend, lost: int, identifier: str
) -> Iterator[SessionRecord | None]:
    """Let a writer try again that has lost to other requests; the block is its turn.

    Gives what is stored by now, or None where the first write tells. A database with row locks
    keeps it so until the end of the block. In SQLite, the first write locks the database. In a
    transaction of the caller's, a write that did not meet its row has locked it. Without a
    database, a writer waits before its turn for a random time, which grows with the turns that it
    has lost, so that competing writers draw apart.

    :param lost: how many turns the writer has lost
    """
    if backend.database is None:
        longest = min(FIRST_WAIT * 2 ** (lost - 1), LONGEST_WAIT)
        time.sleep(random.uniform(0, longest))  # noqa: S311 - no secret
        yield _current(backend, identifier)
        return
    connection = connections[backend.database]
    if not connection.get_autocommit():
        yield None
        return
    with transaction.atomic(using=backend.database):
        if connection.vendor == "postgresql":
            # In a stricter one, a row that was locked by others is an error, not a wait.
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        has_locks = connection.features.has_select_for_update
        yield _current(backend, identifier) if has_locks else None


def can_ask_again(backend: SessionBackend) -> bool:
    """Return whether the storage can be asked again after an error, on a new connection if need be.

    Not in a transaction, which is lost with its connection.
    """
    if backend.database is None:
        return True
    connection = connections[backend.database]
    if connection.in_atomic_block:
        return False
    connection.close_if_unusable_or_obsolete()
    return True


def _current(backend: SessionBackend, identifier: str) -> SessionRecord | None:
    record = None
    with suppress(SessionNotFound):
        record = backend.get(identifier, current=True)
    return record
