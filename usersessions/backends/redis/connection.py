"""The client of one set of options."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import redis
import redis.cluster
import redis.retry
import redis.sentinel
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

from .options import Node, is_secure, parse_url
from .pool import LendingPool
from .scripts import Script

#: Seconds that a command may take, and a connection, unless the options say otherwise.
TIMEOUT = 5

#: How many connections one process keeps to a single server at the most, unless told; who finds
#: none left waits for one. The clients for Sentinel and Cluster raise errors instead.
MAX_CONNECTIONS = 100
NO_LIMIT = 2**31

#: Options that redis-py's connections do not know.
_NOT_OF_CONNECTIONS = {
    *("url", "cluster", "nodes", "sentinels", "service_name", "ssl", "key_prefix"),
    *("sentinel_username", "sentinel_password"),
}


class RedisConnection:
    """The client of one set of options, for all threads.

    Nothing connects before the first command. No script is sent twice: whether one that got no
    answer was carried out, only the next reading tells. (Pipelines on a cluster, of commands that
    may be repeated, redis-py sends again by itself.)
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self._lock = threading.Lock()
        self._made: Any = None

    @property
    def is_cluster(self) -> bool:
        return bool(self.options.get("cluster"))

    def run(self, operation: Callable[[Any], Any]) -> Any:
        """Return what an operation on the client gives."""
        with self._naming_closed_connections():
            return operation(self._client)

    def command(self, *args: Any) -> Any:
        """Return the answer to a command that names its key. One round trip."""
        if not self.is_cluster:
            return self._ask([args])[0]
        return self.run(lambda client: client.execute_command(*args))

    def get(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return what is stored under keys. One round trip; on Cluster, one to each node."""
        if len(keys) == 1:
            return [self.command("GET", keys[0])]
        if self.is_cluster or not keys:
            return self.pipeline([("GET", key) for key in keys])
        return list(self.command("MGET", *keys))

    def pipeline(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return the answers to commands that go out together."""
        if not commands:
            return []
        if not self.is_cluster:
            return self._ask(commands)

        def execute(client: Any) -> Any:
            pipeline = client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return pipeline.execute()

        return list(self.run(execute))

    def _ask(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands on a connection of the client's, and return the answers.

        What the client does besides, for retries and metrics, takes a quarter of the time. A
        connection whose answers have not come is closed, or the next commands would take them for
        their own.
        """
        client = self._client  # one that is let go of would close its connections
        connection = client.connection_pool.get_connection()
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            answers = [_answer_on(connection) for _ in commands]
        except BaseException:
            connection.disconnect()
            raise
        finally:
            client.connection_pool.release(connection)
        for answer in answers:
            if isinstance(answer, redis.ResponseError):
                raise answer
        return answers

    def script(self, script: Script, keys: Sequence[str], args: Sequence[Any]) -> Any:
        """Return what a script answers. One round trip, two on a server that does not know it."""
        try:
            return self.command("EVALSHA", script.sha, len(keys), *keys, *args)
        except NoScriptError:
            return self.command("EVAL", script.text, len(keys), *keys, *args)

    def scan(self, pattern: str, count: int, start: str = "") -> Iterator[tuple[list[str], str]]:
        """Yield keys, about ``count`` at a time, each time with where to go on; "" at the end.

        A key may come twice, as SCAN has it.

        :param start: where to go on; "": at the beginning, as whatever is no such place
        """
        place = re.fullmatch(r"([0-9]{1,19})@(.*)", start)
        cursor, first = (int(place[1]), place[2]) if place else (0, "")
        # By name, so that a node that comes or goes meanwhile does not move the others.
        servers = sorted(item for item in self._servers.items() if item[0] >= first)
        names = [name for name, _ in servers]
        for (name, client), following in zip(servers, [*names, None][1:], strict=True):
            cursor = cursor if name == first else 0
            while True:
                cursor, keys = client.scan(cursor=cursor, match=pattern, count=count)
                where = f"{cursor}@{name}" if cursor else f"0@{following}" if following else ""
                yield [key.decode() for key in keys], where
                if not cursor:
                    break

    def flush(self) -> None:
        """Empty the database, whatever is in it."""
        for client in self._servers.values():
            client.flushdb()

    def server_time(self) -> int:
        """Return Unix seconds by the server's clock; of a cluster, by the clock that is behind."""
        return min(int(client.time()[0]) for client in self._servers.values())

    @property
    def _servers(self) -> dict[str, Any]:
        """The clients of the servers that hold the keys, by name."""
        if not self.is_cluster:
            return {"": self._client}
        nodes = self._client.get_primaries()
        return {node.name: self._client.get_redis_connection(node) for node in nodes}

    def close(self) -> None:
        with self._lock:
            client, self._made = self._made, None
        if client is None:
            return
        client.close()
        if "sentinels" in self.options:
            for sentinel in client.connection_pool.sentinel_manager.sentinels:
                sentinel.close()

    # The client

    @property
    def _client(self) -> Any:
        client = self._made
        if client is None:
            with self._lock:
                if self._made is None:
                    self._made = self._make_client()
                client = self._made
        return client

    @contextmanager
    def _naming_closed_connections(self) -> Iterator[None]:
        try:
            yield
        except (AttributeError, TypeError, RuntimeError) as exc:
            if not self.is_cluster:
                raise
            # When a node goes away, redis-py closes connections to it that other threads are
            # using; Pythons differ in what they say then.
            raise redis.ConnectionError("The connection was closed while it was used.") from exc

    def _make_client(self) -> Any:
        arguments = self._arguments
        secure = is_secure(self.options)
        is_single = not self.is_cluster and "sentinels" not in self.options
        arguments = {"max_connections": MAX_CONNECTIONS if is_single else NO_LIMIT, **arguments}
        if self.is_cluster:
            nodes = [
                redis.cluster.ClusterNode(*node)  # type: ignore[no-untyped-call]
                for node in self._nodes
            ]
            return redis.RedisCluster(startup_nodes=nodes, ssl=secure, **arguments)
        if "sentinels" in self.options:
            sentinels = redis.sentinel.Sentinel(  # type: ignore[no-untyped-call]
                self.options["sentinels"], sentinel_kwargs=self._sentinel_arguments(arguments)
            )
            name = self.options["service_name"]
            return sentinels.master_for(  # type: ignore[no-untyped-call]
                name, ssl=secure, **arguments
            )
        if secure:
            arguments["connection_class"] = redis.SSLConnection
        elif "path" in arguments:
            arguments["connection_class"] = redis.UnixDomainSocketConnection
        pool = LendingPool(timeout=arguments["socket_connect_timeout"], **arguments)
        return redis.Redis.from_pool(pool)

    @property
    def _nodes(self) -> Sequence[Node]:
        named = parse_url(self.options["url"]) if "url" in self.options else self.options
        default = [(named.get("host", "localhost"), named.get("port", 6379))]
        nodes: Sequence[Node] = self.options.get("nodes", default)
        return nodes

    @property
    def _arguments(self) -> dict[str, Any]:
        """Return the options in redis-py's words, without those that name no connection."""
        given = parse_url(self.options["url"]) if "url" in self.options else {}
        given |= {
            "db" if name == "database" else name: value
            for name, value in self.options.items()
            if name not in _NOT_OF_CONNECTIONS
        }
        if self.is_cluster:
            for name in ("host", "port", "db"):
                given.pop(name, None)
        return {
            "socket_timeout": TIMEOUT,
            "socket_connect_timeout": TIMEOUT,
            "retry": redis.retry.Retry(NoBackoff(), 0),
            # With RESP3, redis-py 8 takes what waits on a pooled connection, its end too, for
            # notifications of the server's, and goes on using it.
            "protocol": 2,
            **given,
        }

    def _sentinel_arguments(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return how to connect to the sentinels: as to the server, but for who asks."""
        names = ("socket_timeout", "socket_connect_timeout", "retry")
        own = {name: arguments[name] for name in names}
        own |= {name: value for name, value in arguments.items() if name.startswith("ssl_")}
        for name in ("username", "password"):
            if f"sentinel_{name}" in self.options:
                own[name] = self.options[f"sentinel_{name}"]
        return {**own, "ssl": is_secure(self.options)}


def _answer_on(connection: Any) -> Any:
    try:
        # Not the default behind sentinels, where redis-py's client does it.
        return connection.read_response(disconnect_on_error=True)
    except redis.ResponseError as exc:
        return exc  # the answers to the commands behind it are still to be read
