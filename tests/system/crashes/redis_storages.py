"""Redis and Redis Cluster behind sites whose processes are killed."""

from __future__ import annotations

from typing import Any

from tests.redis_servers import Storage, redis, wait_until
from tests.system.crashes.killing import Sender
from tests.system.crashes.storages import DatabaseStorage
from usersessions import SessionManager
from usersessions.backends.redis import scripts as redis_scripts

READING = [f"\r\n{name}\r\n".encode() for name in ("GET", "MGET", "SCAN", "TIME")]
# How redis-py greets a server, and asks a cluster where what is: it does so whenever it likes.
READING += [f"\r\n{name}\r\n".encode() for name in ("CLIENT", "CLUSTER", "COMMAND")]
READING.append(redis_scripts.LIST.sha.encode())


def _is_reading(connection: Any, commands: Any, *args: Any) -> bool:
    sent = commands if isinstance(commands, bytes) else b"".join(commands)
    return any(command in sent for command in READING)


class RedisStorage(DatabaseStorage):
    """A Redis; users and old sessions are in the database."""

    senders = [Sender(redis.connection.AbstractConnection, "send_packed_command", _is_reading)]

    is_apart = True

    def __init__(self, servers: Storage) -> None:
        self.servers = servers
        self.may_leave_both = servers.is_cluster
        # Else a server would refuse each script once, when it meets it first.
        for client in servers.clients:
            for script in vars(redis_scripts).values():
                if isinstance(script, redis_scripts.Script):
                    client.script_load(script.text)

    @property
    def _settings(self) -> dict[str, Any]:
        return {
            "BACKEND": "usersessions.RedisSessionBackend",
            "OPTIONS": self.servers.options,
        }

    def disconnect(self) -> None:
        # Redis-py opens connections of its own in a process that was forked.
        super().disconnect()
        self._known = self._connections()

    def settle(self) -> None:
        # A server does what it was sent before it sees that nobody waits for the answer.
        wait_until(lambda: self._connections() <= self._known, "the dead process is forgotten", 0)

    def _connections(self) -> set[tuple[int, str]]:
        return {
            (place, connection["id"])
            for place, client in enumerate(self.servers.clients)
            for connection in client.client_list(_type="normal")
        }

    def empty(self) -> None:
        super().empty()
        for client in self.servers.clients:
            client.flushall()

    def close(self) -> None:
        for name in ("FE", "BE"):
            backend: Any = SessionManager.get_session_backend(name)
            backend.close()

    def assert_listed(self, owned: dict[Any, set[str]]) -> None:
        super().assert_listed(owned)
        for user_id, ses_ids in self._lists().items():
            # On Cluster a line may be left that names no session, and ends as one would.
            is_right = set.__ge__ if self.servers.is_cluster else set.__eq__
            assert is_right(ses_ids, owned.get(user_id, set()))

    def _lists(self) -> dict[int, set[str]]:
        return {
            int(key.rpartition(b":")[2]): {ses_id.decode() for ses_id in client.zrange(key, 0, -1)}
            for client in self.servers.clients
            for key in client.scan_iter("usersessions:FE:user:*")
        }

    def assert_tidy(self) -> None:
        self.servers.assert_every_key_ends()
