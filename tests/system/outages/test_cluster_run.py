"""A node of a Redis Cluster is killed and comes back while sessions are being written."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from redis.exceptions import RedisClusterException

from tests.redis_servers import RedisCluster, wait_until
from usersessions import RedisSessionBackend
from usersessions.session.tokens import new_identifier

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

WORKERS = 6
#: How many operations are waited for before the next thing happens.
ENOUGH = 150
ENOUGH_ON_TWO_NODES = 20

Held = tuple[str, bytes]


class Worker:
    """Works on sessions of a user of its own, and keeps account of what was acknowledged."""

    def __init__(self, backend: RedisSessionBackend, number: int) -> None:
        self.backend = backend
        self.user_id = number + 1
        self.random = random.Random(number)  # noqa: S311 - no secret
        self.acknowledged: dict[str, bytes] = {}
        #: Where an error left open whether it was done: what was there, and what may be instead.
        self.open: list[tuple[Held, Held]] = []
        self.successes = 0
        self.errors: list[Exception] = []

    def step(self) -> None:
        try:
            self.random.choice([self._create, self._change, self._renew])()
            self.successes += 1
        except (redis.RedisError, RedisClusterException) as exc:
            self.errors.append(exc)

    def _create(self) -> None:
        identifier, data = new_identifier(), b"0"
        self.backend.set(identifier, self._record(data))
        self.acknowledged[identifier] = data

    def _change(self) -> None:
        identifier, data = self._take()
        changed = b"%d" % (int(data) + 1)
        self.open.append(((identifier, data), (identifier, changed)))
        self.backend.update(identifier, {"ses_data": changed}, expected_data=data)
        self.open.pop()
        self.acknowledged[identifier] = changed

    def _renew(self) -> None:
        identifier, data = self._take()
        renewed = new_identifier()
        self.open.append(((identifier, data), (renewed, data)))
        self.backend.renew(identifier, renewed, self._record(data), expected_data=data)
        self.open.pop()
        self.acknowledged[renewed] = data

    def _take(self) -> Held:
        if not self.acknowledged:
            self._create()
        return self.acknowledged.popitem()

    def _record(self, data: bytes) -> Any:
        return {
            "ses_iplock": "",
            "ses_userid": self.user_id,
            "ses_tstamp": int(self.backend.clock()),
            "ses_data": data,
        }

    def find_losses(self) -> list[Any]:
        """Return what was acknowledged and is not there any more."""
        stored = {record["ses_id"]: record["ses_data"] for record in self.backend.get_all()}

        def has(identifier: str, data: bytes) -> bool:
            return stored.get(self.backend.hash(identifier)) == data

        lost: list[Any] = [held for held in self.acknowledged.items() if not has(*held)]
        return lost + [either for either in self.open if not any(has(*it) for it in either)]


class Team:
    """Workers at work, each in a thread."""

    def __init__(self, backend: RedisSessionBackend) -> None:
        self.backend = backend
        self.members = [Worker(backend, number) for number in range(WORKERS)]
        self._has_ended = threading.Event()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._run(each)) for each in self.members]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._has_ended.set()
            for thread in threads:
                thread.join()

    def _run(self, worker: Worker) -> Any:
        def run() -> None:
            while not self._has_ended.is_set():
                worker.step()

        return run

    def wait_for_successes(self, number: int = ENOUGH) -> None:
        enough = self._successes + number
        wait_until(lambda: self._successes >= enough, "the workers go on")

    def wait_for_errors(self) -> None:
        wait_until(lambda: self.errors, "somebody notices")

    @property
    def _successes(self) -> int:
        return sum(worker.successes for worker in self.members)

    @property
    def errors(self) -> list[Exception]:
        return [error for worker in self.members for error in worker.errors]


def set_coverage(cluster: RedisCluster, *, needs_all: bool) -> None:
    """Say whether the cluster answers while the slots of one node are away."""
    for node in cluster.nodes:
        node.client.config_set("cluster-require-full-coverage", "yes" if needs_all else "no")


@pytest.mark.parametrize("needs_all", [True, False], ids=["full coverage", "partial coverage"])
def test_killed_node_loses_no_session_that_was_acknowledged(
    redis_cluster: RedisCluster, needs_all: bool
) -> None:
    set_coverage(redis_cluster, needs_all=needs_all)
    options = {"cluster": True, "nodes": redis_cluster.addresses, "socket_timeout": 2}
    backend = RedisSessionBackend("FE", options)
    team = Team(backend)
    victim = redis_cluster.nodes[1]
    with team.at_work():
        team.wait_for_successes()
        victim.kill()
        team.wait_for_errors()
        if not needs_all:
            team.wait_for_successes(ENOUGH_ON_TWO_NODES)
        victim.start()
        redis_cluster.wait_until_ready()
        team.wait_for_successes()
    assert [loss for worker in team.members for loss in worker.find_losses()] == []
    for worker in team.members:
        listed = {record["ses_id"] for record in backend.get_by_user(worker.user_id)}
        assert {backend.hash(identifier) for identifier in worker.acknowledged} <= listed
        backend.remove_by_user(worker.user_id)
    assert list(backend.get_all()) == []
    backend.close()
    set_coverage(redis_cluster, needs_all=True)
