"""Sessions in a table of the database: one row a session, one statement an operation."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import IntegrityError, OperationalError, connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.models import Field, Q, QuerySet

from ...session.record import SessionRecord
from ...session.user_keys import UserId, stored_user_id
from ..base import BATCH_SIZE, SessionBackend
from .user_column import UserColumn

if TYPE_CHECKING:
    from ...models import AbstractUserSession

COLUMNS = ("ses_id", "ses_iplock", "ses_userid", "ses_tstamp", "ses_data")

#: MySQL's and MariaDB's error for a taken key, and how its message, in each of their languages,
#: ends for the primary one.
DUPLICATE_ENTRY = 1062
TAKEN_KEY = re.compile(r"'([^']*\.)?PRIMARY'[^']*\Z")

#: PostgreSQL's error for a statement that met what others have changed since it began, where
#: ``default_transaction_isolation`` is "repeatable read" or stricter; how often we begin again.
SERIALIZATION_FAILURE = "40001"
REPETITIONS = 20

Result = TypeVar("Result")


class DatabaseSessionBackend(SessionBackend):
    """Keeps sessions in the table of a model that has ``AbstractUserSession``'s fields.

    Options: ``model``, the model's label, for example ``"shop.ShopSession"``; ``using``, the alias
    of the database (default: where the router writes the model; reads go there too, so that a
    replica that lags behind logs nobody out).

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

    @cached_property
    def model(self) -> type[AbstractUserSession]:
        return cast("type[AbstractUserSession]", apps.get_model(self.options["model"]))

    @property
    def database(self) -> str:
        """The alias of the database that sessions are read from and written to."""
        return self.options.get("using") or router.db_for_write(self.model)

    @property
    def _connection(self) -> BaseDatabaseWrapper:
        return connections[self.database]

    @property
    def transaction_depth(self) -> int:
        return len(self._connection.atomic_blocks)

    def watch_transaction(self) -> Callable[[], bool]:
        connection = self._connection
        was_committed: list[bool] = []

        def note_commit() -> None:
            was_committed.append(True)

        transaction.on_commit(note_commit, using=self.database)
        # A rollback, to a savepoint too, drops the callbacks of what it takes back.
        return lambda: (
            not (
                was_committed
                or any(waiting[1] is note_commit for waiting in connection.run_on_commit)
            )
        )

    @contextmanager
    def turn_after(self, lost: int, identifier: str) -> Iterator[SessionRecord | None]:
        """See ``SessionBackend.turn_after()``: who has lost once locks the row.

        Where there are no such locks, as in SQLite, the first write has locked the database. In a
        transaction of the caller's, whatever a write did not meet is locked already.
        """
        connection = self._connection
        if not connection.get_autocommit():
            yield None
            return
        with transaction.atomic(using=self.database):
            if connection.vendor == "postgresql":
                # In a stricter one, a row that was locked by others is an error, not a wait.
                self._execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", [])
            has_locks = connection.features.has_select_for_update
            yield self._read_again(self.keys.ses_ids(identifier)) if has_locks else None

    def get_all(self) -> Iterator[SessionRecord]:
        # No cursor on the server: MySQL's driver has none that leaves the connection usable, and
        # PostgreSQL's do not survive a pool that hands out a connection for each transaction.
        key = self._quote("ses_id")
        sql = self._select(f"{key} > %s ORDER BY {key} LIMIT {BATCH_SIZE}")
        last = ""
        while True:
            page = self._fetch(sql, [last])
            yield from map(self._record, page)
            if len(page) < BATCH_SIZE:
                return
            last = page[-1][0]

    def get_by_user(self, user_id: UserId) -> Iterator[SessionRecord]:
        return self._find_by_user(user_id)

    def get_current_by_user(self, user_id: UserId) -> Iterator[SessionRecord]:
        connection: Any = self._connection
        # InnoDB shows a transaction what its first query has seen, unless it locks.
        locks = (
            self._is_innodb
            and not connection.get_autocommit()
            and connection.isolation_level != "read committed"
        )
        return self._find_by_user(user_id, " FOR UPDATE" if locks else "")

    def _find_by_user(self, user_id: UserId, lock: str = "") -> Iterator[SessionRecord]:
        connection = self._connection
        sql = self._sql(
            (connection.alias, "read-by-user", lock),
            lambda: self._select(
                f"{self._quote('ses_userid')} = %s ORDER BY {self._quote('ses_tstamp')} DESC{lock}"
            ),
        )
        with connection.cursor() as cursor:
            cursor.execute(sql, self._params({"ses_userid": user_id}, ["ses_userid"], connection))
            yield from map(self._record, cursor)

    def _collect(self, users_before: int, visitors_before: int, batch_size: int) -> Iterator[int]:
        return chain(
            self._collect_older(users_before, batch_size, anonymous=False),
            self._collect_older(visitors_before, batch_size, anonymous=True),
        )

    def _count_expired(self, users_before: int, visitors_before: int) -> int:
        users = self._older(users_before, anonymous=False)
        visitors = self._older(visitors_before, anonymous=True)
        return int(users.count() + visitors.count())

    def _older(self, limit: int, *, anonymous: bool) -> QuerySet[AbstractUserSession]:
        whose = self.user_column.condition(anonymous=anonymous)
        rows: QuerySet[AbstractUserSession] = self._rows.filter(whose, ses_tstamp__lt=limit)
        return rows

    def _collect_older(self, limit: int, batch_size: int, *, anonymous: bool) -> Iterator[int]:
        connection = self._connection
        expired = self._older(limit, anonymous=anonymous).order_by("ses_tstamp")
        # An embedded SQLite takes 999 parameters a statement; one of them is the time limit.
        most = connection.features.max_query_params or batch_size + 1
        size = min(batch_size, most - 1)
        reached = 0
        while True:
            # Starting from the last batch's timestamp, so that rows with a longer life which lie
            # in between, and deleted ones that wait for vacuum, are passed over once, not once a
            # batch.
            picked = list(
                expired.filter(ses_tstamp__gte=reached).values_list("ses_id", "ses_tstamp")[:size]
            )
            if not picked:
                return
            deleted = self._delete_older(
                [ses_id for ses_id, _ in picked], limit, anonymous=anonymous
            )
            # Past a second whose rows others hold: they, or the next collection, see to those.
            reached = max(picked[-1][1], reached + (not deleted))
            yield deleted

    def _delete_older(self, ses_ids: Sequence[str], limit: int, *, anonymous: bool) -> int:
        """Delete what is still expired of the rows that were picked; wait for nobody's locks."""
        # The expiry again: a session may have been used since it was picked.
        condition = (
            f"{self._quote('ses_userid')} {self.user_column.sql(anonymous=anonymous)} "
            f"AND {self._quote('ses_tstamp')} < %s"
        )
        if not self._connection.features.has_select_for_update_skip_locked:
            return self._delete_by_key(ses_ids, condition, [limit])
        ses_id = self._quote("ses_id")
        with transaction.atomic(using=self.database):
            rows = self._fetch(
                f"SELECT {ses_id} FROM {self._table_by_key} WHERE {ses_id} IN "
                f"({', '.join(['%s'] * len(ses_ids))}) AND {condition} FOR UPDATE SKIP LOCKED",
                [*ses_ids, limit],
            )
            locked = [ses_id for (ses_id,) in rows]
            return self._delete_by_key(locked, condition, [limit]) if locked else 0

    def _delete_by_key(self, ses_ids: Sequence[str], condition: str, params: Sequence[Any]) -> int:
        target = f"{self._table} " if self._is_innodb else ""
        return self._execute(
            f"DELETE {target}FROM {self._table_by_key} WHERE {self._quote('ses_id')} IN "
            f"({', '.join(['%s'] * len(ses_ids))}) AND {condition}",
            [*ses_ids, *params],
        )

    @property
    def _is_innodb(self) -> bool:
        return self._connection.vendor == "mysql"

    @property
    def _table_by_key(self) -> str:
        """The table, for a statement that finds its rows by their keys alone.

        InnoDB locks what it reads. By another index it would lock the entry first and the row
        then; who changes a row locks them the other way round: a deadlock.
        """
        return f"{self._table} FORCE INDEX (PRIMARY)" if self._is_innodb else self._table

    def _pick(
        self, anonymous: bool | None, kept_users: frozenset[UserId], batch_size: int
    ) -> Iterator[Sequence[str]]:
        most = self._connection.features.max_query_params
        size = min(batch_size, most - len(kept_users)) if most else batch_size
        rows = self._all(anonymous, kept_users).order_by("ses_id").values_list("ses_id", flat=True)
        reached = ""
        while ses_ids := list(rows.filter(ses_id__gt=reached)[:size]):
            reached = ses_ids[-1]
            yield ses_ids

    def _delete_picked(
        self, ses_ids: Sequence[str], anonymous: bool | None, kept_users: frozenset[UserId]
    ) -> int:
        user = self._quote("ses_userid")
        conditions, params = ["1 = 1"], []
        if anonymous is not None:
            conditions.append(f"{user} {self.user_column.sql(anonymous=anonymous)}")
        if kept_users:
            others = f"NOT IN ({', '.join(['%s'] * len(kept_users))})"
            conditions.append(f"({user} IS NULL OR {user} {others})")
            for user_id in kept_users:
                params += self._params({"ses_userid": user_id}, ["ses_userid"], self._connection)
        return self._delete_by_key(ses_ids, " AND ".join(conditions), params)

    def _count(self, anonymous: bool | None, kept_users: frozenset[UserId]) -> int:
        return self._all(anonymous, kept_users).count()

    def _all(
        self, anonymous: bool | None, kept_users: frozenset[UserId]
    ) -> QuerySet[AbstractUserSession]:
        whose = Q() if anonymous is None else self.user_column.condition(anonymous=anonymous)
        rows: QuerySet[AbstractUserSession] = self._rows.filter(whose)
        return rows.exclude(Q(ses_userid__in=kept_users)) if kept_users else rows

    def _read(self, ses_ids: Sequence[str]) -> SessionRecord | None:
        return self._find(ses_ids)

    def _read_again(self, ses_ids: Sequence[str]) -> SessionRecord | None:
        # In a transaction with REPEATABLE READ, MySQL compares with the row as it is now, but
        # shows a SELECT the one of the transaction's first, unless it locks.
        connection = self._connection
        locks = connection.features.has_select_for_update and not connection.get_autocommit()
        return self._find(ses_ids, " FOR UPDATE" if locks else "")

    def _find(self, ses_ids: Sequence[str], lock: str = "") -> SessionRecord | None:
        connection = self._connection
        sql = self._sql(
            (connection.alias, "read", len(ses_ids), lock),
            lambda: self._select(self._where(ses_ids) + lock),
        )
        row = self._run(connection, sql, ses_ids, _take_one)
        return None if row is None else self._record(row)

    def _insert(self, ses_id: str, record: SessionRecord) -> bool:
        connection = self._connection
        values: SessionRecord = {**self._blank, **record, "ses_id": ses_id}
        params = self._params(values, self._columns, connection)
        if self._own_fields:
            row = self.model()
            params += [
                field.get_db_prep_save(field.pre_save(row, add=True), connection)
                for field in self._own_fields
            ]
        # Asking first would be a race, and an error would break a surrounding transaction on
        # PostgreSQL. MySQL's INSERT IGNORE would store what does not fit as whatever fits.
        try:
            sql = self._sql((connection.alias, "insert"), self._insert_sql)
            return self._run(connection, sql, params, _take_count) == 1
        except IntegrityError as exc:
            if exc.args[:1] == (DUPLICATE_ENTRY,) and TAKEN_KEY.search(exc.args[1]):
                return False
            raise

    def _insert_sql(self) -> str:
        connection = self._connection
        columns = [*map(self._quote, self._columns)]
        columns += [connection.ops.quote_name(str(field.column)) for field in self._own_fields]
        # Only of our key: what a model of the site's own demands besides is an error.
        unless_taken = f" ON CONFLICT ({self._quote('ses_id')}) DO NOTHING"
        return (
            f"INSERT INTO {self._table} ({', '.join(columns)}) "
            f"VALUES ({', '.join(['%s'] * len(columns))})"
            + (unless_taken if connection.vendor != "mysql" else "")
        )

    def _update(
        self, ses_ids: Sequence[str], values: SessionRecord, expected: SessionRecord
    ) -> bool:
        return self._execute(*self._update_statement(ses_ids, values, expected)) > 0

    def _update_statement(
        self, ses_ids: Sequence[str], values: SessionRecord, expected: SessionRecord
    ) -> tuple[str, list[Any]]:
        connection = self._connection
        columns = tuple(
            column
            for column in self._columns
            # The key is only written where it changes: databases would check its index again.
            if column in values and not (column == "ses_id" and ses_ids == (values["ses_id"],))
        ) or ("ses_id",)
        compared = tuple(expected)
        sql = self._sql(
            (connection.alias, "update", len(ses_ids), columns, compared),
            lambda: (
                f"UPDATE {self._table} "
                f"SET {', '.join(f'{self._quote(column)} = %s' for column in columns)} "
                f"WHERE {self._where(ses_ids, compared)}"
            ),
        )
        return sql, [
            *self._params(values, columns, connection),
            *ses_ids,
            *self._params(expected, compared, connection),
        ]

    def _delete(self, ses_ids: Sequence[str], expected: SessionRecord) -> int:
        compared = tuple(expected)
        return self._execute(
            f"DELETE FROM {self._table} WHERE {self._where(ses_ids, compared)}",
            [*ses_ids, *self._params(expected, compared, self._connection)],
        )

    def _delete_by_user(self, user_id: UserId, kept: Sequence[str]) -> int:
        params = self._params({"ses_userid": user_id}, ["ses_userid"], self._connection)
        where = f"{self._quote('ses_userid')} = %s"
        if kept:
            where += f" AND {self._quote('ses_id')} NOT IN ({', '.join(['%s'] * len(kept))})"
        params += kept
        # By their keys first, see _table_by_key; what is left for the index is what has come
        # meanwhile.
        by_key = self._delete_batches(where, params) if self._is_innodb else 0
        return by_key + self._delete_where(where, params)

    def _delete_batches(self, where: str, params: Sequence[Any]) -> int:
        # The index on users has the keys behind them; for the sake of their order, InnoDB would go
        # through the rows of all users.
        key = self._quote("ses_id")
        sql = (
            f"SELECT {key} FROM {self._table} IGNORE INDEX (PRIMARY) WHERE {where} "
            f"AND {key} > %s ORDER BY {key} LIMIT {BATCH_SIZE}"
        )
        removed, last = 0, ""
        while True:
            ses_ids = [ses_id for (ses_id,) in self._fetch(sql, [*params, last])]
            if ses_ids:
                removed += self._delete_by_key(ses_ids, where, params)
                last = ses_ids[-1]
            if len(ses_ids) < BATCH_SIZE:
                return removed

    def _delete_where(self, where: str, params: Sequence[Any]) -> int:
        return self._execute(f"DELETE FROM {self._table} WHERE {where}", params)

    def _reconnect(self) -> bool:
        connection = self._connection
        if connection.in_atomic_block:
            return False
        connection.close_if_unusable_or_obsolete()
        return True

    @property
    def _rows(self) -> QuerySet[AbstractUserSession]:
        rows: QuerySet[AbstractUserSession] = self.model._default_manager.using(self.database)
        return rows

    def _record(self, row: Sequence[Any]) -> SessionRecord:
        record: dict[str, Any] = dict(zip(self._columns, row))  # noqa: B905 - our own SELECT's
        record["ses_data"] = bytes(record["ses_data"])
        if self.supports_permanent:
            record["ses_permanent"] = bool(record["ses_permanent"])
        if not isinstance(record["ses_userid"], int):
            record["ses_userid"] = stored_user_id(record["ses_userid"]) or 0
        return cast("SessionRecord", record)

    @cached_property
    def _fields(self) -> dict[str, Field[Any, Any]]:
        columns = (*COLUMNS, "ses_permanent") if self.supports_permanent else COLUMNS
        fields = {column: self.model._meta.get_field(column) for column in columns}
        return cast("dict[str, Field[Any, Any]]", fields)

    @cached_property
    def user_column(self) -> UserColumn:
        """How the table tells whose a session is."""
        return UserColumn(self._fields["ses_userid"])

    @cached_property
    def _own_fields(self) -> list[Field[Any, Any]]:
        """The fields that a model of the site's own has besides ours."""
        return [
            field for field in self.model._meta.concrete_fields if field.name not in self._fields
        ]

    @cached_property
    def supports_permanent(self) -> bool:
        """Whether the table can remember that a cookie outlives the browser."""
        return any(field.name == "ses_permanent" for field in self.model._meta.fields)

    @cached_property
    def _columns(self) -> tuple[str, ...]:
        return tuple(self._fields)

    @cached_property
    def _blank(self) -> SessionRecord:
        return cast(
            "SessionRecord", {name: field.get_default() for name, field in self._fields.items()}
        )

    @cached_property
    def _statements(self) -> dict[tuple[object, ...], str]:
        return {}

    def _sql(self, key: tuple[object, ...], build: Callable[[], str]) -> str:
        """Return a statement that is built once; the key says of which database it is."""
        sql = self._statements.get(key)
        return self._statements.setdefault(key, build()) if sql is None else sql

    def _quote(self, name: str) -> str:
        return self._connection.ops.quote_name(str(self._fields[name].column))

    @property
    def _table(self) -> str:
        return self._connection.ops.quote_name(self.model._meta.db_table)

    def _select(self, condition: str) -> str:
        columns = ", ".join(map(self._quote, self._columns))
        return f"SELECT {columns} FROM {self._table} WHERE {condition}"

    def _where(self, ses_ids: Sequence[str], compared: Sequence[str] = ()) -> str:
        one = len(ses_ids) == 1
        chosen = "= %s" if one else f"IN ({', '.join(['%s'] * len(ses_ids))})"
        return " AND ".join(
            [f"{self._quote('ses_id')} {chosen}"]
            + [f"{self._quote(column)} = %s" for column in compared]
        )

    def _params(
        self, values: SessionRecord, columns: Sequence[str], connection: BaseDatabaseWrapper
    ) -> list[Any]:
        return [
            self._fields[column].get_db_prep_save(
                self.user_column.nobody
                if column == "ses_userid" and not values["ses_userid"]
                else values[column],  # type: ignore[literal-required]
                connection,
            )
            for column in columns
        ]

    def _fetch(self, sql: str, params: Sequence[Any]) -> list[Sequence[Any]]:
        return self._run(self._connection, sql, params, _take_all)

    def _execute(self, sql: str, params: Sequence[Any]) -> int:
        return self._run(self._connection, sql, params, _take_count)

    def _run(
        self,
        connection: BaseDatabaseWrapper,
        sql: str,
        params: Sequence[Any],
        take: Callable[[CursorWrapper], Result],
    ) -> Result:
        repetitions = REPETITIONS
        while True:
            try:
                with connection.cursor() as cursor:
                    cursor.execute(sql, params)
                    return take(cursor)
            except OperationalError as exc:
                # A transaction is not ours to repeat.
                if not repetitions or not connection.get_autocommit() or not _had_to_give_way(exc):
                    raise
                repetitions -= 1


def _take_all(cursor: CursorWrapper) -> list[Sequence[Any]]:
    return list(cursor.fetchall())


def _take_one(cursor: CursorWrapper) -> Sequence[Any] | None:
    row: Sequence[Any] | None = cursor.fetchone()
    return row


def _take_count(cursor: CursorWrapper) -> int:
    return int(cursor.rowcount)


def _had_to_give_way(error: OperationalError) -> bool:
    """Whether PostgreSQL refused a statement because of what another transaction has done."""
    cause = error.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
    return state == SERIALIZATION_FAILURE
