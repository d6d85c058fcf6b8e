"""What the async names of a session do under ASGI; test_asgi has the whole chain of middleware."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory

from tests.conftest import Clock
from tests.factories import NOW, FrontendSessionFactory
from usersessions.lifecycle.current_request import get_current_request
from usersessions.middleware import UserSessionMiddleware
from usersessions.models import FrontendSession
from usersessions.store import SessionStore

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


def test_original_user_of_a_visitor_without_session_needs_no_thread(
    alice: Any, thread_hops: list[str]
) -> None:
    async def who(request: Any) -> Any:
        return await request.aoriginal_user()

    assert serve(who).content == b"None"
    assert thread_hops == []


def test_clear_has_no_twin_in_django_and_works_in_an_async_view() -> None:
    async def clear(request: Any) -> None:
        request.session.clear()

    async def replace(request: Any) -> None:
        request.session.clear()
        await request.session.aset("x", 1)

    async def read(request: Any) -> Any:
        return dict(await request.session.aitems())

    cookies = cookies_of(serve(put_basket))
    assert not serve(replace, cookies).cookies
    assert serve(read, cookies).content == b"{'x': 1}"
    assert cookies_of(serve(clear, cookies)) == {"fe_sessionid": ""}
    assert FrontendSession.objects.count() == 0


@pytest.mark.parametrize("cookies", [{}, {"fe_sessionid": "forged"}], ids=["no-cookie", "forged"])
@pytest.mark.parametrize(
    ("name", "arguments"), [("aflush", ()), ("acycle_key", ()), ("aclear", ()), ("aget", ("x",))]
)
def test_visitor_with_nothing_to_store_needs_no_thread(
    thread_hops: list[str], name: str, arguments: tuple[str, ...], cookies: dict[str, str]
) -> None:
    async def view(request: Any) -> None:
        await getattr(request.session, name)(*arguments)

    serve(view, cookies)
    assert thread_hops == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("aclear", ()),
        ("acreate", ()),
        ("acycle_key", ()),
        ("adelete", ()),
        ("aexists", ("0123456789abcdef" * 2,)),
        ("aflush", ()),
        ("aget", ("basket",)),
        ("aget_expire_at_browser_close", ()),
        ("aget_expiry_age", ()),
        ("aget_expiry_date", ()),
        ("ahas_key", ("basket",)),
        ("aitems", ()),
        ("aload", ()),
        ("apop", ("basket",)),
        ("asave", ()),
        ("aset", ("x", 1)),
        ("aset_expiry", (300,)),
        ("asetdefault", ("x", 1)),
        ("aset_test_cookie", ()),
        ("atest_cookie_worked", ()),
        ("aupdate", ({"x": 1},)),
    ],
)
def test_async_name_reads_the_session_by_itself(name: str, arguments: tuple[Any, ...]) -> None:
    """Django refuses to ask the database from the event loop."""

    async def view(request: Any) -> None:
        await getattr(request.session, name)(*arguments)

    assert serve(view, cookies_of(serve(put_basket))).status_code == 200


def test_touch_that_falls_due_while_the_response_goes_out_waits_for_the_next_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The storage must not be asked from the event loop, whenever the 61 seconds are over."""

    class TickingClock(Clock):
        step = 0

        def __call__(self) -> float:
            self.forward(self.step)
            return self.now

    clock = TickingClock()
    monkeypatch.setattr(SessionStore, "clock", staticmethod(clock))
    cookies = cookies_of(serve(put_basket))
    clock.forward(60)

    async def read_and_let_time_go_on(request: Any) -> Any:
        basket = await read_basket(request)
        clock.step = 1
        return basket

    assert serve(read_and_let_time_go_on, cookies).content == b"{'apple': 3}"
    assert clock.now > NOW + 60
    assert FrontendSession.objects.get().ses_tstamp == NOW


@pytest.mark.django_db(transaction=True)
def test_garbage_is_collected_in_a_thread_although_the_view_saved_by_itself(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.USERSESSIONS = {"FE": {"GC_PROBABILITY": 100}}
    FrontendSessionFactory()

    async def save(request: Any) -> None:
        await put_basket(request)
        await request.session.asave()

    serve(save)
    assert caplog.records == []
    assert FrontendSession.objects.count() == 1
