"""The page on which users see their own sessions and end them."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.signals import user_logged_out
from django.contrib.messages import get_messages
from django.db import connection

from tests.conftest import Clock, SessionQueries
from tests.factories import FrontendSessionFactory
from usersessions.models import BackendSession, FrontendSession
from usersessions.test import Client

pytestmark = pytest.mark.django_db

PAGE = "/usersessions/sessions/"
LINUX = "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0"


@pytest.fixture
def phone(alice: Any, clock: Clock) -> Client:
    phone = Client()
    phone.force_login(alice)
    return phone


@pytest.fixture
def desktop(phone: Client, alice: Any, clock: Clock) -> Client:
    """Alice's desktop, logged in a minute after her phone, by the form."""
    clock.forward(60)
    desktop = Client(headers={"user-agent": LINUX})
    desktop.post("/account/login/", {"username": "alice", "password": "alice"})
    return desktop


def ses_ids(client: Client) -> list[str]:
    """Return what the page lists, this session first."""
    return [session.ses_id for session in client.get(PAGE).context["sessions"]]


def end(client: Client, which: str) -> Any:
    return client.post(PAGE, {"end": which})


def is_logged_in(client: Client) -> bool:
    return bool(client.get("/account/").status_code == 200)


def told(response: Any) -> list[str]:
    return [str(message) for message in get_messages(response.wsgi_request)]


# Seeing them


def test_page_tells_of_each_session_what_its_owner_knows_it_by(
    desktop: Client,
) -> None:
    text = desktop.get(PAGE).content.decode()
    for words in (
        "Firefox on Linux",
        "This session",
        "In use now",
        "Logged in",
        "Unknown device",
        "Last used",
        "without use",
    ):
        assert words in text
    assert "Works only from the network" not in text
    assert "Remembered" not in text


def test_page_tells_of_address_lock_and_remembering(
    client: Client, alice: Any, settings: Any
) -> None:
    settings.USERSESSIONS = {"FE": {"LOCK_IP": 2, "LIFETIME": 9000}}
    client.post("/account/login/", {"username": "alice", "password": "alice", "remember_me": "on"})
    text = client.get(PAGE).content.decode()
    assert "Works only from the network 127.0.0.0" in text
    assert "Remembered" in text


def test_name_of_a_browser_is_never_markup(alice: Any, client: Client) -> None:
    """Attack: log in with a stolen password and a script for the owner's page as User-Agent."""
    evil = Client(headers={"user-agent": "<script>alert(1)</script>"})
    evil.post("/account/login/", {"username": "alice", "password": "alice"})
    client.force_login(alice)
    assert "<script>" not in client.get(PAGE).content.decode()


def test_login_of_an_adopted_session_is_not_told(phone: Client) -> None:
    """The time that it remembers is that of its move."""
    assert "Logged in" in phone.get(PAGE).content.decode()
    session = phone.session
    session.user_session.meta["adopted"] = 1
    session.modified = True
    session.save()
    assert "Logged in" not in phone.get(PAGE).content.decode()


def test_anonymous_visitor_is_sent_to_the_login_page(client: Client) -> None:
    for response in (client.get(PAGE), end(client, "all")):
        assert response["Location"] == f"/account/login/?next={PAGE}"


def test_page_lists_sessions_of_its_own_login_type_and_user_only(
    desktop: Client, alice: Any, bob: Any, clock: Clock
) -> None:
    Client().force_login(alice, login_type="BE")
    FrontendSessionFactory(ses_userid=bob.pk, ses_tstamp=clock())
    assert len(ses_ids(desktop)) == 2


def test_page_costs_one_query_for_all_sessions(
    desktop: Client, session_queries: SessionQueries
) -> None:
    with session_queries:
        desktop.get(PAGE)
    assert session_queries.kinds == ["SELECT", "SELECT"]
    assert len(session_queries) == 3


def test_page_is_kept_out_of_caches(desktop: Client) -> None:
    assert "no-store" in desktop.get(PAGE)["Cache-Control"]


# Ending them


def test_one_session_is_ended(phone: Client, desktop: Client) -> None:
    response = end(desktop, ses_ids(desktop)[1])
    assert response["Location"] == PAGE
    assert told(response) == ["The session has ended."]
    assert not is_logged_in(phone)
    assert is_logged_in(desktop)


def test_session_that_has_ended_already_is_told_of(phone: Client, desktop: Client) -> None:
    other = ses_ids(desktop)[1]
    phone.logout()
    assert told(end(desktop, other)) == ["That session has already ended."]


@pytest.mark.parametrize("which", ["", "0", "OTHERS", "' OR 1=1 --", "\0"])
def test_nonsense_ends_nothing(phone: Client, desktop: Client, which: str) -> None:
    assert told(end(desktop, which)) == ["That session has already ended."]
    assert is_logged_in(phone)


def test_session_of_somebody_else_is_not_ended(desktop: Client, bob: Any, clock: Clock) -> None:
    """Attack: post the hash of another person's session."""
    row = FrontendSessionFactory(ses_userid=bob.pk, ses_tstamp=clock())
    assert told(end(desktop, row.ses_id)) == ["That session has already ended."]
    assert FrontendSession.objects.filter(pk=row.pk).exists()


def test_all_others_are_ended(phone: Client, desktop: Client) -> None:
    before = desktop.cookies["fe_sessionid"].value
    assert told(end(desktop, "others")) == ["1 other session has ended."]
    assert desktop.cookies["fe_sessionid"].value != before
    assert not is_logged_in(phone)
    assert is_logged_in(desktop)


def test_all_are_ended(phone: Client, desktop: Client, alice: Any) -> None:
    Client().force_login(alice, login_type="BE")
    heard: list[Any] = []

    def hear(user: Any, **kwargs: Any) -> None:
        heard.append(user)

    user_logged_out.connect(hear)
    try:
        response = end(desktop, "all")
    finally:
        user_logged_out.disconnect(hear)
    assert response["Location"] == "/account/login/"
    assert heard == [alice]
    assert not is_logged_in(phone)
    assert not is_logged_in(desktop)
    assert FrontendSession.objects.filter(ses_userid=alice.pk).count() == 0
    assert BackendSession.objects.count() == 1


def test_own_current_session_is_ended(desktop: Client, settings: Any) -> None:
    settings.LOGOUT_REDIRECT_URL = "/"
    assert end(desktop, ses_ids(desktop)[0])["Location"] == "/"
    assert not is_logged_in(desktop)


def test_single_session_has_no_others_to_end(phone: Client) -> None:
    text = phone.get(PAGE).content.decode()
    assert 'value="others"' not in text
    assert 'value="all"' in text


def test_ending_costs_no_more_statements_with_many_sessions(
    desktop: Client, alice: Any, clock: Clock
) -> None:
    costs = []
    for others in (1, 6):
        for _ in range(others - FrontendSession.objects.count() + 1):
            FrontendSessionFactory(ses_userid=alice.pk, ses_tstamp=clock())
        with SessionQueries(connection) as queries:
            assert f"{others} other" in told(end(desktop, "others"))[-1]
        costs.append(queries.kinds)
    assert costs[0] == costs[1]


def test_forged_form_ends_nothing(alice: Any, phone: Client, settings: Any) -> None:
    """Attack: a form on another site logs people out everywhere (CSRF), where the site has no CSRF
    middleware."""
    settings.MIDDLEWARE = [path for path in settings.MIDDLEWARE if "Csrf" not in path]
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    assert end(client, "all").status_code == 403
    assert is_logged_in(phone)


# After a while


@pytest.fixture
def stale(desktop: Client, clock: Clock) -> Client:
    """The desktop, when its login is not recent any more."""
    clock.forward(301)
    return desktop


@pytest.mark.parametrize("which", ["one", "others", "all"])
def test_ending_takes_a_recent_login(phone: Client, stale: Client, which: str) -> None:
    """Attack: lock the owner out, or cover one's tracks, with a stolen session."""
    response = end(stale, ses_ids(stale)[1] if which == "one" else which)
    assert response["Location"] == (f"/usersessions/confirm/?login_type=FE&next={PAGE}&again=1")
    assert is_logged_in(phone)


def test_page_offers_to_confirm_before_anything_is_sent(stale: Client) -> None:
    text = stale.get(PAGE).content.decode()
    link = f"/usersessions/confirm/?login_type=FE&amp;next={PAGE}"
    assert f'href="{link}"' in text
    assert 'name="end"' not in text
    response = stale.post(link.replace("&amp;", "&"), {"password": "alice"}, follow=True)
    assert response.redirect_chain == [(PAGE, 302)]
    assert 'name="end"' in response.content.decode()


def test_setting_can_say_that_nobody_is_asked(phone: Client, stale: Client, settings: Any) -> None:
    settings.USERSESSIONS = {"FE": {"CONFIRM_MAX_AGE": 0}}
    assert 'value="others"' in stale.get(PAGE).content.decode()
    end(stale, "others")
    assert not is_logged_in(phone)


@pytest.mark.parametrize("max_age", [300, 0])
def test_switched_session_sees_but_does_not_end(
    client: Client, superuser: Any, phone: Client, alice: Any, settings: Any, max_age: int
) -> None:
    """Attack: a superuser who sees the site as Alice logs her out everywhere."""
    settings.USERSESSIONS = {"FE": {"CONFIRM_MAX_AGE": max_age}}
    client.force_login(superuser)
    client.post("/usersessions/switch-user/", {"user": alice.pk})
    text = client.get(PAGE).content.decode()
    assert "You are acting as another user" in text
    assert 'name="end"' not in text
    assert "/confirm/" not in text
    assert end(client, "all").status_code == 403
    assert is_logged_in(phone)


# The templates


def test_pages_need_no_template_of_the_sites(desktop: Client, settings: Any) -> None:
    """The demo site has its own ``usersessions/base.html``."""
    assert "Paper &amp; Pine" in desktop.get(PAGE).content.decode()
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": []}]
    end(desktop, "others")
    sessions, confirm = (
        desktop.get(page).content.decode() for page in (PAGE, "/usersessions/confirm/")
    )
    assert "1 other session has ended." in sessions
    for text in (sessions, confirm):
        assert "Paper" not in text
        assert 'href="/static/usersessions/pages.css"' in text
        assert '<html lang="en" dir="ltr">' in text
        assert text.count("<h1>") == 1
