"""What counts as a recent login."""

from __future__ import annotations

from typing import Any

import pytest

from tests.factories import NOW
from usersessions.auth.login_age import logged_in_at, was_confirmed_within
from usersessions.session.user_session import UserSession

ALICE = 7


def a_session(**meta: Any) -> UserSession:
    return UserSession("0" * 32, user_id=ALICE, meta=meta)


@pytest.mark.parametrize(
    ("meta", "is_recent"),
    [
        pytest.param({"login_at": NOW}, True, id="just logged in"),
        pytest.param({"login_at": NOW - 300}, True, id="logged in as long ago as allowed"),
        pytest.param({"login_at": NOW - 301}, False, id="logged in too long ago"),
        pytest.param({"login_at": NOW - 9000, "confirmed_at": NOW - 300}, True, id="confirmed"),
        pytest.param({"login_at": NOW - 9000, "confirmed_at": NOW - 301}, False, id="too old"),
        pytest.param({"login_at": NOW, "confirmed_at": NOW - 301}, True, id="logged in since"),
        pytest.param({"confirmed_at": NOW}, True, id="confirmed, login unknown"),
        pytest.param({}, False, id="nobody knows"),
        pytest.param({"login_at": None}, False, id="nobody knows, and says so"),
        pytest.param({"login_at": 0}, False, id="at the beginning of time"),
        pytest.param({"login_at": NOW + 10}, True, id="by a server whose clock is ahead"),
        pytest.param({"login_at": NOW + 11}, False, id="in the future"),
        pytest.param({"confirmed_at": NOW + 10**9}, False, id="in the far future"),
        pytest.param({"login_at": NOW + 10**9, "confirmed_at": NOW}, True, id="one of both is off"),
        pytest.param({"login_at": NOW, "adopted": 0}, False, id="adopted"),
        pytest.param({"login_at": NOW, "adopted": NOW}, False, id="adopted, and came back"),
        pytest.param({"adopted": NOW, "confirmed_at": NOW}, True, id="adopted and confirmed"),
    ],
)
def test_login_is_recent_by_its_last_login_or_confirmation(
    meta: dict[str, Any], is_recent: bool
) -> None:
    """Attack: a clock that was ahead once, or a session of another engine that has just moved
    here, count as a login for ever, or for another while."""
    assert was_confirmed_within(300, a_session(**meta), now=NOW) is is_recent


@pytest.mark.parametrize("max_age", [300, 0])
def test_switched_session_is_never_recent(max_age: int) -> None:
    """Attack: a superuser who has just logged in uses the target's most guarded pages, also where
    some code has taken ``backuserid`` out of the data."""
    session = a_session(back_hash="scrypt$...", login_at=NOW, confirmed_at=NOW)
    assert not was_confirmed_within(max_age, session, now=NOW)


@pytest.mark.parametrize("max_age", [300, 0])
def test_anonymous_session_is_never_recent(max_age: int) -> None:
    session = UserSession("0" * 32, meta={"login_at": NOW, "confirmed_at": NOW})
    assert not was_confirmed_within(max_age, session, now=NOW)


def test_every_login_is_recent_where_its_age_does_not_matter() -> None:
    assert was_confirmed_within(0, a_session(), now=NOW)


@pytest.mark.parametrize(
    ("session", "at"),
    [
        pytest.param(a_session(login_at=NOW), NOW, id="user"),
        pytest.param(a_session(), None, id="nobody knows"),
        pytest.param(a_session(login_at=NOW, adopted=0), None, id="adopted"),
        pytest.param(UserSession("0" * 32, meta={"login_at": NOW}), None, id="anonymous"),
    ],
)
def test_time_of_the_login_is_told_where_it_is_known(session: UserSession, at: int | None) -> None:
    assert logged_in_at(session) == at
