"""The model of ``test_interleavings.py`` finds what must not be, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.system.visits_model import Held, Model


def held(owner: str, line: int, *keys: str, login: int = 0, is_aside: bool = False) -> Held:
    return Held(owner, {"line": line, "login": login, **dict.fromkeys(keys, 1)}, is_aside)


def visits(*events: tuple[Any, ...]) -> Model:
    """Return a model that was told these things: the name of a method and its arguments."""
    model = Model()
    for name, *args in events:
        getattr(model, f"note_{name}")(*args)
    return model


WRITTEN = ("write", 1, "alice", ["alice:1"])
BASKET = ("write", 1, "anon", ["anon:1"])
ALICE = ("login", 1, 2, "alice", ["anon:2"])
ALICE_AGAIN = ("login", 1, 3, "alice", ["anon:3"])
BOB = ("login", 1, 3, "bob", [])
GONE = "line 1 of alice is gone"


@pytest.mark.parametrize(
    ("events", "stored", "message"),
    [
        ([WRITTEN], [held("alice", 1)], "line 1 of alice has lost ['alice:1']"),
        ([WRITTEN], [], GONE),
        ([WRITTEN], [held("bob", 1, "alice:1")], "bob has ['alice:1']"),
        (
            [WRITTEN, ("deletion", 1, ["alice:1"])],
            [held("alice", 1, "alice:1")],
            "line 1 of alice has ['alice:1'] again",
        ),
        (
            [("end", 5, 1)],
            [held("alice", 1, login=5)],
            "logins [5] have ended, and are there again",
        ),
        (
            [("revocation", "alice", [5], 1)],
            [held("alice", 1, login=5)],
            "logins [5] have ended, and are there again",
        ),
        ([BASKET, ALICE], [held("alice", 2, "anon:2")], "line 2 of alice has lost ['anon:1']"),
        (
            [BASKET, ALICE, BOB],
            [held("alice", 2, "anon:2"), held("bob", 3)],
            "logins [2, 3] of line 1 have lost ['anon:1']",
        ),
        ([WRITTEN, ("login", None, 3, "alice", [])], [held("alice", 3)], GONE),
    ],
)
def test_what_must_not_be(events: Any, stored: list[Held], message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        visits(*events).check(stored)
    assert str(caught.value).splitlines()[0] == message


@pytest.mark.parametrize(
    ("events", "stored"),
    [
        ([WRITTEN], [held("alice", 1, "alice:1")]),
        ([WRITTEN, ("end", 5, 1)], []),
        ([WRITTEN, ("end", 5, None)], [held("alice", 1, "alice:1", login=6)]),
        # The form was sent twice, and what both have taken over was deleted by the second login.
        (
            [BASKET, ALICE, ALICE_AGAIN, ("deletion", 3, ["anon:1", "anon:2"])],
            [held("alice", 3, "anon:3")],
        ),
        # Another tab had logged in again, or the form was sent twice: a logout ends both.
        ([WRITTEN, ("login", 1, 2, "alice", []), ("end", 5, 1)], []),
        ([BASKET, ALICE, ALICE_AGAIN, ("end", 5, 2)], []),
        # A login that was sent twice took it over, and ended.
        ([WRITTEN, ("login", None, 2, "alice", []), ("end", 7, 2)], []),
        ([WRITTEN, ("revocation", "alice", [5], 1)], []),
        ([WRITTEN, ("collection",)], []),
        ([WRITTEN, ("deletion", 1, ["alice:1"])], [held("alice", 1)]),
        # A revocation does not look for a login that is put aside at the same time.
        (
            [WRITTEN, ("switch", 5, 1, 1, 2, "bob"), ("revocation", "alice", [5], 1)],
            [held("bob", 2), held("alice", 1, "alice:1", login=5, is_aside=True)],
        ),
        # What is put aside ends with the switched session, and is there again after it.
        ([WRITTEN, ("switch", 5, 1, 1, 2, "bob"), ("end", 6, 2)], []),
        (
            [WRITTEN, ("switch", 5, 1, 1, 2, "bob"), ("exit", 6, 2, 1)],
            [held("alice", 1, "alice:1", login=5)],
        ),
        ([BASKET, ALICE], [held("alice", 2, "anon:1", "anon:2")]),
        # Another tab has renewed, or ended, the session that the login came from.
        ([BASKET, ALICE], [held("anon", 1, "anon:1"), held("alice", 2, "anon:2")]),
        ([BASKET, ("end", None, 1), ALICE], [held("alice", 2, "anon:2")]),
        ([BASKET, ALICE, BOB], [held("alice", 2, "anon:1", "anon:2"), held("bob", 3)]),
        # One of them has ended since, and perhaps took the basket with it.
        ([BASKET, ALICE, BOB, ("end", 7, 2)], [held("bob", 3)]),
        # A login that is sent twice ends with one session.
        ([BASKET, ALICE, ALICE_AGAIN], [held("alice", 3, "anon:1", "anon:2", "anon:3")]),
    ],
)
def test_what_may_be(events: Any, stored: list[Held]) -> None:
    visits(*events).check(stored)


def test_what_is_over_is_not_missed_later() -> None:
    model = visits(WRITTEN, ("collection",))
    model.check([])
    model.check([])


def test_switch_that_is_over_does_not_excuse_a_loss() -> None:
    model = visits(WRITTEN, ("switch", 5, 1, 1, 2, "bob"), ("exit", 6, 2, 1))
    with pytest.raises(AssertionError, match=GONE):
        model.check([])
