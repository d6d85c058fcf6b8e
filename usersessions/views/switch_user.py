"""Switching user by POST. The views redirect to ``next``, else to ``LOGIN_REDIRECT_URL``."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, resolve_url
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from .. import auth
from .named_login_type import find_named_login_type


@require_POST
def switch_user(request: HttpRequest) -> HttpResponse:
    """Switch to the user whose primary key is in ``user``; ``login_type`` may name the session.

    Answers 400 for an unknown login type, 403 if switching is refused, 404 for an unknown user.
    """
    auth.switch_user(request, _posted_user(request), login_type=find_named_login_type(request.POST))
    return redirect(_next_url(request))


@require_POST
def exit_switch_user(request: HttpRequest) -> HttpResponse:
    """Switch back to the original user; ``login_type`` may name the session.

    Answers 400 for an unknown login type, 403 if the session is not switched.
    """
    auth.exit_switch_user(request, login_type=find_named_login_type(request.POST))
    return redirect(_next_url(request))


def _posted_user(request: HttpRequest) -> Any:
    try:
        user = get_user_model()._default_manager.filter(pk=request.POST.get("user", "")).first()
    except (ValueError, ValidationError):
        user = None
    if user is None:
        if not request.user.is_superuser:
            # Users who may not switch do not learn which keys exist.
            raise PermissionDenied(_("You may not switch user."))
        raise Http404(_("There is no such user."))
    return user


def _next_url(request: HttpRequest) -> str:
    url = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(
        url, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    ):
        return url
    return resolve_url(settings.LOGIN_REDIRECT_URL)
