"""Switching user from the admin's list of users."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.urls import reverse
from django.utils.translation import gettext

from .. import auth
from ..auth.login import get_store
from ..conf import get_login_types

if TYPE_CHECKING:
    UserModelAdmin = admin.ModelAdmin[Any]
else:
    UserModelAdmin = object


class SwitchUserAdminMixin(UserModelAdmin):
    """Adds an action for each login type to the admin of the user model: switch to a user."""

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> dict[str, Any]:
        # Django 6.1 passes the location of the actions, and get_action() needs it.
        where = () if action_location is None else (action_location,)
        actions: dict[str, Any] = super().get_actions(request, *where)
        if getattr(request, "original_user", None):
            return actions
        switches = {action.__name__: action for action in map(_switch_action, get_login_types())}
        found = {name: self.get_action(action, *where) for name, action in switches.items()}
        return {**actions, **{name: action for name, action in found.items() if action}}


def _switch_action(login_type: str) -> Callable[..., HttpResponse | None]:
    def switch(model_admin: Any, request: HttpRequest, queryset: Any) -> HttpResponse | None:
        users = list(queryset[:2])
        serves_admin = get_store(request, login_type) is request.session
        try:
            if len(users) != 1:
                raise PermissionDenied(gettext("Select exactly one user to switch to."))
            if serves_admin and not users[0].is_staff:
                raise PermissionDenied(
                    gettext("This user may not enter the admin; switch in the frontend instead.")
                )
            auth.switch_user(request, users[0], login_type=login_type)
        except PermissionDenied as refusal:
            model_admin.message_user(request, str(refusal), messages.ERROR)
            return None
        if serves_admin:
            return HttpResponseRedirect(reverse("admin:index"))
        return HttpResponseRedirect(resolve_url(settings.LOGIN_REDIRECT_URL))

    switch.__name__ = f"switch_user_{login_type}"
    switch.short_description = gettext(  # type: ignore[attr-defined]
        "Switch to this user ({})"
    ).format(login_type)
    return switch
