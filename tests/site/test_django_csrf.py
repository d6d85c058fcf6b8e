"""``CSRF_USE_SESSIONS``: the token lives in the session of the login type that serves the path."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import auth
from django.middleware.csrf import CSRF_SESSION_KEY

from tests.urls import site_of, visit
from usersessions.models import BackendSession, FrontendSession
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls_django")]

REFUSED = 403


@pytest.fixture(autouse=True)
def _tokens_in_sessions(settings: Any) -> None:
    settings.CSRF_USE_SESSIONS = True


@pytest.fixture
def browser() -> Client:
    return Client(enforce_csrf_checks=True)


def token_of(browser: Client, path: str = "/csrf-token/") -> str:
    return str(browser.get(path).content.decode())


def post(browser: Client, token: str, path: str = "/", **data: str) -> Any:
    with site_of(lambda request: "posted"):
        return browser.post(path, {"csrfmiddlewaretoken": token, **data})


def token_in_form(response: Any) -> str:
    return str(response.context["csrf_token"])


def test_form_stores_its_token_in_the_session_and_sets_no_cookie_of_its_own(
    browser: Client,
) -> None:
    response = browser.get("/csrf-token/")
    assert list(response.cookies) == ["fe_sessionid"]
    assert list(browser.session.keys()) == [CSRF_SESSION_KEY]
    assert post(browser, response.content.decode()).status_code == 200
    assert FrontendSession.objects.count() == 1


def test_post_without_token_or_with_somebody_elses_is_refused_and_stores_nothing(
    browser: Client,
) -> None:
    """Attack: a form on another site, with no token or with one that the attacker was given."""
    for token in ("", token_of(Client())):
        response = post(browser, token)
        assert response.status_code == REFUSED
        assert not response.cookies
    assert FrontendSession.objects.count() == 1  # the attacker's


def test_login_gives_a_new_token(browser: Client, alice: Any) -> None:
    before = token_of(browser)
    login = post(browser, before, "/accounts/login/", username="alice", password="alice")
    assert login.status_code == 302
    assert post(browser, before).status_code == REFUSED
    assert post(browser, token_of(browser)).status_code == 200
    assert [row.ses_userid for row in FrontendSession.objects.all()] == [alice.pk]


def test_token_ends_with_the_session(browser: Client, alice: Any) -> None:
    browser.force_login(alice)
    before = token_of(browser)
    assert post(browser, before, "/accounts/logout/").status_code == 200
    assert post(browser, before).status_code == REFUSED
    assert FrontendSession.objects.count() == 0


def test_token_of_the_frontend_is_none_of_the_backend(browser: Client, superuser: Any) -> None:
    """Attack: whoever can read a page of the shop posts to the admin."""
    browser.force_login(superuser, login_type="BE")
    assert post(browser, token_of(browser), "/admin/logout/").status_code == REFUSED
    assert BackendSession.objects.count() == 1


def test_admin_lets_in_and_out(browser: Client, superuser: Any) -> None:
    token = token_in_form(browser.get("/admin/login/?next=/admin/"))
    people = {"username": "admin", "password": "admin"}
    assert post(browser, token, "/admin/login/?next=/admin/", **people).status_code == 302
    token = token_in_form(browser.get("/admin/"))
    assert post(browser, token, "/admin/logout/").status_code == 200
    assert BackendSession.objects.count() == 0


def test_failed_view_does_not_cost_the_visitor_the_token(browser: Client, alice: Any) -> None:
    token = token_of(browser)

    def fail(request: Any) -> None:
        auth.login(request, alice)
        raise RuntimeError

    browser.raise_request_exception = False
    assert visit(browser, fail).status_code == 500
    assert post(browser, token).status_code == 200
