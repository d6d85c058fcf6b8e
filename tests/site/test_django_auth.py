"""Logins that Django's own middleware, authentication backends and admin make on our sessions."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import auth
from django.contrib.auth.models import User
from django.test import AsyncClient

from tests.conftest import Clock, SessionQueries
from tests.urls import avisit, site_of, visit
from usersessions.models import BackendSession, FrontendSession
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls_django")]

MODEL = "django.contrib.auth.backends.ModelBackend"
ALLOW_ALL = "django.contrib.auth.backends.AllowAllUsersModelBackend"
REMOTE = "django.contrib.auth.backends.RemoteUserBackend"


def name(request: Any) -> str:
    return str(request.user.get_username())


async def aname(request: Any) -> str:
    return str((await request.auser()).get_username())


def who(client: Client, path: str = "/", **extra: Any) -> str:
    return str(visit(client, name, path, **extra).content.decode()).strip("'")


def put_basket(request: Any) -> None:
    request.session["basket"] = {"apple": 3}


def fe_users() -> list[int]:
    return [row.ses_userid for row in FrontendSession.objects.all()]


def cookie_of(client: Client) -> str:
    return str(client.cookies["fe_sessionid"].value)


# RemoteUserMiddleware


@pytest.fixture
def remote_user(settings: Any) -> None:
    """The web server says who somebody is, with every request."""
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.RemoteUserMiddleware",
    ]
    settings.AUTHENTICATION_BACKENDS = [REMOTE, MODEL]


@pytest.fixture
def persistent_remote_user(settings: Any) -> None:
    """The web server says who somebody is, at the login only."""
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.PersistentRemoteUserMiddleware",
    ]
    settings.AUTHENTICATION_BACKENDS = [REMOTE, MODEL]


@pytest.mark.usefixtures("remote_user")
def test_remote_user_is_logged_in_once_under_a_new_identifier_with_the_basket(
    client: Client, alice: Any, session_queries: SessionQueries
) -> None:
    visit(client, put_basket)
    before = cookie_of(client)
    assert who(client, REMOTE_USER="alice") == "alice"
    after = cookie_of(client)
    assert after != before
    assert client.session["basket"] == {"apple": 3}
    with session_queries:
        assert who(client, REMOTE_USER="alice") == "alice"
    assert session_queries.kinds == ["SELECT"]
    assert cookie_of(client) == after
    assert fe_users() == [alice.pk]


@pytest.mark.usefixtures("remote_user")
def test_another_remote_user_gets_a_session_without_the_first_ones_data(
    client: Client, alice: Any
) -> None:
    who(client, REMOTE_USER="alice")
    visit(client, put_basket, REMOTE_USER="alice")
    assert who(client, REMOTE_USER="carol") == "carol"
    assert "basket" not in client.session
    assert fe_users() == [User.objects.get(username="carol").pk]


@pytest.mark.usefixtures("remote_user")
def test_remote_user_is_logged_out_once_the_server_names_nobody(client: Client, alice: Any) -> None:
    who(client, REMOTE_USER="alice")
    response = visit(client, name)
    assert response.content == b"''"
    assert response.cookies["fe_sessionid"]["max-age"] == 0
    assert FrontendSession.objects.count() == 0


@pytest.mark.usefixtures("persistent_remote_user")
def test_persistent_remote_user_stays_logged_in_when_the_server_names_nobody(
    client: Client, alice: Any
) -> None:
    who(client, REMOTE_USER="alice")
    assert who(client) == who(client) == "alice"
    assert fe_users() == [alice.pk]


@pytest.mark.usefixtures("remote_user")
def test_login_by_password_is_none_of_the_remote_users(client: Client, alice: Any) -> None:
    client.post("/accounts/login/", {"username": "alice", "password": "alice"})
    assert who(client) == "alice"


@pytest.mark.usefixtures("remote_user")
def test_remote_user_has_a_session_in_each_login_type_that_is_visited(
    client: Client, superuser: Any
) -> None:
    who(client, REMOTE_USER="admin")
    assert client.get("/admin/", REMOTE_USER="admin").status_code == 200
    assert fe_users() == [row.ses_userid for row in BackendSession.objects.all()] == [superuser.pk]


@pytest.mark.usefixtures("remote_user")
def test_remote_user_of_an_async_site(alice: Any) -> None:
    client = AsyncClient()
    avisit(client, aname, headers={"remote-user": "alice"})
    assert avisit(client, aname, headers={"remote-user": "alice"}).content == b"'alice'"
    assert fe_users() == [alice.pk]
    avisit(client, aname)
    assert FrontendSession.objects.count() == 0


# Several authentication backends


@pytest.fixture
def locked_bob(bob: Any) -> Any:
    """Somebody whom the first backend refuses and the second lets in."""
    bob.is_active = False
    bob.save()
    return bob


@pytest.fixture
def logged_in_by_the_second(client: Client, locked_bob: Any, settings: Any) -> Client:
    settings.AUTHENTICATION_BACKENDS = [MODEL, ALLOW_ALL]

    def view(request: Any) -> str:
        user: Any = auth.authenticate(request, username="bob", password="bob")
        auth.login(request, user)
        return str(user.backend)

    assert visit(client, view).content.decode() == repr(ALLOW_ALL)
    return client


def test_session_remembers_which_backend_has_let_its_user_in(
    logged_in_by_the_second: Client, locked_bob: Any
) -> None:
    assert who(logged_in_by_the_second) == "bob"
    assert fe_users() == [locked_bob.pk]


def test_session_of_a_backend_that_was_taken_out_of_the_settings_is_anonymous(
    logged_in_by_the_second: Client, settings: Any
) -> None:
    settings.AUTHENTICATION_BACKENDS = [MODEL]
    assert who(logged_in_by_the_second) == ""
    settings.AUTHENTICATION_BACKENDS = [ALLOW_ALL, MODEL]
    assert who(logged_in_by_the_second) == "bob"


def test_login_over_a_session_of_a_backend_that_is_gone_takes_nothing_along(
    logged_in_by_the_second: Client, settings: Any, alice: Any
) -> None:
    client = logged_in_by_the_second
    visit(client, put_basket)
    settings.AUTHENTICATION_BACKENDS = [MODEL]
    before = cookie_of(client)
    client.post("/accounts/login/", {"username": "alice", "password": "alice"})
    assert cookie_of(client) != before
    assert who(client) == "alice"
    assert "basket" not in client.session
    assert fe_users() == [alice.pk]


def test_login_that_does_not_say_which_backend_changes_nothing(
    logged_in_by_the_second: Client, alice: Any
) -> None:
    def view(request: Any) -> None:
        with pytest.raises(ValueError, match="multiple authentication backends"):
            auth.login(request, alice)

    # Django has emptied the session of the other user by then.
    visit(logged_in_by_the_second, view)
    assert who(logged_in_by_the_second) == ""
    assert FrontendSession.objects.count() == 0


# LoginRequiredMiddleware


@pytest.fixture
def login_required(settings: Any) -> None:
    settings.MIDDLEWARE = [
        *settings.MIDDLEWARE,
        "django.contrib.auth.middleware.LoginRequiredMiddleware",
    ]
    settings.LOGIN_URL = "/accounts/login/"


@pytest.mark.usefixtures("login_required")
def test_visitors_see_login_pages_only_and_get_no_session(client: Client) -> None:
    response = visit(client, name, "/orders/")
    assert response.headers["Location"] == "/accounts/login/?next=/orders/"
    assert response.headers["Vary"] == "Cookie"
    for path in ("/accounts/login/", "/accounts/password_reset/", "/csrf-token/"):
        assert client.get(path).status_code == 200
    assert client.get("/admin/").headers["Location"] == "/admin/login/?next=/admin/"
    assert set(client.cookies) == {"csrftoken"}
    assert FrontendSession.objects.count() == 0


@pytest.mark.usefixtures("login_required")
def test_user_gets_in_to_the_login_type_of_the_login_and_out_again(
    client: Client, alice: Any
) -> None:
    people = {"username": "alice", "password": "alice"}
    response = client.post("/accounts/login/?next=/orders/", people)
    assert response.headers["Location"] == "/orders/"
    assert who(client, "/orders/") == "alice"
    assert client.get("/admin/").headers["Location"] == "/admin/login/?next=/admin/"
    client.post("/accounts/logout/")
    assert visit(client, name, "/orders/").status_code == 302


@pytest.mark.usefixtures("login_required")
def test_async_views_require_a_login_too(alice: Any) -> None:
    client = AsyncClient()
    assert avisit(client, aname).headers["Location"] == "/accounts/login/?next=/async/"
    client.cookies.update(_cookies_of(alice))
    assert avisit(client, aname).content == b"'alice'"


def _cookies_of(user: Any) -> Any:
    client = Client()
    client.force_login(user)
    return client.cookies


# The admin


def test_admin_lets_staff_in_and_out_of_the_backend_alone(
    client: Client, superuser: Any, alice: Any
) -> None:
    client.force_login(alice)
    assert client.get("/admin/").headers["Location"] == "/admin/login/?next=/admin/"
    people = {"username": "admin", "password": "admin"}
    response = client.post("/admin/login/?next=/admin/", people)
    assert response.headers["Location"] == "/admin/"
    assert response.cookies["be_sessionid"]["samesite"] == "Strict"
    assert "fe_sessionid" not in response.cookies
    assert client.get("/admin/").status_code == 200
    response = client.post("/admin/logout/")
    assert response.cookies["be_sessionid"]["max-age"] == 0
    assert BackendSession.objects.count() == 0
    assert client.get("/admin/").status_code == 302
    assert who(client) == "alice"


def test_customer_who_tries_the_admins_login_gets_no_backend_session(
    client: Client, alice: Any
) -> None:
    response = client.post("/admin/login/", {"username": "alice", "password": "alice"})
    assert (response.status_code, "be_sessionid" in response.cookies) == (200, False)
    assert BackendSession.objects.count() == 0


# A new SECRET_KEY


@pytest.fixture
def customer(client: Client, alice: Any, clock: Clock) -> Client:
    visit(client, put_basket)
    client.force_login(alice)
    return client


def change_key(settings: Any) -> None:
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "the key that came after" * 3


def test_whoever_used_the_site_while_the_old_key_was_a_fallback_is_still_logged_in(
    customer: Client, other_client: Client, alice: Any, bob: Any, settings: Any
) -> None:
    other_client.force_login(bob)
    before = cookie_of(customer)
    change_key(settings)
    assert who(customer) == "alice"
    assert cookie_of(customer) != before
    settings.SECRET_KEY_FALLBACKS = []
    assert who(customer) == "alice"
    assert customer.session["basket"] == {"apple": 3}
    assert who(other_client) == ""  # was not here in time


def test_hash_of_the_password_moves_to_the_new_key_under_a_new_identifier(
    customer: Client, settings: Any, session_queries: SessionQueries
) -> None:
    before = dict(customer.session.items())
    cookie = cookie_of(customer)
    change_key(settings)
    with session_queries:
        who(customer)
    assert session_queries.kinds == ["SELECT", "UPDATE"]
    after = dict(customer.session.items())
    assert {key for key in before if after[key] != before[key]} == {auth.HASH_SESSION_KEY}
    assert cookie_of(customer) != cookie
    with session_queries:
        who(customer)
    assert session_queries.kinds == ["SELECT"]


def test_two_requests_at_once_after_a_key_change_log_nobody_out(
    customer: Client, settings: Any
) -> None:
    """Both have read the session under the old key; the one that stores it last must not end it."""
    change_key(settings)
    other_tab = Client()
    other_tab.cookies["fe_sessionid"] = cookie_of(customer)

    def slow(request: Any) -> str:
        seen = name(request)
        assert who(customer) == "alice"
        return seen

    with site_of(slow):
        response = other_tab.get("/")
    assert (response.status_code, response.content) == (200, b"'alice'")
    assert "fe_sessionid" not in response.cookies
    assert who(customer) == "alice"
    assert FrontendSession.objects.count() == 1


def test_key_change_of_an_async_site(settings: Any, alice: Any) -> None:
    client = AsyncClient()
    client.cookies.update(_cookies_of(alice))
    change_key(settings)
    assert avisit(client, aname).content == b"'alice'"
    settings.SECRET_KEY_FALLBACKS = []
    assert avisit(client, aname).content == b"'alice'"
