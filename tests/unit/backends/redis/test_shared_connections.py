"""Who may use which connection to Redis, and when."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest

from tests.redis_servers import RedisConnection, RedisServer, free_port, redis, wait_until

ROOT = Path(__file__).parents[4]

#: Forks with a connection that is in use and one that has been; the child, and then the parent,
#: print the numbers of both and of the one that they use next.
FORKING_PROCESS = """\
import os, sys
from usersessions.backends.redis.connection import RedisConnection

shared = RedisConnection({"url": sys.argv[1]})
pool = shared._client.connection_pool
in_use = pool.get_connection()
in_use.send_command("CLIENT", "ID")
before = [in_use.read_response(), shared.command("CLIENT", "ID")]
child = os.fork()
if child:
    os.waitpid(child, 0)
print(*before, shared.command("CLIENT", "ID"), flush=True)
if not child:
    os._exit(0)
in_use.send_command("PING")
print(in_use.read_response().decode())
"""


@pytest.fixture
def make(redis_server: RedisServer) -> Iterator[Any]:
    made = []

    def make(**options: Any) -> RedisConnection:
        made.append(RedisConnection({"url": redis_server.url, **options}))
        return made[-1]

    yield make
    for connection in made:
        connection.close()


def pool_of(connection: RedisConnection) -> Any:
    return connection._client.connection_pool


def test_one_connection_serves_one_command_after_the_other(make: Any) -> None:
    connection = make()
    assert len({connection.command("CLIENT", "ID") for _ in range(3)}) == 1


def test_two_threads_have_a_connection_each(make: Any) -> None:
    connection = make(max_connections=2)
    both = Barrier(2)

    def use_one() -> int:
        lent = pool_of(connection).get_connection()
        both.wait(30)
        lent.send_command("CLIENT", "ID")
        found = int(lent.read_response())
        pool_of(connection).release(lent)
        return found

    with ThreadPoolExecutor(2) as threads:
        first, second = (threads.submit(use_one) for _ in range(2))
    assert first.result() != second.result()


def test_who_finds_none_left_gets_the_first_that_comes_back(make: Any) -> None:
    connection = make(max_connections=1, socket_connect_timeout=60)
    pool = pool_of(connection)
    lent = pool.get_connection()
    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(connection.command, "PING") for _ in range(3)]
        pool.release(lent)
        assert [each.result(20) for each in waiting] == [b"PONG"] * 3


def test_waiting_for_one_ends(make: Any) -> None:
    connection = make(max_connections=1, socket_connect_timeout=0.5)
    lent = pool_of(connection).get_connection()
    with pytest.raises(redis.ConnectionError, match="No connection available"):
        connection.command("PING")
    pool_of(connection).release(lent)
    assert connection.command("PING") == b"PONG"


def test_one_that_cannot_connect_is_not_lost() -> None:
    connection = RedisConnection({"port": free_port(), "max_connections": 1})
    for _ in range(3):
        with pytest.raises(redis.ConnectionError, match="refused"):
            connection.command("PING")


def test_one_that_the_server_has_closed_is_opened_again(
    make: Any, redis_server: RedisServer
) -> None:
    connection = make()
    closed = connection.command("CLIENT", "ID")
    assert redis_server.client.client_kill_filter(_id=str(closed)) == 1
    assert connection.command("CLIENT", "ID") != closed


def test_answer_that_nobody_has_read_is_not_the_next_ones(make: Any) -> None:
    """What was asked for one visitor must not be read as the answer to another one's question."""
    connection = make()
    lent = pool_of(connection).get_connection()
    lent.send_command("ECHO", "theirs")
    wait_until(lent.can_read, "the answer is there")
    pool_of(connection).release(lent)
    assert connection.command("ECHO", "mine") == b"mine"


def test_error_leaves_the_answers_behind_it_to_nobody(make: Any) -> None:
    connection = make()
    asked = connection.command("CLIENT", "ID")
    with pytest.raises(redis.ResponseError, match="wrong number of arguments"):
        connection.pipeline([("GET", "a"), ("GET",), ("ECHO", "theirs")])
    assert connection.pipeline([("CLIENT", "ID"), ("ECHO", "mine")]) == [asked, b"mine"]


def test_child_of_a_fork_has_connections_of_its_own(redis_server: RedisServer) -> None:
    """As under gunicorn with ``preload_app``: two processes on one connection read each other's."""
    answer = subprocess.run(  # noqa: S603 - our own text
        [sys.executable, "-c", FORKING_PROCESS, redis_server.url],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    child, parent, in_use = answer.stdout.splitlines()
    *before, of_child = child.split()
    assert of_child not in before
    assert (parent.split(), in_use) == ([*before, before[1]], "PONG")


def test_interrupted_command_leaves_its_answer_to_nobody(
    make: Any, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a worker's time limit does it, by a signal between asking and reading."""
    connection = make()
    connection.command("PING")
    send = redis.connection.AbstractConnection.send_packed_command

    def send_and_be_interrupted(self: Any, *args: Any, **options: Any) -> None:
        send(self, *args, **options)
        raise KeyboardInterrupt

    redis_server.client.client_pause(200)  # so that the answer is not there yet
    with monkeypatch.context() as patch:
        patch.setattr(
            redis.connection.AbstractConnection, "send_packed_command", send_and_be_interrupted
        )
        with pytest.raises(KeyboardInterrupt):
            connection.command("ECHO", "theirs")
    assert connection.command("ECHO", "mine") == b"mine"


def test_threads_that_begin_together_have_one_client(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one would go away, and close the connections that the first thread uses."""
    connection = make()
    make_client = RedisConnection._make_client
    made = []

    def begin_meanwhile(self: RedisConnection) -> Any:
        made.append(self)
        if len(made) == 1:  # pragma: no branch - that there is no other is what is tested
            other.start()
            other.join(0.5)  # as far as it comes
        return make_client(self)

    monkeypatch.setattr(RedisConnection, "_make_client", begin_meanwhile)
    other = Thread(target=connection.command, args=("PING",))
    assert connection.command("PING") == b"PONG"
    other.join()
    assert len(made) == 1


def test_closing_while_others_borrow_closes_all(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = make()
    pool = pool_of(connection)
    lent = [pool.get_connection() for _ in range(3)]
    disconnect = redis.connection.AbstractConnection.disconnect

    def borrow_and_disconnect(self: Any, *args: Any) -> None:
        monkeypatch.undo()
        pool.get_connection()
        disconnect(self, *args)

    monkeypatch.setattr(redis.connection.AbstractConnection, "disconnect", borrow_and_disconnect)
    connection.close()
    assert [each.is_connected for each in lent] == [False] * 3


def test_closing_ends_those_in_use_too(make: Any, redis_server: RedisServer) -> None:
    connection = make()
    numbers = {int(connection.command("CLIENT", "ID"))}
    lent = [pool_of(connection).get_connection() for _ in range(2)]
    for each in lent:
        each.send_command("CLIENT", "ID")
        numbers.add(int(each.read_response()))
    assert len(numbers) == 2
    connection.close()

    def are_gone() -> bool:
        return numbers.isdisjoint(int(each["id"]) for each in redis_server.client.client_list())

    wait_until(are_gone, "the server sees that they are closed")
