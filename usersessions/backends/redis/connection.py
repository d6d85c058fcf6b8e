"""The client of one set of options."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import redis
import redis.cluster
import redis.retry
import redis.sentinel
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

from .options import Node, is_secure, parse_url
from .scripts import Script

#: Seconds that a command may take, and a connection, unless the options say otherwise.
TIMEOUT = 5

#: How many connections one process keeps to a single server at most by default; a thread
#: that finds none left waits for one. The clients for Sentinel and Cluster raise errors instead.
MAX_CONNECTIONS = 100
NO_LIMIT = 2**31

#: Options that redis-py's connections do not know.
_NOT_OF_CONNECTIONS = {
    *("url", "cluster", "nodes", "sentinels", "service_name", "ssl", "key_prefix"),
    *("sentinel_username", "sentinel_password"),
}


class RedisConnection:
    """redis-py's client for one set of options, for all threads.

    Nothing connects before the first command. No command is sent twice: one that got no answer may
    have been carried out. (On a cluster, redis-py repeats pipelines; ours may be repeated.)
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self.is_cluster = bool(options.get("cluster"))
        self._lock = threading.Lock()
        self._made: Any = None

    def command(self, *args: Any) -> Any:
        """Return the answer to a command that names its key. One round trip."""
        if self.is_cluster:
            return self.run(lambda client: client.execute_command(*args))
        return self._ask([args])[0]

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
        # By name, so that a node that comes or goes does not move the others.
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

    def run(self, operation: Callable[[Any], Any]) -> Any:
        """Return what an operation on the client of a cluster gives."""
        try:
            return operation(self._client)
        except (AttributeError, TypeError, RuntimeError) as exc:
            # When a node goes away, redis-py closes connections to it that other threads are
            # using; Pythons differ in what they say then.
            raise redis.ConnectionError("The connection was closed while it was used.") from exc

    def _ask(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send commands on a connection of the pool of a single server, and return the answers.

        Where anything interrupts that, the connection is closed: the next commands would take its
        answers for their own. redis-py's client would return it to the pool.
        """
        pool = self._client.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            answers = [_answer_on(connection) for _ in commands]
        except BaseException:
            connection.disconnect()
            raise
        finally:
            pool.release(connection)
        for answer in answers:
            if isinstance(answer, redis.ResponseError):
                raise answer
        return answers

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

    def close(self) -> None:
        with self._lock:
            client, self._made = self._made, None
        if client is None:
            return
        client.close()
        if "sentinels" in self.options:
            for sentinel in client.connection_pool.sentinel_manager.sentinels:
                sentinel.close()

    def _make_client(self) -> Any:
        if self.is_cluster:
            return self._make_cluster()
        if "sentinels" in self.options:
            return self._make_watched()
        arguments = {"max_connections": MAX_CONNECTIONS, **self._arguments}
        if is_secure(self.options):
            arguments["connection_class"] = redis.SSLConnection
        elif "path" in arguments:
            arguments["connection_class"] = redis.UnixDomainSocketConnection
        make_pool: Any = redis.BlockingConnectionPool
        pool = make_pool(timeout=arguments["socket_connect_timeout"], **arguments)
        return redis.Redis.from_pool(pool)

    def _make_cluster(self) -> Any:
        named = parse_url(self.options["url"]) if "url" in self.options else self.options
        default = [(named.get("host", "localhost"), named.get("port", 6379))]
        addresses: Sequence[Node] = self.options.get("nodes", default)
        node: Any = redis.cluster.ClusterNode
        arguments = {"max_connections": NO_LIMIT, **self._arguments}
        for name in ("host", "port", "db"):
            arguments.pop(name, None)
        nodes = [node(*address) for address in addresses]
        return redis.RedisCluster(startup_nodes=nodes, ssl=is_secure(self.options), **arguments)

    def _make_watched(self) -> Any:
        """Return the client of the server that sentinels watch."""
        sentinel: Any = redis.sentinel.Sentinel
        return sentinel(
            self.options["sentinels"], sentinel_kwargs=self._sentinel_arguments
        ).master_for(
            self.options["service_name"],
            ssl=is_secure(self.options),
            **{"max_connections": NO_LIMIT, **self._arguments},
        )

    @property
    def _arguments(self) -> dict[str, Any]:
        """The options in redis-py's words, without those that name no connection."""
        given = parse_url(self.options["url"]) if "url" in self.options else {}
        given |= {
            "db" if name == "database" else name: value
            for name, value in self.options.items()
            if name not in _NOT_OF_CONNECTIONS
        }
        return {
            "socket_timeout": TIMEOUT,
            "socket_connect_timeout": TIMEOUT,
            "retry": redis.retry.Retry(NoBackoff(), 0),
            # With RESP3, redis-py 8 takes what waits on a pooled connection, its end too, for
            # notifications of the server's, and goes on using it.
            "protocol": 2,
            **given,
        }

    @property
    def _sentinel_arguments(self) -> dict[str, Any]:
        """How to connect to the sentinels: as to the server, but with other credentials."""
        names = ("socket_timeout", "socket_connect_timeout", "retry")
        own = {
            name: value
            for name, value in self._arguments.items()
            if name in names or name.startswith("ssl_")
        }
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
