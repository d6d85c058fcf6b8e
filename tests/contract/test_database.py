"""Sessions in tables: the contract, and what each operation costs the database."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import (
    DataError,
    IntegrityError,
    OperationalError,
    connection,
    connections,
    models,
    transaction,
)
from django.test.utils import CaptureQueriesContext, isolate_apps

from tests.contract.session_backend import (
    ALICE,
    BOB,
    IDENTIFIER,
    NEW_IDENTIFIER,
    BackendContract,
    CollectionContract,
    a_record,
    second_database,
    take_over,
)
from tests.factories import NOW, FrontendSessionFactory
from usersessions import DatabaseSessionBackend, SessionNotCreated, SessionNotUpdated
from usersessions.backends.selection import AnySession, Expired
from usersessions.backends.transactions import transaction_depth
from usersessions.conf import get_login_type
from usersessions.models import AbstractUserSession, BackendSession, FrontendSession

pytestmark = pytest.mark.django_db

EXPIRED = Expired.after(100)


@pytest.fixture
def backend() -> DatabaseSessionBackend:
    return DatabaseSessionBackend("FE", {"model": "django_usersessions.FrontendSession"})


class TestFrontendTable(BackendContract, CollectionContract):
    @pytest.fixture
    def backend(self, db: None) -> DatabaseSessionBackend:
        return DatabaseSessionBackend("FE", {"model": "django_usersessions.FrontendSession"})


class TestBackendTable(BackendContract, CollectionContract):
    keeps_permanent = False

    @pytest.fixture
    def backend(self, db: None) -> DatabaseSessionBackend:
        return DatabaseSessionBackend("BE", {"model": "django_usersessions.BackendSession"})


# What is in the table


def test_update_that_changes_nothing_is_an_update(backend: DatabaseSessionBackend) -> None:
    backend.set(IDENTIFIER, a_record())
    backend.update(IDENTIFIER, a_record(), expected_data=DATA)
    assert backend.touch(IDENTIFIER, NOW, seen=NOW) is True


def test_as_much_data_as_a_session_may_hold_goes_into_one_statement(
    backend: DatabaseSessionBackend,
) -> None:
    size = get_login_type("FE").max_data_size
    backend.set(IDENTIFIER, a_record(ses_data=b'"' * size))
    backend.update(IDENTIFIER, {"ses_data": b"\0" * size}, expected_data=b'"' * size)
    assert backend.get(IDENTIFIER)["ses_data"] == b"\0" * size


def test_all_sessions_come_however_many_pages_they_take(backend: DatabaseSessionBackend) -> None:
    for number in (1, 499, 500):
        FrontendSessionFactory.create_batch(number)
        with CaptureQueriesContext(connection) as captured:
            found = [record["ses_id"] for record in backend.get_all()]
        assert len(set(found)) == len(found) == FrontendSession.objects.count()
        assert len(captured) == len(found) // 500 + 1


def test_sessions_may_be_ended_while_all_are_read(backend: DatabaseSessionBackend) -> None:
    FrontendSessionFactory.create_batch(3)
    for record in backend.get_all():
        backend.remove_by_ses_id([record["ses_id"]])
    assert not FrontendSession.objects.exists()


def test_fields_that_are_not_given_get_the_models_defaults(
    backend: DatabaseSessionBackend,
) -> None:
    backend.set(IDENTIFIER, {})
    assert FrontendSession.objects.values().get() == {
        "ses_id": backend.hash(IDENTIFIER),
        "ses_iplock": "",
        "ses_userid": 0,
        "ses_tstamp": 0,
        "ses_data": b"",
        "ses_permanent": False,
    }


def test_row_is_the_record_of_its_hash(backend: DatabaseSessionBackend) -> None:
    """Whoever reads the table, say a stolen backup, cannot make a cookie from it."""
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE, ses_permanent=True))
    assert FrontendSession.objects.values().get() == {
        **a_record(ses_userid=ALICE, ses_permanent=True),
        "ses_id": backend.hash(IDENTIFIER),
    }


def test_record_is_the_row() -> None:
    FrontendSessionFactory(ses_id="0" * 64, ses_permanent=True)
    backend = DatabaseSessionBackend("FE", {"model": "django_usersessions.FrontendSession"})
    assert list(backend.get_all()) == [
        {
            "ses_id": "0" * 64,
            "ses_iplock": "[DISABLED]",
            "ses_userid": 0,
            "ses_tstamp": NOW,
            "ses_data": b"{}",
            "ses_permanent": True,
        }
    ]


def test_backend_table_remembers_no_permanent_flag() -> None:
    backend = DatabaseSessionBackend("BE", {"model": "django_usersessions.BackendSession"})
    backend.set(IDENTIFIER, a_record(ses_permanent=True))
    assert "ses_permanent" not in backend.get(IDENTIFIER)


def test_each_backend_keeps_to_its_table(backend: DatabaseSessionBackend) -> None:
    backend.set(IDENTIFIER, a_record())
    assert (FrontendSession.objects.count(), BackendSession.objects.count()) == (1, 0)


# Statements: one an operation, a second one only to say why nothing was written

Operation = Callable[[DatabaseSessionBackend], Any]

DATA = a_record()["ses_data"]


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        pytest.param(lambda b: b.get(IDENTIFIER), ["SELECT"], id="get"),
        pytest.param(lambda b: b.set(NEW_IDENTIFIER, a_record()), ["INSERT"], id="set"),
        pytest.param(lambda b: b.update(IDENTIFIER, a_record()), ["UPDATE"], id="update"),
        pytest.param(
            lambda b: b.update(IDENTIFIER, a_record(), expected_data=DATA),
            ["UPDATE"],
            id="update-expecting",
        ),
        pytest.param(lambda b: b.touch(IDENTIFIER, NOW + 62, seen=NOW), ["UPDATE"], id="touch"),
        pytest.param(lambda b: b.touch(IDENTIFIER, NOW, seen=1), ["UPDATE"], id="vain-touch"),
        pytest.param(
            lambda b: b.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(), expected_data=DATA),
            ["UPDATE"],
            id="renew",
        ),
        pytest.param(
            lambda b: take_over(b, b.get(IDENTIFIER), NEW_IDENTIFIER, a_record()),
            ["SELECT", "UPDATE"],
            id="get-and-take-over",
        ),
        pytest.param(lambda b: b.remove(IDENTIFIER), ["DELETE"], id="remove"),
        pytest.param(
            lambda b: b.remove(IDENTIFIER, expected_data=DATA), ["DELETE"], id="remove-expecting"
        ),
        pytest.param(lambda b: b.remove(NEW_IDENTIFIER), ["DELETE"], id="vain-remove"),
        pytest.param(
            lambda b: b.remove_by_ses_id([b.hash(IDENTIFIER), "0" * 64]),
            ["DELETE"],
            id="remove-by-ses-id",
        ),
        pytest.param(lambda b: b.remove_by_ses_id([]), [], id="remove-by-no-ses-id"),
        pytest.param(lambda b: list(b.get_all()), ["SELECT"], id="get-all"),
        pytest.param(lambda b: list(b.get_by_user(ALICE)), ["SELECT"], id="get-by-user"),
        pytest.param(lambda b: b.hash(IDENTIFIER), [], id="hash"),
        pytest.param(lambda b: b.validate_configuration(), [], id="validate-configuration"),
        pytest.param(
            lambda b: b.count_all(Expired.after(100)), ["SELECT", "SELECT"], id="count-garbage"
        ),
    ],
)
@pytest.mark.parametrize("rotating", [False, True], ids=["one-key", "with-fallbacks"])
def test_cost_in_statements(
    backend: DatabaseSessionBackend,
    settings: Any,
    rotating: bool,
    operation: Operation,
    expected: list[str],
) -> None:
    if rotating:
        settings.SECRET_KEY_FALLBACKS = ["an older key" * 5, "the oldest key" * 5]
    backend.set(IDENTIFIER, a_record())
    with CaptureQueriesContext(connection) as statements:
        operation(backend)
    assert [query["sql"].split()[0] for query in statements] == expected


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda b: b.update(IDENTIFIER, a_record()), id="update"),
        pytest.param(lambda b: b.renew(IDENTIFIER, NEW_IDENTIFIER, a_record()), id="renew"),
    ],
)
def test_saying_why_nothing_was_written_costs_a_second_statement(
    backend: DatabaseSessionBackend, operation: Operation
) -> None:
    with CaptureQueriesContext(connection) as statements, pytest.raises(SessionNotUpdated):
        operation(backend)
    assert [query["sql"].split()[0] for query in statements] == ["UPDATE", "SELECT"]


#: InnoDB locks the entries of an index before the rows: ours are deleted by their keys first.
COST_OF_REVOCATION = ["SELECT", "DELETE", "DELETE"] if connection.vendor == "mysql" else ["DELETE"]


@pytest.mark.parametrize("sessions", [1, 40], ids=["one-session", "many-sessions"])
def test_ending_all_sessions_of_a_user_costs_the_same_however_many(
    backend: DatabaseSessionBackend, sessions: int
) -> None:
    FrontendSessionFactory.create_batch(sessions, ses_userid=ALICE)
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    with CaptureQueriesContext(connection) as statements:
        assert backend.remove_by_user(ALICE, except_=[IDENTIFIER]) == sessions
    assert [query["sql"].split()[0] for query in statements] == COST_OF_REVOCATION
    assert backend.remove_by_user(ALICE) == 1


# Ending all sessions


def test_ending_all_sessions_reads_hashes_alone(backend: DatabaseSessionBackend) -> None:
    FrontendSessionFactory.create_batch(3, ses_userid=ALICE)
    with CaptureQueriesContext(connection) as statements:
        assert list(backend.remove_all(AnySession(except_users=[BOB]), 2)) == [2, 1]
        assert backend.count_all(AnySession(except_users=[BOB])) == 0
    sql = [query["sql"] for query in statements]
    kinds = ["SELECT", "DELETE", "SELECT", "DELETE", "SELECT", "SELECT"]
    assert [text.split()[0] for text in sql] == kinds
    assert not any("ses_data" in text for text in sql)


@pytest.mark.parametrize(
    ("options", "user_before", "user_now"),
    [
        pytest.param({"anonymous": True}, 0, ALICE, id="visitor-has-logged-in"),
        pytest.param({"anonymous": False}, ALICE, 0, id="user-has-logged-out"),
        pytest.param({"except_users": [ALICE, 9]}, BOB, ALICE, id="became-a-kept-users"),
    ],
)
def test_session_that_changes_hands_after_it_was_picked_stays(
    backend: DatabaseSessionBackend, options: dict[str, Any], user_before: int, user_now: int
) -> None:
    FrontendSessionFactory(ses_userid=user_before)

    def change_hands(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("DELETE"):
            FrontendSession.objects.update(ses_userid=user_now)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(change_hands):
        assert list(backend.remove_all(AnySession(**options))) == [0]
    assert FrontendSession.objects.get().ses_userid == user_now


def test_sessions_stored_meanwhile_do_not_keep_ending_all_sessions_from_its_end(
    backend: DatabaseSessionBackend,
) -> None:
    FrontendSessionFactory(ses_id="a" * 64)
    FrontendSessionFactory(ses_id="b" * 64)
    took = []
    for number, count in enumerate(islice(backend.remove_all(AnySession(), 1), 10)):
        took.append(count)
        FrontendSessionFactory(ses_id=f"{number:064x}")
    assert took == [1, 1]


def test_ending_all_sessions_fits_the_parameters_that_the_database_takes(
    backend: DatabaseSessionBackend, limit_parameters: Callable[[int], None]
) -> None:
    FrontendSessionFactory.create_batch(7, ses_userid=ALICE)
    limit_parameters(5)
    assert list(backend.remove_all(AnySession(except_users=[BOB, 9]))) == [3, 3, 1]


def test_update_leaves_the_key_alone(backend: DatabaseSessionBackend) -> None:
    """Databases check the index again when a statement names the primary key."""
    backend.set(IDENTIFIER, a_record())
    with CaptureQueriesContext(connection) as statements:
        backend.update(IDENTIFIER, {"ses_data": b"new"})
    [update] = statements.captured_queries
    sql = update["sql"].replace("`", '"')
    assert sql.startswith('UPDATE "fe_sessions" SET "ses_data" = ')
    assert sql.count('"ses_id"') == 1


# Errors


def test_failing_database_is_not_a_missing_session(backend: DatabaseSessionBackend) -> None:
    """An outage must log nobody out."""

    def fail(*args: Any) -> None:
        raise OperationalError("the server went away")

    with (
        connection.execute_wrapper(fail),
        pytest.raises(OperationalError, match="the server went away"),
    ):
        backend.get(IDENTIFIER)


def test_refused_insert_leaves_the_surrounding_transaction_usable(
    backend: DatabaseSessionBackend,
) -> None:
    with transaction.atomic():
        assert backend._insert("0" * 64, a_record()) is True
        assert backend._insert("0" * 64, a_record()) is False
        assert FrontendSession.objects.count() == 1


@pytest.mark.skipif("connection.vendor != 'mysql'", reason="elsewhere no message is read")
@pytest.mark.parametrize("language", ["de_DE", "hu_HU", "ja_JP", "sk_SK", "zh_CN"])
def test_identifier_is_taken_in_every_language_of_the_server(
    backend: DatabaseSessionBackend, language: str
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET @before = @@lc_messages, lc_messages = %s", [language])
        try:
            assert backend._insert("0" * 64, a_record()) is True
            assert backend._insert("0" * 64, a_record()) is False
        finally:
            cursor.execute("SET lc_messages = @before")


def test_renewing_to_a_taken_identifier_changes_nothing(backend: DatabaseSessionBackend) -> None:
    backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    backend.set(NEW_IDENTIFIER, a_record(ses_userid=BOB))
    with pytest.raises(IntegrityError), transaction.atomic():
        backend.renew(IDENTIFIER, NEW_IDENTIFIER, a_record(ses_userid=ALICE))
    assert backend.get(IDENTIFIER)["ses_userid"] == ALICE
    assert backend.get(NEW_IDENTIFIER)["ses_userid"] == BOB


# Configuration

SETTING = 'USERSESSIONS["FE"]["OPTIONS"]'


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            {"model": "django_usersessions.FrontendSession", "table": "fe_sessions"},
            f'{SETTING} has the unknown option "table"; known: "model", "using".',
            id="unknown-option",
        ),
        pytest.param(
            {},
            f'{SETTING}["model"] must be the label of an installed model, for example '
            '"django_usersessions.FrontendSession", not None.',
            id="no-model",
        ),
        pytest.param(
            {"model": "FrontendSession"},
            f'{SETTING}["model"] must be the label of an installed model, for example '
            "\"django_usersessions.FrontendSession\", not 'FrontendSession'.",
            id="no-label",
        ),
        pytest.param(
            {"model": "shop.ShopSession"},
            f'{SETTING}["model"] must be the label of an installed model, for example '
            "\"django_usersessions.FrontendSession\", not 'shop.ShopSession'.",
            id="app-not-installed",
        ),
        pytest.param(
            {"model": "django_usersessions.ShopSession"},
            f'{SETTING}["model"] must be the label of an installed model, for example '
            "\"django_usersessions.FrontendSession\", not 'django_usersessions.ShopSession'.",
            id="no-such-model",
        ),
        pytest.param(
            {"model": "auth.Group"},
            f'{SETTING}["model"] must be a subclass of usersessions.models.AbstractUserSession;'
            " auth.Group lacks a field: Group has no field named 'ses_id'.",
            id="not-a-session-model",
        ),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        DatabaseSessionBackend("FE", options).validate_configuration()
    assert str(caught.value) == message


def test_unknown_database_is_refused() -> None:
    options = {"model": "django_usersessions.FrontendSession", "using": "nowhere"}
    with pytest.raises(ImproperlyConfigured) as caught:
        DatabaseSessionBackend("FE", options).validate_configuration()
    aliases = ", ".join(map(repr, connections))
    assert (
        str(caught.value) == f'{SETTING}["using"] must be a database alias, one of {aliases}, '
        "not 'nowhere'."
    )


@pytest.mark.parametrize("using", [{}, {"using": None}, {"using": "default"}])
def test_known_database_is_accepted(using: dict[str, Any]) -> None:
    options = {"model": "django_usersessions.FrontendSession", **using}
    DatabaseSessionBackend("FE", options).validate_configuration()


# Which database


def test_sessions_are_kept_in_the_database_of_the_option(tmp_path: Path) -> None:
    with second_database(tmp_path / "second.sqlite3") as alias:
        backend = DatabaseSessionBackend(
            "FE", {"model": "django_usersessions.FrontendSession", "using": alias}
        )
        backend.validate_configuration()
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
        backend.update(IDENTIFIER, {"ses_tstamp": 0})
        assert (backend.database, backend.get(IDENTIFIER)["ses_tstamp"]) == (alias, 0)
        assert len(list(backend.get_by_user(ALICE))) == len(list(backend.get_all())) == 1
        assert backend.count_all(Expired.after(100, now=NOW)) == 1
        assert backend.collect_garbage(100, now=NOW) == 1


class WritesGoToTheSecondDatabase:
    """The router of a site that reads from a replica, "default"."""

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "second"


def test_sessions_are_read_where_they_are_written(tmp_path: Path, settings: Any) -> None:
    """A replica that lags behind logs nobody out."""
    settings.DATABASE_ROUTERS = [f"{__name__}.WritesGoToTheSecondDatabase"]
    with second_database(tmp_path / "second.sqlite3"):
        backend = DatabaseSessionBackend("FE", {"model": "django_usersessions.FrontendSession"})
        backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
        assert FrontendSession.objects.using("second").count() == 1
        assert backend.get(IDENTIFIER)["ses_userid"] == ALICE
        assert len(list(backend.get_by_user(ALICE))) == len(list(backend.get_all())) == 1
        assert backend.count_all(Expired.after(100, now=NOW + 101)) == 1
        assert backend.collect_garbage(100, now=NOW + 101) == 1


def test_transaction_depth_counts_the_blocks_of_its_database(
    backend: DatabaseSessionBackend, tmp_path: Path
) -> None:
    outside = transaction_depth(backend)
    with transaction.atomic(), transaction.atomic():
        assert transaction_depth(backend) == outside + 2
        with second_database(tmp_path / "second.sqlite3") as alias:
            elsewhere = DatabaseSessionBackend("FE", {**backend.options, "using": alias})
            assert transaction_depth(elsewhere) == 0


# Garbage collection


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """Note the statements inside the ``with`` block, parameters apart."""
    executed: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        executed.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield executed


@contextmanager
def just_before(kind: str, action: Callable[[], Any]) -> Iterator[None]:
    """Do something before the first statement of a kind, as another request might."""
    waiting = [action]

    def interrupt(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if waiting and sql.startswith(kind):
            waiting.pop()()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(interrupt):
        yield
    assert not waiting


def expired(number: int, **fields: Any) -> None:
    """Store so many sessions that have expired at NOW with a lifetime of 1000 s, one a second."""
    FrontendSession.objects.bulk_create(
        FrontendSessionFactory.build(ses_tstamp=NOW - 100_000 + second, **fields)
        for second in range(number)
    )


def test_no_delete_takes_more_than_a_batch(backend: DatabaseSessionBackend) -> None:
    """A DELETE of everything would lock the table while visitors wait."""
    expired(25, ses_userid=ALICE)
    expired(15)
    with statements() as executed:
        assert list(backend.remove_all(Expired.after(1000, now=NOW), 10)) == [10, 10, 5, 10, 5]
    deletes = [params for sql, params in executed if sql.startswith("DELETE")]
    assert [len(params) - 1 for params in deletes] == [10, 10, 5, 10, 5]


def test_batch_costs_two_or_three_statements(backend: DatabaseSessionBackend) -> None:
    expired(20, ses_userid=ALICE)
    batches = backend.remove_all(Expired.after(1000, now=NOW), 10)
    with CaptureQueriesContext(connection) as captured:
        next(batches)
    kinds = [query["sql"].split()[0] for query in captured]
    # Where the database lets rows be skipped that others hold, the batch is locked first.
    locks = ["SELECT"] * connection.features.has_select_for_update_skip_locked
    assert [kind for kind in kinds if kind not in ("SAVEPOINT", "RELEASE")] == [
        *("SELECT", *locks, "DELETE")
    ]


def test_batch_size_is_500_unless_told(backend: DatabaseSessionBackend) -> None:
    expired(501)
    assert list(backend.remove_all(Expired.after(1000, now=NOW))) == [500, 1]


def test_batch_may_be_larger_than_what_a_statement_takes(
    backend: DatabaseSessionBackend, limit_parameters: Callable[[int], None]
) -> None:
    """Django 5.2 reckons with 999 parameters on SQLite, Django 6.1 asks the library."""
    limit_parameters(999)
    expired(1200)
    with statements() as executed:
        assert backend.collect_garbage(1000, now=NOW, batch_size=5000) == 1200
    assert max(len(params or ()) for _, params in executed) <= 999
    assert not FrontendSession.objects.exists()


def test_session_used_since_it_was_picked_survives(backend: DatabaseSessionBackend) -> None:
    """Somebody who comes back in that very moment is not logged out."""
    expired(3, ses_userid=ALICE)
    back = FrontendSession.objects.order_by("ses_tstamp")[1]

    def come_back() -> None:
        FrontendSession.objects.filter(pk=back.pk).update(ses_tstamp=NOW)

    with just_before("DELETE", come_back):
        assert backend.collect_garbage(1000, now=NOW) == 2
    assert FrontendSession.objects.get().pk == back.pk


def test_visitor_who_logged_in_since_being_picked_stays(backend: DatabaseSessionBackend) -> None:
    """Users may live longer than visitors: the limit of visitors does not end their sessions."""
    expired(3)
    visitor = FrontendSession.objects.order_by("ses_tstamp")[1]

    def log_in() -> None:
        FrontendSession.objects.filter(pk=visitor.pk).update(ses_userid=ALICE)

    with just_before("DELETE", log_in):
        assert backend.collect_garbage(1_000_000, 1000, now=NOW) == 2
    assert FrontendSession.objects.get().pk == visitor.pk


def test_rows_that_stay_are_passed_over_once(backend: DatabaseSessionBackend) -> None:
    """Visitors that live longer lie between users' rows: a batch starts where the last ended."""
    expired(25, ses_userid=ALICE)
    expired(25, ses_userid=0)
    with statements() as executed:
        assert backend.collect_garbage(1000, 1_000_000, now=NOW, batch_size=10) == 25
    first = NOW - 100_000
    starts = [params[-1] for sql, params in executed if "ORDER BY" in sql]
    assert starts == [0, first + 9, first + 19, first + 24, 0]


def test_rows_of_one_second_span_batches(backend: DatabaseSessionBackend) -> None:
    FrontendSession.objects.bulk_create(
        FrontendSessionFactory.build_batch(25, ses_tstamp=NOW - 100_000)
    )
    assert list(backend.remove_all(Expired.after(1000, now=NOW), 10)) == [10, 10, 5]


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda b: b.get_all(), id="get-all"),
        pytest.param(
            lambda b: b.get_by_user(ALICE),
            id="get-by-user",
            marks=pytest.mark.skipif(
                "connection.vendor == 'mysql'",
                reason="its driver takes in all rows of a statement at once",
            ),
        ),
    ],
)
def test_records_come_in_constant_memory(
    backend: DatabaseSessionBackend, read: Callable[[DatabaseSessionBackend], Iterator[Any]]
) -> None:
    expired(5000, ses_userid=ALICE, ses_data=b"x" * 2000)  # 10 MB
    tracemalloc.start()
    try:
        assert sum(1 for _ in read(backend)) == 5000
        assert tracemalloc.get_traced_memory()[1] < 6_000_000
    finally:
        tracemalloc.stop()


# A model of the site's own


@pytest.fixture
def tenants_backend(transactional_db: None) -> Iterator[DatabaseSessionBackend]:
    with isolate_apps("usersessions"):

        class TenantSession(AbstractUserSession):
            tenant = models.CharField(max_length=9, default="acme")
            door = models.CharField(max_length=9, default="front", unique=True)
            made_at = models.DateTimeField(auto_now_add=True)

            class Meta(AbstractUserSession.Meta):
                app_label = "django_usersessions"
                db_table = "tenant_sessions"

        backend = DatabaseSessionBackend("FE", {})
        backend.__dict__["model"] = TenantSession
        with connection.schema_editor() as editor:
            editor.create_model(TenantSession)
        try:
            yield backend
        finally:
            with connection.schema_editor() as editor:
                editor.delete_model(TenantSession)


def test_model_of_the_sites_own_may_have_more_columns(
    tenants_backend: DatabaseSessionBackend,
) -> None:
    tenants_backend.set(IDENTIFIER, a_record(ses_userid=ALICE))
    assert tenants_backend.get(IDENTIFIER)["ses_userid"] == ALICE
    row: Any = tenants_backend.model._default_manager.get()
    assert (row.tenant, row.made_at is None) == ("acme", False)


def test_only_a_taken_identifier_means_not_created(
    tenants_backend: DatabaseSessionBackend,
) -> None:
    tenants_backend.set(IDENTIFIER, a_record())
    with pytest.raises(SessionNotCreated):
        tenants_backend.set(IDENTIFIER, a_record())
    with pytest.raises(IntegrityError):
        tenants_backend.set(NEW_IDENTIFIER, a_record())


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        pytest.param({"ses_iplock": None}, IntegrityError, id="nothing"),
        pytest.param(
            {"ses_iplock": "x" * 40},
            DataError,
            id="too-long",
            marks=pytest.mark.skipif(
                "connection.vendor == 'sqlite'", reason="it stores text of any length, whole"
            ),
        ),
        pytest.param({"ses_userid": 2**63}, (DataError, OverflowError), id="too-large"),
        pytest.param({"ses_tstamp": -1}, (DataError, IntegrityError), id="too-small"),
    ],
)
def test_what_does_not_fit_is_neither_stored_nor_taken_for_a_taken_identifier(
    backend: DatabaseSessionBackend, fields: dict[str, Any], error: Any
) -> None:
    with pytest.raises(error), transaction.atomic():
        backend.set(IDENTIFIER, a_record(**fields))
    assert not FrontendSession.objects.exists()
