"""Channels: the session and the user of a websocket, with the cookie that our middleware sent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http.cookies import SimpleCookie
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.sessions.backends.base import UpdateError

from tests.system.integration.conftest import fill_basket, has_basket, identifier_of, need, owners
from usersessions.channels import SessionMiddleware
from usersessions.test import Client

need("channels")

from channels.auth import AuthMiddleware, AuthMiddlewareStack, login, logout
from channels.generic.http import AsyncHttpConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.sessions import SessionMiddlewareStack
from channels.testing import HttpCommunicator, WebsocketCommunicator

# Channels closes connections that are in a transaction, and so in that of a test.
pytestmark = pytest.mark.django_db(transaction=True)

Act = Callable[[dict[str, Any]], Awaitable[Any]]


@pytest.fixture(autouse=True)
def _cookie_name(settings: Any) -> None:
    """Channels reads one cookie: the one of this name."""
    settings.SESSION_COOKIE_NAME = "fe_sessionid"


def cookies_of(client: Client) -> bytes:
    return "; ".join(f"{name}={found.value}" for name, found in client.cookies.items()).encode()


def talk(
    client: Client,
    act: Act,
    stack: Any = AuthMiddlewareStack,
    *,
    host: str = "testserver",
    address: str = "127.0.0.1",
) -> Any:
    """Open a websocket with the client's cookies; return what ``act`` makes of its scope."""

    class Consumer(AsyncJsonWebsocketConsumer):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            await self.send_json(await act(self.scope))

    async def conversation() -> Any:
        headers = [(b"host", host.encode()), (b"cookie", cookies_of(client))]
        socket = WebsocketCommunicator(stack(Consumer.as_asgi()), "/ws/", headers=headers)
        socket.scope["client"] = [address, 50000]
        assert (await socket.connect())[0]
        await socket.send_json_to("go")
        answer = await socket.receive_json_from()
        await socket.disconnect()
        assert not any(name.lower() == b"set-cookie" for name, _ in socket.response_headers)
        return answer

    return async_to_sync(conversation)()


async def basket(scope: dict[str, Any]) -> Any:
    return await scope["session"].aget("basket")


async def who(scope: dict[str, Any]) -> Any:
    return scope["user"].get_username()


async def keep_note(scope: dict[str, Any]) -> Any:
    await scope["session"].aset("note", "tea")
    await scope["session"].asave()


def test_anonymous_visitors_data_can_be_read_and_saved(client: Client) -> None:
    fill_basket(client)
    assert talk(client, basket, SessionMiddlewareStack) == {"desk-lamp": 1}
    talk(client, keep_note, SessionMiddlewareStack)
    assert client.session["note"] == "tea"
    assert has_basket(client)
    assert owners()["FE"] == [0]


def test_logged_in_user_and_data_can_be_read_and_saved(client: Client, alice: Any) -> None:
    client.force_login(alice)
    fill_basket(client)
    before = identifier_of(client)
    assert talk(client, who) == "alice"
    assert talk(client, basket) == {"desk-lamp": 1}
    talk(client, keep_note)
    assert client.session["note"] == "tea"
    assert has_basket(client)
    assert (identifier_of(client), owners()["FE"]) == (before, [alice.pk])


def test_save_of_a_long_conversation_keeps_what_requests_stored_meanwhile(
    client: Client, alice: Any
) -> None:
    client.force_login(alice)

    async def save_late(scope: dict[str, Any]) -> None:
        await scope["session"].aget("basket")
        await sync_to_async(fill_basket)(client)
        await keep_note(scope)

    talk(client, save_late)
    assert has_basket(client)
    assert client.session["note"] == "tea"


@pytest.mark.parametrize(
    ("path", "left"),
    [("/account/logout/", 0), ("/usersessions/sessions/", 1)],
    ids=["ended", "renewed"],
)
def test_save_under_an_identifier_that_is_gone_raises_and_brings_nothing_back(
    client: Client, alice: Any, path: str, left: int
) -> None:
    client.force_login(alice)

    async def save_too_late(scope: dict[str, Any]) -> str:
        await sync_to_async(client.post)(path, {"end": "others"})
        try:
            await keep_note(scope)
        except UpdateError:
            return "refused"
        return "saved"

    assert talk(client, save_too_late) == "refused"
    assert owners()["FE"] == [alice.pk] * left


def test_cookie_that_this_site_has_not_signed_opens_nothing(client: Client, alice: Any) -> None:
    """Attack: edit the identifier in a token."""
    client.force_login(alice)
    head, payload, signature = client.cookies["fe_sessionid"].value.split(".")
    client.cookies["fe_sessionid"] = f"{head}.{payload}.{signature[::-1]}"
    assert talk(client, who) == ""


def test_backend_login_is_not_seen_in_the_frontend(client: Client, editor: Any) -> None:
    client.force_login(editor, login_type="BE")
    assert talk(client, who) == ""
    client.cookies["fe_sessionid"] = client.cookies["be_sessionid"].value
    assert talk(client, who) == ""


def test_cookie_name_chooses_the_login_type(client: Client, editor: Any, settings: Any) -> None:
    settings.SESSION_COOKIE_NAME = "be_sessionid"
    client.force_login(editor, login_type="BE")
    assert talk(client, who) == "editor"


def test_without_the_cookie_name_nobody_is_logged_in(
    client: Client, alice: Any, settings: Any
) -> None:
    settings.SESSION_COOKIE_NAME = "sessionid"
    client.force_login(alice)
    assert talk(client, who) == ""


# Where a websocket's one-way street ends


def test_login_over_a_websocket_needs_another_login_by_http(client: Client, alice: Any) -> None:
    """It renews the identifier, and no cookie can go back: as with Django's own sessions."""
    fill_basket(client)

    async def log_in(scope: dict[str, Any]) -> Any:
        await login(scope, alice, backend="django.contrib.auth.backends.ModelBackend")
        await scope["session"].asave()
        return scope["user"].get_username()

    assert talk(client, log_in) == "alice"
    assert owners()["FE"] == [alice.pk]
    assert client.get("/account/").status_code == 302
    assert not has_basket(client)


def test_logout_over_a_websocket_ends_the_session_at_once(
    client: Client, other_client: Client, alice: Any
) -> None:
    client.force_login(alice)
    other_client.force_login(alice)
    talk(client, logout)
    assert owners()["FE"] == [alice.pk]
    assert client.get("/account/").status_code == 302
    assert other_client.get("/account/").status_code == 200


def test_session_that_begins_over_a_websocket_is_nobodys(client: Client) -> None:
    talk(client, keep_note, SessionMiddlewareStack)
    assert owners()["FE"] == [0]
    assert "fe_sessionid" not in client.cookies


def test_cookie_of_an_http_consumer_is_refused_by_our_middleware(
    client: Client, alice: Any
) -> None:
    """Channels writes the plain identifier into it: only Django's views may write the session."""
    client.force_login(alice)

    class Consumer(AsyncHttpConsumer):
        async def handle(self, body: bytes) -> None:
            await self.scope["session"].aset("note", "tea")
            await self.send_response(200, b"")

    async def request() -> str:
        http = HttpCommunicator(
            SessionMiddlewareStack(Consumer.as_asgi()),
            "GET",
            "/",
            headers=[(b"host", b"testserver"), (b"cookie", cookies_of(client))],
        )
        headers = {name.lower(): value for name, value in (await http.get_response())["headers"]}
        return str(SimpleCookie(headers[b"set-cookie"].decode())["fe_sessionid"].value)

    identifier = identifier_of(client)
    client.cookies["fe_sessionid"] = async_to_sync(request)()
    assert client.cookies["fe_sessionid"].value == identifier
    assert client.get("/account/").status_code == 302


def test_channels_takes_plain_identifiers_and_tokens_from_anywhere(
    client: Client, other_client: Client, alice: Any, settings: Any
) -> None:
    """Why the README offers a middleware of its own: Channels hands over a value, no request."""
    settings.USERSESSIONS = {"FE": {"LOCK_IP": 4}}
    client.post("/account/login/", {"username": "alice", "password": "alice"})
    assert talk(client, who, host="evil.example") == "alice"
    assert talk(client, who, address="203.0.113.1") == "alice"
    other_client.cookies["fe_sessionid"] = identifier_of(client)
    assert talk(other_client, who) == "alice"


# The README's middleware in the place of SessionMiddlewareStack


def frontend(consumer: Any) -> Any:
    return SessionMiddleware(AuthMiddleware(consumer), "FE")


def backend(consumer: Any) -> Any:
    return SessionMiddleware(AuthMiddleware(consumer), "BE")


def test_own_middleware_knows_every_login_type(
    client: Client, alice: Any, editor: Any, settings: Any
) -> None:
    settings.SESSION_COOKIE_NAME = "sessionid"
    client.force_login(alice)
    client.force_login(editor, login_type="BE")
    assert talk(client, who, frontend) == "alice"
    assert talk(client, who, backend) == "editor"
    talk(client, keep_note, frontend)
    assert client.session["note"] == "tea"
