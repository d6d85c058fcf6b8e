"""One login of a user after the other, in all processes of a site, whatever keeps the sessions.

What they have in common is the user, and a transaction that holds the user's row: it ends with the
process or its connection, so that nobody waits for a lock that was left behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from django.contrib.auth import get_user_model
from django.db import connections, router, transaction
from django.db.models import F, Func, Q, QuerySet, TextField, Value

from ..session.user_keys import UserId

Result = TypeVar("Result")

#: PostgreSQL's isolation levels where each statement sees what others have committed.
SEES_COMMITS = ("read committed", "read uncommitted")


def while_user_is_locked(user_id: UserId, function: Callable[..., Result], *args: Any) -> Result:
    """Call a function while nobody else is in here for the same user.

    Others wait until the outermost transaction of the users' database ends. A user without a row
    leaves nothing to lock, but in SQLite, which locks everything.

    Costs one query and a transaction.
    """
    users = get_user_model()
    using = router.db_for_write(users)
    row: QuerySet[Any] = users._base_manager.using(using).filter(Q(pk=user_id))
    with transaction.atomic(using=using):
        _lock(row, using)
        return function(*args)


def _lock(row: QuerySet[Any], using: str) -> None:
    features, vendor = connections[using].features, connections[using].vendor
    if not features.has_select_for_update:
        _write_unchanged(row)
        return
    # Where that is known, a lock for which nobody waits who stores a row that refers to the user.
    locked = row.select_for_update(no_key=features.has_select_for_no_key_update)
    if vendor != "postgresql":
        locked.values_list("pk").first()
        return
    level = Func(
        Value("transaction_isolation"), function="current_setting", output_field=TextField()
    )
    if locked.values_list(level, flat=True).first() not in (*SEES_COMMITS, None):
        # This transaction sees what there was before the lock. Written rows have the database
        # refuse it where another login has been in between; locked ones would not.
        _write_unchanged(row)


def _write_unchanged(row: QuerySet[Any]) -> None:
    key = row.model._meta.pk.name
    row.update(**{key: F(key)})
