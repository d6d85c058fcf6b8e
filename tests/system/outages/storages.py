"""Storages that a test may break."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from django.db import connections
from django.db.utils import InterfaceError, OperationalError
from redis.exceptions import RedisClusterException

from tests.database_servers import DatabaseServer
from tests.redis_servers import RedisCluster, RedisServer, wait_until
from tests.system.outages.proxies import Proxy
from usersessions import SessionBackend, SessionManager
from usersessions.backends.redis.scripts import DELETE, DELETE_AS_READ, UPDATE, Script
from usersessions.models import FrontendSession

ALIAS = "sessions"
PASSWORD = "pass-of-the-site"


class Storage:
    """Where the sessions of FE are; whose users are in the database that all tests have."""

    #: What a request raises while the server is away.
    errors: tuple[type[Exception], ...]
    #: ``USERSESSIONS["FE"]``
    login_type: dict[str, Any]
    #: What a request to the server has in it that reads, changes, renews or ends a session.
    reads: tuple[bytes, ...]
    changes: tuple[bytes, ...]
    renews: tuple[bytes, ...]
    ends: tuple[bytes, ...]

    def __init__(self, server: Any) -> None:
        self.server = server
        #: What the site connects to instead of the server, where a test put something between.
        self.proxies: Sequence[Proxy] = ()

    @contextmanager
    def losing_answer_to(self, words: Sequence[bytes]) -> Iterator[None]:
        """Lose the answer to the first request that has one of the words, and the connection."""
        armed = [words]
        for proxy in self.proxies:
            proxy.losing = armed
        yield
        assert not armed, "No such request came."

    @property
    def backend(self) -> SessionBackend:
        return SessionManager.get_session_backend("FE")

    @contextmanager
    def in_use(self, settings: Any) -> Iterator[None]:
        settings.USERSESSIONS = {**settings.USERSESSIONS, "FE": self.login_type}
        yield
        self.server.recover()


def words_of(*scripts: Script) -> tuple[bytes, ...]:
    return tuple(word for script in scripts for word in (script.sha.encode(), script.text.encode()))


class RedisStorage(Storage):
    errors = (redis.ConnectionError, redis.TimeoutError)
    reads = (b"GET\r\n",)
    changes = renews = words_of(UPDATE)
    ends = words_of(DELETE)

    def __init__(self, server: RedisServer, port: int | None = None) -> None:
        super().__init__(server)
        url = f"redis://default:{PASSWORD}@127.0.0.1:{port or server.port}/0"
        self.login_type = self._settings(url=url)

    @staticmethod
    def _settings(**options: Any) -> dict[str, Any]:
        return {
            "BACKEND": "usersessions.backends.redis.RedisSessionBackend",
            "OPTIONS": {"socket_timeout": 2, "socket_connect_timeout": 2, **options},
        }

    @contextmanager
    def in_use(self, settings: Any) -> Iterator[None]:
        with super().in_use(settings):
            backend: Any = self.backend
            yield
        backend.close()
        self.server.empty()


class ClusterStorage(RedisStorage):
    errors = (redis.ConnectionError, redis.TimeoutError, RedisClusterException)
    renews = words_of(DELETE_AS_READ)  # the last step
    ends = words_of(DELETE)

    def __init__(self, server: RedisCluster, proxies: list[Proxy] | None = None) -> None:
        Storage.__init__(self, server)
        nodes = [("127.0.0.1", each.port) for each in proxies or server.nodes]
        self.login_type = self._settings(cluster=True, nodes=nodes)


class DatabaseStorage(Storage):
    errors = (OperationalError, InterfaceError)
    login_type = {"OPTIONS": {"model": "django_usersessions.FrontendSession", "using": ALIAS}}
    reads, changes, ends = (b"SELECT",), (b"UPDATE",), (b"DELETE",)
    renews = changes

    def __init__(self, server: DatabaseServer, port: int | None = None, **settings: Any) -> None:
        super().__init__(server)
        self.settings = {**server.settings, "PORT": str(port or server.port), **settings}

    @contextmanager
    def in_use(self, settings: Any) -> Iterator[None]:
        with database(self.settings) as connection:
            if FrontendSession._meta.db_table not in connection.introspection.table_names():
                with connection.schema_editor() as editor:
                    editor.create_model(FrontendSession)
            with super().in_use(settings):
                yield
            connection.close()
            FrontendSession.objects.using(ALIAS).delete()


@contextmanager
def database(settings: dict[str, Any]) -> Iterator[Any]:
    """Have one more database, which the test runner has not made and does not know."""
    configured = connections.configure_settings({"default": {}, ALIAS: settings})
    connections.settings[ALIAS] = configured[ALIAS]
    connection = connections[ALIAS]

    def ensure_connection() -> None:
        if connection.connection is None:
            with connection.wrap_database_errors:
                connection.connect()

    connection.ensure_connection = ensure_connection
    try:
        yield connection
    finally:
        connection.close()
        if settings.get("OPTIONS", {}).get("pool"):
            connection.close_pool()
        del connections[ALIAS], connections.settings[ALIAS]


def drop_spent_connection() -> None:
    """Do what Django does before and after each request, but with the test client."""
    if ALIAS in connections:
        connections[ALIAS].close_if_unusable_or_obsolete()


@contextmanager
def proxies_before(cluster: RedisCluster) -> Iterator[list[Proxy]]:
    """Have the nodes of a cluster give proxies as their addresses."""
    proxies = [Proxy(node.port) for node in cluster.nodes]
    _announce(cluster, [proxy.port for proxy in proxies])
    yield proxies
    _announce(cluster, [0, 0, 0])
    for proxy in proxies:
        proxy.close()


def _announce(cluster: RedisCluster, ports: list[int]) -> None:
    for node, port in zip(cluster.nodes, ports, strict=True):
        node.client.config_set("cluster-announce-port", port)
    expected = {port or node.port for node, port in zip(cluster.nodes, ports, strict=True)}
    for node in cluster.nodes:
        wait_until(lambda node=node: _known_ports(node) == expected, "the nodes know the ports")


def _known_ports(node: RedisServer) -> set[int]:
    return {found[2][1] for found in node.client.execute_command("CLUSTER SLOTS")}
