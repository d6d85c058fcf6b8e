"""Collection beside others who hold, change and delete the same rows."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, transaction

from tests.contract.session_backend import ALICE, BOB, a_record
from tests.factories import NOW, FrontendSessionFactory
from tests.processes import wait_until
from usersessions import DatabaseSessionBackend, SessionNotUpdated
from usersessions.backends.selection import Expired
from usersessions.models import FrontendSession

pytestmark = pytest.mark.django_db(transaction=True)

USERS = [ALICE, BOB]


@pytest.fixture
def backend(transactional_db: None) -> DatabaseSessionBackend:
    if not connection.features.has_select_for_update_skip_locked:
        pytest.skip("the database knows no SKIP LOCKED")
    return DatabaseSessionBackend("FE", {"model": "django_usersessions.FrontendSession"})


def store_expired(number: int, *, tstamp: int | None = None) -> list[str]:
    """Store expired sessions, one a second or all of one second; return their hashes."""
    sessions = [
        FrontendSessionFactory.build(
            ses_tstamp=NOW - 100_000 + second if tstamp is None else tstamp, ses_userid=ALICE
        )
        for second in range(number)
    ]
    FrontendSession.objects.bulk_create(sessions)
    return [session.ses_id for session in sessions]


def run_beside(*actions: Callable[[], Any]) -> list[BaseException]:
    """Do these things at once, each on a connection of its own; return what went wrong."""

    def run(action: Callable[[], Any]) -> None:
        try:
            action()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(actions)) as threads:
        done = [threads.submit(run, action) for action in actions]
    outcomes = [future.exception() for future in done]
    return [error for error in outcomes if error is not None]


@contextmanager
def locked_by_another(*ses_ids: str) -> Iterator[None]:
    """Let a request hold these rows, in a transaction that has not ended."""
    is_locked, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            rows = FrontendSession.objects.select_for_update().filter(ses_id__in=ses_ids)
            assert len(rows) == len(ses_ids)
            is_locked.set()
            may_end.wait(10)

    errors: list[Exception] = []
    holder = threading.Thread(target=lambda: errors.extend(run_beside(hold)))
    holder.start()
    assert is_locked.wait(20)
    try:
        yield
    finally:
        may_end.set()
        holder.join()
    assert errors == []


#: How many wait for what this connection has locked.
WAITING = {
    "postgresql": "SELECT count(*) FROM pg_locks WHERE NOT granted"
    " AND pg_backend_pid() = ANY(pg_blocking_pids(pid))",
    "mysql": "SELECT count(*) FROM information_schema.innodb_trx AS waiting"
    " JOIN information_schema.processlist AS process ON process.id = trx_mysql_thread_id"
    " WHERE trx_state = 'LOCK WAIT' AND process.db = DATABASE()",
}


def somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(WAITING[connection.vendor])
        return bool(cursor.fetchone()[0])


def test_rows_that_a_request_holds_are_left(backend: DatabaseSessionBackend) -> None:
    """Collection would otherwise wait for it, with 500 rows in its own hands."""
    held, *_ = store_expired(3)
    with locked_by_another(held):
        assert list(backend.remove_all(Expired.after(1000, now=NOW), 2)) == [1, 1]
        assert FrontendSession.objects.get().ses_id == held
    assert backend.collect_garbage(1000, now=NOW) == 1


def test_collection_ends_though_a_whole_batch_is_held(backend: DatabaseSessionBackend) -> None:
    held = store_expired(2, tstamp=NOW - 100_000)
    store_expired(1, tstamp=NOW - 90_000)
    with locked_by_another(*held):
        assert sum(backend.remove_all(Expired.after(1000, now=NOW), 2)) == 1
    assert FrontendSession.objects.count() == 2


def test_rows_are_locked_by_nothing_but_their_keys(backend: DatabaseSessionBackend) -> None:
    """A request that inserts beside what is collected does not wait for the batch to end."""
    store_expired(3)
    batches = backend.remove_all(Expired.after(1000, now=NOW))
    with transaction.atomic():
        assert next(batches) == 3
        record = a_record(ses_userid=ALICE, ses_tstamp=NOW - 100_000)
        assert run_beside(lambda: backend.set("0" * 32, record)) == []
    assert FrontendSession.objects.count() == 1


def test_two_collections_take_each_row_once(backend: DatabaseSessionBackend) -> None:
    store_expired(200)
    taken: list[int] = []

    def collect() -> None:
        taken.extend(backend.remove_all(Expired.after(1000, now=NOW), 7))

    assert run_beside(collect, collect) == []
    assert sum(taken) + backend.collect_garbage(1000, now=NOW) == 200
    assert not FrontendSession.objects.exists()


def test_collection_does_not_wait_for_a_revocation_that_waits_for_it(
    backend: DatabaseSessionBackend,
) -> None:
    """Deadlock: each would hold, of the same session, what the other one needs."""
    store_expired(3)
    # So many that the sessions of one are looked up in the index.
    FrontendSession.objects.bulk_create(FrontendSessionFactory.build_batch(500, ses_userid=BOB))
    with connection.cursor() as cursor:
        table = "TABLE fe_sessions" if connection.vendor == "mysql" else "fe_sessions"
        cursor.execute(f"ANALYZE {table}")
    errors: list[Exception] = []
    revocation = threading.Thread(
        target=lambda: errors.extend(run_beside(lambda: backend.remove_by_user(ALICE)))
    )

    def revoke(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("DELETE"):
            revocation.start()
            wait_until(somebody_waits, "somebody waits for the lock", every=0.2)  # as InnoDB tells
        return execute(sql, params, many, context)

    with connection.execute_wrapper(revoke):
        assert backend.collect_garbage(1000, now=NOW) == 3
    revocation.join()
    assert errors == []


def test_collections_and_requests_never_wait_in_a_circle(backend: DatabaseSessionBackend) -> None:
    """Deadlocks: the database would fail one of them, and that may be a visitor's request."""
    ses_ids = store_expired(200)
    chance = random.Random(4)  # noqa: S311
    identifiers = [f"{number:032x}" for number in range(200)]
    for identifier in identifiers:
        backend.set(identifier, a_record(ses_tstamp=NOW, ses_userid=chance.choice(USERS)))

    def collect() -> None:
        for _ in range(10):
            sum(backend.remove_all(Expired.after(1000, now=NOW), 20))

    def visit() -> None:
        chance = random.Random()  # noqa: S311
        for number in range(60):
            identifier, new = chance.choice(identifiers), f"{chance.getrandbits(120):032x}"
            ses_id, record = backend.hash(identifier), a_record(ses_userid=chance.choice(USERS))
            # As time goes by: what nobody has used for long is there to be collected.
            backend._update((ses_id,), {"ses_id": ses_id, "ses_tstamp": NOW - number * 250}, {})
            backend._update((chance.choice(ses_ids),), {"ses_tstamp": NOW - number * 250}, {})
            try:
                backend.update(identifier, record)
                backend.renew(identifier, new, record)
            except SessionNotUpdated:
                backend.set(new, record)
            identifiers[chance.randrange(200)] = new
            backend.remove(chance.choice(identifiers))
            if number % 5 == 0:
                backend.remove_by_user(chance.choice(USERS))

    assert run_beside(collect, collect, visit, visit, visit) == []
