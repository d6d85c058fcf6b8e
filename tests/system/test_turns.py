"""Threads that take turns."""

from __future__ import annotations

import pytest

from tests import turns


def test_workers_go_on_in_the_order_that_was_chosen() -> None:
    steps: list[str] = []

    def work(name: str) -> None:
        for number in range(2):
            steps.append(f"{name}{number}")
            turns.stop()

    order = iter([1, 0, 0, 1, 0, 1])
    turns.run([lambda: work("a"), lambda: work("b")], lambda numbers: next(order))
    assert steps == ["b0", "a0", "a1", "b1"]


def test_error_of_one_worker_is_raised_and_ends_the_others_where_they_stand() -> None:
    steps: list[str] = []

    def fail() -> None:
        steps.append("fails")
        raise KeyError

    def wait() -> None:
        steps.append("waits")
        try:
            turns.stop()
        finally:
            steps.append("ends")

    order = iter([1, 0])
    with pytest.raises(KeyError):
        turns.run([fail, wait, fail], lambda numbers: next(order))
    assert steps == ["waits", "fails", "ends"]


def test_only_workers_give_their_turn_back() -> None:
    turns.stop()
