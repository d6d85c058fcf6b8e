"""A site of one view: whatever the test that is running wants to do with the request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import include, re_path

from usersessions.test import Client

View = Callable[[HttpRequest], Any]

_view: View | None = None


def run_view(request: HttpRequest) -> HttpResponseBase:
    assert _view is not None
    answer = _view(request)
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


urlpatterns = [
    re_path("^usersessions/", include("usersessions.urls")),
    re_path("^the-site/", include("testproject.urls")),  # error pages link there
    re_path("", run_view),
]
