"""A site with pages that ask for a recent login, in each way that there is."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.generic import View

from tests.urls import run_async_view, run_view
from usersessions.auth import RecentLoginRequiredMixin, recent_login_required
from usersessions.views import ConfirmPasswordView, OwnSessionsView


def show(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse("guarded")


async def ashow(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse("guarded")


class Page(RecentLoginRequiredMixin, View):
    max_age = 60

    def get(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        return HttpResponse("guarded")

    post = get


class AsyncPage(RecentLoginRequiredMixin, View):
    max_age = 60

    async def get(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        return HttpResponse("guarded")

    post = get


class LdapConfirmView(ConfirmPasswordView):
    """Where users have a password that Django does not know."""

    def has_password(self) -> bool:
        return True


def guarded(view: Any = show, **options: Any) -> Any:
    return recent_login_required(**options)(view)


urlpatterns = [
    path("sync/", guarded(max_age=60)),
    path("async/", guarded(ashow, max_age=60)),
    path("page/", Page.as_view()),
    path("async-page/", AsyncPage.as_view()),
    path("default/", recent_login_required(show)),
    path("default/<int:number>/", recent_login_required(show)),
    path("of-staff/", guarded(login_type="BE")),
    path("async-of-staff/", guarded(ashow, login_type="BE")),
    path("admin/sync/", guarded()),
    path("admin/sessions/", OwnSessionsView.as_view(login_url="admin:login")),
    path("api/", guarded(raise_exception=True)),
    path("back/", guarded(next_page="/form/")),
    path("elsewhere/", guarded(confirm_url="other:confirm_password", login_url="/come-in/")),
    path("abroad/", guarded(login_url="https://login.example/")),
    path("other/", include("usersessions.urls", namespace="other")),
    path("confirm-ldap/", LdapConfirmView.as_view()),
    path("view/", run_view),
    path("async-view/", run_async_view),
    path("usersessions/", include("usersessions.urls")),
    path("", include("testproject.urls")),
]
