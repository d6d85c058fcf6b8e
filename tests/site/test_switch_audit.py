"""Both ends of a switch are told of, whichever way it ends: once, in the logs and by a signal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib import auth as django_auth
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User

from tests.conftest import Clock
from tests.site.test_admin import list_url
from tests.site.test_admin import switch as switch_in_admin
from tests.site.test_switch_user import refusal_of, seen, switch_to
from tests.urls import avisit, visit
from usersessions import auth
from usersessions.models import FrontendSession
from usersessions.signals import user_switched, user_switched_back
from usersessions.store import SessionStore
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

START = "Switched to this user (FE)."
END = "Switched back from this user (FE)."


class Told:
    """What the signals, the app's log and the admin's log say of the superuser and alice."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.signals: list[tuple[bool, Any, Any, str]] = []
        self._caplog = caplog

    def hear(
        self,
        signal: Any,
        request: Any,
        original_user: Any,
        target_user: Any,
        login_type: str,
        **_: Any,
    ) -> None:
        self.signals.append((signal is user_switched, original_user, target_user, login_type))

    def assert_only(self, superuser: Any, alice: Any, *ends: str) -> None:
        starts = [end == START for end in ends]
        assert self.signals == [(is_start, superuser, alice, "FE") for is_start in starts]
        assert [
            (entry.user, entry.object_id, entry.change_message)
            for entry in LogEntry.objects.order_by("pk")
        ] == [(superuser, str(alice.pk), end) for end in ends]
        words = {True: "Switched", False: "Switched back"}
        assert [
            record.getMessage()
            for when in ("setup", "call")
            for record in self._caplog.get_records(when)
            if record.name == "usersessions.auth"
        ] == [
            f"{words[is_start]}: user {superuser.pk} behind user {alice.pk} in a FE session."
            for is_start in starts
        ]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Iterator[Told]:
    caplog.set_level(logging.INFO, "usersessions.auth")
    told = Told(caplog)
    for signal in (user_switched, user_switched_back):
        signal.connect(told.hear)
    yield told
    for signal in (user_switched, user_switched_back):
        signal.disconnect(told.hear)


@pytest.fixture
def switched(client: Client, superuser: Any, alice: Any, told: Told, clock: Clock) -> Client:
    client.force_login(superuser)
    visit(client, switch_to(alice))
    told.assert_only(superuser, alice, START)
    return client


def read_and(view: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a view that reads the session first, as whoever asks for the user does."""

    def reading(request: Any) -> Any:
        assert request.user.username == "alice"
        assert request.original_user.username == "admin"
        return view(request)

    return reading


def _log_in(username: str) -> Callable[[Any], Any]:
    return lambda request: django_auth.login(request, User.objects.get(username=username))


def _empty(request: Any) -> None:
    request.session.clear()
    request.session["basket"] = 1


def _name_another(request: Any) -> None:
    request.session["_auth_user_id"] = str(User.objects.get(username="bob").pk)


def _fail_after_logout(request: Any) -> Any:
    django_auth.logout(request)
    raise RuntimeError


ENDS = {
    "exit": auth.exit_switch_user,
    "logout": django_auth.logout,
    "flush": lambda request: request.session.flush(),
    "delete": lambda request: request.session.delete(),
    "login of another": _log_in("bob"),
    "login of the target": _log_in("alice"),
    "login of the original user": _log_in("admin"),
    "emptied": _empty,
    "another user's id": _name_another,
}


@pytest.mark.parametrize("view", ENDS.values(), ids=ENDS)
def test_end_is_told_of_once(
    switched: Client, told: Told, superuser: Any, alice: Any, bob: Any, view: Callable[[Any], Any]
) -> None:
    visit(switched, lambda request: read_and(view)(request) and None)
    told.assert_only(superuser, alice, START, END)
    assert visit(switched, lambda request: str(request.original_user)).content == b"'None'"
    told.assert_only(superuser, alice, START, END)


@pytest.mark.parametrize(
    "view",
    [view for name, view in ENDS.items() if name not in ("emptied", "another user's id", "delete")],
)
def test_request_knows_that_nobody_is_behind_it_any_more(
    switched: Client, bob: Any, view: Callable[[Any], Any]
) -> None:
    """Else a page would still say who it is, and offer to stop being somebody."""

    def original_user(request: Any) -> Any:
        view(request)
        return request.original_user

    assert visit(switched, read_and(original_user)).content == b"None"


def test_logout_is_told_of_though_the_view_fails_after_it(
    switched: Client, told: Told, superuser: Any, alice: Any
) -> None:
    with pytest.raises(RuntimeError):
        visit(switched, _fail_after_logout)
    told.assert_only(superuser, alice, START, END)
    assert FrontendSession.objects.count() == 0


def test_end_by_time_is_told_of_by_the_request_that_meets_it(
    switched: Client, told: Told, superuser: Any, alice: Any, settings: Any, clock: Clock
) -> None:
    settings.USERSESSIONS = {"FE": {"SWITCH_MAX_SECONDS": 900}}
    clock.forward(901)
    for _ in range(2):
        assert seen(switched) == "('', None, {})"
    told.assert_only(superuser, alice, START, END)


def test_end_of_the_right_is_told_of_once_to_two_requests(
    switched: Client, told: Told, superuser: Any, alice: Any
) -> None:
    User.objects.filter(pk=superuser.pk).update(is_superuser=False)
    cookie = switched.cookies["fe_sessionid"].value

    def both(request: Any) -> None:
        assert request.user.is_anonymous
        other = Client()
        other.cookies["fe_sessionid"] = cookie
        assert visit(other, lambda request: request.user.is_anonymous).content == b"True"

    visit(switched, both)
    told.assert_only(superuser, alice, START, END)


def test_logout_from_what_has_ended_is_told_of_once(
    switched: Client, told: Told, superuser: Any, alice: Any
) -> None:
    User.objects.filter(pk=superuser.pk).update(is_superuser=False)
    response = visit(switched, django_auth.logout)
    assert response.cookies["fe_sessionid"]["max-age"] == 0
    told.assert_only(superuser, alice, START, END)


def test_exit_from_what_has_ended_is_told_of_once(
    switched: Client, told: Told, superuser: Any, alice: Any, settings: Any, clock: Clock
) -> None:
    settings.USERSESSIONS = {"FE": {"SWITCH_MAX_SECONDS": 900}}
    clock.forward(901)
    who = visit(switched, lambda request: auth.exit_switch_user(request).is_anonymous)
    assert who.content == b"True"
    told.assert_only(superuser, alice, START, END)
    assert refusal_of(switched, auth.exit_switch_user) == "You have not switched user."


def test_login_to_what_has_ended_is_a_login_like_any_other(
    switched: Client, told: Told, superuser: Any, alice: Any
) -> None:
    User.objects.filter(pk=superuser.pk).update(is_superuser=False)
    visit(switched, _log_in("alice"))
    told.assert_only(superuser, alice, START, END)
    assert seen(switched) == "('alice', None, {})"
    assert FrontendSession.objects.count() == 1


def test_next_switch_over_one_that_has_ended_stays(
    client: Client, superuser: Any, alice: Any, bob: Any, told: Told
) -> None:
    """The end of the first comes with the response to the second; it must not take that along."""
    client.force_login(superuser)
    client.force_login(superuser, login_type="BE")
    visit(client, switch_to(alice))
    User.objects.filter(pk=alice.pk).update(is_active=False)
    visit(client, switch_to(bob, login_type="FE"), "/admin/")
    assert seen(client) == f"('bob', 'admin', {{'backuserid': {superuser.pk}}})"
    assert [(is_start, target) for is_start, _, target, _ in told.signals] == [
        (True, alice),
        (True, bob),
        (False, alice),
    ]


def test_refused_switch_is_not_told_of(client: Client, told: Told, alice: Any, bob: Any) -> None:
    client.force_login(alice)
    refusal_of(client, switch_to(bob))
    told.assert_only(alice, bob)


def test_session_used_outside_of_a_request_tells_too(
    switched: Client, told: Told, superuser: Any, alice: Any
) -> None:
    """As in a websocket's consumer: the signal comes without a request."""
    store = SessionStore(switched.cookies["fe_sessionid"].value)
    assert store["_auth_user_id"] == str(alice.pk)
    store.flush()
    told.assert_only(superuser, alice, START, END)


def test_what_has_ended_goes_at_once_where_no_response_follows(
    switched: Client, told: Told, superuser: Any, alice: Any
) -> None:
    User.objects.filter(pk=superuser.pk).update(is_superuser=False)
    store = SessionStore(switched.cookies["fe_sessionid"].value)
    assert "_auth_user_id" not in store
    store.flush()
    assert FrontendSession.objects.count() == 0
    told.assert_only(superuser, alice, START, END)


def test_async_end_is_told_of(
    switched: Client, told: Told, superuser: Any, alice: Any, async_client: Any
) -> None:
    async_client.cookies = switched.cookies
    avisit(async_client, django_auth.alogout)
    told.assert_only(superuser, alice, START, END)


def test_nobodys_last_login_changes(switched: Client, superuser: Any, alice: Any) -> None:
    def last_logins() -> list[Any]:
        return list(User.objects.order_by("pk").values_list("last_login", flat=True))

    before = last_logins()
    assert before.count(None) == 1  # the target has never logged in
    visit(switched, auth.exit_switch_user)
    visit(switched, switch_to(alice))
    assert last_logins() == before


@pytest.mark.urls("tests.urls_admin")
def test_admin_lists_a_switched_session_as_one(admin: Client, alice: Any) -> None:
    """Else it looks like one of the target's own."""
    switch_in_admin(admin, "FE", alice)
    response = admin.get(list_url())
    assert b'<td class="field-kind">Switched</td>' in response.content
