"""Django's own views of accounts and its admin; every other path does what the test wants."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import LoginView, PasswordResetConfirmView
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.urls import include, path, re_path

from tests.urls import run_async_view, run_view


@login_not_required
def show_csrf_token(request: HttpRequest) -> HttpResponse:
    return HttpResponse(get_token(request))


urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/login/", LoginView.as_view(template_name="shop/login.html"), name="login"),
    path(
        "accounts/reset-and-log-in/<uidb64>/<token>/",
        PasswordResetConfirmView.as_view(post_reset_login=True),
    ),
    path("accounts/", include("django.contrib.auth.urls")),
    path("csrf-token/", show_csrf_token),
    re_path("^the-site/", include("testproject.urls")),  # pages of the shop link there
    path("async/", run_async_view),
    re_path("", run_view),
]
