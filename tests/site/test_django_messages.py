"""``django.contrib.messages`` on our sessions, through the whole chain of middleware."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest
from django.contrib import auth, messages
from django.test import AsyncClient

from tests.conftest import SessionQueries
from tests.urls import avisit, visit
from usersessions.models import BackendSession, FrontendSession
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

#: Too long for a cookie, even compressed.
LONG = "".join(sha256(bytes([number])).hexdigest() for number in range(100))


@pytest.fixture(params=["session.SessionStorage", "fallback.FallbackStorage"])
def storage(request: Any, settings: Any) -> None:
    settings.MESSAGE_STORAGE = f"django.contrib.messages.storage.{request.param}"


@pytest.fixture
def session_storage(settings: Any) -> None:
    settings.MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"


def add(text: str) -> Any:
    return lambda request: messages.success(request, text)


def read(request: Any) -> list[str]:
    return [str(message) for message in messages.get_messages(request)]


@pytest.mark.usefixtures("storage")
@pytest.mark.parametrize("text", ["Saved.", LONG], ids=["short", "long"])
def test_message_waits_through_other_pages_and_is_shown_once(client: Client, text: str) -> None:
    visit(client, add(text))
    visit(client, lambda request: "a page that shows no messages")
    assert visit(client, read).content.decode() == repr([text])
    assert visit(client, read).content == b"[]"
    assert FrontendSession.objects.count() == 0
    assert "fe_sessionid" not in client.cookies or not client.cookies["fe_sessionid"].value


def test_short_message_of_the_fallback_storage_costs_no_session(
    client: Client, session_queries: SessionQueries
) -> None:
    with session_queries:
        response = visit(client, add("Saved."))
        assert visit(client, read).content == b"['Saved.']"
    assert list(response.cookies) == ["messages"]
    assert session_queries.kinds == []


@pytest.mark.usefixtures("session_storage")
def test_messages_of_a_basket_leave_the_basket(client: Client) -> None:
    visit(client, lambda request: request.session.update({"basket": 1}))
    visit(client, add("Saved."))
    assert visit(client, read).content == b"['Saved.']"
    assert visit(client, lambda request: dict(request.session)).content == b"{'basket': 1}"


@pytest.mark.usefixtures("session_storage")
@pytest.mark.parametrize("step", ["login", "logout"])
def test_messages_from_before_and_after_a_login_or_logout_are_shown(
    client: Client, alice: Any, step: str
) -> None:
    client.force_login(alice)

    def view(request: Any) -> None:
        messages.info(request, "before")
        if step == "login":
            auth.login(request, alice)
        else:
            auth.logout(request)
        messages.info(request, "after")

    visit(client, view)
    assert visit(client, read).content == b"['before', 'after']"


@pytest.mark.usefixtures("session_storage")
def test_message_waits_for_a_page_of_the_login_type_that_it_was_left_in(client: Client) -> None:
    visit(client, add("for the staff"), "/admin/")
    assert visit(client, read).content == b"[]"
    assert BackendSession.objects.count() == 1
    assert visit(client, read, "/admin/").content == b"['for the staff']"
    assert BackendSession.objects.count() == 0


@pytest.mark.usefixtures("session_storage")
def test_async_views_leave_and_show_messages() -> None:
    client = AsyncClient()

    async def leave(request: Any) -> None:
        messages.success(request, "Saved.")

    async def show(request: Any) -> list[str]:
        await request.auser()  # reads the session; messages have no async twins
        return read(request)

    avisit(client, leave)
    assert FrontendSession.objects.count() == 1
    assert avisit(client, show).content == b"['Saved.']"
    assert avisit(client, show).content == b"[]"
    assert FrontendSession.objects.count() == 0
