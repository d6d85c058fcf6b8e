"""Storages that can be read but not written: full, read-only, or locked by somebody else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import redis
from django.db import connections, transaction
from django.db.utils import InternalError, OperationalError

from tests.conftest import Clock
from tests.redis_servers import RedisServer, wait_until
from tests.system.outages.browser import (
    Browser,
    log_in,
    logging_in,
    logging_out,
    played,
    putting,
    reading,
    renewing,
)
from tests.system.outages.storages import (
    ALIAS,
    ClusterStorage,
    DatabaseStorage,
    RedisStorage,
    Storage,
)
from tests.urls import visit
from usersessions import RedisSessionBackend
from usersessions.conf import get_login_type
from usersessions.store import SessionStore
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]


class FullRedis(RedisStorage):
    """A server that has used up its ``maxmemory``."""

    errors = (redis.OutOfMemoryError,)

    def refuse_writes(self, value: bool) -> None:
        for node in getattr(self.server, "nodes", [self.server]):
            node.client.config_set("maxmemory", int(value))


class FullCluster(FullRedis, ClusterStorage):
    pass


class RedisReplica(RedisStorage):
    """A server that is made the replica of another one, as when a sentinel changes its mind."""

    errors = (redis.ReadOnlyError,)

    def __init__(self, server: RedisServer, other: RedisServer) -> None:
        super().__init__(server)
        self.other = other

    def refuse_writes(self, value: bool) -> None:
        server, other = self.server.client, self.other.client
        if not value:
            server.replicaof("NO", "ONE")
            return
        other.replicaof("127.0.0.1", self.server.port)
        wait_until(lambda: other.info()["master_link_status"] == "up", "the replica is complete")
        wait_until(lambda: other.dbsize() == server.dbsize(), "the replica has all keys")
        other.replicaof("NO", "ONE")
        server.replicaof("127.0.0.1", self.other.port)
        wait_until(lambda: server.info()["master_link_status"] == "up", "the replica is complete")


class ReadOnlyDatabase(DatabaseStorage):
    errors = (OperationalError, InternalError)

    def refuse_writes(self, value: bool) -> None:
        self.server.be_read_only(value)
        connections[ALIAS].close()


class SqliteFile:
    """Stands where other databases have a server."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = {"ENGINE": "django.db.backends.sqlite3", "NAME": path}

    def recover(self) -> None:
        pass


class ReadOnlyFile(DatabaseStorage):
    """An SQLite file that the site may not write to."""

    errors = (OperationalError,)

    def __init__(self, file: SqliteFile) -> None:
        Storage.__init__(self, file)
        self.settings = file.settings

    def refuse_writes(self, value: bool) -> None:
        connection = connections[ALIAS]
        connection.close()
        mode = "ro" if value else "rw"
        connection.settings_dict["NAME"] = f"file:{self.server.path}?mode={mode}"


class LockedFile(ReadOnlyFile):
    """An SQLite file that another process is writing to, for longer than the timeout."""

    def __init__(self, file: SqliteFile) -> None:
        super().__init__(file)
        wal = {"timeout": 0, "init_command": "PRAGMA journal_mode=WAL"}
        self.settings = {**file.settings, "OPTIONS": wal}
        self._locks = ExitStack()

    def refuse_writes(self, value: bool) -> None:
        if value:
            writer = self._locks.enter_context(closing(sqlite3.connect(self.server.path)))
            writer.execute("BEGIN IMMEDIATE")
        else:
            self._locks.close()


def make_storage(name: str, request: pytest.FixtureRequest) -> Any:
    find = request.getfixturevalue
    if name == "full redis":
        return FullRedis(find("redis_server"))
    if name == "full cluster":
        return FullCluster(find("redis_cluster"))
    if name == "redis replica":
        return RedisReplica(find("redis_server"), find("other_redis"))
    if name == "postgresql":
        return ReadOnlyDatabase(find("postgres"), CONN_MAX_AGE=None)
    if name == "mariadb":
        return ReadOnlyDatabase(find("mariadb"), CONN_MAX_AGE=None)
    file = SqliteFile(find("tmp_path") / "sessions.sqlite3")
    return ReadOnlyFile(file) if name == "read-only sqlite" else LockedFile(file)


@pytest.fixture(scope="module")
def other_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("other"))
    yield server
    server.close()


@pytest.fixture(
    params=[
        *("full redis", "full cluster", "redis replica", "postgresql", "mariadb"),
        *("read-only sqlite", "locked sqlite"),
    ]
)
def storage(
    request: pytest.FixtureRequest,
    db: None,
    settings: Any,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Any]:
    monkeypatch.setattr(RedisSessionBackend, "clock", staticmethod(clock))
    storage = make_storage(request.param, request)
    with storage.in_use(settings):
        yield storage
        storage.refuse_writes(False)


full = pytest.mark.parametrize("storage", ["full redis", "full cluster"], indirect=True)


async def refuse_writes(browser: Browser, storage: Any, value: bool = True) -> None:
    await browser.call(storage.refuse_writes, value)


async def stored(browser: Browser, storage: Storage) -> Any:
    return await browser.call(list, storage.backend.get_all())


@played
async def test_pages_that_only_read_go_on(storage: Any, browser: Browser, alice: Any) -> None:
    await log_in(browser, alice)
    await refuse_writes(browser, storage)
    assert await browser.see(reading()) == "('alice', 'lamp')"
    found = await browser.call(lambda: list(storage.backend.get_by_user(alice.pk)))
    assert [record["ses_userid"] for record in found] == [alice.pk]


@played
async def test_use_that_cannot_be_noted_is_logged_and_withholds_no_page(
    storage: Any,
    browser: Browser,
    alice: Any,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await log_in(browser, alice)
    await refuse_writes(browser, storage)
    clock.forward(62)
    before = await stored(browser, storage)
    response = await browser.visit(reading())
    assert response.content == b"('alice', 'lamp')"
    assert not response.cookies
    assert await stored(browser, storage) == before
    (logged,) = [entry for entry in caplog.records if entry.name == "usersessions.store"]
    assert logged.getMessage() == "The use of a FE session was not noted."
    assert isinstance(logged.exc_info[1], storage.errors)
    await refuse_writes(browser, storage, False)
    await browser.see(reading())
    (record,) = await stored(browser, storage)
    assert record["ses_tstamp"] == clock()


@played
async def test_writing_fails_and_leaves_everything_as_it_was(
    storage: Any, browser: Browser, alice: Any
) -> None:
    await browser.see(putting("lamp"))
    await refuse_writes(browser, storage)
    before = await stored(browser, storage)
    for views in (putting("mug"), logging_in(alice), renewing()):
        await browser.fail(views, storage.errors)
        assert await stored(browser, storage) == before
        assert await browser.see(reading()) == "('', 'lamp')"
    other = Browser(is_async=browser.is_async)
    await other.fail(putting("mug"), storage.errors)
    assert await stored(browser, storage) == before
    await refuse_writes(browser, storage, False)
    await browser.see(logging_in(alice))
    await browser.see(putting("mug"))
    assert await browser.see(reading()) == "('alice', 'mug')"
    assert len(await stored(browser, storage)) == 1


@full
@played
async def test_full_server_still_ends_sessions(
    storage: Any, browser: Browser, alice: Any, bob: Any
) -> None:
    others = [Browser(is_async=browser.is_async) for _ in range(2)]
    await log_in(browser, alice)
    for other in others:
        await log_in(other, bob)
    await refuse_writes(browser, storage)
    await browser.see(logging_out())
    assert await browser.see(reading()) == "('', None)"
    assert await browser.call(storage.backend.remove_by_user, bob.pk) == 2
    for other in others:
        assert await other.see(reading()) == "('', None)"
    assert await stored(browser, storage) == []


@full
@played
async def test_renewal_on_a_full_server_leaves_the_old_session_whole(
    storage: Any, browser: Browser, alice: Any
) -> None:
    await log_in(browser, alice)
    await refuse_writes(browser, storage)
    await browser.fail(renewing(), storage.errors)
    await browser.fail(logging_in(alice), storage.errors)
    await refuse_writes(browser, storage, False)
    assert await browser.see(reading()) == "('alice', 'lamp')"
    assert await browser.call(storage.backend.remove_by_user, alice.pk) == 1
    assert await browser.see(reading()) == "('', None)"


@pytest.mark.parametrize("storage", ["postgresql"], indirect=True)
def test_use_that_cannot_be_noted_in_a_transaction_of_the_sites_is_an_error(
    storage: Any, clock: Clock
) -> None:
    """The database refuses whatever else the transaction was to do."""
    client = Client(raise_request_exception=False)
    visit(client, putting("lamp")[0])
    storage.refuse_writes(True)
    clock.forward(62)
    with transaction.atomic(ALIAS):
        response = visit(client, reading()[0])
    assert isinstance(response.exc_info[1], storage.errors)


@pytest.mark.parametrize("storage", ["postgresql"], indirect=True)
def test_renewal_that_fails_in_a_transaction_of_the_sites_leaves_it_its_connection(
    storage: Any,
) -> None:
    """Asking once more, with a new connection, would take what the site does besides."""
    store = SessionStore(login_type=get_login_type("FE"))
    store["basket"] = "lamp"
    store.save()
    before = list(storage.backend.get_all())
    storage.refuse_writes(True)
    store.cycle_key()
    with transaction.atomic(ALIAS):
        with pytest.raises(storage.errors), transaction.atomic(ALIAS):
            store.save()
        assert list(storage.backend.get_all()) == before
