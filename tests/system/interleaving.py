"""Workers that take turns, statement by statement, in an order that a number decides."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

from django.db import connection

from tests import turns
from tests.redis_servers import RedisConnection
from usersessions import CachedDatabaseSessionBackend
from usersessions.backends import transactions


class Schedule:
    """Lets one of several workers go on at a time, until its next statement on a storage.

    On one connection: each statement is a transaction of its own, and what is in a longer one is
    done in one go, as the locks of that transaction have it.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        #: Which worker went on, each time.
        self.turns: list[int] = []

    def run(self, workers: Sequence[Callable[[], None]]) -> None:
        """Run workers to their ends; an exception of one of them is raised at once."""
        turns.run(workers, self._choose)

    def _choose(self, running: list[int]) -> int:
        number = self._chance.choice(running)
        self.turns.append(number)
        return number

    @staticmethod
    def stop() -> None:
        """Give the turn back, where a worker is about to ask a storage for something."""
        if not connection.in_atomic_block:
            turns.stop()

    @contextmanager
    def stopping_at_statements(self, monkeypatch: Any) -> Iterator[None]:
        """Have workers stop before each statement, command or wait that sessions cost."""

        def execute(execute: Any, sql: str, *args: Any) -> Any:
            if "fe_sessions" in sql:
                self.stop()
            return execute(sql, *args)

        def stopping(function: Any) -> Any:
            def stop_and_call(*args: Any, **more: Any) -> Any:
                self.stop()
                return function(*args, **more)

            return stop_and_call

        clock = SimpleNamespace(sleep=lambda seconds: self.stop())
        with ExitStack() as stack:
            patch = stack.enter_context(monkeypatch.context())
            patch.setattr(transactions, "time", clock)
            patch.setattr(
                CachedDatabaseSessionBackend, "_try", stopping(CachedDatabaseSessionBackend._try)
            )
            for name in ("command", "pipeline"):
                patch.setattr(RedisConnection, name, stopping(getattr(RedisConnection, name)))
            stack.enter_context(connection.execute_wrapper(execute))
            yield
