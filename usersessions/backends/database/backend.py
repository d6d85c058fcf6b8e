"""Sessions in a table of the database: one row a session, one statement an operation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from operator import attrgetter, methodcaller
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import IntegrityError, OperationalError, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field

from ...session.record import SessionRecord
from ...session.user_keys import UserId, stored_user_id
from ..base import BATCH_SIZE, SessionBackend
from ..selection import AnySession, Selection
from . import removal
from .sql import SessionSql, SqlByAlias
from .user_column import UserColumn

if TYPE_CHECKING:
    from ...models import AbstractUserSession

COLUMNS = ("ses_id", "ses_iplock", "ses_userid", "ses_tstamp", "ses_data")

#: MySQL's and MariaDB's error for a taken key, and how its message, in each of their languages,
#: ends for the primary one.
DUPLICATE_ENTRY = 1062
TAKEN_KEY = re.compile(r"'([^']*\.)?PRIMARY'[^']*\Z")

#: PostgreSQL's error for a statement that met what others have changed since it began, where
#: ``default_transaction_isolation`` is "repeatable read" or stricter; how often it is repeated.
SERIALIZATION_FAILURE = "40001"
REPETITIONS = 20

Result = TypeVar("Result")

#: What a statement gives, from its cursor.
_take_one: Callable[[Any], Sequence[Any] | None] = methodcaller("fetchone")
_take_all: Callable[[Any], Sequence[Sequence[Any]]] = methodcaller("fetchall")
_take_count: Callable[[Any], int] = attrgetter("rowcount")


class DatabaseSessionBackend(SessionBackend):
    """Keeps sessions in the table of a model that has ``AbstractUserSession``'s fields.

    Options: ``model``, the model's label, for example ``"shop.ShopSession"``; ``using``, the alias
    of the database (default: where the router writes the model). Reads go there too: a replica
    that lags behind would log people out.

    The statements of every request are SQL built once and run through Django's cursor: the ORM
    would compile the same SELECT again for every request.
    """

    #: What ``OPTIONS`` may hold.
    known_options: tuple[str, ...] = ("model", "using")

    def validate_configuration(self) -> None:
        setting = f'USERSESSIONS["{self.login_type}"]["OPTIONS"]'
        for option in self.options:
            if option not in self.known_options:
                known = ", ".join(f'"{name}"' for name in self.known_options)
                raise ImproperlyConfigured(
                    f'{setting} has the unknown option "{option}"; known: {known}.'
                )
        label = self.options.get("model")
        try:
            model = apps.get_model(str(label))
            for column in COLUMNS:
                model._meta.get_field(column)
        except (LookupError, ValueError) as exc:
            raise ImproperlyConfigured(
                f'{setting}["model"] must be the label of an installed model, for example '
                f'"django_usersessions.FrontendSession", not {label!r}.'
            ) from exc
        except FieldDoesNotExist as exc:
            raise ImproperlyConfigured(
                f'{setting}["model"] must be a subclass of usersessions.models.AbstractUserSession;'
                f" {label} lacks a field: {exc}."
            ) from exc
        alias = self.options.get("using")
        if alias is not None and alias not in connections:
            raise ImproperlyConfigured(
                f'{setting}["using"] must be a database alias, one of '
                f"{', '.join(map(repr, connections))}, not {alias!r}."
            )

    # The table

    @cached_property
    def model(self) -> type[AbstractUserSession]:
        return cast("type[AbstractUserSession]", apps.get_model(self.options["model"]))

    @property
    def database(self) -> str:
        """The alias of the database that sessions are read from and written to."""
        return self.options.get("using") or router.db_for_write(self.model)

    @property
    def connection(self) -> BaseDatabaseWrapper:
        """The connection of this thread to that database."""
        return connections[self.options.get("using") or router.db_for_write(self.model)]

    @property
    def sql(self) -> SessionSql:
        """The statements in that database's SQL."""
        return self._sql[self.connection.alias]

    @cached_property
    def user_column(self) -> UserColumn:
        """How the table stores the user of a session."""
        return UserColumn(self._fields["ses_userid"])

    @cached_property
    def supports_permanent(self) -> bool:
        """Whether the table can remember that a cookie outlives the browser."""
        return any(field.name == "ses_permanent" for field in self.model._meta.fields)

    @cached_property
    def _fields(self) -> dict[str, Field[Any, Any]]:
        columns = (*COLUMNS, "ses_permanent") if self.supports_permanent else COLUMNS
        fields = {column: self.model._meta.get_field(column) for column in columns}
        return cast("dict[str, Field[Any, Any]]", fields)

    @cached_property
    def _own_fields(self) -> list[Field[Any, Any]]:
        """The fields that a model of the site's own has besides ours."""
        return [
            field for field in self.model._meta.concrete_fields if field.name not in self._fields
        ]

    @cached_property
    def _columns(self) -> tuple[str, ...]:
        return tuple(self._fields)

    @cached_property
    def _blank(self) -> SessionRecord:
        return cast(
            "SessionRecord", {name: field.get_default() for name, field in self._fields.items()}
        )

    @cached_property
    def _sql(self) -> SqlByAlias:
        return SqlByAlias(self._make_sql)

    def _make_sql(self, connection: BaseDatabaseWrapper) -> SessionSql:
        columns = {name: str(field.column) for name, field in self._fields.items()}
        own_columns = [str(field.column) for field in self._own_fields]
        return SessionSql(connection, self.model._meta.db_table, columns, own_columns)

    # One session

    def _read(self, ses_ids: Sequence[str], *, current: bool = False) -> SessionRecord | None:
        connection = self.connection
        # In a transaction with REPEATABLE READ, MySQL compares with the row as it is now, but
        # shows a SELECT the one of the transaction's first, unless it locks.
        locks = (
            current
            and connection.features.has_select_for_update
            and not connection.get_autocommit()
        )
        sql = self._sql[connection.alias].read(len(ses_ids), " FOR UPDATE" if locks else "")
        row = self.run(connection, sql, ses_ids, _take_one)
        return None if row is None else self._record(row)

    def _insert(self, ses_id: str, record: SessionRecord) -> bool:
        connection = self.connection
        values: SessionRecord = {**self._blank, **record, "ses_id": ses_id}
        params = self.params(values, self._columns)
        if self._own_fields:
            row = self.model()
            params += [
                field.get_db_prep_save(field.pre_save(row, add=True), connection)
                for field in self._own_fields
            ]
        # Asking first would be a race, and an error would break a surrounding transaction on
        # PostgreSQL.
        try:
            return (
                self.run(connection, self._sql[connection.alias].insert, params, _take_count) == 1
            )
        except IntegrityError as exc:
            if exc.args[:1] == (DUPLICATE_ENTRY,) and TAKEN_KEY.search(exc.args[1]):
                return False
            raise

    def _update(
        self, ses_ids: Sequence[str], values: SessionRecord, expected: SessionRecord
    ) -> bool:
        connection = self.connection
        sql, params = self._update_statement(connection, ses_ids, values, expected)
        return self.run(connection, sql, params, _take_count) > 0

    def _update_statement(
        self,
        connection: BaseDatabaseWrapper,
        ses_ids: Sequence[str],
        values: SessionRecord,
        expected: SessionRecord,
    ) -> tuple[str, list[Any]]:
        # The key is only written where it changes: databases would check its index again.
        stays = ses_ids == (values.get("ses_id"),)
        columns = [
            column
            for column in self._columns
            if column in values and not (stays and column == "ses_id")
        ] or ["ses_id"]
        sql = self._sql[connection.alias].update(len(ses_ids), tuple(columns), tuple(expected))
        params = self.params(values, columns, connection)
        return sql, [*params, *ses_ids, *self.params(expected, list(expected), connection)]

    def _delete(self, ses_ids: Sequence[str], expected: SessionRecord) -> int:
        connection = self.connection
        sql = self._sql[connection.alias].delete(len(ses_ids), tuple(expected))
        params = [*ses_ids, *self.params(expected, list(expected), connection)]
        return self.run(connection, sql, params, _take_count)

    # Many sessions

    def get_all(self) -> Iterator[SessionRecord]:
        # No cursor on the server: MySQL's driver has none that leaves the connection usable, and
        # PostgreSQL's do not survive a pool that hands out a connection for each transaction.
        last = ""
        while True:
            page = self.fetch(self.sql.read_page, [last])
            yield from map(self._record, page)
            if len(page) < BATCH_SIZE:
                return
            last = page[-1][0]

    def get_by_user(self, user_id: UserId, *, current: bool = False) -> Iterator[SessionRecord]:
        connection: Any = self.connection
        # InnoDB shows a transaction what its first query has seen, unless it locks.
        locks = (
            current
            and connection.vendor == "mysql"
            and not connection.get_autocommit()
            and connection.isolation_level != "read committed"
        )
        sql = self._sql[connection.alias].read_by_user(" FOR UPDATE" if locks else "")
        with connection.cursor() as cursor:
            cursor.execute(sql, self.params({"ses_userid": user_id}, ["ses_userid"], connection))
            yield from map(self._record, cursor)

    def remove_all(self, selection: Selection, batch_size: int = BATCH_SIZE) -> Iterator[int]:
        return removal.remove(self, selection, batch_size)

    def count_all(self, selection: Selection | None = None) -> int:
        return removal.count(self, selection or AnySession())

    def _delete_by_user(self, user_id: UserId, kept: Sequence[str]) -> int:
        condition = self.sql.of_user(len(kept))
        params = [*self.params({"ses_userid": user_id}, ["ses_userid"]), *kept]
        # InnoDB by the keys first, see SessionSql.table_by_key; what is left for the index are
        # the sessions that have come since.
        by_key = self._delete_batches(condition, params) if self.sql.is_innodb else 0
        return by_key + self._delete_where(condition, params)

    def _delete_batches(self, condition: str, params: Sequence[Any]) -> int:
        sql = self.sql.keys_where(condition)
        removed, last = 0, ""
        while True:
            ses_ids = [ses_id for (ses_id,) in self.fetch(sql, [*params, last])]
            if ses_ids:
                removed += self.delete_by_key(ses_ids, condition, params)
                last = ses_ids[-1]
            if len(ses_ids) < BATCH_SIZE:
                return removed

    def _delete_where(self, condition: str, params: Sequence[Any]) -> int:
        return self._execute(f"DELETE FROM {self.sql.table} WHERE {condition}", params)

    def delete_by_key(self, ses_ids: Sequence[str], condition: str, params: Sequence[Any]) -> int:
        """Delete the rows with these keys for which a condition holds; return how many went."""
        sql = self.sql.delete_by_key(len(ses_ids), condition)
        return self._execute(sql, [*ses_ids, *params])

    # Statements

    def params(
        self,
        values: SessionRecord,
        columns: Sequence[str],
        connection: BaseDatabaseWrapper | None = None,
    ) -> list[Any]:
        """Return values as parameters of a statement."""
        connection = connection or self.connection
        return [
            self._fields[column].get_db_prep_save(
                self.user_column.no_user
                if column == "ses_userid" and not values["ses_userid"]
                else values[column],  # type: ignore[literal-required]
                connection,
            )
            for column in columns
        ]

    def fetch(self, sql: str, params: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """Return the rows of a query."""
        return self.run(self.connection, sql, params, _take_all)

    def _execute(self, sql: str, params: Sequence[Any]) -> int:
        return self.run(self.connection, sql, params, _take_count)

    def run(
        self,
        connection: BaseDatabaseWrapper,
        sql: str,
        params: Sequence[Any],
        take: Callable[[Any], Result],
    ) -> Result:
        """Run a statement; return what ``take`` makes of its cursor."""
        repetitions = REPETITIONS
        while True:
            try:
                with connection.cursor() as cursor:
                    cursor.execute(sql, params)
                    return take(cursor)
            except OperationalError as exc:
                # A transaction of the caller's cannot be repeated here.
                if not repetitions or not connection.get_autocommit() or not _had_to_give_way(exc):
                    raise
                repetitions -= 1

    def _record(self, row: Sequence[Any]) -> SessionRecord:
        record: dict[str, Any] = dict(zip(self._columns, row))  # noqa: B905 - our own SELECT's
        record["ses_data"] = bytes(record["ses_data"])
        if self.supports_permanent:
            record["ses_permanent"] = bool(record["ses_permanent"])
        if not isinstance(record["ses_userid"], int):
            record["ses_userid"] = stored_user_id(record["ses_userid"]) or 0
        return cast("SessionRecord", record)


def _had_to_give_way(error: OperationalError) -> bool:
    """Whether PostgreSQL refused a statement because of what another transaction has done."""
    cause = error.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return state == SERIALIZATION_FAILURE
