"""Threads that take turns: one goes on at a time, until it gives its turn back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from django.db import connections

from tests.processes import PATIENCE

_local = threading.local()


class Abandoned(BaseException):
    """Raised in a worker that is to end where it stands."""


class Worker:
    """A thread that goes on only while it is its turn, on the database connections of its maker."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._connections = connections.all()
        self._turn, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._error: BaseException | None = None
        self._is_abandoned = False
        self.has_ended = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def go_on(self) -> None:
        """Give it the turn until it stops or ends; raise what it has raised."""
        self._turn.release()
        assert self._back.acquire(timeout=PATIENCE)
        if self.has_ended:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def abandon(self) -> None:
        """End it where it stands."""
        self._is_abandoned = True
        with suppress(Abandoned):
            self.go_on()

    def stop(self) -> None:
        """Give the turn back, and wait for the next one."""
        self._back.release()
        self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        self._turn.acquire()
        if self._is_abandoned:
            raise Abandoned

    def _run(self) -> None:
        _local.worker = self
        for connection in self._connections:
            connections[connection.alias] = connection
        try:
            self._wait_for_turn()
            self._work()
        except BaseException as exc:
            self._error = exc
        finally:
            self.has_ended = True
            self._back.release()


def stop() -> None:
    """Give the turn back, if the caller is a worker."""
    worker: Worker | None = getattr(_local, "worker", None)
    if worker is not None:
        worker.stop()


def run(works: Sequence[Callable[[], None]], choose: Callable[[list[int]], int]) -> None:
    """Run all to their ends, a turn at a time; raise at once what one of them raises.

    :param choose: takes the numbers of those that have not ended; returns whose turn it is
    """
    shared = connections.all()
    for connection in shared:
        connection.inc_thread_sharing()
    workers = dict(enumerate(map(Worker, works)))
    try:
        while workers:
            number = choose(list(workers))
            workers[number].go_on()
            if workers[number].has_ended:
                del workers[number]
    finally:
        for left in workers.values():
            if not left.has_ended:
                left.abandon()
        for connection in shared:
            connection.dec_thread_sharing()
