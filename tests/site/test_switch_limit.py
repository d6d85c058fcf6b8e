"""``SWITCH_MAX_SECONDS``: how long a switch may last, and that nothing is gained by one."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry

from tests.conftest import Clock, SessionQueries
from tests.factories import NOW
from tests.site.test_switch_user import go_back, seen, switch_to
from tests.urls import visit
from usersessions import UserSessionManager
from usersessions.models import FrontendSession
from usersessions.store import SessionStore
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

LIMIT, TIMEOUT = 900, 6000
NOBODY = "('', None, {})"


def limit(settings: Any, **more: int) -> None:
    settings.USERSESSIONS = {"FE": {"SWITCH_MAX_SECONDS": LIMIT, "TIMEOUT": TIMEOUT, **more}}


@pytest.fixture
def original(client: Client, superuser: Any, clock: Clock, settings: Any) -> Client:
    limit(settings)
    client.force_login(superuser)
    visit(client, lambda request: request.session.update({"note": "mine"}))
    return client


@pytest.fixture
def switched(original: Client, alice: Any) -> Client:
    visit(original, switch_to(alice))
    return original


def ends_at(timeout: int = TIMEOUT) -> int:
    """Return the moment at which the one stored session ends, as collection sees it."""
    return FrontendSession.objects.get().ses_tstamp + timeout


def test_switch_ends_after_its_time_though_it_is_used(switched: Client, clock: Clock) -> None:
    for _ in range(3):
        clock.forward(LIMIT / 3)
        visit(switched, lambda request: request.session.update({"hers": clock()}))
        assert seen(switched).startswith("('alice', 'admin'")
    clock.forward(1)
    response = visit(switched, lambda request: dict(request.session))
    assert response.content == b"{}"
    assert response.cookies["fe_sessionid"]["max-age"] == 0
    assert FrontendSession.objects.count() == 0


def test_way_back_is_open_until_the_end(switched: Client, clock: Clock) -> None:
    clock.forward(LIMIT)
    assert visit(switched, go_back()).content == b"'admin'"
    clock.forward(LIMIT + 1)
    assert seen(switched) == "('admin', None, {'note': 'mine'})"


def test_next_switch_has_its_own_time(switched: Client, alice: Any, clock: Clock) -> None:
    clock.forward(LIMIT)
    visit(switched, go_back())
    visit(switched, switch_to(alice))
    clock.forward(LIMIT)
    assert seen(switched).startswith("('alice', 'admin'")


def test_stored_time_tells_the_end(switched: Client) -> None:
    """So that collection, lists and Redis know it without reading the data."""
    assert ends_at() == NOW + LIMIT


def test_collection_takes_it_after_its_time(switched: Client, clock: Clock) -> None:
    manager = UserSessionManager.create("FE", clock=clock)
    clock.forward(LIMIT)
    assert manager.collect_garbage(100) == 0
    clock.forward(1)
    assert manager.collect_garbage(100) == 1
    assert seen(switched) == NOBODY


def test_use_does_not_move_the_end(
    switched: Client, clock: Clock, session_queries: SessionQueries
) -> None:
    clock.forward(LIMIT - 1)
    with session_queries:
        seen(switched)
    assert session_queries.kinds == ["SELECT"]
    assert ends_at() == NOW + LIMIT


def test_expiry_that_a_view_sets_does_not_move_the_end(switched: Client, clock: Clock) -> None:
    """Attack: "remember me" as the target, to have her session for a year."""
    visit(switched, lambda request: request.session.set_expiry(31_536_000))
    assert ends_at() == NOW + LIMIT
    clock.forward(LIMIT + 1)
    assert seen(switched) == NOBODY


def test_shorter_timeout_ends_it_earlier(
    original: Client, alice: Any, clock: Clock, settings: Any
) -> None:
    limit(settings, TIMEOUT=LIMIT - 600)
    visit(original, switch_to(alice))
    assert ends_at(LIMIT - 600) == NOW + LIMIT - 600


def test_limit_that_is_set_later_holds_at_once(
    original: Client, alice: Any, clock: Clock, settings: Any
) -> None:
    settings.USERSESSIONS = {}
    visit(original, switch_to(alice))
    clock.forward(LIMIT + 1)
    assert seen(original).startswith("('alice', 'admin'")
    limit(settings)
    assert seen(original) == NOBODY


def test_limit_is_none_of_other_sessions_business(original: Client, clock: Clock) -> None:
    clock.forward(LIMIT + 1)
    assert seen(original) == "('admin', None, {'note': 'mine'})"


def test_lists_show_when_it_was_used(switched: Client, clock: Clock) -> None:
    """Not the stored time, which lies hours back for the end to be right."""
    manager = UserSessionManager.create("FE", clock=clock)
    clock.forward(100)
    visit(switched, lambda request: request.session.update({"hers": 1}))
    [record] = manager.backend.get_all()
    session = SessionStore(switched.cookies["fe_sessionid"].value).user_session
    assert record["ses_tstamp"] == NOW + LIMIT - TIMEOUT
    assert manager.expiry.last_used(session) == NOW + 100


def test_switching_back_and_forth_does_not_prolong_a_login(
    original: Client, alice: Any, clock: Clock, settings: Any
) -> None:
    """Attack: stay logged in for ever by switching whenever ``MAX_LIFETIME`` comes near."""
    limit(settings, MAX_LIFETIME=1000)
    for _ in range(4):
        clock.forward(124)
        visit(original, switch_to(alice))
        clock.forward(125)
        visit(original, go_back())
    assert seen(original) == "('admin', None, {'note': 'mine'})"
    assert ends_at() == NOW + 1000
    clock.forward(5)
    assert seen(original) == NOBODY


def test_login_that_is_over_is_over_in_the_switch_as_well(
    original: Client, alice: Any, clock: Clock, settings: Any
) -> None:
    limit(settings, MAX_LIFETIME=1000)
    clock.forward(500)
    visit(original, switch_to(alice))
    assert ends_at() == NOW + 1000
    clock.forward(501)
    assert seen(original) == NOBODY
    assert LogEntry.objects.count() == 2
