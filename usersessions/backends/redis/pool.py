"""The connections of one process to one Redis server, each lent to one thread at a time."""

from __future__ import annotations

import threading
from typing import Any

import redis


class LendingPool(redis.ConnectionPool):
    """Lends connections as redis-py's ``BlockingConnectionPool`` does, in a third of the time.

    That one has a queue in Python code, and counts each step for metrics. What is checked is the
    same: the connection belongs to this process, and nothing waits on it, neither its end nor an
    answer that came too late. Who finds none left waits for one.

    :param timeout: seconds to wait
    :raises redis.ConnectionError: there was none in that time; the server cannot be reached
    """

    def __init__(self, *, timeout: float, **arguments: Any) -> None:
        self._timeout = timeout
        super().__init__(**arguments)

    def reset(self) -> None:
        # Also after a fork, where another thread may have held the lock.
        self._returned = threading.Condition()
        self._waiting = 0
        super().reset()

    def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> Any:
        self._checkpid()
        try:
            connection: Any = self._available_connections.pop()
        except IndexError:
            connection = self._wait_for_one()
        self._in_use_connections.add(connection)
        try:
            if not connection.is_connected or _has_something_to_read(connection):
                connection.disconnect()
                connection.connect()
        except BaseException:
            connection.disconnect()
            self.release(connection)
            raise
        return connection

    def release(self, connection: Any) -> None:
        self._checkpid()
        if not self.owns_connection(connection):  # but the process that this one is a fork of
            connection.disconnect()
        elif connection in self._in_use_connections:  # else it is back already
            self._in_use_connections.remove(connection)
            self._available_connections.append(connection)
            if self._waiting:
                with self._returned:
                    self._returned.notify()

    def disconnect(self, inuse_connections: bool = True) -> None:
        self._checkpid()
        lent = [*self._in_use_connections] if inuse_connections else []
        # Copies: others borrow and return meanwhile.
        for connection in [*self._available_connections, *lent]:
            connection.disconnect()

    def _wait_for_one(self) -> Any:
        with self._returned:
            # Before looking: who returns one meanwhile must see that somebody waits.
            self._waiting += 1
            try:
                connection = self._returned.wait_for(self._take_or_make, self._timeout)
            finally:
                self._waiting -= 1
        if connection is None:
            raise redis.ConnectionError(f"No connection was free within {self._timeout} s.")
        return connection

    def _take_or_make(self) -> Any:
        try:
            return self._available_connections.pop()
        except IndexError:
            is_full = self._created_connections >= self.max_connections
            return None if is_full else self.make_connection()


def _has_something_to_read(connection: Any) -> bool:
    try:
        return bool(connection.can_read())
    except (redis.ConnectionError, redis.TimeoutError, OSError):
        return True
