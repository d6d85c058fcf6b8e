"""Random interleavings of all that requests do with sessions, checked against a model.

``USERSESSIONS_TEST_ROUNDS=10000`` makes the run long, ``USERSESSIONS_TEST_SEED`` repeats one; with
``--log-cli-level=INFO``, pytest shows what was done how often.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import update_last_login
from django.contrib.auth.signals import user_logged_in

from tests.conftest import Clock
from tests.factories import UserFactory
from tests.racing_requests import at_once
from tests.system.random_visits import Site
from usersessions import (
    SessionBackend,
    SessionRecord,
    UserSession,
)

pytestmark = pytest.mark.django_db(transaction=True)

logger = logging.getLogger("tests.interleavings")

#: How many rounds; how many until everything begins anew, with a seed of its own.
ROUNDS = int(os.environ.get("USERSESSIONS_TEST_ROUNDS", "40"))
ROUNDS_A_SITE = 20
FIRST_SEED = int(os.environ.get("USERSESSIONS_TEST_SEED", "1"))
SEEDS = range(FIRST_SEED, FIRST_SEED + ROUNDS // ROUNDS_A_SITE)

#: How many workers do something at once, and how many things each does in a round.
WORKERS, ACTIONS = 3, 2


@pytest.fixture
def storage(
    every_storage: SessionBackend, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SessionBackend]:
    """A storage of the site's whose clock is the test's."""
    monkeypatch.setattr(every_storage, "clock", clock, raising=False)
    user_logged_in.disconnect(update_last_login, dispatch_uid="update_last_login")
    yield every_storage
    user_logged_in.connect(update_last_login, dispatch_uid="update_last_login")


@pytest.fixture
def users(transactional_db: None) -> dict[str, Any]:
    return {
        "root": UserFactory(username="root", is_superuser=True),
        "alice": UserFactory(username="alice"),
        "bob": UserFactory(username="bob"),
    }


@pytest.fixture
def merges(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a request has met what another one had stored meanwhile."""
    counts: Counter[str] = Counter()
    merge = UserSession.merge

    def count_and_merge(session: UserSession, record: SessionRecord) -> None:
        counts["merges"] += 1
        merge(session, record)

    monkeypatch.setattr(UserSession, "merge", count_and_merge)
    return counts


def play(
    storage: SessionBackend, users: dict[str, Any], clock: Clock, monkeypatch: Any, seed: int
) -> Counter[str]:
    """Play some rounds in an order that the seed decides; return what was done how often."""
    from tests.system.interleaving import Schedule

    site = Site(storage, users, clock, seed)
    schedule = Schedule(site.chance)
    stops = 0
    with schedule.stopping_at_statements(monkeypatch):
        for number in range(ROUNDS_A_SITE):
            schedule.turns.clear()
            site.log.append(f"Round {number}")
            try:
                schedule.run([site.worker(worker, ACTIONS) for worker in range(WORKERS)])
                site.check()
            except Exception as exc:
                told = [
                    f"USERSESSIONS_TEST_SEED={seed}, round {number}: {exc}",
                    *site.log,
                    f"Whose turn it was in the last round: {schedule.turns}",
                ]
                raise AssertionError("\n".join(told)) from exc
            stops += len(schedule.turns)
    return site.model.counts + Counter(stops=stops)


def test_no_order_of_statements_loses_or_revives_anything(
    storage: SessionBackend,
    users: dict[str, Any],
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    merges: Counter[str],
) -> None:
    counts: Counter[str] = Counter()
    for seed in SEEDS:
        counts += play(storage, users, clock, monkeypatch, seed)
    logger.info("%d rounds: %s", ROUNDS, dict(counts + merges))


def test_nothing_is_lost_or_revived_in_threads(
    storage: SessionBackend, users: dict[str, Any], clock: Clock, merges: Counter[str]
) -> None:
    counts: Counter[str] = Counter()
    for seed in SEEDS:
        site = Site(storage, users, clock, seed)
        for _ in range(ROUNDS_A_SITE):
            at_once([site.worker(worker, ACTIONS) for worker in range(WORKERS)])
            site.check()
        counts += site.model.counts
    logger.info("%d rounds: %s", ROUNDS, dict(counts + merges))


UPDATE = SessionBackend.update


def overwrite(*args: Any, expected_data: bytes) -> None:
    UPDATE(*args)


def remove_nothing(*args: Any) -> bool:
    return True


@pytest.mark.parametrize("every_storage", ["database"], indirect=True)
@pytest.mark.parametrize(
    ("method", "broken", "message"),
    [
        pytest.param("update", overwrite, "has lost", id="overwrites"),
        pytest.param(
            "remove", remove_nothing, "has ended, and is let in|are there again", id="keeps"
        ),
    ],
)
def test_storage_that_breaks_its_promises_is_found_by_the_same_seed_again(
    storage: SessionBackend,
    users: dict[str, Any],
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    broken: Any,
    message: str,
) -> None:
    monkeypatch.setattr(SessionBackend, method, broken)

    texts = []
    for _ in range(2):
        with pytest.raises(AssertionError, match=message) as caught:
            list(map(partial(play, storage, users, clock, monkeypatch), range(1, 30)))
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
