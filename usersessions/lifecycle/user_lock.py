"""One login of a user after the other, in all processes of a site and for any storage.

The lock is a transaction that holds the user's row. It ends with the process or its connection, so
no lock is left behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connections, router, transaction
from django.db.models import F, Func, Q, QuerySet, TextField, Value

from ..session.user_keys import UserId

#: PostgreSQL's isolation levels where each statement sees what others have committed.
SEES_COMMITS = ("read committed", "read uncommitted")


@contextmanager
def user_lock(user_id: UserId) -> Iterator[None]:
    """Let one block at a time run for a user, in all processes.

    Others wait until the outermost transaction of the users' database ends. For a user without a
    row there is nothing to lock, except in SQLite, which locks everything.

    Costs one query and a transaction.
    """
    users = get_user_model()
    using = router.db_for_write(users)
    row: QuerySet[Any] = users._base_manager.using(using).filter(Q(pk=user_id))
    with transaction.atomic(using=using):
        _lock(row, using)
        yield


def _lock(row: QuerySet[Any], using: str) -> None:
    features, vendor = connections[using].features, connections[using].vendor
    if not features.has_select_for_update:
        _write_unchanged(row)
        return
    # Where the database knows it, a lock that lets others store rows that refer to the user.
    locked = row.select_for_update(no_key=features.has_select_for_no_key_update)
    if vendor != "postgresql":
        locked.values_list("pk").first()
        return
    level = Func(
        Value("transaction_isolation"), function="current_setting", output_field=TextField()
    )
    if locked.values_list(level, flat=True).first() not in (*SEES_COMMITS, None):
        # This transaction sees what was stored before the lock. After another login in between,
        # the database refuses it the row if it is written, not if it is only locked.
        _write_unchanged(row)


def _write_unchanged(row: QuerySet[Any]) -> None:
    key = row.model._meta.pk.name
    row.update(**{key: F(key)})
