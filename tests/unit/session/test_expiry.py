"""When sessions end: lifetimes, custom expiry, the limit from login, and the timestamp for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Clock
from tests.factories import NOW
from usersessions import UserSession
from usersessions.session.expiry import ExpiryRules

ALICE = 7
TIMEOUT, ANONYMOUS_LIFETIME = 6000, 86400

VECTORS = json.loads((Path(__file__).parents[2] / "typo3_vectors.json").read_text())["expiry"]


def a_session(user_id: int | None = ALICE, *, age: int = 0, **fields: Any) -> UserSession:
    return UserSession("0" * 32, user_id=user_id, last_updated=NOW - age, **fields)


def with_expiry(expiry: Any, user_id: int | None = ALICE, **meta: Any) -> UserSession:
    return a_session(user_id, data={"_session_expiry": expiry}, meta=meta)


@pytest.fixture
def rules(clock: Clock) -> ExpiryRules:
    return ExpiryRules(TIMEOUT, ANONYMOUS_LIFETIME, 0, clock)


@pytest.fixture
def limited_rules(clock: Clock) -> ExpiryRules:
    """Users are logged out a day after their login."""
    return ExpiryRules(TIMEOUT, ANONYMOUS_LIFETIME, 86400, clock)


# Lifetimes


@pytest.mark.parametrize("user_id", [ALICE, None], ids=["user", "anonymous"])
@pytest.mark.parametrize(
    "vector",
    VECTORS,
    ids=lambda vector: f"{vector['session_lifetime']}-{vector['grace_period']}-{vector['age']}",
)
def test_session_ends_when_typo3_says_so(
    clock: Clock, vector: dict[str, Any], user_id: int | None
) -> None:
    rules = ExpiryRules(vector["session_lifetime"], vector["session_lifetime"], 0, clock)
    session = a_session(user_id, age=vector["age"])
    grace_is_over = clock() >= rules.expires_at(session) - vector["grace_period"]
    assert (rules.has_expired(session), grace_is_over) == (
        vector["has_expired"],
        vector["will_expire"],
    )


@pytest.mark.parametrize(
    ("user_id", "lifetime"), [(ALICE, TIMEOUT), (None, ANONYMOUS_LIFETIME)], ids=["user", "visitor"]
)
def test_users_and_visitors_have_lifetimes_of_their_own(
    rules: ExpiryRules, user_id: int | None, lifetime: int
) -> None:
    session = a_session(user_id, age=100)
    assert (rules.lifetime_of(session), rules.expires_at(session)) == (
        lifetime,
        NOW - 100 + lifetime,
    )


@pytest.mark.parametrize(
    ("age", "has_expired"), [(TIMEOUT, False), (TIMEOUT + 0.5, True), (TIMEOUT + 1, True)]
)
def test_session_lasts_to_the_end_of_its_lifetime(
    rules: ExpiryRules, clock: Clock, age: float, has_expired: bool
) -> None:
    session = a_session()
    clock.forward(age)
    assert rules.has_expired(session) is has_expired


@pytest.mark.parametrize("user_id", [ALICE, None], ids=["user", "visitor"])
def test_timeout_of_0_ends_sessions_at_once(clock: Clock, user_id: int | None) -> None:
    rules = ExpiryRules(0, 0, 0, clock)
    assert rules.has_expired(a_session(user_id))


def test_timeout_of_0_ends_users_sessions_only(clock: Clock) -> None:
    rules = ExpiryRules(0, ANONYMOUS_LIFETIME, 0, clock)
    assert (rules.has_expired(a_session(ALICE)), rules.has_expired(a_session(None))) == (
        True,
        False,
    )


def test_custom_expiry_does_not_lift_a_timeout_of_0(clock: Clock) -> None:
    rules = ExpiryRules(0, ANONYMOUS_LIFETIME, 0, clock)
    assert rules.has_expired(with_expiry(300, expires_at=NOW + 300))


def test_timestamp_of_a_used_session_is_now(rules: ExpiryRules, clock: Clock) -> None:
    session = a_session(age=1000)
    clock.forward(0.9)
    assert rules.timestamp(session) == NOW


# Custom expiry, as Django's set_expiry() leaves it in the data


@pytest.mark.parametrize(
    ("expiry", "expires_at"),
    [
        pytest.param(300, NOW + 300, id="seconds"),
        pytest.param(-10, NOW - 10, id="past-seconds"),
        pytest.param("2025-01-01T00:05:00+00:00", NOW + 300, id="moment"),
        pytest.param("2025-01-01T01:05:00+01:00", NOW + 300, id="moment-elsewhere"),
        pytest.param("2025-01-01T00:05:00.900000+00:00", NOW + 300, id="moment-between-seconds"),
        pytest.param("2025-01-01T01:05:00", NOW + 300, id="moment-of-the-sites-time-zone"),
    ],
)
def test_custom_expiry_is_noted_as_a_moment(
    rules: ExpiryRules, settings: Any, expiry: Any, expires_at: int
) -> None:
    settings.TIME_ZONE = "Europe/Berlin"
    session = with_expiry(expiry)
    rules.note_custom_expiry(session)
    assert (session.meta, session.data) == (
        {"expires_at": expires_at, "saved_at": NOW},
        {"_session_expiry": expiry},
    )


def test_custom_expiry_in_seconds_counts_from_now_on(rules: ExpiryRules, clock: Clock) -> None:
    session = with_expiry(300, expires_at=NOW + 300)
    clock.forward(100)
    rules.note_custom_expiry(session)
    assert session.meta == {"expires_at": NOW + 400, "saved_at": NOW + 100}


@pytest.mark.parametrize("expiry", [0, None], ids=["browser-close", "none"])
def test_custom_expiry_that_was_taken_off_is_forgotten(rules: ExpiryRules, expiry: Any) -> None:
    session = with_expiry(expiry, expires_at=NOW + 300, login_at=NOW)
    rules.note_custom_expiry(session)
    assert session.meta == {"login_at": NOW}
    assert rules.timestamp(session) == NOW


def test_session_without_custom_expiry_gets_no_note(rules: ExpiryRules) -> None:
    session = a_session()
    rules.note_custom_expiry(session)
    assert session.meta == {}


@pytest.mark.parametrize("user_id", [ALICE, None], ids=["user", "visitor"])
@pytest.mark.parametrize("expiry", [300, 10**6, -10])
def test_timestamp_and_lifetime_add_up_to_the_custom_expiry(
    rules: ExpiryRules, expiry: int, user_id: int | None
) -> None:
    """So that collection, which knows timestamps and lifetimes only, takes it in time."""
    session = with_expiry(expiry, user_id)
    rules.note_custom_expiry(session)
    assert rules.timestamp(session) + rules.lifetime_of(session) == NOW + expiry


@pytest.mark.parametrize(
    ("seconds", "has_expired"), [(300, False), (300.5, True), (301, True), (TIMEOUT, True)]
)
def test_session_lasts_to_its_custom_expiry(
    rules: ExpiryRules, clock: Clock, seconds: float, has_expired: bool
) -> None:
    session = with_expiry(300, expires_at=NOW + 300)
    clock.forward(seconds)
    assert rules.has_expired(session) is has_expired


def test_custom_expiry_beyond_the_timeout_prolongs_the_session(
    rules: ExpiryRules, clock: Clock
) -> None:
    session = with_expiry(10**6, expires_at=NOW + 10**6)
    clock.forward(10**6)
    assert not rules.has_expired(session)


@pytest.mark.parametrize("timeout", [60, TIMEOUT, 10**6])
def test_later_change_of_the_timeout_does_not_move_a_custom_expiry(
    rules: ExpiryRules, clock: Clock, timeout: int
) -> None:
    session = with_expiry(300)
    rules.note_custom_expiry(session)
    session.last_updated = rules.timestamp(session)
    stored = UserSession.from_record("0" * 32, session.to_record())
    assert ExpiryRules(timeout, timeout, 0, clock).expires_at(stored) == NOW + 300


def test_later_change_of_the_timeout_moves_all_others(rules: ExpiryRules, clock: Clock) -> None:
    session = a_session()
    session.last_updated = rules.timestamp(session)
    assert ExpiryRules(60, 60, 0, clock).expires_at(session) == NOW + 60


def test_custom_expiry_that_nobody_noted_is_the_lifetime(rules: ExpiryRules) -> None:
    """Data that was written by another program."""
    assert rules.expires_at(with_expiry(300)) == NOW + TIMEOUT


def test_note_without_custom_expiry_does_not_count_on_reading(rules: ExpiryRules) -> None:
    session = a_session(meta={"expires_at": NOW + 10**6})
    assert rules.expires_at(session) == NOW + TIMEOUT


# Sessions of another engine


def taken_over(ends_in: int, user_id: int | None = ALICE, **data: Any) -> UserSession:
    """Return a session as a read would: stored now, to end in so many seconds."""
    session = a_session(user_id, data=data)
    rules = ExpiryRules(TIMEOUT, ANONYMOUS_LIFETIME, 0, lambda: NOW)
    rules.note_adopted_end(session, NOW + ends_in)
    session.last_updated = rules.timestamp(session)
    return session


@pytest.mark.parametrize("user_id", [ALICE, None], ids=["user", "visitor"])
@pytest.mark.parametrize("data", [{}, {"_session_expiry": 0}, {"_session_expiry": 10}], ids=str)
def test_session_that_was_taken_over_ends_when_it_would_have_ended(
    rules: ExpiryRules, user_id: int | None, data: dict[str, Any]
) -> None:
    assert rules.expires_at(taken_over(10**6, user_id, **data)) == NOW + 10**6


@pytest.mark.parametrize(
    ("expiry", "ends_in"), [(None, TIMEOUT), (0, TIMEOUT), (10, 100)], ids=["none", "close", "own"]
)
def test_only_an_expiry_of_its_own_ends_it_before_the_timeout(
    rules: ExpiryRules, expiry: Any, ends_in: int
) -> None:
    data = {} if expiry is None else {"_session_expiry": expiry}
    assert rules.expires_at(taken_over(100, **data)) == NOW + ends_in


def test_use_after_that_end_counts_as_ever(rules: ExpiryRules, clock: Clock) -> None:
    session = taken_over(100)
    clock.forward(1000)
    rules.note_custom_expiry(session)
    assert rules.timestamp(session) == NOW + 1000


def test_expiry_that_is_set_counts_instead_of_that_end(rules: ExpiryRules) -> None:
    session = taken_over(10**6)
    session.set("_session_expiry", 300)
    rules.note_custom_expiry(session)
    assert rules.timestamp(session) + TIMEOUT == NOW + 300


def test_limit_from_login_ends_it_before(limited_rules: ExpiryRules) -> None:
    session = taken_over(10**6)
    session.meta["login_at"] = NOW
    assert limited_rules.timestamp(session) + TIMEOUT == NOW + LIMIT


# When they were used


@pytest.mark.parametrize(
    "session",
    [
        pytest.param(a_session(), id="any"),
        pytest.param(with_expiry(300, expires_at=NOW + 300, saved_at=NOW), id="expiry"),
        pytest.param(taken_over(100), id="taken-over-with-little-left"),
        pytest.param(taken_over(10**6), id="taken-over-with-much-left"),
        pytest.param(taken_over(10**6, None), id="taken-over-of-a-visitor"),
        pytest.param(taken_over(10**6, _session_expiry=10), id="taken-over-with-expiry"),
    ],
)
def test_session_was_used_when_it_was_stored(rules: ExpiryRules, session: UserSession) -> None:
    assert rules.last_used(session) == NOW


def test_session_that_was_taken_over_was_used_when_it_was_touched(
    rules: ExpiryRules, clock: Clock
) -> None:
    session = taken_over(10_000)
    clock.forward(5000)
    session.last_updated = rules.timestamp(session)
    assert rules.last_used(session) == NOW + 5000


# The limit from login

LIMIT = 86400


@pytest.mark.parametrize(
    ("logged_in_for", "ends_in"),
    [
        pytest.param(0, TIMEOUT, id="just-now"),
        pytest.param(LIMIT - TIMEOUT, TIMEOUT, id="nearly-a-day"),
        pytest.param(LIMIT - 100, 100, id="a-day-but-100-seconds"),
        pytest.param(LIMIT + 5, -5, id="more-than-a-day"),
    ],
)
def test_used_session_ends_a_day_after_its_login(
    limited_rules: ExpiryRules, logged_in_for: int, ends_in: int
) -> None:
    session = a_session(meta={"login_at": NOW - logged_in_for})
    assert limited_rules.timestamp(session) + TIMEOUT == NOW + ends_in
    assert limited_rules.expires_at(session) == NOW + ends_in


def test_limit_ends_a_session_that_is_in_use(limited_rules: ExpiryRules, clock: Clock) -> None:
    """Attack: a stolen cookie that is kept alive by one request an hour, for ever."""
    session = a_session(meta={"login_at": NOW})
    clock.forward(LIMIT)
    session.last_updated = int(clock())
    assert not limited_rules.has_expired(session)
    clock.forward(1)
    assert limited_rules.has_expired(session)


@pytest.mark.parametrize(
    ("expiry", "ends_in"), [(300, 300), (LIMIT, LIMIT), (10**6, LIMIT)], ids=str
)
def test_custom_expiry_does_not_pass_the_limit(
    limited_rules: ExpiryRules, expiry: int, ends_in: int
) -> None:
    session = with_expiry(expiry, login_at=NOW)
    limited_rules.note_custom_expiry(session)
    assert limited_rules.timestamp(session) + TIMEOUT == NOW + ends_in
    assert limited_rules.expires_at(session) == NOW + ends_in


def test_limit_is_for_users_only(limited_rules: ExpiryRules) -> None:
    session = with_expiry(10**6, None)
    limited_rules.note_custom_expiry(session)
    assert limited_rules.timestamp(session) + ANONYMOUS_LIFETIME == NOW + 10**6
    assert limited_rules.expires_at(session) == NOW + 10**6


def test_login_that_nobody_noted_counts_from_the_last_update(limited_rules: ExpiryRules) -> None:
    """Sessions from before, or from TYPO3."""
    session = with_expiry(10**6, expires_at=NOW + 10**6)
    assert limited_rules.expires_at(session) == NOW + LIMIT


# The column takes no number below 0


@pytest.mark.parametrize(
    "session",
    [
        pytest.param(with_expiry(1, expires_at=5), id="expiry-in-1970"),
        pytest.param(with_expiry(1, expires_at=-(10**9)), id="expiry-before-1970"),
    ],
)
def test_timestamp_is_never_below_0(rules: ExpiryRules, session: UserSession) -> None:
    assert rules.timestamp(session) == 0


def test_timestamp_is_never_below_0_because_of_the_limit(limited_rules: ExpiryRules) -> None:
    assert limited_rules.timestamp(a_session(meta={"login_at": -LIMIT})) == 0


# The limit from a switch


@pytest.mark.parametrize(
    ("max_lifetime", "switch_max_seconds", "ends_in"),
    [(0, 0, TIMEOUT), (0, 900, 900), (700, 900, 700), (900, 700, 700), (86400, 86400, TIMEOUT)],
)
def test_switched_session_ends_at_the_first_of_its_limits(
    clock: Clock, max_lifetime: int, switch_max_seconds: int, ends_in: int
) -> None:
    rules = ExpiryRules(TIMEOUT, ANONYMOUS_LIFETIME, max_lifetime, clock, switch_max_seconds)
    session = a_session(meta={"login_at": NOW, "switched_at": NOW})
    assert rules.timestamp(session) + TIMEOUT == rules.expires_at(session) == NOW + ends_in
