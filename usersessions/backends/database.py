"""Sessions in a table of the database: one row a session, one statement an operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, Q, QuerySet

from ..user_ids import UserId, stored_user_id
from ..user_session import SessionRecord
from .base import SessionBackend
from .user_column import UserColumn

if TYPE_CHECKING:
    from ..models import AbstractUserSession

COLUMNS = ("ses_id", "ses_iplock", "ses_userid", "ses_tstamp", "ses_data")


class DatabaseSessionBackend(SessionBackend):
    """Keeps sessions in the table of a model that has ``AbstractUserSession``'s fields.

    Options: ``model``, the model's label, for example ``"shop.ShopSession"``; ``using``, the alias
    of the database (default: where the router writes the model; reads go there too, so that a
    replica that lags behind logs nobody out).

    The statements of every request are SQL built once and run through Django's cursor: the ORM
    would compile the same SELECT again for every request.
    """

    def validate_configuration(self) -> None:
        setting = f'USERSESSIONS["{self.login_type}"]["OPTIONS"]'
        for option in self.options:
            if option not in ("model", "using"):
                raise ImproperlyConfigured(
                    f'{setting} has the unknown option "{option}"; known: "model", "using".'
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
    def transaction_depth(self) -> int:
        return len(connections[self.database].atomic_blocks)

    def watch_transaction(self) -> Callable[[], bool]:
        connection = connections[self.database]
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

    def get_all(self) -> Iterator[SessionRecord]:
        return self._iterate(self._rows.order_by())

    def get_by_user(self, user_id: UserId) -> Iterator[SessionRecord]:
        return self._iterate(self._rows.filter(Q(ses_userid=user_id)).order_by("-ses_tstamp"))

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
        connection = connections[self.database]
        expired = self._older(limit, anonymous=anonymous).order_by("ses_tstamp")
        # An embedded SQLite takes 999 parameters a statement; one of them is the time limit.
        most = connection.features.max_query_params or batch_size + 1
        size = min(batch_size, most - 1)
        reached = 0
        while True:
            # Starting from the last batch's timestamp, so that rows with a longer life which lie
            # in between are passed over once, not once a batch.
            rows = list(
                expired.filter(ses_tstamp__gte=reached).values_list("ses_id", "ses_tstamp")[:size]
            )
            if not rows:
                return
            reached = rows[-1][1]
            # The expiry again: a session may have been used since it was picked.
            yield self._execute(
                f"DELETE FROM {self._table} WHERE {self._quote('ses_id')} IN "
                f"({', '.join(['%s'] * len(rows))}) AND {self._quote('ses_userid')} "
                f"{self.user_column.sql(anonymous=anonymous)} AND {self._quote('ses_tstamp')} < %s",
                [*(ses_id for ses_id, _ in rows), limit],
            )

    def _read(self, ses_ids: Sequence[str]) -> SessionRecord | None:
        connection = connections[self.database]
        sql = self._sql(
            ("read", len(ses_ids)),
            lambda: (
                f"SELECT {', '.join(map(self._quote, self._columns))} "
                f"FROM {self._table} WHERE {self._where(ses_ids)}"
            ),
        )
        with connection.cursor() as cursor:
            cursor.execute(sql, ses_ids)
            row = cursor.fetchone()
        return None if row is None else self._record(row)

    def _insert(self, ses_id: str, record: SessionRecord) -> bool:
        connection = connections[self.database]
        values: SessionRecord = {**self._blank, **record, "ses_id": ses_id}
        params = self._params(values, self._columns, connection)
        if self._own_fields:
            row = self.model()
            params += [
                field.get_db_prep_save(field.pre_save(row, add=True), connection)
                for field in self._own_fields
            ]
        # Asking first would be a race, and catching the error would break a surrounding
        # transaction on PostgreSQL.
        return self._execute(self._sql(("insert",), self._insert_sql), params) == 1

    def _insert_sql(self) -> str:
        connection = connections[self.database]
        # Django's own way on SQLite swallows every violated constraint, not only a taken key.
        takes_upserts = connection.vendor in ("sqlite", "postgresql")
        statement = "INSERT INTO" if takes_upserts else "INSERT IGNORE INTO"
        columns = [*map(self._quote, self._columns)]
        columns += [connection.ops.quote_name(str(field.column)) for field in self._own_fields]
        return (
            f"{statement} {self._table} ({', '.join(columns)}) "
            f"VALUES ({', '.join(['%s'] * len(columns))})"
            + (" ON CONFLICT DO NOTHING" if takes_upserts else "")
        )

    def _update(
        self, ses_ids: Sequence[str], values: SessionRecord, expected: SessionRecord
    ) -> bool:
        connection = connections[self.database]
        columns = tuple(
            column
            for column in self._columns
            # The key is only written where it changes: databases would check its index again.
            if column in values and not (column == "ses_id" and ses_ids == (values["ses_id"],))
        ) or ("ses_id",)
        compared = tuple(expected)
        sql = self._sql(
            ("update", len(ses_ids), columns, compared),
            lambda: (
                f"UPDATE {self._table} "
                f"SET {', '.join(f'{self._quote(column)} = %s' for column in columns)} "
                f"WHERE {self._where(ses_ids, compared)}"
            ),
        )
        params = [
            *self._params(values, columns, connection),
            *ses_ids,
            *self._params(expected, compared, connection),
        ]
        return self._execute(sql, params) > 0

    def _delete(self, ses_ids: Sequence[str], expected: SessionRecord) -> int:
        compared = tuple(expected)
        return self._execute(
            f"DELETE FROM {self._table} WHERE {self._where(ses_ids, compared)}",
            [*ses_ids, *self._params(expected, compared, connections[self.database])],
        )

    def _delete_by_user(self, user_id: UserId, kept: Sequence[str]) -> int:
        params = self._params({"ses_userid": user_id}, ["ses_userid"], connections[self.database])
        sql = f"DELETE FROM {self._table} WHERE {self._quote('ses_userid')} = %s"
        if kept:
            sql += f" AND {self._quote('ses_id')} NOT IN ({', '.join(['%s'] * len(kept))})"
        return self._execute(sql, [*params, *kept])

    @property
    def _rows(self) -> QuerySet[AbstractUserSession]:
        rows: QuerySet[AbstractUserSession] = self.model._default_manager.using(self.database)
        return rows

    def _iterate(self, rows: QuerySet[AbstractUserSession]) -> Iterator[SessionRecord]:
        return map(self._record, rows.values_list(*self._columns).iterator(chunk_size=1000))

    def _record(self, row: Sequence[Any]) -> SessionRecord:
        record = dict(zip(self._columns, row, strict=True))
        record["ses_data"] = bytes(record["ses_data"])
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

    def _sql(self, key: tuple[object, ...], build: Any) -> str:
        key = (self.database, *key)
        try:
            return self._statements[key]
        except KeyError:
            return self._statements.setdefault(key, build())

    def _quote(self, name: str) -> str:
        return connections[self.database].ops.quote_name(str(self._fields[name].column))

    @property
    def _table(self) -> str:
        return connections[self.database].ops.quote_name(self.model._meta.db_table)

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

    def _execute(self, sql: str, params: Sequence[Any]) -> int:
        with connections[self.database].cursor() as cursor:
            cursor.execute(sql, params)
            return int(cursor.rowcount)
