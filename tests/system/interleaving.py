"""Workers that take turns, statement by statement, in an order that a number decides."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connection

from tests.redis_servers import RedisConnection, greenlet
from usersessions import CachedDatabaseSessionBackend
from usersessions.backends import base

Worker = Callable[[], None]


class Schedule:
    """Lets one of several workers go on at a time, until its next statement on a storage.

    On one connection: each statement is a transaction of its own, and what is in a longer one is
    done in one go, as the locks of that transaction have it.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._scheduler = greenlet.getcurrent()
        #: Which worker went on, each time.
        self.turns: list[int] = []

    def run(self, workers: Sequence[Worker]) -> None:
        """Run workers to their ends; an exception of one of them is raised at once."""
        running = {number: greenlet.greenlet(work) for number, work in enumerate(workers)}
        try:
            while running:
                number = self._chance.choice(list(running))
                self.turns.append(number)
                running[number].switch()
                if running[number].dead:
                    # Coverage loses its trace where a greenlet ends.
                    del running[number]  # pragma: no cover
        finally:
            for left in running.values():
                left.throw()  # pragma: no cover

    def stop(self) -> None:
        """Give the turn back, where a worker is about to ask a storage for something."""
        if greenlet.getcurrent() is not self._scheduler and not connection.in_atomic_block:
            self._scheduler.switch()

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

        with ExitStack() as stack:
            patch = stack.enter_context(monkeypatch.context())
            patch.setattr(base, "pause", lambda seconds: self.stop())
            patch.setattr(
                CachedDatabaseSessionBackend, "_try", stopping(CachedDatabaseSessionBackend._try)
            )
            patch.setattr(RedisConnection, "run", stopping(RedisConnection.run))
            stack.enter_context(connection.execute_wrapper(execute))
            yield
