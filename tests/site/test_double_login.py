"""A login form that was sent twice."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.contrib import auth
from django.db import connections

from tests.conftest import Clock, SessionQueries
from tests.site.test_middleware import put_basket, read_basket
from tests.urls import site_of, visit
from usersessions import SessionChanged, SessionNotUpdated, UserSession, UserSessionManager
from usersessions.backends.base import SessionBackend
from usersessions.lifecycle.login import begin_login
from usersessions.models import FrontendSession
from usersessions.session.record import SesId
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]


@pytest.fixture
def manager(clock: Clock) -> UserSessionManager:
    return UserSessionManager.create("FE", clock=clock)


@pytest.fixture
def basket(manager: UserSessionManager) -> UserSession:
    session = manager.create_anonymous_session()
    session.set("basket", {"apple": 3})
    return manager.fixate_anonymous_session(session)


def read_again(manager: UserSessionManager, session: UserSession) -> UserSession:
    return manager.create_session_from_storage(session.identifier)


def rows_of(user: Any) -> list[FrontendSession]:
    return list(FrontendSession.objects.filter(ses_userid=user.pk))


def test_second_login_with_the_same_cookie_takes_the_first_ones_place_and_basket(
    manager: UserSessionManager, basket: UserSession, alice: Any
) -> None:
    one, two = read_again(manager, basket), read_again(manager, basket)
    first = manager.store(begin_login(manager, one, alice.pk, sent_at=1.0))
    second = manager.store(begin_login(manager, two, alice.pk, sent_at=2.0))
    assert len(rows_of(alice)) == 1
    assert read_again(manager, second).data == {"basket": {"apple": 3}}
    assert not manager.is_session_persisted(first)


def test_login_that_was_sent_first_but_stored_last_gives_way(
    manager: UserSessionManager, basket: UserSession, alice: Any
) -> None:
    """The browser keeps the answer to its second click: that login must not lose its session."""
    one, two = read_again(manager, basket), read_again(manager, basket)
    second = manager.store(begin_login(manager, two, alice.pk, sent_at=2.0))
    with pytest.raises(SessionNotUpdated):
        manager.store(begin_login(manager, one, alice.pk, sent_at=1.0))
    assert len(rows_of(alice)) == 1
    assert read_again(manager, second).data == {"basket": {"apple": 3}}


def test_second_login_keeps_what_was_added_after_the_first(
    manager: UserSessionManager, basket: UserSession, alice: Any
) -> None:
    one, two = read_again(manager, basket), read_again(manager, basket)
    first = manager.store(begin_login(manager, one, alice.pk, sent_at=1.0))
    first.set("coupon", "X")
    manager.update_session(first)
    two.set("mine", 1)
    second = manager.store(begin_login(manager, two, alice.pk, sent_at=2.0))
    assert read_again(manager, second).data == {
        "basket": {"apple": 3},
        "coupon": "X",
        "mine": 1,
    }


def test_login_with_a_cookie_that_another_login_has_used_up_brings_the_basket(
    client: Client, other_client: Client, alice: Any
) -> None:
    """The usual double click: the second request reads the session when the first is done."""
    visit(client, put_basket)
    other_client.cookies["fe_sessionid"] = client.cookies["fe_sessionid"].value
    for each in (client, other_client):
        visit(each, lambda request: auth.login(request, alice))
    assert len(rows_of(alice)) == 1
    assert visit(other_client, read_basket).content == b"{'apple': 3}"


def test_cookie_of_a_used_up_session_brings_nothing_to_another_user(
    client: Client, other_client: Client, alice: Any, bob: Any
) -> None:
    """Attack: log in with a planted cookie after the victim has, to get at the victim's data."""
    visit(client, put_basket)
    other_client.cookies["fe_sessionid"] = client.cookies["fe_sessionid"].value
    visit(client, lambda request: auth.login(request, alice))
    visit(other_client, lambda request: auth.login(request, bob))
    assert visit(other_client, read_basket).content == b"None"
    assert visit(client, read_basket).content == b"{'apple': 3}"


def test_login_whose_anonymous_session_was_ended_keeps_the_data_it_had_read(
    manager: UserSessionManager, basket: UserSession, alice: Any
) -> None:
    session = read_again(manager, basket)
    manager.remove_session(basket)
    elevated = manager.elevate_to_fixated_user_session(session, alice.pk)
    assert read_again(manager, elevated).data == {"basket": {"apple": 3}}


def test_data_of_a_users_session_that_has_ended_is_not_stored_anew(
    manager: UserSessionManager, basket: UserSession, alice: Any, bob: Any
) -> None:
    session = manager.elevate_to_fixated_user_session(basket, alice.pk)
    late = read_again(manager, session)
    manager.remove_session(session)
    with pytest.raises(SessionNotUpdated):
        manager.elevate_to_fixated_user_session(late, bob.pk)
    assert FrontendSession.objects.count() == 0


def test_login_with_an_old_cookie_and_no_twin_costs_one_query_more(
    client: Client, alice: Any, session_queries: SessionQueries
) -> None:
    visit(client, put_basket)
    FrontendSession.objects.all().delete()
    with session_queries:
        visit(client, lambda request: auth.login(request, alice))
    assert session_queries.kinds == ["SELECT", "SELECT", "INSERT"]


def test_sessions_of_other_origin_or_unreadable_are_not_taken_for_twins(
    manager: UserSessionManager, basket: UserSession, alice: Any
) -> None:
    other = manager.elevate_to_fixated_user_session(manager.create_anonymous_session(), alice.pk)
    manager.backend.set("0" * 32, {"ses_userid": alice.pk, "ses_data": b"\xff"})
    session = read_again(manager, basket)
    manager.remove_session(basket)
    manager.elevate_to_fixated_user_session(session, alice.pk)
    assert manager.is_session_persisted(other)
    assert len(rows_of(alice)) == 3


def test_twin_that_ends_while_it_is_taken_over_is_done_without(
    manager: UserSessionManager,
    basket: UserSession,
    alice: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two = read_again(manager, basket), read_again(manager, basket)
    first = manager.store(begin_login(manager, one, alice.pk, sent_at=1.0))
    renew = SessionBackend.renew

    def end_it_first(backend: SessionBackend, key: str, *args: Any, **more: Any) -> None:
        if isinstance(key, SesId):
            backend.remove(first.identifier)
        renew(backend, key, *args, **more)

    monkeypatch.setattr(SessionBackend, "renew", end_it_first)
    second = manager.store(begin_login(manager, two, alice.pk, sent_at=2.0))
    assert read_again(manager, second).data == {"basket": {"apple": 3}}
    assert len(rows_of(alice)) == 1


@pytest.mark.django_db(transaction=True)
def test_logins_at_the_very_same_time_end_with_one_session(client: Client, alice: Any) -> None:
    visit(client, put_basket)
    start = threading.Barrier(4)
    clients = [Client() for _ in range(4)]

    def slow_login(request: Any) -> None:
        assert read_basket(request)
        start.wait(timeout=30)
        auth.login(request, alice)

    def send(each: Client) -> None:
        each.cookies["fe_sessionid"] = client.cookies["fe_sessionid"].value
        try:
            each.get("/")
        finally:
            connections.close_all()

    with site_of(slow_login):
        threads = [threading.Thread(target=send, args=(each,)) for each in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(rows_of(alice)) == 1
    baskets = [visit(each, read_basket).content for each in clients]
    assert baskets.count(b"{'apple': 3}") == 1


def test_twin_that_cannot_be_taken_over_does_not_keep_anybody_from_logging_in(
    manager: UserSessionManager,
    basket: UserSession,
    alice: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, two = read_again(manager, basket), read_again(manager, basket)
    manager.store(begin_login(manager, one, alice.pk, sent_at=1.0))

    renew = SessionBackend.renew

    def change_it_first(backend: SessionBackend, key: str, *args: Any, **more: Any) -> None:
        if isinstance(key, SesId):
            raise SessionChanged("FE", key, backend.get(key))
        renew(backend, key, *args, **more)

    monkeypatch.setattr(SessionBackend, "renew", change_it_first)
    second = manager.store(begin_login(manager, two, alice.pk, sent_at=2.0))
    assert read_again(manager, second).data == {"basket": {"apple": 3}}
