"""A site of one view: whatever the test that is running wants to do with the request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import async_to_sync
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.test import AsyncClient
from django.urls import include, path, re_path

from usersessions.test import Client

View = Callable[[HttpRequest], Any]

_view: View | None = None


def run_view(request: HttpRequest) -> HttpResponseBase:
    assert _view is not None
    return _as_response(_view(request))


async def run_async_view(request: HttpRequest) -> HttpResponseBase:
    assert _view is not None
    return _as_response(await _view(request))


def _as_response(answer: Any) -> HttpResponseBase:
    return answer if isinstance(answer, HttpResponseBase) else HttpResponse(repr(answer))


@contextmanager
def site_of(view: View) -> Iterator[None]:
    """Have every path do what ``view`` does; anything but a response is shown as text."""
    global _view  # noqa: PLW0603
    before, _view = _view, view
    try:
        yield
    finally:
        _view = before


def visit(client: Client, view: View, path: str = "/", **extra: Any) -> Any:
    """Request a path of ``site_of(view)``."""
    with site_of(view):
        return client.get(path, **extra)


def avisit(client: AsyncClient, view: View, **extra: Any) -> Any:
    """Request the path of ``site_of(view)`` that takes an async view, as under ASGI."""
    with site_of(view):
        return async_to_sync(client.get)("/async/", **extra)


urlpatterns = [
    re_path("^usersessions/", include("usersessions.urls")),
    re_path("^the-site/", include("testproject.urls")),  # error pages link there
    path("async/", run_async_view),
    re_path("", run_view),
]
