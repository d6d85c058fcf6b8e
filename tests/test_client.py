"""The test client that the app ships for its users."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import Client as DjangoClient

from usersessions.models import BackendSession, FrontendSession
from usersessions.test import Client

from .urls import visit

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]


def who(request: Any) -> Any:
    return request.user.get_username()


def test_forced_login_is_one_to_the_default_login_type(client: Client, alice: Any) -> None:
    client.force_login(alice)
    assert visit(client, who).content == b"'alice'"
    assert visit(client, who, "/admin/").content == b"''"


def test_forced_login_to_a_login_type(client: Client, editor: Any) -> None:
    client.force_login(editor, login_type="BE")
    assert visit(client, who).content == b"''"
    assert visit(client, who, "/admin/").content == b"'editor'"


def test_login_checks_the_password(client: Client, alice: Any) -> None:
    assert not client.login(username="alice", password="wrong")
    assert client.login(username="alice", password="alice")
    assert visit(client, who).content == b"'alice'"


def test_logout_ends_the_session_of_one_login_type(client: Client, alice: Any) -> None:
    client.force_login(alice)
    client.force_login(alice, login_type="BE")
    client.logout()
    assert FrontendSession.objects.count() == 0
    assert BackendSession.objects.count() == 1
    client.logout("BE")
    assert BackendSession.objects.count() == 0


def test_session_can_be_filled_before_a_request(client: Client) -> None:
    session = client.session
    session["basket"] = {"apple": 3}
    session.save()
    assert visit(client, lambda request: request.session["basket"]).content == b"{'apple': 3}"
    assert client.session["basket"] == {"apple": 3}


def test_session_of_a_login_type_can_be_looked_into(client: Client) -> None:
    visit(client, lambda request: request.session.update({"x": 1}), "/admin/")
    assert client.get_session("BE")["x"] == 1


def test_cookie_format_of_the_login_type_is_followed(
    client: Client, alice: Any, settings: Any
) -> None:
    settings.USERSESSIONS = {"FE": {"COOKIE_FORMAT": "identifier"}}
    client.force_login(alice)
    assert len(client.cookies["fe_sessionid"].value) == 32
    assert visit(client, who).content == b"'alice'"


def test_djangos_client_works_for_the_owner_of_the_session_cookie_name(
    alice: Any, settings: Any
) -> None:
    settings.SESSION_COOKIE_NAME = "fe_sessionid"
    settings.USERSESSIONS = {"FE": {"COOKIE_FORMAT": "identifier"}}
    client = DjangoClient()
    client.force_login(alice)
    assert visit(client, who).content == b"'alice'"
    client.logout()
    assert visit(client, who).content == b"''"


def test_async_twins_do_the_same(client: Client, alice: Any) -> None:
    async def use() -> None:
        await client.aforce_login(alice, login_type="BE")
        assert await client.alogin(username="alice", password="alice")
        session = await client.asession()
        await session.aload()
        assert session.user_session.user_id == alice.pk
        await client.alogout()

    async_to_sync(use)()
    assert FrontendSession.objects.count() == 0
    assert BackendSession.objects.count() == 1
