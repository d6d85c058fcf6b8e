"""The page of a user's own sessions, which ends one, all others or all of them."""

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
    """Lists the current user's sessions of the login type that serves the path.

    In a POST, ``end`` is ``"others"``, ``"all"`` or the ``ses_id`` of one of these sessions. Ending
    takes a recent login (``CONFIRM_MAX_AGE``), as in OWASP ASVS 5.0, 7.5.2; without one, the page
    offers to confirm the login. A POST in a switched session is answered with 403.
    """

    template_name = "usersessions/own_sessions.html"
    confirm_url = CONFIRM_URL
    #: URL or name of the page after all sessions have ended; None: ``LOGOUT_REDIRECT_URL``, else
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
        """End the sessions that the form names, and show a message."""
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
            text = _("That session has already ended.")
        messages.success(request, text, fail_silently=True)
        is_logged_out = get_store(request).user_session.is_anonymous
        return HttpResponseRedirect(self.get_logged_out_url() if is_logged_out else request.path)

    def get_logged_out_url(self) -> str:
        return resolve_url(
            self.logged_out_page or settings.LOGOUT_REDIRECT_URL or settings.LOGIN_URL
        )

    def _get_confirm_url(self) -> str:
        """Return the URL that confirms the login; "" in a switched session, where it is refused."""
        if is_switched(get_store(self.request).user_session):
            return ""
        return confirm_location(self.request, self.confirm_url)
