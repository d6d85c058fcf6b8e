"""The page that asks for the password before a view with ``recent_login_required()``."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.views import RedirectURLMixin
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import resolve_url
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.debug import sensitive_post_parameters
from django.views.generic.edit import FormView

from .. import auth
from ..auth.login import as_served_by, get_store
from ..auth.recent_login import redirect_to_login_page, refuse_other_users
from .forms import ConfirmPasswordForm
from .named_login_type import find_named_login_type


# dispatch() checks the login of the session that is to be confirmed.
@method_decorator(login_not_required, name="dispatch")
class ConfirmPasswordView(RedirectURLMixin, FormView):  # type: ignore[type-arg]
    """Confirms the login of the session that ``login_type`` names, and goes on to ``next``.

    Anonymous visitors are redirected to the login page, as a login confirms, too. Answers 403 in a
    switched session. ``last_login`` is not touched, ``user_logged_in`` not sent.
    """

    form_class = ConfirmPasswordForm
    template_name = "usersessions/confirm_password.html"
    login_url: str | None = None

    @method_decorator(sensitive_post_parameters())
    @method_decorator(csrf_protect)
    @method_decorator(never_cache)
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        self.login_type = find_named_login_type(request.POST) or find_named_login_type(request.GET)
        self.served_request = as_served_by(request, self.login_type)
        self.store = get_store(self.served_request)
        self.user: Any = self.served_request.user
        if not self.user.is_authenticated or self.store.user_session.is_anonymous:
            return self._redirect_to_login_page()
        refuse_other_users(self.store, self.user)
        if "log_in_again" in request.POST:
            auth.logout(request, self.login_type)
            return self._redirect_to_login_page()
        return super().dispatch(request, *args, **kwargs)

    def has_password(self) -> bool:
        """Return whether to ask for the password; if not, users are asked to log in again.

        Override it if users have a password in another authentication backend, such as LDAP.
        """
        return bool(self.user.has_usable_password())

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "request": self.served_request, "user": self.user}

    def form_valid(self, form: Any) -> HttpResponseRedirect:
        auth.confirm_login(self.request, self.login_type)
        return HttpResponseRedirect(self.get_success_url())

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(
            **{
                self.redirect_field_name: self.get_redirect_url(),
                "login_type": self.store.login_type.name,
                "username": self.user.get_username(),
                "has_password": self.has_password(),
                "must_send_again": "again" in self.request.GET,
                **kwargs,
            }
        )

    def get_default_redirect_url(self) -> str:
        return resolve_url(self.next_page or settings.LOGIN_REDIRECT_URL)

    def _redirect_to_login_page(self) -> HttpResponseBase:
        return redirect_to_login_page(self.request, self.login_url, next_url=self.get_success_url())
