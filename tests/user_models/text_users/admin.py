"""The sessions in the admin; the shop registers the users."""

from __future__ import annotations

from django.contrib import admin

from usersessions.admin import UserSessionAdmin

from .models import BackendSession, FrontendSession

admin.site.register([BackendSession, FrontendSession], UserSessionAdmin)
