"""The admin's lists of sessions, with actions that end them."""

from django.contrib import admin

from ..models import BackendSession, FrontendSession
from .sessions import UserSessionAdmin
from .switch_user import SwitchUserAdminMixin

__all__ = ["SwitchUserAdminMixin", "UserSessionAdmin"]

admin.site.register(BackendSession, UserSessionAdmin)
admin.site.register(FrontendSession, UserSessionAdmin)
