"""What a transaction of this request makes of what another connection commits meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from tests.contract.session_backend import ALICE, IDENTIFIER, NEW_IDENTIFIER, a_record
from tests.racing_requests import at_once
from usersessions import (
    DatabaseSessionBackend,
    SessionChanged,
    SessionNotCreated,
    SessionNotFound,
    SessionNotUpdated,
    TooManySessions,
    UserSession,
    UserSessionManager,
)
from usersessions.models import FrontendSession
from usersessions.store import SessionStore

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(
        "connection.vendor == 'sqlite'",
        reason="while a transaction of SQLite's has written, no other connection can",
    ),
]

READ, THEIRS = b'{"read":1}', b'{"theirs":1}'


@pytest.fixture(params=["read committed", "repeatable read", "serializable"])
def isolation_level(request: pytest.FixtureRequest) -> Iterator[str]:
    """What a site has set as ``isolation_level`` in the ``OPTIONS`` of its database."""
    options = connection.settings_dict["OPTIONS"]
    level: Any = request.param
    if connection.vendor == "mysql" and level == "serializable":
        pytest.skip("MySQL locks what such a transaction reads: nobody changes it meanwhile")
    if connection.vendor == "postgresql":
        from psycopg import IsolationLevel

        level = IsolationLevel[level.replace(" ", "_").upper()]
    connection.close()
    options["isolation_level"] = level
    yield request.param
    connection.close()
    del options["isolation_level"]


@pytest.fixture
def backend(isolation_level: str) -> DatabaseSessionBackend:
    return DatabaseSessionBackend("FE", {"model": "django_usersessions.FrontendSession"})


@pytest.fixture
def refuses_stale_writes(isolation_level: str) -> bool:
    """Whether the database itself lets no transaction write what others have changed meanwhile."""
    if isolation_level == "read committed":
        return False
    refused = "ON"
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:  # the default from MariaDB 11.6 on
            cursor.execute("SHOW VARIABLES LIKE 'innodb_snapshot_isolation'")
            refused = dict(cursor.fetchall()).get("innodb_snapshot_isolation", "OFF")
    return refused == "ON"


def elsewhere(action: Callable[[], Any]) -> None:
    """Do something over a connection of its own, which is that of another thread."""

    def run() -> None:
        try:
            action()
        finally:
            connection.close()

    with ThreadPoolExecutor() as executor:
        executor.submit(run).result(timeout=30)


Write = Callable[[DatabaseSessionBackend], Any]


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda b: b.update(IDENTIFIER, {}, expected_data=READ), id="update"),
        pytest.param(
            lambda b: b.renew(IDENTIFIER, NEW_IDENTIFIER, {}, expected_data=READ), id="renew"
        ),
        pytest.param(lambda b: b.remove(IDENTIFIER, expected_data=READ), id="remove"),
    ],
)
def test_write_onto_what_was_read_tells_what_another_connection_has_made_of_it(
    backend: DatabaseSessionBackend, refuses_stale_writes: bool, write: Write
) -> None:
    backend.set(IDENTIFIER, a_record(ses_data=READ))
    error = OperationalError if refuses_stale_writes else SessionChanged
    with transaction.atomic():
        assert backend.get(IDENTIFIER)["ses_data"] == READ
        elsewhere(lambda: backend.update(IDENTIFIER, {"ses_data": THEIRS}))
        with pytest.raises(error) as caught:
            write(backend)
    assert refuses_stale_writes or caught.value.record["ses_data"] == THEIRS  # type: ignore[attr-defined]
    assert backend.get(IDENTIFIER)["ses_data"] == THEIRS


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(lambda b: b.update(IDENTIFIER, {}, expected_data=READ), id="update"),
        pytest.param(lambda b: b.update(IDENTIFIER, {}), id="update-of-anything"),
        pytest.param(lambda b: b.renew(IDENTIFIER, NEW_IDENTIFIER, {}), id="renew"),
    ],
)
def test_session_that_another_connection_has_ended_stays_ended(
    backend: DatabaseSessionBackend, refuses_stale_writes: bool, write: Write
) -> None:
    """A request whose transaction still shows the session must not bring it back."""
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE, ses_data=READ))
    error = OperationalError if refuses_stale_writes else SessionNotUpdated
    with transaction.atomic():
        assert backend.get(IDENTIFIER)["ses_data"] == READ
        elsewhere(lambda: backend.remove(IDENTIFIER))
        with pytest.raises(error) as caught:
            write(backend)
    assert not isinstance(caught.value, SessionChanged)
    assert list(backend.get_all()) == []


def test_removal_of_what_another_connection_has_removed_is_no_error(
    backend: DatabaseSessionBackend, refuses_stale_writes: bool
) -> None:
    backend.set(IDENTIFIER, a_record(ses_data=READ))
    with transaction.atomic():
        assert backend.get(IDENTIFIER)["ses_data"] == READ
        elsewhere(lambda: backend.remove(IDENTIFIER))
        if refuses_stale_writes:
            with pytest.raises(OperationalError):
                backend.remove(IDENTIFIER, expected_data=READ)
        else:
            assert backend.remove(IDENTIFIER, expected_data=READ) is False


def test_identifier_that_another_connection_has_taken_is_taken(
    backend: DatabaseSessionBackend, refuses_stale_writes: bool
) -> None:
    error = OperationalError if refuses_stale_writes else SessionNotCreated
    with transaction.atomic():
        with pytest.raises(SessionNotFound):
            backend.get(IDENTIFIER)
        elsewhere(lambda: backend.set(IDENTIFIER, a_record(ses_data=THEIRS)))
        with pytest.raises(error):
            backend.set(IDENTIFIER, a_record(ses_data=READ))
    assert backend.get(IDENTIFIER)["ses_data"] == THEIRS


def test_session_saved_in_a_transaction_has_the_changes_of_both_connections(
    refuses_stale_writes: bool,
) -> None:
    theirs = SessionStore()
    theirs["basket"] = 1
    theirs.save()
    theirs["theirs"] = 2
    error = pytest.raises(OperationalError) if refuses_stale_writes else nullcontext()
    with error, transaction.atomic():
        mine = SessionStore(theirs.session_key)
        mine["mine"] = mine["basket"] + 2
        elsewhere(theirs.save)
        mine.save()
    merged = {"basket": 1, "theirs": 2}
    if not refuses_stale_writes:
        merged["mine"] = 3
    assert dict(SessionStore(theirs.session_key).items()) == merged


def log_in(manager: UserSessionManager, user: Any) -> UserSession:
    anonymous = manager.create_anonymous_session()
    return manager.elevate_to_fixated_user_session(anonymous, user.pk)


@pytest.mark.parametrize("reached", ["end-oldest", "refuse-login"])
def test_login_in_a_transaction_sees_one_that_another_connection_has_committed(
    alice: Any, isolation_level: str, settings: Any, reached: str
) -> None:
    """A limit on sessions counts what there is, not what there was when the transaction began."""
    limits = {"MAX_SESSIONS_PER_USER": 1, "MAX_SESSIONS_REACHED": reached}
    settings.USERSESSIONS = {"FE": limits}
    manager = UserSessionManager.create("FE")
    error: Any = TooManySessions if reached == "refuse-login" else None
    if isolation_level != "read committed" and connection.vendor == "postgresql":
        error = OperationalError  # which is how it keeps a transaction from writing onto the past
    with pytest.raises(error) if error else nullcontext(), transaction.atomic():
        assert list(manager.backend.get_by_user(alice.pk)) == []
        elsewhere(lambda: log_in(manager, alice))
        log_in(manager, alice)
    assert len(list(manager.backend.get_by_user(alice.pk))) == 1


def test_transaction_that_the_database_refused_can_be_repeated(isolation_level: str) -> None:
    theirs = SessionStore()
    theirs["basket"] = 1
    theirs.save()
    theirs["theirs"] = 2
    interruptions = [theirs.save]

    def buy() -> None:
        with transaction.atomic():
            mine = SessionStore(theirs.session_key)
            mine["mine"] = mine["basket"] + 2
            while interruptions:
                elsewhere(interruptions.pop())
            mine.save()

    try:
        buy()
    except OperationalError:
        buy()
    assert dict(SessionStore(theirs.session_key).items()) == {"basket": 1, "theirs": 2, "mine": 3}


# PostgreSQL with the isolation level set in the server, so that it holds for single statements, too


@pytest.fixture(params=["repeatable read", "serializable"])
def strict_server(request: pytest.FixtureRequest) -> Iterator[None]:
    if connection.vendor != "postgresql":
        pytest.skip("elsewhere, a single statement waits for others and goes on")
    options = connection.settings_dict["OPTIONS"]
    connection.close()
    level = request.param.replace(" ", "\\ ")
    options["options"] = f"-c default_transaction_isolation={level}"
    yield
    connection.close()
    del options["options"]


def test_statements_that_must_give_way_begin_again(strict_server: None) -> None:
    """A visitor who sends two requests at once must not see an error page."""
    stored = SessionStore()
    stored["basket"] = 1
    stored.save()

    def work(worker: int) -> None:
        for number in range(10):
            store = SessionStore(stored.session_key)
            store[f"{worker}.{number}"] = 1
            store.save()
            backend = store.manager.backend
            seen = store.user_session.last_updated
            backend.touch(str(stored.session_key), seen + 1, seen=seen)

    at_once([lambda worker=worker: work(worker) for worker in range(6)])
    assert len(SessionStore(stored.session_key).items()) == 61
    at_once([SessionStore(stored.session_key).delete for _ in range(6)])
    assert not FrontendSession.objects.exists()


@pytest.mark.parametrize(
    ("error", "times"),
    [pytest.param("40001", 21, id="must-give-way"), pytest.param("57014", 1, id="another-error")],
)
def test_statement_that_must_give_way_is_repeated_but_not_forever(
    strict_server: None, error: str, times: int
) -> None:
    tried = []

    def fail(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        tried.append(sql)
        refusal = f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{error}'; END $$"
        return execute(refusal, None, many, context)

    with connection.execute_wrapper(fail), pytest.raises(OperationalError):
        SessionStore().manager.backend.remove(IDENTIFIER)
    assert len(tried) == times
