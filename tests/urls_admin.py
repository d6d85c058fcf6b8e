"""The demo site with a second admin, whose list of users is the smallest that can switch user."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.urls import path

from testproject.urls import urlpatterns as site_urlpatterns
from usersessions.admin import SwitchUserAdminMixin


class SwitchUserAdmin(SwitchUserAdminMixin, UserAdmin):
    """Django's admin of users with our actions."""


staff_site = admin.AdminSite(name="staff")
staff_site.register(User, SwitchUserAdmin)

urlpatterns = [path("admin/staff/", staff_site.urls), *site_urlpatterns]
