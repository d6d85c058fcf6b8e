"""Who is logged in, and how to end it, in the admin."""

from django.contrib import admin

from ..models import BackendSession, FrontendSession
from .sessions import UserSessionAdmin
from .switch_user import SwitchUserAdminMixin

__all__ = ["SwitchUserAdminMixin", "UserSessionAdmin"]

admin.site.register(BackendSession, UserSessionAdmin)
admin.site.register(FrontendSession, UserSessionAdmin)
