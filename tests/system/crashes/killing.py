"""Killing a real process, as ``kill -9`` does, around something that it tells a storage."""

from __future__ import annotations

import gc
import os
import secrets
import signal
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest import mock

import pytest
from django.db import connections

#: Whether to kill before and after everything; else only before what changes something and at the
#: end, since nothing else leaves anything else behind.
EVERYWHERE = bool(os.environ.get("USERSESSIONS_CRASH_EVERYWHERE"))


class Sender(NamedTuple):
    """A function that sends something to a storage."""

    owner: Any  #: the object or class that has it
    name: str
    is_reading: Callable[..., bool]  #: says of its arguments whether they change nothing


class Moments:
    """Counts the moments at which a process may be killed: around whatever it tells a storage.

    :param last: the number of the moment at which it is killed; 0: it is not
    """

    def __init__(self, last: int = 0) -> None:
        self.last = last
        self.passed = 0

    @contextmanager
    def counted(self, senders: Iterable[Sender]) -> Iterator[None]:
        """Count what goes to the databases, and what these send."""
        with ExitStack() as stack:
            for connection in connections.all():
                stack.enter_context(connection.execute_wrapper(self._watch_statement))
                senders = [*senders, *_transactions(connection)]
            for owner, name, is_reading in senders:
                watched = self._watched(getattr(owner, name), is_reading)
                stack.enter_context(mock.patch.object(owner, name, watched))
            yield

    def _watch_statement(self, execute: Any, *args: Any) -> Any:
        return self._watched(execute, _is_query)(*args)

    def _watched(
        self, send: Callable[..., Any], is_reading: Callable[..., bool]
    ) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            if EVERYWHERE or not is_reading(*args):
                self._pass()
            answer = send(*args, **kwargs)
            if EVERYWHERE:  # pragma: no cover - not in every run
                self._pass()
            return answer

        return watched

    def _pass(self) -> None:
        self.passed += 1
        if self.passed == self.last:  # pragma: no cover - who is killed measures nothing
            os.kill(os.getpid(), signal.SIGKILL)


def _is_query(sql: str, *args: Any) -> bool:
    return sql.startswith("SELECT")


def _transactions(connection: Any) -> list[Sender]:
    """Return what tells a database of transactions without being a statement to Django."""
    names = ("_set_autocommit", "_commit", "_rollback")
    return [Sender(connection, name, lambda *args: False) for name in names]


class End(NamedTuple):
    """The end of a process."""

    was_killed: bool
    identifiers: list[str]  #: those that it made


def run_process(work: Callable[[], Any]) -> End:
    """Do some work in a process that is like this one, until it is done or kills itself.

    This process must not have connections to anything: the other one would use them, too.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # Python warns where other tests have left threads; the new process waits for none of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:  # pragma: no cover - who is killed measures nothing
        _work_and_exit(work, writing)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):  # pragma: no cover - it never should
        pytest.fail(told)
    was_killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    return End(was_killed, told.split())


def _work_and_exit(work: Callable[[], Any], writing: int) -> None:  # pragma: no cover - as above
    make = secrets.token_hex

    def make_and_tell(*args: Any) -> str:
        identifier = make(*args)
        os.write(writing, f"{identifier}\n".encode())  # before anybody can use it
        return identifier

    secrets.token_hex = make_and_tell
    gc.disable()  # it would touch, and so copy, all memory
    try:
        work()
    except BaseException:
        os.write(writing, traceback.format_exc().encode())
        os._exit(1)
    os._exit(0)
