"""Which session a websocket finds; with Channels itself, tests/system/integration has more."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync

from usersessions.channels import SessionMiddleware
from usersessions.conf import UnknownLoginType
from usersessions.test import Client

pytestmark = pytest.mark.django_db


def who_connects(
    client: Client,
    *,
    path: str = "/",
    host: str = "testserver",
    address: str = "127.0.0.1",
    **options: Any,
) -> Any:
    """Return the key of the user whose session a websocket with the client's cookies has."""
    cookies = "; ".join(f"{name}={found.value}" for name, found in client.cookies.items())
    scope = {
        "type": "websocket",
        "path": path,
        "headers": [(b"host", host.encode()), (b"cookie", cookies.encode())],
        "client": [address, 50000],
    }

    async def inner(scope: dict[str, Any], receive: Any, send: Any) -> Any:
        return await scope["session"].aget("_auth_user_id")

    return async_to_sync(SessionMiddleware(inner, **options))(scope, None, None)


@pytest.fixture
def logged_in(client: Client, alice: Any, editor: Any) -> Client:
    client.force_login(alice)
    client.force_login(editor, login_type="BE")
    return client


def test_websocket_has_the_session_of_the_login_type_that_it_asks_for(
    logged_in: Client, alice: Any, editor: Any
) -> None:
    assert who_connects(logged_in, login_type="FE") == str(alice.pk)
    assert who_connects(logged_in, login_type="BE") == str(editor.pk)


def test_path_decides_unless_told(logged_in: Client, alice: Any, editor: Any) -> None:
    assert who_connects(logged_in, path="/chat/") == str(alice.pk)
    assert who_connects(logged_in, path="/admin/chat/") == str(editor.pk)


def test_cookie_of_another_host_opens_nothing(logged_in: Client, settings: Any) -> None:
    """Attack: a page of another host opens a websocket with a cookie that it was given."""
    settings.ALLOWED_HOSTS = ["*"]
    assert who_connects(logged_in, host="evil.example") is None


def test_session_locked_to_another_network_opens_nothing(
    client: Client, alice: Any, settings: Any
) -> None:
    """Attack: a stolen cookie."""
    settings.USERSESSIONS = {"FE": {"LOCK_IP": 4}}
    form = {"username": "alice", "password": "alice"}
    client.post("/account/login/", form, REMOTE_ADDR="192.0.2.7")
    assert who_connects(client, address="192.0.2.7") == str(alice.pk)
    assert who_connects(client, address="192.0.2.8") is None


def test_identifier_without_signature_opens_nothing(logged_in: Client) -> None:
    """Attack: an identifier from the table of another package that keeps it."""
    logged_in.cookies["fe_sessionid"] = str(logged_in.session.session_key)
    assert who_connects(logged_in) is None


def test_login_type_that_does_not_exist_is_named(client: Client) -> None:
    with pytest.raises(UnknownLoginType, match="There is no login type 'XE'"):
        who_connects(client, login_type="XE")
