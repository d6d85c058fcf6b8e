"""One way to speak to Redis from synchronous and from async code."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
import redis.asyncio.cluster
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.cluster
import redis.retry
import redis.sentinel
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError

from ..native_async import is_on_loop, wait_for
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
    """The clients of one set of options: one for all threads, and one for each event loop.

    Nothing connects before the first command. No script is sent twice: whether one that got no
    answer was carried out, only the next reading tells. (Pipelines on a cluster, of commands that
    may be repeated, redis-py sends again by itself.)
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options
        self._lock = threading.Lock()
        self._of_threads: Any = None
        self._loops: dict[asyncio.AbstractEventLoop, tuple[Any, AsyncGenerator[None, None]]] = {}

    @property
    def is_cluster(self) -> bool:
        return bool(self.options.get("cluster"))

    def run(self, operation: Callable[[Any], Any]) -> Any:
        """Return what an operation on the client gives; on an event loop, it is awaited."""
        if is_on_loop():
            return wait_for(self._run_on_loop(operation))
        with self._naming_closed_connections():
            return operation(self._client)

    def command(self, *args: Any) -> Any:
        """Return the answer to a command that names its key. One round trip."""
        if self._asks_directly:
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
        if self._asks_directly:
            return self._ask(commands)

        def execute(client: Any) -> Any:
            pipeline = client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return pipeline.execute()

        return list(self.run(execute))

    @property
    def _asks_directly(self) -> bool:
        return not self.is_cluster and not is_on_loop()

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

        A key may come twice, as SCAN has it. Blocks, also on an event loop.

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
            client, self._of_threads = self._of_threads, None
        if client is not None:
            for each in self._with_sentinels(client):
                each.close()

    # Clients

    @property
    def _client(self) -> Any:
        client = self._of_threads
        if client is None:
            with self._lock:
                if self._of_threads is None:
                    self._of_threads = self._make_client(redis)
                client = self._of_threads
        return client

    async def _run_on_loop(self, operation: Callable[[Any], Any]) -> Any:
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            client = self._make_client(redis.asyncio)
            closer = self._close_with(loop, client)
            self._loops[loop] = client, closer
            await anext(closer)
        client, _ = self._loops[loop]
        with self._naming_closed_connections():
            if self.is_cluster:
                # Of the first commands at once, redis-py would fail most.
                await client.initialize()
            return await operation(client)

    @contextmanager
    def _naming_closed_connections(self) -> Iterator[None]:
        try:
            yield
        except (AttributeError, TypeError, RuntimeError) as exc:
            if not self.is_cluster:
                raise
            # When a node goes away, redis-py closes connections to it that other threads or tasks
            # are using; Pythons and event loops differ in what they say then.
            raise redis.ConnectionError("The connection was closed while it was used.") from exc

    async def _close_with(
        self, loop: asyncio.AbstractEventLoop, client: Any
    ) -> AsyncGenerator[None, None]:
        # Whoever ends a loop properly closes its asynchronous generators: the one sign of that.
        try:
            yield
        finally:
            del self._loops[loop]
            for each in self._with_sentinels(client):
                await each.aclose()

    def _with_sentinels(self, client: Any) -> list[Any]:
        if "sentinels" not in self.options:
            return [client]
        return [client, *client.connection_pool.sentinel_manager.sentinels]

    def _make_client(self, kind: Any) -> Any:
        """Return a client.

        :param kind: the package ``redis`` or ``redis.asyncio``, which have the same names
        """
        arguments = self._arguments(kind)
        secure = is_secure(self.options)
        is_single = not self.is_cluster and "sentinels" not in self.options
        arguments = {"max_connections": MAX_CONNECTIONS if is_single else NO_LIMIT, **arguments}
        if self.is_cluster:
            nodes = [kind.cluster.ClusterNode(*node) for node in self._nodes]
            return kind.RedisCluster(startup_nodes=nodes, ssl=secure, **arguments)
        if "sentinels" in self.options:
            sentinels = kind.sentinel.Sentinel(
                self.options["sentinels"], sentinel_kwargs=self._sentinel_arguments(arguments)
            )
            name = self.options["service_name"]
            return sentinels.master_for(name, ssl=secure, **arguments)
        if secure:
            arguments["connection_class"] = kind.SSLConnection
        elif "path" in arguments:
            arguments["connection_class"] = kind.UnixDomainSocketConnection
        pool = LendingPool if kind is redis else kind.BlockingConnectionPool
        return kind.Redis.from_pool(pool(timeout=arguments["socket_connect_timeout"], **arguments))

    @property
    def _nodes(self) -> Sequence[Node]:
        named = parse_url(self.options["url"]) if "url" in self.options else self.options
        default = [(named.get("host", "localhost"), named.get("port", 6379))]
        nodes: Sequence[Node] = self.options.get("nodes", default)
        return nodes

    def _arguments(self, kind: Any) -> dict[str, Any]:
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
            "retry": kind.retry.Retry(NoBackoff(), 0),
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
