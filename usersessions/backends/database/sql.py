"""The statements on one table of sessions, in the SQL of one database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property, lru_cache

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..base import BATCH_SIZE


class SessionSql:
    """Builds each statement once; the names of the table and its columns are quoted once.

    :param table: the table's name
    :param columns: the names of our columns by those of their fields
    :param own_columns: the other columns of a model of the site's own
    """

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        table: str,
        columns: Mapping[str, str],
        own_columns: Sequence[str],
    ) -> None:
        quote = connection.ops.quote_name
        self.vendor = connection.vendor
        self.table = quote(table)
        self.columns = {name: quote(column) for name, column in columns.items()}
        self._own_columns = [*map(quote, own_columns)]
        self.all_columns = ", ".join(self.columns.values())
        self.key = self.columns["ses_id"]
        self.user = self.columns["ses_userid"]
        self.read = cache(self._read)
        self.read_by_user = cache(self._read_by_user)
        # One for each set of columns and number of keys that is in use.
        self.update = lru_cache(self._update)
        self.delete = lru_cache(self._delete)

    @cached_property
    def is_innodb(self) -> bool:
        return self.vendor == "mysql"

    @cached_property
    def table_by_key(self) -> str:
        """The table, for a statement that finds its rows by their keys alone.

        InnoDB locks what it reads. By another index it would lock the entry first and the row
        then. A statement that changes a row locks them the other way round: a deadlock.
        """
        return f"{self.table} FORCE INDEX (PRIMARY)" if self.is_innodb else self.table

    @cached_property
    def read_page(self) -> str:
        """Parameters: the last key of the page before."""
        return self._select(f"{self.key} > %s ORDER BY {self.key} LIMIT {BATCH_SIZE}")

    @cached_property
    def insert(self) -> str:
        """Parameters: our columns, then the others. Inserts no row whose key is taken.

        Except on MySQL, where that is an error: its INSERT IGNORE would store what does not fit as
        whatever fits.
        """
        columns = [*self.columns.values(), *self._own_columns]
        # Only of our key: what a model of the site's own demands besides is an error.
        unless_taken = "" if self.is_innodb else f" ON CONFLICT ({self.key}) DO NOTHING"
        return (
            f"INSERT INTO {self.table} ({', '.join(columns)}) VALUES ({_places(len(columns))})"
            + unless_taken
        )

    def _read(self, keys: int, lock: str = "") -> str:
        return self._select(self._where(keys) + lock)

    def _read_by_user(self, lock: str = "") -> str:
        return self._select(f"{self.user} = %s ORDER BY {self.columns['ses_tstamp']} DESC{lock}")

    def _update(self, keys: int, columns: Sequence[str], compared: Sequence[str]) -> str:
        """Parameters: the columns, the keys, what is compared."""
        changes = ", ".join([f"{self.columns[column]} = %s" for column in columns])
        return f"UPDATE {self.table} SET {changes} WHERE {self._where(keys, compared)}"

    def _delete(self, keys: int, compared: Sequence[str] = ()) -> str:
        return f"DELETE FROM {self.table} WHERE {self._where(keys, compared)}"

    def delete_by_key(self, keys: int, condition: str) -> str:
        target = f"{self.table} " if self.is_innodb else ""
        return (
            f"DELETE {target}FROM {self.table_by_key} WHERE {self.key} IN ({_places(keys)}) "
            f"AND {condition}"
        )

    def of_user(self, kept: int) -> str:
        """Return a condition; parameters: the user, then the keys of sessions that stay."""
        others = f" AND {self.key} NOT IN ({_places(kept)})" if kept else ""
        return f"{self.user} = %s{others}"

    def keys_where(self, condition: str) -> str:
        """Return a query for a page of keys, by the index on users where that is what it names.

        That index has the keys behind the users. To have them in order, InnoDB would otherwise go
        through the rows of all users.
        """
        index = " IGNORE INDEX (PRIMARY)" if self.is_innodb else ""
        return (
            f"SELECT {self.key} FROM {self.table}{index} WHERE {condition} "
            f"AND {self.key} > %s ORDER BY {self.key} LIMIT {BATCH_SIZE}"
        )

    def lock_by_key(self, keys: int, condition: str) -> str:
        """Return a query that locks rows, but not those that others have locked."""
        return (
            f"SELECT {self.key} FROM {self.table_by_key} WHERE {self.key} IN ({_places(keys)}) "
            f"AND {condition} FOR UPDATE SKIP LOCKED"
        )

    def _select(self, condition: str) -> str:
        return f"SELECT {self.all_columns} FROM {self.table} WHERE {condition}"

    def _where(self, keys: int, compared: Sequence[str] = ()) -> str:
        chosen = "= %s" if keys == 1 else f"IN ({_places(keys)})"
        conditions = [f"{self.columns[column]} = %s" for column in compared]
        return " AND ".join([f"{self.key} {chosen}", *conditions])


class SqlByAlias(dict[str, SessionSql]):
    """The statements by the alias of their database, made when they are asked for."""

    def __init__(self, make: Callable[[BaseDatabaseWrapper], SessionSql]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, alias: str) -> SessionSql:
        return self.setdefault(alias, self._make(connections[alias]))


def _places(number: int) -> str:
    return ", ".join(["%s"] * number)
