"""The same way of a request under ASGI."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib import auth
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, RequestFactory

from usersessions.auth import switch_user
from usersessions.current_request import get_current_request
from usersessions.middleware import UserSessionMiddleware
from usersessions.models import FrontendSession
from usersessions.store import SessionStore

from .conftest import SessionQueries

pytestmark = pytest.mark.django_db


def serve(view: Any, cookies: dict[str, str] | None = None) -> HttpResponse:
    """Answer one request by an async view behind the middleware alone."""

    async def get_response(request: HttpRequest) -> HttpResponse:
        assert get_current_request() is request
        return HttpResponse(repr(await view(request)))

    async def answer() -> HttpResponse:
        request = AsyncRequestFactory().get("/")
        request.COOKIES.update(cookies or {})
        response = await UserSessionMiddleware(get_response)(request)
        assert get_current_request() is None
        return response

    return async_to_sync(answer)()


def cookies_of(response: HttpResponse) -> dict[str, str]:
    return {name: morsel.value for name, morsel in response.cookies.items()}


async def put_basket(request: Any) -> None:
    await request.session.aset("basket", {"apple": 3})


async def read_basket(request: Any) -> Any:
    return await request.session.aget("basket")


async def nothing(request: Any) -> str:
    return "page"


def test_data_set_by_an_async_view_is_there_on_the_next_request() -> None:
    cookies = cookies_of(serve(put_basket))
    assert list(cookies) == ["fe_sessionid"]
    assert serve(read_basket, cookies).content == b"{'apple': 3}"


def test_request_that_does_not_touch_the_session_costs_nothing(
    session_queries: SessionQueries,
) -> None:
    cookies = cookies_of(serve(put_basket))
    with session_queries:
        response = serve(nothing, cookies)
    assert session_queries.kinds == []
    assert "Vary" not in response.headers


def test_login_and_logout_in_async_views(alice: Any, session_queries: SessionQueries) -> None:
    async def log_in(request: Any) -> None:
        await auth.alogin(request, alice)

    async def who(request: Any) -> str:
        user = await auth.aget_user(request)
        return str(user.get_username())

    before = cookies_of(serve(put_basket))
    with session_queries:
        after = cookies_of(serve(log_in, before))
    assert session_queries.kinds == ["SELECT", "UPDATE"]
    assert after != before
    assert serve(who, after).content == b"'alice'"
    assert serve(who, before).content == b"''"
    assert cookies_of(serve(auth.alogout, after)) == {"fe_sessionid": ""}
    assert FrontendSession.objects.count() == 0


def test_original_user_can_be_awaited(alice: Any, superuser: Any) -> None:
    async def who(request: Any) -> str:
        return str(await request.aoriginal_user())

    store = SessionStore()
    request = RequestFactory().get("/")
    request.session, request.user = store, superuser
    switch_user(request, alice)
    store.save()
    scope = store.login_type.cookie_scope(request)
    assert serve(who, {"fe_sessionid": store.user_session.get_jwt(scope)}).content == b"'admin'"


def test_request_without_work_for_the_storage_stays_in_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cookies = cookies_of(serve(put_basket))
    threads = set()
    finish = SessionStore.finish

    def note_thread(store: SessionStore, **options: Any) -> None:
        threads.add((threading.get_ident(), len(store._session_cache)))
        finish(store, **options)

    monkeypatch.setattr(SessionStore, "finish", note_thread)

    async def read(request: Any) -> int:
        await request.session.aget("basket")
        return threading.get_ident()

    loops = [int(serve(read, each).content) for each in (cookies, {})]
    assert threads == {(loops[0], 1), (loops[1], 0)}
