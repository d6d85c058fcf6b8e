"""Counting and removing many sessions of a table, in batches that lock few rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Q, QuerySet

from ..selection import AnySession, Expired, Selection

if TYPE_CHECKING:
    from ...models import AbstractUserSession
    from .backend import DatabaseSessionBackend


def count(backend: DatabaseSessionBackend, selection: Selection) -> int:
    if isinstance(selection, AnySession):
        return _all(backend, selection).count()
    users = _older(backend, selection.users_before, anonymous=False)
    visitors = _older(backend, selection.visitors_before, anonymous=True)
    return users.count() + visitors.count()


def remove(backend: DatabaseSessionBackend, selection: Selection, batch_size: int) -> Iterator[int]:
    if isinstance(selection, AnySession):
        return _remove_all(backend, selection, batch_size)
    return _collect(backend, selection, batch_size)


def _collect(backend: DatabaseSessionBackend, expired: Expired, batch_size: int) -> Iterator[int]:
    return chain(
        _collect_older(backend, expired.users_before, batch_size, anonymous=False),
        _collect_older(backend, expired.visitors_before, batch_size, anonymous=True),
    )


def _collect_older(
    backend: DatabaseSessionBackend, limit: int, batch_size: int, *, anonymous: bool
) -> Iterator[int]:
    expired = _older(backend, limit, anonymous=anonymous).order_by("ses_tstamp")
    size = _batch_that_fits(backend, batch_size, 1)
    reached = 0
    while True:
        # Starting from the last batch's timestamp, so that rows with a longer life which lie in
        # between, and deleted ones that wait for vacuum, are passed over once, not once a batch.
        page = expired.filter(ses_tstamp__gte=reached).values_list("ses_id", "ses_tstamp")
        picked = list(page[:size])
        if not picked:
            return
        deleted = _delete_older(backend, [row[0] for row in picked], limit, anonymous=anonymous)
        # Where other transactions hold all rows of a second, go on behind it.
        reached = max(picked[-1][1], reached + (not deleted))
        yield deleted


def _delete_older(
    backend: DatabaseSessionBackend, ses_ids: Sequence[str], limit: int, *, anonymous: bool
) -> int:
    """Delete what is still expired of the rows that were picked; do not wait for locks."""
    sql = backend.sql
    # Compared again: a session may have been used since it was picked.
    condition = (
        f"{sql.user} {backend.user_column.sql(anonymous=anonymous)} "
        f"AND {sql.columns['ses_tstamp']} < %s"
    )
    if not backend.connection.features.has_select_for_update_skip_locked:
        return backend.delete_by_key(ses_ids, condition, [limit])
    with transaction.atomic(using=backend.database):
        lock = sql.lock_by_key(len(ses_ids), condition)
        locked = [ses_id for (ses_id,) in backend.fetch(lock, [*ses_ids, limit])]
        return backend.delete_by_key(locked, condition, [limit]) if locked else 0


def _remove_all(
    backend: DatabaseSessionBackend, selection: AnySession, batch_size: int
) -> Iterator[int]:
    kept = selection.except_users
    condition, params = _condition_on_users(backend, selection)
    size = _batch_that_fits(backend, batch_size, len(kept))
    rows = _all(backend, selection).order_by("ses_id").values_list("ses_id", flat=True)
    reached = ""
    while ses_ids := list(rows.filter(ses_id__gt=reached)[:size]):
        reached = ses_ids[-1]
        # Compared again: a session may have become another user's since it was picked.
        yield backend.delete_by_key(ses_ids, condition, params)


def _condition_on_users(
    backend: DatabaseSessionBackend, selection: AnySession
) -> tuple[str, list[Any]]:
    user = backend.sql.user
    conditions, params = ["1 = 1"], []
    if selection.anonymous is not None:
        conditions.append(f"{user} {backend.user_column.sql(anonymous=selection.anonymous)}")
    if selection.except_users:
        places = ", ".join(["%s"] * len(selection.except_users))
        conditions.append(f"({user} IS NULL OR {user} NOT IN ({places}))")
        for user_id in selection.except_users:
            params += backend.params({"ses_userid": user_id}, ["ses_userid"])
    return " AND ".join(conditions), params


def _batch_that_fits(backend: DatabaseSessionBackend, size: int, others: int) -> int:
    """Return how many keys a statement may have beside other parameters: SQLite limits both."""
    most = backend.connection.features.max_query_params
    return min(size, most - others) if most else size


def _all(backend: DatabaseSessionBackend, selection: AnySession) -> QuerySet[AbstractUserSession]:
    anonymous, kept = selection.anonymous, selection.except_users
    whose = Q() if anonymous is None else backend.user_column.condition(anonymous=anonymous)
    rows = _rows(backend).filter(whose)
    return rows.exclude(Q(ses_userid__in=kept)) if kept else rows


def _older(
    backend: DatabaseSessionBackend, limit: int, *, anonymous: bool
) -> QuerySet[AbstractUserSession]:
    whose = backend.user_column.condition(anonymous=anonymous)
    return _rows(backend).filter(whose, ses_tstamp__lt=limit)


def _rows(backend: DatabaseSessionBackend) -> QuerySet[AbstractUserSession]:
    rows: QuerySet[AbstractUserSession] = backend.model._default_manager.using(backend.database)
    return rows
