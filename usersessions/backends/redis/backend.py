"""Sessions in Redis or Valkey: a key a session, which the server itself drops when it is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from ...conf import get_login_type
from ...session.expiry import retention_seconds
from ...session.record import SessionRecord
from ...session.user_keys import UserId
from ..base import BATCH_SIZE, SessionBackend
from ..selection import Expired, Selection
from .records import BLANK, as_arguments, as_record, as_text

try:
    from . import scripts
    from .cluster import ClusterWriter
    from .connection import RedisConnection
    from .options import find_faults
except ImportError as exc:
    raise ImproperlyConfigured(
        "RedisSessionBackend needs redis-py: install django-usersession-manager[redis]."
    ) from exc

#: How many seconds a key outlives its session: the site decides whether that has expired.
GRACE = 60

#: How many steps a page of records takes at most, on a server with many keys of others.
SCANS_A_PAGE = 100


class RedisSessionBackend(SessionBackend):
    """Keeps each session under one key, with a time to live.

    Options: where the server is (``url``; or ``host``, ``port``, ``database`` ...; ``sentinels``;
    or ``cluster``) and ``key_prefix``; README.rst, section "Redis", lists them.

    A key lives until a minute after the moment at which the login type's settings end the session,
    so collection only tidies the lists of each user's sessions. Every operation is one script, all
    or nothing, except on Redis Cluster, see ``cluster``.
    """

    drops_expired = True

    #: Returns Unix seconds; tests put another clock here.
    clock: Callable[[], float] = staticmethod(time.time)

    def validate_configuration(self) -> None:
        setting = f'USERSESSIONS["{self.login_type}"]["OPTIONS"]'
        faults = [setting + fault for fault in find_faults(self.options)]
        if faults:
            raise ImproperlyConfigured("\n".join(faults))

    @cached_property
    def redis(self) -> RedisConnection:
        return RedisConnection(self.options)

    @cached_property
    def _cluster(self) -> ClusterWriter | None:
        return ClusterWriter(self) if self.redis.is_cluster else None

    def close(self) -> None:
        """Close the connections of all threads; the next command opens one again."""
        self.redis.close()

    # Reading

    def get_all(self) -> Iterator[SessionRecord]:
        """Yield every stored record; one that is written during that may come twice."""
        for records, _ in self._scan(BATCH_SIZE):
            yield from records

    def get_page(self, start: str = "", limit: int = 100) -> tuple[list[SessionRecord], str]:
        """See ``SessionBackend.get_page()``; a page may be short, or empty, before the last."""
        records: list[SessionRecord] = []
        where = ""
        for found, where in islice(self._scan(limit, start), SCANS_A_PAGE):  # noqa: B007 - the last
            records += found
            if len(records) >= limit:
                break
        return records, where

    def get_by_user(self, user_id: UserId, *, current: bool = False) -> Iterator[SessionRecord]:
        found = [
            record
            for record in self._records_of(user_id)
            if str(record["ses_userid"]) == str(user_id)
        ]
        return iter(sorted(found, key=lambda record: record["ses_tstamp"], reverse=True))

    def _records_of(self, user_id: UserId) -> list[SessionRecord]:
        """Return what is stored of a user's list.

        A session that is missing may have been renewed between the two steps. They are repeated
        until none is missing, or the same as before.
        """
        before: set[str] = set()
        while True:
            ses_ids = self.listed(user_id)
            batches = (ses_ids[at : at + BATCH_SIZE] for at in range(0, len(ses_ids), BATCH_SIZE))
            records = [record for batch in batches for record in self._records(batch)]
            missing = {*ses_ids} - {record["ses_id"] for record in records}
            if missing == before or not missing:
                return records
            before = missing

    def listed(self, user_id: UserId) -> list[str]:
        """Return the hashes that are on a user's list."""
        found = self.redis.script(scripts.LIST, [self.list_key(user_id)], [])
        return [ses_id.decode() for ses_id in found]

    def _read(self, ses_ids: Sequence[str], *, current: bool = False) -> SessionRecord | None:
        found = self.find(ses_ids)
        return None if found is None else as_record(*found)

    def find(self, ses_ids: Sequence[str]) -> tuple[str, bytes] | None:
        """Return where a session is, and what is stored there."""
        found = self._stored(ses_ids)
        if not found and len(ses_ids) > 1 and self._cluster:
            # It may have moved from one key to the other while they were read.
            found = self._stored(ses_ids)
        return found[0] if found else None

    def _stored(self, ses_ids: Sequence[str]) -> list[tuple[str, bytes]]:
        texts = self.redis.get([self.session_key(ses_id) for ses_id in ses_ids])
        pairs = zip(ses_ids, texts, strict=True)
        return [(ses_id, text) for ses_id, text in pairs if text is not None]

    def _records(self, ses_ids: Sequence[str]) -> list[SessionRecord]:
        return [as_record(*found) for found in self._stored(ses_ids)]

    def _scan(self, limit: int, start: str = "") -> Iterator[tuple[list[SessionRecord], str]]:
        """Yield records, about ``limit`` at a time, each time with where to go on."""
        for keys, where in self.redis.scan(self.session_key("*"), limit, start):
            yield self._records([key.rpartition(":")[2] for key in keys]), where

    # Writing

    def _insert(self, ses_id: str, record: SessionRecord) -> bool:
        record = {**BLANK, **record}
        if self._cluster:
            self._cluster.list({**record, "ses_id": ses_id})
        args = [ses_id, as_text(record)]
        return bool(self.script(scripts.INSERT, [self.session_key(ses_id)], args))

    def _update(
        self, ses_ids: Sequence[str], values: SessionRecord, expected: SessionRecord
    ) -> bool:
        update = self._cluster.update if self._cluster else self.update_one
        return update(ses_ids, values, expected)

    def update_one(
        self, ses_ids: Sequence[str], values: SessionRecord, expected: SessionRecord
    ) -> bool:
        """Change a session in one step; on a cluster, its key must stay."""
        ses_ids = values["ses_id"], *ses_ids
        keys = [self.session_key(ses_id) for ses_id in ses_ids]
        args = [*as_arguments(values), *as_arguments(expected), *ses_ids]
        return bool(self.script(scripts.UPDATE, keys, args))

    def _delete(self, ses_ids: Sequence[str], expected: SessionRecord) -> int:
        if self._cluster:
            return self._cluster.delete(ses_ids, expected)
        keys = [self.session_key(ses_id) for ses_id in ses_ids]
        return len(self.script(scripts.DELETE, keys, [*as_arguments(expected), *ses_ids]))

    def _delete_by_user(self, user_id: UserId, kept: Sequence[str]) -> int:
        if self._cluster:
            return self._cluster.delete_by_user(user_id, kept)
        removed, taken = 0, BATCH_SIZE
        args = [self.session_key(""), str(user_id), BATCH_SIZE, *kept]
        while taken >= BATCH_SIZE:
            batch, taken = self.redis.script(scripts.DELETE_BY_USER, [self.list_key(user_id)], args)
            removed += batch
        return removed

    # Many sessions

    def remove_all(self, selection: Selection, batch_size: int = BATCH_SIZE) -> Iterator[int]:
        """See ``SessionBackend.remove_all()``.

        Expired sessions are gone: this takes their entries off the lists of their users.
        """
        if isinstance(selection, Expired):
            return self._over_lists("ZREMRANGEBYSCORE", batch_size)
        return super().remove_all(selection, batch_size)

    def count_all(self, selection: Selection | None = None) -> int:
        if isinstance(selection, Expired):
            return sum(self._over_lists("ZCOUNT", BATCH_SIZE))
        return super().count_all(selection)

    def _over_lists(self, command: str, batch_size: int) -> Iterator[int]:
        now = self.redis.server_time()
        for keys, _ in self.redis.scan(self.list_key("*"), batch_size):
            yield sum(self.redis.pipeline([(command, key, "-inf", f"({now}") for key in keys]))

    # Keys and scripts

    def session_key(self, ses_id: str) -> str:
        return f"{self._prefix}:session:{ses_id}"

    def list_key(self, user_id: UserId | str) -> str:
        return f"{self._prefix}:user:{user_id}"

    @cached_property
    def _prefix(self) -> str:
        return f"{self.options.get('key_prefix', 'usersessions')}:{self.login_type}"

    def script(self, script: scripts.Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Run a script that has to do with records."""
        lists = "" if self._cluster else self.list_key("")
        return self.redis.script(
            script, keys, [int(self.clock()), *self._lifetimes, GRACE, lists, *args]
        )

    def seconds_left(self, record: SessionRecord) -> int:
        """Return how long the key of a user's session is to live."""
        lifetime, _ = self._lifetimes
        return max(record["ses_tstamp"] + lifetime - int(self.clock()), 0) + GRACE

    @property
    def _lifetimes(self) -> tuple[int, int]:
        """For how long sessions of users and of visitors live unused."""
        login_type = get_login_type(self.login_type)
        lifetimes = login_type.user_lifetime, login_type.anonymous_lifetime
        users, visitors = map(retention_seconds, lifetimes)
        return users, visitors
