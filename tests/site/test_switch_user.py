"""Seeing the site as somebody else, and coming back."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import auth as django_auth
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied

from tests.conftest import SessionQueries
from tests.site.test_middleware import session_cookies
from tests.urls import visit
from usersessions import auth
from usersessions.models import BackendSession, FrontendSession
from usersessions.signals import user_switched, user_switched_back
from usersessions.store import SessionStore
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]


def everyone(*, original_user: Any, target_user: Any) -> bool:
    """A policy of a site's own, for SWITCH_PERMISSION."""
    return True


EVERYONE_MAY = {"SWITCH_PERMISSION": "tests.site.test_switch_user.everyone"}


def switch_to(user: Any, **options: Any) -> Any:
    return lambda request: auth.switch_user(request, user, **options)


def go_back(**options: Any) -> Any:
    return lambda request: auth.exit_switch_user(request, **options).get_username()


def describe(request: Any) -> Any:
    return (
        request.user.get_username(),
        request.original_user.get_username() if request.original_user else None,
        {key: value for key, value in request.session.items() if not key.startswith("_auth")},
    )


def refusal_of(client: Client, view: Any, path: str = "/") -> str:
    """Return why the view is refused; Django would only answer 403."""

    def refused(request: Any) -> str:
        with pytest.raises(PermissionDenied) as error:
            view(request)
        return str(error.value)

    return str(visit(client, refused, path).content.decode()).strip("'")


def seen(client: Client, path: str = "/") -> str:
    return str(visit(client, describe, path).content.decode())


@pytest.fixture
def admin_client(client: Client, superuser: Any) -> Client:
    """Where the superuser is logged in to the frontend, with something in the basket."""
    client.force_login(superuser)
    visit(client, lambda request: request.session.update({"note": "mine"}))
    return client


@pytest.fixture
def switched(admin_client: Client, alice: Any) -> Client:
    visit(admin_client, switch_to(alice))
    return admin_client


# Switching


def test_switched_session_is_the_targets_and_remembers_the_original_user(
    switched: Client, superuser: Any, alice: Any
) -> None:
    assert seen(switched) == f"('alice', 'admin', {{'backuserid': {superuser.pk}}})"
    (row,) = FrontendSession.objects.all()
    assert row.ses_userid == alice.pk


def test_target_never_sees_the_original_users_data(switched: Client) -> None:
    """Attack: read what the session held before, as the target or in a page for the target."""
    shown = visit(switched, lambda request: (dict(request.session), request.session.user_session))
    assert b"mine" not in shown.content


def test_switching_gives_a_new_identifier_in_one_update(
    admin_client: Client, alice: Any, session_queries: SessionQueries
) -> None:
    before = admin_client.cookies["fe_sessionid"].value
    with session_queries:
        visit(admin_client, switch_to(alice))
    assert session_queries.kinds == ["SELECT", "UPDATE"]
    assert admin_client.cookies["fe_sessionid"].value != before


def test_request_that_switches_sees_both_users_at_once(admin_client: Client, alice: Any) -> None:
    def view(request: Any) -> Any:
        auth.switch_user(request, alice)
        return request.user.username, request.original_user.username

    assert visit(admin_client, view).content == b"('alice', 'admin')"


def test_session_that_is_not_switched_has_no_original_user(admin_client: Client) -> None:
    assert seen(admin_client) == "('admin', None, {'note': 'mine'})"


# Coming back


def test_exit_brings_back_user_and_data_under_a_new_identifier(
    switched: Client, superuser: Any
) -> None:
    before = switched.cookies["fe_sessionid"].value
    visit(switched, lambda request: request.session.update({"note": "hers"}))
    assert visit(switched, go_back()).content == b"'admin'"
    assert seen(switched) == "('admin', None, {'note': 'mine'})"
    assert switched.cookies["fe_sessionid"].value != before
    assert [row.ses_userid for row in FrontendSession.objects.all()] == [superuser.pk]


def test_exit_without_switch_is_refused(admin_client: Client) -> None:
    assert refusal_of(admin_client, go_back()) == "You have not switched user."


def test_switched_session_is_worth_nothing_once_the_original_user_is_gone(
    switched: Client, superuser: Any
) -> None:
    superuser.delete()
    assert seen(switched) == "('', None, {})"


def test_new_secret_key_does_not_keep_anybody_from_coming_back(
    switched: Client, settings: Any
) -> None:
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the key that came after" * 3
    assert visit(switched, go_back()).content == b"'admin'"
    assert seen(switched) == "('admin', None, {'note': 'mine'})"


def test_switch_outlives_the_old_secret_key_if_it_is_used_meanwhile(
    switched: Client, settings: Any
) -> None:
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the key that came after" * 3
    before = seen(switched)
    settings.SECRET_KEY_FALLBACKS = []
    assert seen(switched) == before
    assert visit(switched, go_back()).content == b"'admin'"
    assert seen(switched) == "('admin', None, {'note': 'mine'})"


def test_login_of_the_targets_own_starts_without_what_was_done_in_their_place(
    switched: Client, alice: Any
) -> None:
    """Attack: a superuser leaves something in a customer's session, for their next order."""
    visit(switched, lambda request: request.session.update({"deliver_to": "the superuser"}))
    visit(switched, lambda request: django_auth.login(request, alice))
    assert seen(switched) == "('alice', None, {})"


def test_data_that_the_original_user_stores_meanwhile_is_put_aside(
    admin_client: Client, alice: Any
) -> None:
    """Two tabs: one switches, the other one goes on filling the superuser's session."""

    def slow_switch(request: Any) -> None:
        auth.switch_user(request, alice)
        theirs = SessionStore(request.COOKIES["fe_sessionid"])
        theirs["secret"] = "the superuser's"
        theirs.save()

    visit(admin_client, slow_switch)
    assert "secret" not in seen(admin_client)
    visit(admin_client, go_back())
    assert "'secret': \"the superuser's\"" in seen(admin_client)


def test_data_that_the_target_stores_meanwhile_does_not_come_along(
    switched: Client, alice: Any
) -> None:
    def slow_exit(request: Any) -> None:
        auth.exit_switch_user(request)
        theirs = SessionStore(request.COOKIES["fe_sessionid"])
        theirs["hers"] = 1
        theirs.save()

    visit(switched, slow_exit)
    assert seen(switched) == "('admin', None, {'note': 'mine'})"


def test_switching_does_not_count_as_a_session_of_the_target(
    admin_client: Client, other_client: Client, alice: Any, settings: Any
) -> None:
    settings.USERSESSIONS = {"FE": {"MAX_SESSIONS_PER_USER": 1}}
    other_client.force_login(alice)
    visit(admin_client, switch_to(alice))
    assert seen(other_client) == "('alice', None, {})"


# From the backend to the frontend


@pytest.fixture
def backend_client(client: Client, superuser: Any) -> Client:
    client.force_login(superuser, login_type="BE")
    return client


def test_superuser_in_the_backend_sees_the_frontend_as_a_customer(
    backend_client: Client, superuser: Any, alice: Any
) -> None:
    response = visit(backend_client, switch_to(alice, login_type="FE"), "/admin/")
    assert session_cookies(response) == ["fe_sessionid"]
    assert seen(backend_client) == f"('alice', 'admin', {{'backuserid': {superuser.pk}}})"
    assert seen(backend_client, "/admin/") == "('admin', None, {})"
    assert [row.ses_userid for row in BackendSession.objects.all()] == [superuser.pk]


def test_exit_from_a_frontend_that_held_nothing_ends_its_session(
    backend_client: Client, alice: Any
) -> None:
    visit(backend_client, switch_to(alice, login_type="FE"), "/admin/")
    assert visit(backend_client, go_back(login_type="FE"), "/admin/").content == b"''"
    assert FrontendSession.objects.count() == 0
    assert seen(backend_client, "/admin/") == "('admin', None, {})"


def test_exit_brings_back_the_visitors_basket_that_was_put_aside(
    backend_client: Client, alice: Any
) -> None:
    visit(backend_client, lambda request: request.session.update({"note": "mine"}))
    visit(backend_client, switch_to(alice, login_type="FE"), "/admin/")
    assert "mine" not in seen(backend_client)
    visit(backend_client, go_back())
    assert seen(backend_client) == "('', None, {'note': 'mine'})"


def test_exit_brings_back_the_customer_who_was_put_aside(
    backend_client: Client, alice: Any, bob: Any
) -> None:
    backend_client.force_login(bob)
    visit(backend_client, switch_to(alice, login_type="FE"), "/admin/")
    visit(backend_client, go_back())
    assert seen(backend_client) == "('bob', None, {})"


def test_customer_who_was_put_aside_and_locked_meanwhile_does_not_come_back(
    backend_client: Client, alice: Any, bob: Any
) -> None:
    backend_client.force_login(bob)
    visit(backend_client, switch_to(alice, login_type="FE"), "/admin/")
    User.objects.filter(pk=bob.pk).update(is_active=False)
    visit(backend_client, go_back())
    assert seen(backend_client) == "('', None, {})"
    assert FrontendSession.objects.count() == 0


# Refusals


def test_user_whom_no_backend_knows_cannot_be_switched_to(admin_client: Client, alice: Any) -> None:
    alice.delete()
    alice.pk = 999_999
    refusal = refusal_of(admin_client, switch_to(alice))
    assert refusal == "No authentication backend knows this user."


# Who is told


def test_both_ends_are_signalled_and_logged_in_the_admin(
    admin_client: Client, superuser: Any, alice: Any
) -> None:
    heard = []

    def hear(signal: Any, original_user: Any, target_user: Any, login_type: str, **_: Any) -> None:
        heard.append((signal is user_switched, original_user, target_user, login_type))

    user_switched.connect(hear)
    user_switched_back.connect(hear)
    try:
        visit(admin_client, switch_to(alice))
        visit(admin_client, go_back())
    finally:
        user_switched.disconnect(hear)
        user_switched_back.disconnect(hear)
    assert heard == [(True, superuser, alice, "FE"), (False, superuser, alice, "FE")]
    entries = LogEntry.objects.order_by("pk")
    assert [
        (entry.user, entry.object_id, entry.object_repr, entry.change_message) for entry in entries
    ] == [
        (superuser, str(alice.pk), "alice", "Switched to this user (FE)."),
        (superuser, str(alice.pk), "alice", "Switched back from this user (FE)."),
    ]


def test_site_without_the_admin_is_not_logged_to_it(
    admin_client: Client, alice: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usersessions.receivers.ADMIN", "not.installed")
    visit(admin_client, switch_to(alice))
    assert LogEntry.objects.count() == 0


# The URLs


def post(client: Client, path: str, **data: Any) -> Any:
    return client.post(f"/usersessions/{path}/", data)


def test_switching_by_post_redirects_to_next(admin_client: Client, alice: Any) -> None:
    response = post(admin_client, "switch-user", user=alice.pk, next="/there/")
    assert (response.status_code, response["Location"]) == (302, "/there/")
    assert seen(admin_client).startswith("('alice', 'admin'")


def test_exit_by_post_redirects_to_the_login_redirect_url(switched: Client, settings: Any) -> None:
    settings.LOGIN_REDIRECT_URL = "/account/"
    response = post(switched, "exit-switch-user", login_type="FE")
    assert (response.status_code, response["Location"]) == (302, "/account/")
    assert seen(switched).startswith("('admin', None")


def test_redirect_to_another_site_is_not_followed(
    admin_client: Client, alice: Any, settings: Any
) -> None:
    """Attack: an open redirect by way of ``next``."""
    settings.LOGIN_REDIRECT_URL = "/account/"
    response = post(admin_client, "switch-user", user=alice.pk, next="https://evil.example/")
    assert response["Location"] == "/account/"


@pytest.mark.parametrize("path", ["switch-user", "exit-switch-user"])
def test_switching_by_get_is_not_allowed(admin_client: Client, path: str) -> None:
    """Attack: an image on any page whose address is the switch."""
    assert admin_client.get(f"/usersessions/{path}/").status_code == 405


@pytest.mark.parametrize("path", ["switch-user", "exit-switch-user"])
def test_switching_asks_for_a_csrf_token(superuser: Any, alice: Any, path: str) -> None:
    """Attack: a form on another site that posts here."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(superuser)
    assert post(client, path, user=alice.pk).status_code == 403
    assert seen(client).startswith("('admin', None")


@pytest.mark.parametrize("user", ["", "0", "999999", "x", "1 OR 1=1"])
def test_unknown_user_is_not_found(admin_client: Client, user: str) -> None:
    assert post(admin_client, "switch-user", user=user).status_code == 404


def test_nobody_else_learns_which_users_there_are(client: Client, alice: Any) -> None:
    """Attack: count the users by trying their ids."""
    for each in (Client(), client):
        assert post(each, "switch-user", user=999_999).status_code == 403
        client.force_login(alice)


def test_unknown_login_type_is_a_bad_request(admin_client: Client, alice: Any) -> None:
    response = post(admin_client, "switch-user", user=alice.pk, login_type="XX")
    assert response.status_code == 400
