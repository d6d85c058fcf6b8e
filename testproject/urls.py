"""URLs of the demo site: ``/admin/`` is the backend, everything else the frontend."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("usersessions/", include("usersessions.urls")),
    path("", include("testproject.shop.urls")),
]
