"""The tables: TYPO3's columns, the indexes, and that the statements use them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, models
from django.test.utils import isolate_apps

from tests.factories import NOW, BackendSessionFactory, FrontendSessionFactory
from tests.plans import BY_KEY, BY_TIME, BY_USER, Search, searches_of
from usersessions import SessionManager
from usersessions.models import AbstractUserSession, BackendSession, FrontendSession

ALICE = 7
IDENTIFIER = "0123456789abcdef" * 2

COLUMNS = {
    "sqlite": {
        "ses_id": "varchar(190) NOT NULL PRIMARY KEY",
        "ses_iplock": "varchar(39) NOT NULL",
        "ses_userid": "bigint NOT NULL",
        "ses_tstamp": "bigint unsigned NOT NULL",
        "ses_data": "BLOB NOT NULL",
    },
    "postgresql": {
        "ses_id": "character varying(190) NOT NULL PRIMARY KEY",
        "ses_iplock": "character varying(39) NOT NULL",
        "ses_userid": "bigint NOT NULL",
        "ses_tstamp": "bigint NOT NULL",  # and not below 0, by a constraint
        "ses_data": "bytea NOT NULL",
    },
    "mysql": {
        "ses_id": "varchar(190) NOT NULL PRIMARY KEY",
        "ses_iplock": "varchar(39) NOT NULL",
        "ses_userid": "bigint(20) NOT NULL",
        "ses_tstamp": "bigint(20) unsigned NOT NULL",
        "ses_data": "longblob NOT NULL",
    },
}
BOOLEAN = {"sqlite": "bool", "postgresql": "boolean", "mysql": "tinyint(1)"}

#: For one table each; the rows are name, type, NOT NULL and PRIMARY KEY.
DESCRIBED_BY = {
    "sqlite": """SELECT name, type, "notnull", pk FROM pragma_table_info(%s)""",
    "postgresql": """
        SELECT attname, format_type(atttypid, atttypmod), attnotnull, coalesce(indisprimary, false)
        FROM pg_attribute
        LEFT JOIN pg_index ON indrelid = attrelid AND attnum = ANY (indkey) AND indisprimary
        WHERE attrelid = %s::regclass AND attnum > 0
        """,
    "mysql": """
        SELECT column_name, column_type, is_nullable = 'NO', column_key = 'PRI'
        FROM information_schema.columns WHERE table_name = %s AND table_schema = database()
        """,
}


def columns_of(table: str) -> dict[str, str]:
    with connection.cursor() as cursor:
        cursor.execute(DESCRIBED_BY[connection.vendor], [table])
        return {
            name: f"{kind}{' NOT NULL' * not_null}{' PRIMARY KEY' * in_key}"
            for name, kind, not_null, in_key in cursor.fetchall()
        }


def indexes_of(table: str) -> list[list[str]]:
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, table)
    return sorted(
        found["columns"]
        for name, found in constraints.items()
        if found["index"]
        and not found["primary_key"]
        and not found["unique"]
        and not name.endswith("_like")  # which Django gives a text that is a key on PostgreSQL
    )


# Tables


@pytest.mark.django_db
def test_backend_table_has_typo3s_columns() -> None:
    assert columns_of("be_sessions") == COLUMNS[connection.vendor]


@pytest.mark.django_db
def test_frontend_table_has_typo3s_columns() -> None:
    assert columns_of("fe_sessions") == {
        **COLUMNS[connection.vendor],
        "ses_permanent": f"{BOOLEAN[connection.vendor]} NOT NULL",
    }


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("table", "by_time"),
    [
        ("be_sessions", ["ses_tstamp", "ses_userid"]),
        ("fe_sessions", ["ses_tstamp", "ses_userid", "ses_permanent"]),
    ],
)
def test_indexes_serve_revocation_collection_and_lists(table: str, by_time: list[str]) -> None:
    assert indexes_of(table) == [by_time, ["ses_userid"]]


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

    assert [field.name for field in ShopSession._meta.fields] == [*COLUMNS["sqlite"], "basket_id"]
    assert [index.fields for index in ShopSession._meta.indexes] == [
        ["ses_tstamp", "ses_userid"],
        ["ses_userid"],
    ]
    assert not {index.name for index in ShopSession._meta.indexes} & {
        index.name for index in FrontendSession._meta.indexes
    }


# By which index the database finds what the backends ask for


@pytest.fixture(params=["BE", "FE"])
def backend(request: pytest.FixtureRequest, settings: Any, db: None) -> Any:
    settings.USERSESSIONS = {}
    return SessionManager.get_session_backend(request.param)


def searches(backend: Any, operation: Callable[[], Any]) -> list[Search]:
    return searches_of(operation, backend.model._meta.db_table)


def test_reading_searches_the_primary_key(backend: Any) -> None:
    backend.set(IDENTIFIER, {})
    assert searches(backend, lambda: backend.get(IDENTIFIER)) == [BY_KEY]


def test_reading_under_several_keys_searches_the_primary_key(backend: Any, settings: Any) -> None:
    for number in range(30):  # of a few, MariaDB reads all
        backend.set(f"{number:032x}", {})
    backend.set(IDENTIFIER, {})
    settings.SECRET_KEY_FALLBACKS = ["old", "older"]
    assert searches(backend, lambda: backend.get(IDENTIFIER)) == [BY_KEY]


def test_reading_all_goes_on_by_the_primary_key(backend: Any) -> None:
    backend.set(IDENTIFIER, {})
    assert searches(backend, lambda: list(backend.get_all())) == [Search(["ses_id"], [">"])]


def test_deleting_searches_the_primary_key(backend: Any) -> None:
    assert searches(backend, lambda: backend.remove(IDENTIFIER)) == [BY_KEY]


def test_ending_a_users_sessions_searches_the_index_on_users(backend: Any) -> None:
    factory = BackendSessionFactory if backend.login_type == "BE" else FrontendSessionFactory
    factory.create_batch(2, ses_userid=ALICE)
    by_key_first = [BY_USER, BY_KEY] if connection.vendor == "mysql" else []
    assert searches(backend, lambda: backend.remove_by_user(ALICE)) == [*by_key_first, BY_USER]


def test_ending_a_users_other_sessions_searches_the_index_on_users(backend: Any) -> None:
    ended = searches(backend, lambda: backend.remove_by_user(ALICE, except_=[IDENTIFIER]))
    looked_up = [BY_USER] if connection.vendor == "mysql" else []
    assert ended == [*looked_up, BY_USER]


def test_listing_a_users_sessions_searches_the_index_on_users(backend: Any) -> None:
    assert searches(backend, lambda: list(backend.get_by_user(ALICE))) == [BY_USER]


def test_collection_searches_its_index_and_deletes_by_the_primary_key(backend: Any) -> None:
    factory = BackendSessionFactory if backend.login_type == "BE" else FrontendSessionFactory
    for user_id in (0, ALICE):  # among a few rows, MariaDB takes any index
        factory.create_batch(30, ses_userid=user_id)
        factory.create_batch(2, ses_userid=user_id, ses_tstamp=NOW - 101)
    found = searches(backend, lambda: backend.collect_garbage(100, 100, now=NOW))
    locks = connection.features.has_select_for_update_skip_locked
    deleted = [BY_KEY, BY_KEY] if locks else [BY_KEY]
    assert found == [BY_TIME, *deleted, BY_TIME, BY_TIME, *deleted, BY_TIME]
