"""django-allauth: logging in and out, the password, its list of sessions, what it keeps of ours."""

from __future__ import annotations

from typing import Any

import pytest

from tests.system.integration.conftest import fill_basket, has_basket, identifier_of, need, owners
from usersessions.test import Client

need("allauth")

from allauth.usersessions.models import UserSession

pytestmark = pytest.mark.django_db

SESSIONS = "/accounts/sessions/"


def log_in(client: Client, name: str = "alice") -> Any:
    response = client.post("/accounts/login/", {"login": name, "password": name})
    assert response.status_code == 302
    return response


def is_logged_in(client: Client) -> bool:
    return client.get("/account/").status_code == 200


def listed(client: Client) -> int:
    """How many sessions the page of ``allauth.usersessions`` lists."""
    response = client.get(SESSIONS)
    assert response.status_code == 200
    assert response.content.decode().count("Current") == 1
    return int(response.context["session_count"])


# Login and logout


def test_login_keeps_the_basket_under_a_new_identifier(client: Client, alice: Any) -> None:
    fill_basket(client)
    before = identifier_of(client)
    log_in(client)
    assert identifier_of(client) != before
    assert owners() == {"BE": [], "FE": [alice.pk]}
    assert has_basket(client)
    assert UserSession.objects.get().session_key == identifier_of(client)


def test_logout_ends_exactly_this_session(
    client: Client, other_client: Client, alice: Any, editor: Any
) -> None:
    log_in(client)
    log_in(other_client)
    client.force_login(editor, login_type="BE")
    response = client.post("/accounts/logout/")
    assert response.cookies["fe_sessionid"]["max-age"] == 0
    assert "be_sessionid" not in response.cookies
    assert owners() == {"BE": [editor.pk], "FE": [alice.pk]}
    assert not is_logged_in(client)
    assert is_logged_in(other_client)


def test_login_through_a_provider_keeps_the_basket(client: Client, alice: Any) -> None:
    """allauth saves the session in its midst and puts a new store in ``request.session``."""
    fill_basket(client)
    before = identifier_of(client)
    response = client.post("/accounts/dummy/login/")
    assert identifier_of(client) == before
    form = {"id": "7", "username": "carol", "email": "carol@example.org"}
    client.post(response.url, form)
    assert identifier_of(client) != before
    assert is_logged_in(client)
    assert has_basket(client)
    assert len(owners()["FE"]) == 1


def test_login_through_a_provider_below_a_prefix_is_one_to_the_backend(
    client: Client, settings: Any, db: None
) -> None:
    """allauth opens a bare ``SessionStore(session_key)`` in its midst."""
    settings.USERSESSIONS = {"BE": {"URL_PREFIXES": ["/admin/", "/accounts/"]}}
    response = client.post("/accounts/dummy/login/")
    client.post(response.url, {"id": "7", "username": "carol"})
    assert owners()["FE"] == []
    assert len(owners()["BE"]) == 1
    assert listed(client) == 1


# The password


def change_password(client: Client) -> None:
    form = {"oldpassword": "alice", "password1": "tea-pot-7", "password2": "tea-pot-7"}
    assert client.post("/accounts/password/change/", form).status_code == 302


@pytest.mark.django_db(transaction=True)
def test_password_change_keeps_this_session_alone(
    client: Client, other_client: Client, alice: Any
) -> None:
    log_in(client)
    log_in(other_client)
    client.force_login(alice, login_type="BE")
    fill_basket(client)
    before = identifier_of(client)
    change_password(client)
    assert identifier_of(client) != before
    assert owners() == {"BE": [], "FE": [alice.pk]}
    assert has_basket(client)
    assert not is_logged_in(other_client)
    assert listed(client) == 1


def test_password_change_that_logs_out_leaves_no_session(
    client: Client, alice: Any, settings: Any
) -> None:
    settings.ACCOUNT_LOGOUT_ON_PASSWORD_CHANGE = True
    log_in(client)
    change_password(client)
    assert alice.pk not in owners()["FE"]
    assert not is_logged_in(client)


# Its page of sessions


def test_page_lists_the_sessions_of_all_devices(
    client: Client, other_client: Client, alice: Any, bob: Any
) -> None:
    log_in(client)
    assert listed(client) == 1
    log_in(other_client)
    log_in(Client(), "bob")
    assert listed(client) == 2


def test_page_ends_the_other_sessions(client: Client, other_client: Client, alice: Any) -> None:
    log_in(client)
    fill_basket(client)
    log_in(other_client)
    client.post(SESSIONS)
    assert owners()["FE"] == [alice.pk]
    assert has_basket(client)
    assert not is_logged_in(other_client)
    assert listed(client) == 1


def test_page_neither_lists_nor_ends_sessions_of_another_login_type(
    client: Client, other_client: Client, alice: Any
) -> None:
    """It looks for every session in the type of a bare ``SessionStore()``."""
    log_in(client)
    other_client.force_login(alice, login_type="BE")
    assert listed(client) == 1
    client.post(SESSIONS)
    assert owners() == {"BE": [alice.pk], "FE": [alice.pk]}


def test_session_renewed_by_us_is_listed_again_with_activity_tracking(
    client: Client, alice: Any, settings: Any
) -> None:
    """allauth hears of its own logins only: ``end_other_sessions()`` gives a new identifier."""
    log_in(client)
    client.post("/usersessions/sessions/", {"end": "others"})
    assert client.get(SESSIONS).context["session_count"] == 0
    settings.USERSESSIONS_TRACK_ACTIVITY = True
    assert listed(client) == 1


# What it keeps of ours


def test_key_from_a_stolen_table_of_allauth_is_no_cookie(
    client: Client, other_client: Client, alice: Any
) -> None:
    """Attack: allauth stores the identifier in plain text; send it as the cookie."""
    log_in(client)
    stolen = UserSession.objects.get().session_key
    assert stolen == identifier_of(client)
    other_client.cookies["fe_sessionid"] = stolen
    assert not is_logged_in(other_client)
    assert is_logged_in(client)


def test_key_from_a_stolen_table_of_allauth_is_a_cookie_of_format_identifier(
    client: Client, other_client: Client, alice: Any, settings: Any
) -> None:
    """Why the README warns of ``COOKIE_FORMAT``: the same attack, without signatures."""
    settings.USERSESSIONS = {"FE": {"COOKIE_FORMAT": "identifier"}}
    log_in(client)
    other_client.cookies["fe_sessionid"] = UserSession.objects.get().session_key
    assert is_logged_in(other_client)


def app_session(client: Client, token: str) -> Any:
    return client.get("/_allauth/app/v1/auth/session", headers={"X-Session-Token": token})


def test_key_from_a_stolen_table_of_allauth_is_a_token_of_its_api_for_apps(
    client: Client, other_client: Client, alice: Any
) -> None:
    """Why the README warns of ``allauth.headless``: there, the identifier is the credential."""
    log_in(client)
    stolen = UserSession.objects.get().session_key
    assert app_session(other_client, stolen).json()["meta"]["is_authenticated"]
