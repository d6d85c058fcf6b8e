"""What the app itself reads in stored data is of the kind that it writes, or it is corrupt."""

from __future__ import annotations

import json
from typing import Any

import pytest

from usersessions.session.data import CorruptSessionData, decode
from usersessions.session.meta import LATEST, is_well_formed
from usersessions.session.user_session import UserSession

ASIDE = {"data": {"note": 1}, "meta": {"login_at": 1}, "user_id": 7, "is_permanent": False}
SWITCH = {"aside": ASIDE, "back_user": 7, "back_hash": "scrypt$"}


@pytest.mark.parametrize(
    "key",
    [
        "login_at",
        "expires_at",
        "keep_until",
        "saved_at",
        "adopted",
        "confirmed_at",
        "switched_at",
    ],
)
@pytest.mark.parametrize(
    ("moment", "is_right"),
    [
        (0, True),
        (LATEST, True),
        (LATEST + 1, False),
        (10**400, False),
        (-1, False),
        (1.5, False),
        ("1", False),
        ([], False),
        ({}, False),
        (None, False),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_moments_are_whole_seconds_of_the_calendar(key: str, moment: Any, is_right: bool) -> None:
    assert is_well_formed({}, {key: moment}) is is_right


@pytest.mark.parametrize(
    ("moment", "is_right"),
    [(1.5, True), (1, True), (float("inf"), False), (float("nan"), False), ("1.5", False)],
    ids=repr,
)
def test_time_of_a_login_is_a_number(moment: Any, is_right: bool) -> None:
    assert is_well_formed({}, {"login_sent_at": moment}) is is_right


@pytest.mark.parametrize("key", ["login_id", "login_from", "user_agent"])
@pytest.mark.parametrize(
    ("value", "is_right"), [("", True), ("x", True), (1, False), (["x"], False)], ids=repr
)
def test_texts_are_texts(key: str, value: Any, is_right: bool) -> None:
    assert is_well_formed({}, {key: value}) is is_right


@pytest.mark.parametrize(
    ("aside", "is_right"),
    [
        pytest.param(ASIDE, True, id="as-written"),
        pytest.param(3, False, id="number"),
        pytest.param(None, False, id="null"),
        pytest.param([], False, id="list"),
        pytest.param({}, False, id="empty"),
        pytest.param({**ASIDE, "data": []}, False, id="data-is-a-list"),
        pytest.param({**ASIDE, "meta": 1}, False, id="meta-is-a-number"),
        pytest.param({**ASIDE, "meta": {"login_at": "x"}}, False, id="meta-is-malformed"),
        pytest.param({**ASIDE, "data": {"_session_expiry": []}}, False, id="data-is-malformed"),
        pytest.param({**ASIDE, "user_id": None}, True, id="visitor"),
        pytest.param({**ASIDE, "user_id": []}, False, id="user-is-a-list"),
        pytest.param({**ASIDE, "is_permanent": 0}, False, id="permanent-is-a-number"),
    ],
)
def test_what_is_put_aside_can_be_brought_back(aside: Any, is_right: bool) -> None:
    assert is_well_formed({}, {**SWITCH, "aside": aside}) is is_right


@pytest.mark.parametrize(
    ("changes", "is_right"),
    [
        pytest.param({"back_user": "7"}, True, id="text-as-key"),
        pytest.param({"back_user": [7]}, False, id="list-as-key"),
        pytest.param({"back_hash": 1}, False, id="hash-is-a-number"),
        pytest.param({"switched_from": {"login_type": "BE", "login_at": 1}}, True, id="source"),
        pytest.param({"switched_from": {"login_type": "BE", "login_at": None}}, True, id="no-time"),
        pytest.param({"switched_from": {"login_type": "BE"}}, False, id="no-login"),
        pytest.param({"switched_from": {"login_type": 1, "login_at": 1}}, False, id="type"),
        pytest.param({"switched_from": {"login_type": "BE", "login_at": ""}}, False, id="time"),
        pytest.param({"switched_from": "BE"}, False, id="source-is-text"),
    ],
)
def test_switch_says_who_is_behind_it_and_where_they_came_from(
    changes: dict[str, Any], is_right: bool
) -> None:
    assert is_well_formed({}, {**SWITCH, **changes}) is is_right


@pytest.mark.parametrize("key", SWITCH)
def test_part_of_a_switch_is_none(key: str) -> None:
    assert not is_well_formed({}, {key: SWITCH[key]})
    assert not is_well_formed({}, {other: SWITCH[other] for other in SWITCH if other != key})


@pytest.mark.parametrize(
    ("expiry", "is_right"),
    [
        (None, True),
        (0, True),
        (-300, True),
        (300.5, True),
        ("2030-01-01T00:00:00+00:00", True),
        ("soon", False),
        (10**400, True),
        (float("inf"), True),
        (float("nan"), False),
        ([300], False),
        ({}, False),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_custom_expiry_is_as_django_writes_it(expiry: Any, is_right: bool) -> None:
    assert is_well_formed({"_session_expiry": expiry}, {}) is is_right


def test_anything_else_is_the_sites_own() -> None:
    assert is_well_formed({"login_at": "x", "aside": 1}, {"of_a_later_version": object()})


def test_malformed_data_is_corrupt() -> None:
    stored = json.dumps({"x": 1, "_usersessions": {"login_at": "x"}}).encode()
    with pytest.raises(CorruptSessionData) as caught:
        decode(stored, UserSession("")._serializer)
    assert str(caught.value) == "The stored session data has reserved values of a wrong kind."
