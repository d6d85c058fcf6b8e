"""Storages to measure: a backend for each address, filled fast, with the bytes that it takes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import dj_database_url
import django
from django.conf import settings
from django.core.management import call_command
from django.db import connections

from usersessions import CachedDatabaseSessionBackend, DatabaseSessionBackend, RedisSessionBackend
from usersessions.backends.base import SessionBackend
from usersessions.backends.redis.records import as_text
from usersessions.session.record import SessionRecord

#: How many sessions each user has, so that a larger storage has more users, not busier ones.
SESSIONS_A_USER = 10

BATCH = 2000

#: As README.rst has it.
SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}

#: What a logged-in customer's session holds: Django's three keys, a note of the login, a basket.
DATA = (
    b'{"_auth_user_id":"1234567","_auth_user_backend":"django.contrib.auth.backends.ModelBackend",'
    b'"_auth_user_hash":"' + b"5d" * 32 + b'","basket":[{"sku":"desk-lamp","count":1},'
    b'{"sku":"sofa","count":2}],"_usersessions":{"login_at":1780000000,"user_agent":"Mozilla/5.0 '
    b'(X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}}'
)


def set_up(addresses: list[str]) -> None:
    """Configure Django for a site with a database for each SQL address, and no other."""
    databases = {
        address: dj_database_url.parse(database_url(address), conn_max_age=600)
        for address in addresses
        if not is_redis(address)
    }
    for database in databases.values():
        if database["ENGINE"].endswith("sqlite3"):
            database["OPTIONS"] = SQLITE_OPTIONS
    settings.configure(
        SECRET_KEY="benchmarks" * 5,
        DATABASES={"default": {}, **databases},
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "usersessions"],
        SESSION_ENGINE="usersessions.store",
        CACHES={
            "default": {
                "BACKEND": "django.core.cache.backends.redis.RedisCache",
                "LOCATION": next(
                    (urlsplit(each).fragment for each in addresses if is_cached(each)), ""
                ),
            }
        },
        USE_TZ=True,
    )
    django.setup()


def is_redis(address: str) -> bool:
    return address.startswith("redis")


def is_cached(address: str) -> bool:
    return address.startswith("cached+")


def database_url(address: str) -> str:
    return address.removeprefix("cached+").partition("#")[0]


class Storage:
    """One storage that belongs to the benchmark alone; it is emptied at the beginning.

    :param address: a database's URL; ``cached+`` before it and ``#`` with a Redis URL behind it for
        the cached backend; ``redis://...``; or ``redis-cluster://host:port`` of any node
    """

    def __init__(self, address: str) -> None:
        self.address = address
        #: How many sessions were ever stored here; every ten in a row are one user's.
        self.made = 0

    @property
    def name(self) -> str:
        scheme = self.address.partition(":")[0]
        names = {"redis": "Redis", "redis-cluster": "Redis Cluster", "sqlite": "SQLite"}
        names |= {"postgresql": "PostgreSQL", "mysql": "MariaDB"}
        base = names[scheme.removeprefix("cached+")]
        return f"{base}, cached" if is_cached(self.address) else base

    def make_backend(self) -> SessionBackend:
        options: dict[str, Any] = {}
        if is_redis(self.address):
            parts = urlsplit(self.address)
            if parts.scheme == "redis-cluster":
                options = {"cluster": True, "nodes": [(parts.hostname, parts.port)]}
            else:
                options = {"url": self.address}
            return RedisSessionBackend("FE", options)
        options = {"model": "django_usersessions.FrontendSession", "using": self.address}
        kind = CachedDatabaseSessionBackend if is_cached(self.address) else DatabaseSessionBackend
        return kind("FE", options)

    def empty(self) -> SessionBackend:
        backend = self.make_backend()
        if isinstance(backend, DatabaseSessionBackend):
            call_command("migrate", database=self.address, verbosity=0)
            is_sqlite = connections[self.address].vendor == "sqlite"
            with connections[self.address].cursor() as cursor:
                sqls = (
                    ["DELETE FROM fe_sessions", "VACUUM"] if is_sqlite else ["TRUNCATE fe_sessions"]
                )
                for sql in sqls:
                    cursor.execute(sql)
        else:
            for client in backend.redis._servers.values():
                client.flushdb()
        return backend

    def grow(self, backend: SessionBackend, count: int) -> list[int]:
        """Store so many sessions more; return the users whose they are."""
        records = islice(_records(self.made), count)
        if isinstance(backend, DatabaseSessionBackend):
            self._fill_table(backend, records)
        else:
            self._fill_redis(backend, records)
        first, self.made = self.made, self.made + count
        return list(range(1 + first // SESSIONS_A_USER, 1 + self.made // SESSIONS_A_USER))

    def _fill_table(self, backend: Any, records: Iterator[SessionRecord]) -> None:
        rows = backend.model.objects.using(self.address)
        while batch := [backend.model(**record) for record in islice(records, BATCH)]:
            rows.bulk_create(batch)
        analyze = {"postgresql": "VACUUM ANALYZE fe_sessions", "sqlite": "ANALYZE"}
        with connections[self.address].cursor() as cursor:
            vendor = connections[self.address].vendor
            cursor.execute(analyze.get(vendor, "ANALYZE TABLE fe_sessions"))

    def _fill_redis(self, backend: Any, records: Iterator[SessionRecord]) -> None:
        lasts = 6000
        ends = int(time.time()) + lasts
        while batch := list(islice(records, BATCH)):
            commands: list[tuple[Any, ...]] = []
            for record in batch:
                ses_id, owner = record["ses_id"], backend.list_key(record["ses_userid"])
                key = backend.session_key(ses_id)
                commands.append(("SET", key, as_text(record), "EX", lasts))
                commands.append(("ZADD", owner, ends, ses_id))
                commands.append(("EXPIRE", owner, lasts))
            backend.redis.pipeline(commands)

    def size(self, backend: Any) -> int:
        """Return the bytes that all sessions take, indexes and keys included."""
        if not isinstance(backend, DatabaseSessionBackend):
            return sum(
                int(client.info("memory")["used_memory"])
                for client in backend.redis._servers.values()
            )
        connection = connections[self.address]
        sql = {
            "postgresql": "SELECT pg_total_relation_size('fe_sessions')",
            "mysql": "SELECT data_length + index_length FROM information_schema.tables "
            "WHERE table_schema = DATABASE() AND table_name = 'fe_sessions'",
            "sqlite": "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
        }[connection.vendor]
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return int(cursor.fetchone()[0])


def _records(first: int) -> Iterator[SessionRecord]:
    now, number = int(time.time()), first
    while True:
        yield {
            "ses_id": secrets.token_hex(32),
            "ses_iplock": "[DISABLED]",
            "ses_userid": 1 + number // SESSIONS_A_USER,
            "ses_tstamp": now - number % 6000,
            "ses_data": DATA,
            "ses_permanent": False,
        }
        number += 1
