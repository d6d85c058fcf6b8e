"""The tables: TYPO3's columns, the indexes, and that the statements use them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, models
from django.test.utils import CaptureQueriesContext, isolate_apps

from usersessions import SessionBackend, SessionManager
from usersessions.models import AbstractUserSession, BackendSession, FrontendSession

from .factories import NOW, BackendSessionFactory, FrontendSessionFactory

ALICE = 7
IDENTIFIER = "0123456789abcdef" * 2

COLUMNS = {
    "ses_id": "varchar(190) NOT NULL PRIMARY KEY",
    "ses_iplock": "varchar(39) NOT NULL",
    "ses_userid": "bigint NOT NULL",
    "ses_tstamp": "bigint unsigned NOT NULL",
    "ses_data": "BLOB NOT NULL",
}


def columns_of(table: str) -> dict[str, str]:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA table_info({table})")
        return {
            name: f"{kind}{' NOT NULL' * not_null}{' PRIMARY KEY' * in_key}"
            for _, name, kind, not_null, _, in_key in cursor.fetchall()
        }


def indexes_of(table: str) -> list[list[str]]:
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, table)
    return sorted(
        found["columns"]
        for found in constraints.values()
        if found["index"] and not found["primary_key"] and not found["unique"]
    )


# Tables


@pytest.mark.django_db
def test_backend_table_has_typo3s_columns() -> None:
    assert columns_of("be_sessions") == COLUMNS


@pytest.mark.django_db
def test_frontend_table_has_typo3s_columns() -> None:
    assert columns_of("fe_sessions") == {**COLUMNS, "ses_permanent": "bool NOT NULL"}


@pytest.mark.django_db
@pytest.mark.parametrize("table", ["be_sessions", "fe_sessions"])
def test_indexes_serve_revocation_and_collection(table: str) -> None:
    assert indexes_of(table) == [["ses_tstamp", "ses_userid"], ["ses_userid"]]


@pytest.mark.parametrize(
    ("model", "table"), [(BackendSession, "be_sessions"), (FrontendSession, "fe_sessions")]
)
def test_models_are_the_apps_and_have_typo3s_tables(model: Any, table: str) -> None:
    assert (model._meta.app_label, model._meta.db_table) == ("django_usersessions", table)


@pytest.mark.parametrize("model", [BackendSession, FrontendSession])
def test_fields_are_empty_and_anonymous_by_default(model: Any) -> None:
    row = model()
    assert (row.ses_iplock, row.ses_userid, row.ses_tstamp, row.ses_data) == ("", 0, 0, b"")


def test_session_is_not_permanent_by_default() -> None:
    assert FrontendSession().ses_permanent is False


@pytest.mark.parametrize("model", [BackendSession, FrontendSession])
def test_session_is_shown_by_the_beginning_of_its_hash(model: Any) -> None:
    """Whoever looks over a shoulder cannot search the table for it."""
    row = model(ses_id="0123456789abcdef" * 4)
    assert (str(row), row.short_hash) == ("01234567", "01234567")


@isolate_apps("tests")
def test_table_of_a_project_has_the_same_columns_and_indexes() -> None:
    class ShopSession(AbstractUserSession):
        basket_id = models.IntegerField(default=0)

        class Meta(AbstractUserSession.Meta):
            app_label = "tests"

    assert [field.name for field in ShopSession._meta.fields] == [*COLUMNS, "basket_id"]
    assert [index.fields for index in ShopSession._meta.indexes] == [
        ["ses_tstamp", "ses_userid"],
        ["ses_userid"],
    ]
    assert not {index.name for index in ShopSession._meta.indexes} & {
        index.name for index in FrontendSession._meta.indexes
    }


# What SQLite makes of the statements that the backends execute


def plans(operation: Callable[[], Any]) -> list[list[str]]:
    """Return SQLite's plan for each statement of the operation."""
    with CaptureQueriesContext(connection) as queries:
        operation()
    plans = []
    for query in queries.captured_queries:
        with connection.cursor() as cursor:
            cursor.execute("EXPLAIN QUERY PLAN " + query["sql"].replace("%", "%%"), [])
            plans.append([row[-1] for row in cursor.fetchall()])
    return plans


@pytest.fixture(params=["BE", "FE"])
def backend(request: pytest.FixtureRequest, settings: Any, db: None) -> SessionBackend:
    settings.USERSESSIONS = {}
    return SessionManager.get_session_backend(request.param)


def by_key(backend: SessionBackend) -> str:
    table = backend.model._meta.db_table
    return f"SEARCH {table} USING INDEX sqlite_autoindex_{table}_1 (ses_id=?)"


def by_index(backend: SessionBackend, number: int, condition: str, kind: str = "INDEX") -> str:
    index = backend.model._meta.indexes[number].name
    return f"SEARCH {backend.model._meta.db_table} USING {kind} {index} ({condition})"


COLLECTION, USER = 0, 1


def test_reading_searches_the_primary_key(backend: SessionBackend) -> None:
    backend.set(IDENTIFIER, {})
    assert plans(lambda: backend.get(IDENTIFIER)) == [[by_key(backend)]]


def test_reading_under_several_keys_searches_the_primary_key(
    backend: SessionBackend, settings: Any
) -> None:
    backend.set(IDENTIFIER, {})
    settings.SECRET_KEY_FALLBACKS = ["old", "older"]
    assert plans(lambda: backend.get(IDENTIFIER)) == [[by_key(backend)]]


def test_deleting_searches_the_primary_key(backend: SessionBackend) -> None:
    assert plans(lambda: backend.remove(IDENTIFIER)) == [[by_key(backend)]]


def test_ending_a_users_sessions_searches_the_index_on_users(backend: SessionBackend) -> None:
    plan = [by_index(backend, USER, "ses_userid=?")]
    assert plans(lambda: backend.remove_by_user(ALICE)) == [plan]


def test_ending_a_users_other_sessions_searches_the_index_on_users(backend: SessionBackend) -> None:
    plan = [by_index(backend, USER, "ses_userid=?")]
    assert plans(lambda: backend.remove_by_user(ALICE, except_=[IDENTIFIER])) == [plan]


def test_listing_a_users_sessions_searches_the_index_on_users(backend: SessionBackend) -> None:
    [plan] = plans(lambda: list(backend.get_by_user(ALICE)))
    assert plan[0] == by_index(backend, USER, "ses_userid=?")


def test_collection_searches_its_index_and_deletes_by_the_primary_key(
    backend: SessionBackend,
) -> None:
    factory = BackendSessionFactory if backend.login_type == "BE" else FrontendSessionFactory
    factory(ses_userid=ALICE, ses_tstamp=NOW - 101)
    factory(ses_userid=0, ses_tstamp=NOW - 101)
    found, deleted, *rest = plans(lambda: backend.collect_garbage(100, 100, now=NOW))
    assert found == [by_index(backend, COLLECTION, "ses_tstamp>? AND ses_tstamp<?")]
    assert deleted == [by_key(backend)]
    assert rest == [found, found, deleted, found]
