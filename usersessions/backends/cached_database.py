"""Sessions in a table, and in front of it one of Django's caches for those that are in use.

Each session has two entries in the cache. The record carries a token, and counts only while the
other entry, its generation, holds that very token:

* A reader that finds no generation adds one, with a new token, *before* it reads the row. The row
  goes into the cache under the token that was there before it was read.
* A writer sets the generation to a new token of its own *before* its statement, so that a process
  that dies in the middle leaves nothing to trust. *After* the commit it looks whether the
  generation is still its own. If so, it puts the new row into the cache. If not, or if the session
  has ended or its row is not known, it drops both entries: another writer may have put an older
  row there.

So every commit is followed by a change of generation, and no token comes twice. A record that
arrives late has an older token and counts nowhere. This does not depend on how long anything takes,
nor on what the cache evicts. Only a change of generation that does not reach the cache leaves an
old record, for as long as entries live.

Why one entry is not enough: a process stores a record some time after it has read the row. If the
session ends in between, and the cache evicts the mark of that, the process finds the cache as if
nothing had happened, and stores the old record in both cases. A later reader of that entry alone
cannot tell them apart. With two entries it can: the generation under which the row was read is
gone.

Why a change costs three commands and not two: after the commit the generation must be compared, and
the record be stored. No operation of Django's caches does both. (``incr()`` compares in a way, but
needs the record before the statement, which changes a part of the row; besides, it is two commands
in Django's Redis cache and not atomic in its file and database caches.)

In a transaction nothing is put into the cache: rows may be a snapshot, or be rolled back. What was
written is dropped from it when the transaction is committed.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from django.core.cache import DEFAULT_CACHE_ALIAS, BaseCache, InvalidCacheBackendError, caches
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..session.record import SessionRecord
from .base import BATCH_SIZE, logger
from .database.backend import DatabaseSessionBackend

#: Seconds that entries of the cache live.
CACHE_TIMEOUT = 60

#: How a token begins: with the one, any reader of the row may use it; with the other, its writer.
READING, WRITING = "r", "w"


class CachedDatabaseSessionBackend(DatabaseSessionBackend):
    """Keeps sessions in a table; reads those that are in use from a cache, without a query.

    Options: those of ``DatabaseSessionBackend``; ``cache``, an alias of ``CACHES`` (default:
    ``"default"``); ``cache_timeout``, the seconds that entries live (default: 60), which is also
    for how long an ended session may still be honoured when the process that ended it could not
    reach the cache.

    A cache that fails is logged as a warning, and the database answers. Lists, users' sessions and
    whatever is compared with a write come from the database. Rows that are changed past this class
    leave the cache by themselves.
    """

    known_options = (*DatabaseSessionBackend.known_options, "cache", "cache_timeout")

    def validate_configuration(self) -> None:
        super().validate_configuration()
        setting = f'USERSESSIONS["{self.login_type}"]["OPTIONS"]'
        alias = self.cache_alias
        if alias not in caches:
            raise ImproperlyConfigured(
                f'{setting}["cache"] must be a cache alias, one of '
                f"{', '.join(map(repr, caches))}, not {alias!r}."
            )
        try:
            caches[alias]
        except InvalidCacheBackendError as exc:
            raise ImproperlyConfigured(
                f'{setting}["cache"] names {alias!r}, whose BACKEND cannot be imported: {exc}'
            ) from exc
        timeout: Any = self.cache_timeout
        if not isinstance(timeout, int) or isinstance(timeout, bool) or timeout < 1:
            raise ImproperlyConfigured(
                f'{setting}["cache_timeout"] must be an integer of at least 1 (seconds), '
                f"not {timeout!r}."
            )

    @property
    def cache_alias(self) -> str:
        """Which of ``CACHES`` it is."""
        alias: str = self.options.get("cache", DEFAULT_CACHE_ALIAS)
        return alias

    @property
    def cache_timeout(self) -> int:
        """Seconds that entries live."""
        timeout: int = self.options.get("cache_timeout", CACHE_TIMEOUT)
        return timeout

    @property
    def cache(self) -> BaseCache:
        """The cache of this thread."""
        return caches[self.cache_alias]

    def _read(self, ses_ids: Sequence[str], *, current: bool = False) -> SessionRecord | None:
        connection = self.connection
        if current or (connection.run_on_commit and self._has_uncommitted_writes(connection)):
            return super()._read(ses_ids, current=current)
        entries = [self._keys_of(ses_id) for ses_id in ses_ids]
        found = self._try("get_many", [key for keys in entries for key in keys])
        if found is None:
            return super()._read(ses_ids)
        for generation, record in entries:
            token, cached = found.get(generation), found.get(record)
            if token is not None and cached is not None and cached[0] == token:
                return cached[1]  # type: ignore[no-any-return]
        if connection.in_atomic_block:
            return super()._read(ses_ids)
        tokens = {ses_id: found.get(self._keys_of(ses_id)[0]) for ses_id in ses_ids}
        return self._read_and_cache(connection, ses_ids, tokens)

    def _read_and_cache(
        self,
        connection: BaseDatabaseWrapper,
        ses_ids: Sequence[str],
        tokens: dict[str, str | None],
    ) -> SessionRecord | None:
        """Read a row; put it into the cache under the generation from before.

        :param tokens: the generations that were found; where there is none, one is added
        """
        for ses_id, found in tokens.items():
            token = _new_token(READING)
            if found is None and self._try("add", *self._generation(ses_id, token)):
                tokens[ses_id] = token
        record = super()._read(ses_ids)
        if record is not None and connection.autocommit:
            token = tokens.get(record["ses_id"]) or WRITING
            if token.startswith(READING):
                self._put(record, token)
        return record

    def _insert(self, ses_id: str, record: SessionRecord) -> bool:
        with self._changing([ses_id]) as change:
            if not super()._insert(ses_id, record):
                return False
            values: dict[str, Any] = {**self._blank, **record, "ses_id": ses_id}
            change.record = self._record([values[column] for column in self._columns])
            return True

    def _update(
        self, ses_ids: Sequence[str], values: SessionRecord, expected: SessionRecord
    ) -> bool:
        connection = self.connection
        sql, params = self._update_statement(connection, ses_ids, values, expected)
        with self._changing({*ses_ids, values["ses_id"]}) as change:
            if not self._can_return_from("UPDATE"):
                return self._execute(sql, params) > 0
            rows = self.fetch(f"{sql} RETURNING {self.sql.all_columns}", params)
            for row in rows:
                change.record = self._record(row)
            return bool(rows)

    def _delete(self, ses_ids: Sequence[str], expected: SessionRecord) -> int:
        with self._changing(ses_ids):
            return super()._delete(ses_ids, expected)

    def delete_by_key(self, ses_ids: Sequence[str], condition: str, params: Sequence[Any]) -> int:
        with self._changing(ses_ids):
            return super().delete_by_key(ses_ids, condition, params)

    def _delete_where(self, condition: str, params: Sequence[Any]) -> int:
        key, table = self.sql.key, self.sql.table
        if self._can_return_from("DELETE"):
            sql = f"DELETE FROM {table} WHERE {condition} RETURNING {key}"
            ended = [row[0] for row in self.fetch(sql, params)]
            if ended:
                # Which they are is known only now; in a transaction that is before the commit.
                with self._changing(ended):
                    pass
            return len(ended)
        connection = self.connection
        # With the lock, the rows as they are now, even in a transaction that sees a snapshot.
        lock = connection.ops.for_update_sql() if connection.features.has_select_for_update else ""
        sql = f"SELECT {key} FROM {table} WHERE {condition} LIMIT {BATCH_SIZE} {lock}"
        removed = 0
        # Again until there is none: sessions that are renewed have another hash.
        while rows := self.fetch(sql, params):
            removed += self.delete_by_key([row[0] for row in rows], condition, params)
        return removed

    @contextmanager
    def _changing(self, ses_ids: Collection[str]) -> Iterator[_Change]:
        """Keep the cache right around a statement that changes or ends these sessions."""
        change = _Change()
        generations = dict(self._generation(each, change.token)[:2] for each in ses_ids)
        is_marked = not self._try("set_many", generations, self.cache_timeout, failed=True)
        try:
            yield change
        finally:
            connection = self.connection
            if connection.in_atomic_block:
                transaction.on_commit(partial(self._drop, tuple(ses_ids)), using=self.database)
            elif connection.autocommit:
                self._settle(ses_ids, change if is_marked else _Change())

    def _settle(self, ses_ids: Collection[str], change: _Change) -> None:
        stored = change.record
        if stored is not None:
            generation_key, _ = self._keys_of(stored["ses_id"])
            if self._try("get", generation_key) == change.token:
                self._drop([each for each in ses_ids if each != stored["ses_id"]])
                self._put(stored, change.token)
                return
        self._drop(ses_ids)

    def _put(self, record: SessionRecord, token: str) -> None:
        _, record_key = self._keys_of(record["ses_id"])
        self._try("set", record_key, (token, record), self.cache_timeout)

    def _drop(self, ses_ids: Collection[str]) -> None:
        if ses_ids:
            self._try("delete_many", [key for each in ses_ids for key in self._keys_of(each)])

    def _has_uncommitted_writes(self, connection: BaseDatabaseWrapper) -> bool:
        """Whether the transaction has changed sessions: only the database knows its own rows."""
        waiting = (entry[1] for entry in connection.run_on_commit)
        drops = (getattr(call, "func", None) for call in waiting)
        return any(getattr(drop, "__func__", None) is type(self)._drop for drop in drops)

    def _generation(self, ses_id: str, token: str) -> tuple[str, str, int]:
        return self._keys_of(ses_id)[0], token, self.cache_timeout

    def _keys_of(self, ses_id: str) -> tuple[str, str]:
        """Return the keys of a session's generation and record, which any cache takes.

        The database is part of them: sites with one for each tenant share the cache.
        """
        place = f"{self.login_type}.{self.database}".encode().hex()
        return f"usersessions.{place}.{ses_id}.generation", f"usersessions.{place}.{ses_id}.record"

    def _try(self, operation: str, *args: Any, failed: Any = None) -> Any:
        """Call a method of the cache; return ``failed`` when the cache does."""
        try:
            answer = getattr(self.cache, operation)(*args)
        except Exception as exc:
            # The name alone: messages may quote what was to be stored.
            problem = f"{type(exc).__module__}.{type(exc).__qualname__}"
        else:
            if not (operation == "set_many" and answer):  # the keys that Memcached did not take
                return answer
            problem = "not stored"
        logger.warning(
            "The cache %r of the %s sessions failed (%s: %s); the database answers.",
            self.cache_alias,
            self.login_type,
            operation,
            problem,
        )
        return failed

    def _can_return_from(self, kind: str) -> bool:
        """Whether a statement can tell the rows that it has changed."""
        connection = self.connection
        takes_returning = connection.features.can_return_columns_from_insert
        return takes_returning and (kind == "DELETE" or connection.vendor != "mysql")


class _Change:
    """What one statement does, as far as the cache must know."""

    def __init__(self) -> None:
        self.token = _new_token(WRITING)
        #: The row as it is after the statement; None: it is not known, or there is none.
        self.record: SessionRecord | None = None


def _new_token(kind: str) -> str:
    return kind + secrets.token_hex(8)
