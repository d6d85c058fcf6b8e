"""The whole chain of middleware under ASGI: no thread without need, and clients that go away."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from asgiref.sync import async_to_sync, iscoroutinefunction, sync_to_async
from django.contrib import auth as django_auth
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, AsyncRequestFactory

from tests.site.test_middleware import put_basket
from tests.urls import avisit, site_of, visit
from usersessions import auth
from usersessions.lifecycle.current_request import get_current_request
from usersessions.middleware import UserSessionMiddleware
from usersessions.models import FrontendSession
from usersessions.store import SessionStore, saving
from usersessions.test import Client

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.urls")]

OURS = "usersessions.middleware.UserSessionMiddleware"
FORGED = "fe_sessionid=eyJhbGciOiJIUzI1NiJ9.eyJpZGVudGlmaWVyIjoiMCJ9.Zm9yZ2Vk"

AsyncView = Callable[[Any], Awaitable[Any]]


@contextmanager
def connection_kept() -> Iterator[None]:
    """As Django's test clients do: the connection is the test's, not the request's."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def serve(view: AsyncView, cookie: str = "", until: asyncio.Event | None = None) -> list[Any]:
    """Answer one request as an ASGI server does; return the messages that were sent.

    :param until: when the client goes away; None: it waits for the answer
    """
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/async/",
        "query_string": b"",
        "headers": [(b"host", b"testserver"), (b"cookie", cookie.encode())],
    }
    sent: list[Any] = []
    messages = [{"type": "http.request"}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await (until or asyncio.Event()).wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def answer() -> None:
        await ASGIHandler()(scope, receive, send)
        assert get_current_request() is None

    with site_of(view), connection_kept():
        async_to_sync(answer)()
    return sent


def header_of(client: Client) -> str:
    return f"fe_sessionid={client.cookies['fe_sessionid'].value}"


async def nothing(request: Any) -> None:
    return None


async def read_basket(request: Any) -> Any:
    return await request.session.aget("basket")


# A coroutine middleware


def test_middleware_is_of_the_kind_that_its_site_is() -> None:
    assert iscoroutinefunction(UserSessionMiddleware(nothing))
    assert not iscoroutinefunction(UserSessionMiddleware(lambda request: None))


@pytest.mark.parametrize("handler", [ASGIHandler, WSGIHandler])
def test_django_adapts_nothing_to_run_the_middleware(
    handler: Any, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.DEBUG = True
    caplog.set_level(logging.DEBUG, "django.request")
    handler()
    assert caplog.messages == []


def only_for_threads(get_response: Any) -> Any:
    """The middleware of an old package, which Django has to adapt."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response: HttpResponse = get_response(request)
        return response

    return middleware


@pytest.mark.parametrize("is_outside", [True, False], ids=["outside", "inside"])
def test_middleware_of_others_may_be_sync(client: Client, settings: Any, is_outside: bool) -> None:
    chain = [f"{__name__}.only_for_threads", OURS]
    settings.MIDDLEWARE = chain if is_outside else chain[::-1]
    visit(client, put_basket)

    async def add_coupon(request: Any) -> bool:
        await request.session.aset("coupon", "X")
        return get_current_request() is request

    assert serve(add_coupon, header_of(client))[1]["body"] == b"True"
    assert dict(client.session.items()) == {"basket": {"apple": 3}, "coupon": "X"}


# Threads


@pytest.fixture
def djangos_hops(settings: Any, thread_hops: list[str]) -> list[str]:
    """What Django hands to a thread for a request without any middleware."""
    settings.MIDDLEWARE = []
    serve(nothing)
    settings.MIDDLEWARE = [OURS]
    hops = list(thread_hops)
    thread_hops.clear()
    return hops


@pytest.mark.parametrize(
    ("view", "cookie"),
    [(nothing, "genuine"), (nothing, ""), (read_basket, ""), (read_basket, FORGED)],
    ids=["untouched", "untouched-without-cookie", "read-without-cookie", "read-with-forged-cookie"],
)
def test_request_with_nothing_to_read_or_store_needs_no_thread(
    client: Client, view: AsyncView, cookie: str, djangos_hops: list[str], thread_hops: list[str]
) -> None:
    """Attack: have the server start threads by sending cookies that are worth nothing."""
    visit(client, put_basket)
    sent = serve(view, header_of(client) if cookie == "genuine" else cookie)
    assert [message.get("status", message.get("body")) for message in sent] == [200, b"None"]
    assert thread_hops == djangos_hops


def test_reading_needs_a_thread_once_and_storing_once(
    client: Client, djangos_hops: list[str], thread_hops: list[str]
) -> None:
    visit(client, put_basket)

    async def read_twice(request: Any) -> Any:
        return await read_basket(request), await request.session.ahas_key("coupon")

    async def change(request: Any) -> None:
        await request.session.aset("coupon", "X")

    assert serve(read_twice, header_of(client))[1]["body"] == b"({'apple': 3}, False)"
    assert len(thread_hops) == len(djangos_hops) + 1
    thread_hops.clear()
    serve(change, header_of(client))
    assert len(thread_hops) == len(djangos_hops) + 2
    assert client.session["coupon"] == "X"


def test_values_that_are_asked_for_at_the_same_time_are_read_once(
    client: Client, djangos_hops: list[str], session_queries: Any
) -> None:
    visit(client, put_basket)

    async def gather(request: Any) -> Any:
        session = request.session
        return await asyncio.gather(session.aget("basket"), session.ahas_key("basket"))

    with session_queries:
        assert serve(gather, header_of(client))[1]["body"] == b"[{'apple': 3}, True]"
    assert session_queries.kinds == ["SELECT"]


# Users


async def aname(request: Any) -> str:
    return str((await request.auser()).get_username())


@pytest.mark.parametrize("functions", [django_auth, auth], ids=["django", "usersessions"])
def test_users_log_in_and_out_in_async_views(alice: Any, functions: Any) -> None:
    client = AsyncClient()

    async def log_in(request: Any) -> None:
        await request.session.aset("basket", {"apple": 3})
        await functions.alogin(request, alice)

    async def log_out(request: Any) -> str:
        await functions.alogout(request)
        return await aname(request)

    avisit(client, log_in)
    assert avisit(client, aname).content == b"'alice'"
    assert avisit(client, read_basket).content == b"{'apple': 3}"
    assert [row.ses_userid for row in FrontendSession.objects.all()] == [alice.pk]
    assert avisit(client, log_out).cookies["fe_sessionid"]["max-age"] == 0
    assert avisit(client, aname).content == b"''"
    assert FrontendSession.objects.count() == 0


def test_permanent_login_to_another_type_in_an_async_view(
    alice: Any, editor: Any, settings: Any
) -> None:
    settings.USERSESSIONS = {"BE": {"LIFETIME": 604_800, "PERMANENT_LOGIN": "opt-in"}}
    client = AsyncClient()

    async def log_in(request: Any) -> Any:
        await auth.alogin(request, alice)
        await auth.alogin(request, editor, login_type="BE", is_permanent=True)
        return request.user.username

    response = avisit(client, log_in)
    assert response.content == b"'alice'"
    assert response.cookies["be_sessionid"]["max-age"] == 604_800
    assert avisit(client, aname).content == b"'alice'"

    async def others(request: Any) -> Any:
        return (await auth.aget_user(request, "BE")).get_username()

    assert avisit(client, others).content == b"'editor'"


def test_switch_in_an_async_view_changes_the_user_that_was_known_already(
    alice: Any, superuser: Any
) -> None:
    client = AsyncClient()

    async def log_in(request: Any) -> None:
        await django_auth.alogin(request, superuser)

    async def switch(request: Any) -> Any:
        before = await aname(request)
        await sync_to_async(auth.switch_user)(request, alice)
        return before, await aname(request), str(await request.aoriginal_user())

    async def come_back(request: Any) -> Any:
        before = await aname(request)
        await sync_to_async(auth.exit_switch_user)(request)
        return before, await aname(request), await request.aoriginal_user()

    avisit(client, log_in)
    assert avisit(client, switch).content == b"('admin', 'alice', 'admin')"
    assert avisit(client, come_back).content == b"('alice', 'admin', None)"


# Clients that go away


def test_client_that_leaves_while_the_view_works_leaves_the_session_as_it_was(
    client: Client, alice: Any
) -> None:
    visit(client, put_basket)
    before = FrontendSession.objects.values().get()
    in_the_middle = asyncio.Event()
    was_cancelled = []

    async def work(request: Any) -> None:
        await request.session.aset("basket", {})
        await django_auth.alogin(request, alice)
        in_the_middle.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            was_cancelled.append(get_current_request() is request)
            raise

    assert serve(work, header_of(client), until=in_the_middle) == []
    assert was_cancelled == [True]
    assert FrontendSession.objects.values().get() == before


def test_session_that_was_ended_stays_ended_although_the_client_leaves(
    client: Client, alice: Any
) -> None:
    """Attack: break the connection off so that a logout comes to nothing."""
    client.force_login(alice)
    in_the_middle = asyncio.Event()

    async def log_out(request: Any) -> None:
        await django_auth.alogout(request)
        in_the_middle.set()
        await asyncio.Event().wait()

    serve(log_out, header_of(client), until=in_the_middle)
    assert FrontendSession.objects.count() == 0


def test_client_that_leaves_while_the_session_is_stored_finds_all_of_it_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = saving.write
    was_cancelled = threading.Event()
    seen: list[HttpRequest | None] = []

    async def get_response(request: Any) -> HttpResponse:
        await request.session.aupdate({"basket": {"apple": 3}, "coupon": "X"})
        return HttpResponse()

    async def leave_while_storing() -> None:
        loop = asyncio.get_running_loop()
        is_storing, is_stored = asyncio.Event(), asyncio.Event()

        def slow_write(store: SessionStore) -> None:
            loop.call_soon_threadsafe(is_storing.set)
            assert was_cancelled.wait(timeout=10)
            write(store)
            loop.call_soon_threadsafe(is_stored.set)

        async def answer() -> None:
            try:
                await UserSessionMiddleware(get_response)(AsyncRequestFactory().get("/"))
            finally:
                seen.append(get_current_request())

        monkeypatch.setattr(saving, "write", slow_write)
        task = asyncio.create_task(answer())
        await is_storing.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        was_cancelled.set()
        await is_stored.wait()

    async_to_sync(leave_while_storing)()
    assert seen == [None]
    assert bytes(FrontendSession.objects.get().ses_data) == b'{"basket":{"apple":3},"coupon":"X"}'
