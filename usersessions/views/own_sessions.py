"""A user's own sessions: seeing them, and ending one, the others or all."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.mixins import LoginRequiredMixin
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import resolve_url
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.generic.base import TemplateView

from .. import auth
from ..auth.login import get_store
from ..auth.recent_login import CONFIRM_URL, confirm_location
from ..switching.state import is_switched


@method_decorator([csrf_protect, never_cache], name="dispatch")
class OwnSessionsView(LoginRequiredMixin, TemplateView):
    """Lists the sessions of whoever is logged in to the login type that serves the path.

    By POST, ``end`` ends ``"others"`` or ``"all"``, and any other value the session of that
    ``ses_id``; somebody else's is not found. That takes a recent login (``CONFIRM_MAX_AGE``), as in
    OWASP ASVS 5.0, 7.5.2; without one the page offers to confirm instead. 403 for whoever has
    switched user.
    """

    template_name = "usersessions/own_sessions.html"
    confirm_url = CONFIRM_URL
    #: URL or its name, for who has ended all sessions; None: ``LOGOUT_REDIRECT_URL``, else
    #: ``LOGIN_URL``.
    logged_out_page: str | None = None

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(
            **{
                "sessions": auth.own_sessions(self.request),
                "may_end": auth.is_login_recent(self.request),
                "confirm_url": self._get_confirm_url(),
                **kwargs,
            }
        )

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        answer: HttpResponseBase = auth.recent_login_required(confirm_url=self.confirm_url)(
            self.end
        )(request)
        return answer

    def end(self, request: HttpRequest) -> HttpResponseRedirect:
        """End what the form names, and tell how it went."""
        which = request.POST.get("end", "")
        if which == "all":
            auth.end_other_sessions(request)
            auth.logout(request)
            text = _("All your sessions have ended.")
        elif which == "others":
            ended = auth.end_other_sessions(request)
            text = ngettext("%d other session has ended.", "%d other sessions have ended.", ended)
            text %= ended
        elif auth.end_own_session(request, which):
            text = _("The session has ended.")
        else:
            text = _("That session had ended already.")
        messages.success(request, text, fail_silently=True)
        is_logged_out = get_store(request).user_session.is_anonymous
        return HttpResponseRedirect(self.get_logged_out_url() if is_logged_out else request.path)

    def get_logged_out_url(self) -> str:
        return resolve_url(
            self.logged_out_page or settings.LOGOUT_REDIRECT_URL or settings.LOGIN_URL
        )

    def _get_confirm_url(self) -> str:
        """Return where to confirm the login; "" for whoever has switched user, and cannot."""
        if is_switched(get_store(self.request).user_session):
            return ""
        return confirm_location(self.request, self.confirm_url)
