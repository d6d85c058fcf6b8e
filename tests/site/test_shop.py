"""The demo shop, as the README promises it."""

from __future__ import annotations

import socket
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError

from testproject import settings as demo_settings
from tests.conftest import SessionQueries
from usersessions.models import FrontendSession
from usersessions.test import Client

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _demo(settings: Any, products: None) -> None:
    settings.USERSESSIONS = demo_settings.USERSESSIONS
    settings.MIDDLEWARE = demo_settings.MIDDLEWARE


def add_lamp(client: Client, quantity: str = "1") -> Any:
    return client.post("/basket/add/desk-lamp/", {"quantity": quantity}, follow=True)


def log_in(client: Client, name: str = "alice", **fields: str) -> Any:
    data = {"username": name, "password": name, **fields}
    return client.post("/account/login/", data, follow=True)


def test_first_visit_sets_no_cookie_and_stores_no_row(
    client: Client, session_queries: SessionQueries
) -> None:
    with session_queries:
        response = client.get("/")
    assert response.status_code == 200
    assert not response.cookies
    assert session_queries.kinds == []


def test_pages_without_product_or_basket_say_so(client: Client) -> None:
    assert client.get("/product/nothing/").status_code == 404
    assert "Your basket is empty" in client.get("/basket/").content.decode()
    assert FrontendSession.objects.count() == 0


def test_basket_survives_the_login(client: Client, alice: Any) -> None:
    add_lamp(client, "3")
    log_in(client)
    assert client.session["basket"] == {"desk-lamp": 3}
    assert [row.ses_userid for row in FrontendSession.objects.all()] == [alice.pk]


def test_last_product_taken_out_ends_the_visitors_session(client: Client) -> None:
    add_lamp(client)
    client.post("/basket/remove/desk-lamp/")
    assert FrontendSession.objects.count() == 0


@pytest.mark.parametrize("quantity", ["", "x", "-1", "0", "100", "9" * 40])
def test_wrong_quantity_is_explained_and_changes_nothing(client: Client, quantity: str) -> None:
    response = add_lamp(client, quantity)
    assert response.status_code == 200
    assert [message.level_tag for message in response.context["messages"]] == ["error"]
    assert FrontendSession.objects.count() == 0


@pytest.mark.parametrize(("fields", "lives"), [({"remember_me": "on"}, 1_209_600), ({}, "")])
def test_remember_me_makes_the_cookie_outlive_the_browser(
    client: Client, alice: Any, fields: dict[str, str], lives: Any
) -> None:
    log_in(client, **fields)
    assert client.cookies["fe_sessionid"]["max-age"] == lives


def test_wrong_password_is_explained(client: Client, alice: Any) -> None:
    response = client.post("/account/login/", {"username": "alice", "password": "x"})
    assert "Please enter a correct username and password" in response.content.decode()


def test_account_leads_to_my_sessions_which_i_can_end(
    client: Client, other_client: Client, alice: Any
) -> None:
    log_in(client)
    log_in(other_client)
    page = "/usersessions/sessions/"
    assert f'href="{page}"' in client.get("/account/").content.decode()
    other = next(each for each in client.get(page).context["sessions"] if not each.is_current)
    client.post(page, {"end": other.ses_id})
    assert len(client.get(page).context["sessions"]) == 1
    assert other_client.get("/account/").status_code == 302


def test_new_password_ends_the_other_sessions(
    client: Client, other_client: Client, alice: Any, django_capture_on_commit_callbacks: Any
) -> None:
    log_in(client)
    log_in(other_client)
    new = {"old_password": "alice", "new_password1": "a-new-Secret-1"}
    with django_capture_on_commit_callbacks(execute=True):
        client.post("/account/password/", {**new, "new_password2": "a-new-Secret-1"})
    assert client.get("/account/").status_code == 200
    assert FrontendSession.objects.count() == 1


# manage.py demo


def demo(*args: str) -> str:
    out = StringIO()
    call_command("demo", *args, stdout=out)
    return out.getvalue()


def test_demo_makes_users_who_can_log_in_however_often_it_runs(
    client: Client, settings: Any
) -> None:
    settings.DEBUG = True
    first = demo("--no-serve")
    assert demo("--no-serve") == first
    for name in ("admin", "editor", "alice", "bob"):
        assert name in first
        assert client.login(username=name, password=name)
    assert User.objects.get(username="admin").is_superuser
    assert User.objects.count() == 4


def test_demo_gives_its_users_their_passwords_back(client: Client, settings: Any) -> None:
    settings.DEBUG = True
    User.objects.create_user("bob", password="other")
    demo("--no-serve")
    assert client.login(username="bob", password="bob")


def test_demo_is_not_for_production(settings: Any) -> None:
    settings.DEBUG = False
    with pytest.raises(CommandError, match="runs only with DEBUG"):
        demo("--no-serve")


@pytest.mark.parametrize("port", ["x", "0", "65536", "-1"])
def test_wrong_port_is_explained(port: str, settings: Any) -> None:
    settings.DEBUG = True
    with pytest.raises(CommandError, match="from 1 to 65535"):
        demo(f"--port={port}")


def test_port_in_use_is_explained(settings: Any) -> None:
    settings.DEBUG = True
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CommandError, match=f"{port}"):
            demo(f"--port={port}")


# Switching user in the backend


def test_admin_tells_of_a_switch_and_offers_the_way_back(
    client: Client, superuser: Any, editor: Any
) -> None:
    client.force_login(superuser, login_type="BE")
    action = {"action": "switch_user_BE", "_selected_action": editor.pk}
    page = client.post("/admin/auth/user/", action, follow=True).content.decode()
    assert "You are admin, acting as <strong>editor</strong>." in page
    client.post("/usersessions/exit-switch-user/", {"login_type": "BE"})
    assert "acting as" not in client.get("/admin/").content.decode()
    assert client.session("BE").user_session.user_id == superuser.pk
