"""Requests that run at once, each on a connection of its own, through the real middleware."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, RequestFactory

from usersessions.middleware import UserSessionMiddleware

View = Callable[[HttpRequest], Any]


def serve(view: View, cookies: dict[str, str] | None = None) -> HttpResponse:
    """Answer one request by a view behind the middleware alone; its answer is shown as text."""
    request = RequestFactory().get("/")
    request.COOKIES.update(cookies or {})
    middleware = UserSessionMiddleware(lambda request: HttpResponse(repr(view(request))))
    response: HttpResponse = middleware(request)
    return response


async def aserve(view: View, cookies: dict[str, str] | None = None) -> HttpResponse:
    """See ``serve()``; the view is a coroutine."""

    async def get_response(request: HttpRequest) -> HttpResponse:
        return HttpResponse(repr(await view(request)))

    request = AsyncRequestFactory().get("/")
    request.COOKIES.update(cookies or {})
    response: HttpResponse = await UserSessionMiddleware(get_response)(request)
    return response


def cookies_of(response: HttpResponse) -> dict[str, str]:
    return {name: morsel.value for name, morsel in response.cookies.items()}


def at_once(actions: Iterable[Callable[[], Any]]) -> list[Any]:
    """Do these things in threads that start together; return what each returned.

    The first exception, if any, is raised once all are done.
    """
    actions = list(actions)
    start = threading.Barrier(len(actions))

    def run(action: Callable[[], Any]) -> Any:
        try:
            start.wait(timeout=30)
            return action()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(actions)) as threads:
        return [future.result() for future in [threads.submit(run, each) for each in actions]]
