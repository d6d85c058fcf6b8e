"""Django REST framework: ``SessionAuthentication`` and the browsable API's login and logout."""

from __future__ import annotations

from typing import Any

import pytest

from tests.system.integration.conftest import fill_basket, has_basket, identifier_of, need, owners
from usersessions.test import Client

need("rest_framework")

from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db


class SessionClient(Client, APIClient):
    """The README's client for tests of an API."""


@pytest.fixture
def strict_client() -> Client:
    """A browser's part in CSRF protection is its own."""
    return Client(enforce_csrf_checks=True)


def log_in(client: Client, user: Any, prefix: str = "") -> str:
    """Log in on the page of the browsable API; return the CSRF token from then on."""
    url = f"{prefix}/api-auth/login/?next={prefix}/api/"
    client.get(url)
    name = user.username
    form = {"username": name, "password": name, "csrfmiddlewaretoken": token_of(client)}
    response = client.post(url, form)
    assert (response.status_code, response.url) == (302, f"{prefix}/api/")
    return token_of(client)


def token_of(client: Client) -> str:
    return str(client.cookies["csrftoken"].value)


def test_login_of_the_browsable_api_keeps_the_basket_under_a_new_identifier(
    client: Client, alice: Any
) -> None:
    fill_basket(client)
    before = identifier_of(client)
    log_in(client, alice)
    assert identifier_of(client) != before
    assert owners() == {"BE": [], "FE": [alice.pk]}
    assert has_basket(client)
    assert client.get("/api/").json() == {"user": "alice", "editor": "", "note": None}


def test_logout_of_the_browsable_api_ends_exactly_this_session(
    client: Client, other_client: Client, alice: Any
) -> None:
    log_in(client, alice)
    log_in(other_client, alice)
    client.force_login(alice, login_type="BE")
    assert client.post("/api-auth/logout/").status_code == 200
    assert owners() == {"BE": [alice.pk], "FE": [alice.pk]}
    assert client.get("/api/").status_code == 403
    assert other_client.get("/api/").status_code == 200


def test_write_without_csrf_token_is_refused_and_changes_nothing(
    strict_client: Client, alice: Any
) -> None:
    """Attack: another site posts with the visitor's session cookie."""
    log_in(strict_client, alice)
    response = strict_client.post("/api/", {"note": "evil"})
    assert response.status_code == 403
    assert "CSRF Failed" in response.json()["detail"]
    assert strict_client.get("/api/").json()["note"] is None


def test_write_with_csrf_token_is_kept_in_the_session(strict_client: Client, alice: Any) -> None:
    token = log_in(strict_client, alice)
    response = strict_client.post(
        "/api/",
        {"note": "tea"},
        content_type="application/json",
        headers={"X-CSRFToken": token},
    )
    assert response.status_code == 200
    assert strict_client.get("/api/").json()["note"] == "tea"


def test_api_of_the_frontend_does_not_know_the_backend_login(client: Client, editor: Any) -> None:
    log_in(client, editor, "/admin")
    assert owners() == {"BE": [editor.pk], "FE": []}
    assert client.get("/admin/api/").json()["user"] == "editor"
    assert client.get("/api/").status_code == 403


def test_api_can_ask_who_is_logged_in_to_the_other_login_type(
    client: Client, alice: Any, editor: Any
) -> None:
    client.force_login(alice)
    client.force_login(editor, login_type="BE")
    assert client.get("/api/").json() == {"user": "alice", "editor": "editor", "note": None}


def test_prefix_gives_the_api_to_the_backend(client: Client, editor: Any, settings: Any) -> None:
    settings.USERSESSIONS = {"BE": {"URL_PREFIXES": ["/admin/", "/api/", "/api-auth/"]}}
    log_in(client, editor)
    assert owners() == {"BE": [editor.pk], "FE": []}
    assert client.get("/api/").json()["user"] == "editor"


# Testing an API


def test_api_client_on_top_of_ours_logs_in_to_login_types(alice: Any, editor: Any) -> None:
    client = SessionClient()
    client.force_login(editor, login_type="BE")
    assert client.login(username="alice", password="alice")
    assert client.post("/api/", {"note": "tea"}, format="json").json() == {
        "user": "alice",
        "editor": "editor",
        "note": "tea",
    }
    client.logout()
    assert client.get("/api/").status_code == 403
    assert owners() == {"BE": [editor.pk], "FE": []}
