"""The demo shop, and the URLs of every package that is installed."""

from __future__ import annotations

from django.urls import include, path

from tests.system.integration.packages import is_installed

urlpatterns = []
if is_installed("allauth"):
    urlpatterns += [
        path("accounts/", include("allauth.urls")),
        path("_allauth/", include("allauth.headless.urls")),
    ]
if is_installed("hijack"):
    urlpatterns += [
        path("hijack/", include("hijack.urls")),
        path("admin/hijack/", include("hijack.urls", namespace="admin_hijack")),
    ]
if is_installed("rest_framework"):
    from tests.system.integration import api

    urlpatterns += [
        path("api/", api.who),
        path("api-auth/", include("rest_framework.urls")),
        path("admin/api/", api.who),
        path("admin/api-auth/", include("rest_framework.urls", namespace="admin_rest_framework")),
    ]
if is_installed("debug_toolbar"):
    urlpatterns += [path("__debug__/", include("debug_toolbar.urls"))]
urlpatterns += [path("", include("testproject.urls"))]
