"""Django's pages for passwords: which sessions end, which one stays, and under which identifier."""

from __future__ import annotations

import re
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib import auth
from django.contrib.auth.models import User
from django.contrib.auth.views import INTERNAL_RESET_SESSION_TOKEN
from django.core import mail
from django.test import AsyncClient

from tests.urls import avisit, visit
from usersessions.models import BackendSession, FrontendSession
from usersessions.test import Client

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.urls_django")]

NEW = {"new_password1": "a-new-Secret-1", "new_password2": "a-new-Secret-1"}
BASKET = {"apple": 3}


def who(client: Client, path: str = "/") -> str:
    answer = visit(client, lambda request: request.user.get_username(), path)
    return str(answer.content.decode()).strip("'")


def put_basket(request: Any) -> None:
    request.session["basket"] = dict(BASKET)


def read_basket(request: Any) -> Any:
    return request.session.get("basket")


def fe_users() -> list[int]:
    return sorted(row.ses_userid for row in FrontendSession.objects.all())


def be_users() -> list[int]:
    return sorted(row.ses_userid for row in BackendSession.objects.all())


@pytest.fixture
def sessions_elsewhere(other_client: Client, alice: Any) -> Client:
    """A browser in which alice is logged in to both login types."""
    other_client.force_login(alice)
    other_client.force_login(alice, login_type="BE")
    return other_client


# Changing it


def test_password_change_keeps_this_session_alone_and_gives_it_a_new_identifier(
    client: Client, sessions_elsewhere: Client, alice: Any
) -> None:
    """Attack: whoever has stolen a cookie, of this session or of another, goes on using it."""
    visit(client, put_basket)
    client.force_login(alice)
    stolen = client.cookies["fe_sessionid"].value
    response = client.post("/accounts/password_change/", {"old_password": "alice", **NEW})
    assert (response.status_code, list(response.cookies)) == (302, ["fe_sessionid"])
    assert fe_users() == [alice.pk]
    assert be_users() == []
    assert who(client) == "alice"
    assert visit(client, read_basket).content.decode() == repr(BASKET)
    assert who(sessions_elsewhere) == ""
    thief = Client()
    thief.cookies["fe_sessionid"] = stolen
    assert who(thief) == ""


def test_password_change_that_is_refused_changes_no_session(
    client: Client, sessions_elsewhere: Client, alice: Any
) -> None:
    client.force_login(alice)
    response = client.post("/accounts/password_change/", {"old_password": "wrong", **NEW})
    assert (response.status_code, "fe_sessionid" in response.cookies) == (200, False)
    assert who(client) == who(sessions_elsewhere) == "alice"
    assert be_users() == [alice.pk]


def test_password_change_in_an_async_view(alice: Any, sessions_elsewhere: Client) -> None:
    client = AsyncClient()

    async def log_in(request: Any) -> None:
        await auth.alogin(request, alice)

    async def change(request: Any) -> None:
        user = await request.auser()
        await sync_to_async(str)(request.user)  # Django 5.2 compares it in the event loop
        user.set_password("new")
        await user.asave()
        await auth.aupdate_session_auth_hash(request, user)

    async def name(request: Any) -> str:
        return str((await request.auser()).get_username())

    avisit(client, log_in)
    before = client.cookies["fe_sessionid"].value
    avisit(client, change)
    assert client.cookies["fe_sessionid"].value != before
    assert avisit(client, name).content == b"'alice'"
    assert who(sessions_elsewhere) == ""
    assert fe_users() == [alice.pk]


# Resetting it


def ask_for_link(client: Client, user: Any) -> str:
    """Return the path in the mail that a user gets after asking for a new password.

    It is good until the user's next login.
    """
    User.objects.filter(pk=user.pk).update(email="user@example.org")
    response = client.post("/accounts/password_reset/", {"email": "user@example.org"})
    assert (response.status_code, dict(response.cookies)) == (302, {})
    found = re.search(r"http://testserver(\S+)", str(mail.outbox[-1].body))
    assert found is not None
    return found[1]


@pytest.fixture
def link(client: Client, alice: Any) -> str:
    return ask_for_link(client, alice)


def open_link(client: Client, link: str) -> str:
    """Follow the link; return the path that it redirects to, which the token is not part of."""
    response = client.get(link)
    assert response.status_code == 302
    path = response.headers["Location"]
    assert path.endswith("/set-password/")
    assert client.get(path).context["validlink"]
    return str(path)


def test_reset_ends_all_sessions_of_the_user_and_leaves_none_behind(
    client: Client, sessions_elsewhere: Client, link: str
) -> None:
    path = open_link(client, link)
    assert list(client.session.keys()) == [INTERNAL_RESET_SESSION_TOKEN]
    assert client.post(path, {**NEW, "new_password2": "?"}).status_code == 200  # may try again
    assert client.post(path, NEW).headers["Location"] == "/accounts/reset/done/"
    assert client.get("/accounts/reset/done/").status_code == 200
    assert fe_users() == be_users() == []
    assert who(sessions_elsewhere) == who(client) == ""
    assert client.login(username="alice", password=NEW["new_password1"])


def test_reset_link_is_good_once_and_its_second_half_in_that_browser_only(
    client: Client, other_client: Client, link: str
) -> None:
    """Attack: read the address of the form from a log, or use the link after the owner did."""
    path = open_link(client, link)
    assert not other_client.get(path).context["validlink"]
    other_client.post(path, NEW)
    assert not User.objects.get(username="alice").check_password(NEW["new_password1"])
    client.post(path, NEW)
    for browser in (client, other_client):
        assert not browser.get(link, follow=True).context["validlink"]
    assert FrontendSession.objects.count() == 0


def test_reset_leaves_the_visitors_basket(client: Client, link: str) -> None:
    visit(client, put_basket)
    client.post(open_link(client, link), NEW)
    assert (
        visit(client, lambda request: dict(request.session)).content == b"{'basket': {'apple': 3}}"
    )


def test_reset_in_a_browser_where_the_user_is_logged_in_logs_out_there_too(
    client: Client, sessions_elsewhere: Client, alice: Any
) -> None:
    client.force_login(alice)
    client.post(open_link(client, ask_for_link(client, alice)), NEW)
    assert who(client) == who(sessions_elsewhere) == ""
    assert fe_users() == be_users() == []


def test_reset_in_a_browser_where_somebody_else_is_logged_in_leaves_them(
    client: Client, sessions_elsewhere: Client, bob: Any, link: str
) -> None:
    client.force_login(bob)
    client.post(open_link(client, link), NEW)
    assert who(client) == "bob"
    assert who(sessions_elsewhere) == ""
    assert fe_users() == [bob.pk]


@pytest.mark.parametrize("before", [None, "alice", "bob"], ids=["visitor", "alice", "bob"])
def test_reset_with_login_gives_one_session_under_a_new_identifier(
    client: Client, sessions_elsewhere: Client, alice: Any, bob: Any, before: str | None
) -> None:
    """Attack: plant a session in the browser and wait for its owner to reset the password."""
    if before is not None:
        client.force_login(User.objects.get(username=before))
    link = ask_for_link(client, alice)
    path = open_link(client, link.replace("/reset/", "/reset-and-log-in/"))
    planted = client.cookies["fe_sessionid"].value
    assert client.post(path, NEW).status_code == 302
    assert client.cookies["fe_sessionid"].value != planted
    assert who(client) == "alice"
    assert who(sessions_elsewhere) == ""
    assert fe_users() == [alice.pk]
    assert INTERNAL_RESET_SESSION_TOKEN not in client.session
    client.cookies["fe_sessionid"] = planted
    assert who(client) == ""


# In the admin


def change_password_of(admin: Client, user: Any, **fields: str) -> Any:
    return admin.post(f"/admin/auth/user/{user.pk}/password/", fields)


def test_own_password_changed_in_the_admin_keeps_this_session_alone(
    admin: Client, other_client: Client, superuser: Any
) -> None:
    other_client.force_login(superuser, login_type="BE")
    other_client.force_login(superuser)
    before = admin.cookies["be_sessionid"].value
    response = admin.post("/admin/password_change/", {"old_password": "admin", **NEW})
    assert (response.status_code, list(response.cookies)) == (302, ["be_sessionid"])
    assert admin.cookies["be_sessionid"].value != before
    assert admin.get("/admin/password_change/done/").status_code == 200
    assert be_users() == [superuser.pk]
    assert fe_users() == []


def test_password_that_the_admin_gives_a_user_ends_that_users_sessions_of_every_type(
    admin: Client, sessions_elsewhere: Client, superuser: Any, alice: Any
) -> None:
    secret = NEW["new_password1"]
    response = change_password_of(
        admin, alice, password1=secret, password2=secret, usable_password="true"
    )
    assert response.status_code == 302
    assert fe_users() == []
    assert be_users() == [superuser.pk]
    assert who(sessions_elsewhere) == ""
    assert admin.get("/admin/").status_code == 200


def test_password_that_the_admin_takes_away_is_caught_by_djangos_hash(
    admin: Client, sessions_elsewhere: Client, superuser: Any, alice: Any
) -> None:
    """No signal tells of ``set_unusable_password()``: here the sessions end when they are used."""
    response = change_password_of(admin, alice, usable_password="false", **{"unset-password": "1"})
    assert response.status_code == 302
    assert who(sessions_elsewhere) == ""
    assert sessions_elsewhere.get("/admin/").status_code == 302
    assert (fe_users(), be_users()) == ([], [superuser.pk])


def test_own_password_changed_on_ones_user_page_keeps_the_session(
    admin: Client, other_client: Client, superuser: Any
) -> None:
    other_client.force_login(superuser)
    secret = NEW["new_password1"]
    change_password_of(admin, superuser, password1=secret, password2=secret, usable_password="true")
    assert admin.get("/admin/").status_code == 200
    assert who(other_client) == ""


def test_user_who_is_deleted_in_the_admin_has_no_sessions_left(
    admin: Client, sessions_elsewhere: Client, superuser: Any, alice: Any
) -> None:
    assert admin.post(f"/admin/auth/user/{alice.pk}/delete/", {"post": "yes"}).status_code == 302
    assert (fe_users(), be_users()) == ([], [superuser.pk])
