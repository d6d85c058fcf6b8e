"""Crashes of processes that keep sessions in Redis, and old ones and users in the database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis_servers import RedisCluster, RedisServer, Storage
from tests.system.crashes.contract import CrashContract
from tests.system.crashes.redis_storages import RedisStorage

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.urls")]


class TestRedis(CrashContract):
    @pytest.fixture
    def storage(self, redis_server: RedisServer) -> Iterator[RedisStorage]:
        servers = Storage([redis_server], {"url": redis_server.url})
        yield RedisStorage(servers)
        servers.close()


class TestRedisCluster(CrashContract):
    @pytest.fixture
    def storage(self, redis_cluster: RedisCluster) -> Iterator[RedisStorage]:
        servers = Storage(redis_cluster.nodes, {"cluster": True, "nodes": redis_cluster.addresses})
        yield RedisStorage(servers)
        servers.close()
