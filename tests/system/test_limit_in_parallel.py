"""Logins of one user that meet: the limit on sessions holds exactly, on every storage.

``USERSESSIONS_LIMIT_ROUNDS`` has each test do more rounds.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from itertools import product
from pathlib import Path
from threading import Barrier, BrokenBarrierError, Event
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.admin.models import LogEntry
from django.db import OperationalError, connection, connections, transaction

from tests.contract.session_backend import second_database
from tests.factories import UserFactory
from tests.places import TABLE, place_of
from tests.urls import site_of
from usersessions import SessionManager, TooManySessions, UserSessionManager, auth
from usersessions.backends.errors import SessionBackendError
from usersessions.lifecycle.user_lock import user_lock
from usersessions.test import AsyncClient, Client

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.urls")]

ROUNDS = int(os.environ.get("USERSESSIONS_LIMIT_ROUNDS", "1"))

LOGINS = 8

Limit = Callable[[int, str], None]


@pytest.fixture(params=["database", "cached", "elsewhere", "redis", "cluster"])
def limit(request: pytest.FixtureRequest, settings: Any, tmp_path: Path) -> Iterator[Limit]:
    """Keep frontend sessions in one storage after the other, and so many of each user."""
    with ExitStack() as stack:
        if request.param == "elsewhere":
            alias = stack.enter_context(second_database(tmp_path / "sessions.sqlite3", "sessions"))
            place: dict[str, Any] = {"OPTIONS": {**TABLE, "using": alias}}
        else:
            place = stack.enter_context(place_of(request.param, request, settings))

        def limit(number: int, reached: str) -> None:
            limits = {"MAX_SESSIONS_PER_USER": number, "MAX_SESSIONS_REACHED": reached}
            settings.USERSESSIONS = {"FE": {**place, **limits}}

        yield limit


def in_threads(*actions: Callable[[], Any]) -> list[Any]:
    """Do these things at the same time, and return what they return, in order."""
    start = Barrier(len(actions))

    def run(action: Callable[[], Any]) -> Any:
        try:
            for each in connections.all():
                each.connect()  # not by the first statement: Django's tests forbid that
            start.wait(timeout=30)
            return action()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(actions)) as threads:
        return [done.result() for done in [threads.submit(run, action) for action in actions]]


def log_in_at_once(user: Any, *, in_transaction: bool = False) -> Counter[int]:
    """Have browsers log the user in at the same time; return how often they got which answer."""
    start = Barrier(LOGINS)

    def view(request: Any) -> None:
        start.wait(timeout=30)
        if not in_transaction:
            auth.login(request, user)
            return
        with transaction.atomic():
            assert type(user).objects.filter(pk=user.pk).exists()  # what it sees from now on
            auth.login(request, user)
            request.session.save()

    def visit() -> int:
        browser = Client(raise_request_exception=False)
        return browser.get("/").status_code

    with site_of(view):
        return Counter(in_threads(*[visit] * LOGINS))


def count(user: Any) -> int:
    return len(list(SessionManager.get_session_backend("FE").get_by_user(user.pk)))


#: How many sessions are allowed, and whether the view stores its login in a transaction.
CASES = [*product((1, 3), (False, True))] * ROUNDS


def test_oldest_end_until_exactly_as_many_are_left(limit: Limit) -> None:
    alice = UserFactory()
    for number, in_transaction in CASES:  # but for the first time, onto those that are there
        limit(number, "end-oldest")
        assert log_in_at_once(alice, in_transaction=in_transaction) == {200: LOGINS}
        assert count(alice) == number


def test_exactly_as_many_logins_succeed_as_there_are_places(limit: Limit) -> None:
    for number, in_transaction in CASES:
        limit(number, "refuse-login")
        alice = UserFactory()
        answers = log_in_at_once(alice, in_transaction=in_transaction)
        assert answers == {200: number, 403: LOGINS - number}
        assert count(alice) == number


@pytest.mark.parametrize("limit", ["database", "cached", "redis", "cluster"], indirect=True)
@pytest.mark.parametrize("reached", ["end-oldest", "refuse-login"])
def test_sessions_that_are_renewed_meanwhile_are_not_overlooked(
    request: pytest.FixtureRequest, limit: Limit, reached: str
) -> None:
    """Attack: renew the identifiers of one's sessions all the time, so that none is found."""
    limit(3, reached)
    manager, alice, is_over = UserSessionManager.create("FE"), UserFactory(), Event()

    def log_in() -> Any:
        anonymous = manager.create_anonymous_session()
        return manager.elevate_to_fixated_user_session(anonymous, alice.pk)

    def renewing(session: Any) -> Callable[[], None]:
        def renew() -> None:
            identifier = session.identifier
            while not is_over.is_set():
                try:
                    identifier = manager.regenerate_session(identifier).identifier
                except SessionBackendError:  # it has ended
                    return

        return renew

    def log_in_often() -> None:
        try:
            for _ in range(10 * ROUNDS):
                with suppress(TooManySessions):
                    log_in()
        finally:
            is_over.set()

    in_threads(log_in_often, log_in_often, *(renewing(log_in()) for _ in range(3)))
    # On Cluster, one that is being renewed is there twice for a moment, and ends with another.
    is_cluster = request.node.callspec.params["limit"] == "cluster"
    assert count(alice) == 3 or (is_cluster and 1 <= count(alice) < 3)


# Databases with other transactions than Django's


@pytest.fixture
def other_transactions() -> Iterator[None]:
    """The ones that begin by reading, in SQLite; elsewhere, those that see what there was then."""
    options = connection.settings_dict["OPTIONS"]
    before = dict(options)
    if connection.vendor == "sqlite":
        options["transaction_mode"] = "DEFERRED"
    elif connection.vendor == "mysql":
        options["isolation_level"] = "repeatable read"
    else:
        from psycopg import IsolationLevel

        options["isolation_level"] = IsolationLevel.REPEATABLE_READ
    connection.close()
    yield
    connection.close()
    options.clear()
    options.update(before)


def may_fail(*, in_transaction: bool) -> bool:
    """Whether the database fails one of two logins that meet, rather than let it see the past."""
    if connection.vendor == "sqlite":
        return in_transaction  # that has read: it cannot go on to write
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:  # the default from MariaDB 11.6 on
            cursor.execute("SHOW VARIABLES LIKE 'innodb_snapshot_isolation'")
            return dict(cursor.fetchall()).get("innodb_snapshot_isolation") == "ON"
    return True


@pytest.mark.usefixtures("other_transactions")
@pytest.mark.parametrize("limit", ["database", "elsewhere"], indirect=True)
def test_never_more_are_left_whatever_transactions_see(limit: Limit) -> None:
    for number, in_transaction in CASES:
        limit(number, "end-oldest")
        alice = UserFactory()
        for _ in range(number):
            Client().force_login(alice)
        answers = log_in_at_once(alice, in_transaction=in_transaction)
        assert answers[200] + answers[500] == LOGINS
        assert may_fail(in_transaction=in_transaction) or answers[500] == 0
        assert count(alice) == number


@pytest.mark.usefixtures("other_transactions")
@pytest.mark.parametrize("limit", ["database", "elsewhere"], indirect=True)
def test_never_more_succeed_whatever_transactions_see(limit: Limit) -> None:
    for number, in_transaction in CASES:
        limit(number, "refuse-login")
        alice = UserFactory()
        answers = log_in_at_once(alice, in_transaction=in_transaction)
        assert count(alice) == answers[200] <= number
        assert answers[200] == number or answers[500] > 0
        assert may_fail(in_transaction=in_transaction) or answers[500] == 0


# The lock itself


@pytest.mark.parametrize("transactions", ["", "other_transactions"])
def test_nobody_is_let_in_while_somebody_is_in_there(
    request: pytest.FixtureRequest, transactions: str
) -> None:
    if transactions:
        request.getfixturevalue(transactions)
    alice, both, met = UserFactory(), Barrier(2), []

    def meet() -> None:
        with suppress(BrokenBarrierError):
            both.wait(timeout=0.2)
            met.append("They met.")  # pragma: no cover - what must not happen

    def enter() -> None:
        # PostgreSQL may fail one of them, which then does not come in either.
        with suppress(OperationalError):
            while_user_is_locked(alice.pk, meet)

    in_threads(enter, enter)
    assert met == []


def while_user_is_locked(user_id: Any, function: Any, *args: Any) -> Any:
    with user_lock(user_id):
        return function(*args)


def test_users_do_not_wait_for_each_other() -> None:
    if not connection.features.has_select_for_update:
        pytest.skip("the database has no row locks")
    both = Barrier(2)
    ways_in = [partial(while_user_is_locked, UserFactory().pk, both.wait, 10) for _ in range(2)]
    assert sorted(in_threads(*ways_in)) == [0, 1]


def test_row_that_refers_to_a_user_is_stored_without_waiting() -> None:
    """Else whoever writes the site's orders would wait for its customers' logins."""
    if not connection.features.has_select_for_no_key_update:
        pytest.skip("the database has no lock that leaves references alone")
    alice = UserFactory()
    with transaction.atomic():
        while_user_is_locked(alice.pk, lambda: None)
        store = partial(LogEntry.objects.create, user_id=alice.pk, action_flag=1)
        [entry] = in_threads(store)
    assert entry.user == alice


# Async


@pytest.mark.parametrize("limit", ["redis"], indirect=True)
@pytest.mark.parametrize("number", [1, 3])
def test_logins_on_the_event_loop_are_counted_one_after_the_other(
    limit: Limit, number: int
) -> None:
    limit(number, "refuse-login")
    alice = UserFactory()

    async def view(request: Any) -> None:
        await auth.alogin(request, alice)

    async def visit() -> int:
        return (await AsyncClient().get("/async/")).status_code

    async def visits() -> Counter[int]:
        return Counter(await asyncio.gather(*(visit() for _ in range(LOGINS))))

    with site_of(view):
        assert async_to_sync(visits)() == {200: number, 403: LOGINS - number}
    assert count(alice) == number
