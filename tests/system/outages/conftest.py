"""Servers for all tests of outages, and storages on them."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from tests.database_servers import MariaDBServer, PostgresServer
from tests.redis_servers import RedisServer
from tests.system.outages.browser import Browser
from tests.system.outages.storages import ClusterStorage, DatabaseStorage, RedisStorage, Storage


def pytest_runtest_logfinish(nodeid: str) -> None:
    """Drop what redis-py leaves of a cluster's nodes in an outage: it does not close them."""
    if "cluster" in nodeid:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    # A replica that comes need not wait for others.
    server = RedisServer(tmp_path_factory.mktemp("redis"), "--repl-diskless-sync-delay", "0")
    yield server
    server.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDBServer]:
    server = MariaDBServer()
    yield server
    server.close()


def make_storage(name: str, request: pytest.FixtureRequest) -> Storage:
    find = request.getfixturevalue
    if name == "redis":
        return RedisStorage(find("redis_server"))
    if name == "cluster":
        return ClusterStorage(find("redis_cluster"))
    if name == "pool":
        return DatabaseStorage(
            find("postgres"),
            OPTIONS={"pool": {"min_size": 1, "max_size": 2, "timeout": 5}},
            CONN_HEALTH_CHECKS=True,
        )
    if name == "postgresql":
        patience = {"options": "-c statement_timeout=2000"}
        return DatabaseStorage(find("postgres"), CONN_MAX_AGE=None, OPTIONS=patience)
    return DatabaseStorage(find("mariadb"), CONN_MAX_AGE=None, OPTIONS={"read_timeout": 2})


@pytest.fixture(params=["redis", "cluster", "postgresql", "mariadb"])
def storage(request: pytest.FixtureRequest, db: None, settings: Any) -> Iterator[Storage]:
    storage = make_storage(request.param, request)
    with storage.in_use(settings):
        yield storage


@pytest.fixture(params=[False, True], ids=["wsgi", "asgi"])
def browser(request: pytest.FixtureRequest) -> Browser:
    return Browser(is_async=request.param)
