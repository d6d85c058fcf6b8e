"""Logging in and out of any login type, and what a person may do with their own sessions."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import signals
from django.db.models.signals import post_save
from django.test import AsyncRequestFactory, RequestFactory

from tests.conftest import Clock, SessionQueries
from tests.factories import NOW, FrontendSessionFactory
from tests.urls import visit
from usersessions import auth
from usersessions.lifecycle.current_request import get_current_request
from usersessions.middleware import UserSessionMiddleware
from usersessions.models import BackendSession, FrontendSession
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]


def log_in(user: Any, **options: Any) -> Any:
    return lambda request: auth.login(request, user, **options)


def who(login_type: str) -> Any:
    return lambda request: auth.get_user(request, login_type).get_username()


# Any login type


def test_login_to_another_type_leaves_the_paths_own_session_alone(
    client: Client, alice: Any, editor: Any
) -> None:
    visit(client, log_in(alice))

    def view(request: Any) -> Any:
        auth.login(request, editor, login_type="BE")
        return request.user.username

    assert visit(client, view).content == b"'alice'"
    assert visit(client, who("BE")).content == b"'editor'"
    assert visit(client, who("FE")).content == b"'alice'"
    assert [row.ses_userid for row in BackendSession.objects.all()] == [editor.pk]


def test_logout_of_another_type_leaves_the_paths_own_session_alone(
    client: Client, alice: Any, editor: Any
) -> None:
    visit(client, log_in(alice))
    visit(client, log_in(editor), "/admin/")
    visit(client, lambda request: auth.logout(request, "BE"))
    assert BackendSession.objects.count() == 0
    assert visit(client, who("FE")).content == b"'alice'"


def test_user_of_a_type_that_nobody_is_logged_in_to_is_anonymous(
    client: Client, session_queries: SessionQueries
) -> None:
    with session_queries:
        assert visit(client, who("BE")).content == b"''"
    assert session_queries.kinds == []


def test_receivers_that_were_there_before_us_see_the_new_identifier_of_a_second_login(
    client: Client, alice: Any
) -> None:
    """As Django's own, which writes ``last_login``: packages note the key of the session there."""
    visit(client, log_in(alice))
    seen = []

    def note(**kwargs: Any) -> None:
        request = get_current_request()
        assert request is not None
        seen.append(request.session.session_key)

    post_save.connect(note, sender=type(alice))
    try:
        visit(client, log_in(alice))
    finally:
        post_save.disconnect(note, sender=type(alice))
    assert seen == [client.session.session_key]


def test_receivers_of_a_login_to_another_type_see_its_session(client: Client, editor: Any) -> None:
    seen = []

    def receive(request: Any, **kwargs: Any) -> None:
        seen.append((request.session.login_type.name, request.user.username))

    signals.user_logged_in.connect(receive)
    try:
        visit(client, log_in(editor, login_type="BE"))
    finally:
        signals.user_logged_in.disconnect(receive)
    assert seen == [("BE", "editor")]


def test_request_without_our_session_says_what_is_missing(alice: Any) -> None:
    request = RequestFactory().get("/")
    request.session = {}
    with pytest.raises(AssertionError, match="is UserSessionMiddleware in MIDDLEWARE"):
        auth.logout(request)


@pytest.mark.parametrize("asked", [True, False, None])
def test_permanent_login_is_for_those_who_asked(
    client: Client, alice: Any, settings: Any, asked: bool | None
) -> None:
    settings.USERSESSIONS = {"FE": {"LIFETIME": 604_800}}
    visit(client, log_in(alice, is_permanent=asked))
    assert FrontendSession.objects.get().ses_permanent is bool(asked)


def test_async_twins_do_the_same(alice: Any) -> None:
    async def use() -> list[str]:
        request = AsyncRequestFactory().get("/")
        UserSessionMiddleware(lambda request: None).process_request(request)
        names = []
        await auth.alogin(request, alice, login_type="BE")
        names.append((await auth.aget_user(request, "BE")).get_username())
        await auth.alogout(request, "BE")
        names.append((await auth.aget_user(request, "BE")).get_username())
        return names

    assert async_to_sync(use)() == ["alice", ""]


# My sessions


@pytest.fixture
def phone(client: Client, alice: Any, clock: Clock) -> Client:
    """Alice's phone, logged in ten minutes before her desktop."""
    phone = Client(headers={"user-agent": "Phone/1"})
    visit(phone, log_in(alice))
    clock.forward(600)
    return phone


@pytest.fixture
def desktop(phone: Client, alice: Any) -> Client:
    desktop = Client(headers={"user-agent": "Desktop/1"})
    visit(desktop, log_in(alice))
    return desktop


def test_own_sessions_are_this_one_and_then_the_latest(phone: Client, desktop: Client) -> None:
    seen: list[auth.OwnSession] = []
    visit(phone, lambda request: seen.extend(auth.own_sessions(request)))
    assert [(each.user_agent, each.is_current) for each in seen] == [
        ("Phone/1", True),
        ("Desktop/1", False),
    ]
    assert seen[1].last_updated_at == datetime.fromtimestamp(NOW + 600, timezone.utc)
    assert seen[1].expires_at == datetime.fromtimestamp(NOW + 6600, timezone.utc)
    assert (seen[1].is_permanent, seen[1].ip_lock) == (False, "[DISABLED]")


def test_expired_foreign_and_unreadable_sessions_are_not_listed(
    desktop: Client, clock: Clock, alice: Any, bob: Any
) -> None:
    FrontendSessionFactory(ses_userid=bob.pk, ses_tstamp=clock())
    FrontendSessionFactory(ses_userid=alice.pk, ses_tstamp=clock(), ses_data=b"\xff")
    clock.forward(5_500)  # the phone's has expired by now
    response = visit(desktop, lambda request: len(auth.own_sessions(request)))
    assert response.content == b"1"


def test_visitor_has_no_sessions_to_list_or_end(client: Client, phone: Client) -> None:
    def view(request: Any) -> Any:
        return (
            auth.own_sessions(request),
            auth.end_other_sessions(request),
            auth.end_own_session(request, FrontendSession.objects.get().ses_id),
        )

    assert visit(client, view).content == b"([], 0, False)"
    assert FrontendSession.objects.count() == 1


def test_ending_the_others_leaves_this_one_under_a_new_identifier(
    phone: Client, desktop: Client
) -> None:
    before = desktop.cookies["fe_sessionid"].value
    assert visit(desktop, auth.end_other_sessions).content == b"1"
    assert desktop.cookies["fe_sessionid"].value != before
    assert visit(phone, who("FE")).content == b"''"
    assert visit(desktop, who("FE")).content == b"'alice'"


# How many


def test_oldest_sessions_go_when_a_user_has_too_many(
    client: Client, phone: Client, desktop: Client, alice: Any, clock: Clock, settings: Any
) -> None:
    settings.USERSESSIONS = {"FE": {"MAX_SESSIONS_PER_USER": 2}}
    clock.forward(1)
    visit(client, log_in(alice))
    assert visit(phone, who("FE")).content == b"''"
    assert visit(desktop, who("FE")).content == b"'alice'"
    assert visit(client, who("FE")).content == b"'alice'"


def test_other_users_sessions_do_not_count(
    client: Client, phone: Client, bob: Any, settings: Any
) -> None:
    settings.USERSESSIONS = {"FE": {"MAX_SESSIONS_PER_USER": 1}}
    visit(client, log_in(bob))
    assert visit(phone, who("FE")).content == b"'alice'"


def test_asking_of_another_type_does_not_change_the_user_of_a_wrapped_request(
    client: Client, alice: Any, editor: Any
) -> None:
    """Attack: REST framework's request hands what is set on it to Django's: a view that only asks
    who is in the backend would go on as that person."""

    class Wrapper:
        def __init__(self, request: Any) -> None:
            self._request = request

        def __getattr__(self, name: str) -> Any:
            return getattr(self._request, name)

        @property
        def user(self) -> Any:
            return self._request.user

        @user.setter
        def user(self, user: Any) -> None:  # pragma: no cover - what must not be called
            self._request.user = user

    visit(client, log_in(alice))
    visit(client, log_in(editor), "/admin/")

    def view(request: Any) -> Any:
        wrapped = Wrapper(request)
        return auth.get_user(wrapped, "BE").username, wrapped.user.username, request.user.username

    assert visit(client, view).content == b"('editor', 'alice', 'alice')"


def test_expiry_of_its_own_does_not_hide_when_a_session_was_used(
    phone: Client, clock: Clock
) -> None:
    visit(phone, lambda request: request.session.set_expiry(31_536_000))
    seen: list[auth.OwnSession] = []
    visit(phone, lambda request: seen.extend(auth.own_sessions(request)))
    assert seen[0].last_updated_at == datetime.fromtimestamp(clock(), timezone.utc)
