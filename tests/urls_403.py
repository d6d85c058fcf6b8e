"""The site of one view, with an error page of its own."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from tests.urls import urlpatterns

__all__ = ["handler403", "urlpatterns"]


def handler403(request: HttpRequest, exception: Exception) -> HttpResponse:
    return HttpResponse(f"[{request.user.get_username()}] {exception}", status=403)
