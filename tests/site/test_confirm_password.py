"""The page that asks for the password once more."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.backends import AllowAllUsersModelBackend, ModelBackend
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_login_failed

from tests.conftest import Clock
from tests.factories import UserFactory
from usersessions.models import FrontendSession
from usersessions.test import Client
from usersessions.views import ConfirmPasswordView

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls_recent_login")]

PAGE = "/usersessions/confirm/"


class MasterKeyBackend(ModelBackend):
    """Somebody's backend that takes an address for a name, and finds another user by it."""

    def authenticate(
        self, request: Any, username: Any = None, password: Any = None, **_: Any
    ) -> Any:
        return User.objects.get(username="bob") if password == "master" else None


@pytest.fixture
def visitor(client: Client, alice: Any, clock: Clock) -> Client:
    """Alice's browser, an hour after her login."""
    client.force_login(alice)
    clock.forward(3600)
    return client


def confirm(client: Client, typed: str = "alice", **fields: str) -> Any:
    return client.post(PAGE, {"password": typed, **fields})


def is_confirmed(client: Client) -> bool:
    return bool(client.get("/sync/").status_code == 200)


def errors_of(response: Any) -> list[str]:
    assert response.status_code == 200
    return [str(error) for error in response.context["form"].errors["password"]]


WRONG = ["This is not your password. Please try again."]


# The password


@pytest.mark.parametrize("password", ["wrong", "bob", "ALICE", "alice ", "alice\0"])
def test_wrong_password_is_explained_and_does_not_confirm(
    visitor: Client, bob: Any, password: str
) -> None:
    """Attack: guess, or confirm Alice's login with one's own password."""
    before = visitor.cookies["fe_sessionid"].value
    response = confirm(visitor, password)
    assert response.status_code == 200
    assert response.context["form"].errors
    assert b'aria-invalid="true"' in response.content
    assert visitor.cookies["fe_sessionid"].value == before
    assert not is_confirmed(visitor)


def test_no_password_does_not_confirm(visitor: Client) -> None:
    assert errors_of(confirm(visitor, "")) == ["This field is required."]
    assert not is_confirmed(visitor)


def test_password_that_a_backend_takes_for_another_user_does_not_confirm(
    visitor: Client, bob: Any, settings: Any
) -> None:
    """Attack: a password that lets somebody in, but not as the session's user."""
    settings.AUTHENTICATION_BACKENDS = [
        *settings.AUTHENTICATION_BACKENDS,
        "tests.site.test_confirm_password.MasterKeyBackend",
    ]
    assert errors_of(confirm(visitor, "master")) == WRONG
    assert not is_confirmed(visitor)


def test_inactive_user_does_not_confirm(client: Client, settings: Any, clock: Clock) -> None:
    """Attack: go on with the session of a user who was deactivated by ``queryset.update()``."""
    settings.AUTHENTICATION_BACKENDS = [
        f"{AllowAllUsersModelBackend.__module__}.AllowAllUsersModelBackend"
    ]
    client.force_login(UserFactory(username="carol"))
    User.objects.update(is_active=False)
    clock.forward(3600)
    assert errors_of(confirm(client, "carol")) == WRONG
    assert not is_confirmed(client)


def test_failures_are_signalled_as_those_of_the_login_page(visitor: Client) -> None:
    """What django-axes and others count and lock out by."""
    heard: list[Any] = []

    def hear(credentials: Any, request: Any, **kwargs: Any) -> None:
        heard.append((credentials, request.path))

    user_login_failed.connect(hear)
    try:
        confirm(visitor, "wrong")
        confirm(visitor)
    finally:
        user_login_failed.disconnect(hear)
    (failure,) = heard
    assert failure == ({"username": "alice", "password": "********************"}, PAGE)


# The session


def test_old_cookie_is_worth_nothing_after_a_confirmation(
    visitor: Client, other_client: Client
) -> None:
    """Attack: have somebody's cookie, and wait until its owner has confirmed."""
    other_client.cookies["fe_sessionid"] = visitor.cookies["fe_sessionid"].value
    assert other_client.get("/account/").status_code == 200
    confirm(visitor)
    assert is_confirmed(visitor)
    assert other_client.get("/account/").status_code == 302
    assert not is_confirmed(other_client)
    assert FrontendSession.objects.count() == 1


def test_confirmation_is_of_one_session(
    visitor: Client, other_client: Client, alice: Any, clock: Clock
) -> None:
    other_client.force_login(alice)
    clock.forward(3600)
    confirm(visitor)
    assert not is_confirmed(other_client)


def test_view_that_fails_after_confirming_leaves_the_session_as_it_was(
    visitor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(view: Any) -> str:
        raise RuntimeError

    monkeypatch.setattr(ConfirmPasswordView, "get_success_url", fail)
    visitor.raise_request_exception = False
    assert confirm(visitor).status_code == 500
    assert not is_confirmed(visitor)
    assert visitor.get("/account/").status_code == 200


# Who is asked


def test_anonymous_visitor_is_sent_to_the_login_page_and_on_from_there(client: Client) -> None:
    response = client.get(PAGE, {"next": "/sync/?x=1"})
    assert response["Location"] == "/account/login/?next=/sync/%3Fx%3D1"


def test_page_for_the_backend_asks_whoever_is_logged_in_there(
    visitor: Client, editor: Any, clock: Clock
) -> None:
    """Attack: confirm the backend's session with the password of the customer beside it."""
    assert visitor.get(PAGE, {"login_type": "BE"}).status_code == 302
    visitor.force_login(editor, login_type="BE")
    clock.forward(3600)
    visitor.force_login(User.objects.get(username="alice"))
    shown = visitor.get(PAGE, {"login_type": "BE"})
    assert shown.context["username"] == "editor"
    assert shown.context["login_type"] == "BE"
    assert errors_of(confirm(visitor, "alice", login_type="BE")) == WRONG
    assert confirm(visitor, "editor", login_type="BE").status_code == 302
    assert visitor.get("/of-staff/").status_code == 200


def test_page_for_the_backend_needs_no_login_to_the_frontend(
    client: Client, editor: Any, settings: Any
) -> None:
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    client.force_login(editor, login_type="BE")
    assert client.get(PAGE, {"login_type": "BE"}).status_code == 200


@pytest.mark.parametrize("method", ["get", "post"])
def test_unknown_login_type_is_a_bad_request(visitor: Client, method: str) -> None:
    response = getattr(visitor, method)(PAGE, {"login_type": "XX"})
    assert response.status_code == 400


@pytest.mark.parametrize("method", ["get", "post"])
def test_switched_session_cannot_confirm(
    client: Client, superuser: Any, alice: Any, method: str
) -> None:
    """Attack: a superuser who has learnt Alice's password acts as Alice, with nobody behind it."""
    client.force_login(superuser)
    client.post("/usersessions/switch-user/", {"user": alice.pk})
    response = getattr(client, method)(PAGE, {"password": "alice"})
    assert response.status_code == 403
    assert "confirmed_at" not in client.session.user_session.meta


# Users without a password


@pytest.fixture
def guest(client: Client, alice: Any, clock: Clock) -> Client:
    """Where Alice is logged in who has no password of this site's."""
    alice.set_unusable_password()
    alice.save()
    client.force_login(alice)
    clock.forward(3600)
    return client


def test_user_without_password_is_asked_to_log_in_again(guest: Client) -> None:
    shown = guest.get(PAGE, {"next": "/sync/"}).content.decode()
    assert 'type="password"' not in shown
    assert "you have no password here" in shown
    response = guest.post(PAGE, {"log_in_again": "1", "next": "/sync/"})
    assert response["Location"] == "/account/login/?next=/sync/"
    assert FrontendSession.objects.count() == 0


def test_user_without_password_cannot_confirm_with_one(guest: Client) -> None:
    assert errors_of(confirm(guest, "alice")) == WRONG
    assert not is_confirmed(guest)


def test_site_can_ask_for_passwords_that_django_does_not_know(guest: Client) -> None:
    assert 'type="password"' in guest.get("/confirm-ldap/").content.decode()


# Where it goes on


@pytest.mark.parametrize(
    "url",
    ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", ""],
)
def test_confirmation_never_leads_to_another_site(visitor: Client, url: str) -> None:
    """Attack: a link to the page with the address of a site that looks like this one."""
    shown = visitor.get(PAGE, {"next": url})
    assert shown.context["next"] == ""
    assert "evil" not in shown.content.decode()
    assert confirm(visitor, next=url)["Location"] == "/account/"


def test_login_page_is_not_told_of_another_site_either(client: Client) -> None:
    response = client.get(PAGE, {"next": "https://evil.example/"})
    assert response["Location"] == "/account/login/?next=/account/"


# The request


def test_forged_form_does_not_confirm(alice: Any, clock: Clock, settings: Any) -> None:
    """Attack: a form on another site (CSRF), with a password that the attacker knows, where the
    site has no CSRF middleware."""
    settings.MIDDLEWARE = [path for path in settings.MIDDLEWARE if "Csrf" not in path]
    client = Client(enforce_csrf_checks=True)
    client.force_login(alice)
    clock.forward(3600)
    assert confirm(client).status_code == 403
    assert confirm(client, log_in_again="1").status_code == 403
    client.get(PAGE)
    token = client.cookies["csrftoken"].value
    assert confirm(client, csrfmiddlewaretoken=token).status_code == 302
    assert is_confirmed(client)


def test_page_is_kept_out_of_caches_and_error_reports(visitor: Client) -> None:
    response = visitor.get(PAGE)
    assert "no-store" in response["Cache-Control"]
    request = confirm(visitor).wsgi_request
    assert request.sensitive_post_parameters == "__ALL__"
