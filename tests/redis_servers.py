"""Redis servers of the tests' own: single ones, a cluster of three, one watched by a sentinel."""

from __future__ import annotations

import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

from tests import processes
from tests.missing import report_missing
from tests.processes import PATIENCE, free_port, pause
from usersessions.backends.session_manager import SessionManager

try:
    import redis
except ImportError:
    report_missing("These tests need redis-py: install the extra [redis].")
else:
    from usersessions import RedisSessionBackend
    from usersessions.backends.redis import scripts
    from usersessions.backends.redis.connection import RedisConnection
    from usersessions.backends.redis.options import OPTIONS

__all__ = [  # what the tests take from here, so that they are skipped without it
    "OPTIONS",
    "RedisCluster",
    "RedisConnection",
    "RedisServer",
    "RedisSessionBackend",
    "Storage",
    "WatchedServers",
    "free_port",
    "redis",
    "scripts",
    "wait_until",
]

SERVER = shutil.which("redis-server") or shutil.which("valkey-server")

#: Wait for what a server is about to do, also while it does not answer.
wait_until = partial(processes.wait_until, ignoring=redis.RedisError)


class RedisServer:
    """A process of its own in a directory of its own, with every acknowledged write on the disk.

    :param arguments: more of the server's options
    :param settings: a file with yet more
    :param credentials: what ``redis.Redis`` needs besides the port
    """

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        settings: Path | None = None,
        **credentials: Any,
    ) -> None:
        if SERVER is None:
            report_missing("These tests need redis-server, Debian's package redis-server.")
        self.port = free_port()
        self.directory = directory / str(self.port)
        self.directory.mkdir(exist_ok=True)
        self._command = [
            *(SERVER, *map(str, [settings] if settings else [])),
            *("--bind", "127.0.0.1", "--port", str(self.port), "--save", ""),
            *("--dir", str(self.directory), "--appendonly", "yes", "--appendfsync", "always"),
            *arguments,
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.client = redis.Redis(host="127.0.0.1", port=self.port, **credentials)
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                self._command, stdout=log, stderr=log
            )
        wait_until(self.client.ping, f"the Redis at port {self.port} answers")

    def kill(self) -> None:
        """As the machine it runs on would, were it switched off."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        self.kill()
        self.start()

    def empty(self) -> None:
        self.client.flushall()

    def pause(self) -> None:
        """Have it hang: it takes connections and commands, and answers none."""
        assert self._process is not None
        pause(self._process.pid)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def recover(self) -> None:
        """Run again, whatever was done to it."""
        self.resume()
        assert self._process is not None
        if self._process.poll() is not None:
            self.start()

    def close(self) -> None:
        self.kill()
        self.client.close()


class RedisCluster:
    """Three servers, each with a third of the slots and none with a replica."""

    def __init__(self, directory: Path) -> None:
        self.nodes = [
            RedisServer(
                directory,
                *("--cluster-enabled", "yes", "--cluster-node-timeout", "5000"),
                *("--cluster-port", str(free_port())),
            )
            for _ in range(3)
        ]
        slots = [(0, 5460), (5461, 10922), (10923, 16383)]
        for node, (first, last) in zip(self.nodes, slots, strict=True):
            node.client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
        for node in self.nodes[1:]:
            bus = node.client.config_get("cluster-port")["cluster-port"]
            self.nodes[0].client.execute_command("CLUSTER MEET", "127.0.0.1", node.port, bus)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        for node in self.nodes:
            wait_until(lambda node=node: self._is_ready(node), "the cluster is complete")

    @staticmethod
    def _is_ready(node: RedisServer) -> bool:
        info = node.client.execute_command("CLUSTER INFO")
        return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3"

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()

    def empty(self) -> None:
        for node in self.nodes:
            node.empty()

    def pause(self) -> None:
        for node in self.nodes:
            node.pause()

    def resume(self) -> None:
        for node in self.nodes:
            node.resume()

    def restart(self) -> None:
        self.kill()
        self.recover()

    def recover(self) -> None:
        for node in self.nodes:
            node.recover()
        self.wait_until_ready()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", node.port) for node in self.nodes]

    def close(self) -> None:
        for node in self.nodes:
            node.close()


class WatchedServers:
    """A server and its replica, and the sentinel that makes the replica the primary if need be."""

    name = "sessions"

    def __init__(self, directory: Path) -> None:
        self.primary = RedisServer(directory)
        self.replica = RedisServer(
            directory,
            "--replicaof",
            f"127.0.0.1 {self.primary.port}",
            "--repl-diskless-sync-delay",
            "0",
        )
        settings = directory / "sentinel.conf"
        settings.write_text(
            f"sentinel monitor {self.name} 127.0.0.1 {self.primary.port} 1\n"
            f"sentinel failover-timeout {self.name} 2000\n"
        )
        self.sentinel = RedisServer(directory, "--sentinel", settings=settings)
        self._sentinels = redis.sentinel.Sentinel([("127.0.0.1", self.sentinel.port)])
        wait_until(self._is_watched, "the sentinel knows the replica")

    def _is_watched(self) -> bool:
        watched = self.sentinel.client.info("sentinel")["master0"]
        link = self.replica.client.info("replication")["master_link_status"]
        return bool(watched["slaves"] == 1 and link == "up")

    def fail_over(self) -> None:
        """Kill the primary, and wait until the replica has taken its place."""
        self._set_patience(300)
        self.primary.kill()
        wait_until(self._is_promoted, "the sentinel has promoted the replica")
        # On a busy machine it would soon think that the replica is gone, too.
        self._set_patience(PATIENCE * 1000)

    def _set_patience(self, milliseconds: int) -> None:
        self.sentinel.client.sentinel_set(self.name, "down-after-milliseconds", milliseconds)

    def _is_promoted(self) -> bool:
        _, port = self._sentinels.discover_master(self.name)
        return bool(port == self.replica.port)

    def close(self) -> None:
        for client in self._sentinels.sentinels:
            client.close()
        for server in (self.sentinel, self.replica, self.primary):
            server.close()


class Storage:
    """The servers behind a backend, as their administrator sees them."""

    def __init__(self, servers: list[RedisServer], options: dict[str, Any]) -> None:
        self.clients = [server.client for server in servers]
        self.options = options
        self._backends: list[Any] = []

    @property
    def is_cluster(self) -> bool:
        return len(self.clients) > 1

    def connect(self) -> RedisSessionBackend:
        """Return a backend with connections of its own, as another process has them."""
        backend = RedisSessionBackend("FE", self.options)
        self._backends.append(backend)
        return backend

    def keys(self, pattern: str = "*") -> list[str]:
        return [key.decode() for client in self.clients for key in client.scan_iter(pattern)]

    def client_of(self, key: str) -> Any:
        [client] = [client for client in self.clients if key.encode() in client.scan_iter()]
        return client

    def ttl(self, key: str) -> int:
        return int(self.client_of(key).ttl(key))

    def listed(self, user_id: Any) -> set[str]:
        key = f"usersessions:FE:user:{user_id}"
        if key not in self.keys():
            return set()
        return {ses_id.decode() for ses_id in self.client_of(key).zrange(key, 0, -1)}

    def value(self, key: str) -> bytes:
        return bytes(self.client_of(key).get(key))

    def overwrite(self, key: str, value: bytes) -> None:
        self.client_of(key).set(key, value, keepttl=True)

    def assert_every_key_ends(self) -> None:
        for client in self.clients:
            for key in client.scan_iter():
                assert client.ttl(key) >= 0, f"{key!r} would stay forever"

    def close(self) -> None:
        for backend in self._backends:
            backend.close()
        for client in self.clients:
            client.flushall()

    def use(self, settings: Any, *login_types: str, **more: Any) -> Any:
        """Have the site keep sessions of these types here, FE's unless told; return the first."""
        here = {"BACKEND": "usersessions.RedisSessionBackend", "OPTIONS": self.options, **more}
        names = login_types or ("FE",)
        settings.USERSESSIONS = {**settings.USERSESSIONS, **dict.fromkeys(names, here)}
        backends = [SessionManager.get_session_backend(name) for name in names]
        self._backends += backends
        return backends[0]
